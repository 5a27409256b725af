/* SPDX-License-Identifier: MIT */
/* perf/contender.c: names of engines, jobs, policies and routes, to and from text. */
#include "contender.h"

#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "json.h"

static const char *const job_names[] = {
    [JOB_NOP] = "nop",
    [JOB_FILE] = "file",
    [JOB_ECHO] = "echo",
    [JOB_OFFLOAD] = "offload",
};
static const char *const policy_names[] = {
    [WEIR_AUTO] = "auto",
    [WEIR_IO_URING] = "io_uring",
    [WEIR_EPOLL] = "epoll",
};
static const char *const route_names[] = {
    [WEIR_ROUTE_AUTO] = "auto",       [WEIR_ROUTE_RING] = "ring", [WEIR_ROUTE_INLINE] = "inline",
    [WEIR_ROUTE_OFFLOAD] = "offload", [ROUTE_MEMORY] = "memory",
};
static const char *const onlooker_names[] = {
    [ONLOOKER_OBSERVER] = "observer", [ONLOOKER_INSPECTABLE] = "inspectable",
    [ONLOOKER_STACKS] = "stacks",     [ONLOOKER_RECORDER] = "recorder",
    [ONLOOKER_WATCHDOG] = "watchdog",
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The place of a name; -1: none. */
static int find(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const char *job_name(enum job job)
{
    return job_names[job];
}

bool job_find(const char *name, enum job *ret_job)
{
    int at = find(job_names, COUNT(job_names), name);
    if (at >= 0) {
        *ret_job = (enum job)at;
    }
    return at >= 0;
}

const char *policy_name(enum weir_policy policy)
{
    return policy_names[policy];
}

bool policy_find(const char *name, enum weir_policy *ret_policy)
{
    int at = find(policy_names, COUNT(policy_names), name);
    if (at >= 0) {
        *ret_policy = (enum weir_policy)at;
    }
    return at >= 0;
}

bool route_find(const char *name, unsigned *ret_route)
{
    int at = find(route_names, COUNT(route_names), name);
    if (at >= 0) {
        *ret_route = (unsigned)at;
    }
    return at >= 0;
}

bool onlooker_find(const char *name, enum onlooker *ret_onlooker)
{
    int at = find(onlooker_names, COUNT(onlooker_names), name);
    if (at >= 0) {
        *ret_onlooker = (enum onlooker)at;
    }
    return at >= 0;
}

/* Appends the names of engines: all (JOB_COUNT), or those that can do a job. */
static void list_engines(enum job job, char *text, size_t size)
{
    size_t length = strlen(text);
    for (size_t i = 0; engines[i] != NULL && length < size; i++) {
        if (job == JOB_COUNT || engines[i]->drivers[job] != NULL) {
            length += (size_t)snprintf(text + length, size - length, " %s", engines[i]->name);
        }
    }
}

bool contender_find(const char *name, enum weir_policy policy, struct contender *ret_contender,
                    char *ret_error, size_t error_size)
{
    struct contender contender = {.name = name, .policy = policy};
    size_t length = strcspn(name, "@");
    for (size_t i = 0; engines[i] != NULL; i++) {
        if (strlen(engines[i]->name) == length && strncmp(engines[i]->name, name, length) == 0) {
            contender.engine = engines[i];
        }
    }
    if (contender.engine == NULL) {
        snprintf(ret_error, error_size, "there is no engine \"%s\": give one of", name);
        list_engines(JOB_COUNT, ret_error, error_size);
        return false;
    }
    if (name[length] == '@' && !contender.engine->takes_policy) {
        snprintf(ret_error, error_size, "engine \"%s\": only weir takes a policy", name);
        return false;
    }
    if (name[length] == '@' && !policy_find(name + length + 1, &contender.policy)) {
        snprintf(ret_error, error_size,
                 "engine \"%s\": give weir, weir@auto, weir@io_uring or weir@epoll", name);
        return false;
    }
    snprintf(contender.label, sizeof contender.label, "%s", name);
    *ret_contender = contender;
    return true;
}

bool contender_can(const struct contender *contender, enum job job, char *ret_error,
                   size_t error_size)
{
    if (contender->engine->drivers[job] != NULL) {
        return true;
    }
    snprintf(ret_error, error_size, "engine \"%s\" has no workload \"%s\": give one of",
             contender->name, job_names[job]);
    list_engines(job, ret_error, error_size);
    return false;
}

static void append(struct contender *contender, const char *what)
{
    size_t length = strlen(contender->label);
    snprintf(contender->label + length, sizeof contender->label - length, "%s", what);
}

static void append_onlookers(struct contender *contender)
{
    for (unsigned i = 0; i < ONLOOKER_COUNT; i++) {
        if (contender->onlookers >> i & 1) {
            append(contender, " ");
            append(contender, onlooker_names[i]);
        }
    }
}

void contenders_label(struct contender *contenders, uint32_t count)
{
    bool spins = false;
    bool idles = false;
    bool routes = false;
    bool tasks = false;
    for (uint32_t i = 1; i < count; i++) {
        spins |= contenders[i].spin_ns != contenders[0].spin_ns;
        idles |= contenders[i].idle != contenders[0].idle;
        routes |= contenders[i].route != contenders[0].route;
        tasks |= contenders[i].task_count != contenders[0].task_count;
    }
    for (uint32_t i = 0; i < count; i++) {
        char what[32];
        if (routes && contenders[i].route != WEIR_ROUTE_AUTO) {
            snprintf(what, sizeof what, " %s", route_names[contenders[i].route]);
            append(&contenders[i], what);
        }
        if (spins && contenders[i].spin_ns != 0) {
            snprintf(what, sizeof what, " spin %gus", (double)contenders[i].spin_ns / 1e3);
            append(&contenders[i], what);
        }
        if (tasks && contenders[i].task_count != 0) {
            snprintf(what, sizeof what, " %u tasks", contenders[i].task_count);
            append(&contenders[i], what);
        }
        append_onlookers(&contenders[i]);
        if (idles && contenders[i].idle != 0) {
            snprintf(what, sizeof what, " idle %u", contenders[i].idle);
            append(&contenders[i], what);
        }
    }
}

void contender_json(struct json *json, const struct contender *contender, enum job job)
{
    if (contender->engine->takes_policy) {
        json_string(json, "policy", policy_names[contender->policy]);
    }
    json_integer(json, "spin_ns", contender->spin_ns);
    if (job == JOB_FILE && contender->engine->takes_policy) {
        json_string(json, "route", route_names[contender->route]);
    }
    if (contender->engine->takes_policy) {
        json_integer(json, "tasks", contender->task_count);
        json_begin(json, "onlookers", '[');
        for (unsigned i = 0; i < ONLOOKER_COUNT; i++) {
            if (contender->onlookers >> i & 1) {
                json_string(json, NULL, onlooker_names[i]);
            }
        }
        json_end(json, ']');
    }
    if (job == JOB_ECHO) {
        json_integer(json, "idle", contender->idle);
    }
}
