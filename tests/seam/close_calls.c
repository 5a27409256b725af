/* SPDX-License-Identifier: MIT */
/* close_calls.c: rule 25: closing a loop whose workers are busy. */
#include "seam.h"

struct busy {
    struct weir_loop *loop;
    struct weir_task *task;
    struct seam_work running;
    struct seam_work queued[10]; /* with the workers and at the gate */
};

static void busy_make(struct busy *busy)
{
    memset(busy, 0, sizeof *busy);
    busy->loop = seam_loop_with(
        (struct weir_options){.offload_workers = 1, .offload_depth = 4, .offload_waiting_max = 7});
    expect_equal(
        weir_task_open(busy->loop, &(struct weir_task_options){.name = "stubborn"}, &busy->task),
        0);
    seam_work_fill(&busy->running, 8);
    busy->running.blocks = true;
    busy->running.call.op.task = busy->task;
    seam_submit(busy->loop, &busy->running.call);
    seam_await_begun(busy->loop, &busy->running);
    for (int i = 0; i < 10; i++) {
        seam_work_fill(&busy->queued[i], i);
        seam_submit(busy->loop, &busy->queued[i].call);
    }
    seam_turns(busy->loop, 2);
}

static void expect_queued_came_back(const struct busy *busy)
{
    for (int i = 0; i < 10; i++) {
        expect_equal(busy->queued[i].call.calls, 1);
        expect_equal(busy->queued[i].call.result, -ECANCELED);
        expect_equal(seam_begun(&busy->queued[i]), 0);
    }
    expect_equal(busy->running.call.calls, 0);
}

static void expect_reported(const struct busy *busy, const struct weir_report *report)
{
    expect_equal(report->count, 1);
    const struct weir_live *live = &report->ops[0];
    expect(live->op == &busy->running.call.op);
    expect(strcmp(live->task, "stubborn") == 0);
    expect(strcmp(live->kind, "call") == 0);
    expect(strcmp(live->state, "in flight") == 0);
    expect(strstr(live->site, "close_calls.c:") != NULL);
    expect_equal(live->fd, -1);
    expect(live->age_ns > 0);
}

SEAM_TEST(queued_calls_come_back_cancelled_and_a_running_one_is_ETIMEDOUT_and_reported)
{
    struct busy busy;
    struct weir_report report = {0};
    struct tracked more = {.op.callback = seam_called};
    int threads = seam_threads();
    busy_make(&busy);
    expect_equal(seam_close(busy.loop, 20 * WEIR_MS, &report), -ETIMEDOUT);
    expect_queued_came_back(&busy);
    expect_reported(&busy, &report);
    expect(weir_op_asked(&busy.running.call.op) != 0);
    weir_op_nop(&more.op);
    seam_refused(busy.loop, &more, -ESHUTDOWN);
    expect_equal(seam_close(busy.loop, 0, &report), -ETIMEDOUT);
    expect_reported(&busy, &report);
    expect_equal(seam_close(busy.loop, WEIR_MS, NULL), -ETIMEDOUT);
    seam_unblock(&busy.running);
    seam_end(busy.loop);
    expect_equal(busy.running.call.calls, 1);
    expect_equal(busy.running.call.result, 8);
    seam_await_threads(threads); /* joined */
}

static unsigned closings;
static int closing_result;

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    closings++;
    closing_result = result;
}

SEAM_TEST(close_begin_does_the_same_and_close_may_go_on)
{
    struct busy busy;
    struct weir_report report = {0};
    busy_make(&busy);
    closings = 0;
    expect_equal(weir_loop_close_begin(busy.loop, 10 * WEIR_MS, closed), 0);
    while (closings == 0) {
        expect(seam_turn(busy.loop, -1) >= 0);
    }
    expect_equal(closing_result, -ETIMEDOUT);
    expect_queued_came_back(&busy);
    expect_equal(seam_close(busy.loop, 0, &report), -ETIMEDOUT);
    expect_reported(&busy, &report);
    seam_unblock(&busy.running);
    seam_end(busy.loop);
    expect_equal(busy.running.call.result, 8);
    expect_equal(closings, 1);
}

SEAM_TEST(close_awaits_running_calls_and_tells_them)
{
    for (int begin = 0; begin < 2; begin++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 3});
        struct seam_work works[3];
        int threads = seam_threads() - seam_threads_of(3);
        for (int i = 0; i < 3; i++) {
            seam_work_fill(&works[i], i);
            works[i].until_asked = true;
            works[i].call.op.flags = i == 2 ? WEIR_SHORT : 0; /* for the one that is kept free */
            seam_submit(loop, &works[i].call);
            seam_await_begun(loop, &works[i]);
        }
        if (begin == 1) {
            closings = 0;
            expect_equal(weir_loop_close_begin(loop, -1, closed), 0);
            expect_equal(seam_run(loop), 0);
            expect_equal(closings, 1);
            expect_equal(closing_result, 0);
        }
        seam_end(loop);
        for (int i = 0; i < 3; i++) {
            expect_equal(works[i].call.calls, 1);
            expect_equal(works[i].call.result, i);
        }
        seam_await_threads(threads);
    }
}

SEAM_TEST(close_cancels_what_backends_and_routes_gave_to_workers)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct seam_pair pipe = seam_pipe(0);
    int file = seam_file(10);
    struct weir_report report = {0};
    struct tracked stuck = {.op.route = WEIR_ROUTE_OFFLOAD};
    struct tracked queued = {.op.route = WEIR_ROUTE_OFFLOAD};
    seam_read_byte(loop, &stuck, pipe.in);
    weir_op_ftruncate(&queued.op, file, 1);
    while (seam_counters(loop).offloaded == 0) {
        seam_turns(loop, 1);
    }
    usleep(2000); /* most likely the worker is in it now; if not, it comes back cancelled */
    seam_submit(loop, &queued);
    seam_turns(loop, 1);
    int answer = seam_close(loop, 5 * WEIR_MS, &report);
    expect_equal(queued.calls, 1);
    if (answer == -ETIMEDOUT) {
        expect_equal(report.count, 1);
        expect(report.ops[0].op == &stuck.op);
        expect(strcmp(report.ops[0].kind, "read") == 0);
        expect_equal(report.ops[0].fd, pipe.in);
        expect_equal(queued.result, -ECANCELED);
        expect_equal(lseek(file, 0, SEEK_END), 10);
        seam_write(pipe.out, "a", 1);
        seam_end(loop);
        expect_equal(stuck.result, 1);
    } else {
        expect_equal(answer, 0);
        expect_equal(stuck.result, -ECANCELED);
    }
    seam_pair_close(&pipe);
    close(file);
}

SEAM_TEST(loops_leave_no_worker_and_no_fd_behind)
{
    seam_end(seam_loop());
    int threads = seam_threads();
    int fds = seam_fds_open();
    for (int i = 0; i < 100; i++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 3});
        struct seam_work work;
        expect_equal(seam_threads(), threads + seam_threads_of(3));
        seam_work_fill(&work, i);
        if (i % 2 == 0) {
            expect_equal(seam_carry_out(loop, &work.call), i);
        }
        expect_equal(seam_close(loop, 0, NULL), 0);
        seam_await_threads(threads);
        expect_equal(seam_fds_open(), fds);
    }
    struct weir_loop *unowned =
        seam_loop_with((struct weir_options){.flags = WEIR_FOR_ADOPTION, .offload_workers = 2});
    seam_end(unowned);
    seam_await_threads(threads);
    expect_equal(seam_fds_open(), fds);
}

/* Its memory stays, as abandon asks. */
static struct busy abandoned;

SEAM_TEST(a_loop_with_a_running_call_may_be_abandoned)
{
    for (int began = 0; began < 3; began++) {
        static struct busy left[3];
        struct busy *busy = &left[began];
        busy_make(busy);
        if (began == 1) {
            expect_equal(seam_close(busy->loop, WEIR_MS, NULL), -ETIMEDOUT);
        } else if (began == 2) {
            expect_equal(weir_loop_close_begin(busy->loop, WEIR_S, closed), 0);
        }
        expect_equal(weir_loop_abandon(busy->loop), 0);
        unsigned calls = busy->queued[0].call.calls;
        seam_unblock(&busy->running);
        /* The late worker ends its function, touches what was leaked, and goes. */
        while (!seam_simulates() && __atomic_load_n(&busy->running.ended, __ATOMIC_ACQUIRE) == 0) {
            usleep(100);
        }
        struct weir_loop *next = seam_loop();
        struct seam_work work;
        for (int i = 0; i < 50; i++) {
            seam_work_fill(&work, i);
            expect_equal(seam_carry_out(next, &work.call), i);
        }
        seam_end(next);
        expect_equal(busy->running.ended, !seam_simulates()); /* its worker went with the loop */
        expect_equal(busy->running.call.calls, 0);
        expect_equal(busy->queued[0].call.calls, calls);
        for (int i = 0; i < 10; i++) {
            expect_equal(seam_begun(&busy->queued[i]), 0);
        }
    }
}

SEAM_TEST(the_workers_of_an_abandoned_loop_end)
{
    int threads = seam_threads();
    busy_make(&abandoned);
    expect_equal(weir_loop_abandon(abandoned.loop), 0);
    seam_unblock(&abandoned.running);
    seam_await_threads(threads);
    struct weir_loop *idle = seam_loop_with((struct weir_options){.offload_workers = 4});
    expect_equal(weir_loop_abandon(idle), 0);
    seam_await_threads(threads);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(queued_calls_come_back_cancelled_and_a_running_one_is_ETIMEDOUT_and_reported),
    cmocka_unit_test(close_begin_does_the_same_and_close_may_go_on),
    cmocka_unit_test(close_awaits_running_calls_and_tells_them),
    cmocka_unit_test(close_cancels_what_backends_and_routes_gave_to_workers),
    cmocka_unit_test(loops_leave_no_worker_and_no_fd_behind),
    cmocka_unit_test(a_loop_with_a_running_call_may_be_abandoned),
    cmocka_unit_test(the_workers_of_an_abandoned_loop_end),
};

const struct seam_group close_calls_group = SEAM_GROUP("close_calls", tests);
