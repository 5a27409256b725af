/* SPDX-License-Identifier: MIT */
/* perf/gate_pictures.h: the pictures of the experiments, each an <svg> of a fixed size. */
#ifndef PERF_GATE_PICTURES_H
#define PERF_GATE_PICTURES_H

#include <stdio.h>

#include "gate.h"

void draw_load(FILE *file, const struct gate_run *run, const struct load *load);
void draw_tasks(FILE *file, const struct gate_results *results);
void draw_goal(FILE *file, const struct goal *goal);

#endif
