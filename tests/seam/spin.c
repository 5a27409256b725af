/* SPDX-License-Identifier: MIT */
/*
 * spin.c: a loop that watches before it sleeps sees all that would have ended its sleep. The
 * longest spin there is, so that a source which is not watched is a hang and not a delay. (The
 * groups run once with a spin besides: see meson.build.)
 */
#include "seam.h"

#define ROUNDS 300

static struct weir_options spinning(void)
{
    return (struct weir_options){.spin_ns_max = WEIR_S, .offload_workers = 2};
}

/* Does its thing when it is told to, some time later, from another thread. */
struct other {
    struct weir_loop *loop;
    int fd;    /* written to */
    int fd_in; /* read by the loop */
    void (*act)(struct other *other);
    struct tracked nop;
    sem_t go;
    int failed;
    unsigned told;
    unsigned done;
};

static void *act_when_told(void *context)
{
    struct other *other = context;
    for (unsigned i = 0; i < ROUNDS && other->failed == 0; i++) {
        while (sem_wait(&other->go) != 0) {
        }
        for (volatile unsigned delay = i * 37 % 4000; delay > 0; delay--) {
        }
        /* Before it acts: what it does ends the other's wait, which must find this. */
        __atomic_store_n(&other->done, i + 1, __ATOMIC_RELEASE);
        other->act(other);
    }
    return NULL;
}

static void act_wake(struct other *other)
{
    other->failed |= weir_loop_wake(other->loop);
}

static void act_post(struct other *other)
{
    other->failed |= seam_post(other->loop, &other->nop, WEIR_SITE);
}

static void act_write(struct other *other)
{
    other->failed |= write(other->fd, "x", 1) != 1;
}

static void with_other(struct other *other, void (*act)(struct other *other),
                       void (*wait)(struct other *other))
{
    pthread_t thread;
    other->act = act;
    other->done = 0;
    expect_equal(sem_init(&other->go, 0, 0), 0);
    expect_equal(pthread_create(&thread, NULL, act_when_told, other), 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        weir_op_nop(&other->nop.op);
        other->told = i;
        expect_equal(sem_post(&other->go), 0);
        wait(other);
        expect_equal(__atomic_load_n(&other->done, __ATOMIC_ACQUIRE), i);
    }
    expect_equal(pthread_join(thread, NULL), 0);
    expect_equal(other->failed, 0);
    sem_destroy(&other->go);
}

static void wait_for_act(struct other *other)
{
    do {
        expect_equal(seam_turn(other->loop, -1), 0);
    } while (__atomic_load_n(&other->done, __ATOMIC_ACQUIRE) < other->told);
}

SEAM_TEST(a_wake_ends_a_spin)
{
    struct other other = {.loop = seam_loop_with(spinning())};
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    with_other(&other, act_wake, wait_for_act);
    seam_read_byte(other.loop, &idle, pipe.in); /* and with something in flight */
    with_other(&other, act_wake, wait_for_act);
    expect_equal(idle.calls, 0);
    seam_end(other.loop);
    seam_pair_close(&pipe);
}

static void wait_for_post(struct other *other)
{
    seam_await_count(other->loop, &other->nop.calls, other->told);
}

SEAM_TEST(a_post_ends_a_spin)
{
    struct other other = {.loop = seam_loop_with(spinning())};
    with_other(&other, act_post, wait_for_post);
    expect_equal(seam_counters(other.loop).posts, ROUNDS);
    seam_end(other.loop);
}

static void wait_for_read(struct other *other)
{
    struct tracked op = {0};
    weir_op_recv(&op.op, other->fd_in, op.data, 1, 0);
    expect_equal(seam_carry_out(other->loop, &op), 1);
}

SEAM_TEST(what_the_backend_completes_ends_a_spin)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct other other = {
        .loop = seam_loop_with(spinning()), .fd = sockets.out, .fd_in = sockets.in};
    with_other(&other, act_write, wait_for_read);
    seam_end(other.loop);
    seam_pair_close(&sockets);
}

static void wait_for_receive(struct other *other)
{
    struct tracked op = {0};
    weir_op_recv(&op.op, other->fd_in, op.data, 1, 0);
    op.op.route = WEIR_ROUTE_INLINE;
    expect_equal(seam_carry_out(other->loop, &op), 1);
    expect_equal(op.data[0], 'x');
}

SEAM_TEST(a_receive_that_the_spin_tries_ends_it)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct other other = {
        .loop = seam_loop_with(spinning()), .fd = sockets.out, .fd_in = sockets.in};
    with_other(&other, act_write, wait_for_receive);
    if (!seam_simulates()) {
        struct weir_counters counters = seam_counters(other.loop);
        expect_equal(counters.inline_done, ROUNDS);
        expect_equal(counters.inline_tries, ROUNDS);
    }
    seam_end(other.loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_call_that_ends_ends_a_spin)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    for (int i = 0; i < 3000; i++) {
        struct seam_work work;
        seam_work_fill(&work, i);
        expect_equal(seam_carry_out(loop, &work.call), i);
    }
    struct weir_counters counters = seam_counters(loop);
    bool spins = !seam_simulates(); /* its clock stands while one watches it */
    expect_equal(counters.spins > 0, spins);
    expect_equal(counters.spins_paid > 0, spins);
    expect(counters.spins_paid <= counters.spins);
    expect_equal(counters.spin_ns > 0, spins);
    seam_end(loop);
}

SEAM_TEST(timers_and_deadlines_end_a_spin_and_are_never_early)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < ROUNDS; i++) {
        struct tracked op = {0};
        uint64_t at = weir_now(loop) + seam_random() % (300 * WEIR_US);
        weir_op_timeout(&op.op, at);
        expect_equal(seam_carry_out(loop, &op), 0);
        expect(weir_now(loop) >= at);
        at = weir_now(loop) + seam_random() % (300 * WEIR_US);
        weir_op_read(&op.op, pipe.in, op.data, 1, WEIR_CURRENT);
        op.op.deadline_ns = at;
        expect_equal(seam_carry_out(loop, &op), -ETIME);
        expect(weir_now(loop) >= at);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_turn_that_may_not_wait_does_not_spin_and_a_short_wait_ends_one)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 100);
    expect_equal(seam_counters(loop).spins, 0);
    for (int i = 0; i < 200; i++) { /* each of them a second, if the spin did not look */
        expect_equal(seam_turn(loop, 50 * WEIR_US), 0);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_spin_that_never_pays_is_given_up_and_taken_up_again)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.spin_ns_max = 10 * WEIR_US, .offload_workers = 1});
    for (int i = 0; i < 300; i++) {
        expect_equal(seam_turn(loop, WEIR_MS), 0);
    }
    struct weir_counters idle = seam_counters(loop);
    expect_equal(idle.spins > 0, !seam_simulates());
    expect(idle.spins < 150);
    /* One that was not let run until its turn's wait was over has found that. */
    expect(idle.spins_paid * 4 <= idle.spins);
    for (int i = 0; i < 2000; i++) {
        struct seam_work work;
        seam_work_fill(&work, i);
        expect_equal(seam_carry_out(loop, &work.call), i);
    }
    expect_equal(seam_counters(loop).spins > idle.spins, !seam_simulates());
    seam_end(loop);
}

SEAM_TEST(without_the_option_nothing_spins)
{
    struct weir_loop *loop = seam_loop();
    for (int i = 0; i < 100; i++) {
        struct seam_work work;
        seam_work_fill(&work, i);
        expect_equal(seam_carry_out(loop, &work.call), i);
        expect(seam_turn(loop, 10 * WEIR_US) >= 0);
    }
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.spins, 0);
    expect_equal(counters.spins_paid, 0);
    expect_equal(counters.spin_ns, 0);
    seam_end(loop);
}

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    expect_equal(result, 0);
}

SEAM_TEST(close_and_the_loops_fd_work_with_a_spin)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct seam_work work;
    int epoll = seam_foreign(loop);
    for (int i = 0; i < 100; i++) {
        seam_work_fill(&work, i);
        seam_submit(loop, &work.call);
        expect(seam_turn(loop, 0) >= 0);
        while (work.call.calls == 0) {
            seam_foreign_turn(loop, epoll);
        }
    }
    seam_read_byte(loop, &idle, pipe.in);
    seam_work_fill(&work, 4);
    work.until_asked = true;
    seam_submit(loop, &work.call);
    seam_await_begun(loop, &work);
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), 0);
    expect_equal(seam_run(loop), 0);
    expect_equal(idle.result, -ECANCELED);
    expect_equal(work.call.result, 4);
    expect_equal(seam_close(loop, 0, NULL), 0);
    seam_foreign_close(epoll);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_wake_ends_a_spin),
    cmocka_unit_test(a_post_ends_a_spin),
    cmocka_unit_test(what_the_backend_completes_ends_a_spin),
    cmocka_unit_test(a_receive_that_the_spin_tries_ends_it),
    cmocka_unit_test(a_call_that_ends_ends_a_spin),
    cmocka_unit_test(timers_and_deadlines_end_a_spin_and_are_never_early),
    cmocka_unit_test(a_turn_that_may_not_wait_does_not_spin_and_a_short_wait_ends_one),
    cmocka_unit_test(a_spin_that_never_pays_is_given_up_and_taken_up_again),
    cmocka_unit_test(without_the_option_nothing_spins),
    cmocka_unit_test(close_and_the_loops_fd_work_with_a_spin),
};

const struct seam_group spin_group = SEAM_GROUP("spin", tests);
