/* SPDX-License-Identifier: MIT */
/*
 * task.h: the tasks of a loop and what is recorded on them.
 *
 * One clock reading serves many ops, so many of a task have the very same four durations: they are
 * counted as a run, which is written to the histograms when it ends, at the latest before the clock
 * is read again. Invariant: between turns no run is open. Must not know the loop.
 */
#ifndef WEIR_ENGINE_TASK_H
#define WEIR_ENGINE_TASK_H

#include <engine/base/guard.h>
#include <engine/base/histogram.h>
#include <engine/op/flow.h>
#include <stdbool.h>
#include <weir/op.h>
#include <weir/snapshot.h>
#include <weir/task.h>

#define WEIR_NEVER_NS UINT64_MAX /* when no op has left */

/* Durations of one op, ns: of the stages that every op has. */
struct weir_sample {
    uint64_t stages[WEIR_STAGE_TOTAL + 1];
};

struct weir_task {
    struct weir_tasks *tasks;
    const struct weir_tasks *plain; /* `tasks` if it is open and its ops are not governed */

    /* The run. */
    uint64_t run;               /* ops in it */
    uint64_t run_from_ns;       /* what they have in common: when latency counts from, */
    uint64_t run_left_ns;       /* when they left (WEIR_NEVER_NS while none is open), */
    uint64_t run_bytes;         /* and what they moved, together */
    struct weir_sample sample;  /* and so all durations */
    struct weir_task *next_run; /* the next task with a run */

    bool open;
    bool built_in;
    uint64_t name[(WEIR_TASK_NAME_MAX + 1) / sizeof(uint64_t)]; /* characters: weir_task_name() */
    uint64_t epoch; /* odd while it is opened or reset */
    uint32_t backtrace_every;
    uint32_t backtrace_left;            /* ops until the next */
    struct weir_task_counters counters; /* since open; `live` is not kept but derived */
    struct weir_task_counters at_reset; /* what they were at the last reset */
    struct weir_task_errors errors;     /* since the last reset */
    struct weir_flow flows[WEIR_GATE_COUNT];
    struct weir_histogram stages[WEIR_STAGE_COUNT];
};

struct weir_tasks {
    const struct weir_guard *guard;
    struct weir_task *array;
    struct weir_task *of_kind[WEIR_KIND_COUNT]; /* the built-in ones */
    uint32_t capacity;
    uint32_t used; /* places ever used: none is open beyond */

    struct weir_task *runs; /* the tasks whose run is open */
    uint64_t finished_by_closed;
};

/* Whether `size` bytes hold the built-in tasks. */
bool weir_tasks_fit(uint64_t size);
/* memory: zeroed, `size` bytes. */
void weir_tasks_init(struct weir_tasks *tasks, const struct weir_guard *guard, void *memory,
                     uint64_t size);

int weir_tasks_open(struct weir_tasks *tasks, const char *name, struct weir_task **ret_task);
/* 0; -EBUSY: ops of it are live; -EINVAL: built in, or not open. */
int weir_tasks_close(struct weir_task *task);

/* Ops of all tasks that were handed back since the loop was opened. The owner's thread. */
uint64_t weir_tasks_finished(const struct weir_tasks *tasks);

/* Ends all runs: before the clock is read again, and at the end of the turn. */
void weir_tasks_flush(struct weir_tasks *tasks);

/* Writes the samples of a timer, which does not wait, and counts it as finished. */
void weir_task_record_timer(struct weir_task *task, const struct weir_sample *sample);

/* Any thread: all of a task but its row's label, of one epoch. False: it is not open, or built in
 * and never had an op, then nothing is written but scratch. */
bool weir_task_copy(const struct weir_task *task, struct weir_snapshot_task *ret_row);
/* Places that may hold open tasks: array[0] up to it. Any thread. */
uint32_t weir_tasks_used(const struct weir_tasks *tasks);
/* Any thread; the task is open. */
void weir_task_copy_name(const struct weir_task *task, char ret_name[WEIR_TASK_NAME_MAX + 1]);
/* Which place of the array. */
uint32_t weir_task_index(const struct weir_task *task);

/* Counts a failure by its errno. */
void weir_task_count_error(struct weir_task *task, int64_t error);

/* Of a built-in task: whether an op was ever submitted, refused ones included. Any thread. */
static inline bool weir_task_was_asked(const struct weir_task *task)
{
    return (weir_relaxed_load(&task->counters.submitted) |
            weir_relaxed_load(&task->counters.refused)) != 0;
}

static inline uint64_t weir_task_live(const struct weir_task *task)
{
    return task->counters.submitted - task->counters.finished;
}

/* True: the op has gone into its task's run. */
static inline bool weir_task_run_on(struct weir_task *task, uint64_t from_ns, uint64_t left_ns)
{
    if (weir_likely(left_ns == task->run_left_ns && from_ns == task->run_from_ns)) {
        task->run++;
        return true;
    }
    return false;
}

/* Else it begins one, the old one is written: the sample to fill. */
struct weir_sample *weir_task_begin_run(struct weir_task *task, uint64_t from_ns, uint64_t left_ns);
#endif
