/* SPDX-License-Identifier: MIT */
/*
 * export_prometheus.c: a snapshot as Prometheus text 0.0.4: families one after the other, each with
 * its HELP and TYPE once and all of its samples.
 *
 * A histogram's 1024 buckets become those of a few bounds. One counts for a bound if its highest
 * value does not exceed it: so a sample less than a bucket's width, 3.125 %, below a bound may
 * count for the next one only. It must not depend on the largest value so far, exact as that is:
 * then a count would shrink when a larger one comes.
 */
#include <engine/base/histogram.h>
#include <engine/observe/fields.h>
#include <engine/observe/snapshot.h>
#include <stddef.h>
#include <string.h>
#include <weir/loop.h>

struct label {
    const char *name; /* NULL ends a list */
    const char *value;
};

/* As others write them: the shortest digits, an exponent below 0.0001. */
static const struct {
    uint64_t ns;
    const char *seconds;
} bounds[] = {
    {1000, "1e-06"},      {2500, "2.5e-06"},      {5000, "5e-06"},        {10000, "1e-05"},
    {25000, "2.5e-05"},   {50000, "5e-05"},       {100000, "0.0001"},     {250000, "0.00025"},
    {500000, "0.0005"},   {1000000, "0.001"},     {2500000, "0.0025"},    {5000000, "0.005"},
    {10000000, "0.01"},   {25000000, "0.025"},    {50000000, "0.05"},     {100000000, "0.1"},
    {250000000, "0.25"},  {500000000, "0.5"},     {1000000000, "1"},      {2500000000ULL, "2.5"},
    {5000000000ULL, "5"}, {10000000000ULL, "10"}, {25000000000ULL, "25"}, {60000000000ULL, "60"},
};
#define BOUND_COUNT (sizeof bounds / sizeof bounds[0])

static void put_family(struct weir_text *text, const char *metric, const char *type,
                       const char *help)
{
    weir_text_print(text, "# HELP %s %s\n# TYPE %s %s\n", metric, help, metric, type);
}

static void put_label(struct weir_text *text, const char *before, const char *name,
                      const char *value)
{
    weir_text_print(text, "%s%s=", before, name);
    weir_text_label_value(text, value);
}

/* A sample up to its value. le: one more label, or NULL. */
static void put_sample(struct weir_text *text, const char *metric, const char *suffix,
                       const struct label *labels, const char *le)
{
    weir_text_print(text, "%s%s", metric, suffix);
    const char *before = "{";
    for (; labels->name; labels++) {
        put_label(text, before, labels->name, labels->value);
        before = ",";
    }
    if (le) {
        put_label(text, before, "le", le);
    }
    weir_text_print(text, "} ");
}

static void put_number(struct weir_text *text, const char *metric, const char *suffix,
                       const struct label *labels, const char *le, uint64_t value)
{
    put_sample(text, metric, suffix, labels, le);
    weir_text_print(text, "%llu\n", (unsigned long long)value);
}

static void put_seconds(struct weir_text *text, const char *metric, const char *suffix,
                        const struct label *labels, uint64_t ns)
{
    put_sample(text, metric, suffix, labels, NULL);
    weir_text_fixed(text, ns, 9);
    weir_text_print(text, "\n");
}

static void put_histogram(struct weir_text *text, const char *metric, const struct label *labels,
                          const struct weir_histogram *histogram)
{
    uint64_t seen = 0;
    unsigned bucket = 0;
    for (size_t i = 0; i < BOUND_COUNT; i++) {
        while (bucket < WEIR_HISTOGRAM_BUCKETS && weir_histogram_highest(bucket) <= bounds[i].ns) {
            seen += histogram->buckets[bucket++];
        }
        put_number(text, metric, "_bucket", labels, bounds[i].seconds, seen);
    }
    put_number(text, metric, "_bucket", labels, "+Inf", histogram->count);
    put_seconds(text, metric, "_sum", labels, histogram->sum);
    put_number(text, metric, "_count", labels, NULL, histogram->count);
}

static void put_field_family(struct weir_text *text, const struct weir_field *field)
{
    put_family(text, field->metric, field->total ? "counter" : "gauge", field->help);
}

static void put_field(struct weir_text *text, const struct weir_field *field,
                      const struct label *labels, const void *of)
{
    uint64_t value = weir_field_value(field, of);
    if (field->nanoseconds) {
        put_seconds(text, field->metric, "", labels, value);
    } else {
        put_number(text, field->metric, "", labels, NULL, value);
    }
}

/* --- tasks ------------------------------------------------------------------------------------ */

static void put_errors(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    static const char metric[] = "weir_task_errors_total";
    put_family(text, metric, "counter", "Failed ops by their error; what has no name is other.");
    for (uint32_t i = 0; i < snapshot->task_count; i++) {
        const struct weir_snapshot_task *row = weir_snapshot_task_at(snapshot, i);
        const struct weir_task_errors *errors = &row->errors;
        uint64_t others = errors->others;
        struct label labels[] = {{"loop", row->label}, {"task", row->task}, {"errno", NULL}, {0}};
        for (uint32_t e = 0; e < errors->count; e++) {
            labels[2].value = weir_error_name(errors->errors[e].error);
            if (labels[2].value) {
                put_number(text, metric, "", labels, NULL, errors->errors[e].times);
            } else {
                others += errors->errors[e].times;
            }
        }
        if (others > 0) {
            labels[2].value = "other";
            put_number(text, metric, "", labels, NULL, others);
        }
    }
}

/* Those that have samples: many tasks never meet a worker. seconds: or the largest values. */
static void put_stages(struct weir_text *text, const struct weir_snapshot *snapshot,
                       const char *metric, bool largest)
{
    for (uint32_t i = 0; i < snapshot->task_count; i++) {
        const struct weir_snapshot_task *row = weir_snapshot_task_at(snapshot, i);
        for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            const struct weir_histogram *histogram = &row->stages[stage];
            const struct label labels[] = {
                {"loop", row->label}, {"task", row->task}, {"stage", weir_stage_name(stage)}, {0}};
            if (histogram->count == 0) {
                continue;
            }
            if (largest) {
                put_seconds(text, metric, "", labels, histogram->max);
            } else {
                put_histogram(text, metric, labels, histogram);
            }
        }
    }
}

static void put_tasks(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    for (const struct weir_field *field = weir_task_fields; field->key; field++) {
        put_field_family(text, field);
        for (uint32_t i = 0; i < snapshot->task_count; i++) {
            const struct weir_snapshot_task *row = weir_snapshot_task_at(snapshot, i);
            const struct label labels[] = {{"loop", row->label}, {"task", row->task}, {0}};
            put_field(text, field, labels, &row->counters);
        }
    }
    put_errors(text, snapshot);
    put_family(text, "weir_task_stage_seconds", "histogram", "Where the ops of a task spent time.");
    put_stages(text, snapshot, "weir_task_stage_seconds", false);
    put_family(text, "weir_task_stage_max_seconds", "gauge", "The longest of these.");
    put_stages(text, snapshot, "weir_task_stage_max_seconds", true);
}

/* --- loops ------------------------------------------------------------------------------------ */

static const struct weir_field row_fields[] = {
    {"loops", "weir_loops", "Loops under the label.", offsetof(struct weir_snapshot_loop, loops), 4,
     false, false},
    {"memory_total", "weir_loop_memory_bytes", "All the memory that the loop ever uses.",
     offsetof(struct weir_snapshot_loop, memory_total), 8, false, false},
    {"slow_ops", "weir_loop_slow_ops_total", "Ops that a watchdog saw in flight for too long.",
     offsetof(struct weir_snapshot_loop, slow_ops), 8, true, false},
    {NULL, NULL, NULL, 0, 0, false, false},
};

static uint64_t live_of(const struct weir_snapshot *snapshot, const struct weir_snapshot_loop *loop)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < snapshot->task_count; i++) {
        const struct weir_snapshot_task *row = weir_snapshot_task_at(snapshot, i);
        live += strcmp(row->label, loop->label) == 0 ? row->counters.live : 0;
    }
    return live;
}

static void put_facts(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    put_family(text, "weir_loop_info", "gauge", "The backend of a loop, and why that: 1.");
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        const struct label labels[] = {
            {"loop", row->label}, {"backend", row->backend}, {"reason", row->reason}, {0}};
        put_number(text, "weir_loop_info", "", labels, NULL, 1);
    }
    for (const struct weir_field *field = row_fields; field->key; field++) {
        put_field_family(text, field);
        for (uint32_t i = 0; i < snapshot->loop_count; i++) {
            const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
            const struct label labels[] = {{"loop", row->label}, {0}};
            put_field(text, field, labels, row);
        }
    }
    put_family(text, "weir_loop_live", "gauge", "Ops accepted and not handed back.");
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        const struct label labels[] = {{"loop", row->label}, {0}};
        put_number(text, "weir_loop_live", "", labels, NULL, live_of(snapshot, row));
    }
}

static void put_counters(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    for (const struct weir_field *field = weir_loop_fields; field->key; field++) {
        if (!field->metric) {
            continue;
        }
        put_field_family(text, field);
        for (uint32_t i = 0; i < snapshot->loop_count; i++) {
            const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
            const struct label labels[] = {{"loop", row->label}, {0}};
            if (row->has_state) {
                put_field(text, field, labels, &row->counters);
            }
        }
    }
}

/* One of those that there are; a loop without workers has no offload gate. */
static bool has_gate(const struct weir_snapshot_loop *row, unsigned gate)
{
    return row->has_state && row->gates[gate].places > 0;
}

#define GATE_COUNT (sizeof((struct weir_snapshot_loop *)0)->gates / sizeof(struct weir_gate_state))

static void put_gates(struct weir_text *text, const struct weir_snapshot *snapshot,
                      const struct weir_field *field)
{
    put_field_family(text, field);
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        for (unsigned gate = 0; gate < GATE_COUNT; gate++) {
            const struct label labels[] = {
                {"loop", row->label}, {"gate", weir_gate_name(gate)}, {0}};
            if (has_gate(row, gate)) {
                put_field(text, field, labels, &row->gates[gate]);
            }
        }
    }
}

/* As a set of states: one of them is 1. */
static void put_gate_causes(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    static const char metric[] = "weir_gate_depth_cause";
    put_family(text, metric, "gauge", "Why a gate's depth is what it is: that cause is 1.");
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        for (unsigned gate = 0; gate < GATE_COUNT; gate++) {
            for (unsigned cause = 0; has_gate(row, gate) && weir_depth_reason_name(cause);
                 cause++) {
                const struct label labels[] = {{"loop", row->label},
                                               {"gate", weir_gate_name(gate)},
                                               {"cause", weir_depth_reason_name(cause)},
                                               {0}};
                put_number(text, metric, "", labels, NULL, row->gates[gate].reason == cause);
            }
        }
    }
}

/* Those of loops that were watched. */
static void put_times(struct weir_text *text, const struct weir_snapshot *snapshot,
                      const char *metric, const char *help, bool callbacks)
{
    put_family(text, metric, "histogram", help);
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        const struct weir_histogram *histogram = callbacks ? &row->callbacks : &row->turns;
        const struct label labels[] = {{"loop", row->label}, {0}};
        if (histogram->count > 0) {
            put_histogram(text, metric, labels, histogram);
        }
    }
}

static void put_causes(struct weir_text *text, const struct weir_snapshot *snapshot,
                       const char *metric, bool longest)
{
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
            const struct label labels[] = {
                {"loop", row->label}, {"cause", weir_stall_cause_name(cause)}, {0}};
            if (longest) {
                put_seconds(text, metric, "", labels, row->longest_stall_ns[cause]);
            } else {
                put_number(text, metric, "", labels, NULL, row->stalls[cause]);
            }
        }
    }
}

static void put_stalls(struct weir_text *text, const struct weir_snapshot *snapshot)
{
    put_family(text, "weir_loop_stalls_total", "counter", "Stalls that a watchdog saw.");
    put_causes(text, snapshot, "weir_loop_stalls_total", false);
    put_family(text, "weir_loop_longest_stall_seconds", "gauge", "The longest of these.");
    put_causes(text, snapshot, "weir_loop_longest_stall_seconds", true);
}

void weir_snapshot_write_prometheus(const struct weir_snapshot *snapshot, struct weir_text *text)
{
    put_facts(text, snapshot);
    put_counters(text, snapshot);
    for (const struct weir_field *field = weir_gate_fields; field->key; field++) {
        put_gates(text, snapshot, field);
    }
    put_gate_causes(text, snapshot);
    put_times(text, snapshot, "weir_loop_turn_seconds",
              "How long turns took, without their sleep, while the loop was watched.", false);
    put_times(text, snapshot, "weir_loop_callback_seconds",
              "How long callbacks took while the loop was watched.", true);
    put_stalls(text, snapshot);
    put_tasks(text, snapshot);
}
