/* SPDX-License-Identifier: MIT */
/*
 * on_the_spot.c: ops of route INLINE that a callback submits, which is where they take the short
 * way: what they answer, whether a try did all, a part or nothing.
 */
#include "seam.h"

#include <poll.h>
#include <sys/mman.h>

#define OPS 8

struct batch {
    struct tracked nop;
    struct tracked ops[OPS];
    struct weir_loop *loop;
    struct weir_task *task;
    int count;
};

static void submit_batch(struct tracked *tracked)
{
    struct batch *batch = tracked->context;
    for (int i = 0; i < batch->count; i++) {
        batch->ops[i].op.route = WEIR_ROUTE_INLINE;
        seam_submit(batch->loop, &batch->ops[i]);
    }
}

/* The next to be submitted in a callback. */
static struct tracked *next(struct batch *batch, uint16_t flags)
{
    struct tracked *op = &batch->ops[batch->count++];
    *op = (struct tracked){.op.flags = flags, .op.task = batch->task};
    return op;
}

static void open_batch(struct weir_loop *loop, struct batch *batch)
{
    const struct weir_task_options named = {.name = "batch"};
    *batch = (struct batch){.loop = loop};
    expect_equal(weir_task_open(loop, &named, &batch->task), 0);
}

static void run_in_callback(struct weir_loop *loop, struct batch *batch)
{
    batch->nop.then = submit_batch;
    batch->nop.context = batch;
    weir_op_nop(&batch->nop.op);
    expect_equal(seam_carry_out(loop, &batch->nop), 0);
}

static void expect_data(const struct tracked *op, const char *data)
{
    expect_equal(op->calls, 1);
    expect_equal(op->result, strlen(data));
    expect(memcmp(op->data, data, strlen(data)) == 0);
}

SEAM_TEST(what_is_there_comes_at_once_and_says_how_much_it_was)
{
    static struct batch batch;
    struct weir_loop *loop = seam_loop();
    open_batch(loop, &batch);
    int memory = memfd_create("memory", MFD_CLOEXEC);
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    seam_write(memory, "abcdefgh", 8);
    seam_write(pipe.out, "pipe", 4);
    seam_write(sockets.out, "sockets", 7);
    struct tracked *read_op = next(&batch, WEIR_IN_MEMORY);
    weir_op_read(&read_op->op, memory, read_op->data, 4, 2);
    struct tracked *whole = next(&batch, WEIR_IN_MEMORY | WEIR_WHOLE);
    weir_op_read(&whole->op, memory, whole->data, 8, 0);
    struct tracked *short_op = next(&batch, WEIR_IN_MEMORY | WEIR_WHOLE);
    weir_op_read(&short_op->op, memory, short_op->data, 16, 5); /* past its end */
    struct tracked *written = next(&batch, WEIR_IN_MEMORY | WEIR_WHOLE);
    weir_op_write(&written->op, memory, "wxyz", 4, 8);
    struct tracked *piped = next(&batch, WEIR_WHOLE);
    weir_op_read(&piped->op, pipe.in, piped->data, 4, WEIR_CURRENT);
    struct tracked *received = next(&batch, WEIR_WHOLE);
    weir_op_recv(&received->op, sockets.in, received->data, 7, 0);
    struct tracked *empty = next(&batch, WEIR_IN_MEMORY | WEIR_WHOLE);
    weir_op_read(&empty->op, memory, empty->data, 0, 0);
    run_in_callback(loop, &batch);
    expect_equal(seam_run(loop), 0);
    expect_data(read_op, "cdef");
    expect_data(whole, "abcdefgh");
    expect_equal(whole->op.moved, 8);
    expect_data(short_op, "fgh");
    expect_equal(short_op->op.moved, 3);
    expect_equal(written->result, 4);
    expect_equal(written->op.moved, 4);
    expect_data(piped, "pipe");
    expect_equal(piped->op.moved, 4);
    expect_data(received, "sockets");
    expect_equal(empty->result, 0);
    batch.count = 3; /* in a second life nothing is left of the first */
    memset(whole->data, 0, sizeof whole->data);
    run_in_callback(loop, &batch);
    expect_equal(seam_run(loop), 0);
    expect_equal(whole->calls, 2);
    expect_equal(whole->result, 8);
    expect_equal(whole->op.moved, 8);
    expect(memcmp(whole->data, "abcdefgh", 8) == 0);
    expect_equal(short_op->result, 7);
    struct weir_task_counters counters;
    expect_equal(weir_task_read_counters(batch.task, &counters), 0);
    expect_equal(counters.finished, 7 + 3);
    expect_equal(counters.bytes, (4 + 8 + 3 + 4 + 4 + 7) + (4 + 8 + 7));
    seam_end(loop);
    close(memory);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
}

SEAM_TEST(what_is_not_there_is_waited_for_and_a_part_is_kept)
{
    static struct batch batch;
    struct weir_loop *loop = seam_loop();
    open_batch(loop, &batch);
    struct seam_pair pipes[3] = {seam_pipe(0), seam_pipe(0), seam_pipe(0)};
    seam_write(pipes[0].out, "ab", 2);
    struct tracked *part = next(&batch, WEIR_WHOLE);
    weir_op_read(&part->op, pipes[0].in, part->data, 4, WEIR_CURRENT);
    struct tracked *nothing = next(&batch, 0);
    weir_op_read(&nothing->op, pipes[1].in, nothing->data, 4, WEIR_CURRENT);
    struct tracked *cancelled = next(&batch, WEIR_WHOLE);
    weir_op_read(&cancelled->op, pipes[2].in, cancelled->data, 4, WEIR_CURRENT);
    struct tracked *wrong = next(&batch, WEIR_WHOLE);
    weir_op_read(&wrong->op, -1, wrong->data, 4, 0);
    run_in_callback(loop, &batch);
    seam_await(loop, wrong);
    expect_equal(wrong->result, -EBADF);
    seam_turns(loop, 2);
    expect_equal(part->calls + nothing->calls + cancelled->calls, 0);
    expect_equal(seam_cancel(loop, cancelled), 0);
    seam_await(loop, cancelled);
    expect_equal(cancelled->result, -ECANCELED);
    seam_write(pipes[0].out, "cd", 2);
    seam_write(pipes[1].out, "n", 1);
    seam_await(loop, part);
    seam_await(loop, nothing);
    struct weir_task_counters counters;
    expect_equal(weir_task_read_counters(batch.task, &counters), 0);
    expect_equal(counters.finished, 4);
    expect_equal(counters.continued, 1);
    expect_equal(counters.bytes, 4 + 1);
    expect_data(part, "abcd");
    expect_equal(part->op.moved, 4);
    expect_data(nothing, "n");
    seam_end(loop);
    for (int i = 0; i < 3; i++) {
        seam_pair_close(&pipes[i]);
    }
}

static void submit_misfits(struct tracked *tracked)
{
    struct weir_loop *loop = tracked->op.loop;
    struct tracked op = {
        .op = {.callback = seam_called, .route = WEIR_ROUTE_INLINE, .flags = WEIR_IN_MEMORY},
    };
    weir_op_recv(&op.op, *(int *)tracked->context, op.data, 4, 0);
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_WHOLE;
    weir_op_poll(&op.op, *(int *)tracked->context, POLLIN);
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_IN_MEMORY;
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_SHORT;
    weir_op_read(&op.op, *(int *)tracked->context, op.data, 4, WEIR_CURRENT);
    seam_refused(loop, &op, -EINVAL);
}

SEAM_TEST(flags_that_do_not_fit_are_refused_there_too)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked nop = {.then = submit_misfits, .context = &sockets.in};
    weir_op_nop(&nop.op);
    expect_equal(seam_carry_out(loop, &nop), 0);
    expect_equal(nop.calls, 1);
    seam_end(loop);
    seam_pair_close(&sockets);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_is_there_comes_at_once_and_says_how_much_it_was),
    cmocka_unit_test(what_is_not_there_is_waited_for_and_a_part_is_kept),
    cmocka_unit_test(flags_that_do_not_fit_are_refused_there_too),
};

const struct seam_group on_the_spot_group = SEAM_GROUP("on_the_spot", tests);
