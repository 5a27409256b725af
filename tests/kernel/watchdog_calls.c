/* SPDX-License-Identifier: MIT */
/*
 * watchdog_calls.c: what its calls answer, its signal, loops that come and go, and how many reports
 * there may be.
 */
#include "watching.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THRESHOLD_NS (10 * (uint64_t)WEIR_MS)

static struct watching_op *of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct watching_op, op);
}

static void on_spin(struct weir_op *op)
{
    watching_spin(of(op)->watching, of(op)->until);
}

static void ignore_stall(void *context, const struct weir_stall *stall)
{
    (void)context, (void)stall;
}

static int open_with(struct weir_watchdog_options options)
{
    struct weir_watchdog *watchdog = NULL;
    options.callback = ignore_stall;
    int r = weir_watchdog_open(&options, &watchdog);
    CHECK((r == 0) == (watchdog != NULL));
    CHECK_EQUAL(weir_watchdog_close(watchdog), 0);
    return r;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void limits_are_kept_to_the_last_nanosecond(void)
{
    const uint64_t hour_ns = 3600 * (uint64_t)WEIR_S;
    const struct {
        struct weir_watchdog_options options;
        int answer;
    } cases[] = {
        {{.threshold_ns = 0}, 0},
        {{.threshold_ns = 1}, -EINVAL},
        {{.threshold_ns = WEIR_MS - 1}, -EINVAL},
        {{.threshold_ns = WEIR_MS}, 0},
        {{.threshold_ns = hour_ns}, 0},
        {{.threshold_ns = hour_ns + 1}, -EINVAL},
        {{.threshold_ns = UINT64_MAX}, -EINVAL},
        {{.signal = SIGUSR1}, 0},
        {{.signal = SIGRTMIN}, 0},
        {{.signal = SIGRTMAX}, 0},
        {{.signal = SIGRTMAX + 1}, -EINVAL},
        {{.signal = -1}, -EINVAL},
        {{.signal = SIGKILL}, -EINVAL},
        {{.signal = SIGSTOP}, -EINVAL},
        {{.signal = SIGSEGV}, -EINVAL},
        {{.slow_op_ns = UINT64_MAX, .slow_factor = UINT32_MAX, .reports_a_minute = UINT32_MAX}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EQUAL(open_with(cases[i].options), cases[i].answer);
    }
    struct weir_watchdog *watchdog = NULL;
    CHECK_EQUAL(weir_watchdog_open(NULL, &watchdog), -EINVAL);
    CHECK_EQUAL(weir_watchdog_open(&(struct weir_watchdog_options){0}, &watchdog), -EINVAL);
    CHECK_EQUAL(weir_watchdog_open(&(struct weir_watchdog_options){.callback = ignore_stall}, NULL),
                -EINVAL);
    CHECK(watchdog == NULL);
    CHECK_EQUAL(weir_watchdog_close(NULL), 0);
}

struct foreign {
    struct weir_watchdog *watchdog;
    struct weir_loop *loop;
};

static void *call_from_elsewhere(void *context)
{
    const struct foreign *foreign = context;
    struct weir_histogram histogram;
    CHECK_EQUAL(weir_watchdog_watch(foreign->watchdog, foreign->loop, "x"), -EPERM);
    CHECK_EQUAL(weir_watchdog_unwatch(foreign->watchdog, foreign->loop), -EPERM);
    CHECK_EQUAL(weir_loop_times(foreign->loop, &histogram, NULL), 0);
    return NULL;
}

static void every_call_answers_as_it_says(void)
{
    static const char longest[] = "12345678901234567890123456789012345678901234567";
    struct watching watching = {0};
    struct watching other = {0};
    watching_open(&watching, (struct weir_watchdog_options){0});
    watching_open(&other, (struct weir_watchdog_options){.signal = SIGUSR2});
    struct weir_watchdog *watchdog = watching.watchdog;
    struct weir_loop *loop = check_open(NULL);

    CHECK_EQUAL(sizeof longest - 1, WEIR_TASK_NAME_MAX);
    CHECK_EQUAL(weir_watchdog_watch(NULL, loop, "x"), -EINVAL);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, NULL, "x"), -EINVAL);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, NULL), -EINVAL);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, ""), -EINVAL);
    CHECK_EQUAL(
        weir_watchdog_watch(watchdog, loop, "123456789012345678901234567890123456789012345678"),
        -ENAMETOOLONG);
    CHECK_EQUAL(weir_watchdog_unwatch(watchdog, loop), -ENOENT);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, longest), 0);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, "x"), -EBUSY);
    CHECK_EQUAL(weir_watchdog_watch(other.watchdog, loop, "x"), -EBUSY);
    CHECK_EQUAL(weir_watchdog_unwatch(other.watchdog, loop), -ENOENT);
    CHECK_EQUAL(weir_watchdog_close(watchdog), -EBUSY);

    struct foreign foreign = {watchdog, loop};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, call_from_elsewhere, &foreign), 0);
    pthread_join(thread, NULL);

    CHECK_EQUAL(weir_watchdog_unwatch(NULL, loop), -EINVAL);
    CHECK_EQUAL(weir_watchdog_unwatch(watchdog, NULL), -EINVAL);
    CHECK_EQUAL(weir_watchdog_unwatch(watchdog, loop), 0);
    CHECK_EQUAL(weir_watchdog_unwatch(watchdog, loop), -ENOENT);
    CHECK_EQUAL(weir_watchdog_watch(other.watchdog, loop, "x"), 0); /* it is free again */
    check_close(loop);

    struct weir_watchdog_counters counters;
    CHECK_EQUAL(weir_watchdog_read_counters(NULL, &counters), -EINVAL);
    CHECK_EQUAL(weir_watchdog_read_counters(watchdog, NULL), -EINVAL);
    CHECK_EQUAL(weir_loop_times(NULL, NULL, NULL), -EINVAL);
    watching_close(&other);
    watching_close(&watching);
}

static void a_loop_in_a_simulated_world_is_not_watched(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){0});
    struct weir_loop *loop = check_open(&(struct weir_options){.policy = WEIR_SIM});
    CHECK_EQUAL(weir_watchdog_watch(watching.watchdog, loop, "x"), -EOPNOTSUPP);
    CHECK_EQUAL(weir_watchdog_unwatch(watching.watchdog, loop), -ENOENT);
    CHECK_EQUAL(weir_loop_times(loop, NULL, NULL), 0);
    check_close(loop);
    watching_close(&watching);
}

static void call_in_child(void *context)
{
    const struct foreign *foreign = context;
    struct weir_watchdog_counters counters;
    CHECK_EQUAL(weir_watchdog_watch(foreign->watchdog, foreign->loop, "x"), -ECHILD);
    CHECK_EQUAL(weir_watchdog_unwatch(foreign->watchdog, foreign->loop), -ECHILD);
    CHECK_EQUAL(weir_watchdog_read_counters(foreign->watchdog, &counters), -ECHILD);
    CHECK_EQUAL(weir_watchdog_close(foreign->watchdog), -ECHILD);
    CHECK_EQUAL(weir_loop_times(foreign->loop, NULL, NULL), -ECHILD);
    CHECK_EQUAL(weir_loop_close(foreign->loop, 0, NULL), -ECHILD);
    struct weir_watchdog *own = NULL; /* the handler is there, and the parent's */
    CHECK_EQUAL(
        weir_watchdog_open(
            &(struct weir_watchdog_options){.callback = ignore_stall, .signal = SIGUSR1}, &own),
        0);
    CHECK_EQUAL(weir_watchdog_watch(own, foreign->loop, "x"), -ECHILD);
    CHECK_EQUAL(weir_watchdog_close(own), 0);
}

static void a_child_has_no_watchdog_and_its_parent_keeps_it(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    check_in_child(call_in_child, &(struct foreign){watching.watchdog, loop});
    struct watching_op op = {.watching = &watching, .until = 1};
    watching_call(loop, &op, on_spin);
    watching_end(loop);
    watching_close(&watching);
}

/* --- loops come and go ------------------------------------------------------------------------ */

static void a_loop_that_is_closed_or_abandoned_is_no_longer_watched(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = WEIR_MS});
    for (int i = 0; i < 20; i++) {
        struct weir_loop *loops[3];
        for (int k = 0; k < 3; k++) {
            loops[k] = watching_loop(&watching, k == 1 ? WEIR_EPOLL : WEIR_AUTO, "x");
        }
        CHECK_EQUAL(weir_watchdog_close(watching.watchdog), -EBUSY);
        watching_end(loops[i % 3]);
        CHECK_EQUAL(weir_watchdog_close(watching.watchdog), -EBUSY);
        CHECK_EQUAL(weir_watchdog_unwatch(watching.watchdog, loops[(i + 1) % 3]), 0);
        watching_end(loops[(i + 1) % 3]);
        CHECK_EQUAL(weir_watchdog_close(watching.watchdog), -EBUSY);
        CHECK_EQUAL(weir_loop_abandon(loops[(i + 2) % 3]), 0);
    }
    watching_close(&watching);
}

static void on_watch(struct weir_op *op)
{
    struct watching_op *own = of(op);
    struct weir_loop *loop = own->op.user;
    if (own->calls++ % 2 == 0) {
        CHECK_EQUAL(weir_watchdog_watch(own->watching->watchdog, loop, "inside"), 0);
    } else {
        CHECK_EQUAL(weir_watchdog_unwatch(own->watching->watchdog, loop), 0);
    }
}

static void a_loop_may_be_watched_and_left_in_its_callbacks(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = check_open(NULL);
    struct watching_op op = {.watching = &watching, .op.user = loop};
    for (int i = 0; i < 5; i++) {
        watching_call(loop, &op, on_watch);
    }
    struct weir_histogram turns;
    struct weir_histogram callbacks;
    CHECK_EQUAL(weir_loop_times(loop, &turns, &callbacks), 0);
    CHECK_EQUAL(turns.count, 0);     /* none was watched from its beginning to its end */
    CHECK_EQUAL(callbacks.count, 2); /* those that left */
    struct watching_op spin = {.watching = &watching, .until = 1};
    watching_call(loop, &spin, on_spin);
    CHECK(strcmp(watching.reports[0].loop, "inside") == 0);
    watching_call(loop, &op, on_watch);
    watching_call(loop, &(struct watching_op){.watching = &watching}, on_spin);
    CHECK_EQUAL(weir_loop_times(loop, &turns, &callbacks), 0);
    CHECK_EQUAL(callbacks.count, 4);
    check_close(loop);
    watching_close(&watching);
}

/* What an earlier watch has left in the pulse is not of now. */
static void on_leave(struct weir_op *op)
{
    CHECK_EQUAL(weir_watchdog_unwatch(of(op)->watching->watchdog, op->user), 0);
}

static void a_watch_begins_without_what_the_former_one_saw(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct watching_op op = {.watching = &watching, .op.user = loop};
    watching_call(loop, &op, on_leave); /* in a callback, for ever */
    CHECK_EQUAL(weir_watchdog_watch(watching.watchdog, loop, "one"), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20 * THRESHOLD_NS}, NULL);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    for (int i = 0; i < WEIR_STALL_CAUSE_COUNT; i++) {
        CHECK_EQUAL(counters.stalls[i], 0);
    }
    watching_end(loop);
    watching_close(&watching);
}

#define MANY 8

struct member {
    struct watching *watching;
    pthread_barrier_t *barrier;
    char name[32];
};

static void *stall_among_many(void *context)
{
    struct member *member = context;
    struct weir_loop *loop = watching_loop(member->watching, WEIR_AUTO, member->name);
    struct watching_op op = {.watching = member->watching, .until = MANY};
    pthread_barrier_wait(member->barrier);
    watching_call(loop, &op, on_spin);
    watching_end(loop);
    return NULL;
}

static void of_many_loops_that_stand_still_each_is_reported_under_its_name(void)
{
    struct watching watching = {0};
    struct member members[MANY];
    pthread_t threads[MANY];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, MANY);
    watching_open(&watching, (struct weir_watchdog_options){
                                 .threshold_ns = THRESHOLD_NS,
                                 .report_descheduled = 1, /* there are more of them than CPUs */
                                 .reports_a_minute = 1});
    for (int i = 0; i < MANY; i++) {
        members[i] = (struct member){.watching = &watching, .barrier = &barrier};
        snprintf(members[i].name, sizeof members[i].name, "loop %d", i);
        CHECK_EQUAL(pthread_create(&threads[i], NULL, stall_among_many, &members[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        pthread_join(threads[i], NULL);
    }
    watching_close(&watching);
    CHECK_EQUAL(watching.count, MANY);
    for (int i = 0; i < MANY; i++) {
        int found = 0;
        for (int k = 0; k < MANY; k++) {
            found += strcmp(watching.reports[k].loop, members[i].name) == 0;
        }
        CHECK_EQUAL(found, 1);
    }
    pthread_barrier_destroy(&barrier);
}

/* --- how many reports ------------------------------------------------------------------------- */

static void on_left_out(struct weir_op *op)
{
    struct watching *watching = of(op)->watching;
    while (watching_counters(watching).left_out < 3) {
    }
}

static void reports_past_what_a_minute_may_have_are_counted_and_not_made(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS,
                                                            .reports_a_minute = 2});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct watching_op op = {.watching = &watching};
    uint64_t begun_ns = check_now();
    watching_call(loop, &op, on_left_out);
    watching_end(loop);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    watching_close(&watching);
    CHECK(counters.reports >= 2);
    CHECK(counters.reports <= 3 + 2 * (check_now() - begun_ns) / (60 * WEIR_S));
    CHECK_EQUAL(counters.reports, watching.count);
    CHECK_EQUAL(counters.stalls[WEIR_STALL_RUNNING], 1);
}

static void close_here(struct watching *watching, const struct weir_stall *stall)
{
    (void)stall;
    CHECK_EQUAL(weir_watchdog_close(watching->watchdog), -EDEADLK);
    CHECK(watching_counters(watching).reports > 0);
}

static void a_report_may_ask_for_counters_and_cannot_close_its_watchdog(void)
{
    struct watching watching = {.then = close_here};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = THRESHOLD_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    watching_call(loop, &(struct watching_op){.watching = &watching, .until = 1}, on_spin);
    watching_end(loop);
    watching_close(&watching);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(limits_are_kept_to_the_last_nanosecond),
        CHECK_TEST(every_call_answers_as_it_says),
        CHECK_TEST(a_loop_in_a_simulated_world_is_not_watched),
        CHECK_TEST(a_child_has_no_watchdog_and_its_parent_keeps_it),
        CHECK_TEST(a_loop_that_is_closed_or_abandoned_is_no_longer_watched),
        CHECK_TEST(a_loop_may_be_watched_and_left_in_its_callbacks),
        CHECK_TEST(a_watch_begins_without_what_the_former_one_saw),
        CHECK_TEST(of_many_loops_that_stand_still_each_is_reported_under_its_name),
        CHECK_TEST(reports_past_what_a_minute_may_have_are_counted_and_not_made),
        CHECK_TEST(a_report_may_ask_for_counters_and_cannot_close_its_watchdog),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
