/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_weir_echo.c: an echo server on weir by its public API: an ACCEPT that is always
 * armed, and per connection one op that is a RECV, then a SEND of the whole, then a RECV again,
 * each of a task of its own. A CLOSE ends a connection.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "echo.h"
#include "engine_weir.h"

struct connection {
    struct weir_op op;
    struct session *session;
    int fd;
};

struct session {
    struct weir_loop *loop;
    struct workload *workload;
    struct weir_task *receives;
    struct weir_task *sends;
    struct weir_op accept;
    struct weir_op stop;
    bool stopped;
    int error; /* of the first refused submit or failed accept */
    char *buffers;
    struct free_list *free;
    struct connection *connections;
};

static void submit(struct session *session, struct weir_op *op)
{
    int r = weir_submit(session->loop, op);
    if (r < 0 && session->error == 0) {
        session->error = r;
    }
}

static char *buffer_of(const struct connection *connection)
{
    const struct session *session = connection->session;
    return session->buffers + (size_t)(connection - session->connections) * session->workload->size;
}

static void on_received(struct weir_op *op);
static void on_closed(struct weir_op *op);

static void receive(struct connection *connection)
{
    struct session *session = connection->session;
    struct weir_op *op = &connection->op;
    weir_op_recv(op, connection->fd, buffer_of(connection), session->workload->size, 0);
    op->callback = on_received;
    op->task = session->receives;
    op->flags = 0;
    submit(session, op);
}

static void hang_up(struct connection *connection)
{
    struct weir_op *op = &connection->op;
    weir_op_close(op, connection->fd);
    op->callback = on_closed;
    op->task = NULL;
    op->flags = 0;
    submit(connection->session, op);
}

static void on_closed(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, op);
    struct session *session = connection->session;
    free_list_give(session->free, (uint32_t)(connection - session->connections));
}

static void on_sent(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, op);
    if (op->result >= 0) {
        receive(connection);
    } else if (op->result != -ECANCELED) {
        hang_up(connection);
    }
}

/* Cancelled: by the closing loop, which takes no more. */
static void on_received(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, op);
    struct session *session = connection->session;
    if (op->result > 0) {
        weir_op_send(op, connection->fd, buffer_of(connection), (uint64_t)op->result, 0);
        op->callback = on_sent;
        op->task = session->sends;
        op->flags = WEIR_WHOLE;
        submit(session, op);
    } else if (op->result != -ECANCELED) {
        hang_up(connection);
    }
}

static void accept_next(struct session *session)
{
    weir_op_accept(&session->accept, session->workload->listener, NULL, NULL, SOCK_CLOEXEC);
    submit(session, &session->accept);
}

/* The client opens no more connections than there are places. */
static void on_accepted(struct weir_op *op)
{
    struct session *session = op->user;
    uint32_t number;
    if (op->result == -ECANCELED) {
        return;
    }
    if (op->result < 0 || !free_list_take(session->free, &number)) {
        session->error = op->result < 0 ? (int)op->result : -EMFILE;
        return;
    }
    struct connection *connection = &session->connections[number];
    connection->session = session;
    connection->fd = (int)op->result;
    receive(connection);
    accept_next(session);
}

static void on_stop(struct weir_op *op)
{
    struct session *session = op->user;
    session->stopped = true;
}

static int echo_run(void *state, struct meter *meter)
{
    struct session *session = state;
    int r = 0;
    (void)meter;
    session->accept.callback = on_accepted;
    session->accept.user = session;
    accept_next(session);
    weir_op_poll(&session->stop, session->workload->stop_fd, POLLIN);
    session->stop.callback = on_stop;
    session->stop.user = session;
    submit(session, &session->stop);
    while (!session->stopped && session->error == 0 && r >= 0) {
        r = weir_loop_turn(session->loop, -1);
    }
    return r < 0 ? r : session->error;
}

static void release(struct session *session)
{
    if (session != NULL) {
        free(session->connections);
        free(session->buffers);
        free(session->free);
        free(session);
    }
}

static bool allocate(struct session *session)
{
    uint32_t count = echo_connections(session->workload);
    void *connections = NULL;
    size_t size = count * sizeof(struct connection);
    if (posix_memalign(&connections, 64, size) == 0) {
        memset(connections, 0, size);
        session->connections = connections;
    }
    session->buffers = malloc((size_t)count * session->workload->size);
    session->free = free_list_make(count);
    return session->connections != NULL && session->buffers != NULL && session->free != NULL;
}

static int open_loop(struct session *session, char error[ERROR_MAX])
{
    struct weir_options options = {
        .depth = echo_connections(session->workload) + ECHO_MARGIN,
        .offload_workers = WEIR_NO_OFFLOAD,
    };
    int r = weir_open_loop(session->workload, &options, false, &session->loop, error);
    if (r < 0) {
        return r;
    }
    r = weir_task_open(session->loop, &(struct weir_task_options){.name = "echo recv"},
                       &session->receives);
    if (r == 0) {
        r = weir_task_open(session->loop, &(struct weir_task_options){.name = "echo send"},
                           &session->sends);
    }
    if (r < 0) {
        snprintf(error, ERROR_MAX, "weir opens no task: %s", strerror(-r));
        weir_loop_close(session->loop, 0, NULL);
    }
    return r;
}

static int echo_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    struct session *session = calloc(1, sizeof *session);
    if (session != NULL) {
        session->workload = workload;
    }
    if (session == NULL || !allocate(session)) {
        release(session);
        snprintf(error, ERROR_MAX, "no memory for the connections: give fewer");
        return -ENOMEM;
    }
    int r = open_loop(session, error);
    if (r < 0) {
        release(session);
        return r;
    }
    *ret_state = session;
    return 0;
}

static size_t echo_tasks(void *state, struct task_row *ret_rows, size_t max)
{
    struct session *session = state;
    return weir_copy_tasks(session->loop, ret_rows, max);
}

/* Connections that are still open end with the process. */
static void echo_close(void *state)
{
    struct session *session = state;
    weir_loop_close(session->loop, 5 * WEIR_S, NULL);
    release(session);
}

const struct driver weir_echo_driver = {
    .open = echo_open,
    .run = echo_run,
    .tasks = echo_tasks,
    .close = echo_close,
};
