/* SPDX-License-Identifier: MIT */
/*
 * export_json.c: a snapshot as JSON, for programs: names as in the headers, ns and bytes.
 */
#include <engine/observe/fields.h>
#include <engine/observe/snapshot.h>
#include <weir/loop.h>

static void put_number(struct weir_text *text, const char *before, const char *key, uint64_t value)
{
    weir_text_print(text, "%s\"%s\":%llu", before, key, (unsigned long long)value);
}

static void put_string(struct weir_text *text, const char *before, const char *key,
                       const char *string)
{
    weir_text_print(text, "%s\"%s\":", before, key);
    weir_text_json_string(text, string);
}

/* Of an object that has members already, if `before` is a comma. */
static void put_fields(struct weir_text *text, const char *before, const struct weir_field *fields,
                       const void *of)
{
    for (; fields->key; fields++) {
        put_number(text, before, fields->key, weir_field_value(fields, of));
        before = ",";
    }
}

static void put_histogram(struct weir_text *text, const struct weir_histogram *histogram)
{
    put_number(text, "{", "count", histogram->count);
    put_number(text, ",", "sum_ns", histogram->sum);
    put_number(text, ",", "max_ns", histogram->max);
    put_number(text, ",", "clipped", histogram->clipped);
    put_number(text, ",", "mean_ns", weir_histogram_mean(histogram));
    put_number(text, ",", "p50_ns", weir_histogram_percentile(histogram, 50));
    put_number(text, ",", "p90_ns", weir_histogram_percentile(histogram, 90));
    put_number(text, ",", "p99_ns", weir_histogram_percentile(histogram, 99));
    put_number(text, ",", "p99.9_ns", weir_histogram_percentile(histogram, 99.9));
    weir_text_print(text, "}");
}

static void put_causes(struct weir_text *text, const char *key,
                       const uint64_t of[WEIR_STALL_CAUSE_COUNT])
{
    weir_text_print(text, ",\"%s\":", key);
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        put_number(text, cause > 0 ? "," : "{", weir_stall_cause_name(cause), of[cause]);
    }
    weir_text_print(text, "}");
}

/* Null where nothing is known of it: a 0 would be a number like others. */
static void put_state(struct weir_text *text, const struct weir_snapshot_loop *row)
{
    if (!row->has_state) {
        weir_text_print(text, ",\"has_state\":false,\"counters\":null,\"gates\":null");
        return;
    }
    weir_text_print(text, ",\"has_state\":true,\"counters\":");
    put_fields(text, "{", weir_loop_fields, &row->counters);
    weir_text_print(text, "},\"gates\":[");
    for (unsigned gate = 0; gate < sizeof row->gates / sizeof row->gates[0]; gate++) {
        put_string(text, gate > 0 ? ",{" : "{", "gate", weir_gate_name(gate));
        put_fields(text, ",", weir_gate_fields, &row->gates[gate]);
        put_string(text, ",", "reason", weir_depth_reason_name(row->gates[gate].reason));
        weir_text_print(text, "}");
    }
    weir_text_print(text, "]");
}

static void put_loop(struct weir_text *text, const struct weir_snapshot_loop *row)
{
    put_string(text, "{", "label", row->label);
    put_number(text, ",", "loops", row->loops);
    put_string(text, ",", "backend", row->backend);
    put_string(text, ",", "reason", row->reason);
    put_number(text, ",", "memory_total", row->memory_total);
    put_state(text, row);
    put_causes(text, "stalls", row->stalls);
    put_number(text, ",", "slow_ops", row->slow_ops);
    put_causes(text, "longest_stall_ns", row->longest_stall_ns);
    weir_text_print(text, ",\"turns\":");
    put_histogram(text, &row->turns);
    weir_text_print(text, ",\"callbacks\":");
    put_histogram(text, &row->callbacks);
}

static void put_errors(struct weir_text *text, const struct weir_task_errors *errors)
{
    weir_text_print(text, ",\"errors\":[");
    for (uint32_t i = 0; i < errors->count; i++) {
        int error = errors->errors[i].error;
        const char *name = weir_error_name(error);
        put_string(text, i > 0 ? ",{" : "{", "errno", name ? name : "");
        weir_text_print(text, ",\"error\":%d", error);
        put_number(text, ",", "times", errors->errors[i].times);
        weir_text_print(text, "}");
    }
    put_number(text, "],", "other_errors", errors->others);
}

static void put_task(struct weir_text *text, const struct weir_snapshot_task *row)
{
    put_string(text, "{", "loop", row->label);
    put_string(text, ",", "task", row->task);
    put_number(text, ",", "epoch", row->epoch);
    weir_text_print(text, ",\"counters\":");
    put_fields(text, "{", weir_task_fields, &row->counters);
    weir_text_print(text, "}");
    put_errors(text, &row->errors);
    weir_text_print(text, ",\"stages\":{");
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        weir_text_print(text, "%s\"%s\":", stage > 0 ? "," : "", weir_stage_name(stage));
        put_histogram(text, &row->stages[stage]);
    }
    weir_text_print(text, "}}");
}

void weir_snapshot_write_json_members(const struct weir_snapshot *snapshot,
                                      weir_snapshot_more *more, void *context,
                                      struct weir_text *text)
{
    put_number(text, "", "taken_ns", snapshot->taken_ns);
    put_number(text, ",", "since_ns", snapshot->since_ns);
    weir_text_print(text, ",\"loops\":[");
    for (uint32_t i = 0; i < snapshot->loop_count; i++) {
        weir_text_print(text, "%s", i > 0 ? ",\n" : "\n");
        const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, i);
        put_loop(text, row);
        if (more) {
            more(context, row, text);
        }
        weir_text_print(text, "}");
    }
    weir_text_print(text, "],\"tasks\":[");
    for (uint32_t i = 0; i < snapshot->task_count; i++) {
        weir_text_print(text, "%s", i > 0 ? ",\n" : "\n");
        put_task(text, weir_snapshot_task_at(snapshot, i));
    }
    weir_text_print(text, "]");
}

void weir_snapshot_write_json(const struct weir_snapshot *snapshot, struct weir_text *text)
{
    weir_text_print(text, "{");
    weir_snapshot_write_json_members(snapshot, NULL, NULL, text);
    weir_text_print(text, "}\n");
}
