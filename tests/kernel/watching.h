/* SPDX-License-Identifier: MIT */
/*
 * watching.h: what the watchdog's tests share: a watchdog whose reports are kept, and callbacks
 * that stand still until there are as many as wanted. No test waits for a time to pass: a stall
 * lasts until it has been reported.
 */
#ifndef WEIR_TESTS_KERNEL_WATCHING_H
#define WEIR_TESTS_KERNEL_WATCHING_H

#include "check.h"

#include <stdbool.h>

#define WATCHING_MAX 64

/* Deferred under ThreadSanitizer until the thread calls something: no stack is had there. */
#if defined(__SANITIZE_THREAD__)
#define WATCHING_STACKS false
#else
#define WATCHING_STACKS true
#endif

struct watching_report {
    struct weir_stall stall; /* its pointers lead to what follows, NULL ones stay so */
    char loop[64];
    char task[64];
    char kind[32];
    char site[128];
    char symbol[160];
};

struct watching {
    struct weir_watchdog *watchdog;
    void (*then)(struct watching *watching, const struct weir_stall *stall); /* in its thread */
    void *user;
    unsigned count; /* atomic: reports so far */
    struct watching_report reports[WATCHING_MAX];
};

/* Opens one; callback and context are filled in. */
void watching_open(struct watching *watching, struct weir_watchdog_options options);
void watching_close(struct watching *watching);
unsigned watching_count(const struct watching *watching);
struct weir_watchdog_counters watching_counters(const struct watching *watching);
/* Until there are so many reports; asleep. */
void watching_await(const struct watching *watching, unsigned count);
/* The same, computing. */
void watching_spin(const struct watching *watching, unsigned count);

/* Whether addr2line finds the function in one of the frames: as it was linked, by the program's
 * file. */
bool watching_names(const struct weir_stall *stall, const char *function);
/* The same of "module+0x1234". */
bool watching_symbol_names(const char *symbol, const char *function);

/* A loop with one policy, watched under a name, and its end. */
struct weir_loop *watching_loop(struct watching *watching, enum weir_policy policy,
                                const char *name);
void watching_end(struct weir_loop *loop);

/* An op whose callback gets at its test. */
struct watching_op {
    struct weir_op op;
    struct watching *watching;
    unsigned until; /* reports */
    int fds[2];     /* a pipe */
    unsigned calls;
};

/* A nop with that callback, and a turn that calls it. */
void watching_call(struct weir_loop *loop, struct watching_op *op, weir_callback *callback);

/* Runs a test's body on each backend. */
void watching_on_both(void (*body)(enum weir_policy policy));

#endif
