/* SPDX-License-Identifier: MIT */
/* handback.c: ownership and hand-back, rules 1 to 3: accepted once, back once, then the
 * caller's. */
#include "seam.h"

SEAM_TEST(submit_returns_before_any_callback_runs)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(op.calls, 0);
    expect_equal(weir_loop_live(loop), 1);
    expect(op.op.loop == loop);
    seam_await(loop, &op);
    expect_equal(op.result, 0);
    expect_equal(seam_turns(loop, 3), 0);
    expect_equal(op.calls, 1);
    expect_equal(weir_loop_live(loop), 0);
    seam_end(loop);
}

#define MANY 300

static void fill_one_of_many(struct weir_loop *loop, struct tracked *op, int i,
                             const struct seam_pair *pipe, int file)
{
    switch (i % 6) {
    case 0:
        weir_op_nop(&op->op);
        break;
    case 1:
        weir_op_write(&op->op, pipe->out, "x", 1, WEIR_CURRENT);
        break;
    case 2:
        weir_op_read(&op->op, pipe->in, op->data, 1, WEIR_CURRENT);
        break;
    case 3:
        weir_op_read(&op->op, file, op->data, sizeof op->data, 0);
        break;
    case 4:
        weir_op_timeout_in(&op->op, loop, seam_random() % WEIR_MS);
        break;
    default:
        weir_op_fsync(&op->op, -1);
        break;
    }
}

SEAM_TEST(every_accepted_op_comes_back_exactly_once)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 32, .waiting_max = MANY});
    struct seam_pair pipe = seam_pipe(0);
    int file = seam_file(64);
    static struct tracked ops[MANY];
    memset(ops, 0, sizeof ops);
    static const int64_t want[] = {0, 1, 1, sizeof ops[0].data, 0, -EBADF};
    for (int i = 0; i < MANY; i++) {
        fill_one_of_many(loop, &ops[i], i, &pipe, file);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(weir_loop_live(loop), MANY);
    expect_equal(seam_run(loop), 0);
    expect_equal(seam_turns(loop, 3), 0);
    for (int i = 0; i < MANY; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, want[i % 6]);
    }
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.submitted, MANY);
    expect_equal(counters.finished, MANY);
    expect_equal(counters.cq_overflow, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
    close(file);
}

SEAM_TEST(cancelled_and_expired_ops_come_back_exactly_once_too)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 16, .waiting_max = MANY});
    struct seam_pair pipe = seam_pipe(0);
    static struct tracked ops[MANY];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < MANY; i++) {
        weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.deadline_ns = i % 3 == 0 ? weir_now(loop) + seam_random() % WEIR_MS : 0;
        seam_submit(loop, &ops[i]);
        if (i % 64 == 0) {
            seam_turn(loop, 0);
        }
        if (i % 3 != 0) {
            int r = seam_cancel(loop, &ops[i]);
            expect_equal(r, 0);
        }
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(seam_turns(loop, 3), 0);
    for (int i = 0; i < MANY; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, i % 3 == 0 ? -ETIME : -ECANCELED);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void resubmit_nop(struct tracked *op)
{
    struct weir_loop *loop = op->context;
    if (op->calls < 10000) {
        weir_op_nop(&op->op);
        seam_submit(loop, op);
    }
}

SEAM_TEST(an_op_may_be_resubmitted_in_its_callback)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1});
    struct tracked op = {.then = resubmit_nop, .context = loop};
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(seam_run(loop), 0);
    expect_equal(op.calls, 10000);
    seam_end(loop);
}

static unsigned freed;

static void free_itself(struct tracked *op)
{
    freed++;
    free(op);
}

SEAM_TEST(an_op_may_be_freed_in_its_callback)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    freed = 0;
    for (int i = 0; i < 60; i++) {
        struct tracked *op = calloc(1, sizeof *op);
        expect(op != NULL);
        op->then = free_itself;
        if (i % 3 == 0) {
            weir_op_nop(&op->op);
        } else if (i % 3 == 1) {
            weir_op_timeout_in(&op->op, loop, 1000);
        } else {
            weir_op_read(&op->op, pipe.in, op->data, 1, WEIR_CURRENT);
        }
        seam_submit(loop, op);
        if (i % 3 == 2) {
            expect_equal(seam_cancel(loop, op), 0);
        }
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(freed, 60);
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* Frees both when it is the second of the two; the first is a finished sibling by then. */
static void free_both_when_last(struct tracked *op)
{
    struct tracked *sibling = op->context;
    if (sibling->calls > 0) {
        freed += 2;
        free(sibling);
        free(op);
    }
}

SEAM_TEST(a_finished_sibling_may_be_freed_in_a_callback)
{
    struct weir_loop *loop = seam_loop();
    freed = 0;
    for (int i = 0; i < 20; i++) {
        struct tracked *a = calloc(1, sizeof *a);
        struct tracked *b = calloc(1, sizeof *b);
        expect(a != NULL && b != NULL);
        a->then = free_both_when_last;
        b->then = free_both_when_last;
        a->context = b;
        b->context = a;
        weir_op_nop(&a->op);
        weir_op_timeout_in(&b->op, loop, 0);
        seam_submit(loop, a);
        seam_submit(loop, b);
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(freed, 40);
    seam_end(loop);
}

/* Resubmits the sibling, which is back, once. */
static void resubmit_sibling(struct tracked *op)
{
    struct tracked *sibling = op->context;
    struct weir_loop *loop = sibling->context;
    expect_equal(sibling->calls, 1);
    sibling->then = NULL;
    weir_op_nop(&sibling->op);
    seam_submit(loop, sibling);
}

SEAM_TEST(a_finished_sibling_may_be_resubmitted_in_a_callback)
{
    struct weir_loop *loop = seam_loop();
    struct tracked first = {.context = loop};
    struct tracked second = {.then = resubmit_sibling, .context = &first};
    weir_op_nop(&first.op);
    expect_equal(seam_carry_out(loop, &first), 0);
    weir_op_nop(&second.op);
    seam_submit(loop, &second);
    expect_equal(seam_run(loop), 0);
    expect_equal(first.calls, 2);
    expect_equal(second.calls, 1);
    seam_end(loop);
}

static void cancel_sibling(struct tracked *op)
{
    struct tracked *sibling = op->context;
    expect_equal(seam_cancel(sibling->context, sibling), 0);
}

SEAM_TEST(a_live_sibling_cancelled_in_a_callback_comes_back_once)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 2, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {.context = loop};
    struct tracked at_gate = {.context = loop};
    struct tracked nop = {.then = cancel_sibling, .context = &idle};
    struct tracked nop2 = {.then = cancel_sibling, .context = &at_gate};
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    expect_equal(seam_run(loop), 0);
    expect_equal(idle.result, -ECANCELED);
    expect_equal(idle.calls, 1);
    /* The timer's callback runs while both credits are held by reads and the third op waits. */
    struct tracked hold[2] = {{.context = loop}, {.context = loop}};
    seam_read_byte(loop, &hold[0], pipe.in);
    seam_read_byte(loop, &hold[1], pipe.in);
    seam_read_byte(loop, &at_gate, pipe.in);
    weir_op_timeout_in(&nop2.op, loop, 1000);
    seam_submit(loop, &nop2);
    seam_await(loop, &at_gate);
    expect_equal(at_gate.result, -ECANCELED);
    seam_write(pipe.out, "ab", 2);
    expect_equal(seam_run(loop), 0);
    expect_equal(hold[0].result, 1);
    expect_equal(hold[1].result, 1);
    expect_equal(at_gate.calls, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_engine_leaves_what_an_op_points_to_as_it_is)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pair = seam_socketpair(SOCK_STREAM);
    char a[] = "first ";
    char b[] = "second";
    struct iovec iov[] = {{a, 6}, {b, 6}};
    struct iovec iov_before[2];
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    struct msghdr message_before = message;
    memcpy(iov_before, iov, sizeof iov);
    struct tracked send = {0};
    weir_op_sendmsg(&send.op, pair.out, &message, 0);
    send.op.flags = WEIR_WHOLE;
    expect_equal(seam_carry_out(loop, &send), 12);
    expect(memcmp(iov, iov_before, sizeof iov) == 0);
    expect(memcmp(&message, &message_before, sizeof message) == 0);
    expect(memcmp(a, "first ", 6) == 0);
    char got[12];
    seam_read(pair.in, got, sizeof got);
    expect(memcmp(got, "first second", 12) == 0);
    seam_end(loop);
    seam_pair_close(&pair);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(submit_returns_before_any_callback_runs),
    cmocka_unit_test(every_accepted_op_comes_back_exactly_once),
    cmocka_unit_test(cancelled_and_expired_ops_come_back_exactly_once_too),
    cmocka_unit_test(an_op_may_be_resubmitted_in_its_callback),
    cmocka_unit_test(an_op_may_be_freed_in_its_callback),
    cmocka_unit_test(a_finished_sibling_may_be_freed_in_a_callback),
    cmocka_unit_test(a_finished_sibling_may_be_resubmitted_in_a_callback),
    cmocka_unit_test(a_live_sibling_cancelled_in_a_callback_comes_back_once),
    cmocka_unit_test(the_engine_leaves_what_an_op_points_to_as_it_is),
};

const struct seam_group handback_group = SEAM_GROUP("handback", tests);
