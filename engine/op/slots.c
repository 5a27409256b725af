/* SPDX-License-Identifier: MIT */
#include <engine/op/slots.h>

_Static_assert(sizeof(struct weir_slot) == 32, "two slots are a cache line");

size_t weir_slots_size(uint32_t count)
{
    return (size_t)count * (sizeof(struct weir_slot) + sizeof(struct weir_work) + sizeof(int32_t));
}

void weir_slots_init(struct weir_slots *slots, uint32_t count, void *memory)
{
    slots->slots = memory;
    slots->work = (struct weir_work *)(void *)(slots->slots + count);
    slots->fds = (int32_t *)(void *)(slots->work + count);
    slots->count = count;
    slots->size = count * (uint32_t)sizeof(struct weir_slot);
    slots->first_free = slots->slots;
    slots->two_fds = false;
    for (uint32_t i = 0; i < count; i++) {
        slots->slots[i].next_free = &slots->slots[i + 1];
        slots->slots[i].tag =
            WEIR_SLOT_GENERATION | i * sizeof(struct weir_slot); /* zeros are nobody's */
        slots->fds[i] = -1;
    }
}

uint32_t weir_slots_on_fd(const struct weir_slots *slots, uint32_t index, int fd)
{
    for (; index < slots->count; index++) {
        bool is_first = slots->fds[index] == fd;
        if (!is_first && !slots->two_fds) {
            continue;
        }
        const struct weir_op *op = weir_slots_op(slots, index);
        if (op && (is_first ||
                   (weir_kind_traits(op->kind) & WEIR_KIND_HAS_FD2 && weir_op_fd2(op) == fd))) {
            return index;
        }
    }
    return slots->count;
}
