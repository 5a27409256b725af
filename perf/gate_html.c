/* SPDX-License-Identifier: MIT */
/* perf/gate_html.c: one page around the pictures, and the pictures as files of their own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <weir/base.h>

#include "gate_pictures.h"
#include "machine.h"
#include "plot.h"
#include "report.h"

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;"
    "max-width:860px;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}"
    "svg{max-width:100%;height:auto}figure{margin:1rem 0}p,li{max-width:46rem}"
    ".facts{color:var(--soft);font-size:.9rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.8rem;"
    "font-variant-numeric:tabular-nums}"
    "th,td{padding:.15rem .45rem;text-align:right;border-bottom:1px solid var(--grid);"
    "white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:var(--soft);"
    "font-weight:600}";

/* NULL after a message. */
static FILE *open_output(const char *path, const char *option)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        complain("cannot write %s: %s; give another %s", path, strerror(errno), option);
    }
    return file;
}

static int close_output(FILE *file, const char *path, const char *option)
{
    int failed = fflush(file) != 0 || ferror(file);
    failed |= fclose(file) != 0;
    if (failed) {
        complain("cannot write %s: %s; give another %s", path, strerror(errno), option);
    }
    return failed ? -1 : 0;
}

static void put_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<' || *text == '>' || *text == '&') {
            fprintf(file, "&#%d;", *text);
        } else {
            fputc(*text, file);
        }
    }
}

static void put_facts(FILE *file, const struct gate_run *run)
{
    const struct gate_options *options = run->options;
    struct machine machine;
    machine_read(&machine);
    fputs("<p class=\"facts\">", file);
    fprintf(file, "weir %s on %s, Linux ", weir_version(), gate_policy(run));
    put_text(file, machine.kernel);
    fprintf(file, ", %ld CPUs, ", machine.cpus);
    put_text(file, machine.cpu);
    fprintf(file,
            ". Depth %u, %u waiting; %u rounds in alternating order. Capacity moves within seconds "
            "on most machines, so it is measured right before each interval, and figures are "
            "medians of the rounds.</p>\n",
            options->depth, options->waiting, options->rounds);
}

static void put_time(FILE *file, const struct summary *summary)
{
    char text[32];
    fprintf(file, "<td>%s</td>", plot_value(text, summary->median, UNIT_TIME));
}

static void put_count(FILE *file, const struct summary *summary)
{
    char text[FIGURE_MAX];
    fprintf(file, "<td>%s</td>", format_count(text, sizeof text, summary->median));
}

static void put_bytes(FILE *file, double bytes)
{
    char text[32];
    fprintf(file, "<td>%s</td>", plot_value(text, bytes, UNIT_BYTES));
}

static void put_points(FILE *file, const struct load *load)
{
    fputs("<div class=\"wide\"><table><tr><th>load</th><th>gate</th><th>offered/s</th>"
          "<th>finished/s</th><th>refused</th><th>p50</th><th>p99</th><th>p99.9</th>"
          "<th>born p99</th><th>memory</th><th>lasted</th></tr>\n",
          file);
    for (uint32_t i = 0; i < load->count; i++) {
        const struct load_point *point = &load->points[i];
        const struct summary *figures = point->figures;
        fprintf(file, "<tr><td>%.2f</td><td>%s</td>", point->multiplier,
                point->gated ? "on" : "off");
        put_count(file, &figures[LOAD_OFFERED]);
        put_count(file, &figures[LOAD_FINISHED]);
        fprintf(file, "<td>%.1f %%</td>", 100 * figures[LOAD_REFUSED_SHARE].median);
        put_time(file, &figures[LOAD_INTENDED_P50]);
        put_time(file, &figures[LOAD_INTENDED_P99]);
        put_time(file, &figures[LOAD_INTENDED_P999]);
        put_time(file, &figures[LOAD_BORN_P99]);
        put_bytes(file, figures[LOAD_RSS_GROWTH].median);
        fprintf(file, "<td>%.2f s</td></tr>\n", figures[LOAD_SECONDS].median);
    }
    fputs("</table></div>\n", file);
}

static void put_load(FILE *file, const struct gate_run *run, const struct gate_results *results)
{
    if (results->sweep.rounds > 0) {
        fputs("<h2>Latency versus load</h2>\n<figure>", file);
        draw_load(file, run, &results->sweep);
        fputs("</figure>\n<p>Arrivals come on a schedule, whether or not earlier ops are back. "
              "With the gate, what does not fit is refused before it is touched, so what is "
              "accepted stays quick. Without it everything is let in, until no memory is left for "
              "more.</p>\n",
              file);
        put_points(file, &results->sweep);
    }
    if (results->hold.rounds > 0) {
        const struct load_point *gated = &results->hold.points[0];
        char text[32];
        fputs("<h2>Held at twice the capacity</h2>\n", file);
        fprintf(file,
                "<p>With the gate the p99 from born is %.2f times (waiting + depth) / throughput, "
                "and resident memory moved by %s in all rounds; %llu offered = %llu accepted + "
                "%llu refused.</p>\n",
                gated->figures[LOAD_BOUND_RATIO].median,
                plot_value(text, (double)(gated->rss_max - gated->rss_min), UNIT_BYTES),
                (unsigned long long)gated->offered, (unsigned long long)gated->accepted,
                (unsigned long long)gated->refused);
        put_points(file, &results->hold);
    }
}

static void put_sharing(FILE *file, const struct tasks *tasks, enum sharing sharing)
{
    const struct summary *figures = tasks->rows[sharing].figures;
    bool both = sharing >= SHARING_OFF;
    fprintf(file, "<tr><td>%s: %s</td>", policy_name(tasks->policy), sharing_name(sharing));
    if (sharing == SHARING_BACK_ALONE) {
        fputs("<td></td><td></td>", file);
    } else {
        put_time(file, &figures[TASK_FRONT_P50]);
        put_time(file, &figures[TASK_FRONT_P99]);
    }
    fprintf(file, both ? "<td>%.2f</td>" : "<td></td>", figures[TASK_FRONT_RATIO].median);
    if (sharing == SHARING_FRONT_ALONE) {
        fputs("<td></td>", file);
    } else {
        put_bytes(file, figures[TASK_BACK_PER_S].median);
    }
    fprintf(file, both ? "<td>%.2f</td>" : "<td></td>", figures[TASK_BACK_RATIO].median);
    put_time(file, &figures[TASK_TURN_P50]);
    put_time(file, &figures[TASK_TURN_P99]);
    put_time(file, &figures[TASK_TURN_MAX]);
    fputs("</tr>\n", file);
}

static void put_tasks(FILE *file, const struct gate_results *results)
{
    if (results->tasks_count == 0 || results->tasks[0].rounds == 0) {
        return;
    }
    fputs("<h2>Two tasks on one loop</h2>\n<figure>", file);
    draw_tasks(file, results);
    fputs("</figure>\n<p>Reads from the page cache are done inside the enter call, so what a turn "
          "lets in is what the next op waits for. The rest: what the background moves alone, less "
          "the foreground's bytes.</p>\n"
          "<div class=\"wide\"><table><tr><th></th><th>foreground p50</th><th>p99</th>"
          "<th>/ alone</th><th>background/s</th><th>of the rest</th><th>turn p50</th>"
          "<th>p99</th><th>max</th></tr>\n",
          file);
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        for (int sharing = 0; sharing < SHARING_COUNT; sharing++) {
            put_sharing(file, &results->tasks[i], (enum sharing)sharing);
        }
    }
    fputs("</table></div>\n", file);
}

static void put_goal(FILE *file, const struct goal *goal)
{
    if (goal->rounds == 0) {
        return;
    }
    fputs("<h2>A latency goal</h2>\n<figure>", file);
    draw_goal(file, goal);
    fprintf(file,
            "</figure>\n<p>With the goal %u of %u windows of %.3g s had a p99 of at most %.2f "
            "times the goal, without it %u of %u. The goal is twice the p99 of FLIGHT at a tenth "
            "of the capacity, measured beside each run; the first window of a run, where the depth "
            "begins as the loop was opened, is not judged.</p>\n",
            goal->with.held, goal->with.windows, goal->window_s, GOAL_SLACK, goal->without.held,
            goal->without.windows);
}

int gate_write_html(const struct gate_run *run, const struct gate_results *results)
{
    const char *path = run->options->html;
    FILE *file = open_output(path, "--html");
    if (file == NULL) {
        return -1;
    }
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\">"
          "<title>weir: overload</title><style>",
          file);
    plot_write_colours(file);
    fprintf(file, "%s</style></head><body>\n<h1>weir under overload</h1>\n", style);
    put_facts(file, run);
    put_load(file, run, results);
    put_tasks(file, results);
    put_goal(file, &results->goal);
    fputs("</body></html>\n", file);
    return close_output(file, path, "--html");
}

/* Opens one of the pictures' files; NULL after a message. */
static FILE *open_svg(const struct gate_run *run, const char *name, char path[4096])
{
    snprintf(path, 4096, "%s/%s.svg", run->options->svg_dir, name);
    return open_output(path, "--svg-dir");
}

int gate_write_svgs(const struct gate_run *run, const struct gate_results *results)
{
    char path[4096];
    FILE *file;
    int r = 0;
    if (results->sweep.rounds > 0) {
        file = open_svg(run, "load", path);
        if (file != NULL) {
            draw_load(file, run, &results->sweep);
        }
        r |= file == NULL ? -1 : close_output(file, path, "--svg-dir");
    }
    if (results->tasks_count > 0 && results->tasks[0].rounds > 0) {
        file = open_svg(run, "tasks", path);
        if (file != NULL) {
            draw_tasks(file, results);
        }
        r |= file == NULL ? -1 : close_output(file, path, "--svg-dir");
    }
    if (results->goal.rounds > 0) {
        file = open_svg(run, "goal", path);
        if (file != NULL) {
            draw_goal(file, &results->goal);
        }
        r |= file == NULL ? -1 : close_output(file, path, "--svg-dir");
    }
    return r;
}
