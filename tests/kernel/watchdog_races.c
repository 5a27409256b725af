/* SPDX-License-Identifier: MIT */
/*
 * watchdog_races.c: loops that are watched, left, closed and read by others while they work, under
 * a watchdog that looks as often as it can. For ThreadSanitizer.
 */
#include "watching.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define LOOPS 3
#define ROUNDS 60
#define OPS 200

struct worker {
    struct watching *watching;
    enum weir_policy policy;
    struct weir_loop *loop; /* atomic; NULL: none is open */
    pthread_mutex_t open;   /* it stays open while this is held */
    bool end;               /* atomic: of the reader */
};

static void on_op(struct weir_op *op)
{
    struct watching_op *own = WEIR_CONTAINER(op, struct watching_op, op);
    if (++own->calls % 50 == 0) { /* longer than the threshold */
        uint64_t until_ns = check_now() + 3 * WEIR_MS;
        while (check_now() < until_ns) {
        }
    }
}

static void work(struct worker *worker, struct weir_loop *loop, int round)
{
    struct watching_op op = {0};
    op.op.callback = on_op;
    struct weir_watchdog *watchdog = worker->watching->watchdog;
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, "a loop"), 0);
    for (int i = 0; i < OPS; i++) {
        weir_op_nop(&op.op);
        CHECK_EQUAL(weir_submit(loop, &op.op), 0);
        CHECK_EQUAL(weir_loop_run(loop), 0);
        if (i % 20 == 10) {
            CHECK_EQUAL(weir_watchdog_unwatch(watchdog, loop), 0);
            CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, "another name"), 0);
        }
    }
    if (round % 2 == 0) {
        CHECK_EQUAL(weir_watchdog_unwatch(watchdog, loop), 0);
    }
}

static struct weir_loop *open_loop(struct worker *worker)
{
    struct weir_options options = {.policy = worker->policy, .flags = WEIR_INSPECTABLE};
    options.offload_workers = WEIR_NO_OFFLOAD;
    struct weir_loop *loop;
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    __atomic_store_n(&worker->loop, loop, __ATOMIC_RELEASE);
    return loop;
}

static void close_loop(struct worker *worker, struct weir_loop *loop)
{
    pthread_mutex_lock(&worker->open);
    __atomic_store_n(&worker->loop, NULL, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&worker->open);
    CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
}

/* A ring is opened once: ThreadSanitizer does not see that its memory, mapped where another
 * thread's was, is a new one. */
static void *work_on(void *context)
{
    struct worker *worker = context;
    struct weir_loop *loop = open_loop(worker);
    for (int round = 0; round < ROUNDS; round++) {
        work(worker, loop, round);
        if (worker->policy == WEIR_EPOLL) {
            close_loop(worker, loop);
            loop = open_loop(worker);
        } else if (round % 2 != 0) {
            CHECK_EQUAL(weir_watchdog_unwatch(worker->watching->watchdog, loop), 0);
        }
    }
    close_loop(worker, loop);
    __atomic_store_n(&worker->end, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Reads what any thread may. */
static void *read_on(void *context)
{
    struct worker *worker = context;
    struct weir_histogram turns;
    struct weir_histogram callbacks;
    while (!__atomic_load_n(&worker->end, __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&worker->open);
        struct weir_loop *loop = __atomic_load_n(&worker->loop, __ATOMIC_ACQUIRE);
        if (loop) {
            CHECK_EQUAL(weir_loop_times(loop, &turns, &callbacks), 0);
            CHECK(callbacks.count <= ROUNDS * OPS);
        }
        pthread_mutex_unlock(&worker->open);
        watching_counters(worker->watching);
        usleep(500);
    }
    return NULL;
}

static void loops_may_be_watched_and_left_while_they_work(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = WEIR_MS,
                                                            .slow_op_ns = WEIR_MS,
                                                            .reports_a_minute = 100000,
                                                            .report_descheduled = 1});
    struct worker workers[LOOPS];
    pthread_t threads[2 * LOOPS];
    for (int i = 0; i < LOOPS; i++) {
        workers[i] =
            (struct worker){.watching = &watching, .policy = i == 0 ? WEIR_AUTO : WEIR_EPOLL};
        pthread_mutex_init(&workers[i].open, NULL);
        CHECK_EQUAL(pthread_create(&threads[2 * i], NULL, work_on, &workers[i]), 0);
        CHECK_EQUAL(pthread_create(&threads[2 * i + 1], NULL, read_on, &workers[i]), 0);
    }
    for (int i = 0; i < 2 * LOOPS; i++) {
        pthread_join(threads[i], NULL);
    }
    struct weir_watchdog_counters counters = watching_counters(&watching);
    CHECK(counters.reports > 0);
    CHECK_EQUAL(counters.left_out, 0);
    watching_close(&watching);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(loops_may_be_watched_and_left_while_they_work),
    };
    check_guard(300);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
