/* SPDX-License-Identifier: MIT */
/*
 * server.h: shards, a thread each, and the clients that are spread over them. The first shard is
 * its caller's own: it accepts, and hands each client to the shard that has the fewest; a client
 * that has gone comes back to it. All functions are for the caller's thread.
 */
#ifndef SERVER_H
#define SERVER_H

#include "connection.h"
#include "rate.h"
#include "shard.h"

#include <pthread.h>
#include <semaphore.h>

enum { SERVER_LISTENERS_MAX = 16, SERVER_SHARDS_MAX = 64 };

struct server;

/* A shard, its thread, and the ops by which it is told things. */
struct member {
    struct shard shard;
    struct server *server;
    pthread_t thread;
    uint32_t clients;    /* given to it and not back: the first shard's to know */
    uint32_t reopening;  /* files that are being opened again */
    sem_t step;          /* its thread's: it is open; the first's: it may close */
    int result;          /* of opening; then of closing */
    const char *culprit; /* of opening */
    bool is_over;
    struct weir_op drain, hang_up, reopen, reopened, ping, end;
};

struct listener {
    struct server *server;
    int fd;
    struct weir_op op; /* ACCEPT; after an error the pause before the next */
    bool is_armed;
};

struct server_options {
    struct shard_options shard;     /* connections: of all shards together */
    uint32_t shards;                /* to SERVER_SHARDS_MAX */
    struct weir_endpoint *endpoint; /* shows every loop; NULL: none */
    bool is_verbose;
    void (*drained)(struct server *server);  /* after server_drain() */
    void (*reopened)(struct server *server); /* after server_reopen() */
};

struct server {
    struct server_options options;
    struct member members[SERVER_SHARDS_MAX];
    struct listener listeners[SERVER_LISTENERS_MAX];
    uint32_t listener_count;
    uint32_t clients, numbers; /* now; ever */
    uint32_t reopening;        /* shards that are at it */
    bool reopens_again;        /* and are to be at it once more */
    _Atomic uint32_t answered; /* pings */
    bool is_draining;
};

/* Opens files and loops, and starts the threads. 0 or -errno; *ret_culprit is what it was about. */
int server_open(struct server *server, const struct server_options *options,
                const char **ret_culprit);
/* Accepts at an fd from now on; it is the server's. */
void server_listen(struct server *server, int fd);

/* The first shard's loop, for signals and timers, and its task for these. */
static inline struct weir_loop *server_loop(struct server *server)
{
    return server->members[0].shard.loop;
}
static inline struct weir_task *server_task(struct server *server)
{
    return server->members[0].shard.tasks[WORK_OTHER];
}
/* One turn of it. */
static inline int server_turn(struct server *server)
{
    return shard_turn(&server->members[0].shard, -1);
}

/* Accepts no more, and lets every client end: `drained` is called when they have gone. */
void server_drain(struct server *server);
/* Does not wait for them any longer. */
void server_hang_up(struct server *server);
/* Opens all files again. */
void server_reopen(struct server *server);
/* Whether all loops have answered since the last time it was asked; asks them again. */
bool server_ping(struct server *server);
void server_rate(const struct server *server, struct rate *ret_rate);

/* Ends threads and loops. 0; or what closing the worst of them answered: what is left is said. */
int server_close(struct server *server);

#endif
