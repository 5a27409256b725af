/* SPDX-License-Identifier: MIT */
/*
 * uring.c: the proactor: staging, one enter a turn, reaping.
 *
 * Invariants. Each credit has at most one unpublished SQE: its op's, or, once that is with the
 * kernel, its cancel's; so `depth` of them fit the SQ, and twice that and the wake poll's the CQ,
 * which therefore never overflows. The SQ is no larger than that: its entries are walked round and
 * round, and twice as many are twice the cache. An op's event is given after all completions it
 * expects: its own, and if it was asked back (then held.carrier counts them) its cancel's.
 *
 * The enter is our own, and the CQ is read rather than return codes: an enter may answer anything
 * between the system call and a signal, but what is in the CQ has happened.
 */
#include <engine/backend/uring.h>
#include <engine/op/perform.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REFUSED_FREE 2          /* enters refused in a row before backing off */
#define BACKOFF_MAX_NS 1000000L /* 1 ms */
#define WITHDRAWN 0             /* held.carrier.expected of an op that a NOP went out for */

static unsigned unpublished(const struct weir_uring *uring)
{
    /* Without SQPOLL the kernel moves khead only inside our own enter. */
    return uring->ring.sq.sqe_tail - *uring->ring.sq.khead;
}

static struct io_uring_sqe *next_sqe(struct weir_uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    WEIR_AUDIT(unpublished(uring) < sq->ring_entries); /* the gate sees to it */
    return &sq->sqes[sq->sqe_tail++ & sq->ring_mask];
}

void weir_uring_replace_enter(struct weir_backend *backend, weir_enter_call *call, void *context)
{
    weir_uring_of(backend)->enter = call;
    weir_uring_of(backend)->enter_context = context;
}

/* --- staging and cancelling ------------------------------------------------------------------- */

/* A kind the kernel has no opcode for. */
static __attribute__((noinline)) enum weir_staged stage_without(struct weir_op *op)
{
    if (!weir_op_is_quick(op)) {
        return WEIR_NOT_HERE;
    }
    op->result = weir_op_perform(op, WEIR_HOW_TRY, 0);
    return WEIR_FINISHED;
}

static enum weir_staged stage(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_uring *uring = weir_uring_of(backend);
    bool is_nop = op->kind == WEIR_KIND_NOP; /* which a zeroed entry is */
    if (weir_unlikely(!is_nop && !weir_uring_carries(uring, op))) {
        return stage_without(op);
    }
    op->held.carrier.position = uring->ring.sq.sqe_tail;
    struct io_uring_sqe *sqe = next_sqe(uring);
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = weir_uring_tag(op);
    if (!is_nop) {
        weir_uring_prepare(uring, op, sqe);
    }
    return WEIR_TAKEN;
}

/* A NOP that keeps the tag: it comes back through the ring like any op, so places in the SQ stay
 * counted by credits even while enters are refused. */
static void overwrite(struct weir_uring *uring, struct weir_op *op)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    struct io_uring_sqe *sqe = &sq->sqes[op->held.carrier.position & sq->ring_mask];
    uint64_t tag = sqe->user_data;
    io_uring_prep_nop(sqe);
    sqe->user_data = tag;
    op->held.carrier.expected = WITHDRAWN;
}

/* The tag as well as the place: an op may be in flight while the position wraps. */
static bool is_unpublished(const struct weir_uring *uring, const struct weir_op *op)
{
    const struct io_uring_sq *sq = &uring->ring.sq;
    unsigned age = sq->sqe_tail - op->held.carrier.position;
    uint64_t tag = weir_uring_tag(op);
    return age <= unpublished(uring) &&
           sq->sqes[op->held.carrier.position & sq->ring_mask].user_data == tag;
}

static enum weir_cancelled cancel(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_uring *uring = weir_uring_of(backend);
    bool never_left = is_unpublished(uring, op);
    if (uring->failed) {
        return never_left ? WEIR_CANCEL_WITHDRAWN : WEIR_CANCEL_LOST;
    }
    if (never_left) {
        overwrite(uring, op);
        return WEIR_CANCEL_ASKED;
    }
    struct io_uring_sqe *sqe = next_sqe(uring);
    uint64_t tag = weir_uring_tag(op);
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = tag;
    sqe->user_data = tag | WEIR_URING_CANCEL;
    op->held.carrier.expected = 2;
    backend->counters->cancels++;
    return WEIR_CANCEL_ASKED;
}

/* --- entering --------------------------------------------------------------------------------- */

static inline int call_enter(struct weir_uring *uring, unsigned to_submit, unsigned wait_nr,
                             unsigned flags, struct io_uring_getevents_arg *arg)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    /* Release: pairs with the kernel's acquire of the tail; the entries are written before it. */
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    uring->base.counters->enters++;
    if (weir_unlikely(uring->enter != NULL)) {
        return uring->enter(uring->enter_context, &uring->ring, to_submit, wait_nr, flags);
    }
    return io_uring_enter2((unsigned)uring->ring.enter_ring_fd, to_submit, wait_nr, flags,
                           (sigset_t *)(void *)arg, arg ? sizeof *arg : _NSIG / 8);
}

/* An enter the kernel had no memory for: what it has finished is reaped first, then longer and
 * longer pauses keep the loop from spinning on it. */
static void back_off(struct weir_uring *uring)
{
    uint64_t enters = uring->base.counters->enters;
    uring->refused_enters = uring->refused_last + 1 == enters ? uring->refused_enters + 1 : 1;
    uring->refused_last = enters;
    if (uring->refused_enters <= REFUSED_FREE || io_uring_cq_ready(&uring->ring) > 0) {
        return;
    }
    unsigned doublings = uring->refused_enters - REFUSED_FREE;
    long pause_ns = doublings < 10 ? 1000L << doublings : BACKOFF_MAX_NS;
    nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
}

/* The fd that others wait for says that there is something to do until a turn has looked. */
static void reset_ready(struct weir_uring *uring)
{
    uint64_t signals;
    ssize_t got = read(uring->ready_fd, &signals, sizeof signals);
    (void)got;
}

/* Fails only at 2^64 - 2 unread signals, when it is readable anyway. */
static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

/* Any thread. Relaxed: the fd is made before its owner can tell anybody of it. */
static void set_ready(struct weir_uring *uring)
{
    int fd = __atomic_load_n(&uring->ready_fd, __ATOMIC_RELAXED);
    if (fd >= 0) {
        signal_fd(fd);
    }
}

/* Takes the wake's poll back if the enter did not take it, so that the SQ is the ops' again. The
 * kernel did not sleep then: an enter that takes less than it is offered returns at once. */
static void disarm_unsent_wake(struct weir_uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    const struct io_uring_sqe *last = &sq->sqes[(sq->sqe_tail - 1) & sq->ring_mask];
    if (unpublished(uring) > 0 && last->user_data == WEIR_URING_WAKE) {
        sq->sqe_tail--;
        uring->wake_armed = false;
    }
}

/* An enter that did not simply take all. */
static __attribute__((noinline)) int judge_enter(struct weir_uring *uring, int r)
{
    struct weir_counters *counters = uring->base.counters;
    disarm_unsent_wake(uring);
    if (r >= 0) {
        counters->enter_short++;
        return 0;
    }
    if (r == -ETIME) {
        return 0;
    }
    set_ready(uring); /* whatever this enter was to bring is still to come */
    switch (-r) {
    case EINTR:
        counters->enter_eintr++;
        return 0;
    case EBUSY:
        counters->enter_ebusy++;
        back_off(uring);
        return 0;
    case EAGAIN:
    case ENOMEM:
        counters->enter_eagain++;
        back_off(uring);
        return 0;
    default: /* EBADR: completions are lost; EPERM: a late filter; others: the ring is not what we
              * made */
        uring->failed = true;
        uring->error = r;
        return r;
    }
}

static __attribute__((noinline)) int enter_timed(struct weir_uring *uring, uint64_t until_ns)
{
    unsigned to_submit = unpublished(uring);
    uint64_t now_ns = weir_clock_exact(&uring->clock);
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct __kernel_timespec timeout = {
        .tv_sec = (int64_t)(left_ns / 1000000000u),
        .tv_nsec = (long long)(left_ns % 1000000000u),
    };
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
    int r = left_ns > 0
                ? call_enter(uring, to_submit, 1,
                             uring->enter_flags | uring->enter_wait | IORING_ENTER_EXT_ARG, &arg)
                : call_enter(uring, to_submit, 0, uring->enter_flags, NULL);
    return r == (int)to_submit ? 0 : judge_enter(uring, r);
}

static inline int enter(struct weir_uring *uring, unsigned to_submit, unsigned wait_nr,
                        uint64_t until_ns)
{
    unsigned flags = uring->enter_flags;
    if (wait_nr > 0) {
        if (weir_unlikely(until_ns != WEIR_SLEEP_FOREVER)) {
            return enter_timed(uring, until_ns);
        }
        flags |= uring->enter_wait;
    }
    int r = call_enter(uring, to_submit, wait_nr, flags, NULL);
    return weir_likely(r == (int)to_submit) ? 0 : judge_enter(uring, r);
}

int weir_uring_enter(struct weir_uring *uring, unsigned wait_nr, uint64_t until_ns)
{
    return enter(uring, unpublished(uring), wait_nr, until_ns);
}

/* --- reaping ---------------------------------------------------------------------------------- */

static void drain_wake(struct weir_uring *uring)
{
    uint64_t rings;
    uring->wake_armed = false;
    if (read(uring->wake_fd, &rings, sizeof rings) > 0) {
        uring->base.counters->wakes++;
    }
}

/* A completion that is not simply an op's only one. True: *event is filled. */
static __attribute__((noinline)) bool
reap_odd(struct weir_uring *uring, const struct io_uring_cqe *cqe, struct weir_event *event)
{
    struct weir_op *op = weir_slots_find(uring->base.slots, cqe->user_data & ~WEIR_URING_CANCEL);
    if (!op) {
        if (cqe->user_data == WEIR_URING_WAKE) {
            drain_wake(uring);
        } else if (cqe->user_data == WEIR_URING_MESSAGE) {
            uring->base.counters->wakes++;
        } else {
            uring->base.counters->stale++;
        }
        return false;
    }
    if (!op->asked) {
        *event = (struct weir_event){.op = op, .result = cqe->res};
        return true;
    }
    if (op->held.carrier.expected == WITHDRAWN) {
        *event = (struct weir_event){.op = op, .result = -ECANCELED};
        return true;
    }
    if (!(cqe->user_data & WEIR_URING_CANCEL)) {
        op->held.carrier.result = cqe->res;
    }
    if (--op->held.carrier.expected > 0) {
        return false;
    }
    *event = (struct weir_event){.op = op, .result = op->held.carrier.result};
    return true;
}

static inline int reap(struct weir_uring *uring, struct weir_event *events, uint32_t max)
{
    /* Copies: the compiler cannot know that what is written below leaves them alone. */
    const struct io_uring_cq cq = uring->ring.cq;
    const struct weir_slots slots = *uring->base.slots;
    struct weir_event *event = events;
    unsigned head = *cq.khead;
    /* Acquire: pairs with the kernel's release. Read once: what completes meanwhile is the next
     * turn's. */
    unsigned ready = io_uring_smp_load_acquire(cq.ktail) - head;
    unsigned end = head + (ready < max ? ready : max);

    uring->base.unsettled = false;
    for (; head != end; head++) {
        const struct io_uring_cqe *cqe = &cq.cqes[head & cq.ring_mask];
        struct weir_op *op = weir_slots_find(&slots, cqe->user_data); /* NULL for a cancel's */
        if (weir_likely(op && weir_op_finish_plain(op, cqe->res))) {
            weir_op_expect(op);
            (event++)->op = op;
        } else if (reap_odd(uring, cqe, event)) {
            uring->base.unsettled = true;
            event++;
        }
    }
    io_uring_smp_store_release(cq.khead, head);
    return (int)(event - events);
}

/* Stages the poll of the wake fd. The SQ has places for the ops only, so what fills it goes first.
 * False: there is no place yet, and without a wake the turn may not sleep. */
static __attribute__((noinline)) bool arm_wake(struct weir_uring *uring)
{
    if (unpublished(uring) == uring->ring.sq.ring_entries) {
        weir_uring_enter(uring, 0, WEIR_NO_SLEEP);
    }
    if (unpublished(uring) == uring->ring.sq.ring_entries) {
        return false;
    }
    struct io_uring_sqe *sqe = next_sqe(uring);
    io_uring_prep_poll_add(sqe, uring->wake_fd, POLLIN);
    sqe->user_data = WEIR_URING_WAKE;
    uring->wake_armed = true;
    return true;
}

/* Whether an enter would bring completions that the tail does not show. */
static bool kernel_holds(const struct weir_uring *uring)
{
    unsigned flags = *(volatile unsigned *)uring->ring.sq.kflags;
    if (weir_unlikely(flags & IORING_SQ_CQ_OVERFLOW)) {
        uring->base.counters->cq_overflow++;
    }
    return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

static bool has_events(const struct weir_backend *backend)
{
    const struct weir_uring *uring = (const struct weir_uring *)backend;
    unsigned flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED);
    return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN) ||
           io_uring_cq_ready(&uring->ring) > 0 || unpublished(uring) > 0;
}

/* The kernel runs a limited number of deferred completions an enter (20, from 6.13 on) and does not
 * signal again for the rest. */
static void leave_ready(struct weir_uring *uring)
{
    if (kernel_holds(uring) || io_uring_cq_ready(&uring->ring) > 0) {
        set_ready(uring);
    }
}

static int turn(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                uint32_t max)
{
    struct weir_uring *uring = weir_uring_of(backend);
    if (weir_unlikely(!uring->wake_armed) && !arm_wake(uring)) {
        until_ns = WEIR_NO_SLEEP; /* which nobody could end */
    }
    if (weir_unlikely(uring->ready_fd >= 0) && max > 0) {
        reset_ready(uring); /* before the look at tail and flags: what comes later signals again */
    }
    bool holds = kernel_holds(uring);
    unsigned to_submit = unpublished(uring);
    unsigned wait_nr = until_ns != WEIR_NO_SLEEP && io_uring_cq_ready(&uring->ring) == 0;
    if (wait_nr > 0 || holds || to_submit > 0) {
        int r = enter(uring, to_submit, wait_nr, until_ns);
        if (weir_unlikely(r < 0)) {
            return r;
        }
    }
    if (weir_unlikely(uring->ready_fd >= 0) && max == 0) {
        leave_ready(uring);
    }
    /* Before the reaping, which goes on while the counter is read. */
    backend->stamp_ns = weir_clock_stamp(&uring->clock);
    return reap(uring, events, max);
}

/* The ring holds files, not numbers. */
static void forget(struct weir_backend *backend, int fd)
{
    (void)backend;
    (void)fd;
}

static int64_t attempt(struct weir_backend *backend, const struct weir_op *op)
{
    return weir_op_perform(op, WEIR_HOW_TRY, backend->write_flags);
}

static void discard(struct weir_backend *backend, int fd)
{
    (void)backend;
    close(fd);
}

bool weir_uring_message(const struct weir_uring *uring)
{
    /* Without a ring of the sender's: the first argument says so. */
    const struct io_uring_sqe sqe = {
        .opcode = IORING_OP_MSG_RING,
        .fd = uring->ring.ring_fd,
        .off = WEIR_URING_MESSAGE, /* the completion's user_data */
    };
    return io_uring_register(-1u, WEIR_REGISTER_SEND_MSG_RING, &sqe, 1) == 0;
}

/* A message is quicker than the eventfd (it needs no read, and no new poll), but may fail. */
static void wake(struct weir_backend *backend)
{
    struct weir_uring *uring = weir_uring_of(backend);
    if (!uring->wakes_by_message || !weir_uring_message(uring)) {
        signal_fd(uring->wake_fd);
    }
    /* The kernel puts off signalling an eventfd from within the wake-up of another, so we do it. */
    set_ready(uring);
}

static uint64_t now(struct weir_backend *backend, enum weir_now which)
{
    if (weir_likely(which == WEIR_NOW_STAMP)) {
        return weir_clock_stamp(&weir_uring_of(backend)->clock);
    }
    return weir_clock_monotonic();
}

const struct weir_backend_table weir_uring_table = {
    .name = "io_uring",
    .open = weir_uring_open,
    .adopt = weir_uring_adopt,
    .close = weir_uring_close,
    .stage = stage,
    .attempt = attempt,
    .cancel = cancel,
    .turn = turn,
    .has_events = has_events,
    .wake = wake,
    .forget = forget,
    .now = now,
    .discard = discard,
    .fd = weir_uring_fd,
};
