/* SPDX-License-Identifier: MIT */
/*
 * perf/engine.h: what can be measured. An engine keeps `depth` ops of a workload in flight until
 * the meter says the interval is over, then takes all of them back. Every engine's loop calls the
 * same inline code of meter.h and workload.h; what differs is only how the kernel is driven.
 */
#ifndef PERF_ENGINE_H
#define PERF_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <weir/task.h>

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

struct engine {
    const char *name;
    const char *what; /* for people */
    /* 0 and an engine's own state; or a negative errno and a text that says what to do. */
    int (*open)(struct workload *workload, void **ret_state, char error[ERROR_MAX]);
    /*
     * One interval: fills the depth, keeps it full until meter_is_over(), drains. 0 or negative
     * errno.
     */
    int (*run)(void *state, struct meter *meter);
    /* Copies the engine's own per-task numbers; the number of rows. NULL: keeps none. */
    size_t (*tasks)(void *state, struct task_row *ret_rows, size_t max);
    void (*close)(void *state);
};

extern const struct engine engine_weir;
extern const struct engine engine_uring;

/* By name; NULL for none. */
const struct engine *engine_find(const char *name);

#endif
