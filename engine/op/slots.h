/* SPDX-License-Identifier: MIT */
/*
 * slots.h: one slot per op that may be live behind the gate. The kernel is given slot and
 * generation, never a pointer, so a stale completion can hit nothing; and the slot keeps whose op
 * and task it is, and from where it came.
 *
 * Invariant: a slot's generation moves on when it is freed. Who takes them counts them.
 */
#ifndef WEIR_ENGINE_SLOTS_H
#define WEIR_ENGINE_SLOTS_H

#include <engine/op/op.h>

struct weir_slot {
    struct weir_op *op; /* NULL: free */
    struct weir_task *task;
    const char *site;
    uint32_t generation;
    uint32_t next_free; /* of a free slot */
};

struct weir_slots {
    struct weir_slot *slots;
    int32_t *fds; /* each slot's fd, -1 for none: apart, so that all ops on an fd are found by a
                   * quick scan */
    uint32_t count;
    uint32_t first_free;
    uint32_t two_fds; /* used slots whose kind has a second fd; counted up by who takes them */
};

/* Bytes of memory for `count` slots. */
size_t weir_slots_size(uint32_t count);
/* memory: zeroed, of that size, aligned to a cache line. */
void weir_slots_init(struct weir_slots *slots, uint32_t count, void *memory);

/* Takes a slot for an op; there must be one. Sets op->slot and op->generation. */
static inline struct weir_slot *weir_slots_take(struct weir_slots *slots, struct weir_op *op)
{
    uint32_t index = slots->first_free;
    struct weir_slot *slot = &slots->slots[index];
    slots->first_free = slot->next_free;
    slots->fds[index] = op->fd; /* the helpers of kinds without one write -1 */
    slot->op = op;
    op->slot = index;
    op->generation = slot->generation;
    return slot;
}

static inline void weir_slots_free(struct weir_slots *slots, uint32_t index)
{
    struct weir_slot *slot = &slots->slots[index];
    if (weir_unlikely(slots->two_fds > 0)) {
        slots->two_fds -= !!(weir_kind_traits(slot->op->kind) & WEIR_KIND_HAS_FD2);
    }
    slot->op = NULL;
    slot->generation++;
    slot->next_free = slots->first_free;
    slots->fds[index] = -1;
    slots->first_free = index;
}

/* The op of a slot, or NULL if the slot has moved on. */
static inline struct weir_op *weir_slots_find(const struct weir_slots *slots, uint32_t index,
                                              uint32_t generation)
{
    if (weir_unlikely(index >= slots->count)) {
        return NULL;
    }
    const struct weir_slot *slot = &slots->slots[index];
    return weir_likely(slot->generation == generation) ? slot->op : NULL;
}

/* The next slot from `index` on whose op is on fd (as first or second), or slots->count. */
uint32_t weir_slots_on_fd(const struct weir_slots *slots, uint32_t index, int fd);

#endif
