/* SPDX-License-Identifier: MIT */
/*
 * nonblock.c: rules 9 and 14: an fd that is non-blocking gives the same results as one that blocks,
 * and neither blocks the loop. Each test runs its body with both.
 */
#include "seam.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static void read_empty_pipe(struct weir_loop *loop, bool blocking)
{
    struct seam_pair pipe = seam_pipe(seam_pipe_flags(blocking));
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &op);
    expect_equal(op.result, 1);
    expect_equal(op.data[0], 'a');
    struct iovec iov = {op.data, 1};
    weir_op_readv(&op.op, pipe.in, &iov, 1, WEIR_CURRENT);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    close(pipe.out);
    pipe.out = -1;
    seam_await(loop, &op);
    expect_equal(op.result, 0);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_read_of_an_empty_pipe_waits_whether_it_blocks_or_not)
{
    seam_with_both(read_empty_pipe);
}

static void write_full_pipe(struct weir_loop *loop, bool blocking)
{
    struct seam_pair pipe = seam_pipe(O_NONBLOCK);
    static char block[65536];
    while (write(pipe.out, block, sizeof block) > 0) {
    }
    expect_equal(errno, EAGAIN);
    expect_equal(fcntl(pipe.out, F_SETFL, seam_pipe_flags(blocking)), 0);
    struct tracked op = {0};
    weir_op_write(&op.op, pipe.out, block, 4096, WEIR_CURRENT);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    seam_read(pipe.in, block, 8192);
    seam_await(loop, &op);
    expect_equal(op.result, 4096);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_write_to_a_full_pipe_waits_whether_it_blocks_or_not)
{
    seam_with_both(write_full_pipe);
}

static void receive_and_send(struct weir_loop *loop, bool blocking)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM | seam_socket_flags(blocking));
    struct tracked op = {0};
    weir_op_recv(&op.op, sockets.in, op.data, sizeof op.data, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    seam_write(sockets.out, "abc", 3);
    seam_await(loop, &op);
    expect_equal(op.result, 3);
    static char block[1 << 20];
    while (send(sockets.in, block, sizeof block, MSG_DONTWAIT) > 0) {
    }
    expect_equal(errno, EAGAIN);
    weir_op_send(&op.op, sockets.in, "x", 1, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 1);
    while (recv(sockets.out, block, sizeof block, MSG_DONTWAIT) > 0 && op.calls == 1) {
        seam_turns(loop, 1);
    }
    seam_await(loop, &op);
    expect_equal(op.result, 1);
    struct iovec iov = {op.data, sizeof op.data};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    weir_op_recvmsg(&op.op, sockets.in, &message, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    seam_write(sockets.out, "de", 2);
    seam_await(loop, &op);
    expect_equal(op.result, 2);
    seam_pair_close(&sockets);
}

SEAM_TEST(recv_and_send_wait_whether_the_socket_blocks_or_not)
{
    seam_with_both(receive_and_send);
}

static void count_and_time(struct weir_loop *loop, bool blocking)
{
    uint64_t value = 0;
    struct tracked op = {0};
    int counter = eventfd(0, EFD_CLOEXEC | (blocking ? 0 : EFD_NONBLOCK));
    weir_op_read(&op.op, counter, &value, sizeof value, WEIR_CURRENT);
    if (seam_simulates()) { /* it has neither, and real ones are not in its world */
        expect_equal(seam_carry_out(loop, &op), -EBADF);
        close(counter);
        return;
    }
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    expect_equal(eventfd_write(counter, 7), 0);
    seam_await(loop, &op);
    expect_equal(op.result, sizeof value);
    expect_equal(value, 7);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | (blocking ? 0 : TFD_NONBLOCK));
    weir_op_read(&op.op, timer, &value, sizeof value, WEIR_CURRENT);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 1);
    struct itimerspec soon = {.it_value.tv_nsec = 1000};
    expect_equal(timerfd_settime(timer, 0, &soon, NULL), 0);
    seam_await(loop, &op);
    expect_equal(op.result, sizeof value);
    expect_equal(value, 1);
    close(counter);
    close(timer);
}

SEAM_TEST(eventfd_and_timerfd_reads_wait_whether_they_block_or_not)
{
    seam_with_both(count_and_time);
}

static void accept_and_connect(struct weir_loop *loop, bool blocking)
{
    struct sockaddr_in address;
    int listener = seam_listener(seam_socket_flags(blocking), &address);
    struct tracked accept = {0};
    struct tracked connect = {0};
    weir_op_accept(&accept.op, listener, NULL, NULL, SOCK_CLOEXEC);
    seam_submit(loop, &accept);
    seam_expect_turning(loop);
    expect_equal(accept.calls, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | seam_socket_flags(blocking), 0);
    weir_op_connect(&connect.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &connect), 0);
    seam_await(loop, &accept);
    expect(accept.result >= 0);
    close((int)accept.result);
    close(client);
    close(listener);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | seam_socket_flags(blocking), 0);
    weir_op_connect(&connect.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &connect), -ECONNREFUSED);
    close(client);
}

SEAM_TEST(accept_and_connect_wait_whether_the_socket_blocks_or_not)
{
    seam_with_both(accept_and_connect);
}

static void connect_to_full_backlog(struct weir_loop *loop, bool blocking)
{
    /* An autobound listener of the abstract namespace; a backlog of 0 holds one connection. */
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    expect_equal(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family), 0);
    expect_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    expect_equal(listen(listener, 0), 0);
    int first = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect_equal(connect(first, (struct sockaddr *)&address, length), 0);
    int second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | seam_socket_flags(blocking), 0);
    struct tracked op = {0};
    weir_op_connect(&op.op, second, (struct sockaddr *)&address, length);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    expect(accepted >= 0);
    seam_await(loop, &op);
    expect_equal(op.result, 0);
    /* And it can be cancelled and can expire while it waits. */
    int third = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | seam_socket_flags(blocking), 0);
    weir_op_connect(&op.op, third, (struct sockaddr *)&address, length);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 1);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    weir_op_connect(&op.op, third, (struct sockaddr *)&address, length);
    op.op.deadline_ns = weir_now(loop) + 3 * WEIR_MS;
    expect_equal(seam_carry_out(loop, &op), -ETIME);
    close(first);
    close(second);
    close(third);
    close(accepted);
    close(listener);
}

SEAM_TEST(a_connect_to_a_full_unix_backlog_waits_whether_it_blocks_or_not)
{
    seam_with_both(connect_to_full_backlog);
}

static void splice_waits(struct weir_loop *loop, bool blocking)
{
    struct seam_pair from = seam_pipe(seam_pipe_flags(blocking));
    struct seam_pair to = seam_pipe(seam_pipe_flags(blocking));
    struct tracked op = {0};
    weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 8192, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0); /* no source */
    seam_write(from.out, "a", 1);
    seam_await(loop, &op);
    expect_equal(op.result, 1);
    static char block[65536];
    expect_equal(fcntl(to.out, F_SETFL, O_NONBLOCK), 0);
    while (write(to.out, block, sizeof block) > 0) {
    }
    expect_equal(fcntl(to.out, F_SETFL, seam_pipe_flags(blocking)), 0);
    seam_write(from.out, "b", 1);
    weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 8192, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 1); /* no room */
    seam_read(to.in, block, 8192);
    seam_await(loop, &op);
    expect_equal(op.result, 1);
    seam_forget_pair(loop, &from);
    seam_forget_pair(loop, &to);
}

SEAM_TEST(a_splice_waits_for_source_and_target_whether_they_block_or_not)
{
    seam_with_both(splice_waits);
}

static void receive_all(struct weir_loop *loop, bool blocking)
{
    static const enum weir_route routes[] = {WEIR_ROUTE_AUTO, WEIR_ROUTE_RING, WEIR_ROUTE_INLINE};
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM | seam_socket_flags(blocking));
    for (size_t i = 0; i < 2 * SEAM_COUNT(routes); i++) {
        struct tracked op = {.op.route = (uint8_t)routes[i / 2]};
        struct iovec iov[2] = {{op.data, 4}, {op.data + 4, 4}};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        seam_write(sockets.out, "abc", 3);
        if (i % 2 == 0) {
            weir_op_recv(&op.op, sockets.in, op.data, 8, MSG_WAITALL);
        } else {
            weir_op_recvmsg(&op.op, sockets.in, &message, MSG_WAITALL);
        }
        seam_submit(loop, &op);
        seam_expect_turning(loop);
        expect_equal(op.calls, 0);
        seam_write(sockets.out, "defgh", 5);
        seam_await_count(loop, &op.calls, 1);
        expect_equal(op.result, 8);
        expect(memcmp(op.data, "abcdefgh", 8) == 0);
    }
    seam_forget_pair(loop, &sockets);
}

SEAM_TEST(a_recv_with_MSG_WAITALL_is_whole_by_every_route)
{
    seam_with_both(receive_all);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_read_of_an_empty_pipe_waits_whether_it_blocks_or_not),
    cmocka_unit_test(a_write_to_a_full_pipe_waits_whether_it_blocks_or_not),
    cmocka_unit_test(recv_and_send_wait_whether_the_socket_blocks_or_not),
    cmocka_unit_test(eventfd_and_timerfd_reads_wait_whether_they_block_or_not),
    cmocka_unit_test(accept_and_connect_wait_whether_the_socket_blocks_or_not),
    cmocka_unit_test(a_connect_to_a_full_unix_backlog_waits_whether_it_blocks_or_not),
    cmocka_unit_test(a_splice_waits_for_source_and_target_whether_they_block_or_not),
    cmocka_unit_test(a_recv_with_MSG_WAITALL_is_whole_by_every_route),
};

const struct seam_group nonblock_group = SEAM_GROUP("nonblock", tests);
