/* SPDX-License-Identifier: MIT */
/* timers.c: rules 21 and 29: TIMEOUT ops: never early, in order, past the gate, never starved. */
#include "seam.h"

#include <time.h>

static uint64_t clock_ns(void)
{
    struct timespec now;
    expect_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* arg.timeout.at_ns still stands in the callback. */
static void expect_due(struct tracked *timer)
{
    uint64_t *due = timer->context;
    expect_equal(timer->result, 0);
    expect(clock_ns() >= *due);
}

SEAM_TEST(a_timer_is_never_early)
{
    struct weir_loop *loop = seam_loop();
    static struct tracked timers[1000];
    static uint64_t due[1000];
    memset(timers, 0, sizeof timers);
    for (int i = 0; i < 1000; i++) {
        due[i] = clock_ns() + seam_random() % (30 * WEIR_MS);
        timers[i].then = expect_due;
        timers[i].context = &due[i];
        weir_op_timeout(&timers[i].op, due[i]);
        seam_submit(loop, &timers[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 1000; i++) {
        expect_equal(timers[i].calls, 1);
        for (int j = 0; j < i; j += 37) {
            expect(due[j] == due[i] || (due[j] < due[i]) == (timers[j].order < timers[i].order));
        }
    }
    seam_end(loop);
}

SEAM_TEST(a_relative_timer_counts_from_now)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timer = {0};
    uint64_t before = clock_ns();
    weir_op_timeout_in(&timer.op, loop, 3 * WEIR_MS);
    expect_equal(seam_carry_out(loop, &timer), 0);
    expect(clock_ns() >= before + 3 * WEIR_MS);
    expect(weir_now(loop) >= before);
    seam_end(loop);
}

SEAM_TEST(a_timer_in_the_past_comes_in_the_next_turn)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timers[3] = {0};
    weir_op_timeout(&timers[0].op, 0);
    weir_op_timeout(&timers[1].op, 1);
    weir_op_timeout(&timers[2].op, weir_now(loop));
    for (int i = 0; i < 3; i++) {
        seam_submit(loop, &timers[i]);
        expect_equal(timers[i].calls, 0);
    }
    expect_equal(seam_turn(loop, 0), 3);
    for (int i = 0; i < 3; i++) {
        expect_equal(timers[i].result, 0);
    }
    seam_end(loop);
}

SEAM_TEST(a_turn_waits_no_longer_than_it_was_told)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timer = {0};
    weir_op_timeout(&timer.op, UINT64_MAX);
    seam_submit(loop, &timer);
    expect_equal(seam_turn(loop, WEIR_MS), 0); /* comes back at all, without a callback */
    expect_equal(seam_turn(loop, 0), 0);
    expect_equal(seam_cancel(loop, &timer), 0);
    seam_await(loop, &timer);
    expect_equal(timer.result, -ECANCELED);
    seam_end(loop);
}

SEAM_TEST(timers_go_past_a_full_gate)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked refused = {.op.callback = seam_called};
    struct tracked timers[10] = {0};
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_nop(&refused.op);
    seam_refused(loop, &refused, -EAGAIN);
    for (int i = 0; i < 10; i++) {
        weir_op_timeout_in(&timers[i].op, loop, 1000);
        seam_submit(loop, &timers[i]);
    }
    for (int i = 0; i < 10; i++) {
        seam_await(loop, &timers[i]);
    }
    expect_equal(idle.calls, 0);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &idle);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(timers_max_is_a_limit_and_a_place_comes_back_with_its_timer)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.timers_max = 3});
    struct tracked timers[3] = {0};
    struct tracked more = {.op.callback = seam_called};
    for (int i = 0; i < 3; i++) {
        weir_op_timeout_in(&timers[i].op, loop, 3600 * WEIR_S);
        seam_submit(loop, &timers[i]);
    }
    weir_op_timeout_in(&more.op, loop, 1000);
    seam_refused(loop, &more, -EAGAIN);
    seam_turns(loop, 2);
    seam_refused(loop, &more, -EAGAIN);
    expect_equal(seam_cancel(loop, &timers[1]), 0);
    seam_await(loop, &timers[1]);
    expect_equal(seam_carry_out(loop, &more), 0);
    expect_equal(seam_carry_out(loop, &more), 0); /* due already, and its place was free again */
    seam_end(loop);
    expect_equal(timers[0].result, -ECANCELED);
    expect_equal(timers[2].result, -ECANCELED);
}

#define MILLION 1000000

SEAM_TEST(a_million_timers_go_through_the_same_submit_and_cancel)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.timers_max = MILLION});
    struct tracked *timers = calloc(MILLION, sizeof *timers);
    expect(timers != NULL);
    uint64_t start = weir_now(loop);
    for (size_t i = 0; i < MILLION; i++) {
        uint64_t wait =
            i % 2 == 0 ? seam_random() % WEIR_MS : 3600 * WEIR_S + seam_random() % WEIR_S;
        weir_op_timeout(&timers[i].op, start + wait);
        seam_submit(loop, &timers[i]);
    }
    expect_equal(weir_loop_live(loop), MILLION);
    /* The far ones, in an order that is not the heap's. */
    for (size_t i = 0; i < MILLION; i++) {
        size_t place = i * 7919 % MILLION;
        if (place % 2 == 1) {
            expect_equal(seam_cancel(loop, &timers[place]), 0);
        }
    }
    expect_equal(seam_run(loop), 0);
    uint64_t last_due = 0;
    uint64_t last_order = 0;
    for (size_t i = 0; i < MILLION; i++) {
        expect_equal(timers[i].calls, 1);
        expect_equal(timers[i].result, i % 2 == 0 ? 0 : -ECANCELED);
        uint64_t due = timers[i].op.arg.timeout.at_ns;
        if (i % 2 == 0 && i > 0 && due != last_due) {
            expect((due > last_due) == (timers[i].order > last_order));
        }
        if (i % 2 == 0) {
            last_due = due;
            last_order = timers[i].order;
        }
    }
    seam_end(loop);
    free(timers);
}

static void rearm(struct tracked *timer)
{
    struct weir_loop *loop = timer->context;
    if (timer->calls < 200) {
        weir_op_timeout_in(&timer->op, loop, seam_random() % (100 * WEIR_US));
        seam_submit(loop, timer);
    }
}

SEAM_TEST(timers_re_arm_themselves_in_their_callbacks)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.timers_max = 20});
    struct tracked timers[20] = {0};
    for (int i = 0; i < 20; i++) {
        timers[i].then = rearm;
        timers[i].context = loop;
        weir_op_timeout_in(&timers[i].op, loop, 0);
        seam_submit(loop, &timers[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 20; i++) {
        expect_equal(timers[i].calls, 200);
    }
    seam_end(loop);
}

/* --- rule 29 --------------------------------------------------------------------------------- */

static bool enough;

static void again_until_enough(struct tracked *op)
{
    if (!enough) {
        weir_op_nop(&op->op);
        seam_submit(op->context, op);
    }
}

static void set_enough(struct tracked *timer)
{
    (void)timer;
    enough = true;
}

SEAM_TEST(no_amount_of_ready_completions_keeps_timers_from_firing)
{
    struct weir_loop *loop = seam_loop();
    static struct tracked nops[256];
    memset(nops, 0, sizeof nops);
    enough = false;
    struct tracked timer = {.then = set_enough};
    weir_op_timeout_in(&timer.op, loop, 2 * WEIR_MS);
    seam_submit(loop, &timer);
    for (int i = 0; i < 256; i++) {
        nops[i].then = again_until_enough;
        nops[i].context = loop;
        weir_op_nop(&nops[i].op);
        seam_submit(loop, &nops[i]);
    }
    expect_equal(seam_run(loop), 0);
    expect(enough);
    seam_end(loop);
}

static void past_timer_until_enough(struct tracked *timer)
{
    if (!enough) {
        weir_op_timeout(&timer->op, 1);
        seam_submit(timer->context, timer);
    }
}

SEAM_TEST(no_amount_of_due_timers_keeps_completions_from_coming_back)
{
    struct weir_loop *loop = seam_loop();
    static struct tracked timers[1000];
    memset(timers, 0, sizeof timers);
    enough = false;
    for (int i = 0; i < 1000; i++) {
        timers[i].then = past_timer_until_enough;
        timers[i].context = loop;
        weir_op_timeout(&timers[i].op, 1);
        seam_submit(loop, &timers[i]);
    }
    struct tracked nop = {.then = set_enough};
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    expect_equal(seam_run(loop), 0);
    expect_equal(nop.calls, 1);
    seam_end(loop);
}

static void submit_the_next(struct tracked *op)
{
    struct tracked *next = op->context;
    weir_op_nop(&next->op);
    seam_submit(op->op.user, next);
}

SEAM_TEST(what_callbacks_submit_leaves_before_the_loop_sleeps)
{
    struct weir_loop *loop = seam_loop();
    struct tracked second = {0};
    struct tracked first = {.then = submit_the_next, .context = &second, .op.user = loop};
    weir_op_timeout_in(&first.op, loop, 1000);
    seam_submit(loop, &first);
    while (second.calls == 0) {
        expect(seam_turn(loop, -1) >= 0); /* a sleep with the NOP still unsent would have no end */
    }
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_timer_is_never_early),
    cmocka_unit_test(a_relative_timer_counts_from_now),
    cmocka_unit_test(a_timer_in_the_past_comes_in_the_next_turn),
    cmocka_unit_test(a_turn_waits_no_longer_than_it_was_told),
    cmocka_unit_test(timers_go_past_a_full_gate),
    cmocka_unit_test(timers_max_is_a_limit_and_a_place_comes_back_with_its_timer),
    cmocka_unit_test(a_million_timers_go_through_the_same_submit_and_cancel),
    cmocka_unit_test(timers_re_arm_themselves_in_their_callbacks),
    cmocka_unit_test(no_amount_of_ready_completions_keeps_timers_from_firing),
    cmocka_unit_test(no_amount_of_due_timers_keeps_completions_from_coming_back),
    cmocka_unit_test(what_callbacks_submit_leaves_before_the_loop_sleeps),
};

const struct seam_group timers_group = SEAM_GROUP("timers", tests);
