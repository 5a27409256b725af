/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_NS (100 * WEIR_MS) /* after an accept that failed */
#define OTHERS 32                /* ops of a shard's: signals, listeners, what it is told */
#define POSTS_OTHER 128          /* that may wait: what shards tell each other */
#define CLOSE_NS (2 * WEIR_S)    /* for what does not come back */

struct client {
    struct connection connection;
    struct member *member;
    unsigned number;
};

static struct client *client_of(struct connection *connection)
{
    return WEIR_CONTAINER(connection, struct client, connection);
}

/* --- from thread to thread -------------------------------------------------------------------- */

/* Has `callback` called in the thread of a member, unless that has ended. It needs no room: its
 * task has places. */
static void tell(struct member *member, struct weir_op *op, weir_callback *callback, void *user)
{
    weir_op_nop(op);
    op->callback = callback;
    op->task = member->shard.tasks[WORK_OTHER];
    op->user = user;
    int result = weir_loop_post(member->shard.loop, op);
    if (result < 0 && result != -ESHUTDOWN) { /* not to be: there are more places than posts */
        fprintf(stderr, "weir-nbd: a thread cannot be reached: %s\n", strerror(-result));
        abort();
    }
}

static void tell_all(struct server *server, size_t op, weir_callback *callback)
{
    for (uint32_t i = 0; i < server->options.shards; i++) {
        struct member *member = &server->members[i];
        tell(member, (struct weir_op *)((char *)member + op), callback, member);
    }
}

/* --- clients ---------------------------------------------------------------------------------- */

static void accept_all(struct server *server);

/* In the first thread: it has gone. */
static void on_home(struct weir_op *op)
{
    struct client *client = client_of(WEIR_CONTAINER(op, struct connection, closing));
    struct member *member = client->member;
    struct server *server = member->server;
    free(client);
    member->clients--;
    server->clients--;
    if (!server->is_draining) {
        accept_all(server);
    } else if (server->clients == 0) {
        server->options.drained(server);
    }
}

static void on_gone(struct connection *connection)
{
    struct member *member = client_of(connection)->member;
    connection_tell(connection, "gone");
    tell(&member->server->members[0], &connection->closing, on_home, NULL);
}

/* In its shard's thread. */
static void on_handed_over(struct weir_op *op)
{
    struct connection *connection = WEIR_CONTAINER(op, struct connection, closing);
    struct member *member = client_of(connection)->member;
    connection_begin(connection, &member->shard, connection->fd);
}

static void on_told(const struct connection *connection, const char *what)
{
    const struct client *client = WEIR_CONTAINER(connection, const struct client, connection);
    fprintf(stderr, "weir-nbd: client %u: %s\n", client->number, what);
}

static struct member *least_loaded(struct server *server)
{
    struct member *least = &server->members[0];
    for (uint32_t i = 1; i < server->options.shards; i++) {
        if (server->members[i].clients < least->clients) {
            least = &server->members[i];
        }
    }
    return least;
}

/* What cannot be had is done without. */
static void prepare_socket(struct connection *connection)
{
    int yes = 1, domain = 0, fd = connection->fd;
    socklen_t length = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    connection->is_unix = domain == AF_UNIX;
    pace_begin(&connection->pace, fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
}

static int welcome(struct server *server, int fd)
{
    struct client *client = calloc(1, sizeof *client);
    if (!client) {
        return -ENOMEM;
    }
    client->connection.fd = fd;
    prepare_socket(&client->connection);
    client->member = least_loaded(server);
    client->number = ++server->numbers;
    client->member->clients++;
    server->clients++;
    tell(client->member, &client->connection.closing, on_handed_over, NULL);
    return 0;
}

/* --- accepting -------------------------------------------------------------------------------- */

static void on_accepted(struct weir_op *op);
static void on_paused(struct weir_op *op);

/* When there are as many clients as there may be, others wait in the socket's backlog. */
static void accept_next(struct listener *listener)
{
    struct server *server = listener->server;
    if (listener->is_armed || server->is_draining ||
        server->clients == server->options.shard.connections) {
        return;
    }
    weir_op_accept(&listener->op, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    listener->op.callback = on_accepted;
    listener->op.task = server_task(server);
    listener->is_armed = weir_submit(server_loop(server), &listener->op) == 0;
}

static void accept_all(struct server *server)
{
    for (uint32_t i = 0; i < server->listener_count; i++) {
        accept_next(&server->listeners[i]);
    }
}

static void on_accepted(struct weir_op *op)
{
    struct listener *listener = WEIR_CONTAINER(op, struct listener, op);
    struct server *server = listener->server;
    int64_t result = op->result;
    listener->is_armed = false;
    if (result >= 0 && server->is_draining) {
        close((int)result);
    } else if (result >= 0 && server->clients == server->options.shard.connections) {
        /* Another listener's was the last that may be. */
        close((int)result);
    } else if (result >= 0 && welcome(server, (int)result) < 0) {
        close((int)result);
        result = -ENOMEM;
    }
    if (result < 0 && result != -ECANCELED && result != -ECONNABORTED) {
        fprintf(stderr, "weir-nbd: accepting: %s\n", strerror((int)-result));
        weir_op_timeout_in(&listener->op, server_loop(server), PAUSE_NS);
        listener->op.callback = on_paused;
        listener->is_armed = weir_submit(server_loop(server), &listener->op) == 0;
    }
    accept_next(listener);
}

static void on_paused(struct weir_op *op)
{
    struct listener *listener = WEIR_CONTAINER(op, struct listener, op);
    listener->is_armed = false;
    accept_next(listener);
}

void server_listen(struct server *server, int fd)
{
    struct listener *listener = &server->listeners[server->listener_count++];
    *listener = (struct listener){.server = server, .fd = fd};
    accept_next(listener);
}

/* --- what all shards are told ----------------------------------------------------------------- */

static void on_drain(struct weir_op *op)
{
    shard_drain(&((struct member *)op->user)->shard);
}

static void on_hang_up(struct weir_op *op)
{
    shard_hang_up(&((struct member *)op->user)->shard);
}

static void on_end(struct weir_op *op)
{
    ((struct member *)op->user)->is_over = true;
}

static void on_ping(struct weir_op *op)
{
    atomic_fetch_add(&((struct member *)op->user)->server->answered, 1);
}

void server_drain(struct server *server)
{
    server->is_draining = true;
    for (uint32_t i = 0; i < server->listener_count; i++) {
        struct listener *listener = &server->listeners[i];
        weir_cancel(server_loop(server), &listener->op);
        weir_forget(server_loop(server), listener->fd);
        close(listener->fd);
    }
    tell_all(server, offsetof(struct member, drain), on_drain);
    if (server->clients == 0) {
        server->options.drained(server);
    }
}

void server_hang_up(struct server *server)
{
    tell_all(server, offsetof(struct member, hang_up), on_hang_up);
}

bool server_ping(struct server *server)
{
    bool is_well = atomic_load(&server->answered) == server->options.shards;
    if (is_well) { /* else the last ones are on their way still */
        atomic_store(&server->answered, 0);
        tell_all(server, offsetof(struct member, ping), on_ping);
    }
    return is_well;
}

/* In the first thread: a shard has opened all of its files again. */
static void on_member_reopened(struct weir_op *op)
{
    struct server *server = ((struct member *)op->user)->server;
    if (--server->reopening > 0) {
        return;
    }
    if (server->reopens_again) {
        server->reopens_again = false;
        server_reopen(server);
    } else {
        server->options.reopened(server);
    }
}

static void on_file_reopened(struct shard *shard, const struct file *file, int result)
{
    struct member *member = WEIR_CONTAINER(shard, struct member, shard);
    if (result < 0 && result != -ECANCELED) {
        fprintf(stderr, "weir-nbd: %s: %s; the file that was open is served on\n",
                file->export->path, strerror(-result));
    }
    if (--member->reopening == 0) {
        tell(&member->server->members[0], &member->reopened, on_member_reopened, member);
    }
}

static void on_reopen(struct weir_op *op)
{
    struct member *member = op->user;
    struct shard *shard = &member->shard;
    member->reopening = shard->options.export_count;
    for (uint32_t i = 0; i < shard->options.export_count; i++) {
        int result = file_reopen(&shard->files[i]);
        if (result < 0) {
            on_file_reopened(shard, &shard->files[i], result);
        }
    }
}

void server_reopen(struct server *server)
{
    if (server->reopening > 0) { /* what it opens may be older than what is meant */
        server->reopens_again = true;
        return;
    }
    server->reopening = server->options.shards;
    tell_all(server, offsetof(struct member, reopen), on_reopen);
}

void server_rate(const struct server *server, struct rate *ret_rate)
{
    *ret_rate = (struct rate){.connections = server->clients};
    for (uint32_t i = 0; i < server->options.shards; i++) {
        for (int work = WORK_READ; work <= WORK_BLOCK_STATUS; work++) {
            struct weir_task_counters counters;
            const struct weir_task *task = server->members[i].shard.tasks[work];
            if (!task || weir_task_read_counters(task, &counters) < 0) {
                continue;
            }
            uint64_t *count = work == WORK_READ    ? &ret_rate->reads
                              : work == WORK_WRITE ? &ret_rate->writes
                                                   : &ret_rate->others;
            *count += counters.finished;
            ret_rate->read_bytes += work == WORK_READ ? counters.bytes : 0;
            ret_rate->written_bytes += work == WORK_WRITE ? counters.bytes : 0;
            ret_rate->errors += counters.failed;
            ret_rate->in_flight += (uint32_t)counters.live;
        }
    }
}

/* --- threads ---------------------------------------------------------------------------------- */

static int open_files(struct shard *shard, const char **ret_culprit)
{
    for (uint32_t i = 0; i < shard->options.export_count; i++) {
        struct opened opened;
        int result = export_open(&shard->options.exports[i], &opened);
        if (result < 0) {
            *ret_culprit = shard->options.exports[i].path;
            return result;
        }
        shard_serve(shard, i, &opened);
    }
    return 0;
}

static int open_pipe(const struct shard *shard, int ret_fds[2])
{
    (void)shard;
    if (pipe2(ret_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    fcntl(ret_fds[1], F_SETPIPE_SZ, 2 * BUFFER_PIECE); /* refused: its parts are smaller */
    return 0;
}

static int open_member(struct member *member, const char **ret_culprit)
{
    struct server *server = member->server;
    struct shard_options options = server->options.shard;
    char label[WEIR_LABEL_MAX + 1];
    uint32_t shards = server->options.shards;
    /* The first accepts, and has all clients come home; all may be told something. */
    options.others = OTHERS + (member == server->members ? options.connections + shards : 0);
    options.connections = (options.connections + shards - 1) / shards;
    options.loop.posts_max = server->options.shard.connections + POSTS_OTHER;
    options.loop.timers_max = 64;
    options.open_pipe = open_pipe;
    options.gone = on_gone;
    options.reopened = on_file_reopened;
    options.told = server->options.is_verbose ? on_told : NULL;
    options.loop.decision = member == server->members ? options.loop.decision : NULL;
    *ret_culprit = "opening a loop";
    int result = shard_open(&member->shard, &options);
    if (result < 0) {
        return result;
    }
    snprintf(label, sizeof label, "nbd%u", (unsigned)(member - server->members));
    if (server->options.endpoint) {
        *ret_culprit = "showing a loop";
        result = weir_endpoint_add(server->options.endpoint, member->shard.loop, label);
    }
    result = result < 0 ? result : open_files(&member->shard, ret_culprit);
    if (result < 0) {
        shard_close(&member->shard, 0, NULL);
    }
    return result;
}

static int close_member(struct member *member)
{
    struct weir_report left;
    int result = shard_close(&member->shard, CLOSE_NS, &left);
    for (size_t i = 0; result < 0 && i < left.count; i++) {
        fprintf(stderr, "weir-nbd: does not come back: a %s of %s, %s, submitted at %s\n",
                left.ops[i].kind, left.ops[i].task, left.ops[i].state, left.ops[i].site);
    }
    return result;
}

static void wait_for(sem_t *step)
{
    while (sem_wait(step) < 0) { /* EINTR */
    }
}

static void *live(void *argument)
{
    struct member *member = argument;
    member->result = open_member(member, &member->culprit);
    bool is_open = member->result == 0;
    sem_post(&member->step);
    if (is_open) {
        int result = 0;
        while (!member->is_over && result >= 0) {
            result = shard_turn(&member->shard, -1);
        }
        if (result < 0) {
            fprintf(stderr, "weir-nbd: a loop failed: %s\n", strerror(-result));
        }
        wait_for(&member->step); /* a loop must stay open while somebody posts to it */
        member->result = close_member(member);
    }
    return NULL;
}

static int start(struct member *member)
{
    sem_init(&member->step, 0, 0);
    member->culprit = "starting a thread";
    int result = -pthread_create(&member->thread, NULL, live, member);
    if (result == 0) {
        wait_for(&member->step);
        result = member->result;
        if (result < 0) {
            pthread_join(member->thread, NULL);
        }
    }
    return result;
}

int server_open(struct server *server, const struct server_options *options,
                const char **ret_culprit)
{
    *server = (struct server){.options = *options};
    server->members[0].server = server;
    int result = open_member(&server->members[0], ret_culprit);
    for (uint32_t i = 1; result == 0 && i < options->shards; i++) {
        server->members[i].server = server;
        result = start(&server->members[i]);
        if (result < 0) {
            *ret_culprit = server->members[i].culprit;
            server->options.shards = i;
            server_close(server);
        }
    }
    server->answered = options->shards;
    return result;
}

int server_close(struct server *server)
{
    int worst = 0;
    for (uint32_t i = 1; i < server->options.shards; i++) {
        struct member *member = &server->members[i];
        tell(member, &member->end, on_end, member);
        sem_post(&member->step);
    }
    for (uint32_t i = 1; i < server->options.shards; i++) {
        struct member *member = &server->members[i];
        pthread_join(member->thread, NULL);
        sem_destroy(&member->step);
        worst = member->result < 0 ? member->result : worst;
    }
    int result = close_member(&server->members[0]);
    return result < 0 ? result : worst;
}
