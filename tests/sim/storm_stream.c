/* SPDX-License-Identifier: MIT */
/*
 * storm_stream.c: the model of pipes and sockets. In an ordered stream every byte says where it
 * stands; in the others all bytes are the stream's own, and counted.
 */
#include "storm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

static unsigned char byte_at(const struct stream *stream, uint64_t at)
{
    return stream->ordered ? (unsigned char)(at * 7 + at / 251 + stream->tag) : stream->tag;
}

static void open_listener(struct storm *storm, struct stream *stream)
{
    struct weir_op op = {0};
    socklen_t length = sizeof stream->address;
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    weir_op_socket(&op, AF_INET, SOCK_STREAM, 0);
    int fd = (int)storm_do(storm, &op);
    STORM_CHECK(storm, fd >= 0);
    weir_op_bind(&op, fd, (struct sockaddr *)&address, sizeof address);
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
    weir_op_listen(&op, fd, 1 + (int)storm_random(storm, 4));
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
    int r = weir_sim_sockname(storm->sim, fd, (struct sockaddr *)&stream->address, &length);
    STORM_EQUAL(storm, r, 0);
    stream->end[0].fd = fd;
}

void stream_open(struct storm *storm, struct stream *stream)
{
    static const enum stream_type types[] = {STREAM_PIPE, STREAM_PIPE,     STREAM_PAIR,
                                             STREAM_PAIR, STREAM_MESSAGES, STREAM_LISTENER};
    int fds[2] = {-1, -1};
    *stream = (struct stream){.type = types[storm_random(storm, 6)], .tag = ++storm->tag};
    bool quiet = storm_random(storm, 2) == 0;
    int flags = quiet ? O_NONBLOCK : 0;
    stream->ordered = stream->type <= STREAM_PAIR && storm_chance(storm, CHANCE_ORDERED);
    stream->end[1].state = HANDLE_CLOSED;
    stream->end[1].fd = -1;
    int r = 0;
    switch (stream->type) {
    case STREAM_PIPE:
        r = weir_sim_pipe(storm->sim, fds, flags);
        break;
    case STREAM_PAIR:
        r = weir_sim_socketpair(storm->sim, SOCK_STREAM, fds);
        break;
    case STREAM_MESSAGES:
        r = weir_sim_socketpair(storm->sim, quiet ? SOCK_SEQPACKET : SOCK_DGRAM, fds);
        break;
    default:
        open_listener(storm, stream);
        return;
    }
    STORM_EQUAL(storm, r, 0);
    for (int i = 0; i < 2; i++) {
        stream->end[i].fd = fds[i];
        stream->end[i].state = HANDLE_OPEN;
    }
}

/* --- filling ---------------------------------------------------------------------------------- */

static void give_iov(struct item *item)
{
    size_t first = storm_random(item->storm, item->length);
    item->iov[0] = (struct iovec){item->buffer, first};
    item->iov[1] = (struct iovec){item->buffer + first, item->length - first};
    item->message.msg_iov = item->iov;
    item->message.msg_iovlen = 2;
}

static void fill_pipe(struct item *item, int fd, bool vector)
{
    if (item->reads && vector) {
        weir_op_readv(&item->op, fd, item->iov, 2, WEIR_CURRENT);
    } else if (item->reads) {
        weir_op_read(&item->op, fd, item->buffer, item->length, 0);
    } else if (vector) {
        weir_op_writev(&item->op, fd, item->iov, 2, WEIR_CURRENT);
    } else {
        weir_op_write(&item->op, fd, item->buffer, item->length, 0);
    }
    if (item->may_again) {
        item->op.rw_flags = RWF_NOWAIT;
    }
}

static void fill_socket(struct item *item, int fd, bool vector)
{
    int flags = item->may_again ? MSG_DONTWAIT : 0;
    if (item->reads && vector) {
        weir_op_recvmsg(&item->op, fd, &item->message, flags);
    } else if (item->reads) {
        weir_op_recv(&item->op, fd, item->buffer, item->length, flags);
    } else if (vector) {
        weir_op_sendmsg(&item->op, fd, &item->message, flags);
    } else {
        weir_op_send(&item->op, fd, item->buffer, item->length, flags);
    }
}

static void fill_transfer(struct item *item)
{
    struct storm *storm = item->storm;
    struct stream *stream = item->stream;
    struct direction *way = &stream->way[item->reads ? item->end : 1 - item->end];
    bool big = stream->type != STREAM_MESSAGES && storm_random(storm, 4) == 0;
    bool vector = storm_random(storm, 2) == 0;
    item->length = 1 + storm_random(storm, big ? STORM_BUFFER_MAX : 300);
    item->may_again = storm_chance(storm, CHANCE_NOWAIT);
    item->from = way->sent;
    give_iov(item);
    for (size_t i = 0; i < item->length; i++) {
        item->buffer[i] = item->reads ? STORM_UNTOUCHED : byte_at(stream, way->sent + i);
    }
    if (stream->type == STREAM_PIPE) {
        fill_pipe(item, stream->end[item->end].fd, vector);
    } else {
        fill_socket(item, stream->end[item->end].fd, vector);
    }
    way->readers += item->reads;
    way->writers += item->writes;
    way->pending += item->writes ? item->length : 0;
}

static void fill_listener(struct item *item)
{
    struct storm *storm = item->storm;
    struct weir_op op = {0};
    if (storm_random(storm, 2) == 0) {
        item->handle->refs++;
        weir_op_accept(&item->op, item->handle->fd, NULL, NULL, SOCK_CLOEXEC);
        return;
    }
    weir_op_socket(&op, AF_INET, SOCK_STREAM, 0);
    item->own.fd = (int)storm_do(storm, &op);
    STORM_CHECK(storm, item->own.fd >= 0);
    item->handle = NULL;
    weir_op_connect(&item->op, item->own.fd, (struct sockaddr *)&item->stream->address,
                    sizeof item->stream->address);
}

/* Which way. False: somebody is there who must be alone. */
static bool choose_way(struct item *item)
{
    struct stream *stream = item->stream;
    item->reads = stream->type == STREAM_PIPE ? item->end == 0 : storm_random(item->storm, 2) == 0;
    item->writes = !item->reads;
    const struct direction *way = &stream->way[item->reads ? item->end : 1 - item->end];
    unsigned there = item->reads ? way->readers : way->writers;
    return !stream->ordered || there == 0;
}

static void fill_odd(struct item *item)
{
    struct storm *storm = item->storm;
    struct stream *stream = item->stream;
    int fd = item->handle->fd;
    bool pipe = stream->type == STREAM_PIPE;
    item->handle->refs++;
    if (stream->type == STREAM_PAIR && storm_random(storm, 3) == 0) {
        weir_op_shutdown(&item->op, fd, SHUT_WR);
        stream->way[1 - item->end].ended = true;
    } else if (pipe && item->reads && storm_random(storm, 2) == 0) {
        item->length = 1 + storm_random(storm, 3000);
        item->from = stream->way[0].sent;
        item->may_again = storm_chance(storm, CHANCE_NOWAIT);
        stream->way[0].readers++;
        weir_op_splice(&item->op, fd, WEIR_CURRENT, storm->null, WEIR_CURRENT, item->length,
                       item->may_again ? SPLICE_F_NONBLOCK : 0);
        return;
    } else {
        weir_op_poll(&item->op, fd, item->reads ? POLLIN : POLLOUT);
    }
    item->reads = false;
    item->writes = false;
}

bool stream_fill(struct item *item, bool listener)
{
    struct storm *storm = item->storm;
    struct stream *stream = &storm->streams[storm_random(storm, STORM_STREAMS)];
    item->end = (int)storm_random(storm, 2);
    if (listener != (stream->type == STREAM_LISTENER)) {
        return false;
    }
    item->end = listener ? 0 : item->end;
    item->stream = stream;
    item->handle = &stream->end[item->end];
    if (item->handle->state != HANDLE_OPEN) {
        item->handle = NULL;
        item->stream = NULL;
        return false;
    }
    if (!listener && !choose_way(item)) {
        item->handle = NULL;
        item->stream = NULL;
        return false;
    }
    stream->refs++;
    if (listener) {
        fill_listener(item);
    } else if (storm_random(storm, 8) == 0) {
        fill_odd(item);
    } else {
        item->handle->refs++;
        fill_transfer(item);
    }
    return true;
}

/* --- judging ---------------------------------------------------------------------------------- */

void stream_closes(struct stream *stream, int end)
{
    bool pipe = stream->type == STREAM_PIPE;
    stream->way[1 - end].ended = true; /* what it wrote */
    stream->way[end].broken = true;    /* what it would have read */
    if (!pipe) {
        stream->way[1 - end].broken = true; /* with a reset, if it had not read all */
    }
    stream->way[end].ended = true;
}

static void judge_read(struct item *item, uint64_t moved)
{
    struct stream *stream = item->stream;
    struct direction *way = &stream->way[item->end];
    bool spliced = item->op.kind == WEIR_KIND_SPLICE;
    for (uint64_t i = 0; i < moved && !spliced; i++) {
        if (item->buffer[i] != byte_at(stream, way->got + i)) {
            item_wrong(item, "not what was sent, in its order");
        }
    }
    for (uint64_t i = moved; i < item->length && !spliced; i++) {
        if (item->buffer[i] != STORM_UNTOUCHED) {
            item_wrong(item, "the buffer was written to past the result");
        }
    }
    way->got += moved;
    if (way->got > way->sent + way->pending) {
        item_wrong(item, "more was read than sent");
    }
    if (item->op.result == 0 && !way->ended && !way->broken) {
        item_wrong(item, "no end was due");
    }
}

static void judge_written(struct item *item, uint64_t moved)
{
    struct direction *way = &item->stream->way[1 - item->end];
    if (item->op.result == 0) {
        item_wrong(item, "nothing was sent");
    }
    way->sent += moved;
}

void stream_judge(struct item *item)
{
    uint64_t moved = item_moved(item);
    bool whole = item->op.flags & WEIR_WHOLE;
    bool ended =
        item->reads && (item->stream->way[item->end].ended || item->stream->way[item->end].broken);
    if (moved > item->length && (item->reads || item->writes)) {
        item_wrong(item, "more than asked for");
    }
    if (whole && item->op.result >= 0 && moved < item->length && !ended) {
        item_wrong(item, "a WHOLE transfer is short");
    }
    if (item->reads) {
        judge_read(item, moved);
    } else if (item->writes) {
        judge_written(item, moved);
    } else if (item->op.kind == WEIR_KIND_POLL && item->op.result == 0) {
        item_wrong(item, "no event");
    }
    if (item->op.result == -ECONNRESET) {
        item->stream->way[0].broken = true;
        item->stream->way[1].broken = true;
    }
}

void stream_let_go(struct item *item)
{
    struct stream *stream = item->stream;
    struct direction *reads = &stream->way[item->end];
    struct direction *writes = &stream->way[1 - item->end];
    reads->readers -= item->reads;
    writes->writers -= item->writes;
    writes->pending -= item->writes ? item->length : 0;
    stream->refs--;
}

/* Both ends at rest, and nobody has closed or reset it. */
void stream_drain(struct storm *storm, struct stream *stream)
{
    static unsigned char bytes[4096];
    for (int end = 0; end < 2 && stream->type <= STREAM_PAIR; end++) {
        struct direction *way = &stream->way[end];
        struct weir_op op = {0};
        int64_t got = 1;
        if (way->broken || way->readers || way->writers || storm->may_reset ||
            stream->end[end].state != HANDLE_OPEN || (stream->type == STREAM_PIPE && end == 1)) {
            continue;
        }
        weir_sim_sleep(storm->sim, WEIR_S); /* what is on its way arrives */
        while (got > 0) {
            weir_op_read(&op, stream->end[end].fd, bytes, sizeof bytes, WEIR_CURRENT);
            got = storm_do(storm, &op);
            for (int64_t i = 0; i < got; i++) {
                STORM_EQUAL(storm, bytes[i], byte_at(stream, way->got + (uint64_t)i));
            }
            way->got += got > 0 ? (uint64_t)got : 0;
        }
        STORM_EQUAL(storm, way->got, way->sent);
    }
}
