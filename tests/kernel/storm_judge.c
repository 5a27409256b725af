/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void implausible(struct item *item, const char *why)
{
    storm_fail(item->world, WEIR_SITE, "%s of %zu bytes on fd %d gave %lld: %s",
               weir_kind_name(item->op.kind), item->length, item->op.fd, (long long)item->op.result,
               why);
}

static void judge_bytes(struct item *item, size_t moved)
{
    struct channel *channel = item->channel;
    bool file = channel->type == CHANNEL_FILE;
    for (size_t i = 0; i < moved; i++) {
        unsigned char right = file ? item_file_byte(item->offset + i) : channel->tag;
        if (item->buffer[i] != right) {
            implausible(item, "wrong data");
        }
    }
    for (size_t i = moved; item->op.result >= 0 && i < item->length; i++) {
        if (item->buffer[i] != STORM_UNTOUCHED) {
            implausible(item, "the buffer was written to past the result");
        }
    }
    channel->got += moved;
    if (!file && channel->got > channel->sent) {
        implausible(item, "more was read than written");
    }
}

/* A peer that was closed explains the end of a stream. */
static bool stream_ended(const struct item *item)
{
    return item->channel->type != CHANNEL_FILE && channel_ended(item->channel);
}

static void judge_transfer(struct item *item)
{
    int64_t result = item->op.result;
    bool whole = item->op.flags & WEIR_WHOLE;
    size_t moved = result >= 0 ? (size_t)result : (whole ? item->op.moved : 0);
    if (result > (int64_t)item->length) {
        implausible(item, "more than asked for");
    }
    if (whole && result >= 0 && item->op.moved != (uint64_t)result) {
        implausible(item, "op->moved is not the result");
    }
    bool all = whole || (item->channel->type == CHANNEL_FILE && !item->may_again);
    if (result >= 0 && (size_t)result < item->length && all && !stream_ended(item)) {
        implausible(item, "short");
    }
    if (result == 0 && !stream_ended(item)) {
        implausible(item, "no end was due");
    }
    if (item->reads) {
        judge_bytes(item, moved);
    }
}

/* Results of 0 or more. */
static void judge_success(struct item *item)
{
    int64_t result = item->op.result;
    switch (item->op.kind) {
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        judge_transfer(item);
        break;
    case WEIR_KIND_SPLICE:
        item->channel->got += (uint64_t)result;
        if (result == 0 && !stream_ended(item)) {
            implausible(item, "no end was due");
        }
        break;
    case WEIR_KIND_ACCEPT:
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_SOCKET:
        if (fcntl((int)result, F_GETFD) != FD_CLOEXEC) {
            implausible(item, "no such fd, or not close-on-exec");
        }
        CHECK_EQUAL(close((int)result), 0);
        break;
    case WEIR_KIND_POLL:
        if (!(result & (POLLIN | POLLOUT | POLLHUP | POLLERR))) {
            implausible(item, "no event");
        }
        break;
    case WEIR_KIND_STATX:
        CHECK_EQUAL(item->statx.stx_size, STORM_FILE_SIZE);
        break;
    default:
        if (result != 0) {
            implausible(item, "not 0");
        }
        break;
    }
    if (item->at_ns != 0 && weir_now(item->world->loop) < item->at_ns) {
        implausible(item, "early");
    }
}

static void judge_error(struct item *item)
{
    int64_t result = item->op.result;
    bool plausible;
    switch (result) {
    case -ECANCELED:
        plausible = item->may_cancel || item->world->closing;
        break;
    case -ETIME:
        plausible = item->deadline_ns != 0 && weir_now(item->world->loop) >= item->deadline_ns;
        break;
    case -EAGAIN:
        plausible = item->may_again;
        break;
    case -EPIPE:
    case -ECONNRESET:
        plausible = item->buffer != NULL && stream_ended(item);
        break;
    case -ECONNREFUSED:
        plausible = item->client >= 0;
        break;
    default:
        plausible = false;
        break;
    }
    if (item->client >= 0 && result == -ECONNRESET) {
        plausible = true;
    }
    if (!plausible) {
        implausible(item, strerror((int)-result));
    }
    if (item->buffer != NULL && item->reads) {
        judge_transfer(item);
    }
}

/* It ran and came back with its value, or it did not run. */
static void judge_call(struct item *item)
{
    int64_t result = item->op.result;
    bool withdrawn = result == -ECANCELED && (item->may_cancel || item->world->closing);
    bool late = result == -ETIME && item->deadline_ns != 0 &&
                weir_now(item->world->loop) >= item->deadline_ns;
    if (item->ran > 1 || (item->ran == 1 && result != item->value)) {
        implausible(item, "not what its function returned");
    }
    if (item->ran == 0 && !withdrawn && !late) {
        implausible(item, "it did not run");
    }
}

void item_judge(struct item *item)
{
    if (item->op.state != 0 || item->op.deadline_ns != 0 || item->op.intended_ns != 0) {
        implausible(item, "not the caller's own again");
    }
    if (item->due_turn != 0 && !item->world->closing && item->world->turn > item->due_turn) {
        implausible(item, "-EALREADY promised it for an earlier turn");
    }
    if (item->next_turn != 0 && !item->world->closing && item->world->turn < item->next_turn) {
        implausible(item, "it was finished when cancel answered 0");
    }
    if (item->op.kind == WEIR_KIND_CALL) {
        judge_call(item);
    } else if (item->op.result < 0) {
        judge_error(item);
    } else {
        judge_success(item);
    }
}
