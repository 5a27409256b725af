/* SPDX-License-Identifier: MIT */
/*
 * perf/pool.h: threads as most programs have them: a queue behind a mutex and a condition variable,
 * signalled only when a thread waits; and a list of finished jobs behind another. Who takes these
 * is woken only if it said that it sleeps: by a condition variable, or an eventfd of its own.
 */
#ifndef PERF_POOL_H
#define PERF_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct pool;

struct pool_job {
    struct pool_job *next;
    int64_t result;
};

/* A thread's work; the result goes into the job. */
typedef void pool_work(struct pool_job *job, void *context);

struct pool_options {
    uint32_t workers;
    uint64_t spin_ns; /* threads watch that long before they wait, on either side */
    int wake_fd;      /* an eventfd; -1: pool_wait() is used */
    pool_work *work;
    void *context;
};

/* 0 or a negative errno. */
int pool_open(const struct pool_options *options, struct pool **ret_pool);
/* Nothing may be queued or running. NULL: nothing. */
void pool_close(struct pool *pool);

/* All below: one thread. */

void pool_push(struct pool *pool, struct pool_job *job);
/* All that is finished, oldest first, linked; NULL: nothing. */
struct pool_job *pool_take(struct pool *pool);
/* The same, but waits for one. */
struct pool_job *pool_wait(struct pool *pool);
/* Watches, if asked to, until something is finished. True: something is. */
bool pool_spin(struct pool *pool);
/* Before sleeping on the eventfd. True: it will be written to. False: something is finished. */
bool pool_may_sleep(struct pool *pool);

#endif
