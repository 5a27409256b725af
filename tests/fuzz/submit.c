/* SPDX-License-Identifier: MIT */
/* submit.c: ops go in, or are refused and as they were. */
#include "fuzz.h"

static bool is_main(const struct fuzz_track *track)
{
    return !track->timer && !track->offloaded;
}

static bool is_offloaded(const struct fuzz_track *track)
{
    return track->offloaded;
}

static bool is_timer(const struct fuzz_track *track)
{
    return track->timer;
}

static bool is_post(const struct fuzz_track *track)
{
    return track->posted;
}

static bool is_close(const struct fuzz_track *track)
{
    return track->kind == WEIR_KIND_CLOSE;
}

/* Whether the gate can be full. Posts may have a place or wait for one. */
static bool may_be_full(const struct fuzz_loop *loop, const struct fuzz_track *track)
{
    const struct weir_options *options = &loop->options;
    if (track->timer) {
        return fuzz_count(loop, is_timer) >= options->timers_max;
    }
    if (track->offloaded) {
        return fuzz_count(loop, is_offloaded) >=
               options->offload_depth + options->offload_waiting_max;
    }
    return fuzz_count(loop, is_main) >= options->depth + options->waiting_max;
}

static bool no_workers(const struct fuzz_loop *loop, const struct fuzz_track *track)
{
    return loop->options.offload_workers == WEIR_NO_OFFLOAD && track->offloaded;
}

/* What a call must answer to an op that is not live; 0: that, or -EAGAIN. */
static int refusal(const struct fuzz_loop *loop, const struct fuzz_track *track)
{
    if (fuzz_crashed()) {
        return -EOWNERDEAD;
    }
    return loop->closing ? -ESHUTDOWN : no_workers(loop, track) ? -EOPNOTSUPP : 0;
}

/* An accepted op that the judge must know as asked for. */
static void note_closes(const struct fuzz_loop *loop, struct fuzz_track *track)
{
    if (track->kind == WEIR_KIND_CLOSE && track->fd >= 0) {
        bool was = track->asked;
        fuzz_ask_fd(loop, track->fd);
        track->asked = was;
    }
    for (unsigned i = 0; i <= FUZZ_OPS && fuzz_count(loop, is_close) > 0; i++) {
        const struct fuzz_track *other = &fuzz.tracks[i];
        if (other != track && other->live && other->loop == track->loop && is_close(other) &&
            (other->fd == track->fd || other->fd == track->fd2)) {
            track->asked = true;
        }
    }
}

/* It is live before the call, as its function may run inside. */
static void begin(struct fuzz_loop *loop, struct fuzz_track *track, bool posted)
{
    track->loop = (uint8_t)fuzz_number_of(loop);
    track->live = true;
    track->posted = posted;
    track->asked = false;
    track->due = 0;
    loop->live++;
    note_closes(loop, track);
}

static void set_task(struct fuzz_loop *loop, struct fuzz_track *track, struct weir_op *op)
{
    op->task = track->task ? loop->tasks[track->task - 1] : NULL;
    track->task = op->task ? track->task : 0;
    track->deadline_ns = op->deadline_ns;
}

/* The op is as it was. */
static void refused(struct fuzz_loop *loop, struct fuzz_track *track, const struct fuzz_item *was)
{
    unsigned number = (unsigned)(track - fuzz.tracks);
    fuzz_expect(memcmp(was, &fuzz_items[number], sizeof *was) == 0, "a refused op was touched",
                number);
    track->live = false;
    loop->live--;
    fuzz_hide(number);
}

/* A live op, or a loop that may not be called: nothing may happen. True: so it was. */
static bool is_answered(struct fuzz_loop *loop, unsigned op, bool posts)
{
    const struct fuzz_track *track = &fuzz.tracks[op];
    int wanted;
    if (!posts && loop->in_call) {
        wanted = -EPERM;
    } else if (!track->live) {
        return false;
    } else if (!posts) {
        wanted = fuzz_crashed() ? -EOWNERDEAD : loop->closing ? -ESHUTDOWN : -EBUSY;
    } else {
        wanted = -EBUSY;
    }
    fuzz_show(op);
    int r = posts ? weir_loop_post(loop->loop, &fuzz_items[op].op)
                  : weir_submit(loop->loop, &fuzz_items[op].op);
    if (!track->live) {
        fuzz_hide(op);
    }
    fuzz_say("%s loop %u op %u: %d", posts ? "post" : "submit", fuzz_number_of(loop), op, r);
    fuzz_expect(r == wanted || (loop->fails && r == -EIO), "a live op, or a wrong thread", r);
    fuzz_note(r);
    return true;
}

void fuzz_submit(struct fuzz_loop *loop, unsigned op)
{
    struct fuzz_track *track = &fuzz.tracks[op];
    struct fuzz_item *item = &fuzz_items[op];
    static struct fuzz_item before[FUZZ_DEPTH_MAX + 2];
    struct fuzz_item *was = &before[fuzz.depth];
    if (is_answered(loop, op, false)) {
        return;
    }
    fuzz_show(op);
    set_task(loop, track, &item->op);
    *was = *item;
    int wanted = refusal(loop, track);
    bool full = may_be_full(loop, track);
    begin(loop, track, false);
    fuzz_say("submit loop %u op %u: %s fd %d fd2 %d route %u flags %u", fuzz_number_of(loop), op,
             weir_kind_name(track->kind), track->fd, track->fd2, item->op.route, item->op.flags);
    loop->submitting++;
    int r = weir_submit(loop->loop, &item->op);
    loop->submitting--;
    fuzz_note(r);
    if (r < 0) {
        fuzz_say("refused: %d", r);
        refused(loop, track, was);
        loop->refused += r == -EAGAIN;
    }
    if (loop->fails && r == -EIO) {
        return;
    }
    bool fits = r == wanted || (wanted == 0 && r == -EAGAIN && full);
    fuzz_expect(fits, "a submit", r);
}

void fuzz_post(struct fuzz_loop *loop, unsigned op)
{
    struct fuzz_track *track = &fuzz.tracks[op];
    struct fuzz_item *item = &fuzz_items[op];
    struct fuzz_item was;
    if (is_answered(loop, op, true)) {
        return;
    }
    if (track->kind == WEIR_KIND_NONE) { /* in a window: never filled */
        *track = (struct fuzz_track){.kind = WEIR_KIND_NOP, .fd = -1, .fd2 = -1};
        fuzz_show(op);
        weir_op_nop(&item->op);
        item->op.callback = fuzz_on_done;
    }
    fuzz_show(op);
    set_task(loop, track, &item->op);
    was = *item;
    int wanted = refusal(loop, track);
    bool full = fuzz_count(loop, is_post) >= loop->options.posts_max;
    begin(loop, track, true);
    int r = weir_loop_post(loop->loop, &item->op);
    fuzz_say("post loop %u op %u: %s fd %d: %d", fuzz_number_of(loop), op,
             weir_kind_name(track->kind), track->fd, r);
    fuzz_note(r);
    if (r < 0) {
        refused(loop, track, &was);
        loop->posts_refused += r == -EAGAIN;
    } else {
        loop->posts++;
    }
    bool fits = r == wanted || (wanted == 0 && r == -EAGAIN && full) ||
                (r == -EOPNOTSUPP && no_workers(loop, track)) || (loop->fails && r == -EIO);
    fuzz_expect(fits, "a post", r);
}

/* What makes no sense. */
void fuzz_submit_badly(struct fuzz_loop *loop, unsigned op)
{
    struct fuzz_item *item = &fuzz_items[op];
    struct fuzz_loop *other = &fuzz.loops[1 - fuzz_number_of(loop)];
    struct weir_op *bad = &item->op;
    if (fuzz.tracks[op].live || loop->in_call || loop->closing || loop->fails || fuzz_crashed()) {
        return;
    }
    fuzz_show(op);
    memset(item, 0, sizeof *item);
    fuzz.tracks[op] = (struct fuzz_track){.kind = WEIR_KIND_NOP, .fd = -1, .fd2 = -1};
    weir_op_nop(bad);
    bad->callback = fuzz_on_done;
    switch (fuzz_below(6)) {
    case 0:
        bad->callback = NULL;
        break;
    case 1:
        bad->flags = WEIR_WHOLE;
        break;
    case 2:
        bad->kind = WEIR_KIND_COUNT;
        break;
    case 3:
        bad->route = WEIR_ROUTE_OFFLOAD;
        break;
    case 4:
        weir_op_timeout(bad, 1);
        bad->deadline_ns = 1;
        break;
    default:
        bad->kind = other->loop && other->tasks[0] ? WEIR_KIND_NOP : WEIR_KIND_NONE;
        bad->task = other->tasks[0];
        break;
    }
    struct weir_op was = *bad;
    int r = weir_submit(loop->loop, bad);
    int posted = weir_loop_post(loop->loop, bad);
    fuzz_say("submit and post loop %u op %u, which make no sense: %d %d", fuzz_number_of(loop), op,
             r, posted);
    fuzz_expect(r == -EINVAL && posted == -EINVAL, "makes no sense", r);
    fuzz_expect(memcmp(&was, bad, sizeof was) == 0, "a refused op was touched", op);
    memset(item, 0, sizeof *item);
    weir_op_nop(bad);
    bad->callback = fuzz_on_done;
    fuzz_hide(op);
}
