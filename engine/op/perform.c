/* SPDX-License-Identifier: MIT */
/*
 * perform.c: system calls, and nothing else: no state is kept, no op is written to.
 */
#include <engine/base/sigpipe.h>
#include <engine/op/own_fd.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

bool weir_op_is_quick(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_SOCKET:
    case WEIR_KIND_BIND:
    case WEIR_KIND_LISTEN:
    case WEIR_KIND_SETSOCKOPT:
    case WEIR_KIND_SHUTDOWN:
        return true;
    default:
        return false;
    }
}

static int64_t answer(int64_t r)
{
    return r < 0 ? -errno : r;
}

/* Nearly all are to move plain bytes, and have not moved any. */
static inline void get_part(const struct weir_op *op, struct weir_part *part)
{
    bool none_moved = !(op->flags & WEIR_WHOLE) || op->moved == 0;
    bool plain = none_moved && weir_kind_traits(op->kind) & WEIR_KIND_BYTES;
    if (weir_unlikely(!plain)) {
        weir_op_part(op, part);
        return;
    }
    uint64_t length = op->arg.io.length;
    part->kind = op->kind;
    part->buffer = op->arg.io.buffer;
    part->length = length < WEIR_TRANSFER_MAX ? length : WEIR_TRANSFER_MAX;
    part->offset = op->arg.io.offset;
}

/* --- transfers -------------------------------------------------------------------------------- */

/* A transfer as preadv2(2) and its kin take it. */
struct transfer {
    const struct iovec *iov;
    int count;
    uint64_t offset;
    bool reads;
    struct iovec one; /* what iov points to when there is a single buffer */
};

static inline void set_transfer(struct transfer *transfer, const struct weir_op *op)
{
    struct weir_part part;
    get_part(op, &part);
    uint32_t traits = weir_kind_traits(part.kind);
    transfer->one = (struct iovec){part.buffer, part.length};
    transfer->iov = &transfer->one;
    transfer->count = 1;
    transfer->offset = part.offset;
    transfer->reads = traits & WEIR_KIND_READS;
    if (traits & WEIR_KIND_VECTOR) {
        transfer->iov = part.buffer;
        transfer->count = (int)part.length;
    }
}

/* preadv2(3) and pwritev2(3) are points of cancellation, which a process of several threads pays
 * for with each call. */
#if __SIZEOF_LONG__ >= 8
static inline int64_t move_at(int fd, const struct transfer *transfer, uint64_t offset,
                              uint32_t flags)
{
    bool simple = transfer->reads && flags == 0 && offset != WEIR_CURRENT;
    if (simple && transfer->iov == &transfer->one) {
        return syscall(SYS_pread64, fd, transfer->one.iov_base, transfer->one.iov_len, offset);
    }
    return syscall(transfer->reads ? SYS_preadv2 : SYS_pwritev2, fd, transfer->iov,
                   (long)transfer->count, offset, 0L, (long)flags);
}
#else
static inline int64_t move_at(int fd, const struct transfer *transfer, uint64_t offset,
                              uint32_t flags)
{
    return transfer->reads
               ? preadv2(fd, transfer->iov, transfer->count, (off_t)offset, (int)flags)
               : pwritev2(fd, transfer->iov, transfer->count, (off_t)offset, (int)flags);
}
#endif

/* What has no position ignores the offset. */
static int64_t move(int fd, const struct transfer *transfer, uint32_t flags)
{
    int64_t r = move_at(fd, transfer, transfer->offset, flags);
    if (r < 0 && errno == ESPIPE) {
        r = move_at(fd, transfer, WEIR_CURRENT, flags);
    }
    return r;
}

/* Before Linux 6.5 sockets know no RWF_NOWAIT. */
static int64_t move_on_socket(int fd, const struct transfer *transfer)
{
    struct msghdr message = {
        .msg_iov = (struct iovec *)(uintptr_t)transfer->iov,
        .msg_iovlen = (size_t)transfer->count,
    };
    int64_t r = transfer->reads ? recvmsg(fd, &message, MSG_DONTWAIT)
                                : sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (r < 0 && errno == ENOTSOCK) {
        errno = EOPNOTSUPP;
    }
    return r;
}

/*
 * Whether a read that was not to wait stopped before it had to: the page cache held no more. Then
 * the caller would take it for the end of the file. Nothing is lost, for the position is the op's.
 */
static bool stopped_early(const struct weir_op *op, const struct transfer *transfer, int64_t r)
{
    if (r <= 0 || !transfer->reads || transfer->offset == WEIR_CURRENT || op->flags & WEIR_WHOLE ||
        op->rw_flags & RWF_NOWAIT) {
        return false;
    }
    uint64_t wanted = weir_op_bytes(op);
    if ((uint64_t)r >= (wanted < WEIR_TRANSFER_MAX ? wanted : WEIR_TRANSFER_MAX)) {
        return false;
    }
    char byte;
    struct iovec next = {&byte, 1};
    off_t at = (off_t)(transfer->offset + (uint64_t)r);
    ssize_t more = preadv2(op->fd, &next, 1, at, RWF_NOWAIT);
    return more > 0 || (more < 0 && errno != ESPIPE);
}

/* What follows from a first call that did not simply move all. */
static __attribute__((noinline)) int64_t judge_transfer(const struct weir_op *op,
                                                        const struct transfer *transfer, bool tries,
                                                        uint32_t flags, int64_t r)
{
    if (r < 0 && errno == ESPIPE) {
        r = move_at(op->fd, transfer, WEIR_CURRENT, flags);
    }
    if (tries) {
        if (r < 0 && errno == EOPNOTSUPP && op->rw_flags == 0) {
            bool nothing = transfer->count == 1 && transfer->iov->iov_len == 0;
            r = nothing ? r : move_on_socket(op->fd, transfer);
        }
        return stopped_early(op, transfer, r) ? -EAGAIN : answer(r);
    }
    if (r < 0 && errno == EOPNOTSUPP && flags != op->rw_flags) {
        /* A file that knows no flags at all raises no SIGPIPE either. */
        r = move(op->fd, transfer, op->rw_flags);
    }
    return answer(r);
}

static __attribute__((noinline)) int64_t transfer(const struct weir_op *op, enum weir_how how,
                                                  uint32_t write_flags)
{
    struct transfer transfer;
    set_transfer(&transfer, op);
    bool tries = how == WEIR_HOW_TRY && !(op->flags & WEIR_IN_MEMORY);
    uint32_t flags =
        op->rw_flags | (transfer.reads ? 0 : write_flags) | (tries ? (uint32_t)RWF_NOWAIT : 0);
    int64_t r = move_at(op->fd, &transfer, transfer.offset, flags);
    bool all = transfer.iov == &transfer.one && (uint64_t)r == transfer.one.iov_len;
    return weir_likely(all) ? r : judge_transfer(op, &transfer, tries, flags, r);
}

/* recv(3) and send(3) are such points too. */
#if defined(SYS_recvfrom) && defined(SYS_sendto)
static int64_t call_recv(int fd, void *buffer, uint64_t length, unsigned flags)
{
    return syscall(SYS_recvfrom, fd, buffer, (size_t)length, flags, NULL, NULL);
}

static int64_t call_send(int fd, const void *buffer, uint64_t length, unsigned flags)
{
    return syscall(SYS_sendto, fd, buffer, (size_t)length, flags, NULL, 0);
}
#else
static int64_t call_recv(int fd, void *buffer, uint64_t length, unsigned flags)
{
    return recv(fd, buffer, length, (int)flags);
}

static int64_t call_send(int fd, const void *buffer, uint64_t length, unsigned flags)
{
    return send(fd, buffer, length, (int)flags);
}
#endif

static int64_t message(const struct weir_op *op, enum weir_how how)
{
    struct weir_part part;
    get_part(op, &part);
    unsigned flags = op->arg.io.flags | (how == WEIR_HOW_TRY ? MSG_DONTWAIT : 0);
    switch (part.kind) {
    case WEIR_KIND_RECV:
        return answer(call_recv(op->fd, part.buffer, part.length, flags));
    case WEIR_KIND_SEND:
        return answer(call_send(op->fd, part.buffer, part.length, flags | MSG_NOSIGNAL));
    case WEIR_KIND_RECVMSG:
        return answer(recvmsg(op->fd, part.buffer, (int)flags));
    default:
        return answer(sendmsg(op->fd, part.buffer, (int)flags | MSG_NOSIGNAL));
    }
}

static int64_t call_splice(const struct weir_op *op, unsigned flags)
{
    struct weir_part part;
    weir_op_part(op, &part);
    uint64_t moved = op->flags & WEIR_WHOLE ? op->moved : 0;
    loff_t in = (loff_t)(op->mode_or_offset2 + moved);
    loff_t out = (loff_t)part.offset;
    return answer(splice(op->arg.io.fd2, op->mode_or_offset2 == WEIR_CURRENT ? NULL : &in, op->fd,
                         part.offset == WEIR_CURRENT ? NULL : &out, part.length,
                         op->arg.io.flags | flags));
}

/* Whether splice(2) with SPLICE_F_NONBLOCK may wait at this end all the same: not at a pipe, but
 * for a file's device; and at a socket that blocks: TCP waits there for its first bytes, and before
 * Linux 6.5 all do for room (tcp_splice_read() in net/ipv4/tcp.c, splice_to_socket() in
 * fs/splice.c). */
static bool end_may_wait(int fd)
{
    struct stat file;
    if (fstat(fd, &file) < 0) {
        return false; /* splice(2) will say so */
    }
    bool is_socket = S_ISSOCK(file.st_mode) && fcntl(fd, F_GETFL) & O_NONBLOCK;
    return !S_ISFIFO(file.st_mode) && !is_socket;
}

/* Nothing says to splice(2) that it is not to raise SIGPIPE. */
static int64_t splice_quietly(const struct weir_op *op, enum weir_how how)
{
    if (how == WEIR_HOW_BLOCK) {
        return call_splice(op, 0); /* a worker has all signals blocked */
    }
    if (!(op->flags & WEIR_IN_MEMORY) && (end_may_wait(op->arg.io.fd2) || end_may_wait(op->fd))) {
        return -EOPNOTSUPP;
    }
    if (op->arg.io.offset != WEIR_CURRENT) { /* into a file */
        return call_splice(op, SPLICE_F_NONBLOCK);
    }
    weir_sigpipe_block();
    int64_t r = call_splice(op, SPLICE_F_NONBLOCK);
    weir_sigpipe_unblock(r < 0 || (uint64_t)r < op->arg.io.length); /* raised behind a part, too */
    return r;
}

/* --- sockets ---------------------------------------------------------------------------------- */

/* Whether a try of connect(2) needs O_NONBLOCK set: no flag of the call's own says it. Datagram
 * sockets connect at once. */
static bool connect_blocks(int fd, int flags)
{
    int type = 0;
    socklen_t length = sizeof type;
    return flags >= 0 && !(flags & O_NONBLOCK) &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type != SOCK_DGRAM;
}

/* A socket that is not connected yet is of use to nobody else, so its flag may change for the time
 * of the call. */
static int64_t call_connect(const struct weir_op *op, enum weir_how how)
{
    int flags = how == WEIR_HOW_TRY ? fcntl(op->fd, F_GETFL) : -1;
    bool blocks = connect_blocks(op->fd, flags);
    if (blocks) {
        fcntl(op->fd, F_SETFL, flags | O_NONBLOCK);
    }
    int64_t r = answer(connect(op->fd, op->arg.socket.address, op->arg.socket.length));
    if (blocks) {
        fcntl(op->fd, F_SETFL, flags);
    }
    return r;
}

/* Whether accept(2) may wait: what does not listen is answered at once. */
static bool accept_blocks(int fd)
{
    int listens = 0;
    socklen_t length = sizeof listens;
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK) &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens;
}

/* Others may be waiting at the listener, so here the flag is left alone: a blocking one cannot be
 * tried. */
static int64_t call_accept(const struct weir_op *op, enum weir_how how)
{
    if (how == WEIR_HOW_TRY && accept_blocks(op->fd)) {
        return -EOPNOTSUPP;
    }
    return answer(accept4(op->fd, op->arg.socket.address, op->arg.socket.length_ret,
                          (int)op->arg.socket.flags));
}

static int64_t on_socket(const struct weir_op *op, enum weir_how how)
{
    switch (op->kind) {
    case WEIR_KIND_SOCKET:
        return answer(socket(op->arg.socket.level, op->arg.socket.name, (int)op->arg.socket.flags));
    case WEIR_KIND_BIND:
        return answer(bind(op->fd, op->arg.socket.address, op->arg.socket.length));
    case WEIR_KIND_LISTEN:
        return answer(listen(op->fd, op->arg.socket.level));
    case WEIR_KIND_SETSOCKOPT:
        return answer(setsockopt(op->fd, op->arg.socket.level, op->arg.socket.name,
                                 op->arg.socket.address, op->arg.socket.length));
    case WEIR_KIND_SHUTDOWN:
        return answer(shutdown(op->fd, op->arg.socket.level));
    case WEIR_KIND_ACCEPT:
        return call_accept(op, how);
    default:
        return call_connect(op, how);
    }
}

static int64_t call_poll(const struct weir_op *op, enum weir_how how)
{
    struct pollfd entry = {.fd = op->fd, .events = (short)op->arg.io.flags};
    if (op->fd < 0) {
        return -EBADF; /* poll(2) passes such an entry by */
    }
    int r = poll(&entry, 1, how == WEIR_HOW_TRY ? 0 : -1);
    if (r <= 0) {
        return r < 0 ? -errno : -EAGAIN;
    }
    return entry.revents & POLLNVAL ? -EBADF : entry.revents;
}

/* --- files and paths: they cannot be tried ---------------------------------------------------- */

static int64_t on_file(const struct weir_op *op)
{
    off_t offset = (off_t)op->arg.io.offset;
    off_t length = (off_t)op->arg.io.length;
    switch (op->kind) {
    case WEIR_KIND_FSYNC:
        return answer(op->arg.io.flags ? fdatasync(op->fd) : fsync(op->fd));
    case WEIR_KIND_SYNC_FILE_RANGE:
        return answer(sync_file_range(op->fd, offset, length, op->arg.io.flags));
    case WEIR_KIND_FALLOCATE:
        return answer(fallocate(op->fd, (int)op->arg.io.flags, offset, length));
    case WEIR_KIND_FADVISE:
        return -posix_fadvise(op->fd, offset, length, (int)op->arg.io.flags);
    case WEIR_KIND_FTRUNCATE:
        return answer(ftruncate(op->fd, length));
    default:
        return answer(close(op->fd));
    }
}

static int64_t on_path(const struct weir_op *op)
{
    const char *path = op->arg.path.path;
    const char *path2 = op->arg.path.path2;
    int flags = (int)op->arg.path.flags;
    switch (op->kind) {
    case WEIR_KIND_OPENAT:
        return answer(openat(op->fd, path, flags, (mode_t)op->mode_or_offset2));
    case WEIR_KIND_STATX:
        return answer(
            statx(op->fd, path, flags, (unsigned)op->mode_or_offset2, op->arg.path.statx));
    case WEIR_KIND_UNLINKAT:
        return answer(unlinkat(op->fd, path, flags));
    case WEIR_KIND_RENAMEAT:
        return answer(renameat2(op->fd, path, op->arg.path.fd2, path2, (unsigned)flags));
    case WEIR_KIND_LINKAT:
        return answer(linkat(op->fd, path, op->arg.path.fd2, path2, flags));
    case WEIR_KIND_SYMLINKAT:
        return answer(symlinkat(path, op->fd, path2));
    default:
        return answer(mkdirat(op->fd, path, (mode_t)op->mode_or_offset2));
    }
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Those that can only be carried out by waiting. */
static int64_t perform_blocking(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_FSYNC:
    case WEIR_KIND_SYNC_FILE_RANGE:
    case WEIR_KIND_FALLOCATE:
    case WEIR_KIND_FADVISE:
    case WEIR_KIND_FTRUNCATE:
    case WEIR_KIND_CLOSE:
        return on_file(op);
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
    case WEIR_KIND_SYMLINKAT:
    case WEIR_KIND_MKDIRAT:
        return on_path(op);
    case WEIR_KIND_CALL:
        return op->arg.call.function(op->arg.call.argument);
    default:
        return -EOPNOTSUPP;
    }
}

/* Apart, so that the few common kinds stay short. */
static __attribute__((noinline)) int64_t perform_other(const struct weir_op *op, enum weir_how how)
{
    switch (op->kind) {
    case WEIR_KIND_SPLICE:
        return splice_quietly(op, how);
    case WEIR_KIND_SOCKET:
    case WEIR_KIND_BIND:
    case WEIR_KIND_LISTEN:
    case WEIR_KIND_SETSOCKOPT:
    case WEIR_KIND_SHUTDOWN:
    case WEIR_KIND_ACCEPT:
    case WEIR_KIND_CONNECT:
        return on_socket(op, how);
    case WEIR_KIND_POLL:
        return call_poll(op, how);
    case WEIR_KIND_SIGNAL:
    case WEIR_KIND_CHILD:
        return weir_op_take_own(op, how);
    case WEIR_KIND_NOP:
        return 0;
    default:
        return how == WEIR_HOW_TRY ? -EOPNOTSUPP : perform_blocking(op);
    }
}

int64_t weir_op_perform(const struct weir_op *op, enum weir_how how, uint32_t write_flags)
{
    switch (op->kind) {
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        return message(op, how);
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
        return transfer(op, how, write_flags);
    default:
        return perform_other(op, how);
    }
}
