/* SPDX-License-Identifier: MIT */
/* perf/gate_tasks.c: a paced foreground beside a saturating background, by five sets of rules. */
#include <stdio.h>
#include <string.h>

#include "gate.h"
#include "interval.h"
#include "json.h"
#include "report.h"

/*
 * The goal of the foreground's FLIGHT, over its p99 alone: an op finds a turn running, waits for
 * its end, and is in flight for the next one; so less than half of the three times that are wanted.
 */
#define GOAL_OVER_ALONE 1.25

static const char *const keys[TASK_FIGURES] = {
    [TASK_CAPACITY] = "capacity_per_s",
    [TASK_FRONT_PER_S] = "foreground_per_s",
    [TASK_FRONT_REFUSED] = "foreground_refused_share",
    [TASK_FRONT_P50] = "foreground_p50_ns",
    [TASK_FRONT_P99] = "foreground_p99_ns",
    [TASK_FRONT_P999] = "foreground_p999_ns",
    [TASK_FRONT_RATIO] = "foreground_p99_over_alone",
    [TASK_BACK_PER_S] = "background_bytes_per_s",
    [TASK_BACK_RATIO] = "background_over_rest",
    [TASK_TURN_P50] = "turn_p50_ns",
    [TASK_TURN_P99] = "turn_p99_ns",
    [TASK_TURN_MAX] = "turn_max_ns",
};

static const struct {
    const char *key;
    const char *name;
} sharings[SHARING_COUNT] = {
    [SHARING_FRONT_ALONE] = {"foreground_alone", "foreground alone"},
    [SHARING_BACK_ALONE] = {"background_alone", "background alone"},
    [SHARING_OFF] = {"shares_off", "both, shares off"},
    [SHARING_ON] = {"shares_on", "both, shares on"},
    [SHARING_GOAL] = {"goal", "both, latency goal"},
};

const char *sharing_name(enum sharing sharing)
{
    return sharings[sharing].name;
}

/* What the ratios of a round are computed from. */
struct round {
    double front_p99_ns[SHARING_COUNT];
    double front_bytes_per_s[SHARING_COUNT];
    double back_bytes_per_s[SHARING_COUNT];
};

static void add_trial(const struct trial *trial, enum sharing sharing, struct tasks *tasks,
                      struct round *round)
{
    struct sharing_row *row = &tasks->rows[sharing];
    const struct traffic *front = &trial->traffic[FRONT];
    double p99_ns = (double)weir_histogram_percentile(&front->intended, 99);
    double front_per_s = (double)trial->in_time[FRONT] / trial->wall_s;
    double back_bytes_per_s = (double)trial->in_time[BACK] * BACK_BLOCK / trial->wall_s;
    double refused = front->offered == 0 ? 0 : (double)front->refused / (double)front->offered;
    const struct {
        enum task_figure figure;
        double value;
    } values[] = {
        {TASK_CAPACITY, trial->capacity_per_s},
        {TASK_FRONT_PER_S, front_per_s},
        {TASK_FRONT_REFUSED, refused},
        {TASK_FRONT_P50, (double)weir_histogram_percentile(&front->intended, 50)},
        {TASK_FRONT_P99, p99_ns},
        {TASK_FRONT_P999, (double)weir_histogram_percentile(&front->intended, 99.9)},
        {TASK_BACK_PER_S, back_bytes_per_s},
        {TASK_TURN_P50, (double)weir_histogram_percentile(&trial->turns, 50)},
        {TASK_TURN_P99, (double)weir_histogram_percentile(&trial->turns, 99)},
        {TASK_TURN_MAX, (double)trial->turns.max},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        series_add(&row->series[values[i].figure], values[i].value);
    }
    weir_histogram_merge(&row->turns, &trial->turns);
    round->front_p99_ns[sharing] = p99_ns;
    round->front_bytes_per_s[sharing] = front_per_s * FRONT_BLOCK;
    round->back_bytes_per_s[sharing] = back_bytes_per_s;
}

static void add_ratios(struct tasks *tasks, const struct round *round)
{
    for (int i = SHARING_OFF; i < SHARING_COUNT; i++) {
        double rest = round->back_bytes_per_s[SHARING_BACK_ALONE] - round->front_bytes_per_s[i];
        double alone_ns = round->front_p99_ns[SHARING_FRONT_ALONE];
        if (alone_ns > 0 && rest > 0) { /* else a stalled machine */
            double front = round->front_p99_ns[i] / alone_ns;
            series_add(&tasks->rows[i].series[TASK_FRONT_RATIO], front);
            series_add(&tasks->rows[i].series[TASK_BACK_RATIO], round->back_bytes_per_s[i] / rest);
        }
    }
}

/* All five, every other time backwards. */
static int run_round(struct gate_run *run, struct bench *bench, uint32_t number,
                     struct tasks *tasks, struct round *round)
{
    for (int i = 0; i < SHARING_COUNT; i++) {
        enum sharing sharing = (enum sharing)(number % 2 == 0 ? i : SHARING_COUNT - 1 - i);
        struct trial_plan plan;
        char what[160];
        gate_plan(run, &plan);
        plan.kind = TRIAL_TASKS;
        plan.policy = tasks->policy;
        plan.echo = false;
        plan.block = FRONT_BLOCK;
        plan.seconds = run->options->interval_s;
        plan.sharing = sharing;
        /* The first round goes forwards, so there is one. */
        plan.front_goal_ns = (uint64_t)(GOAL_OVER_ALONE * round->front_p99_ns[SHARING_FRONT_ALONE]);
        snprintf(what, sizeof what, "tasks on %s: round %u of %u, %s", policy_name(tasks->policy),
                 number + 1, run->options->rounds, sharing_name(sharing));
        if (gate_try(run, bench, &plan, what) < 0) {
            return -1;
        }
        add_trial(run->trial, sharing, tasks, round);
    }
    add_ratios(tasks, round);
    return 0;
}

int tasks_measure(struct gate_run *run, enum weir_policy policy, struct tasks *ret_tasks)
{
    struct bench bench = {0};
    struct round round = {0};
    ret_tasks->policy = policy;
    int r = bench_start(&run->file, &bench);
    for (uint32_t i = 0; i < run->options->rounds && r == 0; i++) {
        r = run_round(run, &bench, i, ret_tasks, &round);
        ret_tasks->rounds += r == 0;
    }
    bench_end(&bench);
    for (int i = 0; i < SHARING_COUNT; i++) {
        struct sharing_row *row = &ret_tasks->rows[i];
        for (int figure = 0; figure < TASK_FIGURES; figure++) {
            row->figures[figure] = series_summary(&row->series[figure]);
        }
    }
    return interrupted ? 0 : r;
}

static void print_ratio(const struct summary *summary)
{
    if (summary->median == 0) {
        printf(" %20s", "-");
    } else {
        printf("  %5.2f (%5.2f-%5.2f)", summary->median, summary->q1, summary->q3);
    }
}

static void print_row(const struct tasks *tasks, enum sharing sharing)
{
    const struct summary *figures = tasks->rows[sharing].figures;
    char figure[FIGURE_MAX];
    printf("%-19s", sharing_name(sharing));
    for (int i = TASK_FRONT_P50; i <= TASK_FRONT_P999; i++) {
        bool has = sharing != SHARING_BACK_ALONE;
        printf(" %8s", has ? format_ns(figure, sizeof figure, figures[i].median) : "-");
    }
    print_ratio(&figures[TASK_FRONT_RATIO]);
    bool has_back = sharing != SHARING_FRONT_ALONE;
    printf(" %11s",
           has_back ? format_bytes(figure, sizeof figure, (uint64_t)figures[TASK_BACK_PER_S].median)
                    : "-");
    print_ratio(&figures[TASK_BACK_RATIO]);
    printf("\n");
}

void tasks_print(const struct gate_run *run, const struct tasks *tasks)
{
    const struct summary *front = tasks->rows[SHARING_FRONT_ALONE].figures;
    char rate[FIGURE_MAX];
    printf("tasks on %s: foreground of 4 KiB reads, %s/s, a tenth of the capacity; background: %d "
           "random reads of 128 KiB always out\n",
           policy_name(tasks->policy),
           format_count(rate, sizeof rate, front[TASK_FRONT_PER_S].median), BACK_OUT);
    printf("depth %u; medians of %u round%s of %.3g s (quartiles)\n\n", run->options->depth,
           tasks->rounds, tasks->rounds == 1 ? "" : "s", run->options->interval_s);
    printf("%19s%27s%21s%12s%21s\n", "", "foreground", "p99 / alone", "background",
           "/ (alone - foregr.)");
    printf("%19s %8s %8s %8s %32s\n", "", "p50", "p99", "p99.9", "per second");
    for (int i = 0; i < SHARING_COUNT; i++) {
        print_row(tasks, (enum sharing)i);
    }
    printf("wanted with shares on: p99 / alone at most 3, background at least 0.85\n\n");
    print_latency_heading("turns that were not to sleep", 32);
    for (int i = 0; i < SHARING_COUNT; i++) {
        print_latency(sharing_name((enum sharing)i), 32, &tasks->rows[i].turns);
    }
    printf("\n");
}

void tasks_json(struct json *json, const struct tasks *tasks)
{
    json_begin(json, NULL, '{');
    json_string(json, "policy", policy_name(tasks->policy));
    json_integer(json, "rounds", tasks->rounds);
    for (int i = 0; i < SHARING_COUNT; i++) {
        const struct sharing_row *row = &tasks->rows[i];
        json_begin(json, sharings[i].key, '{');
        for (int figure = 0; figure < TASK_FIGURES; figure++) {
            report_quartiles_json(json, keys[figure], &row->figures[figure]);
        }
        report_latency_json(json, "turns_ns", &row->turns);
        json_end(json, '}');
    }
    json_end(json, '}');
}

void tasks_free(struct tasks *tasks)
{
    for (int i = 0; i < SHARING_COUNT; i++) {
        for (int figure = 0; figure < TASK_FIGURES; figure++) {
            series_free(&tasks->rows[i].series[figure]);
        }
    }
}
