/* SPDX-License-Identifier: MIT */
/* perf/gate_rig_open.c: takes all that a rig needs, and gives it back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine_weir.h"
#include "gate_peer.h"
#include "gate_request.h"
#include "gate_rig.h"
#include "report.h"

/* NULL after a message. */
static void *map(size_t length, bool untouched)
{
    int how = untouched ? MAP_NORESERVE : MAP_POPULATE;
    void *memory =
        mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);
    if (memory == MAP_FAILED) {
        complain("no memory for %zu bytes of requests: %s; give a smaller --pool", length,
                 strerror(errno));
        return NULL;
    }
    return memory;
}

static size_t requests_length(const struct flow *flow)
{
    return flow->room * sizeof *flow->requests;
}

static size_t buffers_length(const struct flow *flow)
{
    return (size_t)flow->room * flow->work.block;
}

static int open_flow(struct rig *rig, uint32_t index, const struct workload *file)
{
    const struct flow_plan *plan = &rig->plan.flows[index];
    struct flow *flow = &rig->flows[index];
    if (plan->task.name == NULL) {
        return 0;
    }
    flow->rig = rig;
    flow->work = *file;
    flow->work.block = plan->block;
    flow->work.blocks = file->blocks * file->block / plan->block;
    flow->room = plan->requests;
    int r = weir_task_open(rig->loop, &plan->task, &flow->task);
    if (r < 0) {
        complain("weir does not open task \"%s\": %s", plan->task.name, strerror(-r));
        return -1;
    }
    flow->requests = map(requests_length(flow), plan->untouched);
    flow->buffers = map(buffers_length(flow), plan->untouched);
    return flow->requests != NULL && flow->buffers != NULL ? 0 : -1;
}

static int open_echo(struct rig *rig)
{
    struct weir_task_options options = {.name = "replies", .reserve = DRAINS};
    int r = weir_task_open(rig->loop, &options, &rig->drain_task);
    if (r < 0) {
        complain("weir does not open task \"replies\": %s", strerror(-r));
        return -1;
    }
    for (int i = 0; i < DRAINS; i++) {
        rig->drains[i].rig = rig;
        rig->drains[i].op.task = rig->drain_task;
        rig->drains[i].op.callback = gate_on_reply;
    }
    return gate_peer_start(rig->plan.peer_work_ns, &rig->peer, &rig->fd);
}

static int open_loop(struct rig *rig, const struct workload *file)
{
    struct weir_options options = {
        .depth = rig->plan.depth + (rig->plan.echo ? DRAINS : 0),
        .waiting_max = rig->plan.waiting,
        .admit_ops_max = rig->plan.admit_ops_max,
        .admit_bytes_max = rig->plan.admit_bytes_max,
        .goal_ns = rig->plan.goal_ns,
        .offload_workers = WEIR_NO_OFFLOAD,
    };
    char error[ERROR_MAX];
    struct workload workload = *file;
    rig->who = (struct contender){.name = "weir", .policy = rig->plan.policy};
    workload.who = &rig->who;
    if (weir_open_loop(&workload, &options, !rig->plan.echo, &rig->loop, error) < 0) {
        complain("%s", error);
        return -1;
    }
    return 0;
}

int rig_open(const struct rig_plan *plan, const struct workload *file, struct rig **ret_rig)
{
    struct rig *rig = calloc(1, sizeof *rig);
    if (rig == NULL) {
        complain("no memory");
        return -1;
    }
    rig->plan = *plan;
    int r = open_loop(rig, file);
    for (uint32_t i = 0; i < FLOWS_MAX && r == 0; i++) {
        r = open_flow(rig, i, file);
    }
    if (r == 0 && plan->echo) {
        r = open_echo(rig);
    }
    if (r < 0) {
        rig_close(rig);
        return -1;
    }
    *ret_rig = rig;
    return 0;
}

void rig_close(struct rig *rig)
{
    if (rig == NULL) {
        return;
    }
    /* What does not come back keeps its memory, and the process ends soon. */
    if (rig->loop != NULL && weir_loop_close(rig->loop, 5 * WEIR_S, NULL) < 0) {
        weir_loop_abandon(rig->loop);
        return;
    }
    gate_peer_end(&rig->peer, rig->fd);
    for (int i = 0; i < FLOWS_MAX; i++) {
        struct flow *flow = &rig->flows[i];
        if (flow->requests != NULL) {
            munmap(flow->requests, requests_length(flow));
        }
        if (flow->buffers != NULL) {
            munmap(flow->buffers, buffers_length(flow));
        }
    }
    free(rig);
}

void rig_release(struct rig *rig)
{
    for (int i = 0; i < FLOWS_MAX; i++) {
        struct flow *flow = &rig->flows[i];
        if (flow->requests != NULL) {
            flow->fresh = 0;
            flow->free = NULL;
            madvise(flow->requests, requests_length(flow), MADV_DONTNEED);
            madvise(flow->buffers, buffers_length(flow), MADV_DONTNEED);
        }
    }
}
