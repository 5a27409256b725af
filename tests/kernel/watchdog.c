/* SPDX-License-Identifier: MIT */
/*
 * watchdog.c: loops that stand still in every way there is, and loops that do not.
 */
#include "watching.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THRESHOLD_NS (20 * (uint64_t)WEIR_MS)

static struct watching_op *of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct watching_op, op);
}

/* --- it computes ------------------------------------------------------------------------------ */

static void on_spin(struct weir_op *op)
{
    struct watching_op *own = of(op);
    errno = ENOTNAM;
    while (watching_count(own->watching) < own->until) { /* it ends when it has been reported */
    }
    CHECK_EQUAL(errno, ENOTNAM);
    own->calls++;
}

static void check_callback(const struct weir_stall *stall, const char *function, const char *task)
{
    CHECK(strcmp(stall->loop, "one") == 0);
    CHECK_EQUAL(stall->place, WEIR_STALL_CALLBACK);
    CHECK(strcmp(stall->task, task) == 0);
    CHECK(strcmp(stall->kind, "nop") == 0);
    CHECK(strstr(stall->site, "watchdog.c:") != NULL);
    CHECK(watching_symbol_names(stall->callback_symbol, function));
    if (stall->frame_count > 0 && WATCHING_STACKS) {
        CHECK(watching_names(stall, function));
        CHECK(watching_names(stall, "weir_loop_"));
        CHECK(!watching_names(stall, "answer")); /* the handler */
    }
}

/* A thread that has no CPU for 100 ms does not answer; not each time. */
static void check_some_stack(const struct watching *watching)
{
    unsigned stacks = 0;
    for (unsigned i = 0; i < watching->count; i++) {
        stacks += watching->reports[i].stall.frame_count > 2;
    }
    CHECK(stacks > 0 || !WATCHING_STACKS);
}

/* It has stood still once, computing. */
static void check_snapshot(const struct weir_loop *loop)
{
    struct weir_snapshot *snapshot;
    CHECK_EQUAL(weir_snapshot_open(0, 1, &snapshot), 0);
    CHECK_EQUAL(weir_snapshot_add(snapshot, loop, "l"), 0);
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, 0);
    CHECK_EQUAL(row->stalls[WEIR_STALL_RUNNING], 1);
    CHECK_EQUAL(row->stalls[WEIR_STALL_BLOCKED], 0);
    CHECK_EQUAL(row->slow_ops, 0);
    CHECK(row->longest_stall_ns[WEIR_STALL_RUNNING] > THRESHOLD_NS * 4);
    weir_snapshot_close(snapshot);
}

static void spin_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    struct weir_task *task;
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "spinner"}, &task), 0);
    struct watching_op op = {.op.task = task, .watching = &watching, .until = 3};
    op.op.callback = on_spin;
    weir_op_nop(&op.op);
    CHECK_EQUAL(weir_submit(loop, &op.op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(op.calls, 1);
    uint32_t nth = 0; /* on a busy machine it may have been descheduled at one of the doublings */
    for (unsigned i = 0; i < 3; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        check_callback(stall, "on_spin", "spinner");
        CHECK_EQUAL(stall->cause, WEIR_STALL_RUNNING);
        CHECK(stall->callback == (void *)(uintptr_t)on_spin);
        CHECK_EQUAL(stall->threshold_ns, THRESHOLD_NS);
        CHECK(stall->lasted_ns > THRESHOLD_NS << (stall->nth - 1));
        CHECK(stall->nth > nth);
        nth = stall->nth;
    }
    check_snapshot(loop);
    watching_end(loop);
    check_some_stack(&watching);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_RUNNING], 1);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_BLOCKED], 0);
    CHECK(counters.reports >= 3);
    CHECK(counters.longest_ns[WEIR_STALL_RUNNING] > THRESHOLD_NS * 4);
    watching_close(&watching);
}

static void a_callback_that_computes_is_reported_before_it_ends_and_again_at_each_doubling(void)
{
    watching_on_both(spin_on);
}

/* --- it sleeps in a system call --------------------------------------------------------------- */

static void on_read(struct weir_op *op)
{
    struct watching_op *own = of(op);
    char byte;
    /* A system call that is restarted does not notice that its stack was taken. */
    CHECK_EQUAL(read(own->fds[0], &byte, 1), 1);
    own->calls++;
}

static void on_nap(struct weir_op *op)
{
    struct watching_op *own = of(op);
    while (watching_count(own->watching) < own->until) {
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* also ended by the signal */
    }
    own->calls++;
}

static void write_at_last(struct watching *watching, const struct weir_stall *stall)
{
    const struct watching_op *op = watching->user;
    if (stall->nth >= 2) {
        CHECK_EQUAL(write(op->fds[1], "x", 1), 1);
    }
}

static void read_on(enum weir_policy policy)
{
    struct watching watching = {.then = write_at_last};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    struct watching_op op = {.watching = &watching};
    watching.user = &op;
    CHECK_EQUAL(pipe2(op.fds, O_CLOEXEC), 0);
    op.op.callback = on_read;
    weir_op_nop(&op.op);
    CHECK_EQUAL(weir_submit(loop, &op.op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(op.calls, 1);
    watching_end(loop);
    watching_close(&watching); /* also ends the report that has written */
    check_some_stack(&watching);
    for (unsigned i = 0; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        check_callback(stall, "on_read", "nop");
        CHECK_EQUAL(stall->cause, WEIR_STALL_BLOCKED);
    }
    close(op.fds[0]);
    close(op.fds[1]);
}

static void a_callback_that_blocks_in_read_is_reported_as_blocked_and_its_read_goes_on(void)
{
    watching_on_both(read_on);
}

static void a_callback_that_naps_is_reported_as_blocked(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct watching_op op = {.watching = &watching, .until = 2};
    watching_call(loop, &op, on_nap);
    watching_end(loop);
    watching_close(&watching);
    check_some_stack(&watching);
    for (unsigned i = 0; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        CHECK_EQUAL(stall->cause, WEIR_STALL_BLOCKED);
        CHECK(stall->frame_count == 0 || !WATCHING_STACKS || watching_names(stall, "on_nap"));
    }
}

static void on_nap_once(struct weir_op *op)
{
    of(op)->calls++;
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* the signal ends it, and the callback */
}

#define NAPS 20

static void nap_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS,
                                                            .report_descheduled = 1});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    for (unsigned i = 0; i < NAPS; i++) {
        watching_call(loop, &(struct watching_op){.watching = &watching}, on_nap_once);
    }
    watching_end(loop);
    watching_close(&watching);
    unsigned stacks = 0;
    for (unsigned i = 0; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        CHECK(stall->callback == (void *)(uintptr_t)on_nap_once);
        stacks += stall->frame_count > 2;
        CHECK(stall->frame_count == 0 || !WATCHING_STACKS || watching_names(stall, "on_nap_once"));
    }
    /* A thread that has no CPU for 100 ms does not answer; not often. */
    CHECK(stacks >= NAPS / 2 || !WATCHING_STACKS);
}

static void a_stall_that_the_signal_itself_ends_is_reported_with_its_stack(void)
{
    watching_on_both(nap_on);
}

/* --- it is not let ---------------------------------------------------------------------------- */

#define HOGS 8

struct crowd {
    struct watching watching;
    int cpu;
    unsigned here; /* atomic: hogs that compute */
    bool end;      /* atomic */
};

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

static void *hog(void *context)
{
    struct crowd *crowd = context;
    CHECK_EQUAL(pin(crowd->cpu), 0);
    __atomic_add_fetch(&crowd->here, 1, __ATOMIC_RELAXED);
    while (!__atomic_load_n(&crowd->end, __ATOMIC_RELAXED)) {
    }
    return NULL;
}

static uint64_t all_stalls(const struct weir_watchdog_counters *counters)
{
    return counters->stalls[WEIR_STALL_RUNNING] + counters->stalls[WEIR_STALL_BLOCKED] +
           counters->stalls[WEIR_STALL_DESCHEDULED];
}

/* It computes until that counts as a stall, of whatever cause. */
static void on_crowded(struct weir_op *op)
{
    struct watching_op *own = of(op);
    struct weir_watchdog_counters counters = watching_counters(own->watching);
    uint64_t before = all_stalls(&counters);
    do {
        counters = watching_counters(own->watching);
    } while (all_stalls(&counters) == before);
    own->calls++;
}

static unsigned reports_of(const struct watching *watching, enum weir_stall_cause cause)
{
    unsigned count = watching_count(watching);
    unsigned of_it = 0;
    for (unsigned i = 0; i < count && i < WATCHING_MAX; i++) {
        of_it += watching->reports[i].stall.cause == cause;
    }
    return of_it;
}

/* A stall of a ninth of a CPU may pass for a computation, if it had its ninth just then: then
 * another. */
static void *crowded_loop(void *context)
{
    struct crowd *crowd = context;
    struct watching *watching = &crowd->watching;
    struct weir_loop *loop = watching_loop(watching, WEIR_AUTO, "one");
    CHECK_EQUAL(pin(crowd->cpu), 0);
    while (__atomic_load_n(&crowd->here, __ATOMIC_RELAXED) < HOGS) {
        sched_yield();
    }
    while (watching_counters(watching).stalls[WEIR_STALL_DESCHEDULED] == 0) {
        watching_call(loop, &(struct watching_op){.watching = watching}, on_crowded);
    }
    __atomic_store_n(&crowd->end, true, __ATOMIC_RELAXED);
    watching_end(loop);
    return NULL;
}

/* A CPU that this process may use. */
static int any_cpu(void)
{
    cpu_set_t set;
    CHECK_EQUAL(sched_getaffinity(0, sizeof set, &set), 0);
    int cpu = CPU_SETSIZE - 1;
    while (!CPU_ISSET((size_t)cpu, &set)) {
        cpu--;
    }
    return cpu;
}

/* What was counted when the loop had seen a stall of the kind; a report of it may come later. */
static struct weir_watchdog_counters crowd(bool report, unsigned *ret_reports)
{
    struct crowd crowd = {.cpu = any_cpu()};
    struct watching *watching = &crowd.watching;
    watching_open(watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS,
                                                           .report_descheduled = report});
    pthread_t threads[HOGS + 1];
    for (unsigned i = 0; i < HOGS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, hog, &crowd), 0);
    }
    CHECK_EQUAL(pthread_create(&threads[HOGS], NULL, crowded_loop, &crowd), 0);
    for (unsigned i = 0; i <= HOGS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    struct weir_watchdog_counters counters = watching_counters(watching);
    watching_close(watching);
    *ret_reports = reports_of(watching, WEIR_STALL_DESCHEDULED);
    return counters;
}

static void a_thread_that_is_not_let_is_counted_apart_and_reported_only_if_asked_for(void)
{
    unsigned reports;
    struct weir_watchdog_counters counters = crowd(false, &reports);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_BLOCKED], 0);
    CHECK(counters.longest_ns[WEIR_STALL_DESCHEDULED] > THRESHOLD_NS);
    CHECK_EQUAL(reports, 0);
    crowd(true, &reports);
    CHECK(reports > 0);
}

/* --- elsewhere in a turn ---------------------------------------------------------------------- */

struct waiter {
    struct weir_room room;
    struct watching *watching;
};

static void on_room(struct weir_room *room, int result)
{
    struct waiter *waiter = WEIR_CONTAINER(room, struct waiter, room);
    CHECK_EQUAL(result, 0);
    watching_spin(waiter->watching, 3);
    __asm__ volatile(""); /* no tail call: it is to be found on the stack */
}

static void wait_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    struct waiter waiter = {.room.callback = on_room, .watching = &watching};
    CHECK_EQUAL(weir_wait_room(loop, &waiter.room, NULL), 0);
    while (watching_count(&watching) == 0) {
        CHECK(weir_loop_turn(loop, 0) >= 0);
    }
    watching_end(loop);
    watching_close(&watching);
    check_some_stack(&watching);
    for (unsigned i = 0; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        CHECK_EQUAL(stall->place, WEIR_STALL_TURN);
        CHECK_EQUAL(stall->cause, WEIR_STALL_RUNNING);
        CHECK(!stall->task && !stall->kind && !stall->site && !stall->callback);
        CHECK(!stall->callback_symbol);
        CHECK_EQUAL(stall->fd, -1);
        CHECK(stall->frame_count == 0 || !WATCHING_STACKS || watching_names(stall, "on_room"));
    }
}

static void a_stall_elsewhere_in_a_turn_is_reported_with_its_stack_alone(void)
{
    watching_on_both(wait_on);
}

/* --- it does not stand still ------------------------------------------------------------------ */

static void on_short(struct weir_op *op)
{
    struct watching_op *own = of(op);
    own->calls++;
    for (volatile int i = 0; i < 10000; i++) {
    }
}

static uint64_t seconds(uint64_t usual, uint64_t when_long)
{
    const char *given = getenv("WEIR_LONG");
    return given && strcmp(given, "1") == 0 ? when_long : usual;
}

static void fast_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = 50 * WEIR_MS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    struct watching_op op = {.watching = &watching};
    uint64_t end_ns = check_now() + seconds(5, 300) * WEIR_S;
    while (check_now() < end_ns) {
        watching_call(loop, &op, on_short);
    }
    struct weir_watchdog_counters counters = watching_counters(&watching);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_RUNNING], 0);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_BLOCKED], 0);
    CHECK_EQUAL(counters.reports, 0);
    struct weir_histogram *turns = calloc(2, sizeof *turns);
    CHECK_EQUAL(weir_loop_times(loop, &turns[0], &turns[1]), 0);
    CHECK(turns[0].count >= op.calls);
    CHECK_EQUAL(turns[1].count, op.calls);
    free(turns);
    watching_end(loop);
    watching_close(&watching);
}

static void fast_callbacks_are_no_stall_however_many(void)
{
    watching_on_both(fast_on);
}

static void idle_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = 5 * WEIR_MS});
    struct weir_loop *loop = check_open(
        &(struct weir_options){.policy = policy, .spin_ns_max = 200 * (uint64_t)WEIR_MS});
    CHECK_EQUAL(weir_watchdog_watch(watching.watchdog, loop, "one"), 0);
    /* In a turn that spins and sleeps, then outside; each for long. */
    struct watching_op op = {.watching = &watching, .op.callback = on_short};
    CHECK_EQUAL(pipe2(op.fds, O_CLOEXEC), 0);
    char byte;
    weir_op_read(&op.op, op.fds[0], &byte, 1, WEIR_CURRENT);
    CHECK_EQUAL(weir_submit(loop, &op.op), 0);
    CHECK(weir_loop_turn(loop, 400 * WEIR_MS) >= 0);
    struct weir_counters did;
    CHECK_EQUAL(weir_loop_counters(loop, &did), 0);
    CHECK(did.spins > 0);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    CHECK_EQUAL(write(op.fds[1], "x", 1), 1);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_RUNNING], 0);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_BLOCKED], 0);
    watching_end(loop);
    watching_close(&watching);
    close(op.fds[0]);
    close(op.fds[1]);
}

static void to_sleep_to_spin_and_to_be_outside_a_turn_is_no_stall(void)
{
    watching_on_both(idle_on);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_callback_that_computes_is_reported_before_it_ends_and_again_at_each_doubling),
        CHECK_TEST(a_callback_that_blocks_in_read_is_reported_as_blocked_and_its_read_goes_on),
        CHECK_TEST(a_callback_that_naps_is_reported_as_blocked),
        CHECK_TEST(a_stall_that_the_signal_itself_ends_is_reported_with_its_stack),
        CHECK_TEST(a_thread_that_is_not_let_is_counted_apart_and_reported_only_if_asked_for),
        CHECK_TEST(a_stall_elsewhere_in_a_turn_is_reported_with_its_stack_alone),
        CHECK_TEST(fast_callbacks_are_no_stall_however_many),
        CHECK_TEST(to_sleep_to_spin_and_to_be_outside_a_turn_is_no_stall),
    };
    check_guard((unsigned)seconds(120, 900));
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
