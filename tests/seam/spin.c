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

/* --- receives that a spin tries --------------------------------------------------------------- */

static void fill_receive(struct tracked *op, int fd)
{
    weir_op_recv(&op->op, fd, op->data, 1, 0);
    op->op.route = WEIR_ROUTE_INLINE;
}

/* Submitted, and tried by a spin that something else has ended. */
static void receive_later(struct weir_loop *loop, struct tracked *op, int fd)
{
    fill_receive(op, fd);
    seam_submit(loop, op);
    expect_equal(weir_loop_wake(loop), 0);
    expect_equal(seam_turn(loop, -1), 0);
    expect_equal(op->calls, 0);
}

static void put(int fd, char byte)
{
    expect_equal(write(fd, &byte, 1), 1);
}

static void wait_for_receive(struct other *other)
{
    struct tracked op = {0};
    fill_receive(&op, other->fd_in);
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

SEAM_TEST(receives_that_are_tried_stay_in_order)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked first = {0}, second = {0};
    fill_receive(&first, sockets.in);
    seam_submit(loop, &first);
    receive_later(loop, &second, sockets.in);
    put(sockets.out, 'a');
    seam_await(loop, &first);
    expect_equal(first.data[0], 'a');
    put(sockets.out, 'b');
    seam_await(loop, &second);
    expect_equal(second.data[0], 'b');
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_that_is_tried_can_be_cancelled_and_is_the_callers_again)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0}, other = {0};
    receive_later(loop, &other, sockets.in);
    receive_later(loop, &op, sockets.in);
    expect_equal(seam_cancel(loop, &other), 0);
    seam_await(loop, &other);
    expect_equal(other.result, -ECANCELED);
    weir_op_nop(&other.op);
    expect_equal(seam_carry_out(loop, &other), 0);
    put(sockets.out, 'a');
    seam_await(loop, &op);
    expect_equal(op.data[0], 'a');
    expect_equal(other.calls, 2);
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_that_is_tried_ends_with_its_deadline_its_fd_and_its_loop)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM), others = seam_socketpair(SOCK_STREAM);
    struct tracked late = {0}, closed = {0}, hang_up = {0}, last = {0};
    fill_receive(&late, sockets.in);
    late.op.deadline_ns = weir_now(loop) + 2 * WEIR_MS;
    expect_equal(seam_carry_out(loop, &late), -ETIME);
    receive_later(loop, &closed, sockets.in);
    weir_op_close(&hang_up.op, sockets.in);
    expect_equal(seam_carry_out(loop, &hang_up), 0);
    expect_equal(closed.result, -ECANCELED);
    receive_later(loop, &last, others.in);
    expect_equal(seam_close(loop, WEIR_S, NULL), 0);
    expect_equal(last.result, -ECANCELED);
    expect_equal(close(sockets.out), 0);
    seam_pair_close(&others);
}

/* One more than are tried, and so many that no turn spins. */
SEAM_TEST(receives_too_many_to_be_tried_are_received)
{
    enum { MANY = 17 };
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets[MANY];
    struct tracked ops[MANY];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < MANY; i++) {
        sockets[i] = seam_socketpair(SOCK_STREAM);
        receive_later(loop, &ops[i], sockets[i].in);
    }
    for (int i = MANY - 1; i >= 0; i--) {
        put(sockets[i].out, (char)i);
        seam_await(loop, &ops[i]);
        expect_equal(ops[i].data[0], i);
    }
    seam_end(loop);
    for (int i = 0; i < MANY; i++) {
        seam_pair_close(&sockets[i]);
    }
}

SEAM_TEST(a_receive_is_not_left_to_spins_that_are_given_up)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.spin_ns_max = 10 * WEIR_US});
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    for (int i = 0; i < 50; i++) {
        struct tracked op = {0};
        bool is_there = i % 2 == 0;
        for (int j = 0; j < 20; j++) { /* in vain: the next turns do not spin */
            expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
        }
        if (is_there) {
            put(sockets.out, 'x');
        }
        fill_receive(&op, sockets.in);
        seam_submit(loop, &op);
        if (!is_there) {
            expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
            put(sockets.out, 'x');
        }
        seam_await(loop, &op);
        expect_equal(op.result, 1);
        fill_receive(&op, sockets.in); /* and is the kernel's to give back */
        seam_submit(loop, &op);
        expect_equal(seam_turn(loop, 20 * WEIR_US), 0);
        expect_equal(seam_cancel(loop, &op), 0);
        seam_await(loop, &op);
        expect_equal(op.result, -ECANCELED);
    }
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_that_does_not_wait_says_so)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    weir_op_recv(&op.op, sockets.in, op.data, 1, MSG_DONTWAIT);
    op.op.route = WEIR_ROUTE_INLINE;
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.spins_paid, counters.spins); /* and not only when one was over */
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_is_tried_where_others_always_have_something)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0}, busy = {0};
    receive_later(loop, &op, sockets.in);
    put(sockets.out, 'x');
    for (int i = 0; i < 100 && op.calls == 0; i++) {
        weir_op_nop(&busy.op);
        seam_submit(loop, &busy);
        expect(seam_turn(loop, WEIR_S) > 0);
    }
    expect_equal(op.result, 1);
    seam_end(loop);
    seam_pair_close(&sockets);
}

static void receive_again(struct tracked *op)
{
    if (op->calls == 1) {
        fill_receive(op, op->op.fd);
        seam_submit(op->op.loop, op);
    }
}

/* Whoever drives the loop from another one's readiness makes no turn to try it in. */
static void with_the_loops_fd(bool is_first)
{
    struct weir_loop *loop = seam_loop_with(spinning());
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {.then = receive_again};
    int epoll = is_first ? seam_foreign(loop) : -1;
    receive_later(loop, &op, sockets.in);
    epoll = is_first ? epoll : seam_foreign(loop);
    for (unsigned i = 1; i <= 2; i++) {
        put(sockets.out, 'x');
        while (op.calls < i) {
            seam_foreign_turn(loop, epoll);
        }
        expect_equal(op.result, 1);
    }
    seam_end(loop);
    seam_foreign_close(epoll);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_receive_makes_the_loops_fd_readable)
{
    with_the_loops_fd(true);
    with_the_loops_fd(false);
}

/* --- what else ends one ----------------------------------------------------------------------- */

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
    cmocka_unit_test(receives_that_are_tried_stay_in_order),
    cmocka_unit_test(a_receive_that_is_tried_can_be_cancelled_and_is_the_callers_again),
    cmocka_unit_test(a_receive_that_is_tried_ends_with_its_deadline_its_fd_and_its_loop),
    cmocka_unit_test(receives_too_many_to_be_tried_are_received),
    cmocka_unit_test(a_receive_is_not_left_to_spins_that_are_given_up),
    cmocka_unit_test(a_receive_that_does_not_wait_says_so),
    cmocka_unit_test(a_receive_is_tried_where_others_always_have_something),
    cmocka_unit_test(a_receive_makes_the_loops_fd_readable),
    cmocka_unit_test(a_call_that_ends_ends_a_spin),
    cmocka_unit_test(timers_and_deadlines_end_a_spin_and_are_never_early),
    cmocka_unit_test(a_turn_that_may_not_wait_does_not_spin_and_a_short_wait_ends_one),
    cmocka_unit_test(a_spin_that_never_pays_is_given_up_and_taken_up_again),
    cmocka_unit_test(without_the_option_nothing_spins),
    cmocka_unit_test(close_and_the_loops_fd_work_with_a_spin),
};

const struct seam_group spin_group = SEAM_GROUP("spin", tests);
