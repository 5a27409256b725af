/* SPDX-License-Identifier: MIT */
/* perf/top_draw.c: members that are missing are taken for 0 or "": an endpoint may be newer. */
#include "top_draw.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR 20
#define NAME_COLUMNS 16
#define NAME_COLUMNS_MAX 47
#define PAIR_COLUMNS 12
#define RUN_WIDTH 100 /* from which on there is room for "run" */
#define NS_A_SECOND 1e9

static const char *string_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static uint64_t counter_of(const json_t *object, const char *key)
{
    return number_of(json_object_get(object, "counters"), key);
}

/* Of the interval, seconds; 0: since the loops were opened. */
static double interval_of(const json_t *document)
{
    uint64_t since_ns = number_of(document, "since_ns");
    uint64_t taken_ns = number_of(document, "taken_ns");
    return since_ns == 0 || taken_ns <= since_ns ? 0 : (double)(taken_ns - since_ns) / NS_A_SECOND;
}

bool top_is_sound(const json_t *document)
{
    return json_is_integer(json_object_get(document, "taken_ns")) &&
           json_is_array(json_object_get(document, "loops")) &&
           json_is_array(json_object_get(document, "tasks")) &&
           json_object_get(document, "live") != NULL;
}

/* --- the process and its loops ---------------------------------------------------------------- */

static void draw_process(struct top_text *text, const json_t *document, const char *path, pid_t pid)
{
    char link[64];
    char program[PATH_MAX];
    char number[TOP_NUMBER_SIZE];
    top_style(text, TOP_BOLD);
    top_print(text, "weir-top  %s", path);
    if (pid > 0) {
        snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
        ssize_t length = readlink(link, program, sizeof program - 1);
        program[length > 0 ? length : 0] = '\0';
        top_print(text, "  pid %d", (int)pid);
        top_print(text, length > 0 ? "  %s" : "%s", program);
    }
    top_end_line(text);
    double interval = interval_of(document);
    if (interval > 0) {
        top_print(text, "over %s", top_duration((uint64_t)(interval * NS_A_SECOND), number));
    } else {
        top_put(text, "since the loops were opened");
    }
    top_end_line(text);
}

/* Credits taken, free, and withheld for a goal. */
static void draw_bar(struct top_text *text, uint64_t in_flight, uint64_t depth, uint64_t depth_max)
{
    char bar[BAR + 1];
    depth_max = depth_max > 0 ? depth_max : 1;
    for (uint64_t i = 0; i < BAR; i++) {
        uint64_t credit = i * depth_max / BAR;
        bar[i] = "-.#"[credit < in_flight ? 2 : credit < depth];
    }
    bar[BAR] = '\0';
    top_put(text, "[");
    top_style(text, in_flight >= depth ? TOP_RED : in_flight * 2 >= depth ? TOP_YELLOW : TOP_GREEN);
    top_put(text, bar);
    top_plain(text);
    top_put(text, "]");
}

static void draw_gate(struct top_text *text, const json_t *gate)
{
    uint64_t depth = number_of(gate, "depth");
    uint64_t depth_max = number_of(gate, "depth_max");
    uint64_t in_flight = number_of(gate, "in_flight");
    if (depth_max == 0) {
        return; /* no workers: no offload gate */
    }
    top_print(text, "  %-8s", string_of(gate, "gate"));
    draw_bar(text, in_flight, depth, depth_max);
    top_print(text, "  %ju in flight of %ju", (uintmax_t)in_flight, (uintmax_t)depth);
    if (depth < depth_max) {
        const char *reason = string_of(gate, "reason");
        const char *whose = strcmp(reason, "task_goal") == 0 ? "a task's goal" : "the loop's goal";
        top_style(text, TOP_YELLOW);
        top_print(text, " (opened with %ju, lowered for %s)", (uintmax_t)depth_max, whose);
        top_plain(text);
    }
    top_print(text, ", %ju waiting", (uintmax_t)number_of(gate, "waiting"));
    top_print(text, ", %ju places", (uintmax_t)number_of(gate, "places"));
    top_end_line(text);
}

static void draw_loop(struct top_text *text, const json_t *loop, double interval)
{
    char number[TOP_NUMBER_SIZE];
    uint64_t loops = number_of(loop, "loops");
    top_end_line(text);
    top_style(text, TOP_BOLD);
    top_put(text, string_of(loop, "label"));
    top_plain(text);
    if (loops > 1) {
        top_print(text, " (%ju loops)", (uintmax_t)loops);
    }
    top_print(text, "  %s: %s", string_of(loop, "backend"), string_of(loop, "reason"));
    top_end_line(text);
    if (!json_is_true(json_object_get(loop, "has_state"))) {
        top_put(text, "  not opened WEIR_INSPECTABLE: no gates and no live ops");
        top_end_line(text);
        return;
    }
    const json_t *gates = json_object_get(loop, "gates");
    for (size_t i = 0; i < json_array_size(gates); i++) {
        draw_gate(text, json_array_get(gates, i));
    }
    top_print(text, "  timers %ju", (uintmax_t)counter_of(loop, "timers"));
    if (interval > 0) {
        double turns = (double)counter_of(loop, "turns") / interval;
        double refused = (double)counter_of(loop, "refused") / interval;
        top_print(text, ", turns %s/s", top_number(turns, number));
        top_print(text, ", refused %s/s", top_number(refused, number));
    }
    top_end_line(text);
}

/* --- tasks ------------------------------------------------------------------------------------ */

/* What the list of live ops says of a task. */
struct standing {
    bool known; /* all of its ops are in the list: timers are not, nor one in its callback */
    uint64_t in_flight;
    uint64_t oldest_ns; /* 0: none is listed */
};

static struct standing standing_of(const json_t *document, const json_t *task, bool has_state)
{
    const json_t *live = json_object_get(document, "live");
    struct standing standing = {0};
    uint64_t listed = 0;
    for (size_t i = 0; i < json_array_size(live); i++) {
        const json_t *op = json_array_get(live, i);
        if (strcmp(string_of(op, "task"), string_of(task, "task")) != 0 ||
            strcmp(string_of(op, "loop"), string_of(task, "loop")) != 0) {
            continue;
        }
        listed++;
        standing.in_flight += strcmp(string_of(op, "state"), "in flight") == 0;
        if (standing.oldest_ns == 0) {
            standing.oldest_ns = number_of(op, "age_ns"); /* they come oldest first */
        }
    }
    standing.known = has_state && listed >= counter_of(task, "live");
    return standing;
}

static void draw_stage(struct top_text *text, const json_t *task, const char *stage)
{
    char pair[2 * TOP_NUMBER_SIZE + 2] = "-";
    char median[TOP_NUMBER_SIZE];
    char high[TOP_NUMBER_SIZE];
    const json_t *of = json_object_get(json_object_get(task, "stages"), stage);
    if (number_of(of, "count") > 0) {
        snprintf(pair, sizeof pair, "%s/%s", top_duration(number_of(of, "p50_ns"), median),
                 top_duration(number_of(of, "p99_ns"), high));
    }
    top_print(text, " %*s", PAIR_COLUMNS - 1, pair);
}

struct table {
    double interval;
    unsigned name_columns;
    bool has_state;
    bool has_run; /* a column for it */
};

static void draw_titles(struct top_text *text, const struct table *table)
{
    top_style(text, TOP_DIM);
    top_put(text, "  ");
    top_put_cut(text, "task", table->name_columns);
    top_print(text, " %5s %5s %6s %6s", "op/s", "live", "flying", "oldest");
    top_print(text, " %*s %*s %*s", PAIR_COLUMNS - 1, "wait", PAIR_COLUMNS - 1, "flight",
              PAIR_COLUMNS - 1, "delivery");
    if (table->has_run) {
        top_print(text, " %*s", PAIR_COLUMNS - 1, "run");
    }
    top_end_line(text);
}

static void draw_task(struct top_text *text, const json_t *document, const json_t *task,
                      const struct table *table)
{
    char number[TOP_NUMBER_SIZE];
    struct standing standing = standing_of(document, task, table->has_state);
    double rate = table->interval > 0 ? (double)counter_of(task, "finished") / table->interval : 0;
    top_put(text, "  ");
    top_put_cut(text, string_of(task, "task"), table->name_columns);
    top_print(text, " %5s", table->interval > 0 ? top_number(rate, number) : "-");
    top_print(text, " %5s", top_number((double)counter_of(task, "live"), number));
    top_print(text, " %6s", standing.known ? top_number((double)standing.in_flight, number) : "-");
    top_print(text, " %6s", standing.oldest_ns ? top_duration(standing.oldest_ns, number) : "-");
    draw_stage(text, task, "wait");
    draw_stage(text, task, "flight");
    draw_stage(text, task, "delivery");
    if (table->has_run) {
        draw_stage(text, task, "run");
    }
    top_end_line(text);
}

static bool is_idle(const json_t *task)
{
    return counter_of(task, "finished") == 0 && counter_of(task, "refused") == 0 &&
           counter_of(task, "live") == 0;
}

static bool is_of(const json_t *task, const json_t *loop)
{
    return strcmp(string_of(task, "loop"), string_of(loop, "label")) == 0;
}

static void draw_tasks(struct top_text *text, const json_t *document, const json_t *loop)
{
    const json_t *tasks = json_object_get(document, "tasks");
    size_t idle = 0;
    size_t busy = 0;
    struct table table = {
        .interval = interval_of(document),
        .name_columns = NAME_COLUMNS,
        .has_state = json_is_true(json_object_get(loop, "has_state")),
    };
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        if (!is_of(task, loop) || is_idle(task)) {
            idle += is_of(task, loop);
            continue;
        }
        busy++;
        const json_t *run = json_object_get(json_object_get(task, "stages"), "run");
        table.has_run = table.has_run || number_of(run, "count") > 0;
    }
    table.has_run = table.has_run && (text->width == 0 || text->width >= RUN_WIDTH);
    table.name_columns = text->width == 0 ? NAME_COLUMNS_MAX : NAME_COLUMNS;
    if (busy > 0) {
        draw_titles(text, &table);
    }
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        if (is_of(task, loop) && !is_idle(task)) {
            draw_task(text, document, task, &table);
        }
    }
    if (idle > 0) {
        top_print(text, "  %zu idle %s", idle, idle == 1 ? "task" : "tasks");
        top_end_line(text);
    }
}

void top_draw_loops(struct top_text *text, const json_t *document, const char *path, pid_t pid)
{
    const json_t *loops = json_object_get(document, "loops");
    draw_process(text, document, path, pid);
    if (json_array_size(loops) == 0) {
        top_put(text, "no loops");
        top_end_line(text);
    }
    for (size_t i = 0; i < json_array_size(loops); i++) {
        const json_t *loop = json_array_get(loops, i);
        draw_loop(text, loop, interval_of(document));
        draw_tasks(text, document, loop);
    }
}

/* --- live ops --------------------------------------------------------------------------------- */

static void draw_op(struct top_text *text, const json_t *op)
{
    char number[TOP_NUMBER_SIZE];
    int64_t fd = json_integer_value(json_object_get(op, "fd"));
    top_print(text, "  %6s", top_duration(number_of(op, "age_ns"), number));
    top_print(text, " %-9s ", string_of(op, "state"));
    top_put_cut(text, string_of(op, "kind"), 9);
    if (fd >= 0) {
        top_print(text, " %5jd ", (intmax_t)fd);
    } else {
        top_print(text, " %5s ", "-");
    }
    top_put_cut(text, string_of(op, "loop"), 8);
    top_put(text, " ");
    top_put_cut(text, string_of(op, "task"), NAME_COLUMNS);
    top_print(text, " %s", string_of(op, "site"));
    top_end_line(text);
}

void top_draw_ops(struct top_text *text, const json_t *document, unsigned most)
{
    const json_t *live = json_object_get(document, "live");
    uint64_t count = number_of(document, "live_count");
    if (!json_is_array(live) || most == 0) {
        return;
    }
    unsigned shown = json_array_size(live) < most ? (unsigned)json_array_size(live) : most;
    top_end_line(text);
    top_style(text, TOP_BOLD);
    if (count == 0) {
        top_put(text, "no op is live");
    } else {
        top_print(text, "live ops: %ju, the oldest %u:", (uintmax_t)count, shown);
    }
    top_end_line(text);
    for (unsigned i = 0; i < shown; i++) {
        draw_op(text, json_array_get(live, i));
    }
}
