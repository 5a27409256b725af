/* SPDX-License-Identifier: MIT */
/*
 * races.c: rule 14: ready, but somebody else was faster: the loop goes on, and what lost waits on
 * as if nothing had been. Each test runs its body with fds that block and fds that do not.
 */
#include "seam.h"

static void two_readers(struct weir_loop *loop, bool blocking)
{
    struct seam_pair pipe = seam_pipe(seam_pipe_flags(blocking));
    struct tracked ops[2] = {0};
    seam_read_byte(loop, &ops[0], pipe.in);
    seam_read_byte(loop, &ops[1], pipe.in);
    seam_expect_turning(loop);
    seam_write(pipe.out, "a", 1);
    while (ops[0].calls + ops[1].calls == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_expect_turning(loop);
    expect_equal(ops[0].calls + ops[1].calls, 1);
    seam_write(pipe.out, "b", 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(ops[0].result, 1);
    expect_equal(ops[1].result, 1);
    expect_equal(ops[0].data[0] + ops[1].data[0], 'a' + 'b');
    seam_pair_close(&pipe);
}

SEAM_TEST(two_readers_on_one_fd_never_block_the_loop)
{
    seam_with_both(two_readers);
}

/* What lost the race waits on as if there had been none, whoever carries it out. */
static void two_vectors(struct weir_loop *loop, bool blocking)
{
    struct seam_pair pipe = seam_pipe(seam_pipe_flags(blocking));
    struct seam_pair to = seam_pipe(seam_pipe_flags(blocking));
    struct tracked ops[6] = {0};
    struct iovec iov[6];
    for (int i = 0; i < 6; i++) {
        iov[i] = (struct iovec){ops[i].data, 1};
        weir_op_readv(&ops[i].op, pipe.in, &iov[i], 1, WEIR_CURRENT);
        if (i >= 4) {
            weir_op_splice(&ops[i].op, pipe.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 1, 0);
        }
        seam_submit(loop, &ops[i]);
    }
    seam_expect_turning(loop);
    seam_write(pipe.out, "a", 1);
    while (weir_loop_live(loop) == 6) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_expect_turning(loop);
    expect_equal(weir_loop_live(loop), 5);
    for (int i = 0; i < 6; i++) {
        if (ops[i].calls == 0) {
            expect_equal(seam_cancel(loop, &ops[i]), 0); /* it is not stuck anywhere */
        }
    }
    expect_equal(seam_run(loop), 0);
    int moved = 0;
    for (int i = 0; i < 6; i++) {
        expect(ops[i].result == 1 || ops[i].result == -ECANCELED);
        moved += ops[i].result == 1;
    }
    expect_equal(moved, 1);
    seam_forget_pair(loop, &pipe);
    seam_forget_pair(loop, &to);
}

SEAM_TEST(readers_of_vectors_and_splices_that_lost_a_race_can_be_cancelled)
{
    seam_with_both(two_vectors);
}

static void two_accepts(struct weir_loop *loop, bool blocking)
{
    struct sockaddr_in address;
    int listener = seam_listener(seam_socket_flags(blocking), &address);
    struct tracked ops[6] = {0};
    for (int i = 0; i < 6; i++) {
        weir_op_accept(&ops[i].op, listener, NULL, NULL, SOCK_CLOEXEC);
        seam_submit(loop, &ops[i]);
    }
    seam_expect_turning(loop);
    int client = seam_client(&address);
    while (weir_loop_live(loop) == 6) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_expect_turning(loop);
    expect_equal(weir_loop_live(loop), 5);
    int accepted = 0;
    for (int i = 0; i < 6; i++) {
        if (ops[i].calls == 0) {
            expect_equal(seam_cancel(loop, &ops[i]), 0); /* it is not stuck anywhere */
        } else {
            expect(ops[i].result >= 0);
            close((int)ops[i].result);
            accepted++;
        }
    }
    expect_equal(accepted, 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(weir_forget(loop, listener), 0);
    close(client);
    close(listener);
}

SEAM_TEST(accepts_that_lost_a_race_can_be_cancelled)
{
    seam_with_both(two_accepts);
}

static void byte_taken_by_another(struct weir_loop *loop, bool blocking)
{
    struct seam_pair pipe = seam_pipe(seam_pipe_flags(blocking));
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    seam_expect_turning(loop);
    for (int i = 0; i < 20; i++) {
        char taken;
        seam_write(pipe.out, "x", 1);
        seam_read(pipe.in, &taken, 1);
        seam_expect_turning(loop); /* readiness came and there is nothing */
        expect_equal(op.calls, 0);
    }
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &op);
    expect_equal(op.data[0], 'a');
    seam_pair_close(&pipe);
}

SEAM_TEST(a_byte_taken_between_readiness_and_read_does_not_block_the_loop)
{
    seam_with_both(byte_taken_by_another);
}

static void connection_taken_by_another(struct weir_loop *loop, bool blocking)
{
    struct sockaddr_in address;
    int listener = seam_listener(seam_socket_flags(blocking), &address);
    struct tracked op = {0};
    weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    for (int i = 0; i < 10; i++) {
        int client = seam_client(&address);
        int taken = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        expect(taken >= 0);
        seam_expect_turning(loop);
        expect_equal(op.calls, 0);
        close(taken);
        close(client);
    }
    int client = seam_client(&address);
    seam_await(loop, &op);
    expect(op.result >= 0);
    close((int)op.result);
    close(client);
    close(listener);
}

SEAM_TEST(a_connection_taken_between_readiness_and_accept_does_not_block_the_loop)
{
    seam_with_both(connection_taken_by_another);
}

/* Connects and resets at once. */
static void connect_and_reset(const struct sockaddr_in *address)
{
    int client = seam_client(address);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    expect_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(client);
}

static void reset_before_accept(struct weir_loop *loop, bool blocking)
{
    struct sockaddr_in address;
    int listener = seam_listener(seam_socket_flags(blocking), &address);
    struct tracked op = {0};
    weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    connect_and_reset(&address);
    seam_expect_turning(loop);
    /* Linux keeps the dead connection in the queue; other protocols and kernels drop it. */
    if (op.op.state == 0) {
        expect(op.result >= 0 || op.result == -ECONNABORTED);
        if (op.result >= 0) {
            close((int)op.result);
        }
        weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
        seam_submit(loop, &op);
        seam_expect_turning(loop);
    }
    expect(op.op.state != 0);
    int client = seam_client(&address);
    seam_write(client, "a", 1);
    char got;
    for (bool alive = false; !alive;) { /* the dead one may still have been on its way */
        seam_await(loop, &op);
        expect(op.result >= 0);
        alive = read((int)op.result, &got, 1) == 1;
        close((int)op.result);
        if (!alive) {
            weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
            seam_submit(loop, &op);
        }
    }
    close(client);
    close(listener);
}

SEAM_TEST(a_reset_between_readiness_and_accept_does_not_block_the_loop)
{
    seam_with_both(reset_before_accept);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(two_readers_on_one_fd_never_block_the_loop),
    cmocka_unit_test(readers_of_vectors_and_splices_that_lost_a_race_can_be_cancelled),
    cmocka_unit_test(accepts_that_lost_a_race_can_be_cancelled),
    cmocka_unit_test(a_byte_taken_between_readiness_and_read_does_not_block_the_loop),
    cmocka_unit_test(a_connection_taken_between_readiness_and_accept_does_not_block_the_loop),
    cmocka_unit_test(a_reset_between_readiness_and_accept_does_not_block_the_loop),
};

const struct seam_group races_group = SEAM_GROUP("races", tests);
