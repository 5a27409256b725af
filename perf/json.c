/* SPDX-License-Identifier: MIT */
/* perf/json.c: a JSON writer; it checks no nesting. */
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

int json_check(const char *path)
{
    if (path == NULL || strcmp(path, "-") == 0) {
        return 0;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        complain("cannot write %s: %s; give another --json", path, strerror(errno));
        return -1;
    }
    close(fd);
    return 0;
}

FILE *json_open(const char *path)
{
    if (strcmp(path, "-") == 0) {
        return stdout;
    }
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        complain("cannot write %s: %s; give another --json", path, strerror(errno));
    }
    return file;
}

int json_close(struct json *json, const char *path)
{
    fputc('\n', json->file);
    int failed = fflush(json->file) != 0 || ferror(json->file);
    if (json->file != stdout) {
        failed |= fclose(json->file) != 0;
    }
    if (failed) {
        complain("cannot write %s: %s; give another --json", path, strerror(errno));
    }
    return failed ? -1 : 0;
}

static void write_string(FILE *file, const char *value)
{
    fputc('"', file);
    for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            fprintf(file, "\\%c", *c);
        } else if (*c < 0x20 || *c >= 0x7f) {
            fprintf(file, "\\u%04x", *c); /* bytes past ASCII as Latin-1: always valid */
        } else {
            fputc(*c, file);
        }
    }
    fputc('"', file);
}

static void start_value(struct json *json, const char *key)
{
    if (json->follows) {
        fputc(',', json->file);
    }
    if (json->level > 0) {
        fprintf(json->file, "\n%*s", 2 * json->level, "");
    }
    if (key != NULL) {
        write_string(json->file, key);
        fputs(": ", json->file);
    }
    json->follows = true;
}

void json_begin(struct json *json, const char *key, char bracket)
{
    start_value(json, key);
    fputc(bracket, json->file);
    json->level++;
    json->follows = false;
}

void json_end(struct json *json, char bracket)
{
    json->level--;
    if (json->follows) {
        fprintf(json->file, "\n%*s", 2 * json->level, "");
    }
    fputc(bracket, json->file);
    json->follows = true;
}

void json_string(struct json *json, const char *key, const char *value)
{
    start_value(json, key);
    if (value == NULL) {
        fputs("null", json->file);
    } else {
        write_string(json->file, value);
    }
}

void json_integer(struct json *json, const char *key, uint64_t value)
{
    start_value(json, key);
    fprintf(json->file, "%" PRIu64, value);
}

void json_signed(struct json *json, const char *key, int64_t value)
{
    start_value(json, key);
    fprintf(json->file, "%" PRId64, value);
}

void json_number(struct json *json, const char *key, double value)
{
    start_value(json, key);
    if (!isfinite(value)) {
        fputs("null", json->file);
    } else if (fabs(value) >= 1e6) {
        fprintf(json->file, "%.0f", value);
    } else {
        fprintf(json->file, "%.6g", value);
    }
}

void json_bool(struct json *json, const char *key, bool value)
{
    start_value(json, key);
    fputs(value ? "true" : "false", json->file);
}
