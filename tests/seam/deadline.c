/* SPDX-License-Identifier: MIT */
/* deadline.c: rules 10 and 21: deadlines of ops: absolute, never early, never refused, first
 * wins. */
#include "seam.h"

static uint64_t not_before[1000];

/* op.user is the place in not_before. */
static void expect_not_early(struct tracked *op)
{
    struct weir_loop *loop = op->context;
    uint64_t *due = op->op.user;
    expect_equal(op->result, -ETIME);
    expect(weir_now(loop) >= *due);
}

static void read_until(struct weir_loop *loop, struct tracked *op, int fd, uint64_t deadline_ns)
{
    weir_op_read(&op->op, fd, op->data, 1, WEIR_CURRENT);
    op->op.deadline_ns = deadline_ns;
    seam_submit(loop, op);
}

SEAM_TEST(a_deadline_in_the_past_is_ETIME)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    read_until(loop, &op, pipe.in, 1);
    expect_equal(op.calls, 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ETIME);
    read_until(loop, &op, pipe.in, weir_now(loop) - 1);
    seam_await(loop, &op);
    expect_equal(op.result, -ETIME);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_far_deadline_never_comes_and_keeps_nothing_alive)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[3] = {0};
    static const uint64_t far[] = {3600 * WEIR_S, UINT64_MAX / 2, 0};
    for (int i = 0; i < 3; i++) {
        read_until(loop, &ops[i], pipe.in, far[i] == 0 ? UINT64_MAX : weir_now(loop) + far[i]);
    }
    seam_turns(loop, 3);
    seam_write(pipe.out, "abc", 3);
    expect_equal(seam_run(loop), 0); /* ends with the ops, not with the deadlines */
    for (int i = 0; i < 3; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, 1);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(equal_deadlines_all_come)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    static struct tracked ops[100];
    memset(ops, 0, sizeof ops);
    not_before[0] = weir_now(loop) + 5 * WEIR_MS;
    for (int i = 0; i < 100; i++) {
        ops[i].then = expect_not_early;
        ops[i].context = loop;
        ops[i].op.user = &not_before[0];
        read_until(loop, &ops[i], pipe.in, not_before[0]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 100; i++) {
        expect_equal(ops[i].calls, 1);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_deadline_is_never_early)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1000});
    struct seam_pair pipe = seam_pipe(0);
    static struct tracked ops[1000];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 1000; i++) {
        not_before[i] = weir_now(loop) + seam_random() % (20 * WEIR_MS);
        ops[i].then = expect_not_early;
        ops[i].context = loop;
        ops[i].op.user = &not_before[i];
        read_until(loop, &ops[i], pipe.in, not_before[i]);
        if (i % 100 == 0) {
            seam_turns(loop, 1);
        }
    }
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_op_at_the_gate_expires_without_having_left)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked waiting = {0};
    seam_write(other.out, "a", 1);
    seam_read_byte(loop, &idle, pipe.in);
    read_until(loop, &waiting, other.in, weir_now(loop) + 2 * WEIR_MS);
    seam_await(loop, &waiting);
    expect_equal(waiting.result, -ETIME);
    expect_equal(idle.calls, 0);
    char left;
    seam_read(other.in, &left, 1);
    seam_write(pipe.out, "b", 1);
    seam_await(loop, &idle);
    expect_equal(idle.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
}

SEAM_TEST(a_cancel_before_the_deadline_is_ECANCELED)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked far = {0};
    struct tracked past = {0};
    read_until(loop, &far, pipe.in, weir_now(loop) + 3600 * WEIR_S);
    seam_turns(loop, 2);
    expect_equal(seam_cancel(loop, &far), 0);
    seam_await(loop, &far);
    expect_equal(far.result, -ECANCELED);
    /* Past already, but no turn has looked: the cancel is the first. */
    read_until(loop, &past, pipe.in, 1);
    expect_equal(seam_cancel(loop, &past), 0);
    seam_await(loop, &past);
    expect_equal(past.result, -ECANCELED);
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* Asked after its deadline: live, finished or back, it ends with -ETIME. */
static void cancel_late(struct tracked *timer)
{
    struct tracked *op = timer->context;
    int answer = seam_cancel(timer->op.user, op);
    expect(answer == 0 || answer == -EALREADY || (answer == -ENOENT && op->calls == 1));
}

SEAM_TEST(a_deadline_before_the_cancel_is_ETIME)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < 20; i++) {
        struct tracked op = {0};
        struct tracked timer = {.then = cancel_late, .context = &op, .op.user = loop};
        uint64_t deadline = weir_now(loop) + WEIR_MS;
        read_until(loop, &op, pipe.in, deadline);
        weir_op_timeout(&timer.op, deadline + 1);
        seam_submit(loop, &timer);
        expect_equal(seam_run(loop), 0);
        expect_equal(op.calls, 1);
        expect_equal(timer.calls, 1);
        expect_equal(op.result, -ETIME);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_op_that_succeeded_before_its_deadline_keeps_its_success)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < 300; i++) {
        struct tracked op = {0};
        read_until(loop, &op, pipe.in, weir_now(loop) + seam_random() % (200 * WEIR_US));
        if (i % 2 == 0) {
            seam_turns(loop, 1);
        }
        seam_write(pipe.out, "a", 1);
        while (op.calls == 0) {
            expect(seam_turn(loop, -1) >= 0);
        }
        /* Either; but a byte that was taken is never reported as expired. */
        expect(op.result == 1 || op.result == -ETIME);
        if (op.result == -ETIME) {
            char left;
            seam_read(pipe.in, &left, 1);
        } else {
            expect_equal(op.data[0], 'a');
        }
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_deadline_never_fails_for_want_of_room)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 64, .waiting_max = 64, .timers_max = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked timer = {0};
    struct tracked refused = {.op.callback = seam_called};
    weir_op_timeout_in(&timer.op, loop, 10 * WEIR_MS);
    seam_submit(loop, &timer);
    weir_op_timeout_in(&refused.op, loop, 10 * WEIR_MS);
    seam_refused(loop, &refused, -EAGAIN);
    static struct tracked ops[128];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 128; i++) {
        read_until(loop, &ops[i], pipe.in, weir_now(loop) + 2 * WEIR_MS + (uint64_t)i);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 128; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ETIME);
    }
    expect_equal(timer.result, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_deadline_on_a_timer_is_EINVAL)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timer = {.op.callback = seam_called};
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    timer.op.deadline_ns = weir_now(loop) + WEIR_S;
    seam_refused(loop, &timer, -EINVAL);
    timer.op.deadline_ns = 0;
    expect_equal(seam_carry_out(loop, &timer), 0);
    seam_end(loop);
}

SEAM_TEST(a_deadline_covers_every_kind_that_waits)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    struct tracked ops[5] = {0};
    struct iovec iov = {ops[2].data, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    weir_op_accept(&ops[0].op, listener, NULL, NULL, 0);
    weir_op_recv(&ops[1].op, sockets.in, ops[1].data, 1, 0);
    weir_op_recvmsg(&ops[2].op, sockets.in, &message, 0);
    weir_op_poll(&ops[3].op, pipe.in, 1);
    weir_op_splice(&ops[4].op, pipe.in, WEIR_CURRENT, other.out, WEIR_CURRENT, 1, 0);
    for (int i = 0; i < 5; i++) {
        ops[i].op.deadline_ns = weir_now(loop) + WEIR_MS;
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 5; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ETIME);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
    seam_pair_close(&sockets);
    close(listener);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_deadline_in_the_past_is_ETIME),
    cmocka_unit_test(a_far_deadline_never_comes_and_keeps_nothing_alive),
    cmocka_unit_test(equal_deadlines_all_come),
    cmocka_unit_test(a_deadline_is_never_early),
    cmocka_unit_test(an_op_at_the_gate_expires_without_having_left),
    cmocka_unit_test(a_cancel_before_the_deadline_is_ECANCELED),
    cmocka_unit_test(a_deadline_before_the_cancel_is_ETIME),
    cmocka_unit_test(an_op_that_succeeded_before_its_deadline_keeps_its_success),
    cmocka_unit_test(a_deadline_never_fails_for_want_of_room),
    cmocka_unit_test(a_deadline_on_a_timer_is_EINVAL),
    cmocka_unit_test(a_deadline_covers_every_kind_that_waits),
};

const struct seam_group deadline_group = SEAM_GROUP("deadline", tests);
