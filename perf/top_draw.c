/* SPDX-License-Identifier: MIT */
#include "top_draw.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "top_json.h"
#include "top_tasks.h"

#define BAR 20
#define STILL_NS 100000000u /* in one callback or turn: it stands still */

/* What is being drawn. */
struct drawing {
    struct top_text *text;
    const json_t *document;
    double interval;
    unsigned lines_max; /* 0: no bound */
    unsigned loops_left_out;
    unsigned tasks_left_out;
};

bool top_is_sound(const json_t *document)
{
    return json_is_integer(json_object_get(document, "taken_ns")) &&
           json_is_array(json_object_get(document, "loops")) &&
           json_is_array(json_object_get(document, "tasks")) &&
           json_object_get(document, "live") != NULL;
}

/* --- the process and its loops ---------------------------------------------------------------- */

static void draw_process(struct top_text *text, const struct top_view *view)
{
    char link[64];
    char program[PATH_MAX];
    char clock[16] = "";
    struct tm local;
    if (localtime_r(&view->now, &local)) {
        strftime(clock, sizeof clock, "%H:%M:%S", &local);
    }
    top_style(text, TOP_BOLD);
    top_print(text, "weir-top  %s", clock);
    if (view->hint) {
        top_plain(text);
        top_print(text, "  %s", view->hint);
        top_style(text, TOP_BOLD);
    }
    top_print(text, "  %s", view->path);
    if (view->pid > 0) {
        snprintf(link, sizeof link, "/proc/%d/exe", (int)view->pid);
        ssize_t length = readlink(link, program, sizeof program - 1);
        program[length > 0 ? length : 0] = '\0';
        top_print(text, "  pid %d", (int)view->pid);
        top_print(text, length > 0 ? "  %s" : "%s", program);
    }
    top_end_line(text);
}

static void draw_interval(struct top_text *text, const struct top_view *view)
{
    char number[TOP_NUMBER_SIZE];
    double interval = view->document ? top_interval_of(view->document) : 0;
    if (view->trouble) {
        top_style(text, TOP_BOLD);
        top_style(text, TOP_RED);
        top_put(text, view->trouble);
    } else if (interval > 0) {
        top_print(text, "over %s", top_duration((uint64_t)(interval * 1e9), number));
    } else {
        top_put(text, "since the loops were opened");
    }
    if (!view->trouble) {
        top_put(text, "; age: of the oldest op; times of stages: p50/p99");
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
    uint64_t depth = top_number_of(gate, "depth");
    uint64_t depth_max = top_number_of(gate, "depth_max");
    uint64_t in_flight = top_number_of(gate, "in_flight");
    uint64_t places = top_number_of(gate, "places");
    if (depth_max == 0) {
        return; /* no workers: no offload gate */
    }
    top_print(text, "  %-8s", top_string_of(gate, "gate"));
    draw_bar(text, in_flight, depth, depth_max);
    top_print(text, "  %ju in flight of %ju", (uintmax_t)in_flight, (uintmax_t)depth);
    if (depth < depth_max) {
        const char *reason = top_string_of(gate, "reason");
        const char *whose = strcmp(reason, "task_goal") == 0 ? "a task's goal" : "the loop's goal";
        top_style(text, TOP_YELLOW);
        top_print(text, " (opened with %ju, lowered for %s)", (uintmax_t)depth_max, whose);
        top_plain(text);
    }
    top_print(text, ", %ju", (uintmax_t)top_number_of(gate, "waiting"));
    if (places >= depth_max) { /* what a goal withholds may wait too */
        top_print(text, " of %ju", (uintmax_t)(places - depth));
    }
    top_put(text, " waiting");
    top_end_line(text);
}

/* "  STANDS STILL 4.0s in observed+0x172d, the callback of a call of checksum (a.c:12)". */
static void draw_still(struct top_text *text, const json_t *at)
{
    char number[TOP_NUMBER_SIZE];
    top_style(text, TOP_BOLD);
    top_style(text, TOP_RED);
    top_print(text, "  STANDS STILL %s in ", top_duration(top_number_of(at, "since_ns"), number));
    if (strcmp(top_string_of(at, "phase"), "turn") == 0) {
        top_put(text, "a turn, but in no callback");
    } else {
        top_print(text, "%s, the callback of a %s of %s", top_string_of(at, "callback"),
                  top_string_of(at, "kind"), top_string_of(at, "task"));
    }
    const char *site = top_string_of(at, "site");
    if (site[0]) {
        top_put(text, " (");
        top_put_end(text, site, 1);
        top_put(text, ")");
    }
    top_end_line(text);
}

/* Whether what is shown of it is as of now. */
static void draw_phase(const struct drawing *drawing, const json_t *loop)
{
    struct top_text *text = drawing->text;
    const json_t *at = json_object_get(loop, "at");
    const char *phase = top_string_of(at, "phase");
    bool is_inside = strcmp(phase, "callback") == 0 || strcmp(phase, "turn") == 0;
    if (is_inside && top_number_of(at, "since_ns") > STILL_NS) {
        draw_still(text, at);
        return;
    }
    bool has_moved = top_counter_of(loop, "turns") > 0 || top_counter_of(loop, "finished") > 0;
    if (drawing->interval > 0 && json_is_true(json_object_get(loop, "has_state")) && !has_moved &&
        strcmp(phase, "asleep") != 0 && top_live_of(drawing->document, loop) > 0) {
        top_style(text, TOP_YELLOW);
        top_put(text, "  no turn in this interval: what is listed as in flight may be back "
                      "already");
        top_end_line(text);
    }
}

static void draw_loop(const struct drawing *drawing, const json_t *loop)
{
    struct top_text *text = drawing->text;
    double interval = drawing->interval;
    char number[TOP_NUMBER_SIZE];
    uint64_t loops = top_number_of(loop, "loops");
    top_end_line(text);
    top_style(text, TOP_BOLD);
    top_put(text, top_string_of(loop, "label"));
    top_plain(text);
    if (loops > 1) {
        top_print(text, " (%ju loops)", (uintmax_t)loops);
    }
    top_print(text, "  %s: %s", top_string_of(loop, "backend"), top_string_of(loop, "reason"));
    top_end_line(text);
    draw_phase(drawing, loop);
    if (!json_is_true(json_object_get(loop, "has_state"))) {
        top_put(text, "  not opened WEIR_INSPECTABLE: no gates and no live ops");
        top_end_line(text);
        return;
    }
    const json_t *gates = json_object_get(loop, "gates");
    for (size_t i = 0; i < json_array_size(gates); i++) {
        draw_gate(text, json_array_get(gates, i));
    }
    top_print(text, "  timers %ju", (uintmax_t)top_counter_of(loop, "timers"));
    if (interval > 0) {
        double turns = (double)top_counter_of(loop, "turns") / interval;
        double refused = (double)top_counter_of(loop, "refused") / interval;
        top_print(text, ", turns %s/s", top_number(turns, number));
        top_print(text, ", refused %s/s", top_number(refused, number));
    }
    top_end_line(text);
}

/* Of what was left out, one line. */
static void draw_left_out(const struct drawing *drawing)
{
    struct top_text *text = drawing->text;
    unsigned loops = drawing->loops_left_out;
    unsigned tasks = drawing->tasks_left_out;
    top_keep_lines(text, drawing->lines_max > 0 ? drawing->lines_max - 1 : 0);
    top_style(text, TOP_YELLOW);
    top_put(text, "  ...");
    if (loops > 0) {
        top_print(text, " %u %s%s", loops, loops == 1 ? "loop" : "loops", tasks > 0 ? "," : "");
    }
    if (tasks > 0) {
        top_print(text, " %u %s", tasks, tasks == 1 ? "task" : "tasks");
    }
    top_put(text, " more");
    top_end_line(text);
}

static bool is_full(const struct drawing *drawing)
{
    return drawing->lines_max > 0 && drawing->text->lines + 1 >= drawing->lines_max;
}

void top_draw_loops(struct top_text *text, const struct top_view *view)
{
    const json_t *loops = json_object_get(view->document, "loops");
    struct drawing drawing = {
        .text = text,
        .document = view->document,
        .interval = view->document ? top_interval_of(view->document) : 0,
        .lines_max = view->lines_max,
    };
    draw_process(text, view);
    draw_interval(text, view);
    if (view->document && json_array_size(loops) == 0) {
        top_put(text, "no loops");
        top_end_line(text);
    }
    for (size_t i = 0; i < json_array_size(loops); i++) {
        const json_t *loop = json_array_get(loops, i);
        if (is_full(&drawing)) {
            drawing.loops_left_out++;
        } else {
            draw_loop(&drawing, loop);
        }
        drawing.tasks_left_out += top_draw_tasks(text, view->document, loop, view->lines_max);
    }
    if (drawing.loops_left_out + drawing.tasks_left_out > 0) {
        draw_left_out(&drawing);
    }
}
