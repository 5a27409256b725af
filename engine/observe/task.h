/* SPDX-License-Identifier: MIT */
/*
 * task.h: the tasks of a loop and what is recorded on them.
 *
 * One clock reading serves many ops, so neighbours often have the very same four durations: they are
 * counted as a run of the recording task and written to the histograms when the run ends, at the latest
 * at the end of the turn. Invariant: between turns no run is open. Must not know ops or the loop.
 */
#ifndef WEIR_ENGINE_TASK_H
#define WEIR_ENGINE_TASK_H

#include <engine/base/guard.h>
#include <engine/base/histogram.h>
#include <stdbool.h>
#include <weir/task.h>

#define WEIR_NO_SAMPLE UINT64_MAX

/* Durations of one op, ns; or WEIR_NO_SAMPLE for a stage it has not been through. */
struct weir_sample {
    uint64_t stages[WEIR_STAGE_COUNT];
};

struct weir_task {
    struct weir_tasks *tasks;
    char name[WEIR_TASK_NAME_MAX + 1];
    bool open;
    bool built_in;
    uint64_t live;
    uint64_t epoch; /* odd while a reset is under way */
    struct weir_task_counters counters;
    struct weir_histogram stages[WEIR_STAGE_COUNT];
};

struct weir_tasks {
    const struct weir_guard *guard;
    struct weir_loop *loop;
    struct weir_task *array;
    uint32_t capacity;
    uint32_t used; /* places ever used: none is open beyond */

    struct weir_task *recording; /* whose run is open */
    uint64_t run;
    struct weir_sample run_sample;
};

/* Where a built-in task of a kind stands: kinds begin at 1. */
static inline struct weir_task *weir_tasks_of_kind(struct weir_tasks *tasks, unsigned kind)
{
    return &tasks->array[kind - 1];
}

/* memory: zeroed, `size` bytes. -EINVAL: too little for the built-in tasks. */
int weir_tasks_init(struct weir_tasks *tasks, struct weir_loop *loop, const struct weir_guard *guard,
                    void *memory, uint64_t size);

int weir_tasks_open(struct weir_tasks *tasks, const char *name, struct weir_task **ret_task);

/* Ends the run. */
void weir_tasks_flush(struct weir_tasks *tasks);

static inline void weir_tasks_record(struct weir_tasks *tasks, struct weir_task *task,
                                     const struct weir_sample *sample)
{
    const uint64_t *a = sample->stages;
    const uint64_t *b = tasks->run_sample.stages;
    if (weir_likely(task == tasks->recording &&
                    ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0)) {
        tasks->run++;
        return;
    }
    weir_tasks_flush(tasks);
    tasks->recording = task;
    tasks->run = 1;
    tasks->run_sample = *sample;
}

#endif
