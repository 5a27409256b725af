/* SPDX-License-Identifier: MIT */
/* room.c: rule 26: who waits for room is told in order, as often as there is room, and at close. */
#include "seam.h"

#define WAITERS 40

static struct {
    struct weir_room room;
    unsigned calls;
    int result;
    unsigned order;
    void (*then)(struct weir_room *room, int result);
} waiters[WAITERS];

static unsigned called;

static void room_called(struct weir_room *room, int result)
{
    size_t i = (size_t)(uintptr_t)room->user;
    waiters[i].calls++;
    waiters[i].result = result;
    waiters[i].order = ++called;
    if (waiters[i].then != NULL) {
        waiters[i].then(room, result);
    }
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

static void wait_for(struct weir_loop *loop, size_t i, const struct tracked *op)
{
    expect_equal(weir_wait_room(loop, &waiters[i].room, &op->op), 0);
    expect_equal(waiters[i].calls, 0);
}

static void fill(struct weir_loop *loop, struct tracked *ops, int count, int fd)
{
    for (int i = 0; i < count; i++) {
        seam_read_byte(loop, &ops[i], fd);
    }
    seam_turns(loop, 2);
}

/* Turns until `want` waiters were called in all, and some turns more. */
static void turn_until_called(struct weir_loop *loop, unsigned want)
{
    while (called < want) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_turns(loop, 5);
    expect_equal(called, want);
}

static struct weir_loop *room_loop;
static int room_fd;
static struct tracked taken[WAITERS];

/* Takes the place that was announced. */
static void take_place(struct weir_room *room, int result)
{
    if (result == 0) {
        seam_read_byte(room_loop, &taken[(uintptr_t)room->user], room_fd);
    }
}

SEAM_TEST(waiters_are_called_in_order_and_only_as_many_as_there_is_room)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    struct tracked more = {.op.callback = seam_called};
    waiters_reset();
    memset(taken, 0, sizeof taken);
    room_loop = loop;
    room_fd = pipe.in;
    fill(loop, ops, 4, pipe.in);
    weir_op_nop(&more.op);
    seam_refused(loop, &more, -EAGAIN);
    for (size_t i = 0; i < 6; i++) {
        waiters[i].then = take_place;
        wait_for(loop, i, &more);
    }
    expect_equal(seam_turns(loop, 5), 0);
    expect_equal(called, 0);
    for (unsigned i = 1; i <= 6; i++) {
        seam_write(pipe.out, "a", 1);
        turn_until_called(loop, i);
        expect_equal(waiters[i - 1].order, i);
        expect_equal(waiters[i - 1].result, 0);
    }
    seam_write(pipe.out, "bcde", 4);
    expect_equal(seam_run(loop), 0);
    for (size_t i = 0; i < 6; i++) {
        expect_equal(waiters[i].calls, 1);
        expect_equal(taken[i].calls, 1);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_waiter_can_be_withdrawn)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[2] = {0};
    waiters_reset();
    fill(loop, ops, 2, pipe.in);
    expect_equal(weir_withdraw_room(loop, &waiters[0].room), -ENOENT);
    for (size_t i = 0; i < 3; i++) {
        wait_for(loop, i, &ops[0]);
    }
    expect_equal(weir_wait_room(loop, &waiters[1].room, &ops[0].op), -EBUSY);
    expect_equal(weir_withdraw_room(loop, &waiters[0].room), 0);
    expect_equal(weir_withdraw_room(loop, &waiters[0].room), -ENOENT);
    expect_equal(weir_withdraw_room(loop, &waiters[1].room), 0);
    seam_write(pipe.out, "ab", 2);
    turn_until_called(loop, 1);
    expect_equal(waiters[0].calls, 0);
    expect_equal(waiters[1].calls, 0);
    expect_equal(waiters[2].calls, 1);
    wait_for(loop, 0, &ops[0]); /* the node is the caller's again */
    turn_until_called(loop, 2);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void withdraw_next(struct weir_room *room, int result)
{
    expect_equal(result, 0);
    expect_equal(weir_withdraw_room(room_loop, &waiters[(uintptr_t)room->user + 1].room), 0);
}

SEAM_TEST(a_waiter_can_be_withdrawn_in_anothers_callback)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    waiters_reset();
    room_loop = loop;
    fill(loop, ops, 4, pipe.in);
    for (size_t i = 0; i < 3; i++) {
        wait_for(loop, i, &ops[0]);
    }
    waiters[0].then = withdraw_next;
    seam_write(pipe.out, "abcd", 4);
    turn_until_called(loop, 2);
    expect_equal(waiters[0].calls, 1);
    expect_equal(waiters[1].calls, 0);
    expect_equal(waiters[2].calls, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void wait_again(struct weir_room *room, int result)
{
    struct tracked nop = {0};
    weir_op_nop(&nop.op);
    if (result == 0 && waiters[(uintptr_t)room->user].calls < 10) {
        expect_equal(weir_wait_room(room_loop, room, &nop.op), 0);
    }
}

SEAM_TEST(a_waiter_may_wait_again_in_its_callback)
{
    struct weir_loop *loop = seam_loop();
    struct tracked nop = {0};
    waiters_reset();
    room_loop = loop;
    waiters[0].then = wait_again;
    weir_op_nop(&nop.op);
    wait_for(loop, 0, &nop);
    turn_until_called(loop, 10); /* not ten times in one turn without end, and never lost */
    seam_end(loop);
}

SEAM_TEST(a_waiter_that_waits_again_is_called_once_a_turn)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 64});
    struct tracked nop = {0};
    waiters_reset();
    room_loop = loop;
    weir_op_nop(&nop.op);
    for (size_t i = 0; i < 2; i++) {
        waiters[i].then = wait_again;
        wait_for(loop, i, &nop);
    }
    for (unsigned turn = 1; turn <= 10; turn++) {
        while (waiters[1].calls < turn) {
            unsigned before = waiters[0].calls + waiters[1].calls;
            expect(seam_turn(loop, -1) >= 0);
            expect(waiters[0].calls + waiters[1].calls <= before + 2);
        }
        expect_equal(waiters[0].calls, turn);
        expect_equal(waiters[1].calls, turn);
    }
    seam_end(loop);
}

SEAM_TEST(a_waiter_is_called_when_there_is_room_already)
{
    struct weir_loop *loop = seam_loop();
    struct tracked nop = {0};
    waiters_reset();
    weir_op_nop(&nop.op);
    wait_for(loop, 0, &nop);
    turn_until_called(loop, 1);
    expect_equal(waiters[0].result, 0);
    seam_end(loop);
}

SEAM_TEST(waiters_are_called_though_idle_ops_hold_most_places)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 64});
    struct seam_pair idle = seam_pipe(0);
    struct seam_pair busy = seam_pipe(0);
    struct tracked idlers[63] = {0};
    struct tracked cycling = {0};
    waiters_reset();
    fill(loop, idlers, 63, idle.in); /* the low mark of eight free places is never reached */
    for (unsigned i = 0; i < 20; i++) {
        seam_read_byte(loop, &cycling, busy.in);
        seam_turns(loop, 2);
        wait_for(loop, i, &cycling);
        seam_write(busy.out, "a", 1);
        turn_until_called(loop, i + 1);
        expect_equal(cycling.calls, i + 1);
    }
    seam_end(loop);
    seam_pair_close(&idle);
    seam_pair_close(&busy);
}

SEAM_TEST(a_waiter_behind_waiting_ops_is_called_when_one_more_fits)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 2, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    struct tracked more = {.op.callback = seam_called};
    waiters_reset();
    memset(taken, 0, sizeof taken);
    room_loop = loop;
    room_fd = pipe.in;
    fill(loop, ops, 4, pipe.in);
    weir_op_nop(&more.op);
    seam_refused(loop, &more, -EAGAIN);
    waiters[0].then = take_place;
    wait_for(loop, 0, &more);
    seam_write(pipe.out, "a", 1);
    turn_until_called(loop, 1);
    seam_refused(loop, &more, -EAGAIN);
    seam_write(pipe.out, "bcde", 4);
    expect_equal(seam_run(loop), 0);
    expect_equal(taken[0].result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(close_calls_each_waiter_once_with_ESHUTDOWN)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    waiters_reset();
    fill(loop, ops, 4, pipe.in);
    for (size_t i = 0; i < WAITERS; i++) {
        wait_for(loop, i, &ops[0]);
    }
    expect_equal(weir_withdraw_room(loop, &waiters[7].room), 0);
    seam_end(loop);
    for (size_t i = 0; i < WAITERS; i++) {
        expect_equal(waiters[i].calls, i == 7 ? 0 : 1);
        expect_equal(waiters[i].result, i == 7 ? 0 : -ESHUTDOWN);
        expect(i < 1 || i == 7 || i == 8 || waiters[i - 1].order < waiters[i].order);
    }
    seam_pair_close(&pipe);
}

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    expect_equal(result, 0);
}

static void begin_to_close(struct weir_room *room, int result)
{
    (void)room;
    expect_equal(result, 0);
    expect_equal(weir_loop_close_begin(room_loop, 20 * WEIR_S, closed), 0);
}

SEAM_TEST(a_close_begun_by_a_waiter_tells_those_behind_it_ESHUTDOWN)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 64});
    struct tracked nop = {0};
    waiters_reset();
    room_loop = loop;
    waiters[0].then = begin_to_close;
    weir_op_nop(&nop.op);
    for (size_t i = 0; i < 4; i++) {
        wait_for(loop, i, &nop);
    }
    while (called < 4) {
        expect(seam_turn(loop, -1) >= 0);
    }
    for (size_t i = 0; i < 4; i++) {
        expect_equal(waiters[i].calls, 1);
        expect_equal(waiters[i].order, i + 1);
        expect_equal(waiters[i].result, i == 0 ? 0 : -ESHUTDOWN);
    }
    seam_end(loop);
}

SEAM_TEST(waiting_for_room_is_refused_as_the_header_says)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    struct weir_room none = {0};
    waiters_reset();
    weir_op_timeout(&op.op, 1);
    expect_equal(weir_wait_room(loop, &waiters[0].room, &op.op), -EINVAL);
    weir_op_nop(&op.op);
    expect_equal(weir_wait_room(loop, &none, &op.op), -EINVAL);
    expect_equal(weir_wait_room(loop, NULL, &op.op), -EINVAL);
    expect_equal(weir_wait_room(NULL, &waiters[0].room, &op.op), -EINVAL);
    expect_equal(weir_withdraw_room(loop, NULL), -EINVAL);
    expect_equal(weir_withdraw_room(NULL, &waiters[0].room), -EINVAL);
    expect_equal(weir_loop_close_begin(loop, WEIR_S, closed), 0);
    expect_equal(weir_wait_room(loop, &waiters[0].room, &op.op), -ESHUTDOWN);
    seam_end(loop);
    expect_equal(called, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(waiters_are_called_in_order_and_only_as_many_as_there_is_room),
    cmocka_unit_test(a_waiter_can_be_withdrawn),
    cmocka_unit_test(a_waiter_can_be_withdrawn_in_anothers_callback),
    cmocka_unit_test(a_waiter_may_wait_again_in_its_callback),
    cmocka_unit_test(a_waiter_that_waits_again_is_called_once_a_turn),
    cmocka_unit_test(a_waiter_is_called_when_there_is_room_already),
    cmocka_unit_test(waiters_are_called_though_idle_ops_hold_most_places),
    cmocka_unit_test(a_waiter_behind_waiting_ops_is_called_when_one_more_fits),
    cmocka_unit_test(close_calls_each_waiter_once_with_ESHUTDOWN),
    cmocka_unit_test(a_close_begun_by_a_waiter_tells_those_behind_it_ESHUTDOWN),
    cmocka_unit_test(waiting_for_room_is_refused_as_the_header_says),
};

const struct seam_group room_group = SEAM_GROUP("room", tests);
