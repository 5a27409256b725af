/* SPDX-License-Identifier: MIT */
/*
 * request.h: a request from its header to its reply. One that moves more than BUFFER_PIECE is
 * carried out in pieces, each of them a struct request, and `whole` is the first.
 *
 * A request stands in a buffer of its connection, before its data, and is gone when its reply has
 * been sent and its pieces are gone.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "buffers.h"
#include "export.h"
#include "nbd.h"

#include <sys/uio.h>

struct connection;

struct request {
    struct weir_op op;
    struct connection *connection;
    struct request *next;  /* in line to be sent, or on its way */
    struct request *whole; /* itself, or what this is a piece of */
    struct file *file;     /* while it is used: from the start of an op to its end, or a sync's */
    struct buffer *memory; /* that it stands in */
    struct buffer *payload[2]; /* that a WRITE's bytes stand in, where they were received */
    struct pipe *pipe;         /* that they are in; NULL: they were received */
    struct sync_wait sync;

    uint16_t type; /* enum nbd_command */
    uint16_t flags;
    uint32_t length; /* bytes, of this piece */
    uint64_t cookie;
    uint64_t offset;

    bool is_stream;    /* of the whole: the pieces of a READ go out in order, as one; no other
                        * request of the connection is live */
    bool is_spliced;   /* of the whole: a WRITE that need not be received */
    bool is_elsewhere; /* a change that another thread makes: the file's */
    bool is_paced;     /* a small one: pace */
    uint32_t turn;     /* of the shard's, in which it was begun */
    uint32_t holds;    /* its own until its reply is sent, and one of each further piece */
    uint32_t open;     /* of the whole: pieces that are not back */
    uint32_t issued;   /* of the whole: bytes of pieces that are made */
    uint32_t unissued; /* of the whole: bytes of pieces that are still to be made */
    uint32_t failures; /* of the whole: its export's, when what it has to make safe was written */
    int32_t error;     /* of the whole: -errno, the first; of a READ: of this piece */

    uint32_t done; /* bytes of a WRITE that are here, of zeroes that are written; extents */
    uint32_t iov_count;
    struct iovec iov[2];      /* of a WRITE; of a reply the first is what is sent */
    unsigned char *data;      /* of a READ; the extents of a BLOCK_STATUS */
    unsigned char header[64]; /* a reply without data; with it stands right before the data */
};

/* With data_bytes of its own, aligned as its file wants it. NULL: no memory now, and the connection
 * is starved. The caller fills in cookie, flags, offset and length; of a further piece `whole` and
 * the counts of that. */
struct request *request_new(struct connection *connection, uint32_t type, uint32_t data_bytes);

/* One of these, and what follows from it goes by itself, to the reply. */
void request_start(struct request *request);             /* all but FLUSH */
void request_flush(struct request *request);             /* FLUSH */
void request_refuse(struct request *request, int error); /* no file has seen it */
void request_fail(struct request *request, int error);   /* a piece that will never be started */

/* What is left of a piece of a WRITE is for another one. */
void request_cut(struct request *piece, uint32_t length);

/* Its reply has been sent, or never will be. */
void request_release(struct request *request);

#endif
