/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_weir.c: weir by its public API, as a service would use it: the callback fills the
 * op again and submits it. Histograms are on, as they always are. Only the stand-in for the enter
 * call needs private headers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "engine.h"
#include "engine/backend/uring.h"
#include "engine/loop/loop.h"
#include "fake_enter.h"
#include "meter.h"
#include "workload.h"

/* As in the raw loop, start stamps stand in an array of their own. */
struct session {
    struct weir_loop *loop;
    struct workload *workload;
    struct meter *meter; /* of the running interval */
    uint32_t out;        /* ops in flight */
    int error;           /* of the first refused submit */
    struct weir_op *ops;
    uint64_t *started_ns;
};

static inline int start(struct session *session, struct weir_op *op, uint32_t index, bool file)
{
    if (file) {
        struct workload *workload = session->workload;
        struct transfer transfer = workload_next(workload);
        char *buffer = workload_buffer(workload, index);
        if (transfer.write) {
            weir_op_write(op, workload->fd, buffer, workload->block, transfer.offset);
        } else {
            weir_op_read(op, workload->fd, buffer, workload->block, transfer.offset);
        }
    } else {
        weir_op_nop(op);
    }
    session->started_ns[index] = meter_start(session->meter);
    return weir_submit(session->loop, op);
}

static inline void go_on(struct weir_op *op, bool file)
{
    struct session *session = op->user;
    uint32_t index = (uint32_t)(op - session->ops);
    meter_finish(session->meter, session->started_ns[index], op->result);
    if (meter_is_over()) {
        session->out--;
        return;
    }
    int r = start(session, op, index, file);
    if (r < 0) {
        session->error = r;
        session->out--;
        meter_over = 1;
    }
}

static void on_nop(struct weir_op *op)
{
    go_on(op, false);
}

static void on_transfer(struct weir_op *op)
{
    go_on(op, true);
}

static int weir_run(void *state, struct meter *meter)
{
    struct session *session = state;
    session->meter = meter;
    meter_batch(meter);
    for (uint32_t i = 0; i < session->workload->depth && session->error == 0; i++) {
        session->error = start(session, &session->ops[i], i, session->workload->is_file);
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

static void explain(const struct weir_decision *decision, int r, char error[ERROR_MAX])
{
    int length = snprintf(error, ERROR_MAX, "weir does not open a loop: %s", strerror(-r));
    for (uint32_t i = 0; i < decision->rejected_count && length < ERROR_MAX; i++) {
        const struct weir_rejection *rejection = &decision->rejected[i];
        length += snprintf(error + length, (size_t)(ERROR_MAX - length), "; %s: %s",
                           rejection->backend, rejection->hint);
    }
}

static void release(struct session *session)
{
    if (session != NULL) {
        free(session->ops);
        free(session->started_ns);
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
    session->started_ns = calloc(depth, sizeof *session->started_ns);
    return session->ops != NULL && session->started_ns != NULL;
}

static int weir_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL || !allocate(session, workload->depth)) {
        release(session);
        snprintf(error, ERROR_MAX, "no memory for %u ops: give a smaller --depth", workload->depth);
        return -ENOMEM;
    }
    struct weir_decision decision = {0};
    struct weir_options options = {
        .policy = WEIR_IO_URING,
        .depth = workload->depth,
        .decision = &decision,
    };
    int r = weir_loop_open(&options, &session->loop);
    if (r < 0) {
        explain(&decision, r, error);
        release(session);
        return r;
    }
    struct weir_facts facts;
    weir_loop_facts(session->loop, &facts);
    if (facts.depth < workload->depth) {
        snprintf(error, ERROR_MAX, "weir got a depth of %u only: %s; raise it or give --depth %u",
                 facts.depth, facts.depth_reason, facts.depth);
        weir_loop_close(session->loop, 0, NULL);
        release(session);
        return -ENOMEM;
    }
    session->workload = workload;
    for (uint32_t i = 0; i < workload->depth; i++) {
        session->ops[i].callback = workload->is_file ? on_transfer : on_nop;
        session->ops[i].user = session;
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
    size_t count = 0;
    for (struct weir_task *task = weir_task_next(session->loop, NULL); task != NULL && count < max;
         task = weir_task_next(session->loop, task)) {
        struct task_row *row = &ret_rows[count];
        struct weir_task_counters counters;
        if (weir_task_counters(task, &counters) < 0) {
            continue;
        }
        snprintf(row->name, sizeof row->name, "%s", weir_task_name(task));
        row->finished = counters.finished;
        for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            weir_task_read(task, (enum weir_stage)stage, &row->stages[stage]);
        }
        count++;
    }
    return count;
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

const struct engine engine_weir = {
    .name = "weir",
    .what = "weir, histograms on",
    .open = weir_open,
    .run = weir_run,
    .tasks = weir_tasks,
    .close = weir_close,
};
