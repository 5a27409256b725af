/* SPDX-License-Identifier: MIT */
/* sim_stream.c: what moves through streams: bytes, messages, ends and resets. */
#include "sim_stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define PIECE (4096 - sizeof(struct weir_chunk)) /* of a stream's bytes: a page with its header */
#define MESSAGE_COST 64                          /* that empty ones are bounded too */
#define DATAGRAM_MAX 65507
#define NS_PER_S 1000000000u
#define NEVER UINT64_MAX

static void changed(struct weir_stream *stream)
{
    if (stream) {
        stream->net->changed(stream->net->context, stream);
    }
}

/* --- what is held ----------------------------------------------------------------------------- */

static uint64_t cost_of(const struct weir_stream *stream, uint64_t length)
{
    return weir_stream_is_message(stream) ? length + MESSAGE_COST : length;
}

static void pop(struct weir_stream *stream)
{
    struct weir_chunk *chunk = stream->head;
    stream->head = chunk->next;
    stream->tail = stream->head ? stream->tail : NULL;
    stream->held -= cost_of(stream, chunk->length - chunk->taken);
    weir_arena_give(stream->net->arena, chunk, sizeof *chunk + chunk->length);
}

static void purge(struct weir_stream *stream)
{
    while (stream->head) {
        pop(stream);
    }
}

static uint64_t room_in(const struct weir_stream *stream)
{
    uint64_t capacity = stream->net->capacity;
    return stream->held < capacity ? capacity - stream->held : 0;
}

static bool has_arrived(const struct weir_stream *stream, uint64_t now_ns)
{
    return stream->head && stream->head->at_ns <= now_ns;
}

static bool has_ended(const struct weir_stream *stream, uint64_t now_ns)
{
    return stream->ends && stream->ends_ns <= now_ns;
}

/* --- ends ------------------------------------------------------------------------------------- */

/* Nothing more will come in. */
static void end(struct weir_stream *stream, const struct weir_when *when)
{
    uint64_t at_ns = when->now_ns + when->way_ns;
    if (!stream->ends) {
        stream->ends = true;
        stream->ends_ns = at_ns > stream->line_ns ? at_ns : stream->line_ns;
    }
}

static void break_off(struct weir_stream *stream)
{
    purge(stream);
    stream->error = ECONNRESET;
    stream->ends = true;
    stream->ends_ns = 0;
    stream->write_shut = true;
    stream->peer = NULL;
    changed(stream);
}

void weir_stream_reset(struct weir_stream *stream)
{
    struct weir_stream *peer = stream->peer;
    if (stream->role != WEIR_STREAM_SOCKET || stream->type == SOCK_DGRAM || !peer) {
        return;
    }
    break_off(stream);
    break_off(peer);
}

static void leave_peer(struct weir_stream *stream, const struct weir_when *when)
{
    struct weir_stream *peer = stream->peer;
    bool unread =
        stream->role == WEIR_STREAM_SOCKET && stream->type == SOCK_STREAM && stream->held > 0;
    if (!peer) {
        return;
    }
    stream->peer = NULL;
    peer->peer = NULL;
    if (unread || stream->linger_reset) {
        break_off(peer);
        return;
    }
    if (stream->type != SOCK_DGRAM) {
        end(peer, when);
    }
    changed(peer);
}

void weir_stream_close(struct weir_stream *stream, const struct weir_when *when)
{
    while (stream->pending) {
        struct weir_stream *pending = stream->pending;
        stream->pending = pending->next_pending;
        weir_stream_reset(pending);
        weir_stream_close(pending, when);
    }
    leave_peer(stream, when);
    purge(stream);
    weir_net_unbind(stream);
    weir_arena_give(stream->net->arena, stream, sizeof *stream);
}

int weir_stream_shutdown(struct weir_stream *stream, int how, const struct weir_when *when)
{
    bool listens = stream->state == WEIR_STREAM_LISTENING;
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    if (stream->state == WEIR_STREAM_FRESH) {
        return -ENOTCONN;
    }
    if (how != SHUT_WR) {
        stream->read_shut = true;
    }
    if (how != SHUT_RD && !listens && !stream->write_shut) {
        stream->write_shut = true;
        if (stream->peer && stream->type != SOCK_DGRAM) {
            end(stream->peer, when);
        }
    }
    changed(stream);
    changed(stream->peer);
    return 0;
}

int weir_stream_take_error(struct weir_stream *stream)
{
    int error = stream->error;
    stream->error = 0;
    return -error;
}

/* --- what can be moved ------------------------------------------------------------------------ */

int64_t weir_stream_readable(const struct weir_stream *stream, uint64_t now_ns)
{
    bool datagrams = stream->type == SOCK_DGRAM;
    if (has_arrived(stream, now_ns)) {
        const struct weir_chunk *chunk = stream->head;
        uint64_t bytes = 0;
        if (weir_stream_is_message(stream)) {
            return (int64_t)chunk->length;
        }
        for (; chunk && chunk->at_ns <= now_ns; chunk = chunk->next) {
            bytes += chunk->length - chunk->taken;
        }
        return (int64_t)bytes;
    }
    if (stream->error) {
        return -stream->error;
    }
    if (stream->role == WEIR_STREAM_SOCKET && !datagrams &&
        stream->state != WEIR_STREAM_CONNECTED) {
        return stream->domain == AF_UNIX && stream->type == SOCK_STREAM ? -EINVAL : -ENOTCONN;
    }
    return stream->read_shut || (!datagrams && has_ended(stream, now_ns)) ? 0 : -EAGAIN;
}

/* What may be sent on a connection; 0 or -errno. */
static int may_send(const struct weir_stream *stream)
{
    if (stream->error) {
        return -stream->error;
    }
    if (stream->role == WEIR_STREAM_SOCKET && stream->state != WEIR_STREAM_CONNECTED) {
        return stream->domain == AF_UNIX ? -ENOTCONN : -EPIPE;
    }
    return stream->write_shut || !stream->peer || stream->peer->read_shut ? -EPIPE : 0;
}

/* Where a datagram goes; NULL and *ret_error: nowhere, 0 for those that are lost unnoticed. */
static struct weir_stream *destination(const struct weir_stream *stream, const struct weir_name *to,
                                       int *ret_error)
{
    const struct weir_name *name = to && to->length > 0 ? to : &stream->peer_name;
    *ret_error = 0;
    if (stream->peer && name == &stream->peer_name) {
        return stream->peer;
    }
    if (name->length == 0) {
        bool had_peer = stream->state == WEIR_STREAM_CONNECTED;
        *ret_error = stream->domain != AF_UNIX ? -EDESTADDRREQ
                     : had_peer                ? -ECONNREFUSED
                                               : -ENOTCONN;
        return NULL;
    }
    struct weir_stream *found = weir_net_find(stream, name);
    if (!found && stream->domain == AF_UNIX) {
        *ret_error = -ECONNREFUSED;
    }
    return found;
}

static int64_t datagram_writable(const struct weir_stream *stream, uint64_t length,
                                 const struct weir_name *to)
{
    int error;
    if (stream->write_shut) {
        return -EPIPE;
    }
    const struct weir_stream *target = destination(stream, to, &error);
    if (error < 0) {
        return error;
    }
    if (length > DATAGRAM_MAX || cost_of(stream, length) > stream->net->capacity) {
        return -EMSGSIZE;
    }
    bool full = target && room_in(target) < cost_of(stream, length);
    if (full && stream->domain == AF_UNIX) {
        return stream->peer == target ? -EAGAIN : -ENOBUFS;
    }
    return (int64_t)length;
}

int64_t weir_stream_writable(const struct weir_stream *stream, uint64_t length,
                             const struct weir_name *to)
{
    if (stream->role == WEIR_STREAM_SOCKET && stream->type == SOCK_DGRAM) {
        return datagram_writable(stream, length, to);
    }
    int error = may_send(stream);
    if (error < 0) {
        return error;
    }
    uint64_t room = room_in(stream->peer);
    if (weir_stream_is_message(stream)) {
        uint64_t cost = cost_of(stream, length);
        return cost > stream->net->capacity ? -EMSGSIZE : cost > room ? -EAGAIN : (int64_t)length;
    }
    bool in_one_piece = stream->role == WEIR_STREAM_PIPE_OUT && length <= WEIR_STREAM_ATOMIC &&
                        length <= stream->net->capacity;
    if (length > 0 && (room == 0 || (in_one_piece && room < length))) {
        return -EAGAIN;
    }
    return (int64_t)(length < room ? length : room);
}

/* --- moving ----------------------------------------------------------------------------------- */

/* A place in iovecs. */
struct place {
    const struct iovec *iov;
    uint64_t count;
    uint64_t offset; /* in the first */
};

static void skip_bytes(struct place *place, uint64_t bytes)
{
    place->offset += bytes;
    while (place->count > 0 && place->offset >= place->iov->iov_len) {
        place->offset -= place->iov->iov_len;
        place->iov++;
        place->count--;
    }
}

/* Between data and the iovecs from the place on. */
static void copy(struct place *place, char *data, uint64_t bytes, bool to_iovecs)
{
    while (bytes > 0) {
        char *memory = (char *)place->iov->iov_base + place->offset;
        uint64_t left = place->iov->iov_len - place->offset;
        uint64_t part = left < bytes ? left : bytes;
        memcpy(to_iovecs ? memory : data, to_iovecs ? data : memory, part);
        data += part;
        bytes -= part;
        skip_bytes(place, part);
    }
}

static int64_t receive_message(struct weir_stream *stream, struct place *place, uint64_t length,
                               int flags, struct weir_received *received)
{
    struct weir_chunk *chunk = stream->head;
    uint64_t whole = chunk->length;
    uint64_t part = whole < length ? whole : length;
    copy(place, chunk->data, part, true);
    received->flags = part < whole ? MSG_TRUNC : 0;
    received->from = chunk->from;
    if (!(flags & MSG_PEEK)) {
        pop(stream);
        changed(stream->peer);
    }
    return (int64_t)(flags & MSG_TRUNC ? whole : part);
}

int64_t weir_stream_receive(struct weir_stream *stream, uint64_t now_ns, const struct iovec *iov,
                            uint64_t count, uint64_t skip, uint64_t length, int flags,
                            struct weir_received *ret_received)
{
    struct weir_received unwanted;
    struct weir_received *received = ret_received ? ret_received : &unwanted;
    struct place place = {.iov = iov, .count = count};
    *received = (struct weir_received){0};
    if (!has_arrived(stream, now_ns)) {
        return 0;
    }
    skip_bytes(&place, skip);
    if (weir_stream_is_message(stream)) {
        return receive_message(stream, &place, length, flags, received);
    }
    uint64_t moved = 0;
    struct weir_chunk *chunk = stream->head;
    while (chunk && chunk->at_ns <= now_ns && moved < length) {
        uint64_t left = chunk->length - chunk->taken;
        uint64_t part = left < length - moved ? left : length - moved;
        bool drops = flags & MSG_TRUNC && stream->domain != AF_UNIX; /* tcp(7) */
        if (!drops) {
            copy(&place, chunk->data + chunk->taken, part, true);
        }
        moved += part;
        if (flags & MSG_PEEK) {
            chunk = chunk->next;
            continue;
        }
        chunk->taken += part;
        stream->held -= part;
        if (chunk->taken == chunk->length) {
            pop(stream);
        }
        chunk = part == left ? stream->head : NULL;
    }
    if (moved > 0 && !(flags & MSG_PEEK)) {
        changed(stream->peer);
    }
    return (int64_t)moved;
}

/* When something arrives that is sent now, after what was sent before: in a pipe at once. */
static uint64_t arrival(struct weir_stream *target, const struct weir_when *when, uint64_t bytes)
{
    if (target->role != WEIR_STREAM_SOCKET) {
        return when->now_ns;
    }
    uint64_t at_ns = when->now_ns + when->way_ns;
    at_ns = at_ns > target->line_ns ? at_ns : target->line_ns;
    if (when->way_ns > 0) {
        at_ns += bytes * NS_PER_S / target->net->bytes_per_s;
    }
    target->line_ns = at_ns;
    return at_ns;
}

static bool put(struct weir_stream *target, const struct weir_when *when, struct place *place,
                uint64_t bytes, const struct weir_name *from)
{
    struct weir_chunk *chunk = weir_arena_take(target->net->arena, sizeof *chunk + (size_t)bytes);
    if (!chunk) {
        return false;
    }
    chunk->length = bytes;
    chunk->at_ns = arrival(target, when, bytes);
    copy(place, chunk->data, bytes, false);
    if (from) {
        chunk->from = *from;
    }
    *(target->tail ? &target->tail->next : &target->head) = chunk;
    target->tail = chunk;
    target->held += cost_of(target, bytes);
    return true;
}

int64_t weir_stream_send(struct weir_stream *stream, const struct weir_when *when,
                         const struct iovec *iov, uint64_t count, uint64_t skip, uint64_t length,
                         const struct weir_name *to)
{
    struct place place = {.iov = iov, .count = count};
    struct weir_stream *target = stream->peer;
    uint64_t moved = 0;
    bool message = weir_stream_is_message(stream);
    skip_bytes(&place, skip);
    if (message && stream->type == SOCK_DGRAM) {
        int error;
        target = destination(stream, to, &error);
        if (!target || room_in(target) < cost_of(stream, length)) {
            return (int64_t)length; /* lost, as datagrams may be */
        }
    }
    if (message) {
        return put(target, when, &place, length, &stream->name) ? changed(target),
               (int64_t)length                                  : -ENOBUFS;
    }
    while (moved < length) {
        uint64_t part = length - moved < PIECE ? length - moved : PIECE;
        if (!put(target, when, &place, part, NULL)) {
            break;
        }
        moved += part;
    }
    if (moved == 0 && length > 0) {
        return -ENOBUFS;
    }
    changed(target);
    return (int64_t)moved;
}

/* --- looking ---------------------------------------------------------------------------------- */

static unsigned poll_socket(const struct weir_stream *stream, uint64_t now_ns)
{
    const unsigned in = POLLIN | POLLRDNORM;
    const unsigned out = POLLOUT | POLLWRNORM;
    if (stream->state == WEIR_STREAM_LISTENING) {
        return stream->pending ? in : 0;
    }
    if (stream->type == SOCK_DGRAM) {
        bool full = stream->peer && stream->domain == AF_UNIX && room_in(stream->peer) == 0;
        return (has_arrived(stream, now_ns) || stream->read_shut ? in : 0) | (full ? 0 : out);
    }
    if (stream->state == WEIR_STREAM_FRESH && !stream->error) {
        return out | POLLHUP;
    }
    bool ended = stream->read_shut || has_ended(stream, now_ns);
    bool is_cut_off = !stream->peer && stream->domain == AF_UNIX;
    unsigned events = stream->error ? POLLERR | in : 0;
    events |= has_arrived(stream, now_ns) ? in : 0;
    events |= ended ? in | POLLRDHUP : 0;
    events |= ended && (stream->write_shut || is_cut_off) ? POLLHUP : 0;
    return events | (!stream->peer || room_in(stream->peer) > 0 ? out : 0);
}

unsigned weir_stream_poll(const struct weir_stream *stream, uint64_t now_ns)
{
    if (stream->role == WEIR_STREAM_SOCKET) {
        return poll_socket(stream, now_ns);
    }
    if (stream->role == WEIR_STREAM_PIPE_IN) {
        return (has_arrived(stream, now_ns) ? POLLIN | POLLRDNORM : 0) |
               (has_ended(stream, now_ns) ? POLLHUP : 0);
    }
    uint64_t capacity = stream->net->capacity;
    uint64_t wanted = capacity < WEIR_STREAM_ATOMIC ? capacity : WEIR_STREAM_ATOMIC;
    if (!stream->peer) {
        return POLLOUT | POLLWRNORM | POLLERR;
    }
    return room_in(stream->peer) >= wanted ? POLLOUT | POLLWRNORM : 0;
}

uint64_t weir_stream_next_ns(const struct weir_stream *stream, uint64_t now_ns)
{
    for (const struct weir_chunk *chunk = stream->head; chunk; chunk = chunk->next) {
        if (chunk->at_ns > now_ns) {
            return chunk->at_ns;
        }
    }
    return stream->ends && stream->ends_ns > now_ns ? stream->ends_ns : NEVER;
}
