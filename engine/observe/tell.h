/* SPDX-License-Identifier: MIT */
/*
 * tell.h: who is told of an op as it goes: the observer, the flight recorder, its view. Where
 * nobody is, the loop does not call; where somebody is, its ops take the checked ways (they are
 * WEIR_OBSERVED), so that the short ones need not ask. The loop's thread. Must not know the loop.
 */
#ifndef WEIR_ENGINE_TELL_H
#define WEIR_ENGINE_TELL_H

#include <engine/observe/live.h>
#include <engine/observe/recorder.h>
#include <weir/observe.h>

struct weir_tell {
    bool any; /* somebody is told */
    const struct weir_slots *slots;
    const struct weir_observer *observer; /* NULL: none */
    struct weir_view *views;              /* of each slot; NULL: none */
    struct weir_recorder recorder;        /* records NULL: none */
    uint32_t backtrace_every;             /* of all ops; 0: of none */
    uint32_t backtrace_left;              /* ops until the next */
};

/* Accepted, on its way; it has its slot, if it has one. */
void weir_tell_submitted(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                         const char *site, uint64_t at_ns);
void weir_tell_left(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                    uint64_t at_ns);
void weir_tell_done(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                    int64_t result, uint64_t at_ns);
/* op->result is valid; the slot is still the op's. */
void weir_tell_handed_back(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                           uint64_t at_ns);
void weir_tell_refused(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                       int error, uint64_t at_ns);

/* Makes the first backtrace(3), which allocates, before the loop runs. */
void weir_tell_prepare_backtraces(void);

#endif
