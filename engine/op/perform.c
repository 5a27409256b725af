/* SPDX-License-Identifier: MIT */
#include <engine/op/perform.h>
#include <sys/socket.h>

bool weir_op_performs(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_SOCKET:
    case WEIR_KIND_BIND:
    case WEIR_KIND_LISTEN:
    case WEIR_KIND_SETSOCKOPT:
        return true;
    default:
        return false;
    }
}

int64_t weir_op_perform(const struct weir_op *op)
{
    int r = -1;
    errno = EOPNOTSUPP;
    switch (op->kind) {
    case WEIR_KIND_SOCKET:
        r = socket(op->arg.socket.level, op->arg.socket.name, (int)op->arg.socket.flags);
        break;
    case WEIR_KIND_BIND:
        r = bind(op->fd, op->arg.socket.address, op->arg.socket.length);
        break;
    case WEIR_KIND_LISTEN:
        r = listen(op->fd, op->arg.socket.level);
        break;
    case WEIR_KIND_SETSOCKOPT:
        r = setsockopt(op->fd, op->arg.socket.level, op->arg.socket.name, op->arg.socket.address,
                       op->arg.socket.length);
        break;
    default:
        break;
    }
    return r < 0 ? -errno : r;
}
