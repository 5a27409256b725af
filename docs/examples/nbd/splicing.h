/* SPDX-License-Identifier: MIT */
/*
 * splicing.h: how a large WRITE gets into a file that is memory: by splice(2), from the socket into
 * a pipe, which takes over the pages that the client's bytes stand in, and from there into the
 * file. So they are copied once here, not twice, and in the turn: no thread has to be woken.
 */
#ifndef SPLICING_H
#define SPLICING_H

#include <stdbool.h>
#include <stdint.h>
#include <weir/weir.h>

struct connection;
struct shard;

/* Fewer bytes are received, and written on the spot all the same: that takes fewer system calls. */
#define SPLICED_MIN (64u << 10)
/* Of a shard. What is in one is in the file two turns later, so a few do for all clients. */
#define PIPES 4u

struct pipe {
    int fds[2]; /* as pipe(2) has them: [0] is read from; -1: none was to be had */
    struct shard *shard;
    struct pipe *next; /* while it is free */
    uint64_t left;     /* bytes in it */
    struct weir_op op; /* takes out what nobody wants any more */
    unsigned char waste[4096];
};

void splicing_open(struct shard *shard);
void splicing_close(struct shard *shard);

/* Whether a WRITE of so many bytes goes that way, as far as it can. */
bool splicing_suits(const struct connection *connection, uint32_t length);

/* Instead of a receive, for the next bytes of such a WRITE: into a pipe, or a wait until there are
 * any. Then they are intake.filling's, which has no others. False: they are to be received. */
bool splicing_go(struct connection *connection);

/* What is left in it nobody wants any more. */
void pipe_give_back(struct pipe *pipe);

#endif
