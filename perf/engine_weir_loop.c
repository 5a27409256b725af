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

int weir_open_loop(const struct workload *workload, struct weir_options *options,
                   bool files_need_workers, struct weir_loop **ret_loop, char error[ERROR_MAX])
{
    struct weir_decision decision = {0};
    struct weir_facts facts;
    struct weir_loop *loop = NULL;
    options->policy = workload->who->policy;
    options->spin_ns_max = workload->who->spin_ns;
    options->decision = &decision;
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
        if (weir_task_counters(task, &counters) < 0) {
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
