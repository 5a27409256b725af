/* SPDX-License-Identifier: MIT */
#include "request.h"
#include "connection.h"
#include "extents.h"
#include "reply.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

/* Bytes that are moved in the turn, where the ring or a worker would do it as well. */
#define ON_THE_SPOT_MAX (16u << 10)

/* --- a request's life ------------------------------------------------------------------------- */

struct request *request_new(struct connection *connection, uint32_t type, uint32_t data_bytes)
{
    uint32_t alignment = connection->file->opened.block_min > 64
                             ? connection->file->opened.block_min
                             : 64; /* a cache line */
    uint32_t before = (uint32_t)sizeof(struct request) + REPLY_HEADER_MAX;
    uint32_t bytes = before + (data_bytes > 0 ? alignment + data_bytes : 0);
    struct buffer *memory;
    struct request *request = connection_carve(connection, bytes, 64, &memory);
    if (!request) {
        return NULL;
    }
    memset(request, 0, sizeof *request);
    request->connection = connection;
    request->whole = request;
    request->memory = memory;
    request->type = (uint16_t)type;
    request->holds = 1;
    request->open = 1;
    request->failures = atomic_load(&connection->file->export->failures);
    if (data_bytes > 0) {
        uintptr_t data = (uintptr_t)request + before;
        request->data = (unsigned char *)((data + alignment - 1) & ~(uintptr_t)(alignment - 1));
    }
    connection->live++;
    return request;
}

/* Not while a client is waited for, be it for a WRITE's bytes or to take what it has read: the file
 * cannot be changed then. */
static void use_file(struct request *request)
{
    if (!request->file) {
        request->file = request->connection->file;
        file_use(request->file);
    }
}

static void leave_file(struct request *request)
{
    struct file *file = request->file;
    if (file) {
        request->file = NULL;
        file_leave(file);
    }
}

static void drop_payload(struct request *request)
{
    for (int i = 0; i < 2; i++) {
        buffer_drop(&request->connection->shard->buffers, request->payload[i]);
        request->payload[i] = NULL;
    }
}

void request_release(struct request *request)
{
    if (--request->holds > 0) {
        return;
    }
    struct connection *connection = request->connection;
    struct request *whole = request->whole;
    leave_file(request);
    drop_payload(request);
    buffer_drop(&connection->shard->buffers, request->memory);
    if (whole != request) {
        request_release(whole);
    }
    connection->live--;
    shard_mark_ready(connection->shard, connection);
}

void request_cut(struct request *piece, uint32_t length)
{
    struct request *whole = piece->whole;
    whole->issued -= piece->length - length;
    whole->unissued += piece->length - length;
    piece->length = length;
}

/* Of the whole: everything is done. */
static void answer(struct request *whole)
{
    leave_file(whole);
    drop_payload(whole);
    reply_make(whole, whole->connection->negotiated.structured);
    sending_add(whole->connection, whole);
}

/* Another's sync that has failed may have been about what this one was to make safe, too. */
static void on_synced(struct sync_wait *wait, int result)
{
    struct request *whole = WEIR_CONTAINER(wait, struct request, sync);
    struct export *export = whole->file->export;
    uint32_t failures = atomic_load(&export->failures);
    if (result == 0 && failures != whole->failures) {
        result = atomic_load(&export->sync_error);
    }
    if (whole->type == NBD_CMD_FLUSH) { /* this connection has been told */
        whole->connection->failures = failures;
        if (!whole->connection->is_broken) {
            atomic_store(&export->told, failures);
        }
    }
    if (whole->error == 0) {
        whole->error = result;
    }
    answer(whole);
}

/* No reply that promises a sync leaves before the sync that covers it is back: it is asked for when
 * everything has been written, and not before. */
static void sync_and_answer(struct request *whole)
{
    whole->sync.callback = on_synced;
    file_sync(whole->file, &whole->sync);
}

static bool is_complete(const struct request *whole)
{
    return whole->open == 0 && whole->unissued == 0;
}

/* A part of a READ goes out as soon as it is there. */
static void read_is_back(struct request *request)
{
    struct connection *connection = request->connection;
    struct request *whole = request->whole;
    if (whole->is_stream && request == whole && whole->error < 0) {
        whole->unissued = 0; /* the error is all of the reply */
    } else if (whole->is_stream && whole->error < 0) {
        connection_break(connection, "a read failed when half of its reply was sent");
    }
    reply_make_read(request, connection->negotiated.structured, is_complete(whole));
    leave_file(request);
    sending_add(connection, request);
}

static bool changes(uint32_t type)
{
    return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

/* A change goes to another thread, which the client is left alone for if it is a small one. */
static void goes_elsewhere(struct request *request, bool is_small)
{
    struct connection *connection = request->connection;
    request->is_elsewhere = true;
    request->is_paced = is_small;
    request->file->changes++;
    connection->changes += request->type == NBD_CMD_WRITE;
    if (is_small && pace_write_begins(&connection->pace, weir_now(connection->shard->loop))) {
        shard_look_at(connection->shard, connection->pace.until_ns);
    }
}

static void is_back_from_there(struct request *request)
{
    struct connection *connection = request->connection;
    request->is_elsewhere = false;
    request->file->changes--;
    connection->changes -= request->type == NBD_CMD_WRITE;
    if (request->is_paced &&
        pace_write_ends(&connection->pace, weir_now(connection->shard->loop))) {
        shard_mark_ready(connection->shard, connection);
    }
}

/* A piece is back, or will never leave. */
static void piece_is_back(struct request *request, int error)
{
    struct request *whole = request->whole;
    if (request->is_elsewhere) {
        is_back_from_there(request);
    }
    if (request->pipe) {
        pipe_give_back(request->pipe);
        request->pipe = NULL;
    }
    if (error < 0 && whole->error == 0) {
        whole->error = error;
    }
    whole->open--;
    if (whole->type == NBD_CMD_READ) {
        request->error = error;
        read_is_back(request);
        return;
    }
    bool is_over = is_complete(whole);
    bool syncs =
        is_over && whole->error == 0 && changes(whole->type) && whole->flags & NBD_CMD_FLAG_FUA;
    if (syncs) { /* what the piece has written to, and no other file */
        use_file(whole);
    }
    if (request != whole) {
        drop_payload(request);
        request_release(request); /* the whole holds itself */
    } else if (!syncs) {
        leave_file(whole);
    }
    if (syncs) {
        sync_and_answer(whole);
    } else if (is_over) {
        answer(whole);
    }
}

/* --- through the gate ------------------------------------------------------------------------- */

static void on_room(struct weir_room *room, int result);

static void submit(struct request *request)
{
    struct connection *connection = request->connection;
    struct weir_loop *loop = connection->shard->loop;
    int result = weir_submit(loop, &request->op);
    if (result == -EAGAIN) { /* full: this connection takes nothing more until there is room */
        connection->room.callback = on_room;
        connection->intake.blocked = request;
        result = weir_wait_room(loop, &connection->room, &request->op);
    }
    if (result < 0) {
        connection->intake.blocked = NULL;
        piece_is_back(request, result);
    }
}

/* One request for each call, so that connections that wait take turns. */
static void on_room(struct weir_room *room, int result)
{
    struct connection *connection = WEIR_CONTAINER(room, struct connection, room);
    struct request *request = connection->intake.blocked;
    connection->intake.blocked = NULL;
    if (result < 0) {
        piece_is_back(request, result);
    } else {
        submit(request);
    }
    shard_mark_ready(connection->shard, connection);
}

static void on_zeroed(struct weir_op *op);

/* Where the file system cannot make zeroes of itself. What a callback submits takes the place of
 * the op that came back. */
static void write_zeroes(struct request *request)
{
    static const unsigned char zeroes[256 << 10] __attribute__((aligned(4096)));
    uint32_t left = request->length - request->done;
    uint32_t part = left < sizeof zeroes ? left : (uint32_t)sizeof zeroes;
    weir_op_write(&request->op, request->file->opened.fd, zeroes, part,
                  request->offset + request->done);
    request->op.flags = WEIR_WHOLE;
    request->op.callback = on_zeroed;
    int result = weir_submit(request->connection->shard->loop, &request->op);
    if (result < 0) {
        piece_is_back(request, result);
    }
}

static void on_zeroed(struct weir_op *op)
{
    struct request *request = WEIR_CONTAINER(op, struct request, op);
    request->done += op->result > 0 ? (uint32_t)op->result : 0;
    if (op->result > 0 && request->done < request->length) {
        write_zeroes(request);
    } else {
        piece_is_back(request, op->result > 0 ? 0 : op->result < 0 ? (int)op->result : -EIO);
    }
}

static void on_back(struct weir_op *op)
{
    struct request *request = WEIR_CONTAINER(op, struct request, op);
    int64_t result = op->result;
    struct connection *connection = request->connection;
    connection->pace.is_slow |= connection->shard->turns - request->turn > 1;
    if (request->pipe) {
        request->pipe->left -= result >= 0 ? (uint64_t)result : op->moved;
    }
    switch (request->type) {
    case NBD_CMD_READ: /* short: somebody has made the file shorter than it was */
    case NBD_CMD_WRITE:
        result = result >= 0 && result < request->length ? -EIO : result;
        break;
    case NBD_CMD_TRIM: /* a wish */
        result = result == -EOPNOTSUPP ? 0 : result;
        break;
    case NBD_CMD_WRITE_ZEROES:
        if (result == -EOPNOTSUPP && !(request->flags & NBD_CMD_FLAG_FAST_ZERO)) {
            write_zeroes(request);
            return;
        }
        break;
    case NBD_CMD_BLOCK_STATUS:
        request->done = result > 0 ? (uint32_t)result : 0;
        break;
    default:
        break;
    }
    piece_is_back(request, result < 0 ? (int)result : 0);
}

/* --- each command ----------------------------------------------------------------------------- */

static void fill_write(struct request *request, int fd)
{
    if (request->pipe) {
        weir_op_splice(&request->op, request->pipe->fds[0], WEIR_CURRENT, fd, request->offset,
                       request->length, 0);
    } else if (request->data) {
        weir_op_write(&request->op, fd, request->data, request->length, request->offset);
    } else if (request->iov_count == 1) {
        weir_op_write(&request->op, fd, request->iov[0].iov_base, request->length, request->offset);
    } else {
        weir_op_writev(&request->op, fd, request->iov, request->iov_count, request->offset);
    }
}

/* Which way is the quickest. What is little is copied on the spot, if that needs no device: from
 * the page cache, or to a file that is memory, as what is spliced into one; writes to others cannot
 * be tried, and are made there only if somebody answers for it. And none that would overtake
 * another client's, or wait for the lock that it holds: a client that comes back may not lose what
 * it writes to what was under way when it left. Of much, one piece is moved by the ring or its
 * workers while the next is received, or sent, if there is a next. */
static void choose_way(struct request *request)
{
    const struct file *file = request->file;
    bool is_read = request->type == NBD_CMD_READ, is_memory = file->opened.is_memory;
    uint32_t bytes = request->whole->issued + request->whole->unissued;
    uint32_t little = !is_read && is_memory ? SPLICED_MIN - 1 : ON_THE_SPOT_MAX;
    bool is_little = bytes <= little || request->whole->is_spliced;
    bool is_trusted = is_memory || (!is_read && file->export->inline_writes);
    bool is_quick =
        is_little && (is_read || (is_trusted && !connection_has_rivals(request->connection)));
    request->op.flags = WEIR_WHOLE | (is_quick && is_trusted ? WEIR_IN_MEMORY : 0);
    request->op.route = is_quick ? WEIR_ROUTE_INLINE : WEIR_ROUTE_AUTO;
    if (!is_read && !is_quick) {
        goes_elsewhere(request, is_little && !is_trusted && !file->export->direct);
    }
}

void request_start(struct request *request)
{
    const struct opened *opened = &request->connection->file->opened;
    if (request->offset > opened->size || request->length > opened->size - request->offset) {
        piece_is_back(request, -EIO); /* the file has been changed for a shorter one */
        return;
    }
    use_file(request);
    request->turn = request->connection->shard->turns;
    int fd = opened->fd;
    request->op.flags = 0;
    switch (request->type) {
    case NBD_CMD_READ:
        weir_op_read(&request->op, fd, request->data, request->length, request->offset);
        choose_way(request);
        break;
    case NBD_CMD_WRITE:
        fill_write(request, fd);
        choose_way(request);
        break;
    case NBD_CMD_TRIM:
        goes_elsewhere(request, false);
        weir_op_fallocate(&request->op, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          request->offset, request->length);
        break;
    case NBD_CMD_WRITE_ZEROES:
        goes_elsewhere(request, false);
        weir_op_fallocate(
            &request->op, fd,
            (request->flags & NBD_CMD_FLAG_NO_HOLE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) |
                FALLOC_FL_KEEP_SIZE,
            request->offset, request->length);
        break;
    case NBD_CMD_CACHE:
        weir_op_fadvise(&request->op, fd, request->offset, request->length, POSIX_FADV_WILLNEED);
        break;
    default: /* NBD_CMD_BLOCK_STATUS */
        weir_op_call(&request->op, extents_find, request);
        break;
    }
    request->op.callback = on_back;
    request->op.task = request->connection->shard->tasks[request->type];
    if (request->op.route == WEIR_ROUTE_INLINE) {
        /* Back in the next turn; until then nothing is received: the RECV goes behind the reply. */
        shard_mark_ready(request->connection->shard, request->connection);
    }
    submit(request);
}

void request_flush(struct request *request)
{
    request->open = 0;
    request->failures = request->connection->failures;
    use_file(request);
    sync_and_answer(request);
}

void request_refuse(struct request *request, int error)
{
    request->open = 0;
    request->error = error;
    answer(request);
}

void request_fail(struct request *request, int error)
{
    piece_is_back(request, error);
}
