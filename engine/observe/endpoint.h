/* SPDX-License-Identifier: MIT */
/*
 * endpoint.h: the loops that an endpoint shows, and how its thread looks at one of them while that
 * one's thread may be about to close it. Must not know HTTP or sockets' names.
 *
 * Invariant: a loop in the table is open; its thread takes it out only while nobody looks at it.
 */
#ifndef WEIR_ENGINE_ENDPOINT_H
#define WEIR_ENGINE_ENDPOINT_H

#include <engine/base/guard.h>
#include <engine/observe/address.h>
#include <engine/observe/attachment.h>
#include <engine/observe/http.h>
#include <pthread.h>
#include <weir/endpoint.h>
#include <weir/observe.h>
#include <weir/snapshot.h>

#define WEIR_ENDPOINT_OPS_MAX 4096 /* live ops that are listed */

struct weir_shown {
    struct weir_attachment attachment;
    struct weir_endpoint *endpoint;
    struct weir_loop *loop; /* NULL: a free place */
    char label[WEIR_LABEL_MAX + 1];
};

struct weir_shown_op {
    char label[WEIR_LABEL_MAX + 1];
    struct weir_live live;
};

struct weir_endpoint {
    struct weir_guard *guard; /* a page of its own: whether this is a child of fork(2) */
    struct weir_address address;
    int end; /* eventfd: readable when the thread is to end */
    bool runs;
    pthread_t thread;

    pthread_mutex_t mutex; /* over the four below; never held while a loop is looked at */
    pthread_cond_t looked; /* `looking` has changed */
    const struct weir_shown *looking;
    struct weir_shown *shown;
    uint32_t shown_max;

    /* The thread's own from here on. */
    struct weir_http http;
    struct weir_snapshot *now;
    struct weir_snapshot *earlier;  /* the one that the last interval ended with */
    struct weir_snapshot *interval; /* the last one asked for */
    uint64_t earlier_ns;            /* when, CLOCK_MONOTONIC; 0: never */
    struct weir_live *found;        /* WEIR_ENDPOINT_OPS_MAX, of one loop */
    struct weir_shown_op *ops;      /* twice as many: those of all loops, and those of one more */
};

/* Holds the loop at `index` below shown_max open until it is looked away from; NULL: none is there.
 * The endpoint's thread. */
const struct weir_shown *weir_endpoint_look(struct weir_endpoint *endpoint, uint32_t index);
void weir_endpoint_look_away(struct weir_endpoint *endpoint);

/* A weir_http_answerer, of an endpoint. */
void weir_endpoint_answer(void *context, const struct weir_http_request *request,
                          struct weir_http_answer *answer);

#endif
