/* SPDX-License-Identifier: MIT */
/*
 * epoll_stage.c: how each kind is carried out by a reactor: tried on the spot, waited for, or
 * neither. Knows no turn.
 *
 * An op waits without having been tried only where an event is sure to come: its fd is watched, and
 * what the watch is dry of would be told. All other doubt is settled by a try.
 */
#include <engine/backend/epoll.h>
#include <engine/op/perform.h>
#include <fcntl.h>
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

static enum weir_side side_of(const struct weir_op *op)
{
    return weir_kind_traits(op->kind) & WEIR_KIND_READS ? WEIR_SIDE_IN : WEIR_SIDE_OUT;
}

/* --- tries ------------------------------------------------------------------------------------ */

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
static __attribute__((noinline)) int64_t transfer_all(struct weir_op *op)
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

static __attribute__((noinline)) int64_t transfer(struct weir_watch *watch,
                                                  const struct weir_op *op, uint32_t write_flags)
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
    return r;
}

/* connect(2) again tells how the first one went; where a protocol does not see it so, the socket's
 * error does. */
static __attribute__((noinline)) int64_t connect_again(const struct weir_op *op)
{
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, 0);
    if (r == -EISCONN || r == -EBADFD) {
        int error = 0;
        socklen_t length = sizeof error;
        return getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
    }
    return r;
}

/* What a negative answer means. */
static __attribute__((noinline)) enum weir_attempt judge(const struct weir_op *op, int64_t r)
{
    if (op->kind == WEIR_KIND_CONNECT) { /* EAGAIN is a full backlog, which no event tells of */
        return r == -EINPROGRESS || r == -EALREADY ? WEIR_ATTEMPT_WAITS : WEIR_ATTEMPT_DONE;
    }
    if (r == -EAGAIN && !weir_op_caller_polls(op)) {
        return WEIR_ATTEMPT_WAITS;
    }
    return r == -EOPNOTSUPP && !is_message(op) && op->rw_flags == 0 ? WEIR_ATTEMPT_CANNOT
                                                                    : WEIR_ATTEMPT_DONE;
}

static inline int64_t try_message(struct weir_op *op)
{
    if (weir_unlikely(op->arg.io.flags & MSG_WAITALL) && waits_for_all(op)) {
        return transfer_all(op);
    }
    return weir_op_perform(op, WEIR_HOW_TRY, 0);
}

static __attribute__((noinline)) int64_t try_other(struct weir_watch *watch, struct weir_op *op,
                                                   uint32_t write_flags)
{
    switch (op->kind) {
    case WEIR_KIND_ACCEPT:
        return weir_op_perform(op, WEIR_HOW_TRY, 0);
    case WEIR_KIND_CONNECT:
        return connect_again(op);
    default:
        return transfer(watch, op, write_flags);
    }
}

enum weir_attempt weir_epoll_attempt(struct weir_watch *watch, struct weir_op *op,
                                     uint32_t write_flags, int64_t *ret_result)
{
    int64_t r = weir_likely(is_message(op)) ? try_message(op) : try_other(watch, op, write_flags);
    *ret_result = r;
    return weir_likely(r >= 0) ? WEIR_ATTEMPT_DONE : judge(op, r);
}

/* --- finishing and waiting -------------------------------------------------------------------- */

static enum weir_staged finish(struct weir_epoll *epoll, struct weir_op *op, int64_t result)
{
    op->result = result;
    epoll->finished = true;
    return WEIR_FINISHED;
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

/* Puts an op on its watch. */
static inline enum weir_staged wait_on(struct weir_epoll *epoll, struct weir_watch *watch,
                                       struct weir_op *op, enum weir_side side, uint32_t events)
{
    int r = weir_watches_arm(&epoll->watches, watch, events);
    /* EPERM: nothing ever happens there, and the op waits to be asked back. */
    if (weir_unlikely(r < 0 && r != -EPERM)) {
        if (weir_watch_is_idle(watch) && watch->armed == 0) {
            weir_watches_drop(&epoll->watches, watch);
        }
        return finish(epoll, op, r);
    }
    weir_queue_push(&watch->sides[side], op);
    epoll->waiting = true;
    return WEIR_TAKEN;
}

/* For events, to be told of them. */
static enum weir_staged wait_to_know(struct weir_epoll *epoll, struct weir_op *op)
{
    struct weir_place place = weir_epoll_place(op);
    struct weir_watch *watch = weir_watches_take(&epoll->watches, epoll->base.slots, place.fd);
    return wait_on(epoll, watch, op, WEIR_SIDE_POLL, place.events);
}

/* For what a try did not find. */
static __attribute__((noinline)) enum weir_staged wait_dry(struct weir_epoll *epoll,
                                                           struct weir_op *op)
{
    enum weir_side side = side_of(op);
    struct weir_watch *watch = weir_watches_take(&epoll->watches, epoll->base.slots, op->fd);
    watch->flags |= 1u << side;
    return wait_on(epoll, watch, op, side, side == WEIR_SIDE_IN ? EPOLLIN : EPOLLOUT);
}

/* POLL itself, and ops that have to wait for their fd before anything else. */
static enum weir_staged stage_poll(struct weir_epoll *epoll, struct weir_op *op)
{
    struct weir_place place = weir_epoll_place(op);
    int64_t seen = weir_epoll_look(place.fd, place.events);
    return seen != 0 ? finish(epoll, op, seen) : wait_to_know(epoll, op);
}

/* One that only a worker can carry out, but only once its fd is ready: then the worker does not
 * wait, unless somebody else is faster. */
static enum weir_staged stage_without_try(struct weir_epoll *epoll, struct weir_op *op)
{
    if (weir_epoll_look(op->fd, side_of(op) == WEIR_SIDE_IN ? POLLIN : POLLOUT) != 0) {
        return weir_epoll_let_go(epoll, op);
    }
    op->retry = WEIR_RETRY_POLL;
    return wait_to_know(epoll, op);
}

/* Whether an op is tried though its watch is dry or others wait there. */
static bool may_pass(const struct weir_op *op)
{
    return weir_op_caller_polls(op) || (is_message(op) && op->arg.io.flags & MSG_OTHER_QUEUE);
}

static __attribute__((noinline)) enum weir_staged stage_unfinished(struct weir_epoll *epoll,
                                                                   struct weir_op *op,
                                                                   enum weir_attempt attempt,
                                                                   int64_t result)
{
    if (attempt == WEIR_ATTEMPT_CANNOT) {
        return stage_without_try(epoll, op);
    }
    if (attempt == WEIR_ATTEMPT_WAITS && !(is_message(op) && op->arg.io.flags & MSG_OTHER_QUEUE)) {
        return wait_dry(epoll, op);
    }
    return finish(epoll, op, result); /* also EAGAIN, then it is polled for, with patience */
}

static inline enum weir_staged stage_tried(struct weir_epoll *epoll, struct weir_watch *watch,
                                           struct weir_op *op)
{
    int64_t result;
    enum weir_side side = side_of(op);
    if (watch && (watch->flags & 1u << side || watch->sides[side].head) && !may_pass(op)) {
        return wait_on(epoll, watch, op, side, side == WEIR_SIDE_IN ? EPOLLIN : EPOLLOUT);
    }
    enum weir_attempt attempt = weir_epoll_attempt(watch, op, epoll->base.write_flags, &result);
    if (weir_unlikely(attempt != WEIR_ATTEMPT_DONE)) {
        return stage_unfinished(epoll, op, attempt, result);
    }
    if (watch) {
        weir_epoll_note(watch, side);
    }
    return finish(epoll, op, result);
}

/* --- kinds ------------------------------------------------------------------------------------ */

static enum weir_staged stage_message(struct weir_epoll *epoll, struct weir_op *op)
{
    if (weir_unlikely(op->arg.io.flags & MSG_WAITALL)) {
        op->mode_or_offset2 = 0;
    }
    return stage_tried(epoll, weir_watches_find(&epoll->watches, op->fd), op);
}

static enum weir_staged stage_connect(struct weir_epoll *epoll, struct weir_op *op)
{
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, 0);
    return r < 0 && judge(op, r) == WEIR_ATTEMPT_WAITS ? wait_dry(epoll, op) : finish(epoll, op, r);
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
    if (!may_try && !weir_op_caller_polls(op)) {
        return WEIR_NOT_HERE;
    }
    struct weir_counters *counters = epoll->base.counters;
    counters->inline_tries++;
    int64_t r = weir_op_perform(op, WEIR_HOW_TRY, epoll->base.write_flags);
    if (weir_op_caller_polls(op) || (r != -EAGAIN && r != -EOPNOTSUPP)) {
        counters->inline_done += r >= 0;
        return finish(epoll, op, r);
    }
    if (r == -EOPNOTSUPP) {
        watch->flags |= no_try;
    }
    return WEIR_NOT_HERE;
}

/* Asks the set what the fd is. 0: pollable, or a file (then it is marked so); -errno. */
static int classify(struct weir_epoll *epoll, struct weir_watch *watch)
{
    int r = weir_watches_arm(&epoll->watches, watch, 0);
    if (r >= 0 || r == -EPERM) {
        return 0;
    }
    if (weir_watch_is_idle(watch)) {
        weir_watches_drop(&epoll->watches, watch);
    }
    return r;
}

/* READ, WRITE and their vectors: what the fd is decides. */
static enum weir_staged stage_transfer(struct weir_epoll *epoll, struct weir_op *op)
{
    if (op->fd < 0) {
        return finish(epoll, op, -EBADF);
    }
    struct weir_watch *watch = weir_watches_take(&epoll->watches, epoll->base.slots, op->fd);
    int r = 0;
    if (watch->flags & WEIR_WATCH_FILE) {
        enum weir_staged staged = stage_file(epoll, watch, op);
        if (staged == WEIR_FINISHED) {
            return staged;
        }
        r = classify(epoll, watch); /* before a worker reads of what is a pipe by now */
    } else if (watch->armed == 0) {
        r = classify(epoll, watch);
        if (r == 0 && watch->flags & WEIR_WATCH_FILE) {
            return stage_file(epoll, watch, op);
        }
    }
    if (r < 0) {
        return finish(epoll, op, r);
    }
    return watch->flags & WEIR_WATCH_FILE ? WEIR_NOT_HERE : stage_tried(epoll, watch, op);
}

/* Either end may be the one that is not ready: the one that is not is waited for, so that whoever
 * makes the call does not wait. */
static enum weir_staged stage_splice(struct weir_epoll *epoll, struct weir_op *op)
{
    int in = op->arg.io.fd2;
    int64_t can_read = weir_epoll_look(in, POLLIN);
    int64_t can_write = can_read <= 0 ? can_read : weir_epoll_look(op->fd, POLLOUT);
    if (can_read < 0 || can_write < 0) {
        return finish(epoll, op, can_read < 0 ? can_read : can_write);
    }
    bool waits = can_read == 0 || can_write == 0;
    if (waits && !weir_op_caller_polls(op)) {
        op->retry = WEIR_RETRY_POLL;
        op->attempts = (uint8_t)((op->attempts & ~1) | (can_read == 0));
        return wait_to_know(epoll, op);
    }
    int64_t r = waits ? -EAGAIN : weir_op_perform(op, WEIR_HOW_TRY, 0);
    return r == -EOPNOTSUPP ? weir_epoll_let_go(epoll, op) : finish(epoll, op, r);
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
    bool at_once = closes_at_once(op->fd);
    if (watch) {
        at_once = at_once && !(watch->flags & WEIR_WATCH_FILE);
        weir_watches_drop(&epoll->watches, watch);
    }
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
        return stage_tried(epoll, weir_watches_find(&epoll->watches, op->fd), op);
    case WEIR_KIND_CONNECT:
        return stage_connect(epoll, op);
    case WEIR_KIND_SPLICE:
        return stage_splice(epoll, op);
    case WEIR_KIND_CLOSE:
        return stage_close(epoll, op);
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
