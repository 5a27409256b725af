/* SPDX-License-Identifier: MIT */
/*
 * timer.h: a 4-ary heap of points in time with inline keys, over memory reserved at open. Holds
 * TIMEOUT ops, the deadlines of ops, and ops that are to be tried again; each op at most once, its
 * place in op->heap_index (1 is the root, 0 is none). Must not know what expiry means.
 */
#ifndef WEIR_ENGINE_TIMER_H
#define WEIR_ENGINE_TIMER_H

#include <engine/op/op.h>

struct weir_heap_entry {
    uint64_t at_ns;
    struct weir_op *op;
};

struct weir_heap {
    struct weir_heap_entry *entries; /* the root is entries[1] */
    uint32_t count;
    uint32_t capacity;
};

/* memory: weir_heap_size() bytes, aligned to 16. */
static inline size_t weir_heap_size(uint32_t capacity)
{
    return ((size_t)capacity + 1) * sizeof(struct weir_heap_entry);
}

void weir_heap_init(struct weir_heap *heap, uint32_t capacity, void *memory);
void weir_heap_insert(struct weir_heap *heap, struct weir_op *op, uint64_t at_ns);
/* Takes an op out; it must be in. */
void weir_heap_remove(struct weir_heap *heap, struct weir_op *op);

/* When the earliest is due; UINT64_MAX when empty. */
static inline uint64_t weir_heap_next(const struct weir_heap *heap)
{
    return heap->count ? heap->entries[1].at_ns : UINT64_MAX;
}

#endif
