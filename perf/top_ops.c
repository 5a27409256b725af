/* SPDX-License-Identifier: MIT */
#include "top_ops.h"

#include <stdio.h>

#include "top_json.h"

#define TASK_COLUMNS 14
#define TASK_COLUMNS_WIDE 24
#define LOOP_COLUMNS 8
#define PLACE_WIDTH 120 /* from which on there is room for offset and length */
#define STACK " +stack"

/* Ops that stand one behind the other in the list and differ in age and place alone. */
struct run {
    const json_t *oldest;
    const json_t *youngest;
    size_t count;
    bool one_fd;
    bool has_stack; /* of any */
};

/* What the list has columns for. */
struct columns {
    bool loop;
    bool place;
    unsigned task;
};

static struct run run_at(const json_t *live, size_t from)
{
    static const char *const keys[] = {"loop", "task", "kind", "state", "site"};
    const json_t *first = json_array_get(live, from);
    struct run run = {.oldest = first, .one_fd = true};
    for (size_t i = from; i < json_array_size(live); i++) {
        const json_t *op = json_array_get(live, i);
        for (size_t key = 0; key < sizeof keys / sizeof *keys; key++) {
            if (!top_are_equal(op, first, keys[key])) {
                return run;
            }
        }
        run.youngest = op;
        run.count++;
        run.one_fd = run.one_fd && top_number_of(op, "fd") == top_number_of(first, "fd");
        run.has_stack = run.has_stack || json_array_size(json_object_get(op, "frames")) > 0;
    }
    return run;
}

static void draw_titles(struct top_text *text, const struct columns *columns)
{
    top_style(text, TOP_DIM);
    top_print(text, "  %6s %6s %5s %-9s %-8s %5s ", "oldest", "newest", "ops", "state", "kind",
              "fd");
    if (columns->place) {
        top_print(text, "%14s %9s ", "offset", "length");
    }
    if (columns->loop) {
        top_put_cut(text, "loop", LOOP_COLUMNS);
        top_put(text, " ");
    }
    top_put_cut(text, "task", columns->task);
    top_put(text, " submitted at");
    top_end_line(text);
}

/* "" where there are several. */
static void draw_place(struct top_text *text, const struct run *run)
{
    char offset[32] = "";
    char length[32] = "";
    if (run->count == 1) {
        intmax_t at = json_integer_value(json_object_get(run->oldest, "offset"));
        snprintf(offset, sizeof offset, at < 0 ? "-" : "%jd", at);
        snprintf(length, sizeof length, "%ju", (uintmax_t)top_number_of(run->oldest, "length"));
    }
    top_print(text, "%14s %9s ", offset, length);
}

static void draw_run(struct top_text *text, const struct run *run, const struct columns *columns)
{
    char oldest[TOP_NUMBER_SIZE];
    char newest[TOP_NUMBER_SIZE] = "";
    char count[32] = "";
    char fd[32] = "-";
    int64_t number = json_integer_value(json_object_get(run->oldest, "fd"));
    if (run->count > 1) {
        top_duration(top_number_of(run->youngest, "age_ns"), newest);
        snprintf(count, sizeof count, "x%zu", run->count);
    }
    if (!run->one_fd) {
        snprintf(fd, sizeof fd, "..");
    } else if (number >= 0) {
        snprintf(fd, sizeof fd, "%jd", (intmax_t)number);
    }
    top_print(text, "  %6s %6s %5s ", top_duration(top_number_of(run->oldest, "age_ns"), oldest),
              newest, count);
    top_print(text, "%-9s ", top_string_of(run->oldest, "state"));
    top_put_cut(text, top_string_of(run->oldest, "kind"), 8);
    top_print(text, " %5s ", fd);
    if (columns->place) {
        draw_place(text, run);
    }
    if (columns->loop) {
        top_put_cut(text, top_string_of(run->oldest, "loop"), LOOP_COLUMNS);
        top_put(text, " ");
    }
    top_put_cut(text, top_string_of(run->oldest, "task"), columns->task);
    top_put(text, " ");
    top_put_end(text, top_string_of(run->oldest, "site"),
                run->has_stack ? (unsigned)sizeof STACK - 1 : 0);
    top_put(text, run->has_stack ? STACK : "");
    top_end_line(text);
}

/* Of those that `most` lines show. */
static size_t count_shown(const json_t *live, unsigned most)
{
    size_t shown = 0;
    for (unsigned line = 0; line < most && shown < json_array_size(live); line++) {
        shown += run_at(live, shown).count;
    }
    return shown;
}

void top_draw_ops(struct top_text *text, const json_t *document, unsigned most)
{
    const json_t *live = json_object_get(document, "live");
    uint64_t count = top_number_of(document, "live_count");
    if (!json_is_array(live) || most == 0) {
        return;
    }
    bool is_wide = text->width == 0 || text->width >= PLACE_WIDTH;
    struct columns columns = {
        .loop = json_array_size(json_object_get(document, "loops")) > 1,
        .place = is_wide,
        .task = is_wide ? TASK_COLUMNS_WIDE : TASK_COLUMNS,
    };
    size_t shown = count_shown(live, most);
    top_end_line(text);
    top_style(text, TOP_BOLD);
    if (count == 0) {
        top_put(text, "no op is live");
        top_end_line(text);
        return;
    }
    top_print(text,
              shown == count ? "live ops: %ju" : "live ops: %ju, the oldest %zu:", (uintmax_t)count,
              shown);
    top_end_line(text);
    draw_titles(text, &columns);
    for (size_t at = 0; at < shown;) {
        struct run run = run_at(live, at);
        draw_run(text, &run, &columns);
        at += run.count;
    }
}
