/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_psync.c: the floors for files without io_uring: pread and pwrite on a pool of
 * threads, and in a plain loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "meter.h"
#include "pool.h"
#include "workload.h"

struct order {
    struct pool_job job; /* first */
    struct transfer transfer;
    uint64_t started_ns;
};

struct session {
    struct workload *workload;
    struct pool *pool;
    struct order jobs[];
};

static inline int64_t move(const struct workload *workload, char *buffer,
                           const struct transfer *transfer)
{
    off_t offset = (off_t)transfer->offset;
    ssize_t n = transfer->write ? pwrite(workload->fd, buffer, workload->block, offset)
                                : pread(workload->fd, buffer, workload->block, offset);
    return n < 0 ? -errno : n;
}

static void on_worker(struct pool_job *pool_job, void *context)
{
    const struct session *session = context;
    const struct order *job = (const struct order *)pool_job;
    char *buffer = workload_buffer(session->workload, (uint32_t)(job - session->jobs));
    pool_job->result = move(session->workload, buffer, &job->transfer);
}

static void start(struct session *session, struct meter *meter, struct order *job)
{
    job->transfer = workload_next(session->workload);
    job->started_ns = meter_start(meter);
    pool_push(session->pool, &job->job);
}

static int psync_run(void *state, struct meter *meter)
{
    struct session *session = state;
    uint32_t out = session->workload->depth;
    meter_batch(meter);
    for (uint32_t i = 0; i < out; i++) {
        start(session, meter, &session->jobs[i]);
    }
    while (out > 0) {
        struct pool_job *next = pool_wait(session->pool);
        meter_batch(meter);
        while (next != NULL) {
            struct order *job = (struct order *)next;
            next = next->next;
            meter_finish(meter, job->started_ns, job->job.result);
            if (meter_is_over()) {
                out--;
            } else {
                start(session, meter, job);
            }
        }
    }
    return 0;
}

static void psync_close(void *state)
{
    struct session *session = state;
    pool_close(session->pool);
    free(session);
}

static int psync_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session =
        calloc(1, sizeof *session + workload->depth * sizeof session->jobs[0]);
    if (session == NULL) {
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    session->workload = workload;
    struct pool_options options = {
        .workers = workload->workers,
        .spin_ns = workload->who->spin_ns,
        .wake_fd = -1,
        .work = on_worker,
        .context = session,
    };
    int r = pool_open(&options, &session->pool);
    if (r < 0) {
        snprintf(error, ERROR_MAX, "psync: no %u threads: %s: give fewer --workers",
                 workload->workers, strerror(-r));
        free(session);
        return r;
    }
    *ret_state = session;
    return 0;
}

const struct driver psync_driver = {
    .open = psync_open,
    .run = psync_run,
    .close = psync_close,
};

/* One at a time, whatever the depth; nothing to wait for. */
static int pread_run(void *state, struct meter *meter)
{
    struct workload *workload = state;
    while (!meter_is_over()) {
        meter_batch(meter);
        struct transfer transfer = workload_next(workload);
        uint64_t started_ns = meter_start(meter);
        int64_t result = move(workload, workload->buffers, &transfer);
        if (started_ns != 0) {
            meter_batch(meter);
        }
        meter_finish(meter, started_ns, result);
    }
    return 0;
}

static int pread_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    (void)error;
    *ret_state = workload;
    return 0;
}

static void pread_close(void *state)
{
    (void)state;
}

const struct driver pread_driver = {
    .open = pread_open,
    .run = pread_run,
    .close = pread_close,
};
