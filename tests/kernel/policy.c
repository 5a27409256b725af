/* SPDX-License-Identifier: MIT */
/*
 * policy.c: the choice of a backend on a real kernel: the environment, a shared probe, demands. It
 * stands in for uname, with which the engine learns the kernel's version, and for liburing's enter.
 */
#include "check.h"

#include <engine/backend/uring.h>
#include <engine/loop/loop.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KIND(kind) (1ULL << (kind))

static const char *release_told; /* NULL: the real one */
static const char *machine_told;
static int submit_answer; /* of enters that submit something; 0: the kernel's */

static char reason_told[WEIR_HINT_MAX]; /* the facts' of the last loop opened by try_open() */

int uname(struct utsname *system)
{
    long r = syscall(SYS_uname, system);
    if (release_told) {
        strcpy(system->release, release_told);
        strcpy(system->machine, machine_told);
    }
    return (int)r;
}

int io_uring_enter2(unsigned fd, unsigned to_submit, unsigned wait_nr, unsigned flags,
                    sigset_t *set, size_t size)
{
    if (submit_answer != 0 && to_submit > 0) {
        return submit_answer;
    }
    long r = syscall(SYS_io_uring_enter, fd, to_submit, wait_nr, flags, set, size);
    return r < 0 ? -errno : (int)r;
}

/* Opens and closes a loop; the errno, or 0. */
static int try_open(enum weir_policy policy, uint64_t native_kinds, const struct weir_probe *probe,
                    struct weir_decision *why)
{
    struct weir_loop *loop;
    struct weir_options options = {
        .policy = policy,
        .native_kinds = native_kinds,
        .probe = probe,
        .decision = why,
    };
    size_t fds = check_fd_count();
    memset(why, 0x5a, sizeof *why);
    int r = weir_loop_open(&options, &loop);
    if (r == 0) {
        struct weir_facts facts;
        CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
        CHECK(strcmp(facts.backend, why->chosen) == 0);
        CHECK(facts.wakes_by != NULL);
        memcpy(reason_told, facts.reason, sizeof reason_told);
        check_close(loop);
    } else {
        CHECK(why->chosen == NULL);
    }
    CHECK_EQUAL(check_fd_count(), fds);
    return r;
}

static void check_rejected(const struct weir_decision *why, uint32_t index, const char *backend,
                           int error, enum weir_cause cause)
{
    CHECK(index < why->rejected_count);
    CHECK(strcmp(why->rejected[index].backend, backend) == 0);
    CHECK_EQUAL(why->rejected[index].error, error);
    CHECK_EQUAL(why->rejected[index].cause, cause);
}

/* --- the environment -------------------------------------------------------------------------- */

static void the_environment_chooses_where_the_program_does_not(void)
{
    static const struct {
        const char *value;
        enum weir_policy asked;
        enum weir_policy policy;
        const char *chosen;
        bool from_environment;
        const char *reason;
    } cases[] = {
        {NULL, WEIR_AUTO, WEIR_AUTO, "io_uring", false, "the best that works here"},
        {"auto", WEIR_AUTO, WEIR_AUTO, "io_uring", true, "the best that works here"},
        {"epoll", WEIR_AUTO, WEIR_EPOLL, "epoll", true, "asked for by WEIR_POLICY"},
        {"io_uring", WEIR_AUTO, WEIR_IO_URING, "io_uring", true, "asked for by WEIR_POLICY"},
        {"epoll", WEIR_IO_URING, WEIR_IO_URING, "io_uring", false, "asked for by options.policy"},
        {"io_uring", WEIR_EPOLL, WEIR_EPOLL, "epoll", false, "asked for by options.policy"},
        {"nonsense", WEIR_EPOLL, WEIR_EPOLL, "epoll", false, "asked for by options.policy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct weir_decision why;
        CHECK_EQUAL(
            cases[i].value ? setenv("WEIR_POLICY", cases[i].value, 1) : unsetenv("WEIR_POLICY"), 0);
        CHECK_EQUAL(try_open(cases[i].asked, 0, NULL, &why), 0);
        CHECK_EQUAL(why.policy, cases[i].policy);
        CHECK_EQUAL(why.from_environment, cases[i].from_environment);
        CHECK(strcmp(why.chosen, cases[i].chosen) == 0);
        CHECK(strcmp(reason_told, cases[i].reason) == 0);
        CHECK_EQUAL(why.rejected_count, cases[i].policy == WEIR_EPOLL);
        if (cases[i].policy == WEIR_EPOLL) {
            check_rejected(&why, 0, "io_uring", -ECANCELED, WEIR_CAUSE_FORCED);
            CHECK(!strstr(why.rejected[0].hint, "WEIR_POLICY=epoll") == !cases[i].from_environment);
        }
    }
}

static void a_value_of_the_environment_that_is_none_is_refused_with_a_hint(void)
{
    static const char *const values[] = {"", "EPOLL", "kqueue", "io_uring "};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct weir_decision why;
        CHECK_EQUAL(setenv("WEIR_POLICY", values[i], 1), 0);
        CHECK_EQUAL(try_open(WEIR_AUTO, 0, NULL, &why), -EINVAL);
        CHECK_EQUAL(why.from_environment, 1);
        CHECK_EQUAL(why.rejected_count, 1);
        check_rejected(&why, 0, "none", -EINVAL, WEIR_CAUSE_OPTION);
        CHECK(strstr(why.rejected[0].hint, "WEIR_POLICY") != NULL);
        CHECK(strstr(why.rejected[0].hint, "auto, io_uring, epoll") != NULL);
    }
}

/* --- the probe -------------------------------------------------------------------------------- */

static struct weir_probe probed(void)
{
    struct weir_probe probe;
    memset(&probe, 0x5a, sizeof probe);
    CHECK_EQUAL(weir_probe(&probe), 0);
    CHECK_EQUAL(probe.size, sizeof probe);
    return probe;
}

static void the_probe_tells_what_an_open_gets(void)
{
    size_t fds = check_fd_count();
    struct weir_probe probe = probed();
    CHECK_EQUAL(check_fd_count(), fds);
    CHECK_EQUAL(probe.io_uring.error, 0);
    CHECK_EQUAL(probe.io_uring.cause, WEIR_CAUSE_NONE);
    CHECK_EQUAL(probe.epoll.error, 0);
    CHECK_EQUAL(probe.epoll.cause, WEIR_CAUSE_NONE);
    CHECK(probe.cpus >= 1);

    struct weir_facts facts;
    struct weir_loop *loop = check_open(&(struct weir_options){.policy = WEIR_IO_URING});
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    check_close(loop);
    CHECK_EQUAL(probe.io_uring.ring_flags, facts.ring_flags);
    CHECK_EQUAL(probe.io_uring.ring_features, facts.ring_features);
    CHECK(strcmp(probe.kernel, facts.kernel) == 0);

    const uint64_t everywhere = KIND(WEIR_KIND_NOP) | KIND(WEIR_KIND_RECV) | KIND(WEIR_KIND_POLL) |
                                KIND(WEIR_KIND_TIMEOUT) | KIND(WEIR_KIND_SETSOCKOPT);
    const uint64_t nowhere = KIND(WEIR_KIND_NONE) | KIND(WEIR_KIND_CALL);
    CHECK_EQUAL(probe.io_uring.native_kinds & (everywhere | nowhere), everywhere);
    CHECK_EQUAL(probe.epoll.native_kinds & (everywhere | nowhere), everywhere);
    CHECK(probe.io_uring.native_kinds & KIND(WEIR_KIND_READ));
    CHECK(!(probe.epoll.native_kinds & KIND(WEIR_KIND_READ)));
    CHECK_EQUAL(weir_probe(NULL), -EINVAL);
}

static void a_probe_is_believed_but_for_what_is_for_now(void)
{
    struct weir_decision why;
    struct weir_probe probe = probed();
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, &probe, &why), 0);
    CHECK(strcmp(why.chosen, "io_uring") == 0);

    probe.io_uring.error = -EPERM; /* it is not so, but the probe says it */
    probe.io_uring.cause = WEIR_CAUSE_SYSCTL;
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, &probe, &why), 0);
    CHECK(strcmp(why.chosen, "epoll") == 0);
    CHECK_EQUAL(why.rejected_count, 1);
    check_rejected(&why, 0, "io_uring", -EPERM, WEIR_CAUSE_SYSCTL);
    CHECK(strncmp(reason_told, "io_uring: sysctl: the sysctl", 28) == 0);
    CHECK_EQUAL(try_open(WEIR_IO_URING, 0, &probe, &why), -EPERM);

    probe.io_uring.error = -EMFILE; /* there were none then */
    probe.io_uring.cause = WEIR_CAUSE_FD_LIMIT;
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, &probe, &why), 0);
    CHECK(strcmp(why.chosen, "io_uring") == 0);
    CHECK_EQUAL(why.rejected_count, 0);

    probe.epoll.error = -ENOSPC; /* no watches then */
    probe.epoll.cause = WEIR_CAUSE_OTHER;
    CHECK_EQUAL(try_open(WEIR_EPOLL, 0, &probe, &why), 0);
}

static void a_probe_that_is_none_is_refused(void)
{
    struct weir_decision why;
    struct weir_probe probe = {0};
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, &probe, &why), -EINVAL);
    CHECK_EQUAL(why.rejected_count, 1);
    check_rejected(&why, 0, "none", -EINVAL, WEIR_CAUSE_OPTION);
    CHECK(strstr(why.rejected[0].hint, "options.probe") != NULL);
}

static void a_probe_leaves_the_worker_caps_of_its_thread(void)
{
    struct weir_loop *loop = check_open(&(struct weir_options){
        .policy = WEIR_IO_URING, .workers_bounded = 3, .workers_unbounded = 5});
    unsigned ring_fd = (unsigned)weir_uring_of(weir_loop_backend(loop))->ring.ring_fd;
    unsigned caps[2] = {0, 0}; /* zeros ask for what is set */
    probed();
    CHECK_EQUAL(io_uring_register(ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, caps, 2), 0);
    CHECK_EQUAL(caps[0], 3);
    CHECK_EQUAL(caps[1], 5);
    check_close(loop);
}

static void open_begins_with_the_flags_that_the_probe_reached(void)
{
    struct weir_probe probe = probed();
    struct weir_facts facts;
    if (!(probe.io_uring.ring_flags & WEIR_SETUP_SINGLE_ISSUER)) {
        check_skip("this kernel is on a low step of the ladder");
    }
    probe.io_uring.ring_flags &= ~(WEIR_SETUP_SINGLE_ISSUER | WEIR_SETUP_DEFER_TASKRUN);
    struct weir_loop *loop =
        check_open(&(struct weir_options){.policy = WEIR_IO_URING, .probe = &probe});
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    CHECK_EQUAL(facts.ring_flags & (WEIR_SETUP_SINGLE_ISSUER | WEIR_SETUP_DEFER_TASKRUN), 0);
    CHECK(facts.ring_flags & IORING_SETUP_SUBMIT_ALL);
    check_close(loop);
}

/* --- demands ---------------------------------------------------------------------------------- */

/* What the reactor does itself for some fds only: others would need a worker. */
static void check_not_native_for_every_fd(void)
{
    static const enum weir_kind kinds[] = {WEIR_KIND_CLOSE, WEIR_KIND_SPLICE, WEIR_KIND_ACCEPT};
    struct weir_decision why;
    struct weir_probe probe = probed();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        CHECK(!(probe.epoll.native_kinds & KIND(kinds[i])));
        CHECK_EQUAL(try_open(WEIR_EPOLL, KIND(kinds[i]), NULL, &why), -EOPNOTSUPP);
        check_rejected(&why, 0, "epoll", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
        CHECK(strstr(why.rejected[0].hint, weir_kind_name(kinds[i])) != NULL);
    }
}

static void a_kind_that_must_be_native_rules_a_backend_out(void)
{
    struct weir_decision why;
    struct weir_probe probe = probed();
    const struct weir_probe *probes[] = {NULL, &probe};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(try_open(WEIR_AUTO, KIND(WEIR_KIND_READ), probes[i], &why), 0);
        CHECK(strcmp(why.chosen, "io_uring") == 0);
        CHECK_EQUAL(why.rejected_count, 0);

        CHECK_EQUAL(try_open(WEIR_EPOLL, KIND(WEIR_KIND_READ), probes[i], &why), -EOPNOTSUPP);
        check_rejected(&why, 0, "epoll", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
        CHECK(strstr(why.rejected[0].hint, ": read") != NULL);

        CHECK_EQUAL(try_open(WEIR_AUTO, KIND(WEIR_KIND_CALL), probes[i], &why), -EOPNOTSUPP);
        CHECK_EQUAL(why.rejected_count, 2);
        check_rejected(&why, 0, "io_uring", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
        check_rejected(&why, 1, "epoll", -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
        CHECK(strstr(why.rejected[1].hint, ": call") != NULL);
    }
    check_not_native_for_every_fd();
}

static void an_adoption_that_fails_at_open_is_in_the_record(void)
{
    struct weir_decision why;
    submit_answer = -EPERM;
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, NULL, &why), -EPERM);
    CHECK_EQUAL(why.rejected_count, 1);
    CHECK(strcmp(why.rejected[0].backend, "io_uring") == 0);
    CHECK_EQUAL(why.rejected[0].error, -EPERM);
    CHECK(why.rejected[0].hint[0] != '\0');
    CHECK_EQUAL(probed().io_uring.error, -EPERM);
}

/* --- kernels ---------------------------------------------------------------------------------- */

static void a_kernel_with_a_bug_that_hurts_is_left_to_epoll_unless_forced(void)
{
    struct weir_decision why;
    release_told = "6.6.9";
    machine_told = "ppc64le";
    CHECK_EQUAL(try_open(WEIR_AUTO, 0, NULL, &why), 0);
    CHECK(strcmp(why.chosen, "epoll") == 0);
    check_rejected(&why, 0, "io_uring", -EOPNOTSUPP, WEIR_CAUSE_KERNEL_BUG);
    struct weir_probe probe = probed();
    CHECK_EQUAL(probe.io_uring.error, 0);
    CHECK(probe.io_uring.bug != NULL);
    CHECK(strstr(why.rejected[0].hint, probe.io_uring.bug) != NULL);
    CHECK_EQUAL(try_open(WEIR_IO_URING, 0, NULL, &why), 0);
    CHECK_EQUAL(why.rejected_count, 0);
}

static void close_by_op(uint32_t offload_workers)
{
    struct weir_loop *loop = check_open(
        &(struct weir_options){.policy = WEIR_IO_URING, .offload_workers = offload_workers});
    struct weir_op op = {.callback = check_on_done};
    int fd = check_file(0);
    weir_op_close(&op, fd);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(op.result, 0);
    CHECK_EQUAL(fcntl(fd, F_GETFD), -1);
    struct weir_uring *uring = weir_uring_of(weir_loop_backend(loop));
    CHECK_EQUAL(weir_uring_carries(uring, &op), offload_workers == WEIR_NO_OFFLOAD);
    check_close(loop);
}

static void a_close_that_the_kernel_would_spoil_is_done_by_a_worker(void)
{
    release_told = "5.15.89";
    machine_told = "x86_64";
    CHECK(!(probed().io_uring.native_kinds & KIND(WEIR_KIND_CLOSE)));
    close_by_op(1);
    close_by_op(WEIR_NO_OFFLOAD); /* better so than not at all */
    release_told = "5.15.90";
    CHECK(probed().io_uring.native_kinds & KIND(WEIR_KIND_CLOSE));
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(the_environment_chooses_where_the_program_does_not),
        CHECK_TEST(a_value_of_the_environment_that_is_none_is_refused_with_a_hint),
        CHECK_TEST(the_probe_tells_what_an_open_gets),
        CHECK_TEST(a_probe_is_believed_but_for_what_is_for_now),
        CHECK_TEST(a_probe_that_is_none_is_refused),
        CHECK_TEST(a_probe_leaves_the_worker_caps_of_its_thread),
        CHECK_TEST(open_begins_with_the_flags_that_the_probe_reached),
        CHECK_TEST(a_kind_that_must_be_native_rules_a_backend_out),
        CHECK_TEST(an_adoption_that_fails_at_open_is_in_the_record),
        CHECK_TEST(a_kernel_with_a_bug_that_hurts_is_left_to_epoll_unless_forced),
        CHECK_TEST(a_close_that_the_kernel_would_spoil_is_done_by_a_worker),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
