/* SPDX-License-Identifier: MIT */
/*
 * epoll_worker.c: ops on pollable fds that only a worker can carry out, since no flag of their call
 * keeps it from waiting. They are let go when their fd is ready, and one at a time for each
 * direction of it: of two that are let go for the same byte or connection, one would sit in the
 * kernel where no cancel reaches it, and a few of them in all the workers.
 *
 * Invariant: who stands behind is looked at in every turn, and a turn follows whatever a worker
 * gives back.
 */
#include <engine/backend/epoll.h>
#include <poll.h>
#include <sys/stat.h>

int64_t weir_epoll_look(int fd, uint32_t events)
{
    struct pollfd entry = {.fd = fd, .events = (short)events};
    if (fd < 0) {
        return -EBADF; /* poll(2) passes such an entry by */
    }
    int r = poll(&entry, 1, 0);
    if (r < 0) {
        return -errno;
    }
    return entry.revents & POLLNVAL ? -EBADF : entry.revents;
}

/* The fds that an op reads from and writes to; -1: none. */
static void get_ends(const struct weir_op *op, int ret_fds[2])
{
    bool reads = weir_kind_traits(op->kind) & WEIR_KIND_READS;
    ret_fds[WEIR_SIDE_IN] = reads ? op->fd : -1;
    ret_fds[WEIR_SIDE_OUT] = reads ? -1 : op->fd;
    if (op->kind == WEIR_KIND_SPLICE) {
        ret_fds[WEIR_SIDE_IN] = op->arg.io.fd2;
        ret_fds[WEIR_SIDE_OUT] = op->fd;
    }
}

/* Whether a worker has the op that was let go there last. */
static bool is_claimed(const struct weir_epoll *epoll, int fd, enum weir_side side)
{
    const struct weir_watch *watch = fd < 0 ? NULL : weir_watches_find(&epoll->watches, fd);
    if (!watch) {
        return false;
    }
    const struct weir_op *op = weir_slots_find(epoll->base.slots, watch->claims[side]);
    return op && op->with == WEIR_CARRIER_OFFLOAD;
}

bool weir_epoll_is_behind(const struct weir_epoll *epoll, const struct weir_op *op)
{
    int fds[2];
    get_ends(op, fds);
    return is_claimed(epoll, fds[WEIR_SIDE_IN], WEIR_SIDE_IN) ||
           is_claimed(epoll, fds[WEIR_SIDE_OUT], WEIR_SIDE_OUT);
}

/* Of a file any number of workers may read at a time. */
static void claim(struct weir_epoll *epoll, int fd, enum weir_side side, const struct weir_op *op)
{
    struct stat file;
    if (fd < 0 || fstat(fd, &file) < 0 || S_ISREG(file.st_mode) || S_ISBLK(file.st_mode)) {
        return;
    }
    struct weir_watch *watch = weir_watches_take(&epoll->watches, epoll->base.slots, fd);
    watch->claims[side] = op->slot->tag;
}

enum weir_staged weir_epoll_let_go(struct weir_epoll *epoll, struct weir_op *op)
{
    if (weir_epoll_is_behind(epoll, op)) {
        op->retry = WEIR_RETRY_ASYNC; /* for a worker, later: so that a cancel finds it */
        weir_queue_push(&epoll->behind, op);
        return WEIR_TAKEN;
    }
    int fds[2];
    get_ends(op, fds);
    claim(epoll, fds[WEIR_SIDE_IN], WEIR_SIDE_IN, op);
    claim(epoll, fds[WEIR_SIDE_OUT], WEIR_SIDE_OUT, op);
    return WEIR_NOT_HERE;
}

struct weir_op *weir_epoll_next_freed(struct weir_epoll *epoll)
{
    for (struct weir_op *op = epoll->behind.head; op; op = op->held.link.next) {
        if (!weir_epoll_is_behind(epoll, op)) {
            return op;
        }
    }
    return NULL;
}
