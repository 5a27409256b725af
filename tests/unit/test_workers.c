/* SPDX-License-Identifier: MIT */
/* engine/offload/worker.h: who is woken and who not; names, signals, stacks, starting, ending. */
#include "offload_world.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

/* --- what is counted and broken --------------------------------------------------------------- */

static uint32_t wakes;            /* futex wakes that the engine asked the kernel for */
static int creates_until_no = -1; /* threads that may still be made; -1: any */

static void *next_symbol(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    return symbol ? symbol : (abort(), NULL);
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    if (!__atomic_load_n(&next, __ATOMIC_RELAXED)) {
        __atomic_store_n(&next, (long (*)(long, ...))next_symbol("syscall"), __ATOMIC_RELAXED);
    }
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long);
    long b = va_arg(list, long);
    long c = va_arg(list, long);
    long d = va_arg(list, long);
    long e = va_arg(list, long);
    long f = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && (int)b == FUTEX_WAKE_PRIVATE) {
        __atomic_fetch_add(&wakes, 1, __ATOMIC_SEQ_CST);
    }
    return next(number, a, b, c, d, e, f);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (creates_until_no == 0) {
        return EAGAIN;
    }
    creates_until_no -= creates_until_no > 0;
    return ((create *)next_symbol("pthread_create"))(thread, attributes, start, argument);
}

static uint32_t count_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    uint32_t count = 0;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

/* A joined thread leaves /proc a little later. */
static void wait_threads(uint32_t count)
{
    while (count_threads() != count) {
        nap();
    }
}

/* --- waking ----------------------------------------------------------------------------------- */

static void a_flush_wakes_as_many_as_were_pushed_and_can_take_it(void **state)
{
    (void)state;
    assert_int_equal(open_world(4, 32, 0), 0);
    wait_idle(0xf);
    wakes = 0;
    weir_offload_flush(offload);
    assert_int_equal(wakes, 0);
    jobs[0].let_go = jobs[1].let_go = &let_go;
    push(0, 2, WEIR_LANE_LONG);
    assert_int_equal(wakes, 2);
    wait_idle(0x9); /* worker 0 was not asked */
    jobs[2].let_go = jobs[3].let_go = &let_go;
    push(2, 1, WEIR_LANE_SHORT);
    assert_int_equal(wakes, 3);
    push(3, 1, WEIR_LANE_SHORT);
    assert_int_equal(wakes, 4);
    push(4, 20, WEIR_LANE_SHORT);
    assert_int_equal(wakes, 4);
    for (uint32_t i = 0; i < 4; i++) {
        sem_post(&let_go);
    }
    run_out(24);
    assert_int_equal(wakes, 4);
}

static void a_worker_that_watches_needs_no_wake(void **state)
{
    (void)state;
    assert_int_equal(open_world(2, 8, 3600000000000ULL), 0);
    for (uint32_t i = 0; i < 4; i++) {
        push(i, 1, i % 2 ? WEIR_LANE_LONG : WEIR_LANE_SHORT);
        run_out(1);
    }
    assert_int_equal(offload->idle[0], 0);
    weir_offload_close(offload); /* ends the watching, too */
    offload = NULL;
}

/* Worker 0 is woken for what worker 1 takes first; the long work that 1 was woken for is left. */
static void a_wake_that_came_to_the_wrong_worker_is_handed_on(void **state)
{
    (void)state;
    assert_int_equal(open_world(3, 8, 0), 0);
    wait_idle(0x7);
    weir_offload_push(offload, &jobs[0].op, WEIR_LANE_LONG);
    weir_ring_publish(&offload->lanes[WEIR_LANE_LONG]); /* and nobody who takes it is woken */
    struct weir_worker *first = &offload->workers[0];
    __atomic_fetch_and(&offload->idle[0], ~1ULL, __ATOMIC_SEQ_CST);
    __atomic_store_n(&first->asleep, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &first->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    run_out(1);
    assert_int_not_equal(jobs[0].ran_on, 0);
}

/* --- workers ---------------------------------------------------------------------------------- */

static void workers_have_names_and_no_signals_but_their_own_faults(void **state)
{
    (void)state;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    const int others[] = {SIGINT,  SIGTERM, SIGPIPE, SIGALRM,  SIGCHLD,
                          SIGUSR1, SIGPROF, SIGHUP,  SIGRTMIN, SIGRTMAX};
    sigset_t before;
    sigset_t after;
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(open_world(3, 8, 0), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_memory_equal(&before, &after, sizeof before);
    occupy(0, WEIR_LANE_LONG);
    occupy(1, WEIR_LANE_LONG);
    occupy(2, WEIR_LANE_SHORT);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 3; i++) {
        seen |= 1u << jobs[i].ran_on;
        for (size_t s = 0; s < COUNT_OF(others); s++) {
            assert_true(sigismember(&jobs[i].blocked, others[s]));
        }
        for (size_t s = 0; s < COUNT_OF(faults); s++) {
            assert_false(sigismember(&jobs[i].blocked, faults[s]));
        }
        sem_post(&let_go);
    }
    assert_int_equal(seen, 7);
    run_out(3);
}

/* Whether the kernel can read the page. */
static bool readable(const unsigned char *at)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    bool read = write(pipes[1], at, 1) == 1;
    close(pipes[0]);
    close(pipes[1]);
    return read;
}

static void stacks_lie_in_the_memory_given_behind_guard_pages(void **state)
{
    (void)state;
    assert_int_equal(open_world(2, 8, 0), 0);
    occupy(0, WEIR_LANE_LONG);
    occupy(1, WEIR_LANE_SHORT);
    for (uint32_t i = 0; i < 2; i++) {
        uintptr_t from = (uintptr_t)memory;
        assert_true(jobs[i].stack_at > from && jobs[i].stack_at < from + memory_size);
        uint32_t pages = 0; /* from the stack in use down to the guard */
        while (readable((unsigned char *)(jobs[i].stack_at / page * page) - pages * page)) {
            pages++;
        }
        assert_in_range(pages, 1, offload->options.stack_size / page);
        sem_post(&let_go);
    }
    run_out(2);
    weir_offload_close(offload);
    offload = NULL;
    for (size_t at = 0; at < memory_size; at += page) {
        assert_true(readable(memory + at));
    }
}

static void a_thread_that_cannot_be_had_undoes_the_others(void **state)
{
    (void)state;
    uint32_t threads = count_threads();
    for (int n = 0; n < 5; n++) {
        creates_until_no = n;
        assert_int_equal(open_world(5, 8, n % 2 ? 1000 : 0), -EAGAIN);
        assert_null(offload);
        wait_threads(threads);
        for (size_t at = 0; at < memory_size; at += page) {
            assert_true(readable(memory + at));
        }
        memset(memory, 0, memory_size);
    }
    creates_until_no = -1;
    assert_int_equal(open_world(5, 8, 0), 0);
    assert_int_equal(count_threads(), threads + 5);
    push(0, 8, WEIR_LANE_LONG);
    run_out(8);
    weir_offload_close(offload);
    offload = NULL;
    wait_threads(threads);
}

static void abandoned_workers_end_after_what_they_are_at(void **state)
{
    (void)state;
    uint32_t threads = count_threads();
    assert_int_equal(open_world(2, 8, 0), 0);
    occupy(0, WEIR_LANE_LONG);
    push(1, 4, WEIR_LANE_LONG);
    weir_offload_abandon(offload);
    offload = NULL;
    memory = NULL; /* for ever */
    wait_threads(threads + 1);
    sem_post(&let_go);
    wait_threads(threads);
    wait_finished(1);
    assert_int_equal(sequence, 1);
}

static void a_hundred_workers_share_the_work(void **state)
{
    (void)state;
    assert_int_equal(open_world(100, JOBS, 0), 0);
    for (uint32_t i = 0; i < 99; i++) {
        occupy(i, WEIR_LANE_LONG);
    }
    push(100, 1, WEIR_LANE_SHORT);
    run_out(1);
    assert_int_equal(jobs[100].ran_on, 0);
    for (uint32_t i = 0; i < 99; i++) {
        sem_post(&let_go);
    }
    run_out(99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OFFLOAD_TEST(a_flush_wakes_as_many_as_were_pushed_and_can_take_it),
        OFFLOAD_TEST(a_worker_that_watches_needs_no_wake),
        OFFLOAD_TEST(a_wake_that_came_to_the_wrong_worker_is_handed_on),
        OFFLOAD_TEST(workers_have_names_and_no_signals_but_their_own_faults),
        OFFLOAD_TEST(stacks_lie_in_the_memory_given_behind_guard_pages),
        OFFLOAD_TEST(a_thread_that_cannot_be_had_undoes_the_others),
        OFFLOAD_TEST(abandoned_workers_end_after_what_they_are_at),
        OFFLOAD_TEST(a_hundred_workers_share_the_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
