/* SPDX-License-Identifier: MIT */
/*
 * perf/top_draw.h: what an endpoint's /json says, as text for people. Must not know where it comes
 * from or goes to.
 */
#ifndef PERF_TOP_DRAW_H
#define PERF_TOP_DRAW_H

#include <jansson.h>
#include <sys/types.h>

#include "top_text.h"

/* The process, loops and tasks. `document` is top_is_sound(). */
void top_draw_loops(struct top_text *text, const json_t *document, const char *path, pid_t pid);
/* The oldest live ops, a line each behind a title, at most `most` of them. */
void top_draw_ops(struct top_text *text, const json_t *document, unsigned most);

/* Whether it has the parts that an endpoint's has. */
bool top_is_sound(const json_t *document);

#endif
