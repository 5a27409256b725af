/* SPDX-License-Identifier: MIT */
/*
 * seccomp.c: system call filters: before open, and added to a loop that works.
 */
#include "check.h"
#include "failed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define SETUP                                                                                      \
    425 /* io_uring_setup; 426 is io_uring_enter, 427 io_uring_register: on every machine */
#define ENTER 426
#define REGISTER 427

static struct weir_decision refused(int first, int last, int error)
{
    check_deny(first, last, error);
    struct weir_decision why;
    memset(&why, 0x5a, sizeof why);
    struct weir_loop *loop = (struct weir_loop *)&why;
    size_t fds = check_fd_count();
    CHECK_EQUAL(weir_loop_open(&(struct weir_options){.decision = &why}, &loop), -error);
    CHECK(loop == (struct weir_loop *)&why);
    CHECK_EQUAL(check_fd_count(), fds);
    CHECK(why.chosen == NULL);
    CHECK(why.rejected_count >= 1);
    CHECK(strcmp(why.rejected[0].backend, "io_uring") == 0);
    CHECK_EQUAL(why.rejected[0].error, -error);
    printf("%s: %s; cause %s; hint: %s\n", why.rejected[0].backend,
           strerror(-why.rejected[0].error), weir_cause_name(why.rejected[0].cause),
           why.rejected[0].hint);
    return why;
}

static void a_filter_that_denies_io_uring_is_named_with_a_hint(void)
{
    struct weir_decision why = refused(SETUP, REGISTER, EPERM);
    CHECK_EQUAL(why.rejected[0].cause, WEIR_CAUSE_SECCOMP);
    CHECK(strcasestr(why.rejected[0].hint, "seccomp") != NULL);
    CHECK(strstr(why.rejected[0].hint, "425") != NULL);
}

/* The set-up works, and only the probe's own NOP finds out. */
static void a_filter_that_denies_only_the_enter_is_found_by_the_probe(void)
{
    struct weir_decision why = refused(ENTER, ENTER, EPERM);
    CHECK_EQUAL(why.rejected[0].cause, WEIR_CAUSE_SECCOMP);
    CHECK(strcasestr(why.rejected[0].hint, "seccomp") != NULL);
}

static void a_filter_that_hides_io_uring_may_be_an_old_kernel_and_the_hint_says_both(void)
{
    struct weir_decision why = refused(SETUP, REGISTER, ENOSYS);
    CHECK(why.rejected[0].cause == WEIR_CAUSE_SECCOMP ||
          why.rejected[0].cause == WEIR_CAUSE_KERNEL_TOO_OLD);
    CHECK(strcasestr(why.rejected[0].hint, "seccomp") != NULL);
    CHECK(strcasestr(why.rejected[0].hint, "kernel") != NULL ||
          strcasestr(why.rejected[0].hint, "linux") != NULL);
}

static void a_filter_added_later_makes_the_loop_fail(void)
{
    static struct failed failed;
    struct weir_loop *loop;
    struct weir_options options = {.depth = 4, .waiting_max = 4};
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    failed_prepare(&failed, loop);
    check_deny(ENTER, ENTER, EPERM);
    failed_check(&failed, weir_loop_turn(loop, 0), -EPERM);
}

static void a_failed_loop_with_nothing_out_is_still_ended_by_abandon_alone(void)
{
    struct weir_loop *loop = check_open(NULL);
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
        CHECK_TEST(a_filter_that_denies_io_uring_is_named_with_a_hint),
        CHECK_TEST(a_filter_that_denies_only_the_enter_is_found_by_the_probe),
        CHECK_TEST(a_filter_that_hides_io_uring_may_be_an_old_kernel_and_the_hint_says_both),
        CHECK_TEST(a_filter_added_later_makes_the_loop_fail),
        CHECK_TEST(a_failed_loop_with_nothing_out_is_still_ended_by_abandon_alone),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
