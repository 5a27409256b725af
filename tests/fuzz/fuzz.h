/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h: bytes that become calls on loops in a simulated world, and what is known of each op
 * meanwhile. Every input is valid: whatever a byte is, it means something.
 *
 * Invariant: what is here depends on the input alone, so an input is a test that can be repeated.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "input.h"

#include <engine/backend/sim.h>
#include <engine/loop/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FUZZ_INPUT_MAX 300
#define FUZZ_LOOPS 2
#define FUZZ_OPS 16
#define FUZZ_GUARD FUZZ_OPS /* the op that ends a run */
#define FUZZ_ROOMS 3
#define FUZZ_TASKS 2
#define FUZZ_FAULTS 3
#define FUZZ_BUFFER 1100 /* bytes: parts of three sectors */
#define FUZZ_FDS_MAX 24
#define FUZZ_DEPTH_MAX 4 /* calls within callbacks within calls */
#define FUZZ_CALLED 1000 /* what the function of the first op returns */

/* An op and all it points to. While it is not live nobody may touch it: it is poisoned. */
struct fuzz_item {
    struct weir_op op;
    struct iovec iov[2];
    struct msghdr message;
    struct sockaddr_storage address;
    socklen_t address_length;
    int value;
    struct statx status;
    uint8_t buffer[FUZZ_BUFFER];
} __attribute__((aligned(64)));

/* What the judge knows of it. */
struct fuzz_track {
    bool live;
    bool posted;    /* by weir_loop_post() */
    bool offloaded; /* behind the offload gate */
    bool timer;
    bool asked; /* by whatever may make it -ECANCELED */
    bool polls; /* it may answer -EAGAIN */
    uint8_t loop;
    uint8_t kind;
    uint8_t task;  /* among its loop's, and 1; 0: none */
    uint8_t again; /* times its callback submits it again */
    uint8_t acts;  /* verbs in its callback, */
    uint8_t acts_in_call;
    uint8_t holds; /* times that its function is not over yet */
    uint8_t due;   /* turns until it must have come back; 0: not known */
    int fd;
    int fd2;
    uint64_t deadline_ns;
    uint64_t at_ns; /* of a timer */
    uint64_t most;  /* bytes it may move */
};

struct fuzz_loop {
    struct weir_loop *loop; /* NULL: none */
    struct weir_options options;
    struct weir_task *tasks[FUZZ_TASKS];
    bool closing;
    bool closed_pending;    /* the callback of weir_loop_close_begin() is to come */
    bool crashed_in_closed; /* the turn that was to end then answers as if nothing were */
    bool stopped;           /* by weir_loop_stop(), since the last run */
    bool fails;             /* its next turn does; then: has failed */
    bool in_call;           /* a simulated worker's function runs */
    uint8_t busy;           /* turns, and functions run by submit */
    uint8_t submitting;
    uint8_t windows[2]; /* what to do before and after it says ASLEEP; 0: nothing */
    uint32_t live;
    uint32_t holds;
    uint64_t called; /* callbacks of ops */
    uint64_t refused;
    uint64_t posts;
    uint64_t posts_refused;
};

struct fuzz_room {
    struct weir_room node;
    bool waits;
    uint8_t loop;
    uint8_t acts;
};

struct fuzz {
    const uint8_t *bytes;
    size_t left;
    uint64_t hash; /* of all that was answered */
    uint32_t depth;

    struct weir_sim *sim;
    struct weir_sim_fault faults[FUZZ_FAULTS];
    uint32_t fault_count;
    bool may_hang; /* the plan has a fault that keeps an op for ever */
    int64_t fds;   /* that must be open, */
    bool
        fds_unknown; /* unless one was closed, or its op abandoned, before anybody was told of it */
    uint8_t told[FUZZ_FDS_MAX]; /* by number: opened less closed */
    size_t arena_was;           /* bytes of the world, empty */

    struct fuzz_loop loops[FUZZ_LOOPS];
    struct fuzz_track tracks[FUZZ_OPS + 1];
    struct fuzz_room rooms[FUZZ_ROOMS];
};

extern struct fuzz fuzz;
extern struct fuzz_item fuzz_items[FUZZ_OPS + 1];

/* fuzz.c */
uint8_t fuzz_take(void); /* the next byte; 0 at the end */
uint8_t fuzz_below(uint8_t end);
void fuzz_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
__attribute__((noreturn)) void fuzz_fail(const char *what, int64_t value);
void fuzz_note(int64_t value);
void fuzz_show(unsigned op);
void fuzz_hide(unsigned op);

static inline void fuzz_expect(bool holds, const char *what, int64_t value)
{
    if (!holds) {
        fuzz_fail(what, value);
    }
}

static inline bool fuzz_crashed(void)
{
    return weir_sim_has_crashed(fuzz.sim);
}

/* fuzz.c: what is told of fds. */
void fuzz_opened(int64_t fd);
void fuzz_closed(int64_t fd);

/* fill.c */
/* Makes an op from bytes, and what its track says of its arguments. */
void fuzz_fill(unsigned op, struct fuzz_loop *loop);
int fuzz_take_fd(void);
int64_t fuzz_take_wait(void); /* ns */
/* One of four, two of them of AF_UNIX. */
void fuzz_address(struct fuzz_item *item, uint8_t which);
bool fuzz_makes_fd(uint8_t kind);
int64_t fuzz_function(void *argument);

/* world.c */
void fuzz_open_world(void);
void fuzz_close_world(void);
struct fuzz_loop *fuzz_open_loop(void); /* NULL: there are enough */
/* A loop that cannot be closed: everything of it is the caller's again. */
void fuzz_abandon(struct fuzz_loop *loop);
/* After a crash. */
void fuzz_restart(void);
/* Whether what is still live there may stay away for ever. */
bool fuzz_may_hang(const struct fuzz_loop *loop);
void fuzz_end_loops(void);

/* judge.c */
void fuzz_on_done(struct weir_op *op);
void fuzz_on_room(struct weir_room *node, int result);
void fuzz_on_closed(struct weir_loop *loop, int result);
void fuzz_in_window(struct weir_backend *backend, int asleep);
bool fuzz_may_end_call(struct weir_op *op);
/* What holds between two calls. */
void fuzz_audit(void);
unsigned fuzz_number_of(const struct fuzz_loop *loop);
/* Live ops for which that holds. */
uint32_t fuzz_count(const struct fuzz_loop *loop, bool (*is)(const struct fuzz_track *track));
bool fuzz_waits_for_room(const struct fuzz_loop *loop);
/* True: the call came from a worker's function, and was refused. */
bool fuzz_is_refused(const struct fuzz_loop *loop, int64_t r);
void fuzz_ask_fd(const struct fuzz_loop *loop, int fd);
void fuzz_judge_turn(struct fuzz_loop *loop, int64_t wait_ns, int r, uint64_t called);

/* submit.c */
void fuzz_submit(struct fuzz_loop *loop, unsigned op);
void fuzz_post(struct fuzz_loop *loop, unsigned op);
void fuzz_submit_badly(struct fuzz_loop *loop, unsigned op);

/* verbs.c */
void fuzz_act(void);                /* a verb from the input */
void fuzz_act_times(unsigned most); /* within a callback */

/* ends.c */
void fuzz_close(struct fuzz_loop *loop, int64_t wait_ns);
void fuzz_verb_close(struct fuzz_loop *loop);
void fuzz_verb_close_begin(struct fuzz_loop *loop);
void fuzz_verb_open(struct fuzz_loop *loop);
void fuzz_verb_crash(struct fuzz_loop *loop);
void fuzz_verb_abandon(struct fuzz_loop *loop);
void fuzz_verb_fail(struct fuzz_loop *loop);

/* around.c */
void fuzz_verb_task(struct fuzz_loop *loop);
void fuzz_verb_ask(struct fuzz_loop *loop);
void fuzz_verb_outside(struct fuzz_loop *loop);
void fuzz_verb_sleep(struct fuzz_loop *loop);
void fuzz_verb_pipe(struct fuzz_loop *loop);
void fuzz_verb_listen(struct fuzz_loop *loop);

#endif
