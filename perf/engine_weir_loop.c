/* SPDX-License-Identifier: MIT */
/* perf/engine_weir_loop.c: opens loops, and copies what they measured. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine_weir.h"

static void explain(const struct weir_decision *decision, int r, char error[ERROR_MAX])
{
    int length = snprintf(error, ERROR_MAX, "weir does not open a loop: %s", strerror(-r));
    for (uint32_t i = 0; i < decision->rejected_count && length < ERROR_MAX; i++) {
        const struct weir_rejection *rejection = &decision->rejected[i];
        length += snprintf(error + length, (size_t)(ERROR_MAX - length), "; %s: %s",
                           rejection->backend, rejection->hint);
    }
}

/* An observer that does as little as one can. */
static void count_op(void *context, const struct weir_op *op, uint64_t at_ns)
{
    (void)op;
    (void)at_ns;
    ++*(uint64_t *)context;
}

static void count_done(void *context, const struct weir_op *op, int64_t result, uint64_t at_ns)
{
    (void)result;
    count_op(context, op, at_ns);
}

static void count_refused(void *context, const struct weir_op *op, int error)
{
    (void)op;
    (void)error;
    ++*(uint64_t *)context;
}

static bool has(const struct workload *workload, enum onlooker onlooker)
{
    return workload->who->onlookers >> onlooker & 1;
}

static void set_onlookers(const struct workload *workload, struct weir_options *options)
{
    static uint64_t told;
    static const struct weir_observer observer = {count_op, count_op,      count_done,
                                                  count_op, count_refused, &told};
    bool stacks = has(workload, ONLOOKER_STACKS);
    options->observer = has(workload, ONLOOKER_OBSERVER) ? &observer : NULL;
    options->flags |= stacks || has(workload, ONLOOKER_INSPECTABLE) ? WEIR_INSPECTABLE : 0;
    options->backtrace_every = stacks ? 1 : 0;
    options->recorder_events = has(workload, ONLOOKER_RECORDER) ? 65536 : 0;
}

static void ignore_stall(void *context, const struct weir_stall *stall)
{
    (void)context;
    (void)stall;
}

/* One for the process: loops leave it when they are closed. */
static int watch(struct weir_loop *loop, char error[ERROR_MAX])
{
    static struct weir_watchdog *watchdog;
    const struct weir_watchdog_options options = {.callback = ignore_stall};
    int r = watchdog ? 0 : weir_watchdog_open(&options, &watchdog);
    r = r < 0 ? r : weir_watchdog_watch(watchdog, loop, "measured");
    if (r < 0) {
        snprintf(error, ERROR_MAX, "no watchdog: %s", strerror(-r));
    }
    return r;
}

int weir_open_loop(const struct workload *workload, struct weir_options *options,
                   bool files_need_workers, struct weir_loop **ret_loop, char error[ERROR_MAX])
{
    struct weir_decision decision = {0};
    struct weir_facts facts;
    struct weir_loop *loop = NULL;
    options->policy = workload->who->policy;
    options->spin_ns_max = workload->who->spin_ns;
    options->decision = &decision;
    set_onlookers(workload, options);
    int r = weir_loop_open(options, &loop);
    if (r < 0) {
        explain(&decision, r, error);
        return r;
    }
    weir_loop_facts(loop, &facts);
    if (facts.depth < options->depth) {
        snprintf(error, ERROR_MAX, "weir got a depth of %u only: %s; raise it or give --depth %u",
                 facts.depth, facts.depth_reason, facts.depth);
        weir_loop_close(loop, 0, NULL);
        return -ENOMEM;
    }
    if (files_need_workers && strcmp(facts.backend, "io_uring") != 0 &&
        options->offload_workers == WEIR_NO_OFFLOAD) {
        weir_loop_close(loop, 0, NULL);
        options->offload_workers = workload->workers;
        return weir_open_loop(workload, options, false, ret_loop, error);
    }
    r = has(workload, ONLOOKER_WATCHDOG) ? watch(loop, error) : 0;
    if (r < 0) {
        weir_loop_close(loop, 0, NULL);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

size_t weir_copy_tasks(struct weir_loop *loop, struct task_row *ret_rows, size_t max)
{
    size_t count = 0;
    for (struct weir_task *task = weir_task_next(loop, NULL); task != NULL && count < max;
         task = weir_task_next(loop, task)) {
        struct task_row *row = &ret_rows[count];
        struct weir_task_counters counters;
        if (weir_task_read_counters(task, &counters) < 0) {
            continue;
        }
        snprintf(row->name, sizeof row->name, "%s", weir_task_name(task));
        row->finished = counters.finished;
        for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
            weir_task_read(task, (enum weir_stage)stage, &row->stages[stage]);
        }
        count++;
    }
    return count;
}
