/* SPDX-License-Identifier: MIT */
/*
 * perf/lateness.c: how late a thread that waits for a timer goes on, through weir and through the
 * bare system call: the same random waits, in the order A B B A, so that both see the same
 * machine.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <weir/weir.h>

#include "interval.h"
#include "meter.h"
#include "report.h"
#include "timer.h"
#include "workload.h"

#define WAIT_MIN_NS (50 * WEIR_US)
#define WAIT_MAX_NS (2 * WEIR_MS)

struct one {
    struct weir_op op;
    uint64_t back_ns;
};

static void on_timer(struct weir_op *op)
{
    WEIR_CONTAINER(op, struct one, op)->back_ns = meter_clock();
}

/* Lateness in ns, or a negative errno. */
static int64_t wait_with_weir(struct weir_loop *loop, struct one *one, uint64_t wait_ns)
{
    uint64_t at_ns = meter_clock() + wait_ns;
    one->back_ns = 0;
    weir_op_timeout(&one->op, at_ns);
    int r = weir_submit(loop, &one->op);
    while (r >= 0 && one->back_ns == 0) {
        r = weir_loop_turn(loop, -1);
    }
    if (r < 0) {
        return r;
    }
    return one->op.result < 0 ? one->op.result : (int64_t)(one->back_ns - at_ns);
}

static int64_t wait_bare(uint64_t wait_ns)
{
    uint64_t at_ns = meter_clock() + wait_ns;
    struct timespec at = {
        .tv_sec = (time_t)(at_ns / (uint64_t)WEIR_S),
        .tv_nsec = (long)(at_ns % (uint64_t)WEIR_S),
    };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
    return (int64_t)(meter_clock() - at_ns);
}

/* One wait each way. 0 or a negative errno. */
static int wait_both(struct weir_loop *loop, struct one *one, uint64_t wait_ns, bool bare_first,
                     struct lateness *lateness)
{
    int64_t bare = 0;
    if (bare_first) {
        bare = wait_bare(wait_ns);
    }
    int64_t with_weir = wait_with_weir(loop, one, wait_ns);
    if (!bare_first) {
        bare = wait_bare(wait_ns);
    }
    if (with_weir < 0) {
        return (int)with_weir;
    }
    series_add(&lateness->weir, (double)with_weir);
    series_add(&lateness->bare, (double)bare);
    lateness->samples++;
    return 0;
}

int lateness_measure(uint32_t samples, struct lateness *ret_lateness)
{
    struct lateness lateness = {.timer_slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)};
    struct weir_loop *loop = NULL;
    struct one one = {.op = {.callback = on_timer}};
    int r = weir_loop_open(NULL, &loop);
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (uint32_t i = 0; i < samples && r == 0 && !interrupted; i++) {
        if (i % 64 == 0) {
            progress("lateness: wait %u of %u", i, samples);
        }
        uint64_t wait_ns =
            WAIT_MIN_NS + (((random_next(&random) >> 32) * (WAIT_MAX_NS - WAIT_MIN_NS)) >> 32);
        r = wait_both(loop, &one, wait_ns, i % 2 == 1, &lateness);
    }
    progress_clear();
    weir_loop_close(loop, WEIR_S, NULL);
    if (r < 0) {
        complain("lateness: %s", strerror(-r));
        series_free(&lateness.weir);
        series_free(&lateness.bare);
        return -1;
    }
    *ret_lateness = lateness;
    return 0;
}
