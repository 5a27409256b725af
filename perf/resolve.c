/* SPDX-License-Identifier: MIT */
/* perf/resolve.c: what can be judged only when the whole command line is read. */
#include "resolve.h"

#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

#include "parse.h"

#define TEXT_MAX 256

/* The engines by name, two or more for a comparison. argv's strings are ours to change. */
static void resolve_engines(struct argp_state *state, bool several, struct options *options)
{
    char error[TEXT_MAX];
    enum weir_policy policy = WEIR_AUTO;
    if (options->policy != NULL && !policy_find(options->policy, &policy)) {
        argp_error(state, "--policy %s: give auto, io_uring or epoll", options->policy);
    }
    static char both[] = "weir,uring";
    static char one[] = "weir";
    char *text = options->engines != NULL ? options->engines : several ? both : one;
    char *rest;
    for (char *name = strtok_r(text, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        if (options->engine_count == ENGINES_MAX) {
            argp_error(state, "--engines: give at most %d", ENGINES_MAX);
        }
        struct contender *contender = &options->contenders[options->engine_count++];
        if (!contender_find(name, policy, contender, error, sizeof error) ||
            !contender_can(contender, options->job, error, sizeof error)) {
            argp_error(state, "%s", error);
        }
    }
    if (several && options->engine_count < 2) {
        argp_error(state, "--engines: give two or more, such as weir,uring");
    } else if (!several && options->engine_count != 1) {
        argp_error(state, "--engine: give one");
    }
}

/* One value for one engine. */
static bool set_spin(const char *text, struct contender *contender)
{
    return parse_duration(text, WEIR_S, &contender->spin_ns);
}

static bool set_idle(const char *text, struct contender *contender)
{
    uint64_t value;
    if (!parse_size(text, 0, CONNECTIONS_MAX, &value)) {
        return false;
    }
    contender->idle = (uint32_t)value;
    return true;
}

/* "1:2:4"; "0": none. */
static bool set_shares(const char *text, struct contender *contender)
{
    uint32_t count = 0;
    char copy[64];
    char *rest;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *share = strtok_r(copy, ":", &rest); share; share = strtok_r(NULL, ":", &rest)) {
        uint64_t value;
        if (count == CONTENDER_TASKS_MAX || !parse_size(share, 0, WEIR_SHARE_MAX, &value)) {
            return false;
        }
        contender->shares[count++] = (uint32_t)value;
    }
    contender->task_count = count == 1 && contender->shares[0] == 0 ? 0 : count;
    return count > 0 && strlen(text) < sizeof copy;
}

/* "observer+recorder"; "none". */
static bool set_onlookers(const char *text, struct contender *contender)
{
    char copy[64];
    char *rest;
    snprintf(copy, sizeof copy, "%s", text);
    if (strcmp(copy, "none") == 0) {
        return true;
    }
    for (char *name = strtok_r(copy, "+", &rest); name; name = strtok_r(NULL, "+", &rest)) {
        enum onlooker onlooker;
        if (!onlooker_find(name, &onlooker)) {
            return false;
        }
        contender->onlookers |= 1u << onlooker;
    }
    return contender->onlookers != 0 && strlen(text) < sizeof copy;
}

static bool set_route(const char *text, struct contender *contender)
{
    return route_find(text, &contender->route);
}

/* Deals a comma-separated list out to the engines. False: a value or the list's length is wrong. */
static bool deal(char *text, bool (*set)(const char *, struct contender *), struct options *options)
{
    char *rest;
    char *value = text != NULL ? strtok_r(text, ",", &rest) : NULL;
    for (uint32_t i = 0; i < options->engine_count && value != NULL; i++) {
        if (!set(value, &options->contenders[i])) {
            return false;
        }
        char *next = strtok_r(NULL, ",", &rest);
        if (next != NULL && i + 1 == options->engine_count) {
            return false;
        }
        value = next != NULL ? next : value;
    }
    return text == NULL || value != NULL;
}

static void resolve_lists(struct argp_state *state, struct options *options)
{
    if (!deal(options->spin, set_spin, options)) {
        argp_error(state, "--spin: give a time up to 1 s, such as 50us, or one for each engine");
    }
    if (!deal(options->shares, set_shares, options)) {
        argp_error(state,
                   "--shares: give up to 8 shares from 1 to 1024, such as 1:2:4, or 0 for no "
                   "tasks; or that for each engine");
    }
    if (!deal(options->onlookers, set_onlookers, options)) {
        argp_error(state, "--onlookers: give observer, inspectable, stacks, recorder or watchdog, "
                          "joined by +, or none; or that for each engine");
    }
    if (!deal(options->idle, set_idle, options)) {
        argp_error(state, "--idle: give a number up to %d, or one for each engine",
                   CONNECTIONS_MAX);
    }
    if (!deal(options->route, set_route, options)) {
        argp_error(state,
                   "--route: give auto, ring, inline, memory or offload, or one for each engine");
    }
    contenders_label(options->contenders, options->engine_count);
}

void options_resolve(struct argp_state *state, enum option_set set, struct options *options)
{
    if (set != OPTION_SET_TIMER && set != OPTION_SET_PROBE && set != OPTION_SET_ALL) {
        resolve_engines(state, set == OPTION_SET_COMPARE, options);
        resolve_lists(state, options);
    }
    for (uint32_t i = 0; i < options->engine_count; i++) {
        if (options->connections + options->contenders[i].idle > CONNECTIONS_MAX) {
            argp_error(state, "--connections and --idle: give at most %d together",
                       CONNECTIONS_MAX);
        }
    }
    options_settle(options);
    if (options->job == JOB_ECHO && options->size > MESSAGE_MAX) {
        argp_error(state, "--size: give at most 16M with echo");
    }
    if (options->job == JOB_FILE && options->size < options->block) {
        argp_error(state, "--size is smaller than --block: make the file larger");
    }
}

void options_settle(struct options *options)
{
    if (options->size == 0) {
        options->size = options->job == JOB_ECHO ? 64 : 256u << 20;
    }
}
