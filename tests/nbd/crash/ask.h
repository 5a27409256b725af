/* SPDX-License-Identifier: MIT */
/* ask.h: a request as a client sees it: drawn, sent, answered, and the answer held against the
 * model. */
#ifndef ASK_H
#define ASK_H

#include "model.h"

#include <stdbool.h>
#include <stdint.h>

enum { ASK_LENGTH_MAX = 300 << 10, ASK_BYTES = ASK_LENGTH_MAX + 28 };

struct ask {
    struct ask *next;     /* its client's, to be sent */
    uint32_t client;      /* whose it is */
    uint64_t cookie;      /* 0: there is none here */
    uint16_t type, flags; /* enum nbd_command, enum nbd_command_flags */
    uint32_t length;      /* bytes */
    uint64_t offset;
    struct change *change; /* that it is */
    uint64_t asked;        /* the moment when it was sent; 0: not yet */
    uint32_t got;          /* bytes of a READ */
    bool has_failed;       /* a chunk said so */

    /* For order.c: the moment when the last of its writes was back at the server, 0 before; and of
     * a FLUSH the last such moment of all changes whose replies had come when it was sent. */
    uint64_t written;
    uint64_t to_be_covered;

    unsigned char *bytes; /* as they are sent, ASK_BYTES */
    uint32_t byte_count;
};

/* Before each life. */
void asks_begin(void);

/* Anything. */
void ask_draw(struct ask *ask);
/* It is sent now. False: nothing more is asked in this life. */
bool ask_send(struct ask *ask);
/* Bytes of a READ have come. */
void ask_take(struct ask *ask, const unsigned char *bytes, uint64_t offset, uint32_t length);
/* error: the protocol's, 0: none. */
void ask_answer(struct ask *ask, uint32_t error);
/* It will never be answered. */
void ask_lose(struct ask *ask);
/* A client has come, and not been told of syncs that failed before; others may have been. */
void asks_meet(uint32_t client);
/* A sync of the server has failed. */
void asks_note_failure(void);

/* Whether its answer promises that something is safe. */
bool ask_is_promised(const struct ask *ask);
/* "FLUSH 7" or the like; valid until it is called again. */
const char *ask_name(const struct ask *ask);

#endif
