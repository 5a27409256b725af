/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_mutex.c: offload as most programs have it: calls go to a pool of threads, and an
 * eventfd brings their ends back to a ring, which is what the loop sleeps on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine.h"
#include "meter.h"
#include "pool.h"
#include "raw_ring.h"
#include "workload.h"

struct call {
    struct pool_job job; /* first */
    uint64_t started_ns;
};

struct session {
    struct raw_ring raw;
    struct workload *workload;
    struct pool *pool;
    int wake_fd;
    uint64_t wakes; /* what is read from it */
    bool armed;     /* that read is in the ring */
    struct call calls[];
};

static void do_nothing(struct pool_job *job, void *context)
{
    (void)context;
    job->result = 0;
}

static void start(struct session *session, struct meter *meter, struct call *call)
{
    call->started_ns = meter_start(meter);
    pool_push(session->pool, &call->job);
}

/* Sleeps in the ring until the eventfd has been read. */
static int sleep_in_ring(struct session *session)
{
    struct io_uring_cq *cq = &session->raw.ring.cq;
    if (!session->armed) {
        struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
        io_uring_prep_read(sqe, session->wake_fd, &session->wakes, sizeof session->wakes, 0);
        session->armed = true;
    }
    int r = raw_ring_enter(&session->raw, false, false);
    if (r == 0 && __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE) != *cq->khead) {
        r = cq->cqes[*cq->khead & cq->ring_mask].res;
        __atomic_store_n(cq->khead, *cq->khead + 1, __ATOMIC_RELEASE);
        session->armed = false;
    }
    return r < 0 ? r : 0;
}

/* At least one finished call, or a negative errno. */
static int wait_for_calls(struct session *session, struct pool_job **ret_first)
{
    int r = 0;
    *ret_first = pool_take(session->pool);
    while (*ret_first == NULL && r == 0) {
        if (!pool_spin(session->pool) && pool_may_sleep(session->pool)) {
            r = sleep_in_ring(session);
        }
        *ret_first = pool_take(session->pool);
    }
    return r;
}

static int mutex_run(void *state, struct meter *meter)
{
    struct session *session = state;
    uint32_t out = session->workload->depth;
    meter_batch(meter);
    for (uint32_t i = 0; i < out; i++) {
        start(session, meter, &session->calls[i]);
    }
    while (out > 0) {
        struct pool_job *next;
        int r = wait_for_calls(session, &next);
        if (r < 0) {
            return r;
        }
        meter_batch(meter);
        while (next != NULL) {
            struct call *call = (struct call *)next;
            next = next->next;
            meter_finish(meter, call->started_ns, call->job.result);
            if (meter_is_over()) {
                out--;
            } else {
                start(session, meter, call);
            }
        }
    }
    return 0;
}

static void mutex_close(void *state)
{
    struct session *session = state;
    pool_close(session->pool);
    raw_ring_close(&session->raw);
    close(session->wake_fd);
    free(session);
}

static int open_parts(struct session *session, char error[ERROR_MAX])
{
    const struct workload *workload = session->workload;
    int r = raw_ring_open(&session->raw, 4, 0, error);
    if (r < 0) {
        return r;
    }
    session->wake_fd = eventfd(0, EFD_CLOEXEC);
    struct pool_options options = {
        .workers = workload->workers,
        .spin_ns = workload->who->spin_ns,
        .wake_fd = session->wake_fd,
        .work = do_nothing,
    };
    r = session->wake_fd < 0 ? -errno : pool_open(&options, &session->pool);
    if (r < 0) {
        snprintf(error, ERROR_MAX, "mutex: no %u threads: %s: give fewer --workers",
                 workload->workers, strerror(-r));
        raw_ring_close(&session->raw);
        if (session->wake_fd >= 0) {
            close(session->wake_fd);
        }
    }
    return r;
}

static int mutex_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session =
        calloc(1, sizeof *session + workload->depth * sizeof session->calls[0]);
    if (session == NULL) {
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    session->workload = workload;
    int r = open_parts(session, error);
    if (r < 0) {
        free(session);
        return r;
    }
    *ret_state = session;
    return 0;
}

const struct driver mutex_driver = {
    .open = mutex_open,
    .run = mutex_run,
    .close = mutex_close,
};
