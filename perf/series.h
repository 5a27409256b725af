/* SPDX-License-Identifier: MIT */
/* perf/series.h: a list of figures and what is said about it: the median and its spread. */
#ifndef PERF_SERIES_H
#define PERF_SERIES_H

#include <stddef.h>

struct series {
    double *values;
    size_t count;
    size_t room;
};

struct summary {
    double median;
    double q1; /* quartiles, interpolated */
    double q3;
    double min;
    double max;
};

void series_add(struct series *series, double value);
/* All zero when empty. Sorts the series. */
struct summary series_summary(struct series *series);
/* The value that `percent` of them do not exceed. Sorts the series; 0 when empty. */
double series_percentile(struct series *series, double percent);
void series_free(struct series *series);

#endif
