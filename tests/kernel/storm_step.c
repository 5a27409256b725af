/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "storm.h"

#include <errno.h>
#include <string.h>

static bool is_timer(const struct item *item)
{
    return item->op.kind == WEIR_KIND_TIMEOUT;
}

/* --- coming back ------------------------------------------------------------------------------ */

static void remove_item(struct item *item)
{
    struct world *world = item->world;
    world->items[item->place] = NULL;
    *(is_timer(item) ? &world->live_timers : &world->live_gate) -= 1;
}

static void tally_finished(struct tally *tally, const struct item *item)
{
    tally->finished++;
    tally->cancelled += item->op.result == -ECANCELED;
    tally->expired += item->op.result == -ETIME;
}

static void on_item(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct world *world = item->world;
    STORM_CHECK(world, item->place < world->places && world->items[item->place] == item);
    remove_item(item);
    tally_finished(&world->tally, item);
    if (item->task >= 0) {
        tally_finished(&world->task_tallies[item->task], item);
    }
    world->in_callback = true;
    item_judge(item);
    struct channel *channel = item->channel;
    if (channel != NULL && op->kind == WEIR_KIND_CLOSE) {
        channel_closed(world, channel, item->end, op->result);
    }
    channel_settle(world, item);
    if (channel != NULL) {
        channel->refs--;
        channel_release(channel);
    }
    item_free(item);
    if (!world->closing && storm_random(world, 3) == 0) {
        storm_step(world);
    }
    world->in_callback = false;
}

static void on_room(struct weir_room *node, int result)
{
    struct room *room = WEIR_CONTAINER(node, struct room, room);
    struct world *world = room->world;
    STORM_CHECK(world, room->waits);
    room->waits = false;
    STORM_CHECK(world, result == (world->closing ? -ESHUTDOWN : 0));
}

/* --- what happens next ------------------------------------------------------------------------ */

static void wait_for_room(struct world *world, const struct item *item)
{
    struct room *room = &world->rooms[storm_random(world, STORM_ROOMS)];
    room->world = world;
    room->room.callback = on_room;
    int answer = weir_wait_room(world->loop, &room->room, &item->op);
    if (is_timer(item)) {
        STORM_CHECK(world, answer == -EINVAL);
        return;
    }
    STORM_CHECK(world, answer == (room->waits ? -EBUSY : 0));
    room->waits |= answer == 0;
}

static void refused(struct world *world, struct item *item)
{
    world->tally.refused++;
    if (item->task >= 0) {
        world->task_tallies[item->task].refused++;
    }
    STORM_CHECK(world, item->op.state == 0);
    if (storm_random(world, 4) == 0) {
        wait_for_room(world, item);
    }
    if (item->channel != NULL) {
        item->channel->refs--;
    }
    item_free(item);
}

static unsigned free_place(struct world *world)
{
    for (unsigned i = 0; i < world->places; i++) {
        if (world->items[i] == NULL) {
            return i;
        }
    }
    storm_fail(world, WEIR_SITE, "more ops are live than there are places");
}

void storm_submit(struct world *world, struct item *item)
{
    bool timer = is_timer(item);
    unsigned live = timer ? world->live_timers : world->live_gate;
    unsigned most =
        timer ? world->options.timers_max : world->options.depth + world->options.waiting_max;
    item->op.callback = on_item;
    int answer = weir_submit(world->loop, &item->op);
    if (answer != (live < most ? 0 : -EAGAIN)) {
        storm_fail(world, WEIR_SITE, "submit of a %s answered %d with %u of %u live",
                   weir_kind_name(item->op.kind), answer, live, most);
    }
    if (answer != 0) {
        refused(world, item);
        return;
    }
    world->tally.submitted++;
    world->kinds[item->op.kind]++;
    if (item->task >= 0) {
        world->task_tallies[item->task].submitted++;
    }
    item->place = free_place(world);
    world->items[item->place] = item;
    *(timer ? &world->live_timers : &world->live_gate) += 1;
}

static struct item *random_live(struct world *world)
{
    unsigned start = (unsigned)storm_random(world, world->places);
    for (unsigned i = 0; i < world->places; i++) {
        struct item *item = world->items[(start + i) % world->places];
        if (item != NULL) {
            return item;
        }
    }
    return NULL;
}

void storm_asked(struct item *item)
{
    item->may_cancel = true;
    if (item->asked_ns == 0) {
        item->asked_ns = weir_now(item->world->loop);
        item->asked_turn = item->world->turn;
    }
}

void storm_cancel(struct world *world, struct item *item)
{
    bool asked = item->may_cancel || item->deadline_ns != 0;
    int answer = weir_cancel(world->loop, &item->op);
    if (answer == 0) {
        storm_asked(item);
        if (!asked && world->in_callback) {
            item->next_turn = world->turn + 1;
        }
    } else if (answer == -EALREADY) {
        item->due_turn = world->in_callback ? world->turn : world->turn + 1;
    } else {
        storm_fail(world, WEIR_SITE, "cancel of a live %s answered %d",
                   weir_kind_name(item->op.kind), answer);
    }
}

static void cancel_dead(struct world *world)
{
    struct item *item = item_new(world, NULL, 0);
    weir_op_nop(&item->op);
    STORM_CHECK(world, weir_cancel(world->loop, &item->op) == -ENOENT);
    item_free(item);
}

static void cancel_fd(struct world *world)
{
    int fd = world->channels[storm_random(world, STORM_CHANNELS)]->fd[0];
    STORM_CHECK(world, weir_cancel_fd(world->loop, fd) >= 0);
    channel_mark(world, fd);
}

static void cancel_task(struct world *world)
{
    int task = (int)storm_random(world, STORM_TASKS);
    uint64_t now = weir_now(world->loop);
    int least = 0; /* timers that are not due cannot be finished */
    int most = 0;
    for (unsigned i = 0; i < world->places; i++) {
        struct item *item = world->items[i];
        if (item != NULL && item->task == task) {
            most++;
            least += !item->may_cancel && item->at_ns > now + WEIR_MS;
            storm_asked(item);
        }
    }
    int asked = weir_cancel_task(world->loop, world->tasks[task]);
    if (weir_now(world->loop) < now + WEIR_MS && (asked < least || asked > most)) {
        storm_fail(world, WEIR_SITE, "cancel_task answered %d, not %d to %d", asked, least, most);
    }
}

static void try_the_forbidden(struct world *world)
{
    if (world->in_callback) {
        STORM_CHECK(world, weir_loop_turn(world->loop, 0) == -EBUSY);
        STORM_CHECK(world, weir_loop_close(world->loop, 0, NULL) == -EBUSY);
    }
    struct item *item = random_live(world);
    if (item != NULL) {
        STORM_CHECK(world, weir_submit(world->loop, &item->op) == -EBUSY);
    }
    struct room *room = &world->rooms[storm_random(world, STORM_ROOMS)];
    STORM_CHECK(world, weir_withdraw_room(world->loop, &room->room) == (room->waits ? 0 : -ENOENT));
    room->waits = false;
}

void storm_step(struct world *world)
{
    unsigned choice = (unsigned)storm_random(world, 1000);
    struct item *item = NULL;
    if (choice < world->closes) {
        channel_close(world, world->channels[storm_random(world, STORM_CHANNELS)]);
    } else if (choice < world->closes + world->cancels) {
        item = random_live(world);
        if (item != NULL) {
            storm_cancel(world, item);
        }
    } else if (choice < 950) {
        item = world->tally.submitted < world->ops_wanted ? item_random(world) : NULL;
        if (item != NULL) {
            storm_submit(world, item);
        }
    } else if (choice < 970) {
        cancel_dead(world);
    } else if (choice < 975) {
        cancel_fd(world);
    } else if (choice < 980) {
        cancel_task(world);
    } else {
        try_the_forbidden(world);
    }
}
