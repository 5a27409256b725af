/* SPDX-License-Identifier: MIT */
/*
 * nth.c: one call after the other that a loop makes fails, until none is left: the first malloc,
 * the second, the third, ...; each alone, and each with all after it; with every errno the call
 * gives. Open answers a documented error and says why, or a loop of a documented lesser form; ops
 * come back once, with their result or the errno; close answers 0, nothing is left behind, and the
 * process then opens a loop as good as the first. A call that was never made fails the test.
 */
#include "nth.h"

#include <engine/backend/kernel.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_MAX 1000
#define CPUS 2 /* the test's own, so that a large machine has no more workers to fail */

/* --- what fails ------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define CLOCK_FILE_BY ON_BOTH
#else
#define CLOCK_FILE_BY 0 /* no counter that might be the kernel's clock */
#endif

static bool tells_sigpipe(const struct weir_facts *facts)
{
    return facts->sigpipe_blocked;
}

static bool tells_cpus(const struct weir_facts *facts)
{
    return facts->workers > 0 && !strstr(facts->workers_reason, "affinity");
}

static bool tells_clock(const struct weir_facts *facts)
{
    return strcmp(facts->clock, "monotonic") == 0;
}

static bool tells_depth(const struct weir_facts *facts)
{
    return facts->depth >= 4 && facts->depth < facts->depth_asked &&
           strstr(facts->depth_reason, "RLIMIT_MEMLOCK");
}

static bool tells_flags(const struct weir_facts *facts)
{
    return facts->ring_flags != nth_good.ring_flags; /* a lower step */
}

static bool tells_workers(const struct weir_facts *facts)
{
    return facts->workers_bounded == 0 && facts->workers_unbounded == 0;
}

static bool tells_wakes(const struct weir_facts *facts)
{
    return strcmp(facts->wakes_by, "eventfd") == 0;
}

static bool tells_ring_fd(const struct weir_facts *facts)
{
    return !facts->ring_fd_registered;
}

static const struct fault faults[] = {
    {NTH_MALLOC, NTH_WITH_MALLOC ? ON_BOTH : 0, .errors = {ENOMEM},
     .answer = EAGAIN}, /* as pthread_create says it */
    {NTH_MMAP, ON_BOTH | MUST_FAIL, .errors = {ENOMEM, EAGAIN}, .answer = ENOMEM},
    {NTH_MADVISE, ON_BOTH | MUST_FAIL, .errors = {ENOMEM, EAGAIN}, .answer = ENOMEM},
    {NTH_MPROTECT, ON_BOTH | MUST_FAIL, .errors = {ENOMEM}},
    {NTH_PTHREAD_CREATE, ON_BOTH | MUST_FAIL, .errors = {EAGAIN}},
    {NTH_EVENTFD, ON_BOTH | MUST_FAIL, .errors = {EMFILE, ENFILE, ENOMEM}},
    {NTH_EPOLL_CREATE, ON_BOTH | MUST_FAIL, .errors = {EMFILE, ENFILE, ENOMEM}},
    {NTH_EPOLL_ADD, ON_BOTH | MUST_FAIL, .errors = {ENOMEM, ENOSPC}},
    {NTH_EPOLL_WAIT, ON_EPOLL | ONCE, .errors = {EINTR}},
    {NTH_EPOLL_PWAIT2, ON_EPOLL | AT_OPEN, .errors = {ENOSYS, EPERM}},
    {NTH_TIMERFD, ON_BOTH, .errors = {EMFILE, ENFILE, ENOMEM}},
    {NTH_SIGNALFD, ON_BOTH, .errors = {EMFILE, ENFILE, ENOMEM}},
    {NTH_PIPE, ON_BOTH | MUST_FAIL, .errors = {EMFILE, ENFILE, ENOMEM}},
    {NTH_PWRITEV2, ON_BOTH | AT_OPEN, .errors = {EOPNOTSUPP, ENOSYS, EPERM},
     .tells = tells_sigpipe},
    {NTH_AFFINITY, ON_BOTH | FIRST, .errors = {EINVAL, EPERM}, .tells = tells_cpus},
    {NTH_FOPEN, ON_BOTH, .errors = {EMFILE, ENFILE, ENOMEM, ENOENT, EACCES}},
    {NTH_OPEN, CLOCK_FILE_BY, .errors = {EMFILE, ENFILE, ENOENT, EACCES}, .tells = tells_clock},
    {NTH_RING_SETUP, ON_URING, .errors = {ENOMEM}, .tells = tells_depth},
    {NTH_RING_SETUP, ON_URING | MUST_FAIL, .errors = {EPERM, ENOSYS, EACCES, EMFILE, ENFILE}},
    {NTH_RING_SETUP, ON_URING, .errors = {EINVAL}, .answer = EOPNOTSUPP, .tells = tells_flags},
    {NTH_RING_MMAP, ON_URING, .errors = {ENOMEM}, .tells = tells_depth},
    {NTH_RING_DONTFORK, ON_URING | MUST_FAIL, .errors = {ENOMEM}},
    {NTH_RING_ENTER, ON_URING | ONCE, .errors = {EINTR, EAGAIN, EBUSY, ENOMEM}},
    {NTH_RING_ENTER, ON_URING | MUST_FAIL | AT_OPEN, .errors = {EPERM, ENOSYS}},
    {NTH_REGISTER_RING_FD, ON_URING, .errors = {EINVAL, ENOMEM, EBUSY}, .tells = tells_ring_fd},
    {NTH_REGISTER_EVENTFD, ON_URING, .errors = {ENOMEM, EPERM}},
    {NTH_REGISTER_PROBE, ON_URING | MUST_FAIL, .errors = {EPERM, ENOSYS, ENOMEM}},
    {NTH_REGISTER_ENABLE, ON_URING | MUST_FAIL, .errors = {EPERM, ENOMEM}},
    {NTH_REGISTER_WORKERS, ON_URING, .errors = {EINVAL, EPERM, ENOMEM}, .tells = tells_workers},
    {NTH_REGISTER_MESSAGE, ON_URING, .errors = {EINVAL, EPERM, ENOMEM}, .tells = tells_wakes},
};

/* --- the rounds ------------------------------------------------------------------------------- */

/* Whether there was an n-th call. */
static bool play(struct round *round)
{
    nth_age_kernel(round->shape == SHAPE_OLD);
    nth_arm(round->fault->call, round->error, round->n, round->lasts);
    round->struck_open = false;
    if (round->shape == SHAPE_PROBED) {
        nth_probe_through(round);
    } else {
        nth_live_through(round);
    }
    nth_disarm();
    nth_age_kernel(false);
    bool struck = nth_struck() > 0;
    nth_check_rests(round);
    if (struck) {
        nth_check_good(round);
        nth_check_rests(round);
    }
    return struck;
}

/* The number of calls that were there to fail. */
static unsigned play_all(const struct fault *fault, enum weir_policy policy, enum shape shape,
                         int error)
{
    unsigned most = 0;
    for (int lasts = 0; lasts <= !(fault->what & ONCE); lasts++) {
        struct round round = {
            .fault = fault, .policy = policy, .shape = shape, .error = error, .lasts = lasts};
        for (round.n = 1; play(&round); round.n++) {
            CHECK(round.n < N_MAX);
        }
        most = round.n - 1 > most ? round.n - 1 : most;
    }
    return most;
}

static unsigned play_fault(const struct fault *fault, enum weir_policy policy)
{
    unsigned most = 0;
    printf("%s:", nth_name(fault->call));
    for (int i = 0; i < ERRORS_MAX && fault->errors[i] != 0; i++) {
        printf(" %s", strerrorname_np(fault->errors[i]));
        fflush(stdout); /* should the guard end it */
        for (int shape = 0; shape < SHAPES; shape++) {
            unsigned n = play_all(fault, policy, (enum shape)shape, fault->errors[i]);
            printf(" %u", n);
            most = n > most ? n : most;
        }
    }
    printf("\n");
    fflush(stdout);
    return most;
}

/* Bounds what grows with the machine, and blocks the signal that the work takes. */
static void settle_in(void)
{
    cpu_set_t allowed;
    cpu_set_t few;
    sigset_t set;
    CPU_ZERO(&few);
    CHECK_EQUAL(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&few) < CPUS; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &few);
        }
    }
    CHECK_EQUAL(sched_setaffinity(0, sizeof few, &few), 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQUAL(unsetenv("WEIR_POLICY"), 0);
}

/* Which backend makes the calls; what can be had is had once, so that nothing is first later. */
static unsigned warm_up(enum weir_policy policy)
{
    static const struct fault none = {.call = NTH_NONE};
    struct weir_probe probe;
    CHECK_EQUAL(weir_probe(&probe), 0);
    if (policy == WEIR_IO_URING && probe.io_uring.error != 0) {
        check_skip("no io_uring here: %s", weir_cause_name(probe.io_uring.cause));
    }
    for (int shape = 0; shape < SHAPES; shape++) {
        struct round round = {.fault = &none, .policy = policy, .shape = (enum shape)shape};
        if (shape == SHAPE_PROBED) {
            nth_probe_through(&round);
        } else {
            nth_live_through(&round);
        }
        nth_learn_good(&round);
    }
    nth_learn_rests();
    return strcmp(nth_good.backend, "io_uring") == 0 ? ON_URING : ON_EPOLL;
}

static void survive(enum weir_policy policy)
{
    settle_in();
    unsigned backend = warm_up(policy);
    if (!NTH_WITH_MALLOC) {
        printf("malloc is left out: a sanitizer brings an allocator of its own\n");
    }
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        unsigned n = play_fault(&faults[i], policy);
        if (n == 0 && faults[i].what & backend) {
            check_fail(WEIR_SITE, "%s was never made, so nothing is known of it",
                       nth_name(faults[i].call));
        }
    }
}

static void whatever_call_fails_is_survived_on_io_uring(void)
{
    survive(WEIR_IO_URING);
}

static void whatever_call_fails_is_survived_on_epoll(void)
{
    survive(WEIR_EPOLL);
}

static void whatever_call_fails_is_survived_by_auto(void)
{
    survive(WEIR_AUTO);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(whatever_call_fails_is_survived_on_io_uring),
        CHECK_TEST(whatever_call_fails_is_survived_on_epoll),
        CHECK_TEST(whatever_call_fails_is_survived_by_auto),
    };
    check_guard(300);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
