/* SPDX-License-Identifier: MIT */
#include <engine/backend/choose.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof(array)[0])
#define KIND(kind) (1ULL << (kind))
#define VERSION(major, minor, patch) ((major) << 20 | (minor) << 10 | (patch))
#define ALL_LATER UINT32_MAX

/* In the order in which WEIR_AUTO wants them. */
static const struct candidate {
    enum weir_policy policy;
    const char *name;
} candidates[] = {
    {WEIR_IO_URING, "io_uring"},
    {WEIR_EPOLL, "epoll"},
};

/* Each once, and one more whose adoption fails. */
_Static_assert(ARRAY_SIZE(candidates) < WEIR_REJECTED_MAX, "a place for each that is rejected");

static const char *const cause_names[] = {
    [WEIR_CAUSE_NONE] = "none",
    [WEIR_CAUSE_KERNEL_TOO_OLD] = "kernel too old",
    [WEIR_CAUSE_SYSCTL] = "sysctl",
    [WEIR_CAUSE_SECCOMP] = "seccomp",
    [WEIR_CAUSE_MEMLOCK] = "memlock",
    [WEIR_CAUSE_FD_LIMIT] = "fd limit",
    [WEIR_CAUSE_OPTION] = "option",
    [WEIR_CAUSE_FEATURE] = "feature missing",
    [WEIR_CAUSE_KERNEL_BUG] = "kernel bug",
    [WEIR_CAUSE_FORCED] = "forced",
    [WEIR_CAUSE_NOT_BUILT] = "not built",
    [WEIR_CAUSE_OTHER] = "other",
};

const char *weir_cause_name(enum weir_cause cause)
{
    return (unsigned)cause < ARRAY_SIZE(cause_names) ? cause_names[cause] : NULL;
}

/* --- kernels ---------------------------------------------------------------------------------- */

/*
 * Kernels whose io_uring breaks something weir does. Each was reported and pinned down by another
 * project; a distribution may have repaired an older version, so what is lost by a wrong guess must
 * be little: with WEIR_IO_URING the ring is used all the same.
 *
 * Left out, since weir does not do what breaks: SQPOLL (5.10, 5.13), an overflowing CQ (5.19),
 * provided buffers, multishot, bundles and mixed entry sizes (6.1 to 6.19). Left out, since it is
 * slow or answers an error but does nothing wrong: md before 5.17, which sends all to workers;
 * needless ENOMEM before 6.6.86, 6.12.21 and 6.13.9 (seastar issue 2728), which would cost 6.1.
 */
static const struct window {
    const char *machine; /* how uname's begins; "": any */
    uint32_t from;
    uint32_t to;    /* the first without it */
    uint64_t kinds; /* 0: everything */
    const char *bug;
} windows[] = {
    /* libuv 1752791c, c811169f: the file is still open for a while after the completion. */
    {"", 0, VERSION(5, 15, 90), KIND(WEIR_KIND_CLOSE), "a closed file stays busy (ETXTBSY)"},
    {"", VERSION(5, 16, 0), VERSION(6, 1, 0), KIND(WEIR_KIND_CLOSE),
     "a closed file stays busy (ETXTBSY)"},
    /* libuv a389393f */
    {"parisc", 0, VERSION(6, 1, 51), 0, "io_uring does not work on hppa before Linux 6.1.51"},
    /* linuxppc-dev, November 2023, "Fix data corruption on IPI"; libuv 3b6a1a14 saw it too. */
    {"ppc64", VERSION(5, 12, 0), VERSION(6, 7, 0), 0,
     "io_uring's workers corrupt registers of the program on ppc64 before Linux 6.7"},
    /* libuv f1444293, issue 4158: no version is known to be good. */
    {"armv", 0, ALL_LATER, 0, "io_uring is not reliable on 32-bit arm"},
};

/* 0: not a version. */
static uint32_t version_of(const char *release)
{
    unsigned major = 0;
    unsigned minor = 0;
    unsigned patch = 0;
    if (sscanf(release, "%u.%u.%u", &major, &minor, &patch) < 2) {
        return 0;
    }
    return VERSION(major, minor, patch < 1024 ? patch : 1023);
}

struct weir_kernel_bugs weir_policy_kernel_bugs(const char *release, const char *machine)
{
    struct weir_kernel_bugs found = {0};
    uint32_t version = version_of(release);
    for (size_t i = 0; i < ARRAY_SIZE(windows) && version != 0; i++) {
        const struct window *window = &windows[i];
        if (version < window->from || version >= window->to ||
            strncmp(machine, window->machine, strlen(window->machine)) != 0) {
            continue;
        }
        found.kinds |= window->kinds;
        if (window->kinds == 0) {
            found.bug = window->bug;
        }
    }
    return found;
}

/* --- causes ----------------------------------------------------------------------------------- */

static enum weir_cause classify_denied(enum weir_policy backend,
                                       const struct weir_surroundings *surroundings)
{
    bool filtered = surroundings->seccomp_mode > 0;
    if (backend == WEIR_IO_URING &&
        (surroundings->io_uring_disabled >= 2 ||
         (surroundings->io_uring_disabled == 1 && !surroundings->io_uring_permitted))) {
        return WEIR_CAUSE_SYSCTL;
    }
    if (filtered || surroundings->seccomp_mode < 0) {
        return WEIR_CAUSE_SECCOMP;
    }
    /* A capability seen from inside a user namespace does not count outside of it. */
    return backend == WEIR_IO_URING && surroundings->io_uring_disabled == 1 ? WEIR_CAUSE_SYSCTL
                                                                            : WEIR_CAUSE_OTHER;
}

/* Every kernel from 5.1 on has the calls, unless it was built without; then who hides them? */
static enum weir_cause classify_unknown(const struct weir_surroundings *surroundings)
{
    bool must_have = version_of(surroundings->release) >= VERSION(5, 1, 0);
    return must_have && surroundings->seccomp_mode != 0 ? WEIR_CAUSE_SECCOMP
                                                        : WEIR_CAUSE_KERNEL_TOO_OLD;
}

/* From 5.12 to 6.13 ring memory is not charged to the limit, so it is not to blame. */
static enum weir_cause classify_no_memory(enum weir_policy backend,
                                          const struct weir_surroundings *surroundings)
{
    uint32_t version = version_of(surroundings->release);
    bool charged = version < VERSION(5, 12, 0) || version >= VERSION(6, 14, 0);
    return backend == WEIR_IO_URING && charged && surroundings->memlock_limited ? WEIR_CAUSE_MEMLOCK
                                                                                : WEIR_CAUSE_OTHER;
}

enum weir_cause weir_policy_classify(enum weir_policy backend, int error,
                                     const struct weir_surroundings *surroundings)
{
    switch (-error) {
    case 0:
        return WEIR_CAUSE_NONE;
    case ENOSYS:
        return classify_unknown(surroundings);
    case EOPNOTSUPP:
    case EINVAL:
        return WEIR_CAUSE_KERNEL_TOO_OLD;
    case EPERM:
    case EACCES:
        return classify_denied(backend, surroundings);
    case ENOMEM:
        return classify_no_memory(backend, surroundings);
    case EMFILE:
    case ENFILE:
        return WEIR_CAUSE_FD_LIMIT;
    default:
        return WEIR_CAUSE_OTHER;
    }
}

/* --- hints ------------------------------------------------------------------------------------ */

#define FD_LIMIT_HINT                                                                              \
    "no file descriptor left: raise RLIMIT_NOFILE (ulimit -n; LimitNOFILE= in a systemd unit); a " \
    "loop takes 2 (4 while it opens), and 3 more with weir_loop_fd"

static const char *const uring_hints[ARRAY_SIZE(cause_names)] = {
    [WEIR_CAUSE_KERNEL_TOO_OLD] = "this kernel lacks what weir needs of io_uring: use Linux 5.11 "
                                  "or newer, built with CONFIG_IO_URING",
    [WEIR_CAUSE_SYSCTL] = "the sysctl kernel.io_uring_disabled forbids io_uring here: set it to 0, "
                          "or to 1 and run in the group that kernel.io_uring_group names",
    [WEIR_CAUSE_SECCOMP] =
        "a seccomp filter (container runtimes have one by default), or with ENOSYS a kernel "
        "without CONFIG_IO_URING, denies io_uring: allow the system calls io_uring_setup (425), "
        "io_uring_enter (426), io_uring_register (427)",
    [WEIR_CAUSE_MEMLOCK] = "no memory for even the smallest ring: raise RLIMIT_MEMLOCK (ulimit -l; "
                           "LimitMEMLOCK= in a systemd unit), it counts all rings of the user",
    [WEIR_CAUSE_FD_LIMIT] = FD_LIMIT_HINT,
    [WEIR_CAUSE_NOT_BUILT] = "this library was built without io_uring",
};

static const char *const epoll_hints[ARRAY_SIZE(cause_names)] = {
    [WEIR_CAUSE_KERNEL_TOO_OLD] = "this kernel lacks what weir needs of epoll",
    [WEIR_CAUSE_SECCOMP] = "a seccomp filter denies epoll: allow the system calls epoll_create1, "
                           "epoll_ctl, epoll_pwait, epoll_pwait2 and eventfd2",
    [WEIR_CAUSE_FD_LIMIT] = FD_LIMIT_HINT,
    [WEIR_CAUSE_NOT_BUILT] = "this library was built without epoll",
};

static const char *plain_hint(enum weir_policy backend, int error, enum weir_cause cause)
{
    const char *hint = backend == WEIR_IO_URING ? uring_hints[cause] : epoll_hints[cause];
    if (hint) {
        return hint;
    }
    switch (-error) {
    case EPERM:
    case EACCES:
        return "neither a sysctl nor a seccomp filter denies it: look for a security module "
               "(SELinux, AppArmor: the kernel's log) or the sandbox this runs in";
    case ENOMEM:
        return "the kernel has no memory for it: look at the cgroup's limit and the machine's";
    case ENOSPC:
        return "no more fds may be watched: raise the sysctl fs.epoll.max_user_watches, which "
               "counts all epoll sets of the user";
    default:
        return "the error says all that is known";
    }
}

static const char *name_of(enum weir_policy backend)
{
    return backend == WEIR_IO_URING ? candidates[0].name : candidates[1].name;
}

static struct weir_rejection *add(struct weir_decision *decision, enum weir_policy backend,
                                  int error, enum weir_cause cause)
{
    struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
    *rejection =
        (struct weir_rejection){.backend = name_of(backend), .error = error, .cause = cause};
    return rejection;
}

void weir_policy_reject(struct weir_decision *decision, enum weir_policy backend, int error,
                        enum weir_cause cause)
{
    struct weir_rejection *rejection = add(decision, backend, error, cause);
    decision->chosen = NULL;
    snprintf(rejection->hint, sizeof rejection->hint, "%s", plain_hint(backend, error, cause));
}

static void reject_for_kinds(struct weir_decision *decision, enum weir_policy backend,
                             uint64_t missing)
{
    struct weir_rejection *rejection = add(decision, backend, -EOPNOTSUPP, WEIR_CAUSE_FEATURE);
    size_t size = sizeof rejection->hint;
    int used = snprintf(rejection->hint, size,
                        "options.native_kinds asks for what it cannot "
                        "do without a worker: ");
    for (unsigned kind = 0; kind < 64 && (size_t)used < size; kind++) {
        if (missing >> kind & 1) {
            const char *name = weir_kind_name(kind);
            const char *comma = missing & (KIND(kind) - 1) ? ", " : "";
            used += snprintf(rejection->hint + used, size - (size_t)used, "%s%s", comma,
                             name ? name : "an unknown kind");
        }
    }
}

static void reject_for_bug(struct weir_decision *decision, enum weir_policy backend,
                           const char *bug)
{
    struct weir_rejection *rejection = add(decision, backend, -EOPNOTSUPP, WEIR_CAUSE_KERNEL_BUG);
    snprintf(rejection->hint, sizeof rejection->hint,
             "%s: use another kernel; if yours is repaired, demand %s by options.policy or "
             "WEIR_POLICY",
             bug, rejection->backend);
}

static void reject_as_forced(struct weir_decision *decision, enum weir_policy backend)
{
    struct weir_rejection *rejection = add(decision, backend, -ECANCELED, WEIR_CAUSE_FORCED);
    const char *demanded = name_of(decision->policy);
    if (decision->from_environment) {
        snprintf(rejection->hint, sizeof rejection->hint,
                 "not tried: the environment has WEIR_POLICY=%s; unset it, or set it to auto",
                 demanded);
    } else {
        snprintf(rejection->hint, sizeof rejection->hint,
                 "not tried: options.policy demands %s; WEIR_AUTO would choose", demanded);
    }
}

/* --- the choice ------------------------------------------------------------------------------- */

/* Memory and fds are a matter of limits: what is too little for one is no reason for the other. */
static bool may_fall_back(int error)
{
    return error == -ENOSYS || error == -EPERM || error == -EACCES || error == -EOPNOTSUPP;
}

/* 0, or why not: then it is among the rejected. */
static int judge(enum weir_policy backend, uint64_t native_kinds, const struct weir_probe *probe,
                 struct weir_decision *decision)
{
    bool is_uring = backend == WEIR_IO_URING;
    int error = is_uring ? probe->io_uring.error : probe->epoll.error;
    if (error < 0) {
        weir_policy_reject(decision, backend, error,
                           is_uring ? probe->io_uring.cause : probe->epoll.cause);
        return error;
    }
    const char *bug = is_uring ? probe->io_uring.bug : NULL;
    if (bug && decision->policy == WEIR_AUTO) {
        reject_for_bug(decision, backend, bug);
        return -EOPNOTSUPP;
    }
    uint64_t missing =
        native_kinds & ~(is_uring ? probe->io_uring.native_kinds : probe->epoll.native_kinds);
    if (missing != 0) {
        reject_for_kinds(decision, backend, missing);
        return -EOPNOTSUPP;
    }
    return 0;
}

int weir_policy_choose(uint64_t native_kinds, const struct weir_probe *probe,
                       struct weir_decision *decision)
{
    int r = -EOPNOTSUPP;
    size_t chosen = ARRAY_SIZE(candidates);
    decision->chosen = NULL;
    decision->rejected_count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(candidates) && chosen == ARRAY_SIZE(candidates); i++) {
        if (decision->policy != WEIR_AUTO && decision->policy != candidates[i].policy) {
            continue;
        }
        r = judge(candidates[i].policy, native_kinds, probe, decision);
        if (r == 0) {
            chosen = i;
        } else if (!may_fall_back(r)) {
            break;
        }
    }
    for (size_t i = 0; i < chosen && decision->policy != WEIR_AUTO; i++) {
        if (decision->policy != candidates[i].policy) {
            reject_as_forced(decision, candidates[i].policy);
        }
    }
    if (r < 0) {
        return r;
    }
    decision->chosen = candidates[chosen].name;
    return (int)candidates[chosen].policy;
}

void weir_policy_reason(const struct weir_decision *decision, char *ret_reason, size_t size)
{
    if (decision->policy != WEIR_AUTO) {
        snprintf(ret_reason, size, "asked for by %s",
                 decision->from_environment ? "WEIR_POLICY" : "options.policy");
    } else if (decision->rejected_count == 0) {
        snprintf(ret_reason, size, "the best that works here");
    } else {
        const struct weir_rejection *better = &decision->rejected[0];
        snprintf(ret_reason, size, "%s: %s: %s", better->backend, cause_names[better->cause],
                 better->hint);
    }
}
