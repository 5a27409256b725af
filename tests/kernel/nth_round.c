/* SPDX-License-Identifier: MIT */
/* nth_round.c: one life of a loop, or a probe, while a call fails: what they may answer. */
#include "nth.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_SIZE 4096
#define CALLED 42
#define CALL_NS 1000000

_Noreturn void nth_fail_round(const struct round *round, const char *site, const char *what)
{
    static const char *const shapes[SHAPES] = {"opened", "adopted", "foreign", "old", "probed"};
    nth_disarm();
    check_fail(site, "%s: %s number %u%s answers %s; policy %d, %s", what,
               nth_name(round->fault->call), round->n, round->lasts ? " and all after it" : "",
               strerror(round->error), (int)round->policy, shapes[round->shape]);
}

/* --- the work --------------------------------------------------------------------------------- */

enum { READ, RECV, SEND, TIMEOUT, CALL, POST, SIGNAL, WORKS };

struct work {
    struct weir_op ops[WORKS];
    unsigned returned[WORKS];
    int64_t results[WORKS];
    int file;
    int sockets[2];
    char read[FILE_SIZE];
    char received[4];
};

static void on_work(struct weir_op *op)
{
    struct work *work = op->user;
    size_t which = (size_t)(op - work->ops);
    work->returned[which]++;
    work->results[which] = op->result;
}

/* Most likely the loop sleeps by then, and somebody has to wake it. */
static int64_t called(void *argument)
{
    (void)argument;
    nanosleep(&(struct timespec){.tv_nsec = CALL_NS}, NULL);
    return CALLED;
}

static void submit_work(struct round *round, struct weir_loop *loop, struct work *work)
{
    for (int i = 0; i < WORKS; i++) {
        work->ops[i].callback = on_work;
        work->ops[i].user = work;
    }
    weir_op_read(&work->ops[READ], work->file, work->read, sizeof work->read, 0);
    weir_op_recv(&work->ops[RECV], work->sockets[0], work->received, sizeof work->received, 0);
    weir_op_send(&work->ops[SEND], work->sockets[1], "echo", 4, 0);
    weir_op_timeout_in(&work->ops[TIMEOUT], loop, 20 * WEIR_US);
    weir_op_call(&work->ops[CALL], called, NULL);
    weir_op_nop(&work->ops[POST]);
    weir_op_signal(&work->ops[SIGNAL], WEIR_SIGNAL(SIGUSR1), NULL);
    for (int i = 0; i < WORKS; i++) {
        WANT(round, (i == POST ? weir_loop_post(loop, &work->ops[i])
                               : weir_submit(loop, &work->ops[i])) == 0);
        /* one by one, so that the reactor has nothing ready that it might skip its turn for */
        WANT(round, weir_loop_turn(loop, 0) >= 0);
    }
}

/* Each came back once: with what it is for, or with what was made to fail since open. */
static void judge_work(struct round *round, const struct work *work, bool failed)
{
    static const int64_t results[WORKS] = {FILE_SIZE, 4, 4, 0, CALLED, 0, SIGUSR1};
    for (int i = 0; i < WORKS; i++) {
        WANT(round, work->returned[i] == 1);
        WANT(round,
             work->results[i] == results[i] || (failed && work->results[i] == -round->error));
    }
}

static void do_work(struct round *round, struct weir_loop *loop)
{
    static struct work work;
    unsigned before = nth_struck();
    static int file = -1;
    if (file < 0) {
        file = check_file(FILE_SIZE);
    }
    memset(&work, 0, sizeof work);
    work.file = file;
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, work.sockets), 0);
    CHECK_EQUAL(raise(SIGUSR1), 0); /* blocked */
    submit_work(round, loop, &work);
    while (weir_loop_live(loop) > 0) {
        WANT(round, weir_loop_turn(loop, -1) >= 0); /* not woken, it sleeps for good */
    }
    judge_work(round, &work, nth_struck() > before);
    close(work.sockets[0]);
    close(work.sockets[1]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigtimedwait(&set, NULL, &(struct timespec){0}); /* if its op could not take it */
}

/* --- the loop --------------------------------------------------------------------------------- */

/* By weir_loop_open(); -EINVAL is for the caller's mistakes alone. */
static bool is_documented(int error)
{
    static const int errors[] = {ENOSYS, EPERM,  EACCES, ENOTSUP, ENOMEM,
                                 EMFILE, ENFILE, ENOSPC, EAGAIN};
    bool found = false;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        found |= error == -errors[i];
    }
    return found;
}

/* A refusal is recorded, with what to do about it. */
static void judge_refusal(struct round *round, const struct weir_decision *why, int answer)
{
    int expected = round->fault->answer ? round->fault->answer : round->error;
    bool told = false;
    WANT(round, answer == -expected && is_documented(answer));
    WANT(round, why->chosen == NULL);
    for (uint32_t i = 0; i < why->rejected_count; i++) {
        const struct weir_rejection *rejection = &why->rejected[i];
        WANT(round, rejection->cause != WEIR_CAUSE_NONE);
        WANT(round, rejection->backend && rejection->hint[0]);
        told |= rejection->error == answer;
    }
    WANT(round, told);
}

/* Another backend was taken: never for want of memory or fds, which the next would want as well. */
static void judge_fallback(struct round *round, const struct weir_decision *why)
{
    int expected = round->fault->answer ? round->fault->answer : round->error;
    WANT(round, round->policy == WEIR_AUTO && strcmp(why->chosen, "epoll") == 0);
    WANT(round, strcmp(why->rejected[0].backend, "io_uring") == 0);
    WANT(round, why->rejected[0].error == -expected);
    WANT(round,
         expected == ENOSYS || expected == EPERM || expected == EACCES || expected == EOPNOTSUPP);
}

/* A loop that is there though something failed has another backend, or says what it lacks. */
static void judge_loop(struct round *round, struct weir_loop *loop, const struct weir_decision *why)
{
    const struct fault *fault = round->fault;
    struct weir_facts facts;
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    WANT(round, why->chosen && strcmp(why->chosen, facts.backend) == 0);
    if (!round->struck_open) {
        return;
    }
    if (strcmp(facts.backend, nth_good.backend) != 0) {
        judge_fallback(round, why);
        return;
    }
    unsigned backend = strcmp(facts.backend, "io_uring") == 0 ? ON_URING : ON_EPOLL;
    bool was_tried_alone = round->policy != WEIR_AUTO || why->rejected_count == 0;
    if (!(fault->what & backend) || !(was_tried_alone || round->lasts)) {
        return; /* it may have hit one that is not to be had here anyway */
    }
    WANT(round, !(fault->what & MUST_FAIL));
    bool is_said = !(fault->what & FIRST) || round->n == 1;
    WANT(round, !is_said || !fault->tells || fault->tells(&facts));
}

/* The fd, or an errno; then the next try gets it, if the cause is gone. */
static void become_foreign(struct round *round, struct weir_loop *loop)
{
    unsigned before = nth_struck();
    int fd = weir_loop_fd(loop);
    if (fd < 0) {
        WANT(round, fd == -round->error && nth_struck() > before);
        fd = weir_loop_fd(loop);
        WANT(round, round->lasts ? fd == -round->error : fd >= 0);
    }
}

/* Whether there is a loop with an owner. */
static bool open_loop(struct round *round, struct weir_decision *why, struct weir_loop **ret_loop)
{
    bool adopts = round->shape == SHAPE_ADOPTED;
    int r = weir_loop_open(&(struct weir_options){.policy = round->policy,
                                                  .flags = adopts ? WEIR_FOR_ADOPTION : 0,
                                                  .decision = why},
                           ret_loop);
    if (r < 0) {
        WANT(round, nth_struck() > 0 && *ret_loop == NULL);
        judge_refusal(round, why, r);
        return false;
    }
    r = adopts ? weir_loop_adopt(*ret_loop) : 0;
    if (r < 0) {
        WANT(round, nth_struck() > 0 && r == -round->error);
        WANT(round, weir_loop_close(*ret_loop, 0, NULL) == 0);
        return false;
    }
    return true;
}

void nth_live_through(struct round *round)
{
    struct weir_decision why;
    struct weir_loop *loop = NULL;
    if (!open_loop(round, &why, &loop)) {
        return;
    }
    round->struck_open = nth_struck() > 0;
    if (round->fault->what & AT_OPEN) {
        nth_disarm();
    }
    judge_loop(round, loop, &why);
    if (round->shape == SHAPE_FOREIGN) {
        become_foreign(round, loop);
    }
    do_work(round, loop);
    WANT(round, weir_loop_close(loop, 10 * WEIR_S, NULL) == 0);
}

void nth_probe_through(struct round *round)
{
    struct weir_probe probe;
    WANT(round, weir_probe(&probe) == 0);
    WANT(round, probe.cpus > 0);
    if (nth_struck() > 0 && round->fault->what & MUST_FAIL) {
        int expected = round->fault->answer ? round->fault->answer : round->error;
        WANT(round, probe.io_uring.error == -expected || probe.epoll.error == -expected);
    }
    if (nth_struck() > 0 && round->fault->call == NTH_EPOLL_PWAIT2) {
        WANT(round, !probe.epoll.has_pwait2);
    }
}
