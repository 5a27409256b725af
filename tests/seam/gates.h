/* SPDX-License-Identifier: MIT */
/*
 * gates.h: the same test at either gate: an op that stays in flight until it is let go (a READ of
 * an idle pipe, or a CALL that blocks), and one that passes (a NOP, or a CALL that does nothing).
 */
#ifndef TESTS_SEAM_GATES_H
#define TESTS_SEAM_GATES_H

#include "seam.h"

struct guest {
    struct seam_work work; /* its op is work.call, at both gates */
    struct seam_pair pipe;
    bool offload;
    bool stays;
};

/* The gate that is meant has that depth and that room to wait; the other is wide. */
static inline struct weir_options gates_options(bool offload, uint32_t depth, uint32_t waiting_max)
{
    struct weir_options options = {.offload_workers = 1};
    *(offload ? &options.offload_depth : &options.depth) = depth;
    *(offload ? &options.offload_waiting_max : &options.waiting_max) = waiting_max;
    return options;
}

static inline void guest_fill(struct guest *guest, bool offload, bool stays, struct weir_task *task)
{
    memset(guest, 0, sizeof *guest);
    seam_work_fill(&guest->work, 0);
    guest->offload = offload;
    guest->stays = stays;
    guest->work.blocks = offload && stays;
    if (!offload && stays) {
        guest->pipe = seam_pipe(0);
        weir_op_read(&guest->work.call.op, guest->pipe.in, guest->work.call.data, 1, WEIR_CURRENT);
    } else if (!offload) {
        weir_op_nop(&guest->work.call.op);
    }
    guest->work.call.op.task = task;
    guest->work.call.op.callback = seam_called;
}

static inline struct tracked *guest_op(struct guest *guest)
{
    return &guest->work.call;
}

/* Fills and submits one that stays. */
static inline void guest_stay(struct weir_loop *loop, struct guest *guest, bool offload,
                              struct weir_task *task)
{
    guest_fill(guest, offload, true, task);
    seam_submit(loop, guest_op(guest));
}

static inline void guest_pass(struct weir_loop *loop, struct guest *guest, bool offload,
                              struct weir_task *task)
{
    guest_fill(guest, offload, false, task);
    seam_submit(loop, guest_op(guest));
}

/* Lets one go that stays, and turns until it is back. At the offload gate: in their order. */
static inline void guest_leave(struct weir_loop *loop, struct guest *guest)
{
    if (guest->offload) {
        seam_unblock(&guest->work);
    } else {
        seam_write(guest->pipe.out, "x", 1);
    }
    seam_await(loop, guest_op(guest));
    if (!guest->offload) {
        seam_forget_pair(loop, &guest->pipe);
    }
}

static inline struct weir_task *gates_task(struct weir_loop *loop, struct weir_task_options options)
{
    struct weir_task *task = NULL;
    options.name = "task";
    expect_equal(weir_task_open(loop, &options, &task), 0);
    return task;
}

static inline struct weir_gate_state gates_state(struct weir_loop *loop, bool offload)
{
    struct weir_op op = {0};
    struct weir_gate_state state;
    weir_op_call(&op, seam_work_do, NULL);
    expect_equal(weir_loop_gate(loop, offload ? &op : NULL, &state), 0);
    return state;
}

static inline struct weir_task_counters gates_counters(const struct weir_task *task)
{
    struct weir_task_counters counters;
    expect_equal(weir_task_read_counters(task, &counters), 0);
    return counters;
}

/* Runs body at the main gate and at that of the workers. */
static inline void gates_both(void (*body)(bool offload))
{
    body(false);
    body(true);
}

#endif
