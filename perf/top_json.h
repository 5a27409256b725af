/* SPDX-License-Identifier: MIT */
/*
 * perf/top_json.h: members of what an endpoint's /json says. Those that are missing are taken for 0
 * or "": an endpoint may be newer, or older.
 */
#ifndef PERF_TOP_JSON_H
#define PERF_TOP_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

const char *top_string_of(const json_t *object, const char *key);
uint64_t top_number_of(const json_t *object, const char *key);
/* Of its "counters". */
uint64_t top_counter_of(const json_t *object, const char *key);
/* Of the document's interval, seconds; 0: since the loops were opened. */
double top_interval_of(const json_t *document);
bool top_are_equal(const json_t *a, const json_t *b, const char *key);

#endif
