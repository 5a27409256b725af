/* SPDX-License-Identifier: MIT */
/* perf/fake_enter.c: the kernel's side of the rings, as far as a NOP needs it. */
#include "fake_enter.h"

int fake_enter(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
               unsigned flags)
{
    (void)context;
    (void)to_submit;
    (void)wait_nr;
    (void)flags;
    struct io_uring_sq *sq = &ring->sq;
    struct io_uring_cq *cq = &ring->cq;
    unsigned first = *sq->khead;
    unsigned end = __atomic_load_n(sq->ktail, __ATOMIC_ACQUIRE);
    unsigned tail = *cq->ktail;
    for (unsigned i = first; i != end; i++) {
        /* In order: of the array of indices, where there is one, nothing would be learned. */
        const struct io_uring_sqe *sqe = &sq->sqes[i & sq->ring_mask];
        if (sqe->opcode == IORING_OP_NOP) {
            cq->cqes[tail & cq->ring_mask] = (struct io_uring_cqe){.user_data = sqe->user_data};
            tail++;
        }
    }
    __atomic_store_n(sq->khead, end, __ATOMIC_RELEASE);
    __atomic_store_n(cq->ktail, tail, __ATOMIC_RELEASE);
    return (int)(end - first);
}
