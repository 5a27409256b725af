/* SPDX-License-Identifier: MIT */
/* perf/compare.c: the schedule of pairs, and what is computed from them. */
#include "compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "interval.h"
#include "report.h"

/*
 * Pairs after which all processes are ended and started anew: where the memory of one happens to
 * lie moves its figures by 1 to 2 ns an op for all its life, which no number of pairs would
 * average out.
 */
#define GENERATION 4
/* Of echoes: connections land where they land, so every pair has servers and clients of its own. */
#define ECHO_GENERATION 1

/* The pairs of two processes. */
struct pairing {
    struct child *a;
    struct child *b;
    struct series ops_per_s;
    struct series cpu_ns_per_op;
    struct series cpu_ns_difference;
};

/* The intervals of one engine. */
struct record {
    struct series ops_per_s;
    struct series cpu_ns_per_op;
    struct interval total;
};

/* A comparison in progress: the last child and the last pairing are the control's. */
struct match {
    const struct options *options;
    struct workload *workload;
    struct comparison *comparison;
    uint32_t engine_count;
    struct child children[ENGINES_MAX + 1];
    struct record records[ENGINES_MAX];
    uint32_t pairing_count;
    struct pairing pairings[ENGINES_MAX];
};

static void take_notes(struct record *record, const struct interval *interval)
{
    series_add(&record->ops_per_s, interval_ops_per_s(interval));
    series_add(&record->cpu_ns_per_op, interval_cpu_ns_per_op(interval));
    interval_add(&record->total, interval);
}

static double quotient(double a, double b)
{
    return b == 0 ? 0 : a / b;
}

/*
 * One pair: b first if its number is odd. 0, or -1 after a message.
 *
 * Both run on the same CPU, two pairs on each: CPUs differ, most of all where others share the
 * machine, and left to itself the kernel keeps each process on the one it last ran on.
 */
static int run_pair(struct match *match, struct pairing *pairing, uint32_t number, bool is_control)
{
    bool backwards = number % 2 == 1;
    const struct options *options = match->options;
    struct child *order[2] = {backwards ? pairing->b : pairing->a,
                              backwards ? pairing->a : pairing->b};
    struct interval results[2];
    for (int i = 0; i < 2; i++) {
        child_place(order[i], number / 2);
        if (child_run(order[i], options->interval_s, options->every, &results[i]) < 0) {
            return -1;
        }
    }
    const struct interval *a = &results[backwards ? 1 : 0];
    const struct interval *b = &results[backwards ? 0 : 1];
    double a_cpu_ns = interval_cpu_ns_per_op(a);
    double b_cpu_ns = interval_cpu_ns_per_op(b);
    series_add(&pairing->ops_per_s, quotient(interval_ops_per_s(a), interval_ops_per_s(b)));
    series_add(&pairing->cpu_ns_per_op, quotient(a_cpu_ns, b_cpu_ns));
    series_add(&pairing->cpu_ns_difference, a_cpu_ns - b_cpu_ns);
    if (!is_control) {
        take_notes(&match->records[pairing->a - match->children], a);
        take_notes(&match->records[pairing->b - match->children], b);
    }
    return 0;
}

static void watch_residency(struct match *match)
{
    struct comparison *comparison = match->comparison;
    if (!comparison->hot) {
        return;
    }
    double share = workload_resident(match->workload);
    if (share < comparison->resident_lowest) {
        comparison->resident_lowest = share;
    }
    if (share < 1) {
        workload_warm(match->workload);
    }
}

static void show_progress(const struct match *match, uint32_t pair)
{
    char what[128];
    const struct series *ratios = &match->pairings[0].cpu_ns_per_op;
    describe_workload(what, sizeof what, match->workload, match->options);
    if (ratios->count == 0) {
        progress("%s: pair 1 of %u", what, match->options->pairs);
    } else {
        progress("%s: pair %u of %u, last CPU ratio %.3f", what, pair + 1, match->options->pairs,
                 ratios->values[ratios->count - 1]);
    }
}

/* A short run of each engine: memory is touched, workers exist, the governor has woken up. */
static int run_in(struct match *match)
{
    struct interval ignored;
    for (uint32_t i = 0; i <= match->engine_count; i++) {
        if (child_run(&match->children[i], 0.05, match->options->every, &ignored) < 0) {
            return -1;
        }
    }
    return 0;
}

static int start_children(struct match *match)
{
    for (uint32_t i = 0; i <= match->engine_count; i++) {
        const struct contender *contender =
            &match->options->contenders[i < match->engine_count ? i : 0];
        if (child_open(contender, match->workload, &match->children[i]) < 0) {
            return -1;
        }
    }
    return run_in(match);
}

static void end_children(struct match *match)
{
    for (uint32_t i = 0; i <= match->engine_count; i++) {
        child_close(&match->children[i]);
    }
}

/* Adds the first engine's numbers of its tasks to those of its earlier processes. */
static int collect_tasks(struct match *match)
{
    struct comparison *comparison = match->comparison;
    struct task_row *rows = calloc(TASK_ROWS_MAX, sizeof *rows);
    int count = rows == NULL ? -1 : child_tasks(&match->children[0], rows, TASK_ROWS_MAX);
    for (int i = 0; i < count; i++) {
        uint32_t at = 0;
        while (at < comparison->task_count &&
               strcmp(comparison->tasks[at].name, rows[i].name) != 0) {
            at++;
        }
        if (at == TASK_ROWS_MAX) {
            continue;
        }
        struct task_row *sum = &comparison->tasks[at];
        comparison->task_count += at == comparison->task_count;
        memcpy(sum->name, rows[i].name, sizeof sum->name);
        sum->finished += rows[i].finished;
        for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            weir_histogram_merge(&sum->stages[stage], &rows[i].stages[stage]);
        }
    }
    free(rows);
    return count < 0 ? -1 : 0;
}

/* Whether the control takes part: evenly spread, always two neighbours, one in either order. */
static bool has_control(const struct options *options, uint32_t pair)
{
    uint64_t wanted = options->control_pairs != 0 ? options->control_pairs : options->pairs;
    uint32_t couple = pair / 2;
    return (couple + 1) * wanted / options->pairs > couple * wanted / options->pairs;
}

/* The pairs of one generation of processes. */
static int run_generation(struct match *match, uint32_t from, uint32_t to)
{
    for (uint32_t pair = from; pair < to && !interrupted; pair++) {
        show_progress(match, pair);
        watch_residency(match);
        for (uint32_t i = 0; i < match->pairing_count && !interrupted; i++) {
            bool is_control = i + 1 == match->pairing_count;
            if (is_control && !has_control(match->options, pair)) {
                continue;
            }
            if (run_pair(match, &match->pairings[i], pair, is_control) < 0) {
                return -1;
            }
        }
        match->comparison->pairs = pair + !interrupted;
    }
    return collect_tasks(match);
}

static int run_pairs(struct match *match)
{
    uint32_t pairs = match->options->pairs;
    uint32_t most = match->workload->job == JOB_ECHO ? ECHO_GENERATION : GENERATION;
    for (uint32_t from = 0; from < pairs && !interrupted; from += most) {
        uint32_t to = pairs - from < most ? pairs : from + most;
        int r = start_children(match);
        if (r == 0) {
            r = run_generation(match, from, to);
        }
        end_children(match);
        if (r < 0) {
            return -1;
        }
    }
    watch_residency(match);
    progress_clear();
    return 0;
}

static void make_pairings(struct match *match)
{
    for (uint32_t i = 0; i <= match->engine_count; i++) {
        if (i != 1) { /* the second engine is the one compared with */
            struct child *b = &match->children[i == match->engine_count ? i : 1];
            struct child *a = &match->children[i == match->engine_count ? 0 : i];
            match->pairings[match->pairing_count++] = (struct pairing){.a = a, .b = b};
        }
    }
}

static struct ratio conclude(const struct match *match, struct pairing *pairing)
{
    const struct child *control = &match->children[match->engine_count];
    return (struct ratio){
        .a = &match->options->contenders[pairing->a - match->children],
        .b = &match->options->contenders[pairing->b == control ? 0 : pairing->b - match->children],
        .ops_per_s = series_summary(&pairing->ops_per_s),
        .cpu_ns_per_op = series_summary(&pairing->cpu_ns_per_op),
        .cpu_ns_difference = series_summary(&pairing->cpu_ns_difference),
    };
}

static void conclude_all(struct match *match)
{
    struct comparison *comparison = match->comparison;
    comparison->engine_count = match->engine_count;
    for (uint32_t i = 0; i < match->engine_count; i++) {
        struct record *record = &match->records[i];
        comparison->engines[i] = (struct portrait){
            .contender = &match->options->contenders[i],
            .ops_per_s = series_summary(&record->ops_per_s),
            .cpu_ns_per_op = series_summary(&record->cpu_ns_per_op),
            .latency = record->total.latency,
        };
    }
    comparison->ratio_count = match->pairing_count - 1;
    for (uint32_t i = 0; i < comparison->ratio_count; i++) {
        comparison->ratios[i] = conclude(match, &match->pairings[i]);
    }
    comparison->control = conclude(match, &match->pairings[match->pairing_count - 1]);
}

static void free_match(struct match *match)
{
    for (uint32_t i = 0; i < match->engine_count; i++) {
        series_free(&match->records[i].ops_per_s);
        series_free(&match->records[i].cpu_ns_per_op);
    }
    for (uint32_t i = 0; i < match->pairing_count; i++) {
        series_free(&match->pairings[i].ops_per_s);
        series_free(&match->pairings[i].cpu_ns_per_op);
        series_free(&match->pairings[i].cpu_ns_difference);
    }
    free(match);
}

int compare_engines(const struct options *options, struct workload *workload,
                    struct comparison *ret_comparison)
{
    struct comparison comparison = {
        .hot = workload_is_hot(workload),
        .tasks = calloc(TASK_ROWS_MAX, sizeof *comparison.tasks),
    };
    struct match *match = calloc(1, sizeof *match);
    if (match == NULL || comparison.tasks == NULL) {
        complain("no memory");
        free(match);
        comparison_free(&comparison);
        return -1;
    }
    match->options = options;
    match->workload = workload;
    workload->pin = true; /* run_pair() does */
    match->comparison = &comparison;
    match->engine_count = options->engine_count;
    make_pairings(match);
    if (comparison.hot) {
        progress("reading the file into the page cache");
        comparison.resident_before = workload_warm(workload);
        comparison.resident_lowest = comparison.resident_before;
    }
    int r = run_pairs(match);
    conclude_all(match);
    free_match(match);
    if (r < 0) {
        comparison_free(&comparison);
        return -1;
    }
    *ret_comparison = comparison;
    return 0;
}

void comparison_free(struct comparison *comparison)
{
    free(comparison->tasks);
    comparison->tasks = NULL;
}
