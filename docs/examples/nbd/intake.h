/* SPDX-License-Identifier: MIT */
/* intake.h: where a connection is in its stream of requests. */
#ifndef INTAKE_H
#define INTAKE_H

#include <stdbool.h>
#include <stdint.h>

struct connection;

struct intake {
    struct request *splitting; /* a READ whose pieces are not all made */
    struct request *writing;   /* a WRITE whose bytes are not all there */
    struct request *filling;   /* the piece of it that the next bytes belong to; NULL: a new one */
    struct request *blocked;   /* made, but the gate is full */
    struct pipe *pipe;         /* that bytes are on their way into: splicing.h */
    bool is_dry;               /* there were none */
    bool is_bulk;              /* the last request was a WRITE that is spliced */
    uint32_t bytes;            /* of READs, begun since others had their turn */
    uint32_t discard;          /* bytes of a refused WRITE that are still to come */
    uint32_t rounds;           /* in a row that left something, as far as it counts */
};

/* Takes requests from the connection's bytes while it can. */
void intake_take(struct connection *connection);
/* Whether it is something else than bytes that it waits for. */
bool intake_waits(const struct connection *connection);
/* The piece of the WRITE that the next bytes belong to. NULL: none now. */
struct request *intake_piece(struct connection *connection);
/* Whether it stands between two requests, all that was begun being whole. */
bool intake_is_between(const struct connection *connection);
/* Gives up what is not begun: nothing will be taken any more, or answered. */
void intake_break(struct connection *connection);

#endif
