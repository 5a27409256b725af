/* SPDX-License-Identifier: MIT */
/* perf/plot.c: shapes, and the arithmetic of axes. */
#include "plot.h"

#include <math.h>
#include <stdarg.h>

#define TICKS 5 /* of a linear axis, about */

static const char light[] =
    "--paper:#ffffff;--ink:#1f2328;--soft:#59636e;--grid:#e4e7eb;--shade:#f1f3f6;"
    "--on:#0a60c9;--off:#bf5000;--goal:#16803c;";
static const char dark[] =
    "--paper:#0f1318;--ink:#e8ecf1;--soft:#9aa5b1;--grid:#262d36;--shade:#1a2028;"
    "--on:#63adff;--off:#ff9a4d;--goal:#4cc571;";

void plot_write_colours(FILE *file)
{
    fprintf(file, ":root{%s}@media(prefers-color-scheme:dark){:root{%s}}", light, dark);
}

void plot_begin(FILE *file, double width, double height, const char *what)
{
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
            "viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n<style>",
            width, height, width, height, what);
    plot_write_colours(file);
    fputs("text{font:12px system-ui,\"DejaVu Sans\",sans-serif;fill:var(--ink)}"
          "text.title{font-size:14px;font-weight:600}text.soft{fill:var(--soft)}"
          ""
          ".paper{fill:var(--paper)}.shade{fill:var(--shade)}"
          ".frame,.grid{fill:none;stroke:var(--grid);stroke-width:1}.mark{stroke:var(--soft);"
          "stroke-dasharray:3 3;fill:none}"
          ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
          ".line.on,.dot.on{stroke:var(--on)}.line.off,.dot.off{stroke:var(--off)}"
          ".line.goal{stroke:var(--goal);stroke-dasharray:6 4;stroke-width:1.5}"
          ".line.thin{stroke-width:1.5;stroke-dasharray:2 4}"
          ".band{stroke:none;opacity:.18}.bar{stroke:none}"
          ".dot{stroke-width:2}.hollow{fill:var(--paper)}"
          ".band.on,.bar.on,.dot.on.full{fill:var(--on)}"
          ".band.off,.bar.off,.dot.off.full{fill:var(--off)}"
          ".bar.wide{opacity:.35}</style>\n",
          file);
    fprintf(file, "<rect class=\"paper\" width=\"%.0f\" height=\"%.0f\"/>\n", width, height);
}

void plot_end(FILE *file)
{
    fputs("</svg>\n", file);
}

void plot_text(FILE *file, double x, double y, const char *class_name, const char *anchor,
               const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(file, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class_name, x, y,
            anchor);
    vfprintf(file, format, arguments);
    va_end(arguments);
    fputs("</text>\n", file);
}

void plot_line(FILE *file, double x1, double y1, double x2, double y2, const char *class_name)
{
    fprintf(file, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
            class_name, x1, y1, x2, y2);
}

double plot_legend(FILE *file, double x, double y, const char *class_name, const char *name)
{
    double length = 0;
    plot_line(file, x, y - 4, x + 22, y - 4, class_name);
    plot_text(file, x + 28, y, "soft", "start", "%s", name);
    for (const char *c = name; *c != '\0'; c++) {
        length += 6.4;
    }
    return x + 28 + length + 18;
}

double axis_at(const struct axis *axis, double value)
{
    double low = axis->min;
    double high = axis->max;
    value = value < low ? low : value > high ? high : value;
    double part = axis->log ? log(value / low) / log(high / low) : (value - low) / (high - low);
    return axis->from + part * (axis->to - axis->from);
}

/* 1, 2 or 5 times a power of ten, not below. */
static double round_up(double value)
{
    double power = pow(10, floor(log10(value)));
    double digit = value / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

void axis_fit(struct axis *axis, double min, double max, bool log)
{
    axis->log = log;
    if (log) {
        min = min > 0 ? min : 1;
        axis->min = pow(10, floor(log10(min)));
        axis->max = pow(10, ceil(log10(max > min ? max * 1.0001 : min * 10)));
    } else {
        double step = round_up((max > 0 ? max : 1) / TICKS);
        axis->min = 0;
        axis->max = step * ceil((max > 0 ? max : 1) / step);
    }
}

void panel_place(struct panel *panel, FILE *file, double left, double top, double width,
                 double height)
{
    *panel = (struct panel){
        .file = file,
        .left = left,
        .top = top,
        .width = width,
        .height = height,
        .x = {.min = 0, .max = 1, .from = left, .to = left + width},
        .y = {.min = 0, .max = 1, .from = top + height, .to = top},
    };
}

const char *plot_value(char text[32], double value, enum unit unit)
{
    static const char *const times[] = {"ns", "\302\265s", "ms", "s"};
    static const char *const sizes[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    const char *name = "";
    if (unit == UNIT_TIME) {
        int i = 0;
        for (; i < 3 && value >= 999.5; i++) {
            value /= 1000;
        }
        name = times[i];
    } else if (unit == UNIT_BYTES) {
        int i = 0;
        for (; i < 4 && value >= 1023.5; i++) {
            value /= 1024;
        }
        name = sizes[i];
    }
    snprintf(text, 32, unit == UNIT_NONE ? "%.4g%s%s" : "%.3g%s%s", value, *name != '\0' ? " " : "",
             name);
    return text;
}

void panel_frame(const struct panel *panel, const char *title)
{
    fprintf(panel->file,
            "<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
            panel->left, panel->top, panel->width, panel->height);
    if (title != NULL) {
        plot_text(panel->file, panel->left, panel->top - 10, "title", "start", "%s", title);
    }
}

/* The value of a tick; false: past the end. */
static bool next_tick(const struct axis *axis, int number, double *ret_value)
{
    if (axis->log) {
        *ret_value = axis->min * pow(10, number);
    } else {
        *ret_value = axis->min + number * round_up((axis->max - axis->min) / TICKS);
    }
    return *ret_value <= axis->max * 1.0001;
}

void panel_ticks_y(const struct panel *panel, enum unit unit, const char *name)
{
    char text[32];
    double value;
    for (int i = 0; next_tick(&panel->y, i, &value); i++) {
        double y = axis_at(&panel->y, value);
        plot_line(panel->file, panel->left, y, panel->left + panel->width, y, "grid");
        plot_text(panel->file, panel->left - 8, y + 4, "soft", "end", "%s",
                  plot_value(text, value, unit));
    }
    if (name != NULL) {
        double middle = panel->top + panel->height / 2;
        fprintf(panel->file,
                "<text class=\"soft\" text-anchor=\"middle\" transform=\"translate(%.1f %.1f) "
                "rotate(-90)\">%s</text>\n",
                panel->left - 58, middle, name);
    }
}

void panel_tick_x(const struct panel *panel, double value, const char *text)
{
    double x = axis_at(&panel->x, value);
    double bottom = panel->top + panel->height;
    plot_line(panel->file, x, panel->top, x, bottom, "grid");
    plot_text(panel->file, x, bottom + 16, "soft", "middle", "%s", text);
}

void panel_ticks_x(const struct panel *panel, enum unit unit, const char *name)
{
    char text[32];
    double value;
    for (int i = 0; next_tick(&panel->x, i, &value); i++) {
        panel_tick_x(panel, value, plot_value(text, value, unit));
    }
    if (name != NULL) {
        plot_text(panel->file, panel->left + panel->width / 2, panel->top + panel->height + 36,
                  "soft", "middle", "%s", name);
    }
}

void panel_curve(const struct panel *panel, const double *x, const double *y, uint32_t count,
                 const char *class_name)
{
    fprintf(panel->file, "<polyline class=\"line %s\" points=\"", class_name);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(panel->file, "%.1f,%.1f ", axis_at(&panel->x, x[i]), axis_at(&panel->y, y[i]));
    }
    fputs("\"/>\n", panel->file);
}

void panel_band(const struct panel *panel, const double *x, const double *low, const double *high,
                uint32_t count, const char *class_name)
{
    fprintf(panel->file, "<polygon class=\"band %s\" points=\"", class_name);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(panel->file, "%.1f,%.1f ", axis_at(&panel->x, x[i]), axis_at(&panel->y, low[i]));
    }
    for (uint32_t i = count; i > 0; i--) {
        fprintf(panel->file, "%.1f,%.1f ", axis_at(&panel->x, x[i - 1]),
                axis_at(&panel->y, high[i - 1]));
    }
    fputs("\"/>\n", panel->file);
}

void panel_steps(const struct panel *panel, const double *x, const double *y, uint32_t count,
                 double end, const char *class_name)
{
    fprintf(panel->file, "<polyline class=\"line %s\" points=\"", class_name);
    for (uint32_t i = 0; i < count; i++) {
        double next = i + 1 < count ? x[i + 1] : end;
        double height = axis_at(&panel->y, y[i]);
        fprintf(panel->file, "%.1f,%.1f %.1f,%.1f ", axis_at(&panel->x, x[i]), height,
                axis_at(&panel->x, next), height);
    }
    fputs("\"/>\n", panel->file);
}

void panel_dot(const struct panel *panel, double x, double y, bool hollow, const char *class_name)
{
    fprintf(panel->file, "<circle class=\"dot %s %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n",
            class_name, hollow ? "hollow" : "full", axis_at(&panel->x, x), axis_at(&panel->y, y));
}

void panel_span(const struct panel *panel, double x1, double x2, const char *class_name)
{
    panel_bar(panel, x1, x2, panel->top + panel->height / 2, panel->height, class_name);
}

void panel_bar(const struct panel *panel, double x1, double x2, double middle, double thickness,
               const char *class_name)
{
    double from = axis_at(&panel->x, x1);
    double to = axis_at(&panel->x, x2);
    fprintf(panel->file,
            "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
            class_name, from, middle - thickness / 2, to - from > 1 ? to - from : 1, thickness);
}
