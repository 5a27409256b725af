/* SPDX-License-Identifier: MIT */
/* verbs.c: what an input can do, between turns and within callbacks. */
#include "fuzz.h"

/* --- in and out ------------------------------------------------------------------------------- */

static void verb_submit(struct fuzz_loop *loop)
{
    unsigned op = fuzz_below(FUZZ_OPS);
    if (!fuzz.tracks[op].live) {
        fuzz_show(op);
        fuzz_fill(op, loop);
    }
    fuzz_submit(loop, op);
}

static void verb_post(struct fuzz_loop *loop)
{
    unsigned op = fuzz_below(FUZZ_OPS);
    if (!fuzz.tracks[op].live) {
        fuzz_show(op);
        fuzz_fill(op, loop);
    }
    fuzz_post(loop, op);
}

static void verb_submit_badly(struct fuzz_loop *loop)
{
    fuzz_submit_badly(loop, fuzz_below(FUZZ_OPS));
}

static void verb_cancel(struct fuzz_loop *loop)
{
    unsigned op = fuzz_below(FUZZ_OPS);
    struct fuzz_track *track = &fuzz.tracks[op];
    bool ours = track->live && track->loop == fuzz_number_of(loop);
    fuzz_show(op);
    int r = weir_cancel(loop->loop, &fuzz_items[op].op);
    if (!track->live) {
        fuzz_hide(op);
    }
    fuzz_say("cancel loop %u op %u: %d", fuzz_number_of(loop), op, r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    bool fits = ours ? r == 0 || r == -EALREADY : r == -ENOENT;
    fuzz_expect(fits, "a cancel", r);
    if (!ours) {
        return;
    }
    if (r == -EALREADY && !track->offloaded && track->due == 0) {
        track->due = loop->busy > 0 ? 2 : 1;
    } else {
        track->asked = true;
    }
}

static void verb_cancel_fd(struct fuzz_loop *loop)
{
    int fd = fuzz_take_fd();
    uint32_t live = loop->live;
    int r = weir_cancel_fd(loop->loop, fd);
    fuzz_say("cancel loop %u fd %d: %d", fuzz_number_of(loop), fd, r);
    if (!fuzz_is_refused(loop, r)) {
        bool fits = fd < 0 ? r == -EBADF : r >= 0 && (uint32_t)r <= live;
        fuzz_expect(fits, "a cancel by fd", r);
        fuzz_ask_fd(loop, fd);
    }
}

static void verb_cancel_task(struct fuzz_loop *loop)
{
    uint8_t task = fuzz_below(FUZZ_TASKS);
    int r = weir_cancel_task(loop->loop, loop->tasks[task]);
    fuzz_say("cancel loop %u task %u: %d", fuzz_number_of(loop), task, r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        struct fuzz_track *track = &fuzz.tracks[i];
        bool ours = track->live && track->loop == fuzz_number_of(loop);
        track->asked |= ours && track->task == task + 1;
    }
    fuzz_expect(loop->tasks[task] ? r >= 0 && (uint32_t)r <= loop->live : r == -EINVAL,
                "a cancel by task", r);
}

static void verb_forget(struct fuzz_loop *loop)
{
    int fd = fuzz_take_fd();
    bool closes = fuzz_below(2);
    int r = weir_forget(loop->loop, fd);
    fuzz_say("forget loop %u fd %d: %d", fuzz_number_of(loop), fd, r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    fuzz_expect(fd < 0 ? r == -EBADF : r == 0 || r == -EBUSY, "a forget", r);
    fuzz_ask_fd(loop, fd);
    if (r == 0 && closes && weir_sim_file_close(fuzz.sim, fd) == 0) {
        fuzz_say("close(2) of %d", fd);
        fuzz_closed(fd);
    }
}

/* --- turns ------------------------------------------------------------------------------------ */

static void turn(struct fuzz_loop *loop, int64_t wait_ns)
{
    uint64_t called = loop->called;
    fuzz_say("turn loop %u for %lld", fuzz_number_of(loop), (long long)wait_ns);
    bool is_inside = loop->busy > 0;
    loop->busy += !is_inside && !loop->in_call;
    int r = weir_loop_turn(loop->loop, wait_ns);
    loop->busy -= !is_inside && !loop->in_call;
    fuzz_say("turn loop %u: %d", fuzz_number_of(loop), r);
    fuzz_judge_turn(loop, wait_ns, r, called);
}

static void verb_turn(struct fuzz_loop *loop)
{
    turn(loop, 0);
}

static void verb_turn_wait(struct fuzz_loop *loop)
{
    turn(loop, fuzz_take_wait());
}

static void verb_turn_forever(struct fuzz_loop *loop)
{
    turn(loop, -1);
}

/* A timer ends it, since ops may be tried again for ever. False: there is no place for it. */
static bool set_guard(struct fuzz_loop *loop)
{
    struct fuzz_track *track = &fuzz.tracks[FUZZ_GUARD];
    struct weir_op *op = &fuzz_items[FUZZ_GUARD].op;
    if (!track->live && !loop->fails && !loop->closing) {
        *track = (struct fuzz_track){.kind = WEIR_KIND_TIMEOUT, .timer = true, .fd = -1, .fd2 = -1};
        track->at_ns = weir_sim_now(fuzz.sim) + WEIR_S;
        fuzz_show(FUZZ_GUARD);
        weir_op_timeout(op, track->at_ns);
        op->callback = fuzz_on_done;
        fuzz_submit(loop, FUZZ_GUARD);
    }
    return track->live && track->loop == fuzz_number_of(loop);
}

static void verb_run(struct fuzz_loop *loop)
{
    uint64_t called = loop->called;
    bool is_inside = loop->busy > 0 || loop->in_call;
    if (!is_inside && !set_guard(loop)) {
        turn(loop, 0);
        return;
    }
    fuzz_say("run loop %u", fuzz_number_of(loop));
    loop->busy += !is_inside;
    int r = weir_loop_run(loop->loop);
    loop->busy -= !is_inside;
    fuzz_say("run loop %u: %d", fuzz_number_of(loop), r);
    if (is_inside || r < 0) {
        fuzz_judge_turn(loop, -1, r, called);
        return;
    }
    fuzz_note(r);
    bool over = loop->live == 0 && loop->holds == 0 && !fuzz_waits_for_room(loop);
    fuzz_expect(r == 0 && (over || loop->stopped), "a run that is not over", loop->live);
    loop->stopped = false;
}

static void verb_wake(struct fuzz_loop *loop)
{
    int r = weir_loop_wake(loop->loop);
    fuzz_say("wake loop %u: %d", fuzz_number_of(loop), r);
    fuzz_expect(r == 0, "a wake", r);
}

static void verb_stop(struct fuzz_loop *loop)
{
    int r = weir_loop_stop(loop->loop);
    fuzz_say("stop loop %u: %d", fuzz_number_of(loop), r);
    fuzz_expect(r == 0, "a stop", r);
    loop->stopped = true;
}

static void verb_hold(struct fuzz_loop *loop)
{
    int r = weir_loop_hold(loop->loop);
    fuzz_say("hold loop %u: %d", fuzz_number_of(loop), r);
    if (!fuzz_is_refused(loop, r)) {
        fuzz_expect(r == 0, "a hold", r);
        loop->holds++;
    }
}

static void verb_release(struct fuzz_loop *loop)
{
    int r = weir_loop_release(loop->loop);
    fuzz_say("release loop %u: %d", fuzz_number_of(loop), r);
    if (!fuzz_is_refused(loop, r)) {
        fuzz_expect(r == (loop->holds > 0 ? 0 : -EINVAL), "a release", r);
        loop->holds -= r == 0;
    }
}

static void verb_window(struct fuzz_loop *loop)
{
    uint8_t what = fuzz_take();
    loop->windows[what & 1] = what / 2;
    fuzz_say("a window of loop %u", fuzz_number_of(loop));
}

/* --- room ------------------------------------------------------------------------------------- */

static void verb_wait_room(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    struct fuzz_room *room = &fuzz.rooms[byte % FUZZ_ROOMS];
    struct weir_op op = {0};
    bool for_call = byte & 64;
    if (for_call) {
        weir_op_call(&op, fuzz_function, NULL);
    } else {
        weir_op_nop(&op);
    }
    if (!room->waits) {
        room->node = (struct weir_room){.callback = fuzz_on_room};
        room->loop = (uint8_t)fuzz_number_of(loop);
        room->acts = byte >> 4 & 3;
    }
    int r = weir_wait_room(loop->loop, &room->node, &op);
    fuzz_say("wait for room loop %u waiter %d: %d", fuzz_number_of(loop), byte % FUZZ_ROOMS, r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    bool no_gate = for_call && loop->options.offload_workers == WEIR_NO_OFFLOAD;
    int wanted = loop->closing ? -ESHUTDOWN : no_gate ? -EOPNOTSUPP : room->waits ? -EBUSY : 0;
    fuzz_expect(r == wanted || (loop->fails && r == -EIO), "a wait for room", r);
    room->waits |= r == 0;
}

static void verb_withdraw(struct fuzz_loop *loop)
{
    struct fuzz_room *room = &fuzz.rooms[fuzz_below(FUZZ_ROOMS)];
    int r = weir_withdraw_room(loop->loop, &room->node);
    fuzz_say("withdraw loop %u waiter %d: %d", fuzz_number_of(loop), (int)(room - fuzz.rooms), r);
    if (!fuzz_is_refused(loop, r)) {
        bool ours = room->waits && room->loop == fuzz_number_of(loop);
        fuzz_expect(r == (ours ? 0 : -ENOENT), "a withdrawal", r);
        room->waits &= r != 0;
    }
}

/* --- which ------------------------------------------------------------------------------------ */

typedef void verb(struct fuzz_loop *loop);

static verb *const verbs[] = {
    verb_submit,
    verb_submit,
    verb_submit,
    verb_submit,
    verb_submit,
    verb_submit,
    verb_submit,
    verb_post,
    verb_post,
    verb_turn,
    verb_turn,
    verb_turn_wait,
    verb_turn_wait,
    verb_turn_forever,
    verb_run,
    verb_cancel,
    verb_cancel,
    verb_cancel_fd,
    verb_cancel_task,
    verb_forget,
    verb_wait_room,
    verb_withdraw,
    verb_wake,
    verb_stop,
    verb_hold,
    verb_release,
    verb_window,
    fuzz_verb_close,
    fuzz_verb_close_begin,
    fuzz_verb_open,
    fuzz_verb_crash,
    fuzz_verb_abandon,
    fuzz_verb_fail,
    fuzz_verb_task,
    fuzz_verb_ask,
    fuzz_verb_outside,
    fuzz_verb_sleep,
    fuzz_verb_pipe,
    verb_submit_badly,
    fuzz_verb_listen,
};

#define VERBS (sizeof verbs / sizeof *verbs)

void fuzz_act(void)
{
    uint8_t byte = fuzz_take();
    struct fuzz_loop *loop = &fuzz.loops[byte / VERBS % FUZZ_LOOPS];
    if (!loop->loop) {
        loop = &fuzz.loops[1 - fuzz_number_of(loop)];
    }
    if (!loop->loop) {
        fuzz_open_loop();
        return;
    }
    verbs[byte % VERBS](loop);
}

void fuzz_act_times(unsigned most)
{
    fuzz.depth++;
    for (unsigned i = 0; i < most && fuzz.depth <= FUZZ_DEPTH_MAX; i++) {
        if (fuzz.left > 0 && !fuzz_crashed()) {
            fuzz_act();
        }
    }
    fuzz.depth--;
}
