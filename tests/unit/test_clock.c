/* SPDX-License-Identifier: MIT */
/* engine/base/clock.h: stamps never go back, and stay beside CLOCK_MONOTONIC. */
#include "unit.h"

#include <engine/base/clock.h>
#include <time.h>

/*
 * No test of speed: a stamp must lie between two exact readings around it, but for the error of the
 * learned scale, which is far smaller than this.
 */
#define SLACK_NS 10000000ULL

static void pause_ns(long ns)
{
    const struct timespec pause = {.tv_nsec = ns};
    nanosleep(&pause, NULL);
}

static void check_beside_monotonic(struct weir_clock *clock)
{
    uint64_t before_ns = weir_clock_monotonic();
    uint64_t stamp_ns = weir_clock_stamp(clock);
    uint64_t after_ns = weir_clock_monotonic();
    if (stamp_ns + SLACK_NS < before_ns || stamp_ns > after_ns + SLACK_NS) {
        fail_msg("stamp %llu outside %llu .. %llu", (unsigned long long)stamp_ns,
                 (unsigned long long)before_ns, (unsigned long long)after_ns);
    }
}

static void monotonic_is_the_kernels_clock(void **state)
{
    (void)state;
    struct timespec now;
    uint64_t before_ns = weir_clock_monotonic();
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    uint64_t between_ns = (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
    uint64_t after_ns = weir_clock_monotonic();
    assert_true(before_ns <= between_ns);
    assert_true(between_ns <= after_ns);
}

static void exact_readings_lie_between_monotonic_ones(void **state)
{
    (void)state;
    struct weir_clock clock;
    weir_clock_init(&clock);
    for (int i = 0; i < 1000; i++) {
        uint64_t before_ns = weir_clock_monotonic();
        uint64_t exact_ns = weir_clock_exact(&clock);
        assert_true(before_ns <= exact_ns);
        assert_true(exact_ns <= weir_clock_monotonic());
    }
}

static void stamps_never_go_back_and_stay_beside_monotonic(void **state)
{
    (void)state;
    struct weir_clock clock;
    weir_clock_init(&clock);
    print_message("stamps are read from the %s\n", clock.ticking ? "TSC" : "kernel's clock");
    uint64_t last_ns = 0;
    for (int round = 0; round < 60; round++) { /* the scale is learned and refined on the way */
        for (int i = 0; i < 2000; i++) {
            uint64_t stamp_ns = weir_clock_stamp(&clock);
            assert_true(stamp_ns >= last_ns);
            last_ns = stamp_ns;
        }
        check_beside_monotonic(&clock);
        if (round % 3 == 0) {
            weir_clock_exact(&clock);
        }
        pause_ns(4000000);
    }
    assert_true(!clock.ticking || clock.scale != 0);
}

static void a_stamp_is_held_where_a_better_scale_would_set_it_back(void **state)
{
    (void)state;
    struct weir_clock clock;
    weir_clock_init(&clock);
    uint64_t ahead_ns = weir_clock_stamp(&clock) + 60000000000ULL;
    clock.last_ns = ahead_ns; /* as if the last scale had run ahead */
    assert_true(weir_clock_stamp(&clock) == ahead_ns);
    pause_ns(11000000);
    weir_clock_exact(&clock);
    assert_true(weir_clock_stamp(&clock) == ahead_ns);
}

static void stamps_agree_after_an_idle_second(void **state)
{
    (void)state;
    struct weir_clock clock;
    weir_clock_init(&clock);
    for (int i = 0; i < 4; i++) {
        pause_ns(11000000);
        weir_clock_exact(&clock);
    }
    check_beside_monotonic(&clock);
    pause_ns(999000000);
    check_beside_monotonic(&clock);
    pause_ns(200000000);
    check_beside_monotonic(&clock);
}

static void a_clock_without_the_tsc_reads_exactly(void **state)
{
    (void)state;
    struct weir_clock clock;
    weir_clock_init(&clock);
    clock.ticking = false;
    clock.scale = 0;
    clock.stale_ticks = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t before_ns = weir_clock_monotonic();
        uint64_t stamp_ns = weir_clock_stamp(&clock);
        assert_true(before_ns <= stamp_ns);
        assert_true(stamp_ns <= weir_clock_monotonic());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_is_the_kernels_clock),
        cmocka_unit_test(exact_readings_lie_between_monotonic_ones),
        cmocka_unit_test(stamps_never_go_back_and_stay_beside_monotonic),
        cmocka_unit_test(a_stamp_is_held_where_a_better_scale_would_set_it_back),
        cmocka_unit_test(stamps_agree_after_an_idle_second),
        cmocka_unit_test(a_clock_without_the_tsc_reads_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
