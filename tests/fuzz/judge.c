/* SPDX-License-Identifier: MIT */
/* judge.c: what comes back, and whether it may; what holds between two calls. */
#include "fuzz.h"

#include <inttypes.h>

#define ERRNO_LAST 133

unsigned fuzz_number_of(const struct fuzz_loop *loop)
{
    return (unsigned)(loop - fuzz.loops);
}

uint32_t fuzz_count(const struct fuzz_loop *loop, bool (*is)(const struct fuzz_track *track))
{
    uint32_t count = 0;
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        const struct fuzz_track *track = &fuzz.tracks[i];
        count += track->live && track->loop == fuzz_number_of(loop) && is(track);
    }
    return count;
}

void fuzz_ask_fd(const struct fuzz_loop *loop, int fd)
{
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        struct fuzz_track *track = &fuzz.tracks[i];
        if (track->live && track->loop == fuzz_number_of(loop) &&
            (track->fd == fd || track->fd2 == fd)) {
            track->asked = true;
        }
    }
}

bool fuzz_is_refused(const struct fuzz_loop *loop, int64_t r)
{
    fuzz_note(r);
    if (loop->in_call) {
        fuzz_expect(r == -EPERM, "a call from a worker", r);
    }
    return loop->in_call;
}

bool fuzz_waits_for_room(const struct fuzz_loop *loop)
{
    bool waits_there = false;
    for (const struct fuzz_room *room = fuzz.rooms; room < fuzz.rooms + FUZZ_ROOMS; room++) {
        waits_there |= room->waits && room->loop == fuzz_number_of(loop);
    }
    return waits_there;
}

/* --- results ---------------------------------------------------------------------------------- */

static bool may_be_error(const struct fuzz_loop *loop, const struct fuzz_track *track, int64_t r)
{
    switch (r) {
    case -EINTR:
        return false;
    case -EAGAIN:
        return track->polls || track->kind == WEIR_KIND_CLOSE;
    case -ECANCELED:
        return track->asked || loop->closing;
    case -ETIME:
        return track->deadline_ns != 0 && weir_sim_now(fuzz.sim) >= track->deadline_ns;
    case -EOPNOTSUPP:
        return track->kind != WEIR_KIND_NOP;
    default:
        return r >= -ERRNO_LAST && track->kind != WEIR_KIND_TIMEOUT && track->kind != WEIR_KIND_NOP;
    }
}

static bool may_be_result(const struct fuzz_track *track, int64_t r)
{
    if (fuzz_makes_fd(track->kind)) {
        return r >= WEIR_SIM_FD_FIRST;
    }
    if (weir_kind_traits(track->kind) & WEIR_KIND_MAY_WHOLE) {
        return (uint64_t)r <= track->most;
    }
    switch (track->kind) {
    case WEIR_KIND_POLL:
        return r > 0;
    case WEIR_KIND_CALL:
        return r == FUZZ_CALLED + (track - fuzz.tracks);
    case WEIR_KIND_TIMEOUT:
        return r == 0 && weir_sim_now(fuzz.sim) >= track->at_ns;
    case WEIR_KIND_SIGNAL:
    case WEIR_KIND_CHILD:
        return false;
    default:
        return r == 0;
    }
}

static void judge_result(const struct fuzz_loop *loop, const struct fuzz_track *track,
                         const struct weir_op *op)
{
    int64_t r = op->result;
    bool fits = r < 0 ? may_be_error(loop, track, r) : may_be_result(track, r);
    fuzz_expect(fits, "a result that its kind does not give", r);
    fuzz_expect(!(op->flags & WEIR_WHOLE) || op->moved <= track->most, "moved more than there was",
                (int64_t)op->moved);
    bool sends = op->kind == WEIR_KIND_WRITE || op->kind == WEIR_KIND_WRITEV ||
                 op->kind == WEIR_KIND_SEND || op->kind == WEIR_KIND_SENDMSG;
    bool is_part = sends && op->flags & WEIR_WHOLE && r >= 0 && (uint64_t)r < track->most;
    fuzz_expect(!is_part, "a part of a whole transfer", r);
    fuzz_expect(op->deadline_ns == 0 && op->intended_ns == 0, "a deadline was not consumed", r);
    if (r >= 0 && fuzz_makes_fd(track->kind)) {
        fuzz_opened(r);
    }
    bool closed = r != -EBADF && r != -ECANCELED && r != -ETIME;
    if (track->kind == WEIR_KIND_CLOSE && closed) {
        fuzz_closed(track->fd);
    }
}

/* --- callbacks -------------------------------------------------------------------------------- */

void fuzz_on_done(struct weir_op *op)
{
    unsigned number = (unsigned)((struct fuzz_item *)(void *)op - fuzz_items);
    struct fuzz_track *track = &fuzz.tracks[number];
    fuzz_expect(track->live, "a callback for an op that is not live", number);
    struct fuzz_loop *loop = &fuzz.loops[track->loop];
    fuzz_say("op %u is back: %s %" PRId64, number, weir_kind_name(track->kind), op->result);
    fuzz_expect(loop->busy > 0 && !loop->in_call, "a callback outside a turn", number);
    fuzz_expect(op->loop == loop->loop && !fuzz_crashed(), "a callback of another loop", number);
    judge_result(loop, track, op);
    fuzz_note(number);
    fuzz_note(op->result);
    track->live = false;
    loop->live--;
    loop->called++;
    fuzz_hide(number);
    if (number == FUZZ_GUARD) {
        loop->stopped = true;
        weir_loop_stop(loop->loop);
        return;
    }
    uint8_t acts = track->acts;
    if (track->again > 0) {
        track->again--;
        fuzz_submit(loop, number);
    }
    fuzz_act_times(acts);
}

int64_t fuzz_function(void *argument)
{
    struct fuzz_track *track = argument;
    unsigned number = (unsigned)(track - fuzz.tracks);
    struct fuzz_loop *loop = &fuzz.loops[track->loop];
    bool by_caller = loop->submitting > 0;
    fuzz_say("op %u runs%s", number, by_caller ? " in its caller" : "");
    fuzz_expect(track->live && track->kind == WEIR_KIND_CALL, "a function of no live op", number);
    bool asked_for = track->asked || loop->closing ||
                     (track->deadline_ns != 0 && weir_sim_now(fuzz.sim) >= track->deadline_ns);
    fuzz_expect(asked_for || !weir_op_asked(&fuzz_items[number].op), "nobody asked", number);
    bool was = loop->in_call;
    loop->in_call = !by_caller;
    loop->busy += by_caller;
    fuzz_act_times(track->acts_in_call);
    loop->busy -= by_caller;
    loop->in_call = was;
    return FUZZ_CALLED + (int64_t)number;
}

bool fuzz_may_end_call(struct weir_op *op)
{
    struct fuzz_track *track = &fuzz.tracks[(struct fuzz_item *)(void *)op - fuzz_items];
    fuzz_expect(track->live && track->kind == WEIR_KIND_CALL, "a call of no live op ends", 0);
    if (track->holds == 0) {
        return true;
    }
    track->holds--;
    return false;
}

void fuzz_on_room(struct weir_room *node, int result)
{
    struct fuzz_room *room = WEIR_CONTAINER(node, struct fuzz_room, node);
    const struct fuzz_loop *loop = &fuzz.loops[room->loop];
    int64_t number = room - fuzz.rooms;
    fuzz_say("room %d for waiter %d", result, (int)number);
    fuzz_expect(room->waits && !fuzz_crashed(), "a call of no waiter", number);
    fuzz_expect(loop->busy > 0 && !loop->in_call, "a waiter called outside a turn", number);
    fuzz_expect(result == (loop->closing ? -ESHUTDOWN : 0), "a waiter's result", result);
    fuzz_note(result);
    room->waits = false;
    fuzz_act_times(room->acts);
}

void fuzz_on_closed(struct weir_loop *closed, int result)
{
    struct fuzz_loop *loop = fuzz.loops;
    while (loop->loop != closed) {
        loop++;
    }
    fuzz_say("loop %u is closed: %d", fuzz_number_of(loop), result);
    fuzz_expect(loop->closed_pending, "a close that nobody began, or twice", result);
    fuzz_expect(loop->live == 0 ? result == 0 : result == -ETIMEDOUT, "the result of a close",
                result);
    fuzz_note(result);
    loop->closed_pending = false;
    fuzz_act_times(1);
    loop->crashed_in_closed = fuzz_crashed();
}

void fuzz_in_window(struct weir_backend *backend, int asleep)
{
    for (struct fuzz_loop *loop = fuzz.loops; loop < fuzz.loops + FUZZ_LOOPS; loop++) {
        if (!loop->loop || weir_loop_backend(loop->loop) != backend || !loop->windows[asleep]) {
            continue;
        }
        unsigned what = loop->windows[asleep];
        loop->windows[asleep] = 0;
        fuzz_say("as loop %u %s:", fuzz_number_of(loop), asleep ? "says asleep" : "is to sleep");
        if (what & 1) {
            fuzz_expect(weir_loop_wake(loop->loop) == 0, "a wake", 0);
        }
        if (what & 2) {
            loop->stopped = true;
            fuzz_expect(weir_loop_stop(loop->loop) == 0, "a stop", 0);
        }
        if (what >= 4) {
            fuzz_post(loop, what % FUZZ_OPS);
        }
    }
}

/* --- turns ------------------------------------------------------------------------------------ */

static bool is_overdue(const struct fuzz_track *track)
{
    return track->due == 1;
}

static bool has_no_place(const struct fuzz_track *track)
{
    return track->posted;
}

static void judge_due(struct fuzz_loop *loop)
{
    uint32_t overdue = fuzz_count(loop, is_overdue);
    fuzz_expect(overdue == 0, "was finished, and did not come back", overdue);
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        struct fuzz_track *track = &fuzz.tracks[i];
        track->due -= track->live && track->loop == fuzz_number_of(loop) && track->due > 0;
    }
}

void fuzz_judge_turn(struct fuzz_loop *loop, int64_t wait_ns, int r, uint64_t called)
{
    fuzz_note(r);
    if (loop->in_call || loop->busy > 0) {
        fuzz_expect(r == (loop->in_call ? -EPERM : -EBUSY), "a turn inside", r);
        fuzz_expect(loop->called == called, "a turn that is none", r);
        return;
    }
    if (fuzz_crashed()) {
        bool is_late = loop->crashed_in_closed && (uint64_t)r == loop->called - called;
        fuzz_expect(r == -EOWNERDEAD || is_late, "a turn of a crashed world", r);
        loop->crashed_in_closed = false;
        return;
    }
    if (loop->fails) {
        fuzz_expect(r == -EIO && loop->called == called, "a turn that fails", r);
        return;
    }
    if (r == -EDEADLK) {
        fuzz_expect(wait_ns < 0, "a turn that need not wait for ever", r);
        bool more = weir_loop_has_work(loop->loop) || weir_loop_is_rung(loop->loop);
        fuzz_expect(!more && fuzz.sim->first == NULL, "would sleep for ever with work to do", r);
        return;
    }
    fuzz_expect(r >= 0 && (uint64_t)r == loop->called - called, "a turn's callbacks", r);
    judge_due(loop);
}

/* --- always ----------------------------------------------------------------------------------- */

static void audit_tasks(const struct fuzz_loop *loop)
{
    if (fuzz_count(loop, has_no_place) > 0) {
        return; /* it counts a post when the loop has looked at it */
    }
    for (unsigned i = 0; i < FUZZ_TASKS; i++) {
        struct weir_task_counters counters;
        uint32_t live = 0;
        for (unsigned j = 0; j <= FUZZ_OPS; j++) {
            const struct fuzz_track *track = &fuzz.tracks[j];
            live += track->live && track->loop == fuzz_number_of(loop) && track->task == i + 1;
        }
        if (loop->tasks[i]) {
            fuzz_expect(weir_task_read_counters(loop->tasks[i], &counters) == 0,
                        "a task's counters", i);
            fuzz_expect(counters.live == live, "live ops of a task", (int64_t)counters.live);
        }
    }
}

static void audit_loop(const struct fuzz_loop *loop)
{
    const struct weir_options *options = &loop->options;
    struct weir_counters counters;
    int64_t live = weir_loop_live(loop->loop);
    fuzz_expect(live == loop->live, "live ops", live);
    fuzz_expect(weir_loop_counters(loop->loop, &counters) == 0, "counters", 0);
    fuzz_expect(counters.in_flight <= options->depth, "in flight", counters.in_flight);
    fuzz_expect(counters.waiting <= options->depth + options->waiting_max, "waiting",
                counters.waiting);
    fuzz_expect(counters.offload_in_flight <= options->offload_depth, "calls in flight",
                counters.offload_in_flight);
    fuzz_expect(counters.timers <= options->timers_max, "timers", counters.timers);
    fuzz_expect(counters.finished == loop->called, "finished", (int64_t)counters.finished);
    fuzz_expect(counters.refused == loop->refused, "refused", (int64_t)counters.refused);
    fuzz_expect(counters.posts == loop->posts, "posts", (int64_t)counters.posts);
    fuzz_expect(counters.posts_refused == loop->posts_refused, "refused posts",
                (int64_t)counters.posts_refused);
    fuzz_expect(counters.stale == 0 && counters.cq_overflow == 0, "stale", 0);
    audit_tasks(loop);
}

void fuzz_audit(void)
{
    for (const struct fuzz_loop *loop = fuzz.loops; loop < fuzz.loops + FUZZ_LOOPS; loop++) {
        if (loop->loop && !loop->fails) {
            audit_loop(loop);
        }
    }
}
