/* SPDX-License-Identifier: MIT */
/* storm_judge.c: what an op brought back: how it came, what it says, and what that means. */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void item_wrong(struct item *item, const char *why)
{
    const struct weir_op *op = &item->op;
    storm_fail(
        item->storm, WEIR_SITE,
        "op %llu, %s on fd %d, %zu bytes at %llu, result %lld (brought %lld, moved %llu): %s",
        (unsigned long long)item->serial, weir_kind_name(op->kind), op->fd, item->length,
        (unsigned long long)item->offset, (long long)op->result, (long long)item->brought,
        (unsigned long long)op->moved, why);
}

uint64_t item_moved(const struct item *item)
{
    int64_t result = item->op.result;
    return result >= 0 ? (uint64_t)result : item->op.flags & WEIR_WHOLE ? item->op.moved : 0;
}

/* --- how it came ------------------------------------------------------------------------------ */

static bool was_asked_back(const struct item *item)
{
    const struct storm *storm = item->storm;
    bool late = item->deadline_ns != 0 && weir_sim_now(storm->sim) >= item->deadline_ns;
    return item->op.result == -ECANCELED ? item->may_cancel || storm->closing
                                         : item->op.result == -ETIME && late;
}

static void judge_success_brought(struct item *item)
{
    int64_t result = item->op.result;
    bool discarded = item->storm->closing && result == -ECANCELED &&
                     weir_kind_traits(item->op.kind) & WEIR_KIND_MAKES_FD;
    if (item->polled || (item->op.flags & WEIR_WHOLE && result < 0)) {
        if (!was_asked_back(item)) {
            item_wrong(item, "it could go on, and nobody asked it back");
        }
    } else if (item->op.flags & WEIR_WHOLE) {
        if ((uint64_t)result != item->op.moved ||
            ((uint64_t)result != item->length && item->brought != 0)) {
            item_wrong(item, "a WHOLE transfer came back early");
        }
    } else if (result != item->brought && !discarded) {
        item_wrong(item, "it succeeded with something else");
    }
}

static void judge_error_brought(struct item *item)
{
    int64_t result = item->op.result;
    int64_t brought = item->brought;
    if (brought == -EINTR && item->op.kind == WEIR_KIND_CLOSE && result == 0) {
        return;
    }
    if (brought == -EISCONN && item->op.kind == WEIR_KIND_CONNECT && result == 0) {
        return;
    }
    bool goes_on = brought == -EAGAIN || brought == -EINTR || brought == -ECANCELED ||
                   (brought == -EALREADY && item->op.kind == WEIR_KIND_CONNECT);
    if (result != brought && !(goes_on && was_asked_back(item))) {
        item_wrong(item, "it failed with something else");
    }
}

static void judge_call(struct item *item)
{
    if (item->ran > 1 || (item->ran == 1 && item->op.result != item->value)) {
        item_wrong(item, "not what its function returned");
    }
    if (item->ran == 0 && !was_asked_back(item)) {
        item_wrong(item, "it did not run");
    }
}

static void judge_timer(struct item *item)
{
    if (item->op.result == 0 ? weir_sim_now(item->storm->sim) < item->at_ns
                             : !was_asked_back(item)) {
        item_wrong(item, "a timer came early");
    }
}

static void judge_way(struct item *item)
{
    if (item->op.kind == WEIR_KIND_CALL) {
        judge_call(item);
    } else if (item->bound == BOUND_TIMERS || item->op.kind == WEIR_KIND_TIMEOUT) {
        judge_timer(item);
    } else if (item->came == CAME_AT_ONCE || item->came == CAME_EVENT) {
        if (item->brought >= 0) {
            judge_success_brought(item);
        } else {
            judge_error_brought(item);
        }
    } else if (!was_asked_back(item)) {
        item_wrong(item, "it did not finish, and nobody asked it back");
    }
}

/* --- what it says ----------------------------------------------------------------------------- */

static bool may_end_stream(const struct item *item)
{
    const struct stream *stream = item->stream;
    if (!stream) {
        return false;
    }
    return item->storm->may_reset || stream->type == STREAM_LISTENER || stream->way[0].broken ||
           stream->way[1].broken || stream->way[0].ended || stream->way[1].ended;
}

static bool is_plausible(const struct item *item)
{
    int64_t result = item->op.result;
    bool path = item->names[0] != NULL || item->op.kind == WEIR_KIND_SIGNAL ||
                item->op.kind == WEIR_KIND_CHILD;
    switch (result) {
    case -ECANCELED:
    case -ETIME:
        return was_asked_back(item);
    case -EAGAIN:
        return item->may_again;
    case -EINTR:
        return false;
    case -EPIPE:
    case -ECONNRESET:
    case -ECONNREFUSED:
    case -ENOTCONN:
        if (may_end_stream(item)) {
            return true;
        }
        break;
    case -ENOSPC:
        if (item->storm->may_fill) {
            return true;
        }
        break;
    default:
        break;
    }
    return (path && result == item->expected) || item->storm->failing >> item->op.kind & 1;
}

static void judge_new_fd(struct item *item)
{
    struct storm *storm = item->storm;
    struct weir_op op = {0};
    int fd = (int)item->op.result;
    STORM_EQUAL(storm, weir_sim_fcntl(storm->sim, fd, F_GETFD, 0), FD_CLOEXEC);
    weir_op_close(&op, fd);
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
}

static void judge_effect(struct item *item)
{
    bool makes_fd = weir_kind_traits(item->op.kind) & WEIR_KIND_MAKES_FD;
    if (item->names[0]) {
        name_judge(item);
    }
    if (item->file) {
        file_judge(item);
    } else if (item->stream) {
        stream_judge(item);
    } else if (item->op.kind == WEIR_KIND_CLOSE) {
        handle_judge_close(item);
    } else if (item->op.result > 0 && !makes_fd && item->op.kind != WEIR_KIND_CALL) {
        item_wrong(item, "not 0");
    }
    if (makes_fd && item->op.result >= 0) {
        judge_new_fd(item);
    }
}

void item_judge(struct item *item)
{
    struct storm *storm = item->storm;
    const struct weir_op *op = &item->op;
    if (op->state != 0 || op->deadline_ns != 0 || op->intended_ns != 0) {
        item_wrong(item, "not the caller's own again");
    }
    if (item->due_turn != 0 && !storm->closing && storm->turn > item->due_turn) {
        item_wrong(item, "-EALREADY promised it for an earlier turn");
    }
    judge_way(item);
    if (op->result < 0 && op->kind != WEIR_KIND_CALL && !is_plausible(item)) {
        item_wrong(item, strerror((int)-op->result));
    }
    judge_effect(item);
}
