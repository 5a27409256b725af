/* SPDX-License-Identifier: MIT */
/*
 * perf/plot.h: line drawings as SVG that stands for itself: no scripts, nothing loaded from
 * elsewhere, readable on light and on dark. Classes say what a thing is, the style says how it
 * looks: "on" and "off" are two series, "goal" a line to keep below; "thin" makes a line the lesser
 * of its series, "band" fills. Must not know what is drawn.
 */
#ifndef PERF_PLOT_H
#define PERF_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct axis {
    double min;
    double max;
    bool log;
    double from; /* pixels: where min is */
    double to;
};

/* A rectangle with two axes. */
struct panel {
    FILE *file;
    double left;
    double top;
    double width;
    double height;
    struct axis x;
    struct axis y;
};

/* A picture of that many pixels; `what` is read aloud to who does not see it. */
void plot_begin(FILE *file, double width, double height, const char *what);
void plot_end(FILE *file);
/* The style that all pictures share, for a page that holds several: its colours are variables. */
void plot_write_colours(FILE *file);

/* anchor: "start", "middle" or "end". */
void plot_text(FILE *file, double x, double y, const char *class_name, const char *anchor,
               const char *format, ...) __attribute__((format(printf, 6, 7)));
void plot_line(FILE *file, double x1, double y1, double x2, double y2, const char *class_name);
/* A sample of a line or, with a width, of an area, and its name; where the next may begin. */
double plot_legend(FILE *file, double x, double y, const char *class_name, const char *name);

/* Where a value lies, in pixels; values outside are brought to the edge. */
double axis_at(const struct axis *axis, double value);
/* Widened to whole decades (log) or from 0 to a round figure. */
void axis_fit(struct axis *axis, double min, double max, bool log);

/* Sets the axes' pixels; min, max and log are the caller's. */
void panel_place(struct panel *panel, FILE *file, double left, double top, double width,
                 double height);

enum unit { UNIT_NONE, UNIT_TIME, UNIT_BYTES };

/* The frame, the ticks with their lines, and the names of the axes ("" or NULL: none). */
void panel_frame(const struct panel *panel, const char *title);
void panel_ticks_y(const struct panel *panel, enum unit unit, const char *name);
void panel_ticks_x(const struct panel *panel, enum unit unit, const char *name);
/* A tick of the x axis by itself. */
void panel_tick_x(const struct panel *panel, double value, const char *text);

void panel_curve(const struct panel *panel, const double *x, const double *y, uint32_t count,
                 const char *class_name);
/* Between two curves. */
void panel_band(const struct panel *panel, const double *x, const double *low, const double *high,
                uint32_t count, const char *class_name);
/* A value that stands from each x to the next one, and to `end`. */
void panel_steps(const struct panel *panel, const double *x, const double *y, uint32_t count,
                 double end, const char *class_name);
void panel_dot(const struct panel *panel, double x, double y, bool hollow, const char *class_name);
/* From one value of the x axis to another: at full height, or around a height in pixels. */
void panel_span(const struct panel *panel, double x1, double x2, const char *class_name);
void panel_bar(const struct panel *panel, double x1, double x2, double middle, double thickness,
               const char *class_name);

/* "10 us", "1.5 GiB", "3". Returns text. */
const char *plot_value(char text[32], double value, enum unit unit);

#endif
