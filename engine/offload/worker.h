/* SPDX-License-Identifier: MIT */
/*
 * worker.h: a worker thread and what it works on. offload.c is the loop's side of it, worker.c the
 * workers'.
 */
#ifndef WEIR_ENGINE_WORKER_H
#define WEIR_ENGINE_WORKER_H

#include "offload.h"
#include "ring.h"
#include <pthread.h>

#define WEIR_LANES 2

/* Of a worker's takes one in so many is long work, if there is any. */
#define WEIR_LONG_EVERY 8

/*
 * A look before a sleep, of a worker for work and of the loop for ops that come back. It is to last
 * longer than the other side takes to be woken, some 10 us on a virtual machine: then that one is
 * waited for once, and from there on both find each other awake; if it lasts less, both sleep in
 * each round. Who has looked in vain a few times in a row looks only now and then, who shares its
 * only CPU never.
 */
#define WEIR_LOOK_NS 20000
#define WEIR_LOOK_MISSES_FREE 4
#define WEIR_LOOK_EVERY 16

struct weir_look {
    uint32_t missed;  /* in a row */
    uint32_t skipped; /* since then, and none of these */
};

/* Whether to look this time. */
static inline bool weir_look_now(struct weir_look *look)
{
    return look->missed < WEIR_LOOK_MISSES_FREE || ++look->skipped % WEIR_LOOK_EVERY == 0;
}

static inline void weir_look_learn(struct weir_look *look, bool paid)
{
    look->missed = paid ? 0 : look->missed + (look->missed < WEIR_LOOK_MISSES_FREE);
}

struct weir_worker {
    struct weir_offload *offload;
    pthread_t thread;
    uint32_t index;
    uint32_t since_long; /* takes since the last one of long work */
    struct weir_look look;
    uint64_t ended_ns; /* when the last CALL ended, if the next begins then; 0 */
    /* Futex, atomic: 1 from before the worker's idle bit is set until who cleared that bit to wake
     * it stores 0. */
    union {
        uint32_t asleep;
        unsigned char asleep_line[WEIR_CACHE_LINE];
    } __attribute__((aligned(WEIR_CACHE_LINE)));
};

struct weir_offload {
    /* Set at open. */
    struct weir_offload_options options;
    struct weir_op **cells; /* of both lanes: held.carrier.position is an index */
    struct weir_worker *workers;
    uint64_t *idle; /* atomic, a bit per worker: it sleeps, or is about to, and nobody wakes it */
    unsigned char *stacks; /* each with a guard page below it */
    size_t page;
    bool on_one_cpu;  /* with the loop: to look would keep the other from running */
    uint32_t started; /* workers */
    uint32_t ending;  /* atomic */

    struct weir_ring lanes[WEIR_LANES];
    /* Atomic: the youngest finished op; of a CALL arg.call.older leads to the older ones, of others
     * held.link.prev. */
    union {
        struct weir_op *finished;
        unsigned char finished_line[WEIR_CACHE_LINE];
    };

    /* The loop's own. */
    uint32_t out; /* ops that were pushed, and neither taken back nor withdrawn */
    bool roused;  /* it has woken workers since the last flush */
    struct weir_look look;
};

static inline uint32_t weir_idle_words(uint32_t workers)
{
    return (workers + 63) / 64;
}

/* The thread of a worker; argument: struct weir_worker. */
void *weir_worker_main(void *argument);

/* Wakes up to `count` sleeping workers that take from the lane. Any thread. */
void weir_workers_wake(struct weir_offload *offload, uint64_t count, enum weir_lane lane);

#endif
