/* SPDX-License-Identifier: MIT */
/*
 * perf/gate.h: the subcommand `gate`: what a loop does when more comes than it can carry out. Each
 * experiment has a file that runs it, sums it up and prints it: gate_load, gate_tasks, gate_goal;
 * gate_pictures draws what they found.
 */
#ifndef PERF_GATE_H
#define PERF_GATE_H

#include <stdio.h>

#include "gate_bench.h"
#include "gate_options.h"
#include "series.h"

struct json;

/* What all experiments of a run share. */
struct gate_run {
    const struct gate_options *options;
    struct workload file;
    double resident_lowest; /* share of the file in the page cache, before any trial */
    uint64_t started_ns;
    double planned_s;
    struct trial *trial; /* the latest; one, since it is large */
};

/* The plan of the options; kind, load and policy are to be added. */
void gate_plan(const struct gate_run *run, struct trial_plan *ret_plan);
/*
 * Reads the file again where it left the page cache, then makes the trial. `what` is for progress.
 * 0: run->trial is valid; -1 after a message, or, without one, when Ctrl-C cut it.
 */
int gate_try(struct gate_run *run, struct bench *bench, const struct trial_plan *plan,
             const char *what);
/* What the latest trial ran on: "io_uring". */
const char *gate_policy(const struct gate_run *run);

/* The subcommand. The exit code. */
int gate_main(int argc, char **argv);

/* --- sweep and hold --------------------------------------------------------------------------- */

enum load_figure {
    LOAD_CAPACITY,
    LOAD_OFFERED,
    LOAD_ACCEPTED,
    LOAD_FINISHED,
    LOAD_REFUSED_SHARE,
    LOAD_INTENDED_P50,
    LOAD_INTENDED_P99,
    LOAD_INTENDED_P999,
    LOAD_BORN_P50,
    LOAD_BORN_P99,
    LOAD_BORN_P999,
    LOAD_BOUND_RATIO, /* born p99 over (waiting + depth) / throughput */
    LOAD_RSS_GROWTH,
    LOAD_SECONDS,
    LOAD_FIGURES
};

struct load_point {
    double multiplier;
    bool gated;
    uint32_t trials;
    uint32_t exhausted; /* of these: ended early, the pool had no request left */
    uint64_t offered;   /* in all */
    uint64_t accepted;
    uint64_t refused;
    uint64_t cancelled; /* of the accepted */
    uint64_t rss_min;   /* over all trials */
    uint64_t rss_max;
    struct series series[LOAD_FIGURES];
    struct summary figures[LOAD_FIGURES]; /* valid after load_measure() */
};

#define LOAD_POINTS_MAX 12

struct load {
    uint32_t rounds; /* complete ones; 0: not run */
    double seconds;
    uint32_t count;
    struct load_point points[LOAD_POINTS_MAX]; /* with and without the gate, side by side */
};

/* `seconds` of each load. 0; -1 after a message. What there is after Ctrl-C. */
int load_measure(struct gate_run *run, const char *name, const double *multipliers, uint32_t count,
                 double seconds, struct load *ret_load);
void load_print_sweep(const struct gate_run *run, const struct load *load);
void load_print_hold(const struct gate_run *run, const struct load *load);
void load_json(struct json *json, const char *key, const struct load *load);
void load_free(struct load *load);

/* --- two tasks -------------------------------------------------------------------------------- */

enum task_figure {
    TASK_CAPACITY,
    TASK_FRONT_PER_S,
    TASK_FRONT_REFUSED,
    TASK_FRONT_P50, /* from the intended start */
    TASK_FRONT_P99,
    TASK_FRONT_P999,
    TASK_FRONT_RATIO, /* p99 over that alone, in the same round */
    TASK_BACK_PER_S,  /* bytes */
    TASK_BACK_RATIO,  /* over that alone less the foreground's bytes */
    TASK_TURN_P50,
    TASK_TURN_P99,
    TASK_TURN_MAX,
    TASK_FIGURES
};

struct sharing_row {
    struct series series[TASK_FIGURES];
    struct summary figures[TASK_FIGURES];
    struct weir_histogram turns; /* of all rounds */
};

struct tasks {
    uint32_t rounds;
    enum weir_policy policy;
    struct sharing_row rows[SHARING_COUNT];
};

const char *sharing_name(enum sharing sharing);
int tasks_measure(struct gate_run *run, enum weir_policy policy, struct tasks *ret_tasks);
void tasks_print(const struct gate_run *run, const struct tasks *tasks);
void tasks_json(struct json *json, const struct tasks *tasks);
void tasks_free(struct tasks *tasks);

/* --- the latency goal ------------------------------------------------------------------------- */

#define GOAL_WINDOWS 9
#define GOAL_START 1    /* windows that are not judged: the depth begins as the loop was opened */
#define GOAL_SLACK 1.25 /* a window is held with its p99 at most so many times the goal */

struct goal_trial {
    uint64_t goal_ns; /* of both: the one without it is judged by it */
    double capacity_per_s;
    uint32_t window_count;
    struct window windows[GOAL_WINDOWS];
};

/* With the goal, and without. */
struct goal_mode {
    uint32_t count; /* trials */
    struct goal_trial *trials;
    uint32_t windows;
    uint32_t held;
    struct summary ratio; /* p99 over goal, of all windows */
    struct summary low_per_s;
    struct summary high_per_s; /* at 3 times the capacity */
};

struct goal {
    uint32_t rounds;
    double window_s;
    struct goal_mode with;
    struct goal_mode without;
};

int goal_measure(struct gate_run *run, struct goal *ret_goal);
void goal_print(const struct gate_run *run, const struct goal *goal);
void goal_json(struct json *json, const char *key, const struct goal *goal);
void goal_free(struct goal *goal);

/* --- pictures --------------------------------------------------------------------------------- */

struct gate_results {
    struct load sweep;
    struct load hold;
    uint32_t tasks_count;
    struct tasks tasks[2];
    struct goal goal;
};

/* 0; -1 after a message. */
int gate_write_html(const struct gate_run *run, const struct gate_results *results);
int gate_write_svgs(const struct gate_run *run, const struct gate_results *results);

#endif
