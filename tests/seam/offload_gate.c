/* SPDX-License-Identifier: MIT */
/*
 * offload_gate.c: the gate of CALLs and of ops routed to OFFLOAD: its limits, what it answers when
 * it is full, and that it and the main gate do not know of each other.
 */
#include "seam.h"

/* Fills `count` works whose functions wait until they are told. */
static void fill_blocking(struct seam_work *works, int count)
{
    for (int i = 0; i < count; i++) {
        seam_work_fill(&works[i], i);
        works[i].blocks = true;
    }
}

SEAM_TEST(a_full_offload_gate_refuses_and_leaves_the_op_untouched)
{
    struct weir_loop *loop = seam_loop_with(
        (struct weir_options){.offload_workers = 1, .offload_depth = 4, .offload_waiting_max = 3});
    int file = seam_file(16);
    struct seam_work works[7];
    struct seam_work more;
    struct tracked write_op = {.op.callback = seam_called, .op.route = WEIR_ROUTE_OFFLOAD};
    fill_blocking(works, 7);
    for (int i = 0; i < 7; i++) {
        seam_submit(loop, &works[i].call);
    }
    seam_work_fill(&more, 1);
    more.call.op.callback = seam_called;
    more.call.op.deadline_ns = weir_now(loop) + 3600 * WEIR_S;
    seam_refused(loop, &more.call, -EAGAIN);
    seam_await_begun(loop, &works[0]);
    seam_refused(loop, &more.call, -EAGAIN);
    weir_op_write(&write_op.op, file, "x", 1, 0); /* the same gate */
    seam_refused(loop, &write_op, -EAGAIN);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.refused, 3);
    expect_equal(counters.offload_in_flight, 4);
    expect_equal(counters.offload_waiting, 3);
    expect_equal(counters.in_flight, 0);
    expect_equal(counters.waiting, 0);
    seam_unblock(&works[0]);
    seam_await(loop, &works[0].call);
    seam_submit(loop, &more.call); /* one came back: one place */
    seam_refused(loop, &write_op, -EAGAIN);
    for (int i = 1; i < 7; i++) {
        seam_unblock(&works[i]);
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(more.call.result, 1);
    expect_equal(write_op.calls, 0);
    expect_equal(seam_counters(loop).offload_in_flight, 0);
    seam_end(loop);
    close(file);
}

SEAM_TEST(the_offload_gate_lets_calls_through_in_the_order_they_came)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .offload_workers = 1, .offload_depth = 2, .offload_waiting_max = 100});
    static struct seam_work works[100];
    seam_work_reset();
    for (int i = 0; i < 100; i++) {
        seam_work_fill(&works[i], i);
        seam_submit(loop, &works[i].call);
        if (i == 50) {
            seam_turns(loop, 3);
        }
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 100; i++) {
        expect_equal(works[i].order, i + 1);
        expect(i == 0 || works[i - 1].call.order < works[i].call.order);
    }
    seam_end(loop);
}

SEAM_TEST(neither_gates_fullness_is_the_others)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 2, .offload_workers = 1, .offload_depth = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_work works[2];
    struct seam_work refused;
    struct tracked idle[2] = {0};
    struct tracked nop = {.op.callback = seam_called};
    fill_blocking(works, 2);
    seam_submit(loop, &works[0].call);
    seam_submit(loop, &works[1].call);
    seam_work_fill(&refused, 0);
    refused.call.op.callback = seam_called;
    seam_refused(loop, &refused.call, -EAGAIN);
    seam_await_begun(loop, &works[0]);
    weir_op_nop(&nop.op);
    expect_equal(seam_carry_out(loop, &nop), 0); /* the main gate is empty */
    seam_read_byte(loop, &idle[0], pipe.in);
    seam_read_byte(loop, &idle[1], pipe.in);
    weir_op_nop(&nop.op);
    seam_refused(loop, &nop, -EAGAIN);
    seam_refused(loop, &refused.call, -EAGAIN);
    seam_unblock(&works[0]);
    seam_await(loop, &works[0].call);
    seam_refused(loop, &nop, -EAGAIN);
    works[0].blocks = false;
    weir_op_call(&works[0].call.op, seam_work_do, &works[0]);
    seam_submit(loop,
                &works[0].call); /* the offload gate has a place though the main one is full */
    seam_unblock(&works[1]);
    seam_await(loop, &works[1].call);
    seam_await(loop, &works[0].call);
    seam_write(pipe.out, "ab", 2);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(what_a_backend_sends_to_a_worker_takes_no_place_of_the_offload_gate)
{
    struct weir_loop *loop = seam_loop_with(
        (struct weir_options){.depth = 64, .offload_workers = 1, .offload_depth = 1});
    int file = seam_file(64);
    struct seam_work busy;
    struct tracked ops[64] = {0};
    seam_block(loop, &busy);
    for (int i = 0; i < 64; i++) {
        weir_op_fsync(&ops[i].op, file);
        seam_submit(loop, &ops[i]);
    }
    seam_turns(loop, 3);
    expect_equal(seam_counters(loop).offload_in_flight, 1);
    seam_unblock(&busy);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 64; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, 0);
    }
    seam_end(loop);
    close(file);
}

/* --- caller runs ------------------------------------------------------------------------------ */

static struct weir_options caller_runs(void)
{
    return (struct weir_options){
        .flags = WEIR_CALLER_RUNS, .offload_workers = 1, .offload_depth = 1};
}

SEAM_TEST(a_full_gate_may_let_the_caller_run_its_call_inside_submit)
{
    struct weir_loop *loop = seam_loop_with(caller_runs());
    struct seam_work busy;
    seam_block(loop, &busy);
    for (unsigned i = 1; i <= 300; i++) {
        struct seam_work work;
        seam_work_fill(&work, (int64_t)i - 100);
        work.call.op.deadline_ns = i % 3 == 0 ? weir_now(loop) + 3600 * WEIR_S : 0;
        seam_submit(loop, &work.call); /* it checks that the callback does not come inside */
        expect_equal(work.begun, 1);
        expect(pthread_equal(work.thread, pthread_self()));
        expect_equal(work.call.calls, 0);
        expect_equal(weir_loop_live(loop), 2);
        if (i % 2 == 0) {
            expect_equal(seam_cancel(loop, &work.call), -EALREADY);
        }
        expect(seam_turn(loop, -1) >= 1); /* does not sleep */
        expect_equal(work.call.calls, 1);
        expect_equal(work.call.result, (int64_t)i - 100);
        expect_equal(seam_counters(loop).caller_ran, i);
    }
    expect_equal(seam_counters(loop).refused, 0);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
}

static void submit_call(struct tracked *op)
{
    struct seam_work *work = op->context;
    seam_submit(op->op.user, &work->call);
    expect_equal(work->begun, 1);
    expect(pthread_equal(work->thread, pthread_self()));
    expect_equal(work->call.calls, 0);
}

SEAM_TEST(the_caller_may_run_its_call_in_a_callback_too)
{
    struct weir_loop *loop = seam_loop_with(caller_runs());
    struct seam_work busy;
    struct seam_work work;
    struct tracked nop = {.then = submit_call, .context = &work, .op.user = loop};
    seam_block(loop, &busy);
    seam_work_fill(&work, 9);
    weir_op_nop(&nop.op);
    expect_equal(seam_carry_out(loop, &nop), 0);
    seam_await(loop, &work.call);
    expect_equal(work.call.result, 9);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
}

SEAM_TEST(the_caller_runs_calls_only_and_only_past_a_full_gate)
{
    struct weir_loop *loop = seam_loop_with(caller_runs());
    int file = seam_file(8);
    struct seam_work busy;
    struct seam_work free_gate;
    struct tracked routed = {.op.callback = seam_called, .op.route = WEIR_ROUTE_OFFLOAD};
    seam_work_fill(&free_gate, 1);
    expect_equal(seam_carry_out(loop, &free_gate.call), 1);
    expect(seam_by_worker(&free_gate));
    seam_block(loop, &busy);
    weir_op_write(&routed.op, file, "x", 1, 0);
    seam_refused(loop, &routed, -EAGAIN);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    expect_equal(seam_counters(loop).caller_ran, 0);
    seam_end(loop);
    close(file);
}

struct meddler {
    struct weir_loop *loop;
    struct tracked call;
    int answers[4];
};

static int64_t meddle(void *context)
{
    struct meddler *meddler = context;
    meddler->answers[0] = weir_cancel(meddler->loop, &meddler->call.op);
    meddler->answers[1] = weir_loop_turn(meddler->loop, 0);
    meddler->answers[2] = weir_loop_run(meddler->loop);
    meddler->answers[3] = weir_loop_close(meddler->loop, 0, NULL);
    return 4;
}

SEAM_TEST(a_function_run_by_its_caller_can_neither_cancel_itself_nor_turn_or_close_the_loop)
{
    struct meddler meddler = {.loop = seam_loop_with(caller_runs())};
    struct seam_work busy;
    seam_block(meddler.loop, &busy);
    weir_op_call(&meddler.call.op, meddle, &meddler);
    seam_submit(meddler.loop, &meddler.call);
    expect_equal(meddler.answers[0], -EALREADY);
    for (int i = 1; i < 4; i++) {
        expect_equal(meddler.answers[i], -EBUSY);
    }
    expect_equal(meddler.call.calls, 0);
    expect_equal(seam_turn(meddler.loop, -1), 1); /* out of the function it turns again */
    expect_equal(meddler.call.result, 4);
    seam_unblock(&busy);
    seam_await(meddler.loop, &busy.call);
    expect_equal(seam_counters(meddler.loop).cancels, 0);
    expect_equal(seam_counters(meddler.loop).stale, 0);
    seam_end(meddler.loop);
}

SEAM_TEST(a_posted_call_is_never_run_by_its_caller)
{
    struct weir_options options = caller_runs();
    struct weir_loop *loop = seam_loop_with(options);
    struct seam_work busy;
    struct seam_work posted;
    seam_block(loop, &busy);
    seam_work_fill(&posted, 6);
    seam_posted(loop, &posted.call);
    seam_turns(loop, 3);
    expect_equal(seam_begun(&posted), 0);
    seam_unblock(&busy);
    seam_await(loop, &posted.call);
    expect_equal(posted.call.result, 6);
    expect(seam_by_worker(&posted));
    expect_equal(seam_counters(loop).caller_ran, 0);
    seam_end(loop);
}

/* --- room ------------------------------------------------------------------------------------- */

static struct {
    struct weir_room room;
    unsigned calls;
    int result;
    unsigned order;
} waiters[6];
static unsigned called;

static void room_called(struct weir_room *room, int result)
{
    size_t i = (size_t)(uintptr_t)room->user;
    waiters[i].calls++;
    waiters[i].result = result;
    waiters[i].order = ++called;
}

static void wait_for(struct weir_loop *loop, size_t i, const struct weir_op *op)
{
    waiters[i].calls = 0;
    waiters[i].room = (struct weir_room){.callback = room_called, .user = (void *)(uintptr_t)i};
    expect_equal(weir_wait_room(loop, &waiters[i].room, op), 0);
}

static void turn_until_called(struct weir_loop *loop, unsigned want)
{
    while (called < want) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_turns(loop, 3);
    expect_equal(called, want);
}

SEAM_TEST(who_waits_for_the_offload_gate_is_told_when_that_one_has_room)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 2, .offload_workers = 1, .offload_depth = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_work works[2];
    struct tracked idle[2] = {0};
    struct tracked nop = {0};
    struct tracked routed = {.op.route = WEIR_ROUTE_OFFLOAD};
    called = 0;
    fill_blocking(works, 2);
    seam_submit(loop, &works[0].call);
    seam_submit(loop, &works[1].call);
    seam_await_begun(loop, &works[0]);
    wait_for(loop, 0, &works[0].call.op); /* the main gate has room: not its business */
    seam_turns(loop, 5);
    expect_equal(called, 0);
    seam_read_byte(loop, &idle[0], pipe.in);
    seam_read_byte(loop, &idle[1], pipe.in);
    weir_op_nop(&nop.op);
    wait_for(loop, 1, &nop.op);
    weir_op_fsync(&routed.op, 0);
    wait_for(loop, 2, &routed.op);
    seam_turns(loop, 5);
    expect_equal(called, 0);
    seam_write(pipe.out, "a", 1); /* room at the main gate: past the first in the line */
    turn_until_called(loop, 1);
    expect_equal(waiters[1].calls, 1);
    seam_unblock(&works[0]);
    turn_until_called(loop, 3); /* none takes the place: it is offered to one after the other */
    expect_equal(waiters[0].order, 2);
    expect_equal(waiters[2].order, 3);
    for (int i = 0; i < 3; i++) {
        expect_equal(waiters[i].calls, 1);
        expect_equal(waiters[i].result, 0);
    }
    seam_unblock(&works[1]);
    seam_write(pipe.out, "b", 1);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(close_tells_who_waits_for_the_offload_gate_too)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = 1, .offload_depth = 1});
    struct seam_work work;
    called = 0;
    seam_work_fill(&work, 1);
    work.until_asked = true;
    seam_submit(loop, &work.call);
    seam_await_begun(loop, &work);
    for (size_t i = 0; i < 6; i++) {
        wait_for(loop, i, &work.call.op);
    }
    expect_equal(weir_withdraw_room(loop, &waiters[3].room), 0);
    seam_end(loop);
    for (size_t i = 0; i < 6; i++) {
        expect_equal(waiters[i].calls, i == 3 ? 0 : 1);
        expect(i == 3 || waiters[i].result == -ESHUTDOWN);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_full_offload_gate_refuses_and_leaves_the_op_untouched),
    cmocka_unit_test(the_offload_gate_lets_calls_through_in_the_order_they_came),
    cmocka_unit_test(neither_gates_fullness_is_the_others),
    cmocka_unit_test(what_a_backend_sends_to_a_worker_takes_no_place_of_the_offload_gate),
    cmocka_unit_test(a_full_gate_may_let_the_caller_run_its_call_inside_submit),
    cmocka_unit_test(the_caller_may_run_its_call_in_a_callback_too),
    cmocka_unit_test(the_caller_runs_calls_only_and_only_past_a_full_gate),
    cmocka_unit_test(
        a_function_run_by_its_caller_can_neither_cancel_itself_nor_turn_or_close_the_loop),
    cmocka_unit_test(a_posted_call_is_never_run_by_its_caller),
    cmocka_unit_test(who_waits_for_the_offload_gate_is_told_when_that_one_has_room),
    cmocka_unit_test(close_tells_who_waits_for_the_offload_gate_too),
};

const struct seam_group offload_gate_group = SEAM_GROUP("offload_gate", tests);
