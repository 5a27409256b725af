/* SPDX-License-Identifier: MIT */
/*
 * nth.h: what the parts of nth.c share: a call that may fail, and a round in which it does.
 */
#ifndef WEIR_TESTS_KERNEL_NTH_H
#define WEIR_TESTS_KERNEL_NTH_H

#include "check.h"
#include "nth_calls.h"

#define ERRORS_MAX 5

/* fault.what */
enum {
    ON_URING = 1,
    ON_EPOLL = 2,
    ON_BOTH = 3,
    MUST_FAIL = 4, /* open cannot do without */
    AT_OPEN = 8,   /* later the same call is the work of an op, or cannot give this */
    ONCE = 16,     /* nothing answers so for ever */
    FIRST = 32,    /* later calls have nothing to say */
};

struct fault {
    enum nth_call call;
    unsigned what; /* the backends that make it, and the rest of the above */
    int errors[ERRORS_MAX];
    int answer; /* of an open that fails; 0: the errno */
    /* Whether an open that succeeded all the same has said so; NULL: there is nothing to say. */
    bool (*tells)(const struct weir_facts *facts);
};

enum shape {
    SHAPE_OPENED,  /* opened, worked, closed */
    SHAPE_ADOPTED, /* the same, and adopted before the work */
    SHAPE_FOREIGN, /* the same as the first, inside somebody else's loop */
    SHAPE_OLD,     /* the first on a kernel that lacks what loops can do without */
    SHAPE_PROBED,  /* weir_probe() alone */
    SHAPES
};

/* One round: what fails in it, and what has been seen. */
struct round {
    const struct fault *fault;
    enum weir_policy policy;
    enum shape shape;
    int error;
    unsigned n;
    bool lasts;
    bool struck_open;
};

#define WANT(round, condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            nth_fail_round(round, WEIR_SITE, #condition);                                          \
        }                                                                                          \
    } while (0)

_Noreturn void nth_fail_round(const struct round *round, const char *site, const char *what);

/* nth_round.c: a loop's life, and a probe, with the call failing. */
void nth_live_through(struct round *round);
void nth_probe_through(struct round *round);

/* nth_rests.c: what there is before a round, and what may not be left after it. */
extern struct weir_facts nth_good; /* of a loop to which nothing happened */
/* Takes what there is now for what there is to be. */
void nth_learn_rests(void);
void nth_check_rests(struct round *round);
/* Opens a loop as if nothing had been, and keeps its facts, or compares them with those kept. */
void nth_learn_good(struct round *round);
void nth_check_good(struct round *round);

#endif
