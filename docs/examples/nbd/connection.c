/* SPDX-License-Identifier: MIT */
#include "connection.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Less room than this is not worth a receive. */
#define ROOM_MIN (32u << 10)
/* How long what a client still sends is listened to, at the end. */
#define LINGER_NS (1 * WEIR_S)

void connection_tell(const struct connection *connection, const char *format, ...)
{
    if (connection->shard->options.told) {
        char text[256];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        connection->shard->options.told(connection, text);
    }
}

/* --- memory ----------------------------------------------------------------------------------- */

void *connection_carve(struct connection *connection, uint32_t length, uint32_t alignment,
                       struct buffer **ret_buffer)
{
    void *bytes = buffer_carve(&connection->shard->buffers, &connection->share,
                               &connection->carving, length, alignment, ret_buffer);
    if (!bytes) {
        shard_mark_starved(connection->shard, connection);
    }
    return bytes;
}

/* Room in `in` for what comes next. False: no buffer now. A piece of a WRITE that is being filled
 * goes on where it is as long as there is any room: so it stands in two buffers at most. */
static bool make_room(struct connection *connection)
{
    struct buffers *buffers = &connection->shard->buffers;
    struct buffer *in = connection->in;
    uint32_t pending = in ? connection_pending(connection) : 0;
    if (in && in->holds == 1) { /* ours alone: from the start again */
        memmove(in->bytes, connection_bytes(connection), pending);
        connection->in_start = 0;
        connection->in_end = pending;
    }
    if (in && BUFFER_BYTES - connection->in_end >= (connection->intake.writing ? 1 : ROOM_MIN)) {
        return true;
    }
    struct buffer *next = buffer_take(buffers, &connection->share);
    if (!next) {
        shard_mark_starved(connection->shard, connection);
        return false;
    }
    if (in) {
        memcpy(next->bytes, connection_bytes(connection), pending);
    }
    buffer_drop(buffers, in);
    connection->in = next;
    connection->in_start = 0;
    connection->in_end = pending;
    return true;
}

/* --- submitting ------------------------------------------------------------------------------- */

bool connection_submit(struct connection *connection, struct weir_op *op, enum work work,
                       weir_callback *callback)
{
    op->callback = callback;
    op->task = connection->shard->tasks[work];
    return weir_submit(connection->shard->loop, op) == 0;
}

/* --- receiving -------------------------------------------------------------------------------- */

static void on_received(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, receiving);
    connection->is_receiving = false;
    shard_mark_ready(connection->shard, connection);
    if (op->kind == WEIR_KIND_POLL) { /* whatever it says: the time has come */
        pace_end(&connection->pace, connection->fd, op->result > 0);
        return;
    }
    if (op->result == -ECANCELED && connection->phase == CONNECTION_LINGERING) {
        return; /* it had no deadline; see linger() */
    }
    if (op->result > 0) {
        if (connection->tls && connection->phase < CONNECTION_LINGERING) {
            tls_received(connection->tls, (size_t)op->result);
        } else {
            connection->in_end += (uint32_t)op->result;
        }
        return;
    }
    connection->has_ended = true;
    if (op->result < 0 && connection->phase < CONNECTION_LINGERING) {
        connection_fail(connection, op->result, "it cannot be received from");
    }
}

/* Whether anything is wanted of the client. */
static bool wants_more(struct connection *connection)
{
    switch (connection->phase) {
    case CONNECTION_GREETING:
    case CONNECTION_OPTIONS:
    case CONNECTION_TLS: /* one thing after the other */
        return !connection->replies && !connection->is_sending && !connection->is_starved;
    case CONNECTION_TRANSMISSION:
        return !intake_waits(connection) && !(connection->ends && intake_is_between(connection));
    default:
        return connection->phase == CONNECTION_LINGERING;
    }
}

/* False: no room now. */
static bool fill_receive(struct connection *connection)
{
    size_t room;
    void *into;
    if (connection->tls && connection->phase < CONNECTION_LINGERING) { /* in it, room ends */
        into = tls_input(connection->tls, &room);
    } else {
        if (connection->phase == CONNECTION_LINGERING) { /* nobody looks at it */
            connection->in_start = connection->in_end = 0;
        } else if (!make_room(connection)) {
            return false;
        }
        into = connection->in->bytes + connection->in_end;
        room = BUFFER_BYTES - connection->in_end;
    }
    bool is_bulk = connection->phase == CONNECTION_TRANSMISSION && connection->intake.is_bulk &&
                   intake_is_between(connection);
    uint32_t pending = connection_pending(connection);
    if (is_bulk && pending < NBD_REQUEST_BYTES) { /* what follows it is for a pipe */
        room = NBD_REQUEST_BYTES - pending;
    }
    weir_op_recv(&connection->receiving, connection->fd, into, room, 0);
    if (is_bulk || connection->shard->options.loop.spin_ns_max > 0) { /* turns that spin try it */
        connection->receiving.route = WEIR_ROUTE_INLINE;
    }
    return true;
}

static void receive(struct connection *connection)
{
    struct weir_op *op = &connection->receiving;
    if (connection->is_receiving || connection->has_ended || connection->is_broken ||
        connection->is_ready || !wants_more(connection)) {
        return;
    }
    op->route = WEIR_ROUTE_AUTO;
    op->flags = 0;
    op->deadline_ns = connection->phase == CONNECTION_TRANSMISSION ? 0 : connection->until_ns;
    if (splicing_go(connection)) {
        return;
    }
    bool has_others = shard_has_others(connection->shard, connection);
    if (pace_waits(&connection->pace, connection->fd, has_others)) {
        shard_note_waiting(connection->shard, connection);
        weir_op_poll(op, connection->fd, POLLOUT);
        op->deadline_ns = weir_now(connection->shard->loop) + PACE_NS;
    } else if (!fill_receive(connection)) {
        return;
    }
    connection->is_receiving = connection_submit(connection, op, WORK_RECEIVE, on_received);
    if (!connection->is_receiving) {
        connection_break(connection, "the loop is closing");
    }
}

static void take(struct connection *connection)
{
    if (connection->phase == CONNECTION_TRANSMISSION) {
        intake_take(connection);
    } else if (connection->phase != CONNECTION_TLS) {
        negotiate_take(connection);
    }
}

/* The client is told in the clear that it may begin; all that comes after is TLS. */
static void begin_tls(struct connection *connection)
{
    if (connection->replies || connection->is_sending) {
        return;
    }
    if (tls_open(connection->shard->options.tls, &connection->tls) < 0) {
        connection_break(connection, "no memory for TLS");
    }
}

/* What TLS has received, as plain bytes. False: it needs more. */
static bool decrypt(struct connection *connection)
{
    if (connection->phase == CONNECTION_TLS) {
        int result = tls_handshake(connection->tls);
        if (result == 0) {
            connection->phase = CONNECTION_OPTIONS;
        } else if (result != -EAGAIN) {
            connection_tell(connection, "its TLS handshake failed");
            connection_end(connection); /* when it has been told so */
        }
        return result == 0;
    }
    if (connection->phase > CONNECTION_TRANSMISSION ||
        (connection->phase == CONNECTION_TRANSMISSION && intake_waits(connection)) ||
        !make_room(connection)) {
        return false;
    }
    int64_t length = tls_read(connection->tls, connection->in->bytes + connection->in_end,
                              BUFFER_BYTES - connection->in_end);
    if (length <= 0) {
        connection->has_ended |= length == 0;
        if (length < 0 && length != -EAGAIN) {
            connection_break(connection, "its TLS is broken");
        }
        return false;
    }
    connection->in_end += (uint32_t)length;
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

void connection_end(struct connection *connection)
{
    connection->ends = true;
    if (connection->phase < CONNECTION_TRANSMISSION) {
        connection->phase = CONNECTION_ENDING;
    }
    shard_mark_ready(connection->shard, connection);
}

static void on_closed(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, closing);
    connection->phase = CONNECTION_GONE;
    shard_mark_ready(connection->shard, connection);
}

/* The op takes back what is still live on the fd, and is itself the last. */
static void hang_up(struct connection *connection)
{
    if (connection->phase < CONNECTION_CLOSING && !connection->is_shutting) {
        connection->phase = CONNECTION_CLOSING;
        weir_op_close(&connection->closing, connection->fd);
        if (!connection_submit(connection, &connection->closing, WORK_OTHER, on_closed)) {
            weir_forget(connection->shard->loop, connection->fd);
            close(connection->fd);
            on_closed(&connection->closing);
        }
    }
}

void connection_break(struct connection *connection, const char *why)
{
    if (connection->is_broken) {
        return;
    }
    connection->is_broken = true;
    connection_tell(connection, "%s", why);
    if (connection->phase < CONNECTION_ENDING) {
        connection->phase = CONNECTION_ENDING;
    }
    intake_break(connection);
    sending_drop(connection);
    shard_mark_ready(connection->shard, connection);
}

void connection_fail(struct connection *connection, int64_t result, const char *why)
{
    connection_break(connection, result == -ETIME ? "its handshake takes too long" : why);
}

static void on_shut_down(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, closing);
    connection->is_shutting = false;
    connection->has_ended |= op->result < 0;
    shard_mark_ready(connection->shard, connection);
}

/* A socket that is closed with bytes unread takes back what its peer has not read yet (TCP resets),
 * so the client is told that this is the end, and listened to until it has heard. */
static void linger(struct connection *connection)
{
    connection->phase = CONNECTION_LINGERING;
    connection->until_ns = weir_now(connection->shard->loop) + LINGER_NS;
    weir_op_shutdown(&connection->closing, connection->fd, SHUT_WR);
    connection->is_shutting =
        connection_submit(connection, &connection->closing, WORK_OTHER, on_shut_down);
    connection->has_ended |= !connection->is_shutting;
    if (connection->is_receiving) { /* begins anew, with a deadline */
        weir_cancel(connection->shard->loop, &connection->receiving);
    }
}

static bool owes_nothing(const struct connection *connection)
{
    return connection->live == 0 && !connection->replies && !connection->is_sending;
}

/* What was begun is gone on with, even if the client has left, or we are about to; but of a write
 * whose client has left the rest will not come. */
static void end_of_requests(struct connection *connection)
{
    bool is_between = intake_is_between(connection);
    if (connection->ends && is_between) {
        connection->phase = CONNECTION_ENDING;
    } else if (connection->has_ended && !connection->is_ready && !intake_waits(connection)) {
        connection->phase = CONNECTION_ENDING;
        if (!is_between) {
            connection_break(connection, "it has left in the middle of a write");
        }
    }
}

/* One step nearer to the end, if it has begun. */
static void wind_up(struct connection *connection)
{
    if (connection->has_ended && connection->phase < CONNECTION_TRANSMISSION) {
        connection->phase = CONNECTION_ENDING;
    } else if (connection->phase == CONNECTION_TRANSMISSION) {
        end_of_requests(connection);
    }
    if (connection->is_broken) {
        hang_up(connection);
    } else if (connection->phase == CONNECTION_ENDING && owes_nothing(connection)) {
        if (connection->tls && !connection->said_bye) {
            connection->said_bye = true;
            tls_bye(connection->tls);
            shard_mark_ready(connection->shard, connection); /* it is to be sent */
        } else if (connection->lingers && !connection->has_ended) {
            linger(connection);
        } else {
            hang_up(connection);
        }
    } else if (connection->phase == CONNECTION_LINGERING && connection->has_ended) {
        hang_up(connection);
    }
}

static void go(struct connection *connection)
{
    struct shard *shard = connection->shard;
    buffer_drop(&shard->buffers, connection->in);
    buffer_drop(&shard->buffers, connection->carving.buffer);
    tls_close(connection->tls);
    shard_forget(shard, connection);
    shard->options.gone(connection);
}

/* --- all of it -------------------------------------------------------------------------------- */

void connection_work(struct connection *connection)
{
    if (connection->phase == CONNECTION_GONE) {
        if (connection->live == 0 && !connection->is_receiving && !connection->is_sending) {
            go(connection);
        }
        return;
    }
    if (connection->phase == CONNECTION_TLS && !connection->tls) {
        begin_tls(connection);
    }
    take(connection);
    while (connection->tls && decrypt(connection)) {
        take(connection);
    }
    sending_go(connection);
    wind_up(connection);
    receive(connection);
}

void connection_begin(struct connection *connection, struct shard *shard, int fd)
{
    connection->shard = shard;
    connection->fd = fd;
    connection->until_ns = weir_now(shard->loop) + shard->options.handshake_ns;
    connection->next = shard->connections;
    if (connection->next) {
        connection->next->previous = connection;
    }
    shard->connections = connection;
    shard->connection_count++;
    negotiate_begin(connection);
    if (shard->is_draining) { /* it was on its way here */
        connection_end(connection);
    }
    shard_mark_ready(shard, connection);
}
