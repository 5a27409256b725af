/* SPDX-License-Identifier: MIT */
/* closing_fds.c: rule 20: CLOSE and forget, and the numbers of closed fds being reused. */
#include "seam.h"

SEAM_TEST(CLOSE_cancels_what_is_live_on_its_fd_and_comes_last)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 6, .waiting_max = 10});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct tracked reads[10] = {0};
    struct tracked close_op = {0};
    struct tracked elsewhere = {0};
    seam_read_byte(loop, &elsewhere, other.in);
    for (int i = 0; i < 10; i++) {
        seam_read_byte(loop, &reads[i], pipe.in);
        if (i == 4) {
            seam_turns(loop, 2);
        }
    }
    weir_op_close(&close_op.op, pipe.in);
    expect_equal(seam_carry_out(loop, &close_op), 0);
    for (int i = 0; i < 10; i++) {
        expect_equal(reads[i].calls, 1);
        expect_equal(reads[i].result, -ECANCELED);
        expect(reads[i].order < close_op.order);
    }
    expect(fcntl(pipe.in, F_GETFD) < 0);
    expect_equal(elsewhere.calls, 0);
    seam_write(other.out, "b", 1);
    seam_await(loop, &elsewhere);
    expect_equal(elsewhere.result, 1);
    seam_end(loop);
    close(pipe.out);
    seam_pair_close(&other);
}

SEAM_TEST(CLOSE_cancels_a_splice_on_either_fd)
{
    struct weir_loop *loop = seam_loop();
    for (int side = 0; side < 2; side++) {
        struct seam_pair from = seam_pipe(0);
        struct seam_pair to = seam_pipe(0);
        struct tracked splice = {0};
        struct tracked close_op = {0};
        weir_op_splice(&splice.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 1, 0);
        seam_submit(loop, &splice);
        seam_turns(loop, 3);
        weir_op_close(&close_op.op, side == 0 ? from.in : to.out);
        expect_equal(seam_carry_out(loop, &close_op), 0);
        expect_equal(splice.calls, 1);
        expect_equal(splice.result, -ECANCELED);
        expect(splice.order < close_op.order);
        close(side == 0 ? to.out : from.in);
        close(from.out);
        close(to.in);
    }
    seam_end(loop);
}

SEAM_TEST(CLOSE_gets_through_at_depth_1)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked close_op = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 2);
    weir_op_close(&close_op.op, pipe.in);
    expect_equal(seam_carry_out(loop, &close_op), 0);
    expect_equal(idle.result, -ECANCELED);
    expect(idle.order < close_op.order);
    seam_end(loop);
    close(pipe.out);
}

SEAM_TEST(what_is_submitted_on_an_fd_that_closes_is_cancelled_too)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked before = {0};
    struct tracked after = {0};
    struct tracked close_op = {0};
    seam_read_byte(loop, &before, pipe.in);
    seam_turns(loop, 2);
    weir_op_close(&close_op.op, pipe.in);
    seam_submit(loop, &close_op);
    seam_read_byte(loop, &after, pipe.in);
    expect_equal(seam_run(loop), 0);
    expect_equal(before.result, -ECANCELED);
    expect_equal(after.result, -ECANCELED);
    expect_equal(close_op.result, 0);
    expect(before.order < close_op.order);
    expect(after.order < close_op.order);
    seam_end(loop);
    close(pipe.out);
}

SEAM_TEST(a_CLOSE_cancelled_or_expired_at_the_gate_leaves_its_fd_open)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 3});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked cancelled = {0};
    struct tracked expired = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    weir_op_close(&cancelled.op, other.in);
    seam_submit(loop, &cancelled);
    weir_op_close(&expired.op, other.out);
    expired.op.deadline_ns = weir_now(loop) + WEIR_MS;
    seam_submit(loop, &expired);
    expect_equal(seam_cancel(loop, &cancelled), 0);
    seam_await(loop, &cancelled);
    seam_await(loop, &expired);
    expect_equal(cancelled.result, -ECANCELED);
    expect_equal(expired.result, -ETIME);
    seam_write(other.out, "a", 1);
    char got;
    seam_read(other.in, &got, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
}

SEAM_TEST(a_CLOSE_of_a_bad_fd_is_EBADF)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    weir_op_close(&op.op, -1);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    weir_op_close(&op.op, pipe.in);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_close(&op.op, pipe.in);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    seam_end(loop);
    close(pipe.out);
}

SEAM_TEST(two_CLOSEs_of_one_fd_close_it_once)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked ops[2] = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    for (int i = 0; i < 2; i++) {
        weir_op_close(&ops[i].op, pipe.in);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(idle.result, -ECANCELED);
    int closed = 0;
    for (int i = 0; i < 2; i++) {
        expect(ops[i].result == 0 || ops[i].result == -EBADF || ops[i].result == -ECANCELED);
        closed += ops[i].result == 0;
    }
    expect_equal(closed, 1);
    seam_end(loop);
    close(pipe.out);
}

/* --- forget ---------------------------------------------------------------------------------- */

/* A read on `number` is live; forget it, and let another pipe take the number. */
static void forget_and_reuse(struct weir_loop *loop, int turns)
{
    struct seam_pair old = seam_pipe(0);
    struct seam_pair new = seam_pipe(0);
    int number = old.in;
    struct tracked old_read = {0};
    struct tracked new_read = {0};
    seam_read_byte(loop, &old_read, number);
    seam_turns(loop, turns);
    expect_equal(weir_forget(loop, number), 0);
    expect_equal(old_read.calls, 0);
    close(number);
    expect_equal(dup3(new.in, number, O_CLOEXEC), number);
    seam_read_byte(loop, &new_read, number);
    seam_await(loop, &old_read);
    expect_equal(old_read.result, -ECANCELED);
    seam_turns(loop, 2);
    expect_equal(new_read.calls, 0);
    seam_write(new.out, "n", 1);
    seam_await(loop, &new_read);
    expect_equal(new_read.result, 1);
    expect_equal(new_read.data[0], 'n');
    expect_equal(old_read.calls, 1);
    close(number);
    close(old.out);
    seam_pair_close(&new);
}

SEAM_TEST(a_forgotten_number_may_be_reused_in_the_same_turn)
{
    struct weir_loop *loop = seam_loop();
    for (int turns = 0; turns < 4; turns++) {
        forget_and_reuse(loop, turns);
    }
    expect_equal(weir_loop_live(loop), 0);
    seam_end(loop);
}

static void reuse_in_callback(struct tracked *op)
{
    struct tracked *pair = op->context; /* [0]: the old read, [1]: the new one */
    struct weir_loop *loop = op->op.user;
    struct seam_pair *new = pair[1].context;
    int number = pair[0].op.fd;
    expect_equal(weir_forget(loop, number), 0);
    close(number);
    expect_equal(dup3(new->in, number, O_CLOEXEC), number);
    seam_read_byte(loop, &pair[1], number);
}

SEAM_TEST(a_forgotten_number_may_be_reused_inside_a_callback)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair old = seam_pipe(0);
    struct seam_pair new = seam_pipe(0);
    seam_write(new.out, "n", 1);
    struct tracked pair[2] = {[1] = {.context = &new}};
    struct tracked nop = {.then = reuse_in_callback, .context = pair, .op.user = loop};
    seam_read_byte(loop, &pair[0], old.in);
    seam_turns(loop, 1);
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    expect_equal(seam_run(loop), 0);
    expect_equal(pair[0].result, -ECANCELED);
    expect_equal(pair[1].result, 1);
    expect_equal(pair[1].data[0], 'n');
    seam_end(loop);
    seam_pair_close(&old);
    seam_pair_close(&new);
}

SEAM_TEST(an_op_at_the_gate_never_hits_the_file_that_took_its_number)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct seam_pair busy = seam_pipe(0);
    struct seam_pair old = seam_pipe(0);
    struct seam_pair new = seam_pipe(0);
    seam_write(new.out, "n", 1);
    struct tracked idle = {0};
    struct tracked waiting = {0};
    seam_read_byte(loop, &idle, busy.in);
    seam_read_byte(loop, &waiting, old.in);
    seam_turns(loop, 1);
    expect_equal(weir_forget(loop, old.in), 0);
    expect_equal(dup3(new.in, old.in, O_CLOEXEC), old.in);
    seam_write(busy.out, "b", 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(idle.result, 1);
    expect_equal(waiting.result, -ECANCELED);
    char left;
    seam_read(new.in, &left, 1);
    expect_equal(left, 'n');
    seam_end(loop);
    seam_pair_close(&busy);
    seam_pair_close(&old);
    seam_pair_close(&new);
}

SEAM_TEST(forget_answers_EBUSY_while_a_worker_may_look_the_number_up)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair from = seam_pipe(0);
    struct seam_pair to = seam_pipe(0);
    int want = seam_backend.splice_keeps_fd ? -EBUSY : 0;
    for (int side = 0; side < 2; side++) {
        int fd = side == 0 ? from.in : to.out;
        struct tracked splice = {0};
        struct tracked poll = {0};
        weir_op_splice(&splice.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 1, 0);
        seam_submit(loop, &splice);
        weir_op_poll(&poll.op, fd, 0); /* hang-up only: does not come */
        seam_submit(loop, &poll);
        seam_turns(loop, 3);
        expect_equal(weir_forget(loop, fd), want);
        expect_equal(weir_forget(loop, fd), want);
        seam_await(loop, &splice);
        seam_await(loop, &poll);
        expect_equal(splice.result, -ECANCELED);
        expect_equal(poll.result, -ECANCELED);
        expect_equal(weir_forget(loop, fd), 0);
    }
    seam_end(loop);
    seam_pair_close(&from);
    seam_pair_close(&to);
}

SEAM_TEST(forget_of_what_is_not_used_is_0_and_of_no_fd_EBADF)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    expect_equal(weir_forget(loop, pipe.in), 0);
    seam_write(pipe.out, "a", 1);
    seam_read_byte(loop, &op, pipe.in);
    seam_await(loop, &op);
    expect_equal(op.result, 1);
    expect_equal(weir_forget(loop, pipe.in), 0);
    expect_equal(weir_forget(loop, -1), -EBADF);
    expect_equal(weir_forget(NULL, 0), -EINVAL);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_port_rebinds_at_once_after_CLOSE_of_an_armed_listener)
{
    struct weir_loop *loop = seam_loop();
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    for (int i = 0; i < 20; i++) {
        struct tracked accept = {0};
        struct tracked close_op = {0};
        weir_op_accept(&accept.op, listener, NULL, NULL, SOCK_CLOEXEC);
        seam_submit(loop, &accept);
        seam_turns(loop, 2);
        weir_op_close(&close_op.op, listener);
        expect_equal(seam_carry_out(loop, &close_op), 0);
        expect_equal(accept.result, -ECANCELED);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        expect(listener >= 0);
        expect_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
        expect_equal(listen(listener, 8), 0);
    }
    close(listener);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(CLOSE_cancels_what_is_live_on_its_fd_and_comes_last),
    cmocka_unit_test(CLOSE_cancels_a_splice_on_either_fd),
    cmocka_unit_test(CLOSE_gets_through_at_depth_1),
    cmocka_unit_test(what_is_submitted_on_an_fd_that_closes_is_cancelled_too),
    cmocka_unit_test(a_CLOSE_cancelled_or_expired_at_the_gate_leaves_its_fd_open),
    cmocka_unit_test(a_CLOSE_of_a_bad_fd_is_EBADF),
    cmocka_unit_test(two_CLOSEs_of_one_fd_close_it_once),
    cmocka_unit_test(a_forgotten_number_may_be_reused_in_the_same_turn),
    cmocka_unit_test(a_forgotten_number_may_be_reused_inside_a_callback),
    cmocka_unit_test(an_op_at_the_gate_never_hits_the_file_that_took_its_number),
    cmocka_unit_test(forget_answers_EBUSY_while_a_worker_may_look_the_number_up),
    cmocka_unit_test(forget_of_what_is_not_used_is_0_and_of_no_fd_EBADF),
    cmocka_unit_test(a_port_rebinds_at_once_after_CLOSE_of_an_armed_listener),
};

const struct seam_group closing_fds_group = SEAM_GROUP("closing_fds", tests);
