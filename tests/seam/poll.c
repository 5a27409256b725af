/* SPDX-License-Identifier: MIT */
/* poll.c: POLL, and rule 15: a regular file is ready at once. */
#include "seam.h"

#include <poll.h>

SEAM_TEST(a_regular_file_is_ready_at_once)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(10);
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct tracked op = {0};
    weir_op_poll(&op.op, file, POLLIN | POLLOUT);
    expect_equal(seam_carry_out(loop, &op), POLLIN | POLLOUT);
    weir_op_poll(&op.op, file, POLLIN);
    expect_equal(seam_carry_out(loop, &op), POLLIN);
    weir_op_poll(&op.op, directory, POLLIN);
    expect_equal(seam_carry_out(loop, &op), POLLIN);
    seam_end(loop);
    close(file);
    close(directory);
}

SEAM_TEST(a_poll_waits_until_its_events_are_there_and_answers_them)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked readable = {0};
    struct tracked writable = {0};
    weir_op_poll(&readable.op, pipe.in, POLLIN);
    seam_submit(loop, &readable);
    weir_op_poll(&writable.op, pipe.out, POLLOUT);
    expect_equal(seam_carry_out(loop, &writable), POLLOUT);
    expect_equal(readable.calls, 0);
    seam_write(pipe.out, "ab", 2);
    seam_await(loop, &readable);
    expect_equal(readable.result, POLLIN);
    char got[2];
    seam_read(pipe.in, got, 2); /* a poll takes nothing */
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_poll_is_one_shot_and_can_be_asked_again)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_write(pipe.out, "a", 1);
    struct tracked op = {0};
    for (unsigned i = 1; i <= 100; i++) {
        weir_op_poll(&op.op, pipe.in, POLLIN);
        expect_equal(seam_carry_out(loop, &op), POLLIN);
        expect_equal(op.calls, i);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(hang_up_and_error_are_reported_unasked)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    weir_op_poll(&op.op, pipe.in, POLLIN);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    close(pipe.out);
    pipe.out = -1;
    seam_await(loop, &op);
    expect(op.result & POLLHUP);
    struct seam_pair broken = seam_pipe(0);
    close(broken.in);
    broken.in = -1;
    weir_op_poll(&op.op, broken.out, POLLOUT);
    expect(seam_carry_out(loop, &op) & POLLERR);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&broken);
}

SEAM_TEST(a_poll_can_be_cancelled_and_can_expire)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    weir_op_poll(&op.op, pipe.in, POLLIN);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    weir_op_poll(&op.op, pipe.in, POLLIN);
    op.op.deadline_ns = weir_now(loop) + WEIR_MS;
    expect_equal(seam_carry_out(loop, &op), -ETIME);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_poll_of_a_bad_fd_is_EBADF)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    weir_op_poll(&op.op, -1, POLLIN);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_regular_file_is_ready_at_once),
    cmocka_unit_test(a_poll_waits_until_its_events_are_there_and_answers_them),
    cmocka_unit_test(a_poll_is_one_shot_and_can_be_asked_again),
    cmocka_unit_test(hang_up_and_error_are_reported_unasked),
    cmocka_unit_test(a_poll_can_be_cancelled_and_can_expire),
    cmocka_unit_test(a_poll_of_a_bad_fd_is_EBADF),
};

const struct seam_group poll_group = SEAM_GROUP("poll", tests);
