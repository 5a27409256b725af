/* SPDX-License-Identifier: MIT */
/* perf/timer.h: the subcommand `timer`: what timers cost, and how late they are. */
#ifndef PERF_TIMER_H
#define PERF_TIMER_H

#include <stdint.h>

#include "series.h"

struct weir_op;

/* ns each, over all timers. */
struct timer_costs {
    uint32_t timers;
    double start;
    double cancel;      /* in random order, until handed back */
    double cancel_call; /* of it, the call that asks */
    double fire;        /* all due at once, until handed back */
    double rearm; /* cancelled in random order and started again in the callback, all others live */
};

/* Lateness in ns of one-shot waits, each waited for alone, both ways in turn. */
struct lateness {
    uint32_t samples; /* of each: fewer than asked for after Ctrl-C */
    long timer_slack_ns;
    struct series weir;
    struct series bare; /* clock_nanosleep(TIMER_ABSTIME) */
};

/* 0; -1 after a message, or when Ctrl-C was pressed. */
int timer_costs_measure(uint32_t timers, struct timer_costs *ret_costs);
/* 0; -1 after a message. Free the series. */
int lateness_measure(uint32_t samples, struct lateness *ret_lateness);

/* The subcommand. The exit code. */
int timer_main(int argc, char **argv);

#endif
