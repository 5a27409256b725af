/* SPDX-License-Identifier: MIT */
/* perf/gate.c: runs the experiments that were asked for, one after the other, and writes. */
#include "gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <weir/weir.h>

#include "interval.h"
#include "json.h"
#include "machine.h"
#include "meter.h"
#include "report.h"

#define CAPACITY_S 0.25
#define AROUND_S 0.05 /* what a trial takes beside its load: opening, draining */

static const double sweep_loads[] = {0.5, 0.75, 1, 1.5, 2, 3};
#define SWEEP_LOADS (sizeof sweep_loads / sizeof *sweep_loads)
static const double hold_load = 2;

static double capacity_s(const struct gate_options *options)
{
    return options->interval_s < CAPACITY_S ? options->interval_s : CAPACITY_S;
}

/* Of all that was asked for. Without a gate half of the intervals end early. */
static double plan_seconds(const struct gate_options *options)
{
    unsigned experiments = options->experiments;
    double around_s = capacity_s(options) + AROUND_S;
    double rounds = options->rounds;
    double seconds = 0;
    if (experiments & GATE_SWEEP) {
        uint32_t loads = SWEEP_LOADS;
        seconds += rounds * loads * (2 * around_s + 1.7 * options->interval_s);
    }
    if (experiments & GATE_HOLD) {
        seconds += rounds * 2 * around_s + 1.1 * options->hold_s;
    }
    if (experiments & GATE_TASKS) {
        double policies = options->policy_name == NULL ? 2 : 1;
        seconds += policies * rounds * SHARING_COUNT * (around_s + 1.2 * options->interval_s);
    }
    if (experiments & GATE_GOAL) {
        seconds += rounds * 2 * (around_s + (GOAL_WINDOWS + 1) * options->window_s);
    }
    return seconds;
}

void gate_plan(const struct gate_run *run, struct trial_plan *ret_plan)
{
    const struct gate_options *options = run->options;
    memset(ret_plan, 0, sizeof *ret_plan);
    ret_plan->policy = options->policy;
    ret_plan->echo = options->echo;
    ret_plan->block = options->echo ? 64 : 4096;
    ret_plan->depth = options->depth;
    ret_plan->waiting = options->waiting;
    ret_plan->pool = options->pool;
    ret_plan->peer_work_ns = options->peer_work_ns;
    ret_plan->capacity_s = capacity_s(options);
}

int gate_try(struct gate_run *run, struct bench *bench, const struct trial_plan *plan,
             const char *what)
{
    double past_s = (double)(meter_clock() - run->started_ns) / 1e9;
    double left_s = run->planned_s > past_s ? run->planned_s - past_s : 0;
    progress("%s, about %.0f s left", what, left_s);
    if (!plan->echo) {
        double share = workload_warm(&run->file);
        run->resident_lowest = share < run->resident_lowest ? share : run->resident_lowest;
    }
    int r = interrupted ? -1 : bench_try(bench, plan, run->trial);
    progress_clear();
    return r < 0 || run->trial->cut ? -1 : 0;
}

const char *gate_policy(const struct gate_run *run)
{
    return run->trial->backend[0] != '\0' ? run->trial->backend : policy_name(run->options->policy);
}

/* --- the experiments -------------------------------------------------------------------------- */

static bool shows_text(const struct gate_run *run)
{
    const char *json = run->options->file.json;
    return json == NULL || strcmp(json, "-") != 0;
}

static int run_load(struct gate_run *run, struct gate_results *results)
{
    const struct gate_options *options = run->options;
    int r = 0;
    if (options->experiments & GATE_SWEEP) {
        r = load_measure(run, "sweep", sweep_loads, SWEEP_LOADS, options->interval_s,
                         &results->sweep);
        if (results->sweep.rounds > 0 && shows_text(run)) {
            load_print_sweep(run, &results->sweep);
        }
    }
    if (r == 0 && !interrupted && options->experiments & GATE_HOLD) {
        r = load_measure(run, "hold", &hold_load, 1, options->hold_s / options->rounds,
                         &results->hold);
        if (results->hold.rounds > 0 && shows_text(run)) {
            load_print_hold(run, &results->hold);
        }
    }
    return r;
}

/* Whether a loop opens with it; if not, a message. */
static bool opens(enum weir_policy policy)
{
    struct weir_decision decision = {0};
    struct weir_loop *loop;
    if (weir_loop_open(&(struct weir_options){.policy = policy, .decision = &decision}, &loop) ==
        0) {
        weir_loop_close(loop, 0, NULL);
        return true;
    }
    complain("no %s here: %s", policy_name(policy),
             decision.rejected_count > 0 ? decision.rejected[0].hint : "it does not open");
    return false;
}

static int run_tasks(struct gate_run *run, struct gate_results *results)
{
    const struct gate_options *options = run->options;
    enum weir_policy both[] = {WEIR_IO_URING, WEIR_EPOLL};
    enum weir_policy one[] = {options->policy};
    bool given = options->policy_name != NULL;
    int r = 0;
    for (int i = 0; i < (given ? 1 : 2) && r == 0 && !interrupted; i++) {
        enum weir_policy policy = given ? one[i] : both[i];
        if (!given && !opens(policy)) {
            continue;
        }
        struct tasks *tasks = &results->tasks[results->tasks_count++];
        r = tasks_measure(run, policy, tasks);
        if (tasks->rounds > 0 && shows_text(run)) {
            tasks_print(run, tasks);
        }
    }
    return r;
}

static int run_all(struct gate_run *run, struct gate_results *results)
{
    unsigned experiments = run->options->experiments;
    int r = run_load(run, results);
    if (r == 0 && !interrupted && experiments & GATE_TASKS) {
        r = run_tasks(run, results);
    }
    if (r == 0 && !interrupted && experiments & GATE_GOAL) {
        r = goal_measure(run, &results->goal);
        if (results->goal.rounds > 0 && shows_text(run)) {
            goal_print(run, &results->goal);
        }
    }
    if (gate_needs_file(run->options) && shows_text(run)) {
        printf("%.1f %% of the file in the page cache before every interval\n",
               100 * run->resident_lowest);
    }
    return r;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void options_json(struct json *json, const struct gate_run *run)
{
    const struct gate_options *options = run->options;
    json_begin(json, "options", '{');
    json_string(json, "workload", options->echo ? "echo" : "file");
    json_string(json, "policy", gate_policy(run));
    json_integer(json, "depth", options->depth);
    json_integer(json, "waiting", options->waiting);
    json_integer(json, "pool", options->pool);
    json_integer(json, "rounds", options->rounds);
    json_integer(json, "peer_work_ns", options->peer_work_ns);
    json_integer(json, "size", options->file.size);
    json_end(json, '}');
}

static int write_json(const struct gate_run *run, const struct gate_results *results)
{
    const char *path = run->options->file.json;
    struct json json = {.file = json_open(path)};
    if (json.file == NULL) {
        return -1;
    }
    json_begin(&json, NULL, '{');
    json_string(&json, "workload", "gate");
    machine_json(&json, "machine");
    options_json(&json, run);
    json_bool(&json, "complete", !interrupted);
    json_number(&json, "residency_lowest", run->resident_lowest);
    if (results->sweep.rounds > 0) {
        load_json(&json, "sweep", &results->sweep);
    }
    if (results->hold.rounds > 0) {
        load_json(&json, "hold", &results->hold);
    }
    json_begin(&json, "tasks", '[');
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        tasks_json(&json, &results->tasks[i]);
    }
    json_end(&json, ']');
    if (results->goal.rounds > 0) {
        goal_json(&json, "goal", &results->goal);
    }
    json_end(&json, '}');
    return json_close(&json, path);
}

static int write_all(const struct gate_run *run, const struct gate_results *results)
{
    const struct gate_options *options = run->options;
    int r = 0;
    if (options->file.json != NULL) {
        r |= write_json(run, results);
    }
    if (options->html != NULL) {
        r |= gate_write_html(run, results);
    }
    if (options->svg_dir != NULL) {
        r |= gate_write_svgs(run, results);
    }
    return r;
}

/* Before a long run. 0, or -1 after a message. */
static int check_outputs(const struct gate_options *options)
{
    struct stat about;
    if (options->svg_dir != NULL &&
        (stat(options->svg_dir, &about) < 0 || !S_ISDIR(about.st_mode))) {
        complain("%s is no folder; give another --svg-dir", options->svg_dir);
        return -1;
    }
    return json_check(options->file.json) < 0 || json_check(options->html) < 0 ? -1 : 0;
}

static void free_results(struct gate_results *results)
{
    load_free(&results->sweep);
    load_free(&results->hold);
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        tasks_free(&results->tasks[i]);
    }
    goal_free(&results->goal);
}

int gate_main(int argc, char **argv)
{
    struct gate_options options;
    gate_options_parse(argc, argv, &options);
    struct gate_run run = {
        .options = &options,
        .resident_lowest = 1,
        .planned_s = plan_seconds(&options),
    };
    if (check_outputs(&options) < 0 || workload_open(&options.file, &run.file) < 0) {
        return interrupted ? 130 : 1;
    }
    struct gate_results *results = calloc(1, sizeof *results);
    run.trial = calloc(1, sizeof *run.trial);
    int r = -1;
    if (results == NULL || run.trial == NULL) {
        complain("no memory");
    } else {
        run.started_ns = meter_clock();
        r = run_all(&run, results);
        r |= write_all(&run, results);
        free_results(results);
    }
    free(results);
    free(run.trial);
    workload_close(&run.file);
    return interrupted ? 130 : r < 0 ? 1 : 0;
}
