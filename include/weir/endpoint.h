/* SPDX-License-Identifier: MIT */
/*
 * weir/endpoint.h: a unix socket at which a process shows its loops, served by a thread of its own,
 * so that it answers also while a loop is stuck. Off unless opened. weir-top reads it, and so can
 * `curl --unix-socket PATH http://weir/metrics`.
 *
 * It speaks HTTP/1.0, GET and HEAD, one request a connection:
 *
 *   /                  a list of these, text
 *   /metrics           Prometheus text
 *   /metrics?as=LABEL  all loops merged into one, task by task, as weir_snapshot_add() does under
 *                      one label; %41 is "A"
 *   /json              all numbers since the loops were opened, as weir_snapshot_write() does, and
 *                      the live ops
 *   /json?interval=1   the numbers of an interval: since the last request of this kind, by whoever;
 *                      its beginning is "since_ns", and 0 where there was none yet. The same
 *                      interval once more to who asks within half a second of its end. So one
 *                      interval is all that is kept, whatever the number of clients, and two that
 *                      ask each second both see intervals of half a second to a second.
 *   /hlog              HdrHistogram log; and ?as=LABEL
 *   /trace?loop=LABEL  Chrome trace of a loop's flight recorder; %41 is "A"; LABEL may be left out
 *                      where there is one loop
 *
 * What a loop is doing right now, in /json: "at" of each of "loops": null unless a watchdog watches
 * the loop (weir/watchdog.h), else an object: phase: "callback", "turn" (in none), "asleep" (or
 * about to be), "outside" (between turns); since_ns: for how long; and of a callback: task, kind
 * and site ("": not kept) of its op, callback: the function, "module+0x12". A loop that stands
 * still is in a callback or a turn for long: what its numbers and live ops say is of before then.
 *
 * Live ops in /json: "live" is the oldest 4096 of all WEIR_INSPECTABLE loops, oldest first,
 * of "live_count"; both are null if no loop is, but some are there. Each is an object: loop, task,
 * kind, state, site, fd, offset (-1: the file's own position), length, age_ns, flight_ns as in
 * struct weir_live, and frames, each "module+0x12" (for addr2line), the innermost first.
 *
 * It serves few clients and slow ones: 16 connections at a time, each for 5 s at most (not counting
 * how long making answers takes); a request is at most 1 KiB. Answers: 200; 400: no such request;
 * 404: no such page, loop or recorder; 405: neither GET nor HEAD; 431: more than 1 KiB; 501: /hlog,
 * built without zlib; 503: 16 connections are open, no memory, or more tasks than tasks_max; 500:
 * others.
 * Answers are made in memory. A loop is held open while it is looked at: its close and its
 * weir_endpoint_remove() wait that long, microseconds to some milliseconds, and for a large flight
 * recorder's trace longer; never for a client.
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
     * is not touched. It appears when it listens and has its bits, not before: it is made beside
     * its place under the same name but for a last byte of "~%#=+^!,", and renamed. Removed at
     * close, if it is still the same. */
    const char *path;
    uint32_t mode;      /* its permission bits, whatever the umask; 0: 0600 */
    uint32_t tasks_max; /* as weir_snapshot_open() */
    uint32_t loops_max;
};

/* Binds the socket and starts the thread, named "weir-endpoint", with all signals blocked. Takes
 * what memory it can beforehand: three snapshots of that size, and the list of live ops; touched as
 * it is used. *ret_endpoint is written on success only.
 * 0; -EINVAL: NULL, no path, mode has other bits than 0777, tasks_max or loops_max above 65536;
 * -ENAMETOOLONG; -EADDRINUSE: somebody listens there, or no name beside it is free; -ENOTSOCK:
 * something else is there; -EAGAIN: no more threads; -ENOMEM; -EMFILE, -ENFILE; -ENOENT, -ENOTDIR,
 * -EACCES, -EROFS and others of socket(2), open(2), bind(2), chmod(2), listen(2), rename(2). Any
 * thread. */
WEIR_API int weir_endpoint_open(const struct weir_endpoint_options *options,
                                struct weir_endpoint **ret_endpoint);
/* Ends the thread, removes the socket, hangs up on clients. 0 (for NULL too); -EBUSY: it has loops;
 * -ECHILD: in a child: only the child's copies of the fds were closed, and until that, or an exec,
 * the socket does not look deserted when the parent has gone. Any thread, but one at a time. */
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
