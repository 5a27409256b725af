/* SPDX-License-Identifier: MIT */
/*
 * perf/top_screen.h: the terminal while it is weir-top's: its alternate screen, keys one by one,
 * and signals told at one place. Whatever ends it, the terminal is given back as it was.
 */
#ifndef PERF_TOP_SCREEN_H
#define PERF_TOP_SCREEN_H

#include "top_text.h"

enum top_event {
    TOP_NOTHING, /* the time is up */
    TOP_RESIZED,
    TOP_QUIT, /* q, or a signal that ends programs */
};

struct top_screen {
    bool has_keys;   /* standard input is a terminal too: its settings are ours */
    bool reads_keys; /* and it has not ended */
    unsigned width;  /* columns */
    unsigned height; /* lines */
};

/* One at a time in a process: handlers are the process's. 0, or -1: standard output is no terminal,
 * or a dumb one. */
int top_screen_open(struct top_screen *screen);
void top_screen_close(struct top_screen *screen);
/* Shows what both hold, the second at the bottom; lines past the height are left out. */
void top_screen_show(struct top_screen *screen, const struct top_text *text,
                     const struct top_text *bottom);
/* Whether a signal has come that ends programs. */
bool top_screen_is_over(void);
/* Until until_ns (top_now()), or an event. */
enum top_event top_screen_wait(struct top_screen *screen, uint64_t until_ns);

#endif
