/* SPDX-License-Identifier: MIT */
/*
 * loop.h: the loop's own data, and what its files offer each other. Nothing outside loop/ includes
 * it but tests and the harness.
 */
#ifndef WEIR_ENGINE_LOOP_H
#define WEIR_ENGINE_LOOP_H

#include <engine/backend/policy.h>
#include <engine/loop/timer.h>
#include <engine/observe/task.h>
#include <weir/weir.h>

#define WEIR_TIMERS_A_TURN 256 /* entries of the heap that one turn looks at when they are due */

/*
 * Each op that is live is counted (submitted, not finished); one behind the gate (every kind but
 * TIMEOUT) has a slot, and from admission to its last hand-back a credit, counted in `in_flight`.
 */
struct weir_loop {
    struct weir_guard *guard;
    int refuse;   /* what submit answers: 0, -ESHUTDOWN, or `failed` */
    int failed;   /* 0, or the errno of the turn that could not go on */
    bool unowned; /* waits for adoption */
    bool in_turn; /* callbacks may be running */
    bool closing;

    struct weir_backend *backend;
    struct weir_slots slots;

    /* The gate. */
    struct weir_queue waiting;
    uint32_t in_flight;
    uint32_t depth;
    uint32_t admit_ops_max;
    uint64_t admit_bytes_max;

    /* Time. */
    struct weir_heap heap;
    uint32_t timers; /* live TIMEOUT ops */
    uint32_t timers_max;
    uint64_t stamp_ns;  /* latest reading */
    bool stamp_fresh;   /* it may be reused: in a turn, or a submit since then has read it */
    uint32_t plain_max; /* below it, slots.used lets submit take its short way: 0 or depth */
    uint64_t done_ns;   /* the reading after this turn's enter */

    /* Hand-back. */
    struct weir_queue early;   /* DONE outside a turn's reaping */
    struct weir_queue closers; /* CLOSE ops that wait for the others on their fd */
    struct weir_event *events;
    uint32_t reap_max;   /* events a backend's turn may fill */
    uint32_t events_max; /* and all sources together */

    struct weir_tasks tasks;

    /* Room. */
    struct weir_room *rooms;
    struct weir_room *rooms_tail;
    bool room_stood; /* somebody waited and there was room when the last turn ended */

    /* From other threads. */
    struct weir_bell bell;
    uint32_t woken;
    uint32_t stop;
    uint32_t holds;

    /* Somebody else's loop. */
    int epoll_fd; /* -1: weir_loop_fd() was not called */
    int timer_fd;
    uint64_t armed_ns; /* what timer_fd is set to; 0: disarmed */

    /* Closing. */
    weir_closed_callback *closed;
    uint64_t close_ns; /* when `closed` gives up; UINT64_MAX: never */
    struct weir_live *report;

    void *user;
    size_t arena_size; /* of the mapping that begins here */
    struct weir_facts facts;
    struct weir_counters counters;
};

/* NULL, after fork, wrong thread: what nearly every call begins with. */
static inline int weir_loop_check(const struct weir_loop *loop)
{
    return weir_likely(loop != NULL) ? weir_guard_check(loop->guard) : -EINVAL;
}

static inline uint64_t weir_loop_exact(const struct weir_loop *loop)
{
    return loop->backend->table->now(loop->backend, WEIR_NOW_DEADLINE);
}

/* Ops accepted and not handed back: each has a slot, or is a timer. */
static inline uint64_t weir_loop_count_live(const struct weir_loop *loop)
{
    return (uint64_t)loop->slots.used + loop->timers;
}

/* Reads the clock for stamps. */
static inline void weir_loop_stamp(struct weir_loop *loop)
{
    loop->stamp_ns = loop->backend->table->now(loop->backend, WEIR_NOW_STAMP);
}

/* The short way of submit is for an open loop whose stamp may be used and that has a credit. */
static inline void weir_loop_set_plain(struct weir_loop *loop)
{
    loop->plain_max = loop->refuse == 0 && loop->stamp_fresh ? loop->depth : 0;
}

static inline struct weir_task *weir_loop_task_of(struct weir_loop *loop, const struct weir_op *op)
{
    return op->task ? op->task : loop->tasks.of_kind[op->kind];
}

/* For tests and the harness, which put other tables and functions into it. */
struct weir_backend *weir_loop_backend(struct weir_loop *loop);

/* gate.c: lets waiting ops through, in order, while there is room and budget. */
void weir_loop_admit(struct weir_loop *loop);

/* settle.c */
/* Gives an op that holds a credit, and is marked as with the backend, to it. */
void weir_loop_stage(struct weir_loop *loop, struct weir_op *op);
/* An op that finished outside the backend's turn: its event is the next. */
void weir_loop_finish_early(struct weir_loop *loop, struct weir_op *op, int64_t result);
/* Decides for each of the first `count` events whether its op is DONE or goes on (short transfers,
 * EAGAIN, EINTR). The number of those that stand, moved together. */
uint32_t weir_loop_settle(struct weir_loop *loop, uint32_t count);

/* cancel.c */
/* Asks for a live op back. As weir_cancel(), but for -ENOENT. */
int weir_loop_ask(struct weir_loop *loop, struct weir_op *op, enum weir_asked asked);
/* Asks for all ops on fd but `but`. How many are live on it; *ret_asked: how many were asked
 * now. */
uint32_t weir_loop_ask_fd(struct weir_loop *loop, int fd, const struct weir_op *but,
                          int *ret_asked);
/* Asks for the others on the fd of a CLOSE op. True: there are some, it waits for them. */
bool weir_loop_close_waits(struct weir_loop *loop, struct weir_op *op);
/* Stages the CLOSE ops whose fd has nothing else live on it. */
void weir_loop_step_closers(struct weir_loop *loop);
/* A due entry of the heap, already taken out. True: the op is DONE with *ret_result. */
bool weir_loop_expire(struct weir_loop *loop, struct weir_op *op, uint64_t now_ns,
                      int64_t *ret_result);
/* Puts an op into the heap until at_ns, or its deadline if that is earlier. */
void weir_loop_arm(struct weir_loop *loop, struct weir_op *op, uint64_t at_ns);

/* loop.c: whether a turn would find something to do without the backend. */
bool weir_loop_has_work(const struct weir_loop *loop);
/* One turn, also of a closing or failed loop. The number handed back. */
int weir_loop_turn_once(struct weir_loop *loop, uint64_t until_ns);

/* room.c */
bool weir_loop_has_room(const struct weir_loop *loop);
void weir_loop_announce_room(struct weir_loop *loop);

/* foreign.c: leaves the loop so that its fd tells when to turn again. */
void weir_loop_arm_foreign(struct weir_loop *loop);
void weir_loop_close_foreign(struct weir_loop *loop);

/* close.c: the last touch of a turn. */
void weir_loop_step_closing(struct weir_loop *loop);

/* open.c: unmaps the loop itself. */
void weir_loop_free(struct weir_loop *loop);

#endif
