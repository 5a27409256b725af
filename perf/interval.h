/* SPDX-License-Identifier: MIT */
/* perf/interval.h: one measured stretch of an engine: time, CPU time, ops and their latencies. */
#ifndef PERF_INTERVAL_H
#define PERF_INTERVAL_H

#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <weir/histogram.h>

struct driver;

struct interval {
    uint64_t ops;
    uint64_t wall_ns;
    uint64_t cpu_ns; /* user and system time of the process, its kernel workers included; of an
                      * echo: of the server's */
    int error; /* negative errno: the engine's, or the first failed op's; -EIO: a short transfer */
    struct weir_histogram latency;
};

/* Ctrl-C was pressed. */
extern volatile sig_atomic_t interrupted;

/* The signals that end an interval. Before the first one; children inherit it. */
void interval_prepare(void);

struct interval_plan {
    double seconds;
    uint32_t every;      /* of every n-th op the latency is kept */
    int64_t expected;    /* what each op must answer */
    clockid_t cpu_clock; /* of the process whose CPU time counts */
};

/* Runs a driver that long, fresh from empty to empty. Any failure ends it early and is in
 * `error`. */
void interval_run(const struct driver *driver, void *state, const struct interval_plan *plan,
                  struct interval *ret_interval);

/* Adds up adjacent intervals. */
void interval_add(struct interval *into, const struct interval *from);

double interval_ops_per_s(const struct interval *interval);
double interval_cpu_ns_per_op(const struct interval *interval);

#endif
