/* SPDX-License-Identifier: MIT */
/*
 * weir/sim.h: the simulator: a world of its own with a virtual clock, in which files, sockets and
 * pipes live in memory and go wrong as a seed says. No kernel is behind it.
 *
 * A loop opened with options.policy = WEIR_SIM lives in such a world; a service that does all its
 * I/O through weir runs there unchanged. A run is a pure function of the seed, the plan and what
 * the service does: weir_sim_hash() tells two runs apart, on any machine and by any compiler.
 *
 * The clock moves only in turns: one that may sleep, and finds nothing that can run, steps to
 * whatever happens next. Else a turn takes 1 us, so that who is always busy does not stop the
 * clock; what a callback does takes no time. If nothing will ever happen, where a real loop would
 * sleep for ever, turn, run and close answer -EDEADLK; the loop stays as it is.
 *
 * File descriptors of a world are its own (WEIR_SIM_FD_FIRST and up): a system call made on one
 * finds nothing, and an op on a real one is -EBADF. They are made by OPENAT, SOCKET and ACCEPT ops,
 * weir_sim_pipe() and weir_sim_socketpair(); "/dev/null" can be opened. An address below 4096 is
 * -EFAULT; any other is taken to be good.
 *
 * CALLs run on the loop's thread when their simulated worker is done with them; what the function
 * may do to the loop is what a worker's thread may, and to post, wake and stop. There are
 * options.offload_workers workers, 4 for 0.
 *
 * Where a seed is odd the engine hands ops to the world when a turn begins, as it does on epoll;
 * where it is even most by submit, as on io_uring. They set out with the turn in either.
 *
 * SIGNAL and CHILD answer -EOPNOTSUPP, and so does a SENDMSG with control data: a world has no
 * processes and passes no fds.
 *
 * Several loops of a world share its clock, and a turn of one ends its sleep also when an op of
 * another is finished: turn them in rotation, each with a short wait.
 *
 * weir_loop_abandon() takes a loop out of its world, and leaks nothing of it but the loop itself,
 * which goes on answering -EPERM; after a crash that is freed too.
 *
 * Threads: one; a world, its loops and all calls here belong to it. weir_loop_wake(), _stop(),
 * _post() and _adopt() answer -EOPNOTSUPP from another thread, and weir_loop_fd() always.
 */
#ifndef WEIR_SIM_H
#define WEIR_SIM_H

#include <stdbool.h>
#include <weir/op.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_sim;

#define WEIR_SIM_FD_FIRST (1 << 20)
#define WEIR_SIM_PATH_MAX 4096
#define WEIR_SIM_FAULTS_MAX 4096
/* weir_sim_fault.nth and .count: every one from there on. */
#define WEIR_SIM_ALWAYS UINT32_MAX

/* A duration, drawn evenly from min_ns to max_ns. */
struct weir_sim_span {
    uint64_t min_ns;
    uint64_t max_ns;
};

enum weir_sim_fault_what {
    WEIR_SIM_ERROR = 1, /* the op fails with `error` and has not happened (but a CLOSE has); 0:
                         * drawn from those that its kind may give. Not of NOP and CALL */
    WEIR_SIM_SHORT,     /* moves a part of what it could, at least a byte */
    WEIR_SIM_DELAY,     /* takes `delay` longer */
    WEIR_SIM_STUCK,     /* does not finish by itself; a cancel or a deadline brings it back */
    WEIR_SIM_LATE,      /* if asked back it finishes all the same, with its own result */
    WEIR_SIM_DEAF,      /* does not finish and cannot be asked back: only a crash ends it */
    WEIR_SIM_RESET,     /* the connection (of its fd) is reset: -ECONNRESET at both ends */
    WEIR_SIM_JUMP,  /* the clock is `delay` further when it is done, for all: a machine that stood
                         * still */
    WEIR_SIM_CRASH, /* the machine stops as the op is about to happen: weir_sim_crash() */
};

/* What goes wrong. Strikes ops that match `kinds` and `path`; of these the nth to the
 * (nth + count - 1)th, or by chance. Each part of a WHOLE op counts, as each system call would. An
 * op that has no such fault to suffer (SHORT: it moves no bytes; RESET: it has no connection) does
 * not match. */
struct weir_sim_fault {
    enum weir_sim_fault_what what;
    uint64_t kinds;   /* a bit each (1ULL << WEIR_KIND_WRITE); 0: every kind it can strike */
    const char *path; /* ops that name it, or whose fd was opened by it; NULL: any. Lives as long
                           * as the world */
    uint32_t nth;     /* from 1; 0: by chance */
    uint32_t count;   /* 0: one; WEIR_SIM_ALWAYS */
    uint32_t per_million; /* of them, by chance */
    int error;            /* positive errno, of WEIR_SIM_ERROR */
    struct weir_sim_span delay;
};

/* How a world behaves; zeroes are what stands behind the field. */
struct weir_sim_plan {
    struct weir_sim_span storage; /* a file op, before its bytes: 20 us to 200 us */
    struct weir_sim_span sync;    /* FSYNC, SYNC_FILE_RANGE, DSYNC: 200 us to 2 ms */
    struct weir_sim_span
        network;               /* a message's way to its peer, and a connect's: 20 us to 100 us */
    struct weir_sim_span call; /* a CALL in its worker: 1 us to 100 us */
    uint64_t storage_bytes_per_s; /* 1 GiB */
    uint64_t network_bytes_per_s; /* 1 GiB */

    uint64_t disk_bytes;   /* what all files may hold, then -ENOSPC: 256 MiB */
    uint32_t fds_max;      /* open at once, then -EMFILE: 1024 */
    uint32_t pipe_bytes;   /* a pipe or a socket's direction holds: 64 KiB */
    uint32_t sector_bytes; /* what a crash tears a write into: 512; a power of 2, 64 to 4096 */
    uint64_t
        memory_bytes; /* the world's, mapped when it is made and used as it is needed; then -ENOMEM
                            * and -ENOSPC: 512 MiB */

    const struct weir_sim_fault
        *faults;          /* looked at in order, the first that strikes does; copied */
    uint32_t fault_count; /* to WEIR_SIM_FAULTS_MAX */

    /* Every step of the world as a line of text, without its end; NULL: none. It costs time. Must
     * not call weir. */
    void (*trace)(void *context, const char *line);
    void *trace_context;
};

/* weir_options.sim, with WEIR_SIM. */
struct weir_sim_options {
    struct weir_sim
        *world; /* one made by weir_sim_open(); NULL: the loop's own, gone with it, of: */
    uint64_t seed;
    const struct weir_sim_plan *plan; /* NULL: all zeroes. Copied */
};

/*
 * Makes a world that outlives its loops: for a crash and what is found after it, for several loops
 * on one disk. plan may be NULL. *ret_sim is written on success only.
 * 0; -EINVAL: NULL, a span that ends before it begins, another value out of its range; -ENOMEM.
 */
WEIR_API int weir_sim_open(uint64_t seed, const struct weir_sim_plan *plan,
                           struct weir_sim **ret_sim);
/* 0 (for NULL too); -EBUSY: a loop lives there. */
WEIR_API int weir_sim_close(struct weir_sim *sim);
struct weir_loop;
/* The world of a loop; NULL: it has none. */
WEIR_API struct weir_sim *weir_loop_sim(const struct weir_loop *loop);

/* As pipe2(2) and socketpair(2) of AF_UNIX, in the world. flags: O_NONBLOCK, O_CLOEXEC; type:
 * SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET, with SOCK_NONBLOCK and SOCK_CLOEXEC as wanted. 0;
 * -EMFILE; -ENOMEM; -EINVAL: also in a world that has crashed. */
WEIR_API int weir_sim_pipe(struct weir_sim *sim, int ret_fds[2], int flags);
WEIR_API int weir_sim_socketpair(struct weir_sim *sim, int type, int ret_fds[2]);

/*
 * The machine stops. All fds and sockets are gone, and of what was written to files and directories
 * and not yet synced the seed decides, sector by sector and entry by entry, what is kept. Its loops
 * answer -EOWNERDEAD from then on and hand nothing back: abandon each (the memory of their ops is
 * the caller's again: zero them), then go on with weir_sim_restart(). Also inside a callback.
 * (The turn whose last touch was the callback of weir_loop_close_begin() still answers its number,
 * if the machine stops in there.) What an FSYNC that failed should have written is not synced by
 * later ones either, until it is written anew: as in Linux.
 * 0; -EINVAL: NULL; -EALREADY: it has crashed.
 */
WEIR_API int weir_sim_crash(struct weir_sim *sim);
WEIR_API bool weir_sim_has_crashed(const struct weir_sim *sim);
/* The machine starts again over what survived. Loops may be opened. 0; -EBUSY: one still lives;
 * -EINVAL: NULL, or it has not crashed. */
WEIR_API int weir_sim_restart(struct weir_sim *sim);

/* The clock, ns; it begins at an hour. What weir_now() of its loops answers. */
WEIR_API uint64_t weir_sim_now(const struct weir_sim *sim);
/* A hash over every step so far. */
WEIR_API uint64_t weir_sim_hash(const struct weir_sim *sim);
/* The next of a sequence that the seed gives, and that the world itself does not use: for what a
 * service or its test draws. */
WEIR_API uint64_t weir_sim_random(struct weir_sim *sim);

/* What has happened so far. */
struct weir_sim_counters {
    uint64_t steps;  /* things that happened */
    uint64_t ops;    /* that were carried out */
    uint64_t faults; /* that struck */
    uint64_t crashes;
    uint64_t sectors_lost; /* by crashes: written, not synced, gone */
    uint64_t sectors_torn; /* kept though others of the same write are gone */
};
/* 0; -EINVAL. */
WEIR_API int weir_sim_counters(const struct weir_sim *sim, struct weir_sim_counters *ret_counters);

#ifdef __cplusplus
}
#endif
#endif
