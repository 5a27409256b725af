/* SPDX-License-Identifier: MIT */
/*
 * storm_seam.c: the model's view from below: each call through the backend's table is judged, the
 * sleeps above all, and what a turn brought must be what it handed back.
 */
#include "storm.h"

#include <engine/loop/loop.h>

#define PATIENCE_NS (20 * WEIR_S) /* of virtual time: far more than anything takes */

/* --- what the backend sees -------------------------------------------------------------------- */

static struct item *item_of(const struct weir_op *op)
{
    return WEIR_CONTAINER((struct weir_op *)(uintptr_t)op, struct item, op);
}

/* The turn begins with them: by now it has done so. */
static void posts_move_first(struct storm *storm)
{
    if (storm->in_turn && !storm->began) {
        storm->began = true;
        gate_move_posts(storm);
    }
}

static void judge_stage(struct item *item)
{
    if (!item->live || item->staged || item->posted) {
        item_wrong(item, "staged, and it is not for that");
    }
    if (item->asked) {
        item_wrong(item, "staged after it was asked back");
    }
    gate_pass(item);
    item->came = CAME_NOT;
}

static enum weir_staged watch_stage(struct weir_backend *backend, struct weir_op *op)
{
    struct item *item = item_of(op);
    posts_move_first(storm_current);
    judge_stage(item);
    item->staged = true;
    return storm_current->real->stage(backend, op);
}

static int64_t watch_attempt(struct weir_backend *backend, const struct weir_op *op)
{
    struct item *item = item_of(op);
    posts_move_first(storm_current);
    judge_stage(item);
    int64_t result = storm_current->real->attempt(backend, op);
    if (result != -EOPNOTSUPP && (result != -EAGAIN || item->may_again)) {
        item->came = CAME_AT_ONCE;
        item->brought = result;
    }
    return result;
}

static enum weir_cancelled watch_cancel(struct weir_backend *backend, struct weir_op *op)
{
    struct item *item = item_of(op);
    if (!item->live || !item->staged) {
        item_wrong(item, "the backend is asked for it and does not have it");
    }
    if (storm_current->broken) {
        return WEIR_CANCEL_ASKED;
    }
    enum weir_cancelled cancelled = storm_current->real->cancel(backend, op);
    if (cancelled == WEIR_CANCEL_WITHDRAWN) {
        item->staged = false;
        item->came = CAME_WITHDRAWN;
    }
    return cancelled;
}

/* The turn sleeps: is there truly nothing to do before until_ns? */
static void judge_sleep(struct storm *storm, uint64_t until_ns)
{
    if (storm->rung && !weir_sim_loop_of(storm->backend)->woken) { /* a wake ends the sleep */
        storm_fail(storm, WEIR_SITE, "it sleeps with work in an inbox");
    }
    if (!storm->closing) {
        line_judge(storm, false);
        room_judge_sleep(storm);
        mark_judge(storm, true);
    }
    for (unsigned i = 0; i < STORM_ITEMS && !storm->closing; i++) {
        struct item *item = &storm->items[i];
        bool timer = item->bound == BOUND_TIMERS && !item->posted;
        uint64_t at_ns = timer ? item->at_ns : item->deadline_ns;
        bool counts = item->live && !item->inboxed && !item->may_cancel && at_ns != 0;
        if (counts && (timer || at_ns > weir_sim_now(storm->sim)) && until_ns > at_ns) {
            item_wrong(item, "the loop sleeps past its time");
        }
    }
}

static const struct weir_sim_run *run_of(const struct item *item)
{
    const struct weir_sim_loop *loop = weir_sim_loop_of(item->storm->backend);
    for (uint32_t i = 0; i < loop->run_count; i++) {
        if (loop->runs[i].state != WEIR_SIM_FREE && loop->runs[i].op == &item->op) {
            return &loop->runs[i];
        }
    }
    return NULL;
}

static int watch_turn(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                      uint32_t max)
{
    struct storm *storm = storm_current;
    posts_move_first(storm);
    if (!storm->closing && !storm_is_dead(storm)) {
        line_judge(storm, true);
    }
    if (until_ns != WEIR_NO_SLEEP) {
        judge_sleep(storm, until_ns);
    }
    storm->rung = false;
    int count = storm->real->turn(backend, until_ns, events, max);
    for (int i = 0; i < count; i++) {
        struct item *item = item_of(events[i].op);
        if (!item->live || !item->staged) {
            item_wrong(item, "an event, and the backend does not have it");
        }
        if (run_of(item)) {
            item_wrong(item, "an event, and the world is not done with it");
        }
        item->staged = false;
        item->came = CAME_EVENT;
        item->came_turn = storm->turn;
        item->brought = events[i].result;
        item->polled = item->op.retry == WEIR_RETRY_POLL;
        storm->events++;
    }
    return count;
}

static void look_through_window(struct weir_backend *backend, int asleep)
{
    (void)backend;
    posts_move_first(storm_current);
    storm_window(storm_current, asleep);
}

void gate_watch(struct storm *storm)
{
    storm->backend = weir_loop_backend(storm->loop);
    storm->real = storm->backend->table;
    storm->table = *storm->real;
    storm->table.stage = watch_stage;
    storm->table.attempt = watch_attempt;
    storm->table.cancel = watch_cancel;
    storm->table.turn = watch_turn;
    storm->backend->table = &storm->table;
    storm->backend->window = look_through_window;
}

/* --- turns ------------------------------------------------------------------------------------ */

void gate_turn_begins(struct storm *storm)
{
    storm->turn++;
    storm->turns++;
    storm->in_turn = true;
    storm->began = false;
    storm->moved_posts = false;
    storm->mark_moved = false;
    storm->called = 0;
}

/* What the backend gave in this turn must have been handed back in it, or goes on. */
static void judge_batch(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        bool later = item->brought == -EAGAIN || item->brought == -EALREADY;
        if (item->live && item->came == CAME_EVENT && !later) {
            item_wrong(item, "it finished, and was not handed back");
        }
        if (item->live && item->due_turn != 0 && item->due_turn <= storm->turn) {
            item_wrong(item, "-EALREADY promised it for this turn");
        }
    }
}

static void judge_patience(struct storm *storm)
{
    uint64_t now_ns = weir_sim_now(storm->sim);
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        bool asked = item->live && item->asked_ns != 0;
        if (asked && now_ns > item->asked_ns + PATIENCE_NS && !gate_is_deaf(item)) {
            item_wrong(item, "lost: it was asked back long ago");
        }
    }
}

void gate_turn_ends(struct storm *storm, int called)
{
    if (called >= 0 && !storm->moved_posts) {
        gate_move_posts(storm);
    }
    storm->in_turn = false;
    if (storm_is_dead(storm)) {
        STORM_EQUAL(storm, called, -EOWNERDEAD);
        return;
    }
    if (called == -EDEADLK) {
        gate_judge_deadlock(storm);
        return;
    }
    STORM_EQUAL(storm, called, storm->called);
    line_read_depths(storm);
    judge_batch(storm);
    judge_patience(storm);
    mark_judge(storm, false);
}

/* --- deadlocks -------------------------------------------------------------------------------- */

bool gate_is_deaf(const struct item *item)
{
    const struct weir_sim_run *run = run_of(item);
    return run && run->fault == WEIR_SIM_DEAF;
}

static void judge_stuck(struct item *item)
{
    if (item->bound == BOUND_TIMERS) {
        item_wrong(item, "a timer is live and nothing would ever happen");
    }
    const struct weir_sim_run *run = item->staged ? run_of(item) : NULL;
    if (item->staged && !run) {
        item_wrong(item, "lost by the backend");
    }
    if (run && run->state != WEIR_SIM_STOPPED && run->state != WEIR_SIM_WAITING &&
        run->state != WEIR_SIM_QUEUED) {
        item_wrong(item, "nothing would ever happen, but it would");
    }
    if (run && item->asked && run->fault != WEIR_SIM_DEAF) {
        item_wrong(item, "lost cancel: asked back, and nothing would ever happen");
    }
    if (!run && item->admitted && item->op.kind != WEIR_KIND_CLOSE) {
        item_wrong(item, "lost: nobody has it");
    }
}

void gate_judge_deadlock(struct storm *storm)
{
    storm->deadlocks++;
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        if (storm->items[i].live) {
            judge_stuck(&storm->items[i]);
        }
    }
}
