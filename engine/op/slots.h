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

/* A tag: a generation above, and below it the distance of the slot from the first, in bytes: what
 * the way from tag to slot, of every completion, needs. */
#define WEIR_SLOT_GENERATION (1ULL << 32) /* one */
#define WEIR_SLOT_OTHER (1ULL << 31)      /* with it, a tag is no slot's: for uses of a backend's */

struct weir_slot {
    union {
        struct weir_op *op;
        struct weir_slot *next_free; /* of a free slot; of the last one the end of the table */
    };
    struct weir_task *task;
    const char *site;
    uint64_t tag; /* what the kernel is given: generation, and where the slot stands in the table */
};

/* What a worker says of an op that it carried, CLOCK_MONOTONIC or the world's clock, ns. */
struct weir_work {
    uint64_t begun_ns; /* its first part; 0: no worker has had it */
    uint64_t run_ns;   /* all parts */
};

struct weir_slots {
    struct weir_slot *slots;
    struct weir_work *work; /* of each slot; all 0 when the slot is taken */
    int32_t *fds; /* the fd of the op that each slot has, or had last; -1 for none: apart, so that
                   * all ops on an fd are found by a quick scan */
    struct weir_slot *first_free;
    uint32_t count;
    uint32_t size; /* of all slots, bytes */
    bool two_fds;  /* there has been an op with two */
};

/* Bytes of memory for `count` slots. */
size_t weir_slots_size(uint32_t count);
/* memory: zeroed, of that size, aligned to a cache line. */
void weir_slots_init(struct weir_slots *slots, uint32_t count, void *memory);

/* What the union holds tells: the next free slot is in the table or at its end, where no op is. */
static inline bool weir_slots_is_free(const struct weir_slots *slots, const struct weir_slot *slot)
{
    return (uintptr_t)slot->next_free - (uintptr_t)slots->slots <= slots->size;
}

/* Takes a slot for an op; there must be one. Sets op->slot. */
static inline void weir_slots_take(struct weir_slots *slots, struct weir_op *op,
                                   struct weir_task *task, const char *site)
{
    struct weir_slot *slot = slots->first_free;
    WEIR_AUDIT(slot != &slots->slots[slots->count]);
    slots->first_free = slot->next_free;
    slots->fds[(uint32_t)slot->tag / sizeof *slot] =
        op->fd; /* the helpers of kinds without one write -1 */
    slot->op = op;
    slot->task = task;
    slot->site = site;
    op->slot = slot;
}

static inline void weir_slots_free(struct weir_slots *slots, struct weir_slot *slot)
{
    slot->tag += WEIR_SLOT_GENERATION;
    slot->next_free = slots->first_free;
    slots->first_free = slot;
}

static inline uint32_t weir_slots_index(const struct weir_slots *slots,
                                        const struct weir_slot *slot)
{
    return (uint32_t)(slot - slots->slots);
}

/* A worker was at it. */
static inline void weir_slots_note_work(const struct weir_slots *slots,
                                        const struct weir_slot *slot, uint64_t begun_ns,
                                        uint64_t ended_ns)
{
    struct weir_work *work = &slots->work[weir_slots_index(slots, slot)];
    work->begun_ns = work->begun_ns != 0 ? work->begun_ns : begun_ns;
    work->run_ns += ended_ns - begun_ns;
}

/* The op of a slot, NULL if it is free. */
static inline struct weir_op *weir_slots_op(const struct weir_slots *slots, uint32_t index)
{
    const struct weir_slot *slot = &slots->slots[index];
    return weir_slots_is_free(slots, slot) ? NULL : slot->op;
}

/* The op of a tag, or NULL if its slot has moved on. */
static inline struct weir_op *weir_slots_find(const struct weir_slots *slots, uint64_t tag)
{
    uint32_t at = (uint32_t)tag;
    if (weir_unlikely(at >= slots->size)) {
        return NULL;
    }
    const struct weir_slot *slot = (const void *)((const char *)slots->slots + at);
    if (weir_unlikely(slot->tag != tag)) {
        return NULL;
    }
    weir_assume(slot->op); /* the next tag of a free slot was given to nobody yet */
    return slot->op;
}

/* The next slot from `index` on whose op is on fd (as first or second), or slots->count. */
uint32_t weir_slots_on_fd(const struct weir_slots *slots, uint32_t index, int fd);

#endif
