/* SPDX-License-Identifier: MIT */
/* perf/timer.c: the subcommand `timer`: runs both measurements and shows them. */
#include "timer.h"

#include <stdio.h>
#include <string.h>

#include "interval.h"
#include "json.h"
#include "machine.h"
#include "options.h"
#include "report.h"

static const double percents[] = {50, 99};
static const char *const percent_names[] = {"p50", "p99"};

static void print_costs(const struct timer_costs *costs)
{
    printf("%u timers, ns each\n", costs->timers);
    printf("  start                    %8.1f\n", costs->start);
    printf("  cancel, random order     %8.1f   (cancel to callback; the call itself %.1f)\n",
           costs->cancel, costs->cancel_call);
    printf("  fire, all due at once    %8.1f   (due to callback)\n", costs->fire);
    printf(
        "  re-arm, random order     %8.1f   (cancel, callback, start again; the others live)\n\n",
        costs->rearm);
}

static void print_lateness(struct lateness *lateness)
{
    printf("lateness of %u waits of 50 us to 2 ms, one at a time; timer slack %ld ns\n",
           lateness->samples, lateness->timer_slack_ns);
    printf("  %-4s %12s %18s %8s %22s\n", "", "weir", "clock_nanosleep", "ratio",
           "1.2 x bare + slack");
    for (int i = 0; i < 2; i++) {
        double weir = series_percentile(&lateness->weir, percents[i]);
        double bare = series_percentile(&lateness->bare, percents[i]);
        char figures[3][FIGURE_MAX];
        printf("  %-4s %12s %18s %8.3f %22s\n", percent_names[i],
               format_ns(figures[0], FIGURE_MAX, weir), format_ns(figures[1], FIGURE_MAX, bare),
               bare == 0 ? 0 : weir / bare,
               format_ns(figures[2], FIGURE_MAX, 1.2 * bare + (double)lateness->timer_slack_ns));
    }
}

static void costs_json(struct json *json, const struct timer_costs *costs)
{
    json_integer(json, "timers", costs->timers);
    json_begin(json, "ns_each", '{');
    json_number(json, "start", costs->start);
    json_number(json, "cancel", costs->cancel);
    json_number(json, "cancel_call", costs->cancel_call);
    json_number(json, "fire", costs->fire);
    json_number(json, "rearm", costs->rearm);
    json_end(json, '}');
}

static void lateness_json(struct json *json, struct lateness *lateness)
{
    json_begin(json, "lateness", '{');
    json_integer(json, "samples", lateness->samples);
    json_signed(json, "timer_slack_ns", lateness->timer_slack_ns);
    for (int i = 0; i < 2; i++) {
        double weir = series_percentile(&lateness->weir, percents[i]);
        double bare = series_percentile(&lateness->bare, percents[i]);
        json_begin(json, percent_names[i], '{');
        json_number(json, "weir_ns", weir);
        json_number(json, "clock_nanosleep_ns", bare);
        json_number(json, "ratio", bare == 0 ? 0 : weir / bare);
        json_end(json, '}');
    }
    json_end(json, '}');
}

static int write_json(const char *path, const struct timer_costs *costs, struct lateness *lateness)
{
    struct json json = {.file = json_open(path)};
    if (json.file == NULL) {
        return -1;
    }
    json_begin(&json, NULL, '{');
    json_string(&json, "workload", "timer");
    json_string(&json, "engine", "weir");
    machine_json(&json, "machine");
    if (costs != NULL) {
        costs_json(&json, costs);
    }
    lateness_json(&json, lateness);
    json_end(&json, '}');
    return json_close(&json, path);
}

int timer_main(int argc, char **argv)
{
    struct options options;
    options_parse(OPTION_SET_TIMER, argc, argv, &options);
    if (json_check(options.json) < 0) {
        return 1;
    }
    bool text = options.json == NULL || strcmp(options.json, "-") != 0;
    struct timer_costs costs;
    int r = timer_costs_measure(options.timers, &costs);
    bool have_costs = r == 0;
    if (have_costs && text) {
        print_costs(&costs);
    }
    if (r < 0 && !interrupted) {
        return 1;
    }
    struct lateness lateness;
    r = lateness_measure(options.samples, &lateness);
    if (r == 0) {
        if (text && lateness.samples > 0) {
            print_lateness(&lateness);
        }
        if (options.json != NULL) {
            r = write_json(options.json, have_costs ? &costs : NULL, &lateness);
        }
        series_free(&lateness.weir);
        series_free(&lateness.bare);
    }
    return interrupted ? 130 : r < 0 ? 1 : 0;
}
