/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_uring.c: the floor for NOPs and files: a loop on raw_ring.h that does nothing but
 * this job, with plain files and buffers. user_data is the op's index.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"
#include "meter.h"
#include "raw_ring.h"
#include "workload.h"

struct session {
    struct raw_ring raw;
    struct workload *workload;
    uint32_t out; /* ops in flight */
    uint64_t started_ns[];
};

SPECIALISED void start(struct session *session, struct meter *meter, uint32_t index, bool file)
{
    struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
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

SPECIALISED void reap(struct session *session, struct meter *meter, bool file)
{
    struct io_uring_cq *cq = &session->raw.ring.cq;
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

SPECIALISED int loop(struct session *session, struct meter *meter, bool file, bool fake, bool spins)
{
    session->out = session->workload->depth;
    meter_batch(meter);
    for (uint32_t i = 0; i < session->out; i++) {
        start(session, meter, i, file);
    }
    while (session->out > 0) {
        meter_batch(meter);
        int r = raw_ring_enter(&session->raw, fake, spins);
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
    bool file = session->workload->job == JOB_FILE;
    if (session->workload->fake_enter) {
        return loop(session, meter, false, true, false);
    }
    if (session->raw.spin_ns != 0) {
        return file ? loop(session, meter, true, false, true)
                    : loop(session, meter, false, false, true);
    }
    return file ? loop(session, meter, true, false, false)
                : loop(session, meter, false, false, false);
}

static int uring_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session = calloc(1, sizeof *session + workload->depth * sizeof(uint64_t));
    if (session == NULL) {
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    int r = raw_ring_open(&session->raw, workload->depth, workload->who->spin_ns, error);
    if (r < 0) {
        free(session);
        return r;
    }
    session->workload = workload;
    *ret_state = session;
    return 0;
}

static void uring_close(void *state)
{
    struct session *session = state;
    raw_ring_close(&session->raw);
    free(session);
}

const struct driver uring_ops_driver = {
    .open = uring_open,
    .run = uring_run,
    .close = uring_close,
};
