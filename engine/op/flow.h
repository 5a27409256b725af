/* SPDX-License-Identifier: MIT */
/*
 * flow.h: what one task has at one gate: its ops that stand there, its limits, what it uses of
 * them. Data only: gate.h reads and writes it. Must not know tasks or gates.
 */
#ifndef WEIR_ENGINE_FLOW_H
#define WEIR_ENGINE_FLOW_H

#include <engine/op/op.h>

enum { WEIR_GATE_MAIN, WEIR_GATE_OFFLOAD, WEIR_GATE_COUNT };

/* Who stands in line at a gate. */
enum weir_line {
    WEIR_LINE_WAITING, /* ops with a place, and no credit */
    WEIR_LINE_POSTED,  /* ops without a place yet */
    WEIR_LINE_OPS,
    WEIR_LINE_ROOM = WEIR_LINE_OPS, /* struct weir_room: they wait to be told of a place */
    WEIR_LINE_COUNT
};

/*
 * A latency goal and what is known of it. Ops that left before the depth last changed say nothing.
 */
struct weir_goal {
    uint64_t flight_ns;     /* p99 wanted; 0: no goal */
    uint64_t begin_ns;      /* of the window: when the first of them came back, or until then when
                             * the last one ended */
    uint32_t samples;       /* in it */
    uint32_t late;          /* of these later than wanted */
    uint32_t near;          /* of these later than 7/8 of it, the late ones included */
    bool met;               /* clearly, in a window since the depth last changed */
    uint32_t out;           /* ops in flight that it will hear of */
    struct weir_task *task; /* whose; NULL: the loop's */
    struct weir_goal *next;
};

struct weir_flow {
    struct weir_queue lines[WEIR_LINE_OPS];
    struct weir_room *rooms;
    struct weir_room *rooms_tail;
    struct weir_flow_link {
        struct weir_flow *next;
        struct weir_flow *prev;
    } links[WEIR_LINE_COUNT]; /* among the flows with somebody in that line */
    uint64_t tag;             /* the virtual time at which its first waiting op is to be served */

    /* Limits; 0: none, but for share, at least 1. */
    uint32_t share;
    uint32_t depth;
    uint32_t reserve;
    uint64_t bytes_max;
    struct weir_goal goal;

    /* What its governed ops use. */
    bool governed;      /* all its ops are */
    uint32_t live;      /* places */
    uint32_t in_flight; /* credits */
    uint64_t bytes;     /* of live ops, as far as they count */
    uint64_t bytes_in_flight;
};

#endif
