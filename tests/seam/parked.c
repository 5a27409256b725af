/* SPDX-License-Identifier: MIT */
/*
 * parked.c: receives of route INLINE in a loop that spins, which turns try while they do, and which
 * end, wait and are asked back as all others.
 */
#include "seam.h"
#include <sys/socket.h>
#include <unistd.h>

static struct weir_options spinning(void)
{
    return (struct weir_options){.spin_ns_max = WEIR_S};
}

static void fill_receive(struct tracked *op, int fd)
{
    weir_op_recv(&op->op, fd, op->data, 1, 0);
    op->op.route = WEIR_ROUTE_INLINE;
}

/* Submitted, and tried by a spin that something else has ended. */
static void receive_later(struct weir_loop *loop, struct tracked *op, int fd)
{
    fill_receive(op, fd);
    seam_submit(loop, op);
    expect_equal(weir_loop_wake(loop), 0);
    expect_equal(seam_turn(loop, -1), 0);
    expect_equal(op->calls, 0);
}

static void put(int fd, char byte)
{
    expect_equal(write(fd, &byte, 1), 1);
}

SEAM_TEST(receives_that_are_tried_stay_in_order)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked first = {0}, second = {0};
    fill_receive(&first, sockets.in);
    seam_submit(loop, &first);
    receive_later(loop, &second, sockets.in);
    put(sockets.out, 'a');
    seam_await(loop, &first);
    expect_equal(first.data[0], 'a');
    put(sockets.out, 'b');
    seam_await(loop, &second);
    expect_equal(second.data[0], 'b');
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_that_is_tried_can_be_cancelled_and_is_the_callers_again)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0}, other = {0};
    receive_later(loop, &other, sockets.in);
    receive_later(loop, &op, sockets.in);
    expect_equal(seam_cancel(loop, &other), 0);
    seam_await(loop, &other);
    expect_equal(other.result, -ECANCELED);
    weir_op_nop(&other.op);
    expect_equal(seam_carry_out(loop, &other), 0);
    put(sockets.out, 'a');
    seam_await(loop, &op);
    expect_equal(op.data[0], 'a');
    expect_equal(other.calls, 2);
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_that_is_tried_ends_with_its_deadline_its_fd_and_its_loop)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM), others = seam_socketpair(SOCK_STREAM);
    struct tracked late = {0}, closed = {0}, hang_up = {0}, last = {0};
    fill_receive(&late, sockets.in);
    late.op.deadline_ns = weir_now(loop) + 2 * WEIR_MS;
    expect_equal(seam_carry_out(loop, &late), -ETIME);
    receive_later(loop, &closed, sockets.in);
    weir_op_close(&hang_up.op, sockets.in);
    expect_equal(seam_carry_out(loop, &hang_up), 0);
    expect_equal(closed.result, -ECANCELED);
    receive_later(loop, &last, others.in);
    expect_equal(seam_close(loop, WEIR_S, NULL), 0);
    expect_equal(last.result, -ECANCELED);
    expect_equal(close(sockets.out), 0);
    seam_pair_close(&others);
}

/* With one more no turn spins, and they are the kernel's. */
SEAM_TEST(receives_too_many_to_be_tried_are_received)
{
    enum { MANY = 17 };
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets[MANY];
    struct tracked ops[MANY];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < MANY; i++) {
        sockets[i] = seam_socketpair(SOCK_STREAM);
        receive_later(loop, &ops[i], sockets[i].in);
    }
    for (int i = MANY - 1; i >= 0; i--) {
        put(sockets[i].out, (char)i);
        seam_await(loop, &ops[i]);
        expect_equal(ops[i].data[0], i);
    }
    seam_end(loop);
    for (int i = 0; i < MANY; i++) {
        seam_pair_close(&sockets[i]);
    }
}

SEAM_TEST(a_receive_is_not_left_to_spins_that_are_given_up)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.spin_ns_max = 10 * WEIR_US});
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    for (int i = 0; i < 50; i++) {
        struct tracked op = {0};
        bool is_there = i % 2 == 0;
        for (int j = 0; j < 20; j++) { /* in vain: the next turns do not spin */
            expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
        }
        if (is_there) {
            put(sockets.out, 'x');
        }
        fill_receive(&op, sockets.in);
        seam_submit(loop, &op);
        if (!is_there) {
            expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
            put(sockets.out, 'x');
        }
        seam_await(loop, &op);
        expect_equal(op.result, 1);
        fill_receive(&op, sockets.in); /* and is the kernel's to give back */
        seam_submit(loop, &op);
        expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
        expect_equal(seam_cancel(loop, &op), 0);
        seam_await(loop, &op);
        expect_equal(op.result, -ECANCELED);
    }
    expect(seam_counters(loop).spins < 50 * 20 / 2);
    seam_end(loop);
    seam_pair_close(&sockets);
}

/* Readable, and not what is asked for: after some polls it is tried again when a timer says so. */
SEAM_TEST(a_receive_that_a_timer_tries_again_is_not_slept_through)
{
    if (seam_simulates()) { /* where sockets have no errors to read */
        return;
    }
    struct weir_loop *loop = seam_loop_with((struct weir_options){.spin_ns_max = 10 * WEIR_US});
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    int client = seam_client(&address);
    int fd = accept(listener, NULL, NULL);
    struct tracked op = {0};
    struct iovec part = {.iov_base = op.data, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    put(client, 'x');
    weir_op_recvmsg(&op.op, fd, &message, MSG_ERRQUEUE);
    op.op.route = WEIR_ROUTE_INLINE;
    op.op.deadline_ns = weir_now(loop) + 500 * WEIR_MS;
    expect_equal(seam_carry_out(loop, &op), -ETIME);
    expect(seam_counters(loop).retried > 17); /* at first, 16 polls, and by the timer */
    seam_end(loop);
    close(fd);
    close(client);
    close(listener);
}

SEAM_TEST(a_receive_that_does_not_wait_says_so)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    weir_op_recv(&op.op, sockets.in, op.data, 1, MSG_DONTWAIT);
    op.op.route = WEIR_ROUTE_INLINE;
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.spins_paid, counters.spins); /* and not only when one was over */
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_is_tried_where_others_always_have_something)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0}, busy = {0};
    receive_later(loop, &op, sockets.in);
    put(sockets.out, 'x');
    for (int i = 0; i < 100 && op.calls == 0; i++) {
        weir_op_nop(&busy.op);
        seam_submit(loop, &busy);
        expect(seam_turn(loop, WEIR_S) > 0);
    }
    expect_equal(op.result, 1);
    seam_end(loop);
    seam_pair_close(&sockets);
}

static void receive_again(struct tracked *op)
{
    if (op->calls == 1) {
        fill_receive(op, op->op.fd);
        seam_submit(op->op.loop, op);
    }
}

/* Whoever drives the loop from another one's readiness makes no turn to try it in. */
static void with_the_loops_fd(bool is_first)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {.then = receive_again};
    int epoll = is_first ? seam_foreign(loop) : -1;
    receive_later(loop, &op, sockets.in);
    epoll = is_first ? epoll : seam_foreign(loop);
    for (unsigned i = 1; i <= 2; i++) {
        put(sockets.out, 'x');
        while (op.calls < i) {
            seam_foreign_turn(loop, epoll);
        }
        expect_equal(op.result, 1);
    }
    seam_end(loop);
    seam_foreign_close(epoll);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_makes_the_loops_fd_readable)
{
    with_the_loops_fd(true);
    with_the_loops_fd(false);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(receives_that_are_tried_stay_in_order),
    cmocka_unit_test(a_receive_that_is_tried_can_be_cancelled_and_is_the_callers_again),
    cmocka_unit_test(a_receive_that_is_tried_ends_with_its_deadline_its_fd_and_its_loop),
    cmocka_unit_test(receives_too_many_to_be_tried_are_received),
    cmocka_unit_test(a_receive_is_not_left_to_spins_that_are_given_up),
    cmocka_unit_test(a_receive_that_a_timer_tries_again_is_not_slept_through),
    cmocka_unit_test(a_receive_that_does_not_wait_says_so),
    cmocka_unit_test(a_receive_is_tried_where_others_always_have_something),
    cmocka_unit_test(a_receive_makes_the_loops_fd_readable),
};

const struct seam_group parked_group = SEAM_GROUP("parked", tests);
