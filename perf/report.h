/* SPDX-License-Identifier: MIT */
/* perf/report.h: how figures are shown to people, and the parts that all JSON documents share. */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stddef.h>
#include <stdint.h>

struct json;
struct options;
struct summary;
struct task_row;
struct weir_histogram;
struct workload;

#define FIGURE_MAX 24

/* "weir-perf: ..." on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One line that the next one replaces, on standard error if that is a terminal. */
void progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_clear(void);

/* "1.07 M", "640 ns", "256 MiB". Return text. */
const char *format_count(char *text, size_t size, double value);
const char *format_ns(char *text, size_t size, double ns);
const char *format_bytes(char *text, size_t size, uint64_t bytes);

/* "file, randread 4 KiB, 32 in flight". */
void describe_workload(char *text, size_t size, const struct workload *workload,
                       const struct options *options);

/* The heading and a line of a latency table. */
void print_latency_heading(const char *first, int width);
void print_latency(const char *name, int width, const struct weir_histogram *histogram);
void print_tasks(const struct task_row *rows, size_t count);

void report_latency_json(struct json *json, const char *key,
                         const struct weir_histogram *histogram);
void report_quartiles_json(struct json *json, const char *key, const struct summary *summary);
void report_tasks_json(struct json *json, const char *key, const struct task_row *rows,
                       size_t count);
/* Depth, and what a file workload does. */
void report_workload_json(struct json *json, const char *key, const struct workload *workload,
                          const struct options *options);

#endif
