/* SPDX-License-Identifier: MIT */
/*
 * http.h: serves HTTP/1.0 GET and HEAD on a listening socket: one request a connection, few of
 * them, bounded in size and time. One thread, that sleeps in poll(2) alone: who is slow holds up
 * nobody. Must not know what is answered.
 *
 * Invariant: a connection is open for WEIR_HTTP_PATIENCE_NS at most, not counting the time that
 * making answers takes.
 */
#ifndef WEIR_ENGINE_HTTP_H
#define WEIR_ENGINE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/base.h>

#define WEIR_HTTP_CONNECTIONS 16
/* Places for who comes when these are taken: read like the others, so that no client finds itself
 * hung up on while it sends, but answered 503. Past these they are told so at once. */
#define WEIR_HTTP_SPARE 4
#define WEIR_HTTP_PLACES (WEIR_HTTP_CONNECTIONS + WEIR_HTTP_SPARE)
#define WEIR_HTTP_REQUEST_MAX 1024 /* bytes, the empty line included */
#define WEIR_HTTP_PATIENCE_NS (5 * WEIR_S)

struct weir_http_request {
    bool head_only;   /* HEAD: what GET would answer, without its body */
    const char *path; /* as it was sent: no name of ours needs an escape */
    char *query;      /* after the '?', for weir_http_parameter(); "" if there is none */
};

/* Zeroed: 200 without a body. */
struct weir_http_answer {
    unsigned status;  /* 0: 200 */
    const char *type; /* a literal */
    char *body;       /* malloc'ed; the server frees it */
    size_t size;
    size_t capacity;
};

/* A weir_writer: appends to the answer that `context` is. 0; -ENOMEM. */
int weir_http_append(void *context, const char *text, size_t size);
/* Throws away what was appended: a status and a line of plain text instead. */
void weir_http_say(struct weir_http_answer *answer, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* 1 and its value, decoded, in ret_value; 0: it is not there; -EINVAL: no valid escapes, or longer
 * than size - 1 bytes. */
int weir_http_parameter(const char *query, const char *name, char *ret_value, size_t size);

typedef void weir_http_answerer(void *context, const struct weir_http_request *request,
                                struct weir_http_answer *answer);

struct weir_http_connection {
    int fd; /* -1: free */
    uint64_t deadline_ns;
    size_t received;
    char request[WEIR_HTTP_REQUEST_MAX + 1];
    struct weir_http_answer answer;
    char head[192];
    size_t head_size; /* 0: the request is not all there yet */
    size_t body_size; /* of the answer, what is to be sent */
    size_t sent;      /* of head and body */
};

struct weir_http {
    weir_http_answerer *answerer;
    void *context;
    int listener;
    uint64_t accept_from_ns; /* accept(2) failed for want of something: not before */
    struct weir_http_connection connections[WEIR_HTTP_PLACES];
};

void weir_http_init(struct weir_http *http, int listener, weir_http_answerer *answerer,
                    void *context);
/* Serves until `end` is readable, then closes all connections. */
void weir_http_serve(struct weir_http *http, int end);

#endif
