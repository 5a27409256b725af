/* SPDX-License-Identifier: MIT */
/*
 * watchdog_signal.c: the signal by which stacks are taken: whose it is, what becomes of it, and
 * threads that do not answer to it.
 */
#include "watching.h"

#include <engine/observe/stack.h>
#include <engine/observe/thread.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* LeakSanitizer is told what is leaked on purpose: see weir_stack_close(). */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:weir_stack_open\n";
}

#define THRESHOLD_NS (10 * (uint64_t)WEIR_MS)

static struct watching_op *of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct watching_op, op);
}

static void ignore_stall(void *context, const struct weir_stall *stall)
{
    (void)context, (void)stall;
}

static int try_open(int signal)
{
    struct weir_watchdog *watchdog = NULL;
    int r = weir_watchdog_open(
        &(struct weir_watchdog_options){.callback = ignore_stall, .signal = signal}, &watchdog);
    CHECK_EQUAL(weir_watchdog_close(watchdog), 0);
    return r;
}

/* --- whose it is ------------------------------------------------------------------------------ */

static volatile sig_atomic_t handled;

static void handle(int signal)
{
    (void)signal;
    handled++;
}

static void handle_with_info(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info, (void)context;
}

static void check_handler(int signal, void (*handler)(int))
{
    struct sigaction action;
    CHECK_EQUAL(sigaction(signal, NULL, &action), 0);
    CHECK((action.sa_flags & SA_SIGINFO) == 0);
    CHECK(action.sa_handler == handler);
}

static void a_signal_that_has_a_handler_is_refused_and_left_alone(void)
{
    struct sigaction own = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaddset(&own.sa_mask, SIGHUP);
    CHECK_EQUAL(sigaction(SIGURG, &own, NULL), 0);
    CHECK_EQUAL(try_open(0), -EBUSY);
    CHECK_EQUAL(try_open(SIGURG), -EBUSY);
    struct sigaction now;
    CHECK_EQUAL(sigaction(SIGURG, NULL, &now), 0);
    CHECK(now.sa_handler == handle);
    CHECK((now.sa_flags & SA_RESTART) && sigismember(&now.sa_mask, SIGHUP));
    CHECK_EQUAL(raise(SIGURG), 0);
    CHECK_EQUAL(handled, 1);
    CHECK_EQUAL(try_open(SIGUSR1), 0); /* another one is free */
}

static void a_second_watchdog_needs_a_signal_of_its_own(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){0});
    CHECK_EQUAL(try_open(0), -EBUSY);
    CHECK_EQUAL(try_open(SIGUSR1), 0);
    watching_close(&watching);
    CHECK_EQUAL(try_open(0), 0);
}

static void after_close_the_signal_is_as_it_was(void)
{
    void (*const handlers[])(int) = {SIG_DFL, SIG_IGN};
    for (int i = 0; i < 2; i++) {
        CHECK(signal(SIGUSR1, handlers[i]) != SIG_ERR);
        struct watching watching = {0};
        watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS,
                                                                .signal = SIGUSR1});
        struct sigaction now;
        CHECK_EQUAL(sigaction(SIGUSR1, NULL, &now), 0);
        CHECK(now.sa_flags & SA_SIGINFO);
        watching_close(&watching);
        check_handler(SIGUSR1, handlers[i]);
    }
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.signal = SIGUSR1});
    CHECK(signal(SIGUSR1, handle) != SIG_ERR); /* somebody took it meanwhile */
    watching_close(&watching);
    check_handler(SIGUSR1, handle);
    CHECK(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
    watching_open(&watching, (struct weir_watchdog_options){.signal = SIGUSR1});
    struct sigaction other = {.sa_sigaction = handle_with_info, .sa_flags = SA_SIGINFO};
    struct sigaction now;
    CHECK_EQUAL(sigaction(SIGUSR1, &other, NULL), 0);
    watching_close(&watching);
    CHECK_EQUAL(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_sigaction == handle_with_info);
}

static void on_spin(struct weir_op *op)
{
    watching_spin(of(op)->watching, of(op)->until);
}

static void without_stacks_there_is_no_signal(void)
{
    struct watching watching = {0};
    CHECK(signal(SIGURG, handle) != SIG_ERR);
    watching_open(&watching,
                  (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS, .no_stacks = 1});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    watching_call(loop, &(struct watching_op){.watching = &watching, .until = 2}, on_spin);
    watching_end(loop);
    watching_close(&watching);
    CHECK_EQUAL(watching.reports[0].stall.frame_count, 0);
    CHECK_EQUAL(handled, 0);
    check_handler(SIGURG, handle);
}

static void signals_of_others_take_no_stack(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    const union sigval value = {.sival_int = 1}; /* an address that would not do */
    CHECK_EQUAL(raise(SIGURG), 0);
    CHECK_EQUAL(kill(getpid(), SIGURG), 0);
    CHECK_EQUAL(sigqueue(getpid(), SIGURG, value), 0);
    CHECK_EQUAL(pthread_sigqueue(pthread_self(), SIGURG, value), 0);
    watching_close(&watching);
}

/* --- it is not answered ----------------------------------------------------------------------- */

static void block(int how, int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK_EQUAL(pthread_sigmask(how, &set, NULL), 0);
}

static bool is_pending(int signal)
{
    sigset_t set;
    CHECK_EQUAL(sigpending(&set), 0);
    return sigismember(&set, signal) == 1;
}

static void blocked_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    block(SIG_BLOCK, SIGURG);
    struct watching_op op = {.watching = &watching, .until = 2};
    watching_call(loop, &op, on_spin);
    CHECK(is_pending(SIGURG) || !WATCHING_STACKS);
    unsigned without = watching_count(&watching);
    block(SIG_UNBLOCK, SIGURG); /* now it comes, and is wanted no more */
    struct watching_op more = {.watching = &watching, .until = without + 2};
    watching_call(loop, &more, on_spin);
    watching_end(loop);
    watching_close(&watching);
    for (unsigned i = 0; i < without; i++) {
        CHECK_EQUAL(watching.reports[i].stall.frame_count, 0);
    }
    unsigned stacks = 0;
    for (unsigned i = without; i < watching.count; i++) {
        stacks += watching.reports[i].stall.frame_count > 0;
    }
    CHECK(stacks > 0 || !WATCHING_STACKS);
}

static void a_thread_that_blocks_the_signal_is_reported_without_a_stack_until_it_does_not(void)
{
    watching_on_both(blocked_on);
}

static void a_signal_that_is_pending_at_close_ends_nobody(void)
{
    struct watching watching = {0};
    watching_open(&watching,
                  (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS, .signal = SIGUSR1});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    block(SIG_BLOCK, SIGUSR1);
    watching_call(loop, &(struct watching_op){.watching = &watching, .until = 1}, on_spin);
    watching_end(loop);
    CHECK(is_pending(SIGUSR1) || !WATCHING_STACKS);
    watching_close(&watching);
    check_handler(SIGUSR1, SIG_DFL);
    block(SIG_UNBLOCK, SIGUSR1); /* its default is to end the process */
}

struct silent {
    sem_t begun;
    sem_t go_on;
    sem_t seen;
    pid_t id;
};

static void *be_silent(void *context)
{
    struct silent *silent = context;
    block(SIG_BLOCK, SIGUSR1);
    silent->id = gettid();
    sem_post(&silent->begun);
    while (sem_wait(&silent->go_on) < 0) {
    }
    block(SIG_UNBLOCK, SIGUSR1); /* what is pending arrives before this returns */
    sem_post(&silent->seen);
    while (sem_wait(&silent->go_on) < 0) {
    }
    return NULL;
}

/* One that blocks the signal, and its stack. */
static void open_silent(struct silent *silent, pthread_t *ret_thread, struct sigaction *ret_former)
{
    if (!WATCHING_STACKS) {
        check_skip("ThreadSanitizer keeps signals back");
    }
    sem_init(&silent->begun, 0, 0);
    sem_init(&silent->go_on, 0, 0);
    sem_init(&silent->seen, 0, 0);
    CHECK_EQUAL(weir_stack_install(SIGUSR1, ret_former), 0);
    CHECK_EQUAL(pthread_create(ret_thread, NULL, be_silent, silent), 0);
    sem_wait(&silent->begun);
}

/* A thread that has no CPU may be late, not each time. */
static void check_takes(struct weir_stack *stack, pid_t thread)
{
    void *frames[WEIR_STALL_FRAMES_MAX];
    uint32_t count = 0;
    for (int i = 0; i < 1000 && count == 0; i++) {
        count = weir_stack_take(stack, thread, SIGUSR1, NULL, frames, 48);
    }
    CHECK(count > 1);
    CHECK(weir_stack_take(stack, thread, SIGUSR1, NULL, frames, 1) <= 1);
}

static void a_late_answer_spoils_no_later_one(void)
{
    struct silent silent;
    struct sigaction former;
    void *frames[WEIR_STALL_FRAMES_MAX];
    pthread_t thread;
    open_silent(&silent, &thread, &former);
    struct weir_stack *stack = weir_stack_open();
    CHECK(!weir_thread_is_pending(silent.id, SIGUSR1));
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(weir_stack_take(stack, silent.id, SIGUSR1, NULL, frames, 48), 0);
        CHECK(weir_thread_is_pending(silent.id, SIGUSR1));
        CHECK(!weir_thread_is_pending(silent.id, SIGUSR2));
    }
    sem_post(&silent.go_on);
    sem_wait(&silent.seen);
    check_takes(stack, silent.id);
    sem_post(&silent.go_on);
    pthread_join(thread, NULL);
    CHECK_EQUAL(weir_stack_take(stack, silent.id, SIGUSR1, NULL, frames, 48), 0); /* it is gone */
    weir_stack_close(stack);
    weir_stack_remove(SIGUSR1, &former);
}

static void a_signal_that_was_merged_with_somebody_elses_is_sent_again(void)
{
    struct silent silent;
    struct sigaction former;
    void *frames[WEIR_STALL_FRAMES_MAX];
    pthread_t thread;
    open_silent(&silent, &thread, &former);
    struct weir_stack *stack = weir_stack_open();
    CHECK_EQUAL(pthread_kill(thread, SIGUSR1), 0);
    CHECK_EQUAL(weir_stack_take(stack, silent.id, SIGUSR1, NULL, frames, 48), 0);
    sem_post(&silent.go_on);
    sem_wait(&silent.seen); /* what has come says nothing of us */
    check_takes(stack, silent.id);
    sem_post(&silent.go_on);
    pthread_join(thread, NULL);
    weir_stack_close(stack); /* stays */
    weir_stack_remove(SIGUSR1, &former);
}

/* --- it is answered too late ------------------------------------------------------------------ */

static void on_leave_it_pending(struct weir_op *op)
{
    (void)op;
    block(SIG_BLOCK, SIGURG);
    while (!is_pending(SIGURG)) {
    }
}

static void on_take_it(struct weir_op *op)
{
    block(SIG_UNBLOCK, SIGURG);
    watching_spin(of(op)->watching, of(op)->until);
}

static void the_stack_of_what_the_loop_has_come_to_meanwhile_is_dropped(void)
{
    if (!WATCHING_STACKS) {
        check_skip("ThreadSanitizer keeps signals back");
    }
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct watching_op first = {.watching = &watching, .op.callback = on_leave_it_pending};
    weir_op_nop(&first.op);
    CHECK_EQUAL(weir_submit(loop, &first.op), 0);
    struct watching_op second = {.watching = &watching, .until = 1}; /* in the same turn */
    watching_call(loop, &second, on_take_it);
    watching_end(loop);
    watching_close(&watching);
    CHECK(watching.reports[0].stall.callback == (void *)(uintptr_t)on_leave_it_pending);
    CHECK_EQUAL(watching.reports[0].stall.frame_count, 0);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_signal_that_has_a_handler_is_refused_and_left_alone),
        CHECK_TEST(a_second_watchdog_needs_a_signal_of_its_own),
        CHECK_TEST(after_close_the_signal_is_as_it_was),
        CHECK_TEST(without_stacks_there_is_no_signal),
        CHECK_TEST(signals_of_others_take_no_stack),
        CHECK_TEST(a_thread_that_blocks_the_signal_is_reported_without_a_stack_until_it_does_not),
        CHECK_TEST(a_signal_that_is_pending_at_close_ends_nobody),
        CHECK_TEST(a_late_answer_spoils_no_later_one),
        CHECK_TEST(a_signal_that_was_merged_with_somebody_elses_is_sent_again),
        CHECK_TEST(the_stack_of_what_the_loop_has_come_to_meanwhile_is_dropped),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
