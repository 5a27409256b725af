/* SPDX-License-Identifier: MIT */
/* refused.c: what machines refuse at open: fds, locked memory. The decision says why, nothing
 * leaks. */
#include "check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool open_without_fds(enum weir_policy policy, unsigned spare)
{
    const char *const names[] = {"io_uring", "io_uring", "epoll"}; /* too few fds for one is no
                                                                    * reason to take another */
    struct weir_decision why;
    struct weir_loop *loop = NULL;
    struct rlimit limit;
    size_t fds = check_fd_count();
    int highest = dup(0);
    CHECK(highest >= 0);
    close(highest);
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit low = {.rlim_cur = (rlim_t)highest + spare, .rlim_max = limit.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &low), 0);
    int answer = weir_loop_open(&(struct weir_options){.policy = policy, .decision = &why}, &loop);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (answer == 0) {
        CHECK(strcmp(why.chosen, names[policy]) == 0);
        printf("%u fds are enough\n", spare);
        CHECK(spare > 0);
        check_close(loop);
        return true;
    }
    CHECK_EQUAL(answer, -EMFILE);
    CHECK(why.chosen == NULL);
    CHECK(why.rejected_count >= 1);
    CHECK(strcmp(why.rejected[0].backend, names[policy]) == 0);
    CHECK_EQUAL(why.rejected[0].error, -EMFILE);
    CHECK_EQUAL(why.rejected[0].cause, WEIR_CAUSE_FD_LIMIT);
    CHECK(strstr(why.rejected[0].hint, "RLIMIT_NOFILE") != NULL);
    CHECK_EQUAL(check_fd_count(), fds);
    printf("%u spare fds: %s; %s\n", spare, strerror(-answer), why.rejected[0].hint);
    return false;
}

static void no_fds_left_is_an_error_that_says_so_and_leaks_none(void)
{
    for (int policy = WEIR_AUTO; policy <= WEIR_EPOLL; policy++) {
        unsigned spare = 0;
        while (!open_without_fds((enum weir_policy)policy, spare)) {
            spare++;
            CHECK(spare < 16);
        }
    }
}

/* Ring memory is charged before 5.12 and from 6.14 on, per user: hence one nobody else is. */
static void become(uid_t user, rlim_t bytes)
{
    struct utsname name;
    unsigned major = 0;
    unsigned minor = 0;
    if (geteuid() != 0) {
        check_skip("becoming a user that nothing is charged to needs root");
    }
    CHECK_EQUAL(uname(&name), 0);
    CHECK_EQUAL(sscanf(name.release, "%u.%u", &major, &minor), 2);
    unsigned version = major * 1000 + minor;
    if (version >= 5012 && version < 6014) {
        check_skip("Linux %s does not charge ring memory to RLIMIT_MEMLOCK", name.release);
    }
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
    CHECK_EQUAL(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    CHECK_EQUAL(setresgid(user, user, user), 0);
    CHECK_EQUAL(setresuid(user, user, user), 0);
}

static void open_with_16_kib(void *unused)
{
    (void)unused;
    struct weir_decision why;
    struct weir_facts facts;
    become(54321, 16 << 10);
    struct weir_loop *loop = check_open(&(struct weir_options){.decision = &why});
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    printf("asked for depth %u, got %u: %s\n", facts.depth_asked, facts.depth, facts.depth_reason);
    CHECK(strcmp(why.chosen, "io_uring") == 0);
    CHECK_EQUAL(facts.depth_asked, 256);
    CHECK(facts.depth >= 4 && facts.depth < 256);
    CHECK(strstr(facts.depth_reason, "RLIMIT_MEMLOCK") != NULL);
    struct weir_op ops[256] = {0};
    for (uint32_t i = 0; i < facts.depth; i++) {
        ops[i].callback = check_on_done;
        weir_op_nop(&ops[i]);
        CHECK_EQUAL(weir_submit(loop, &ops[i]), 0);
    }
    struct weir_op more = {.callback = check_on_done};
    weir_op_nop(&more);
    CHECK_EQUAL(weir_submit(loop, &more), -EAGAIN);
    check_drain(loop);
    CHECK_EQUAL(check_handed, facts.depth);
    check_close(loop);
}

static void open_with_4_kib(void *unused)
{
    (void)unused;
    struct weir_decision why;
    struct weir_loop *loop = NULL;
    become(54322, 4 << 10);
    CHECK_EQUAL(weir_loop_open(&(struct weir_options){.decision = &why}, &loop), -ENOMEM);
    CHECK(loop == NULL);
    CHECK(why.chosen == NULL);
    CHECK(why.rejected_count >= 1);
    CHECK_EQUAL(why.rejected[0].error, -ENOMEM);
    CHECK_EQUAL(why.rejected[0].cause, WEIR_CAUSE_MEMLOCK);
    CHECK(strstr(why.rejected[0].hint, "RLIMIT_MEMLOCK") != NULL);
    printf("%s\n", why.rejected[0].hint);
}

static void too_little_locked_memory_opens_smaller_and_says_why(void)
{
    check_in_child(open_with_16_kib, NULL);
}

static void far_too_little_locked_memory_is_an_error_that_names_the_limit(void)
{
    check_in_child(open_with_4_kib, NULL);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(no_fds_left_is_an_error_that_says_so_and_leaks_none),
        CHECK_TEST(too_little_locked_memory_opens_smaller_and_says_why),
        CHECK_TEST(far_too_little_locked_memory_is_an_error_that_names_the_limit),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
