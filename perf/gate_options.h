/* SPDX-License-Identifier: MIT */
/* perf/gate_options.h: the command line of `weir-perf gate`. */
#ifndef PERF_GATE_OPTIONS_H
#define PERF_GATE_OPTIONS_H

#include "options.h"

enum gate_experiment {
    GATE_SWEEP = 1 << 0,
    GATE_HOLD = 1 << 1,
    GATE_TASKS = 1 << 2,
    GATE_GOAL = 1 << 3,
    GATE_ALL = GATE_SWEEP | GATE_HOLD | GATE_TASKS | GATE_GOAL,
};

struct gate_options {
    struct options file;     /* path and size; the JSON's path too */
    unsigned experiments;    /* enum gate_experiment */
    bool echo;               /* else reads of the file */
    const char *policy_name; /* NULL: not given */
    enum weir_policy policy;
    uint32_t rounds;
    uint32_t depth;
    uint32_t waiting;
    uint32_t pool;
    double interval_s;
    double hold_s;
    double window_s;
    uint64_t peer_work_ns;
    const char *html;
    const char *svg_dir;
};

/* Does not come back from --help (exit 0) or a wrong command line (a message, exit 2). */
void gate_options_parse(int argc, char **argv, struct gate_options *ret_options);

/* The file is used at all. */
static inline bool gate_needs_file(const struct gate_options *options)
{
    return !options->echo || (options->experiments & (GATE_TASKS | GATE_GOAL)) != 0;
}

#endif
