/* SPDX-License-Identifier: MIT */
/*
 * perf/client.c: the echo client, one program for every server: raw level-triggered epoll,
 * non-blocking sockets, on each active connection one message out and back. Silent connections are
 * proven by one byte there and back, then left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"
#include "meter.h"

#define EVENTS 64
/* Connected at once, then proven at once: fewer than any listener's backlog. */
#define BATCH 128

struct connection {
    int fd;
    bool writing; /* the socket is full: EPOLLOUT is asked for */
    uint32_t sent;
    uint32_t received;
    uint64_t started_ns;
};

struct client {
    struct workload *workload;
    struct meter *meter;
    int epoll_fd;
    uint32_t out; /* messages under way */
    char *message;
    char *answer;
    uint32_t count; /* connections made, the silent ones last */
    struct connection connections[];
};

static int watch(struct client *client, struct connection *connection, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    return epoll_ctl(client->epoll_fd, how, connection->fd, &event) < 0 ? -errno : 0;
}

/* Sends what is left of the message. */
static int send_rest(struct client *client, struct connection *connection)
{
    uint32_t size = client->workload->size;
    ssize_t n = send(connection->fd, client->message + connection->sent, size - connection->sent,
                     MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        return -errno;
    }
    connection->sent += n > 0 ? (uint32_t)n : 0;
    bool writing = connection->sent < size;
    if (__builtin_expect(writing == connection->writing, 1)) {
        return 0;
    }
    connection->writing = writing;
    return watch(client, connection, EPOLL_CTL_MOD, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int start(struct client *client, struct connection *connection)
{
    connection->sent = 0;
    connection->received = 0;
    connection->started_ns = meter_start(client->meter);
    return send_rest(client, connection);
}

/* Reads once; a whole answer begins the next round. The clock is read anew for each sampled op. */
static int receive(struct client *client, struct connection *connection)
{
    uint32_t size = client->workload->size;
    ssize_t n = recv(connection->fd, client->answer, size - connection->received, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -ECONNRESET;
    }
    if (connection->started_ns != 0 &&
        memcmp(client->answer, client->message + connection->received, (size_t)n) != 0) {
        return -EBADMSG;
    }
    connection->received += (uint32_t)n;
    if (connection->received < size) {
        return 0;
    }
    meter_batch(client->meter);
    meter_finish(client->meter, connection->started_ns, size);
    if (meter_is_over()) {
        client->out--;
        return 0;
    }
    return start(client, connection);
}

static int handle(struct client *client, const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    int r = 0;
    if ((event->events & EPOLLOUT) != 0) {
        r = send_rest(client, connection);
    }
    if (r == 0 && (event->events & ~(uint32_t)EPOLLOUT) != 0) {
        r = receive(client, connection);
    }
    return r;
}

static int client_run(void *state, struct meter *meter)
{
    struct client *client = state;
    struct epoll_event events[EVENTS];
    int timeout_ms = client->workload->client_spin ? 0 : -1;
    int r = 0;
    client->meter = meter;
    client->out = client->workload->depth;
    for (uint32_t i = 0; i < client->workload->depth && r == 0; i++) {
        meter_batch(meter);
        r = start(client, &client->connections[i]);
    }
    while (client->out > 0 && r == 0) {
        int count = epoll_wait(client->epoll_fd, events, EVENTS, timeout_ms);
        if (count < 0 && errno != EINTR) {
            r = -errno;
        }
        for (int i = 0; i < count && r == 0; i++) {
            r = handle(client, &events[i]);
        }
    }
    return r;
}

static int connect_one(struct workload *workload)
{
    const struct sockaddr *address = (const struct sockaddr *)&workload->address;
    int one = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int r;
    do {
        r = connect(fd, address, workload->address_size);
    } while (r < 0 && errno == EINTR);
    if (r == 0 && workload->tcp) {
        r = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (r < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* One byte there and back, so that the server has it and waits for more. */
static int prove(struct client *client, uint32_t from)
{
    char byte = 'w';
    for (uint32_t i = from; i < client->count; i++) {
        if (send(client->connections[i].fd, &byte, 1, MSG_NOSIGNAL) != 1) {
            return -errno;
        }
    }
    for (uint32_t i = from; i < client->count; i++) {
        ssize_t n;
        do {
            n = recv(client->connections[i].fd, &byte, 1, 0);
        } while (n < 0 && errno == EINTR);
        if (n != 1) {
            return n < 0 ? -errno : -ECONNRESET;
        }
        if (byte != 'w') {
            return -EBADMSG;
        }
    }
    return 0;
}

static int connect_all(struct client *client)
{
    uint32_t total = echo_connections(client->workload);
    while (client->count < total) {
        uint32_t from = client->count;
        while (client->count < total && client->count - from < BATCH) {
            int fd = connect_one(client->workload);
            if (fd < 0) {
                return fd;
            }
            client->connections[client->count++].fd = fd;
        }
        int r = prove(client, from);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int watch_active(struct client *client)
{
    for (uint32_t i = 0; i < client->workload->depth; i++) {
        struct connection *connection = &client->connections[i];
        int r = fcntl(connection->fd, F_SETFL, O_NONBLOCK) < 0
                    ? -errno
                    : watch(client, connection, EPOLL_CTL_ADD, EPOLLIN);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Silent connections are reset: thousands of them need not linger in TIME_WAIT. */
static void client_close(void *state)
{
    struct client *client = state;
    struct linger reset = {.l_onoff = 1};
    for (uint32_t i = 0; i < client->count; i++) {
        int fd = client->connections[i].fd;
        if (i >= client->workload->depth) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        close(fd);
    }
    if (client->epoll_fd >= 0) {
        close(client->epoll_fd);
    }
    free(client->message);
    free(client->answer);
    free(client);
}

static int client_open(struct workload *workload, void **ret_state, char error[ERROR_MAX])
{
    size_t room = echo_connections(workload) * sizeof(struct connection);
    struct client *client = calloc(1, sizeof *client + room);
    if (client == NULL) {
        snprintf(error, ERROR_MAX, "no memory for the connections: give fewer");
        return -ENOMEM;
    }
    client->workload = workload;
    client->message = malloc(workload->size);
    client->answer = malloc(workload->size);
    client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int r = client->epoll_fd < 0 ? -errno : 0;
    if (client->message == NULL || client->answer == NULL) {
        r = -ENOMEM;
    }
    uint64_t random = 1;
    for (uint32_t i = 0; i < workload->size && r == 0; i++) {
        client->message[i] = (char)(random_next(&random) >> 32);
    }
    if (r == 0) {
        r = connect_all(client);
    }
    if (r == 0) {
        r = watch_active(client);
    }
    if (r < 0) {
        snprintf(error, ERROR_MAX, "the client had %u of %u connections, then: %s", client->count,
                 echo_connections(workload), strerror(-r));
        client_close(client);
        return r;
    }
    *ret_state = client;
    return 0;
}

const struct driver client_driver = {
    .open = client_open,
    .run = client_run,
    .close = client_close,
};
