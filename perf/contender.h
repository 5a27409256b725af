/* SPDX-License-Identifier: MIT */
/*
 * perf/contender.h: one that is measured: an engine, and what it alone is given, so that an engine
 * can be set against itself. Must not know how anything is measured.
 */
#ifndef PERF_CONTENDER_H
#define PERF_CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/op.h>
#include <weir/policy.h>

struct engine;
struct json;

/* What is done with an engine. */
enum job { JOB_NOP, JOB_FILE, JOB_ECHO, JOB_OFFLOAD, JOB_COUNT };

#define LABEL_MAX 64
#define CONTENDER_TASKS_MAX 8
#define ROUTE_MEMORY (WEIR_ROUTE_OFFLOAD + 1) /* WEIR_ROUTE_INLINE with WEIR_IN_MEMORY */

struct contender {
    const char *name; /* as typed: "weir@epoll" */
    const struct engine *engine;
    char label[LABEL_MAX];   /* the name, and by what it differs from others of that name */
    enum weir_policy policy; /* of weir */
    unsigned route;          /* of weir's file ops: enum weir_route, or ROUTE_MEMORY */
    uint64_t spin_ns;        /* before it sleeps it watches that long */
    uint32_t idle;           /* silent connections */
    uint32_t task_count;     /* of weir: its ops belong to them in turns; 0: to none */
    uint32_t shares[CONTENDER_TASKS_MAX];
    uint32_t onlookers; /* of weir: a bit for each enum onlooker */
};

/* Who looks on. */
enum onlooker {
    ONLOOKER_OBSERVER,    /* a table of five functions that count */
    ONLOOKER_INSPECTABLE, /* WEIR_INSPECTABLE */
    ONLOOKER_STACKS,      /* and the stack that submitted, of every op */
    ONLOOKER_RECORDER,    /* of 65536 events */
    ONLOOKER_WATCHDOG,    /* with a threshold of 100 ms */
    ONLOOKER_COUNT
};

/* "nop", "file", "echo", "offload". */
const char *job_name(enum job job);
bool job_find(const char *name, enum job *ret_job);

const char *policy_name(enum weir_policy policy);
bool policy_find(const char *name, enum weir_policy *ret_policy);
bool route_find(const char *name, unsigned *ret_route);

/* "observer", "inspectable", "stacks", "recorder", "watchdog". */
bool onlooker_find(const char *name, enum onlooker *ret_onlooker);

/*
 * An engine by name, of weir with "@" and a policy behind it. `name` must stay. False, with a text
 * that says what to give instead.
 */
bool contender_find(const char *name, enum weir_policy policy, struct contender *ret_contender,
                    char *ret_error, size_t error_size);
/* Whether it can do that; if not, a text that names those that can. */
bool contender_can(const struct contender *contender, enum job job, char *ret_error,
                   size_t error_size);
/* Adds what differs among several to their labels. */
void contenders_label(struct contender *contenders, uint32_t count);
/* The keys of what it alone is given, into an object that the caller has begun. */
void contender_json(struct json *json, const struct contender *contender, enum job job);

#endif
