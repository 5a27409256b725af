/* SPDX-License-Identifier: MIT */
/*
 * perf/gate_bench.h: a process that makes trials, one after the other: each measures the capacity
 * and then its own load right beside it, for capacity moves within seconds. A process of its own,
 * so that resident memory is that of one loop. It keeps its loop from trial to trial as long as
 * they want the same one.
 */
#ifndef PERF_GATE_BENCH_H
#define PERF_GATE_BENCH_H

#include "gate_rig.h"

#define FRONT 0 /* the flow of the load, or the foreground task */
#define BACK 1  /* the background task */

#define FRONT_PART 0.1 /* of the capacity */
#define FRONT_BLOCK 4096u
#define BACK_OUT 64
#define BACK_BLOCK (128u << 10)

#define WINDOWS_MAX 64
#define WINDOW_SAMPLES 50 /* of the depth, in a window */

/* Of a two-task trial: who takes part, and by what rules. */
enum sharing {
    SHARING_FRONT_ALONE,
    SHARING_BACK_ALONE,
    SHARING_OFF,  /* both, plain tasks */
    SHARING_ON,   /* shares, a reserve, and a budget for each turn */
    SHARING_GOAL, /* shares, and a latency goal of the foreground task instead of the budget */
    SHARING_COUNT
};

enum trial_kind {
    TRIAL_LOAD,  /* open loop at a multiple of the capacity */
    TRIAL_TASKS, /* foreground and background */
    TRIAL_GOAL,  /* load that jumps */
};

struct trial_plan {
    enum trial_kind kind;
    enum weir_policy policy;
    bool echo;
    uint32_t block; /* bytes of a read, or of a message */
    bool gated;     /* TRIAL_LOAD: else as if there were no gate; TRIAL_GOAL: has the goal */
    uint32_t depth;
    uint32_t waiting;
    uint32_t pool; /* requests of a loop without a gate */
    uint64_t peer_work_ns;
    double capacity_s; /* how long the capacity is measured */
    double seconds;    /* how long the load stands; of TRIAL_GOAL: a window */
    double multiplier; /* TRIAL_LOAD: of the capacity */
    enum sharing sharing;
    uint64_t front_goal_ns; /* SHARING_GOAL */
    uint32_t windows;       /* TRIAL_GOAL: the load jumps after the third and every two */
};

struct window {
    double multiplier; /* of the capacity */
    double ops_per_s;
    uint64_t flight_p50_ns;
    uint64_t flight_p99_ns;
    uint32_t depths[WINDOW_SAMPLES];
};

struct trial {
    int error; /* nonzero: the message is out already */
    bool cut;  /* ended by Ctrl-C */
    char backend[16];
    double capacity_per_s;
    double offered_s; /* how long arrivals came */
    double wall_s;    /* that, and what the last turn took longer */
    struct traffic traffic[FLOWS_MAX];
    uint64_t in_time[FLOWS_MAX]; /* finished within wall_s; the rest while it drained */
    bool exhausted;              /* the pool had no request left: wall_s is shorter than planned */
    uint64_t rss_min;            /* bytes */
    uint64_t rss_max;
    struct weir_histogram turns;
    uint64_t goal_ns;
    uint32_t window_count; /* complete ones */
    struct window windows[WINDOWS_MAX];
};

struct bench {
    struct workload *file;
    struct process process;
};

/* Starts one. `file` is inherited. 0; -1 after a message. */
int bench_start(struct workload *file, struct bench *ret_bench);
/* Ctrl-C ends the trial early. 0; -1 after a message. */
int bench_try(struct bench *bench, const struct trial_plan *plan, struct trial *ret_trial);
/* Nothing for a zeroed one. */
void bench_end(struct bench *bench);

#endif
