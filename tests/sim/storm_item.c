/* SPDX-License-Identifier: MIT */
/* storm_item.c: ops are taken, filled and dressed; and given back. */
#include "storm.h"

#include <errno.h>
#include <string.h>

struct item *item_take(struct storm *storm)
{
    struct item *item = TAILQ_FIRST(&storm->free);
    if (!item) {
        return NULL;
    }
    TAILQ_REMOVE(&storm->free, item, link);
    memset(item, 0, offsetof(struct item, buffer));
    item->storm = storm;
    item->serial = ++storm->serials;
    item->op.result = (int64_t)storm_random(storm, 1000); /* of an earlier life */
    item->op.moved = storm_random(storm, 1000);
    item->task = -1;
    item->own.fd = -1;
    return item;
}

/* To the end of the free ones: a late touch finds it free, or full of poison. */
void item_give(struct item *item)
{
    struct storm *storm = item->storm;
    struct handle *handle = item->handle;
    if (item->stream) {
        stream_let_go(item);
    }
    if (handle && item->op.kind == WEIR_KIND_CLOSE && handle->state == HANDLE_CLOSING) {
        handle->state = HANDLE_OPEN; /* refused */
    }
    if (item->own.fd >= 0 && !weir_sim_has_crashed(storm->sim)) {
        struct weir_op op = {0};
        int answer = storm->closing ? 0 : weir_forget(storm->loop, item->own.fd);
        STORM_CHECK(storm, answer == 0 || answer == -EBUSY);
        handle_mark(storm, item->own.fd, item);
        weir_op_close(&op, item->own.fd);
        STORM_EQUAL(storm, storm_do(storm, &op), 0);
    }
    TAILQ_INSERT_TAIL(&storm->free, item, link);
    memset(item->buffer, STORM_POISON, item->length < STORM_BUFFER_MAX ? item->length : 0);
    if (handle) {
        handle_release(storm, handle);
    }
}

struct item *item_random_live(struct storm *storm)
{
    uint64_t start = storm_random(storm, STORM_ITEMS);
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[(start + i) % STORM_ITEMS];
        if (item->live) {
            return item;
        }
    }
    return NULL;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* What a worker's thread, or a caller in submit, may not do. */
static int64_t work(void *argument)
{
    struct item *item = argument;
    struct storm *storm = item->storm;
    struct weir_op other = {.callback = item->op.callback};
    item->ran++;
    if (!item->live) {
        item_wrong(item, "run, and it is not live");
    }
    weir_op_nop(&other);
    if (item->bound == BOUND_CALLER) {
        STORM_EQUAL(storm, weir_loop_turn(storm->loop, 0), -EBUSY);
        return item->value;
    }
    STORM_EQUAL(storm, weir_submit(storm->loop, &other), -EPERM);
    STORM_EQUAL(storm, weir_cancel(storm->loop, &item->op), -EPERM);
    STORM_CHECK(storm, !weir_op_asked(&item->op) || item->may_cancel || item->deadline_ns != 0 ||
                           storm->closing);
    if (storm_random(storm, 4) == 0 && !storm->closing) {
        struct item *posted = item_make(storm, WEIGHT_NOP);
        if (posted) {
            gate_post(posted);
        }
    }
    return item->value;
}

static bool fill_nothing(struct item *item)
{
    struct storm *storm = item->storm;
    switch (storm_random(storm, 12)) {
    case 0:
        weir_op_socket(&item->op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        break;
    case 1:
        if (storm_random(storm, 2) == 0) {
            weir_op_signal(&item->op, WEIR_SIGNAL(10), NULL);
        } else {
            weir_op_child(&item->op, 1, NULL);
        }
        item->expected = -EOPNOTSUPP;
        break;
    default:
        weir_op_nop(&item->op);
        break;
    }
    return true;
}

static bool fill_call(struct item *item)
{
    item->value = (int64_t)storm_random(item->storm, 1000) - 200; /* EAGAIN, EINTR among them */
    weir_op_call(&item->op, work, item);
    item->op.flags = storm_random(item->storm, 2) == 0 ? WEIR_SHORT : 0;
    return true;
}

static bool fill_timer(struct item *item)
{
    struct storm *storm = item->storm;
    weir_op_timeout_in(&item->op, storm->loop, storm_random(storm, storm->span_ns));
    if (storm_random(storm, 8) == 0) {
        weir_op_timeout(&item->op, storm_random(storm, WEIR_SIM_BEGIN_NS)); /* long past */
    }
    item->at_ns = item->op.arg.timeout.at_ns;
    return true;
}

static bool fill(struct item *item, enum weight sort)
{
    switch (sort) {
    case WEIGHT_FILE:
    case WEIGHT_SYNC:
        return file_fill(item, sort == WEIGHT_SYNC);
    case WEIGHT_STREAM:
    case WEIGHT_LISTENER:
        return stream_fill(item, sort == WEIGHT_LISTENER);
    case WEIGHT_NAME:
        return name_fill(item);
    case WEIGHT_CALL:
        return fill_call(item);
    case WEIGHT_TIMER:
        return fill_timer(item);
    default:
        return fill_nothing(item);
    }
}

/* --- what any op may have --------------------------------------------------------------------- */

static bool may_be_whole(const struct item *item)
{
    return weir_kind_traits(item->op.kind) & WEIR_KIND_MAY_WHOLE &&
           !(item->stream && item->stream->type == STREAM_MESSAGES) && !item->append &&
           !item->may_again;
}

static bool may_offload(const struct item *item)
{
    unsigned kind = item->op.kind;
    return kind != WEIR_KIND_NOP && kind != WEIR_KIND_CLOSE && kind != WEIR_KIND_TIMEOUT &&
           kind != WEIR_KIND_CALL && !(weir_kind_traits(kind) & WEIR_KIND_WAITS) &&
           item->storm->options.offload_workers != WEIR_NO_OFFLOAD && !item->stream;
}

void item_dress(struct item *item)
{
    struct storm *storm = item->storm;
    uint64_t now_ns = weir_sim_now(storm->sim);
    if (item->op.kind != WEIR_KIND_TIMEOUT && storm_chance(storm, CHANCE_DEADLINE)) {
        item->deadline_ns = now_ns + storm_random(storm, storm->span_ns);
        item->op.deadline_ns = item->deadline_ns;
    }
    if (storm_chance(storm, CHANCE_INTENDED)) {
        item->op.intended_ns = now_ns - storm_random(storm, WEIR_MS);
    }
    if (storm_chance(storm, CHANCE_TASK)) {
        item->task = (int)storm_random(storm, STORM_TASKS);
        item->op.task = storm->tasks[item->task];
    }
    if (may_be_whole(item) && storm_chance(storm, CHANCE_WHOLE)) {
        item->op.flags |= WEIR_WHOLE;
    }
    if (may_offload(item) && storm_chance(storm, CHANCE_OFFLOAD)) {
        item->op.route = WEIR_ROUTE_OFFLOAD;
    } else if (item->op.kind != WEIR_KIND_CALL && storm_chance(storm, CHANCE_INLINE)) {
        item->op.route = WEIR_ROUTE_INLINE;
    }
    if (item->op.kind != WEIR_KIND_TIMEOUT && storm_chance(storm, CHANCE_ANSWER)) {
        uint64_t answers = item->op.kind == WEIR_KIND_CALL ? 3 : 2;
        item->op.flags |= (uint16_t)(WEIR_OR_WAIT << storm_random(storm, answers));
    }
}

struct item *item_make(struct storm *storm, enum weight sort)
{
    struct item *item = item_take(storm);
    if (!item) {
        return NULL;
    }
    if (!fill(item, sort)) {
        item->handle = NULL; /* not held yet */
        item_give(item);
        return NULL;
    }
    if (item->file) {
        item->handle->refs++;
    }
    item_dress(item);
    return item;
}
