/* SPDX-License-Identifier: MIT */
/*
 * perf/top_tasks.h: the table of a loop's tasks: rates, what is live, latency, and what failed.
 */
#ifndef PERF_TOP_TASKS_H
#define PERF_TOP_TASKS_H

#include <jansson.h>

#include "top_text.h"

/* lines_max: text ends before that many lines; 0: no bound. The number of tasks that were left out
 * for it, all of them where it has come to that already. */
unsigned top_draw_tasks(struct top_text *text, const json_t *document, const json_t *loop,
                        unsigned lines_max);

/* What the loop's tasks have live, by the list of live ops, or by their counters if it is cut. */
uint64_t top_live_of(const json_t *document, const json_t *loop);

#endif
