/* SPDX-License-Identifier: MIT */
/* kinds.c: the table of kinds, and the arithmetic of transfers that are continued. */
#include <engine/op/op.h>
#include <fcntl.h>
#include <sys/socket.h>

#define FD2 WEIR_KIND_HAS_FD2
#define LATE WEIR_KIND_LATE_FD
#define NEWFD WEIR_KIND_MAKES_FD
#define WHOLE WEIR_KIND_MAY_WHOLE
#define VECTOR WEIR_KIND_VECTOR
#define MESSAGE WEIR_KIND_MESSAGE
#define BYTES WEIR_KIND_BYTES
#define LENGTH32 WEIR_KIND_LENGTH32
#define READS WEIR_KIND_READS
#define OWN WEIR_KIND_OWN_FD
#define WAITS WEIR_KIND_WAITS

static const char *const names[WEIR_KIND_COUNT] = {
    [WEIR_KIND_NONE] = "none",           [WEIR_KIND_NOP] = "nop",
    [WEIR_KIND_READ] = "read",           [WEIR_KIND_WRITE] = "write",
    [WEIR_KIND_READV] = "readv",         [WEIR_KIND_WRITEV] = "writev",
    [WEIR_KIND_FSYNC] = "fsync",         [WEIR_KIND_SYNC_FILE_RANGE] = "sync_file_range",
    [WEIR_KIND_FALLOCATE] = "fallocate", [WEIR_KIND_OPENAT] = "openat",
    [WEIR_KIND_CLOSE] = "close",         [WEIR_KIND_STATX] = "statx",
    [WEIR_KIND_UNLINKAT] = "unlinkat",   [WEIR_KIND_RENAMEAT] = "renameat",
    [WEIR_KIND_LINKAT] = "linkat",       [WEIR_KIND_SYMLINKAT] = "symlinkat",
    [WEIR_KIND_MKDIRAT] = "mkdirat",     [WEIR_KIND_FADVISE] = "fadvise",
    [WEIR_KIND_SOCKET] = "socket",       [WEIR_KIND_BIND] = "bind",
    [WEIR_KIND_LISTEN] = "listen",       [WEIR_KIND_SETSOCKOPT] = "setsockopt",
    [WEIR_KIND_ACCEPT] = "accept",       [WEIR_KIND_CONNECT] = "connect",
    [WEIR_KIND_RECV] = "recv",           [WEIR_KIND_SEND] = "send",
    [WEIR_KIND_RECVMSG] = "recvmsg",     [WEIR_KIND_SENDMSG] = "sendmsg",
    [WEIR_KIND_SHUTDOWN] = "shutdown",   [WEIR_KIND_POLL] = "poll",
    [WEIR_KIND_SPLICE] = "splice",       [WEIR_KIND_TIMEOUT] = "timeout",
    [WEIR_KIND_FTRUNCATE] = "ftruncate", [WEIR_KIND_SIGNAL] = "signal",
    [WEIR_KIND_CHILD] = "child",         [WEIR_KIND_CALL] = "call",
};

const uint32_t weir_kind_traits_table[WEIR_KIND_COUNT] = {
    [WEIR_KIND_READ] = WHOLE | BYTES | READS,
    [WEIR_KIND_WRITE] = WHOLE | BYTES,
    [WEIR_KIND_READV] = WHOLE | VECTOR | READS,
    [WEIR_KIND_WRITEV] = WHOLE | VECTOR,
    [WEIR_KIND_FSYNC] = LATE,
    [WEIR_KIND_SYNC_FILE_RANGE] = LATE | LENGTH32,
    [WEIR_KIND_FALLOCATE] = LATE,
    [WEIR_KIND_OPENAT] = LATE | NEWFD,
    [WEIR_KIND_CLOSE] = LATE,
    [WEIR_KIND_STATX] = LATE,
    [WEIR_KIND_UNLINKAT] = LATE,
    [WEIR_KIND_RENAMEAT] = FD2 | LATE,
    [WEIR_KIND_LINKAT] = FD2 | LATE,
    [WEIR_KIND_SYMLINKAT] = LATE,
    [WEIR_KIND_MKDIRAT] = LATE,
    [WEIR_KIND_FADVISE] = LATE | LENGTH32,
    [WEIR_KIND_SOCKET] = NEWFD,
    [WEIR_KIND_ACCEPT] = NEWFD | READS | WAITS,
    [WEIR_KIND_CONNECT] = WAITS,
    [WEIR_KIND_RECV] = WHOLE | BYTES | READS | WAITS,
    [WEIR_KIND_SEND] = WHOLE | BYTES,
    [WEIR_KIND_RECVMSG] = WHOLE | MESSAGE | READS | WAITS,
    [WEIR_KIND_SENDMSG] = WHOLE | MESSAGE,
    [WEIR_KIND_SHUTDOWN] = LATE,
    [WEIR_KIND_POLL] = WAITS,
    [WEIR_KIND_SPLICE] = FD2 | LATE | WHOLE | BYTES | READS,
    [WEIR_KIND_FTRUNCATE] = LATE,
    [WEIR_KIND_SIGNAL] = OWN | READS | WAITS,
    [WEIR_KIND_CHILD] = OWN | READS | WAITS,
};

const char *weir_kind_name(unsigned kind)
{
    return kind < WEIR_KIND_COUNT ? names[kind] : NULL;
}

bool weir_op_caller_polls(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
        return op->rw_flags & RWF_NOWAIT;
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        return op->arg.io.flags & MSG_DONTWAIT;
    case WEIR_KIND_SPLICE:
        return op->arg.io.flags & SPLICE_F_NONBLOCK;
    default:
        return false;
    }
}

static uint64_t clamped(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

/* The iovecs of a vector or message. */
static const struct iovec *vector_of(const struct weir_op *op, uint64_t *ret_count)
{
    if (weir_kind_traits(op->kind) & MESSAGE) {
        const struct msghdr *message = op->arg.io.buffer;
        *ret_count = message->msg_iovlen;
        return message->msg_iov;
    }
    *ret_count = op->arg.io.length;
    return op->arg.io.buffer;
}

uint64_t weir_op_bytes(const struct weir_op *op)
{
    uint32_t traits = weir_kind_traits(op->kind);
    if (traits & BYTES) {
        return op->arg.io.length;
    }
    if (!(traits & (VECTOR | MESSAGE))) {
        return 0;
    }
    uint64_t count;
    const struct iovec *iov = vector_of(op, &count);
    if (!(op->flags & WEIR_WHOLE)) {
        count = clamped(count, WEIR_VECTOR_MAX); /* what the kernel looks at, and no further */
    }
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < count; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

/* Where `moved` bytes into the vector is: the rest of that buffer, or the vectors from there on. */
static void vector_part(const struct weir_op *op, struct weir_part *part)
{
    uint64_t count;
    const struct iovec *iov = vector_of(op, &count);
    uint64_t skip = op->moved;
    bool message = weir_kind_traits(op->kind) & MESSAGE;
    uint64_t i = 0;
    while (i < count && skip >= iov[i].iov_len) {
        skip -= iov[i].iov_len;
        i++;
    }
    if (skip == 0 && !message) { /* also when all that is left is empty */
        part->buffer = (void *)(uintptr_t)&iov[i];
        part->length = clamped(count - i, WEIR_VECTOR_MAX);
        return;
    }
    static const uint8_t plain[WEIR_KIND_COUNT] = {
        [WEIR_KIND_READV] = WEIR_KIND_READ,
        [WEIR_KIND_WRITEV] = WEIR_KIND_WRITE,
        [WEIR_KIND_RECVMSG] = WEIR_KIND_RECV,
        [WEIR_KIND_SENDMSG] = WEIR_KIND_SEND,
    };
    part->kind = plain[op->kind];
    part->buffer = (char *)iov[i].iov_base + skip;
    part->length = clamped(iov[i].iov_len - skip, WEIR_TRANSFER_MAX);
}

void weir_op_part(const struct weir_op *op, struct weir_part *part)
{
    uint32_t traits = weir_kind_traits(op->kind);
    uint64_t moved = op->flags & WEIR_WHOLE ? op->moved : 0;
    part->kind = op->kind;
    part->buffer = op->arg.io.buffer;
    part->offset = op->arg.io.offset;
    if (moved != 0 && part->offset != WEIR_CURRENT) {
        part->offset += moved;
    }
    if (traits & BYTES) {
        part->buffer = (void *)((uintptr_t)part->buffer + moved); /* NULL for SPLICE */
        part->length = clamped(op->arg.io.length - moved, WEIR_TRANSFER_MAX);
    } else if (moved == 0 && (traits & MESSAGE || !(op->flags & WEIR_WHOLE))) {
        part->length = clamped(op->arg.io.length, WEIR_VECTOR_MAX);
    } else {
        vector_part(op, part);
    }
}
