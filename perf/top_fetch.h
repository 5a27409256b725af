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

/* Whom to ask, some times a second while no answer comes and after each signal, whether to wait on.
 * Nobody (NULL): it sleeps until there is an answer or the time is up. */
struct top_patience {
    bool (*go_on)(void *context);
    void *context;
};

/* 0. Else why not is in ret_why, in one line: -ECONNREFUSED: nobody is there; -ETIMEDOUT: somebody
 * is, but does not answer; -EINTR: go_on() said no; others: it cannot be read. */
int top_fetch(const char *path, const char *page, const struct top_patience *patience,
              struct top_page *ret_page, char *ret_why, size_t why_size);

#endif
