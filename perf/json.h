/* SPDX-License-Identifier: MIT */
/*
 * perf/json.h: writes JSON, in order, as it is told. The key is NULL inside arrays and at the
 * top.
 */
#ifndef PERF_JSON_H
#define PERF_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *file;
    int level;
    bool follows; /* another value of the same object or array */
};

/* Before a long run: can `path` be written? 0, or -1 after a message. "-" and NULL always can. */
int json_check(const char *path);
/* Starts a document; NULL after a message. */
FILE *json_open(const char *path);
/* Ends it. 0, or -1 after a message. */
int json_close(struct json *json, const char *path);

void json_begin(struct json *json, const char *key, char bracket);
void json_end(struct json *json, char bracket);
void json_string(struct json *json, const char *key, const char *value); /* NULL: null */
void json_integer(struct json *json, const char *key, uint64_t value);
void json_signed(struct json *json, const char *key, int64_t value);
void json_number(struct json *json, const char *key, double value); /* not finite: null */
void json_bool(struct json *json, const char *key, bool value);

#endif
