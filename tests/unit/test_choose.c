/* SPDX-License-Identifier: MIT */
/* The choice of a backend, case by case: who refused, who is chosen, what the record says. */
#include "unit.h"

#include <engine/backend/choose.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ALL UINT64_MAX
#define KIND(kind) (1ULL << (kind))

/* --- whose refusal it was --------------------------------------------------------------------- */

static void the_cause_of_a_refusal_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        enum weir_policy backend;
        int error;
        struct weir_surroundings around; /* release, sysctl, permitted, seccomp, memlock */
        enum weir_cause cause;
    } cases[] = {
        {"the sysctl is 2", WEIR_IO_URING, -EPERM, {"6.6.0", 2, true, 0, 1}, WEIR_CAUSE_SYSCTL},
        {"2 comes before a filter",
         WEIR_IO_URING,
         -EPERM,
         {"6.6.0", 2, 0, 2, 1},
         WEIR_CAUSE_SYSCTL},
        {"1, and not in the group",
         WEIR_IO_URING,
         -EPERM,
         {"6.6.0", 1, 0, 2, 1},
         WEIR_CAUSE_SYSCTL},
        {"1, in the group", WEIR_IO_URING, -EPERM, {"6.6.0", 1, true, 2, 1}, WEIR_CAUSE_SECCOMP},
        {"1, nobody else", WEIR_IO_URING, -EPERM, {"6.6.0", 1, true, 0, 1}, WEIR_CAUSE_SYSCTL},
        {"a filter", WEIR_IO_URING, -EPERM, {"6.1.0", 0, 0, 2, 1}, WEIR_CAUSE_SECCOMP},
        {"a filter's EACCES", WEIR_IO_URING, -EACCES, {"6.1.0", 0, 0, 2, 1}, WEIR_CAUSE_SECCOMP},
        {"no /proc", WEIR_IO_URING, -EPERM, {"6.1.0", 0, 0, -1, 1}, WEIR_CAUSE_SECCOMP},
        {"neither", WEIR_IO_URING, -EPERM, {"6.1.0", 0, 0, 0, 1}, WEIR_CAUSE_OTHER},
        {"a security module", WEIR_IO_URING, -EACCES, {"6.1.0", 0, 0, 0, 1}, WEIR_CAUSE_OTHER},
        {"hidden by a filter", WEIR_IO_URING, -ENOSYS, {"6.1.0", 0, 0, 2, 1}, WEIR_CAUSE_SECCOMP},
        {"hidden, no /proc", WEIR_IO_URING, -ENOSYS, {"5.1.0", 0, 0, -1, 1}, WEIR_CAUSE_SECCOMP},
        {"built without", WEIR_IO_URING, -ENOSYS, {"6.1.0", 0, 0, 0, 1}, WEIR_CAUSE_KERNEL_TOO_OLD},
        {"before it", WEIR_IO_URING, -ENOSYS, {"5.0.21", 0, 0, 2, 1}, WEIR_CAUSE_KERNEL_TOO_OLD},
        {"no flags", WEIR_IO_URING, -EOPNOTSUPP, {"5.4", 0, 0, 2, 1}, WEIR_CAUSE_KERNEL_TOO_OLD},
        {"no probe", WEIR_IO_URING, -EINVAL, {"5.4", 0, 0, 2, 1}, WEIR_CAUSE_KERNEL_TOO_OLD},
        {"charged", WEIR_IO_URING, -ENOMEM, {"5.11.22", 0, 0, 0, true}, WEIR_CAUSE_MEMLOCK},
        {"not charged", WEIR_IO_URING, -ENOMEM, {"5.12.0", 0, 0, 0, true}, WEIR_CAUSE_OTHER},
        {"not charged yet", WEIR_IO_URING, -ENOMEM, {"6.13.9", 0, 0, 0, true}, WEIR_CAUSE_OTHER},
        {"charged again", WEIR_IO_URING, -ENOMEM, {"6.14.0", 0, 0, 0, true}, WEIR_CAUSE_MEMLOCK},
        {"no limit", WEIR_IO_URING, -ENOMEM, {"6.14.0", 0, 0, 0, false}, WEIR_CAUSE_OTHER},
        {"fds", WEIR_IO_URING, -EMFILE, {"6.1.0", 2, 0, 2, 1}, WEIR_CAUSE_FD_LIMIT},
        {"the system's fds", WEIR_IO_URING, -ENFILE, {"6.1.0", 0, 0, 0, 1}, WEIR_CAUSE_FD_LIMIT},
        {"something else", WEIR_IO_URING, -EIO, {"6.1.0", 0, 0, 0, 1}, WEIR_CAUSE_OTHER},
        {"nothing", WEIR_IO_URING, 0, {"6.1.0", 2, 0, 2, 1}, WEIR_CAUSE_NONE},
        {"no sysctl for epoll", WEIR_EPOLL, -EPERM, {"6.6.0", 2, 0, 2, 1}, WEIR_CAUSE_SECCOMP},
        {"nor 1", WEIR_EPOLL, -EPERM, {"6.6.0", 1, 0, 0, 1}, WEIR_CAUSE_OTHER},
        {"epoll's memory", WEIR_EPOLL, -ENOMEM, {"6.14.0", 0, 0, 0, true}, WEIR_CAUSE_OTHER},
        {"epoll's fds", WEIR_EPOLL, -EMFILE, {"6.14.0", 0, 0, 0, 1}, WEIR_CAUSE_FD_LIMIT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        enum weir_cause cause =
            weir_policy_classify(cases[i].backend, cases[i].error, &cases[i].around);
        if (cause != cases[i].cause) {
            fail_msg("%s: %s, not %s", cases[i].what, weir_cause_name(cause),
                     weir_cause_name(cases[i].cause));
        }
    }
}

/* --- the choice ------------------------------------------------------------------------------- */

static struct weir_probe good(void)
{
    return (struct weir_probe){
        .size = sizeof(struct weir_probe),
        .io_uring.native_kinds = ALL,
        .epoll.native_kinds = KIND(WEIR_KIND_RECV) | KIND(WEIR_KIND_POLL),
    };
}

static struct weir_probe without(int error, enum weir_cause cause)
{
    struct weir_probe probe = good();
    probe.io_uring.error = error;
    probe.io_uring.cause = cause;
    probe.io_uring.native_kinds = 0;
    return probe;
}

static struct weir_decision asking(enum weir_policy policy)
{
    struct weir_decision decision;
    memset(&decision, 0x5a, sizeof decision);
    decision.policy = policy;
    decision.from_environment = 0;
    return decision;
}

static void assert_rejected(const struct weir_decision *decision, uint32_t index,
                            const char *backend, int error, enum weir_cause cause)
{
    assert_true(index < decision->rejected_count);
    const struct weir_rejection *rejection = &decision->rejected[index];
    assert_string_equal(rejection->backend, backend);
    assert_int_equal(rejection->error, error);
    assert_string_equal(weir_cause_name(rejection->cause), weir_cause_name(cause));
    assert_true(strlen(rejection->hint) > 10);
    assert_true(strlen(rejection->hint) < WEIR_HINT_MAX - 1); /* not cut */
}

static void assert_chosen(const struct weir_decision *decision, int result, enum weir_policy policy,
                          const char *name, uint32_t rejected)
{
    assert_int_equal(result, policy);
    assert_non_null(decision->chosen);
    assert_string_equal(decision->chosen, name);
    assert_int_equal(decision->rejected_count, rejected);
}

static void assert_none(const struct weir_decision *decision, int result, int error,
                        uint32_t rejected)
{
    assert_int_equal(result, error);
    assert_null(decision->chosen);
    assert_int_equal(decision->rejected_count, rejected);
}

static void io_uring_is_preferred_and_rejects_nobody(void **state)
{
    (void)state;
    struct weir_probe probe = good();
    for (int policy = WEIR_AUTO; policy <= WEIR_IO_URING; policy++) {
        struct weir_decision decision = asking((enum weir_policy)policy);
        int r = weir_policy_choose(ALL, &probe, &decision);
        assert_chosen(&decision, r, WEIR_IO_URING, "io_uring", 0);
    }
}

static void auto_falls_back_for_reasons_of_the_system_and_forced_does_not(void **state)
{
    (void)state;
    static const struct {
        int error;
        enum weir_cause cause;
        const char *hint;
    } cases[] = {
        {-EPERM, WEIR_CAUSE_SYSCTL, "kernel.io_uring_disabled"},
        {-EPERM, WEIR_CAUSE_SECCOMP, "seccomp"},
        {-EPERM, WEIR_CAUSE_SECCOMP, "io_uring_setup (425)"},
        {-EPERM, WEIR_CAUSE_SECCOMP, "io_uring_enter (426)"},
        {-EPERM, WEIR_CAUSE_SECCOMP, "io_uring_register (427)"},
        {-ENOSYS, WEIR_CAUSE_SECCOMP, "CONFIG_IO_URING"},
        {-ENOSYS, WEIR_CAUSE_KERNEL_TOO_OLD, "5.11"},
        {-EOPNOTSUPP, WEIR_CAUSE_KERNEL_TOO_OLD, "5.11"},
        {-EACCES, WEIR_CAUSE_OTHER, "security module"},
        {-EOPNOTSUPP, WEIR_CAUSE_NOT_BUILT, "built without io_uring"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct weir_probe probe = without(cases[i].error, cases[i].cause);
        struct weir_decision decision = asking(WEIR_AUTO);
        int r = weir_policy_choose(0, &probe, &decision);
        assert_chosen(&decision, r, WEIR_EPOLL, "epoll", 1);
        assert_rejected(&decision, 0, "io_uring", cases[i].error, cases[i].cause);
        assert_non_null(strstr(decision.rejected[0].hint, cases[i].hint));

        struct weir_decision forced = asking(WEIR_IO_URING);
        r = weir_policy_choose(0, &probe, &forced);
        assert_none(&forced, r, cases[i].error, 2);
        assert_rejected(&forced, 0, "io_uring", cases[i].error, cases[i].cause);
        assert_string_equal(forced.rejected[0].hint, decision.rejected[0].hint);
        assert_rejected(&forced, 1, "epoll", -ECANCELED, WEIR_CAUSE_FORCED);
    }
}

static void limits_of_memory_and_fds_are_errors_and_no_reason_to_fall_back(void **state)
{
    (void)state;
    static const struct {
        int error;
        enum weir_cause cause;
        const char *hint;
    } cases[] = {
        {-ENOMEM, WEIR_CAUSE_MEMLOCK, "RLIMIT_MEMLOCK"},
        {-ENOMEM, WEIR_CAUSE_OTHER, "memory"},
        {-EMFILE, WEIR_CAUSE_FD_LIMIT, "RLIMIT_NOFILE"},
        {-ENFILE, WEIR_CAUSE_FD_LIMIT, "file"},
        {-ENOSPC, WEIR_CAUSE_OTHER, "fs.epoll.max_user_watches"},
        {-EIO, WEIR_CAUSE_OTHER, "error"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct weir_probe probe = without(cases[i].error, cases[i].cause);
        struct weir_decision decision = asking(WEIR_AUTO);
        int r = weir_policy_choose(0, &probe, &decision);
        assert_none(&decision, r, cases[i].error, 1);
        assert_rejected(&decision, 0, "io_uring", cases[i].error, cases[i].cause);
        assert_non_null(strstr(decision.rejected[0].hint, cases[i].hint));
    }
}

static void a_kind_that_must_be_native_decides(void **state)
{
    (void)state;
    struct weir_probe probe = good();
    uint64_t wanted = KIND(WEIR_KIND_RECV) | KIND(WEIR_KIND_FTRUNCATE) | KIND(WEIR_KIND_CALL);
    probe.io_uring.native_kinds = ALL & ~wanted;
    struct weir_decision decision = asking(WEIR_AUTO);
    int r = weir_policy_choose(KIND(WEIR_KIND_RECV), &probe, &decision);
    assert_chosen(&decision, r, WEIR_EPOLL, "epoll", 1);
    assert_rejected(&decision, 0, "io_uring", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
    assert_non_null(strstr(decision.rejected[0].hint, ": recv"));

    decision = asking(WEIR_AUTO);
    r = weir_policy_choose(wanted, &probe, &decision);
    assert_none(&decision, r, -EOPNOTSUPP, 2);
    assert_non_null(strstr(decision.rejected[0].hint, ": recv, ftruncate, call"));
    assert_rejected(&decision, 1, "epoll", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
    assert_non_null(strstr(decision.rejected[1].hint, ": ftruncate, call"));

    decision = asking(WEIR_AUTO); /* more than there is room to name */
    probe.io_uring.native_kinds = 0;
    assert_int_equal(weir_policy_choose(ALL, &probe, &decision), -EOPNOTSUPP);
    assert_int_equal(strnlen(decision.rejected[0].hint, WEIR_HINT_MAX), WEIR_HINT_MAX - 1);
}

static void the_last_candidate_looked_at_gives_the_error(void **state)
{
    (void)state;
    struct weir_probe probe = without(-EPERM, WEIR_CAUSE_SECCOMP);
    probe.epoll.error = -EMFILE;
    probe.epoll.cause = WEIR_CAUSE_FD_LIMIT;
    struct weir_decision decision = asking(WEIR_AUTO);
    int r = weir_policy_choose(0, &probe, &decision);
    assert_none(&decision, r, -EMFILE, 2);
    assert_rejected(&decision, 0, "io_uring", -EPERM, WEIR_CAUSE_SECCOMP);
    assert_rejected(&decision, 1, "epoll", -EMFILE, WEIR_CAUSE_FD_LIMIT);
    assert_non_null(strstr(decision.rejected[1].hint, "RLIMIT_NOFILE"));
}

static void who_is_ruled_out_by_a_demand_is_listed_with_where_it_came_from(void **state)
{
    (void)state;
    struct weir_probe probe = good();
    struct weir_decision decision = asking(WEIR_EPOLL);
    int r = weir_policy_choose(0, &probe, &decision);
    assert_chosen(&decision, r, WEIR_EPOLL, "epoll", 1);
    assert_rejected(&decision, 0, "io_uring", -ECANCELED, WEIR_CAUSE_FORCED);
    assert_non_null(strstr(decision.rejected[0].hint, "options.policy demands epoll"));

    decision = asking(WEIR_EPOLL);
    decision.from_environment = 1;
    r = weir_policy_choose(0, &probe, &decision);
    assert_chosen(&decision, r, WEIR_EPOLL, "epoll", 1);
    assert_non_null(strstr(decision.rejected[0].hint, "WEIR_POLICY=epoll"));

    probe.epoll.error = -EPERM;
    probe.epoll.cause = WEIR_CAUSE_SECCOMP;
    decision = asking(WEIR_EPOLL);
    r = weir_policy_choose(0, &probe, &decision);
    assert_none(&decision, r, -EPERM, 2);
    assert_rejected(&decision, 0, "epoll", -EPERM, WEIR_CAUSE_SECCOMP);
    assert_non_null(strstr(decision.rejected[0].hint, "epoll_create1"));
    assert_rejected(&decision, 1, "io_uring", -ECANCELED, WEIR_CAUSE_FORCED);
}

/* --- kernels ---------------------------------------------------------------------------------- */

static void a_known_bug_is_a_reason_for_auto_alone(void **state)
{
    (void)state;
    struct weir_probe probe = good();
    probe.io_uring.bug = weir_policy_kernel_bugs("6.6.9", "ppc64le").bug;
    assert_non_null(probe.io_uring.bug);
    struct weir_decision decision = asking(WEIR_AUTO);
    int r = weir_policy_choose(0, &probe, &decision);
    assert_chosen(&decision, r, WEIR_EPOLL, "epoll", 1);
    assert_rejected(&decision, 0, "io_uring", -EOPNOTSUPP, WEIR_CAUSE_KERNEL_BUG);
    assert_non_null(strstr(decision.rejected[0].hint, probe.io_uring.bug));

    decision = asking(WEIR_IO_URING);
    r = weir_policy_choose(0, &probe, &decision);
    assert_chosen(&decision, r, WEIR_IO_URING, "io_uring", 0);

    probe.io_uring.error = -EPERM; /* what cannot be had is not judged by its bugs */
    probe.io_uring.cause = WEIR_CAUSE_SYSCTL;
    decision = asking(WEIR_AUTO);
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_EPOLL);
    assert_rejected(&decision, 0, "io_uring", -EPERM, WEIR_CAUSE_SYSCTL);
}

static void a_window_ends_where_the_bug_does(void **state)
{
    (void)state;
    const uint64_t no_close = KIND(WEIR_KIND_CLOSE);
    const struct {
        const char *release;
        const char *machine;
        bool bug;
        uint64_t kinds;
    } cases[] = {
        {"5.11.0", "x86_64", false, no_close},
        {"5.15.0-91-generic", "x86_64", false, no_close},
        {"5.15.89", "aarch64", false, no_close},
        {"5.15.90", "x86_64", false, 0},
        {"5.15.1023", "x86_64", false, 0},
        {"5.15.9999", "x86_64", false, 0}, /* does not run over into 5.16 */
        {"5.16.0", "x86_64", false, no_close},
        {"6.0.19", "x86_64", false, no_close},
        {"6.1.0-13-amd64", "x86_64", false, 0},
        {"6.18.44", "x86_64", false, 0},
        {"6.1.50", "parisc64", true, 0},
        {"6.1.51", "parisc64", false, 0},
        {"5.11.22", "ppc64", false, no_close},
        {"5.12.0", "ppc64", true, no_close},
        {"6.6.99", "ppc64le", true, 0},
        {"6.7.0", "ppc64le", false, 0},
        {"6.18.0", "armv7l", true, 0},
        {"6.18.0", "aarch64", false, 0},
        {"7.0-rc1", "x86_64", false, 0},
        {"none", "armv7l", false, 0}, /* no version is no known bug */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct weir_kernel_bugs bugs = weir_policy_kernel_bugs(cases[i].release, cases[i].machine);
        if ((bugs.bug != NULL) != cases[i].bug || bugs.kinds != cases[i].kinds) {
            fail_msg("Linux %s on %s: %s, kinds %llx", cases[i].release, cases[i].machine,
                     bugs.bug ? bugs.bug : "no bug", (unsigned long long)bugs.kinds);
        }
    }
}

/* --- in one line ------------------------------------------------------------------------------ */

static void check_reason(const struct weir_decision *decision, const char *expected)
{
    char reason[WEIR_HINT_MAX];
    weir_policy_reason(decision, reason, sizeof reason);
    assert_string_equal(reason, expected);
}

static void the_reason_is_where_the_demand_came_from_or_who_refused(void **state)
{
    (void)state;
    struct weir_probe probe = good();
    struct weir_decision decision = {.policy = WEIR_AUTO};
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_IO_URING);
    check_reason(&decision, "the best that works here");
    decision = (struct weir_decision){.policy = WEIR_AUTO, .from_environment = 1};
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_IO_URING);
    check_reason(&decision, "the best that works here");
    decision = (struct weir_decision){.policy = WEIR_EPOLL};
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_EPOLL);
    check_reason(&decision, "asked for by options.policy");
    decision = (struct weir_decision){.policy = WEIR_EPOLL, .from_environment = 1};
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_EPOLL);
    check_reason(&decision, "asked for by WEIR_POLICY");

    probe.io_uring.error = -EPERM;
    probe.io_uring.cause = WEIR_CAUSE_SYSCTL;
    decision = (struct weir_decision){.policy = WEIR_AUTO};
    assert_int_equal(weir_policy_choose(0, &probe, &decision), WEIR_EPOLL);
    char expected[2 * WEIR_HINT_MAX];
    snprintf(expected, sizeof expected, "io_uring: sysctl: %s", decision.rejected[0].hint);
    check_reason(&decision, expected);
}

static void a_reason_that_is_too_long_is_cut(void **state)
{
    (void)state;
    struct weir_decision decision = {
        .policy = WEIR_AUTO,
        .rejected_count = 1,
        .rejected = {{.backend = "io_uring", .cause = WEIR_CAUSE_SECCOMP}},
    };
    char reason[WEIR_HINT_MAX + 1];
    memset(decision.rejected[0].hint, 'x', WEIR_HINT_MAX - 1);
    memset(reason, '!', sizeof reason);
    weir_policy_reason(&decision, reason, WEIR_HINT_MAX);
    assert_int_equal(strlen(reason), WEIR_HINT_MAX - 1);
    assert_int_equal(strncmp(reason, "io_uring: seccomp: xxx", 22), 0);
    assert_int_equal(reason[WEIR_HINT_MAX], '!');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cause_of_a_refusal_is_exact),
        cmocka_unit_test(io_uring_is_preferred_and_rejects_nobody),
        cmocka_unit_test(auto_falls_back_for_reasons_of_the_system_and_forced_does_not),
        cmocka_unit_test(limits_of_memory_and_fds_are_errors_and_no_reason_to_fall_back),
        cmocka_unit_test(a_kind_that_must_be_native_decides),
        cmocka_unit_test(the_last_candidate_looked_at_gives_the_error),
        cmocka_unit_test(who_is_ruled_out_by_a_demand_is_listed_with_where_it_came_from),
        cmocka_unit_test(a_known_bug_is_a_reason_for_auto_alone),
        cmocka_unit_test(a_window_ends_where_the_bug_does),
        cmocka_unit_test(the_reason_is_where_the_demand_came_from_or_who_refused),
        cmocka_unit_test(a_reason_that_is_too_long_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
