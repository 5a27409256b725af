/* SPDX-License-Identifier: MIT */
/*
 * weir/task.h: a task is a named kind of work ("wal append") that ops belong to, and owns their
 * latency histograms. An op without a task falls into the built-in task of its kind ("read"), so
 * the numbers exist without asking.
 *
 * Stages. With the stamps `intended` (op->intended_ns, else `born`: when submit accepted it),
 * `left` (the gate let it through), `done` (the turn that reaped it looked at the clock) and
 * `called` (just before the callback):
 *
 *   WEIR_STAGE_WAIT      intended -> left    backpressure: time spent behind the gate
 *   WEIR_STAGE_FLIGHT    left -> done        kernel, device or worker
 *   WEIR_STAGE_DELIVERY  done -> called      time behind other callbacks of the same turn
 *   WEIR_STAGE_TOTAL     intended -> called  what the user of the service feels
 *
 * and, of ops that a worker of the offload ring (or a simulated one) has carried out, the two parts
 * of their FLIGHT that the loop does not see, with its own stamps, CLOCK_MONOTONIC, `begun` and
 * `ended` by the worker:
 *
 *   WEIR_STAGE_QUEUE     left -> begun       time behind other calls
 *   WEIR_STAGE_RUN       begun -> ended      the function, or the blocking system call; of a CALL
 *                                            that was next, also what its worker did since the one
 *                                            before
 *
 * FLIGHT - QUEUE - RUN is the way back to the loop.
 *
 * A timer has no WAIT; its FLIGHT is its lateness (due -> done), its TOTAL is due -> called. Ops
 * that were cancelled are counted, not sampled; ops that missed their deadline after they had left
 * are both.
 *
 * Bias. Clock readings are shared: one after the kernel was entered and one after every 16
 * callbacks; `left` reuses the latest, and so does `born` for ops submitted in callbacks, and after
 * the first one submitted between two turns. So FLIGHT contains the tail of the turn that let the
 * op leave (up to 16 callbacks), and DELIVERY is exact to 16 callbacks. WAIT of an op submitted in
 * a callback runs until the turn's last reading, gate or no gate: there it is the time that the
 * callbacks after it took, which is why it often equals another op's DELIVERY. Samples that would
 * be negative count as 0 and in weir_counters.clock_clamped.
 */
#ifndef WEIR_TASK_H
#define WEIR_TASK_H

#include <weir/histogram.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_TASK_NAME_MAX 47 /* bytes, without the NUL */

enum weir_stage {
    WEIR_STAGE_WAIT,
    WEIR_STAGE_FLIGHT,
    WEIR_STAGE_DELIVERY,
    WEIR_STAGE_TOTAL,
    WEIR_STAGE_QUEUE,
    WEIR_STAGE_RUN,
    WEIR_STAGE_COUNT
};

#define WEIR_SHARE_MAX 1024

/*
 * Zeroed but for the name: a task that is only measured. A task's part of a gate:
 *
 * share. When ops wait, their tasks are served in proportion to their shares, counting one for an
 * op and one more for each 64 KiB that it moves; within a task first in, first out. What a task
 * does not use is lent to the others, and who was idle is owed nothing. Ops without a task wait
 * together, as one task of share 1.
 * depth, bytes_max: caps. An op past them waits, while others pass it; those of its own task stand
 * behind it, also a RECV that the peer of a SEND waits for: give these a task each.
 * reserve: that many of its ops are always accepted, and never wait for others: their places and
 * credits are taken from the loop's, and lent to nobody. They pass every byte budget and every
 * depth that a latency goal has lowered, and leave with the next turn.
 */
struct weir_task_options {
    const char *name; /* required, 1 to WEIR_TASK_NAME_MAX bytes; copied; need not be unique */
    /* At both gates: 1 to WEIR_SHARE_MAX; 0: 1. */
    uint32_t share;
    /* Of the main gate: ops in flight at most, 0: no cap; ops reserved, 0: none. */
    uint32_t depth;
    uint32_t reserve;
    /* The same of the offload gate: CALLs and ops routed to OFFLOAD. */
    uint32_t offload_depth;
    uint32_t offload_reserve;
    /* Bytes in flight at most, at each gate; 0: no cap; one larger op passes alone. See
     * weir_options.bytes_max for what counts. */
    uint64_t bytes_max;
    /* Latency goal, ns: p99 of FLIGHT of the task's ops; 0: none. See weir_options.goal_ns. */
    uint64_t goal_ns;
    /* Keeps the stack that submitted every so manieth op of the task; 0: of none. Needs
     * WEIR_INSPECTABLE, -EINVAL without; see weir/observe.h. */
    uint32_t backtrace_every;
};

struct weir_task_counters {
    uint64_t submitted; /* accepted by submit */
    uint64_t refused;   /* answered -EAGAIN by submit: full */
    uint64_t waited;    /* of those submitted: found no credit, or stood behind one that had not */
    uint64_t shed;      /* their deadline passed before they could leave; also in `expired` */
    uint64_t finished;  /* handed back, whatever the result */
    uint64_t failed;    /* of these: with an error of their own */
    uint64_t cancelled; /* of these: with -ECANCELED */
    uint64_t expired;   /* of these: with -ETIME, past their deadline */
    uint64_t bytes;     /* moved by finished transfers: READ, WRITE and their vectors, RECV, SEND,
                         * their messages, SPLICE; of a WHOLE op that failed, what moved before */
    uint64_t continued; /* short transfers of WHOLE ops that were staged again */
    uint64_t live;      /* accepted and not handed back: submitted - finished since open, not since
                    * reset */
};

/*
 * Opens a task on `loop`. Its memory was taken when the loop was opened (weir_options.memory_max);
 * a task belongs to one loop. Loop's thread.
 * 0; -EINVAL: NULL, no name, a share above WEIR_SHARE_MAX, a reserve above the cap, or so large
 * that it leaves others no credit; an offload_depth or offload_reserve on a loop without workers;
 * -ENAMETOOLONG; -ENOSPC: memory_max holds no further task; -ESHUTDOWN:
 * closing; -EPERM: wrong thread; -ECHILD: after fork.
 */
WEIR_API int weir_task_open(struct weir_loop *loop, const struct weir_task_options *options,
                            struct weir_task **ret_task);

/*
 * Closes a task; the pointer is dead afterwards. Loop's thread. Closing the loop closes its tasks.
 * 0 (also for NULL); -EBUSY: ops of it are live, or
 * weir_wait_room() named it and still waits; -EINVAL: a built-in task; -EPERM; -ECHILD.
 */
WEIR_API int weir_task_close(struct weir_task *task);

/*
 * Copies the histogram of one stage, or the counters. Any thread, also while the loop is stuck in a
 * callback, as long as task and loop are open; a copy made while the loop records may miss the very
 * latest samples, but never mixes samples from before and after a reset.
 * 0; -EINVAL: NULL or no such stage; -ECHILD. (A task is NULL-safe here: -EINVAL.)
 */
WEIR_API int weir_task_read(const struct weir_task *task, enum weir_stage stage,
                            struct weir_histogram *ret_histogram);
WEIR_API int weir_task_read_counters(const struct weir_task *task,
                                     struct weir_task_counters *ret_counters);

#define WEIR_ERRORS_MAX 16 /* different errnos that a task tells apart */

/* Of the `failed` ops of a task, how many failed with what. */
struct weir_task_errors {
    uint32_t count; /* entries used */
    struct {
        int32_t error; /* negative errno */
        uint64_t times;
    } errors[WEIR_ERRORS_MAX]; /* in the order of their first times */
    uint64_t others;           /* with errnos that found no entry, and values of CALLs that are
                                * no errno */
};

/* Copies them. Any thread, as weir_task_read(). 0; -EINVAL: NULL; -ECHILD. */
WEIR_API int weir_task_read_errors(const struct weir_task *task,
                                   struct weir_task_errors *ret_errors);

/* Empties histograms, counters (all but `live`) and errors, and starts a new epoch. Loop's thread.
 * 0; -EINVAL: NULL; -EPERM; -ECHILD. */
WEIR_API int weir_task_reset(struct weir_task *task);

/* The task's name; valid while the task is open. Any thread. */
WEIR_API const char *weir_task_name(const struct weir_task *task);

/*
 * Walks the open tasks of a loop, built-in ones (those that ever had or refused an op) first: the
 * task after `task`, or the first for NULL; NULL at the end, and from a wrong thread. Loop's
 * thread.
 */
WEIR_API struct weir_task *weir_task_next(struct weir_loop *loop, struct weir_task *task);

/* "wait", "flight", "delivery", "total", "queue", "run"; NULL for no such stage. */
WEIR_API const char *weir_stage_name(enum weir_stage stage);

#ifdef __cplusplus
}
#endif
#endif
