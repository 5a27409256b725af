/* SPDX-License-Identifier: MIT */
/*
 * epoll_watch.h: what the reactor knows of each fd: whether the kernel watches it and for what, who
 * waits for it, and what the last tries have told. A hash table of fixed size, by fd.
 *
 * An fd is added to the epoll set once, and stays there until it is forgotten or its place is
 * needed for another: adding and removing it for each op costs more than the rest.
 * Level-triggered, so that after a read nothing need be tried to know whether there is more: the
 * set tells. But where that would tell again and again what nobody can use, edge-triggered, until
 * somebody waits to read.
 *
 * Invariants: a watch that somebody waits on, or whose op a worker has, is never evicted, so two
 * places for each op are enough, which has two fds at most; its key goes with it, so a stale event
 * finds nothing. Must not know what ops do.
 */
#ifndef WEIR_ENGINE_EPOLL_WATCH_H
#define WEIR_ENGINE_EPOLL_WATCH_H

#include <engine/op/slots.h>
#include <sys/epoll.h>

/* Who waits, and for what. */
enum weir_side {
    WEIR_SIDE_IN,   /* ops that take something from the fd; first come, first served */
    WEIR_SIDE_OUT,  /* ops that give it something */
    WEIR_SIDE_POLL, /* ops that only want to know */
    WEIR_SIDES
};

enum weir_watch_flags {
    /* By 1 << side. Only an event tells whether there is something (room): nothing is tried. */
    WEIR_WATCH_DRY_IN = 1 << WEIR_SIDE_IN,
    WEIR_WATCH_DRY_OUT = 1 << WEIR_SIDE_OUT,
    /* By 4 << side. It does not know RWF_NOWAIT. */
    WEIR_WATCH_NO_TRY_IN = 4 << WEIR_SIDE_IN,
    WEIR_WATCH_NO_TRY_OUT = 4 << WEIR_SIDE_OUT,
    WEIR_WATCH_FILE = 16,    /* the kernel refuses to watch it: it is always ready */
    WEIR_WATCH_UNHEARD = 32, /* the last event was for nobody */
    WEIR_WATCH_TRUSTED = 64, /* somebody waits on what an earlier call has asked for */
};

/* What every watch is in the set for. */
#define WEIR_WATCH_BASE (EPOLLIN | EPOLLRDHUP)
/* Reported unasked. */
#define WEIR_WATCH_ALWAYS (EPOLLERR | EPOLLHUP)

struct weir_watch {
    int32_t fd; /* -1: free */
    uint32_t generation;
    uint32_t next;  /* in its bucket, or among the free: index + 1; 0: the last */
    uint32_t armed; /* EPOLL*: what it is in the set for, and how; 0: it is not */
    uint32_t flags;
    struct weir_queue sides[WEIR_SIDES];
    uint64_t claims[2]; /* of WEIR_SIDE_IN and WEIR_SIDE_OUT: the tag of the op that was let go to a
                         * worker last, and may have come back; 0: none */
};

struct weir_watches {
    struct weir_watch *array;
    uint32_t *buckets; /* index + 1; 0: empty */
    uint32_t count;
    uint32_t bucket_mask;
    uint32_t free;       /* index + 1 of the first free one */
    uint32_t hand;       /* where to look for one to evict, or to verify */
    uint32_t registered; /* in the set */
    uint32_t trusted;    /* with that mark */
    int epoll_fd;
};

/* Bytes of memory for `count` watches. */
size_t weir_watches_size(uint32_t count);
/* memory: zeroed, of that size, aligned to a cache line. */
void weir_watches_init(struct weir_watches *watches, uint32_t count, void *memory, int epoll_fd);

/* NULL: nothing is known of the fd. */
static inline struct weir_watch *weir_watches_find(const struct weir_watches *watches, int fd)
{
    uint32_t at = watches->buckets[(uint32_t)fd & watches->bucket_mask];
    while (at != 0 && watches->array[at - 1].fd != fd) {
        at = watches->array[at - 1].next;
    }
    return at != 0 ? &watches->array[at - 1] : NULL;
}

/* The fd's watch, made if there is none; another may go for it. There must be one that nobody waits
 * on and that no op in `slots` claims. */
struct weir_watch *weir_watches_take(struct weir_watches *watches, const struct weir_slots *slots,
                                     int fd);

/* Makes the kernel report these events, beside WEIR_WATCH_BASE and what it reports already; with
 * EPOLLIN among them level-triggered again, if it was not. 0 or -errno; -EPERM: then it is marked
 * WEIR_WATCH_FILE. */
int weir_watches_arm(struct weir_watches *watches, struct weir_watch *watch, uint32_t events);
/* Only these from now on, and EPOLLET if it is among them; what is ready counts as an event. */
void weir_watches_rearm(struct weir_watches *watches, struct weir_watch *watch, uint32_t events);

/*
 * Asks again for what ops trust in, `most` watches at a time: the set knows nothing of an fd that
 * was closed without a word and whose number was given anew. Then an op is late, and not lost.
 */
void weir_watches_verify(struct weir_watches *watches, uint32_t most);

/* An event has come: what was asked for stands. */
static inline void weir_watches_prove(struct weir_watches *watches, struct weir_watch *watch)
{
    if (watch->flags & WEIR_WATCH_TRUSTED) {
        watch->flags &= ~(uint32_t)WEIR_WATCH_TRUSTED;
        watches->trusted--;
    }
}

/* Takes it out of set and table; nobody may wait on it. */
void weir_watches_drop(struct weir_watches *watches, struct weir_watch *watch);

/* The watch of an event's key, or NULL if it has gone. */
struct weir_watch *weir_watches_of(const struct weir_watches *watches, uint64_t key);

static inline bool weir_watch_is_idle(const struct weir_watch *watch)
{
    return !watch->sides[WEIR_SIDE_IN].head && !watch->sides[WEIR_SIDE_OUT].head &&
           !watch->sides[WEIR_SIDE_POLL].head;
}

#endif
