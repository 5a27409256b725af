/* SPDX-License-Identifier: MIT */
#include <engine/observe/pulse.h>

#define TRIES 100 /* a beat is a few stores; a writer that lost its CPU meanwhile may stay away */
#define WORDS (sizeof(struct weir_beat) / sizeof(uint64_t))
_Static_assert(sizeof(struct weir_beat) % sizeof(uint64_t) == 0 &&
                   sizeof(const char *) == sizeof(uint64_t),
               "a beat is copied word by word");

static void copy(uint64_t *into, const uint64_t *from)
{
    for (unsigned i = 0; i < WORDS; i++) {
        weir_relaxed_store(&into[i], weir_relaxed_load(&from[i]));
    }
}

void weir_pulse_beat(struct weir_pulse *pulse, const struct weir_beat *beat)
{
    weir_relaxed_store(&pulse->sequence, pulse->sequence + 1);
    /* A reader that sees a word of the new beat sees that the sequence is odd. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    copy((uint64_t *)(void *)&pulse->beat, (const uint64_t *)(const void *)beat);
    /* Release: pairs with the acquire below; and for what the beat's pointers lead to. */
    __atomic_store_n(&pulse->sequence, pulse->sequence + 1, __ATOMIC_RELEASE);
}

uint64_t weir_pulse_read(const struct weir_pulse *pulse, struct weir_beat *ret_beat)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t before = __atomic_load_n(&pulse->sequence, __ATOMIC_ACQUIRE);
        copy((uint64_t *)(void *)ret_beat, (const uint64_t *)(const void *)&pulse->beat);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 == 0 && before == weir_relaxed_load(&pulse->sequence)) {
            return before;
        }
    }
    return 1;
}

void weir_pulse_copy_seen(const struct weir_pulse *pulse, struct weir_stall_counts *ret_seen)
{
    const struct weir_stall_counts *from = &pulse->seen;
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        ret_seen->stalls[cause] = weir_relaxed_load(&from->stalls[cause]);
        ret_seen->longest_ns[cause] = weir_relaxed_load(&from->longest_ns[cause]);
    }
    ret_seen->slow_ops = weir_relaxed_load(&from->slow_ops);
}
