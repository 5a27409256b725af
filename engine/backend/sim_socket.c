/* SPDX-License-Identifier: MIT */
/* sim_socket.c: the kinds that work on streams: sockets, messages, splices. */
#include "sim.h"

#include <fcntl.h>

#define BOUNCE 4096u

static struct weir_when when_of(const struct weir_sim *sim, const struct weir_sim_try *attempt)
{
    return (struct weir_when){.now_ns = sim->now_ns, .way_ns = attempt->way_ns};
}

/* What a stream answered; an error of its own is told once. */
static int64_t heed(struct weir_stream *stream, struct weir_sim_file *file,
                    struct weir_sim_try *attempt, int64_t r)
{
    if (r == -EAGAIN) {
        attempt->waits = file;
    } else if (r < 0 && stream->error == -r) {
        weir_stream_take_error(stream);
    }
    return r;
}

static uint64_t cut_bytes(const struct weir_stream *stream, const struct weir_sim_try *attempt,
                          uint64_t could)
{
    return weir_stream_is_message(stream) ? could : weir_sim_cut(attempt, could);
}

/* --- plain bytes ------------------------------------------------------------------------------ */

int64_t weir_sim_stream_read(struct weir_sim *sim, struct weir_sim_try *attempt,
                             const struct iovec *iov, uint32_t count, uint64_t length)
{
    struct weir_stream *stream = attempt->file->stream;
    if (length == 0 && !weir_stream_is_message(stream)) {
        return 0;
    }
    int64_t r = heed(stream, attempt->file, attempt, weir_stream_readable(stream, sim->now_ns));
    if (r < 0) {
        return r;
    }
    uint64_t could = (uint64_t)r < length ? (uint64_t)r : length;
    return weir_stream_receive(stream, sim->now_ns, iov, count, 0,
                               cut_bytes(stream, attempt, could), 0, NULL);
}

static int64_t send_bytes(struct weir_sim *sim, struct weir_sim_try *attempt,
                          const struct iovec *iov, uint64_t count, uint64_t length,
                          const struct weir_name *to)
{
    struct weir_stream *stream = attempt->file->stream;
    struct weir_when when = when_of(sim, attempt);
    if (stream->type == SOCK_DGRAM && stream->domain != AF_UNIX) {
        int bound = weir_net_autobind(stream);
        if (bound < 0) {
            return bound;
        }
    }
    int64_t r = heed(stream, attempt->file, attempt, weir_stream_writable(stream, length, to));
    if (r < 0) {
        return r;
    }
    return weir_stream_send(stream, &when, iov, count, 0, cut_bytes(stream, attempt, (uint64_t)r),
                            to);
}

int64_t weir_sim_stream_write(struct weir_sim *sim, struct weir_sim_try *attempt,
                              const struct iovec *iov, uint32_t count, uint64_t length)
{
    return send_bytes(sim, attempt, iov, count, length, NULL);
}

/* --- messages --------------------------------------------------------------------------------- */

/* A message as recvmsg(2) and sendmsg(2) take it; for plain bytes, made of them. */
struct message {
    struct iovec one;
    struct msghdr *header; /* NULL: plain bytes */
    const struct iovec *iov;
    uint64_t count;
    uint64_t length;
};

static int set_message(struct message *message, const struct weir_op *op, bool *ret_reads)
{
    struct weir_part part;
    weir_op_part(op, &part);
    message->one = (struct iovec){part.buffer, part.length};
    message->header = NULL;
    message->iov = &message->one;
    message->count = 1;
    *ret_reads = part.kind == WEIR_KIND_RECV || part.kind == WEIR_KIND_RECVMSG;
    if (part.kind == WEIR_KIND_RECVMSG || part.kind == WEIR_KIND_SENDMSG) {
        if (weir_sim_is_bad_address(part.buffer)) {
            return -EFAULT;
        }
        message->header = part.buffer;
        message->iov = message->header->msg_iov;
        message->count = message->header->msg_iovlen;
        if (message->count > WEIR_VECTOR_MAX) {
            return -EMSGSIZE;
        }
    }
    int64_t bytes = weir_sim_vector_bytes(message->iov, message->count);
    message->length = bytes < 0 ? 0 : (uint64_t)bytes;
    return bytes < 0 ? (int)bytes : 0;
}

/* As much of a name as there is room for, and how long it is. */
static void give_name(const struct weir_name *name, void *ret_address, uint32_t *length)
{
    if (ret_address && length) {
        socklen_t part = name->length < *length ? name->length : *length;
        memcpy(ret_address, &name->address, part);
        *length = name->length;
    }
}

static void tell(struct msghdr *header, const struct weir_received *received)
{
    if (header) {
        give_name(&received->from, header->msg_name, &header->msg_namelen);
        if (!received->from.length) {
            header->msg_namelen = 0;
        }
        header->msg_controllen = 0;
        header->msg_flags = received->flags;
    }
}

/* What came with an earlier attempt is not given up for what this one met. */
static int64_t end_receive(struct weir_sim_try *attempt, int64_t r)
{
    attempt->waits = NULL;
    return attempt->moved > 0 ? (int64_t)attempt->moved : r;
}

static int64_t receive(struct weir_sim *sim, const struct weir_op *op, struct weir_sim_try *attempt,
                       const struct message *message)
{
    struct weir_stream *stream = attempt->file->stream;
    struct weir_received received;
    int flags = (int)op->arg.io.flags;
    bool is_message = weir_stream_is_message(stream);
    bool all = flags & MSG_WAITALL && !(flags & (MSG_PEEK | MSG_DONTWAIT)) && !is_message &&
               attempt->cut == 0;
    if (message->length == 0 && !is_message) {
        return 0;
    }
    int64_t r = weir_stream_readable(stream, sim->now_ns);
    if (r < 0 && r != -EAGAIN && attempt->moved > 0) {
        return end_receive(attempt, r); /* the error stays for the next */
    }
    r = heed(stream, attempt->file, attempt, r);
    if (r < 0) {
        return r;
    }
    uint64_t wanted = message->length - attempt->moved;
    uint64_t could = is_message || (uint64_t)r > wanted ? wanted : (uint64_t)r;
    r = weir_stream_receive(stream, sim->now_ns, message->iov, message->count, attempt->moved,
                            cut_bytes(stream, attempt, could), flags, &received);
    if (r == 0 && !is_message) {
        tell(message->header, &received);
        return end_receive(attempt, 0);
    }
    if (!all) {
        tell(message->header, &received);
        return r;
    }
    attempt->moved += (uint64_t)r;
    if (attempt->moved < message->length) {
        attempt->waits = attempt->file;
        return -EAGAIN;
    }
    tell(message->header, &received);
    return end_receive(attempt, 0);
}

static int64_t send_message(struct weir_sim *sim, struct weir_sim_try *attempt,
                            const struct message *message)
{
    struct weir_name to = {0};
    const struct msghdr *header = message->header;
    if (header && header->msg_control && header->msg_controllen > 0) {
        return -EOPNOTSUPP;
    }
    if (header && header->msg_name && header->msg_namelen > 0) {
        int r = weir_name_set(&to, header->msg_name, header->msg_namelen);
        if (r < 0) {
            return r;
        }
    }
    return send_bytes(sim, attempt, message->iov, message->count, message->length, &to);
}

int64_t weir_sim_message(struct weir_sim *sim, const struct weir_op *op,
                         struct weir_sim_try *attempt)
{
    struct message message;
    bool reads;
    const struct weir_stream *stream = attempt->file->stream;
    if (!stream || stream->role != WEIR_STREAM_SOCKET) {
        return -ENOTSOCK;
    }
    int r = set_message(&message, op, &reads);
    if (r < 0) {
        return r;
    }
    if (op->arg.io.flags & MSG_OOB) {
        return reads ? -EINVAL : -EOPNOTSUPP;
    }
    return reads ? receive(sim, op, attempt, &message) : send_message(sim, attempt, &message);
}

/* --- sockets ---------------------------------------------------------------------------------- */

static int flags_of(int type)
{
    return O_RDWR | (type & SOCK_NONBLOCK ? O_NONBLOCK : 0) | (type & SOCK_CLOEXEC ? O_CLOEXEC : 0);
}

static int64_t give_fd(struct weir_sim *sim, struct weir_stream *stream, int flags)
{
    struct weir_sim_file *file;
    int fd = weir_sim_file_open(sim, WEIR_SIM_FILE_STREAM, flags, &file);
    if (fd < 0) {
        weir_stream_close(stream, &(struct weir_when){.now_ns = sim->now_ns});
        return fd;
    }
    file->stream = stream;
    stream->user = file;
    return fd;
}

static int64_t make_socket(struct weir_sim *sim, const struct weir_op *op)
{
    struct weir_stream *stream;
    int r = weir_sim_may_open(sim);
    if (r == 0) {
        r = weir_stream_socket(&sim->net, op->arg.socket.level, op->arg.socket.name,
                               (int)op->arg.socket.flags, &stream);
    }
    return r < 0 ? r : give_fd(sim, stream, flags_of(op->arg.socket.name));
}

static int64_t accept_one(struct weir_sim *sim, const struct weir_op *op,
                          struct weir_sim_try *attempt)
{
    struct weir_stream *stream;
    int flags = (int)op->arg.socket.flags;
    int r = weir_sim_may_open(sim);
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) {
        return -EINVAL;
    }
    if (r == 0) {
        r = weir_stream_accept(attempt->file->stream, &stream);
    }
    if (r < 0) {
        return heed(attempt->file->stream, attempt->file, attempt, r);
    }
    struct weir_name name = stream->peer_name;
    if (name.length == 0) {
        name.length = sizeof name.address.any.sa_family; /* nobody has named it */
        name.address.any.sa_family = (sa_family_t)stream->domain;
    }
    int64_t fd = give_fd(sim, stream, flags_of(flags));
    if (fd >= 0) {
        give_name(&name, op->arg.socket.address, op->arg.socket.length_ret);
    }
    return fd;
}

static int64_t connect_to(const struct weir_op *op, struct weir_sim_try *attempt)
{
    struct weir_stream *listener = NULL;
    int r = weir_stream_connect(attempt->file->stream, op->arg.socket.address,
                                op->arg.socket.length, &listener);
    if (r == -EAGAIN) {
        attempt->waits = listener->user;
    }
    return r;
}

int64_t weir_sim_on_socket(struct weir_sim *sim, const struct weir_op *op,
                           struct weir_sim_try *attempt)
{
    if (op->kind == WEIR_KIND_SOCKET) {
        return make_socket(sim, op);
    }
    struct weir_stream *stream = attempt->file->stream;
    const void *address = op->arg.socket.address;
    socklen_t length = op->arg.socket.length;
    struct weir_when when = when_of(sim, attempt);
    bool takes_memory = op->kind == WEIR_KIND_BIND || op->kind == WEIR_KIND_CONNECT ||
                        op->kind == WEIR_KIND_SETSOCKOPT;
    if (!stream || stream->role != WEIR_STREAM_SOCKET) {
        return -ENOTSOCK;
    }
    if (takes_memory && weir_sim_is_bad_address(address)) {
        return -EFAULT;
    }
    switch (op->kind) {
    case WEIR_KIND_BIND:
        return weir_stream_bind(stream, address, length);
    case WEIR_KIND_LISTEN:
        return weir_stream_listen(stream, op->arg.socket.level);
    case WEIR_KIND_SETSOCKOPT:
        return weir_stream_set(stream, op->arg.socket.level, op->arg.socket.name, address, length);
    case WEIR_KIND_SHUTDOWN:
        return weir_stream_shutdown(stream, op->arg.socket.level, &when);
    case WEIR_KIND_ACCEPT:
        return accept_one(sim, op, attempt);
    default:
        return connect_to(op, attempt);
    }
}

/* --- splice ----------------------------------------------------------------------------------- */

static bool is_pipe(const struct weir_sim_file *file)
{
    return file->stream && file->stream->role != WEIR_STREAM_SOCKET;
}

static int judge_splice(const struct weir_sim_file *in, const struct weir_sim_file *out,
                        uint64_t in_offset, uint64_t out_offset)
{
    int in_mode = in->flags & (O_ACCMODE | O_PATH);
    int out_mode = out->flags & (O_ACCMODE | O_PATH);
    if (in_mode & (O_WRONLY | O_PATH) || !(out_mode & (O_WRONLY | O_RDWR))) {
        return -EBADF;
    }
    if (!is_pipe(in) && !is_pipe(out)) {
        return -EINVAL;
    }
    if ((in->stream && in_offset != WEIR_CURRENT) || (out->stream && out_offset != WEIR_CURRENT)) {
        return -ESPIPE;
    }
    bool same = is_pipe(in) && is_pipe(out) && in->stream->peer == out->stream;
    return same || out->flags & O_APPEND || (in_offset != WEIR_CURRENT && in_offset > INT64_MAX) ||
                   (out_offset != WEIR_CURRENT && out_offset > INT64_MAX)
               ? -EINVAL
               : 0;
}

/* How much the one has; 0 at its end. */
static int64_t available(struct weir_sim *sim, struct weir_sim_try *attempt, uint64_t offset)
{
    struct weir_sim_file *in = attempt->file2;
    if (in->stream) {
        return heed(in->stream, in, attempt, weir_stream_readable(in->stream, sim->now_ns));
    }
    uint64_t size = in->inode ? weir_disk_size(in->inode) : 0;
    return offset < size ? (int64_t)(size - offset) : 0;
}

/* How much the other takes. */
static int64_t room(struct weir_sim_try *attempt, uint64_t length)
{
    struct weir_sim_file *out = attempt->file;
    if (!out->stream) {
        return (int64_t)length;
    }
    bool message = weir_stream_is_message(out->stream);
    uint64_t asked = message ? (length < BOUNCE ? length : BOUNCE) : UINT32_MAX;
    return heed(out->stream, out, attempt, weir_stream_writable(out->stream, asked, NULL));
}

static int64_t bounce(struct weir_sim *sim, struct weir_sim_try *attempt, uint64_t length,
                      uint64_t in_offset, uint64_t out_offset)
{
    char bytes[BOUNCE];
    struct weir_sim_file *in = attempt->file2;
    struct weir_sim_file *out = attempt->file;
    struct weir_when when = when_of(sim, attempt);
    uint64_t moved = 0;
    while (moved < length) {
        struct iovec iov = {bytes, length - moved < BOUNCE ? length - moved : BOUNCE};
        int64_t got = in->stream ? weir_stream_receive(in->stream, sim->now_ns, &iov, 1, 0,
                                                       iov.iov_len, MSG_PEEK, NULL)
                                 : weir_disk_read(sim->disk, in->inode, &iov, 1, iov.iov_len,
                                                  in_offset + moved);
        int64_t put = got;
        iov.iov_len = got > 0 ? (size_t)got : 0;
        if (got > 0 && out->stream) {
            put = weir_stream_send(out->stream, &when, &iov, 1, 0, iov.iov_len, NULL);
        } else if (got > 0 && out->inode) {
            put = weir_disk_write(sim->disk, out->inode, &iov, 1, iov.iov_len, out_offset + moved);
        }
        if (put <= 0) {
            return moved > 0 ? (int64_t)moved : put;
        }
        if (in->stream) { /* what has gone in, and no more, is gone here */
            weir_stream_receive(in->stream, sim->now_ns, &iov, 1, 0, (uint64_t)put, 0, NULL);
        }
        moved += (uint64_t)put;
    }
    return (int64_t)moved;
}

int64_t weir_sim_splice(struct weir_sim *sim, const struct weir_op *op,
                        struct weir_sim_try *attempt)
{
    struct weir_part part;
    struct weir_sim_file *in = attempt->file2;
    struct weir_sim_file *out = attempt->file;
    weir_op_part(op, &part);
    uint64_t in_offset = op->mode_or_offset2;
    in_offset += in_offset != WEIR_CURRENT && op->flags & WEIR_WHOLE ? op->moved : 0;
    int r = judge_splice(in, out, in_offset, part.offset);
    if (r < 0 || part.length == 0) {
        return r;
    }
    uint64_t from = in_offset != WEIR_CURRENT ? in_offset : in->position;
    uint64_t to = part.offset != WEIR_CURRENT ? part.offset : out->position;
    int64_t could = available(sim, attempt, from);
    if (could <= 0) {
        return could;
    }
    uint64_t length = (uint64_t)could < part.length ? (uint64_t)could : part.length;
    could = room(attempt, length);
    if (could < 0) {
        return could;
    }
    length = (uint64_t)could < length ? (uint64_t)could : length;
    int64_t moved = bounce(sim, attempt, weir_sim_cut(attempt, length), from, to);
    if (moved > 0 && in_offset == WEIR_CURRENT) {
        in->position = from + (uint64_t)moved;
    }
    if (moved > 0 && part.offset == WEIR_CURRENT) {
        out->position = to + (uint64_t)moved;
    }
    return moved;
}
