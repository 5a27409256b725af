/* SPDX-License-Identifier: MIT */
/*
 * perf/meter.h: what an engine's loop calls for every op: counting, and the latency of every n-th
 * op.
 *
 * The clock is read at most once a batch, and only in batches with a sampled op: read for each op
 * it would cost as much as half a NOP and push every ratio of two engines towards 1.
 */
#ifndef PERF_METER_H
#define PERF_METER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <weir/histogram.h>

struct meter {
    uint64_t ops;
    uint64_t failed;
    int64_t failure;  /* the first wrong result */
    int64_t expected; /* the right one */
    uint64_t now_ns;  /* this batch's reading; 0: none yet */
    uint32_t every;
    uint32_t countdown; /* ops to the next sampled one */
    struct weir_histogram latency;
};

/* Set by the interval's signal, Ctrl-C and the first failed op. */
extern volatile sig_atomic_t meter_over;

static inline bool meter_is_over(void)
{
    return meter_over != 0;
}

static inline uint64_t meter_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Before each entering of the kernel. */
static inline void meter_batch(struct meter *meter)
{
    meter->now_ns = 0;
}

/* Of a sampled op, apart: inlined, their registers would be saved and restored for every op that is
 * not. */
uint64_t meter_stamp(struct meter *meter);
void meter_sample(struct meter *meter, uint64_t started_ns);

/* Whether finishing an op, and starting it again, is nothing but counting: it is as expected, and
 * neither this life of it nor the next is sampled. */
static inline bool meter_only_counts(const struct meter *meter, uint64_t started_ns, int64_t result)
{
    return meter->countdown > 1 && started_ns == 0 && result == meter->expected && !meter_is_over();
}

/* And then that; the stamp of the next life is 0 as well. */
static inline void meter_count(struct meter *meter)
{
    meter->ops++;
    meter->countdown--;
}

/* When an op starts. The stamp to give to meter_finish(); 0: not sampled. */
static inline uint64_t meter_start(struct meter *meter)
{
    return --meter->countdown != 0 ? 0 : meter_stamp(meter);
}

/* When it is back. */
static inline void meter_finish(struct meter *meter, uint64_t started_ns, int64_t result)
{
    meter->ops++;
    if (__builtin_expect(result != meter->expected, 0)) {
        if (meter->failed++ == 0) {
            meter->failure = result;
        }
        meter_over = 1;
    }
    if (started_ns != 0) {
        meter_sample(meter, started_ns);
    }
}

#endif
