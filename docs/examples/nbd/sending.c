/* SPDX-License-Identifier: MIT */
#include "sending.h"
#include "connection.h"

static void release_all(struct request *request)
{
    while (request) {
        struct request *next = request->next;
        request_release(request);
        request = next;
    }
}

void sending_add(struct connection *connection, struct request *request)
{
    if (connection->is_broken) {
        request_release(request);
        return;
    }
    request->next = NULL;
    *(connection->replies ? &connection->last_reply->next : &connection->replies) = request;
    connection->last_reply = request;
    shard_mark_ready(connection->shard, connection);
}

void sending_drop(struct connection *connection)
{
    struct request *replies = connection->replies;
    connection->replies = NULL;
    release_all(replies);
}

static struct request *next_reply(struct connection *connection)
{
    struct request *request = connection->replies;
    connection->replies = request->next;
    return request;
}

static void on_sent(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, sending);
    struct request *sent = connection->sent;
    connection->sent = NULL;
    connection->is_sending = false;
    connection->pace.has_sent = true;
    release_all(sent);
    if (op->result < 0) {
        connection_fail(connection, op->result, "it cannot be sent to");
    } else if (connection->tls) {
        tls_output_sent(connection->tls, (size_t)op->result);
    }
    shard_mark_ready(connection->shard, connection);
}

/* Everything there is, in one message. False: there is nothing to send. */
static bool fill_message(struct connection *connection)
{
    struct request **end = &connection->sent;
    size_t count = 0;
    if (!connection->replies) {
        return false;
    }
    while (connection->replies && count < CONNECTION_IOVECS) {
        struct request *request = next_reply(connection);
        connection->iov[count++] = request->iov[0];
        *end = request;
        end = &request->next;
    }
    *end = NULL;
    connection->message = (struct msghdr){.msg_iov = connection->iov, .msg_iovlen = count};
    pace_see(&connection->pace, &connection->message);
    weir_op_sendmsg(&connection->sending, connection->fd, &connection->message, 0);
    return true;
}

/* The same through TLS, which copies: what it has taken is sent as far as we are concerned. */
static bool fill_records(struct connection *connection)
{
    while (connection->replies) {
        struct request *request = connection->replies;
        int64_t taken =
            tls_write(connection->tls, (char *)request->iov[0].iov_base + connection->reply_done,
                      request->iov[0].iov_len - connection->reply_done);
        if (taken < 0) {
            connection_break(connection, "its TLS is broken");
            return false;
        }
        if (taken == 0) { /* its output is full */
            break;
        }
        connection->reply_done += (uint64_t)taken;
        if (connection->reply_done == request->iov[0].iov_len) {
            connection->reply_done = 0;
            request_release(next_reply(connection));
        }
    }
    size_t length;
    const void *output = tls_output(connection->tls, &length);
    weir_op_send(&connection->sending, connection->fd, output, length, 0);
    return length > 0;
}

void sending_go(struct connection *connection)
{
    if (connection->is_sending || connection->is_broken ||
        connection->phase >= CONNECTION_LINGERING) {
        return;
    }
    if (connection->tls ? !fill_records(connection) : !fill_message(connection)) {
        return;
    }
    connection->sending.flags = WEIR_WHOLE;
    connection->sending.deadline_ns = connection->file ? 0 : connection->until_ns;
    connection->is_sending =
        connection_submit(connection, &connection->sending, WORK_SEND, on_sent);
    if (!connection->is_sending) {
        release_all(connection->sent);
        connection->sent = NULL;
        connection_break(connection, "the loop is closing");
    }
}
