/* SPDX-License-Identifier: MIT */
/*
 * perf/all.c: a few comparisons of weir with raw loops in a row, and one table of what came out.
 * Where io_uring is not to be had, only what is possible without it.
 */
#include "all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "compare.h"
#include "interval.h"
#include "json.h"
#include "machine.h"
#include "report.h"

/* A part takes (ratios * PAIRS + CONTROL_PAIRS) * 2 * INTERVAL_S: all of them about 20 seconds. */
#define PAIRS 6
#define CONTROL_PAIRS 2
#define INTERVAL_S 0.2
#define NAMES_MAX 3

struct part {
    const char *title;
    enum job job;
    uint32_t depth;
    const char *names[NAMES_MAX]; /* of engines; the second is the floor */
    const char *rows[NAMES_MAX];  /* a line of the table for each, but for the floor */
    bool done;
    char file_system[32];
    struct options options;
    struct workload shape; /* for describing it: file and buffers are closed */
    struct comparison comparison;
};

static void choose_engines(struct part *part)
{
    struct options *options = &part->options;
    char error[ERROR_MAX];
    for (uint32_t i = 0; i < NAMES_MAX && part->names[i] != NULL; i++) {
        contender_find(part->names[i], WEIR_AUTO, &options->contenders[i], error, sizeof error);
        options->engine_count = i + 1;
    }
}

static int run_part(const struct options *options, struct part *part, struct json *json)
{
    part->options = *options;
    part->options.job = part->job;
    part->options.depth = part->depth;
    if (part->job == JOB_ECHO) {
        part->options.size = 0; /* the file's is not a message's */
        options_settle(&part->options);
    }
    choose_engines(part);
    struct workload workload;
    if (workload_open(&part->options, &workload) < 0) {
        return -1;
    }
    int r = compare_engines(&part->options, &workload, &part->comparison);
    if (r == 0) {
        part->done = part->comparison.pairs > 0;
        part->shape = workload;
        if (workload.job == JOB_FILE) {
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

static void print_row(const char *title, const struct portrait *weir, const struct portrait *raw,
                      const struct ratio *ratio)
{
    char figures[4][FIGURE_MAX];
    const struct weir_histogram *latency = &weir->latency;
    printf("%-34s %9s %9s %9.2f  %6.0f ns %6.0f ns %9.2f  %9s %9s\n", title,
           format_count(figures[0], FIGURE_MAX, weir->ops_per_s.median),
           format_count(figures[1], FIGURE_MAX, raw->ops_per_s.median), ratio->ops_per_s.median,
           weir->cpu_ns_per_op.median, raw->cpu_ns_per_op.median, ratio->cpu_ns_per_op.median,
           format_ns(figures[2], FIGURE_MAX, (double)weir_histogram_percentile(latency, 50)),
           format_ns(figures[3], FIGURE_MAX, (double)weir_histogram_percentile(latency, 99)));
}

static void print_part(const struct part *part)
{
    const struct comparison *comparison = &part->comparison;
    for (uint32_t i = 0; i < comparison->ratio_count; i++) {
        uint32_t engine = i == 0 ? 0 : i + 1;
        print_row(part->rows[engine], &comparison->engines[engine], &comparison->engines[1],
                  &comparison->ratios[i]);
    }
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

static void print_table(const struct options *options, const struct part *parts, size_t count,
                        bool has_ring)
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
        "\nraw: a loop written by hand on %s. weir/raw: the median of adjacent pairs; more ops and "
        "less CPU are better.\n"
        "An echo's CPU is the server's, its latency is the client's.\n",
        has_ring ? "liburing, for echo on epoll" : "epoll, for files on a pool of threads");
    print_noise(parts, count);
    if (parts[0].done) {
        print_file(options, &parts[0]);
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].done) {
            char what[128];
            describe_workload(what, sizeof what, &parts[i].shape, &parts[i].options);
            printf("\n%s, on %s\n", what, parts[i].names[0]);
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

static struct part with_ring[] = {
    {.title = "4 KiB random reads, 32 in flight",
     .job = JOB_FILE,
     .depth = 32,
     .names = {"weir@io_uring", "uring"},
     .rows = {"4 KiB random reads, 32 in flight"}},
    {.title = "4 KiB random reads, 1 in flight",
     .job = JOB_FILE,
     .depth = 1,
     .names = {"weir@io_uring", "uring"},
     .rows = {"4 KiB random reads, 1 in flight"}},
    {.title = "no-op, 32 in flight",
     .job = JOB_NOP,
     .depth = 32,
     .names = {"weir@io_uring", "uring"},
     .rows = {"no-op, 32 in flight"}},
    {.title = "no-op, 1 in flight",
     .job = JOB_NOP,
     .depth = 1,
     .names = {"weir@io_uring", "uring"},
     .rows = {"no-op, 1 in flight"}},
    {.title = "echo over TCP, 50 connections",
     .job = JOB_ECHO,
     .names = {"weir@io_uring", "epoll", "weir@epoll"},
     .rows = {"echo, 50 on TCP, on io_uring", NULL, "echo, 50 on TCP, on epoll"}},
};
static struct part without_ring[] = {
    {.title = "4 KiB random reads, 32 in flight",
     .job = JOB_FILE,
     .depth = 32,
     .names = {"weir@epoll", "psync"},
     .rows = {"4 KiB random reads, 32 in flight"}},
    {.title = "4 KiB random reads, 1 in flight",
     .job = JOB_FILE,
     .depth = 1,
     .names = {"weir@epoll", "psync"},
     .rows = {"4 KiB random reads, 1 in flight"}},
    {.title = "echo over TCP, 50 connections",
     .job = JOB_ECHO,
     .names = {"weir@epoll", "epoll"},
     .rows = {"echo, 50 on TCP, on epoll"}},
};

/* By trying, as the raw loop will. */
static bool find_ring(bool says_why)
{
    struct weir_loop *loop = NULL;
    struct weir_decision decision = {0};
    struct weir_options options = {
        .policy = WEIR_IO_URING,
        .offload_workers = WEIR_NO_OFFLOAD,
        .decision = &decision,
    };
    int r = weir_loop_open(&options, &loop);
    weir_loop_close(loop, 0, NULL);
    if (r < 0 && says_why) {
        printf("no io_uring here, so only what goes without it (%s)\n",
               decision.rejected_count > 0 ? decision.rejected[0].hint : strerror(-r));
    }
    return r == 0;
}

int all_main(int argc, char **argv)
{
    struct options options;
    options_parse(OPTION_SET_ALL, argc, argv, &options);
    options.every = 31;
    options.pairs = PAIRS;
    options.control_pairs = CONTROL_PAIRS;
    options.interval_s = INTERVAL_S;
    bool has_ring = find_ring(options.json == NULL || strcmp(options.json, "-") != 0);
    struct part *parts = has_ring ? with_ring : without_ring;
    const size_t count = has_ring ? sizeof with_ring / sizeof *with_ring
                                  : sizeof without_ring / sizeof *without_ring;
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
        print_table(&options, parts, count, has_ring);
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
