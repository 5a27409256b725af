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
    item->bound = bound;
    item->live = true;
    item->born_turn = item->storm->turn;
    line_enter(item);
}

bool gate_is_unsure(const struct item *item)
{
    uint64_t deadline_ns = item->deadline_ns;
    return item->may_cancel || item->storm->closing ||
           (deadline_ns != 0 && deadline_ns <= weir_sim_now(item->storm->sim));
}

/* Straight from submit: nobody may stand there who would go first. */
static void judge_passing(struct item *item)
{
    struct storm *storm = item->storm;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct item *first = TAILQ_FIRST(&storm->lines[item->bound][i].waiting);
        if (first && first != item) {
            item_wrong(item, "staged by submit, and others wait");
        }
    }
}

/* It has come as far as the backend: so have all that stood before it, or they wait no more. */
void gate_pass(struct item *item)
{
    struct storm *storm = item->storm;
    if (item->admitted) {
        return;
    }
    line_look(storm);
    if (item->admitted) {
        return;
    }
    if (!item->waits) {
        item_wrong(item, "staged, and it did not wait for that");
    }
    if (TAILQ_FIRST(&storm->lines[item->bound][item->line].waiting) != item) {
        item_wrong(item, "staged before one of its task that was there first");
    }
    if (item == storm->submitting) {
        judge_passing(item);
    }
    line_admit(item);
}

/* --- posts ------------------------------------------------------------------------------------ */

static bool has_left(const struct item *item)
{
    return item->op.state == WEIR_DONE && !item->op.slot && gate_is_unsure(item);
}

/* Posts that were withdrawn at a moment that only the engine knows. */
static void drop_withdrawn(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ITEMS && storm->posted > 0; i++) {
        struct item *item = &storm->items[i];
        if (item->posted && has_left(item)) {
            line_wait_no_more(item);
        }
    }
}

static void count_waited(struct item *item, unsigned least, unsigned most)
{
    struct storm *storm = item->storm;
    storm->tally.waited_least += least;
    storm->tally.waited_most += most;
    if (item->task >= 0) {
        storm->tallies[item->task].waited_least += least;
        storm->tallies[item->task].waited_most += most;
    }
}

/* Whether the first of a line of posts has a place now. A gate's has a slot then. */
static bool has_come(const struct storm *storm, enum bound bound, const struct item *item)
{
    return bound == BOUND_TIMERS ? storm->live[bound] < gate_most(storm, bound)
                                 : item->op.slot != NULL;
}

static void come_in(struct item *item, bool alone)
{
    struct storm *storm = item->storm;
    struct line *line = &storm->lines[item->bound][item->line];
    TAILQ_REMOVE(&line->posts, item, link);
    storm->posted--;
    item->posted = false;
    item->inboxed = false;
    if (item->bound <= BOUND_OFFLOAD) {
        bool waits = line_would_wait(storm, item->bound, line, line_bytes(item, item->bound),
                                     line_is_armed(item));
        count_waited(item, alone && waits, !alone || waits);
    }
    if (alone && !line_has_place(storm, item->bound, line)) {
        item_wrong(item, "a post has a place, and there was none");
    }
    uint64_t born_turn = item->born_turn;
    take_place(item, item->bound);
    item->born_turn = born_turn;
}

/* Lines take turns, which is not modelled: with several the order in which they came is not known.
 */
static void move_posts_of(struct storm *storm, enum bound bound)
{
    unsigned lines = 0;
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct item *first = TAILQ_FIRST(&storm->lines[bound][i].posts);
        lines += first && has_come(storm, bound, first);
    }
    for (unsigned i = 0; i < STORM_LINES; i++) {
        struct line *line = &storm->lines[bound][i];
        struct item *item;
        while ((item = TAILQ_FIRST(&line->posts)) && has_come(storm, bound, item)) {
            come_in(item, lines == 1);
        }
    }
    STORM_CHECK(storm, storm->live[bound] <= gate_most(storm, bound));
    for (unsigned i = 0; i < STORM_LINES; i++) {
        const struct line *line = &storm->lines[bound][i];
        struct item *item;
        TAILQ_FOREACH(item, &line->posts, link)
        {
            item->inboxed = false;
            if (item->op.state != WEIR_POSTED || line_has_place(storm, bound, line)) {
                item_wrong(item, "a post has no place, and there was one for it");
            }
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
        move_posts_of(storm, bound);
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
        both[i]->shed +=
            result == -ETIME && !item->admitted && item->ran == 0 && item->bound != BOUND_TIMERS;
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
    line_leave(item);
    count_task(item, op->result);
    item_judge(item);
    item_give(item);
    if (storm_chance(storm, CHANCE_NESTED) && !storm->closing) {
        storm_step(storm);
    }
}

static bool is_full(struct storm *storm, const struct item *item, enum bound bound)
{
    const struct line *line = line_of(storm, bound, item->task);
    if (!line_has_place(storm, bound, line)) {
        return true;
    }
    return bound <= BOUND_OFFLOAD && line_refuses(storm, item->op.flags) &&
           line_would_wait(storm, bound, line, line_bytes(item, bound), line_is_armed(item));
}

static bool runs_instead(const struct storm *storm, const struct weir_op *op)
{
    bool may =
        storm->options.flags & WEIR_CALLER_RUNS && !(op->flags & (WEIR_OR_WAIT | WEIR_OR_REFUSE));
    return op->kind == WEIR_KIND_CALL && (op->flags & WEIR_OR_RUN || may);
}

static int answer_to(struct storm *storm, const struct item *item, enum bound bound)
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
    return !is_full(storm, item, bound) || runs_instead(storm, &item->op) ? 0 : -EAGAIN;
}

void gate_submit(struct item *item)
{
    struct storm *storm = item->storm;
    enum bound bound = gate_bound(item);
    int wanted = answer_to(storm, item, bound);
    bool runs = wanted == 0 && is_full(storm, item, bound);
    bool waits = wanted == 0 && !runs && bound <= BOUND_OFFLOAD &&
                 line_would_wait(storm, bound, line_of(storm, bound, item->task),
                                 line_bytes(item, bound), line_is_armed(item));
    item->op.callback = on_item;
    take_place(item, runs ? BOUND_CALLER : bound); /* it may be staged at once */
    storm->submitting = item;
    int answer = weir_submit(storm->loop, &item->op);
    if (answer == 0 && item->op.with == WEIR_CARRIER_LEAVING) {
        gate_pass(item); /* and is staged later */
    }
    storm->submitting = NULL;
    if (answer != wanted) {
        storm_fail(storm, WEIR_SITE, "submit of a %s answered %d and not %d, %u of %u are live",
                   weir_kind_name(item->op.kind), answer, wanted, storm->live[bound],
                   gate_most(storm, bound));
    }
    if (answer < 0) {
        line_leave(item);
        if (answer == -EAGAIN) {
            storm->tally.refused++;
            storm->tallies[item->task < 0 ? 0 : item->task].refused += item->task >= 0;
        }
        item_give(item);
        return;
    }
    count_submitted(item);
    count_waited(item, waits, waits);
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
    bool apart = item->task >= 0 && bound <= BOUND_OFFLOAD;
    item->line = apart ? (unsigned)item->task : STORM_TASKS;
    TAILQ_INSERT_TAIL(&storm->lines[bound][item->line].posts, item, link);
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
            line_wait_no_more(item);
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
            line_leave(item);
            item_give(item);
            item->op = (struct weir_op){0}; /* it may have been live to the end */
        }
    }
    for (unsigned i = 0; i < STORM_ROOMS; i++) {
        storm->rooms[i] = (struct room){.storm = storm};
    }
    for (unsigned i = 0; i < STORM_MARKS; i++) {
        storm->marks[i] = (struct mark){.storm = storm};
    }
    for (unsigned i = 0; i < BOUNDS * STORM_LINES; i++) {
        struct line *line = &storm->lines[i / STORM_LINES][i % STORM_LINES];
        TAILQ_INIT(&line->rooms);
        STORM_EQUAL(storm, line->live + line->flying + line->bytes + line->bytes_flying, 0);
        line->reserve = 0;
        line->tag = 0;
        storm->virtual_time[i / STORM_LINES] = 0;
        storm->last_tag[i / STORM_LINES] = 0;
    }
    storm->order_unsure = false;
    for (enum bound bound = 0; bound < BOUNDS; bound++) {
        STORM_EQUAL(storm, storm->live[bound] + storm->flying[bound], 0);
    }
    STORM_EQUAL(storm, storm->posted, 0);
}
