/* SPDX-License-Identifier: MIT */
/* perf/timer_costs.c: a great many timers through the public API, one phase after the other. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "interval.h"
#include "meter.h"
#include "report.h"
#include "timer.h"
#include "workload.h"

#define FAR_NS (3600 * WEIR_S)
#define BATCH                                                                                      \
    256 /* cancels between two turns when re-arming: about what a turn hands back at most */

struct field {
    struct weir_loop *loop;
    struct weir_op *ops;
    uint32_t *order; /* a random permutation */
    uint32_t count;
    uint32_t back;  /* handed back */
    uint32_t wrong; /* with another result than expected */
    int64_t expected;
    bool rearm;
    uint64_t far_ns; /* re-armed timers fall due behind it */
    uint64_t random;
};

static void on_timer(struct weir_op *op)
{
    struct field *field = op->user;
    field->back++;
    field->wrong += op->result != field->expected;
    if (field->rearm) {
        weir_op_timeout(op, field->far_ns + (random_next(&field->random) >> 20));
        field->wrong += weir_submit(field->loop, op) != 0;
    }
}

static void shuffle(struct field *field)
{
    for (uint32_t i = 0; i < field->count; i++) {
        uint32_t j = (uint32_t)(((random_next(&field->random) >> 32) * (i + 1)) >> 32);
        field->order[i] = field->order[j];
        field->order[j] = i;
    }
}

/* Turns until `count` timers are back. */
static int turn_until(struct field *field, uint32_t count)
{
    while (field->back < count) {
        int r = weir_loop_turn(field->loop, -1);
        if (r < 0) {
            return r;
        }
        if (interrupted) {
            return -EINTR;
        }
    }
    return field->wrong == 0 ? 0 : -EIO;
}

static int start_all(struct field *field, uint64_t at_ns, uint64_t spread_ns)
{
    field->back = 0;
    for (uint32_t i = 0; i < field->count; i++) {
        struct weir_op *op = &field->ops[i];
        uint64_t later = ((random_next(&field->random) >> 32) * spread_ns) >> 32;
        weir_op_timeout(op, at_ns + later);
        int r = weir_submit(field->loop, op);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int cancel_all(struct field *field, struct timer_costs *costs)
{
    uint64_t begin_ns = meter_clock();
    field->back = 0;
    field->expected = -ECANCELED;
    for (uint32_t i = 0; i < field->count; i++) {
        int r = weir_cancel(field->loop, &field->ops[field->order[i]]);
        if (r < 0) {
            return r;
        }
    }
    costs->cancel_call = (double)(meter_clock() - begin_ns) / field->count;
    int r = turn_until(field, field->count);
    costs->cancel = (double)(meter_clock() - begin_ns) / field->count;
    return r;
}

static int rearm_all(struct field *field)
{
    field->back = 0;
    field->expected = -ECANCELED;
    field->rearm = true;
    field->far_ns = meter_clock() + FAR_NS;
    int r = 0;
    for (uint32_t i = 0; i < field->count && r == 0;) {
        uint32_t end = field->count - i < BATCH ? field->count : i + BATCH;
        for (; i < end && r == 0; i++) {
            r = weir_cancel(field->loop, &field->ops[field->order[i]]);
        }
        if (r == 0) {
            r = turn_until(field, end);
        }
    }
    field->rearm = false;
    return r;
}

/* All fall due within a millisecond, which is waited for before the turns are timed. */
static int fire_all(struct field *field, double *ret_ns)
{
    uint64_t at_ns = meter_clock() + 300 * WEIR_MS + (uint64_t)field->count * 200;
    field->expected = 0;
    int r = start_all(field, at_ns, WEIR_MS);
    while (r == 0 && meter_clock() < at_ns + WEIR_MS) {
        if (interrupted) {
            return -EINTR;
        }
    }
    uint64_t begin_ns = meter_clock();
    if (r == 0) {
        r = turn_until(field, field->count);
    }
    *ret_ns = (double)(meter_clock() - begin_ns) / field->count;
    return r;
}

static int run_phases(struct field *field, struct timer_costs *costs)
{
    progress("timers: start, cancel");
    uint64_t begin_ns = meter_clock();
    int r = start_all(field, begin_ns + FAR_NS, FAR_NS);
    costs->start = (double)(meter_clock() - begin_ns) / field->count;
    if (r == 0) {
        shuffle(field);
        r = cancel_all(field, costs);
    }
    if (r == 0) {
        progress("timers: fire");
        r = fire_all(field, &costs->fire);
    }
    if (r == 0) {
        progress("timers: re-arm");
        r = start_all(field, meter_clock() + FAR_NS, FAR_NS);
    }
    if (r == 0) {
        shuffle(field);
        begin_ns = meter_clock();
        r = rearm_all(field);
        costs->rearm = (double)(meter_clock() - begin_ns) / field->count;
    }
    progress_clear();
    return r;
}

static int open_field(struct field *field)
{
    struct weir_options options = {.timers_max = field->count};
    field->ops = calloc(field->count, sizeof *field->ops);
    field->order = calloc(field->count, sizeof *field->order);
    if (field->ops == NULL || field->order == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < field->count; i++) {
        field->ops[i].callback = on_timer; /* touches the memory too, before it is timed */
        field->ops[i].user = field;
    }
    return weir_loop_open(&options, &field->loop);
}

int timer_costs_measure(uint32_t timers, struct timer_costs *ret_costs)
{
    struct field field = {.count = timers, .random = 0x9e3779b97f4a7c15u};
    struct timer_costs costs = {.timers = timers};
    int r = open_field(&field);
    if (r == 0) {
        r = run_phases(&field, &costs);
    }
    if (r < 0 && r != -EINTR) {
        complain("%u timers: %s%s", timers, strerror(-r),
                 r == -ENOMEM ? "; give a smaller --timers" : "");
    }
    if (r == 0) {
        *ret_costs = costs;
    }
    weir_loop_close(field.loop, 10 * WEIR_S, NULL);
    free(field.ops);
    free(field.order);
    return r < 0 ? -1 : 0;
}
