/* SPDX-License-Identifier: MIT */
/* unit.h: cmocka with the headers it wants before it, and a seeded generator. */
#ifndef WEIR_TESTS_UNIT_H
#define WEIR_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* xorshift64*: the same numbers on every machine, so that a printed seed repeats a failure. */
struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * 0x2545f4914f6cdd1dULL;
}

static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}

/* WEIR_SEED, so that a failure can be repeated, or a fixed one. Always printed. */
static inline struct random random_open(void)
{
    const char *given = getenv("WEIR_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 0x5eedULL;
    print_message("seed: WEIR_SEED=%llu\n", (unsigned long long)seed);
    return (struct random){seed ? seed : 1};
}

#endif
