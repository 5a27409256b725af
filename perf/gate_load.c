/* SPDX-License-Identifier: MIT */
/* perf/gate_load.c: load at multiples of the capacity, with the gate and as if there were none. */
#include <stdio.h>

#include "gate.h"
#include "interval.h"
#include "json.h"
#include "report.h"

static const char *const keys[LOAD_FIGURES] = {
    [LOAD_CAPACITY] = "capacity_per_s",      [LOAD_OFFERED] = "offered_per_s",
    [LOAD_ACCEPTED] = "accepted_per_s",      [LOAD_FINISHED] = "finished_per_s",
    [LOAD_REFUSED_SHARE] = "refused_share",  [LOAD_INTENDED_P50] = "intended_p50_ns",
    [LOAD_INTENDED_P99] = "intended_p99_ns", [LOAD_INTENDED_P999] = "intended_p999_ns",
    [LOAD_BORN_P50] = "born_p50_ns",         [LOAD_BORN_P99] = "born_p99_ns",
    [LOAD_BORN_P999] = "born_p999_ns",       [LOAD_BOUND_RATIO] = "born_p99_over_bound",
    [LOAD_RSS_GROWTH] = "rss_growth_bytes",  [LOAD_SECONDS] = "seconds",
};

static void put(struct load_point *point, enum load_figure figure, double value)
{
    series_add(&point->series[figure], value);
}

static void put_latency(struct load_point *point, enum load_figure p50,
                        const struct weir_histogram *histogram)
{
    put(point, p50, (double)weir_histogram_percentile(histogram, 50));
    put(point, p50 + 1, (double)weir_histogram_percentile(histogram, 99));
    put(point, p50 + 2, (double)weir_histogram_percentile(histogram, 99.9));
}

static void add_trial(const struct gate_run *run, struct load_point *point)
{
    const struct trial *trial = run->trial;
    const struct traffic *traffic = &trial->traffic[FRONT];
    double finished_per_s = (double)trial->in_time[FRONT] / trial->wall_s;
    double places = run->options->waiting + run->options->depth;
    double born_p99_s = (double)weir_histogram_percentile(&traffic->born, 99) / 1e9;
    put(point, LOAD_CAPACITY, trial->capacity_per_s);
    put(point, LOAD_OFFERED, (double)traffic->offered / trial->offered_s);
    put(point, LOAD_ACCEPTED, (double)traffic->accepted / trial->offered_s);
    put(point, LOAD_FINISHED, finished_per_s);
    put(point, LOAD_REFUSED_SHARE,
        traffic->offered == 0 ? 0 : (double)traffic->refused / (double)traffic->offered);
    put_latency(point, LOAD_INTENDED_P50, &traffic->intended);
    put_latency(point, LOAD_BORN_P50, &traffic->born);
    put(point, LOAD_BOUND_RATIO, born_p99_s * finished_per_s / places);
    put(point, LOAD_RSS_GROWTH, (double)(trial->rss_max - trial->rss_min));
    put(point, LOAD_SECONDS, trial->offered_s);
    point->rss_min =
        point->trials == 0 || trial->rss_min < point->rss_min ? trial->rss_min : point->rss_min;
    point->rss_max = trial->rss_max > point->rss_max ? trial->rss_max : point->rss_max;
    point->offered += traffic->offered;
    point->accepted += traffic->accepted;
    point->refused += traffic->refused;
    point->cancelled += traffic->cancelled;
    point->exhausted += trial->exhausted;
    point->trials++;
}

/* One load on both loops, `backwards`: without the gate first. */
static int run_pair(struct gate_run *run, struct bench benches[2], struct load *load,
                    uint32_t first, bool backwards, const char *what)
{
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t which = backwards ? 1 - i : i;
        struct load_point *point = &load->points[first + which];
        struct trial_plan plan;
        gate_plan(run, &plan);
        plan.kind = TRIAL_LOAD;
        plan.gated = point->gated;
        plan.multiplier = point->multiplier;
        plan.seconds = load->seconds;
        char text[160];
        snprintf(text, sizeof text, "%s, %.2g times the capacity, gate %s", what, point->multiplier,
                 point->gated ? "on" : "off");
        if (gate_try(run, &benches[which], &plan, text) < 0) {
            return -1;
        }
        add_trial(run, point);
    }
    return 0;
}

static int run_rounds(struct gate_run *run, const char *name, struct bench benches[2],
                      struct load *load)
{
    for (uint32_t round = 0; round < run->options->rounds; round++) {
        char what[96];
        snprintf(what, sizeof what, "%s: round %u of %u", name, round + 1, run->options->rounds);
        for (uint32_t i = 0; i < load->count; i += 2) {
            if (run_pair(run, benches, load, i, round % 2 == 1, what) < 0) {
                return -1;
            }
        }
        load->rounds = round + 1;
    }
    return 0;
}

int load_measure(struct gate_run *run, const char *name, const double *multipliers, uint32_t count,
                 double seconds, struct load *ret_load)
{
    struct load *load = ret_load;
    struct bench benches[2] = {0};
    load->seconds = seconds;
    load->count = 2 * count;
    for (uint32_t i = 0; i < load->count; i++) {
        load->points[i].multiplier = multipliers[i / 2];
        load->points[i].gated = i % 2 == 0;
    }
    int r = -1;
    if (bench_start(&run->file, &benches[0]) == 0 && bench_start(&run->file, &benches[1]) == 0) {
        r = run_rounds(run, name, benches, load);
    }
    bench_end(&benches[0]);
    bench_end(&benches[1]);
    for (uint32_t i = 0; i < load->count; i++) {
        for (int figure = 0; figure < LOAD_FIGURES; figure++) {
            struct load_point *point = &load->points[i];
            point->figures[figure] = series_summary(&point->series[figure]);
        }
    }
    return interrupted ? 0 : r;
}

/* --- for people ------------------------------------------------------------------------------- */

static void describe(const struct gate_run *run, const char *name, const struct load *load)
{
    const struct gate_options *options = run->options;
    char figure[FIGURE_MAX];
    printf("%s: %s on %s, depth %u, %u waiting; %u round%s of %.3g s\n", name,
           options->echo ? "sends of 64 bytes to an echo peer" : "4 KiB random reads, page cache",
           gate_policy(run), options->depth, options->waiting, load->rounds,
           load->rounds == 1 ? "" : "s", load->seconds);
    printf("capacity %s ops/s, closed loop at that depth; medians of the rounds\n",
           format_count(figure, sizeof figure, load->points[0].figures[LOAD_CAPACITY].median));
}

static void print_latencies(const struct load_point *point, enum load_figure p50)
{
    for (int i = 0; i < 3; i++) {
        char figure[FIGURE_MAX];
        printf(" %8s", format_ns(figure, sizeof figure, point->figures[(int)p50 + i].median));
    }
}

static void print_point(const struct load_point *point)
{
    static const enum load_figure rates[] = {LOAD_OFFERED, LOAD_ACCEPTED, LOAD_FINISHED};
    char figure[FIGURE_MAX];
    printf("%5.2f %-4s", point->multiplier, point->gated ? "on" : "off");
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        printf(" %7s", format_count(figure, sizeof figure, point->figures[rates[i]].median));
    }
    printf(" %6.1f%%", 100 * point->figures[LOAD_REFUSED_SHARE].median);
    print_latencies(point, LOAD_INTENDED_P50);
    print_latencies(point, LOAD_BORN_P50);
    printf(" %9s",
           format_bytes(figure, sizeof figure, (uint64_t)point->figures[LOAD_RSS_GROWTH].median));
    if (point->exhausted > 0) {
        printf("  ended after %.2f s", point->figures[LOAD_SECONDS].median);
    }
    printf("\n");
}

static void explain_exhausted(const struct gate_run *run, const struct load *load)
{
    uint32_t exhausted = 0;
    uint64_t cancelled = 0;
    for (uint32_t i = 0; i < load->count; i++) {
        exhausted += load->points[i].exhausted;
        cancelled += load->points[i].cancelled;
    }
    if (exhausted > 0) {
        printf("%u interval%s ended early: all %u requests of the pool were out (--pool)\n",
               exhausted, exhausted == 1 ? "" : "s", run->options->pool);
    }
    if (cancelled > 0) {
        printf("%llu ops were still out 2 s after their interval and were cancelled: from intended "
               "they count with the age that they had\n",
               (unsigned long long)cancelled);
    }
}

static void print_table(const struct gate_run *run, const struct load *load)
{
    printf("\n%41s%27s%27s\n", "", "from intended start", "from born");
    printf(" load gate %7s %7s %7s %7s", "offered", "accept", "finish", "refused");
    printf(" %8s %8s %8s %8s %8s %8s %9s\n", "p50", "p99", "p99.9", "p50", "p99", "p99.9",
           "memory");
    for (uint32_t i = 0; i < load->count; i++) {
        print_point(&load->points[i]);
    }
    explain_exhausted(run, load);
}

void load_print_sweep(const struct gate_run *run, const struct load *load)
{
    describe(run, "sweep", load);
    print_table(run, load);
    printf("\n");
}

void load_print_hold(const struct gate_run *run, const struct load *load)
{
    const struct load_point *gated = &load->points[0];
    const struct summary *ratio = &gated->figures[LOAD_BOUND_RATIO];
    char figure[FIGURE_MAX];
    describe(run, "hold", load);
    print_table(run, load);
    printf("with the gate: p99 from born / ((waiting + depth) / throughput): %.2f (%.2f to %.2f); "
           "wanted: at most 1.5\n",
           ratio->median, ratio->q1, ratio->q3);
    printf("  resident memory over all rounds, max - min: %s; wanted: under 1 MiB\n",
           format_bytes(figure, sizeof figure, gated->rss_max - gated->rss_min));
    printf("  %llu offered = %llu accepted + %llu refused\n\n", (unsigned long long)gated->offered,
           (unsigned long long)gated->accepted, (unsigned long long)gated->refused);
}

/* --- for programs ----------------------------------------------------------------------------- */

static void point_json(struct json *json, const struct load_point *point)
{
    json_begin(json, NULL, '{');
    json_number(json, "multiplier", point->multiplier);
    json_bool(json, "gate", point->gated);
    json_integer(json, "trials", point->trials);
    json_integer(json, "exhausted", point->exhausted);
    json_integer(json, "offered", point->offered);
    json_integer(json, "accepted", point->accepted);
    json_integer(json, "refused", point->refused);
    json_integer(json, "cancelled", point->cancelled);
    json_integer(json, "rss_min_bytes", point->rss_min);
    json_integer(json, "rss_max_bytes", point->rss_max);
    for (int figure = 0; figure < LOAD_FIGURES; figure++) {
        report_quartiles_json(json, keys[figure], &point->figures[figure]);
    }
    json_end(json, '}');
}

void load_json(struct json *json, const char *key, const struct load *load)
{
    json_begin(json, key, '{');
    json_integer(json, "rounds", load->rounds);
    json_number(json, "interval_s", load->seconds);
    json_begin(json, "points", '[');
    for (uint32_t i = 0; i < load->count; i++) {
        point_json(json, &load->points[i]);
    }
    json_end(json, ']');
    json_end(json, '}');
}

void load_free(struct load *load)
{
    for (uint32_t i = 0; i < load->count; i++) {
        for (int figure = 0; figure < LOAD_FIGURES; figure++) {
            series_free(&load->points[i].series[figure]);
        }
    }
}
