/* SPDX-License-Identifier: MIT */
/*
 * perf/top_ops.h: the list of live ops, those alike and of like age in one line.
 */
#ifndef PERF_TOP_OPS_H
#define PERF_TOP_OPS_H

#include <jansson.h>

#include "top_text.h"

#define TOP_OPS_TITLES 3 /* lines before the first op */

/* The oldest, in at most `most` lines behind their titles. */
void top_draw_ops(struct top_text *text, const json_t *document, unsigned most);

#endif
