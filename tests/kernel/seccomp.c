/* SPDX-License-Identifier: MIT */
/*
 * seccomp.c: system call filters: before open, and added to a loop that works.
 */
#include "check.h"
#include "failed.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETUP                                                                                      \
    425 /* io_uring_setup; 426 is io_uring_enter, 427 io_uring_register: on every machine */
#define ENTER 426
#define REGISTER 427

static void run_a_nop(struct weir_loop *loop)
{
    struct weir_op op = {.callback = check_on_done};
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 1);
    CHECK_EQUAL(op.result, 0);
}

static void check_is_named(const struct weir_rejection *rejection, int error)
{
    CHECK(strcmp(rejection->backend, "io_uring") == 0);
    CHECK_EQUAL(rejection->error, -error);
    CHECK_EQUAL(rejection->cause, WEIR_CAUSE_SECCOMP);
    CHECK(strcasestr(rejection->hint, "seccomp") != NULL);
    CHECK(strstr(rejection->hint, "io_uring_setup (425)") != NULL);
    CHECK(strstr(rejection->hint, "io_uring_enter (426)") != NULL);
    CHECK(strstr(rejection->hint, "io_uring_register (427)") != NULL);
}

static void check_auto_takes_epoll(int error, struct weir_decision *why)
{
    struct weir_facts facts;
    memset(why, 0x5a, sizeof *why);
    struct weir_loop *loop = check_open(&(struct weir_options){.decision = why});
    CHECK_EQUAL(why->policy, WEIR_AUTO);
    CHECK(strcmp(why->chosen, "epoll") == 0);
    CHECK_EQUAL(why->rejected_count, 1);
    check_is_named(&why->rejected[0], error);
    printf("chosen: %s; %s: %s; cause %s; hint: %s\n", why->chosen, why->rejected[0].backend,
           strerror(-why->rejected[0].error), weir_cause_name(why->rejected[0].cause),
           why->rejected[0].hint);
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    CHECK(strcmp(facts.backend, "epoll") == 0);
    run_a_nop(loop);
    check_close(loop);
}

static void check_forced_fails(int error, const char *hint)
{
    struct weir_decision why;
    memset(&why, 0x5a, sizeof why);
    struct weir_loop *loop = (struct weir_loop *)&why;
    struct weir_options forced = {.policy = WEIR_IO_URING, .decision = &why};
    CHECK_EQUAL(weir_loop_open(&forced, &loop), -error);
    CHECK(loop == (struct weir_loop *)&why);
    CHECK(why.chosen == NULL);
    CHECK(why.rejected_count >= 1);
    check_is_named(&why.rejected[0], error);
    CHECK(strcmp(why.rejected[0].hint, hint) == 0);
}

static void check_the_probe_agrees(int error)
{
    struct weir_probe probe;
    CHECK_EQUAL(weir_probe(&probe), 0);
    CHECK_EQUAL(probe.io_uring.error, -error);
    CHECK_EQUAL(probe.io_uring.cause, WEIR_CAUSE_SECCOMP);
    CHECK_EQUAL(probe.io_uring.native_kinds, 0);
    CHECK_EQUAL(probe.epoll.error, 0);
}

static void check_denied(int first, int last, int error)
{
    struct weir_decision why;
    size_t fds = check_fd_count();
    check_deny(first, last, error);
    check_auto_takes_epoll(error, &why);
    check_forced_fails(error, why.rejected[0].hint);
    check_the_probe_agrees(error);
    CHECK_EQUAL(check_fd_count(), fds);
}

static void auto_takes_epoll_behind_a_filter_that_denies_io_uring_and_names_it(void)
{
    check_denied(SETUP, REGISTER, EPERM);
}

static void auto_takes_epoll_behind_a_filter_that_hides_io_uring_and_names_it(void)
{
    check_denied(SETUP, REGISTER, ENOSYS);
}

/* The set-up works, and only entering the ring finds out. */
static void a_filter_that_denies_only_the_enter_is_found_at_open(void)
{
    check_denied(ENTER, ENTER, EPERM);
}

static void a_filter_that_denies_only_registering_is_found_at_open(void)
{
    check_denied(REGISTER, REGISTER, EACCES);
}

/* As check_deny(), but whoever calls them dies. */
static void kill_callers(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SETUP, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, REGISTER, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int open_behind_the_killer(const char *policy)
{
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQUAL(setenv("WEIR_POLICY", policy, 1), 0);
        kill_callers();
        struct weir_loop *loop = check_open(NULL);
        run_a_nop(loop);
        check_close(loop);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

static void a_filter_that_kills_is_survived_by_demanding_epoll(void)
{
    CHECK_EQUAL(open_behind_the_killer("epoll"), 0);
    int status = open_behind_the_killer("auto"); /* else this test would show nothing */
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void a_filter_added_later_makes_the_loop_fail(void)
{
    static struct failed failed;
    struct weir_loop *loop;
    struct weir_options options = {.policy = WEIR_IO_URING, .depth = 4, .waiting_max = 4};
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    failed_prepare(&failed, loop);
    check_deny(ENTER, ENTER, EPERM);
    failed_check(&failed, weir_loop_turn(loop, 0), -EPERM);
}

static void a_failed_loop_with_nothing_out_is_still_ended_by_abandon_alone(void)
{
    struct weir_loop *loop = check_open(&(struct weir_options){.policy = WEIR_IO_URING});
    struct weir_op op = {.callback = check_on_done};
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_deny(ENTER, ENTER, EPERM);
    CHECK_EQUAL(weir_loop_turn(loop, -1), -EPERM);
    for (int i = 0; i < 2; i++) {
        struct weir_report left = {.count = 7};
        CHECK_EQUAL(weir_loop_close(loop, WEIR_S, &left), -EPERM);
        CHECK_EQUAL(left.count, 0);
        CHECK_EQUAL(check_handed, 1);
        CHECK_EQUAL(op.result, -ECANCELED);
    }
    CHECK_EQUAL(weir_loop_abandon(loop), 0);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(auto_takes_epoll_behind_a_filter_that_denies_io_uring_and_names_it),
        CHECK_TEST(auto_takes_epoll_behind_a_filter_that_hides_io_uring_and_names_it),
        CHECK_TEST(a_filter_that_denies_only_the_enter_is_found_at_open),
        CHECK_TEST(a_filter_that_denies_only_registering_is_found_at_open),
        CHECK_TEST(a_filter_that_kills_is_survived_by_demanding_epoll),
        CHECK_TEST(a_filter_added_later_makes_the_loop_fail),
        CHECK_TEST(a_failed_loop_with_nothing_out_is_still_ended_by_abandon_alone),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
