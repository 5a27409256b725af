/* SPDX-License-Identifier: MIT */
/* storm_count.c: what loop, tasks and gates have counted must be what the model has. */
#include "storm.h"

#include <engine/loop/loop.h>

/* What is shed is counted at once, and comes back with the next turn. */
static uint64_t still_shed(const struct storm *storm, int task)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        const struct item *item = &storm->items[i];
        bool asked = item->live && !item->admitted && item->op.asked == WEIR_ASKED_DEADLINE;
        count += asked && (task < 0 || item->task == task);
    }
    return count;
}

static unsigned inboxed(const struct storm *storm, int task)
{
    unsigned count = 0;
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        count += storm->items[i].live && storm->items[i].inboxed && storm->items[i].task == task;
    }
    return count;
}

static void compare_waited(struct storm *storm, struct tally *tally, uint64_t waited)
{
    if (waited < tally->waited_least || waited > tally->waited_most) {
        storm_fail(storm, WEIR_SITE, "waited: %llu, and not %llu to %llu",
                   (unsigned long long)waited, (unsigned long long)tally->waited_least,
                   (unsigned long long)tally->waited_most);
    }
    tally->waited_least = waited;
    tally->waited_most = waited;
}

static void compare_tasks(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_TASKS; i++) {
        struct tally *tally = &storm->tallies[i];
        struct weir_task_counters counters;
        struct weir_histogram total;
        STORM_EQUAL(storm, weir_task_read_counters(storm->tasks[i], &counters), 0);
        STORM_CHECK(storm, counters.submitted <= tally->submitted);
        STORM_CHECK(storm, counters.submitted + inboxed(storm, (int)i) >= tally->submitted);
        STORM_EQUAL(storm, counters.refused, tally->refused);
        STORM_EQUAL(storm, counters.shed, tally->shed + still_shed(storm, (int)i));
        compare_waited(storm, tally, counters.waited);
        STORM_EQUAL(storm, counters.finished, tally->finished);
        STORM_EQUAL(storm, counters.failed, tally->failed);
        STORM_EQUAL(storm, counters.cancelled, tally->cancelled);
        STORM_EQUAL(storm, counters.expired, tally->expired);
        STORM_EQUAL(storm, weir_task_read(storm->tasks[i], WEIR_STAGE_TOTAL, &total), 0);
        uint64_t most = tally->finished - tally->cancelled;
        STORM_CHECK(storm, total.count <= most && total.count >= most - tally->expired);
    }
}

void gate_compare(struct storm *storm)
{
    struct weir_counters counters;
    line_compare(storm);
    STORM_EQUAL(storm, weir_loop_counters(storm->loop, &counters), 0);
    STORM_EQUAL(storm, weir_loop_live(storm->loop), gate_live(storm));
    STORM_EQUAL(storm, counters.submitted, storm->tally.submitted);
    STORM_EQUAL(storm, counters.finished, storm->tally.finished);
    STORM_EQUAL(storm, counters.refused, storm->tally.refused);
    STORM_EQUAL(storm, counters.posts, storm->posts_accepted);
    STORM_EQUAL(storm, counters.posts_refused, storm->posts_refused);
    STORM_EQUAL(storm, counters.caller_ran, storm->caller_ran);
    STORM_EQUAL(storm, counters.timers, storm->live[BOUND_TIMERS]);
    STORM_EQUAL(storm, counters.offload_in_flight, storm->flying[BOUND_OFFLOAD]);
    STORM_EQUAL(storm, counters.in_flight, storm->flying[BOUND_GATE]);
    STORM_EQUAL(storm, counters.shed, storm->tally.shed + still_shed(storm, -1));
    compare_waited(storm, &storm->tally, counters.waited);
    compare_tasks(storm);
}

/* --- what the gates say ----------------------------------------------------------------------- */

static void compare_depth(struct storm *storm, const struct weir_gate_state *state)
{
    unsigned least = storm->options.depth_min ? storm->options.depth_min : 1;
    least = least < state->depth_max ? least : state->depth_max;
    STORM_CHECK(storm, state->depth >= least && state->depth <= state->depth_max);
    STORM_CHECK(storm, line_has_goals(storm) || state->depth == state->depth_max);
    STORM_CHECK(storm,
                (state->reason == WEIR_DEPTH_AS_OPENED) == (state->depth == state->depth_max));
    STORM_CHECK(storm, (state->task != NULL) == (state->reason == WEIR_DEPTH_TASK_GOAL));
}

void line_compare(struct storm *storm)
{
    struct weir_op call = {.kind = WEIR_KIND_CALL};
    bool workers = storm->options.offload_workers != WEIR_NO_OFFLOAD;
    line_look(storm);
    for (enum bound bound = 0; bound <= BOUND_OFFLOAD; bound++) {
        struct weir_gate_state state;
        const struct weir_op *op = bound == BOUND_OFFLOAD ? &call : NULL;
        unsigned waiting = 0;
        for (unsigned i = 0; i < STORM_LINES; i++) {
            const struct item *item;
            TAILQ_FOREACH(item, &storm->lines[bound][i].waiting, link)
            {
                waiting++;
            }
        }
        STORM_EQUAL(storm, weir_loop_gate(storm->loop, op, &state), 0);
        STORM_EQUAL(storm, state.places, gate_most(storm, bound));
        STORM_EQUAL(storm, state.in_flight, storm->flying[bound]);
        STORM_EQUAL(storm, state.waiting, waiting);
        STORM_EQUAL(storm, state.reserved, line_reserved(storm, bound));
        STORM_EQUAL(storm, state.bytes_in_flight, line_sum_bytes(storm, bound, true));
        STORM_EQUAL(storm, state.bytes_max, storm->options.bytes_max);
        if (bound == BOUND_GATE || workers) {
            STORM_EQUAL(storm, state.depth_max, gate_credits(storm, bound));
            compare_depth(storm, &state);
        }
    }
}
