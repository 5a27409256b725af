/* SPDX-License-Identifier: MIT */
/*
 * connection.h: a client. Bytes come into its `in` buffer, and are taken from there by
 * negotiate.c first and intake.c then; replies stand in line until sending.c sends them.
 *
 * When it cannot go on (the gate is full, there is no buffer, its file is changing) nothing more is
 * taken from `in`, so soon nothing more is received, and the client has to wait: that is all there
 * is to back-pressure.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "intake.h"
#include "negotiate.h"
#include "pace.h"
#include "request.h"
#include "sending.h"
#include "shard.h"
#include "tls.h"

#include <sys/socket.h>

enum connection_phase {
    CONNECTION_GREETING,     /* our hello is on its way; the client's flags come */
    CONNECTION_OPTIONS,      /* options come, each answered before the next is read */
    CONNECTION_TLS,          /* a TLS handshake; then options again */
    CONNECTION_TRANSMISSION, /* requests come */
    CONNECTION_ENDING,       /* no more is taken; what is on its way is finished and sent */
    CONNECTION_LINGERING,    /* all is sent, and the client told so; what it still sends is not
                              * looked at */
    CONNECTION_CLOSING,      /* its socket is being closed */
    CONNECTION_GONE,         /* closed: it goes with its last request */
};

enum {
    CONNECTION_IOVECS = 64,
    CONNECTION_REQUESTS_MAX = 1024, /* that are not answered; then no more is taken */
};

struct connection {
    struct shard *shard;
    int fd;
    bool is_unix; /* its socket */
    enum connection_phase phase;
    struct connection *next, *previous; /* of the shard's */
    struct connection *next_ready, *next_starved;
    bool is_ready, is_starved;
    bool is_broken; /* its socket failed, or its client: replies go nowhere */
    bool has_ended; /* the client sends no more */
    bool ends;      /* no further request is taken */
    bool said_bye;  /* by TLS */
    bool lingers;   /* what the client has sent and nobody took is to be thrown away at the end */
    struct share share; /* of the shard's buffers */

    /* receiving */
    struct weir_op receiving; /* or waiting for the time to receive: pace */
    bool is_receiving;
    struct buffer *in;
    uint32_t in_start, in_end; /* what of it is not taken yet */
    uint64_t until_ns;         /* when the handshake has to be over; at the end, the lingering */
    struct tls *tls;           /* NULL: in the clear */

    struct pace pace;

    /* negotiated */
    struct negotiated negotiated;
    struct file *file;
    uint32_t failures; /* of its export's syncs, that the client has been told of */

    /* requests */
    struct intake intake;
    struct carving carving; /* where requests and their data are made */
    uint32_t live;          /* requests, to the end of their replies */
    uint32_t changes;       /* of the file's, writes of its own */
    struct weir_room room;

    /* sending */
    struct weir_op sending;
    bool is_sending;
    struct request *replies, *last_reply; /* to be sent */
    struct request *sent;                 /* on their way */
    uint64_t reply_done;                  /* bytes of the first that TLS has taken */
    struct msghdr message;
    struct iovec iov[CONNECTION_IOVECS];

    bool is_shutting;
    struct weir_op closing; /* SHUTDOWN, CLOSE; and before and after, its owner's */
};

/* A connection on an fd that somebody has accepted, zeroed memory otherwise. In the shard's
 * thread. The shard's `gone` is the last that is heard of it. */
void connection_begin(struct connection *connection, struct shard *shard, int fd);

/* What can be done now; called by the shard. */
void connection_work(struct connection *connection);

/* Takes nothing more; finishes what was begun, sends the replies, and hangs up. */
void connection_end(struct connection *connection);
/* Nothing more goes to the client or comes from it. `why` is for people. */
void connection_break(struct connection *connection, const char *why);

/* --- for negotiate.c, intake.c, request.c and sending.c --------------------------------------- */

/* Memory until the holder drops *ret_buffer; NULL: none now, and the connection is starved.
 * alignment: a power of 2. At most BUFFER_BYTES. */
void *connection_carve(struct connection *connection, uint32_t length, uint32_t alignment,
                       struct buffer **ret_buffer);

/* Every kind of op that is submitted here has places reserved for every connection. */
bool connection_submit(struct connection *connection, struct weir_op *op, enum work work,
                       weir_callback *callback);
/* The end of it, for one that has failed. */
void connection_fail(struct connection *connection, int64_t result, const char *why);

/* Tells who wants to know. */
void connection_tell(const struct connection *connection, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline const unsigned char *connection_bytes(const struct connection *connection)
{
    return connection->in->bytes + connection->in_start;
}

/* Whether other threads change its file: for other clients, whom what it writes is not to overtake,
 * or for long (trims, zeroes), and whoever writes waits for the file's lock. */
static inline bool connection_has_rivals(const struct connection *connection)
{
    return connection->file->changes > connection->changes;
}

static inline uint32_t connection_pending(const struct connection *connection)
{
    return connection->in_end - connection->in_start;
}

#endif
