/* SPDX-License-Identifier: MIT */
/*
 * epoll.c: the reactor's turn: one sleep, then what stood on the fds that are ready is tried again.
 *
 * Invariants. Whoever waits on a side of a watch was not ready when the watch was last asked about,
 * or the watch is level-triggered: so no event is lost. Each op has at most one event a turn.
 */
#include <engine/backend/epoll.h>
#include <engine/op/perform.h>
#include <limits.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TRIES_A_SIDE 16     /* a turn, so that one busy fd does not starve the others */
#define NR_PWAIT2 441       /* epoll_pwait2(2) on every machine */
#define VERIFY_NS 10000000u /* at least between looks at what ops trust in */
#define VERIFY_MAX 64
#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

/* Fails only at 2^64 - 2 unread wakes, when it is readable anyway. */
static void signal_wake(const struct weir_epoll *epoll)
{
    uint64_t one = 1;
    ssize_t written = write(epoll->wake_fd, &one, sizeof one);
    (void)written;
}

/* --- events ----------------------------------------------------------------------------------- */

/* The turn's events, being filled. */
struct batch {
    struct weir_event *events;
    uint32_t count;
    uint32_t max;
};

static void give(struct weir_epoll *epoll, struct batch *batch, struct weir_op *op, int64_t result)
{
    batch->events[batch->count++] = (struct weir_event){.op = op, .result = result};
    if (weir_unlikely(!weir_op_finish_plain(op, result))) {
        epoll->base.unsettled = true;
    }
}

/* For who was ready and did not get a turn: a level-triggered watch is told of again by itself. */
static void tell_again(struct weir_epoll *epoll, struct weir_watch *watch)
{
    if (watch->armed & EPOLLET) {
        weir_watches_rearm(&epoll->watches, watch, watch->armed & ~(uint32_t)EPOLLET);
    }
}

/* Tries those who wait on a side, first come, first served. */
static void serve(struct weir_epoll *epoll, struct weir_watch *watch, enum weir_side side,
                  struct batch *batch)
{
    struct weir_queue *queue = &watch->sides[side];
    int tries = 0;
    for (; queue->head; tries++) {
        if (tries == TRIES_A_SIDE || batch->count == batch->max) {
            tell_again(epoll, watch);
            return;
        }
        struct weir_op *op = queue->head;
        int64_t result;
        enum weir_attempt attempt = weir_epoll_attempt(watch, op, epoll->base.write_flags, &result);
        if (attempt == WEIR_ATTEMPT_WAITS) {
            watch->flags |= 1u << side; /* dry */
            return;
        }
        weir_queue_pop(queue);
        if (weir_unlikely(attempt == WEIR_ATTEMPT_CANNOT)) { /* no longer: to be staged again */
            op->retry = WEIR_RETRY_POLL;
            give(epoll, batch, op, side == WEIR_SIDE_IN ? EPOLLIN : EPOLLOUT);
            tell_again(epoll, watch);
            return;
        }
        give(epoll, batch, op, result);
    }
    if (tries > 0) {
        weir_epoll_note(watch, side);
    }
}

/* Answers those who only want to know. */
static void serve_polls(struct weir_epoll *epoll, struct weir_watch *watch, uint32_t seen,
                        struct batch *batch)
{
    struct weir_queue *queue = &watch->sides[WEIR_SIDE_POLL];
    struct weir_op *next;
    for (struct weir_op *op = queue->head; op; op = next) {
        next = op->held.link.next;
        uint32_t wanted = seen & (weir_epoll_place(op).events | WEIR_WATCH_ALWAYS);
        if (wanted == 0) {
            continue;
        }
        if (batch->count == batch->max) {
            tell_again(epoll, watch);
            return;
        }
        weir_queue_remove(queue, op);
        give(epoll, batch, op, wanted);
    }
}

/* Events that nobody waits for any more are no longer asked for: some come all the time, as
 * EPOLLOUT does on AF_UNIX. */
static void disarm(struct weir_epoll *epoll, struct weir_watch *watch, uint32_t unwanted)
{
    const struct weir_op *op = watch->sides[WEIR_SIDE_POLL].head;
    for (; op; op = op->held.link.next) {
        unwanted &= ~weir_epoll_place(op).events;
    }
    if (watch->sides[WEIR_SIDE_OUT].head) {
        unwanted &= ~(uint32_t)EPOLLOUT;
    }
    if (unwanted & watch->armed) {
        weir_watches_rearm(&epoll->watches, watch, watch->armed & ~unwanted);
    }
}

/* An event that was for nobody, or for nothing. Once that is let pass, for the op that wants it may
 * come in the next turn; told again and again it would keep the loop from sleeping. (Not asking for
 * it is not enough: hang-ups and errors are told of all the same.) */
static void hush(struct weir_epoll *epoll, struct weir_watch *watch)
{
    if (watch->flags & WEIR_WATCH_UNHEARD && !(watch->armed & EPOLLET)) {
        weir_watches_rearm(&epoll->watches, watch, watch->armed | EPOLLET);
    }
    watch->flags ^= WEIR_WATCH_UNHEARD;
}

static void see(struct weir_epoll *epoll, const struct epoll_event *event, struct batch *batch)
{
    struct weir_watch *watch = weir_watches_of(&epoll->watches, event->data.u64);
    uint32_t seen = event->events;
    if (weir_unlikely(!watch)) {
        if (event->data.u64 == WEIR_EPOLL_WAKE) {
            epoll->base.counters->wakes++;
        } else {
            epoll->base.counters->stale++;
        }
        return;
    }
    weir_watches_prove(&epoll->watches, watch);
    bool had_writers = watch->sides[WEIR_SIDE_OUT].head;
    uint32_t before = batch->count;
    if (weir_unlikely(watch->sides[WEIR_SIDE_POLL].head)) {
        serve_polls(epoll, watch, seen, batch);
    }
    if (seen & (WEIR_WATCH_BASE | WEIR_WATCH_ALWAYS)) {
        watch->flags &= ~(uint32_t)WEIR_WATCH_DRY_IN;
        serve(epoll, watch, WEIR_SIDE_IN, batch);
    }
    if (weir_unlikely(seen & (EPOLLOUT | WEIR_WATCH_ALWAYS))) {
        watch->flags &= ~(uint32_t)WEIR_WATCH_DRY_OUT;
        serve(epoll, watch, WEIR_SIDE_OUT, batch);
    }
    if (weir_unlikely(batch->count == before)) {
        hush(epoll, watch);
    } else {
        watch->flags &= ~(uint32_t)WEIR_WATCH_UNHEARD;
    }
    uint32_t unwanted = seen & ~(WEIR_WATCH_BASE | WEIR_WATCH_ALWAYS);
    if (unwanted != 0 && !had_writers) {
        disarm(epoll, watch, unwanted);
    }
}

/* Those whose turn it is to go to a worker: they are staged again. */
static void give_freed(struct weir_epoll *epoll, struct batch *batch)
{
    struct weir_op *op;
    while (batch->count < batch->max && (op = weir_epoll_next_freed(epoll))) {
        weir_queue_remove(&epoll->behind, op);
        op->retry = WEIR_RETRY_POLL;
        give(epoll, batch, op, weir_epoll_place(op).events);
    }
}

static void give_given_up(struct weir_epoll *epoll, struct batch *batch)
{
    while (epoll->given_up && batch->count < batch->max) {
        struct weir_op *op = epoll->given_up;
        epoll->given_up = op->held.link.next;
        give(epoll, batch, op, op->result);
    }
}

/* --- the sleep -------------------------------------------------------------------------------- */

static int wait_for(struct weir_epoll *epoll, uint64_t left_ns)
{
    if (epoll->has_pwait2) {
        struct {
            int64_t s; /* the kernel's form on every machine */
            int64_t ns;
        } left = {(int64_t)(left_ns / NS_PER_S), (int64_t)(left_ns % NS_PER_S)};
        return (int)syscall(NR_PWAIT2, epoll->epoll_fd, epoll->ready, (int)epoll->ready_max, &left,
                            NULL, 0);
    }
    uint64_t left_ms = left_ns / NS_PER_MS + (left_ns % NS_PER_MS != 0); /* never early */
    return epoll_wait(epoll->epoll_fd, epoll->ready, (int)epoll->ready_max,
                      left_ms < INT_MAX ? (int)left_ms : INT_MAX);
}

/* The number of events that are ready; -errno. */
static int enter(struct weir_epoll *epoll, uint64_t left_ns)
{
    int count;
    epoll->base.counters->enters++;
    if (left_ns == WEIR_NO_SLEEP || left_ns == WEIR_SLEEP_FOREVER) {
        count = epoll_wait(epoll->epoll_fd, epoll->ready, (int)epoll->ready_max,
                           left_ns == WEIR_NO_SLEEP ? 0 : -1);
    } else {
        count = wait_for(epoll, left_ns);
    }
    if (weir_likely(count >= 0)) {
        return count;
    }
    if (errno == EINTR) {
        epoll->base.counters->enter_eintr++;
    } else {
        epoll->error = -errno;
    }
    return -errno;
}

static uint64_t time_left(struct weir_epoll *epoll, uint64_t until_ns)
{
    if (until_ns == WEIR_NO_SLEEP || until_ns == WEIR_SLEEP_FOREVER) {
        return until_ns;
    }
    uint64_t now_ns = weir_clock_exact(&epoll->clock);
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

/* The number of events that are ready; a signal ends the sleep too. While ops trust in what was
 * asked for earlier a sleep is broken once, to ask again. */
static int wait_for_events(struct weir_epoll *epoll, uint64_t until_ns)
{
    for (;;) {
        uint64_t left_ns = time_left(epoll, until_ns);
        bool breaks = epoll->watches.trusted > 0 && left_ns > VERIFY_NS;
        int ready = enter(epoll, breaks ? VERIFY_NS : left_ns);
        if (ready == -EINTR) {
            return 0;
        }
        if (ready != 0 || !breaks) {
            return ready;
        }
        weir_watches_verify(&epoll->watches, UINT32_MAX);
    }
}

/* The same in a loop that does not sleep so long. */
static void verify_in_time(struct weir_epoll *epoll)
{
    uint64_t now_ns = weir_clock_stamp(&epoll->clock);
    if (now_ns >= epoll->verify_ns) {
        epoll->verify_ns = now_ns + VERIFY_NS;
        weir_watches_verify(&epoll->watches, VERIFY_MAX);
    }
}

/*
 * Whether a turn that does not sleep can do without a system call: nothing is watched; or all that
 * was staged is finished, its callbacks are due, and the turn before did not do without. Never if
 * another loop sleeps on the set: it is to stop being readable.
 */
static bool skips(struct weir_epoll *epoll, uint64_t until_ns)
{
    bool skipped =
        until_ns == WEIR_NO_SLEEP && !epoll->is_foreign &&
        (epoll->watches.registered == 0 || (epoll->finished && !epoll->waiting && !epoll->skipped));
    epoll->finished = false;
    epoll->waiting = false;
    epoll->skipped = skipped;
    return skipped;
}

static int see_all(struct weir_epoll *epoll, uint64_t until_ns, struct weir_event *events,
                   uint32_t max)
{
    bool has_more = epoll->given_up || (epoll->behind.head && weir_epoll_next_freed(epoll));
    if (weir_unlikely(max == 0)) {
        if (has_more) {
            signal_wake(epoll);
        }
        return epoll->error;
    }
    struct batch batch = {.events = events, .max = max};
    epoll->base.unsettled = false;
    if (weir_unlikely(has_more)) {
        give_given_up(epoll, &batch);
        give_freed(epoll, &batch);
        until_ns = WEIR_NO_SLEEP;
    }
    if (epoll->error || skips(epoll, until_ns)) {
        return batch.count > 0 ? (int)batch.count : epoll->error;
    }
    if (epoll->watches.trusted > 0) {
        verify_in_time(epoll);
    }
    int ready = wait_for_events(epoll, until_ns);
    for (int i = 0; i < ready; i++) {
        see(epoll, &epoll->ready[i], &batch);
    }
    return ready >= 0 || batch.count > 0 ? (int)batch.count : ready;
}

static int turn(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                uint32_t max)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    int count = see_all(epoll, until_ns, events, max);
    backend->stamp_ns = weir_clock_stamp(&epoll->clock);
    return count;
}

/* --- the rest of the table -------------------------------------------------------------------- */

static enum weir_cancelled cancel(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    if (op->held.link.prev == op) {
        return WEIR_CANCEL_LOST; /* asked again, since no turn will give what it got */
    }
    if (op->retry == WEIR_RETRY_ASYNC) {
        weir_queue_remove(&epoll->behind, op);
        return WEIR_CANCEL_WITHDRAWN;
    }
    struct weir_place place = weir_epoll_place(op);
    struct weir_watch *watch = weir_watches_find(&epoll->watches, place.fd);
    WEIR_CHECK(watch);
    weir_queue_remove(&watch->sides[place.side], op);
    op->result = weir_epoll_progress(op);
    if (op->result == 0) {
        return WEIR_CANCEL_WITHDRAWN;
    }
    op->held.link.next = epoll->given_up;
    op->held.link.prev = op;
    epoll->given_up = op;
    return WEIR_CANCEL_ASKED;
}

static void wake(struct weir_backend *backend)
{
    signal_wake(weir_epoll_of(backend));
}

static uint64_t now(struct weir_backend *backend, enum weir_now which)
{
    if (which == WEIR_NOW_STAMP) {
        return weir_clock_stamp(&weir_epoll_of(backend)->clock);
    }
    return weir_clock_monotonic();
}

static void forget(struct weir_backend *backend, int fd)
{
    struct weir_watches *watches = &weir_epoll_of(backend)->watches;
    struct weir_watch *watch = weir_watches_find(watches, fd);
    if (watch) {
        weir_watches_drop(watches, watch);
    }
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

static int fd(struct weir_backend *backend)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    epoll->is_foreign = true;
    return epoll->epoll_fd;
}

const struct weir_backend_table weir_epoll_table = {
    .name = "epoll",
    .open = weir_epoll_open,
    .adopt = weir_epoll_adopt,
    .close = weir_epoll_close,
    .stage = weir_epoll_stage,
    .attempt = attempt,
    .cancel = cancel,
    .turn = turn,
    .wake = wake,
    .now = now,
    .forget = forget,
    .discard = discard,
    .fd = fd,
};
