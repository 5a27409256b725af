/* SPDX-License-Identifier: MIT */
/*
 * weir/policy.h: which backend carries a loop's I/O, and why: a value given at open, and a record
 * filled whether open succeeds or fails.
 */
#ifndef WEIR_POLICY_H
#define WEIR_POLICY_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum weir_policy {
    WEIR_AUTO,     /* the best backend that works here */
    WEIR_IO_URING, /* this one or an error */
    WEIR_EPOLL,    /* the same */
    WEIR_SIM,      /* the simulator, weir/sim.h: never chosen by itself */
};

/* Why a candidate was rejected. */
enum weir_cause {
    WEIR_CAUSE_NONE,
    WEIR_CAUSE_KERNEL_TOO_OLD, /* no io_uring, or one without what weir needs (Linux 5.11) */
    WEIR_CAUSE_SYSCTL,         /* kernel.io_uring_disabled is 1 or 2 (Linux 6.6) */
    WEIR_CAUSE_SECCOMP,        /* a system call filter */
    WEIR_CAUSE_MEMLOCK,        /* RLIMIT_MEMLOCK: ring memory is charged to it before 5.12 and from
                         * 6.14 */
    WEIR_CAUSE_FD_LIMIT,       /* RLIMIT_NOFILE or the system's file table */
    WEIR_CAUSE_OPTION,         /* an open option is out of its range: the hint names it */
    WEIR_CAUSE_FEATURE,        /* it cannot carry out one of weir_options.native_kinds */
    WEIR_CAUSE_KERNEL_BUG,     /* the running kernel is one with a known bug: the hint names it */
    WEIR_CAUSE_FORCED,         /* another was demanded, by options.policy or WEIR_POLICY */
    WEIR_CAUSE_NOT_BUILT,      /* this library was built without it */
    WEIR_CAUSE_OTHER,          /* the errno says it */
};

#define WEIR_HINT_MAX 240

/* One candidate that could not be used. */
struct weir_rejection {
    const char *backend;      /* "io_uring"; "none" where none is to blame: an option, or the
                               * loop's own memory and threads; a literal */
    int error;                /* negative errno; -ECANCELED with WEIR_CAUSE_FORCED: not tried */
    enum weir_cause cause;    /* its class */
    char hint[WEIR_HINT_MAX]; /* what to change, for people */
};

#define WEIR_REJECTED_MAX 4

/*
 * Where the choice came from stands in `policy`: options.policy; or, when that is WEIR_AUTO, the
 * environment variable WEIR_POLICY ("auto", "io_uring" or "epoll"; secure_getenv(3)), which is for
 * operators and read at every open, nowhere else. Another value of it is -EINVAL.
 */
struct weir_decision {
    enum weir_policy policy;
    uint8_t from_environment;
    const char *chosen; /* "io_uring", "epoll" or "sim"; NULL when open failed; a literal */
    uint32_t rejected_count;
    struct weir_rejection rejected[WEIR_REJECTED_MAX];
};

/* What a loop runs on. Sizes in bytes. */
struct weir_facts {
    const char *backend; /* "io_uring", "epoll" or "sim"; a literal */
    /* Why that one, for people: "asked for by options.policy", "asked for by WEIR_POLICY", "the
     * best that works here", or why a better one was rejected, cut to size: "io_uring: sysctl: "
     * and its hint. */
    char reason[WEIR_HINT_MAX];
    char kernel[72];   /* uname's release */
    const char *clock; /* what stamps are read from: "tsc", "monotonic" or "virtual"; a literal */

    uint32_t depth_asked;  /* weir_options.depth, defaults filled in */
    uint32_t depth;        /* what was got; smaller only when ring memory was refused */
    char depth_reason[96]; /* why smaller, or "" */
    uint32_t waiting_max;
    uint32_t timers_max;

    /* io_uring: ring sizes, IORING_SETUP_* and IORING_FEAT_* as the kernel granted them. */
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t ring_flags;
    uint32_t ring_features;
    uint8_t ring_fd_registered; /* entering the kernel skips the fd lookup */
    uint8_t no_iowait;          /* waiting is not accounted as iowait (Linux 6.15) */
    uint8_t sigpipe_blocked;    /* SIGPIPE is blocked in the loop's thread: weir_loop_open() */
    /* Caps of the kernel's worker threads (Linux 5.15); 0: the kernel takes none. */
    uint32_t workers_bounded;
    uint32_t workers_unbounded;

    /* Offload. */
    uint32_t workers; /* threads of the offload ring */
    char
        workers_reason[96]; /* "affinity allows 2 CPUs", "cgroup v2 cpu.max allows 0.5 CPUs", ... */
    uint32_t offload_depth;
    uint32_t offload_waiting_max;
    uint32_t posts_max;
    const char
        *wakes_by; /* how other threads wake the loop: "eventfd", "message", "nobody"; a literal */

    uint64_t memory_ring;    /* rings and submission entries, kernel's */
    uint64_t memory_slots;   /* a slot per op that may be live, and the report's entries */
    uint64_t memory_timers;  /* the heap */
    uint64_t memory_events;  /* the turn's events */
    uint64_t memory_observe; /* views of live ops (WEIR_INSPECTABLE), the flight recorder */
    uint64_t memory_tasks;   /* tasks and their histograms: at most weir_options.memory_max */
    uint64_t memory_offload; /* its ring, and the workers' stacks */
    uint64_t memory_loop;    /* the rest */
    uint64_t memory_total;   /* the sum: all a loop ever uses */
};

/*
 * What the running system offers, found by trying: io_uring with the real flags and a NOP there and
 * back, epoll likewise. A value: probe once, let any number of loops share it (weir_options.probe),
 * in any threads. What a loop itself needs (memory, fds) is still found at its open.
 */
struct weir_probe {
    uint32_t size; /* sizeof(struct weir_probe), written by weir_probe(); 0: not probed */
    char kernel[72];
    struct {
        int error; /* 0, or what a loop's open would meet */
        enum weir_cause cause;
        uint32_t ring_flags;    /* IORING_SETUP_*, the best that worked */
        uint32_t ring_features; /* IORING_FEAT_* */
        uint64_t native_kinds;  /* kinds it carries out by itself, a bit each */
        const char *bug;        /* a known bug of this kernel, or NULL; a literal */
    } io_uring;
    struct {
        int error;
        enum weir_cause cause;
        uint64_t native_kinds;
        uint8_t has_pwait2; /* waits in ns (Linux 5.11), else in ms */
    } epoll;
    uint32_t cpus; /* CPUs the process may use, at least 1 */
    char cpus_reason[96];
};

/* Fills *ret_probe. Any thread. 0; -EINVAL: NULL. What cannot be had is in the value, no error. */
WEIR_API int weir_probe(struct weir_probe *ret_probe);

/* "seccomp", "memlock", ...; NULL for no such cause. Any thread. */
WEIR_API const char *weir_cause_name(enum weir_cause cause);

#ifdef __cplusplus
}
#endif
#endif
