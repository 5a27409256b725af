/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "storm.h"

#include <errno.h>
#include <string.h>

/* --- the model ------------------------------------------------------------------------------- */

static enum bound bound_of(const struct item *item)
{
    if (item->op.kind == WEIR_KIND_TIMEOUT) {
        return BOUND_TIMERS;
    }
    bool call = item->op.kind == WEIR_KIND_CALL || item->op.route == WEIR_ROUTE_OFFLOAD;
    return call ? BOUND_OFFLOAD : BOUND_GATE;
}

unsigned storm_most(const struct world *world, enum bound bound)
{
    const struct weir_options *options = &world->options;
    const unsigned most[BOUNDS] = {
        [BOUND_GATE] = options->depth + options->waiting_max,
        [BOUND_OFFLOAD] = options->offload_depth + options->offload_waiting_max,
        [BOUND_TIMERS] = options->timers_max,
        [BOUND_CALLER] = STORM_CALLER_RAN,
    };
    return most[bound];
}

unsigned storm_live(const struct world *world)
{
    unsigned live = 0;
    for (unsigned i = 0; i < BOUNDS; i++) {
        live += world->live[i];
    }
    return live;
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

static void insert(struct item *item, enum bound bound)
{
    struct world *world = item->world;
    item->bound = bound;
    item->place = free_place(world);
    world->items[item->place] = item;
    item->born_turn = world->turn;
    world->live[bound]++;
    world->live_posted[bound] += item->posted;
}

static void remove_item(struct item *item)
{
    struct world *world = item->world;
    world->items[item->place] = NULL;
    world->live[item->bound]--;
    world->live_posted[item->bound] -= item->posted;
}

static void tally_submitted(struct world *world, const struct item *item)
{
    world->tally.submitted++;
    world->kinds[item->op.kind]++;
    if (item->task >= 0) {
        world->task_tallies[item->task].submitted++;
    }
}

/* --- coming back ------------------------------------------------------------------------------ */

static void tally_finished(struct tally *tally, const struct item *item)
{
    tally->finished++;
    tally->cancelled += item->op.result == -ECANCELED;
    tally->expired += item->op.result == -ETIME;
}

void storm_on_item(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct world *world = item->world;
    STORM_CHECK(world, item->place < world->places && world->items[item->place] == item);
    mail_forget(world, item);
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
    if (bound_of(item) == BOUND_TIMERS) {
        STORM_CHECK(world, answer == -EINVAL);
        return;
    }
    STORM_CHECK(world, answer == (room->waits ? -EBUSY : 0));
    room->waits |= answer == 0;
}

/* Not accepted, and not in the model (any more). */
static void give_up(struct item *item)
{
    STORM_CHECK(item->world, item->op.state == 0);
    if (item->channel != NULL) {
        item->channel->refs--;
    }
    item_free(item);
}

void storm_drop(struct item *item)
{
    remove_item(item);
    give_up(item);
}

static void refused(struct world *world, struct item *item)
{
    world->tally.refused++;
    if (item->task >= 0) {
        world->task_tallies[item->task].refused++;
    }
    if (storm_random(world, 4) == 0) {
        wait_for_room(world, item);
    }
    give_up(item);
}

static uint64_t caller_ran(const struct world *world)
{
    struct weir_counters counters = {0};
    CHECK_EQUAL(weir_loop_counters(world->loop, &counters), 0);
    return counters.caller_ran;
}

/* Posts hold places, but since when only the engine knows. */
void storm_submit(struct world *world, struct item *item)
{
    enum bound bound = bound_of(item);
    unsigned most = storm_most(world, bound);
    bool has_room = world->live[bound] < most;
    bool is_full = world->live[bound] - world->live_posted[bound] >= most;
    bool may_run = item->op.kind == WEIR_KIND_CALL && world->options.flags & WEIR_CALLER_RUNS;
    if (may_run && world->live[BOUND_CALLER] >= STORM_CALLER_RAN) {
        give_up(item);
        return;
    }
    item->op.callback = storm_on_item;
    int answer = weir_submit(world->loop, &item->op);
    bool ran = may_run && caller_ran(world) > world->caller_ran;
    world->caller_ran += ran;
    bool right = answer == 0 ? has_room || !is_full || ran : answer == -EAGAIN && !has_room;
    if (!right || (ran && (has_room || item->ran != 1)) || (answer != 0 && may_run)) {
        storm_fail(world, WEIR_SITE, "submit of a %s answered %d with %u of %u live, %u posted",
                   weir_kind_name(item->op.kind), answer, world->live[bound], most,
                   world->live_posted[bound]);
    }
    if (answer != 0) {
        refused(world, item);
        return;
    }
    tally_submitted(world, item);
    insert(item, ran ? BOUND_CALLER : bound);
}

void storm_accepted(struct world *world, struct item *item)
{
    world->posts++;
    tally_submitted(world, item);
}

static unsigned posted_in_all(const struct world *world)
{
    unsigned posted = 0;
    for (unsigned i = 0; i < BOUNDS; i++) {
        posted += world->live_posted[i];
    }
    return posted;
}

static bool may_post(const struct world *world)
{
    return posted_in_all(world) < STORM_POSTED;
}

void storm_post(struct world *world, struct item *item)
{
    bool has_room = posted_in_all(world) < world->options.posts_max;
    if (!may_post(world)) {
        storm_submit(world, item);
        return;
    }
    item->posted = true;
    item->op.callback = storm_on_item;
    insert(item, bound_of(item));
    int answer = weir_loop_post(world->loop, &item->op);
    if (answer != 0 && (answer != -EAGAIN || has_room)) {
        storm_fail(world, WEIR_SITE, "post of a %s answered %d with %u of %u posts live",
                   weir_kind_name(item->op.kind), answer, posted_in_all(world) - 1,
                   world->options.posts_max);
    }
    if (answer == 0) {
        storm_accepted(world, item);
    } else {
        world->posts_refused++;
        storm_drop(item);
    }
}

static void post_by_mail(struct world *world)
{
    if (may_post(world) && world->tally.submitted < world->ops_wanted) {
        struct item *item = item_without_channel(world);
        item->posted = true;
        item->op.callback = storm_on_item;
        insert(item, bound_of(item));
        mail_send(world, item);
    }
}

static struct item *random_live(struct world *world)
{
    unsigned start = (unsigned)storm_random(world, world->places);
    for (unsigned i = 0; i < world->places; i++) {
        struct item *item = world->items[(start + i) % world->places];
        if (item != NULL && !item->mailed) {
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

/* A worker of the offload ring: by route or kind, or because the reactor has no way but that. */
static bool may_be_with_worker(const struct item *item)
{
    bool reactor = item->world->options.policy == WEIR_EPOLL;
    return item->bound == BOUND_OFFLOAD || (reactor && item->bound == BOUND_GATE);
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
    } else if (answer == -EALREADY && may_be_with_worker(item)) {
        storm_asked(item); /* or it runs: then it comes when that is over */
    } else if (answer == -EALREADY) {
        bool this_turn = world->in_callback && item->born_turn < world->turn && !item->posted;
        item->due_turn = this_turn ? world->turn : world->turn + 1;
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
            least += !item->mailed && !item->may_cancel && item->at_ns > now + WEIR_MS;
            if (item->mailed) {
                item->may_cancel = true; /* if it has got there */
            } else {
                storm_asked(item);
            }
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
        if (item != NULL && choice % 8 == 0) {
            storm_post(world, item);
        } else if (item != NULL) {
            storm_submit(world, item);
        }
    } else if (choice < 960) {
        post_by_mail(world);
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
