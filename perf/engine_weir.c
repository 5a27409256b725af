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

struct session;

struct place {
    struct weir_op op;
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
    struct place places[];
};

static inline int start(struct session *session, struct place *place, bool file)
{
    if (file) {
        struct workload *workload = session->workload;
        struct transfer transfer = workload_next(workload);
        char *buffer = workload_buffer(workload, place->index);
        if (transfer.write) {
            weir_op_write(&place->op, workload->fd, buffer, workload->block, transfer.offset);
        } else {
            weir_op_read(&place->op, workload->fd, buffer, workload->block, transfer.offset);
        }
    } else {
        weir_op_nop(&place->op);
    }
    place->started_ns = meter_start(session->meter);
    return weir_submit(session->loop, &place->op);
}

static inline void go_on(struct weir_op *op, bool file)
{
    struct place *place = WEIR_CONTAINER(op, struct place, op);
    struct session *session = place->session;
    meter_finish(session->meter, place->started_ns, op->result);
    if (meter_is_over()) {
        session->out--;
        return;
    }
    int r = start(session, place, file);
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
        session->error = start(session, &session->places[i], session->workload->is_file);
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

static int weir_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session = calloc(1, sizeof *session + workload->depth * sizeof(struct place));
    if (session == NULL) {
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
        free(session);
        return r;
    }
    struct weir_facts facts;
    weir_loop_facts(session->loop, &facts);
    if (facts.depth < workload->depth) {
        snprintf(error, ERROR_MAX, "weir got a depth of %u only: %s; raise it or give --depth %u",
                 facts.depth, facts.depth_reason, facts.depth);
        weir_loop_close(session->loop, 0, NULL);
        free(session);
        return -ENOMEM;
    }
    session->workload = workload;
    for (uint32_t i = 0; i < workload->depth; i++) {
        struct place *place = &session->places[i];
        place->op.callback = workload->is_file ? on_transfer : on_nop;
        place->session = session;
        place->index = i;
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
    free(session);
}

const struct engine engine_weir = {
    .name = "weir",
    .what = "weir, histograms on",
    .open = weir_open,
    .run = weir_run,
    .tasks = weir_tasks,
    .close = weir_close,
};
