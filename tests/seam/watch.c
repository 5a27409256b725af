/* SPDX-License-Identifier: MIT */
/* watch.c: SIGNAL and CHILD: ops whose fd is the engine's own. */
#include "seam.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

/* Blocks a set in this thread, before any worker is started. Gives the former mask. */
static sigset_t block(int first, int second)
{
    sigset_t set;
    sigset_t before;
    sigemptyset(&set);
    sigaddset(&set, first);
    sigaddset(&set, second);
    expect_equal(pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    return before;
}

static void unblock(const sigset_t *before)
{
    expect_equal(pthread_sigmask(SIG_SETMASK, before, NULL), 0);
}

static bool is_pending(int number)
{
    sigset_t pending;
    expect_equal(sigpending(&pending), 0);
    return sigismember(&pending, number) == 1;
}

SEAM_TEST(a_signal_comes_back_with_its_number_and_what_was_received)
{
    sigset_t before = block(SIGUSR1, SIGUSR2);
    struct weir_loop *loop = seam_loop();
    int fds = seam_fds_open();
    for (int i = 0; i < 20; i++) {
        struct signalfd_siginfo info = {0};
        struct tracked op = {0};
        struct tracked timer = {0};
        weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR1) | WEIR_SIGNAL(SIGUSR2),
                       i % 3 == 0 ? NULL : &info);
        seam_submit(loop, &op);
        weir_op_timeout_in(&timer.op, loop, 100 * WEIR_US);
        expect_equal(seam_carry_out(loop, &timer), 0);
        expect_equal(op.calls, 0);
        int number = i % 2 == 0 ? SIGUSR1 : SIGUSR2;
        expect_equal(kill(getpid(), number), 0); /* for the process, any of whose threads */
        seam_await(loop, &op);
        expect_equal(op.result, number);
        expect(i % 3 == 0 || info.ssi_signo == (unsigned)number);
        expect(i % 3 == 0 || info.ssi_pid == (unsigned)getpid());
        expect(!is_pending(number));
        expect_equal(seam_fds_open(), fds);
    }
    seam_end(loop);
    unblock(&before);
}

SEAM_TEST(one_op_takes_one_signal_and_the_rest_stay_pending)
{
    sigset_t before = block(SIGUSR1, SIGUSR2);
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    expect_equal(kill(getpid(), SIGUSR1), 0);
    expect_equal(kill(getpid(), SIGUSR2), 0);
    weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR2) | WEIR_SIGNAL(SIGUSR1), NULL);
    int64_t first = seam_carry_out(loop, &op);
    expect(first == SIGUSR1 || first == SIGUSR2);
    int64_t other = SIGUSR1 + SIGUSR2 - first;
    expect(is_pending((int)other) && !is_pending((int)first));
    weir_op_signal(&op.op, WEIR_SIGNAL(first), NULL);
    seam_submit(loop, &op); /* not of its set */
    expect_equal(seam_turns(loop, 5), 0);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    weir_op_signal(&op.op, WEIR_SIGNAL(other), NULL);
    expect_equal(seam_carry_out(loop, &op), other);
    expect(!is_pending((int)other));
    seam_end(loop);
    unblock(&before);
}

SEAM_TEST(a_cancelled_or_expired_wait_takes_no_signal)
{
    sigset_t before = block(SIGUSR1, SIGUSR2);
    struct weir_loop *loop = seam_loop();
    int fds = seam_fds_open();
    struct tracked op = {0};
    for (int turns = 0; turns < 4; turns++) {
        weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR1), NULL);
        seam_submit(loop, &op);
        seam_turns(loop, turns);
        expect_equal(seam_cancel(loop, &op), 0);
        seam_await(loop, &op);
        expect_equal(op.result, -ECANCELED);
    }
    weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR1), NULL);
    op.op.deadline_ns = weir_now(loop) + WEIR_MS;
    expect_equal(seam_carry_out(loop, &op), -ETIME);
    expect_equal(seam_fds_open(), fds);
    expect_equal(kill(getpid(), SIGUSR1), 0);
    seam_turns(loop, 3);
    expect(is_pending(SIGUSR1));
    weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR1), NULL);
    expect_equal(seam_carry_out(loop, &op), SIGUSR1);
    seam_end(loop);
    unblock(&before);
}

SEAM_TEST(a_signal_that_is_not_blocked_is_EINVAL)
{
    sigset_t before = block(SIGUSR1, SIGUSR1);
    struct weir_loop *loop = seam_loop();
    int fds = seam_fds_open();
    struct tracked op = {0};
    static const uint64_t sets[] = {
        WEIR_SIGNAL(SIGUSR2),
        WEIR_SIGNAL(SIGUSR1) | WEIR_SIGNAL(SIGUSR2),
        WEIR_SIGNAL(SIGUSR1) | WEIR_SIGNAL(SIGKILL), /* cannot be blocked */
        0,
    };
    for (size_t i = 0; i < SEAM_COUNT(sets); i++) {
        weir_op_signal(&op.op, sets[i], NULL);
        expect_equal(seam_carry_out(loop, &op), -EINVAL);
        expect_equal(seam_fds_open(), fds);
    }
    seam_end(loop);
    unblock(&before);
}

SEAM_TEST(close_hands_a_wait_for_a_signal_or_a_child_back_and_leaves_no_fd)
{
    sigset_t before = block(SIGUSR1, SIGUSR1);
    seam_end(seam_loop());
    int fds = seam_fds_open();
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(1);
    }
    for (int turns = 0; turns < 3; turns++) {
        struct weir_loop *loop = seam_loop();
        struct tracked ops[2] = {0};
        weir_op_signal(&ops[0].op, WEIR_SIGNAL(SIGUSR1), NULL);
        seam_submit(loop, &ops[0]);
        weir_op_child(&ops[1].op, child, NULL);
        seam_submit(loop, &ops[1]);
        seam_turns(loop, turns);
        seam_end(loop);
        expect_equal(ops[0].result, -ECANCELED);
        expect_equal(ops[1].result, -ECANCELED);
        expect_equal(seam_fds_open(), fds);
    }
    expect_equal(kill(child, SIGKILL), 0);
    expect_equal(waitpid(child, NULL, 0), child); /* nobody reaped it */
    unblock(&before);
}

/* --- children --------------------------------------------------------------------------------- */

/* A child that ends when the pipe's other end says so; -1: by a signal. */
static pid_t child_start(struct seam_pair *pipe, int status)
{
    fflush(stdout);
    pid_t child = fork();
    expect(child >= 0);
    if (child == 0) {
        char byte;
        signal(SIGTERM, SIG_DFL);
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* where only ancestors might else */
        if (read(pipe->in, &byte, 1) != 1) {
            _exit(99);
        }
        if (status < 0) {
            raise(SIGKILL);
        }
        _exit(status);
    }
    return child;
}

SEAM_TEST(a_child_that_ends_is_reaped_and_says_how)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    int fds = seam_fds_open();
    static const int statuses[] = {0, 7, 255, -1};
    for (size_t i = 0; i < SEAM_COUNT(statuses); i++) {
        struct weir_exit end = {0};
        struct tracked op = {0};
        pid_t child = child_start(&pipe, statuses[i]);
        weir_op_child(&op.op, child, &end);
        seam_submit(loop, &op);
        seam_turns(loop, 3);
        expect_equal(op.calls, 0);
        seam_write(pipe.out, "x", 1);
        seam_await(loop, &op);
        expect_equal(op.result, 0);
        expect_equal(end.code, statuses[i] < 0 ? CLD_KILLED : CLD_EXITED);
        expect_equal(end.status, statuses[i] < 0 ? SIGKILL : statuses[i]);
        expect(waitpid(child, NULL, 0) < 0 && errno == ECHILD);
        expect_equal(seam_fds_open(), fds);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(many_children_each_come_back_once)
{
    enum { CHILDREN = 20 };
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct weir_exit ends[CHILDREN] = {0};
    struct tracked ops[CHILDREN] = {0};
    for (int i = 0; i < CHILDREN; i++) {
        weir_op_child(&ops[i].op, child_start(&pipe, i), i == 3 ? NULL : &ends[i]);
        seam_submit(loop, &ops[i]);
    }
    seam_write(pipe.out, "xxxxxxxxxxxxxxxxxxxx", CHILDREN);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < CHILDREN; i++) {
        expect_equal(ops[i].result, 0);
        expect_equal(ends[i].status, i == 3 ? 0 : i);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_child_that_ended_before_is_reaped_too)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct weir_exit end = {0};
    struct tracked op = {0};
    pid_t child = child_start(&pipe, 5);
    siginfo_t info;
    seam_write(pipe.out, "x", 1);
    expect_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    weir_op_child(&op.op, child, &end);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(end.status, 5);
    weir_op_child(&op.op, child, &end);
    expect_equal(seam_carry_out(loop, &op), -ESRCH);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_cancelled_or_expired_wait_reaps_nothing)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    pid_t child = child_start(&pipe, 6);
    for (int turns = 0; turns < 4; turns++) {
        weir_op_child(&op.op, child, NULL);
        seam_submit(loop, &op);
        seam_turns(loop, turns);
        expect_equal(seam_cancel(loop, &op), 0);
        seam_await(loop, &op);
        expect_equal(op.result, -ECANCELED);
    }
    weir_op_child(&op.op, child, NULL);
    op.op.deadline_ns = weir_now(loop) + WEIR_MS;
    expect_equal(seam_carry_out(loop, &op), -ETIME);
    seam_write(pipe.out, "x", 1);
    int status = 0;
    expect_equal(waitpid(child, &status, 0), child);
    expect_equal(WEXITSTATUS(status), 6);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(who_is_no_child_or_was_reaped_by_another_is_ECHILD_or_ESRCH)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair go = seam_pipe(0);
    struct seam_pair tell = seam_pipe(0);
    struct seam_pair never = seam_pipe(0);
    struct tracked op = {0};
    /* A child that has a child, which ends first and is not reaped by anybody for a while. */
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = child_start(&never, 1);
        char byte;
        _exit(write(tell.out, &grandchild, sizeof grandchild) < 0 || read(go.in, &byte, 1) < 0);
    }
    pid_t grandchild = 0;
    seam_read(tell.in, &grandchild, sizeof grandchild);
    weir_op_child(&op.op, grandchild, NULL);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    expect_equal(kill(grandchild, SIGKILL), 0);
    seam_await_count(loop, &op.calls, 1);
    expect_equal(op.result, -ECHILD);
    /* Reaped by us, behind the op's back. */
    weir_op_child(&op.op, child, NULL);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    seam_write(go.out, "x", 1);
    expect_equal(waitpid(child, NULL, 0), child);
    seam_await_count(loop, &op.calls, 2);
    expect_equal(op.result, -ECHILD);
    weir_op_child(&op.op, child, NULL);
    expect_equal(seam_carry_out(loop, &op), -ESRCH);
    seam_end(loop);
    seam_pair_close(&go);
    seam_pair_close(&tell);
    seam_pair_close(&never);
}

/* Traces a child of somebody else's until it is told to go. */
static void trace(pid_t traced, int told, int tell)
{
    char byte;
    siginfo_t info;
    int error = ptrace(PTRACE_SEIZE, traced, 0, 0) == 0 ? 0 : errno;
    if (write(tell, &error, sizeof error) < 0 || error != 0) {
        _exit(1);
    }
    int r = waitid(P_PID, (id_t)traced, &info, WEXITED | WNOWAIT | __WALL);
    _exit(r != 0 || write(tell, "e", 1) < 0 || read(told, &byte, 1) < 0);
}

SEAM_TEST(a_child_that_ended_is_awaited_until_who_traces_it_lets_go)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair go = seam_pipe(0);
    struct seam_pair told = seam_pipe(0);
    struct seam_pair tell = seam_pipe(0);
    struct weir_exit end = {0};
    struct tracked op = {0};
    char byte;
    int error = 0;
    int status = 0;
    pid_t child = child_start(&go, 4);
    pid_t tracer = fork();
    if (tracer == 0) {
        trace(child, told.in, tell.out);
    }
    seam_read(tell.in, &error, sizeof error);
    weir_op_child(&op.op, child, &end);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    seam_write(go.out, "x", 1);
    if (error == 0) {
        seam_read(tell.in, &byte, 1); /* it has ended, but not for us */
        for (int i = 0; i < 20; i++) {
            seam_expect_turning(loop);
        }
        expect_equal(op.calls, 0);
        seam_write(told.out, "x", 1);
    }
    seam_await_count(loop, &op.calls, 1);
    expect_equal(op.result, 0);
    expect_equal(end.status, 4);
    expect_equal(waitpid(tracer, &status, 0), tracer);
    seam_end(loop);
    seam_pair_close(&go);
    seam_pair_close(&told);
    seam_pair_close(&tell);
    if (error != 0) {
        seam_skip("one child of this process may not trace another");
    }
    expect_equal(status, 0);
}

static int without_fds(void *context)
{
    struct weir_loop *loop = NULL;
    struct tracked ops[2] = {0};
    sigset_t set;
    (void)context;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    child_expect(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    child_expect(seam_open((struct weir_options){0}, &loop) == 0);
    int next = dup(0);
    child_expect(next >= 0);
    close(next);
    struct rlimit limit;
    child_expect(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)next;
    child_expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    weir_op_signal(&ops[0].op, WEIR_SIGNAL(SIGUSR1), NULL);
    weir_op_child(&ops[1].op, getppid(), NULL);
    child_expect(seam_try_submit(loop, &ops[0], WEIR_SITE) == 0);
    child_expect(seam_try_submit(loop, &ops[1], WEIR_SITE) == 0);
    child_expect(seam_run(loop) == 0);
    child_expect(ops[0].result == -EMFILE && ops[1].result == -EMFILE);
    limit.rlim_cur = before;
    child_expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    child_expect(kill(getpid(), SIGUSR1) == 0);
    weir_op_signal(&ops[0].op, WEIR_SIGNAL(SIGUSR1), NULL);
    child_expect(seam_try_submit(loop, &ops[0], WEIR_SITE) == 0);
    child_expect(seam_run(loop) == 0);
    child_expect(ops[0].result == SIGUSR1);
    return seam_close(loop, 0, NULL);
}

SEAM_TEST(without_a_free_fd_they_are_EMFILE_and_the_loop_goes_on)
{
    expect_equal(seam_child(without_fds, NULL), 0);
}

/* --- simulated -------------------------------------------------------------------------------- */

/* A world has neither: no real signal or child may enter a run. */
SEAM_TEST(in_a_simulated_world_there_are_neither_signals_nor_children)
{
    static const enum weir_route routes[] = {WEIR_ROUTE_AUTO, WEIR_ROUTE_RING, WEIR_ROUTE_INLINE};
    sigset_t before = block(SIGUSR1, SIGUSR1);
    struct weir_loop *loop = seam_loop();
    expect_equal(kill(getpid(), SIGUSR1), 0);
    for (size_t i = 0; i < SEAM_COUNT(routes); i++) {
        struct tracked op = {.op.route = (uint8_t)routes[i]};
        weir_op_signal(&op.op, WEIR_SIGNAL(SIGUSR1), NULL);
        expect_equal(seam_carry_out(loop, &op), -EOPNOTSUPP);
        weir_op_child(&op.op, getpid(), NULL);
        expect_equal(seam_carry_out(loop, &op), -EOPNOTSUPP);
    }
    expect(is_pending(SIGUSR1));
    seam_end(loop);
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    expect_equal(sigwaitinfo(&set, &info), SIGUSR1);
    unblock(&before);
}

static const struct CMUnitTest simulated_tests[] = {
    cmocka_unit_test(in_a_simulated_world_there_are_neither_signals_nor_children),
};

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_signal_comes_back_with_its_number_and_what_was_received),
    cmocka_unit_test(one_op_takes_one_signal_and_the_rest_stay_pending),
    cmocka_unit_test(a_cancelled_or_expired_wait_takes_no_signal),
    cmocka_unit_test(a_signal_that_is_not_blocked_is_EINVAL),
    cmocka_unit_test(close_hands_a_wait_for_a_signal_or_a_child_back_and_leaves_no_fd),
    cmocka_unit_test(a_child_that_ends_is_reaped_and_says_how),
    cmocka_unit_test(many_children_each_come_back_once),
    cmocka_unit_test(a_child_that_ended_before_is_reaped_too),
    cmocka_unit_test(a_cancelled_or_expired_wait_reaps_nothing),
    cmocka_unit_test(a_child_that_ended_is_awaited_until_who_traces_it_lets_go),
    cmocka_unit_test(who_is_no_child_or_was_reaped_by_another_is_ECHILD_or_ESRCH),
    cmocka_unit_test(without_a_free_fd_they_are_EMFILE_and_the_loop_goes_on),
};

const struct seam_group watch_group = SEAM_GROUP_OR("watch", tests, simulated_tests);
