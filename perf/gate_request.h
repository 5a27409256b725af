/* SPDX-License-Identifier: MIT */
/* perf/gate_request.h: a request of a rig's flow. The rig's own files alone see it. */
#ifndef PERF_GATE_REQUEST_H
#define PERF_GATE_REQUEST_H

#include <weir/op.h>

struct flow;

struct request {
    struct weir_op op;
    struct flow *flow;
    struct request *next; /* on the free list */
    uint64_t intended_ns;
};

/* The callback of an echo's RECVs. */
void gate_on_reply(struct weir_op *op);

#endif
