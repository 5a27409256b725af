/* SPDX-License-Identifier: MIT */
/*
 * snapshot_add.c: a loop's numbers into a snapshot, all of them or none.
 *
 * Tasks may be opened and closed while another thread adds their loop. So rows are made in a first
 * walk, which alone may find that there is no room, and takes its rows back then; what had a row
 * before, and is merged, is merged by a second one. A task keeps its name while it is open: either
 * walk meets it, and not both.
 */
#include <engine/observe/look.h>
#include <engine/observe/snapshot.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void merge_errors(struct weir_task_errors *into, const struct weir_task_errors *from)
{
    into->others += from->others;
    for (uint32_t i = 0; i < from->count; i++) {
        uint32_t entry = 0;
        while (entry < into->count && into->errors[entry].error != from->errors[i].error) {
            entry++;
        }
        if (entry == WEIR_ERRORS_MAX) {
            into->others += from->errors[i].times;
            continue;
        }
        if (entry == into->count) {
            into->count++;
            into->errors[entry].error = from->errors[i].error;
            into->errors[entry].times = 0;
        }
        into->errors[entry].times += from->errors[i].times;
    }
}

static void merge_task(struct weir_snapshot_task *into, const struct weir_snapshot_task *from)
{
    into->counters.submitted += from->counters.submitted;
    into->counters.refused += from->counters.refused;
    into->counters.waited += from->counters.waited;
    into->counters.shed += from->counters.shed;
    into->counters.finished += from->counters.finished;
    into->counters.failed += from->counters.failed;
    into->counters.cancelled += from->counters.cancelled;
    into->counters.expired += from->counters.expired;
    into->counters.bytes += from->counters.bytes;
    into->counters.continued += from->counters.continued;
    into->counters.live += from->counters.live;
    merge_errors(&into->errors, &from->errors);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        weir_histogram_merge(&into->stages[stage], &from->stages[stage]);
    }
    into->epoch += from->epoch;
}

static void merge_counters(struct weir_counters *into, const struct weir_counters *from)
{
    into->submitted += from->submitted;
    into->refused += from->refused;
    into->waited += from->waited;
    into->shed += from->shed;
    into->finished += from->finished;
    into->turns += from->turns;
    into->enters += from->enters;
    into->enter_eintr += from->enter_eintr;
    into->enter_eagain += from->enter_eagain;
    into->enter_ebusy += from->enter_ebusy;
    into->enter_short += from->enter_short;
    into->cq_overflow += from->cq_overflow;
    into->stale += from->stale;
    into->retried += from->retried;
    into->continued += from->continued;
    into->rearmed += from->rearmed;
    into->cancels += from->cancels;
    into->wakes += from->wakes;
    into->posts += from->posts;
    into->posts_refused += from->posts_refused;
    into->offloaded += from->offloaded;
    into->caller_ran += from->caller_ran;
    into->inline_tries += from->inline_tries;
    into->inline_done += from->inline_done;
    into->spins += from->spins;
    into->spins_paid += from->spins_paid;
    into->spin_ns += from->spin_ns;
    into->clock_clamped += from->clock_clamped;
    into->in_flight += from->in_flight;
    into->waiting += from->waiting;
    into->offload_in_flight += from->offload_in_flight;
    into->offload_waiting += from->offload_waiting;
    into->timers += from->timers;
}

/* first: `into` has nobody's yet. */
static void merge_gate(struct weir_gate_state *into, const struct weir_gate_state *from, bool first)
{
    /* 0 is no cap, and one without a cap leaves the sum without. */
    bool capped = (first || into->bytes_max) && from->bytes_max;
    into->bytes_max = capped ? into->bytes_max + from->bytes_max : 0;
    into->depth += from->depth;
    into->depth_max += from->depth_max;
    if (from->reason != WEIR_DEPTH_AS_OPENED) {
        into->reason = from->reason;
    }
    into->in_flight += from->in_flight;
    into->waiting += from->waiting;
    into->places += from->places;
    into->reserved += from->reserved;
    into->bytes_in_flight += from->bytes_in_flight;
    into->lowered += from->lowered;
    into->raised += from->raised;
    into->throttled_ns += from->throttled_ns;
}

static void merge_state(struct weir_snapshot_loop *into, const struct weir_look *from)
{
    bool first = into->loops == 1;
    if (!from->has_state || !(first || into->has_state)) {
        into->has_state = 0;
        memset(&into->counters, 0, sizeof into->counters);
        memset(into->gates, 0, sizeof into->gates);
        return;
    }
    into->has_state = 1;
    merge_counters(&into->counters, &from->counters);
    for (unsigned gate = 0; gate < WEIR_GATE_COUNT; gate++) {
        merge_gate(&into->gates[gate], &from->gates[gate], first);
    }
}

static void merge_seen(struct weir_snapshot_loop *into, const struct weir_stall_counts *from)
{
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        into->stalls[cause] += from->stalls[cause];
        if (from->longest_ns[cause] > into->longest_stall_ns[cause]) {
            into->longest_stall_ns[cause] = from->longest_ns[cause];
        }
    }
    into->slow_ops += from->slow_ops;
}

static void merge_loop(struct weir_snapshot *snapshot, struct weir_snapshot_loop *into,
                       const struct weir_look *from)
{
    into->loops++;
    snprintf(into->backend, sizeof into->backend, "%s", from->facts->backend);
    snprintf(into->reason, sizeof into->reason, "%s", from->facts->reason);
    into->memory_total += from->facts->memory_total;
    merge_state(into, from);
    merge_seen(into, &from->seen);
    weir_histogram_copy(snapshot->scratch_times, from->turns);
    weir_histogram_merge(&into->turns, snapshot->scratch_times);
    weir_histogram_copy(snapshot->scratch_times, from->callbacks);
    weir_histogram_merge(&into->callbacks, snapshot->scratch_times);
}

/* The tasks whose rows are not among the first `count`, which are made; or else those whose rows
 * are. False: no more room. */
static bool add_tasks(struct weir_snapshot *snapshot, const struct weir_tasks *tasks,
                      const char *label, uint32_t count, bool make)
{
    uint32_t used = weir_tasks_used(tasks);
    for (uint32_t i = 0; i < used; i++) {
        if (!weir_task_copy(&tasks->array[i], snapshot->scratch)) {
            continue;
        }
        const char *name = snapshot->scratch->task;
        struct weir_snapshot_task *row = make ? weir_snapshot_make_task(snapshot, label, name)
                                              : weir_snapshot_find_task(snapshot, label, name);
        if (!row && make) {
            return false;
        }
        if (row && (row >= snapshot->tasks + count) == make) {
            merge_task(row, snapshot->scratch);
        }
    }
    return true;
}

static uint64_t real_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int weir_snapshot_add(struct weir_snapshot *snapshot, const struct weir_loop *loop,
                      const char *label)
{
    if (!snapshot || !loop || !label || !label[0] || snapshot->interval) {
        return -EINVAL;
    }
    if (strlen(label) > WEIR_LABEL_MAX) {
        return -ENAMETOOLONG;
    }
    struct weir_look look;
    int r = weir_loop_look(loop, &look);
    if (r < 0) {
        return r;
    }
    bool known = weir_snapshot_find_loop(snapshot, label);
    if (!known && snapshot->loop_count == snapshot->loops_max) {
        return -ENOSPC;
    }
    uint64_t now_ns = real_now_ns();
    uint32_t count = snapshot->task_count;
    if (!add_tasks(snapshot, look.tasks, label, count, true)) {
        weir_snapshot_drop_tasks(snapshot, count);
        return -ENOSPC;
    }
    if (known) {
        add_tasks(snapshot, look.tasks, label, count, false);
    }
    merge_loop(snapshot, weir_snapshot_make_loop(snapshot, label), &look);
    if (snapshot->taken_ns == 0) {
        snapshot->taken_ns = now_ns;
    }
    return 0;
}
