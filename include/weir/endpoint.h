/* SPDX-License-Identifier: MIT */
/*
 * weir/endpoint.h: a unix socket at which a process shows its loops, served by a thread of its own,
 * so that it answers also while a loop is stuck. Off unless opened. weir-top reads it, and so can
 * `curl --unix-socket PATH http://weir/metrics`.
 *
 * It speaks HTTP/1.0, GET only: /metrics (Prometheus), /json (all numbers and the live ops),
 * /hlog, /trace?loop=LABEL (Chrome trace), / (a list of these). One request a connection. It serves
 * few clients and slow ones: 16 connections at a time, each for 5 s at most; a request is at most
 * 1 KiB; answers are built in memory.
 */
#ifndef WEIR_ENDPOINT_H
#define WEIR_ENDPOINT_H

#include <weir/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_endpoint;

struct weir_endpoint_options {
    /* Of the socket, at most 107 bytes. A socket that nobody listens to is replaced; anything else
     * is not touched. Removed at close. */
    const char *path;
    uint32_t mode;      /* its permission bits; 0: 0600 */
    uint32_t tasks_max; /* as weir_snapshot_open() */
    uint32_t loops_max;
};

/* Binds the socket and starts the thread. 0; -EINVAL: NULL, no path; -ENAMETOOLONG; -EADDRINUSE:
 * somebody listens there, or it is no socket; -EAGAIN: no more threads; -ENOMEM; others of
 * socket(2), bind(2), listen(2). Any thread. */
WEIR_API int weir_endpoint_open(const struct weir_endpoint_options *options,
                                struct weir_endpoint **ret_endpoint);
/* Ends the thread, removes the socket. 0 (for NULL too); -EBUSY: it has loops; -ECHILD. Any thread
 * but its own. */
WEIR_API int weir_endpoint_close(struct weir_endpoint *endpoint);

/*
 * Shows a loop from now on, under a label of 1 to WEIR_LABEL_MAX bytes that no other loop of the
 * endpoint has. Loop's thread. All of it if the loop was opened WEIR_INSPECTABLE, else only what
 * its tasks have counted. The loop leaves when it is closed or abandoned. 0; -EINVAL: NULL, no
 * label; -ENAMETOOLONG; -EEXIST: the label is taken, or the loop is there already; -ENOSPC;
 * -EOPNOTSUPP: a loop in a simulated world; -EPERM; -ECHILD.
 */
WEIR_API int weir_endpoint_add(struct weir_endpoint *endpoint, struct weir_loop *loop,
                               const char *label);
/* Ends it. Loop's thread. 0; -ENOENT; -EINVAL; -EPERM; -ECHILD. */
WEIR_API int weir_endpoint_remove(struct weir_endpoint *endpoint, struct weir_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
