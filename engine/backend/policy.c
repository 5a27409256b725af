/* SPDX-License-Identifier: MIT */
#include <engine/backend/policy.h>
#include <engine/backend/uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static const char *const cause_names[] = {
    [WEIR_CAUSE_NONE] = "none",       [WEIR_CAUSE_KERNEL_TOO_OLD] = "kernel too old",
    [WEIR_CAUSE_SYSCTL] = "sysctl",   [WEIR_CAUSE_SECCOMP] = "seccomp",
    [WEIR_CAUSE_MEMLOCK] = "memlock", [WEIR_CAUSE_FD_LIMIT] = "fd limit",
    [WEIR_CAUSE_OPTION] = "option",   [WEIR_CAUSE_OTHER] = "other",
};

const char *weir_cause_name(enum weir_cause cause)
{
    return (unsigned)cause < sizeof cause_names / sizeof *cause_names ? cause_names[cause] : NULL;
}

/* kernel.io_uring_disabled (Linux 6.6): 0, 1 or 2; 0 where it does not exist. */
static int io_uring_disabled(void)
{
    int value = 0;
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    if (file) {
        if (fscanf(file, "%d", &value) != 1) {
            value = 0;
        }
        fclose(file);
    }
    return value;
}

static enum weir_cause classify(int error, int disabled)
{
    struct utsname kernel;
    switch (-error) {
    case ENOSYS:
        /* Every kernel from 5.1 on has the call unless it was built without; then who hides it? */
        return uname(&kernel) == 0 && atoi(kernel.release) < 5 ? WEIR_CAUSE_KERNEL_TOO_OLD
                                                               : WEIR_CAUSE_SECCOMP;
    case ENOTSUP:
    case EINVAL:
        return WEIR_CAUSE_KERNEL_TOO_OLD;
    case EPERM:
    case EACCES:
        return disabled > 0 ? WEIR_CAUSE_SYSCTL : WEIR_CAUSE_SECCOMP;
    case ENOMEM:
        return WEIR_CAUSE_MEMLOCK;
    case EMFILE:
    case ENFILE:
        return WEIR_CAUSE_FD_LIMIT;
    default:
        return WEIR_CAUSE_OTHER;
    }
}

static const char *const hints[] = {
    [WEIR_CAUSE_KERNEL_TOO_OLD] =
        "this kernel lacks what weir needs of io_uring: use Linux 5.11 or "
        "newer, built with CONFIG_IO_URING",
    [WEIR_CAUSE_SYSCTL] =
        "the sysctl kernel.io_uring_disabled forbids io_uring here: set it to 0, or "
        "to 1 and run in the group kernel.io_uring_group names",
    [WEIR_CAUSE_SECCOMP] =
        "a seccomp filter (container runtimes' default profiles have one), or a "
        "kernel without CONFIG_IO_URING, denies io_uring_setup: allow the system "
        "calls 425 to 427 in the profile",
    [WEIR_CAUSE_MEMLOCK] = "no memory for even the smallest ring: raise RLIMIT_MEMLOCK (ulimit -l; "
                           "LimitMEMLOCK= in a systemd unit), it counts all rings of the user",
    [WEIR_CAUSE_FD_LIMIT] =
        "no file descriptor left: raise RLIMIT_NOFILE (ulimit -n; LimitNOFILE= in "
        "a systemd unit); a loop takes 2 (4 while it opens), and 3 more with weir_loop_fd",
};

static void reject(struct weir_decision *decision, const char *backend, int error)
{
    if (!decision) {
        return;
    }
    decision->chosen = NULL;
    struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
    rejection->backend = backend;
    rejection->error = error;
    rejection->cause = classify(error, io_uring_disabled());
    const char *hint =
        rejection->cause < sizeof hints / sizeof *hints ? hints[rejection->cause] : NULL;
    snprintf(rejection->hint, sizeof rejection->hint, "%s",
             hint ? hint : "the error says all that is known");
}

int weir_policy_open(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend **ret_backend)
{
    const struct weir_backend_table *table = &weir_uring_table;
    struct utsname kernel;
    if (uname(&kernel) == 0) {
        snprintf(facts->kernel, sizeof facts->kernel, "%s", kernel.release);
    }
    int r = table->open(options, facts, ret_backend);
    if (r < 0) {
        reject(options->decision, table->name, r);
        return r;
    }
    facts->backend = table->name;
    if (options->decision) {
        options->decision->chosen = table->name;
    }
    return 0;
}

int weir_policy_adopt(const struct weir_options *options, struct weir_backend *backend,
                      struct weir_facts *facts)
{
    int r = backend->table->adopt(backend, facts);
    if (r < 0 && options) {
        reject(options->decision, backend->table->name, r);
    }
    return r;
}
