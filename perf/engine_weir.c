/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_weir.c: NOPs, files and calls on weir by its public API, as a service would use it:
 * the callback fills the op again and submits it. Histograms are on, as they always are. Only the
 * stand-in for the enter call needs private headers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/uring.h"
#include "engine/loop/loop.h"
#include "engine_weir.h"
#include "fake_enter.h"
#include "meter.h"

/* What a service keeps of a request, found by op->user; apart from the ops, as the raw loop's start
 * stamps are. */
struct request {
    struct session *session;
    uint64_t started_ns;
    uint32_t index;
};

struct session {
    struct weir_loop *loop;
    struct workload *workload;
    struct meter *meter; /* of the running interval */
    uint32_t out;        /* ops in flight */
    int error;           /* of the first refused submit */
    struct weir_op *ops;
    struct request *requests; /* one an op */
};

static int64_t do_nothing(void *argument)
{
    (void)argument;
    return 0;
}

static inline int submit(struct session *session, struct weir_op *op, uint32_t index, enum job job)
{
    if (job == JOB_FILE) {
        struct workload *workload = session->workload;
        struct transfer transfer = workload_next(workload);
        char *buffer = workload_buffer(workload, index);
        if (transfer.write) {
            weir_op_write(op, workload->fd, buffer, workload->block, transfer.offset);
        } else {
            weir_op_read(op, workload->fd, buffer, workload->block, transfer.offset);
        }
    } else if (job == JOB_OFFLOAD) {
        weir_op_call(op, do_nothing, NULL);
    } else {
        weir_op_nop(op);
    }
    return weir_submit(session->loop, op);
}

static int start(struct session *session, struct weir_op *op)
{
    struct request *request = op->user;
    request->started_ns = meter_start(session->meter);
    return submit(session, op, request->index, session->workload->job);
}

static __attribute__((noinline)) void stop(struct weir_op *op, int error)
{
    struct request *request = op->user;
    request->session->error = error;
    request->session->out--;
    meter_over = 1;
}

/* An op that the clock is read for, or the last of its interval. */
static __attribute__((noinline)) void go_on_metered(struct weir_op *op)
{
    struct request *request = op->user;
    struct session *session = request->session;
    meter_finish(session->meter, request->started_ns, op->result);
    if (meter_is_over()) {
        session->out--;
        return;
    }
    int r = start(session, op);
    if (r < 0) {
        stop(op, r);
    }
}

/* Most ops are only counted. They do not pay for saving the registers that the others need: the
 * raw loop, which is no callback, saves none either. */
static inline __attribute__((always_inline)) void go_on(struct weir_op *op, enum job job)
{
    struct request *request = op->user;
    struct session *session = request->session;
    if (!meter_only_counts(session->meter, request->started_ns, op->result)) {
        go_on_metered(op);
        return;
    }
    meter_count(session->meter);
    int r = submit(session, op, request->index, job);
    if (r < 0) {
        stop(op, r);
    }
}

static void on_nop(struct weir_op *op)
{
    go_on(op, JOB_NOP);
}

static void on_transfer(struct weir_op *op)
{
    go_on(op, JOB_FILE);
}

static void on_call(struct weir_op *op)
{
    go_on(op, JOB_OFFLOAD);
}

static int weir_run(void *state, struct meter *meter)
{
    struct session *session = state;
    session->meter = meter;
    meter_batch(meter);
    for (uint32_t i = 0; i < session->workload->depth && session->error == 0; i++) {
        session->error = start(session, &session->ops[i]);
        session->out += session->error == 0;
    }
    while (session->out > 0) {
        meter_batch(meter);
        int r = weir_loop_turn(session->loop, -1);
        if (r < 0) {
            return r;
        }
    }
    return session->error;
}

static void release(struct session *session)
{
    if (session != NULL) {
        free(session->ops);
        free(session->requests);
        free(session);
    }
}

static bool allocate(struct session *session, uint32_t depth)
{
    void *ops = NULL;
    size_t size = depth * sizeof(struct weir_op);
    if (posix_memalign(&ops, 64, size) == 0) {
        memset(ops, 0, size);
        session->ops = ops;
    }
    session->requests = calloc(depth, sizeof *session->requests);
    return session->ops != NULL && session->requests != NULL;
}

/* Without workers wherever they are not needed: none has to be woken, none can be in the way. */
static int open_loop(struct session *session, char error[ERROR_MAX])
{
    const struct workload *workload = session->workload;
    struct weir_options options = {
        .depth = workload->depth,
        .offload_workers = WEIR_NO_OFFLOAD,
    };
    bool by_offload = workload->job == JOB_OFFLOAD ||
                      (workload->job == JOB_FILE && workload->who->route == WEIR_ROUTE_OFFLOAD);
    if (by_offload) {
        options.offload_workers = workload->workers;
        options.offload_depth = workload->depth;
    }
    return weir_open_loop(workload, &options, workload->job == JOB_FILE, &session->loop, error);
}

static int open_tasks(struct session *session, char error[ERROR_MAX])
{
    const struct contender *who = session->workload->who;
    struct weir_task *tasks[CONTENDER_TASKS_MAX];
    for (uint32_t i = 0; i < who->task_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "share %u", who->shares[i]);
        struct weir_task_options options = {.name = name, .share = who->shares[i]};
        int r = weir_task_open(session->loop, &options, &tasks[i]);
        if (r < 0) {
            snprintf(error, ERROR_MAX, "no task of share %u: %s", who->shares[i], strerror(-r));
            return r;
        }
    }
    for (uint32_t i = 0; i < session->workload->depth && who->task_count > 0; i++) {
        session->ops[i].task = tasks[i % who->task_count];
    }
    return 0;
}

static int weir_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    static weir_callback *const callbacks[JOB_COUNT] = {
        [JOB_NOP] = on_nop,
        [JOB_FILE] = on_transfer,
        [JOB_OFFLOAD] = on_call,
    };
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL || !allocate(session, workload->depth)) {
        release(session);
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    session->workload = workload;
    int r = open_loop(session, error);
    if (r < 0) {
        release(session);
        return r;
    }
    r = open_tasks(session, error);
    if (r < 0) {
        weir_loop_close(session->loop, 0, NULL);
        release(session);
        return r;
    }
    for (uint32_t i = 0; i < workload->depth; i++) {
        session->requests[i] = (struct request){.session = session, .index = i};
        session->ops[i].callback = callbacks[workload->job];
        session->ops[i].user = &session->requests[i];
        bool in_memory = workload->who->route == ROUTE_MEMORY;
        session->ops[i].route = (uint8_t)(in_memory ? WEIR_ROUTE_INLINE : workload->who->route);
        session->ops[i].flags = in_memory ? WEIR_IN_MEMORY : 0;
    }
    if (workload->fake_enter) {
        weir_uring_replace_enter(weir_loop_backend(session->loop), fake_enter, NULL);
    }
    *ret_state = session;
    return 0;
}

static size_t weir_tasks(void *state, struct task_row *ret_rows, size_t max)
{
    struct session *session = state;
    return weir_copy_tasks(session->loop, ret_rows, max);
}

static void weir_close(void *state)
{
    struct session *session = state;
    if (session->workload->fake_enter) {
        weir_loop_abandon(session->loop); /* the kernel never saw what the stand-in took */
    } else {
        weir_loop_close(session->loop, 5 * WEIR_S, NULL);
    }
    release(session);
}

const struct driver weir_ops_driver = {
    .open = weir_open,
    .run = weir_run,
    .tasks = weir_tasks,
    .close = weir_close,
};
