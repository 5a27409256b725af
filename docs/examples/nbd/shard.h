/* SPDX-License-Identifier: MIT */
/*
 * shard.h: a loop with its thread's part of the service: its memory, its files, its tasks, and the
 * connections that were given to it. Shards share nothing but the exports.
 *
 * A turn hands back what has finished; each of its callbacks notes what it changed and marks its
 * connection as ready. After the turn every ready connection is worked on once: so many requests
 * are taken from one receive, and many replies leave with one send.
 */
#ifndef SHARD_H
#define SHARD_H

#include "buffers.h"
#include "export.h"
#include "nbd.h"
#include "splicing.h"

struct connection;
struct shard;
struct tls_config;

enum { SHARD_EXPORTS_MAX = 64 };

/* Kinds of work, each a task: its numbers, and its part of the gate. */
enum work {
    /* first those of requests, by their command */
    WORK_READ = NBD_CMD_READ,
    WORK_WRITE = NBD_CMD_WRITE,
    WORK_FLUSH = NBD_CMD_FLUSH, /* the syncs, whoever asked */
    WORK_TRIM = NBD_CMD_TRIM,
    WORK_CACHE = NBD_CMD_CACHE,
    WORK_WRITE_ZEROES = NBD_CMD_WRITE_ZEROES,
    WORK_BLOCK_STATUS = NBD_CMD_BLOCK_STATUS,
    WORK_RECEIVE = NBD_CMD_COUNT,
    WORK_SEND,
    WORK_OTHER, /* accepting, hanging up, signals */
    WORK_COUNT
};

struct shard_options {
    struct weir_options loop; /* policy, spin, flags; the shard sets the depth */
    uint32_t depth;           /* requests on their way to the files at most */
    uint32_t connections;     /* at most */
    uint32_t others;          /* ops of its owner's, with the task WORK_OTHER */
    struct export *exports;
    uint32_t export_count;
    struct tls_config *tls; /* NULL: none. Else nothing is served without */
    uint64_t handshake_ns;  /* for the handshake */
    /* 0 and both ends of a pipe. NULL: all payload is received. */
    int (*open_pipe)(const struct shard *shard, int ret_fds[2]);
    /* In the shard's thread: a connection has gone, and all it had on the shard. */
    void (*gone)(struct connection *connection);
    /* A file was opened again: 0, or why it could not be. NULL: nobody wants to know. */
    void (*reopened)(struct shard *shard, const struct file *file, int result);
    /* About a connection, for people; NULL: nobody wants to know. */
    void (*told)(const struct connection *connection, const char *what);
};

struct shard {
    struct weir_loop *loop;
    struct shard_options options;
    struct weir_task *tasks[WORK_COUNT];
    struct buffers buffers;
    struct pipe pipes[PIPES], *free_pipes;
    struct file files[SHARD_EXPORTS_MAX];
    struct connection *connections; /* all of them */
    struct connection *ready, *last_ready;
    struct connection *starved, *last_starved; /* wait for a buffer */
    const struct connection *waiting;          /* the last that was waited for; pace.h */
    uint32_t waiting_turn;                     /* when that was another one */
    uint32_t connection_count;
    uint32_t turns;
    uint64_t look_ns; /* when somebody may have been left alone for long enough; 0: never */
    bool is_shared;   /* several of them are ready in this turn */
    bool is_draining; /* who comes now is not served */
};

/* 0 or -errno, also of weir_loop_open(). Its files are closed still: shard_serve(). */
int shard_open(struct shard *shard, const struct shard_options *options);
/* What is opened is the shard's from now on. */
void shard_serve(struct shard *shard, uint32_t export, const struct opened *opened);

/* One turn, of at most wait_ns (negative: as long as it takes), and the work that it leaves. As
 * weir_loop_turn(). */
int shard_turn(struct shard *shard, int64_t wait_ns);

/* Takes no more requests; a connection ends when it has the replies to those it has made. */
void shard_drain(struct shard *shard);
/* Ends every connection that is still there; they go when their requests are back. */
void shard_hang_up(struct shard *shard);

/* Closes loop, files and memory. 0 or what weir_loop_close() answers. */
int shard_close(struct shard *shard, int64_t wait_ns, struct weir_report *ret_report);

/* --- for connections -------------------------------------------------------------------------- */

void shard_mark_ready(struct shard *shard, struct connection *connection);
/* Ready again as soon as any buffer becomes free. */
void shard_mark_starved(struct shard *shard, struct connection *connection);
/* A connection is left alone until at_ns: pace. It is ready then. */
void shard_look_at(struct shard *shard, uint64_t at_ns);
/* A client is waited for; whether others have been as well, of late (who was not waited for before
 * is taken to have some). */
void shard_note_waiting(struct shard *shard, const struct connection *connection);
bool shard_has_others(const struct shard *shard, const struct connection *connection);
/* It is gone. */
void shard_forget(struct shard *shard, struct connection *connection);

#endif
