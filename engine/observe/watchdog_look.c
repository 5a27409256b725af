/* SPDX-License-Identifier: MIT */
/*
 * watchdog_look.c: one look at every watched loop: does it stand still, why, and where.
 */
#include <engine/base/clock.h>
#include <engine/observe/watchdog.h>
#include <string.h>

static void count_cause(struct weir_watch *watch, enum weir_stall_cause cause)
{
    struct weir_watchdog_counters *counters = &watch->watchdog->counters;
    watch->cause = cause;
    if (!(watch->counted >> cause & 1)) {
        watch->counted |= 1u << cause;
        weir_relaxed_add(&counters->stalls[cause], 1);
        weir_relaxed_add(&watch->pulse->seen.stalls[cause], 1);
    }
}

static void raise_to(uint64_t *longest_ns, uint64_t lasted_ns)
{
    if (lasted_ns > *longest_ns) {
        weir_relaxed_store(longest_ns, lasted_ns);
    }
}

static void note_longest(struct weir_watch *watch)
{
    raise_to(&watch->watchdog->counters.longest_ns[watch->cause], watch->stalling.lasted_ns);
    raise_to(&watch->pulse->seen.longest_ns[watch->cause], watch->stalling.lasted_ns);
}

static void describe_callback(struct weir_stall_report *report, const struct weir_beat *beat)
{
    struct weir_stall *stall = &report->stall;
    weir_task_copy_name(beat->task, report->task);
    stall->task = report->task;
    stall->kind = weir_kind_name((unsigned)(beat->kind_and_fd >> 32));
    stall->site = beat->site;
    stall->fd = (int32_t)beat->kind_and_fd;
    stall->callback = (void *)(uintptr_t)beat->callback;
}

/* The stack; none if the loop had gone on when it was taken: it is of something else. That it has
 * gone on since says nothing: the signal ends what the loop slept in. */
static void take_stack(struct weir_watch *watch, struct weir_stall *stall)
{
    const struct weir_stack_place place = {&watch->pulse->sequence, watch->stalling.sequence};
    if (watch->watchdog->options.no_stacks || weir_relaxed_load(place.word) != place.value) {
        return;
    }
    stall->frame_count =
        weir_stack_take(watch->stack, watch->pulse->thread, watch->watchdog->options.signal, &place,
                        stall->frames, WEIR_STALL_FRAMES_MAX);
}

static void report_stall(struct weir_watch *watch, const struct weir_beat *beat, uint64_t now_ns)
{
    const struct weir_watchdog_options *options = &watch->watchdog->options;
    if (watch->cause == WEIR_STALL_DESCHEDULED && !options->report_descheduled) {
        return;
    }
    struct weir_stall_report *report = weir_report_begin(watch, now_ns);
    if (!report) {
        return;
    }
    struct weir_stall *stall = &report->stall;
    stall->cause = watch->cause;
    stall->lasted_ns = watch->stalling.lasted_ns;
    stall->threshold_ns = options->threshold_ns;
    stall->nth = watch->stalling.nth;
    stall->place = WEIR_STALL_TURN;
    if (beat->phase == WEIR_PHASE_CALLBACK) {
        stall->place = WEIR_STALL_CALLBACK;
        describe_callback(report, beat);
    }
    take_stack(watch, stall);
}

/* It is at the same since the last look. */
static void look_closer(struct weir_watch *watch, const struct weir_beat *beat, uint64_t now_ns)
{
    struct weir_stalling *stalling = &watch->stalling;
    struct weir_thread_sight sight;
    weir_thread_see(watch->pulse->thread, &sight);
    weir_stalling_add(stalling, &sight);
    if (weir_stalling_is_due(stalling) && !weir_watchdog_is_full(watch->watchdog)) {
        count_cause(watch, weir_stalling_judge(stalling, &sight));
        weir_stalling_reported(stalling);
        report_stall(watch, beat, now_ns);
    }
    if (watch->counted != 0) {
        note_longest(watch);
    }
}

static void look_at(struct weir_watch *watch)
{
    struct weir_beat beat;
    uint64_t sequence = weir_pulse_read(watch->pulse, &beat);
    uint64_t now_ns = weir_clock_monotonic();
    if (sequence % 2 != 0) {
        return;
    }
    if (sequence != watch->stalling.sequence) {
        watch->counted = 0;
    }
    if (weir_stalling_look(&watch->stalling, &beat, sequence, now_ns)) {
        look_closer(watch, &beat, now_ns);
    }
    weir_watch_look_for_slow(watch, &beat, now_ns);
}

void weir_watchdog_look(struct weir_watchdog *watchdog)
{
    for (struct weir_watch *watch = watchdog->watches; watch; watch = watch->next) {
        look_at(watch);
    }
}
