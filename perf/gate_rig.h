/* SPDX-License-Identifier: MIT */
/*
 * perf/gate_rig.h: one loop under load. A rig has up to two flows of requests, each a task of its
 * own. A flow is fed on a schedule whether or not earlier requests are back (open loop), or kept at
 * a number of requests that are out (closed loop). The generator runs in the loop's thread, between
 * its turns. Must not know what is compared with what.
 *
 * Latency. Ops are submitted without intended_ns, so that the engine's own TOTAL counts from born:
 * what the engine promises for what it accepted. The rig keeps the intended start of each request
 * itself and counts from there too, up to the callback: what a user feels, with the time that the
 * generator was late because the loop was in a turn.
 */
#ifndef PERF_GATE_RIG_H
#define PERF_GATE_RIG_H

#include <weir/weir.h>

#include "contender.h"
#include "engine.h"
#include "process.h"
#include "workload.h"

#define FLOWS_MAX 2
#define DRAINS 8 /* RECVs that are always armed, of an echo */

struct flow_plan {
    struct weir_task_options task; /* no name: the flow is not there */
    uint32_t block;                /* bytes of a read */
    uint32_t requests;             /* in the pool, taken at open */
    bool untouched;                /* their memory is touched only as they are used */
};

/* How a loop is opened. Compared by its bytes: zero it first. */
struct rig_plan {
    enum weir_policy policy;
    bool echo; /* flow 0 sends messages to an echo peer; else reads of a file */
    uint32_t depth;
    uint32_t waiting;
    uint32_t admit_ops_max;
    uint64_t admit_bytes_max;
    uint64_t goal_ns;
    uint64_t peer_work_ns; /* what the echo peer computes on a message */
    struct flow_plan flows[FLOWS_MAX];
};

struct request;
struct rig;

/* What a flow did since rig_begin(). */
struct traffic {
    uint64_t offered;
    uint64_t accepted;
    uint64_t refused;
    uint64_t finished;
    uint64_t cancelled;             /* of these: out for too long after the end */
    struct weir_histogram intended; /* intended start to callback */
    struct weir_histogram born;     /* the engine's TOTAL; valid after rig_end() */
};

struct flow {
    struct rig *rig;
    struct weir_task *task;
    struct workload work;
    struct request *requests;
    char *buffers;
    uint32_t room;
    uint32_t fresh; /* requests from here on have never been used */
    struct request *free;
    uint32_t out;

    /* The pace: one of the two, or neither. */
    uint32_t outstanding; /* requests to keep out */
    double gap_ns;        /* between two arrivals */
    double next_ns;       /* the next arrival, since rig_begin() */

    struct traffic traffic;
    struct weir_task_counters counted; /* the engine's counters before the latest reset */
};

struct drain {
    struct weir_op op;
    struct rig *rig;
    bool armed;
    char message[64];
};

struct rig {
    struct rig_plan plan;
    struct contender who;
    struct weir_loop *loop;
    struct flow flows[FLOWS_MAX];
    bool sleeps; /* between arrivals; else it watches the clock when they are near */
    uint64_t begun_ns;
    bool exhausted; /* a pool had no request left for an arrival */
    bool cancels;   /* what is out was cancelled */
    int error;      /* of the first op or call that failed */
    struct weir_histogram turns;

    /* Of an echo. */
    int fd;
    struct process peer;
    uint64_t received;
    uint64_t sent;
    struct weir_task *drain_task;
    struct drain drains[DRAINS];
};

/* 0; -1 after a message. `file` is only looked at; its fd must stay open. */
int rig_open(const struct rig_plan *plan, const struct workload *file, struct rig **ret_rig);
/* NULL: nothing. */
void rig_close(struct rig *rig);

/* Gives the memory of all requests back to the kernel: they are touched anew. Nothing may be
 * out. */
void rig_release(struct rig *rig);

/* Empties all figures, and starts the clock that arrivals count from. Nothing may be out. */
void rig_begin(struct rig *rig, bool sleeps);
/* Empties all figures while the load goes on; what is out counts as offered and accepted anew. */
void rig_settle(struct rig *rig);
/* From now on. Zero ends it. */
void rig_pace(struct rig *rig, uint32_t flow, double per_s);
void rig_keep_out(struct rig *rig, uint32_t flow, uint32_t outstanding);
/*
 * Feeds and turns until that time. False: it ended earlier, since a pool is exhausted, the meter is
 * over or something failed.
 */
bool rig_work_until(struct rig *rig, uint64_t end_ns);
/*
 * Stops feeding, waits for what is out, and checks the engine's counters against what was seen. 0;
 * -1 after a message.
 */
int rig_end(struct rig *rig);

/* The flow's FLIGHT since the last call or rig_begin(). */
void rig_take_flight(struct rig *rig, uint32_t flow, struct weir_histogram *ret_flight);
/* Credits that the main gate gives out now. */
uint32_t rig_depth(const struct rig *rig);

#endif
