/* SPDX-License-Identifier: MIT */
/* loopfd_workers.c: rule 24: what workers and other threads bring makes the loop's fd readable. */
#include "seam.h"

#define THOUSAND 1000

struct foreign {
    struct weir_loop *loop;
    int epoll;
};

static struct foreign foreign_open(struct weir_options options)
{
    struct foreign foreign = {.loop = seam_loop_with(options)};
    foreign.epoll = seam_foreign(foreign.loop);
    return foreign;
}

static void foreign_turn(struct foreign *foreign)
{
    seam_foreign_turn(foreign->loop, foreign->epoll);
}

static void foreign_close(struct foreign *foreign)
{
    int turns = 0;
    expect_equal(weir_loop_live(foreign->loop), 0);
    while (seam_foreign_asks(foreign->epoll)) { /* it becomes quiet */
        expect(++turns < 10);
        expect(seam_turn(foreign->loop, 0) >= 0);
    }
    seam_end(foreign->loop);
    seam_foreign_close(foreign->epoll);
}

static struct seam_work works[THOUSAND];

SEAM_TEST(a_thousand_calls_one_after_another_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    for (int i = 0; i < THOUSAND; i++) {
        seam_work_fill(&works[0], i);
        seam_submit(foreign.loop, &works[0].call);
        expect(seam_turn(foreign.loop, 0) >= 0);
        while (works[0].call.calls == 0) {
            foreign_turn(&foreign);
        }
        expect_equal(works[0].call.result, i);
    }
    foreign_close(&foreign);
}

SEAM_TEST(a_thousand_calls_at_once_make_it_readable_until_all_are_back)
{
    struct foreign foreign = foreign_open((struct weir_options){
        .offload_workers = 2, .offload_depth = 100, .offload_waiting_max = THOUSAND});
    for (int i = 0; i < THOUSAND; i++) {
        seam_work_fill(&works[i], i);
        seam_submit(foreign.loop, &works[i].call);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (weir_loop_live(foreign.loop) > 0) {
        foreign_turn(&foreign);
    }
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(works[i].call.result, i);
    }
    foreign_close(&foreign);
}

static unsigned calls_left;

static void call_next(struct tracked *call)
{
    if (calls_left > 0) {
        calls_left--;
        weir_op_call(&call->op, seam_work_do, call->context);
        seam_submit(call->op.user, call);
    }
}

SEAM_TEST(a_thousand_calls_submitted_in_callbacks_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    calls_left = THOUSAND;
    for (int i = 0; i < 2; i++) {
        seam_work_fill(&works[i], i);
        works[i].call.then = call_next;
        works[i].call.context = &works[i];
        works[i].call.op.user = foreign.loop;
        seam_submit(foreign.loop, &works[i].call);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (weir_loop_live(foreign.loop) > 0) {
        foreign_turn(&foreign);
    }
    expect_equal(calls_left, 0);
    foreign_close(&foreign);
}

struct poster {
    struct weir_loop *loop;
    struct tracked op;
    bool timers;
    sem_t seen;
    int failed;
};

static void *post_a_thousand(void *context)
{
    struct poster *poster = context;
    for (unsigned i = 0; i < THOUSAND && poster->failed == 0; i++) {
        if (poster->timers) {
            weir_op_timeout_in(&poster->op.op, poster->loop, i % 3 * 30 * WEIR_US);
        } else {
            weir_op_nop(&poster->op.op);
        }
        poster->failed = seam_post(poster->loop, &poster->op, WEIR_SITE);
        while (sem_wait(&poster->seen) != 0) {
        }
    }
    return NULL;
}

static void expect_posts_seen(bool timers)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    static struct poster poster;
    pthread_t thread;
    poster = (struct poster){.loop = foreign.loop, .timers = timers};
    expect_equal(sem_init(&poster.seen, 0, 0), 0);
    expect_equal(pthread_create(&thread, NULL, post_a_thousand, &poster), 0);
    for (unsigned i = 1; i <= THOUSAND; i++) {
        while (poster.op.calls < i) {
            foreign_turn(&foreign);
        }
        expect_equal(poster.op.result, 0);
        expect_equal(sem_post(&poster.seen), 0);
    }
    expect_equal(pthread_join(thread, NULL), 0);
    expect_equal(poster.failed, 0);
    sem_destroy(&poster.seen);
    foreign_close(&foreign);
}

SEAM_TEST(a_thousand_posts_make_it_readable)
{
    expect_posts_seen(false);
}

SEAM_TEST(a_thousand_posted_timers_make_it_readable)
{
    expect_posts_seen(true);
}

SEAM_TEST(what_the_owner_posts_makes_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = 1, .posts_max = 64});
    static struct tracked nops[64];
    memset(nops, 0, sizeof nops);
    for (int i = 0; i < 64; i++) {
        weir_op_nop(&nops[i].op);
        seam_posted(foreign.loop, &nops[i]); /* and no turn after it: a post rings */
    }
    while (weir_loop_live(foreign.loop) > 0) {
        foreign_turn(&foreign);
    }
    foreign_close(&foreign);
}

static void cancel_queued(struct tracked *op)
{
    struct seam_work *queued = op->context;
    expect_equal(seam_cancel(op->op.user, &queued->call), 0);
}

SEAM_TEST(cancels_of_queued_calls_and_expired_ones_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){.offload_workers = 1});
    struct seam_work busy;
    seam_block(foreign.loop, &busy);
    for (int i = 0; i < 100; i++) {
        struct tracked timer = {.then = cancel_queued, .context = &works[0]};
        timer.op.user = foreign.loop;
        seam_work_fill(&works[0], 0);
        seam_submit(foreign.loop, &works[0].call);
        seam_work_fill(&works[1], 0);
        works[1].call.op.deadline_ns = weir_now(foreign.loop) + 30 * WEIR_US;
        seam_submit(foreign.loop, &works[1].call);
        weir_op_timeout_in(&timer.op, foreign.loop, 20 * WEIR_US);
        seam_submit(foreign.loop, &timer);
        expect(seam_turn(foreign.loop, 0) >= 0);
        while (weir_loop_live(foreign.loop) > 1) {
            foreign_turn(&foreign);
        }
        expect_equal(works[0].call.result, -ECANCELED);
        expect_equal(works[1].call.result, -ETIME);
    }
    seam_unblock(&busy);
    while (busy.call.calls == 0) {
        foreign_turn(&foreign);
    }
    foreign_close(&foreign);
}

SEAM_TEST(what_the_caller_ran_in_a_callback_makes_it_readable)
{
    struct foreign foreign = foreign_open(
        (struct weir_options){.flags = WEIR_CALLER_RUNS, .offload_workers = 1, .offload_depth = 1});
    struct seam_work busy;
    seam_block(foreign.loop, &busy);
    calls_left = THOUSAND;
    seam_work_fill(&works[0], 3);
    works[0].call.then = call_next;
    works[0].call.context = &works[0];
    works[0].call.op.user = foreign.loop;
    seam_submit(foreign.loop, &works[0].call);
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (calls_left > 0 || works[0].call.op.state != 0) {
        foreign_turn(&foreign);
    }
    expect_equal(seam_counters(foreign.loop).caller_ran, THOUSAND + 1);
    seam_unblock(&busy);
    while (busy.call.calls == 0) {
        foreign_turn(&foreign);
    }
    foreign_close(&foreign);
}

static unsigned rooms_called;

static void count_room(struct weir_room *room, int result)
{
    (void)room;
    expect_equal(result, 0);
    rooms_called++;
}

SEAM_TEST(room_at_the_offload_gate_makes_it_readable)
{
    struct foreign foreign =
        foreign_open((struct weir_options){.offload_workers = 1, .offload_depth = 1});
    struct weir_room room = {.callback = count_room};
    rooms_called = 0;
    for (unsigned i = 1; i <= 50; i++) {
        struct seam_work busy;
        seam_block(foreign.loop, &busy);
        expect_equal(weir_wait_room(foreign.loop, &room, &busy.call.op), 0);
        expect(seam_turn(foreign.loop, 0) >= 0);
        expect_equal(rooms_called, i - 1);
        seam_unblock(&busy);
        while (rooms_called < i || busy.call.calls == 0) {
            foreign_turn(&foreign);
        }
    }
    foreign_close(&foreign);
}

static int closing_result;

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    closing_result = result;
}

SEAM_TEST(closing_makes_it_readable_until_the_workers_are_done)
{
    struct foreign foreign = foreign_open((struct weir_options){.offload_workers = 1});
    struct seam_work running;
    struct tracked posted = {0};
    seam_work_fill(&running, 2);
    running.until_asked = true;
    seam_submit(foreign.loop, &running.call);
    seam_await_begun(foreign.loop, &running);
    seam_work_fill(&works[0], 0);
    seam_submit(foreign.loop, &works[0].call);
    weir_op_nop(&posted.op);
    seam_posted(foreign.loop, &posted);
    closing_result = 1;
    expect_equal(weir_loop_close_begin(foreign.loop, 20 * WEIR_S, closed), 0);
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (closing_result > 0) {
        foreign_turn(&foreign);
    }
    expect_equal(closing_result, 0);
    expect_equal(running.call.result, 2);
    expect_equal(works[0].call.result, -ECANCELED);
    expect_equal(posted.result, -ECANCELED);
    expect_equal(seam_close(foreign.loop, 0, NULL), 0);
    seam_foreign_close(foreign.epoll);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_thousand_calls_one_after_another_make_it_readable),
    cmocka_unit_test(a_thousand_calls_at_once_make_it_readable_until_all_are_back),
    cmocka_unit_test(a_thousand_calls_submitted_in_callbacks_make_it_readable),
    cmocka_unit_test(a_thousand_posts_make_it_readable),
    cmocka_unit_test(a_thousand_posted_timers_make_it_readable),
    cmocka_unit_test(what_the_owner_posts_makes_it_readable),
    cmocka_unit_test(cancels_of_queued_calls_and_expired_ones_make_it_readable),
    cmocka_unit_test(what_the_caller_ran_in_a_callback_makes_it_readable),
    cmocka_unit_test(room_at_the_offload_gate_makes_it_readable),
    cmocka_unit_test(closing_makes_it_readable_until_the_workers_are_done),
};

const struct seam_group loopfd_workers_group = SEAM_GROUP("loopfd_workers", tests);
