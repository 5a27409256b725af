/* SPDX-License-Identifier: MIT */
/*
 * crash_story.h: the same story told to many disks, each with a seed of its own, up to a crash: of
 * what a promise leaves open none may go another way, and some must go each.
 */
#ifndef WEIR_TESTS_CRASH_STORY_H
#define WEIR_TESTS_CRASH_STORY_H

#include "disk_world.h"

#define SEEDS 400
#define WORLD_BYTES (256 * WEIR_DISK_PAGE)

static struct disk_world world;
static struct weir_disk *disk;

/* What was seen after the crashes of a story, by the number that it gave. */
static uint32_t seen[16];
static uint64_t seed; /* SEEDS once all were told */

static void tell(void (*before)(void), int (*after)(void))
{
    memset(seen, 0, sizeof seen);
    for (seed = 0; seed < SEEDS; seed++) {
        disk_world_open(&world, seed, WORLD_BYTES);
        disk = world.disk;
        before();
        weir_disk_crash(disk);
        int found = after();
        assert_in_range(found, 0, COUNT_OF(seen) - 1);
        seen[found]++;
        disk_world_close(&world);
    }
}

/* After a test. */
static int say_seed(void **state)
{
    (void)state;
    if (seed < SEEDS) {
        print_error("the seed was %u\n", (unsigned)seed);
    }
    return 0;
}

#define STORY_TEST(name) cmocka_unit_test_teardown(name, say_seed)

/* Each of the first `count` was seen, and nothing else. */
static void expect_seen(uint32_t count)
{
    for (uint32_t i = 0; i < COUNT_OF(seen); i++) {
        if ((seen[i] > 0) != (i < count)) {
            print_error("%u was seen %u times\n", i, seen[i]);
        }
        assert_int_equal(seen[i] > 0, i < count);
    }
}

#endif
