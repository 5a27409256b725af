/* SPDX-License-Identifier: MIT */
/* offload_fds.c: rule 20: closing and forgetting an fd that a worker is at. */
#include "seam.h"

#include <poll.h>

/* A worker that is in read(2) of an empty pipe. */
struct reader {
    struct weir_loop *loop;
    struct seam_pair pipe;
    struct tracked blocked;
};

static void reader_make(struct reader *reader)
{
    memset(reader, 0, sizeof *reader);
    reader->loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    reader->pipe = seam_pipe(0);
    reader->blocked.op.route = WEIR_ROUTE_OFFLOAD;
    seam_read_byte(reader->loop, &reader->blocked, reader->pipe.in);
    seam_turns(reader->loop, 1);
    usleep(2000); /* nearly always in it; the tests say what holds if not */
}

SEAM_TEST(forget_answers_EBUSY_while_a_worker_has_a_call_on_the_fd_and_cancels_the_rest)
{
    struct reader reader;
    struct tracked other = {0};
    reader_make(&reader);
    seam_read_byte(reader.loop, &other, reader.pipe.in);
    seam_turns(reader.loop, 2);
    int answer = weir_forget(reader.loop, reader.pipe.in);
    seam_await(reader.loop, &other);
    expect_equal(other.result, -ECANCELED);
    if (answer == 0) { /* the worker was so slow that it had not taken it */
        seam_await(reader.loop, &reader.blocked);
        expect_equal(reader.blocked.result, -ECANCELED);
    } else {
        expect_equal(answer, -EBUSY);
        expect_equal(weir_forget(reader.loop, reader.pipe.in), -EBUSY);
        expect_equal(seam_turns(reader.loop, 3), 0);
        seam_write(reader.pipe.out, "a", 1);
        seam_await(reader.loop, &reader.blocked);
        expect_equal(reader.blocked.result, 1);
        expect_equal(reader.blocked.data[0], 'a');
    }
    expect_equal(weir_forget(reader.loop, reader.pipe.in), 0);
    seam_end(reader.loop);
    seam_pair_close(&reader.pipe);
}

SEAM_TEST(a_queued_call_on_a_forgotten_fd_never_hits_the_file_that_took_its_number)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct seam_pair new = seam_pipe(0);
    struct seam_work busy;
    seam_write(new.out, "n", 1);
    seam_block(loop, &busy);
    for (int turns = 0; turns < 3; turns++) {
        struct seam_pair old = seam_pipe(0);
        struct tracked queued = {.op.route = WEIR_ROUTE_OFFLOAD};
        seam_read_byte(loop, &queued, old.in);
        seam_turns(loop, turns);
        expect_equal(weir_forget(loop, old.in), 0);
        expect_equal(dup3(new.in, old.in, O_CLOEXEC), old.in);
        seam_await(loop, &queued);
        expect_equal(queued.result, -ECANCELED);
        seam_pair_close(&old);
    }
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_turns(loop, 3);
    char left;
    seam_read(new.in, &left, 1);
    seam_end(loop);
    seam_pair_close(&new);
}

SEAM_TEST(CLOSE_waits_for_the_call_of_a_worker_and_cancels_the_rest)
{
    struct reader reader;
    struct tracked other = {0};
    struct tracked impatient = {0};
    struct tracked close_op = {0};
    reader_make(&reader);
    seam_read_byte(reader.loop, &other, reader.pipe.in);
    seam_turns(reader.loop, 2);
    weir_op_close(&impatient.op, reader.pipe.in);
    impatient.op.deadline_ns = weir_now(reader.loop) + WEIR_MS;
    int64_t first = seam_carry_out(reader.loop, &impatient);
    seam_await(reader.loop, &other);
    expect_equal(other.result, -ECANCELED);
    if (first == 0) { /* the worker was so slow that it had not taken it */
        seam_await(reader.loop, &reader.blocked);
        expect_equal(reader.blocked.result, -ECANCELED);
        seam_end(reader.loop);
        close(reader.pipe.out);
        return;
    }
    expect_equal(first, -ETIME);
    expect(fcntl(reader.pipe.in, F_GETFD) >= 0);
    weir_op_close(&close_op.op, reader.pipe.in);
    seam_submit(reader.loop, &close_op);
    expect_equal(seam_turns(reader.loop, 5), 0);
    expect(fcntl(reader.pipe.in, F_GETFD) >= 0);
    seam_write(reader.pipe.out, "a", 1);
    seam_await(reader.loop, &close_op);
    expect_equal(close_op.result, 0);
    expect_equal(reader.blocked.result, 1);
    expect(reader.blocked.order < close_op.order);
    expect(fcntl(reader.pipe.in, F_GETFD) < 0);
    seam_end(reader.loop);
    close(reader.pipe.out);
}

SEAM_TEST(a_call_of_a_worker_is_asked_for_by_its_fd)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_work busy;
    struct tracked queued[3] = {0};
    seam_block(loop, &busy);
    for (int i = 0; i < 3; i++) {
        queued[i].op.route = i < 2 ? WEIR_ROUTE_OFFLOAD : WEIR_ROUTE_AUTO;
        seam_read_byte(loop, &queued[i], pipe.in);
    }
    seam_turns(loop, 2);
    expect_equal(weir_cancel_fd(loop, pipe.in), 3);
    expect_equal(weir_cancel_fd(loop, pipe.in), 0);
    for (int i = 0; i < 3; i++) {
        seam_await(loop, &queued[i]);
        expect_equal(queued[i].result, -ECANCELED);
    }
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_fds_of_files_that_workers_are_at_may_be_closed_and_reused_without_end)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 3});
    static char buffers[8][4096];
    for (int round = 0; round < 200; round++) {
        int file = seam_file(4096);
        struct tracked reads[8] = {0};
        struct tracked close_op = {0};
        for (int i = 0; i < 8; i++) {
            reads[i].op.route = i % 2 == 0 ? WEIR_ROUTE_OFFLOAD : WEIR_ROUTE_AUTO;
            memset(buffers[i], 0, sizeof buffers[i]);
            weir_op_read(&reads[i].op, file, buffers[i], sizeof buffers[i], 0);
            seam_submit(loop, &reads[i]);
        }
        seam_turns(loop, round % 3);
        weir_op_close(&close_op.op, file);
        expect_equal(seam_carry_out(loop, &close_op), 0);
        for (int i = 0; i < 8; i++) {
            expect_equal(reads[i].calls, 1);
            expect(reads[i].order < close_op.order);
            expect(reads[i].result == -ECANCELED ||
                   (reads[i].result == 4096 && seam_pattern_holds(buffers[i], 4096, 0)));
        }
    }
    seam_end(loop);
}

SEAM_TEST(a_CLOSE_closes_whatever_it_is_though_there_is_no_worker)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = WEIR_NO_OFFLOAD});
    for (int polled = 0; polled < 2; polled++) {
        struct seam_pair pipe = seam_pipe(0);
        const int fds[] = {seam_file(10), pipe.in, pipe.out};
        seam_write(pipe.out, "x", 1); /* both ends are ready */
        for (size_t i = 0; i < SEAM_COUNT(fds); i++) {
            struct tracked op = {0};
            if (polled == 1) { /* the loop knows the fd already */
                weir_op_poll(&op.op, fds[i], POLLIN | POLLOUT);
                expect(seam_carry_out(loop, &op) > 0);
            }
            weir_op_close(&op.op, fds[i]);
            expect_equal(seam_carry_out(loop, &op), 0);
            expect(fcntl(fds[i], F_GETFD) < 0);
        }
    }
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(forget_answers_EBUSY_while_a_worker_has_a_call_on_the_fd_and_cancels_the_rest),
    cmocka_unit_test(a_queued_call_on_a_forgotten_fd_never_hits_the_file_that_took_its_number),
    cmocka_unit_test(CLOSE_waits_for_the_call_of_a_worker_and_cancels_the_rest),
    cmocka_unit_test(a_call_of_a_worker_is_asked_for_by_its_fd),
    cmocka_unit_test(the_fds_of_files_that_workers_are_at_may_be_closed_and_reused_without_end),
    cmocka_unit_test(a_CLOSE_closes_whatever_it_is_though_there_is_no_worker),
};

const struct seam_group offload_fds_group = SEAM_GROUP("offload_fds", tests);
