/* SPDX-License-Identifier: MIT */
#include <engine/observe/recorder.h>

#define EVENTS_LEAST 1024
#define TRIES 4 /* of a reader */

static uint64_t count_places(uint32_t events)
{
    uint64_t places = EVENTS_LEAST;
    while (places < events) {
        places *= 2;
    }
    return places;
}

size_t weir_recorder_size(uint32_t events)
{
    return events == 0 ? 0 : count_places(events) * sizeof(struct weir_record);
}

void weir_recorder_init(struct weir_recorder *recorder, uint32_t events, void *memory)
{
    recorder->records = events == 0 ? NULL : memory;
    recorder->mask = events == 0 ? 0 : count_places(events) - 1;
    recorder->written = 0;
}

static void copy_event(struct weir_record *into, const struct weir_record *from)
{
    into->at_ns = __atomic_load_n(&from->at_ns, __ATOMIC_RELAXED);
    into->op = __atomic_load_n(&from->op, __ATOMIC_RELAXED);
    into->value = __atomic_load_n(&from->value, __ATOMIC_RELAXED);
    into->rest = __atomic_load_n(&from->rest, __ATOMIC_RELAXED);
}

/*
 * The writer may be in the middle of event `written`, whose number it has not counted yet, and that
 * stands where `written - places` stood: so what is certain begins one after that. If the copy took
 * in a word of event m, then the fence before that word, and the one below, make `written` at least
 * m here: so every event that m and its predecessors have come over is thrown away.
 *
 * Oldest first, because it is the oldest that the writer is behind.
 */
static uint64_t copy_once(const struct weir_recorder *recorder, struct weir_record *ret_records,
                          uint64_t *ret_first)
{
    uint64_t places = recorder->mask + 1;
    /* Acquire: pairs with the release store in weir_recorder_note(): these are written whole. */
    uint64_t end = __atomic_load_n(&recorder->written, __ATOMIC_ACQUIRE);
    uint64_t first = end > places ? end - places : 0;
    for (uint64_t i = first; i < end; i++) {
        copy_event(&ret_records[i - first], &recorder->records[i & recorder->mask]);
    }
    /* Pairs with the release fence in weir_recorder_note(). */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint64_t now = __atomic_load_n(&recorder->written, __ATOMIC_RELAXED);
    uint64_t certain = now >= places ? now - places + 1 : 0;
    certain = certain < first ? first : certain;
    certain = certain > end ? end : certain;
    if (certain > first) {
        memmove(ret_records, &ret_records[certain - first],
                (size_t)(end - certain) * sizeof *ret_records);
    }
    *ret_first = certain;
    return end - certain;
}

/* A reader that loses its CPU meanwhile, or meets untouched memory, may find most overwritten. */
uint64_t weir_recorder_copy(const struct weir_recorder *recorder, struct weir_record *ret_records,
                            uint64_t *ret_first)
{
    uint64_t count = 0;
    for (int i = 0; i < TRIES; i++) {
        count = copy_once(recorder, ret_records, ret_first);
        if (*ret_first == 0 || count > recorder->mask / 2) {
            break;
        }
    }
    return count;
}
