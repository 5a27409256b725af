/* SPDX-License-Identifier: MIT */
/*
 * op.h: what an op is to the engine: its states and the one function that moves it between them,
 * who carries it, what its kind means.
 *
 * The byte budget: an op is at most three cache lines. Must not know loop, gate or backends.
 */
#ifndef WEIR_ENGINE_OP_H
#define WEIR_ENGINE_OP_H

#include <engine/base/check.h>
#include <engine/base/probes.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <weir/op.h>

_Static_assert(sizeof(struct weir_op) <= 192, "an op is at most three cache lines");

/* MAX_RW_COUNT of Linux: the most one read or write moves */
#define WEIR_TRANSFER_MAX 0x7ffff000ULL
#define WEIR_VECTOR_MAX 1024u /* IOV_MAX of Linux, UIO_MAXIOV */

/* Named after who holds the op; says who may touch it and which list its link is on. */
enum weir_state {
    WEIR_WITH_CALLER, /* the caller; on nothing */
    WEIR_POSTED,      /* the loop's thread; on the inbox, or on the FIFO of posts for its gate */
    WEIR_AT_GATE,     /* the loop's thread; on the gate's FIFO */
    WEIR_IN_FLIGHT,   /* its carrier (enum weir_carrier) */
    WEIR_DONE,        /* the loop's thread; in the turn's events or on the early list */
};

/* Who carries an op in flight. Anything but NOBODY and CALLER, for all kinds but TIMEOUT, holds a
 * credit of its gate. */
enum weir_carrier {
    WEIR_CARRIER_NOBODY,
    WEIR_CARRIER_BACKEND,
    WEIR_CARRIER_PLAIN,   /* the backend, which has all of it to do, and the op has nothing that
                           * takes more than the short ways: weir_op_backend_carrier() */
    WEIR_CARRIER_WHOLE,   /* the same, if all of it comes at once */
    WEIR_CARRIER_LEAVING, /* nobody yet: it has passed the gate, and is staged when the turn
                           * begins, or is parked: struct weir_spin */
    WEIR_CARRIER_TIMER,   /* the heap: a TIMEOUT, or an op that is tried again later */
    WEIR_CARRIER_CLOSER,  /* the list of CLOSE ops that wait for the other ops on their fd */
    WEIR_CARRIER_OFFLOAD, /* the offload ring, or a backend that carries calls: queued or running */
    WEIR_CARRIER_CALLER,  /* its function ran inside submit */
};

/* Who asked for the op back first; it decides the result. */
enum weir_asked {
    WEIR_ASKED_NONE,
    WEIR_ASKED_CANCEL,
    WEIR_ASKED_DEADLINE,
    WEIR_ASKED_CLOSE,
};

/* How an op is staged that the kernel did not want to wait with. */
enum weir_retry {
    WEIR_RETRY_NONE,
    WEIR_RETRY_POLL,  /* behind a poll of its fd */
    WEIR_RETRY_ASYNC, /* on a worker that may block */
    WEIR_RETRY_LATER, /* by timer, with back-off */
};

/* enum weir_kind -> what the engine must know of it */
enum weir_kind_traits {
    WEIR_KIND_HAS_FD2 = 1 << 1,  /* beside op->fd: weir_op_fd2() */
    WEIR_KIND_LATE_FD = 1 << 2,  /* numbers may be looked up by a worker, after the kernel took the
                                 * op */
    WEIR_KIND_MAKES_FD = 1 << 3, /* success is a new fd */
    WEIR_KIND_MAY_WHOLE = 1 << 4,
    WEIR_KIND_VECTOR = 1 << 5,   /* arg.io is iovecs */
    WEIR_KIND_MESSAGE = 1 << 6,  /* arg.io.buffer is a msghdr */
    WEIR_KIND_BYTES = 1 << 7,    /* arg.io.length is bytes */
    WEIR_KIND_LENGTH32 = 1 << 8, /* and the kernel's request has 32 bits for them */
    WEIR_KIND_READS = 1 << 9,    /* waits for POLLIN when it must wait; else for POLLOUT */
    WEIR_KIND_OWN_FD = 1 << 10,  /* op->fd is the engine's own, made when it is staged; waits for
                                  * POLLIN on it, then performs */
    WEIR_KIND_WAITS = 1 << 11,   /* may wait for others for ever: never for a worker by choice */
};

extern const uint32_t weir_kind_traits_table[WEIR_KIND_COUNT];

static inline uint32_t weir_kind_traits(unsigned kind)
{
    return weir_kind_traits_table[kind];
}

/* The four bytes that say where an op stands, as one word: most ops are looked at and moved on by
 * one compare and one store. */
_Static_assert(offsetof(struct weir_op, state) % 4 == 0 &&
                   offsetof(struct weir_op, with) == offsetof(struct weir_op, state) + 3,
               "state, asked, retry and with are one word");

static inline uint32_t weir_op_stand(const struct weir_op *op)
{
    uint32_t word;
    memcpy(&word, &op->state, sizeof word);
    return word;
}

static inline void weir_op_set_stand(struct weir_op *op, uint32_t word)
{
    memcpy(&op->state, &word, sizeof word);
}

/* Kinds that move bytes, and say how many: those with WEIR_KIND_MAY_WHOLE. */
#define WEIR_TRANSFER_KINDS                                                                        \
    (1ULL << WEIR_KIND_READ | 1ULL << WEIR_KIND_WRITE | 1ULL << WEIR_KIND_READV |                  \
     1ULL << WEIR_KIND_WRITEV | 1ULL << WEIR_KIND_RECV | 1ULL << WEIR_KIND_SEND |                  \
     1ULL << WEIR_KIND_RECVMSG | 1ULL << WEIR_KIND_SENDMSG | 1ULL << WEIR_KIND_SPLICE)

static inline bool weir_op_is_transfer(const struct weir_op *op)
{
    return WEIR_TRANSFER_KINDS >> op->kind & 1;
}

/* The word of an op that nobody asked for and that is not tried again. */
static inline uint32_t weir_op_stand_as(enum weir_state state, enum weir_carrier with)
{
    const uint8_t bytes[4] = {(uint8_t)state, WEIR_ASKED_NONE, WEIR_RETRY_NONE, (uint8_t)with};
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint32_t weir_op_plain_stand(enum weir_state state)
{
    return weir_op_stand_as(state, WEIR_CARRIER_PLAIN);
}

/* Kinds that take no more than a slot and a place in the FIFO, and are the backend's: not those
 * that submit_checked(), weir_loop_enter_gate() and the loop's stage() name. */
#define WEIR_PLAIN_KINDS                                                                           \
    (((1ULL << WEIR_KIND_COUNT) - 1) &                                                             \
     ~(1ULL << WEIR_KIND_NONE | 1ULL << WEIR_KIND_TIMEOUT | 1ULL << WEIR_KIND_CLOSE |              \
       1ULL << WEIR_KIND_SYNC_FILE_RANGE | 1ULL << WEIR_KIND_FADVISE |                             \
       1ULL << WEIR_KIND_RENAMEAT | 1ULL << WEIR_KIND_LINKAT | 1ULL << WEIR_KIND_SPLICE |          \
       1ULL << WEIR_KIND_SIGNAL | 1ULL << WEIR_KIND_CHILD | 1ULL << WEIR_KIND_CALL))

_Static_assert(WEIR_KIND_COUNT < 64, "a bit per kind");

/* Flags, burst, route and what an earlier life left beside them, as one word. The kind is not in
 * it: a helper has just written it, and a wider load would have to wait for that store. */
_Static_assert(offsetof(struct weir_op, flags) % 8 == 0 &&
                   offsetof(struct weir_op, governed) == offsetof(struct weir_op, flags) + 7,
               "flags, burst, route, attempts, asked_back and governed are one word");

/* op->governed: why it takes the checked ways. */
enum {
    WEIR_GOVERNED = 1 << 0, /* the gate keeps books of it (gate.h) */
    WEIR_OBSERVED = 1 << 1, /* somebody is told of it (tell.h) */
};

/* Flags to `governed`, deadline and intended start: 0 if they are these and nothing else. */
static inline uint64_t weir_op_extras_but(const struct weir_op *op, uint16_t flags, uint8_t route)
{
    uint64_t word;
    uint64_t but = 0;
    memcpy(&word, &op->flags, sizeof word);
    memcpy(&but, &flags, sizeof flags);
    memcpy((char *)&but + offsetof(struct weir_op, route) - offsetof(struct weir_op, flags), &route,
           sizeof route);
    return (word ^ but) | op->deadline_ns | op->intended_ns;
}

/* 0: it has its arguments and nothing else: no flags, route, deadline, intended start; the gate
 * keeps no books of it, and nobody is told of it. */
static inline uint64_t weir_op_extras(const struct weir_op *op)
{
    return weir_op_extras_but(op, 0, WEIR_ROUTE_AUTO);
}

/* Transfers of one buffer, of which `length` is all. */
#define WEIR_BUFFER_KINDS                                                                          \
    (1ULL << WEIR_KIND_READ | 1ULL << WEIR_KIND_WRITE | 1ULL << WEIR_KIND_RECV |                   \
     1ULL << WEIR_KIND_SEND)

static inline bool weir_op_is_buffer(const struct weir_op *op)
{
    return op->kind < WEIR_KIND_COUNT && (WEIR_BUFFER_KINDS >> op->kind & 1);
}

static inline bool weir_op_is_plain_kind(const struct weir_op *op)
{
    return op->kind < WEIR_KIND_COUNT && (WEIR_PLAIN_KINDS >> op->kind & 1);
}

/* Has the route INLINE and, of one buffer, the flags that say how much and where, and nothing else:
 * it may take the short way, and if it is done on the spot then, it is as plain as any. */
static inline bool weir_op_is_inline(const struct weir_op *op)
{
    uint16_t flags = op->flags & (WEIR_WHOLE | WEIR_IN_MEMORY);
    uint64_t kinds = WEIR_PLAIN_KINDS;
    if (flags != 0) {
        kinds = flags & WEIR_IN_MEMORY ? 1ULL << WEIR_KIND_READ | 1ULL << WEIR_KIND_WRITE
                                       : WEIR_BUFFER_KINDS;
    }
    return weir_op_extras_but(op, flags, WEIR_ROUTE_INLINE) == 0 && op->kind < WEIR_KIND_COUNT &&
           (kinds >> op->kind & 1);
}

/* As what the backend carries an op that is to be staged. */
static inline enum weir_carrier weir_op_backend_carrier(const struct weir_op *op)
{
    if (weir_likely(weir_op_extras(op) == 0)) {
        return weir_op_is_plain_kind(op) ? WEIR_CARRIER_PLAIN : WEIR_CARRIER_BACKEND;
    }
    bool whole = weir_op_extras_but(op, WEIR_WHOLE, WEIR_ROUTE_AUTO) == 0 && weir_op_is_buffer(op);
    return whole && op->moved == 0 ? WEIR_CARRIER_WHOLE : WEIR_CARRIER_BACKEND;
}

/* Whether all of it is to be done, and nothing of it has been tried. */
static inline bool weir_op_is_untried(const struct weir_op *op)
{
    uint32_t stand = weir_op_stand(op);
    return stand == weir_op_plain_stand(WEIR_IN_FLIGHT) ||
           stand == weir_op_stand_as(WEIR_IN_FLIGHT, WEIR_CARRIER_WHOLE);
}

/* The one mover. */
static inline void weir_op_move(struct weir_op *op, enum weir_state to)
{
    static const uint8_t may_come_from[] = {
        [WEIR_WITH_CALLER] = 1 << WEIR_DONE,
        [WEIR_POSTED] = 1 << WEIR_WITH_CALLER,
        [WEIR_AT_GATE] = 1 << WEIR_WITH_CALLER | 1 << WEIR_POSTED,
        [WEIR_IN_FLIGHT] = 1 << WEIR_AT_GATE | 1 << WEIR_WITH_CALLER | 1 << WEIR_POSTED,
        [WEIR_DONE] = 1 << WEIR_POSTED | 1 << WEIR_AT_GATE | 1 << WEIR_IN_FLIGHT,
    };
    WEIR_CHECK(may_come_from[to] >> op->state & 1);
    op->state = (uint8_t)to;
}

/* True: a WHOLE op has come at once, and is as plain from here on. */
static inline bool weir_op_came_whole(struct weir_op *op, int64_t result)
{
    if (weir_op_stand(op) != weir_op_stand_as(WEIR_IN_FLIGHT, WEIR_CARRIER_WHOLE) ||
        (uint64_t)result != op->arg.io.length) {
        return false;
    }
    WEIR_AUDIT(op->moved == 0);
    op->moved = (uint64_t)result;
    return true;
}

/* For backends: a completion that is simply the end of its op. False: the loop has to look. */
static inline bool weir_op_finish_plain(struct weir_op *op, int64_t result)
{
    if (weir_unlikely(result < 0 || (weir_op_stand(op) != weir_op_plain_stand(WEIR_IN_FLIGHT) &&
                                     !weir_op_came_whole(op, result)))) {
        return false;
    }
    op->result = result;
    weir_op_set_stand(op, weir_op_plain_stand(WEIR_DONE));
    WEIR_PROBE_DONE(op, result);
    return true;
}

/* For backends: the op is about to be called back. Of what the turn before left in the first-level
 * cache, transfers leave little: the line that nobody has read on the way comes while the others
 * are seen to. */
static inline void weir_op_expect(const struct weir_op *op)
{
    __builtin_prefetch(&op->callback);
}

/* An op that ends in any other way. It is plain no more: who is plain and DONE is a success. */
static inline void weir_op_finish_odd(struct weir_op *op, int64_t result)
{
    op->result = result;
    if (op->with == WEIR_CARRIER_PLAIN || op->with == WEIR_CARRIER_WHOLE) {
        op->with = WEIR_CARRIER_BACKEND;
    }
    weir_op_move(op, WEIR_DONE);
}

static inline bool weir_op_is_with_backend(const struct weir_op *op)
{
    return op->state == WEIR_IN_FLIGHT && op->with >= WEIR_CARRIER_BACKEND &&
           op->with <= WEIR_CARRIER_WHOLE;
}

static inline bool weir_op_is_timer(const struct weir_op *op)
{
    return op->kind == WEIR_KIND_TIMEOUT;
}

static inline bool weir_op_has_credit(const struct weir_op *op)
{
    return op->with != WEIR_CARRIER_NOBODY && op->with != WEIR_CARRIER_CALLER &&
           !weir_op_is_timer(op);
}

/* Whether the offload gate is the op's. */
static inline bool weir_op_is_offloaded(const struct weir_op *op)
{
    return op->kind == WEIR_KIND_CALL || op->route == WEIR_ROUTE_OFFLOAD;
}

/* What an op that was asked back answers unless it was first. */
static inline int weir_op_asked_result(const struct weir_op *op)
{
    return op->asked == WEIR_ASKED_DEADLINE ? -ETIME : -ECANCELED;
}

/* The second fd of a kind that has two. */
static inline int weir_op_fd2(const struct weir_op *op)
{
    return op->kind == WEIR_KIND_SPLICE ? op->arg.io.fd2 : op->arg.path.fd2;
}

/* Whether its caller wants EAGAIN where it would wait. */
bool weir_op_caller_polls(const struct weir_op *op);

/* Bytes an op wants to move: 0 where the kind moves none or does not say. */
uint64_t weir_op_bytes(const struct weir_op *op);

/* The part of a transfer that is still to do, as the system call that does it. */
struct weir_part {
    uint8_t kind; /* a vector or message that stands in the middle of a buffer moves that buffer's
                   * rest */
    void *buffer;
    uint64_t length; /* clamped: bytes, or iovecs */
    uint64_t offset;
};

void weir_op_part(const struct weir_op *op, struct weir_part *ret_part);

/* --- a queue of ops by their link ------------------------------------------------------------- */

struct weir_queue {
    struct weir_op *head;
    struct weir_op *tail;
};

static inline void weir_queue_push(struct weir_queue *queue, struct weir_op *op)
{
    op->held.link.next = NULL;
    op->held.link.prev = queue->tail;
    if (queue->tail) {
        queue->tail->held.link.next = op;
    } else {
        queue->head = op;
    }
    queue->tail = op;
}

static inline void weir_queue_remove(struct weir_queue *queue, struct weir_op *op)
{
    struct weir_op *next = op->held.link.next;
    struct weir_op *prev = op->held.link.prev;
    if (prev) {
        prev->held.link.next = next;
    } else {
        queue->head = next;
    }
    if (next) {
        next->held.link.prev = prev;
    } else {
        queue->tail = prev;
    }
}

/* The first; there must be one. */
static inline struct weir_op *weir_queue_pop(struct weir_queue *queue)
{
    struct weir_op *op = queue->head;
    struct weir_op *next = op->held.link.next;
    queue->head = next;
    *(next ? &next->held.link.prev : &queue->tail) = NULL;
    return op;
}

#endif
