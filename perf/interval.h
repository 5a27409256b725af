/* SPDX-License-Identifier: MIT */
/* perf/interval.h: one measured stretch of an engine: time, CPU time, ops and their latencies. */
#ifndef PERF_INTERVAL_H
#define PERF_INTERVAL_H

#include <signal.h>
#include <stdint.h>
#include <weir/histogram.h>

struct engine;

struct interval {
    uint64_t ops;
    uint64_t wall_ns;
    uint64_t cpu_ns; /* user and system time of the whole process, kernel workers included */
    int error; /* negative errno: the engine's, or the first failed op's; -EIO: a short transfer */
    struct weir_histogram latency;
};

/* Ctrl-C was pressed. */
extern volatile sig_atomic_t interrupted;

/* The signals that end an interval. Before the first one; children inherit it. */
void interval_prepare(void);

/*
 * Runs an engine for that long, fresh from empty to empty. `every`: of every n-th op the latency is
 * kept. `expected`: what each op must answer. Any failure ends it early and is in `error`.
 */
void interval_run(const struct engine *engine, void *state, double seconds, uint32_t every,
                  int64_t expected, struct interval *ret_interval);

/* Adds up adjacent intervals. */
void interval_add(struct interval *into, const struct interval *from);

double interval_ops_per_s(const struct interval *interval);
double interval_cpu_ns_per_op(const struct interval *interval);

#endif
