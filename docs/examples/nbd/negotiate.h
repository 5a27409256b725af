/* SPDX-License-Identifier: MIT */
/*
 * negotiate.h: the handshake: hello, flags, options. Each option is answered, and the answer sent,
 * before the next is looked at, so that it takes no more memory than one answer however many a
 * client sends.
 */
#ifndef NEGOTIATE_H
#define NEGOTIATE_H

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct file;

/* Data of one option, bytes; more is no client that we know of. */
#define NEGOTIATE_OPTION_MAX (16u << 10)

struct negotiated {
    bool no_zeroes;  /* the client wants no padding after EXPORT_NAME */
    bool structured; /* replies */
    /* The file for which base:allocation was chosen; NULL: for none. */
    const struct file *allocation;
};

void negotiate_begin(struct connection *connection);
/* Takes what it can from the connection's `in`. */
void negotiate_take(struct connection *connection);

#endif
