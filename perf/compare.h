/* SPDX-License-Identifier: MIT */
/*
 * perf/compare.h: engines against each other. Machines drift within seconds, so two medians taken
 * one after the other say little; adjacent short intervals share the drift, and the median of
 * their ratios is stable. The order alternates (A B, B A), and the first engine against itself
 * shows what is noise.
 */
#ifndef PERF_COMPARE_H
#define PERF_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "options.h"
#include "series.h"
#include "workload.h"

struct json;

/* What an engine did by itself. */
struct portrait {
    const struct contender *contender; /* the options' */
    struct summary ops_per_s;
    struct summary cpu_ns_per_op;
    struct weir_histogram latency;
};

/* What pairs of intervals say: a over b. */
struct ratio {
    const struct contender *a;
    const struct contender *b;
    struct summary ops_per_s;
    struct summary cpu_ns_per_op;
    struct summary cpu_ns_difference; /* a - b */
};

struct comparison {
    uint32_t pairs; /* made: fewer than asked for after Ctrl-C */
    uint32_t engine_count;
    struct portrait engines[ENGINES_MAX];
    uint32_t ratio_count;
    struct ratio ratios[ENGINES_MAX]; /* all engines but the second, to the second */
    struct ratio control;             /* the first to a second process of itself */
    bool hot;                         /* the file was read again before it was measured */
    double resident_before;           /* the share of it in the page cache */
    double resident_lowest;           /* seen between the pairs and at the end */
    uint32_t task_count;
    struct task_row *tasks; /* the first engine's */
};

/* 0; -1 after a message. What there is when Ctrl-C was pressed, at least nothing. Free it. */
int compare_engines(const struct options *options, struct workload *workload,
                    struct comparison *ret_comparison);
void comparison_free(struct comparison *comparison);

/* The keys of one comparison, into an object that the caller has begun. */
void comparison_json(struct json *json, const struct comparison *comparison,
                     const struct workload *workload, const struct options *options);

/* The subcommand. The exit code. */
int compare_main(int argc, char **argv);

#endif
