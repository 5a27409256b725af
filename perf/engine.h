/* SPDX-License-Identifier: MIT */
/*
 * perf/engine.h: what can be measured. An engine has a driver for each job that it can do. A driver
 * keeps `depth` ops in flight until the meter says the interval is over, then takes all of them
 * back. Every driver's loop calls the same inline code of meter.h and workload.h; what differs is
 * only how the kernel is driven.
 */
#ifndef PERF_ENGINE_H
#define PERF_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <weir/task.h>

#include "contender.h"

struct meter;
struct workload;

#define ERROR_MAX 512
#define TASK_ROWS_MAX 40

/* What a task of the engine measured by itself. */
struct task_row {
    char name[WEIR_TASK_NAME_MAX + 1];
    uint64_t finished;
    struct weir_histogram stages[WEIR_STAGE_COUNT];
};

struct driver {
    /* 0 and a state of its own; or a negative errno and a text that says what to do. */
    int (*open)(struct workload *workload, void **ret_state, char error[ERROR_MAX]);
    /*
     * One interval: fills the depth, keeps it full until meter_is_over(), drains. Of an echo:
     * serves until workload->stop_fd is readable; meter is NULL, the client has it. 0 or negative
     * errno.
     */
    int (*run)(void *state, struct meter *meter);
    /* Copies the engine's own per-task numbers; the number of rows. NULL: keeps none. */
    size_t (*tasks)(void *state, struct task_row *ret_rows, size_t max);
    void (*close)(void *state);
};

struct engine {
    const char *name;
    const char *what;                        /* for people */
    bool takes_policy;                       /* "@epoll" may stand behind the name */
    const struct driver *drivers[JOB_COUNT]; /* NULL: cannot do that */
};

/* All of them, and NULL. */
extern const struct engine *const engines[];

extern const struct driver weir_ops_driver;
extern const struct driver weir_echo_driver;
extern const struct driver uring_ops_driver;
extern const struct driver uring_echo_driver;
extern const struct driver epoll_echo_driver;
extern const struct driver psync_driver;
extern const struct driver pread_driver;
extern const struct driver mutex_driver;

#endif
