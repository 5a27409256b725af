/* SPDX-License-Identifier: MIT */
/* task_limits.c: what a task may be opened with, and who of those that wait for room is told, where
 * they name tasks and answers. */
#include "gates.h"

#define WAITERS 8

/* --- options ---------------------------------------------------------------------------------- */

static int try_task(struct weir_loop *loop, struct weir_task_options options)
{
    struct weir_task *task = NULL;
    options.name = "task";
    int r = weir_task_open(loop, &options, &task);
    expect((r == 0) == (task != NULL));
    expect_equal(weir_task_close(task), 0);
    return r;
}

SEAM_TEST(shares_caps_and_reserves_are_taken_up_to_their_limits_and_not_past_them)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 8, .offload_workers = 1, .offload_depth = 4});
    static const struct {
        struct weir_task_options options;
        int want;
    } cases[] = {
        {{.share = WEIR_SHARE_MAX}, 0},
        {{.share = WEIR_SHARE_MAX + 1}, -EINVAL},
        {{.share = UINT32_MAX}, -EINVAL},
        {{.depth = UINT32_MAX, .offload_depth = UINT32_MAX, .bytes_max = UINT64_MAX}, 0},
        {{.reserve = 7}, 0},
        {{.reserve = 8}, -EINVAL},
        {{.reserve = UINT32_MAX}, -EINVAL},
        {{.reserve = 3, .depth = 3}, 0},
        {{.reserve = 3, .depth = 2}, -EINVAL},
        {{.offload_reserve = 3}, 0},
        {{.offload_reserve = 4}, -EINVAL},
        {{.offload_reserve = 2, .offload_depth = 1}, -EINVAL},
        {{.reserve = 7, .offload_reserve = 4}, -EINVAL},
        {{.goal_ns = UINT64_MAX}, 0},
    };
    for (size_t i = 0; i < SEAM_COUNT(cases); i++) {
        expect_equal(try_task(loop, cases[i].options), cases[i].want);
        expect_equal(gates_state(loop, false).reserved, 0); /* free again, and nothing half done */
        expect_equal(gates_state(loop, true).reserved, 0);
    }
    struct weir_task *task = gates_task(loop, (struct weir_task_options){.reserve = 5});
    expect_equal(try_task(loop, (struct weir_task_options){.reserve = 3}), -EINVAL);
    expect_equal(try_task(loop, (struct weir_task_options){.reserve = 2}), 0);
    expect_equal(weir_task_close(task), 0);
    expect_equal(try_task(loop, (struct weir_task_options){.reserve = 7}), 0);
    seam_end(loop);
}

SEAM_TEST(a_loop_without_workers_takes_no_limits_for_them)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = WEIR_NO_OFFLOAD});
    expect_equal(try_task(loop, (struct weir_task_options){.offload_depth = 1}), -EINVAL);
    expect_equal(try_task(loop, (struct weir_task_options){.offload_reserve = 1}), -EINVAL);
    struct weir_task *task = gates_task(
        loop, (struct weir_task_options){.share = 2, .depth = 1, .reserve = 1, .goal_ns = WEIR_S});
    struct guest nop;
    guest_pass(loop, &nop, false, task);
    seam_await(loop, guest_op(&nop));
    expect_equal(weir_task_close(task), 0);
    seam_end(loop);
}

/* --- room ------------------------------------------------------------------------------------- */

static struct {
    struct weir_room room;
    unsigned order; /* among all, from 1; 0: not called */
    int result;
} waiters[WAITERS];
static unsigned called;

static void room_called(struct weir_room *room, int result)
{
    size_t i = (size_t)(uintptr_t)room->user;
    expect_equal(waiters[i].order, 0);
    waiters[i].order = ++called;
    waiters[i].result = result;
}

static void waiters_reset(void)
{
    memset(waiters, 0, sizeof waiters);
    called = 0;
    for (size_t i = 0; i < WAITERS; i++) {
        waiters[i].room.callback = room_called;
        waiters[i].room.user = (void *)(uintptr_t)i;
    }
}

static void wait_as(struct weir_loop *loop, size_t i, bool offload, struct weir_task *task,
                    uint16_t flags)
{
    struct guest like;
    guest_fill(&like, offload, false, task);
    guest_op(&like)->op.flags = flags;
    expect_equal(weir_wait_room(loop, &waiters[i].room, &guest_op(&like)->op), 0);
}

static void await_called(struct weir_loop *loop, unsigned want)
{
    while (called < want) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_turns(loop, 4);
    expect_equal(called, want);
}

static void take_turns(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 8, 0));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest guests[8];
    waiters_reset();
    for (int i = 0; i < 8; i++) {
        guest_stay(loop, &guests[i], offload, NULL);
    }
    for (size_t i = 0; i < 6; i++) {
        wait_as(loop, i, offload, i < 3 ? task : NULL, 0);
    }
    seam_turns(loop, 3);
    expect_equal(called, 0);
    for (int i = 0; i < 8; i++) {
        guest_leave(loop, &guests[i]);
    }
    await_called(loop, 6);
    for (size_t i = 0; i < 3; i++) { /* the tasks in turns, each in order */
        expect_equal(waiters[i].order, 2 * i + 1);
        expect_equal(waiters[3 + i].order, 2 * i + 2);
    }
    seam_end(loop);
}

SEAM_TEST(those_who_wait_for_room_are_told_task_by_task_in_turns)
{
    gates_both(take_turns);
}

static void wait_for_a_credit(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 4));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest guest;
    waiters_reset();
    guest_stay(loop, &guest, offload, NULL);
    wait_as(loop, 0, offload, task, WEIR_OR_REFUSE); /* it would have to wait */
    wait_as(loop, 1, offload, NULL, 0);              /* there is a place */
    await_called(loop, 1);
    expect_equal(waiters[1].order, 1);
    guest_leave(loop, &guest);
    await_called(loop, 2);
    expect_equal(waiters[0].result, 0);
    seam_end(loop);
}

SEAM_TEST(one_that_refuses_to_wait_is_told_when_there_is_a_credit)
{
    gates_both(wait_for_a_credit);
}

SEAM_TEST(no_op_at_all_stands_for_the_main_gate_and_the_loops_own_answer)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.flags = WEIR_REFUSES, .depth = 1, .waiting_max = 4});
    struct guest guest;
    waiters_reset();
    guest_stay(loop, &guest, false, NULL);
    expect_equal(weir_wait_room(loop, &waiters[0].room, NULL), 0);
    wait_as(loop, 1, false, gates_task(loop, (struct weir_task_options){0}), WEIR_OR_WAIT);
    await_called(loop, 1);
    expect_equal(waiters[1].order, 1);
    guest_leave(loop, &guest);
    await_called(loop, 2);
    expect_equal(waiters[0].result, 0);
    seam_end(loop);
}

static struct weir_task_options reserving(bool offload, uint32_t reserve)
{
    struct weir_task_options options = {0};
    *(offload ? &options.offload_reserve : &options.reserve) = reserve;
    return options;
}

static void tell_a_reserve(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 3, 1));
    struct weir_task *task = gates_task(loop, reserving(offload, 1));
    struct guest own;
    struct guest others[3];
    waiters_reset();
    guest_stay(loop, &own, offload, task);
    for (int i = 0; i < 3; i++) {
        guest_stay(loop, &others[i], offload, NULL);
    }
    wait_as(loop, 0, offload, NULL, 0);
    wait_as(loop, 1, offload, task, WEIR_OR_REFUSE);
    wait_as(loop, 2, offload, task, WEIR_OR_REFUSE);
    seam_turns(loop, 3);
    expect_equal(called, 0);
    guest_leave(loop, &own);
    seam_turns(loop, 4);
    expect_equal(waiters[0].order, 0); /* what is reserved is room for nobody else */
    expect_equal(waiters[1].order, 1);
    guest_leave(loop, &others[0]);
    await_called(loop, 3);
    guest_leave(loop, &others[1]);
    guest_leave(loop, &others[2]);
    seam_end(loop);
}

SEAM_TEST(who_waits_for_a_reserve_is_told_though_the_gate_is_full_for_others)
{
    gates_both(tell_a_reserve);
}

SEAM_TEST(no_more_are_told_of_room_than_there_is_beside_what_is_reserved)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 6});
    struct weir_task *task = gates_task(loop, reserving(false, 4));
    struct guest guests[2];
    waiters_reset();
    guest_stay(loop, &guests[0], false, NULL);
    guest_stay(loop, &guests[1], false, NULL);
    for (size_t i = 0; i < 4; i++) {
        wait_as(loop, i, false, NULL, 0);
    }
    seam_turns(loop, 3);
    expect_equal(called, 0);
    guest_leave(loop, &guests[0]); /* one place; those who are told leave it free */
    expect(called <= 1);
    for (unsigned before = called; before < 4; before = called) {
        expect(seam_turn(loop, -1) >= 0);
        expect(called <= before + 1);
    }
    guest_leave(loop, &guests[1]);
    expect_equal(weir_task_close(task), 0);
    seam_end(loop);
}

static void hold_task(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 0));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest guest;
    waiters_reset();
    guest_stay(loop, &guest, offload, NULL);
    wait_as(loop, 0, offload, task, 0);
    wait_as(loop, 1, offload, task, 0);
    expect_equal(weir_task_close(task), -EBUSY);
    expect_equal(weir_withdraw_room(loop, &waiters[0].room), 0);
    expect_equal(weir_task_close(task), -EBUSY);
    guest_leave(loop, &guest);
    await_called(loop, 1);
    expect_equal(waiters[1].order, 1);
    expect_equal(weir_task_close(task), 0);
    seam_end(loop);
}

SEAM_TEST(a_task_that_a_waiter_has_named_cannot_be_closed)
{
    gates_both(hold_task);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(shares_caps_and_reserves_are_taken_up_to_their_limits_and_not_past_them),
    cmocka_unit_test(a_loop_without_workers_takes_no_limits_for_them),
    cmocka_unit_test(those_who_wait_for_room_are_told_task_by_task_in_turns),
    cmocka_unit_test(one_that_refuses_to_wait_is_told_when_there_is_a_credit),
    cmocka_unit_test(no_op_at_all_stands_for_the_main_gate_and_the_loops_own_answer),
    cmocka_unit_test(who_waits_for_a_reserve_is_told_though_the_gate_is_full_for_others),
    cmocka_unit_test(no_more_are_told_of_room_than_there_is_beside_what_is_reserved),
    cmocka_unit_test(a_task_that_a_waiter_has_named_cannot_be_closed),
};

const struct seam_group task_limits_group = SEAM_GROUP("task_limits", tests);
