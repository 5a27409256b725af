/* SPDX-License-Identifier: MIT */
/*
 * weir/observe.h: what a loop is at: its live ops, an observer that is told of each op, and the
 * flight recorder. Histograms and counters are in weir/task.h, all of them together, and the
 * formats that others read, in weir/snapshot.h; stalls in weir/watchdog.h.
 */
#ifndef WEIR_OBSERVE_H
#define WEIR_OBSERVE_H

#include <weir/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Lists the live ops, oldest first, at most `max` of them. In the loop's thread those behind a gate
 * and those posted; timers, calls that submit ran itself, and posts that the loop has not looked at
 * yet are only counted (weir_loop_live()). In any other thread those behind a gate, as of now, also
 * while the loop is stuck in a callback or a system call; what is on its way between two states is
 * listed in one of them. Loop and tasks must stay open during the call.
 * The number of live ops found, which may be more than max (then the oldest are listed); -EINVAL:
 * NULL with max > 0; -EPERM: another thread, and the loop was not opened WEIR_INSPECTABLE; or it
 * was abandoned;
 * -EOPNOTSUPP: another thread, of a loop in a simulated world; -ECHILD.
 */
WEIR_API int64_t weir_loop_inspect(const struct weir_loop *loop, struct weir_live *ret_ops,
                                   size_t max);

/*
 * Told of every op of a loop (weir_options.observer), always in the loop's thread: a service's own
 * instrumentation, without wrapping calls. Entries may be NULL. An entry may look at the op, and
 * must not submit, cancel, post, turn or close, nor keep the op. at_ns are stamps, see
 * weir/task.h. In this order, for every op that is accepted:
 */
struct weir_observer {
    /* Accepted. Of a posted op: when it got a place at its gate or among the timers, or was asked
     * back before it had one. */
    void (*submitted)(void *context, const struct weir_op *op, uint64_t at_ns);
    /* The gate let it through. Not of timers, nor of those who never leave. */
    void (*left)(void *context, const struct weir_op *op, uint64_t at_ns);
    /* It is back; op->result is not valid yet. */
    void (*done)(void *context, const struct weir_op *op, int64_t result, uint64_t at_ns);
    /* The last thing before its callback; op->result is valid. */
    void (*handed_back)(void *context, const struct weir_op *op, uint64_t at_ns);
    /* Submit answered `error`, -EAGAIN: full. The op is the caller's, and untouched. Not of posts,
     * nor of what was refused for what it is. May be called outside a turn, as submitted may. */
    void (*refused)(void *context, const struct weir_op *op, int error);
    void *context;
};

/* Writes `size` bytes somewhere. 0, or a negative errno that ends the writing and is answered. */
typedef int weir_writer(void *context, const char *text, size_t size);

/*
 * The flight recorder: the last things that befell ops of the loop (submitted, left, done, handed
 * back, refused), 32 bytes each, newest over oldest. weir_options.recorder_events is rounded up to
 * a power of two, 1024 at least; all but one of them can be read.
 *
 * Dumps it as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing open: an async slice an
 * op (begin "b", end "e") in a row for its task, with kind, fd and result; inside it the stages;
 * refusals as instants; and counters of ops live and in flight (left and not done; no timers).
 * Times count from otherData.begin_ns (CLOCK_MONOTONIC), that of the oldest event. An op whose
 * beginning was overwritten begins there, marked "begun": "earlier"; one that is live ends at the
 * dump, marked "live"; one that was cleared and submitted anew while live is marked "lost". Tasks
 * are named as they are now. Any thread, also while the loop is stuck; events that are overwritten
 * meanwhile are left out, and if they are most of them it reads anew, three times at most.
 * Allocates (malloc) meanwhile, about 70 bytes an event.
 * 0; -EINVAL: NULL; -ENODATA: opened without recorder_events; -ENOMEM; -ECHILD; what the writer
 * answered.
 */
WEIR_API int weir_loop_trace(const struct weir_loop *loop, weir_writer *writer, void *context);

#ifdef __cplusplus
}
#endif
#endif
