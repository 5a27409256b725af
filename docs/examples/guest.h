/* SPDX-License-Identifier: MIT */
/*
 * guest.h: some work for a loop that somebody else turns: timers, calls, posts, a socket pair, the
 * copy of a file. One after the other, so that each has to wake the loop by itself.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <weir/weir.h>

/* Submits the first of it. 0 or -errno. */
int guest_start(struct weir_loop *loop, const char *source, const char *target);
/* Look after each turn. */
bool guest_is_done(void);
/* Then: says on stdout what was done. 0 or the first -errno. */
int guest_end(void);

#endif
