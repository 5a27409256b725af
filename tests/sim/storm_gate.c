/* SPDX-License-Identifier: MIT */
/*
 * storm_gate.c: the model of admission and hand-back. It looks at the engine from outside, by what
 * its calls answer and by its callbacks, and from below, through the backend's table.
 */
#include "storm.h"

#include <engine/loop/loop.h>

enum bound gate_bound(const struct item *item)
{
    if (item->op.kind == WEIR_KIND_TIMEOUT) {
        return BOUND_TIMERS;
    }
    bool call = item->op.kind == WEIR_KIND_CALL || item->op.route == WEIR_ROUTE_OFFLOAD;
    return call ? BOUND_OFFLOAD : BOUND_GATE;
}

static bool has_workers(const struct storm *storm)
{
    return storm->options.offload_workers != WEIR_NO_OFFLOAD;
}

unsigned gate_most(const struct storm *storm, enum bound bound)
{
    const struct weir_options *options = &storm->options;
    switch (bound) {
    case BOUND_GATE:
        return options->depth + options->waiting_max;
    case BOUND_OFFLOAD:
        return has_workers(storm) ? options->offload_depth + options->offload_waiting_max : 0;
    case BOUND_TIMERS:
        return options->timers_max;
    default:
        return UINT32_MAX;
    }
}

unsigned gate_credits(const struct storm *storm, enum bound bound)
{
    return bound == BOUND_GATE ? storm->options.depth : storm->options.offload_depth;
}

unsigned gate_live(const struct storm *storm)
{
    unsigned live = storm->posted;
    for (unsigned i = 0; i < BOUNDS; i++) {
        live += storm->live[i];
    }
    return live;
}

/* --- places and credits ----------------------------------------------------------------------- */

static void take_place(struct item *item, enum bound bound)
{
    struct storm *storm = item->storm;
    item->bound = bound;
    item->live = true;
    item->born_turn = storm->turn;
    storm->live[bound]++;
    if (bound == BOUND_GATE || bound == BOUND_OFFLOAD) {
        item->waits = true;
        TAILQ_INSERT_TAIL(&storm->waiting[bound], item, link);
    }
}

static void admit(struct item *item)
{
    struct storm *storm = item->storm;
    TAILQ_REMOVE(&storm->waiting[item->bound], item, link);
    item->waits = false;
    item->admitted = true;
    storm->flying[item->bound]++;
    if (storm->flying[item->bound] > gate_credits(storm, item->bound)) {
        item_wrong(item, "more are in flight than there are credits");
    }
}

/* Once asked back it holds its place and waits no more. */
static void wait_no_more(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->waits) {
        TAILQ_REMOVE(&storm->waiting[item->bound], item, link);
        item->waits = false;
    }
    if (item->posted) {
        TAILQ_REMOVE(&storm->posts[item->bound], item, link);
        storm->posted--;
        item->posted = false;
        item->bound = BOUND_CALLER; /* neither: it comes from the early list */
        storm->live[BOUND_CALLER]++;
    }
}

/* It may have been asked back without the model's knowing when. */
static bool is_unsure(const struct item *item)
{
    uint64_t deadline_ns = item->deadline_ns;
    return item->may_cancel || (deadline_ns != 0 && deadline_ns <= weir_sim_now(item->storm->sim));
}

/* It has come as far as the backend: so have all that stood before it, or they wait no more. */
void gate_pass(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->admitted) {
        return;
    }
    if (!item->waits) {
        item_wrong(item, "staged, and it did not wait for that");
    }
    for (;;) {
        struct item *first = TAILQ_FIRST(&storm->waiting[item->bound]);
        bool gone = is_unsure(first) && first->op.state == WEIR_DONE;
        if (first != item && gone) {
            wait_no_more(first);
            continue;
        }
        if (first != item && first->op.kind != WEIR_KIND_CLOSE) {
            item_wrong(item, "staged before one that was there first");
        }
        admit(first);
        if (first == item) {
            return;
        }
    }
}

/* Off the model's lists and counts. */
static void leave(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->posted) {
        TAILQ_REMOVE(&storm->posts[item->bound], item, link);
        storm->posted--;
    } else {
        storm->live[item->bound]--;
    }
    if (item->waits) {
        TAILQ_REMOVE(&storm->waiting[item->bound], item, link);
    }
    if (item->admitted && item->bound <= BOUND_OFFLOAD) {
        storm->flying[item->bound]--;
    }
    item->posted = false;
    item->waits = false;
    item->live = false;
}

static bool has_place(const struct storm *storm, enum bound bound)
{
    return storm->live[bound] < gate_most(storm, bound);
}

/* Posts that were withdrawn at a moment that only the engine knows. */
static void drop_withdrawn(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ITEMS && storm->posted > 0; i++) {
        struct item *item = &storm->items[i];
        if (item->posted && is_unsure(item) && item->op.state == WEIR_DONE) {
            wait_no_more(item);
        }
    }
}

void gate_move_posts(struct storm *storm)
{
    if (storm->closing || storm->posted == 0) {
        return;
    }
    drop_withdrawn(storm);
    for (enum bound bound = 0; bound < BOUND_CALLER; bound++) {
        while (!TAILQ_EMPTY(&storm->posts[bound]) && has_place(storm, bound)) {
            struct item *item = TAILQ_FIRST(&storm->posts[bound]);
            TAILQ_REMOVE(&storm->posts[bound], item, link);
            storm->posted--;
            item->posted = false;
            item->inboxed = false;
            uint64_t born_turn = item->born_turn;
            take_place(item, bound);
            item->born_turn = born_turn;
        }
    }
    for (enum bound bound = 0; bound < BOUND_CALLER; bound++) {
        struct item *item;
        TAILQ_FOREACH(item, &storm->posts[bound], link)
        {
            item->inboxed = false;
        }
    }
}

/* --- what the callers see --------------------------------------------------------------------- */

static void count_task(struct item *item, int64_t result)
{
    struct tally *both[2] = {&item->storm->tally,
                             item->task >= 0 ? &item->storm->tallies[item->task] : NULL};
    for (int i = 0; i < 2 && both[i]; i++) {
        both[i]->finished++;
        both[i]->cancelled += result == -ECANCELED;
        both[i]->expired += result == -ETIME;
        both[i]->failed += result < 0 && result != -ECANCELED && result != -ETIME;
    }
}

static void count_submitted(struct item *item)
{
    struct storm *storm = item->storm;
    storm->tally.submitted++;
    storm->ops++;
    if (item->task >= 0) {
        storm->tallies[item->task].submitted++;
    }
}

static void on_item(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct storm *storm = item->storm;
    if (!item->live) {
        item_wrong(item, "handed back, and it was not live: twice?");
    }
    STORM_CHECK(storm, storm->in_turn);
    storm->called++;
    storm_hash(storm, item->serial);
    storm_hash(storm, (uint64_t)op->result);
    leave(item);
    count_task(item, op->result);
    item_judge(item);
    item_give(item);
    if (storm_chance(storm, CHANCE_NESTED) && !storm->closing) {
        storm_step(storm);
    }
}

static int answer_to(const struct storm *storm, const struct item *item, enum bound bound)
{
    if (storm_is_dead(storm)) {
        return -EOWNERDEAD;
    }
    if (storm->closing) {
        return -ESHUTDOWN;
    }
    if (bound == BOUND_OFFLOAD && !has_workers(storm)) {
        return -EOPNOTSUPP;
    }
    bool runs = item->op.kind == WEIR_KIND_CALL && storm->options.flags & WEIR_CALLER_RUNS;
    return has_place(storm, bound) || runs ? 0 : -EAGAIN;
}

void gate_submit(struct item *item)
{
    struct storm *storm = item->storm;
    enum bound bound = gate_bound(item);
    int wanted = answer_to(storm, item, bound);
    bool runs = wanted == 0 && !has_place(storm, bound);
    item->op.callback = on_item;
    take_place(item, runs ? BOUND_CALLER : bound); /* it may be staged at once */
    int answer = weir_submit(storm->loop, &item->op);
    if (answer != wanted) {
        storm_fail(storm, WEIR_SITE, "submit of a %s answered %d and not %d, %u of %u are live",
                   weir_kind_name(item->op.kind), answer, wanted, storm->live[bound],
                   gate_most(storm, bound));
    }
    if (answer < 0) {
        leave(item);
        if (answer == -EAGAIN) {
            storm->tally.refused++;
            storm->tallies[item->task < 0 ? 0 : item->task].refused += item->task >= 0;
        }
        item_give(item);
        return;
    }
    count_submitted(item);
    storm->caller_ran += runs;
    if (runs != (item->ran == 1)) {
        item_wrong(item, runs ? "its caller did not run it" : "run by submit");
    }
    if (item->op.kind == WEIR_KIND_CLOSE) {
        handle_mark(storm, item->op.fd, item);
    }
}

void gate_post(struct item *item)
{
    struct storm *storm = item->storm;
    enum bound bound = gate_bound(item);
    drop_withdrawn(storm);
    int wanted = bound == BOUND_OFFLOAD && !has_workers(storm) ? -EOPNOTSUPP
                 : storm->closing || storm_is_dead(storm)      ? answer_to(storm, item, bound)
                 : storm->posted >= storm->options.posts_max   ? -EAGAIN
                                                               : 0;
    item->op.callback = on_item;
    int answer = weir_loop_post(storm->loop, &item->op);
    if (answer != wanted) {
        storm_fail(storm, WEIR_SITE, "post of a %s answered %d and not %d, %u of %u are posted",
                   weir_kind_name(item->op.kind), answer, wanted, storm->posted,
                   storm->options.posts_max);
    }
    storm->posts_refused += answer == -EAGAIN;
    if (answer < 0) {
        item_give(item);
        return;
    }
    item->live = true;
    item->posted = true;
    item->inboxed = true;
    item->bound = bound;
    item->born_turn = storm->turn;
    storm->posted++;
    storm->posts_accepted++;
    TAILQ_INSERT_TAIL(&storm->posts[bound], item, link);
    count_submitted(item);
    if (item->op.kind == WEIR_KIND_CLOSE) {
        handle_mark(storm, item->op.fd, item);
    }
}

/* --- asking back ------------------------------------------------------------------------------ */

void gate_asked(struct item *item)
{
    item->may_cancel = true;
    if (item->asked_ns == 0) {
        item->asked_ns = weir_sim_now(item->storm->sim);
    }
}

/* The backend has finished it in this turn. */
static bool is_brought(const struct item *item)
{
    bool later = item->brought == -EAGAIN && item->op.state != WEIR_DONE;
    return item->came == CAME_EVENT && item->came_turn == item->storm->turn && !later;
}

/* It is finished, and not because it was asked back. */
static bool is_over(const struct item *item)
{
    return is_brought(item) || item->came == CAME_AT_ONCE ||
           (item->bound == BOUND_CALLER && item->ran > 0);
}

void gate_cancel(struct item *item)
{
    struct storm *storm = item->storm;
    bool asked = item->asked || item->may_cancel || item->deadline_ns != 0;
    bool over = is_over(item);
    bool due = item->bound == BOUND_TIMERS && item->at_ns <= weir_sim_now(storm->sim);
    bool in_worker = item->bound == BOUND_OFFLOAD && item->admitted;
    int answer = weir_cancel(storm->loop, &item->op);
    bool right = answer == 0 ? !over || asked : answer == -EALREADY && (over || due || in_worker);
    if (!right) {
        storm_fail(storm, WEIR_SITE, "cancel of a live %s answered %d",
                   weir_kind_name(item->op.kind), answer);
    }
    storm_hash(storm, (uint64_t)answer);
    if (answer == 0 || in_worker) {
        item->asked = item->asked || (answer == 0 && !over);
        gate_asked(item);
        if (answer == 0) {
            wait_no_more(item);
        }
    } else {
        bool here = storm->in_turn && item->born_turn < storm->turn && (is_brought(item) || due);
        item->due_turn = here ? storm->turn : storm->turn + 1;
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

void gate_forget_all(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        if (item->live) {
            leave(item);
            item_give(item);
            item->op = (struct weir_op){0}; /* it may have been live to the end */
        }
    }
    for (unsigned i = 0; i < STORM_ROOMS; i++) {
        storm->rooms[i] = (struct room){.storm = storm};
    }
    for (enum bound bound = 0; bound < BOUNDS; bound++) {
        TAILQ_INIT(&storm->waiters[bound]);
        STORM_EQUAL(storm, storm->live[bound], 0);
    }
    STORM_EQUAL(storm, storm->posted, 0);
}

static void compare_tasks(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_TASKS; i++) {
        const struct tally *tally = &storm->tallies[i];
        struct weir_task_counters counters;
        struct weir_histogram total;
        STORM_EQUAL(storm, weir_task_counters(storm->tasks[i], &counters), 0);
        STORM_EQUAL(storm, counters.refused, tally->refused);
        STORM_EQUAL(storm, counters.finished, tally->finished);
        STORM_EQUAL(storm, counters.failed, tally->failed);
        STORM_EQUAL(storm, counters.cancelled, tally->cancelled);
        STORM_EQUAL(storm, counters.expired, tally->expired);
        STORM_EQUAL(storm, weir_task_read(storm->tasks[i], WEIR_STAGE_TOTAL, &total), 0);
        uint64_t most = tally->finished - tally->cancelled;
        STORM_CHECK(storm, total.count <= most && total.count >= most - tally->expired);
    }
}

void gate_compare(struct storm *storm)
{
    struct weir_counters counters;
    unsigned closers = 0; /* these may have a credit and not be staged */
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        const struct item *item = &storm->items[i];
        closers += item->live && item->op.kind == WEIR_KIND_CLOSE && !item->admitted;
    }
    STORM_EQUAL(storm, weir_loop_counters(storm->loop, &counters), 0);
    STORM_EQUAL(storm, weir_loop_live(storm->loop), gate_live(storm));
    STORM_EQUAL(storm, counters.submitted, storm->tally.submitted);
    STORM_EQUAL(storm, counters.finished, storm->tally.finished);
    STORM_EQUAL(storm, counters.refused, storm->tally.refused);
    STORM_EQUAL(storm, counters.posts, storm->posts_accepted);
    STORM_EQUAL(storm, counters.posts_refused, storm->posts_refused);
    STORM_EQUAL(storm, counters.caller_ran, storm->caller_ran);
    STORM_EQUAL(storm, counters.timers, storm->live[BOUND_TIMERS]);
    STORM_EQUAL(storm, counters.offload_in_flight, storm->flying[BOUND_OFFLOAD]);
    STORM_CHECK(storm, counters.in_flight >= storm->flying[BOUND_GATE]);
    STORM_CHECK(storm, counters.in_flight <= storm->flying[BOUND_GATE] + closers);
    STORM_CHECK(storm, counters.in_flight + counters.waiting <= storm->live[BOUND_GATE]);
    STORM_CHECK(storm, counters.in_flight <= storm->options.depth);
    compare_tasks(storm);
}
