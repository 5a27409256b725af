/* SPDX-License-Identifier: MIT */
/* weir/histogram.h: the error bound against sorted samples, and the edges. */
#include "unit.h"

#include <engine/base/histogram.h>
#include <math.h>
#include <string.h>

#define SAMPLES 20000u
#define CLIP_NS (1ULL << WEIR_HISTOGRAM_TOP)

static struct weir_histogram histogram; /* 8 KiB: kept off the stack */
static struct weir_histogram other;

static int empty(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof histogram);
    memset(&other, 0, sizeof other);
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* --- distributions, all below the clip -------------------------------------------------------- */

static uint64_t constant(struct random *random, uint32_t i)
{
    (void)random;
    (void)i;
    return 123456;
}

static uint64_t small(struct random *random, uint32_t i)
{
    (void)i;
    return random_below(random, 64);
}

static uint64_t uniform(struct random *random, uint32_t i)
{
    (void)i;
    return random_below(random, CLIP_NS);
}

static uint64_t log_uniform(struct random *random, uint32_t i)
{
    (void)i;
    return random_next(random) >> (64 - WEIR_HISTOGRAM_TOP + random_below(random, 36));
}

static uint64_t exponential(struct random *random, uint32_t i)
{
    (void)i;
    double share = (double)(random_next(random) >> 11) / 9007199254740992.0;
    return (uint64_t)(-log(1 - share) * 80000);
}

static uint64_t two_humps(struct random *random, uint32_t i)
{
    uint64_t noise = random_below(random, 400);
    return i % 50 == 0 ? 4000000 + 1000 * noise : 2000 + noise;
}

/* The values beside a bucket's and a power's edges. */
static uint64_t edges(struct random *random, uint32_t i)
{
    uint64_t power = 1ULL << (i % WEIR_HISTOGRAM_TOP);
    uint64_t step = power >> WEIR_HISTOGRAM_BITS;
    return power + step * random_below(random, 1u << WEIR_HISTOGRAM_BITS) - random_below(random, 2);
}

static const struct {
    const char *name;
    uint64_t (*sample)(struct random *random, uint32_t i);
} distributions[] = {
    {"constant", constant},       {"small", small}, {"uniform", uniform},
    {"log_uniform", log_uniform}, {"edges", edges}, {"exponential", exponential},
    {"two_humps", two_humps},
};

/* In thousandths of a percent, so that the rank below is exact. */
static const uint32_t percents[] = {0,     1,     100,   1000,  10000, 25000, 50000, 75000,
                                    90000, 95000, 99000, 99900, 99990, 99999, 100000};

/* A bucket's highest value is less than its width above any other, and the first ones are exact. */
static int off_by_too_much(uint64_t got, uint64_t truth)
{
    return got != truth && got - truth >= truth >> WEIR_HISTOGRAM_BITS;
}

static void check_bound(const char *name, const uint64_t *sorted, uint32_t count)
{
    for (size_t p = 0; p < COUNT_OF(percents); p++) {
        uint64_t rank = ((uint64_t)percents[p] * count + 99999) / 100000;
        uint64_t truth = sorted[rank ? rank - 1 : 0];
        uint64_t got = weir_histogram_percentile(&histogram, percents[p] / 1000.0);
        if (got < truth || off_by_too_much(got, truth)) {
            fail_msg("%s p%g: got %llu, truth %llu", name, percents[p] / 1000.0,
                     (unsigned long long)got, (unsigned long long)truth);
        }
    }
}

static void percentiles_stay_within_the_error_bound_of_sorted_samples(void **state)
{
    (void)state;
    static uint64_t samples[SAMPLES];
    struct random random = random_open();
    for (size_t d = 0; d < COUNT_OF(distributions); d++) {
        memset(&histogram, 0, sizeof histogram);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < SAMPLES; i++) {
            samples[i] = distributions[d].sample(&random, i);
            assert_true(samples[i] < CLIP_NS);
            sum += samples[i];
            weir_histogram_record(&histogram, samples[i]);
        }
        qsort(samples, SAMPLES, sizeof samples[0], compare);
        check_bound(distributions[d].name, samples, SAMPLES);
        assert_int_equal(histogram.count, SAMPLES);
        assert_int_equal(histogram.clipped, 0);
        assert_true(histogram.max == samples[SAMPLES - 1]);
        assert_true(weir_histogram_mean(&histogram) == sum / SAMPLES);
    }
}

/* One sample alone is answered exactly, since the answer never exceeds the largest: so two. */
static void every_bucket_edge_is_answered_within_the_bound(void **state)
{
    (void)state;
    for (unsigned power = 0; power < WEIR_HISTOGRAM_TOP; power++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value = (1ULL << power) + (uint64_t)(int64_t)off;
            memset(&histogram, 0, sizeof histogram);
            weir_histogram_record(&histogram, value);
            weir_histogram_record(&histogram, CLIP_NS - 1);
            uint64_t got = weir_histogram_percentile(&histogram, 50);
            assert_true(got >= value);
            assert_false(off_by_too_much(got, value));
        }
    }
}

static void values_below_64_ns_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 2u << WEIR_HISTOGRAM_BITS; value++) {
        memset(&histogram, 0, sizeof histogram);
        weir_histogram_record(&histogram, value);
        weir_histogram_record(&histogram, 1000000);
        assert_int_equal(weir_histogram_percentile(&histogram, 50), value);
    }
}

static void an_empty_histogram_answers_zero(void **state)
{
    (void)state;
    assert_int_equal(weir_histogram_percentile(&histogram, 0), 0);
    assert_int_equal(weir_histogram_percentile(&histogram, 50), 0);
    assert_int_equal(weir_histogram_percentile(&histogram, 100), 0);
    assert_int_equal(weir_histogram_mean(&histogram), 0);
}

static void percents_outside_0_to_100_are_brought_to_the_nearest_end(void **state)
{
    (void)state;
    weir_histogram_record(&histogram, 5);
    weir_histogram_record(&histogram, 50);
    assert_int_equal(weir_histogram_percentile(&histogram, -3), 5);
    assert_int_equal(weir_histogram_percentile(&histogram, -INFINITY), 5);
    assert_int_equal(weir_histogram_percentile(&histogram, 1000), 50);
    assert_int_equal(weir_histogram_percentile(&histogram, INFINITY), 50);
}

static void p100_is_the_exact_maximum(void **state)
{
    (void)state;
    weir_histogram_record(&histogram, 1000001);
    weir_histogram_record(&histogram, 3);
    assert_int_equal(weir_histogram_percentile(&histogram, 100), 1000001);
    assert_int_equal(histogram.max, 1000001);
}

static void p99_9_of_a_thousand_leaves_the_worst_one_out(void **state)
{
    (void)state;
    for (int i = 0; i < 999; i++) {
        weir_histogram_record(&histogram, 7);
    }
    weir_histogram_record(&histogram, 1000000);
    assert_int_equal(weir_histogram_percentile(&histogram, 99.9), 7);
    assert_int_equal(weir_histogram_percentile(&histogram, 99.95), 1000000);
}

static void clipped_samples_are_counted_and_answered_by_the_maximum(void **state)
{
    (void)state;
    weir_histogram_record(&histogram, 10);
    weir_histogram_record(&histogram, CLIP_NS - 1);
    assert_int_equal(histogram.clipped, 0);
    weir_histogram_record(&histogram, CLIP_NS);
    weir_histogram_record(&histogram, 3 * CLIP_NS);
    assert_int_equal(histogram.clipped, 2);
    assert_int_equal(histogram.count, 4);
    assert_true(histogram.sum == 10 + 5 * CLIP_NS - 1);
    assert_true(weir_histogram_percentile(&histogram, 50) >= CLIP_NS - 1);
    assert_true(weir_histogram_percentile(&histogram, 75) == 3 * CLIP_NS);
    assert_true(weir_histogram_percentile(&histogram, 100) == 3 * CLIP_NS);

    weir_histogram_record(&histogram, UINT64_MAX);
    assert_int_equal(histogram.clipped, 3);
    assert_true(histogram.max == UINT64_MAX);
}

static void a_merge_equals_recording_everything_into_one(void **state)
{
    (void)state;
    static struct weir_histogram all;
    struct random random = random_open();
    memset(&all, 0, sizeof all);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint64_t value = random_next(&random) >> (20 + random_below(&random, 44)); /* some clip */
        weir_histogram_record(i % 3 ? &histogram : &other, value);
        weir_histogram_record(&all, value);
    }
    assert_true(all.clipped > 0);
    weir_histogram_merge(&histogram, &other);
    assert_memory_equal(&histogram, &all, sizeof all);

    memset(&other, 0, sizeof other);
    weir_histogram_merge(&histogram, &other);
    assert_memory_equal(&histogram, &all, sizeof all);
}

static void many_equal_samples_at_once_equal_as_many_single_ones(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 63, 64, 99999, CLIP_NS - 1, CLIP_NS + 5};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        weir_histogram_add(&histogram, values[i], 17);
        histogram.count += 17; /* all that it leaves to who copies the histogram */
        for (int times = 0; times < 17; times++) {
            weir_histogram_record(&other, values[i]);
        }
    }
    assert_memory_equal(&histogram, &other, sizeof other);
}

static void a_copy_is_equal_and_a_cleared_one_is_empty(void **state)
{
    (void)state;
    for (uint64_t value = 1; value < CLIP_NS * 8; value *= 3) {
        weir_histogram_record(&histogram, value);
    }
    weir_histogram_copy(&other, &histogram);
    assert_memory_equal(&histogram, &other, sizeof other);

    static const struct weir_histogram zero;
    weir_histogram_clear(&histogram);
    assert_memory_equal(&histogram, &zero, sizeof zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(percentiles_stay_within_the_error_bound_of_sorted_samples, empty),
        cmocka_unit_test_setup(every_bucket_edge_is_answered_within_the_bound, empty),
        cmocka_unit_test_setup(values_below_64_ns_are_exact, empty),
        cmocka_unit_test_setup(an_empty_histogram_answers_zero, empty),
        cmocka_unit_test_setup(percents_outside_0_to_100_are_brought_to_the_nearest_end, empty),
        cmocka_unit_test_setup(p100_is_the_exact_maximum, empty),
        cmocka_unit_test_setup(p99_9_of_a_thousand_leaves_the_worst_one_out, empty),
        cmocka_unit_test_setup(clipped_samples_are_counted_and_answered_by_the_maximum, empty),
        cmocka_unit_test_setup(a_merge_equals_recording_everything_into_one, empty),
        cmocka_unit_test_setup(many_equal_samples_at_once_equal_as_many_single_ones, empty),
        cmocka_unit_test_setup(a_copy_is_equal_and_a_cleared_one_is_empty, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
