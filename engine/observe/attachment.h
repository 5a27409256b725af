/* SPDX-License-Identifier: MIT */
/*
 * attachment.h: whoever looks at a loop from another thread (a watchdog, an endpoint) is attached
 * to it, and told when it ends. Implemented by the loop.
 */
#ifndef WEIR_ENGINE_ATTACHMENT_H
#define WEIR_ENGINE_ATTACHMENT_H

#include <weir/base.h>

struct weir_attachment {
    struct weir_attachment *next; /* the loop's */
    /* The loop is about to end: from this call's return on it may not be looked at. The attachment
     * is no longer in the loop's list. Loop's thread. */
    void (*detached)(struct weir_attachment *attachment);
};

/* Loop's thread. 0; -EPERM; -ECHILD; -EOPNOTSUPP: it lives in a simulated world. */
int weir_loop_attach(struct weir_loop *loop, struct weir_attachment *attachment);
/* Takes it out of the list, without detached(). 0; -ENOENT; -EPERM; -ECHILD. */
int weir_loop_detach(struct weir_loop *loop, struct weir_attachment *attachment);

#endif
