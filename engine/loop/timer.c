/* SPDX-License-Identifier: MIT */
#include <engine/loop/timer.h>

void weir_heap_init(struct weir_heap *heap, uint32_t capacity, void *memory)
{
    heap->entries = memory;
    heap->count = 0;
    heap->capacity = capacity;
}

static inline void place(struct weir_heap *heap, uint32_t index, struct weir_heap_entry entry)
{
    heap->entries[index] = entry;
    entry.op->heap_index = index;
}

/* Children of i are 4i-2 to 4i+1; the parent of i is (i+2)/4. */
static void sift_up(struct weir_heap *heap, uint32_t index, struct weir_heap_entry entry)
{
    while (index > 1) {
        uint32_t parent = (index + 2) / 4;
        if (heap->entries[parent].at_ns <= entry.at_ns) {
            break;
        }
        place(heap, index, heap->entries[parent]);
        index = parent;
    }
    place(heap, index, entry);
}

static void sift_down(struct weir_heap *heap, uint32_t index, struct weir_heap_entry entry)
{
    for (;;) {
        uint32_t first = 4 * index - 2;
        if (first > heap->count) {
            break;
        }
        uint32_t last = first + 3 < heap->count ? first + 3 : heap->count;
        uint32_t least = first;
        for (uint32_t child = first + 1; child <= last; child++) {
            if (heap->entries[child].at_ns < heap->entries[least].at_ns) {
                least = child;
            }
        }
        if (entry.at_ns <= heap->entries[least].at_ns) {
            break;
        }
        place(heap, index, heap->entries[least]);
        index = least;
    }
    place(heap, index, entry);
}

void weir_heap_insert(struct weir_heap *heap, struct weir_op *op, uint64_t at_ns)
{
    WEIR_CHECK(heap->count < heap->capacity);
    sift_up(heap, ++heap->count, (struct weir_heap_entry){.at_ns = at_ns, .op = op});
}

void weir_heap_remove(struct weir_heap *heap, struct weir_op *op)
{
    uint32_t index = op->heap_index;
    WEIR_CHECK(index > 0 && index <= heap->count && heap->entries[index].op == op);
    struct weir_heap_entry last = heap->entries[heap->count--];
    op->heap_index = 0;
    if (index > heap->count) {
        return;
    }
    if (index > 1 && heap->entries[(index + 2) / 4].at_ns > last.at_ns) {
        sift_up(heap, index, last);
    } else {
        sift_down(heap, index, last);
    }
}
