/* SPDX-License-Identifier: MIT */
/* cancel.c: rules 17 to 19: the cancel of an op in every state, by op, by fd and by task. */
#include "seam.h"

SEAM_TEST(an_op_at_the_gate_comes_back_without_having_left)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    seam_write(other.out, "a", 1);
    struct tracked idle = {0};
    struct tracked waiting = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    seam_read_byte(loop, &waiting, other.in);
    seam_turns(loop, 1);
    expect_equal(seam_cancel(loop, &waiting), 0);
    expect_equal(waiting.calls, 0); /* never inside cancel */
    seam_await(loop, &waiting);
    expect_equal(waiting.result, -ECANCELED);
    char left;
    seam_read(other.in, &left, 1); /* the byte was not taken */
    seam_write(pipe.out, "b", 1);
    seam_await(loop, &idle);
    expect_equal(idle.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
}

SEAM_TEST(an_op_not_yet_published_is_finished_locally)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_write(pipe.out, "a", 1);
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.cancels, 0);
    expect_equal(seam_turns(loop, 3), 0);
    char left;
    seam_read(pipe.in, &left, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_published_op_comes_back_cancelled)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    struct tracked ops[3] = {0};
    seam_read_byte(loop, &ops[0], pipe.in);
    weir_op_recv(&ops[1].op, sockets.in, ops[1].data, 1, 0);
    seam_submit(loop, &ops[1]);
    weir_op_accept(&ops[2].op, listener, NULL, NULL, 0);
    seam_submit(loop, &ops[2]);
    seam_turns(loop, 2);
    for (int i = 0; i < 3; i++) {
        expect_equal(seam_cancel(loop, &ops[i]), 0);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 3; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ECANCELED);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
    close(listener);
}

static void cancel_finished(struct tracked *op)
{
    struct tracked *other = op->context;
    if (other->calls == 0) {
        expect_equal(seam_cancel(op->op.user, other), -EALREADY);
        expect_equal(seam_cancel(op->op.user, other), -EALREADY);
    } else {
        expect_equal(seam_cancel(op->op.user, other), -ENOENT);
    }
}

SEAM_TEST(a_finished_op_answers_EALREADY_and_comes_back_in_the_same_turn)
{
    struct weir_loop *loop = seam_loop();
    struct tracked a = {.then = cancel_finished, .op.user = loop};
    struct tracked b = {.then = cancel_finished, .op.user = loop, .context = &a};
    a.context = &b;
    weir_op_nop(&a.op);
    weir_op_nop(&b.op);
    seam_submit(loop, &a);
    seam_submit(loop, &b);
    expect_equal(seam_turn(loop, -1), 2);
    expect_equal(a.result, 0);
    expect_equal(b.result, 0);
    seam_end(loop);
}

SEAM_TEST(timers_due_in_the_same_turn_answer_EALREADY_too)
{
    struct weir_loop *loop = seam_loop();
    struct tracked a = {.then = cancel_finished, .op.user = loop};
    struct tracked b = {.then = cancel_finished, .op.user = loop, .context = &a};
    a.context = &b;
    weir_op_timeout(&a.op, 1);
    weir_op_timeout(&b.op, 2);
    seam_submit(loop, &a);
    seam_submit(loop, &b);
    expect_equal(seam_turn(loop, -1), 2);
    expect_equal(a.result, 0);
    expect_equal(b.result, 0);
    seam_end(loop);
}

/* Far more come back at once than a gate of one has places. */
#define CROWD 1000

SEAM_TEST(a_finished_op_comes_back_in_the_next_turn_whatever_else_does)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1,
                                                                  .timers_max = CROWD,
                                                                  .flags = WEIR_CALLER_RUNS,
                                                                  .offload_workers = 1,
                                                                  .offload_depth = 1});
    static struct tracked timers[CROWD];
    struct seam_work busy;
    struct seam_work ran;
    memset(timers, 0, sizeof timers);
    seam_block(loop, &busy);
    for (int i = 0; i < CROWD; i++) {
        weir_op_timeout_in(&timers[i].op, loop, 3600 * WEIR_S);
        seam_submit(loop, &timers[i]);
        expect_equal(seam_cancel(loop, &timers[i]), 0);
    }
    seam_work_fill(&ran, 3);
    seam_submit(loop, &ran.call); /* by the caller: no worker is free */
    timers[0].then = cancel_finished;
    timers[0].context = &ran.call;
    timers[0].op.user = loop;
    expect_equal(seam_cancel(loop, &ran.call), -EALREADY);
    expect_equal(seam_turn(loop, -1), CROWD + 1); /* in it, the first callback asks again */
    expect_equal(ran.call.calls, 1);
    expect_equal(ran.call.result, 3);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
}

SEAM_TEST(a_timer_comes_back_cancelled)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timer = {0};
    weir_op_timeout_in(&timer.op, loop, 3600 * WEIR_S);
    seam_submit(loop, &timer);
    seam_turns(loop, 1);
    expect_equal(seam_cancel(loop, &timer), 0);
    expect_equal(timer.calls, 0);
    seam_await(loop, &timer);
    expect_equal(timer.result, -ECANCELED);
    seam_end(loop);
}

SEAM_TEST(repeats_are_harmless)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked in_flight = {0};
    struct tracked at_gate = {0};
    struct tracked timer = {0};
    seam_read_byte(loop, &in_flight, pipe.in);
    seam_turns(loop, 2);
    seam_read_byte(loop, &at_gate, pipe.in);
    weir_op_timeout_in(&timer.op, loop, 3600 * WEIR_S);
    seam_submit(loop, &timer);
    for (int i = 0; i < 5; i++) {
        expect_equal(seam_cancel(loop, &in_flight), 0);
        expect_equal(seam_cancel(loop, &at_gate), 0);
        expect_equal(seam_cancel(loop, &timer), 0);
    }
    expect_equal(seam_run(loop), 0);
    expect_equal(seam_turns(loop, 3), 0);
    expect_equal(in_flight.calls, 1);
    expect_equal(at_gate.calls, 1);
    expect_equal(timer.calls, 1);
    expect_equal(in_flight.result, -ECANCELED);
    expect_equal(at_gate.result, -ECANCELED);
    expect_equal(timer.result, -ECANCELED);
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect(counters.cancels <= 1);
    expect_equal(counters.in_flight, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(what_is_not_live_answers_ENOENT)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    expect_equal(seam_cancel(loop, &op), -ENOENT);
    weir_op_nop(&op.op);
    expect_equal(seam_cancel(loop, &op), -ENOENT);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(seam_cancel(loop, &op), -ENOENT);
    seam_read_byte(other, &op, pipe.in);
    expect_equal(seam_cancel(loop, &op), -ENOENT);
    expect_equal(seam_cancel(other, &op), 0);
    seam_await(other, &op);
    expect_equal(op.result, -ECANCELED);
    expect_equal(weir_cancel(loop, NULL), -EINVAL);
    expect_equal(weir_cancel(NULL, &op.op), -EINVAL);
    seam_end(other);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void cancel_live(struct tracked *op)
{
    struct tracked *other = op->context;
    struct weir_loop *loop = op->op.user;
    expect_equal(seam_cancel(loop, other), 0);
    expect_equal(other->calls, 0); /* not inside cancel, and not nested in this callback */
}

SEAM_TEST(a_cancel_in_the_batch_of_its_target_never_overtakes_it)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < 50; i++) {
        struct tracked idle = {0};
        struct tracked nop = {.then = cancel_live, .context = &idle, .op.user = loop};
        weir_op_nop(&nop.op);
        seam_submit(loop, &nop);
        seam_read_byte(loop, &idle, pipe.in);
        seam_await(loop, &idle);
        expect_equal(nop.calls, 1);
        expect_equal(idle.result, -ECANCELED);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(cancels_are_never_refused_for_want_of_room)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 200, .waiting_max = 100, .timers_max = 50});
    struct seam_pair pipe = seam_pipe(0);
    static struct tracked ops[350];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 350; i++) {
        if (i < 300) {
            seam_read_byte(loop, &ops[i], pipe.in);
        } else {
            weir_op_timeout_in(&ops[i].op, loop, 3600 * WEIR_S);
            seam_submit(loop, &ops[i]);
        }
    }
    seam_turns(loop, 3);
    for (int i = 0; i < 350; i++) {
        expect_equal(seam_cancel(loop, &ops[i]), 0);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 350; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ECANCELED);
    }
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.cq_overflow, 0);
    expect_equal(counters.stale, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_cancelled_file_transfer_comes_back_once_with_either_result)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(1 << 20);
    char *data = malloc(1 << 20);
    expect(data != NULL);
    for (int i = 0; i < 200; i++) {
        struct tracked op = {0};
        weir_op_read(&op.op, file, data, 1 << 20, 0);
        seam_submit(loop, &op);
        int answer = 0;
        if (seam_turns(loop, i % 2) == 0) {
            answer = seam_cancel(loop, &op);
            expect(answer == 0 || answer == -EALREADY);
        }
        while (op.calls == 0) {
            expect(seam_turn(loop, -1) >= 0);
        }
        expect(op.result == -ECANCELED || op.result == 1 << 20);
        expect_equal(seam_turns(loop, 2), 0);
        expect_equal(op.calls, 1);
    }
    free(data);
    seam_end(loop);
    close(file);
}

SEAM_TEST(an_accept_cancelled_too_late_keeps_its_fd_and_in_time_its_connection)
{
    struct weir_loop *loop = seam_loop();
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    int fds = seam_fds_open();
    for (int i = 0; i < 100; i++) {
        struct tracked op = {0};
        weir_op_accept(&op.op, listener, NULL, NULL, SOCK_CLOEXEC);
        seam_submit(loop, &op);
        seam_turns(loop, i % 3);
        int client = seam_client(&address);
        int answer = seam_cancel(loop, &op);
        expect_equal(answer, 0);
        seam_await(loop, &op);
        int accepted = (int)op.result;
        if (accepted < 0) {
            expect_equal(accepted, -ECANCELED);
            accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* nobody took it */
        }
        expect(accepted >= 0);
        seam_write(client, "a", 1);
        char got;
        seam_read(accepted, &got, 1);
        close(accepted);
        close(client);
    }
    expect_equal(seam_fds_open(), fds);
    close(listener);
    seam_end(loop);
}

SEAM_TEST(by_fd_all_that_is_live_on_it_and_nothing_else_is_asked_for)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8, .waiting_max = 8});
    struct seam_pair a = seam_pipe(0);
    struct seam_pair b = seam_pipe(0);
    struct tracked on_a[10] = {0};
    struct tracked on_b = {0};
    struct tracked across = {0};
    seam_read_byte(loop, &on_b, b.in);
    weir_op_splice(&across.op, a.in, WEIR_CURRENT, b.out, WEIR_CURRENT, 1, 0);
    seam_submit(loop, &across);
    for (int i = 0; i < 10; i++) {
        seam_read_byte(loop, &on_a[i], a.in);
    }
    seam_turns(loop, 2);
    expect_equal(weir_cancel_fd(loop, a.out), 0);
    /* In flight and at the gate, and the splice by either of its fds. */
    expect_equal(weir_cancel_fd(loop, a.in), 11);
    expect_equal(weir_cancel_fd(loop, a.in), 0);
    for (int i = 0; i < 10; i++) {
        seam_await(loop, &on_a[i]);
        expect_equal(on_a[i].result, -ECANCELED);
    }
    seam_await(loop, &across);
    expect_equal(across.result, -ECANCELED);
    expect_equal(on_b.calls, 0);
    weir_op_splice(&across.op, a.in, WEIR_CURRENT, b.out, WEIR_CURRENT, 1, 0);
    seam_submit(loop, &across);
    seam_turns(loop, 2);
    expect_equal(weir_cancel_fd(loop, b.out), 1);
    seam_await(loop, &across);
    expect_equal(across.result, -ECANCELED);
    expect_equal(weir_cancel_fd(loop, -1), -EBADF);
    expect_equal(weir_cancel_fd(NULL, 0), -EINVAL);
    seam_write(b.out, "x", 1);
    seam_await(loop, &on_b);
    expect_equal(on_b.result, 1);
    seam_end(loop);
    seam_pair_close(&a);
    seam_pair_close(&b);
}

SEAM_TEST(by_task_all_of_its_ops_and_no_others_are_asked_for)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4, .waiting_max = 20});
    struct seam_pair pipe = seam_pipe(0);
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "doomed"}, &task), 0);
    struct tracked of_task[10] = {0};
    struct tracked others[3] = {0};
    for (int i = 0; i < 10; i++) {
        of_task[i].op.task = task;
        if (i < 8) {
            seam_read_byte(loop, &of_task[i], pipe.in);
        } else {
            weir_op_timeout_in(&of_task[i].op, loop, 3600 * WEIR_S);
            seam_submit(loop, &of_task[i]);
        }
        if (i < 3) {
            seam_read_byte(loop, &others[i], pipe.in);
        }
    }
    seam_turns(loop, 2);
    expect_equal(weir_cancel_task(loop, task), 10);
    expect_equal(weir_cancel_task(loop, task), 0);
    for (int i = 0; i < 10; i++) {
        seam_await(loop, &of_task[i]);
        expect_equal(of_task[i].result, -ECANCELED);
    }
    expect_equal(weir_cancel_task(loop, NULL), -EINVAL);
    seam_write(pipe.out, "abc", 3);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 3; i++) {
        expect_equal(others[i].calls, 1);
        expect_equal(others[i].result, 1);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_op_at_the_gate_comes_back_without_having_left),
    cmocka_unit_test(an_op_not_yet_published_is_finished_locally),
    cmocka_unit_test(a_published_op_comes_back_cancelled),
    cmocka_unit_test(a_finished_op_answers_EALREADY_and_comes_back_in_the_same_turn),
    cmocka_unit_test(timers_due_in_the_same_turn_answer_EALREADY_too),
    cmocka_unit_test(a_finished_op_comes_back_in_the_next_turn_whatever_else_does),
    cmocka_unit_test(a_timer_comes_back_cancelled),
    cmocka_unit_test(repeats_are_harmless),
    cmocka_unit_test(what_is_not_live_answers_ENOENT),
    cmocka_unit_test(a_cancel_in_the_batch_of_its_target_never_overtakes_it),
    cmocka_unit_test(cancels_are_never_refused_for_want_of_room),
    cmocka_unit_test(a_cancelled_file_transfer_comes_back_once_with_either_result),
    cmocka_unit_test(an_accept_cancelled_too_late_keeps_its_fd_and_in_time_its_connection),
    cmocka_unit_test(by_fd_all_that_is_live_on_it_and_nothing_else_is_asked_for),
    cmocka_unit_test(by_task_all_of_its_ops_and_no_others_are_asked_for),
};

const struct seam_group cancel_group = SEAM_GROUP("cancel", tests);
