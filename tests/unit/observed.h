/* SPDX-License-Identifier: MIT */
/* observed.h: loops whose tasks hold what a test puts there. */
#ifndef WEIR_TESTS_OBSERVED_H
#define WEIR_TESTS_OBSERVED_H

#include "unit.h"

#include <engine/observe/snapshot.h>
#include <engine/observe/task.h>
#include <errno.h>
#include <string.h>
#include <weir/weir.h>

static inline struct weir_loop *observed_open(void)
{
    struct weir_loop *loop;
    const struct weir_options options = {.depth = 8, .offload_workers = WEIR_NO_OFFLOAD};
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    return loop;
}

static inline void observed_close(struct weir_loop *loop)
{
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
}

static inline struct weir_task *observed_task(struct weir_loop *loop, const char *name)
{
    struct weir_task *task;
    const struct weir_task_options options = {.name = name};
    assert_int_equal(weir_task_open(loop, &options, &task), 0);
    return task;
}

/* `times` ops that are back, with one sample each. */
static inline void observed_record(struct weir_task *task, enum weir_stage stage, uint64_t value_ns,
                                   uint64_t times)
{
    task->counters.submitted += times;
    task->counters.finished += times;
    weir_histogram_add(&task->stages[stage], value_ns, times);
}

/* One that failed. */
static inline void observed_fail(struct weir_task *task, int error)
{
    task->counters.submitted++;
    task->counters.finished++;
    task->counters.failed++;
    weir_task_count_error(task, error);
}

static inline struct weir_snapshot *observed_snapshot(uint32_t tasks_max, uint32_t loops_max)
{
    struct weir_snapshot *snapshot;
    assert_int_equal(weir_snapshot_open(tasks_max, loops_max, &snapshot), 0);
    return snapshot;
}

static inline const struct weir_snapshot_task *observed_row(const struct weir_snapshot *snapshot,
                                                            const char *label, const char *task)
{
    const struct weir_snapshot_task *row;
    for (uint32_t i = 0; (row = weir_snapshot_task_at(snapshot, i)); i++) {
        if (strcmp(row->label, label) == 0 && strcmp(row->task, task) == 0) {
            return row;
        }
    }
    return NULL;
}

static inline uint32_t observed_rows(const struct weir_snapshot *snapshot)
{
    uint32_t count = 0;
    while (weir_snapshot_task_at(snapshot, count)) {
        count++;
    }
    return count;
}

#endif
