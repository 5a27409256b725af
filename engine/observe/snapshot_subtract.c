/* SPDX-License-Identifier: MIT */
/*
 * snapshot_subtract.c: two snapshots into an interval. Every number that only grows is told apart
 * from those of the moment by the field tables (fields.h). A row is subtracted whole or not at all.
 */
#include <engine/base/histogram.h>
#include <engine/observe/fields.h>
#include <engine/observe/snapshot.h>
#include <engine/op/flow.h>
#include <errno.h>
#include <string.h>

/* No sample of `earlier` is missing in `later`. */
static bool histogram_grew(const struct weir_histogram *later, const struct weir_histogram *earlier)
{
    bool grew = later->clipped >= earlier->clipped && later->max >= earlier->max;
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        grew = grew && later->buckets[i] >= earlier->buckets[i];
    }
    return grew;
}

static void subtract_histogram(struct weir_histogram *later, const struct weir_histogram *earlier)
{
    uint64_t highest = 0;
    later->count -= earlier->count;
    later->sum -= earlier->sum;
    later->clipped -= earlier->clipped;
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        later->buckets[i] -= earlier->buckets[i];
        if (later->buckets[i]) {
            highest = weir_histogram_highest(i);
        }
    }
    /* A largest value that is older than the interval leaves no more of it than a bucket. */
    if (later->clipped == 0 && highest < later->max) {
        later->max = highest;
    }
}

static bool fields_grew(const struct weir_field *fields, const void *later, const void *earlier)
{
    bool grew = true;
    for (; fields->key; fields++) {
        grew = grew && (!fields->total ||
                        weir_field_value(fields, later) >= weir_field_value(fields, earlier));
    }
    return grew;
}

static void subtract_fields(const struct weir_field *fields, void *later, const void *earlier)
{
    for (; fields->key; fields++) {
        if (fields->total) {
            uint64_t difference =
                weir_field_value(fields, later) - weir_field_value(fields, earlier);
            memcpy((char *)later + fields->offset, &difference, sizeof difference);
        }
    }
}

static uint64_t times_of(const struct weir_task_errors *errors, int32_t error)
{
    for (uint32_t i = 0; i < errors->count; i++) {
        if (errors->errors[i].error == error) {
            return errors->errors[i].times;
        }
    }
    return 0;
}

static bool errors_grew(const struct weir_task_errors *later,
                        const struct weir_task_errors *earlier)
{
    bool grew = later->others >= earlier->others;
    for (uint32_t i = 0; i < earlier->count; i++) {
        grew = grew && times_of(later, earlier->errors[i].error) >= earlier->errors[i].times;
    }
    return grew;
}

/* What did not happen again has no entry. */
static void subtract_errors(struct weir_task_errors *later, const struct weir_task_errors *earlier)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < later->count; i++) {
        uint64_t times = later->errors[i].times - times_of(earlier, later->errors[i].error);
        if (times > 0) {
            later->errors[kept].error = later->errors[i].error;
            later->errors[kept].times = times;
            kept++;
        }
    }
    later->count = kept;
    later->others -= earlier->others;
}

static void subtract_task(struct weir_snapshot_task *later,
                          const struct weir_snapshot_task *earlier)
{
    bool grew = later->epoch == earlier->epoch &&
                fields_grew(weir_task_fields, &later->counters, &earlier->counters) &&
                errors_grew(&later->errors, &earlier->errors);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        grew = grew && histogram_grew(&later->stages[stage], &earlier->stages[stage]);
    }
    if (!grew) {
        return;
    }
    subtract_fields(weir_task_fields, &later->counters, &earlier->counters);
    subtract_errors(&later->errors, &earlier->errors);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        subtract_histogram(&later->stages[stage], &earlier->stages[stage]);
    }
}

/* Nothing of it went down. */
static bool seen_grew(const struct weir_snapshot_loop *later,
                      const struct weir_snapshot_loop *earlier)
{
    bool grew = later->slow_ops >= earlier->slow_ops;
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        grew = grew && later->stalls[cause] >= earlier->stalls[cause] &&
               later->longest_stall_ns[cause] >= earlier->longest_stall_ns[cause];
    }
    return grew;
}

static void subtract_seen(struct weir_snapshot_loop *later,
                          const struct weir_snapshot_loop *earlier)
{
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        later->stalls[cause] -= earlier->stalls[cause];
    }
    later->slow_ops -= earlier->slow_ops;
}

static void subtract_loop(struct weir_snapshot_loop *later,
                          const struct weir_snapshot_loop *earlier)
{
    bool grew =
        later->has_state == earlier->has_state && histogram_grew(&later->turns, &earlier->turns) &&
        histogram_grew(&later->callbacks, &earlier->callbacks) && seen_grew(later, earlier) &&
        fields_grew(weir_loop_fields, &later->counters, &earlier->counters);
    for (unsigned gate = 0; gate < WEIR_GATE_COUNT; gate++) {
        grew = grew && fields_grew(weir_gate_fields, &later->gates[gate], &earlier->gates[gate]);
    }
    if (!grew) {
        return;
    }
    subtract_histogram(&later->turns, &earlier->turns);
    subtract_histogram(&later->callbacks, &earlier->callbacks);
    subtract_seen(later, earlier);
    subtract_fields(weir_loop_fields, &later->counters, &earlier->counters);
    for (unsigned gate = 0; gate < WEIR_GATE_COUNT; gate++) {
        subtract_fields(weir_gate_fields, &later->gates[gate], &earlier->gates[gate]);
    }
}

int weir_snapshot_subtract(struct weir_snapshot *snapshot, const struct weir_snapshot *earlier)
{
    if (!snapshot || !earlier || snapshot->interval || earlier->interval) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < snapshot->task_count; i++) {
        struct weir_snapshot_task *later = &snapshot->tasks[i];
        const struct weir_snapshot_task *row =
            weir_snapshot_find_task(earlier, later->label, later->task);
        if (row) {
            subtract_task(later, row);
        }
    }
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        struct weir_snapshot_loop *later = &snapshot->loops[i];
        const struct weir_snapshot_loop *row = weir_snapshot_find_loop(earlier, later->label);
        if (row) {
            subtract_loop(later, row);
        }
    }
    snapshot->since_ns = earlier->taken_ns;
    snapshot->interval = true;
    return 0;
}
