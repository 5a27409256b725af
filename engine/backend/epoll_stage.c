/* SPDX-License-Identifier: MIT */
/*
 * epoll_stage.c: how each kind is carried out by a reactor: tried on the spot, waited for, or
 * neither. Knows no turn.
 *
 * A hint is only ever taken from what an event would end: after EAGAIN, and after a short read of
 * an even stream of bytes, the next event is waited for. All other doubt is settled by a try.
 */
#include <engine/backend/epoll.h>
#include <engine/op/perform.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MSG_NOT_EVEN (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE | MSG_TRUNC)
#define MSG_OTHER_QUEUE (MSG_OOB | MSG_ERRQUEUE) /* not what POLLIN tells of */

static bool is_message(const struct weir_op *op)
{
    return op->kind >= WEIR_KIND_RECV && op->kind <= WEIR_KIND_SENDMSG;
}

_Static_assert(WEIR_KIND_SEND == WEIR_KIND_RECV + 1 && WEIR_KIND_RECVMSG == WEIR_KIND_RECV + 2 &&
                   WEIR_KIND_SENDMSG == WEIR_KIND_RECV + 3,
               "is_message() is a range");

static bool caller_polls(const struct weir_op *op)
{
    return is_message(op)
               ? op->arg.io.flags & MSG_DONTWAIT
               : weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE && op->rw_flags & RWF_NOWAIT;
}

static enum weir_side side_of(const struct weir_op *op)
{
    return weir_kind_traits(op->kind) & WEIR_KIND_READS ? WEIR_SIDE_IN : WEIR_SIDE_OUT;
}

static bool is_even(const struct weir_watch *watch)
{
    return watch && (watch->flags & (WEIR_WATCH_TCP | WEIR_WATCH_UNIX)) &&
           !(watch->flags & WEIR_WATCH_UNEVEN);
}

/* Once per fd that is waited on. Of other protocols nothing is assumed. */
static void learn_protocol(struct weir_watch *watch)
{
    int domain = 0;
    int value = 0;
    socklen_t length = sizeof value;
    watch->flags |= WEIR_WATCH_KNOWN;
    if (getsockopt(watch->fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0) {
        return;
    }
    if (domain == AF_UNIX) {
        getsockopt(watch->fd, SOL_SOCKET, SO_TYPE, &value, &length);
        watch->flags |= value == SOCK_STREAM ? WEIR_WATCH_UNIX : 0;
    } else if (domain == AF_INET || domain == AF_INET6) {
        getsockopt(watch->fd, SOL_SOCKET, SO_PROTOCOL, &value, &length);
        watch->flags |= value == IPPROTO_TCP ? WEIR_WATCH_TCP : 0;
    }
}

/* --- tries ------------------------------------------------------------------------------------ */

/* A receive of bytes. What carries fds ends early, whatever stands behind it; recvmsg(2) tells. */
static int64_t receive(struct weir_watch *watch, const struct weir_op *op)
{
    struct weir_part part;
    weir_op_part(op, &part);
    int flags = (int)op->arg.io.flags | MSG_DONTWAIT;
    struct iovec one = {part.buffer, part.length};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};
    int64_t r = is_even(watch) && watch->flags & WEIR_WATCH_UNIX
                    ? recvmsg(op->fd, &message, flags)
                    : recv(op->fd, part.buffer, part.length, flags);
    if (r < 0) {
        return -errno;
    }
    if (r > 0 && (uint64_t)r < part.length && is_even(watch) && !(flags & MSG_NOT_EVEN) &&
        !(message.msg_flags & MSG_CTRUNC)) {
        watch->flags |= WEIR_WATCH_DRY_IN;
    }
    return r;
}

static bool waits_for_all(const struct weir_op *op)
{
    return is_message(op) && op->flags == 0 &&
           (op->arg.io.flags & (MSG_WAITALL | MSG_DONTWAIT | MSG_NOT_EVEN)) == MSG_WAITALL;
}

int64_t weir_epoll_progress(const struct weir_op *op)
{
    return waits_for_all(op) ? (int64_t)op->mode_or_offset2 : 0;
}

static bool has_messages(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
           (type != SOCK_STREAM && type != SOCK_SEQPACKET);
}

/* MSG_WAITALL, as the ring has it: parts are collected, in a field that these kinds have no other
 * use for; an end or an error after the first part gives what came before it. */
static int64_t transfer_all(struct weir_op *op)
{
    uint64_t wanted = weir_op_bytes(op);
    for (;;) {
        struct weir_op rest = *op;
        rest.flags = WEIR_WHOLE; /* then `moved` counts */
        rest.moved = op->mode_or_offset2;
        int64_t r = weir_op_perform(&rest, WEIR_HOW_TRY, 0);
        if (r == -EAGAIN) {
            return r;
        }
        op->mode_or_offset2 += r > 0 ? (uint64_t)r : 0;
        uint64_t moved = op->mode_or_offset2;
        if (r <= 0 || moved >= wanted || has_messages(op->fd)) {
            return moved > 0 ? (int64_t)moved : r;
        }
    }
}

/* Pollable, and not to be tried by a flag of the call: if it does not block there is no need. */
static int64_t transfer_unflagged(const struct weir_op *op, uint32_t write_flags)
{
    int flags = fcntl(op->fd, F_GETFL);
    return flags >= 0 && !(flags & O_NONBLOCK) ? -EOPNOTSUPP
                                               : weir_op_perform(op, WEIR_HOW_BLOCK, write_flags);
}

static int64_t transfer(struct weir_watch *watch, const struct weir_op *op, uint32_t write_flags)
{
    uint32_t no_try = 4u << side_of(op);
    if (watch->flags & no_try) {
        return transfer_unflagged(op, write_flags);
    }
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, write_flags);
    if (weir_unlikely(r == -EOPNOTSUPP) && op->rw_flags == 0) {
        watch->flags |= no_try;
        return transfer_unflagged(op, write_flags);
    }
    bool is_short = op->kind == WEIR_KIND_READ && r > 0 && (uint64_t)r < op->arg.io.length;
    if (is_short && is_even(watch) && watch->flags & WEIR_WATCH_TCP) {
        watch->flags |= WEIR_WATCH_DRY_IN;
    }
    return r;
}

/* connect(2) again tells how the first one went; where a protocol does not see it so, the socket's
 * error does. */
static int64_t connect_again(const struct weir_op *op)
{
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, 0);
    if (r == -EISCONN || r == -EBADFD) {
        int error = 0;
        socklen_t length = sizeof error;
        return getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
    }
    return r;
}

static enum weir_attempt judge(const struct weir_op *op, int64_t r, int64_t *ret_result)
{
    *ret_result = r;
    if (weir_likely(r >= 0)) {
        return WEIR_ATTEMPT_DONE;
    }
    if (op->kind == WEIR_KIND_CONNECT) { /* EAGAIN is a full backlog, which no event tells of */
        return r == -EINPROGRESS || r == -EALREADY ? WEIR_ATTEMPT_WAITS : WEIR_ATTEMPT_DONE;
    }
    if (r == -EAGAIN && !caller_polls(op)) {
        return WEIR_ATTEMPT_WAITS;
    }
    bool by_flag = op->kind == WEIR_KIND_ACCEPT || !is_message(op);
    return r == -EOPNOTSUPP && by_flag && op->rw_flags == 0 ? WEIR_ATTEMPT_CANNOT
                                                            : WEIR_ATTEMPT_DONE;
}

static int64_t try_message(struct weir_watch *watch, struct weir_op *op)
{
    if (weir_unlikely(waits_for_all(op))) {
        return transfer_all(op);
    }
    return op->kind == WEIR_KIND_RECV ? receive(watch, op) : weir_op_perform(op, WEIR_HOW_TRY, 0);
}

enum weir_attempt weir_epoll_attempt(struct weir_watch *watch, struct weir_op *op,
                                     uint32_t write_flags, int64_t *ret_result)
{
    switch (op->kind) {
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        return judge(op, try_message(watch, op), ret_result);
    case WEIR_KIND_ACCEPT:
        return judge(op, weir_op_perform(op, WEIR_HOW_TRY, 0), ret_result);
    case WEIR_KIND_CONNECT:
        return judge(op, connect_again(op), ret_result);
    default:
        return judge(op, transfer(watch, op, write_flags), ret_result);
    }
}

/* --- finishing and waiting -------------------------------------------------------------------- */

static enum weir_staged finish(struct weir_epoll *epoll, struct weir_op *op, int64_t result)
{
    op->result = result;
    epoll->finished = true;
    return WEIR_FINISHED;
}

/* A number that was given anew: whoever closed the last file of that number has not said so. */
static enum weir_staged finish_new_fd(struct weir_epoll *epoll, struct weir_op *op, int64_t result)
{
    struct weir_watch *stale = result >= 0 ? weir_watches_find(&epoll->watches, (int)result) : NULL;
    if (stale && weir_watch_is_idle(stale)) {
        weir_watches_drop(&epoll->watches, stale);
    }
    return finish(epoll, op, result);
}

struct weir_place weir_epoll_place(const struct weir_op *op)
{
    enum weir_side side = side_of(op);
    struct weir_place place = {op->fd, side, side == WEIR_SIDE_IN ? POLLIN : POLLOUT};
    if (op->kind == WEIR_KIND_POLL) {
        place.side = WEIR_SIDE_POLL;
        place.events = op->arg.io.flags & 0xffff;
    } else if (op->retry == WEIR_RETRY_POLL) {
        place.side = WEIR_SIDE_POLL;
        if (op->kind == WEIR_KIND_SPLICE) { /* odd: for the source, even: for the target */
            place.fd = op->attempts & 1 ? op->arg.io.fd2 : op->fd;
            place.events = op->attempts & 1 ? POLLIN : POLLOUT;
        }
    }
    return place;
}

/* Puts an op where it waits. */
static enum weir_staged wait_there(struct weir_epoll *epoll, struct weir_op *op)
{
    struct weir_place place = weir_epoll_place(op);
    struct weir_watch *watch = weir_watches_take(&epoll->watches, place.fd);
    uint32_t events = place.side == WEIR_SIDE_IN ? 0 : place.events;
    int r = weir_watches_arm(&epoll->watches, watch, events);
    /* EPERM: nothing ever happens there, and the op waits to be asked back. */
    if (weir_unlikely(r < 0 && r != -EPERM)) {
        if (weir_watch_is_idle(watch) && watch->armed == 0) {
            weir_watches_drop(&epoll->watches, watch);
        }
        return finish(epoll, op, r);
    }
    if (place.side != WEIR_SIDE_POLL) {
        watch->flags |= 1u << place.side; /* dry */
    }
    if (place.side == WEIR_SIDE_IN && !(watch->flags & WEIR_WATCH_KNOWN)) {
        learn_protocol(watch);
    }
    weir_queue_push(&watch->sides[place.side], op);
    return WEIR_TAKEN;
}

/* The events that are there now, with those told of unasked; 0: none. */
static int64_t look(int fd, uint32_t events)
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

/* POLL itself, and ops that have to wait for their fd before anything else. */
static enum weir_staged stage_poll(struct weir_epoll *epoll, struct weir_op *op)
{
    struct weir_place place = weir_epoll_place(op);
    int64_t seen = look(place.fd, place.events);
    return seen != 0 ? finish(epoll, op, seen) : wait_there(epoll, op);
}

/* One that only a worker can carry out, but only once its fd is ready: then the worker does not
 * wait, unless somebody else is faster. */
static enum weir_staged stage_without_try(struct weir_epoll *epoll, struct weir_op *op)
{
    if (look(op->fd, side_of(op) == WEIR_SIDE_IN ? POLLIN : POLLOUT) != 0) {
        return WEIR_NOT_HERE;
    }
    op->retry = WEIR_RETRY_POLL;
    return wait_there(epoll, op);
}

/* Whether a try would be for nothing, or unfair to those who wait already. */
static bool must_wait(const struct weir_watch *watch, const struct weir_op *op)
{
    enum weir_side side = side_of(op);
    if (!watch || (!(watch->flags & 1u << side) && !watch->sides[side].head)) {
        return false;
    }
    bool goes_on = op->flags & WEIR_WHOLE && op->moved > 0; /* its last part may have been short
                                                             * for a reason of its own */
    bool elsewhere = is_message(op) && op->arg.io.flags & MSG_OTHER_QUEUE;
    return !goes_on && !elsewhere && !caller_polls(op) && op->kind != WEIR_KIND_CONNECT;
}

static enum weir_staged stage_tried(struct weir_epoll *epoll, struct weir_watch *watch,
                                    struct weir_op *op)
{
    int64_t result;
    if (must_wait(watch, op)) {
        return wait_there(epoll, op);
    }
    switch (weir_epoll_attempt(watch, op, epoll->base.write_flags, &result)) {
    case WEIR_ATTEMPT_DONE:
        return finish(epoll, op, result);
    case WEIR_ATTEMPT_CANNOT:
        return stage_without_try(epoll, op);
    default:
        if (is_message(op) && op->arg.io.flags & MSG_OTHER_QUEUE) {
            return finish(epoll, op, result); /* EAGAIN: it will be polled for, with patience */
        }
        return wait_there(epoll, op);
    }
}

/* --- kinds ------------------------------------------------------------------------------------ */

static enum weir_staged stage_message(struct weir_epoll *epoll, struct weir_op *op)
{
    if (weir_unlikely(op->arg.io.flags & MSG_WAITALL)) {
        op->mode_or_offset2 = 0;
    }
    return stage_tried(epoll, weir_watches_find(&epoll->watches, op->fd), op);
}

static enum weir_staged stage_accept(struct weir_epoll *epoll, struct weir_op *op)
{
    enum weir_staged staged = stage_tried(epoll, weir_watches_find(&epoll->watches, op->fd), op);
    return staged == WEIR_FINISHED ? finish_new_fd(epoll, op, op->result) : staged;
}

static enum weir_staged stage_connect(struct weir_epoll *epoll, struct weir_op *op)
{
    int64_t result;
    enum weir_attempt attempt = judge(op, weir_op_perform(op, WEIR_HOW_TRY, 0), &result);
    return attempt == WEIR_ATTEMPT_WAITS ? wait_there(epoll, op) : finish(epoll, op, result);
}

/* A file: from the page cache on the spot, or by a worker. A read at the file's own position would
 * move it also where it then has to be made again. */
static enum weir_staged stage_file(struct weir_epoll *epoll, struct weir_watch *watch,
                                   struct weir_op *op)
{
    uint32_t no_try = 4u << side_of(op);
    bool repeatable = op->arg.io.offset != WEIR_CURRENT || op->flags & WEIR_WHOLE;
    /* With route INLINE the loop has tried. */
    bool may_try = side_of(op) == WEIR_SIDE_IN && op->route == WEIR_ROUTE_AUTO && repeatable &&
                   !(watch->flags & no_try);
    if (!may_try && !caller_polls(op)) {
        return WEIR_NOT_HERE;
    }
    struct weir_counters *counters = epoll->base.counters;
    counters->inline_tries++;
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, epoll->base.write_flags);
    if (caller_polls(op) || (r != -EAGAIN && r != -EOPNOTSUPP)) {
        counters->inline_done += r >= 0;
        return finish(epoll, op, r);
    }
    if (r == -EOPNOTSUPP) {
        watch->flags |= no_try;
    }
    return WEIR_NOT_HERE;
}

/* READ, WRITE and their vectors: what the fd is decides, and the set knows. */
static enum weir_staged stage_transfer(struct weir_epoll *epoll, struct weir_op *op)
{
    if (op->fd < 0) {
        return finish(epoll, op, -EBADF);
    }
    struct weir_watch *watch = weir_watches_take(&epoll->watches, op->fd);
    if (weir_unlikely(watch->armed == 0 && !(watch->flags & WEIR_WATCH_FILE))) {
        int r = weir_watches_arm(&epoll->watches, watch, 0);
        if (r < 0 && r != -EPERM) {
            if (weir_watch_is_idle(watch)) {
                weir_watches_drop(&epoll->watches, watch);
            }
            return finish(epoll, op, r);
        }
    }
    if (watch->flags & WEIR_WATCH_FILE) {
        return stage_file(epoll, watch, op);
    }
    return stage_tried(epoll, watch, op);
}

static bool is_pipe(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISFIFO(file.st_mode);
}

/* Whether the flags of splice(2) and of the fd keep the call from waiting at this end. */
static bool splices_at_once(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && fcntl(fd, F_GETFL) & O_NONBLOCK;
}

/* Either end may be the one that is not ready: the one that is not is waited for, so that whoever
 * makes the call does not wait. */
static enum weir_staged stage_splice(struct weir_epoll *epoll, struct weir_op *op)
{
    int in = op->arg.io.fd2;
    int64_t can_read = look(in, POLLIN);
    int64_t can_write = can_read <= 0 ? can_read : look(op->fd, POLLOUT);
    if (can_read < 0 || can_write < 0) {
        return finish(epoll, op, can_read < 0 ? can_read : can_write);
    }
    if (can_read == 0 || can_write == 0) {
        op->retry = WEIR_RETRY_POLL;
        op->attempts = (uint8_t)((op->attempts & ~1) | (can_read == 0));
        return wait_there(epoll, op);
    }
    bool in_pipe = is_pipe(in);
    bool out_pipe = is_pipe(op->fd);
    bool at_once =
        (in_pipe && (out_pipe || splices_at_once(op->fd))) || (out_pipe && splices_at_once(in));
    return at_once ? finish(epoll, op, weir_op_perform(op, WEIR_HOW_TRY, 0)) : WEIR_NOT_HERE;
}

/* Whether close(2) does not wait: not for a peer (SO_LINGER), a device or a file system. */
static bool closes_at_once(int fd)
{
    struct linger linger;
    socklen_t length = sizeof linger;
    struct stat file;
    if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length) == 0) {
        return linger.l_onoff == 0 || linger.l_linger == 0;
    }
    return fstat(fd, &file) == 0 && !S_ISCHR(file.st_mode) && !S_ISBLK(file.st_mode) &&
           !S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode);
}

static enum weir_staged stage_close(struct weir_epoll *epoll, struct weir_op *op)
{
    struct weir_watch *watch = weir_watches_find(&epoll->watches, op->fd);
    if (!watch) {
        return WEIR_NOT_HERE;
    }
    bool at_once = !(watch->flags & WEIR_WATCH_FILE) && closes_at_once(op->fd);
    weir_watches_drop(&epoll->watches, watch);
    return at_once ? finish(epoll, op, weir_op_perform(op, WEIR_HOW_BLOCK, 0)) : WEIR_NOT_HERE;
}

/* Apart, so that the few common kinds stay short. */
static __attribute__((noinline)) enum weir_staged stage_other(struct weir_epoll *epoll,
                                                              struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_NOP:
        return finish(epoll, op, 0);
    case WEIR_KIND_POLL:
        return stage_poll(epoll, op);
    case WEIR_KIND_ACCEPT:
        return stage_accept(epoll, op);
    case WEIR_KIND_CONNECT:
        return stage_connect(epoll, op);
    case WEIR_KIND_SPLICE:
        return stage_splice(epoll, op);
    case WEIR_KIND_CLOSE:
        return stage_close(epoll, op);
    case WEIR_KIND_SOCKET:
        return finish_new_fd(epoll, op, weir_op_perform(op, WEIR_HOW_TRY, 0));
    default:
        return weir_op_is_quick(op) ? finish(epoll, op, weir_op_perform(op, WEIR_HOW_TRY, 0))
                                    : WEIR_NOT_HERE;
    }
}

enum weir_staged weir_epoll_stage(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_epoll *epoll = weir_epoll_of(backend);
    if (weir_unlikely(op->retry != WEIR_RETRY_NONE)) {
        return op->retry == WEIR_RETRY_POLL ? stage_poll(epoll, op) : WEIR_NOT_HERE;
    }
    switch (op->kind) {
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        return stage_message(epoll, op);
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
        return stage_transfer(epoll, op);
    default:
        return stage_other(epoll, op);
    }
}
