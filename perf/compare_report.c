/* SPDX-License-Identifier: MIT */
/* perf/compare_report.c: the subcommand `compare`: runs one comparison and shows it. */
#include <stdio.h>
#include <string.h>

#include "compare.h"
#include "interval.h"
#include "json.h"
#include "machine.h"
#include "report.h"

static void range_json(struct json *json, const char *key, const struct summary *summary)
{
    json_begin(json, key, '{');
    json_number(json, "median", summary->median);
    json_number(json, "min", summary->min);
    json_number(json, "max", summary->max);
    json_end(json, '}');
}

static void ratio_json(struct json *json, const char *key, const struct ratio *ratio)
{
    json_begin(json, key, '{');
    json_string(json, "a", ratio->a->name);
    json_string(json, "b", ratio->b->name);
    report_quartiles_json(json, "ops_per_s", &ratio->ops_per_s);
    report_quartiles_json(json, "cpu_ns_per_op", &ratio->cpu_ns_per_op);
    report_quartiles_json(json, "cpu_ns_difference", &ratio->cpu_ns_difference);
    json_end(json, '}');
}

void comparison_json(struct json *json, const struct comparison *comparison,
                     const struct workload *workload, const struct options *options)
{
    json_string(json, "workload", job_name(options->job));
    json_integer(json, "pairs", comparison->pairs);
    machine_json(json, "machine");
    json_begin(json, "engines", '[');
    for (uint32_t i = 0; i < comparison->engine_count; i++) {
        const struct portrait *engine = &comparison->engines[i];
        json_begin(json, NULL, '{');
        json_string(json, "name", engine->contender->name);
        contender_json(json, engine->contender, options->job);
        range_json(json, "ops_per_s", &engine->ops_per_s);
        range_json(json, "cpu_ns_per_op", &engine->cpu_ns_per_op);
        report_latency_json(json, "latency_ns", &engine->latency);
        json_end(json, '}');
    }
    json_end(json, ']');
    json_begin(json, "ratios", '[');
    for (uint32_t i = 0; i < comparison->ratio_count; i++) {
        ratio_json(json, NULL, &comparison->ratios[i]);
    }
    json_end(json, ']');
    ratio_json(json, "control", &comparison->control);
    report_workload_json(json, "options", workload, options);
    json_bool(json, "fake_enter", workload->fake_enter);
    if (comparison->hot) {
        json_begin(json, "residency", '{');
        json_number(json, "before", comparison->resident_before);
        json_number(json, "lowest", comparison->resident_lowest);
        json_end(json, '}');
    }
    report_tasks_json(json, "tasks", comparison->tasks, comparison->task_count);
}

static void print_ratio(const char *what, const struct ratio *ratio, bool fake)
{
    char pair[2 * LABEL_MAX + 16];
    snprintf(pair, sizeof pair, "%s%s / %s", what, ratio->a->label, ratio->b->label);
    printf("%-32s ops/s %.3f (%.3f to %.3f)   CPU per op %.3f (%.3f to %.3f)\n", pair,
           ratio->ops_per_s.median, ratio->ops_per_s.q1, ratio->ops_per_s.q3,
           ratio->cpu_ns_per_op.median, ratio->cpu_ns_per_op.q1, ratio->cpu_ns_per_op.q3);
    if (fake) {
        snprintf(pair, sizeof pair, "%s%s - %s", what, ratio->a->label, ratio->b->label);
        printf("%-32s user-space work per op %+.1f ns (%+.1f to %+.1f)\n", pair,
               ratio->cpu_ns_difference.median, ratio->cpu_ns_difference.q1,
               ratio->cpu_ns_difference.q3);
    }
}

static void print_engine(const struct portrait *engine, int width)
{
    char median[FIGURE_MAX];
    char min[FIGURE_MAX];
    char max[FIGURE_MAX];
    char range[2 * FIGURE_MAX + 4];
    snprintf(range, sizeof range, "(%s to %s)",
             format_count(min, sizeof min, engine->ops_per_s.min),
             format_count(max, sizeof max, engine->ops_per_s.max));
    printf("%-*s %8s %-20s %7.1f (%.1f to %.1f)\n", width, engine->contender->label,
           format_count(median, sizeof median, engine->ops_per_s.median), range,
           engine->cpu_ns_per_op.median, engine->cpu_ns_per_op.min, engine->cpu_ns_per_op.max);
}

static int label_width(const struct comparison *comparison)
{
    size_t width = 8;
    for (uint32_t i = 0; i < comparison->engine_count; i++) {
        size_t length = strlen(comparison->engines[i].contender->label);
        width = length > width ? length : width;
    }
    return (int)width;
}

static void print_comparison(const struct comparison *comparison, const struct workload *workload,
                             const struct options *options)
{
    char what[128];
    describe_workload(what, sizeof what, workload, options);
    printf("%s%s: %u pairs of %g s intervals\n", what,
           workload->fake_enter ? ", no system call" : "", comparison->pairs, options->interval_s);
    if (comparison->hot) {
        printf("in the page cache: %.1f %% of the file before, %.1f %% at the lowest\n",
               100 * comparison->resident_before, 100 * comparison->resident_lowest);
    }
    int width = label_width(comparison);
    printf("\n%-*s %-29s %s\n", width, "engine", "ops/s, median (min to max)",
           workload->job == JOB_ECHO ? "the server's CPU ns per op, median (min to max)"
                                     : "CPU ns per op, median (min to max)");
    for (uint32_t i = 0; i < comparison->engine_count; i++) {
        print_engine(&comparison->engines[i], width);
    }
    char heading[64];
    snprintf(heading, sizeof heading, "latency of 1 op in %u", options->every);
    printf("\n");
    print_latency_heading(heading, 24);
    for (uint32_t i = 0; i < comparison->engine_count; i++) {
        print_latency(comparison->engines[i].contender->label, 24, &comparison->engines[i].latency);
    }
    printf("\nmedian of the pairs' ratios (quartiles)\n");
    for (uint32_t i = 0; i < comparison->ratio_count; i++) {
        print_ratio("", &comparison->ratios[i], workload->fake_enter);
    }
    print_ratio("noise: ", &comparison->control, workload->fake_enter);
}

int compare_main(int argc, char **argv)
{
    struct options options;
    options_parse(OPTION_SET_COMPARE, argc, argv, &options);
    options.every = options.every != 0 ? options.every : 31;
    struct workload workload;
    if (json_check(options.json) < 0 || workload_open(&options, &workload) < 0) {
        return interrupted ? 130 : 1;
    }
    struct comparison comparison;
    int r = compare_engines(&options, &workload, &comparison);
    if (r == 0 && (options.json == NULL || strcmp(options.json, "-") != 0)) {
        print_comparison(&comparison, &workload, &options);
    }
    if (r == 0 && options.json != NULL) {
        struct json json = {.file = json_open(options.json)};
        r = json.file == NULL ? -1 : 0;
        if (r == 0) {
            json_begin(&json, NULL, '{');
            comparison_json(&json, &comparison, &workload, &options);
            json_end(&json, '}');
            r = json_close(&json, options.json);
        }
    }
    if (r == 0) {
        comparison_free(&comparison);
    }
    workload_close(&workload);
    return interrupted ? 130 : r < 0 ? 1 : 0;
}
