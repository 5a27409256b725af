/* SPDX-License-Identifier: MIT */
/* perf/raw_ring.c: opens it with the best flags that the kernel takes. */
#include "raw_ring.h"

#include <stdio.h>
#include <string.h>

/* Best first; the kernel answers -EINVAL to flags it does not know. */
static const unsigned flag_ladder[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
    0,
};

static int open_ring(uint32_t depth, bool spins, struct io_uring *ring)
{
    int r = -EINVAL;
    for (size_t i = 0; i < sizeof flag_ladder / sizeof *flag_ladder; i++) {
        unsigned flags = flag_ladder[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        if (spins && i < 2) {
            flags |= IORING_SETUP_TASKRUN_FLAG; /* who watches has to see it coming */
        }
        struct io_uring_params params = {.flags = flags, .cq_entries = 2 * depth};
        r = io_uring_queue_init_params(depth, ring, &params);
        if (r != -EINVAL) {
            break;
        }
    }
    return r;
}

int raw_ring_open(struct raw_ring *raw, uint32_t depth, uint64_t spin_ns, char error[ERROR_MAX])
{
    int r = open_ring(depth, spin_ns != 0, &raw->ring);
    if (r < 0) {
        snprintf(error, ERROR_MAX, "uring: no ring: %s%s", strerror(-r),
                 r == -ENOMEM ? ": raise RLIMIT_MEMLOCK (ulimit -l) or give a smaller --depth"
                              : "; weir-perf probe tells why");
        return r;
    }
    raw->spin_ns = spin_ns;
    raw->enter_flags = IORING_ENTER_GETEVENTS;
    if (io_uring_register_ring_fd(&raw->ring) == 1) {
        raw->enter_flags |= IORING_ENTER_REGISTERED_RING;
    }
    return 0;
}

void raw_ring_close(struct raw_ring *raw)
{
    io_uring_queue_exit(&raw->ring);
}
