/* SPDX-License-Identifier: MIT */
/* goals.c: the depth that a latency goal steers, at both gates. */
#include "gates.h"

#define CYCLES 32
#define DEPTH 16

/* Ops that come again until they are told not to: READs of a file, or CALLs. */
static struct {
    struct weir_loop *loop;
    int file;
    bool ends;
    struct seam_work works[CYCLES];
} cycle;

static void fill_again(struct seam_work *work)
{
    if (cycle.file >= 0) {
        weir_op_read(&work->call.op, cycle.file, work->call.data, 1, 0);
    } else {
        weir_op_call(&work->call.op, seam_work_do, work);
    }
}

static void submit_again(struct tracked *op)
{
    if (!cycle.ends) {
        fill_again(op->context);
        seam_submit(cycle.loop, op);
    }
}

static void cycle_begin(struct weir_loop *loop, bool offload, struct weir_task *task)
{
    memset(&cycle, 0, sizeof cycle);
    cycle.loop = loop;
    cycle.file = offload ? -1 : seam_file(16);
    for (int i = 0; i < CYCLES; i++) {
        struct seam_work *work = &cycle.works[i];
        seam_work_fill(work, 0);
        fill_again(work);
        work->call.then = submit_again;
        work->call.context = work;
        work->call.op.task = task;
        seam_submit(loop, &work->call);
    }
}

/* All come back, and none of them came more often than it was submitted. */
static void cycle_end(struct weir_loop *loop)
{
    cycle.ends = true;
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < CYCLES; i++) {
        expect_equal(cycle.works[i].call.result, cycle.file >= 0 ? 1 : 0);
    }
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.submitted, counters.finished);
    if (cycle.file >= 0) {
        expect_equal(weir_forget(loop, cycle.file), 0);
        close(cycle.file);
    }
}

static struct weir_options options_of(bool offload)
{
    return gates_options(offload, DEPTH, CYCLES);
}

static void turn_until_depth(struct weir_loop *loop, bool offload, uint32_t depth)
{
    while (gates_state(loop, offload).depth != depth) {
        expect(seam_turn(loop, -1) >= 0);
    }
}

/* Turns until so much time has passed on the loop's clock. */
static void turn_for(struct weir_loop *loop, uint64_t time_ns)
{
    uint64_t end_ns = weir_now(loop) + time_ns;
    while (weir_now(loop) < end_ns) {
        expect(seam_turn(loop, WEIR_MS) >= 0);
    }
}

/* --- the loop's ------------------------------------------------------------------------------- */

static void miss_always(bool offload)
{
    struct weir_options options = options_of(offload);
    options.goal_ns = 1;
    options.depth_min = 3;
    struct weir_loop *loop = seam_loop_with(options);
    expect_equal(gates_state(loop, offload).depth, DEPTH);
    expect_equal(gates_state(loop, offload).reason, WEIR_DEPTH_AS_OPENED);
    cycle_begin(loop, offload, NULL);
    turn_until_depth(loop, offload, 3);
    turn_for(loop, 50 * WEIR_MS);
    struct weir_gate_state state = gates_state(loop, offload);
    expect_equal(state.depth, 3);
    expect_equal(state.depth_max, DEPTH);
    expect_equal(state.reason, WEIR_DEPTH_LOOP_GOAL);
    expect(state.task == NULL);
    expect_equal(state.places, DEPTH + CYCLES);
    expect(state.in_flight <= 3);
    expect(state.waiting >= CYCLES - DEPTH);
    expect(state.lowered >= 3 && state.throttled_ns > 0);
    expect_equal(gates_state(loop, !offload).lowered, 0); /* nothing went through the other */
    cycle_end(loop);
    seam_end(loop);
}

SEAM_TEST(a_goal_that_is_always_missed_lowers_the_depth_to_its_least_and_says_so)
{
    gates_both(miss_always);
}

static void meet_always(bool offload)
{
    struct weir_options options = options_of(offload);
    options.goal_ns = 3600 * WEIR_S;
    struct weir_loop *loop = seam_loop_with(options);
    cycle_begin(loop, offload, NULL);
    turn_for(loop, 50 * WEIR_MS);
    struct weir_gate_state state = gates_state(loop, offload);
    expect_equal(state.depth, DEPTH);
    expect_equal(state.reason, WEIR_DEPTH_AS_OPENED);
    expect_equal(state.lowered, 0);
    expect_equal(state.raised, 0);
    expect_equal(state.throttled_ns, 0);
    cycle_end(loop);
    seam_end(loop);
}

SEAM_TEST(a_goal_that_is_always_met_leaves_the_depth_as_it_was_opened)
{
    gates_both(meet_always);
}

SEAM_TEST(ops_that_wait_for_their_peers_say_nothing_to_a_goal)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8, .goal_ns = 1});
    struct seam_pair pair = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    for (int i = 0; i < 200; i++) {
        weir_op_recv(&op.op, pair.in, op.data, 1, 0);
        seam_submit(loop, &op);
        seam_turns(loop, 1);
        seam_write(pair.out, "x", 1);
        seam_await(loop, &op);
    }
    turn_for(loop, 20 * WEIR_MS);
    weir_op_recv(&op.op, pair.in, op.data, 1, 0);
    seam_submit(loop, &op);
    seam_write(pair.out, "x", 1);
    seam_await(loop, &op);
    expect_equal(gates_state(loop, false).lowered, 0);
    seam_forget_pair(loop, &pair);
    seam_end(loop);
}

/* Idle connections hold credits for ever: they must not be those of a lowered depth. */
SEAM_TEST(armed_ops_do_not_fill_a_depth_that_a_goal_has_lowered)
{
    struct weir_options options = options_of(false);
    options.goal_ns = 1;
    struct weir_loop *loop = seam_loop_with(options);
    struct seam_pair pairs[3];
    struct tracked armed[3] = {0};
    for (int i = 0; i < 3; i++) {
        pairs[i] = seam_socketpair(SOCK_STREAM);
    }
    for (int i = 0; i < 2; i++) {
        weir_op_recv(&armed[i].op, pairs[i].in, armed[i].data, 1, 0);
        seam_submit(loop, &armed[i]);
    }
    cycle_begin(loop, false, NULL);
    turn_until_depth(loop, false, 1);
    for (int i = 0; i < 8; i++) { /* the others go on, one at a time */
        unsigned calls = cycle.works[i].call.calls;
        seam_await_count(loop, &cycle.works[i].call.calls, calls + 1);
    }
    expect(gates_state(loop, false).waiting > 0);
    weir_op_recv(&armed[2].op, pairs[2].in, armed[2].data, 1, 0);
    armed[2].op.task = gates_task(loop, (struct weir_task_options){0});
    seam_submit(loop, &armed[2]); /* nor does it wait for them */
    seam_turns(loop, 1);
    expect(gates_state(loop, false).in_flight >= 3);
    for (int i = 0; i < 3; i++) {
        seam_write(pairs[i].out, "x", 1);
        seam_await(loop, &armed[i]);
        seam_forget_pair(loop, &pairs[i]);
    }
    expect_equal(gates_state(loop, false).depth, 1);
    cycle_end(loop);
    seam_end(loop);
}

/* Nothing else ends the sleep: the loop itself has to let one more go. */
SEAM_TEST(an_op_that_never_comes_back_does_not_stop_the_others)
{
    struct weir_options options = options_of(false);
    options.goal_ns = 1;
    struct weir_loop *loop = seam_loop_with(options);
    struct guest stuck;
    struct tracked nop = {0};
    cycle_begin(loop, false, NULL);
    turn_until_depth(loop, false, 1);
    cycle_end(loop);
    guest_stay(loop, &stuck, false, NULL);
    seam_turns(loop, 1);
    expect_equal(gates_state(loop, false).depth, 1);
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    seam_await(loop, &nop);
    guest_leave(loop, &stuck);
    seam_end(loop);
}

SEAM_TEST(cancelled_ops_say_nothing_to_a_goal)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8, .goal_ns = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 4; i++) {
            weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
            seam_submit(loop, &ops[i]);
        }
        seam_turns(loop, 1);
        expect_equal(weir_cancel_fd(loop, pipe.in), 4);
        for (int i = 0; i < 4; i++) {
            seam_await(loop, &ops[i]);
        }
    }
    turn_for(loop, 20 * WEIR_MS);
    expect_equal(gates_state(loop, false).lowered, 0);
    seam_forget_pair(loop, &pipe);
    seam_end(loop);
}

SEAM_TEST(a_reserve_passes_a_depth_that_a_goal_has_lowered)
{
    struct weir_options options = options_of(false);
    options.goal_ns = 1;
    struct weir_loop *loop = seam_loop_with(options);
    struct weir_task *task = gates_task(loop, (struct weir_task_options){.reserve = 4});
    struct guest own[4];
    cycle_begin(loop, false, NULL);
    turn_until_depth(loop, false, 1);
    for (int i = 0; i < 4; i++) {
        guest_fill(&own[i], false, true, task);
        guest_op(&own[i])->op.flags = WEIR_OR_REFUSE;
        seam_submit(loop, guest_op(&own[i]));
    }
    seam_turns(loop, 1);
    expect(gates_state(loop, false).in_flight >= 4);
    expect(gates_state(loop, false).in_flight <= 5);
    unsigned calls = cycle.works[0].call.calls;
    seam_await_count(loop, &cycle.works[0].call.calls,
                     calls + 1); /* nor do the others stand still */
    for (int i = 0; i < 4; i++) {
        guest_leave(loop, &own[i]);
    }
    expect_equal(gates_counters(task).waited, 0);
    cycle_end(loop);
    seam_end(loop);
}

/* --- tasks' ----------------------------------------------------------------------------------- */

static void steer_by_task(bool offload)
{
    struct weir_loop *loop = seam_loop_with(options_of(offload));
    struct weir_task *easy = gates_task(loop, (struct weir_task_options){.goal_ns = 3600 * WEIR_S});
    struct weir_task *hard = gates_task(loop, (struct weir_task_options){.goal_ns = 1});
    cycle_begin(loop, offload, NULL); /* of no task: nobody's goal */
    turn_for(loop, 30 * WEIR_MS);
    expect_equal(gates_state(loop, offload).lowered, 0);
    cycle_end(loop);
    cycle_begin(loop, offload, easy);
    turn_for(loop, 30 * WEIR_MS);
    expect_equal(gates_state(loop, offload).lowered, 0);
    cycle_end(loop);
    cycle_begin(loop, offload, hard);
    turn_until_depth(loop, offload, 1);
    expect_equal(gates_state(loop, offload).reason, WEIR_DEPTH_TASK_GOAL);
    expect(gates_state(loop, offload).task == hard);
    cycle_end(loop);
    expect_equal(weir_task_close(easy), 0);
    expect_equal(gates_state(loop, offload).depth, 1);
    expect_equal(weir_task_close(hard), 0);
    struct weir_gate_state state = gates_state(loop, offload);
    expect_equal(state.depth, DEPTH);
    expect_equal(state.reason, WEIR_DEPTH_AS_OPENED);
    expect(state.task == NULL);
    cycle_begin(loop, offload, NULL);
    turn_for(loop, 30 * WEIR_MS);
    expect_equal(gates_state(loop, offload).depth, DEPTH);
    cycle_end(loop);
    seam_end(loop);
}

SEAM_TEST(the_goal_of_a_task_is_judged_by_its_own_ops_and_ends_with_it)
{
    gates_both(steer_by_task);
}

SEAM_TEST(depth_min_is_taken_up_to_the_depth_and_not_past_it)
{
    struct weir_loop *loop = NULL;
    struct weir_options options = {.depth = 8, .depth_min = 8, .goal_ns = 1};
    expect_equal(seam_open(options, &loop), 0);
    seam_end(loop);
    options.depth_min = 9;
    expect_equal(seam_open(options, &loop), -EINVAL);
    options.depth = 0; /* 256 */
    options.depth_min = 256;
    expect_equal(seam_open(options, &loop), 0);
    seam_end(loop);
    options.depth_min = 257;
    expect_equal(seam_open(options, &loop), -EINVAL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_goal_that_is_always_missed_lowers_the_depth_to_its_least_and_says_so),
    cmocka_unit_test(a_goal_that_is_always_met_leaves_the_depth_as_it_was_opened),
    cmocka_unit_test(ops_that_wait_for_their_peers_say_nothing_to_a_goal),
    cmocka_unit_test(armed_ops_do_not_fill_a_depth_that_a_goal_has_lowered),
    cmocka_unit_test(an_op_that_never_comes_back_does_not_stop_the_others),
    cmocka_unit_test(cancelled_ops_say_nothing_to_a_goal),
    cmocka_unit_test(a_reserve_passes_a_depth_that_a_goal_has_lowered),
    cmocka_unit_test(the_goal_of_a_task_is_judged_by_its_own_ops_and_ends_with_it),
    cmocka_unit_test(depth_min_is_taken_up_to_the_depth_and_not_past_it),
};

const struct seam_group goals_group = SEAM_GROUP("goals", tests);
