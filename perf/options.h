/* SPDX-License-Identifier: MIT */
/* perf/options.h: what the command line asks for, one struct for all subcommands. */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "contender.h"

#define ENGINES_MAX 4

enum access {
    ACCESS_RANDREAD,
    ACCESS_RANDWRITE,
    ACCESS_READ,
    ACCESS_WRITE,
    ACCESS_RANDRW,
};

struct options {
    /* What is measured, and how. */
    struct contender contenders[ENGINES_MAX];
    uint32_t engine_count;
    enum job job;
    uint32_t depth;   /* ops in flight; 0: not given */
    uint32_t workers; /* threads of a pool */
    uint32_t pairs;
    uint32_t control_pairs; /* of the first engine with itself; 0: as many as pairs */
    double seconds;         /* of a whole run */
    double interval_s;      /* of one turn in a comparison */
    uint32_t every;         /* the latency of every n-th op is measured; 0: not given */
    bool fake_enter;
    const char *json; /* a path, "-" or NULL */

    /* As typed, until all is read. */
    char *engines;
    char *policy;
    char *spin;
    char *shares;
    char *onlookers;
    char *idle;
    char *route;

    uint64_t size; /* of the file, or of an echo's message; 0: not given */

    /* The file. */
    enum access access;
    uint32_t block;
    const char *path; /* NULL: a nameless temporary file */
    bool direct;
    bool overwrite;

    /* Echo. */
    bool tcp; /* else AF_UNIX */
    bool client_spin;
    bool pin;
    uint32_t connections;

    /* Timers. */
    uint32_t timers;
    uint32_t samples;
};

enum option_set {
    OPTION_SET_NOP,
    OPTION_SET_FILE,
    OPTION_SET_ECHO,
    OPTION_SET_OFFLOAD,
    OPTION_SET_COMPARE,
    OPTION_SET_TIMER,
    OPTION_SET_PROBE,
    OPTION_SET_ALL,
};

/*
 * Fills in the defaults and parses argv (argv[0] names the subcommand) with argp. Does not come
 * back from --help (exit 0) or a wrong command line (a message, exit 2).
 */
void options_parse(enum option_set set, int argc, char **argv, struct options *ret_options);

/* The defaults that depend on the job: sizes. After another job was put in. */
void options_settle(struct options *options);

/* CPUs that this process may use. */
uint32_t options_cpus(void);

/* "randread", ... */
const char *access_name(enum access access);

#endif
