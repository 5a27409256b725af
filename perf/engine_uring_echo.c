/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_uring_echo.c: the floor for echoes on io_uring: single-shot accept, recv and send, as
 * weir has them. user_data is a connection's number and what is under way on it.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"
#include "raw_ring.h"

enum step {
    STEP_ACCEPT,
    STEP_STOP,
    STEP_RECV,
    STEP_SEND,
};

struct connection {
    int fd;
    uint32_t length; /* of what was received */
    uint32_t sent;
};

struct session {
    struct raw_ring raw;
    struct workload *workload;
    bool stop;
    int error;
    char *buffers;
    struct free_list *free;
    struct connection connections[];
};

static void stage_accept(struct session *session)
{
    struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
    io_uring_prep_accept(sqe, session->workload->listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, STEP_ACCEPT);
}

static void stage_stop(struct session *session)
{
    struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
    io_uring_prep_poll_add(sqe, session->workload->stop_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, STEP_STOP);
}

static char *buffer_of(struct session *session, uint32_t number)
{
    return session->buffers + (size_t)number * session->workload->size;
}

static void stage_recv(struct session *session, uint32_t number)
{
    struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
    io_uring_prep_recv(sqe, session->connections[number].fd, buffer_of(session, number),
                       session->workload->size, 0);
    io_uring_sqe_set_data64(sqe, (uint64_t)number << 2 | STEP_RECV);
}

static void stage_send(struct session *session, uint32_t number)
{
    const struct connection *connection = &session->connections[number];
    struct io_uring_sqe *sqe = raw_ring_entry(&session->raw);
    io_uring_prep_send(sqe, connection->fd, buffer_of(session, number) + connection->sent,
                       connection->length - connection->sent, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, (uint64_t)number << 2 | STEP_SEND);
}

static void hang_up(struct session *session, uint32_t number)
{
    close(session->connections[number].fd);
    free_list_give(session->free, number);
}

static void on_accepted(struct session *session, int result)
{
    uint32_t number;
    if (result < 0) {
        session->error = result;
    } else if (!free_list_take(session->free, &number)) {
        close(result);
        stage_accept(session);
    } else {
        session->connections[number].fd = result;
        stage_recv(session, number);
        stage_accept(session);
    }
}

static void on_received(struct session *session, uint32_t number, int result)
{
    if (result <= 0) {
        hang_up(session, number);
        return;
    }
    session->connections[number].length = (uint32_t)result;
    session->connections[number].sent = 0;
    stage_send(session, number);
}

static void on_sent(struct session *session, uint32_t number, int result)
{
    struct connection *connection = &session->connections[number];
    if (result < 0) {
        hang_up(session, number);
        return;
    }
    connection->sent += (uint32_t)result;
    if (connection->sent < connection->length) {
        stage_send(session, number);
    } else {
        stage_recv(session, number);
    }
}

static void reap(struct session *session)
{
    struct io_uring_cq *cq = &session->raw.ring.cq;
    unsigned head = *cq->khead;
    unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        const struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
        uint32_t number = (uint32_t)(cqe->user_data >> 2);
        switch ((enum step)(cqe->user_data & 3)) {
        case STEP_ACCEPT:
            on_accepted(session, cqe->res);
            break;
        case STEP_STOP:
            session->stop = true;
            break;
        case STEP_RECV:
            on_received(session, number, cqe->res);
            break;
        case STEP_SEND:
            on_sent(session, number, cqe->res);
            break;
        }
    }
    __atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
}

SPECIALISED int loop(struct session *session, bool spins)
{
    stage_accept(session);
    stage_stop(session);
    while (!session->stop && session->error == 0) {
        int r = raw_ring_enter(&session->raw, false, spins);
        if (r < 0) {
            return r;
        }
        reap(session);
    }
    return session->error;
}

static int echo_run(void *state, struct meter *meter)
{
    struct session *session = state;
    (void)meter;
    return session->raw.spin_ns != 0 ? loop(session, true) : loop(session, false);
}

static void release(struct session *session)
{
    if (session != NULL) {
        free(session->buffers);
        free(session->free);
        free(session);
    }
}

static int echo_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    uint32_t count = echo_connections(workload);
    struct session *session = calloc(1, sizeof *session + count * sizeof session->connections[0]);
    if (session != NULL) {
        session->buffers = malloc((size_t)count * workload->size);
        session->free = free_list_make(count);
    }
    if (session == NULL || session->buffers == NULL || session->free == NULL) {
        release(session);
        snprintf(error, ERROR_MAX, "no memory for %u connections: give fewer", count);
        return -ENOMEM;
    }
    session->workload = workload;
    /* Kernels before 5.19 or so answer accept on a non-blocking listener with EAGAIN. */
    fcntl(workload->listener, F_SETFL, 0);
    int r = raw_ring_open(&session->raw, count + ECHO_MARGIN, workload->who->spin_ns, error);
    if (r < 0) {
        release(session);
        return r;
    }
    *ret_state = session;
    return 0;
}

/* Connections end with the process. */
static void echo_close(void *state)
{
    struct session *session = state;
    raw_ring_close(&session->raw);
    release(session);
}

const struct driver uring_echo_driver = {
    .open = echo_open,
    .run = echo_run,
    .close = echo_close,
};
