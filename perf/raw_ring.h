/* SPDX-License-Identifier: MIT */
/*
 * perf/raw_ring.h: a ring as a loop written by hand on liburing 2.3 drives it: best flags the
 * kernel takes, registered ring fd, one enter per batch, all completions of a batch reaped with one
 * look at the tail.
 */
#ifndef PERF_RAW_RING_H
#define PERF_RAW_RING_H

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "fake_enter.h"
#include "meter.h"

/*
 * The loops are compiled once per job, what they are for being constants in each: the floor decides
 * nothing per op that could be decided before.
 */
#define SPECIALISED static inline __attribute__((always_inline))

struct raw_ring {
    struct io_uring ring;
    unsigned enter_flags;
    uint64_t spin_ns;
};

/* 0; or a negative errno and a text that says what to do. */
int raw_ring_open(struct raw_ring *raw, uint32_t depth, uint64_t spin_ns, char error[ERROR_MAX]);
void raw_ring_close(struct raw_ring *raw);

/* One submission entry; there is one for every op that can be staged, so they cannot run out. */
SPECIALISED struct io_uring_sqe *raw_ring_entry(struct raw_ring *raw)
{
    return io_uring_get_sqe(&raw->ring);
}

/* Something is to be had from the kernel, or is in the ring already. */
SPECIALISED bool raw_ring_has_work(const struct raw_ring *raw)
{
    const struct io_uring *ring = &raw->ring;
    /* The tail does not move by itself: with deferred task work the flags say that it would. */
    return __atomic_load_n(ring->cq.ktail, __ATOMIC_ACQUIRE) != *ring->cq.khead ||
           (__atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Sends `count` entries and waits for `wanted` completions. Full queues and signals mean: reap
 * first. */
SPECIALISED int raw_ring_call(struct raw_ring *raw, unsigned count, unsigned wanted, bool fake)
{
    struct io_uring *ring = &raw->ring;
    int r;
    if (fake) {
        r = fake_enter(NULL, ring, count, wanted, raw->enter_flags);
    } else {
        r = io_uring_enter((unsigned)ring->enter_ring_fd, count, wanted, raw->enter_flags, NULL);
    }
    return r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY ? r : 0;
}

/* Sends, then watches before it sleeps. */
static inline int raw_ring_spin(struct raw_ring *raw, unsigned count)
{
    int r = raw_ring_call(raw, count, 0, false);
    if (r < 0 || raw_ring_has_work(raw)) {
        return r;
    }
    uint64_t end_ns = meter_clock() + raw->spin_ns;
    while (!raw_ring_has_work(raw) && meter_clock() < end_ns) {
    }
    return raw_ring_call(raw, 0, 1, false);
}

/* Publishes what was staged and waits for one completion. 0 or a negative errno. */
SPECIALISED int raw_ring_enter(struct raw_ring *raw, bool fake, bool spins)
{
    struct io_uring_sq *sq = &raw->ring.sq;
    __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
    sq->sqe_head = sq->sqe_tail;
    unsigned count = sq->sqe_tail - __atomic_load_n(sq->khead, __ATOMIC_RELAXED);
    return spins ? raw_ring_spin(raw, count) : raw_ring_call(raw, count, 1, fake);
}

#endif
