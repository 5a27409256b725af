/* SPDX-License-Identifier: MIT */
/*
 * sim_stream.h: pipes and sockets in memory: bounded, each direction in order, with a time at which
 * what was sent arrives. Must not know ops, fds, faults or where latencies come from.
 *
 * Nothing here waits: what would is -EAGAIN, and net->changed() is called for a stream that may be
 * ready for more than before, now or (weir_stream_next_ns()) later.
 *
 * Invariants. What is sent on a stream arrives in order. A stream and its peer know each other
 * until one is closed. What a stream holds unread, on its way included, is at most net->capacity.
 */
#ifndef WEIR_ENGINE_SIM_STREAM_H
#define WEIR_ENGINE_SIM_STREAM_H

#include "sim_arena.h"
#include "sim_disk.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define WEIR_STREAM_OPTIONS 8
#define WEIR_STREAM_ATOMIC 4096u /* PIPE_BUF: so much goes into a pipe in one piece, or waits */

struct weir_name {
    socklen_t length; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } address;
};

/* What was sent at once. */
struct weir_chunk {
    struct weir_chunk *next;
    uint64_t at_ns;  /* when it arrives */
    uint64_t length; /* bytes of data */
    uint64_t taken;  /* of these */
    struct weir_name from;
    char data[];
};

enum weir_stream_role {
    WEIR_STREAM_SOCKET,
    WEIR_STREAM_PIPE_IN, /* the end that is read */
    WEIR_STREAM_PIPE_OUT,
};

enum weir_stream_state {
    WEIR_STREAM_FRESH,
    WEIR_STREAM_LISTENING,
    WEIR_STREAM_CONNECTED, /* datagram sockets: has a name to send to; also once the peer is gone */
};

struct weir_stream_option {
    int level;
    int name;
    int value;
};

struct weir_net;

/* An end. */
struct weir_stream {
    struct weir_net *net;
    void *user; /* whoever wants to know of changes; NULL: nobody yet */
    enum weir_stream_role role;
    enum weir_stream_state state;
    int domain;
    int type;
    struct weir_stream *peer; /* NULL: none, or gone */

    /* What comes in. */
    struct weir_chunk *head;
    struct weir_chunk *tail;
    uint64_t held;    /* bytes unread, on their way included */
    uint64_t line_ns; /* until then the line is busy with what was sent before */
    bool ends;        /* nothing is sent any more: */
    uint64_t ends_ns; /* that arrives */
    bool read_shut;
    bool write_shut;
    int error;         /* positive errno; told once */
    bool linger_reset; /* SO_LINGER of 0: closing resets */

    struct weir_name name;
    struct weir_name peer_name;
    bool is_bound;
    struct weir_inode *inode; /* of an AF_UNIX name: held until it is closed */
    struct weir_stream *next_bound;

    /* A listener's: connections nobody has accepted yet, first come first. */
    uint32_t backlog;
    uint32_t pending_count;
    struct weir_stream *pending;
    struct weir_stream *pending_tail;
    struct weir_stream *next_pending; /* of one of these */

    struct weir_stream_option options[WEIR_STREAM_OPTIONS];
    uint32_t option_count;
};

struct weir_net {
    struct weir_arena *arena;
    struct weir_disk *disk; /* where AF_UNIX names are */
    uint64_t capacity;
    uint64_t bytes_per_s;
    void (*changed)(void *context, struct weir_stream *stream);
    void *context;
    struct weir_stream *bound; /* newest first */
    uint16_t next_port;
    uint32_t next_autobind;
};

/* A moment, and what messages take to arrive that are sent in it. */
struct weir_when {
    uint64_t now_ns;
    uint64_t way_ns;
};

/* Two ends, in and out. 0; -ENOMEM. */
int weir_stream_pipe(struct weir_net *net, struct weir_stream *ret_ends[2]);
/* 0; -EINVAL; -ENOMEM. */
int weir_stream_pair(struct weir_net *net, int type, struct weir_stream *ret_ends[2]);
/* 0; -EAFNOSUPPORT, -EPROTONOSUPPORT, -EINVAL, -ENOMEM. */
int weir_stream_socket(struct weir_net *net, int domain, int type, int protocol,
                       struct weir_stream **ret_stream);
/* The peer is told, with a reset if something was left unread. */
void weir_stream_close(struct weir_stream *stream, const struct weir_when *when);
/* -ECONNRESET at both ends, as far as they have a connection. */
void weir_stream_reset(struct weir_stream *stream);

int weir_stream_bind(struct weir_stream *stream, const struct sockaddr *address, socklen_t length);
int weir_stream_listen(struct weir_stream *stream, int backlog);
/* -EAGAIN: the backlog of *ret_listener is full. */
int weir_stream_connect(struct weir_stream *stream, const struct sockaddr *address,
                        socklen_t length, struct weir_stream **ret_listener);
/* 0; -EAGAIN; -EINVAL: it does not listen. */
int weir_stream_accept(struct weir_stream *listener, struct weir_stream **ret_stream);
int weir_stream_shutdown(struct weir_stream *stream, int how, const struct weir_when *when);
int weir_stream_set(struct weir_stream *stream, int level, int name, const void *value,
                    socklen_t length);
/* -ENOPROTOOPT: nobody has set it. */
int weir_stream_get(const struct weir_stream *stream, int level, int name, int *ret_value);

/* How many bytes could be read at once; -EAGAIN: none yet, -errno. 0: the end. */
int64_t weir_stream_readable(const struct weir_stream *stream, uint64_t now_ns);
/* How many bytes could be sent at once, of `length`; -EAGAIN, -errno. */
int64_t weir_stream_writable(const struct weir_stream *stream, uint64_t length,
                             const struct weir_name *to);
/* The error that stands, which is then told. 0: none. */
int weir_stream_take_error(struct weir_stream *stream);

struct weir_received {
    int flags; /* MSG_TRUNC */
    struct weir_name from;
};

/*
 * Moves at most `length` bytes, after the first `skip` of the iovecs. flags: MSG_PEEK, MSG_TRUNC.
 * Only after readable() and writable() gave at least so much, or 0. ret_received may be NULL.
 */
int64_t weir_stream_receive(struct weir_stream *stream, uint64_t now_ns, const struct iovec *iov,
                            uint64_t count, uint64_t skip, uint64_t length, int flags,
                            struct weir_received *ret_received);
int64_t weir_stream_send(struct weir_stream *stream, const struct weir_when *when,
                         const struct iovec *iov, uint64_t count, uint64_t skip, uint64_t length,
                         const struct weir_name *to);

static inline bool weir_stream_is_message(const struct weir_stream *stream)
{
    return stream->role == WEIR_STREAM_SOCKET && stream->type != SOCK_STREAM;
}

/* poll(2)'s events that hold. */
unsigned weir_stream_poll(const struct weir_stream *stream, uint64_t now_ns);
/* When something arrives next; UINT64_MAX: nothing is on its way. */
uint64_t weir_stream_next_ns(const struct weir_stream *stream, uint64_t now_ns);

/* A name from what a caller gave. 0; -EINVAL; -EAFNOSUPPORT. */
int weir_name_set(struct weir_name *name, const struct sockaddr *address, socklen_t length);
/* sim_name.c: finds who is bound to a name, of a socket like this one; NULL: nobody. */
struct weir_stream *weir_net_find(const struct weir_stream *like, const struct weir_name *name);
/* Gives a stream a name of the world's choice unless it has one. 0; -EADDRINUSE. */
int weir_net_autobind(struct weir_stream *stream);
void weir_net_unbind(struct weir_stream *stream);

#endif
