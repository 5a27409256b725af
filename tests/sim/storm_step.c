/* SPDX-License-Identifier: MIT */
/* storm_step.c: what happens next, drawn from the seed's weights. */
#include "storm.h"

#include <errno.h>

#define STEPS_DEEP 3

static bool is_sort(unsigned weight)
{
    return weight <= WEIGHT_TIMER;
}

static void submit(struct storm *storm, enum weight sort)
{
    struct item *item = storm->ops_left > 0 ? item_make(storm, sort) : NULL;
    if (!item) {
        return;
    }
    storm->ops_left--;
    if (storm_chance(storm, CHANCE_POST)) {
        gate_post(item);
    } else {
        gate_submit(item);
    }
}

static void cancel_one(struct storm *storm)
{
    struct item *item = item_random_live(storm);
    if (item) {
        gate_cancel(item);
    }
    struct item *dead = TAILQ_FIRST(&storm->free);
    if (dead && dead->op.loop == storm->loop) {
        STORM_EQUAL(storm, weir_cancel(storm->loop, &dead->op), -ENOENT);
    }
}

static void cancel_fd(struct storm *storm)
{
    struct handle *handle = handle_random(storm);
    if (!handle) {
        return;
    }
    int asked = weir_cancel_fd(storm->loop, handle->fd);
    STORM_CHECK(storm, asked >= 0);
    storm_hash(storm, (uint64_t)asked);
    handle_mark(storm, handle->fd, NULL);
}

static void cancel_task(struct storm *storm)
{
    int task = (int)storm_random(storm, STORM_TASKS);
    int most = 0;
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        if (item->live && item->task == task) {
            most++;
            gate_asked(item);
        }
    }
    int asked = weir_cancel_task(storm->loop, storm->tasks[task]);
    STORM_CHECK(storm, asked >= 0 && asked <= most);
    storm_hash(storm, (uint64_t)asked);
}

static void close_one(struct storm *storm)
{
    struct handle *handle = handle_random(storm);
    struct item *item = handle ? handle_close(storm, handle) : NULL;
    if (!item) {
        return;
    }
    if (storm_chance(storm, CHANCE_POST)) {
        gate_post(item);
    } else {
        gate_submit(item);
    }
}

static void forget_one(struct storm *storm)
{
    struct handle *handle = handle_random(storm);
    if (handle) {
        handle_forget(storm, handle);
    }
}

static void never_called(struct weir_room *room, int result)
{
    (void)result;
    room->callback = NULL;
}

/* Nobody may name a task that has ended. */
static void try_the_closed(struct storm *storm, struct weir_task *task)
{
    struct weir_op op = {.task = task};
    struct weir_room room = {.callback = never_called};
    weir_op_nop(&op);
    STORM_EQUAL(storm, weir_wait_room(storm->loop, &room, &op), -EINVAL);
}

/* Ends, if nothing of it is live, and begins with other limits. */
static void renew_task(struct storm *storm)
{
    int task = (int)storm_random(storm, STORM_TASKS);
    bool busy = false;
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        busy |= storm->items[i].live && storm->items[i].task == task;
    }
    busy |= !TAILQ_EMPTY(&storm->lines[BOUND_GATE][task].rooms) ||
            !TAILQ_EMPTY(&storm->lines[BOUND_OFFLOAD][task].rooms);
    STORM_EQUAL(storm, weir_task_close(storm->tasks[task]), busy ? -EBUSY : 0);
    gate_move_posts(storm);
    if (!busy) {
        try_the_closed(storm, storm->tasks[task]);
        storm->tallies[task] = (struct tally){0};
        task_open(storm, task);
    }
}

/* --- what is refused, and what ends it all ---------------------------------------------------- */

static void try_the_forbidden(struct storm *storm)
{
    struct item *item = item_random_live(storm);
    struct weir_op op = {0};
    if (storm->in_turn) {
        STORM_EQUAL(storm, weir_loop_turn(storm->loop, 0), -EBUSY);
        STORM_EQUAL(storm, weir_loop_close(storm->loop, 0, NULL), -EBUSY);
        STORM_EQUAL(storm, weir_loop_abandon(storm->loop), -EBUSY);
    }
    if (item) {
        STORM_EQUAL(storm, weir_submit(storm->loop, &item->op), -EBUSY);
        STORM_EQUAL(storm, weir_loop_post(storm->loop, &item->op), -EBUSY);
    }
    STORM_EQUAL(storm, weir_submit(storm->loop, &op), -EINVAL);
    STORM_EQUAL(storm, weir_cancel(storm->loop, &op), -ENOENT);
    STORM_EQUAL(storm, weir_loop_fd(storm->loop), -EOPNOTSUPP);
    STORM_EQUAL(storm, weir_sim_close(storm->sim), -EBUSY);
}

static void wake(struct storm *storm)
{
    STORM_EQUAL(storm, weir_loop_wake(storm->loop), 0);
    storm->rung = true;
}

static void crash(struct storm *storm)
{
    if (storm_random(storm, 200) > 0) {
        return;
    }
    STORM_EQUAL(storm, weir_sim_crash(storm->sim), 0);
    STORM_EQUAL(storm, weir_sim_crash(storm->sim), -EALREADY);
}

static enum weight draw(struct storm *storm)
{
    uint64_t at = storm_random(storm, storm->weight_sum);
    unsigned weight = 0;
    while (at >= storm->weights[weight]) {
        at -= storm->weights[weight++];
    }
    return weight;
}

void storm_step(struct storm *storm)
{
    static void (*const others[WEIGHTS])(struct storm *) = {
        [WEIGHT_CANCEL] = cancel_one,
        [WEIGHT_CANCEL_FD] = cancel_fd,
        [WEIGHT_CANCEL_TASK] = cancel_task,
        [WEIGHT_CLOSE] = close_one,
        [WEIGHT_FORGET] = forget_one,
        [WEIGHT_ROOM] = room_step,
        [WEIGHT_MARK] = mark_step,
        [WEIGHT_TASK] = renew_task,
        [WEIGHT_WAKE] = wake,
        [WEIGHT_FORBIDDEN] = try_the_forbidden,
        [WEIGHT_CRASH] = crash,
    };
    if (storm_is_dead(storm) || storm->deep >= STEPS_DEEP) {
        return;
    }
    storm->deep++;
    enum weight weight = draw(storm);
    if (is_sort(weight)) {
        submit(storm, weight);
    } else {
        others[weight](storm);
    }
    storm->deep--;
}

/* As from another thread, or a worker: all that these may do. */
void storm_window(struct storm *storm, int asleep)
{
    if (storm_is_dead(storm) || storm->closing || !storm_chance(storm, CHANCE_WINDOW)) {
        return;
    }
    storm_hash(storm, (uint64_t)asleep);
    switch (storm_random(storm, 4)) {
    case 0:
        wake(storm);
        break;
    case 1: {
        struct item *item = storm->ops_left > 0 ? item_make(storm, WEIGHT_NOP) : NULL;
        if (item) {
            uint64_t accepted = storm->posts_accepted;
            gate_post(item);
            storm->rung = storm->rung || storm->posts_accepted > accepted;
        }
        break;
    }
    default:
        weir_sim_step(storm->sim); /* what is next is finished, a CALL perhaps */
        break;
    }
}
