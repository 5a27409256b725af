/* SPDX-License-Identifier: MIT */
/*
 * nbd.h: the numbers of the Network Block Device protocol, and its byte order (big-endian). Names
 * and values are those of doc/proto.md of the NetworkBlockDevice/nbd project.
 */
#ifndef NBD_H
#define NBD_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* --- handshake -------------------------------------------------------------------------------- */

#define NBD_MAGIC 0x4e42444d41474943ULL        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x3e889045565a9ULL

enum nbd_handshake_flags { /* the server's, and the client's in answer */
                           NBD_FIXED_NEWSTYLE = 1 << 0,
                           NBD_NO_ZEROES = 1 << 1,
};

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

enum nbd_option_reply {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERR_POLICY 0x80000002u
#define NBD_REP_ERR_INVALID 0x80000003u
#define NBD_REP_ERR_TLS_REQD 0x80000005u
#define NBD_REP_ERR_UNKNOWN 0x80000006u
#define NBD_REP_ERR_SHUTDOWN 0x80000007u
#define NBD_REP_ERR_BLOCK_SIZE_REQD 0x80000008u

enum nbd_info {
    NBD_INFO_EXPORT,
    NBD_INFO_NAME,
    NBD_INFO_DESCRIPTION,
    NBD_INFO_BLOCK_SIZE,
};

#define NBD_STRING_MAX 4096u /* names and other strings, bytes */

/* --- transmission ----------------------------------------------------------------------------- */

enum nbd_transmission_flags {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu

enum nbd_command {
    NBD_CMD_READ,
    NBD_CMD_WRITE,
    NBD_CMD_DISC,
    NBD_CMD_FLUSH,
    NBD_CMD_TRIM,
    NBD_CMD_CACHE,
    NBD_CMD_WRITE_ZEROES,
    NBD_CMD_BLOCK_STATUS,
    NBD_CMD_COUNT
};

enum nbd_command_flags {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

#define NBD_REPLY_FLAG_DONE 1u
enum nbd_chunk {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_OFFSET_DATA = 1,
    NBD_CHUNK_BLOCK_STATUS = 5,
    NBD_CHUNK_ERROR = 0x8001,
    NBD_CHUNK_ERROR_OFFSET = 0x8002,
};

/* The one context there is, "base:allocation", by the number that this server gives it. */
#define NBD_CONTEXT_ALLOCATION 1u
enum nbd_extent_flags { /* of it */
                        NBD_STATE_HOLE = 1 << 0,
                        NBD_STATE_ZERO = 1 << 1,
};

#define NBD_PAYLOAD_MAX (32u << 20)    /* bytes of one READ or WRITE */
#define NBD_REQUEST_BYTES 28u          /* magic, flags, type, cookie, offset, length */
#define NBD_SIMPLE_REPLY_BYTES 16u     /* magic, error, cookie */
#define NBD_STRUCTURED_REPLY_BYTES 20u /* magic, flags, type, cookie, length */

/* The protocol's errors are Linux's numbers; what has none is EIO. */
enum nbd_error {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* --- bytes ------------------------------------------------------------------------------------ */

static inline uint16_t nbd_get16(const unsigned char *bytes)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return be16toh(value);
}

static inline uint32_t nbd_get32(const unsigned char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return be32toh(value);
}

static inline uint64_t nbd_get64(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return be64toh(value);
}

/* Each answers where the next goes. */
static inline unsigned char *nbd_put16(unsigned char *bytes, uint16_t value)
{
    value = htobe16(value);
    return (unsigned char *)memcpy(bytes, &value, sizeof value) + sizeof value;
}

static inline unsigned char *nbd_put32(unsigned char *bytes, uint32_t value)
{
    value = htobe32(value);
    return (unsigned char *)memcpy(bytes, &value, sizeof value) + sizeof value;
}

static inline unsigned char *nbd_put64(unsigned char *bytes, uint64_t value)
{
    value = htobe64(value);
    return (unsigned char *)memcpy(bytes, &value, sizeof value) + sizeof value;
}

#endif
