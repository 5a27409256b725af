/* SPDX-License-Identifier: MIT */
/*
 * watchdog_slow.c: looks for ops that are in flight far longer than others of their task. Must not
 * look into an op, which is the caller's memory: only at the loop's views.
 */
#include <engine/observe/watchdog.h>
#include <engine/op/op.h>
#include <string.h>

#define PERIOD_NS 100000000ULL

static uint64_t threshold_of(const struct weir_watch *watch, const struct weir_task *task)
{
    const struct weir_watchdog_options *options = &watch->watchdog->options;
    struct weir_histogram flight;
    uint64_t threshold_ns = options->slow_op_ns;
    uint64_t usual_ns;
    if (weir_task_read(task, WEIR_STAGE_FLIGHT, &flight) == 0) {
        if (__builtin_mul_overflow(weir_histogram_percentile(&flight, 99), options->slow_factor,
                                   &usual_ns)) {
            usual_ns = UINT64_MAX;
        }
        threshold_ns = usual_ns > threshold_ns ? usual_ns : threshold_ns;
    }
    return threshold_ns;
}

static void report(struct weir_watch *watch, const struct weir_slow_mark *mark,
                   const struct weir_live *live, uint64_t flight_ns, uint64_t now_ns)
{
    struct weir_stall_report *report = weir_report_begin(watch, now_ns);
    if (!report) {
        return;
    }
    struct weir_stall *stall = &report->stall;
    stall->place = WEIR_STALL_OP;
    stall->cause = WEIR_STALL_UNKNOWN;
    stall->lasted_ns = flight_ns;
    stall->threshold_ns = mark->threshold_ns;
    stall->nth = mark->nth;
    memcpy(report->task, live->task, sizeof report->task);
    stall->task = report->task;
    stall->kind = live->kind;
    stall->site = live->site;
    stall->fd = live->fd;
    stall->frame_count = live->frame_count;
    memcpy(stall->frames, live->frames, live->frame_count * sizeof live->frames[0]);
}

static void judge(struct weir_watch *watch, struct weir_slow_mark *mark,
                  const struct weir_live *live, const struct weir_seen *seen, uint64_t flight_ns,
                  uint64_t now_ns)
{
    if (seen->left_ns != mark->left_ns) { /* no other can have left at that time, and be back */
        uint64_t threshold_ns = threshold_of(watch, seen->task);
        *mark = (struct weir_slow_mark){seen->left_ns, threshold_ns, threshold_ns, 0};
    }
    if (flight_ns <= mark->next_ns) {
        return;
    }
    if (++mark->nth == 1) {
        weir_relaxed_add(&watch->watchdog->counters.slow_ops, 1);
        weir_relaxed_add(&watch->pulse->seen.slow_ops, 1);
    }
    while (mark->next_ns < flight_ns) {
        mark->next_ns = mark->next_ns > UINT64_MAX / 2 ? UINT64_MAX : mark->next_ns * 2;
    }
    report(watch, mark, live, flight_ns, now_ns);
}

/* In which op it is. What has come back since the loop turned to something else it has not seen
 * yet: that time is not the op's, but the loop's. */
static uint64_t unseen_of(const struct weir_beat *beat, uint64_t now_ns)
{
    return beat->phase != WEIR_PHASE_ASLEEP && now_ns > beat->since_ns ? now_ns - beat->since_ns
                                                                       : 0;
}

void weir_watch_look_for_slow(struct weir_watch *watch, const struct weir_beat *beat,
                              uint64_t now_ns)
{
    if (watch->mark_count == 0 || now_ns < watch->slow_at_ns) {
        return;
    }
    watch->slow_at_ns = now_ns + PERIOD_NS;
    uint64_t unseen_ns = unseen_of(beat, now_ns);
    for (uint32_t i = 0; i < watch->mark_count; i++) {
        struct weir_live live;
        struct weir_seen seen;
        if (!weir_loop_see(watch->loop, i, &live, &seen) || strcmp(live.state, "in flight") != 0 ||
            weir_kind_traits(seen.kind) & WEIR_KIND_WAITS) {
            continue;
        }
        uint64_t flight_ns = live.flight_ns > unseen_ns ? live.flight_ns - unseen_ns : 0;
        if (flight_ns > watch->watchdog->options.slow_op_ns) {
            if (weir_watchdog_is_full(watch->watchdog)) {
                watch->slow_at_ns = now_ns; /* the rest with the next look */
                return;
            }
            judge(watch, &watch->marks[i], &live, &seen, flight_ns, now_ns);
        }
    }
}
