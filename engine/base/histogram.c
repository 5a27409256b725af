/* SPDX-License-Identifier: MIT */
#include <engine/base/histogram.h>

/*
 * Highest exponent is TOP - 1, so the largest index is ((TOP - 1 - B) << B) + 2^(B+1) - 1, which is
 * BUCKETS - 1.
 */
_Static_assert(((WEIR_HISTOGRAM_TOP - 1 - WEIR_HISTOGRAM_BITS) << WEIR_HISTOGRAM_BITS) +
                       (2 << WEIR_HISTOGRAM_BITS) ==
                   WEIR_HISTOGRAM_BUCKETS,
               "the buckets cover every value below 2^TOP and no more");

uint64_t weir_histogram_highest(uint64_t bucket)
{
    if (bucket < (2u << WEIR_HISTOGRAM_BITS)) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket >> WEIR_HISTOGRAM_BITS) - 1;
    uint64_t lowest = (bucket - ((uint64_t)shift << WEIR_HISTOGRAM_BITS)) << shift;
    return lowest + (1ULL << shift) - 1;
}

void weir_histogram_record(struct weir_histogram *histogram, uint64_t value_ns)
{
    histogram->count++;
    weir_histogram_add(histogram, value_ns, 1);
}

void weir_histogram_merge(struct weir_histogram *into, const struct weir_histogram *from)
{
    into->count += from->count;
    into->sum += from->sum;
    into->clipped += from->clipped;
    if (from->max > into->max) {
        into->max = from->max;
    }
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
}

void weir_histogram_copy(struct weir_histogram *into, const struct weir_histogram *from)
{
    uint64_t count = 0;
    into->sum = weir_relaxed_load(&from->sum);
    into->max = weir_relaxed_load(&from->max);
    into->clipped = weir_relaxed_load(&from->clipped);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] = weir_relaxed_load(&from->buckets[i]);
        count += into->buckets[i];
    }
    into->count = count + into->clipped;
}

void weir_histogram_clear(struct weir_histogram *histogram)
{
    weir_relaxed_store(&histogram->count, 0);
    weir_relaxed_store(&histogram->sum, 0);
    weir_relaxed_store(&histogram->max, 0);
    weir_relaxed_store(&histogram->clipped, 0);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        weir_relaxed_store(&histogram->buckets[i], 0);
    }
}

uint64_t weir_histogram_percentile(const struct weir_histogram *histogram, double percent)
{
    if (histogram->count == 0) {
        return 0;
    }
    double share = percent > 0 ? (percent < 100 ? percent : 100) : 0; /* NaN becomes 0 */
    /* 99.9 as a double is a little more than 99.9: without the allowance p99.9 of 1000 would be the
     * last. */
    double exact = share / 100 * (double)histogram->count * (1 - 1e-12);
    uint64_t rank = (uint64_t)exact;
    rank += (double)rank < exact; /* round up: at least this share of the samples */
    rank = rank == 0 ? 1 : rank > histogram->count ? histogram->count : rank;

    uint64_t seen = 0;
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            uint64_t highest = weir_histogram_highest(i);
            return highest < histogram->max ? highest : histogram->max;
        }
    }
    return histogram->max;
}

uint64_t weir_histogram_mean(const struct weir_histogram *histogram)
{
    return histogram->count ? histogram->sum / histogram->count : 0;
}
