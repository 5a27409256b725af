/* SPDX-License-Identifier: MIT */
#include <engine/op/slots.h>

_Static_assert(sizeof(struct weir_slot) == 32, "two slots are a cache line");

size_t weir_slots_size(uint32_t count)
{
    return (size_t)count * (sizeof(struct weir_slot) + sizeof(int32_t));
}

void weir_slots_init(struct weir_slots *slots, uint32_t count, void *memory)
{
    slots->slots = memory;
    slots->fds = (int32_t *)(void *)(slots->slots + count);
    slots->count = count;
    slots->first_free = 0;
    slots->two_fds = 0;
    for (uint32_t i = 0; i < count; i++) {
        slots->slots[i].next_free = i + 1;
        slots->slots[i].generation = 1; /* a tag of zeros belongs to nobody */
        slots->fds[i] = -1;
    }
}

uint32_t weir_slots_on_fd(const struct weir_slots *slots, uint32_t index, int fd)
{
    for (; index < slots->count; index++) {
        if (slots->fds[index] == fd) {
            return index;
        }
        if (slots->two_fds == 0 || !slots->slots[index].op) {
            continue;
        }
        const struct weir_op *op = slots->slots[index].op;
        if (weir_kind_traits(op->kind) & WEIR_KIND_HAS_FD2 && weir_op_fd2(op) == fd) {
            return index;
        }
    }
    return slots->count;
}
