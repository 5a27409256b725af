/* SPDX-License-Identifier: MIT */
#include "reply.h"
#include "extents.h"

#include <errno.h>

static uint32_t error_of(int error)
{
    switch (error) {
    case -EPERM:
    case -EACCES:
    case -EROFS:
        return NBD_EPERM;
    case -EINVAL:
        return NBD_EINVAL;
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return NBD_ENOSPC;
    case -EOVERFLOW:
        return NBD_EOVERFLOW;
    case -EOPNOTSUPP:
        return NBD_ENOTSUP;
    case -ESHUTDOWN:
    case -ECANCELED:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

static void set_bytes(struct request *request, unsigned char *from, const unsigned char *to)
{
    request->iov[0] = (struct iovec){.iov_base = from, .iov_len = (size_t)(to - from)};
    request->iov_count = 1;
}

static unsigned char *put_simple(unsigned char *to, const struct request *request, int error)
{
    to = nbd_put32(to, NBD_SIMPLE_REPLY_MAGIC);
    to = nbd_put32(to, error < 0 ? error_of(error) : 0);
    return nbd_put64(to, request->cookie);
}

static unsigned char *put_chunk(unsigned char *to, const struct request *request, unsigned type,
                                bool is_last, uint32_t length)
{
    to = nbd_put32(to, NBD_STRUCTURED_REPLY_MAGIC);
    to = nbd_put16(to, is_last ? NBD_REPLY_FLAG_DONE : 0);
    to = nbd_put16(to, (uint16_t)type);
    to = nbd_put64(to, request->cookie);
    return nbd_put32(to, length);
}

/* Of a reply that may have several, each says where. */
static void make_error(struct request *request, bool is_structured, bool is_last)
{
    const char *text = strerrordesc_np(-request->error); /* any thread, no memory */
    size_t length = text ? strlen(text) : 0, length_max = sizeof request->header - 34;
    const struct request *whole = request->whole;
    bool is_part = request->type == NBD_CMD_READ && whole->issued + whole->unissued > whole->length;
    unsigned char *to = request->header;
    length = length > length_max ? length_max : length;
    if (!is_structured) {
        to = put_simple(to, request, request->error);
    } else {
        to = put_chunk(to, request, is_part ? NBD_CHUNK_ERROR_OFFSET : NBD_CHUNK_ERROR, is_last,
                       (uint32_t)((is_part ? 14 : 6) + length));
        to = nbd_put32(to, error_of(request->error));
        to = nbd_put16(to, (uint16_t)length);
        to = (unsigned char *)memcpy(to, text ? text : "", length) + length;
        to = is_part ? nbd_put64(to, request->offset) : to;
    }
    set_bytes(request, request->header, to);
}

void reply_make_read(struct request *piece, bool is_structured, bool is_last)
{
    unsigned char *data = piece->data, *from = data;
    if (piece->error < 0) {
        make_error(piece, is_structured, is_last);
        return;
    }
    if (is_structured) {
        from = data - NBD_STRUCTURED_REPLY_BYTES - sizeof piece->offset;
        unsigned char *to = put_chunk(from, piece, NBD_CHUNK_OFFSET_DATA, is_last,
                                      (uint32_t)sizeof piece->offset + piece->length);
        nbd_put64(to, piece->offset);
    } else if (piece == piece->whole) { /* further pieces are data alone */
        from = data - NBD_SIMPLE_REPLY_BYTES;
        put_simple(from, piece, 0);
    }
    set_bytes(piece, from, data + piece->length);
}

static void make_status(struct request *request)
{
    const struct extent *extents = (const struct extent *)request->data;
    uint32_t count = request->done;
    unsigned char *from = request->data - NBD_STRUCTURED_REPLY_BYTES - sizeof(uint32_t);
    unsigned char *to = put_chunk(from, request, NBD_CHUNK_BLOCK_STATUS, true, 4 + 8 * count);
    to = nbd_put32(to, NBD_CONTEXT_ALLOCATION);
    for (uint32_t i = 0; i < count; i++) {
        struct extent extent = extents[i]; /* its bytes are where it goes */
        to = nbd_put32(to, extent.length);
        to = nbd_put32(to, extent.flags);
    }
    set_bytes(request, from, to);
}

void reply_make(struct request *whole, bool is_structured)
{
    if (whole->error < 0) {
        make_error(whole, is_structured, true);
    } else if (whole->type == NBD_CMD_BLOCK_STATUS) {
        make_status(whole);
    } else { /* of a command without data a simple reply is always right */
        set_bytes(whole, whole->header, put_simple(whole->header, whole, 0));
    }
}
