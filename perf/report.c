/* SPDX-License-Identifier: MIT */
/* perf/report.c: text on terminals and the shared parts of JSON; measures nothing. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weir/histogram.h>

#include "engine.h"
#include "json.h"
#include "machine.h"
#include "options.h"
#include "series.h"
#include "workload.h"

void complain(const char *format, ...)
{
    progress_clear();
    va_list arguments;
    va_start(arguments, format);
    fputs("weir-perf: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void progress(const char *format, ...)
{
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, arguments);
    fflush(stderr);
    va_end(arguments);
}

void progress_clear(void)
{
    progress("%s", "");
}

const char *format_count(char *text, size_t size, double value)
{
    if (value >= 1e6) {
        snprintf(text, size, "%.*f M", value >= 1e8 ? 0 : value >= 1e7 ? 1 : 2, value / 1e6);
    } else if (value >= 1e3) {
        snprintf(text, size, "%.*f k", value >= 1e5 ? 0 : 1, value / 1e3);
    } else {
        snprintf(text, size, "%.0f", value);
    }
    return text;
}

const char *format_ns(char *text, size_t size, double ns)
{
    if (ns < 1e3) {
        snprintf(text, size, "%.0f ns", ns);
    } else if (ns < 1e6) {
        snprintf(text, size, "%.*f us", ns < 1e5 ? 1 : 0, ns / 1e3);
    } else if (ns < 1e9) {
        snprintf(text, size, "%.*f ms", ns < 1e8 ? 1 : 0, ns / 1e6);
    } else {
        snprintf(text, size, "%.2f s", ns / 1e9);
    }
    return text;
}

const char *format_bytes(char *text, size_t size, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, "%.4g %s", value, units[unit]);
    return text;
}

static void describe_echo(char *text, size_t size, const struct workload *workload,
                          const struct options *options)
{
    char message[FIGURE_MAX];
    snprintf(text, size, "echo, %s, %u connection%s over %s%s%s",
             format_bytes(message, sizeof message, workload->size), workload->depth,
             workload->depth == 1 ? "" : "s", workload->tcp ? "TCP" : "AF_UNIX",
             options->client_spin ? ", spinning client" : "", workload->pin ? ", pinned" : "");
}

void describe_workload(char *text, size_t size, const struct workload *workload,
                       const struct options *options)
{
    char block[FIGURE_MAX];
    switch (workload->job) {
    case JOB_FILE:
        snprintf(text, size, "file, %s %s%s, %u in flight", access_name(options->access),
                 format_bytes(block, sizeof block, workload->block),
                 workload->direct ? " direct" : "", workload->depth);
        break;
    case JOB_ECHO:
        describe_echo(text, size, workload, options);
        break;
    case JOB_OFFLOAD:
        snprintf(text, size, "offload, %u in flight, %u worker%s", workload->depth,
                 workload->workers, workload->workers == 1 ? "" : "s");
        break;
    default:
        snprintf(text, size, "nop, %u in flight", workload->depth);
    }
}

void print_latency_heading(const char *first, int width)
{
    printf("%-*s %9s %9s %9s %9s %9s\n", width, first, "p50", "p90", "p99", "p99.9", "max");
}

void print_latency(const char *name, int width, const struct weir_histogram *histogram)
{
    static const double percents[] = {50, 90, 99, 99.9, 100};
    printf("%-*s", width, name);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        char figure[FIGURE_MAX];
        uint64_t ns = weir_histogram_percentile(histogram, percents[i]);
        printf(" %9s", format_ns(figure, sizeof figure, (double)ns));
    }
    putchar('\n');
}

void print_tasks(const struct task_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct task_row *row = &rows[i];
        char heading[WEIR_TASK_NAME_MAX + 32];
        char figure[FIGURE_MAX];
        snprintf(heading, sizeof heading, "task %s (%s ops)", row->name,
                 format_count(figure, sizeof figure, (double)row->finished));
        print_latency_heading(heading, 32);
        for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            char name[32];
            snprintf(name, sizeof name, "  %s", weir_stage_name((enum weir_stage)stage));
            print_latency(name, 32, &row->stages[stage]);
        }
    }
}

void report_latency_json(struct json *json, const char *key, const struct weir_histogram *histogram)
{
    json_begin(json, key, '{');
    json_integer(json, "p50", weir_histogram_percentile(histogram, 50));
    json_integer(json, "p90", weir_histogram_percentile(histogram, 90));
    json_integer(json, "p99", weir_histogram_percentile(histogram, 99));
    json_integer(json, "p99.9", weir_histogram_percentile(histogram, 99.9));
    json_integer(json, "max", histogram->max);
    json_integer(json, "mean", weir_histogram_mean(histogram));
    json_integer(json, "samples", histogram->count);
    json_end(json, '}');
}

void report_quartiles_json(struct json *json, const char *key, const struct summary *summary)
{
    json_begin(json, key, '{');
    json_number(json, "median", summary->median);
    json_number(json, "q1", summary->q1);
    json_number(json, "q3", summary->q3);
    json_end(json, '}');
}

void report_tasks_json(struct json *json, const char *key, const struct task_row *rows,
                       size_t count)
{
    json_begin(json, key, '[');
    for (size_t i = 0; i < count; i++) {
        json_begin(json, NULL, '{');
        json_string(json, "name", rows[i].name);
        json_integer(json, "finished", rows[i].finished);
        for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            report_latency_json(json, weir_stage_name((enum weir_stage)stage),
                                &rows[i].stages[stage]);
        }
        json_end(json, '}');
    }
    json_end(json, ']');
}

void report_workload_json(struct json *json, const char *key, const struct workload *workload,
                          const struct options *options)
{
    json_begin(json, key, '{');
    json_integer(json, "depth", workload->depth);
    json_integer(json, "latency_of_every", options->every);
    if (workload->job == JOB_FILE) {
        char file_system[32];
        machine_file_system(workload->fd, file_system);
        json_string(json, "rw", access_name(options->access));
        json_integer(json, "block", workload->block);
        json_integer(json, "size", workload->blocks * workload->block);
        json_string(json, "path", options->path);
        json_bool(json, "direct", workload->direct);
        json_string(json, "file_system", file_system);
    }
    if (workload->job == JOB_ECHO) {
        json_string(json, "transport", workload->tcp ? "tcp" : "unix");
        json_integer(json, "connections", workload->depth);
        json_integer(json, "size", workload->size);
        json_bool(json, "client_spin", workload->client_spin);
        json_bool(json, "pinned", workload->pin);
    }
    if (workload->job == JOB_FILE || workload->job == JOB_OFFLOAD) {
        json_integer(json, "workers", workload->workers);
    }
    json_end(json, '}');
}
