/* SPDX-License-Identifier: MIT */
/*
 * perf/child.h: an engine in a process of its own, so that CPU time and kernel state are its
 * alone. It is set up once, then sleeps until told to run an interval; the parent lets one run at
 * a time. An echo server serves from the beginning; a second process is its client, and that is
 * told to run intervals.
 */
#ifndef PERF_CHILD_H
#define PERF_CHILD_H

#include <stdint.h>

#include "engine.h"
#include "interval.h"
#include "process.h"

struct child {
    const struct contender *contender;
    struct workload *workload;
    struct process engine;
    struct process client;
};

/* Starts one; `workload` is inherited. 0, or -1 after a message. */
int child_open(const struct contender *contender, struct workload *workload,
               struct child *ret_child);
/* Ties the thread of its loop to one CPU, the number-th of those allowed, counted round; a client's
 * to the next. Other threads of theirs go where the kernel sends them. */
void child_place(const struct child *child, uint32_t number);
/* One interval. 0, or -1 after a message: the engine failed or the process ended. */
int child_run(struct child *child, double seconds, uint32_t every, struct interval *ret_interval);
/* The engine's own numbers of its tasks; the number of rows, -1 after a message. An echo server
 * stops serving. */
int child_tasks(struct child *child, struct task_row *ret_rows, size_t max);
/* Ends it and waits for it. Nothing for a zeroed child. */
void child_close(struct child *child);

#endif
