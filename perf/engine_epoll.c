/* SPDX-License-Identifier: MIT */
/*
 * perf/engine_epoll.c: the reactor's floor: level-triggered epoll, non-blocking sockets, one read
 * and one write per message, EPOLLOUT only while a socket is full.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"
#include "meter.h"

#define EVENTS 256

/* What an event's number means when it is no connection's. */
#define NUMBER_LISTENER UINT32_MAX
#define NUMBER_STOP (UINT32_MAX - 1)

struct connection {
    int fd;
    bool writing; /* EPOLLOUT is asked for, EPOLLIN is not */
    uint32_t length;
    uint32_t sent;
};

struct session {
    struct workload *workload;
    int epoll_fd;
    bool stop;
    char *buffers;
    struct free_list *free;
    struct connection connections[];
};

static int watch(struct session *session, int how, int fd, uint32_t number, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = number};
    return epoll_ctl(session->epoll_fd, how, fd, &event) < 0 ? -errno : 0;
}

static void hang_up(struct session *session, uint32_t number)
{
    close(session->connections[number].fd);
    free_list_give(session->free, number);
}

static char *buffer_of(struct session *session, uint32_t number)
{
    return session->buffers + (size_t)number * session->workload->size;
}

static void write_rest(struct session *session, uint32_t number)
{
    struct connection *connection = &session->connections[number];
    ssize_t n = send(connection->fd, buffer_of(session, number) + connection->sent,
                     connection->length - connection->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        hang_up(session, number);
        return;
    }
    connection->sent += n > 0 ? (uint32_t)n : 0;
    bool writing = connection->sent < connection->length;
    if (writing != connection->writing) {
        connection->writing = writing;
        watch(session, EPOLL_CTL_MOD, connection->fd, number, writing ? EPOLLOUT : EPOLLIN);
    }
}

static void read_once(struct session *session, uint32_t number)
{
    struct connection *connection = &session->connections[number];
    ssize_t n = recv(connection->fd, buffer_of(session, number), session->workload->size, 0);
    if (n > 0) {
        connection->length = (uint32_t)n;
        connection->sent = 0;
        write_rest(session, number);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up(session, number);
    }
}

static int accept_all(struct session *session)
{
    int fd;
    while ((fd = accept4(session->workload->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >=
           0) {
        uint32_t number;
        if (!free_list_take(session->free, &number)) {
            close(fd);
            continue;
        }
        session->connections[number] = (struct connection){.fd = fd};
        int r = watch(session, EPOLL_CTL_ADD, fd, number, EPOLLIN);
        if (r < 0) {
            return r;
        }
    }
    return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
}

static int handle(struct session *session, const struct epoll_event *event)
{
    uint32_t number = event->data.u32;
    if (number == NUMBER_LISTENER) {
        return accept_all(session);
    }
    if (number == NUMBER_STOP) {
        session->stop = true;
    } else if (session->connections[number].writing) {
        write_rest(session, number);
    } else {
        read_once(session, number);
    }
    return 0;
}

/* The number of events; 0 after a signal. */
static int wait_for(struct session *session, struct epoll_event *events)
{
    uint64_t spin_ns = session->workload->who->spin_ns;
    if (spin_ns != 0) {
        uint64_t end_ns = meter_clock() + spin_ns;
        do {
            int count = epoll_wait(session->epoll_fd, events, EVENTS, 0);
            if (count != 0) {
                return count < 0 && errno != EINTR ? -errno : count > 0 ? count : 0;
            }
        } while (meter_clock() < end_ns);
    }
    int count = epoll_wait(session->epoll_fd, events, EVENTS, -1);
    return count < 0 && errno != EINTR ? -errno : count > 0 ? count : 0;
}

static int echo_run(void *state, struct meter *meter)
{
    struct session *session = state;
    struct epoll_event events[EVENTS];
    (void)meter;
    int r = watch(session, EPOLL_CTL_ADD, session->workload->listener, NUMBER_LISTENER, EPOLLIN);
    if (r == 0) {
        r = watch(session, EPOLL_CTL_ADD, session->workload->stop_fd, NUMBER_STOP, EPOLLIN);
    }
    while (!session->stop && r == 0) {
        int count = wait_for(session, events);
        r = count < 0 ? count : 0;
        for (int i = 0; i < count && r == 0; i++) {
            r = handle(session, &events[i]);
        }
    }
    return r;
}

/* Connections end with the process. */
static void echo_close(void *state)
{
    struct session *session = state;
    if (session->epoll_fd >= 0) {
        close(session->epoll_fd);
    }
    free(session->buffers);
    free(session->free);
    free(session);
}

static int echo_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    uint32_t count = echo_connections(workload);
    struct session *session = calloc(1, sizeof *session + count * sizeof session->connections[0]);
    if (session == NULL) {
        snprintf(error, ERROR_MAX, "no memory for %u connections: give fewer", count);
        return -ENOMEM;
    }
    session->workload = workload;
    session->buffers = malloc((size_t)count * workload->size);
    session->free = free_list_make(count);
    session->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int r = session->epoll_fd < 0 ? -errno : 0;
    if (session->buffers == NULL || session->free == NULL) {
        r = -ENOMEM;
    }
    if (r < 0) {
        snprintf(error, ERROR_MAX, "epoll: %s: give fewer connections", strerror(-r));
        echo_close(session);
        return r;
    }
    *ret_state = session;
    return 0;
}

const struct driver epoll_echo_driver = {
    .open = echo_open,
    .run = echo_run,
    .close = echo_close,
};
