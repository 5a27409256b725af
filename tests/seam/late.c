/* SPDX-License-Identifier: MIT */
/*
 * late.c: what comes a moment too late: posts while a loop begins to close, a CLOSE whose place is
 * held by what it cancels, a deadline that meets the worker.
 */
#include "seam.h"

#include <sched.h>

/* --- posts and the beginning of close --------------------------------------------------------- */

enum { POSTERS = 3, POSTS = 400 };

/* Posts until it is told to stop, also after it was refused. */
struct poster {
    struct weir_loop *loop;
    int idle; /* negative: it posts what is done at once; else what never would be: see fill() */
    struct tracked ops[POSTS];
    unsigned accepted;
    unsigned begun;
};

static unsigned closings;
static int closing_result;
static unsigned stop;

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    closings++;
    closing_result = result;
}

static void fill(struct poster *poster, struct tracked *op, unsigned number)
{
    if (poster->idle < 0) {
        weir_op_nop(&op->op);
    } else if (number % 2 == 0) {
        weir_op_timeout(&op->op, UINT64_MAX / 2);
    } else {
        weir_op_recv(&op->op, poster->idle, op->data, 1, 0);
    }
}

static void *post_until_told(void *context)
{
    struct poster *poster = context;
    /* Relaxed: nothing is read that was written before. */
    while (poster->accepted < POSTS && __atomic_load_n(&stop, __ATOMIC_RELAXED) == 0) {
        struct tracked *op = &poster->ops[poster->accepted];
        fill(poster, op, poster->accepted);
        poster->accepted += seam_post(poster->loop, op, WEIR_SITE) == 0;
        __atomic_store_n(&poster->begun, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* One loop that closes while others post to it. Few posts a turn, so that most are refused. */
static void race_close(int idle)
{
    static struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.posts_max = 8, .offload_workers = WEIR_NO_OFFLOAD});
    memset(posters, 0, sizeof posters);
    closings = 0;
    stop = 0;
    for (int i = 0; i < POSTERS; i++) {
        posters[i].loop = loop;
        posters[i].idle = idle;
        expect_equal(pthread_create(&threads[i], NULL, post_until_told, &posters[i]), 0);
    }
    while (__atomic_load_n(&posters[POSTERS - 1].begun, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
    seam_turns(loop, (int)(seam_random() % 20));
    expect_equal(weir_loop_close_begin(loop, -1, closed), 0);
    while (closings == 0) {
        expect(seam_turn(loop, -1) >= 0); /* sleeps for good if nobody wakes it */
    }
    expect_equal(closing_result, 0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < POSTERS; i++) { /* the loop must stay open while they are in the call */
        expect_equal(pthread_join(threads[i], NULL), 0);
    }
    seam_end(loop);
    for (int i = 0; i < POSTERS; i++) {
        for (unsigned j = 0; j < POSTS; j++) {
            const struct tracked *op = &posters[i].ops[j];
            expect_equal(op->calls, j < posters[i].accepted ? 1 : 0);
            expect(op->calls == 0 || op->result == -ECANCELED || (idle < 0 && op->result == 0));
        }
    }
}

SEAM_TEST(posts_that_are_refused_never_keep_a_closing_loop_from_its_end)
{
    for (int round = 0; round < (seam_long() ? 5000 : 50); round++) {
        race_close(-1);
    }
}

SEAM_TEST(a_post_that_was_accepted_just_before_close_began_is_asked_back)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    for (int round = 0; round < (seam_long() ? 20000 : 100); round++) {
        race_close(sockets.in);
    }
    seam_pair_close(&sockets);
}

/* --- a CLOSE before a full gate --------------------------------------------------------------- */

SEAM_TEST(a_posted_CLOSE_goes_through_though_what_it_cancels_holds_the_only_place)
{
    for (int turns = 0; turns < 3; turns++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1});
        struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
        struct tracked idle = {0};
        struct tracked nop = {0};
        struct tracked close_op = {0};
        weir_op_recv(&idle.op, sockets.in, idle.data, 1, 0);
        seam_submit(loop, &idle);
        seam_turns(loop, turns);
        weir_op_nop(&nop.op);
        weir_op_close(&close_op.op, sockets.in);
        seam_posted(loop, &nop); /* it waits too, and before the CLOSE */
        seam_posted(loop, &close_op);
        seam_await_count(loop, &close_op.calls, 1);
        expect_equal(close_op.result, 0);
        expect_equal(idle.calls, 1);
        expect_equal(idle.result, -ECANCELED);
        expect(idle.order < close_op.order);
        expect_equal(nop.calls, 1);
        expect_equal(nop.result, 0);
        expect(fcntl(sockets.in, F_GETFD) < 0);
        seam_end(loop);
        close(sockets.out);
    }
}

/* --- a deadline that passes while a worker takes the call ------------------------------------- */

static int64_t a_moment(void *context)
{
    for (volatile int i = 0; i < 300; i++) {
    }
    return (int64_t)(intptr_t)context;
}

SEAM_TEST(a_call_that_nobody_cancelled_is_run_or_ETIME_and_never_ECANCELED)
{
    /* More workers than CPUs: one is put off now and then between taking a call and running it. */
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .offload_workers = 16, .offload_depth = 256, .spin_ns_max = 20 * WEIR_US});
    static struct tracked ops[64];
    uint64_t within_ns = 60 * WEIR_US; /* such that some expire and some do not */
    unsigned raced = 0;
    memset(ops, 0, sizeof ops);
    for (int round = 0; round < (seam_long() ? 100000 : 10000); round++) {
        size_t expired = 0;
        for (size_t i = 0; i < SEAM_COUNT(ops); i++) {
            weir_op_call(&ops[i].op, a_moment, (void *)(i + 1));
            ops[i].op.deadline_ns = weir_now(loop) + WEIR_US + seam_random() % within_ns;
            seam_submit(loop, &ops[i]);
        }
        expect_equal(seam_run(loop), 0);
        for (size_t i = 0; i < SEAM_COUNT(ops); i++) {
            bool late = ops[i].result == -ETIME;
            expect_equal(ops[i].result, late ? -ETIME : (int64_t)i + 1);
            expired += late;
        }
        if (expired == SEAM_COUNT(ops) && within_ns < WEIR_S) {
            within_ns *= 2;
        } else if (expired == 0 && within_ns > 2 * WEIR_US) {
            within_ns /= 2;
        }
        raced += expired > 0 && expired < SEAM_COUNT(ops);
    }
    expect(raced > 0);
    seam_end(loop);
}

/* --- what is done just before the loop sleeps ------------------------------------------------- */

static void *let_time_pass(void *context)
{
    while (__atomic_load_n(&stop, __ATOMIC_RELAXED) == 0) {
        usleep(5);
    }
    return context;
}

/* Under the simulator the clock of its world moves in the window before the sleep. */
SEAM_TEST(what_finishes_just_before_the_sleep_ends_it)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(16);
    pthread_t thread;
    stop = 0;
    expect_equal(pthread_create(&thread, NULL, let_time_pass, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        struct seam_work work;
        struct tracked op = {0};
        seam_work_fill(&work, i);
        expect_equal(seam_carry_out(loop, &work.call), i);
        weir_op_read(&op.op, file, op.data, 16, 0);
        expect_equal(seam_carry_out(loop, &op), 16);
        weir_op_timeout_in(&op.op, loop, 3 * WEIR_US);
        expect_equal(seam_carry_out(loop, &op), 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    expect_equal(pthread_join(thread, NULL), 0);
    seam_end(loop);
    close(file);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(posts_that_are_refused_never_keep_a_closing_loop_from_its_end),
    cmocka_unit_test(a_post_that_was_accepted_just_before_close_began_is_asked_back),
    cmocka_unit_test(a_posted_CLOSE_goes_through_though_what_it_cancels_holds_the_only_place),
    cmocka_unit_test(a_call_that_nobody_cancelled_is_run_or_ETIME_and_never_ECANCELED),
    cmocka_unit_test(what_finishes_just_before_the_sleep_ends_it),
};

const struct seam_group late_group = SEAM_GROUP("late", tests);
