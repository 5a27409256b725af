/* SPDX-License-Identifier: MIT */
/* results.c: rules 9, 10, 13 and 16: which results surface, which never do, and no SIGPIPE. */
#include "seam.h"

#include <limits.h>
#include <signal.h>
#include <sys/uio.h>

SEAM_TEST(a_cancelled_blocked_splice_is_ECANCELED_and_no_kernel_internal_code)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair from = seam_pipe(0);
    struct seam_pair to = seam_pipe(0);
    for (int i = 0; i < 20; i++) {
        struct tracked op = {0};
        weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 100, 0);
        seam_submit(loop, &op);
        for (int turns = 0; turns <= i % 3; turns++) {
            seam_turn(loop, i % 2 == 0 ? 0 : WEIR_MS);
        }
        expect_equal(seam_cancel(loop, &op), 0);
        seam_await(loop, &op);
        expect_equal(op.result, -ECANCELED);
    }
    seam_end(loop);
    seam_pair_close(&from);
    seam_pair_close(&to);
}

SEAM_TEST(a_blocked_splice_past_its_deadline_is_ETIME)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair from = seam_pipe(0);
    struct seam_pair to = seam_pipe(0);
    for (int i = 0; i < 10; i++) {
        struct tracked op = {0};
        weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 100, 0);
        op.op.deadline_ns = weir_now(loop) + 2 * WEIR_MS;
        expect_equal(seam_carry_out(loop, &op), -ETIME);
    }
    seam_end(loop);
    seam_pair_close(&from);
    seam_pair_close(&to);
}

SEAM_TEST(EAGAIN_surfaces_where_the_caller_asked_for_it)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    weir_op_read(&op.op, pipe.in, op.data, 1, WEIR_CURRENT);
    op.op.rw_flags = RWF_NOWAIT;
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    struct iovec iov = {op.data, 1};
    weir_op_readv(&op.op, pipe.in, &iov, 1, WEIR_CURRENT);
    op.op.rw_flags = RWF_NOWAIT;
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    weir_op_recv(&op.op, sockets.in, op.data, 1, MSG_DONTWAIT);
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    weir_op_recvmsg(&op.op, sockets.in, &message, MSG_DONTWAIT);
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    static char block[1 << 20];
    int64_t sent = 0;
    while (sent >= 0) {
        weir_op_send(&op.op, sockets.in, block, sizeof block, MSG_DONTWAIT);
        sent = seam_carry_out(loop, &op);
        expect(sent != 0);
    }
    expect_equal(sent, -EAGAIN);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_short_transfer_is_reported_as_it_is)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    int file = seam_file(5);
    struct tracked op = {0};
    seam_write(pipe.out, "abc", 3);
    weir_op_read(&op.op, pipe.in, op.data, sizeof op.data, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 3);
    weir_op_read(&op.op, file, op.data, sizeof op.data, 2);
    expect_equal(seam_carry_out(loop, &op), 3);
    expect(seam_pattern_holds(op.data, 3, 2));
    weir_op_read(&op.op, file, op.data, sizeof op.data, 5);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
    close(file);
}

/* Its sibling is either finished, and keeps its success, or was back before. */
static void cancel_the_other(struct tracked *op)
{
    struct tracked *other = op->context;
    int want = other->op.state == 0 ? -ENOENT : -EALREADY;
    expect_equal(seam_cancel(op->op.user, other), want);
}

SEAM_TEST(an_op_that_succeeded_before_its_cancel_keeps_its_success)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    int fds = seam_fds_open();
    for (int i = 0; i < 50; i++) {
        struct tracked opened = {.then = cancel_the_other, .op.user = loop};
        struct tracked read = {.then = cancel_the_other, .op.user = loop, .context = &opened};
        opened.context = &read;
        seam_write(pipe.out, "a", 1);
        weir_op_socket(&opened.op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        seam_submit(loop, &opened);
        seam_read_byte(loop, &read, pipe.in);
        expect_equal(seam_turn(loop, 0), 2);
        expect_equal(read.result, 1);
        expect(opened.result >= 0);
        expect_equal(close((int)opened.result), 0);
    }
    expect_equal(seam_fds_open(), fds);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(fds_in_short_supply_give_EMFILE_and_the_loop_goes_on)
{
    struct weir_loop *loop = seam_loop();
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    int client = seam_client(&address);
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_fds_forbid();
    weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
    int64_t accepted = seam_carry_out(loop, &op);
    weir_op_openat(&op.op, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC, 0);
    int64_t opened = seam_carry_out(loop, &op);
    weir_op_socket(&op.op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int64_t made = seam_carry_out(loop, &op);
    seam_fds_allow();
    expect_equal(accepted, -EMFILE);
    expect_equal(opened, -EMFILE);
    expect_equal(made, -EMFILE);
    /* The connection was not lost by the failed accept. */
    weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
    int64_t fd = seam_carry_out(loop, &op);
    expect(fd >= 0);
    close((int)fd);
    close(client);
    close(listener);
    seam_end(loop);
}

/* --- rule 13 --------------------------------------------------------------------------------- */

static volatile sig_atomic_t pipe_signals;

static void on_sigpipe(int signal)
{
    (void)signal;
    pipe_signals = pipe_signals + 1;
}

static void break_pipes(struct weir_loop *loop, int flags)
{
    struct tracked op = {0};
    struct iovec iov[2] = {{op.data, 8}, {op.data + 8, 8}};
    struct seam_pair pipe = seam_pipe(flags);
    close(pipe.in);
    pipe.in = -1;
    weir_op_write(&op.op, pipe.out, op.data, 16, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    weir_op_writev(&op.op, pipe.out, iov, 2, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    weir_op_write(&op.op, pipe.out, op.data, 16, WEIR_CURRENT);
    op.op.flags = WEIR_WHOLE;
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    op.op.flags = 0;
    struct seam_pair source = seam_pipe(flags);
    seam_write(source.out, "abc", 3);
    weir_op_splice(&op.op, source.in, WEIR_CURRENT, pipe.out, WEIR_CURRENT, 3, 0);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    seam_pair_close(&source);
    seam_pair_close(&pipe);
}

static void break_sockets(struct weir_loop *loop, int flags)
{
    struct tracked op = {0};
    struct iovec iov = {op.data, 8};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM | flags);
    close(sockets.in);
    sockets.in = -1;
    weir_op_send(&op.op, sockets.out, op.data, 8, 0);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    weir_op_write(&op.op, sockets.out, op.data, 8, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    weir_op_writev(&op.op, sockets.out, &iov, 1, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    struct seam_pair source = seam_pipe(flags);
    seam_write(source.out, "abc", 3);
    weir_op_splice(&op.op, source.in, WEIR_CURRENT, sockets.out, WEIR_CURRENT, 3, 0);
    expect_equal(seam_carry_out(loop, &op), -EPIPE);
    seam_pair_close(&source);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_broken_pipe_is_EPIPE_and_raises_no_signal)
{
    struct sigaction action = {.sa_handler = on_sigpipe};
    struct sigaction before;
    sigset_t mask_before;
    sigset_t mask_after;
    pipe_signals = 0;
    expect_equal(sigaction(SIGPIPE, &action, &before), 0);
    expect_equal(sigprocmask(SIG_SETMASK, NULL, &mask_before), 0);
    struct weir_loop *loop = seam_loop();
    break_pipes(loop, 0);
    break_pipes(loop, O_NONBLOCK);
    break_sockets(loop, 0);
    break_sockets(loop, SOCK_NONBLOCK);
    seam_end(loop);
    /* A blocked and pending one would arrive when close restores the mask. */
    expect_equal(pipe_signals, 0);
    sigset_t pending;
    expect_equal(sigpending(&pending), 0);
    expect_equal(sigismember(&pending, SIGPIPE), 0);
    expect_equal(sigprocmask(SIG_SETMASK, NULL, &mask_after), 0);
    expect_equal(sigismember(&mask_after, SIGPIPE), sigismember(&mask_before, SIGPIPE));
    expect_equal(sigaction(SIGPIPE, &before, NULL), 0);
}

SEAM_TEST(several_ops_on_one_fd_go_in_both_directions)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked receive[8] = {0};
    struct tracked send[8] = {0};
    for (int i = 0; i < 8; i++) {
        weir_op_recv(&receive[i].op, sockets.in, receive[i].data, 1, 0);
        seam_submit(loop, &receive[i]);
        weir_op_send(&send[i].op, sockets.in, "x", 1, 0);
        seam_submit(loop, &send[i]);
    }
    for (int i = 0; i < 8; i++) {
        seam_await(loop, &send[i]);
        expect_equal(send[i].result, 1);
        expect_equal(receive[i].calls, 0);
    }
    seam_write(sockets.out, "abcdefgh", 8);
    unsigned sum = 0;
    for (int i = 0; i < 8; i++) {
        seam_await(loop, &receive[i]);
        expect_equal(receive[i].result, 1);
        sum += (unsigned char)receive[i].data[0];
    }
    /* Each got a byte of its own, in whatever order. */
    expect_equal(sum, 8 * 'a' + 28);
    char got[8];
    seam_read(sockets.out, got, sizeof got);
    expect(memcmp(got, "xxxxxxxx", 8) == 0);
    seam_end(loop);
    seam_pair_close(&sockets);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_cancelled_blocked_splice_is_ECANCELED_and_no_kernel_internal_code),
    cmocka_unit_test(a_blocked_splice_past_its_deadline_is_ETIME),
    cmocka_unit_test(EAGAIN_surfaces_where_the_caller_asked_for_it),
    cmocka_unit_test(a_short_transfer_is_reported_as_it_is),
    cmocka_unit_test(an_op_that_succeeded_before_its_cancel_keeps_its_success),
    cmocka_unit_test(fds_in_short_supply_give_EMFILE_and_the_loop_goes_on),
    cmocka_unit_test(a_broken_pipe_is_EPIPE_and_raises_no_signal),
    cmocka_unit_test(several_ops_on_one_fd_go_in_both_directions),
};

const struct seam_group results_group = SEAM_GROUP("results", tests);
