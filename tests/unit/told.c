/* SPDX-License-Identifier: MIT */
#include "told.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 2 /* an op, and one stage of it */

int told_write(void *context, const char *text, size_t size)
{
    struct told *told = context;
    told->calls++;
    if (told->fail_at != 0 && told->calls >= told->fail_at) {
        return told->fail_with;
    }
    if (told->size + size + 1 > told->capacity) {
        told->capacity = 2 * (told->size + size + 1);
        told->text = realloc(told->text, told->capacity);
        assert_non_null(told->text);
    }
    memcpy(told->text + told->size, text, size);
    told->size += size;
    told->text[told->size] = '\0';
    return 0;
}

static const char *find(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at ? at + strlen(key) : NULL;
}

static const char *need(const char *line, const char *key)
{
    const char *at = find(line, key);
    if (!at) {
        fail_msg("no %s in: %s", key, line);
    }
    return at;
}

/* Microseconds with three decimals, no more and no less. */
static uint64_t read_ts(const char *at)
{
    char *end;
    uint64_t whole = strtoull(at, &end, 10);
    assert_int_equal(*end, '.');
    const char *decimals = end + 1;
    uint64_t part = strtoull(decimals, &end, 10);
    assert_int_equal(end - decimals, 3);
    return whole * 1000 + part;
}

static void read_event(struct told_event *event, const char *line)
{
    memset(event, 0, sizeof *event);
    event->phase = *need(line, "{\"ph\":\"");
    sscanf(need(line, "\"name\":\""), "%63[^\"]", event->name);
    const char *at = find(line, "\"id\":\"");
    event->id = at ? strtoull(at, NULL, 16) : UINT64_MAX;
    event->ts_ns = event->phase == 'M' ? 0 : read_ts(need(line, "\"ts\":"));
    at = find(line, "\"tid\":");
    event->tid = at ? atoi(at) : -1;
    event->live = strstr(line, "\"live\":true") != NULL;
    event->lost = strstr(line, "\"lost\":true") != NULL;
    event->earlier = strstr(line, "\"begun\":\"earlier\"") != NULL;
    at = find(line, "\"result\":");
    at = at ? at : find(line, "\"error\":");
    event->has_result = at != NULL;
    event->result = at ? strtoll(at, NULL, 10) : 0;
    at = find(line, "\"fd\":");
    event->fd = at ? atoi(at) : INT32_MIN;
    at = event->phase == 'C' ? need(line, "\"ops\":") : NULL;
    event->ops = at ? strtoull(at, NULL, 10) : 0;
    assert_true(!at || *at != '-'); /* a counter */
}

/* One event a line, all but the last with a comma. */
static void read_all(struct told *told)
{
    assert_non_null(told->text);
    told->begin_ns = strtoull(need(told->text, "\"begin_ns\":\""), NULL, 10);
    told->kept = strtoull(need(told->text, "\"events\":"), NULL, 10);
    told->lost = strtoull(need(told->text, "\"lost\":"), NULL, 10);
    size_t lines = 0;
    for (const char *at = told->text; *at; at++) {
        lines += *at == '\n';
    }
    told->events = calloc(lines + 1, sizeof *told->events);
    assert_non_null(told->events);
    char *line = strchr(strstr(told->text, "\"traceEvents\":["), '\n') + 1;
    while (*line != ']') {
        /* Not strchr(): AddressSanitizer has it look at all that follows. */
        char *end = memchr(line, '\n', (size_t)(told->text + told->size - line));
        bool last = end[1] == ']';
        assert_int_equal(end[-1] == ',', !last);
        *end = '\0';
        read_event(&told->events[told->count++], line);
        *end = '\n';
        line = end + 1;
    }
    assert_string_equal(line, "]}\n");
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No two lives have one. */
static void check_ids(uint64_t *ids, size_t count)
{
    qsort(ids, count, sizeof *ids, compare_ids);
    for (size_t i = 1; i < count; i++) {
        assert_true(ids[i - 1] != ids[i]);
    }
}

/* The slices of an id stand together. */
static void check_slices(const struct told *told)
{
    struct told_event open[DEPTH_MAX] = {{0}};
    int depth = 0;
    uint64_t last_ns = 0;
    uint64_t *ids = calloc(told->count + 1, sizeof *ids);
    assert_non_null(ids);
    size_t lives = 0;
    for (size_t i = 0; i < told->count; i++) {
        const struct told_event *event = &told->events[i];
        if (event->phase != 'b' && event->phase != 'e') {
            continue;
        }
        if (depth == 0) {
            assert_int_equal(event->phase, 'b');
            ids[lives++] = event->id;
        } else {
            assert_true(event->id == open[0].id && event->ts_ns >= last_ns);
        }
        last_ns = event->ts_ns;
        if (event->phase == 'b') {
            assert_true(depth < DEPTH_MAX);
            open[depth++] = *event;
        } else {
            depth--;
            assert_string_equal(open[depth].name, event->name);
            assert_int_equal(open[depth].tid, event->tid);
        }
    }
    assert_int_equal(depth, 0);
    check_ids(ids, lives);
    free(ids);
}

static void check_counters(const struct told *told)
{
    uint64_t last_ns = 0;
    for (size_t i = 0; i < told->count; i++) {
        if (told->events[i].phase == 'C') {
            assert_true(told->events[i].ts_ns >= last_ns);
            last_ns = told->events[i].ts_ns;
        }
    }
}

void told_dump(struct told *told, const struct weir_recorder *recorder,
               const struct weir_tasks *tasks, uint64_t now_ns)
{
    memset(told, 0, sizeof *told);
    assert_int_equal(weir_recorder_dump(recorder, tasks, now_ns, told_write, told), 0);
    read_all(told);
    check_slices(told);
    check_counters(told);
}

const char *told_story(const struct told *told, const char *phases, char *into, size_t size)
{
    size_t used = 0;
    into[0] = '\0';
    for (size_t i = 0; i < told->count; i++) {
        const struct told_event *event = &told->events[i];
        if (!strchr(phases, event->phase)) {
            continue;
        }
        char what[32] = "";
        if (event->phase == 'C') {
            snprintf(what, sizeof what, "=%" PRIu64, event->ops);
        } else if (event->has_result) {
            snprintf(what, sizeof what, "=%" PRId64, event->result);
        }
        used += (size_t)snprintf(into + used, size - used, "%s%c %s%s @%" PRIu64 "%s%s%s",
                                 used ? "; " : "", event->phase, event->name, what, event->ts_ns,
                                 event->live ? " live" : "", event->lost ? " lost" : "",
                                 event->earlier ? " earlier" : "");
        assert_true(used < size);
    }
    return into;
}

void told_free(struct told *told)
{
    free(told->events);
    free(told->text);
    memset(told, 0, sizeof *told);
}
