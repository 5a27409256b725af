/* SPDX-License-Identifier: MIT */
/*
 * watchdog.h: the watchdog's parts. Must not know what loops are made of: their pulse, and of slow
 * ops their views, are all it looks at.
 *
 * Invariants. The mutex is held while a loop is looked at, so one that is closed is not looked at
 * any more once it has been told so. It is not held while a report's callback runs: reports are
 * copies.
 */
#ifndef WEIR_ENGINE_WATCHDOG_H
#define WEIR_ENGINE_WATCHDOG_H

#include <engine/observe/attachment.h>
#include <engine/observe/look.h>
#include <engine/observe/stack.h>
#include <engine/observe/stall.h>
#include <engine/observe/symbol.h>
#include <pthread.h>

#define WEIR_REPORTS_MAX 16 /* made under one hold of the mutex */

/* An op in one place of a loop's, as it was seen last. */
struct weir_slow_mark {
    uint64_t left_ns; /* tells one life from the next; 0: none */
    uint64_t next_ns; /* to be reported when longer in flight than that */
    uint64_t threshold_ns;
    uint32_t nth;
};

/* A watched loop. */
struct weir_watch {
    struct weir_attachment attachment;
    struct weir_watchdog *watchdog;
    struct weir_watch *next;
    struct weir_loop *loop;
    struct weir_pulse *pulse;
    struct weir_stalling stalling;
    uint32_t counted;            /* a bit for each cause that the present stall had */
    enum weir_stall_cause cause; /* of it, as judged last */
    struct weir_stack *stack;
    uint64_t credit_ns;           /* for reports: each costs its part of a minute, */
    uint64_t earned_ns;           /* and time until here has earned them */
    uint64_t slow_at_ns;          /* the next look for slow ops */
    uint32_t mark_count;          /* 0: slow ops are not looked for */
    struct weir_slow_mark *marks; /* one for each place */
    char name[WEIR_TASK_NAME_MAX + 1];
};

/* What a stall's pointers lead to. */
struct weir_stall_report {
    struct weir_stall stall;
    char loop[WEIR_TASK_NAME_MAX + 1];
    char task[WEIR_TASK_NAME_MAX + 1];
    char symbol[WEIR_SYMBOL_MAX];
};

struct weir_watchdog {
    struct weir_watchdog_options options; /* with the defaults filled in */
    pid_t process;                        /* that opened it */
    uint64_t interval_ns;                 /* between looks */
    struct sigaction former;              /* what the signal did before */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* `ending`, or the first watch */
    bool ending;
    struct weir_watch *watches;
    struct weir_watchdog_counters counters; /* written by its thread alone, relaxed */
    uint32_t report_count;
    struct weir_stall_report reports[WEIR_REPORTS_MAX];
};

/* --- watchdog_look.c: the watchdog's thread, which holds the mutex ---------------------------- */

/* Looks at every loop once, and leaves what is to be told in `reports`. */
void weir_watchdog_look(struct weir_watchdog *watchdog);

/* --- watchdog_report.c: as above -------------------------------------------------------------- */

/* A report of the loop to be filled in; NULL: it has had as many as it may, which is counted, or
 * there is no place (weir_watchdog_is_full(), which is to be asked before). */
struct weir_stall_report *weir_report_begin(struct weir_watch *watch, uint64_t now_ns);
bool weir_watchdog_is_full(const struct weir_watchdog *watchdog);
/* Calls back for each. Without the mutex. */
void weir_watchdog_tell(struct weir_watchdog *watchdog);

/* --- watchdog_slow.c: as above ---------------------------------------------------------------- */

/* Looks for ops that are too long in flight. */
void weir_watch_look_for_slow(struct weir_watch *watch, const struct weir_beat *beat,
                              uint64_t now_ns);

#endif
