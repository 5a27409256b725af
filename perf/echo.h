/* SPDX-License-Identifier: MIT */
/*
 * perf/echo.h: what all echo servers share: the listener, whose options its connections inherit,
 * and the limit on fds; and the client, which is the same for all.
 */
#ifndef PERF_ECHO_H
#define PERF_ECHO_H

#include <sys/types.h>

#include "engine.h"
#include "options.h"
#include "workload.h"

/* Places that a server needs beside those of its connections: accept, stop, a few to spare. */
#define ECHO_MARGIN 16

/* Raises the soft limit on fds to the hard one. 0, or -1 after a message: that is not enough. */
int echo_raise_limit(const struct options *options);

/*
 * Opens the listener, on loopback or under a name of its own that is no file. Non-blocking; what it
 * accepts inherits TCP_NODELAY. 0, or -1 after a message.
 */
int echo_listen(struct workload *workload);

/* All connections of a server, the silent ones included. */
static inline uint32_t echo_connections(const struct workload *workload)
{
    return workload->depth + workload->who->idle;
}

/*
 * Numbers of free connections, a stack. Of `room` of them, the lowest on top.
 */
struct free_list {
    uint32_t count;
    uint32_t numbers[];
};

struct free_list *free_list_make(uint32_t room);

static inline bool free_list_take(struct free_list *list, uint32_t *ret_number)
{
    if (list->count == 0) {
        return false;
    }
    *ret_number = list->numbers[--list->count];
    return true;
}

static inline void free_list_give(struct free_list *list, uint32_t number)
{
    list->numbers[list->count++] = number;
}

/* A program on raw epoll that plays ping-pong on every connection. Its open connects. */
extern const struct driver client_driver;

#endif
