/* SPDX-License-Identifier: MIT */
/* engine/loop/steer.c: the depth that follows a goal, fed with flights that nobody made. */
#include "gate_world.h"

#define GOAL_NS 1000u
#define NEAR_NS (GOAL_NS - GOAL_NS / 8) /* the most that is clearly met */
#define WINDOW_NS 10000000u

static struct gate_world world;
static uint64_t now_ns;
static struct weir_goal *of_loop;

static void open_world(uint32_t depth, uint32_t depth_min)
{
    gate_world_open(&world, depth, 64);
    struct weir_steer *steer = &world.gate.steer;
    steer->depth_min = depth_min;
    steer->of_loop.flight_ns = GOAL_NS;
    of_loop = &steer->of_loop;
    weir_steer_set(steer, of_loop);
    now_ns = 1000000;
}

static int close_world(void **state)
{
    (void)state;
    gate_world_close(&world);
    return 0;
}

/* `count` ops that have left since the last change come back, each in flight that long. */
static void fly(struct weir_goal *goal, unsigned count, uint64_t flight_ns)
{
    for (unsigned i = 0; i < count; i++) {
        weir_steer_add(&world.gate.steer, goal, now_ns - flight_ns, flight_ns);
    }
}

/* All of the depth was in use. */
static void judge_at(uint64_t at_ns)
{
    world.gate.steer.peak = world.gate.depth;
    weir_steer_judge(&world.gate, at_ns);
}

/* A window of them: 200 ops, that many of them late. */
static void pass_window(struct weir_goal *goal, unsigned late, unsigned near)
{
    now_ns += GOAL_NS + 1; /* so that they have left after the last change */
    fly(goal, late, GOAL_NS + 1);
    fly(goal, near, NEAR_NS + 1);
    fly(goal, 200 - late - near, NEAR_NS);
    now_ns += WINDOW_NS;
    judge_at(now_ns);
}

/* Somebody waits, and the depth is in use. */
static void hold_back(struct weir_op *waiting, bool holds)
{
    if (holds) {
        weir_op_nop(waiting);
        gate_world_enter(&world, waiting);
        world.gate.steered += world.gate.depth; /* in flight */
        weir_steer_look(&world.gate, now_ns);
        world.gate.steered -= world.gate.depth;
        gate_world_cancel(&world, waiting);
        gate_world_hand_back(&world, waiting);
    }
    weir_steer_look(&world.gate, now_ns);
}

static void a_goal_missed_lowers_the_depth_by_an_eighth_and_missed_by_far_to_its_half(void **state)
{
    (void)state;
    open_world(64, 1);
    pass_window(of_loop, 2, 0); /* 1 in 100 */
    assert_int_equal(world.gate.depth, 64);
    pass_window(of_loop, 3, 0);
    assert_int_equal(world.gate.depth, 56);
    pass_window(of_loop, 20, 0); /* 1 in 10 */
    assert_int_equal(world.gate.depth, 49);
    pass_window(of_loop, 21, 0);
    assert_int_equal(world.gate.depth, 25);
    assert_int_equal(world.gate.steer.lowered, 3);
    assert_int_equal(world.gate.steer.reason, WEIR_DEPTH_LOOP_GOAL);
    assert_null(world.gate.steer.task);
}

static void the_depth_never_goes_under_depth_min_nor_above_what_it_was_opened_with(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(40, 3);
    for (unsigned i = 0; i < 20; i++) {
        pass_window(of_loop, i % 2 ? 200 : 10, 0);
        assert_in_range(world.gate.depth, 3, 40);
    }
    assert_int_equal(world.gate.depth, 3);
    uint64_t lowered = world.gate.steer.lowered;
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.steer.lowered, lowered); /* it was not */
    for (unsigned i = 0; i < 100; i++) {
        hold_back(&waiting, true);
        pass_window(of_loop, 0, 0);
        assert_in_range(world.gate.depth, 3, 40);
    }
    assert_int_equal(world.gate.depth, 40);
    assert_int_equal(world.gate.steer.reason, WEIR_DEPTH_AS_OPENED);
    uint64_t raised = world.gate.steer.raised;
    hold_back(&waiting, true);
    pass_window(of_loop, 0, 0);
    assert_int_equal(world.gate.steer.raised, raised);
}

static void a_goal_clearly_met_raises_it_by_a_sixteenth_if_ops_waited_for_it(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.depth, 32);
    pass_window(of_loop, 0, 0);
    assert_int_equal(world.gate.depth, 32); /* nobody waited */
    hold_back(&waiting, true);
    pass_window(of_loop, 0, 2);
    assert_int_equal(world.gate.depth, 34);
    hold_back(&waiting, true);
    pass_window(of_loop, 0, 0);
    assert_int_equal(world.gate.depth, 36);
    assert_int_equal(world.gate.steer.raised, 2);
    pass_window(of_loop, 0, 0);
    assert_int_equal(world.gate.depth, 36); /* who waited before the last change says nothing */
}

static void between_seven_eighths_and_the_goal_the_depth_stays(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    pass_window(of_loop, 200, 0);
    for (unsigned i = 0; i < 10; i++) {
        hold_back(&waiting, true);
        pass_window(of_loop, i % 3, 3 + i * 19);
        assert_int_equal(world.gate.depth, 32);
    }
    hold_back(&waiting, true);
    pass_window(of_loop, 0, 2);
    assert_int_equal(world.gate.depth, 34);
}

static void who_waited_before_the_depth_went_down_does_not_raise_it(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    pass_window(of_loop, 200, 0);
    hold_back(&waiting, true);
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.depth, 16);
    pass_window(of_loop, 0, 0);
    assert_int_equal(world.gate.depth, 16);
}

static void ops_that_left_before_the_last_change_say_nothing(void **state)
{
    (void)state;
    open_world(64, 1);
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.depth, 32);
    uint64_t changed_ns = now_ns;
    now_ns += 2 * WINDOW_NS;
    for (unsigned i = 0; i < 1000; i++) {
        weir_steer_add(&world.gate.steer, of_loop, changed_ns - 1, now_ns - changed_ns + 1);
    }
    now_ns += 2 * WINDOW_NS;
    judge_at(now_ns);
    assert_int_equal(world.gate.depth, 32);
    assert_int_equal(of_loop->samples, 0);
    weir_steer_add(&world.gate.steer, of_loop, changed_ns, now_ns - changed_ns);
    assert_int_equal(of_loop->samples, 1);
}

static void one_late_op_says_nothing_nor_does_a_depth_that_nobody_used(void **state)
{
    (void)state;
    open_world(64, 1);
    now_ns += 2 * GOAL_NS;
    fly(of_loop, 1, 2 * GOAL_NS);
    judge_at(now_ns + 1000000000);
    assert_int_equal(world.gate.depth, 64);
    now_ns += 2000000000;
    fly(of_loop, 200, 2 * GOAL_NS);
    world.gate.steer.peak = 1;
    weir_steer_judge(&world.gate, now_ns + WINDOW_NS);
    assert_int_equal(world.gate.depth, 64); /* one at a time: no depth is lower */
    now_ns += 2 * GOAL_NS + WINDOW_NS;
    fly(of_loop, 200, 2 * GOAL_NS);
    world.gate.steer.peak = 10;
    weir_steer_judge(&world.gate, now_ns + WINDOW_NS);
    assert_int_equal(world.gate.depth, 5); /* half of what was used */
}

static void a_second_without_an_op_is_met_unless_one_is_out(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    pass_window(of_loop, 200, 0);
    hold_back(&waiting, true);
    of_loop->out = 1;
    judge_at(now_ns + 2000000000);
    assert_int_equal(world.gate.depth, 32);
    of_loop->out = 0;
    judge_at(now_ns + 2000000000);
    assert_int_equal(world.gate.depth, 34);
}

static void while_nothing_comes_back_and_ops_wait_one_more_goes_each_second(void **state)
{
    (void)state;
    struct weir_op op = {0};
    open_world(8, 1);
    pass_window(of_loop, 200, 0);
    pass_window(of_loop, 200, 0);
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.depth, 1);
    weir_op_nop(&op);
    gate_world_enter(&world, &op);
    of_loop->out = 1;
    world.gate.steered += 1; /* it is out, and stays */
    uint64_t changed_ns = world.gate.steer.changed_ns;
    weir_steer_look(&world.gate, now_ns);
    assert_int_equal(weir_steer_due(&world.gate), now_ns + 1000000000);
    weir_steer_judge(&world.gate, now_ns + 999999999);
    assert_int_equal(world.gate.depth, 1);
    weir_steer_judge(&world.gate, now_ns += 1000000000);
    assert_int_equal(world.gate.depth, 2);
    assert_int_equal(world.gate.steer.changed_ns, changed_ns); /* when it comes it is heard */
    weir_steer_judge(&world.gate, now_ns + 999999999);
    assert_int_equal(world.gate.depth, 2);
    world.gate.steered -= 1;
    of_loop->out = 0;
    assert_ptr_equal(gate_world_admit(&world), &op);
    gate_world_hand_back(&world, &op);
}

static void a_window_is_10_ms_and_128_ops_or_one_second(void **state)
{
    (void)state;
    open_world(64, 1);
    now_ns += 2 * GOAL_NS;
    fly(of_loop, 127, 2 * GOAL_NS);
    judge_at(now_ns + WINDOW_NS);
    assert_int_equal(world.gate.depth, 64); /* too few */
    fly(of_loop, 1, 2 * GOAL_NS);
    judge_at(now_ns + WINDOW_NS - 1);
    assert_int_equal(world.gate.depth, 64); /* too early */
    judge_at(now_ns + WINDOW_NS);
    assert_int_equal(world.gate.depth, 32);
    now_ns += 10 * WINDOW_NS;
    fly(of_loop, 2, 2 * GOAL_NS);
    judge_at(now_ns + 999999999);
    assert_int_equal(world.gate.depth, 32);
    judge_at(now_ns + 1000000000);
    assert_int_equal(world.gate.depth, 16); /* few, but all there were */
}

/* --- several ---------------------------------------------------------------------------------- */

static struct weir_task *open_task(void)
{
    return gate_world_task(&world, (struct weir_flow){.goal.flight_ns = GOAL_NS});
}

static struct weir_goal *goal_of(struct weir_task *task)
{
    return &weir_gate_flow(&world.gate, task)->goal;
}

static void one_goal_missed_is_enough_to_lower_and_all_must_be_met_to_raise(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    struct weir_task *task = open_task();
    now_ns += 2 * GOAL_NS;
    fly(of_loop, 200, 1);
    pass_window(goal_of(task), 3, 0);
    assert_int_equal(world.gate.depth, 56);
    assert_int_equal(world.gate.steer.reason, WEIR_DEPTH_TASK_GOAL);
    assert_ptr_equal(world.gate.steer.task, task);
    hold_back(&waiting, true);
    now_ns += 2 * GOAL_NS;
    fly(of_loop, 200, GOAL_NS); /* only just met */
    pass_window(goal_of(task), 0, 0);
    assert_int_equal(world.gate.depth, 56);
    hold_back(&waiting, true);
    now_ns += 2 * GOAL_NS;
    fly(of_loop, 200, 1);
    pass_window(goal_of(task), 0, 0);
    assert_int_equal(world.gate.depth, 59);
    gate_world_end_task(&world, task);
}

static void a_task_that_ends_leaves_the_depth_to_the_goals_that_stay(void **state)
{
    (void)state;
    open_world(64, 1);
    struct weir_task *task = open_task();
    struct weir_task *other = open_task();
    pass_window(goal_of(task), 200, 0);
    assert_int_equal(world.gate.depth, 32);
    gate_world_end_task(&world, other); /* another's end changes nothing */
    assert_int_equal(world.gate.depth, 32);
    assert_ptr_equal(world.gate.steer.task, task);
    gate_world_end_task(&world, task);
    assert_int_equal(world.gate.depth, 32);
    assert_int_equal(world.gate.steer.reason, WEIR_DEPTH_LOOP_GOAL);
    assert_null(world.gate.steer.task);
    pass_window(of_loop, 200, 0); /* the loop's is still there */
    assert_int_equal(world.gate.depth, 16);
    weir_steer_unset(&world.gate, of_loop);
    assert_int_equal(world.gate.depth, 64);
    pass_window(of_loop, 200, 0);
    assert_int_equal(world.gate.depth, 64);
}

/* Else one that was idle would keep the depth down for all, for ever. */
static void a_goal_whose_ops_have_ceased_to_come_lets_the_depth_rise(void **state)
{
    (void)state;
    struct weir_op waiting = {0};
    open_world(64, 1);
    weir_steer_unset(&world.gate, of_loop);
    struct weir_task *task = open_task();
    pass_window(goal_of(task), 200, 0);
    assert_int_equal(world.gate.depth, 32);
    for (unsigned i = 0; i < 99; i++) {
        hold_back(&waiting, true);
        now_ns += WINDOW_NS;
        judge_at(now_ns);
        assert_int_equal(world.gate.depth, 32);
    }
    hold_back(&waiting, true);
    now_ns += WINDOW_NS;
    judge_at(now_ns);
    assert_int_equal(world.gate.depth, 34);
    gate_world_end_task(&world, task);
}

/* --- time ------------------------------------------------------------------------------------- */

static void throttled_is_the_time_that_ops_waited_for_a_lowered_depth(void **state)
{
    (void)state;
    struct weir_op op = {0};
    open_world(8, 1);
    weir_op_nop(&op);
    gate_world_enter(&world, &op);
    world.gate.steered += 8;
    weir_steer_look(&world.gate, now_ns);
    weir_steer_look(&world.gate, now_ns += 100);
    assert_int_equal(world.gate.steer.throttled_ns, 0); /* the depth is as opened */
    world.gate.steered -= 8;
    pass_window(of_loop, 200, 0);
    world.gate.steered += 4;
    weir_steer_look(&world.gate, now_ns);
    weir_steer_look(&world.gate, now_ns += 100);
    weir_steer_look(&world.gate, now_ns += 50);
    assert_int_equal(world.gate.steer.throttled_ns, 150);
    world.gate.steered -= 1; /* a credit is free */
    weir_steer_look(&world.gate, now_ns += 7);
    weir_steer_look(&world.gate, now_ns += 1000);
    assert_int_equal(world.gate.steer.throttled_ns, 157);
    world.gate.steered += 1;
    weir_steer_look(&world.gate, now_ns);
    weir_steer_unset(&world.gate, of_loop); /* nobody looks from here on */
    weir_steer_set(&world.gate.steer, of_loop);
    weir_steer_look(&world.gate, now_ns += 5000);
    assert_int_equal(world.gate.steer.throttled_ns, 157);
    world.gate.steered -= 4;
    assert_ptr_equal(gate_world_admit(&world), &op);
    gate_world_hand_back(&world, &op);
}

int main(void)
{
#define STEER_TEST(name) cmocka_unit_test_teardown(name, close_world)
    const struct CMUnitTest tests[] = {
        STEER_TEST(a_goal_missed_lowers_the_depth_by_an_eighth_and_missed_by_far_to_its_half),
        STEER_TEST(the_depth_never_goes_under_depth_min_nor_above_what_it_was_opened_with),
        STEER_TEST(a_goal_clearly_met_raises_it_by_a_sixteenth_if_ops_waited_for_it),
        STEER_TEST(between_seven_eighths_and_the_goal_the_depth_stays),
        STEER_TEST(who_waited_before_the_depth_went_down_does_not_raise_it),
        STEER_TEST(ops_that_left_before_the_last_change_say_nothing),
        STEER_TEST(one_late_op_says_nothing_nor_does_a_depth_that_nobody_used),
        STEER_TEST(a_second_without_an_op_is_met_unless_one_is_out),
        STEER_TEST(while_nothing_comes_back_and_ops_wait_one_more_goes_each_second),
        STEER_TEST(a_window_is_10_ms_and_128_ops_or_one_second),
        STEER_TEST(one_goal_missed_is_enough_to_lower_and_all_must_be_met_to_raise),
        STEER_TEST(a_task_that_ends_leaves_the_depth_to_the_goals_that_stay),
        STEER_TEST(a_goal_whose_ops_have_ceased_to_come_lets_the_depth_rise),
        STEER_TEST(throttled_is_the_time_that_ops_waited_for_a_lowered_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
