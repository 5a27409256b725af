/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_uring.c: the floor: a loop written by hand on liburing 2.3, doing nothing but this
 * job. Best flags the kernel takes, registered ring fd, one enter per batch, all completions of a
 * batch reaped with one look at the tail, plain files and buffers. user_data is the op's index.
 */
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "fake_enter.h"
#include "meter.h"
#include "workload.h"

struct session {
    struct io_uring ring;
    struct workload *workload;
    unsigned enter_flags;
    uint32_t out; /* ops in flight */
    uint64_t started_ns[];
};

/* Best first; the kernel answers -EINVAL to flags it does not know. */
static const unsigned flag_ladder[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
    0,
};

/*
 * The loop is compiled once per job, `file` and `fake` being constants in each: the floor decides
 * nothing per op that could be decided before.
 */
#define SPECIALISED static inline __attribute__((always_inline))

/* The entries cannot run out: there is one per op, and an op has at most one entry at a time. */
SPECIALISED void start(struct session *session, struct meter *meter, uint32_t index, bool file)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&session->ring);
    if (file) {
        struct workload *workload = session->workload;
        struct transfer transfer = workload_next(workload);
        io_uring_prep_rw(transfer.write ? IORING_OP_WRITE : IORING_OP_READ, sqe, workload->fd,
                         workload_buffer(workload, index), workload->block, transfer.offset);
    } else {
        io_uring_prep_nop(sqe);
    }
    io_uring_sqe_set_data64(sqe, index);
    session->started_ns[index] = meter_start(meter);
}

/*
 * Publishes what was staged and waits for one completion. Full queues and signals mean: reap
 * first.
 */
SPECIALISED int enter(struct session *session, bool fake)
{
    struct io_uring *ring = &session->ring;
    struct io_uring_sq *sq = &ring->sq;
    __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
    sq->sqe_head = sq->sqe_tail;
    unsigned count = sq->sqe_tail - __atomic_load_n(sq->khead, __ATOMIC_RELAXED);
    int r;
    if (fake) {
        r = fake_enter(NULL, ring, count, 1, session->enter_flags);
    } else {
        r = io_uring_enter((unsigned)ring->enter_ring_fd, count, 1, session->enter_flags, NULL);
    }
    return r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY ? r : 0;
}

SPECIALISED void reap(struct session *session, struct meter *meter, bool file)
{
    struct io_uring_cq *cq = &session->ring.cq;
    unsigned head = *cq->khead;
    unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
        uint32_t index = (uint32_t)cqe->user_data;
        meter_finish(meter, session->started_ns[index], cqe->res);
        if (meter_is_over()) {
            session->out--;
        } else {
            start(session, meter, index, file);
        }
    }
    __atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
}

SPECIALISED int loop(struct session *session, struct meter *meter, bool file, bool fake)
{
    session->out = session->workload->depth;
    meter_batch(meter);
    for (uint32_t i = 0; i < session->out; i++) {
        start(session, meter, i, file);
    }
    while (session->out > 0) {
        meter_batch(meter);
        int r = enter(session, fake);
        if (r < 0) {
            return r;
        }
        reap(session, meter, file);
    }
    return 0;
}

static int uring_run(void *state, struct meter *meter)
{
    struct session *session = state;
    if (session->workload->is_file) {
        return loop(session, meter, true, false);
    }
    return session->workload->fake_enter ? loop(session, meter, false, true)
                                         : loop(session, meter, false, false);
}

static int open_ring(uint32_t depth, struct io_uring *ring)
{
    int r = -EINVAL;
    for (size_t i = 0; i < sizeof flag_ladder / sizeof *flag_ladder; i++) {
        struct io_uring_params params = {
            .flags = flag_ladder[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = 2 * depth,
        };
        r = io_uring_queue_init_params(depth, ring, &params);
        if (r != -EINVAL) {
            break;
        }
    }
    return r;
}

static int uring_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session = calloc(1, sizeof *session + workload->depth * sizeof(uint64_t));
    if (session == NULL) {
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    int r = open_ring(workload->depth, &session->ring);
    if (r < 0) {
        snprintf(error, ERROR_MAX, "uring: no ring: %s%s", strerror(-r),
                 r == -ENOMEM ? ": raise RLIMIT_MEMLOCK (ulimit -l) or give a smaller --depth"
                              : "; weir-perf probe tells why");
        free(session);
        return r;
    }
    session->workload = workload;
    session->enter_flags = IORING_ENTER_GETEVENTS;
    if (io_uring_register_ring_fd(&session->ring) == 1) {
        session->enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
    *ret_state = session;
    return 0;
}

static void uring_close(void *state)
{
    struct session *session = state;
    io_uring_queue_exit(&session->ring);
    free(session);
}

const struct engine engine_uring = {
    .name = "uring",
    .what = "a raw liburing loop",
    .open = uring_open,
    .run = uring_run,
    .close = uring_close,
};
