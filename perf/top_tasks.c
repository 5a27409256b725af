/* SPDX-License-Identifier: MIT */
#include "top_tasks.h"

#include <stdio.h>
#include <string.h>

#include "top_json.h"

#define WIDTH_MIN 80 /* of what is always shown, with names of NAME_COLUMNS */
#define NAME_COLUMNS 10
#define NAME_COLUMNS_MAX 47
#define PAIR_COLUMNS 12 /* p50/p99, and a blank before it */
#define UNIT_COLUMNS 8  /* " p50/p99" in a title */
#define BYTES_COLUMNS 6

/* What the list of live ops says of a task: of one moment. */
struct standing {
    bool complete; /* all of its ops are in the list; timers never are */
    uint64_t live;
    uint64_t in_flight;
    uint64_t oldest_ns; /* 0: none is listed */
};

struct table {
    const json_t *document;
    double interval;
    unsigned name_columns;
    bool has_state;
    /* Columns that not every table has room for, or anything for. */
    bool has_bytes;
    bool has_queue;
    bool has_run;
    bool has_units; /* "p50/p99" in each title */
};

static bool is_of(const json_t *row, const json_t *loop)
{
    return strcmp(top_string_of(row, "loop"), top_string_of(loop, "label")) == 0;
}

static bool has_state(const json_t *loop)
{
    return json_is_true(json_object_get(loop, "has_state"));
}

static bool list_is_complete(const json_t *document)
{
    const json_t *live = json_object_get(document, "live");
    return json_is_array(live) && top_number_of(document, "live_count") == json_array_size(live);
}

static struct standing standing_of(const json_t *document, const json_t *task)
{
    const json_t *live = json_object_get(document, "live");
    struct standing standing = {.complete = list_is_complete(document)};
    for (size_t i = 0; i < json_array_size(live); i++) {
        const json_t *op = json_array_get(live, i);
        if (!top_are_equal(op, task, "task") || !top_are_equal(op, task, "loop")) {
            continue;
        }
        standing.live++;
        standing.in_flight += strcmp(top_string_of(op, "state"), "in flight") == 0;
        if (standing.oldest_ns == 0) {
            standing.oldest_ns = top_number_of(op, "age_ns"); /* they come oldest first */
        }
    }
    return standing;
}

uint64_t top_live_of(const json_t *document, const json_t *loop)
{
    bool complete = list_is_complete(document);
    const json_t *rows = json_object_get(document, complete ? "live" : "tasks");
    uint64_t live = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (is_of(row, loop)) {
            live += complete ? 1 : top_counter_of(row, "live");
        }
    }
    return live;
}

/* --- errors ----------------------------------------------------------------------------------- */

/* "3/s"; of what is no interval "3 times". */
static void put_rate(struct top_text *text, uint64_t times, double interval)
{
    char number[TOP_NUMBER_SIZE];
    if (interval > 0) {
        top_print(text, "%s/s", top_rate((double)times / interval, number));
    } else {
        top_print(text, times == 1 ? "once" : "%s times", top_number((double)times, number));
    }
}

static void put_errors(struct top_text *text, const json_t *task, double interval)
{
    const json_t *errors = json_object_get(task, "errors");
    uint64_t others = top_number_of(task, "other_errors");
    const char *before = ":";
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const json_t *error = json_array_get(errors, i);
        const char *name = top_string_of(error, "errno");
        if (name[0]) {
            top_print(text, "%s %s ", before, name);
        } else {
            top_print(text, "%s errno %jd ", before,
                      -(intmax_t)json_integer_value(json_object_get(error, "error")));
        }
        put_rate(text, top_number_of(error, "times"), interval);
        before = ",";
    }
    if (others > 0) {
        top_print(text, "%s others ", before);
        put_rate(text, others, interval);
    }
}

/* What went wrong; what was cancelled was wanted, perhaps. */
static uint64_t failures_of(const json_t *task)
{
    return top_counter_of(task, "failed") + top_counter_of(task, "refused") +
           top_counter_of(task, "expired");
}

static bool has_errors(const json_t *task)
{
    return failures_of(task) + top_counter_of(task, "cancelled") > 0;
}

static void draw_errors(struct top_text *text, const json_t *task, double interval)
{
    static const char *const counters[] = {"failed", "refused", "expired", "cancelled"};
    const char *before = "    ";
    top_style(text, failures_of(task) > 0 ? TOP_RED : TOP_YELLOW);
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        uint64_t times = top_counter_of(task, counters[i]);
        if (times == 0) {
            continue;
        }
        top_print(text, "%s%s ", before, counters[i]);
        put_rate(text, times, interval);
        if (i == 0) {
            put_errors(text, task, interval);
        }
        before = "; ";
    }
    top_end_line(text);
}

/* --- the table -------------------------------------------------------------------------------- */

static void draw_stage(struct top_text *text, const struct table *table, const json_t *task,
                       const char *stage)
{
    char pair[2 * TOP_NUMBER_SIZE + 2] = "-";
    char median[TOP_NUMBER_SIZE];
    char high[TOP_NUMBER_SIZE];
    const json_t *of = json_object_get(json_object_get(task, "stages"), stage);
    if (top_number_of(of, "count") > 0) {
        snprintf(pair, sizeof pair, "%s/%s", top_duration(top_number_of(of, "p50_ns"), median),
                 top_duration(top_number_of(of, "p99_ns"), high));
    }
    top_print(text, " %*s", PAIR_COLUMNS - 1 + (table->has_units ? UNIT_COLUMNS : 0), pair);
}

static void draw_stage_title(struct top_text *text, const struct table *table, const char *stage)
{
    char title[32];
    snprintf(title, sizeof title, table->has_units ? "%s p50/p99" : "%s", stage);
    top_print(text, " %*s", PAIR_COLUMNS - 1 + (table->has_units ? UNIT_COLUMNS : 0), title);
}

/* In the order of the columns: of which task, or NULL: the titles. */
static void draw_stages(struct top_text *text, const struct table *table, const json_t *task)
{
    const struct {
        const char *name;
        bool shown;
    } stages[] = {
        {"queue", table->has_queue}, {"run", table->has_run}, {"wait", true}, {"flight", true},
        {"delivery", true},
    };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (stages[i].shown && task) {
            draw_stage(text, table, task, stages[i].name);
        } else if (stages[i].shown) {
            draw_stage_title(text, table, stages[i].name);
        }
    }
}

static void draw_titles(struct top_text *text, const struct table *table)
{
    top_style(text, TOP_DIM);
    top_put(text, "  ");
    top_put_cut(text, "task", table->name_columns);
    top_print(text, " %5s %6s", "op/s", "fail/s");
    if (table->has_bytes) {
        top_print(text, " %5s", "B/s");
    }
    top_print(text, " %5s %6s %5s", "live", "flying", "age");
    draw_stages(text, table, NULL);
    top_end_line(text);
}

static void draw_rate(struct top_text *text, const struct table *table, uint64_t times, int columns)
{
    char number[TOP_NUMBER_SIZE];
    double interval = table->interval;
    top_print(text, " %*s", columns,
              interval > 0 ? top_rate((double)times / interval, number) : "-");
}

static void draw_standing(struct top_text *text, const struct table *table, const json_t *task)
{
    char number[TOP_NUMBER_SIZE];
    char flying[TOP_NUMBER_SIZE + 1] = "-";
    struct standing standing = standing_of(table->document, task);
    bool listed = table->has_state && standing.complete;
    uint64_t live = listed ? standing.live : top_counter_of(task, "live");
    top_print(text, " %5s", top_number((double)live, number));
    if (table->has_state) { /* of a list that is cut: at least */
        snprintf(flying, sizeof flying, "%s%s", top_number((double)standing.in_flight, number),
                 standing.complete ? "" : "+");
    }
    top_print(text, " %6s", flying);
    top_print(text, " %5s", standing.oldest_ns ? top_duration(standing.oldest_ns, number) : "-");
}

static void draw_task(struct top_text *text, const json_t *task, const struct table *table)
{
    uint64_t failures = failures_of(task);
    top_put(text, "  ");
    top_put_cut(text, top_string_of(task, "task"), table->name_columns);
    draw_rate(text, table, top_counter_of(task, "finished"), 5);
    if (failures > 0) {
        top_style(text, TOP_RED);
    }
    draw_rate(text, table, failures, 6);
    top_plain(text);
    if (table->has_bytes) {
        draw_rate(text, table, top_counter_of(task, "bytes"), 5);
    }
    draw_standing(text, table, task);
    draw_stages(text, table, task);
    top_end_line(text);
    if (has_errors(task)) {
        draw_errors(text, task, table->interval);
    }
}

static bool is_idle(const json_t *document, const json_t *task)
{
    return top_counter_of(task, "finished") == 0 && top_counter_of(task, "refused") == 0 &&
           top_counter_of(task, "live") == 0 && standing_of(document, task).live == 0;
}

/* True, and there is that much less, if it is wanted and there is room. */
static bool afford(bool wanted, unsigned columns, unsigned *left)
{
    bool affords = wanted && *left >= columns;
    *left -= affords ? columns : 0;
    return affords;
}

/* What has something to show, cut to what there is room for. */
static void fit(struct table *table, unsigned width)
{
    unsigned pairs = 3;
    unsigned left = width == 0 ? ~0u : width > WIDTH_MIN ? width - WIDTH_MIN : 0;
    table->has_bytes = afford(table->has_bytes, BYTES_COLUMNS, &left);
    table->has_run = afford(table->has_run, PAIR_COLUMNS, &left);
    table->has_queue = afford(table->has_queue, PAIR_COLUMNS, &left);
    pairs += table->has_run + table->has_queue;
    unsigned more = table->name_columns > NAME_COLUMNS ? table->name_columns - NAME_COLUMNS : 0;
    unsigned most = more < left ? more : left;
    left -= most;
    table->name_columns = NAME_COLUMNS + most;
    table->has_units = afford(true, pairs * UNIT_COLUMNS, &left);
}

static uint64_t count_of(const json_t *task, const char *stage)
{
    return top_number_of(json_object_get(json_object_get(task, "stages"), stage), "count");
}

/* What the loop's tasks that are not idle have to show; the number of those that are. */
static size_t survey(struct table *table, const json_t *tasks, const json_t *loop, size_t *ret_busy)
{
    size_t idle = 0;
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        if (!is_of(task, loop) || is_idle(table->document, task)) {
            idle += is_of(task, loop);
            continue;
        }
        unsigned columns = top_columns_of(top_string_of(task, "task"));
        columns = columns < NAME_COLUMNS_MAX ? columns : NAME_COLUMNS_MAX;
        table->name_columns = columns > table->name_columns ? columns : table->name_columns;
        table->has_bytes |= top_counter_of(task, "bytes") > 0;
        table->has_queue |= count_of(task, "queue") > 0;
        table->has_run |= count_of(task, "run") > 0;
        ++*ret_busy;
    }
    return idle;
}

/* What the table had no room for. */
static void draw_rest(struct top_text *text, const struct table *table, const struct table *wanted,
                      size_t idle)
{
    const char *before = "  ";
    if (idle > 0) {
        top_print(text, "%s%zu idle %s", before, idle, idle == 1 ? "task" : "tasks");
        before = "; ";
    }
    const char *hidden = wanted->has_queue && !table->has_queue
                             ? (wanted->has_run && !table->has_run ? "queue and run" : "queue")
                             : (wanted->has_run && !table->has_run ? "run" : NULL);
    if (hidden) {
        top_style(text, TOP_DIM);
        top_print(text, "%sa wider window shows %s too", before, hidden);
    }
    if (idle > 0 || hidden) {
        top_end_line(text);
    }
}

unsigned top_draw_tasks(struct top_text *text, const json_t *document, const json_t *loop,
                        unsigned lines_max)
{
    const json_t *tasks = json_object_get(document, "tasks");
    size_t busy = 0;
    unsigned left_out = 0;
    struct table wanted = {
        .document = document,
        .interval = top_interval_of(document),
        .has_state = has_state(loop),
    };
    size_t idle = survey(&wanted, tasks, loop, &busy);
    struct table table = wanted;
    fit(&table, text->width);
    if (busy > 0 && (lines_max == 0 || text->lines + 1 < lines_max)) {
        draw_titles(text, &table);
    }
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        if (!is_of(task, loop) || is_idle(document, task)) {
            continue;
        }
        unsigned lines = has_errors(task) ? 2 : 1;
        if (left_out > 0 || (lines_max > 0 && text->lines + lines >= lines_max)) {
            left_out++;
        } else {
            draw_task(text, task, &table);
        }
    }
    if (lines_max == 0 || text->lines + 1 < lines_max) {
        draw_rest(text, &table, &wanted, idle);
    }
    return left_out;
}
