/* SPDX-License-Identifier: MIT */
/*
 * pulse.h: what a loop shows of what it is doing right now, so that who watches it from another
 * thread can tell a stall while it lasts. One writer, the loop's thread, which writes only while it
 * is watched (`kept`): a sequence lock around a few words. Beside them stands what was seen of it
 * by who watches, for others to read.
 */
#ifndef WEIR_ENGINE_PULSE_H
#define WEIR_ENGINE_PULSE_H

#include <engine/base/histogram.h>
#include <stdbool.h>
#include <sys/types.h>
#include <weir/watchdog.h>

struct weir_task;
struct weir_op;

enum weir_phase {
    WEIR_PHASE_OUTSIDE,  /* between turns: its owner does something else */
    WEIR_PHASE_TURN,     /* in a turn, in none of the other two */
    WEIR_PHASE_ASLEEP,   /* in the backend's turn, and may sleep there */
    WEIR_PHASE_CALLBACK, /* of an op */
};

/* What it is doing. */
struct weir_beat {
    uint64_t phase; /* enum weir_phase */
    uint64_t
        since_ns; /* when it began: a stamp; of TURN the turn's beginning or its end of sleep */
    /* Of CALLBACK. */
    uint64_t callback;            /* the function */
    const struct weir_task *task; /* for weir_task_copy_name(); its place stays while the loop is
                                   * open */
    const char *site;             /* a literal; NULL: none was kept */
    uint64_t kind_and_fd;         /* kind in the upper half, fd in the lower */
};

/* What the watchdogs of a loop have seen of it since it was opened, each word as in struct
 * weir_watchdog_counters. Atomic, relaxed; written by the watchdog's thread alone. */
struct weir_stall_counts {
    uint64_t stalls[WEIR_STALL_CAUSE_COUNT];
    uint64_t slow_ops;
    uint64_t longest_ns[WEIR_STALL_CAUSE_COUNT];
};

struct weir_pulse {
    bool kept;         /* written by the loop's thread; others read it relaxed */
    pid_t thread;      /* of the loop; set when it is watched */
    uint64_t sequence; /* odd while `beat` is written; moves with every phase */
    struct weir_beat beat;
    /* The loop's own. */
    uint64_t begun_ns;  /* when the turn began, later by what it slept */
    uint64_t asleep_ns; /* since when it may sleep; 0: it is past that */
    /* While it is kept, ns. */
    struct weir_histogram turns; /* without their sleep */
    struct weir_histogram callbacks;
    struct weir_stall_counts seen;
};

/* The loop's thread. */
void weir_pulse_beat(struct weir_pulse *pulse, const struct weir_beat *beat);

/* Any thread: each word for itself. */
void weir_pulse_copy_seen(const struct weir_pulse *pulse, struct weir_stall_counts *ret_seen);

/* Any thread: a consistent copy; its sequence. Odd: the writer was at it all the while, stopped in
 * its middle perhaps, and the copy is worth nothing. */
uint64_t weir_pulse_read(const struct weir_pulse *pulse, struct weir_beat *ret_beat);

struct weir_loop;
/* The loop's, for who is attached to it (attachment.h). Implemented by the loop. */
struct weir_pulse *weir_loop_pulse(struct weir_loop *loop);

#endif
