/* SPDX-License-Identifier: MIT */
/* storm_task.c: tasks come with random limits; which of them the engine must refuse. */
#include "storm.h"

#include <errno.h>
#include <stdio.h>

static bool may_reserve(const struct storm *storm, enum bound bound, const struct line *line)
{
    return line->reserve == 0 ||
           ((line->depth == 0 || line->reserve <= line->depth) &&
            line_reserved(storm, bound) < gate_credits(storm, bound) &&
            line->reserve < gate_credits(storm, bound) - line_reserved(storm, bound));
}

static void draw_limits(struct storm *storm, struct weir_task_options *options)
{
    uint64_t depth = storm->options.depth;
    options->share = (uint32_t)ONE_OF(storm, 0, 1, 2, 7, WEIR_SHARE_MAX, WEIR_SHARE_MAX + 1);
    if (storm_random(storm, 3) == 0) { /* only measured */
        options->share = 0;
        return;
    }
    options->depth = (uint32_t)ONE_OF(storm, 0, 0, 1, 2, depth);
    options->reserve = (uint32_t)ONE_OF(storm, 0, 0, 1, 2, depth / 2);
    options->offload_depth = (uint32_t)ONE_OF(storm, 0, 0, 0, 1, 3);
    options->offload_reserve = (uint32_t)ONE_OF(storm, 0, 0, 0, 1, 2);
    options->bytes_max = ONE_OF(storm, 0, 0, 500, 5000);
    options->goal_ns = ONE_OF(storm, 0, 0, 0, 1, 200 * WEIR_US);
}

void task_open(struct storm *storm, int task)
{
    bool workers = storm->options.offload_workers != WEIR_NO_OFFLOAD;
    char name[16];
    snprintf(name, sizeof name, "task %d", task);
    struct weir_task_options options = {.name = name};
    draw_limits(storm, &options);
    struct line *main = &storm->lines[BOUND_GATE][task];
    struct line *offload = &storm->lines[BOUND_OFFLOAD][task];
    struct line mine = {.depth = options.depth,
                        .reserve = options.reserve,
                        .bytes_max = options.bytes_max,
                        .goal_ns = options.goal_ns};
    struct line theirs = {.depth = options.offload_depth,
                          .reserve = options.offload_reserve,
                          .bytes_max = workers ? options.bytes_max : 0,
                          .goal_ns = workers ? options.goal_ns : 0};
    main->reserve = 0;
    offload->reserve = 0;
    bool right = options.share <= WEIR_SHARE_MAX && may_reserve(storm, BOUND_GATE, &mine) &&
                 (workers ? may_reserve(storm, BOUND_OFFLOAD, &theirs)
                          : (theirs.depth | theirs.reserve) == 0);
    int answer = weir_task_open(storm->loop, &options, &storm->tasks[task]);
    STORM_EQUAL(storm, answer, right ? 0 : -EINVAL);
    if (!right) {
        mine = (struct line){0};
        theirs = mine;
        options = (struct weir_task_options){.name = name};
        STORM_EQUAL(storm, weir_task_open(storm->loop, &options, &storm->tasks[task]), 0);
    }
    main->tag = 0;
    main->share = options.share ? options.share : 1;
    offload->tag = 0;
    offload->share = main->share;
    main->depth = mine.depth;
    main->reserve = mine.reserve;
    main->bytes_max = mine.bytes_max;
    main->goal_ns = mine.goal_ns;
    offload->depth = theirs.depth;
    offload->reserve = theirs.reserve;
    offload->bytes_max = theirs.bytes_max;
    offload->goal_ns = theirs.goal_ns;
    line_read_depths(storm);
}
