/* SPDX-License-Identifier: MIT */
/*
 * worker.c: what a worker does: take, run, give back; watch, sleep, be woken.
 *
 * No wake-up is lost. A worker sets its idle bit, then looks at the lanes and at `ending` once
 * more, then sleeps; the loop publishes (or ends), then looks at the idle bits. All four are
 * seq_cst, so they have one order, and whoever is second sees the other: the worker finds the work,
 * or the loop finds the bit. Who clears the bit of another wakes it: at most one system call a
 * sleep, and none for a worker that runs or watches.
 */
#include "worker.h"

#include <engine/base/clock.h>
#include <engine/base/rest.h>
#include <engine/op/perform.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- taking ----------------------------------------------------------------------------------- */

/* Of two or more workers one is kept free for short work. */
static bool takes_long(const struct weir_worker *worker)
{
    return worker->index > 0 || worker->offload->options.workers == 1;
}

static struct weir_op *take_long(struct weir_worker *worker)
{
    struct weir_op *op = weir_ring_take(&worker->offload->lanes[WEIR_LANE_LONG]);
    if (op) {
        worker->since_long = 0;
    }
    return op;
}

static struct weir_op *take_short(struct weir_worker *worker)
{
    struct weir_op *op = weir_ring_take(&worker->offload->lanes[WEIR_LANE_SHORT]);
    worker->since_long += op && worker->since_long < WEIR_LONG_EVERY;
    return op;
}

static struct weir_op *take(struct weir_worker *worker, enum weir_lane *ret_lane)
{
    struct weir_op *op = NULL;
    *ret_lane = WEIR_LANE_LONG;
    if (takes_long(worker) && worker->since_long + 1 >= WEIR_LONG_EVERY) {
        op = take_long(worker);
    }
    if (!op) {
        op = take_short(worker);
        *ret_lane = op ? WEIR_LANE_SHORT : WEIR_LANE_LONG;
    }
    return op || !takes_long(worker) ? op : take_long(worker);
}

/* Whether a worker has a reason to stay awake. Seq_cst. */
static bool has_reason(const void *context)
{
    const struct weir_worker *worker = context;
    const struct weir_offload *offload = worker->offload;
    return weir_ring_may_have(&offload->lanes[WEIR_LANE_SHORT]) ||
           (takes_long(worker) && weir_ring_may_have(&offload->lanes[WEIR_LANE_LONG])) ||
           __atomic_load_n(&offload->ending, __ATOMIC_SEQ_CST);
}

/* --- running ---------------------------------------------------------------------------------- */

/* I/O; or a backend's only way for an op. */
static int64_t perform(const struct weir_op *op, uint32_t write_flags)
{
    /* Relaxed: a hint, as in weir_op_asked(). */
    uint8_t asked = __atomic_load_n(&op->asked_back, __ATOMIC_RELAXED);
    if (asked != WEIR_ASKED_NONE) {
        return asked == WEIR_ASKED_DEADLINE ? -ETIME : -ECANCELED;
    }
    if (op->deadline_ns != 0 && weir_clock_monotonic() >= op->deadline_ns) {
        return -ETIME;
    }
    return weir_op_perform(op, WEIR_HOW_BLOCK, write_flags);
}

/* Not held.link.next: that lies over held.carrier.position, which weir_offload_withdraw() may read
 * at any time. */
static struct weir_op **older_than(struct weir_op *op, bool is_call)
{
    return is_call ? &op->arg.call.older : &op->held.link.prev;
}

/* True: the loop had to be woken. */
static bool finish(struct weir_offload *offload, struct weir_op *op, bool is_call)
{
    struct weir_op *older = __atomic_load_n(&offload->finished, __ATOMIC_RELAXED);
    do {
        *older_than(op, is_call) = older;
        /* Seq_cst: stands before the look at the loop's bell, as weir_offload_has_finished() after
         * the loop's write to it. It is a release too, of the result, for weir_offload_take(). */
    } while (!__atomic_compare_exchange_n(&offload->finished, &older, op, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    /* The op is the loop's: its memory may be gone. */
    return offload->options.finished(offload->options.context);
}

/*
 * A CALL of the long lane is handled in its last cache line alone, whose other two the loop is
 * about to write again: brought over from another core, and back, they would cost more than the
 * rest. Its deadline stands there (weir_offload_push()), and what the loop wants to know of it
 * (weir_offload_take()).
 */
static void call(struct weir_worker *worker, struct weir_op *op)
{
    uint64_t deadline_ns = op->mode_or_offset2;
    uint64_t begun_ns =
        worker->ended_ns != 0 && deadline_ns == 0 ? worker->ended_ns : weir_clock_monotonic();
    if (deadline_ns != 0 && begun_ns >= deadline_ns) {
        op->arg.call.result = -ETIME;
        op->mode_or_offset2 = 0;
    } else {
        op->arg.call.result = op->arg.call.function(op->arg.call.argument);
        op->mode_or_offset2 = begun_ns;
    }
    worker->ended_ns = weir_clock_monotonic();
    op->moved = worker->ended_ns;
    if (finish(worker->offload, op, true)) {
        worker->ended_ns = 0; /* that took its time */
    }
}

static void work(struct weir_worker *worker, struct weir_op *op)
{
    struct weir_offload *offload = worker->offload;
    uint64_t begun_ns = weir_clock_monotonic();
    op->result = perform(op, offload->options.write_flags);
    if (offload->options.slots) {
        weir_slots_note_work(offload->options.slots, op->slot, begun_ns, weir_clock_monotonic());
    }
    finish(offload, op, false);
    worker->ended_ns = 0;
}

/* --- sleeping --------------------------------------------------------------------------------- */

static void wake(struct weir_worker *worker)
{
    /* Release: pairs with the acquire in sleep_until_woken(), for order only. */
    __atomic_store_n(&worker->asleep, 0, __ATOMIC_RELEASE);
    syscall(SYS_futex, &worker->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void weir_workers_wake(struct weir_offload *offload, uint64_t count, enum weir_lane lane)
{
    uint32_t words = weir_idle_words(offload->options.workers);
    /* The lowest first: the same few workers stay warm, and short work has worker 0. */
    uint32_t first = lane == WEIR_LANE_LONG && offload->options.workers > 1;
    uint64_t eligible = ~(uint64_t)first;
    for (uint32_t word = 0; word < words && count > 0; word++, eligible = UINT64_MAX) {
        /* Seq_cst: after the caller's write, see the top of this file. */
        uint64_t bits = __atomic_load_n(&offload->idle[word], __ATOMIC_SEQ_CST) & eligible;
        for (; bits != 0 && count > 0; bits &= bits - 1) {
            uint64_t bit = bits & -bits;
            /* Acquire: the worker's `asleep = 1` comes before the 0 of wake(). */
            if (__atomic_fetch_and(&offload->idle[word], ~bit, __ATOMIC_ACQUIRE) & bit) {
                wake(&offload->workers[word * 64 + (uint32_t)__builtin_ctzll(bit)]);
                count--;
            }
        }
    }
}

/* True: there is something to do. */
static bool watch(struct weir_worker *worker)
{
    uint64_t spin_ns = worker->offload->options.spin_ns;
    bool looks = !worker->offload->on_one_cpu && weir_look_now(&worker->look);
    if (spin_ns == 0 && !looks) {
        return false;
    }
    uint64_t watch_ns = spin_ns != 0 ? spin_ns : WEIR_LOOK_NS;
    bool paid = weir_watch(has_reason, worker, weir_clock_monotonic() + watch_ns);
    weir_look_learn(&worker->look, paid);
    return paid;
}

static void sleep_until_woken(struct weir_worker *worker)
{
    struct weir_offload *offload = worker->offload;
    if (!takes_long(worker) && weir_ring_may_have(&offload->lanes[WEIR_LANE_LONG])) {
        /* Woken for short work that another took who was woken for long work: what that one left is
         * not for this one, and its waker thinks all is seen to. */
        weir_workers_wake(offload, 1, WEIR_LANE_LONG);
    }
    while (__atomic_load_n(&worker->asleep, __ATOMIC_ACQUIRE)) {
        syscall(SYS_futex, &worker->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void rest(struct weir_worker *worker)
{
    uint64_t *idle = &worker->offload->idle[worker->index / 64];
    uint64_t bit = 1ULL << worker->index % 64;
    __atomic_store_n(&worker->asleep, 1, __ATOMIC_RELAXED); /* released by the bit */
    /* Seq_cst: before the looks of has_reason(), see the top of this file. */
    __atomic_fetch_or(idle, bit, __ATOMIC_SEQ_CST);
    if (!has_reason(worker)) {
        sleep_until_woken(worker);
    }
    /* Still set: work came before the sleep, or the wake was meant for an earlier sleep that ended
     * the same way. Relaxed: if it is cleared by another now, that one's wake does no harm. */
    if (__atomic_load_n(idle, __ATOMIC_RELAXED) & bit) {
        __atomic_fetch_and(idle, ~bit, __ATOMIC_RELAXED);
    }
}

void *weir_worker_main(void *argument)
{
    struct weir_worker *worker = argument;
    struct weir_offload *offload = worker->offload;
    char name[24];
    snprintf(name, sizeof name, "weir-work-%u", worker->index);
    pthread_setname_np(pthread_self(), name);
    /* Acquire, for order only: what is queued when the loop gives up is not begun. */
    while (!__atomic_load_n(&offload->ending, __ATOMIC_ACQUIRE)) {
        enum weir_lane lane;
        struct weir_op *op = take(worker, &lane);
        if (!op) {
            worker->ended_ns = 0;
            if (!watch(worker)) {
                rest(worker);
            }
        } else if (lane == WEIR_LANE_LONG || op->kind == WEIR_KIND_CALL) {
            call(worker, op);
        } else {
            work(worker, op);
        }
    }
    return NULL;
}
