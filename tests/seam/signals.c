/* SPDX-License-Identifier: MIT */
/* signals.c: rule 30, and the ways a run ends: signals, stop, hold and release. */
#include "seam.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t signals;
static struct weir_loop *volatile handler_loop;

static void on_signal(int signal)
{
    (void)signal;
    signals = signals + 1;
}

static void on_signal_wake(int signal)
{
    (void)signal;
    signals = signals + 1;
    weir_loop_wake(handler_loop);
}

struct ticker {
    timer_t timer;
    struct sigaction before;
};

/* Where the clock is simulated: one whenever others may go on. */
static pthread_t raiser;
static bool raising;

static void *raise_again_and_again(void *context)
{
    while (raising) {
        raise(SIGUSR1);
        sched_yield();
    }
    return context;
}

/* SIGUSR1 every period, from now. */
static struct ticker ticker_start(void (*handler)(int), int flags, long period_ns)
{
    struct ticker ticker;
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec period = {{0, period_ns}, {0, period_ns}};
    signals = 0;
    expect_equal(sigaction(SIGUSR1, &action, &ticker.before), 0);
    if (seam_simulates()) {
        raising = true;
        expect_equal(pthread_create(&raiser, NULL, raise_again_and_again, NULL), 0);
        return ticker;
    }
    expect_equal(timer_create(CLOCK_MONOTONIC, &event, &ticker.timer), 0);
    expect_equal(timer_settime(ticker.timer, 0, &period, NULL), 0);
    return ticker;
}

static void ticker_stop(struct ticker *ticker)
{
    if (seam_simulates()) {
        raising = false;
        expect_equal(pthread_join(raiser, NULL), 0);
    } else {
        expect_equal(timer_delete(ticker->timer), 0);
    }
    expect_equal(sigaction(SIGUSR1, &ticker->before, NULL), 0);
}

/* What a wait for ever answers that a signal ends. In a simulated world there is none, so that it
 * finds that nothing ever will. */
static int interrupted(void)
{
    return seam_simulates() ? -EDEADLK : 0;
}

static void expect_a_signal_ends_the_wait(int flags)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    struct ticker ticker = ticker_start(on_signal, flags, 10 * WEIR_MS);
    for (int i = 0; i < 5; i++) {
        expect_equal(seam_turn(loop, -1), interrupted());
    }
    ticker_stop(&ticker);
    expect(signals > 0);
    expect_equal(idle.calls, 0);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &idle);
    expect_equal(idle.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_signal_ends_the_wait_of_a_turn)
{
    expect_a_signal_ends_the_wait(0);
}

SEAM_TEST(a_signal_ends_the_wait_though_its_handler_asked_for_restart)
{
    expect_a_signal_ends_the_wait(SA_RESTART);
}

SEAM_TEST(a_signal_ends_the_wait_of_a_loop_with_nothing_live)
{
    struct weir_loop *loop = seam_loop();
    struct ticker ticker = ticker_start(on_signal, 0, 10 * WEIR_MS);
    do {
        expect_equal(seam_turn(loop, -1), interrupted());
    } while (signals == 0); /* the kernel may end one when it takes an earlier ring down */
    ticker_stop(&ticker);
    seam_end(loop);
}

SEAM_TEST(wake_may_be_called_by_a_signal_handler)
{
    struct weir_loop *loop = seam_loop();
    handler_loop = loop;
    struct ticker ticker = ticker_start(on_signal_wake, 0, 5 * WEIR_MS);
    for (int i = 0; i < 20; i++) {
        expect_equal(seam_turn(loop, -1), 0);
    }
    ticker_stop(&ticker);
    expect(signals > 0);
    seam_end(loop);
}

static int echoes_left;

static void read_again(struct tracked *op)
{
    struct seam_pair *pipe = op->context;
    expect_equal(op->result, 1);
    if (--echoes_left > 0) {
        seam_write(pipe->out, "a", 1);
        weir_op_read(&op->op, pipe->in, op->data, 1, WEIR_CURRENT);
        seam_submit(op->op.user, op);
    }
}

SEAM_TEST(a_storm_of_signals_harms_no_op_and_surfaces_nowhere)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked read = {.then = read_again, .context = &pipe, .op.user = loop};
    struct tracked timers[50] = {0};
    struct seam_pair idle_pipe = seam_pipe(0);
    struct tracked splice = {0};
    echoes_left = 2000;
    struct ticker ticker = ticker_start(on_signal, 0, 200 * WEIR_US);
    weir_op_splice(&splice.op, idle_pipe.in, WEIR_CURRENT, pipe.out, WEIR_CURRENT, 1, 0);
    seam_submit(loop, &splice);
    seam_write(pipe.out, "a", 1);
    seam_read_byte(loop, &read, pipe.in);
    for (int i = 0; i < 50; i++) {
        weir_op_timeout_in(&timers[i].op, loop, (uint64_t)i * WEIR_MS);
        seam_submit(loop, &timers[i]);
    }
    for (int i = 0; i < 50; i++) {
        seam_await(loop, &timers[i]);
        expect_equal(timers[i].result, 0);
    }
    while (echoes_left > 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(splice.calls, 0);
    expect_equal(seam_cancel(loop, &splice), 0);
    seam_await(loop, &splice);
    ticker_stop(&ticker);
    expect(signals > 0);
    expect_equal(splice.result, -ECANCELED);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&idle_pipe);
}

SEAM_TEST(weir_installs_no_handler_and_gives_the_mask_back)
{
    struct sigaction before[NSIG];
    sigset_t mask_before;
    sigset_t mask_after;
    for (int i = 1; i < NSIG; i++) {
        sigaction(i, NULL, &before[i]);
    }
    expect_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask_before), 0);
    struct weir_loop *loop = seam_loop();
    struct weir_facts facts;
    expect_equal(weir_loop_facts(loop, &facts), 0);
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    for (int i = 1; i < NSIG; i++) {
        struct sigaction now;
        if (sigaction(i, NULL, &now) == 0) {
            expect(now.sa_handler == before[i].sa_handler && now.sa_flags == before[i].sa_flags);
        }
    }
    expect_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask_after), 0);
    for (int i = 1; i < NSIG; i++) {
        bool may_differ = i == SIGPIPE && facts.sigpipe_blocked;
        expect(may_differ || sigismember(&mask_after, i) == sigismember(&mask_before, i));
    }
    seam_end(loop);
    expect_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask_after), 0);
    for (int i = 1; i < NSIG; i++) {
        expect_equal(sigismember(&mask_after, i), sigismember(&mask_before, i));
    }
}

/* --- how a run ends -------------------------------------------------------------------------- */

static void release_hold(struct tracked *op)
{
    expect_equal(weir_loop_release(op->context), 0);
}

SEAM_TEST(a_hold_keeps_a_run_going_and_its_release_ends_it)
{
    struct weir_loop *loop = seam_loop();
    struct tracked timer = {.then = release_hold, .context = loop};
    struct tracked first = {0};
    expect_equal(seam_run(loop), 0); /* nothing live, nothing held: at once */
    expect_equal(weir_loop_hold(loop), 0);
    weir_op_nop(&first.op);
    seam_submit(loop, &first);
    weir_op_timeout_in(&timer.op, loop, 3 * WEIR_MS);
    seam_submit(loop, &timer);
    expect_equal(seam_run(loop), 0);
    expect_equal(timer.calls, 1);
    expect_equal(weir_loop_release(loop), -EINVAL);
    expect_equal(weir_loop_hold(NULL), -EINVAL);
    expect_equal(weir_loop_release(NULL), -EINVAL);
    seam_end(loop);
}

struct stopper {
    struct weir_loop *loop;
    int stopped;
};

static void *stop_later(void *context)
{
    struct stopper *stopper = context;
    struct timespec wait = {0, 5 * WEIR_MS};
    nanosleep(&wait, NULL);
    __atomic_store_n(&stopper->stopped, 1, __ATOMIC_RELEASE);
    weir_loop_stop(stopper->loop);
    return NULL;
}

SEAM_TEST(a_held_run_with_nothing_live_waits_until_it_is_stopped)
{
    struct weir_loop *loop = seam_loop();
    struct stopper stopper = {.loop = loop};
    pthread_t thread;
    expect_equal(weir_loop_hold(loop), 0);
    expect_equal(weir_loop_hold(loop), 0);
    expect_equal(weir_loop_release(loop), 0); /* one of two */
    expect_equal(pthread_create(&thread, NULL, stop_later, &stopper), 0);
    expect_equal(seam_run(loop), 0);
    expect_equal(__atomic_load_n(&stopper.stopped, __ATOMIC_ACQUIRE), 1);
    expect_equal(pthread_join(thread, NULL), 0);
    expect_equal(weir_loop_release(loop), 0);
    seam_end(loop);
}

static void ten_times(struct tracked *op)
{
    if (op->calls < 10) {
        weir_op_nop(&op->op);
        seam_submit(op->context, op);
    }
}

SEAM_TEST(a_stop_ends_one_run_and_not_the_next)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {.then = ten_times, .context = loop}; /* each time takes a turn */
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(weir_loop_stop(loop), 0);
    expect_equal(seam_run(loop), 0);
    expect(op.calls <= 1);
    expect_equal(weir_loop_live(loop), 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(op.calls, 10);
    seam_end(loop);
}

SEAM_TEST(a_stop_is_kept_for_the_next_run_though_a_turn_came_between)
{
    struct weir_loop *loop = seam_loop();
    expect_equal(weir_loop_hold(loop), 0);
    for (int turns = 0; turns < 3; turns++) {
        expect_equal(weir_loop_stop(loop), 0);
        seam_turns(loop, turns);
        expect_equal(seam_run(loop), 0); /* the wake of that stop is used up: it must not sleep */
    }
    expect_equal(weir_loop_release(loop), 0);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_signal_ends_the_wait_of_a_turn),
    cmocka_unit_test(a_signal_ends_the_wait_though_its_handler_asked_for_restart),
    cmocka_unit_test(a_signal_ends_the_wait_of_a_loop_with_nothing_live),
    cmocka_unit_test(wake_may_be_called_by_a_signal_handler),
    cmocka_unit_test(a_storm_of_signals_harms_no_op_and_surfaces_nowhere),
    cmocka_unit_test(weir_installs_no_handler_and_gives_the_mask_back),
    cmocka_unit_test(a_hold_keeps_a_run_going_and_its_release_ends_it),
    cmocka_unit_test(a_held_run_with_nothing_live_waits_until_it_is_stopped),
    cmocka_unit_test(a_stop_ends_one_run_and_not_the_next),
    cmocka_unit_test(a_stop_is_kept_for_the_next_run_though_a_turn_came_between),
};

const struct seam_group signals_group = SEAM_GROUP("signals", tests);
