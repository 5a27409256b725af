/* SPDX-License-Identifier: MIT */
/* perf/series.c: sorts and interpolates. */
#include "series.h"

#include <stdio.h>
#include <stdlib.h>

void series_add(struct series *series, double value)
{
    if (series->count == series->room) {
        series->room = series->room == 0 ? 64 : 2 * series->room;
        series->values = realloc(series->values, series->room * sizeof *series->values);
        if (series->values == NULL) {
            perror("weir-perf");
            exit(1);
        }
    }
    series->values[series->count++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at_fraction(const struct series *sorted, double fraction)
{
    double place = fraction * (double)(sorted->count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < sorted->count ? below + 1 : below;
    double share = place - (double)below;
    return sorted->values[below] * (1 - share) + sorted->values[above] * share;
}

double series_percentile(struct series *series, double percent)
{
    if (series->count == 0) {
        return 0;
    }
    qsort(series->values, series->count, sizeof *series->values, compare);
    return at_fraction(series, percent / 100);
}

struct summary series_summary(struct series *series)
{
    if (series->count == 0) {
        return (struct summary){0};
    }
    qsort(series->values, series->count, sizeof *series->values, compare);
    return (struct summary){
        .median = at_fraction(series, 0.5),
        .q1 = at_fraction(series, 0.25),
        .q3 = at_fraction(series, 0.75),
        .min = series->values[0],
        .max = series->values[series->count - 1],
    };
}

void series_free(struct series *series)
{
    free(series->values);
    *series = (struct series){0};
}
