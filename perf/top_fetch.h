/* SPDX-License-Identifier: MIT */
/*
 * perf/top_fetch.h: asks an endpoint (weir/endpoint.h) for a page: one connection, bounded in time.
 */
#ifndef PERF_TOP_FETCH_H
#define PERF_TOP_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct top_page {
    char *body; /* malloc'ed, with a NUL behind it */
    size_t size;
    pid_t pid; /* of who listens; 0: not known */
};

/* CLOCK_MONOTONIC, ns. */
uint64_t top_now(void);

/* Sleeps until `fd` is ready for `events` (poll(2)), a signal came, or until_ns have come. True: it
 * is ready. Signals that are blocked come here and nowhere else. fd: -1: none. */
bool top_wait(int fd, short events, uint64_t until_ns);

/* 0; or -1, and why not in ret_why, in one line. Gives up when is_over() (NULL: nobody to ask)
 * after a signal. */
int top_fetch(const char *path, const char *page, bool (*is_over)(void), struct top_page *ret_page,
              char *ret_why, size_t why_size);

#endif
