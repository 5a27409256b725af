/* SPDX-License-Identifier: MIT */
/*
 * export_hgrm.c: a histogram as HdrHistogram's percentile distribution: five steps in each half of
 * what is left to 100 %, until all samples are told. Ranks are computed in whole numbers, so that
 * none is off by one.
 */
#include <engine/base/histogram.h>
#include <engine/observe/text.h>
#include <errno.h>
#include <stdbool.h>
#include <weir/snapshot.h>

#define STEPS 5 /* in a half */

/* A walk over the buckets, and what lies behind it. */
struct walk {
    const struct weir_histogram *histogram;
    unsigned bucket; /* the next; past the buckets there are the clipped samples */
    uint64_t seen;   /* samples */
    uint64_t value;  /* the highest that the samples seen may have, ns */
};

static void walk_to(struct walk *walk, uint64_t rank)
{
    const struct weir_histogram *histogram = walk->histogram;
    while (walk->seen < rank && walk->bucket <= WEIR_HISTOGRAM_BUCKETS) {
        bool clipped = walk->bucket == WEIR_HISTOGRAM_BUCKETS;
        uint64_t count = clipped ? histogram->clipped : histogram->buckets[walk->bucket];
        uint64_t highest = clipped ? histogram->max : weir_histogram_highest(walk->bucket);
        if (count > 0) {
            walk->seen += count;
            walk->value = highest < histogram->max ? highest : histogram->max;
        }
        walk->bucket++;
    }
}

/* Microseconds in 12 columns; the share that the line stands for, of 10^12; samples up to it. */
static void put_line(struct weir_text *text, const struct walk *walk, uint64_t share)
{
    const uint64_t whole = 1000000000000;
    weir_text_print(text, "%8llu.%03llu %llu.%012llu %10llu",
                    (unsigned long long)(walk->value / 1000),
                    (unsigned long long)(walk->value % 1000), (unsigned long long)(share / whole),
                    (unsigned long long)(share % whole), (unsigned long long)walk->seen);
}

/* The share left over is (10 - step) / 10 of a half, 1 / 2^half of all. */
static void put_lines(struct weir_text *text, struct walk *walk, uint64_t count)
{
    for (unsigned half = 0; half < 54; half++) {
        for (unsigned step = 0; step < STEPS; step++) {
            uint64_t tenths = 2 * STEPS - step;
            uint64_t left = count * tenths / (10ULL << half);
            walk_to(walk, count - left > 0 ? count - left : 1);
            uint64_t rest = (100000000000 * tenths + (1ULL << half) / 2) >> half;
            put_line(text, walk, 1000000000000 - rest);
            uint64_t inverse = ((1000ULL << half) + tenths / 2) / tenths; /* in hundredths */
            weir_text_print(text, " %11llu.%02llu\n", (unsigned long long)(inverse / 100),
                            (unsigned long long)(inverse % 100));
            if (walk->seen >= count) {
                return;
            }
        }
    }
}

/* By Newton's way: the library is not linked to libm. */
static double square_root(double square)
{
    double root = square > 1 ? square : 1;
    for (unsigned i = 0; i < 200 && root * root > square * (1 + 1e-12); i++) {
        root = (root + square / root) / 2;
    }
    return root;
}

/* Of a bucket's samples each is taken for its middle. */
static uint64_t deviation_ns(const struct weir_histogram *histogram)
{
    double mean = (double)histogram->sum / (double)histogram->count;
    double squares = 0;
    uint64_t lowest = 0;
    for (unsigned i = 0; i <= WEIR_HISTOGRAM_BUCKETS; i++) {
        bool clipped = i == WEIR_HISTOGRAM_BUCKETS;
        uint64_t count = clipped ? histogram->clipped : histogram->buckets[i];
        uint64_t highest = clipped ? histogram->max : weir_histogram_highest(i);
        uint64_t most = highest < histogram->max ? highest : histogram->max;
        double middle = clipped ? (double)most : ((double)lowest + (double)most) / 2;
        squares += (double)count * (middle - mean) * (middle - mean);
        lowest = highest + 1;
    }
    return (uint64_t)square_root(squares / (double)histogram->count);
}

static void put_foot(struct weir_text *text, const struct weir_histogram *histogram, uint64_t count)
{
    uint64_t mean_ns = count > 0 ? weir_histogram_mean(histogram) : 0;
    uint64_t off_ns = count > 0 ? deviation_ns(histogram) : 0;
    weir_text_print(text, "#[Mean    = %8llu.%03llu, StdDeviation   = %8llu.%03llu]\n",
                    (unsigned long long)(mean_ns / 1000), (unsigned long long)(mean_ns % 1000),
                    (unsigned long long)(off_ns / 1000), (unsigned long long)(off_ns % 1000));
    weir_text_print(text, "#[Max     = %8llu.%03llu, Total count    = %12llu]\n",
                    (unsigned long long)(histogram->max / 1000),
                    (unsigned long long)(histogram->max % 1000), (unsigned long long)count);
    weir_text_print(text, "#[Buckets = %12d, SubBuckets     = %12d]\n",
                    WEIR_HISTOGRAM_TOP - WEIR_HISTOGRAM_BITS, 2 << WEIR_HISTOGRAM_BITS);
}

int weir_histogram_write_hgrm(const struct weir_histogram *histogram, weir_writer *writer,
                              void *context)
{
    if (!histogram || !writer) {
        return -EINVAL;
    }
    struct weir_text text;
    weir_text_begin(&text, writer, context);
    weir_text_print(&text, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
                    "1/(1-Percentile)");
    struct walk walk = {.histogram = histogram};
    uint64_t count = histogram->count;
    if (count > 0) {
        put_lines(&text, &walk, count);
        put_line(&text, &walk, 1000000000000);
        weir_text_print(&text, "\n");
    }
    put_foot(&text, histogram, count);
    return weir_text_end(&text);
}
