/* SPDX-License-Identifier: MIT */
/* perf/gate_pictures.c: places panels and fills them; computes nothing that is not shown. */
#include "gate_pictures.h"

#include <string.h>

#include "plot.h"
#include "report.h"

#define WIDTH 760

/* --- latency and throughput versus load ------------------------------------------------------- */

/* One figure of all points with the gate, or without. */
struct curve {
    uint32_t count;
    double x[LOAD_POINTS_MAX];
    double median[LOAD_POINTS_MAX];
    double q1[LOAD_POINTS_MAX];
    double q3[LOAD_POINTS_MAX];
};

static void take_curve(const struct load *load, bool gated, enum load_figure figure,
                       struct curve *ret_curve)
{
    *ret_curve = (struct curve){0};
    for (uint32_t i = 0; i < load->count; i++) {
        const struct load_point *point = &load->points[i];
        if (point->gated == gated && point->trials > 0) {
            uint32_t at = ret_curve->count++;
            ret_curve->x[at] = point->multiplier;
            ret_curve->median[at] = point->figures[figure].median;
            ret_curve->q1[at] = point->figures[figure].q1;
            ret_curve->q3[at] = point->figures[figure].q3;
        }
    }
}

static void draw_curve(const struct panel *panel, const struct curve *curve, bool thin, bool gated)
{
    const char *name = gated ? "on" : "off";
    char class_name[16];
    snprintf(class_name, sizeof class_name, "%s%s", name, thin ? " thin" : "");
    if (!thin) {
        panel_band(panel, curve->x, curve->q1, curve->q3, curve->count, name);
    }
    panel_curve(panel, curve->x, curve->median, curve->count, class_name);
}

static void draw_load_dots(const struct panel *panel, const struct load *load,
                           enum load_figure figure)
{
    for (uint32_t i = 0; i < load->count; i++) {
        const struct load_point *point = &load->points[i];
        panel_dot(panel, point->multiplier, point->figures[figure].median,
                  2 * point->exhausted > point->trials, point->gated ? "on" : "off");
    }
}

static void load_x_axis(struct panel *panel, const struct load *load, bool named)
{
    char text[32];
    panel->x.min = 0.25;
    panel->x.max = 3.25;
    for (uint32_t i = 0; i < load->count; i += 2) {
        double value = load->points[i].multiplier;
        panel_tick_x(panel, value, named ? plot_value(text, value, UNIT_NONE) : "");
    }
    double one = axis_at(&panel->x, 1);
    plot_line(panel->file, one, panel->top, one, panel->top + panel->height, "mark");
}

static void draw_latency(FILE *file, const struct load *load)
{
    static const enum load_figure figures[] = {LOAD_INTENDED_P50, LOAD_INTENDED_P99};
    struct panel panel;
    struct curve curves[2][2];
    double min = 1e12;
    double max = 0;
    for (int i = 0; i < 4; i++) {
        struct curve *curve = &curves[i / 2][i % 2];
        take_curve(load, i % 2 == 0, figures[i / 2], curve);
        for (uint32_t k = 0; k < curve->count; k++) {
            min = curve->q1[k] < min ? curve->q1[k] : min;
            max = curve->q3[k] > max ? curve->q3[k] : max;
        }
    }
    panel_place(&panel, file, 84, 76, WIDTH - 108, 250);
    axis_fit(&panel.y, min, max, true);
    load_x_axis(&panel, load, false);
    panel_ticks_y(&panel, UNIT_TIME, "latency from intended start");
    panel_frame(&panel, NULL);
    for (int i = 0; i < 4; i++) {
        draw_curve(&panel, &curves[i / 2][i % 2], i / 2 == 0, i % 2 == 0);
    }
    draw_load_dots(&panel, load, LOAD_INTENDED_P99);
}

static void draw_throughput(FILE *file, const struct load *load)
{
    struct panel panel;
    struct curve curves[2];
    double capacity = load->points[0].figures[LOAD_CAPACITY].median;
    double max = capacity;
    for (int i = 0; i < 2; i++) {
        take_curve(load, i == 0, LOAD_FINISHED, &curves[i]);
        for (uint32_t k = 0; k < curves[i].count; k++) {
            max = curves[i].q3[k] > max ? curves[i].q3[k] : max;
        }
    }
    panel_place(&panel, file, 84, 350, WIDTH - 108, 110);
    axis_fit(&panel.y, 0, max / 1e3, false);
    panel.y.max = panel.y.max > 0 ? panel.y.max : 1;
    load_x_axis(&panel, load, true);
    panel_ticks_y(&panel, UNIT_NONE, "thousand ops/s");
    panel_frame(&panel, NULL);
    for (int i = 0; i < 2; i++) {
        for (uint32_t k = 0; k < curves[i].count; k++) {
            curves[i].median[k] /= 1e3;
            curves[i].q1[k] /= 1e3;
            curves[i].q3[k] /= 1e3;
        }
        draw_curve(&panel, &curves[i], false, i == 0);
        for (uint32_t k = 0; k < curves[i].count; k++) {
            panel_dot(&panel, curves[i].x[k], curves[i].median[k], false, i == 0 ? "on" : "off");
        }
    }
    plot_text(file, panel.left + panel.width / 2, panel.top + panel.height + 36, "soft", "middle",
              "offered load, times the capacity (closed loop, measured beside each interval)");
}

void draw_load(FILE *file, const struct gate_run *run, const struct load *load)
{
    uint32_t exhausted = 0;
    for (uint32_t i = 0; i < load->count; i++) {
        exhausted += load->points[i].exhausted;
    }
    plot_begin(file, WIDTH, 530, "Latency and throughput versus offered load, gate on and off");
    plot_text(file, 84, 24, "title", "start",
              "Latency of what was accepted, and throughput, when more comes than fits");
    double x = plot_legend(file, 84, 48, "line on", "gate on, p99");
    x = plot_legend(file, x, 48, "line on thin", "gate on, p50");
    x = plot_legend(file, x, 48, "line off", "gate off, p99");
    plot_legend(file, x, 48, "line off thin", "gate off, p50");
    draw_latency(file, load);
    draw_throughput(file, load);
    if (exhausted > 0) {
        plot_text(file, 84, 520, "soft", "start",
                  "bands: quartiles of the rounds; hollow: ended early, all %u requests were out",
                  run->options->pool);
    } else {
        plot_text(file, 84, 520, "soft", "start", "bands: quartiles of the rounds");
    }
    plot_end(file);
}

/* --- two tasks -------------------------------------------------------------------------------- */

#define ROW 26
#define GROUP (SHARING_COUNT * ROW + 34) /* a policy: its name, then its rows */
#define ROWS_TOP 92

static double row_middle(uint32_t group, int row)
{
    return ROWS_TOP + group * (double)GROUP + 22 + (row + 0.5) * ROW;
}

static bool has_figure(enum sharing sharing, enum task_figure figure)
{
    bool of_front = figure <= TASK_FRONT_RATIO && figure >= TASK_FRONT_PER_S;
    bool of_back = figure == TASK_BACK_PER_S || figure == TASK_BACK_RATIO;
    return !(of_front && sharing == SHARING_BACK_ALONE) &&
           !(of_back && sharing == SHARING_FRONT_ALONE);
}

/* From p50 to p99, with a dot at either. */
static void draw_range(const struct panel *panel, const struct sharing_row *row,
                       enum task_figure p50, enum task_figure p99, double middle)
{
    double from = row->figures[p50].median;
    double to = row->figures[p99].median;
    panel_bar(panel, from, to, middle, 6, "bar on wide");
    const double ends[] = {from, to};
    for (int i = 0; i < 2; i++) {
        fprintf(panel->file, "<circle class=\"dot on %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n",
                i == 0 ? "hollow" : "full", axis_at(&panel->x, ends[i]), middle);
    }
}

static double largest(const struct gate_results *results, enum task_figure figure)
{
    double max = 0;
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        for (int row = 0; row < SHARING_COUNT; row++) {
            double value = results->tasks[i].rows[row].figures[figure].median;
            max = value > max ? value : max;
        }
    }
    return max;
}

static double smallest(const struct gate_results *results, enum task_figure figure)
{
    double min = 1e12;
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        for (int row = 0; row < SHARING_COUNT; row++) {
            double value = results->tasks[i].rows[row].figures[figure].median;
            min = value > 0 && value < min ? value : min;
        }
    }
    return min;
}

/* A line over the rows of one policy that are judged by it. */
static void draw_limit(const struct panel *panel, uint32_t group, double value)
{
    double x = axis_at(&panel->x, value);
    plot_line(panel->file, x, row_middle(group, SHARING_OFF) - ROW / 2.0, x,
              row_middle(group, SHARING_COUNT - 1) + ROW / 2.0, "line goal");
}

static void draw_ranges(FILE *file, const struct gate_results *results, double left, double width,
                        enum task_figure p50, enum task_figure p99, const char *title)
{
    struct panel panel;
    panel_place(&panel, file, left, ROWS_TOP, width, results->tasks_count * (double)GROUP);
    axis_fit(&panel.x, smallest(results, p50), largest(results, p99), true);
    panel_ticks_x(&panel, UNIT_TIME, "time, p50 to p99");
    panel_frame(&panel, title);
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        const struct tasks *tasks = &results->tasks[i];
        for (int row = 0; row < SHARING_COUNT; row++) {
            if (has_figure((enum sharing)row, p50)) {
                draw_range(&panel, &tasks->rows[row], p50, p99, row_middle(i, row));
            }
        }
        if (p50 == TASK_FRONT_P50) {
            draw_limit(&panel, i,
                       3 * tasks->rows[SHARING_FRONT_ALONE].figures[TASK_FRONT_P99].median);
        }
    }
}

static void draw_background(FILE *file, const struct gate_results *results, double left,
                            double width)
{
    const double gib = 1u << 30;
    struct panel panel;
    panel_place(&panel, file, left, ROWS_TOP, width, results->tasks_count * (double)GROUP);
    axis_fit(&panel.x, 0, largest(results, TASK_BACK_PER_S) / gib, false);
    panel_ticks_x(&panel, UNIT_NONE, "throughput, GiB/s");
    panel_frame(&panel, "Background");
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        const struct sharing_row *rows = results->tasks[i].rows;
        for (int row = 0; row < SHARING_COUNT; row++) {
            if (has_figure((enum sharing)row, TASK_BACK_PER_S)) {
                panel_bar(&panel, 0, rows[row].figures[TASK_BACK_PER_S].median / gib,
                          row_middle(i, row), 12, "bar off");
            }
        }
        double front = rows[SHARING_ON].figures[TASK_FRONT_PER_S].median * FRONT_BLOCK;
        double alone = rows[SHARING_BACK_ALONE].figures[TASK_BACK_PER_S].median;
        draw_limit(&panel, i, 0.85 * (alone - front) / gib);
    }
}

void draw_tasks(FILE *file, const struct gate_results *results)
{
    double height = ROWS_TOP + results->tasks_count * (double)GROUP + 76;
    plot_begin(file, WIDTH, height, "A paced foreground task beside a saturating background one");
    plot_text(file, 12, 24, "title", "start",
              "4 KiB reads at a tenth of the capacity beside 64 random reads of 128 KiB");
    double x = plot_legend(file, 12, 48, "line on", "hollow: p50, full: p99");
    plot_legend(file, x, 48, "line goal", "wanted: 3 times the p99 alone; 0.85 of the background");
    for (uint32_t i = 0; i < results->tasks_count; i++) {
        plot_text(file, 12, row_middle(i, 0) - ROW / 2.0 - 6, "title", "start", "%s",
                  policy_name(results->tasks[i].policy));
        for (int row = 0; row < SHARING_COUNT; row++) {
            plot_text(file, 12, row_middle(i, row) + 4, "soft", "start", "%s",
                      sharing_name((enum sharing)row));
        }
    }
    draw_ranges(file, results, 150, 220, TASK_FRONT_P50, TASK_FRONT_P99, "Foreground latency");
    draw_ranges(file, results, 418, 142, TASK_TURN_P50, TASK_TURN_P99, "Length of a turn");
    draw_background(file, results, 598, 138);
    plot_text(file, 12, height - 12, "soft", "start",
              "medians of the rounds; latency from the intended start; turns that were not to "
              "sleep");
    plot_end(file);
}

/* --- the latency goal ------------------------------------------------------------------------- */

static void shade_high_load(const struct panel *panel, const struct goal_trial *trial,
                            double window_s)
{
    for (uint32_t i = 0; i < trial->window_count; i++) {
        if (trial->windows[i].multiplier > 1) {
            panel_span(panel, i * window_s, (i + 1) * window_s, "shade");
        }
    }
}

static void draw_p99(FILE *file, const struct goal_trial *trials[2], double window_s)
{
    struct panel panel;
    double max = GOAL_SLACK * (double)trials[0]->goal_ns;
    double min = (double)trials[0]->goal_ns;
    double x[GOAL_WINDOWS];
    double y[2][GOAL_WINDOWS];
    for (int i = 0; i < 2; i++) {
        for (uint32_t k = 0; k < trials[i]->window_count; k++) {
            x[k] = k * window_s;
            y[i][k] = (double)trials[i]->windows[k].flight_p99_ns;
            max = y[i][k] > max ? y[i][k] : max;
            min = y[i][k] < min ? y[i][k] : min;
        }
    }
    panel_place(&panel, file, 84, 70, WIDTH - 108, 180);
    axis_fit(&panel.y, min, max, true);
    panel.x.max = GOAL_WINDOWS * window_s;
    shade_high_load(&panel, trials[0], window_s);
    panel_ticks_y(&panel, UNIT_TIME, "p99 of FLIGHT");
    panel_frame(&panel, NULL);
    for (int i = 0; i < 2; i++) {
        panel_steps(&panel, x, y[i], trials[i]->window_count, trials[i]->window_count * window_s,
                    i == 0 ? "on" : "off");
    }
    double goal = axis_at(&panel.y, (double)trials[0]->goal_ns);
    plot_line(file, panel.left, goal, panel.left + panel.width, goal, "line goal");
}

static void draw_depth(FILE *file, const struct goal_trial *trials[2], double window_s)
{
    struct panel panel;
    double x[GOAL_WINDOWS * WINDOW_SAMPLES];
    double y[GOAL_WINDOWS * WINDOW_SAMPLES];
    uint32_t max = 1;
    for (uint32_t i = 0; i < 2 * GOAL_WINDOWS * WINDOW_SAMPLES; i++) {
        uint32_t depth =
            trials[i % 2]->windows[i / 2 / WINDOW_SAMPLES].depths[i / 2 % WINDOW_SAMPLES];
        max = depth > max ? depth : max;
    }
    panel_place(&panel, file, 84, 274, WIDTH - 108, 120);
    axis_fit(&panel.y, 0, max, false);
    panel.x.max = GOAL_WINDOWS * window_s;
    shade_high_load(&panel, trials[0], window_s);
    panel_ticks_y(&panel, UNIT_NONE, "depth of the gate");
    panel_ticks_x(&panel, UNIT_NONE, "seconds");
    panel_frame(&panel, NULL);
    for (int i = 1; i >= 0; i--) {
        uint32_t count = trials[i]->window_count * WINDOW_SAMPLES;
        for (uint32_t k = 0; k < count; k++) {
            x[k] = (k + 1) * window_s / WINDOW_SAMPLES;
            uint32_t window = k / WINDOW_SAMPLES;
            y[k] = trials[i]->windows[window].depths[k % WINDOW_SAMPLES];
        }
        panel_curve(&panel, x, y, count, i == 0 ? "on" : "off");
    }
}

void draw_goal(FILE *file, const struct goal *goal)
{
    const struct goal_trial *trials[2] = {
        &goal->with.trials[goal->rounds - 1],
        &goal->without.trials[goal->rounds - 1],
    };
    char text[32];
    plot_begin(file, WIDTH, 460,
               "p99 of FLIGHT and depth over time, with a latency goal and "
               "without");
    plot_text(file, 84, 24, "title", "start",
              "A latency goal steers the depth while the load jumps (last round)");
    double x = plot_legend(file, 84, 48, "line on", "with the goal");
    x = plot_legend(file, x, 48, "line off", "without");
    char name[64];
    snprintf(name, sizeof name, "goal, %s",
             plot_value(text, (double)trials[0]->goal_ns, UNIT_TIME));
    plot_legend(file, x, 48, "line goal", name);
    draw_p99(file, trials, goal->window_s);
    draw_depth(file, trials, goal->window_s);
    plot_text(
        file, 84, 452, "soft", "start",
        "shaded: 3 times the capacity is offered, else 0.5 times; the first window is not judged");
    plot_end(file);
}
