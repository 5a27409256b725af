/* SPDX-License-Identifier: MIT */
/*
 * histogram.h: the engine's side of weir/histogram.h: recording many equal samples at once, and
 * copying while the one writer writes. All stores are relaxed and not read-modify-write: there is
 * one writer.
 */
#ifndef WEIR_ENGINE_HISTOGRAM_H
#define WEIR_ENGINE_HISTOGRAM_H

#include <weir/histogram.h>

static inline uint64_t weir_relaxed_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void weir_relaxed_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
/* For the one writer. gcc makes three instructions of a relaxed load, an addition and a relaxed
 * store. One is the same to who reads: an aligned store of 8 bytes is not torn (Intel SDM volume 3,
 * 9.1.1). */
static inline void weir_relaxed_add(uint64_t *word, uint64_t more)
{
    __asm__("addq %1, %0" : "+m"(*word) : "er"(more) : "cc");
}
#else
static inline void weir_relaxed_add(uint64_t *word, uint64_t more)
{
    weir_relaxed_store(word, *word + more);
}
#endif

/* The bucket of a value below 2^TOP: below 2^(B+1) the value itself; above, the exponent and the
 * next B bits. */
static inline uint64_t weir_histogram_bucket(uint64_t value_ns)
{
    unsigned highest = 63u - (unsigned)__builtin_clzll(value_ns | (1u << WEIR_HISTOGRAM_BITS));
    unsigned shift = highest - WEIR_HISTOGRAM_BITS;
    return ((uint64_t)shift << WEIR_HISTOGRAM_BITS) + (value_ns >> shift);
}

/* The largest value that falls into a bucket. */
uint64_t weir_histogram_highest(uint64_t bucket);
/* `times` samples of value_ns, whose bucket is known if it is below 2^TOP. */
static inline void weir_histogram_put(struct weir_histogram *histogram, uint64_t value_ns,
                                      uint64_t bucket, uint64_t times)
{
    weir_relaxed_add(&histogram->sum, value_ns * times);
    if (value_ns > histogram->max) {
        weir_relaxed_store(&histogram->max, value_ns);
    }
    if (value_ns >> WEIR_HISTOGRAM_TOP) {
        weir_relaxed_add(&histogram->clipped, times);
        return;
    }
    weir_relaxed_add(&histogram->buckets[bucket], times);
}

/* `times` samples of value_ns, all but `count`, which is the sum of the buckets and of the clipped:
 * who copies the histogram counts them (weir_histogram_copy). */
static inline void weir_histogram_add(struct weir_histogram *histogram, uint64_t value_ns,
                                      uint64_t times)
{
    if (value_ns == 0) { /* neither waited nor queued: the most frequent value of all */
        weir_relaxed_add(&histogram->buckets[0], times);
        return;
    }
    weir_histogram_put(histogram, value_ns, weir_histogram_bucket(value_ns), times);
}

/* The same for two histograms and their values, which are the same for who neither waited nor
 * queued. */
static inline void weir_histogram_add_two(struct weir_histogram *first, uint64_t first_ns,
                                          struct weir_histogram *second, uint64_t second_ns,
                                          uint64_t times)
{
    if (first_ns != second_ns) {
        weir_histogram_add(first, first_ns, times);
        weir_histogram_add(second, second_ns, times);
        return;
    }
    uint64_t bucket = weir_histogram_bucket(first_ns);
    weir_histogram_put(first, first_ns, bucket, times);
    weir_histogram_put(second, first_ns, bucket, times);
}

/* A copy of what another thread writes; its count is that of the buckets seen. */
void weir_histogram_copy(struct weir_histogram *into, const struct weir_histogram *from);

/* Empties it, seen word by word by readers. */
void weir_histogram_clear(struct weir_histogram *histogram);

#endif
