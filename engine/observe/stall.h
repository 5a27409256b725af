/* SPDX-License-Identifier: MIT */
/*
 * stall.h: judges, look by look, whether a thread stands still, how long, and for what cause.
 * Knows no clock, thread or loop: it is told.
 *
 * Time counts only as far as it was seen. If two looks lie further apart than meant, whoever looks
 * was kept from it, and so perhaps was the thread (a stopped process, a frozen machine): of such a
 * time only what was meant counts.
 */
#ifndef WEIR_ENGINE_STALL_H
#define WEIR_ENGINE_STALL_H

#include <engine/observe/pulse.h>
#include <engine/observe/thread.h>
#include <stdbool.h>
#include <weir/watchdog.h>

/* What is known of a watched thread. Zeroed: not looked at yet. */
struct weir_stalling {
    uint64_t interval_ns; /* between looks, as meant */
    uint64_t threshold_ns;

    uint64_t looked_ns; /* the last look; 0: none */
    uint64_t sequence;  /* the beat seen then */
    uint64_t lasted_ns; /* of this beat, as far as it was seen */

    /* Of this beat, from its second look on. */
    uint32_t looks;
    uint32_t asleep;  /* of these found it asleep, in a system call */
    uint64_t from_ns; /* lasted_ns then */
    struct weir_thread_sight from;

    uint64_t next_ns; /* it is to be reported again when it has lasted longer */
    uint32_t nth;     /* of its reports */
};

void weir_stalling_init(struct weir_stalling *stalling, uint64_t threshold_ns,
                        uint64_t interval_ns);

/* A look. True: it is at the same since the last one, so the thread is to be looked at too. */
bool weir_stalling_look(struct weir_stalling *stalling, const struct weir_beat *beat,
                        uint64_t sequence, uint64_t now_ns);

/* The thread, just after. */
void weir_stalling_add(struct weir_stalling *stalling, const struct weir_thread_sight *sight);

/* It has lasted long enough to be reported, and was seen often enough to be judged. */
bool weir_stalling_is_due(const struct weir_stalling *stalling);

/* Why, by what was seen from its second look to this one. */
enum weir_stall_cause weir_stalling_judge(const struct weir_stalling *stalling,
                                          const struct weir_thread_sight *sight);

/* It counts as reported: the next time when it has lasted twice as long. */
void weir_stalling_reported(struct weir_stalling *stalling);

#endif
