/* SPDX-License-Identifier: MIT */
/*
 * weir/histogram.h: a log-linear histogram of nanoseconds, in the caller's memory.
 *
 * Error bound. A value below 2^(B+1), with B = WEIR_HISTOGRAM_BITS, has a bucket of its own. A
 * larger one with highest bit e falls into a bucket 2^(e-B) wide that starts at 2^e or above, so a
 * bucket's width is at most 2^-B of any value in it: 1/32, or 3.125 %. Queries answer the bucket's
 * highest value, or the largest value recorded where that is smaller: never below the truth, and at
 * most 3.125 % above it. Values of 2^36 ns (68.7 s) and more have no bucket: they are counted in
 * `clipped`, `max` still holds them exactly, and a percentile that falls among them answers `max`.
 *
 * Zero-initialised is empty. One thread writes; weir_task_read() copies from another thread.
 */
#ifndef WEIR_HISTOGRAM_H
#define WEIR_HISTOGRAM_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_HISTOGRAM_BITS 5
#define WEIR_HISTOGRAM_TOP 36
#define WEIR_HISTOGRAM_BUCKETS                                                                     \
    ((WEIR_HISTOGRAM_TOP - WEIR_HISTOGRAM_BITS + 1) << WEIR_HISTOGRAM_BITS)

struct weir_histogram {
    uint64_t count;   /* samples, clipped ones included */
    uint64_t sum;     /* of all samples, ns; wraps after 584 years of them */
    uint64_t max;     /* largest sample, exact, ns */
    uint64_t clipped; /* samples of 2^36 ns and more */
    uint64_t buckets[WEIR_HISTOGRAM_BUCKETS];
};

/* Adds one sample of value_ns. No allocation, no lock; the histogram's one writer only. */
WEIR_API void weir_histogram_record(struct weir_histogram *histogram, uint64_t value_ns);

/* Adds all samples of `from` to `into`. Exact: buckets are the same everywhere. */
WEIR_API void weir_histogram_merge(struct weir_histogram *into, const struct weir_histogram *from);

/*
 * The smallest recordable value, in ns, that at least `percent` (0 to 100; outside it is brought to
 * the nearest end) of the samples do not exceed. 0 when empty. See the error bound above.
 */
WEIR_API uint64_t weir_histogram_percentile(const struct weir_histogram *histogram, double percent);

/* The exact mean of all samples in ns, rounded down. 0 when empty. */
WEIR_API uint64_t weir_histogram_mean(const struct weir_histogram *histogram);

#ifdef __cplusplus
}
#endif
#endif
