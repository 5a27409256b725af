/* SPDX-License-Identifier: MIT */
/*
 * perf/fake_enter.h: a stand-in for io_uring_enter(2): the same rings, no system call. It takes the
 * staged entries, completes NOPs with 0 at once and keeps everything else pending for ever. What is
 * left of a run on it is the user-space work of the engine.
 */
#ifndef PERF_FAKE_ENTER_H
#define PERF_FAKE_ENTER_H

#include <liburing.h>

/*
 * The number of entries taken. Once used, the ring is no longer the kernel's: end it by exiting.
 * Never inlined, as the kernel is not: no engine may gain by knowing what it does.
 */
int fake_enter(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
               unsigned flags) __attribute__((noinline));

#endif
