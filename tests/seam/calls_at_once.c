/* SPDX-License-Identifier: MIT */
/*
 * calls_at_once.c: CALLs that a callback submits, which is where they need not wait for the turn:
 * judged, counted and bounded as any.
 */
#include "gates.h"

#define MANY 8

struct batch {
    struct tracked nop;
    struct weir_loop *loop;
    struct seam_work works[MANY];
    int count;
    bool sees_them_begin;
};

static void submit_batch(struct tracked *tracked)
{
    struct batch *batch = tracked->context;
    for (int i = 0; i < batch->count; i++) {
        seam_submit(batch->loop, &batch->works[i].call);
    }
    while (batch->sees_them_begin && seam_begun(&batch->works[batch->count - 1]) == 0) {
        usleep(100);
    }
}

/* Fills works and has them submitted in a callback. */
static void run_in_callback(struct weir_loop *loop, struct batch *batch, int count, bool blocks,
                            struct weir_task *task)
{
    batch->loop = loop;
    batch->count = count;
    batch->nop.then = submit_batch;
    batch->nop.context = batch;
    for (int i = 0; i < count; i++) {
        seam_work_fill(&batch->works[i], i);
        batch->works[i].blocks = blocks;
        batch->works[i].call.op.task = task;
    }
    weir_op_nop(&batch->nop.op);
    expect_equal(seam_carry_out(loop, &batch->nop), 0);
}

static void let_go(struct weir_loop *loop, struct batch *batch)
{
    for (int i = 0; i < batch->count; i++) {
        seam_unblock(&batch->works[i]);
    }
    for (int i = 0; i < batch->count; i++) {
        seam_await(loop, &batch->works[i].call);
        expect_equal(batch->works[i].call.result, i);
        expect_equal(seam_begun(&batch->works[i]), 1);
    }
}

SEAM_TEST(workers_begin_before_the_callback_that_submits_has_returned)
{
    static struct batch batch;
    memset(&batch, 0, sizeof batch);
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    batch.sees_them_begin = seam_plain() && !seam_simulates();
    run_in_callback(loop, &batch, MANY, false, NULL);
    let_go(loop, &batch);
    expect_equal(seam_counters(loop).offloaded, MANY);
    expect_equal(seam_counters(loop).clock_clamped, 0);
    seam_end(loop);
}

SEAM_TEST(they_wait_where_the_gate_is_full)
{
    static struct batch batch;
    memset(&batch, 0, sizeof batch);
    struct weir_loop *loop = seam_loop_with(
        (struct weir_options){.offload_workers = 4, .offload_depth = 2, .offload_waiting_max = 3});
    run_in_callback(loop, &batch, 5, true, NULL);
    seam_turns(loop, 2);
    struct weir_gate_state gate = gates_state(loop, true);
    expect_equal(gate.in_flight, 2);
    expect_equal(gate.waiting, 3);
    let_go(loop, &batch);
    expect_equal(gates_state(loop, true).in_flight, 0);
    seam_end(loop);
}

SEAM_TEST(a_tasks_cap_bounds_them_and_it_counts_them)
{
    static struct batch batch;
    memset(&batch, 0, sizeof batch);
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 4});
    struct weir_task *capped = gates_task(loop, (struct weir_task_options){.offload_depth = 1});
    struct weir_task *other = gates_task(loop, (struct weir_task_options){0});
    run_in_callback(loop, &batch, 3, true, capped);
    seam_turns(loop, 2);
    expect_equal(gates_state(loop, true).in_flight, 1);
    let_go(loop, &batch);
    run_in_callback(loop, &batch, 3, false, other);
    let_go(loop, &batch);
    expect_equal(gates_counters(capped).submitted, 3);
    expect_equal(gates_counters(other).submitted, 3);
    expect_equal(gates_counters(other).finished, 3);
    seam_end(loop);
}

/* One of a task with places of its own takes none of the others'. */
SEAM_TEST(a_tasks_reserve_is_what_they_take)
{
    static struct batch batch;
    memset(&batch, 0, sizeof batch);
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = 5, .offload_depth = 4});
    struct weir_task *reserved = gates_task(loop, (struct weir_task_options){.offload_reserve = 3});
    run_in_callback(loop, &batch, 3, true, reserved);
    seam_turns(loop, 2);
    struct seam_work other;
    seam_work_fill(&other, 7);
    expect_equal(seam_carry_out(loop, &other.call), 7);
    let_go(loop, &batch);
    seam_end(loop);
}

struct refusals {
    struct tracked nop;
    struct weir_loop *loop;
    struct weir_task *stranger;
};

static void try_bad_calls(struct tracked *tracked)
{
    struct refusals *refusals = tracked->context;
    struct seam_work work;
    seam_work_fill(&work, 0);
    work.call.op.callback = seam_called;
    weir_op_call(&work.call.op, NULL, NULL);
    seam_refused(refusals->loop, &work.call, -EINVAL);
    weir_op_call(&work.call.op, seam_work_do, &work);
    work.call.op.task = refusals->stranger;
    seam_refused(refusals->loop, &work.call, -EINVAL);
}

SEAM_TEST(what_is_wrong_with_them_is_found)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct weir_loop *other = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct refusals refusals = {.loop = loop};
    refusals.stranger = gates_task(other, (struct weir_task_options){0});
    refusals.nop.then = try_bad_calls;
    refusals.nop.context = &refusals;
    weir_op_nop(&refusals.nop.op);
    expect_equal(seam_carry_out(loop, &refusals.nop), 0);
    seam_end(loop);
    seam_end(other);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(workers_begin_before_the_callback_that_submits_has_returned),
    cmocka_unit_test(they_wait_where_the_gate_is_full),
    cmocka_unit_test(a_tasks_cap_bounds_them_and_it_counts_them),
    cmocka_unit_test(a_tasks_reserve_is_what_they_take),
    cmocka_unit_test(what_is_wrong_with_them_is_found),
};

const struct seam_group calls_at_once_group = SEAM_GROUP("calls_at_once", tests);
