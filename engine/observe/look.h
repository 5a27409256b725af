/* SPDX-License-Identifier: MIT */
/*
 * look.h: what a thread other than the loop's may see of a loop at once: its tasks always; its
 * counters and gates as of its last turn, if it is WEIR_INSPECTABLE. Implemented by the loop.
 */
#ifndef WEIR_ENGINE_LOOK_H
#define WEIR_ENGINE_LOOK_H

#include <engine/observe/live.h>
#include <engine/observe/pulse.h>
#include <engine/observe/task.h>
#include <weir/loop.h>

struct weir_look {
    const struct weir_facts *facts;     /* do not change while the loop is open */
    const struct weir_tasks *tasks;     /* to be walked with weir_tasks_see() */
    const struct weir_histogram *turns; /* to be copied with weir_histogram_copy() */
    const struct weir_histogram *callbacks;
    struct weir_stall_counts seen; /* by watchdogs */
    bool has_state;                /* the two below are valid */
    struct weir_counters counters;
    struct weir_gate_state gates[WEIR_GATE_COUNT]; /* `task` is NULL */
};

/* Any thread; the loop must stay open. 0; -EINVAL: NULL; -ECHILD; -EOPNOTSUPP: another thread, of a
 * loop in a simulated world. */
int weir_loop_look(const struct weir_loop *loop, struct weir_look *ret_look);

/* Places in which live ops may be, 0: the loop is not WEIR_INSPECTABLE; and what is in one of them,
 * false: nothing. Any thread; not of a loop in a simulated world. */
uint32_t weir_loop_places(const struct weir_loop *loop);
bool weir_loop_see(const struct weir_loop *loop, uint32_t index, struct weir_live *ret_live,
                   struct weir_seen *ret_seen);

#endif
