/* SPDX-License-Identifier: MIT */
/* intake.c: requests out of a connection's bytes: taken apart, checked, begun. */
#include "connection.h"
#include "extents.h"

#include <errno.h>

/* What is taken of one connection before what was taken is carried out: little at first, so that
 * its client is busy with a reply while the next are made, or both would sleep and be woken in
 * turns; twice as much each time, so that a message has many replies where many are wanted; and
 * never much where others have something to do as well. */
#define STEPS_FIRST 2
#define STEPS_MAX 32
#define STEPS_SHARED_MAX 4
#define BYTES_MAX (128u << 10) /* of READs */

static uint32_t piece_of(uint32_t bytes)
{
    return bytes < BUFFER_PIECE ? bytes : BUFFER_PIECE;
}

/* The next piece of a READ or WRITE that has more than one. NULL: not now. */
static struct request *next_piece(struct connection *connection, struct request *whole)
{
    uint32_t length = piece_of(whole->unissued);
    struct request *request = request_new(connection, whole->type, whole->data ? length : 0);
    if (request) {
        request->whole = whole;
        request->cookie = whole->cookie;
        request->offset = whole->offset + whole->issued;
        request->length = length;
        whole->holds++;
        whole->open++;
        whole->issued += length;
        whole->unissued -= length;
    }
    return request;
}

/* --- READ: pieces are made -------------------------------------------------------------------- */

/* The next piece. False: not now. */
static bool split(struct connection *connection)
{
    struct request *whole = connection->intake.splitting;
    if (whole->is_stream && whole->open > 0) {
        return false;
    }
    if (whole->unissued == 0) {
        connection->intake.splitting = NULL;
        request_release(whole);
        return true;
    }
    struct request *request = next_piece(connection, whole);
    if (!request) {
        return false;
    }
    connection->intake.bytes += request->length;
    request_start(request);
    return true;
}

/* --- WRITE: pieces are filled ----------------------------------------------------------------- */

/* Payload stays where it was received; its buffer is held until it is written. A piece spans two
 * buffers at most: while one is filled the next is taken only when there is no room (connection.c),
 * and holds more than a piece. */
static void add_payload(struct request *request, struct buffer *in, const unsigned char *bytes,
                        uint32_t length)
{
    uint32_t last = request->iov_count - 1;
    if (request->data) { /* O_DIRECT wants it aligned */
        memcpy(request->data + request->done, bytes, length);
    } else if (request->iov_count > 0 && request->payload[last] == in) {
        request->iov[last].iov_len += length; /* nothing else was received in between */
    } else {
        request->iov[++last] = (struct iovec){.iov_base = (void *)bytes, .iov_len = length};
        request->payload[last] = buffer_hold(in);
        request->iov_count++;
    }
    request->done += length;
}

struct request *intake_piece(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    if (!intake->filling) {
        intake->filling = next_piece(connection, intake->writing);
    }
    return intake->filling;
}

/* More bytes, that were received or are in a pipe. False: not now. */
static bool fill(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    struct request *whole = intake->writing, *request = intake_piece(connection);
    uint32_t there = connection_pending(connection);
    if (!request || (there == 0 && !request->pipe)) {
        return false;
    }
    uint32_t wanted = request->length - request->done;
    uint32_t taken = there < wanted ? there : wanted;
    if (taken > 0) {
        add_payload(request, connection->in, connection_bytes(connection), taken);
        connection->in_start += taken;
    }
    if (whole->is_spliced) { /* what comes next need not be received */
        request_cut(request, request->done);
    }
    if (request->done == request->length) {
        intake->filling = NULL;
        intake->writing = whole->unissued > 0 ? whole : NULL;
        request_start(request);
    }
    return true;
}

static bool discard(struct connection *connection)
{
    uint32_t there = connection_pending(connection);
    uint32_t taken = there < connection->intake.discard ? there : connection->intake.discard;
    connection->in_start += taken;
    connection->intake.discard -= taken;
    return taken > 0;
}

/* --- headers ---------------------------------------------------------------------------------- */

struct header {
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
};

static struct header header_of(const unsigned char *bytes) /* after the magic */
{
    return (struct header){
        .flags = nbd_get16(bytes + 4),
        .type = nbd_get16(bytes + 6),
        .cookie = nbd_get64(bytes + 8),
        .offset = nbd_get64(bytes + 16),
        .length = nbd_get32(bytes + 24),
    };
}

static int check_range(const struct header *header, const struct opened *opened)
{
    bool grows = header->type == NBD_CMD_WRITE || header->type == NBD_CMD_WRITE_ZEROES;
    if (header->length == 0) {
        return -EINVAL; /* the protocol leaves it open */
    }
    if (header->offset > opened->size || header->length > opened->size - header->offset) {
        return grows ? -ENOSPC : -EINVAL;
    }
    if ((header->offset | header->length) % opened->block_min != 0) {
        return -EINVAL;
    }
    return 0;
}

/* 0, or the error that the request is refused with. */
static int check(const struct connection *connection, const struct header *header)
{
    static const struct {
        uint16_t flags;
        bool changes;
    } commands[NBD_CMD_COUNT] = {
        [NBD_CMD_READ] = {NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF, false},
        [NBD_CMD_WRITE] = {NBD_CMD_FLAG_FUA, true},
        [NBD_CMD_FLUSH] = {NBD_CMD_FLAG_FUA, false},
        [NBD_CMD_TRIM] = {NBD_CMD_FLAG_FUA, true},
        [NBD_CMD_CACHE] = {NBD_CMD_FLAG_FUA, false},
        [NBD_CMD_WRITE_ZEROES] = {NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                                  true},
        [NBD_CMD_BLOCK_STATUS] = {NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE, false},
    };
    const struct negotiated *negotiated = &connection->negotiated;
    if (header->type >= NBD_CMD_COUNT || header->flags & ~commands[header->type].flags) {
        return -EINVAL;
    }
    if (commands[header->type].changes && connection->file->export->read_only) {
        return -EPERM;
    }
    if (header->type == NBD_CMD_FLUSH) { /* these are reserved */
        return header->offset == 0 && header->length == 0 ? 0 : -EINVAL;
    }
    if (header->type == NBD_CMD_BLOCK_STATUS && negotiated->allocation != connection->file) {
        return -EINVAL;
    }
    if (header->flags & NBD_CMD_FLAG_DF && !negotiated->structured) {
        return -EINVAL;
    }
    if (header->type == NBD_CMD_READ && header->length > NBD_PAYLOAD_MAX) {
        return -EINVAL;
    }
    if (header->flags & NBD_CMD_FLAG_DF && header->length > BUFFER_PIECE) {
        return -EOVERFLOW; /* it cannot be one chunk; the protocol demands that of 64 KiB */
    }
    return check_range(header, &connection->file->opened);
}

/* Whether its pieces have to follow each other as one: the data of a simple reply. */
static bool is_read_as_stream(const struct connection *connection, const struct header *header)
{
    return header->type == NBD_CMD_READ && header->length > BUFFER_PIECE &&
           !connection->negotiated.structured;
}

/* What a request needs of memory for itself. */
static uint32_t data_of(const struct connection *connection, const struct header *header)
{
    switch (header->type) {
    case NBD_CMD_READ:
        return piece_of(header->length);
    case NBD_CMD_WRITE:
        return connection->file->opened.block_min > 1 ? piece_of(header->length) : 0;
    case NBD_CMD_BLOCK_STATUS:
        return EXTENTS_MAX * sizeof(struct extent);
    default:
        return 0;
    }
}

static void begin(struct connection *connection, struct request *request,
                  const struct header *header)
{
    struct intake *intake = &connection->intake;
    bool is_split = header->type == NBD_CMD_READ || header->type == NBD_CMD_WRITE;
    request->flags = header->flags;
    request->cookie = header->cookie;
    request->offset = header->offset;
    request->length = is_split ? piece_of(header->length) : header->length;
    request->issued = request->length;
    request->unissued = header->length - request->length;
    intake->is_bulk = request->is_spliced =
        header->type == NBD_CMD_WRITE && splicing_suits(connection, header->length);
    if (header->type == NBD_CMD_WRITE) {
        intake->writing = intake->filling = request;
    } else if (header->type == NBD_CMD_FLUSH) {
        request->unissued = 0;
        request_flush(request);
    } else {
        intake->bytes += header->type == NBD_CMD_READ ? request->length : 0;
        if (request->unissued > 0) {
            request->holds++;
            intake->splitting = request;
        }
        request_start(request);
    }
}

/* The next request. False: not now. */
static bool take_header(struct connection *connection)
{
    if (connection_pending(connection) < NBD_REQUEST_BYTES || connection->ends ||
        connection->live >= CONNECTION_REQUESTS_MAX) {
        return false;
    }
    const unsigned char *bytes = connection_bytes(connection);
    struct header header = header_of(bytes);
    if (nbd_get32(bytes) != NBD_REQUEST_MAGIC) {
        connection_break(connection, "a request without its magic");
        return false;
    }
    if (header.type == NBD_CMD_WRITE && header.length > NBD_PAYLOAD_MAX) {
        connection_break(connection, "a WRITE of more than 32 MiB");
        return false;
    }
    if (header.type == NBD_CMD_DISC) {
        connection_end(connection);
        return false;
    }
    int error = check(connection, &header);
    bool is_stream = error == 0 && is_read_as_stream(connection, &header);
    if (is_stream && connection->live > 0) {
        return false; /* no other reply may come between its pieces */
    }
    struct request *request =
        request_new(connection, header.type, error < 0 ? 0 : data_of(connection, &header));
    if (!request) {
        return false;
    }
    connection->in_start += NBD_REQUEST_BYTES;
    if (error < 0) {
        request->cookie = header.cookie;
        connection->intake.discard = header.type == NBD_CMD_WRITE ? header.length : 0;
        request_refuse(request, error);
    } else {
        request->is_stream = is_stream;
        begin(connection, request, &header);
    }
    return true;
}

/* --- all of it -------------------------------------------------------------------------------- */

bool intake_waits(const struct connection *connection)
{
    const struct intake *intake = &connection->intake;
    return connection->file->is_changing || intake->blocked || intake->splitting ||
           connection->is_starved || connection_pending(connection) >= NBD_REQUEST_BYTES ||
           pace_is_writing(&connection->pace);
}

/* False: not now. */
static bool take_step(struct connection *connection)
{
    const struct intake *intake = &connection->intake;
    if (connection->phase != CONNECTION_TRANSMISSION || intake->blocked ||
        connection->file->is_changing) {
        return false;
    }
    return intake->splitting     ? split(connection)
           : intake->writing     ? fill(connection)
           : intake->discard > 0 ? discard(connection)
                                 : take_header(connection);
}

void intake_take(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    uint32_t steps_max = connection->shard->is_shared ? STEPS_SHARED_MAX : STEPS_MAX;
    uint32_t steps = STEPS_FIRST << intake->rounds;
    steps = steps < steps_max ? steps : steps_max;
    bool has_more = true;
    for (intake->bytes = 0; has_more && steps > 0 && intake->bytes < BYTES_MAX; steps--) {
        has_more = take_step(connection);
    }
    if (has_more && (intake->splitting || connection_pending(connection) > 0)) {
        intake->rounds += STEPS_FIRST << intake->rounds < STEPS_MAX;
        shard_mark_ready(connection->shard, connection);
    } else {
        intake->rounds = 0;
    }
}

bool intake_is_between(const struct connection *connection)
{
    const struct intake *intake = &connection->intake;
    return !intake->splitting && !intake->writing && intake->discard == 0;
}

/* A WRITE whose bytes will not come. */
static void cut_off(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    struct request *whole = intake->writing, *piece = intake->filling;
    intake->writing = intake->filling = NULL;
    if (whole) {
        whole->unissued = 0;
        if (piece) {
            request_fail(piece, -EIO);
        } else if (whole->open > 0) { /* between two pieces: the last that comes back answers */
            whole->error = whole->error ? whole->error : -EIO;
        } else { /* one that never was is not back */
            whole->open++;
            request_fail(whole, -EIO);
        }
    }
}

void intake_break(struct connection *connection)
{
    struct intake *intake = &connection->intake;
    struct request *blocked = intake->blocked, *whole = intake->splitting;
    cut_off(connection);
    intake->blocked = intake->splitting = NULL;
    if (blocked) {
        weir_withdraw_room(connection->shard->loop, &connection->room);
        request_fail(blocked, -ECANCELED);
    }
    if (whole) {
        whole->unissued = 0;
        request_release(whole);
    }
}
