/* SPDX-License-Identifier: MIT */
/*
 * fill.c: the fill helpers. Each writes its kind and arguments and resets the optional ones; none
 * clears the op, which would cost as much as the rest of the engine's work on it.
 */
#include <engine/op/op.h>
#include <weir/loop.h>

/* What every helper begins with. */
static inline void fill(struct weir_op *op, enum weir_kind kind, int fd)
{
    /* Debug builds catch filling an op that is live. */
    WEIR_AUDIT(op->state == WEIR_WITH_CALLER);
    op->kind = (uint8_t)kind;
    op->fd = fd;
    op->rw_flags = 0;
    op->ioprio = 0;
    op->buffer_index = 0;
    op->buffer_group = 0;
}

static inline void fill_io(struct weir_op *op, enum weir_kind kind, int fd, const void *buffer,
                           uint64_t length, uint64_t offset, unsigned flags)
{
    fill(op, kind, fd);
    op->arg.io.buffer = (void *)(uintptr_t)buffer;
    op->arg.io.length = length;
    op->arg.io.offset = offset;
    op->arg.io.flags = flags;
}

static inline void fill_path(struct weir_op *op, enum weir_kind kind, int dirfd, const char *path,
                             unsigned flags, uint64_t mode)
{
    fill(op, kind, dirfd);
    op->arg.path.path = path;
    op->arg.path.path2 = NULL;
    op->arg.path.statx = NULL;
    op->arg.path.fd2 = -1;
    op->arg.path.flags = flags;
    op->mode_or_offset2 = mode;
}

static inline void fill_socket(struct weir_op *op, enum weir_kind kind, int fd, const void *address,
                               socklen_t length, int level)
{
    fill(op, kind, fd);
    op->arg.socket.address = (void *)(uintptr_t)address;
    op->arg.socket.length_ret = NULL;
    op->arg.socket.length = length;
    op->arg.socket.level = level;
    op->arg.socket.name = 0;
    op->arg.socket.flags = 0;
}

void weir_op_nop(struct weir_op *op)
{
    fill(op, WEIR_KIND_NOP, -1);
}

void weir_op_read(struct weir_op *op, int fd, void *buffer, uint64_t length, uint64_t offset)
{
    fill_io(op, WEIR_KIND_READ, fd, buffer, length, offset, 0);
}

void weir_op_write(struct weir_op *op, int fd, const void *buffer, uint64_t length, uint64_t offset)
{
    fill_io(op, WEIR_KIND_WRITE, fd, buffer, length, offset, 0);
}

void weir_op_readv(struct weir_op *op, int fd, const struct iovec *iov, uint64_t count,
                   uint64_t offset)
{
    fill_io(op, WEIR_KIND_READV, fd, iov, count, offset, 0);
}

void weir_op_writev(struct weir_op *op, int fd, const struct iovec *iov, uint64_t count,
                    uint64_t offset)
{
    fill_io(op, WEIR_KIND_WRITEV, fd, iov, count, offset, 0);
}

void weir_op_fsync(struct weir_op *op, int fd)
{
    fill_io(op, WEIR_KIND_FSYNC, fd, NULL, 0, 0, 0);
}

void weir_op_fdatasync(struct weir_op *op, int fd)
{
    fill_io(op, WEIR_KIND_FSYNC, fd, NULL, 0, 0, 1);
}

void weir_op_sync_file_range(struct weir_op *op, int fd, uint64_t offset, uint64_t length,
                             unsigned flags)
{
    fill_io(op, WEIR_KIND_SYNC_FILE_RANGE, fd, NULL, length, offset, flags);
}

void weir_op_fallocate(struct weir_op *op, int fd, int mode, uint64_t offset, uint64_t length)
{
    fill_io(op, WEIR_KIND_FALLOCATE, fd, NULL, length, offset, (unsigned)mode);
}

void weir_op_fadvise(struct weir_op *op, int fd, uint64_t offset, uint64_t length, int advice)
{
    fill_io(op, WEIR_KIND_FADVISE, fd, NULL, length, offset, (unsigned)advice);
}

void weir_op_openat(struct weir_op *op, int dirfd, const char *path, int flags, mode_t mode)
{
    fill_path(op, WEIR_KIND_OPENAT, dirfd, path, (unsigned)flags, mode);
}

void weir_op_close(struct weir_op *op, int fd)
{
    fill(op, WEIR_KIND_CLOSE, fd);
}

void weir_op_statx(struct weir_op *op, int dirfd, const char *path, int flags, unsigned mask,
                   struct statx *ret_statx)
{
    fill_path(op, WEIR_KIND_STATX, dirfd, path, (unsigned)flags, mask);
    op->arg.path.statx = ret_statx;
}

void weir_op_unlinkat(struct weir_op *op, int dirfd, const char *path, int flags)
{
    fill_path(op, WEIR_KIND_UNLINKAT, dirfd, path, (unsigned)flags, 0);
}

void weir_op_renameat(struct weir_op *op, int old_dirfd, const char *old_path, int new_dirfd,
                      const char *new_path, unsigned flags)
{
    fill_path(op, WEIR_KIND_RENAMEAT, old_dirfd, old_path, flags, 0);
    op->arg.path.fd2 = new_dirfd;
    op->arg.path.path2 = new_path;
}

void weir_op_linkat(struct weir_op *op, int old_dirfd, const char *old_path, int new_dirfd,
                    const char *new_path, int flags)
{
    fill_path(op, WEIR_KIND_LINKAT, old_dirfd, old_path, (unsigned)flags, 0);
    op->arg.path.fd2 = new_dirfd;
    op->arg.path.path2 = new_path;
}

void weir_op_symlinkat(struct weir_op *op, const char *target, int dirfd, const char *path)
{
    fill_path(op, WEIR_KIND_SYMLINKAT, dirfd, target, 0, 0);
    op->arg.path.path2 = path;
}

void weir_op_mkdirat(struct weir_op *op, int dirfd, const char *path, mode_t mode)
{
    fill_path(op, WEIR_KIND_MKDIRAT, dirfd, path, 0, mode);
}

void weir_op_socket(struct weir_op *op, int domain, int type, int protocol)
{
    fill_socket(op, WEIR_KIND_SOCKET, -1, NULL, 0, domain);
    op->arg.socket.name = type;
    op->arg.socket.flags = (uint32_t)protocol;
}

void weir_op_bind(struct weir_op *op, int fd, const struct sockaddr *address, socklen_t length)
{
    fill_socket(op, WEIR_KIND_BIND, fd, address, length, 0);
}

void weir_op_listen(struct weir_op *op, int fd, int backlog)
{
    fill_socket(op, WEIR_KIND_LISTEN, fd, NULL, 0, backlog);
}

void weir_op_setsockopt(struct weir_op *op, int fd, int level, int name, const void *value,
                        socklen_t length)
{
    fill_socket(op, WEIR_KIND_SETSOCKOPT, fd, value, length, level);
    op->arg.socket.name = name;
}

void weir_op_accept(struct weir_op *op, int fd, struct sockaddr *ret_address, socklen_t *length,
                    int flags)
{
    fill_socket(op, WEIR_KIND_ACCEPT, fd, ret_address, 0, 0);
    op->arg.socket.length_ret = length;
    op->arg.socket.flags = (uint32_t)flags;
}

void weir_op_connect(struct weir_op *op, int fd, const struct sockaddr *address, socklen_t length)
{
    fill_socket(op, WEIR_KIND_CONNECT, fd, address, length, 0);
}

void weir_op_recv(struct weir_op *op, int fd, void *buffer, uint64_t length, int flags)
{
    fill_io(op, WEIR_KIND_RECV, fd, buffer, length, 0, (unsigned)flags);
}

void weir_op_send(struct weir_op *op, int fd, const void *buffer, uint64_t length, int flags)
{
    fill_io(op, WEIR_KIND_SEND, fd, buffer, length, 0, (unsigned)flags);
}

void weir_op_recvmsg(struct weir_op *op, int fd, struct msghdr *message, int flags)
{
    fill_io(op, WEIR_KIND_RECVMSG, fd, message, 1, 0, (unsigned)flags);
}

void weir_op_sendmsg(struct weir_op *op, int fd, const struct msghdr *message, int flags)
{
    fill_io(op, WEIR_KIND_SENDMSG, fd, message, 1, 0, (unsigned)flags);
}

void weir_op_shutdown(struct weir_op *op, int fd, int how)
{
    fill_socket(op, WEIR_KIND_SHUTDOWN, fd, NULL, 0, how);
}

void weir_op_poll(struct weir_op *op, int fd, unsigned events)
{
    fill_io(op, WEIR_KIND_POLL, fd, NULL, 0, 0, events);
}

void weir_op_splice(struct weir_op *op, int fd_in, uint64_t offset_in, int fd_out,
                    uint64_t offset_out, uint64_t length, unsigned flags)
{
    fill_io(op, WEIR_KIND_SPLICE, fd_out, NULL, length, offset_out, flags);
    op->arg.io.fd2 = fd_in;
    op->mode_or_offset2 = offset_in;
}

void weir_op_timeout(struct weir_op *op, uint64_t at_ns)
{
    fill(op, WEIR_KIND_TIMEOUT, -1);
    op->arg.timeout.at_ns = at_ns;
}

void weir_op_timeout_in(struct weir_op *op, const struct weir_loop *loop, uint64_t wait_ns)
{
    uint64_t now_ns = weir_now(loop);
    weir_op_timeout(op, wait_ns < UINT64_MAX - now_ns ? now_ns + wait_ns : UINT64_MAX);
}

void weir_op_ftruncate(struct weir_op *op, int fd, uint64_t length)
{
    fill_io(op, WEIR_KIND_FTRUNCATE, fd, NULL, length, 0, 0);
}

void weir_op_signal(struct weir_op *op, uint64_t signals, struct signalfd_siginfo *ret_info)
{
    fill(op, WEIR_KIND_SIGNAL, -1);
    op->arg.watch.signals = signals;
    op->arg.watch.ret_info = ret_info;
}

void weir_op_child(struct weir_op *op, pid_t pid, struct weir_exit *ret_exit)
{
    fill(op, WEIR_KIND_CHILD, -1);
    op->arg.watch.pid = pid;
    op->arg.watch.ret_info = ret_exit;
}

void weir_op_call(struct weir_op *op, weir_function *function, void *argument)
{
    fill(op, WEIR_KIND_CALL, -1);
    op->arg.call.function = function;
    op->arg.call.argument = argument;
}

int weir_op_asked(const struct weir_op *op)
{
    /* Relaxed: a hint. Written by weir_loop_ask(). */
    return op && __atomic_load_n(&op->asked_back, __ATOMIC_RELAXED);
}
