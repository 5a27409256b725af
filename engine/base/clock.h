/* SPDX-License-Identifier: MIT */
/*
 * clock.h: CLOCK_MONOTONIC, and a cheaper reading of it for stamps.
 *
 * Where the kernel's own clocksource is the TSC, a stamp is the TSC scaled to monotonic
 * nanoseconds, anchored again at each exact reading and at least once a second, in the first second
 * more often. The scale is learned from two exact readings 10 ms or more apart, and refined from
 * ever longer bases, so opening a loop does not wait for a
 * calibration: until then, and on other machines, a stamp is an exact reading. Deadlines never use
 * stamps.
 *
 * Invariant: stamps of one clock never go back. Must not know what is stamped.
 */
#ifndef WEIR_ENGINE_CLOCK_H
#define WEIR_ENGINE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct weir_clock {
    uint64_t anchor_ns;
    uint64_t anchor_ticks;
    uint64_t scale; /* ns per tick, 32 bits after the point; 0: not learned yet */
    uint64_t base_ns;
    uint64_t base_ticks;
    uint64_t last_ns;
    uint64_t stale_ticks; /* age at which the anchor must be renewed; 0: no scale yet */
    bool ticking;         /* the TSC is the kernel's clocksource */
};

void weir_clock_init(struct weir_clock *clock);

/* Exact, ns. Any thread. */
uint64_t weir_clock_monotonic(void);

/* Exact, ns; renews the anchor. The clock's thread. */
uint64_t weir_clock_exact(struct weir_clock *clock);

/* For stamps, ns. The clock's thread. */
uint64_t weir_clock_stamp(struct weir_clock *clock);

#endif
