/* SPDX-License-Identifier: MIT */
/*
 * epoll.h: what the reactor's files share.
 *
 * An op is tried when it is staged, unless its fd is known to be dry, and waits on its fd's watch
 * if the try would have blocked. A turn waits for events and tries again what stood on their fds.
 */
#ifndef WEIR_ENGINE_EPOLL_H
#define WEIR_ENGINE_EPOLL_H

#include <engine/backend/backend.h>
#include <engine/backend/epoll_watch.h>

struct weir_epoll {
    struct weir_backend base;
    struct weir_clock clock;
    struct weir_watches watches;
    struct weir_op *given_up; /* asked back in the middle of what they had begun, by held.link.next
                               * (each is its own prev): what they got is op->result */
    struct weir_queue behind; /* ready, but a worker has another one of their fd */
    struct epoll_event *ready;
    uint32_t ready_max;
    uint64_t verify_ns; /* when a busy loop asks again for what ops trust in */
    int epoll_fd;
    int wake_fd;         /* an eventfd, in the set */
    int error;           /* 0, or what no turn gets past */
    bool has_pwait2;     /* epoll_pwait2(2), Linux 5.11 */
    bool is_foreign;     /* somebody else's loop watches the set */
    bool finished;       /* an op was finished on the spot since the last turn */
    bool waiting;        /* an op was put to wait since then */
    bool skipped;        /* the last turn made no system call for that */
    bool blocks_sigpipe; /* by weir_sigpipe_block() */
    size_t size;         /* of the mapping that begins here */
};

extern const struct weir_backend_table weir_epoll_table;

static inline struct weir_epoll *weir_epoll_of(struct weir_backend *backend)
{
    return WEIR_CONTAINER(backend, struct weir_epoll, base);
}

#define WEIR_EPOLL_WAKE UINT64_MAX /* the key of the wake fd: no watch has so high an index */

int weir_epoll_open(const struct weir_options *options, struct weir_facts *facts,
                    struct weir_backend **ret_backend);
int weir_epoll_adopt(struct weir_backend *backend, struct weir_facts *facts);
void weir_epoll_close(struct weir_backend *backend, bool forked);

enum weir_staged weir_epoll_stage(struct weir_backend *backend, struct weir_op *op);

/* What became of an op that was tried. */
enum weir_attempt {
    WEIR_ATTEMPT_DONE,   /* *ret_result is set */
    WEIR_ATTEMPT_WAITS,  /* it would have blocked */
    WEIR_ATTEMPT_CANNOT, /* there is no way to try it; nothing was done */
};

/* Tries an op that waits on the watch. */
enum weir_attempt weir_epoll_attempt(struct weir_watch *watch, struct weir_op *op,
                                     uint32_t write_flags, int64_t *ret_result);

/* After a side was served. Level-triggered, the set tells whether there is more to read: a try that
 * finds nothing would be a wasted system call. */
static inline void weir_epoll_note(struct weir_watch *watch, enum weir_side side)
{
    if (side == WEIR_SIDE_IN && watch->armed != 0 && !(watch->armed & EPOLLET)) {
        watch->flags |= WEIR_WATCH_DRY_IN;
    }
}

/* Where a waiting op stands: on whose watch, on which side, and for which events. */
struct weir_place {
    int fd;
    enum weir_side side;
    uint32_t events;
};

struct weir_place weir_epoll_place(const struct weir_op *op);

/* The events that there are now, with those told of unasked; 0: none; -EBADF. */
int64_t weir_epoll_look(int fd, uint32_t events);

/* For an op that only a worker can carry out and whose fd is ready. WEIR_NOT_HERE: it may go;
 * WEIR_TAKEN: another one is there, and it stands behind, with WEIR_RETRY_ASYNC. */
enum weir_staged weir_epoll_let_go(struct weir_epoll *epoll, struct weir_op *op);
bool weir_epoll_is_behind(const struct weir_epoll *epoll, const struct weir_op *op);
/* The first of those behind that no longer is, or NULL. */
struct weir_op *weir_epoll_next_freed(struct weir_epoll *epoll);

/* What an op with MSG_WAITALL has moved while it waits for the rest; 0 for others. */
int64_t weir_epoll_progress(const struct weir_op *op);

#endif
