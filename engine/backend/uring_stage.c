/* SPDX-License-Identifier: MIT */
/*
 * uring_stage.c: an op as a submission entry. Knows every kind's opcode and where its arguments go;
 * knows neither ring nor turn.
 */
#include <engine/backend/uring.h>
#include <poll.h>

/* The opcode of each kind; 0 (which is NOP) for those without. */
static const uint8_t opcodes[WEIR_KIND_COUNT] = {
    [WEIR_KIND_NOP] = IORING_OP_NOP,
    [WEIR_KIND_READ] = IORING_OP_READ,
    [WEIR_KIND_WRITE] = IORING_OP_WRITE,
    [WEIR_KIND_READV] = IORING_OP_READV,
    [WEIR_KIND_WRITEV] = IORING_OP_WRITEV,
    [WEIR_KIND_FSYNC] = IORING_OP_FSYNC,
    [WEIR_KIND_SYNC_FILE_RANGE] = IORING_OP_SYNC_FILE_RANGE,
    [WEIR_KIND_FALLOCATE] = IORING_OP_FALLOCATE,
    [WEIR_KIND_OPENAT] = IORING_OP_OPENAT,
    [WEIR_KIND_CLOSE] = IORING_OP_CLOSE,
    [WEIR_KIND_STATX] = IORING_OP_STATX,
    [WEIR_KIND_UNLINKAT] = IORING_OP_UNLINKAT,
    [WEIR_KIND_RENAMEAT] = IORING_OP_RENAMEAT,
    [WEIR_KIND_LINKAT] = IORING_OP_LINKAT,
    [WEIR_KIND_SYMLINKAT] = IORING_OP_SYMLINKAT,
    [WEIR_KIND_MKDIRAT] = IORING_OP_MKDIRAT,
    [WEIR_KIND_FADVISE] = IORING_OP_FADVISE,
    [WEIR_KIND_SOCKET] = IORING_OP_SOCKET,
    [WEIR_KIND_BIND] = WEIR_OP_BIND,
    [WEIR_KIND_LISTEN] = WEIR_OP_LISTEN,
    [WEIR_KIND_ACCEPT] = IORING_OP_ACCEPT,
    [WEIR_KIND_CONNECT] = IORING_OP_CONNECT,
    [WEIR_KIND_RECV] = IORING_OP_RECV,
    [WEIR_KIND_SEND] = IORING_OP_SEND,
    [WEIR_KIND_RECVMSG] = IORING_OP_RECVMSG,
    [WEIR_KIND_SENDMSG] = IORING_OP_SENDMSG,
    [WEIR_KIND_SHUTDOWN] = IORING_OP_SHUTDOWN,
    [WEIR_KIND_POLL] = IORING_OP_POLL_ADD,
    [WEIR_KIND_SPLICE] = IORING_OP_SPLICE,
    [WEIR_KIND_FTRUNCATE] = WEIR_OP_FTRUNCATE,
    [WEIR_KIND_SIGNAL] = IORING_OP_POLL_ADD, /* of the fd that the loop made for it */
    [WEIR_KIND_CHILD] = IORING_OP_POLL_ADD,
};

_Static_assert(WEIR_KIND_COUNT <= 64, "a bit per kind");

uint64_t weir_uring_kinds(uint64_t native)
{
    uint64_t kinds = 0;
    for (unsigned kind = WEIR_KIND_NOP; kind < WEIR_KIND_COUNT; kind++) {
        bool has_opcode = opcodes[kind] != IORING_OP_NOP || kind == WEIR_KIND_NOP;
        kinds |= (uint64_t)(has_opcode && native >> opcodes[kind] & 1) << kind;
    }
    return kinds;
}

static void prepare_poll(int fd, unsigned events, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
    sqe->poll32_events =
        __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? (events & 0xffff) << 16 | events >> 16 : events;
}

/* Waits until an op that answered EAGAIN may be tried again. */
static void prepare_poll_first(const struct weir_op *op, struct io_uring_sqe *sqe)
{
    int fd = op->fd;
    bool reads = weir_kind_traits(op->kind) & WEIR_KIND_READS;
    if (op->kind == WEIR_KIND_SPLICE) {
        /* Either end may be the one that is not ready: wait for the source first, then for the
         * target. */
        reads = op->attempts & 1;
        fd = reads ? op->arg.io.fd2 : op->fd;
    }
    prepare_poll(fd, reads ? POLLIN : POLLOUT, sqe);
}

static void prepare_transfer(const struct weir_uring *uring, const struct weir_op *op,
                             struct io_uring_sqe *sqe)
{
    struct weir_part part;
    weir_op_part(op, &part);
    sqe->opcode = opcodes[part.kind];
    sqe->addr = (uint64_t)(uintptr_t)part.buffer;
    sqe->len = (uint32_t)part.length;
    switch (part.kind) {
    case WEIR_KIND_RECV:
    case WEIR_KIND_RECVMSG:
        sqe->msg_flags = op->arg.io.flags;
        return;
    case WEIR_KIND_SEND:
    case WEIR_KIND_SENDMSG:
        sqe->msg_flags = op->arg.io.flags | MSG_NOSIGNAL;
        return;
    case WEIR_KIND_WRITE:
    case WEIR_KIND_WRITEV:
        sqe->rw_flags = (__kernel_rwf_t)(op->rw_flags | uring->base.write_flags);
        break;
    default:
        sqe->rw_flags = (__kernel_rwf_t)op->rw_flags;
        break;
    }
    sqe->off = part.offset;
    sqe->ioprio = op->ioprio;
}

static inline void begin_transfer(const struct weir_op *op, uint8_t opcode,
                                  struct io_uring_sqe *sqe)
{
    uint64_t length = op->arg.io.length;
    sqe->opcode = opcode;
    sqe->fd = op->fd;
    sqe->addr = (uint64_t)(uintptr_t)op->arg.io.buffer;
    sqe->len = (uint32_t)(length < WEIR_TRANSFER_MAX ? length : WEIR_TRANSFER_MAX);
}

static inline void begin_at(const struct weir_op *op, uint8_t opcode, uint32_t rw_flags,
                            struct io_uring_sqe *sqe)
{
    begin_transfer(op, opcode, sqe);
    sqe->off = op->arg.io.offset;
    sqe->ioprio = op->ioprio;
    sqe->rw_flags = (__kernel_rwf_t)(op->rw_flags | rw_flags);
}

static inline void begin_message(const struct weir_op *op, uint8_t opcode, uint32_t msg_flags,
                                 struct io_uring_sqe *sqe)
{
    begin_transfer(op, opcode, sqe);
    sqe->msg_flags = op->arg.io.flags | msg_flags;
}

/* The most frequent kinds, of which all is to be done and nothing was tried. False: it is of
 * another kind. */
static inline bool prepare_plain(const struct weir_uring *uring, const struct weir_op *op,
                                 struct io_uring_sqe *sqe)
{
    switch (op->kind) {
    case WEIR_KIND_READ:
        begin_at(op, IORING_OP_READ, 0, sqe);
        return true;
    case WEIR_KIND_WRITE:
        begin_at(op, IORING_OP_WRITE, uring->base.write_flags, sqe);
        return true;
    case WEIR_KIND_RECV:
        begin_message(op, IORING_OP_RECV, 0, sqe);
        return true;
    case WEIR_KIND_SEND:
        begin_message(op, IORING_OP_SEND, MSG_NOSIGNAL, sqe);
        return true;
    default:
        return false;
    }
}

static void prepare_splice(const struct weir_op *op, struct io_uring_sqe *sqe)
{
    struct weir_part part;
    weir_op_part(op, &part);
    uint64_t offset_in = op->mode_or_offset2;
    uint64_t moved = op->flags & WEIR_WHOLE ? op->moved : 0;
    sqe->opcode = IORING_OP_SPLICE;
    sqe->splice_fd_in = op->arg.io.fd2;
    sqe->splice_off_in = offset_in == WEIR_CURRENT ? offset_in : offset_in + moved;
    sqe->off = part.offset;
    sqe->len = (uint32_t)part.length;
    sqe->splice_flags = op->arg.io.flags;
}

static void prepare_path(const struct weir_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = opcodes[op->kind];
    sqe->addr = (uint64_t)(uintptr_t)op->arg.path.path;
    switch (op->kind) {
    case WEIR_KIND_OPENAT:
        sqe->len = (uint32_t)op->mode_or_offset2;
        sqe->open_flags = op->arg.path.flags;
        break;
    case WEIR_KIND_MKDIRAT:
        sqe->len = (uint32_t)op->mode_or_offset2;
        break;
    case WEIR_KIND_STATX:
        sqe->len = (uint32_t)op->mode_or_offset2;
        sqe->addr2 = (uint64_t)(uintptr_t)op->arg.path.statx;
        sqe->statx_flags = op->arg.path.flags;
        break;
    case WEIR_KIND_UNLINKAT:
        sqe->unlink_flags = op->arg.path.flags;
        break;
    default: /* RENAMEAT, LINKAT, SYMLINKAT */
        sqe->len = (uint32_t)op->arg.path.fd2;
        sqe->addr2 = (uint64_t)(uintptr_t)op->arg.path.path2;
        sqe->rename_flags = op->arg.path.flags;
        if (op->kind == WEIR_KIND_SYMLINKAT) {
            sqe->len = 0;
        }
        break;
    }
}

static void prepare_socket(const struct weir_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = opcodes[op->kind];
    switch (op->kind) {
    case WEIR_KIND_SOCKET:
        sqe->fd = op->arg.socket.level;
        sqe->off = (uint64_t)(uint32_t)op->arg.socket.name;
        sqe->len = op->arg.socket.flags;
        break;
    case WEIR_KIND_LISTEN:
    case WEIR_KIND_SHUTDOWN:
        sqe->len = (uint32_t)op->arg.socket.level;
        break;
    case WEIR_KIND_ACCEPT:
        sqe->addr = (uint64_t)(uintptr_t)op->arg.socket.address;
        sqe->addr2 = (uint64_t)(uintptr_t)op->arg.socket.length_ret;
        sqe->accept_flags = op->arg.socket.flags;
        break;
    default: /* BIND, CONNECT */
        sqe->addr = (uint64_t)(uintptr_t)op->arg.socket.address;
        sqe->off = op->arg.socket.length;
        break;
    }
}

static void prepare_range(const struct weir_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = opcodes[op->kind];
    sqe->off = op->arg.io.offset;
    switch (op->kind) {
    case WEIR_KIND_FALLOCATE:
        sqe->len = op->arg.io.flags;
        sqe->addr = op->arg.io.length;
        break;
    case WEIR_KIND_FSYNC:
        sqe->fsync_flags = op->arg.io.flags ? IORING_FSYNC_DATASYNC : 0;
        break;
    case WEIR_KIND_FTRUNCATE:
        sqe->off = op->arg.io.length;
        break;
    case WEIR_KIND_FADVISE:
        sqe->len = (uint32_t)op->arg.io.length;
        sqe->fadvise_advice = op->arg.io.flags;
        break;
    default: /* SYNC_FILE_RANGE */
        sqe->len = (uint32_t)op->arg.io.length;
        sqe->sync_range_flags = op->arg.io.flags;
        break;
    }
}

/* Apart, so that the few common kinds stay short. */
static __attribute__((noinline)) void prepare_other(const struct weir_op *op,
                                                    struct io_uring_sqe *sqe)
{
    switch (op->kind) {
    case WEIR_KIND_SPLICE:
        prepare_splice(op, sqe);
        break;
    case WEIR_KIND_POLL:
        prepare_poll(op->fd, op->arg.io.flags, sqe);
        break;
    case WEIR_KIND_CLOSE:
        sqe->opcode = IORING_OP_CLOSE;
        break;
    case WEIR_KIND_FSYNC:
    case WEIR_KIND_SYNC_FILE_RANGE:
    case WEIR_KIND_FALLOCATE:
    case WEIR_KIND_FADVISE:
    case WEIR_KIND_FTRUNCATE:
        prepare_range(op, sqe);
        break;
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
    case WEIR_KIND_SYMLINKAT:
    case WEIR_KIND_MKDIRAT:
        prepare_path(op, sqe);
        break;
    default:
        prepare_socket(op, sqe);
        break;
    }
}

static __attribute__((noinline)) void prepare(struct weir_uring *uring, const struct weir_op *op,
                                              struct io_uring_sqe *sqe)
{
    sqe->fd = op->fd;
    if (weir_unlikely(op->retry == WEIR_RETRY_POLL)) {
        prepare_poll_first(op, sqe);
        return;
    }
    switch (op->kind) {
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        prepare_transfer(uring, op, sqe);
        break;
    default:
        prepare_other(op, sqe);
        break;
    }
    if (weir_unlikely(op->retry == WEIR_RETRY_ASYNC)) {
        sqe->flags = IOSQE_ASYNC;
    }
}

void weir_uring_prepare(struct weir_uring *uring, const struct weir_op *op,
                        struct io_uring_sqe *sqe)
{
    if (weir_unlikely(!weir_op_is_untried(op)) || !prepare_plain(uring, op, sqe)) {
        prepare(uring, op, sqe);
    }
}
