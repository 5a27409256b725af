/* SPDX-License-Identifier: MIT */
/*
 * perf/top_draw.h: the process and its loops, as text for people. Must not know where what is drawn
 * comes from or goes to.
 */
#ifndef PERF_TOP_DRAW_H
#define PERF_TOP_DRAW_H

#include <jansson.h>
#include <sys/types.h>
#include <time.h>

#include "top_text.h"

struct top_view {
    const json_t *document; /* top_is_sound(); NULL: none has come yet */
    const char *path;       /* of the socket */
    pid_t pid;              /* of who listens there; 0: not known */
    time_t now;
    const char *trouble; /* why the document is an old one; NULL: it is not */
    const char *hint;    /* at keys; NULL: none */
    unsigned lines_max;  /* and a line says what was left out for it; 0: all */
};

void top_draw_loops(struct top_text *text, const struct top_view *view);

/* Whether it has the parts that an endpoint's has. */
bool top_is_sound(const json_t *document);

#endif
