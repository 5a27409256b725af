/* SPDX-License-Identifier: MIT */
/*
 * failed.c: rule 8: a turn that cannot go on. In a child, since the system call filter that brings
 * it about cannot be taken off again.
 */
#include "seam.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The backend's turn answers EPERM from now on. */
static int deny_turns(struct weir_loop *loop)
{
    if (seam_simulates()) {
        seam_backend.simulated->fail_turns(loop);
        return 0;
    }
    struct sock_filter filter[32];
    unsigned short n = 0;
    filter[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (const long *number = seam_backend.turn_syscalls; *number >= 0; number++) {
        filter[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)*number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -errno;
    }
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : -errno;
}

#define NO_SECCOMP 77

#define AT_GATE 600

static char late_byte[2];

/* A loop with one op in flight and many that never left, whose next turn fails. */
struct failing {
    struct weir_loop *loop;
    struct tracked in_flight;
    struct tracked at_gate[AT_GATE]; /* more than a turn of so shallow a loop brings back */
    struct tracked timer;
};

static int failing_make(struct failing *f)
{
    int fds[2];
    *f = (struct failing){0};
    struct weir_options options = {.depth = 1, .waiting_max = AT_GATE};
    child_expect(pipe2(fds, 0) == 0);
    child_expect(seam_open(options, &f->loop) == 0);
    weir_op_read(&f->in_flight.op, fds[0], late_byte, 1, WEIR_CURRENT);
    child_expect(seam_try_submit(f->loop, &f->in_flight, WEIR_SITE) == 0);
    child_expect(seam_turn(f->loop, 0) == 0);
    for (int i = 0; i < AT_GATE; i++) {
        weir_op_nop(&f->at_gate[i].op);
        child_expect(seam_try_submit(f->loop, &f->at_gate[i], WEIR_SITE) == 0);
    }
    weir_op_timeout_in(&f->timer.op, f->loop, 3600 * WEIR_S);
    child_expect(seam_try_submit(f->loop, &f->timer, WEIR_SITE) == 0);
    int denied = deny_turns(f->loop);
    if (denied == -EINVAL || denied == -ENOSYS || denied == -EACCES) {
        return NO_SECCOMP;
    }
    child_expect(denied == 0);
    /* A turn that waits cannot do without the system call. */
    child_expect(seam_turn(f->loop, WEIR_MS) == -EPERM);
    return 0;
}

static int fail_then_close(void *context)
{
    (void)context;
    static struct failing f;
    int made = failing_make(&f);
    if (made != 0) {
        return made;
    }
    struct tracked more = {.op.callback = seam_called};
    weir_op_nop(&more.op);
    child_expect(weir_submit(f.loop, &more.op) == -EPERM);
    child_expect(more.op.state == 0);
    child_expect(seam_turn(f.loop, 0) == -EPERM);
    child_expect(seam_run(f.loop) == -EPERM);
    child_expect(weir_loop_live(f.loop) == AT_GATE + 2);
    struct weir_report report = {0};
    child_expect(seam_close(f.loop, WEIR_MS, &report) == -EPERM);
    for (int i = 0; i < AT_GATE; i++) {
        child_expect(f.at_gate[i].calls == 1 && f.at_gate[i].result == -ECANCELED);
    }
    child_expect(f.timer.calls == 1 && f.timer.result == -ECANCELED);
    /* Either it never reached the kernel (a reactor only waited), or it is reported. */
    unsigned out = f.in_flight.calls == 0;
    child_expect(out || f.in_flight.result == -ECANCELED);
    child_expect(report.count == out);
    child_expect(!out || report.ops[0].op == &f.in_flight.op);
    child_expect(!out || strcmp(report.ops[0].state, "in flight") == 0);
    /* It stays: closing again answers the same, and calls nobody twice. */
    child_expect(seam_close(f.loop, 0, &report) == -EPERM);
    child_expect(report.count == out);
    child_expect(f.at_gate[0].calls == 1 && f.timer.calls == 1);
    child_expect(weir_loop_abandon(f.loop) == 0);
    child_expect(f.in_flight.calls == !out);
    return 0;
}

static void run_in_child(int (*body)(void *context))
{
    int result = seam_child(body, NULL);
    if (result == NO_SECCOMP) {
        seam_skip("this kernel has no system call filters");
    }
    expect_equal(result, 0);
}

SEAM_TEST(a_loop_whose_turn_fails_hands_back_what_never_left_and_reports_the_rest)
{
    run_in_child(fail_then_close);
}

/* A loop with calls and posts, whose next turn fails. */
static int fail_with_workers(void *context)
{
    static struct seam_work running;
    static struct seam_work queued[5];
    static struct tracked posted[3];
    struct tracked more = {0};
    struct weir_loop *loop = NULL;
    struct weir_report report = {0};
    (void)context;
    struct weir_options options = {
        .offload_workers = 1, .offload_depth = 3, .offload_waiting_max = 3};
    child_expect(seam_open(options, &loop) == 0);
    seam_work_fill(&running, 3);
    running.blocks = true;
    child_expect(seam_try_submit(loop, &running.call, WEIR_SITE) == 0);
    while (seam_begun(&running) == 0) {
        child_expect(seam_turn(loop, WEIR_MS) >= 0);
    }
    for (int i = 0; i < 5; i++) {
        seam_work_fill(&queued[i], 0);
        child_expect(seam_try_submit(loop, &queued[i].call, WEIR_SITE) == 0);
    }
    for (int i = 0; i < 3; i++) { /* these wait for the full gate */
        weir_op_call(&posted[i].op, seam_work_do, &queued[0]);
        child_expect(seam_post(loop, &posted[i], WEIR_SITE) == 0);
    }
    child_expect(seam_turn(loop, 0) == 0);
    int denied = deny_turns(loop);
    if (denied == -EINVAL || denied == -ENOSYS || denied == -EACCES) {
        return NO_SECCOMP;
    }
    child_expect(denied == 0);
    child_expect(seam_turn(loop, WEIR_MS) == -EPERM);
    weir_op_nop(&more.op);
    child_expect(seam_post(loop, &more, WEIR_SITE) == -EPERM);
    child_expect(seam_close(loop, WEIR_MS, &report) == -EPERM);
    for (int i = 0; i < 5; i++) {
        child_expect(queued[i].call.calls == 1 && queued[i].call.result == -ECANCELED);
        child_expect(seam_begun(&queued[i]) == 0);
    }
    for (int i = 0; i < 3; i++) {
        child_expect(posted[i].calls == 1 && posted[i].result == -ECANCELED);
    }
    child_expect(running.call.calls == 0 && report.count == 1);
    child_expect(report.ops[0].op == &running.call.op);
    seam_unblock(&running);
    child_expect(weir_loop_abandon(loop) == 0);
    child_expect(running.call.calls == 0);
    return 0;
}

SEAM_TEST(a_failed_loop_hands_back_queued_calls_and_reports_the_running_one)
{
    run_in_child(fail_with_workers);
}

static int fail_then_await_the_call(void *context)
{
    static struct seam_work running;
    struct weir_loop *loop = NULL;
    struct weir_report report = {0};
    (void)context;
    child_expect(seam_open((struct weir_options){.offload_workers = 1}, &loop) == 0);
    seam_work_fill(&running, 3);
    running.until_asked = true;
    running.linger_us = 20000;
    child_expect(seam_try_submit(loop, &running.call, WEIR_SITE) == 0);
    while (seam_begun(&running) == 0) {
        child_expect(seam_turn(loop, WEIR_MS) >= 0);
    }
    int denied = deny_turns(loop);
    if (denied == -EINVAL || denied == -ENOSYS || denied == -EACCES) {
        return NO_SECCOMP;
    }
    child_expect(denied == 0);
    child_expect(seam_turn(loop, WEIR_MS) == -EPERM);
    child_expect(seam_close(loop, 20 * WEIR_S, &report) == -EPERM);
    if (seam_simulates()) { /* nothing goes on in its world while no turn can */
        child_expect(running.call.calls == 0 && report.count == 1);
    } else {
        child_expect(running.call.calls == 1 && running.call.result == 3);
        child_expect(report.count == 0 && weir_loop_live(loop) == 0);
    }
    child_expect(weir_loop_abandon(loop) == 0);
    return 0;
}

SEAM_TEST(close_of_a_failed_loop_awaits_a_running_call_until_its_deadline)
{
    run_in_child(fail_then_await_the_call);
}

static int fail_then_abandon(void *context)
{
    (void)context;
    static struct failing f;
    int made = failing_make(&f);
    if (made != 0) {
        return made;
    }
    child_expect(weir_loop_abandon(f.loop) == 0);
    child_expect(f.in_flight.calls + f.at_gate[0].calls + f.timer.calls == 0);
    return 0;
}

SEAM_TEST(a_failed_loop_may_be_abandoned_at_once)
{
    run_in_child(fail_then_abandon);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_loop_whose_turn_fails_hands_back_what_never_left_and_reports_the_rest),
    cmocka_unit_test(a_failed_loop_hands_back_queued_calls_and_reports_the_running_one),
    cmocka_unit_test(close_of_a_failed_loop_awaits_a_running_call_until_its_deadline),
    cmocka_unit_test(a_failed_loop_may_be_abandoned_at_once),
};

const struct seam_group failed_group = SEAM_GROUP("failed", tests);
