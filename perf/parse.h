/* SPDX-License-Identifier: MIT */
/* perf/parse.h: numbers from text. Each: true and the value, or false and nothing touched. */
#ifndef PERF_PARSE_H
#define PERF_PARSE_H

#include <stdbool.h>
#include <stdint.h>

struct argp_state;

/* A whole number with an optional k, M or G (powers of 1024). */
bool parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);
/* A whole number with an optional ns, us or ms; alone it is nanoseconds. */
bool parse_duration(const char *text, uint64_t max_ns, uint64_t *ret_ns);

/* For argp: the value, or a message that names the option, and exit 2. */
uint32_t parse_number_or_usage(struct argp_state *state, const char *option, const char *text,
                               uint32_t min, uint32_t max);
double parse_seconds_or_usage(struct argp_state *state, const char *option, const char *text);

#endif
