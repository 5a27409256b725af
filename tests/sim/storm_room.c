/* SPDX-License-Identifier: MIT */
/* storm_room.c: the model of those who are told how full a gate is: room waiters and watermarks. */
#include "storm.h"

#include <errno.h>

static int64_t never_run(void *argument)
{
    (void)argument;
    return 0;
}

/* After a turn's callbacks posts move before anybody is told. */
static void begin_telling(struct storm *storm)
{
    if (!storm->moved_posts) {
        storm->moved_posts = true;
        gate_move_posts(storm);
        for (enum bound bound = 0; bound <= BOUND_OFFLOAD; bound++) {
            storm->places[bound] = gate_most(storm, bound) - storm->live[bound];
        }
    }
}

/* --- room ------------------------------------------------------------------------------------- */

static bool has_room(struct storm *storm, const struct room *room)
{
    const struct line *line = &storm->lines[room->bound][room->line];
    return line_has_place(storm, room->bound, line) &&
           !(line_refuses(storm, room->flags) &&
             line_would_wait(storm, room->bound, line, room->bytes, false));
}

/* One like that which it named, and no larger. */
static void submit_alike(struct storm *storm, const struct room *room)
{
    bool main = room->bound == BOUND_GATE;
    struct item *item =
        storm->ops_left > 0 ? item_make(storm, main ? WEIGHT_NOP : WEIGHT_CALL) : NULL;
    if (!item) {
        return;
    }
    storm->ops_left--;
    item->task = room->line < STORM_TASKS ? (int)room->line : -1;
    item->op.task = item->task < 0 ? NULL : storm->tasks[item->task];
    item->op.flags = room->flags;
    item->op.route = WEIR_ROUTE_AUTO;
    uint64_t refused = storm->tally.refused;
    gate_submit(item);
    STORM_EQUAL(storm, storm->tally.refused, refused);
}

static void on_room(struct weir_room *node, int result)
{
    struct room *room = WEIR_CONTAINER(node, struct room, node);
    struct storm *storm = room->storm;
    struct line *line = &storm->lines[room->bound][room->line];
    begin_telling(storm);
    STORM_CHECK(storm, room->waits);
    STORM_CHECK(storm, storm->in_turn);
    STORM_CHECK(storm, TAILQ_FIRST(&line->rooms) == room);
    TAILQ_REMOVE(&line->rooms, room, link);
    room->waits = false;
    STORM_EQUAL(storm, result, storm->closing ? -ESHUTDOWN : 0);
    if (result == 0) {
        STORM_CHECK(storm, has_room(storm, room));
        STORM_CHECK(storm, storm->places[room->bound] > 0);
        storm->places[room->bound]--;
        if (storm_random(storm, 4) > 0) {
            submit_alike(storm, room);
        }
    }
}

static void wait_for_room(struct storm *storm, struct room *room)
{
    struct weir_op op = {0};
    enum bound bound = storm_random(storm, 3) == 0 ? BOUND_OFFLOAD : BOUND_GATE;
    int task = (int)storm_random(storm, STORM_LINES);
    uint64_t flags = ONE_OF(storm, 0, 0, WEIR_OR_WAIT, WEIR_OR_REFUSE);
    uint64_t bytes = ONE_OF(storm, 0, 300, 10000);
    bool nobody = storm_random(storm, 4) == 0;
    weir_op_write(&op, 0, &op, bytes, 0);
    if (bound == BOUND_OFFLOAD) {
        weir_op_call(&op, never_run, NULL);
    }
    if (nobody) {
        bound = BOUND_GATE;
        task = STORM_TASKS;
        flags = 0;
        bytes = 0;
    }
    op.task = task < STORM_TASKS ? storm->tasks[task] : NULL;
    op.flags = (uint16_t)flags;
    int wanted = gate_most(storm, bound) == 0 ? -EOPNOTSUPP : room->waits ? -EBUSY : 0;
    room->node.callback = on_room;
    STORM_EQUAL(storm, weir_wait_room(storm->loop, &room->node, nobody ? NULL : &op), wanted);
    if (wanted == 0) {
        struct line *line = &storm->lines[bound][task];
        room->waits = true;
        room->bound = bound;
        room->line = (unsigned)task;
        room->flags = op.flags;
        room->bytes = bound == BOUND_GATE ? bytes : 0;
        TAILQ_INSERT_TAIL(&line->rooms, room, link);
    }
}

void room_step(struct storm *storm)
{
    struct room *room = &storm->rooms[storm_random(storm, STORM_ROOMS)];
    if (room->waits && storm_random(storm, 2) == 0) {
        STORM_EQUAL(storm, weir_withdraw_room(storm->loop, &room->node), 0);
        TAILQ_REMOVE(&storm->lines[room->bound][room->line].rooms, room, link);
        room->waits = false;
        return;
    }
    wait_for_room(storm, room);
}

/* Nobody who could be told of room is left to wait. */
void room_judge_sleep(struct storm *storm)
{
    for (unsigned i = 0; i < 2 * STORM_LINES; i++) {
        const struct room *room =
            TAILQ_FIRST(&storm->lines[i / STORM_LINES][i % STORM_LINES].rooms);
        if (room && has_room(storm, room)) {
            storm_fail(storm, WEIR_SITE, "it sleeps, and there is room for who waits for it");
        }
    }
}

/* --- watermarks ------------------------------------------------------------------------------- */

static bool is_crossed(const struct storm *storm, const struct mark *mark)
{
    unsigned level = storm->live[mark->bound];
    return mark->above ? level <= mark->node.low : level >= mark->node.high;
}

static void unwatch(struct storm *storm, struct mark *mark)
{
    STORM_EQUAL(storm, weir_unwatch_gate(storm->loop, &mark->node), mark->watches ? 0 : -ENOENT);
    mark->watches = false;
}

static void on_mark(struct weir_watermark *node, int is_above)
{
    struct mark *mark = WEIR_CONTAINER(node, struct mark, node);
    struct storm *storm = mark->storm;
    begin_telling(storm);
    STORM_CHECK(storm, mark->watches);
    STORM_CHECK(storm, storm->in_turn);
    STORM_CHECK(storm, storm->closing || mark->turn != storm->turn);
    STORM_CHECK(storm, is_crossed(storm, mark));
    STORM_EQUAL(storm, is_above, !mark->above);
    mark->above = is_above;
    mark->turn = storm->turn;
    storm_hash(storm, (uint64_t)is_above);
    if (!storm->closing && storm_random(storm, 3) == 0) {
        storm->mark_moved |= mark->bound == BOUND_OFFLOAD;
        storm_step(storm);
    }
    if (storm_random(storm, 8) == 0) {
        unwatch(storm, &storm->marks[storm_random(storm, STORM_MARKS)]);
    }
}

static void watch(struct storm *storm, struct mark *mark)
{
    struct weir_op op = {0};
    bool named = storm_random(storm, 2) == 0;
    bool call = storm_random(storm, 3) == 0;
    weir_op_nop(&op);
    if (named && call) {
        weir_op_call(&op, never_run, NULL);
    }
    enum bound bound = named && call ? BOUND_OFFLOAD : BOUND_GATE;
    unsigned most = gate_most(storm, bound);
    if (!mark->watches) {
        mark->node.high = 1 + (uint32_t)storm_random(storm, most + 1); /* one too many: refused */
        mark->node.low = (uint32_t)storm_random(storm, mark->node.high + 1);
    }
    int wanted = most == 0                                                     ? -EOPNOTSUPP
                 : mark->watches                                               ? -EBUSY
                 : mark->node.low >= mark->node.high || mark->node.high > most ? -EINVAL
                                                                               : 0;
    mark->node.callback = on_mark;
    STORM_EQUAL(storm, weir_watch_gate(storm->loop, &mark->node, named ? &op : NULL), wanted);
    if (wanted == 0) {
        mark->watches = true;
        mark->bound = bound;
        mark->above = false;
        mark->turn = storm->turn; /* set in a turn, it is told by the next */
    }
}

void mark_step(struct storm *storm)
{
    struct mark *mark = &storm->marks[storm_random(storm, STORM_MARKS)];
    if (storm_random(storm, 3) == 0) {
        unwatch(storm, mark);
    } else {
        watch(storm, mark);
    }
}

void mark_judge(struct storm *storm, bool sleeps)
{
    for (unsigned i = 0; i < STORM_MARKS; i++) {
        const struct mark *mark = &storm->marks[i];
        bool later = !sleeps && (mark->turn == storm->turn ||
                                 (storm->mark_moved && mark->bound == BOUND_GATE));
        if (mark->watches && is_crossed(storm, mark) && !later) {
            storm_fail(storm, WEIR_SITE, "%s the mark at %u is crossed: %u ops, and it is not told",
                       sleeps ? "it sleeps, and" : "after a turn", mark->node.high,
                       storm->live[mark->bound]);
        }
    }
}
