/* SPDX-License-Identifier: MIT */
/*
 * perf/all.c: a few comparisons of weir with the raw loop in a row, and one table of what came
 * out.
 */
#include "all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "interval.h"
#include "json.h"
#include "machine.h"
#include "report.h"

/* Each takes (PAIRS + CONTROL_PAIRS) * 2 * INTERVAL_S: four of them about 20 seconds. */
#define PAIRS 8
#define CONTROL_PAIRS 4
#define INTERVAL_S 0.2

struct part {
    const char *title;
    const char *workload;
    uint32_t depth;
    bool done;
    char file_system[32];
    struct options options;
    struct workload shape; /* for describing it: file and buffers are closed */
    struct comparison comparison;
};

static int run_part(const struct options *options, struct part *part, struct json *json)
{
    part->options = *options;
    part->options.workload = part->workload;
    part->options.depth = part->depth;
    struct workload workload;
    if (workload_open(&part->options, &workload) < 0) {
        return -1;
    }
    int r = compare_engines(&part->options, &workload, &part->comparison);
    if (r == 0) {
        part->done = part->comparison.pairs > 0;
        part->shape = workload;
        if (workload.is_file) {
            machine_file_system(workload.fd, part->file_system);
        }
        if (json->file != NULL) {
            json_begin(json, NULL, '{');
            comparison_json(json, &part->comparison, &workload, &part->options);
            json_end(json, '}');
        }
    }
    workload_close(&workload);
    return r;
}

static void print_part(const struct part *part)
{
    const struct comparison *comparison = &part->comparison;
    const struct ratio *ratio = &comparison->ratios[0];
    char weir[FIGURE_MAX];
    char raw[FIGURE_MAX];
    char p50[FIGURE_MAX];
    char p99[FIGURE_MAX];
    const struct weir_histogram *latency = &comparison->engines[0].latency;
    printf("%-34s %9s %9s %9.2f  %6.0f ns %6.0f ns %9.2f  %9s %9s\n", part->title,
           format_count(weir, sizeof weir, comparison->engines[0].ops_per_s.median),
           format_count(raw, sizeof raw, comparison->engines[1].ops_per_s.median),
           ratio->ops_per_s.median, comparison->engines[0].cpu_ns_per_op.median,
           comparison->engines[1].cpu_ns_per_op.median, ratio->cpu_ns_per_op.median,
           format_ns(p50, sizeof p50, (double)weir_histogram_percentile(latency, 50)),
           format_ns(p99, sizeof p99, (double)weir_histogram_percentile(latency, 99)));
}

/* How far weir is from itself, over all parts: figures closer together than that are equal. */
static void print_noise(const struct part *parts, size_t count)
{
    double lowest[2] = {1, 1};
    double highest[2] = {1, 1};
    for (size_t i = 0; i < count; i++) {
        const struct ratio *control = &parts[i].comparison.control;
        double medians[2] = {control->ops_per_s.median, control->cpu_ns_per_op.median};
        for (int j = 0; j < 2 && parts[i].done && medians[j] > 0; j++) {
            lowest[j] = medians[j] < lowest[j] ? medians[j] : lowest[j];
            highest[j] = medians[j] > highest[j] ? medians[j] : highest[j];
        }
    }
    printf("weir against itself: ops/s %.2f to %.2f, CPU %.2f to %.2f: what noise does to a ratio "
           "here.\n",
           lowest[0], highest[0], lowest[1], highest[1]);
    if (lowest[0] < 0.9 || highest[0] > 1.1) {
        printf("That is a lot: the machine is busy. Run again when it is idle.\n");
    }
}

static void print_file(const struct options *options, const struct part *file)
{
    char size[FIGURE_MAX];
    printf("The file: %s, %s, on %s, %.1f %% of it in the page cache.\n",
           options->path != NULL ? options->path : "temporary",
           format_bytes(size, sizeof size, options->size), file->file_system,
           100 * file->comparison.resident_lowest);
}

static void print_table(const struct options *options, const struct part *parts, size_t count)
{
    printf("\n%-34s %s %31s %27s\n", "", "ops per second", "CPU time per op", "latency of weir");
    printf("%-34s %9s %9s %9s  %9s %9s %9s  %9s %9s\n", "", "weir", "raw", "weir/raw", "weir",
           "raw", "weir/raw", "p50", "p99");
    for (size_t i = 0; i < count; i++) {
        if (parts[i].done) {
            print_part(&parts[i]);
        }
    }
    printf(
        "\nraw: a loop written by hand on liburing. weir/raw: the median of adjacent pairs; more "
        "ops and less CPU are better.\n");
    print_noise(parts, count);
    if (parts[0].done) {
        print_file(options, &parts[0]);
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].done) {
            char what[128];
            describe_workload(what, sizeof what, &parts[i].shape, &parts[i].options);
            printf("\n%s\n", what);
            print_tasks(parts[i].comparison.tasks, parts[i].comparison.task_count);
        }
    }
}

static int run_parts(const struct options *options, struct part *parts, size_t count,
                     struct json *json)
{
    int r = 0;
    for (size_t i = 0; i < count && r == 0 && !interrupted; i++) {
        if (options->json == NULL || strcmp(options->json, "-") != 0) {
            printf("%zu of %zu: %s, weir and raw in turn\n", i + 1, count, parts[i].title);
            fflush(stdout);
        }
        r = run_part(options, &parts[i], json);
    }
    return r;
}

int all_main(int argc, char **argv)
{
    static struct part parts[] = {
        {.title = "4 KiB random reads, 32 in flight", .workload = "file", .depth = 32},
        {.title = "4 KiB random reads, 1 in flight", .workload = "file", .depth = 1},
        {.title = "no-op, 32 in flight", .workload = "nop", .depth = 32},
        {.title = "no-op, 1 in flight", .workload = "nop", .depth = 1},
    };
    const size_t count = sizeof parts / sizeof *parts;
    struct options options;
    options_parse(OPTION_SET_ALL, argc, argv, &options);
    options.engine_count = 2;
    options.every = 31;
    options.pairs = PAIRS;
    options.control_pairs = CONTROL_PAIRS;
    options.interval_s = INTERVAL_S;
    struct json json = {0};
    if (options.json != NULL && (json.file = json_open(options.json)) == NULL) {
        return 1;
    }
    if (json.file != NULL) {
        json_begin(&json, NULL, '{');
        json_begin(&json, "comparisons", '[');
    }
    int r = run_parts(&options, parts, count, &json);
    if (r == 0 && json.file != stdout) {
        print_table(&options, parts, count);
    }
    if (json.file != NULL) {
        json_end(&json, ']');
        json_end(&json, '}');
        r |= json_close(&json, options.json);
    }
    if (r == 0 && json.file != NULL && json.file != stdout) {
        printf("\nAll figures as JSON: %s\n", options.json);
    }
    for (size_t i = 0; i < count; i++) {
        comparison_free(&parts[i].comparison);
    }
    return interrupted ? 130 : r < 0 ? 1 : 0;
}
