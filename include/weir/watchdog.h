/* SPDX-License-Identifier: MIT */
/*
 * weir/watchdog.h: a thread that notices a loop which stands still, and says why, while it does.
 *
 * A loop that is watched shows what it is doing: in a turn, asleep (or spinning, which is to wait
 * too), or in a callback, and whose. The watchdog looks several times per threshold, and when the
 * loop has been at the same for longer than that, it interrupts the loop's thread by a signal to
 * take its stack, and reports. The same stall is reported again each time it has lasted twice as
 * long. A turn of many callbacks, each of them short, is none: weir_loop_times() shows it.
 *
 * Honest time. Where two looks of the watchdog lie more than twice as far apart as it meant, it was
 * kept from looking, and so perhaps was the loop: a stopped process, a frozen machine. Of such a
 * time only what it meant counts, so a stall may have lasted longer than is said.
 *
 * The cause: what took most of the time, as seen from its second look on. RUNNING: the thread's
 * CPU clock moved: it computes, or loops. BLOCKED: it sleeps in a system call that the callback
 * made (state S or D of /proc/self/task/ID/stat, at half of the looks at least). DESCHEDULED: it
 * wanted to run and was not let, by the scheduler, by a debugger, or by the hypervisor under it,
 * and but for that would not have been longer than the threshold: not the callback's fault,
 * counted, and reported only if asked for. A wait for a CPU that is over is known by
 * /proc/self/task/ID/schedstat (CONFIG_SCHED_INFO). Time that a hypervisor took is
 * DESCHEDULED where the kernel is told of it (CONFIG_PARAVIRT_TIME_ACCOUNTING), else the CPU clock
 * has it, and it is RUNNING. Without /proc all that is not RUNNING is BLOCKED. The cause is judged
 * again at each report; a stall that changes is counted in each.
 *
 * The signal. Opening a watchdog is the one thing by which weir installs a signal handler: of
 * weir_watchdog_options.signal, by default SIGURG (whose default action is to be ignored). It must
 * have no handler yet, nobody else must have a use for it (others' are swallowed meanwhile), and
 * threads of watched loops must not block it. It is sent by rt_tgsigqueueinfo(2), to the loop's
 * thread only, only during a stall, with SA_RESTART and SA_ONSTACK: a callback that is blocked in
 * one of the calls that are never restarted (nanosleep, poll, select, epoll_wait; signal(7)) has
 * EINTR from it. Stacks are walked by backtrace(3) in the handler: where unwind tables are missing
 * they end early. With glibc before 2.35, or a libgcc of GCC before 12, the walk takes the dynamic
 * linker's lock; where that matters, say no_stacks.
 */
#ifndef WEIR_WATCHDOG_H
#define WEIR_WATCHDOG_H

#include <weir/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_watchdog;

enum weir_stall_cause {
    WEIR_STALL_RUNNING,
    WEIR_STALL_BLOCKED,
    WEIR_STALL_DESCHEDULED,
    WEIR_STALL_UNKNOWN, /* of an op (WEIR_STALL_OP), always; not counted: no index of an array of
                         * WEIR_STALL_CAUSE_COUNT */
};
#define WEIR_STALL_CAUSE_COUNT 3

/* Where it stands still. */
enum weir_stall_place {
    WEIR_STALL_CALLBACK, /* in the callback of an op */
    WEIR_STALL_TURN,     /* elsewhere in a turn: submission, a read on the spot, the callbacks of
                          * room waiters, watermarks and close; but what io_uring does inside the
                          * enter that may also sleep counts as sleep */
    WEIR_STALL_OP,       /* not the loop: one op in flight that is far slower than its task's are */
};

/* "running", "blocked", "descheduled", "unknown"; "callback", "turn", "op"; NULL for none of them.
 * Any thread. */
WEIR_API const char *weir_stall_cause_name(enum weir_stall_cause cause);
WEIR_API const char *weir_stall_place_name(enum weir_stall_place place);

#define WEIR_STALL_FRAMES_MAX 48

/* A report. Valid during the call; pointers are literals or the report's own. */
struct weir_stall {
    const char *loop; /* the name given to weir_watchdog_watch() */
    enum weir_stall_place place;
    enum weir_stall_cause cause;
    uint64_t lasted_ns;    /* so far, as seen */
    uint64_t threshold_ns; /* that it was longer than */
    uint32_t nth; /* 1 when it was longer than the threshold, 2 at twice that, and so on, also if
                   * those before were left out */
    /* The callback's op, or the slow one. NULL, and -1, for WEIR_STALL_TURN. */
    const char *task;
    const char *kind;
    const char *site; /* where it was submitted; NULL: that is not kept, of a timer */
    int32_t fd;
    /* The function that is running, and where it is: "module+0x1234", which addr2line(1) takes
     * (`addr2line -f -e module 0x1234`, also if the module is not position-independent). NULL for
     * WEIR_STALL_TURN and WEIR_STALL_OP. */
    void *callback;
    const char *callback_symbol;
    /* The loop thread's stack, the innermost frame first: where it was, then return addresses;
     * backtrace_symbols_fd(3) prints them. 0: it could not be had: the signal is blocked, it was
     * not answered in 100 ms, or the loop had gone on when it came. Of an op: what submitted it, if
     * that was kept. */
    uint32_t frame_count;
    void *frames[WEIR_STALL_FRAMES_MAX];
};

/*
 * In the watchdog's thread, which blocks all signals; it may take its time, nothing is looked at
 * meanwhile. It may call what any thread may, of a loop that stands still too:
 * weir_watchdog_read_counters(), weir_loop_inspect(), weir_loop_times(), weir_snapshot_add(),
 * weir_loop_trace(), weir_loop_wake(). It must not close its watchdog (-EDEADLK).
 *
 * It may come for a loop that has just left, and a loop is not held open while it runs: neither
 * weir_watchdog_unwatch() nor the loop's close waits for it. So one that calls anything of a loop
 * needs that loop to stay open meanwhile. Either close loops last: unwatch all, close the watchdog,
 * which waits for the callback that runs, then close the loops. Or keep the loops that are open in
 * a table behind a mutex: the callback looks its loop up by the stall's name and makes its calls
 * with the mutex held, and a loop's thread takes its loop out of the table, with the mutex, before
 * it closes it. Nobody else should hold that mutex for long: while a loop stands still with it,
 * nothing is reported.
 */
typedef void weir_stall_callback(void *context, const struct weir_stall *stall);

/* Zeroed but for the callback: good defaults. */
struct weir_watchdog_options {
    weir_stall_callback *callback; /* required */
    void *context;
    uint64_t threshold_ns; /* 1 ms to 1 hour; 0: 100 ms; looks are a fourth of it apart, 1 ms at
                            * least */
    /* Slow ops, on loops that are WEIR_INSPECTABLE: longer in flight than this, at least, and than
     * slow_factor times the p99 of FLIGHT of their task; kinds that wait for others are left out.
     * Looked for every 100 ms; time in which the loop has not looked for what comes back is not
     * theirs. An op is reported once, and again each time it has lasted twice as long. ns; 0: not
     * looked for. */
    uint64_t slow_op_ns;
    uint32_t slow_factor; /* 0: 10 */
    /* For each loop, in the long run, as many at once at most; what is more is counted; 0: 60. */
    uint32_t reports_a_minute;
    int signal;                 /* 0: SIGURG */
    uint8_t report_descheduled; /* these too */
    uint8_t no_stacks;          /* no handler is installed, and no signal sent */
};

/*
 * Installs the handler and starts the thread. 0; -EINVAL: NULL, no callback, a threshold out of its
 * range, no such signal, or one that means a fault; -EBUSY: the signal has a handler; -EAGAIN: no
 * more threads; -ENOMEM. Any thread.
 */
WEIR_API int weir_watchdog_open(const struct weir_watchdog_options *options,
                                struct weir_watchdog **ret_watchdog);

/* Ends the thread and puts the signal back as it was, if the handler is still the watchdog's. 0
 * (for NULL too); -EBUSY: loops are watched: unwatch or close them first; -EDEADLK: in its own
 * thread; -ECHILD: after fork; only the signal is given back there, so that a child may open a
 * watchdog of its own. Any other thread. A few hundred bytes are leaked on purpose for each loop
 * whose thread has not answered to a signal. */
WEIR_API int weir_watchdog_close(struct weir_watchdog *watchdog);

/*
 * Watches a loop from now on. name: 1 to WEIR_TASK_NAME_MAX bytes, copied. Loop's thread, also in
 * a callback, then from the next turn on. Any number of loops; a loop has one watchdog at most, and
 * leaves it when it is closed or abandoned. May wait while a stack is taken, of another loop's
 * thread. 0; -EINVAL: NULL, no name; -ENAMETOOLONG; -EBUSY: it is watched already; -ENOMEM;
 * -EOPNOTSUPP: a loop in a simulated world; -EPERM; -ECHILD.
 */
WEIR_API int weir_watchdog_watch(struct weir_watchdog *watchdog, struct weir_loop *loop,
                                 const char *name);
/* Ends it. Loop's thread. 0; -ENOENT: not watched by this one; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_watchdog_unwatch(struct weir_watchdog *watchdog, struct weir_loop *loop);

/* Of all its loops, since open. */
struct weir_watchdog_counters {
    uint64_t stalls[WEIR_STALL_CAUSE_COUNT]; /* each once for a cause, however long */
    uint64_t slow_ops;
    uint64_t reports;                            /* callbacks made */
    uint64_t left_out;                           /* not made for reports_a_minute */
    uint64_t longest_ns[WEIR_STALL_CAUSE_COUNT]; /* as seen */
};

/* Any thread, the watchdog's too. 0; -EINVAL: NULL; -ECHILD. */
WEIR_API int weir_watchdog_read_counters(const struct weir_watchdog *watchdog,
                                         struct weir_watchdog_counters *ret_counters);

/*
 * How long turns (without their sleep) and callbacks took, ns, while the loop was watched; either
 * may be NULL. Any thread. 0; -EINVAL: NULL loop; -EOPNOTSUPP: another thread, of a loop in a
 * simulated world; -ECHILD.
 */
WEIR_API int weir_loop_times(const struct weir_loop *loop, struct weir_histogram *ret_turns,
                             struct weir_histogram *ret_callbacks);

#ifdef __cplusplus
}
#endif
#endif
