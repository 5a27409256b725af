/* SPDX-License-Identifier: MIT */
/*
 * gate.h: admission: who has a place, who has a credit, who is next. One gate for what the backend
 * carries, one for the offload ring. Each op behind a gate (every kind but TIMEOUT) has a place
 * from its acceptance to its last hand-back, and credits from its admission: one, or as many as it
 * may have completions between two turns.
 *
 * Most ops are of tasks without limits, and only counted (live, unadmitted). Governed ones are of
 * a task with a cap, a reserve or a goal, on a loop with a byte budget or a goal, or hold several
 * credits: op->governed, and their flows keep books.
 *
 * Arithmetic and order only: knows neither loop nor backend nor clock.
 * Invariants: credits in flight <= depth_max; live <= places; of a flow with a reserve, that many
 * ops find place and credit whatever the others do.
 */
#ifndef WEIR_ENGINE_GATE_H
#define WEIR_ENGINE_GATE_H

#include <engine/observe/task.h>
#include <weir/loop.h>

#define WEIR_SHARE_BYTES (64u << 10) /* what counts as one op more */

/* Steers the depth: steer.c. */
struct weir_steer {
    struct weir_goal *goals;
    struct weir_goal of_loop;
    uint32_t depth_min;
    bool held;           /* since the last judgement ops have waited for the depth */
    uint32_t peak;       /* most that it bounded at a time since then */
    uint64_t changed_ns; /* when the depth was last changed */
    uint64_t held_ns;    /* since when ops wait for a depth that is lowered; 0: none does */
    uint64_t moved_ns;   /* since when they do and nothing has come back */
    uint64_t lowered;
    uint64_t raised;
    uint64_t throttled_ns;
    enum weir_depth_reason reason;
    const struct weir_task *task;
};

struct weir_gate {
    uint32_t live;          /* accepted and not handed back */
    uint32_t unadmitted;    /* of these without a credit: waiting, or cancelled while they waited */
    uint32_t depth;         /* credits that are given out now */
    uint32_t places;        /* depth_max + waiting_max */
    uint32_t extra;         /* credits in flight beyond one for each op */
    uint64_t extra_wanted;  /* the same of ops that have none yet */
    uint32_t unused_places; /* reserved by tasks, and not taken by their ops */
    uint32_t unused_credits; /* the same */
    uint32_t reserved;       /* by all tasks together */
    uint32_t over_cap;       /* live ops that wait for the others of their task to come back */
    uint32_t steered;        /* credits in flight that a lowered depth bounds: of governed ops, but
                              * for those that wait for others: armed, they would fill it */
    uint32_t steered_live;   /* places of those ops */
    uint32_t depth_max;      /* as opened */
    uint32_t index;          /* which of a task's flows stands here */
    uint64_t bytes;          /* of live ops, as far as they count */
    uint64_t bytes_in_flight;
    uint64_t bytes_max; /* 0: none are counted */
    uint64_t virtual_time;
    uint64_t last_tag; /* that a flow has come to: when nobody waits any more, the virtual time */
    struct weir_flow_list {
        struct weir_flow *head;
        struct weir_flow *tail;
    } lines[WEIR_LINE_COUNT]; /* the flows with somebody in it */
    struct weir_flow common;  /* of ops without a task */
    bool room_stood;          /* somebody waited and there was room when the last turn ended */
    struct weir_watermark *marks;
    struct weir_steer steer;
};

void weir_gate_init(struct weir_gate *gate, unsigned index, uint32_t depth, uint32_t waiting_max);

/* Gives a task's flow its limits. 0; -EINVAL: they leave others nothing. */
int weir_gate_set_limits(struct weir_gate *gate, struct weir_task *task,
                         const struct weir_flow *limits);
/* A task ends: nothing of it is live. */
void weir_gate_clear_limits(struct weir_gate *gate, struct weir_task *task);

static inline struct weir_flow *weir_gate_flow(struct weir_gate *gate, struct weir_task *task)
{
    return task->built_in ? &gate->common : &task->flows[gate->index];
}

/* Credits taken. */
static inline uint32_t weir_gate_in_flight(const struct weir_gate *gate)
{
    return gate->live - gate->unadmitted + gate->extra;
}

/* Below it, `live` says that an op that is not governed has a credit, if nobody waits. */
static inline uint32_t weir_gate_plain_max(const struct weir_gate *gate)
{
    uint64_t taken = gate->unused_places + gate->extra + gate->extra_wanted;
    return gate->depth > taken ? gate->depth - (uint32_t)taken : 0;
}

static inline bool weir_gate_has_waiting(const struct weir_gate *gate)
{
    return gate->lines[WEIR_LINE_WAITING].head != NULL;
}

/* Puts a flow at the end of a line's flows, or takes it out: who stands there is the first, or was
 * the last. */
void weir_gate_append(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line);
void weir_gate_remove(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line);
/* Puts an op at the end of a line, or takes it out of it. */
void weir_gate_stand(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line,
                     struct weir_op *op);
void weir_gate_step_out(struct weir_gate *gate, struct weir_flow *flow, enum weir_line line,
                        struct weir_op *op);

/* Whether there is a place for one more op of the flow. */
static inline bool weir_gate_has_place(const struct weir_gate *gate, const struct weir_flow *flow)
{
    return gate->live < gate->places &&
           (flow->live < flow->reserve || gate->live + gate->unused_places < gate->places);
}

/* What an op wants of a gate. */
struct weir_want {
    bool waits;       /* for others, maybe for ever: no lowered depth bounds it */
    uint32_t credits; /* at most what a burst may ever find there */
    uint64_t bytes;   /* that budgets and shares count */
};

struct weir_want weir_gate_want(const struct weir_gate *gate, const struct weir_op *op);

/* Whether it would have to wait there for others to come back. */
bool weir_gate_would_wait(const struct weir_gate *gate, const struct weir_flow *flow,
                          struct weir_want want);

/* Takes a place for an op, and lets it wait. */
void weir_gate_enter(struct weir_gate *gate, struct weir_flow *flow, struct weir_op *op);
/* A flow's first posted op, if there is a place for it: the flows take turns. */
struct weir_op *weir_gate_take_post(struct weir_gate *gate);
bool weir_gate_can_take_post(const struct weir_gate *gate);
/* The flow whose first op is to have credits next; NULL: none may now. */
struct weir_flow *weir_gate_next(const struct weir_gate *gate);
/* Whether that op only takes what is reserved for its flow. */
bool weir_gate_is_reserved(const struct weir_gate *gate, const struct weir_flow *flow);
/* That op, with its credits. */
struct weir_op *weir_gate_admit(struct weir_gate *gate, struct weir_flow *flow);
/* Gives back an op's place, and its credits if it had any. */
void weir_gate_release(struct weir_gate *gate, struct weir_flow *flow, struct weir_op *op);

/* steer.c */
/* An op of the flow has come back, which left then and was in flight that long. */
void weir_steer_add(struct weir_steer *steer, struct weir_goal *goal, uint64_t left_ns,
                    uint64_t flight_ns);
/* Ops may wait: called whenever a turn has let through who could go. */
void weir_steer_look(struct weir_gate *gate, uint64_t now_ns);
/* Changes the depth if the goals say so: once a turn. */
void weir_steer_judge(struct weir_gate *gate, uint64_t now_ns);
/* When that may let go who waits; UINT64_MAX: nobody waits for it. */
uint64_t weir_steer_due(const struct weir_gate *gate);
/* Adds a goal, or takes it out. */
void weir_steer_set(struct weir_steer *steer, struct weir_goal *goal);
void weir_steer_unset(struct weir_gate *gate, struct weir_goal *goal);

#endif
