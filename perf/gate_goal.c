/* SPDX-License-Identifier: MIT */
/* perf/gate_goal.c: load that jumps, with a latency goal and without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "interval.h"
#include "json.h"
#include "report.h"

static bool is_held(const struct goal_trial *trial, const struct window *window)
{
    return (double)window->flight_p99_ns <= GOAL_SLACK * (double)trial->goal_ns;
}

static void add_trial(const struct trial *trial, struct goal_mode *mode)
{
    struct goal_trial *into = &mode->trials[mode->count++];
    into->goal_ns = trial->goal_ns;
    into->capacity_per_s = trial->capacity_per_s;
    into->window_count = trial->window_count;
    memcpy(into->windows, trial->windows, sizeof into->windows);
}

static int run_rounds(struct gate_run *run, struct bench *bench, struct goal *goal)
{
    for (uint32_t i = 0; i < 2 * run->options->rounds; i++) {
        uint32_t round = i / 2;
        bool with = i % 2 == round % 2;
        struct trial_plan plan;
        char what[96];
        gate_plan(run, &plan);
        plan.kind = TRIAL_GOAL;
        plan.echo = false;
        plan.block = FRONT_BLOCK;
        plan.gated = with;
        plan.seconds = goal->window_s;
        plan.windows = GOAL_WINDOWS;
        snprintf(what, sizeof what, "goal: round %u of %u, %s the goal", round + 1,
                 run->options->rounds, with ? "with" : "without");
        if (gate_try(run, bench, &plan, what) < 0) {
            return -1;
        }
        add_trial(run->trial, with ? &goal->with : &goal->without);
        goal->rounds = (i + 1) / 2;
    }
    return 0;
}

static void sum_up(struct goal_mode *mode)
{
    struct series ratio = {0};
    struct series low = {0};
    struct series high = {0};
    for (uint32_t i = 0; mode->trials != NULL && i < mode->count; i++) {
        const struct goal_trial *trial = &mode->trials[i];
        for (uint32_t k = GOAL_START; k < trial->window_count; k++) {
            const struct window *window = &trial->windows[k];
            mode->windows++;
            mode->held += is_held(trial, window);
            series_add(&ratio, (double)window->flight_p99_ns / (double)trial->goal_ns);
            series_add(window->multiplier < 1 ? &low : &high, window->ops_per_s);
        }
    }
    mode->ratio = series_summary(&ratio);
    mode->low_per_s = series_summary(&low);
    mode->high_per_s = series_summary(&high);
    series_free(&ratio);
    series_free(&low);
    series_free(&high);
}

int goal_measure(struct gate_run *run, struct goal *ret_goal)
{
    struct goal *goal = ret_goal;
    struct bench bench = {0};
    goal->window_s = run->options->window_s;
    goal->with.trials = calloc(run->options->rounds, sizeof *goal->with.trials);
    goal->without.trials = calloc(run->options->rounds, sizeof *goal->without.trials);
    int r = -1;
    if (goal->with.trials == NULL || goal->without.trials == NULL) {
        complain("no memory; give fewer --rounds");
    } else if (bench_start(&run->file, &bench) == 0) {
        r = run_rounds(run, &bench, goal);
    }
    bench_end(&bench);
    sum_up(&goal->with);
    sum_up(&goal->without);
    return interrupted ? 0 : r;
}

static double share(const struct goal_mode *mode)
{
    return mode->windows == 0 ? 0 : (double)mode->held / (double)mode->windows;
}

static void print_windows(const struct goal_trial *trial)
{
    char figure[FIGURE_MAX];
    for (uint32_t i = 0; i < trial->window_count; i++) {
        const struct window *window = &trial->windows[i];
        printf("  %u: load %.1f  %7s/s", i + 1, window->multiplier,
               format_count(figure, sizeof figure, window->ops_per_s));
        printf("  flight p50 %8s", format_ns(figure, sizeof figure, (double)window->flight_p50_ns));
        printf("  p99 %8s", format_ns(figure, sizeof figure, (double)window->flight_p99_ns));
        printf("  depth at the end %u%s\n", window->depths[WINDOW_SAMPLES - 1],
               i < GOAL_START           ? "  not judged"
               : is_held(trial, window) ? ""
                                        : "  over");
    }
}

static void print_mode(const char *name, const struct goal_mode *mode)
{
    char low[FIGURE_MAX];
    char high[FIGURE_MAX];
    printf("%-13s %3u of %3u windows held, %5.1f %%;  p99 / goal %.2f (%.2f to %.2f);  "
           "%s/s at low load, %s/s at high\n",
           name, mode->held, mode->windows, 100 * share(mode), mode->ratio.median, mode->ratio.q1,
           mode->ratio.q3, format_count(low, sizeof low, mode->low_per_s.median),
           format_count(high, sizeof high, mode->high_per_s.median));
}

void goal_print(const struct gate_run *run, const struct goal *goal)
{
    char figure[FIGURE_MAX];
    printf("goal: p99 of FLIGHT, 4 KiB random reads on %s, depth %u; load jumps between 0.5 and 3 "
           "times the capacity\n",
           gate_policy(run), run->options->depth);
    printf("windows of %.3g s, held: p99 at most %.2f times the goal; wanted: 90 %%\nof all but "
           "the first of a run, where the depth begins as opened\n\n",
           goal->window_s, GOAL_SLACK);
    print_mode("with goal", &goal->with);
    print_mode("without goal", &goal->without);
    if (goal->with.count > 0) {
        const struct goal_trial *last = &goal->with.trials[goal->with.count - 1];
        printf("the last run with the goal, %s:\n",
               format_ns(figure, sizeof figure, (double)last->goal_ns));
        print_windows(last);
    }
    printf("\n");
}

static void trial_json(struct json *json, const struct goal_trial *trial)
{
    json_begin(json, NULL, '{');
    json_integer(json, "goal_ns", trial->goal_ns);
    json_number(json, "capacity_per_s", trial->capacity_per_s);
    json_begin(json, "windows", '[');
    for (uint32_t i = 0; i < trial->window_count; i++) {
        const struct window *window = &trial->windows[i];
        json_begin(json, NULL, '{');
        json_number(json, "multiplier", window->multiplier);
        json_number(json, "finished_per_s", window->ops_per_s);
        json_integer(json, "flight_p50_ns", window->flight_p50_ns);
        json_integer(json, "flight_p99_ns", window->flight_p99_ns);
        json_bool(json, "judged", i >= GOAL_START);
        json_bool(json, "held", is_held(trial, window));
        json_begin(json, "depths", '[');
        for (int k = 0; k < WINDOW_SAMPLES; k++) {
            json_integer(json, NULL, window->depths[k]);
        }
        json_end(json, ']');
        json_end(json, '}');
    }
    json_end(json, ']');
    json_end(json, '}');
}

static void mode_json(struct json *json, const char *key, const struct goal_mode *mode)
{
    json_begin(json, key, '{');
    json_integer(json, "windows", mode->windows);
    json_integer(json, "held", mode->held);
    json_number(json, "held_share", share(mode));
    report_quartiles_json(json, "flight_p99_over_goal", &mode->ratio);
    report_quartiles_json(json, "finished_per_s_at_low_load", &mode->low_per_s);
    report_quartiles_json(json, "finished_per_s_at_high_load", &mode->high_per_s);
    json_begin(json, "trials", '[');
    for (uint32_t i = 0; i < mode->count; i++) {
        trial_json(json, &mode->trials[i]);
    }
    json_end(json, ']');
    json_end(json, '}');
}

void goal_json(struct json *json, const char *key, const struct goal *goal)
{
    json_begin(json, key, '{');
    json_integer(json, "rounds", goal->rounds);
    json_number(json, "window_s", goal->window_s);
    json_number(json, "slack", GOAL_SLACK);
    mode_json(json, "with", &goal->with);
    mode_json(json, "without", &goal->without);
    json_end(json, '}');
}

void goal_free(struct goal *goal)
{
    free(goal->with.trials);
    free(goal->without.trials);
}
