/* SPDX-License-Identifier: MIT */
/*
 * perf/run.c: one engine, one workload, in this process, but for echo; and `nop --fake-enter`,
 * which is a comparison of two engines that never enter the kernel.
 */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "compare.h"
#include "engine.h"
#include "interval.h"
#include "json.h"
#include "machine.h"
#include "meter.h"
#include "report.h"
#include "workload.h"

#define SLICE_S 0.25

struct run {
    const struct contender *contender;
    const struct driver *driver; /* open in this process, with its state; or, of an echo, */
    void *state;
    struct child child; /* server and client */
    struct interval total;
    double resident; /* the lowest share of the file in the page cache; -1: not looked at */
    uint32_t task_count;
    struct task_row tasks[TASK_ROWS_MAX];
};

static bool shows_text(const struct options *options)
{
    return options->json == NULL || strcmp(options->json, "-") != 0;
}

static int exit_code(int r)
{
    return interrupted ? 130 : r < 0 ? 1 : 0;
}

/* Opens the engine. 0, or -1 after a message. */
static int open_run(const struct options *options, struct workload *workload, struct run *run)
{
    run->contender = &options->contenders[0];
    if (workload->job == JOB_ECHO) {
        int opened = child_open(run->contender, workload, &run->child);
        if (opened == 0 && workload->pin) {
            child_place(&run->child, 0);
        }
        return opened;
    }
    char error[ERROR_MAX];
    workload->who = run->contender;
    run->driver = run->contender->engine->drivers[workload->job];
    int r = run->driver->open(workload, &run->state, error);
    if (r < 0) {
        complain("%s", error);
    }
    return r < 0 ? -1 : 0;
}

static void close_run(struct run *run)
{
    child_close(&run->child);
    if (run->state != NULL) {
        run->driver->close(run->state);
    }
}

/* 0, or -1 after a message. */
static int run_slice(const struct options *options, const struct workload *workload,
                     struct run *run, double seconds, struct interval *ret_slice)
{
    if (run->driver == NULL) {
        return child_run(&run->child, seconds, options->every, ret_slice);
    }
    struct interval_plan plan = {
        .seconds = seconds,
        .every = options->every,
        .expected = workload_expected(workload),
        .cpu_clock = CLOCK_PROCESS_CPUTIME_ID,
    };
    interval_run(run->driver, run->state, &plan, ret_slice);
    if (ret_slice->error < 0) {
        complain("an op failed: %s", strerror(-ret_slice->error));
        return -1;
    }
    return 0;
}

static int run_slices(const struct options *options, struct workload *workload, struct run *run)
{
    bool hot = workload_is_hot(workload);
    uint64_t end_ns = meter_clock() + (uint64_t)(options->seconds * 1e9);
    int r = 0;
    char what[128];
    describe_workload(what, sizeof what, workload, options);
    run->resident = hot ? 1 : -1;
    for (uint64_t now_ns = meter_clock(); now_ns < end_ns && !interrupted && r == 0;
         now_ns = meter_clock()) {
        double share = hot ? workload_warm(workload) : 0;
        run->resident = hot && share < run->resident ? share : run->resident;
        double left_s = (double)(end_ns - now_ns) / 1e9;
        struct interval slice;
        r = run_slice(options, workload, run, left_s < SLICE_S ? left_s : SLICE_S, &slice);
        if (r == 0) {
            interval_add(&run->total, &slice);
            char rate[FIGURE_MAX];
            progress("%s on %s: %s ops/s, %.1f s left", what, run->contender->name,
                     format_count(rate, sizeof rate, interval_ops_per_s(&slice)),
                     left_s < SLICE_S ? 0 : left_s - SLICE_S);
        }
    }
    progress_clear();
    return r;
}

/* What the engine measured by itself. 0, or -1 after a message. */
static int take_tasks(struct run *run)
{
    int count = 0;
    if (run->driver == NULL) {
        count = child_tasks(&run->child, run->tasks, TASK_ROWS_MAX);
    } else if (run->driver->tasks != NULL) {
        count = (int)run->driver->tasks(run->state, run->tasks, TASK_ROWS_MAX);
    }
    run->task_count = count > 0 ? (uint32_t)count : 0;
    return count < 0 ? -1 : 0;
}

static void print_run(const struct options *options, const struct workload *workload,
                      const struct run *run)
{
    char what[128];
    char rate[FIGURE_MAX];
    char moved[FIGURE_MAX];
    describe_workload(what, sizeof what, workload, options);
    printf("%s on %s (%s), %.2f s\n", what, run->contender->name, run->contender->engine->what,
           (double)run->total.wall_ns / 1e9);
    printf("  %s ops/s", format_count(rate, sizeof rate, interval_ops_per_s(&run->total)));
    if (workload->job == JOB_FILE) {
        printf(", %s/s",
               format_bytes(moved, sizeof moved,
                            (uint64_t)(interval_ops_per_s(&run->total) * workload->block)));
    }
    printf(", %.1f CPU ns per op%s\n", interval_cpu_ns_per_op(&run->total),
           workload->job == JOB_ECHO ? " (the server's)" : "");
    if (run->resident >= 0) {
        printf("  %.1f %% of the file in the page cache\n", 100 * run->resident);
    }
    printf("\n");
    print_latency_heading("", 32);
    print_latency("latency", 32, &run->total.latency);
    print_tasks(run->tasks, run->task_count);
}

static void run_json(struct json *json, const struct options *options,
                     const struct workload *workload, const struct run *run)
{
    json_begin(json, NULL, '{');
    json_string(json, "workload", job_name(options->job));
    json_string(json, "engine", run->contender->name);
    contender_json(json, run->contender, options->job);
    json_number(json, "seconds", (double)run->total.wall_ns / 1e9);
    machine_json(json, "machine");
    report_workload_json(json, "options", workload, options);
    json_integer(json, "ops", run->total.ops);
    json_number(json, "ops_per_s", interval_ops_per_s(&run->total));
    json_number(json, "cpu_ns_per_op", interval_cpu_ns_per_op(&run->total));
    report_latency_json(json, "latency_ns", &run->total.latency);
    if (run->resident >= 0) {
        json_number(json, "residency", run->resident);
    }
    report_tasks_json(json, "tasks", run->tasks, run->task_count);
    json_end(json, '}');
}

static int report_run(const struct options *options, const struct workload *workload,
                      const struct run *run)
{
    if (shows_text(options)) {
        print_run(options, workload, run);
    }
    if (options->json == NULL) {
        return 0;
    }
    struct json json = {.file = json_open(options->json)};
    if (json.file == NULL) {
        return -1;
    }
    run_json(&json, options, workload, run);
    return json_close(&json, options->json);
}

static int run_engine(struct options *options)
{
    options->every = options->every != 0 ? options->every : 1;
    struct workload workload;
    if (json_check(options->json) < 0 || workload_open(options, &workload) < 0) {
        return -1;
    }
    struct run *run = calloc(1, sizeof *run);
    int r = -1;
    if (run == NULL) {
        complain("no memory");
    } else {
        r = open_run(options, &workload, run);
    }
    if (r == 0) {
        r = run_slices(options, &workload, run);
        if (r == 0) {
            r = take_tasks(run);
        }
        if (r == 0) {
            r = report_run(options, &workload, run);
        }
        close_run(run);
    }
    free(run);
    workload_close(&workload);
    return r;
}

static void print_fake(const struct comparison *comparison, uint32_t depth)
{
    const struct ratio *ratio = &comparison->ratios[0];
    const struct summary *more = &ratio->cpu_ns_difference;
    const struct summary *noise = &comparison->control.cpu_ns_difference;
    printf("depth %-5u  weir %6.1f ns   raw loop %6.1f ns   difference %5.1f ns (%.1f to %.1f)   "
           "noise %+.1f ns (%+.1f to %+.1f)\n",
           depth, comparison->engines[0].cpu_ns_per_op.median,
           comparison->engines[1].cpu_ns_per_op.median, more->median, more->q1, more->q3,
           noise->median, noise->q1, noise->q3);
}

/* One depth; a JSON object of its own in the array that is being written, if any. */
static int compare_fake(const struct options *options, struct json *json)
{
    struct workload workload;
    if (workload_open(options, &workload) < 0) {
        return -1;
    }
    struct comparison comparison;
    int r = compare_engines(options, &workload, &comparison);
    if (r == 0) {
        if (shows_text(options)) {
            print_fake(&comparison, workload.depth);
        }
        if (json->file != NULL) {
            json_begin(json, NULL, '{');
            comparison_json(json, &comparison, &workload, options);
            json_end(json, '}');
        }
        comparison_free(&comparison);
    }
    workload_close(&workload);
    return r;
}

static int run_fake(struct options *options)
{
    char error[ERROR_MAX];
    contender_find("weir", WEIR_IO_URING, &options->contenders[0], error, sizeof error);
    contender_find("uring", WEIR_AUTO, &options->contenders[1], error, sizeof error);
    options->engine_count = 2;
    options->every = options->every != 0 ? options->every : 31;
    struct json json = {0};
    if (json_check(options->json) < 0 ||
        (options->json != NULL && (json.file = json_open(options->json)) == NULL)) {
        return -1;
    }
    if (json.file != NULL) {
        json_begin(&json, NULL, '[');
    }
    if (shows_text(options)) {
        printf("user-space work per NOP, no system call; median of %u pairs (quartiles)\n",
               options->pairs);
    }
    static const uint32_t both[] = {32, 1};
    uint32_t given = options->depth;
    int r = 0;
    for (int i = 0; i < (given != 0 ? 1 : 2) && r == 0 && !interrupted; i++) {
        options->depth = given != 0 ? given : both[i];
        r = compare_fake(options, &json);
    }
    if (json.file != NULL) {
        json_end(&json, ']');
        r |= json_close(&json, options->json);
    }
    return r;
}

int nop_main(int argc, char **argv)
{
    struct options options;
    options_parse(OPTION_SET_NOP, argc, argv, &options);
    return exit_code(options.fake_enter ? run_fake(&options) : run_engine(&options));
}

static int run_main(enum option_set set, int argc, char **argv)
{
    struct options options;
    options_parse(set, argc, argv, &options);
    return exit_code(run_engine(&options));
}

int file_main(int argc, char **argv)
{
    return run_main(OPTION_SET_FILE, argc, argv);
}

int echo_main(int argc, char **argv)
{
    return run_main(OPTION_SET_ECHO, argc, argv);
}

int offload_main(int argc, char **argv)
{
    return run_main(OPTION_SET_OFFLOAD, argc, argv);
}
