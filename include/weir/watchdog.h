/* SPDX-License-Identifier: MIT */
/*
 * weir/watchdog.h: a thread that notices a loop which stands still, and says why, while it does.
 *
 * A loop that is watched shows what it is doing: in a turn, asleep, or in a callback, and whose. The
 * watchdog looks several times per threshold, and when a turn or a callback has lasted longer than
 * that, it interrupts the loop's thread by a signal to take its stack, and reports. The same stall
 * is reported again each time it has lasted twice as long.
 *
 * Of what class. RUNNING: the thread's CPU clock moved with the time: it computes, or loops.
 * BLOCKED: it sleeps in a system call that the callback made (state S or D of
 * /proc/self/task/ID/stat). DESCHEDULED: it wanted to run and was not let, by the scheduler or by
 * the hypervisor under it; not the callback's fault, counted, and reported only if asked for.
 *
 * The signal. Opening a watchdog is the one thing by which weir installs a signal handler: of
 * weir_watchdog_options.signal, by default SIGURG (whose default action is to be ignored). It must
 * have no handler yet, and threads of watched loops must not block it. It is sent by
 * rt_tgsigqueueinfo(2), to the loop's thread only, only during a stall, with SA_RESTART. Stacks are
 * walked by backtrace(3) in the handler: where unwind tables are missing they end early.
 */
#ifndef WEIR_WATCHDOG_H
#define WEIR_WATCHDOG_H

#include <weir/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_watchdog;

enum weir_stall_class {
    WEIR_STALL_RUNNING,
    WEIR_STALL_BLOCKED,
    WEIR_STALL_DESCHEDULED,
    WEIR_STALL_CLASS_COUNT
};

/* Where it stands still. */
enum weir_stall_place {
    WEIR_STALL_CALLBACK, /* in the callback of an op */
    WEIR_STALL_TURN,     /* elsewhere in a turn: submission, a read on the spot, the callbacks of
                          * room waiters, watermarks and close */
    WEIR_STALL_OP,       /* not the loop: one op in flight that is far slower than its task's are */
};

#define WEIR_STALL_FRAMES_MAX 48

/* A report. Valid during the call; pointers are literals or the report's own. */
struct weir_stall {
    const char *loop; /* the name given to weir_watchdog_watch() */
    enum weir_stall_place place;
    enum weir_stall_class class_; /* of an op: RUNNING, always */
    uint64_t lasted_ns;           /* so far */
    uint64_t threshold_ns;        /* that it was longer than */
    uint32_t nth;                 /* report of the same stall, from 1 */
    /* The callback's op, or the slow one. Empty and NULL for WEIR_STALL_TURN. */
    const char *task;
    const char *kind;
    const char *site; /* where it was submitted */
    int32_t fd;
    void *callback; /* its function; with symbol, "module+0x1234" by dladdr(3), the name in front
                     * if it is exported */
    const char *callback_symbol;
    /* The loop thread's stack, the innermost first; 0: it could not be had (the signal is blocked,
     * or it did not answer in 100 ms). Of an op: what submitted it, if that was kept. */
    uint32_t frame_count;
    void *frames[WEIR_STALL_FRAMES_MAX];
};

/* In the watchdog's thread. Must not call the watchdog, nor wait for the loop. */
typedef void weir_stall_callback(void *context, const struct weir_stall *stall);

/* Zeroed but for the callback: good defaults. */
struct weir_watchdog_options {
    weir_stall_callback *callback; /* required */
    void *context;
    uint64_t threshold_ns; /* 1 ms to 1 hour; 0: 100 ms */
    /* Slow ops, on loops that are WEIR_INSPECTABLE: longer in flight than this, at least, and than
     * slow_factor times the p99 of FLIGHT of their task; kinds that wait for others are left out.
     * ns; 0: not looked for. */
    uint64_t slow_op_ns;
    uint32_t slow_factor;       /* 0: 10 */
    uint32_t reports_a_minute;  /* at most, for each loop; what is more is counted; 0: 60 */
    int signal;                 /* 0: SIGURG */
    uint8_t report_descheduled; /* these too */
};

/*
 * Installs the handler and starts the thread. 0; -EINVAL: NULL, no callback, a threshold out of its
 * range, no such signal; -EBUSY: the signal has a handler; -EAGAIN: no more threads; -ENOMEM. Any
 * thread.
 */
WEIR_API int weir_watchdog_open(const struct weir_watchdog_options *options,
                                struct weir_watchdog **ret_watchdog);

/* Ends the thread and puts the signal back as it was. 0 (for NULL too); -EBUSY: loops are watched:
 * unwatch or close them first; -ECHILD: after fork. Any thread but its own. */
WEIR_API int weir_watchdog_close(struct weir_watchdog *watchdog);

/*
 * Watches a loop from now on. name: 1 to WEIR_TASK_NAME_MAX bytes, copied. Loop's thread, also in
 * a callback. Any number of loops; a loop has one watchdog at most, and leaves it when it is closed
 * or abandoned. 0; -EINVAL: NULL, no name; -ENAMETOOLONG; -EBUSY: it is watched already; -ENOMEM;
 * -EOPNOTSUPP: a loop in a simulated world; -EPERM; -ECHILD.
 */
WEIR_API int weir_watchdog_watch(struct weir_watchdog *watchdog, struct weir_loop *loop,
                                 const char *name);
/* Ends it. Loop's thread. 0; -ENOENT: not watched by this one; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_watchdog_unwatch(struct weir_watchdog *watchdog, struct weir_loop *loop);

/* Of all its loops, since open. */
struct weir_watchdog_counters {
    uint64_t stalls[WEIR_STALL_CLASS_COUNT]; /* each once, however long */
    uint64_t slow_ops;
    uint64_t reports;                            /* callbacks made */
    uint64_t left_out;                           /* not made for reports_a_minute */
    uint64_t longest_ns[WEIR_STALL_CLASS_COUNT]; /* as seen */
};

/* Any thread. 0; -EINVAL: NULL; -ECHILD. */
WEIR_API int weir_watchdog_counters(const struct weir_watchdog *watchdog,
                                    struct weir_watchdog_counters *ret_counters);

/*
 * How long turns (without their sleep) and callbacks took, ns, while the loop was watched; either
 * may be NULL. Any thread. 0; -EINVAL: NULL loop; -ECHILD.
 */
WEIR_API int weir_loop_times(const struct weir_loop *loop, struct weir_histogram *ret_turns,
                             struct weir_histogram *ret_callbacks);

#ifdef __cplusplus
}
#endif
#endif
