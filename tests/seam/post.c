/* SPDX-License-Identifier: MIT */
/*
 * post.c: rule 23: submitting from any thread: accepted once and never refused later, bounded, in
 * order for each thread and gate. What becomes of posts on their way stands in posted.c.
 */
#include "seam.h"

#include <sched.h>

#define POSTERS 4

/* Posts all its ops, again and again where there is no room. May use no expectations. */
struct poster {
    struct weir_loop *loop;
    struct tracked *ops;
    unsigned count;
    unsigned refused;
    int failed;
    pthread_t thread;
};

static void *post_all(void *context)
{
    struct poster *poster = context;
    for (unsigned i = 0; i < poster->count && poster->failed == 0; i++) {
        int answer = seam_post(poster->loop, &poster->ops[i], WEIR_SITE);
        while (answer == -EAGAIN) {
            poster->refused++;
            sched_yield();
            answer = seam_post(poster->loop, &poster->ops[i], WEIR_SITE);
        }
        poster->failed = answer;
    }
    return NULL;
}

static void posters_start(struct poster *posters, int count)
{
    for (int i = 0; i < count; i++) {
        expect_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
}

static void posters_end(struct poster *posters, int count)
{
    for (int i = 0; i < count; i++) {
        expect_equal(pthread_join(posters[i].thread, NULL), 0);
        expect_equal(posters[i].failed, 0);
    }
}

static int64_t add_one(void *argument)
{
    return (int64_t)__atomic_add_fetch((unsigned *)argument, 1, __ATOMIC_RELAXED);
}

SEAM_TEST(an_op_of_every_sort_may_be_posted_from_another_thread)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    int file = seam_file(100);
    struct tracked ops[8] = {0};
    unsigned added = 0;
    weir_op_nop(&ops[0].op);
    seam_write(pipe.out, "p", 1);
    weir_op_read(&ops[1].op, pipe.in, ops[1].data, 1, WEIR_CURRENT);
    weir_op_read(&ops[2].op, file, ops[2].data, 16, 3);
    weir_op_timeout_in(&ops[3].op, loop, WEIR_MS);
    weir_op_call(&ops[4].op, add_one, &added);
    weir_op_call(&ops[5].op, add_one, &added);
    ops[5].op.flags = WEIR_SHORT;
    weir_op_write(&ops[6].op, file, "x", 1, 50);
    ops[6].op.route = WEIR_ROUTE_OFFLOAD;
    weir_op_read(&ops[7].op, file, ops[7].data, 16, 5);
    ops[7].op.flags = WEIR_WHOLE;
    ops[7].op.route = WEIR_ROUTE_INLINE;
    struct poster poster = {.loop = loop, .ops = ops, .count = 8};
    posters_start(&poster, 1);
    for (int i = 0; i < 8; i++) {
        while (__atomic_load_n(&ops[i].calls, __ATOMIC_RELAXED) == 0) {
            expect(seam_turn(loop, WEIR_MS) >= 0);
        }
    }
    posters_end(&poster, 1);
    expect_equal(ops[0].result, 0);
    expect_equal(ops[1].result, 1);
    expect_equal(ops[1].data[0], 'p');
    expect(ops[2].result == 16 && seam_pattern_holds(ops[2].data, 16, 3));
    expect_equal(ops[3].result, 0);
    expect_equal(added, 2);
    expect_equal(ops[6].result, 1);
    expect(ops[7].result == 16 && seam_pattern_holds(ops[7].data, 16, 5));
    expect_equal(seam_counters(loop).posts, 8);
    expect_equal(weir_loop_live(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
    close(file);
}

SEAM_TEST(the_owner_may_post_too_and_no_callback_runs_inside)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    for (unsigned i = 1; i <= 100; i++) {
        weir_op_nop(&op.op);
        seam_posted(loop, &op);
        expect_equal(op.calls, i - 1);
        expect_equal(weir_loop_live(loop), 1);
        seam_await_count(loop, &op.calls, i); /* the turn does not sleep over it */
        expect_equal(op.result, 0);
    }
    seam_end(loop);
}

/* --- order ------------------------------------------------------------------------------------ */

/* The ops of a thread came back in the order it posted them. */
static void expect_in_order(const struct poster *poster)
{
    for (unsigned i = 0; i < poster->count; i++) {
        expect_equal(poster->ops[i].calls, 1);
        expect(i == 0 || poster->ops[i - 1].order < poster->ops[i].order);
    }
}

SEAM_TEST(posts_of_a_thread_pass_the_main_gate_in_their_order)
{
    enum { EACH = 2000 };
    static struct tracked ops[POSTERS][EACH];
    struct poster posters[POSTERS] = {0};
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .posts_max = 16});
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.loop = loop, .ops = ops[i], .count = EACH};
        for (int j = 0; j < EACH; j++) {
            weir_op_nop(&ops[i][j].op);
        }
    }
    posters_start(posters, POSTERS);
    for (int i = 0; i < POSTERS; i++) {
        seam_await_count(loop, &ops[i][EACH - 1].calls, 1);
    }
    posters_end(posters, POSTERS);
    uint64_t refused = 0;
    for (int i = 0; i < POSTERS; i++) {
        expect_in_order(&posters[i]);
        refused += posters[i].refused;
    }
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.posts, POSTERS * EACH);
    expect_equal(counters.posts_refused, refused);
    expect_equal(counters.refused, 0);
    expect_equal(counters.finished, POSTERS * EACH);
    seam_end(loop);
}

SEAM_TEST(posts_of_a_thread_pass_the_offload_gate_in_their_order)
{
    enum { EACH = 500 };
    static struct seam_work works[2][EACH];
    static struct tracked nops[2][EACH];
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .depth = 1, .offload_workers = 1, .offload_depth = 2, .offload_waiting_max = 3});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    memset(nops, 0, sizeof nops);
    seam_work_reset();
    seam_read_byte(loop, &idle, pipe.in); /* the main gate is full: it must not hold these up */
    seam_turns(loop, 1);
    for (int j = 0; j < EACH; j++) {
        for (int i = 0; i < 2; i++) {
            seam_work_fill(&works[i][j], j);
            weir_op_nop(&nops[i][j].op);
            if (j < 10) {
                seam_posted(loop, &nops[i][j]);
            }
            seam_posted(loop, &works[i][j].call);
        }
        seam_turns(loop, j % 2);
    }
    for (int i = 0; i < 2; i++) {
        seam_await_count(loop, &works[i][EACH - 1].call.calls, 1);
        for (int j = 1; j < EACH; j++) {
            expect(works[i][j - 1].order < works[i][j].order);
        }
    }
    expect_equal(nops[0][0].calls, 0);
    seam_write(pipe.out, "x", 1);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 2; i++) {
        struct poster here = {.ops = nops[i], .count = 10};
        expect_in_order(&here);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* --- bounds ----------------------------------------------------------------------------------- */

/* As submit's refusal, by post. */
static void expect_post_refused(struct weir_loop *loop, struct tracked *op, int want)
{
    struct weir_op before;
    memcpy(&before, &op->op, sizeof before);
    expect_equal(weir_loop_post(loop, &op->op), want);
    expect(memcmp(&before, &op->op, sizeof before) == 0);
}

SEAM_TEST(posts_max_bounds_posts_until_they_are_admitted)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .posts_max = 3});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked ops[4] = {0};
    struct tracked more = {.op.callback = seam_called};
    weir_op_nop(&more.op);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 3; i++) { /* in the inbox */
            weir_op_nop(&ops[i].op);
            seam_posted(loop, &ops[i]);
        }
        expect_post_refused(loop, &more, -EAGAIN);
        expect_equal(seam_run(loop), 0);
    }
    expect_equal(seam_counters(loop).posts_refused, 50);
    seam_read_byte(loop, &idle, pipe.in);
    for (int i = 0; i < 3; i++) { /* before a full gate */
        weir_op_nop(&ops[i].op);
        seam_posted(loop, &ops[i]);
    }
    seam_turns(loop, 5);
    expect_post_refused(loop, &more, -EAGAIN);
    expect_equal(seam_counters(loop).posts_refused, 51);
    seam_write(pipe.out, "a", 1);
    while (ops[0].calls == 50) { /* one went through: one place */
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_posted(loop, &more);
    expect_equal(seam_run(loop), 0);
    expect_equal(more.result, 0);
    expect_equal(weir_loop_live(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_accepted_post_is_never_refused_later_however_full_its_gate_is)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .depth = 1, .timers_max = 1, .offload_workers = 1, .offload_depth = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked timer = {0};
    struct tracked nops[20] = {0};
    struct tracked timers[20] = {0};
    static struct seam_work works[20];
    struct seam_work busy;
    seam_block(loop, &busy);
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_timeout_in(&timer.op, loop, 3600 * WEIR_S);
    seam_submit(loop, &timer);
    seam_work_reset();
    for (int i = 0; i < 20; i++) {
        weir_op_nop(&nops[i].op);
        seam_posted(loop, &nops[i]);
        weir_op_timeout(&timers[i].op, (uint64_t)i + 1); /* long past */
        seam_posted(loop, &timers[i]);
        seam_work_fill(&works[i], i);
        seam_posted(loop, &works[i].call);
    }
    expect_equal(seam_turns(loop, 5), 0);
    expect_equal(weir_loop_live(loop), 63);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.in_flight + counters.waiting, 1);
    expect_equal(counters.offload_in_flight + counters.offload_waiting, 1);
    expect_equal(counters.timers, 1);
    seam_write(pipe.out, "a", 1);
    seam_unblock(&busy);
    expect_equal(seam_cancel(loop, &timer), 0);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 20; i++) {
        expect(nops[i].calls == 1 && nops[i].result == 0);
        expect(timers[i].calls == 1 && timers[i].result == 0);
        expect(works[i].call.calls == 1 && works[i].call.result == i);
        expect_equal(works[i].order, i + 1);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(submits_do_not_overtake_posts_without_end)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1});
    struct tracked posted = {0};
    struct tracked nops[2] = {0};
    weir_op_nop(&posted.op);
    seam_posted(loop, &posted);
    for (int i = 0; i < 1000 && posted.calls == 0;
         i++) { /* there is always one to take the place */
        weir_op_nop(&nops[i % 2].op);
        int answer = seam_try_submit(loop, &nops[i % 2], WEIR_SITE);
        expect(answer == 0 || answer == -EAGAIN || answer == -EBUSY);
        seam_turns(loop, 1);
    }
    expect_equal(posted.calls, 1);
    seam_end(loop);
}

/* --- refusals --------------------------------------------------------------------------------- */

SEAM_TEST(a_post_is_judged_when_it_is_made)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct weir_task *foreign = NULL;
    struct tracked op = {.op.callback = seam_called};
    expect_equal(weir_task_open(other, &(struct weir_task_options){.name = "t"}, &foreign), 0);
    expect_post_refused(loop, &op, -EINVAL);
    op.op.kind = WEIR_KIND_COUNT;
    expect_post_refused(loop, &op, -EINVAL);
    weir_op_nop(&op.op);
    op.op.flags = WEIR_WHOLE;
    expect_post_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_SHORT;
    expect_post_refused(loop, &op, -EINVAL);
    op.op.flags = 0;
    op.op.route = WEIR_ROUTE_OFFLOAD; /* not for NOP */
    expect_post_refused(loop, &op, -EINVAL);
    op.op.route = WEIR_ROUTE_AUTO;
    op.op.task = foreign;
    expect_post_refused(loop, &op, -EINVAL);
    op.op.task = NULL;
    weir_op_timeout_in(&op.op, loop, 0);
    op.op.deadline_ns = 1;
    expect_post_refused(loop, &op, -EINVAL);
    op.op.deadline_ns = 0;
    weir_op_fadvise(&op.op, 0, 0, 1ULL << 32, 0);
    expect_post_refused(loop, &op, -EINVAL);
    weir_op_nop(&op.op);
    op.op.callback = NULL;
    expect_post_refused(loop, &op, -EINVAL);
    expect_equal(weir_loop_post(loop, NULL), -EINVAL);
    expect_equal(weir_loop_post(NULL, &op.op), -EINVAL);
    expect_equal(weir_loop_live(loop), 0);
    expect_equal(seam_counters(loop).posts, 0);
    expect_equal(seam_turns(loop, 2), 0);
    seam_end(other);
    seam_end(loop);
}

SEAM_TEST(a_live_op_cannot_be_posted_nor_a_posted_one_submitted)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked live = {0};
    struct tracked posted = {0};
    seam_read_byte(loop, &live, pipe.in);
    expect_post_refused(loop, &live, -EBUSY);
    seam_turns(loop, 1);
    expect_post_refused(loop, &live, -EBUSY);
    expect_post_refused(other, &live, -EBUSY);
    weir_op_nop(&posted.op);
    seam_posted(loop, &posted);
    expect_post_refused(loop, &posted, -EBUSY);
    seam_refused(loop, &posted, -EBUSY);
    seam_refused(other, &posted, -EBUSY);
    expect_equal(seam_cancel(other, &posted), -ENOENT);
    seam_await_count(loop, &posted.calls, 1);
    expect_equal(seam_cancel(loop, &posted), -ENOENT);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &live);
    seam_end(other);
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* --- who keeps it turning --------------------------------------------------------------------- */

static void release_loop(struct tracked *op)
{
    expect_equal(weir_loop_release(op->context), 0);
}

SEAM_TEST(a_held_run_sleeps_for_posts_and_ends_with_its_hold)
{
    enum { EACH = 300 };
    static struct tracked ops[EACH];
    struct weir_loop *loop = seam_loop_with((struct weir_options){.posts_max = 4});
    struct poster poster = {.loop = loop, .ops = ops, .count = EACH};
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < EACH; i++) {
        weir_op_timeout_in(&ops[i].op, loop, (uint64_t)(i % 3) * WEIR_US);
        if (i % 2 == 0) {
            weir_op_nop(&ops[i].op);
        }
    }
    ops[EACH - 1].then = release_loop;
    ops[EACH - 1].context = loop;
    expect_equal(weir_loop_hold(loop), 0);
    posters_start(&poster, 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(ops[EACH - 1].calls, 1);
    posters_end(&poster, 1);
    expect_equal(weir_loop_release(loop), -EINVAL);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < EACH; i++) {
        expect_equal(ops[i].calls, 1);
    }
    seam_end(loop);
}

static void post_next(struct tracked *op)
{
    struct tracked *next = op->context;
    if (next != NULL) {
        weir_op_nop(&next->op);
        seam_posted(op->op.user, next);
        expect_equal(next->calls, 0);
    }
}

struct chain {
    struct weir_loop *loop;
    struct tracked nop;
    int answer;
};

static int64_t post_from_a_worker(void *argument)
{
    struct chain *chain = argument;
    weir_op_nop(&chain->nop.op);
    chain->answer = seam_post(chain->loop, &chain->nop, WEIR_SITE);
    return 5;
}

SEAM_TEST(callbacks_and_the_functions_of_calls_may_post)
{
    struct weir_loop *loop = seam_loop();
    struct tracked ops[10] = {0};
    for (int i = 0; i < 10; i++) {
        ops[i].then = post_next;
        ops[i].op.user = loop;
        ops[i].context = i < 9 ? &ops[i + 1] : NULL;
    }
    weir_op_nop(&ops[0].op);
    seam_submit(loop, &ops[0]);
    expect_equal(seam_run(loop), 0); /* a post keeps the run going */
    for (int i = 0; i < 10; i++) {
        expect_equal(ops[i].calls, 1);
    }
    for (int i = 0; i < 200; i++) {
        struct chain chain = {.loop = loop};
        struct tracked call = {0};
        weir_op_call(&call.op, post_from_a_worker, &chain);
        expect_equal(seam_carry_out(loop, &call), 5);
        seam_await_count(loop, &chain.nop.calls, 1);
        expect_equal(chain.answer, 0);
    }
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_op_of_every_sort_may_be_posted_from_another_thread),
    cmocka_unit_test(the_owner_may_post_too_and_no_callback_runs_inside),
    cmocka_unit_test(posts_of_a_thread_pass_the_main_gate_in_their_order),
    cmocka_unit_test(posts_of_a_thread_pass_the_offload_gate_in_their_order),
    cmocka_unit_test(posts_max_bounds_posts_until_they_are_admitted),
    cmocka_unit_test(an_accepted_post_is_never_refused_later_however_full_its_gate_is),
    cmocka_unit_test(submits_do_not_overtake_posts_without_end),
    cmocka_unit_test(a_post_is_judged_when_it_is_made),
    cmocka_unit_test(a_live_op_cannot_be_posted_nor_a_posted_one_submitted),
    cmocka_unit_test(a_held_run_sleeps_for_posts_and_ends_with_its_hold),
    cmocka_unit_test(callbacks_and_the_functions_of_calls_may_post),
};

const struct seam_group post_group = SEAM_GROUP("post", tests);
