/* SPDX-License-Identifier: MIT */
/*
 * ring.h: one lane: a bounded ring of op pointers from one producer, the loop's thread, to any
 * number of consumers. Must not know what an op does, nor who sleeps.
 *
 * A consumer claims a place by moving head, then empties the place's cell by an exchange. The
 * producer puts ops into empty cells only, and withdraws one by emptying its cell: the place stays
 * behind as a tombstone, that consumers step over.
 *
 * Invariants. An op is in one cell at most, and whoever empties that cell has it: so it is taken
 * exactly once, also when a consumer that claimed a place long ago comes to its cell a lap late;
 * then it may have another op than its place's, and finds nothing at worst. Each op in a cell has a
 * place, its own or a later one of the same cell, that is not claimed or whose claimer has not come
 * to the cell: so none is left behind. Not more than half of the cells hold ops.
 */
#ifndef WEIR_ENGINE_RING_H
#define WEIR_ENGINE_RING_H

#include <engine/op/op.h>

#define WEIR_CACHE_LINE 64

struct weir_ring {
    struct weir_op **cells; /* atomic; NULL: empty */
    uint32_t mask;
    uint32_t first; /* held.carrier.position of an op in cells[0] */

    /* The producer's own. Places are counted from 0 and never wrap; a place's cell is its number
     * under the mask. */
    uint64_t tail;      /* the next place */
    uint64_t shown;     /* what `published` is, or will be before anybody is woken */
    uint64_t flushed;   /* the places before it have been published, and consumers woken for them */
    uint64_t head_seen; /* head, some time ago */

    /* Apart: the producer writes one every few pushes, the consumers the other an op. Both
     * atomic. */
    union {
        uint64_t published; /* places before it may be claimed */
        unsigned char published_line[WEIR_CACHE_LINE];
    } __attribute__((aligned(WEIR_CACHE_LINE)));
    union {
        uint64_t head; /* the next to claim; may be past published */
        unsigned char head_line[WEIR_CACHE_LINE];
    };
};

/* Cells for ops_max ops. Twice as many, so that tombstones seldom make it full. */
static inline uint32_t weir_ring_cells(uint32_t ops_max)
{
    uint32_t cells = 2;
    while (cells / 2 < ops_max) {
        cells *= 2;
    }
    return cells;
}

/* cells: zeroed, a power of two. `first`: cells of the rings before this one. */
static inline void weir_ring_init(struct weir_ring *ring, struct weir_op **cells, uint32_t count,
                                  uint32_t first)
{
    *ring = (struct weir_ring){.cells = cells, .mask = count - 1, .first = first};
}

/* --- consumers -------------------------------------------------------------------------------- */

/* Takes an op; NULL: there is none, or none yet. */
static inline struct weir_op *weir_ring_take(struct weir_ring *ring)
{
    /* Acquire, with the release of the claim below: who sees a head sees the `published` that
     * allowed it, and does not take an old one for "nothing there". */
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    /* Acquire: pairs with weir_ring_publish(). */
    while (head < __atomic_load_n(&ring->published, __ATOMIC_ACQUIRE)) {
        if (!__atomic_compare_exchange_n(&ring->head, &head, head + 1, true, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            continue;
        }
        /* Acquire: pairs with the release in weir_ring_put(), for what the op holds. */
        struct weir_op *op =
            __atomic_exchange_n(&ring->cells[head & ring->mask], NULL, __ATOMIC_ACQUIRE);
        if (op) {
            return op;
        }
        head++;
    }
    return NULL;
}

/*
 * Whether there may be an op to take. Seq_cst: a consumer that shows that it is about to sleep by a
 * seq_cst write, and then finds nothing here, is seen by the producer after its
 * weir_ring_publish(). Head needs no order: an old one says "may" too often, and a new one means
 * that who moved it looks again after that.
 */
static inline bool weir_ring_may_have(const struct weir_ring *ring)
{
    return __atomic_load_n(&ring->published, __ATOMIC_SEQ_CST) >
           __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
}

/* --- the producer ----------------------------------------------------------------------------- */

/* The cell at tail may still hold the op of a consumer that claimed it a lap ago and has not come
 * to it: it is stepped over, and both that consumer and the new place's may take it. */
static inline void weir_ring_put(struct weir_ring *ring, struct weir_op *op)
{
    uint32_t cell;
    do {
        cell = (uint32_t)ring->tail++ & ring->mask;
        /* Relaxed: consumers only ever empty a cell, so what is empty stays so. */
    } while (weir_unlikely(__atomic_load_n(&ring->cells[cell], __ATOMIC_RELAXED) != NULL));
    op->held.carrier.position = ring->first + cell;
    /* Release: the op is complete; a late consumer may take it before it is published. */
    __atomic_store_n(&ring->cells[cell], op, __ATOMIC_RELEASE);
}

/* Too many tombstones: claims all places as a consumer would, and puts the ops that are left behind
 * tail again, in order. They have to be published again. */
static inline void weir_ring_compact(struct weir_ring *ring)
{
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
    /* Release: as in weir_ring_take(). */
    while (!__atomic_compare_exchange_n(&ring->head, &head, ring->tail, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
    }
    struct weir_queue left = {0};
    for (uint64_t place = head; place < ring->tail; place++) {
        /* Relaxed: what the op holds, this thread wrote. */
        struct weir_op *op =
            __atomic_exchange_n(&ring->cells[place & ring->mask], NULL, __ATOMIC_RELAXED);
        if (op) {
            weir_queue_push(&left, op);
        }
    }
    ring->head_seen = ring->flushed = ring->shown = ring->tail;
    while (left.head) {
        weir_ring_put(ring, weir_queue_pop(&left));
    }
}

/* Puts an op at the end; consumers may not see it before weir_ring_publish(). */
static inline void weir_ring_push(struct weir_ring *ring, struct weir_op *op)
{
    if (weir_unlikely(ring->tail - ring->head_seen > ring->mask)) {
        ring->head_seen = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
        if (ring->tail - ring->head_seen > ring->mask) {
            weir_ring_compact(ring);
        }
    }
    weir_ring_put(ring, op);
}

/* For consumers that are awake: they go on with what was pushed. */
static inline void weir_ring_show(struct weir_ring *ring)
{
    ring->shown = ring->tail;
    /* Release: for weir_ring_take(). */
    __atomic_store_n(&ring->published, ring->tail, __ATOMIC_RELEASE);
}

/* Shows consumers what was pushed. The number of places since the last time that nobody has claimed
 * yet, for whom a consumer may have to be woken: ops, or a few more. */
static inline uint64_t weir_ring_publish(struct weir_ring *ring)
{
    uint64_t places = ring->tail - ring->flushed;
    if (places == 0) {
        return 0;
    }
    bool partly_shown = ring->shown != ring->flushed;
    ring->flushed = ring->shown = ring->tail;
    /* Seq_cst: pairs with weir_ring_may_have(). It is a release too, for weir_ring_take(). */
    __atomic_store_n(&ring->published, ring->tail, __ATOMIC_SEQ_CST);
    if (partly_shown) {
        /* Relaxed: an old head wakes somebody in vain. */
        uint64_t unclaimed = ring->tail - __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
        places = unclaimed < places ? unclaimed : places;
    }
    return places;
}

#endif
