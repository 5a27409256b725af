/* SPDX-License-Identifier: MIT */
#include "judge.h"
#include "fuzz.h"
#include "nbd.h"

#include <inttypes.h>
#include <string.h>

enum { SENT_MAX = 4 << 20, RECEIVED_MAX = 1 << 20, REQUESTS_MAX = 2048 };

struct asked {
    uint64_t cookie, offset, end; /* end: of all of its bytes, in what was sent */
    uint32_t length, got;
    uint16_t type, flags;
    bool has_failed, is_done;
};

static uint8_t sent[SENT_MAX], received[RECEIVED_MAX];
static struct {
    uint32_t sent, received; /* bytes */
    uint32_t options;        /* that have had their last answer */
    uint32_t next;           /* where the next request begins, in what was sent */
    uint32_t count;          /* requests */
    bool is_greeted;         /* the hello has come */
    bool is_transmitting;    /* the handshake is over */
    bool is_structured;      /* replies */
    bool has_allocation;     /* base:allocation was set */
    bool is_over;            /* nothing that is sent from here on is a request */
    bool is_dropped;         /* the server hangs up for it */
    bool is_lost;            /* two requests with one cookie: no telling them apart */
} judge;
static struct asked asked[REQUESTS_MAX];

void judge_begin(void)
{
    memset(&judge, 0, sizeof judge);
}

/* --- what was sent ---------------------------------------------------------------------------- */

/* Where option number `index` begins; 0: it is not all there. */
static uint32_t find_option(uint32_t index)
{
    uint64_t at = 4; /* behind the flags */
    for (uint32_t i = 0; at + 16 <= judge.sent; i++) {
        uint64_t end = at + 16 + nbd_get32(sent + at + 12);
        if (i == index) {
            return end <= judge.sent ? (uint32_t)at : 0;
        }
        at = end;
    }
    return 0;
}

static void add_request(const uint8_t *bytes)
{
    struct asked *request = &asked[judge.count++];
    *request = (struct asked){
        .flags = nbd_get16(bytes + 4),
        .type = nbd_get16(bytes + 6),
        .cookie = nbd_get64(bytes + 8),
        .offset = nbd_get64(bytes + 16),
        .length = nbd_get32(bytes + 24),
    };
    uint32_t payload = request->type == NBD_CMD_WRITE ? request->length : 0;
    request->end = (uint64_t)judge.next + NBD_REQUEST_BYTES + payload;
    if (request->type == NBD_CMD_DISC || payload > NBD_PAYLOAD_MAX) {
        judge.is_over = true;
        judge.is_dropped = payload > 0;
        judge.count--;
        judge.next += NBD_REQUEST_BYTES;
    }
}

static void find_requests(void)
{
    while (judge.is_transmitting && !judge.is_over &&
           (uint64_t)judge.next + NBD_REQUEST_BYTES <= judge.sent) {
        const uint8_t *bytes = sent + judge.next;
        if (nbd_get32(bytes) != NBD_REQUEST_MAGIC) {
            judge.is_over = judge.is_dropped = true;
            return;
        }
        if (judge.count == REQUESTS_MAX) {
            fuzz_fail("more requests than an input can hold");
        }
        add_request(bytes);
        if (!judge.is_over) {
            uint64_t end = asked[judge.count - 1].end;
            judge.next = end < UINT32_MAX ? (uint32_t)end : UINT32_MAX;
        }
    }
}

void judge_sent(const uint8_t *bytes, uint32_t length)
{
    if (length > SENT_MAX - judge.sent) {
        fuzz_fail("more bytes than an input can send");
    }
    memcpy(sent + judge.sent, bytes, length);
    judge.sent += length;
    find_requests();
}

/* The one that an answer is to; NULL: there is no telling. */
static struct asked *find_asked(uint64_t cookie)
{
    struct asked *found = NULL;
    for (uint32_t i = 0; i < judge.count; i++) {
        if (asked[i].cookie == cookie && !asked[i].is_done) {
            judge.is_lost |= found != NULL;
            found = found ? found : &asked[i];
        }
    }
    if (!found) {
        fuzz_fail("an answer with the cookie %#" PRIx64 ", which nobody waits for", cookie);
    }
    return judge.is_lost ? NULL : found;
}

/* --- answers of the handshake ----------------------------------------------------------------- */

static void begin_requests(uint32_t option)
{
    judge.is_transmitting = true;
    judge.next = option + 16 + nbd_get32(sent + option + 12);
    find_requests();
}

/* Each takes what is at the beginning of `bytes`: its length, or 0: not all of it is there. */
static uint32_t take_hello(const uint8_t *bytes, uint32_t there)
{
    if (there < 18) {
        return 0;
    }
    if (nbd_get64(bytes) != NBD_MAGIC || nbd_get64(bytes + 8) != NBD_OPTION_MAGIC) {
        fuzz_fail("the hello is none");
    }
    judge.is_greeted = true;
    return 18;
}

static uint32_t take_export(uint32_t option, uint32_t there, const struct judge_export *export,
                            const uint8_t *bytes)
{
    uint32_t length = nbd_get32(sent) & NBD_NO_ZEROES ? 10 : 134;
    if (there < length) {
        return 0;
    }
    if (!export || nbd_get64(bytes) != export->size) {
        fuzz_fail("EXPORT_NAME is answered with another size");
    }
    begin_requests(option);
    return length;
}

static bool is_known_answer(uint32_t type)
{
    return (type >= NBD_REP_ACK && type <= NBD_REP_META_CONTEXT) ||
           (type >= NBD_REP_ERR_UNSUP && type <= NBD_REP_ERR_BLOCK_SIZE_REQD);
}

static void end_option(uint32_t option, uint32_t number, bool is_good)
{
    judge.options++;
    switch (is_good ? number : 0) {
    case NBD_OPT_GO:
        begin_requests(option);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        judge.is_structured = true;
        break;
    default:
        break;
    }
}

static uint32_t take_answer(const uint8_t *bytes, uint32_t there, const struct judge_export *export)
{
    uint32_t option = find_option(judge.options);
    if (option == 0) {
        fuzz_fail("an answer to an option that was not sent");
    }
    uint32_t number = nbd_get32(sent + option + 8);
    if (number == NBD_OPT_EXPORT_NAME) {
        return take_export(option, there, export, bytes);
    }
    if (there < 20) {
        return 0;
    }
    uint32_t type = nbd_get32(bytes + 12), length = nbd_get32(bytes + 16);
    if (nbd_get64(bytes) != NBD_OPTION_REPLY_MAGIC || nbd_get32(bytes + 8) != number ||
        !is_known_answer(type) || length > 2 * NBD_STRING_MAX) {
        fuzz_fail("option %" PRIu32 " is answered with type %#" PRIx32 ", %" PRIu32 " bytes",
                  number, type, length);
    }
    if (there - 20 < length) {
        return 0;
    }
    fuzz_tell("option %" PRIu32 ": answer %#" PRIx32 ", %" PRIu32 " bytes", number, type, length);
    if (type == NBD_REP_META_CONTEXT && number == NBD_OPT_SET_META_CONTEXT) {
        judge.has_allocation = true;
    }
    if (type == NBD_REP_ACK || type >= NBD_REP_ERR_UNSUP) {
        end_option(option, number, type == NBD_REP_ACK);
    }
    return 20 + length;
}

/* --- answers to requests ---------------------------------------------------------------------- */

static bool is_out_of_range(const struct asked *request, const struct judge_export *export)
{
    return request->length == 0 || request->offset > export->size ||
           request->length > export->size - request->offset ||
           (request->offset | request->length) % export->block != 0;
}

/* What no server may do. */
static bool is_forbidden(const struct asked *request, const struct judge_export *export)
{
    switch (request->type) {
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        return export->read_only || is_out_of_range(request, export);
    case NBD_CMD_READ:
    case NBD_CMD_CACHE:
        return is_out_of_range(request, export);
    case NBD_CMD_BLOCK_STATUS:
        return is_out_of_range(request, export) || !judge.has_allocation;
    case NBD_CMD_FLUSH:
        return false;
    default:
        return true;
    }
}

static void end_request(struct asked *request, uint32_t error, const struct judge_export *export)
{
    fuzz_tell("request %#" PRIx64 ", type %u, %" PRIu32 " bytes at %" PRIu64 ": error %" PRIu32,
              request->cookie, request->type, request->length, request->offset, error);
    bool has_data = request->type == NBD_CMD_READ && error == 0;
    if (has_data && request->got != request->length) {
        fuzz_fail("a READ of %" PRIu32 " bytes is answered with %" PRIu32, request->length,
                  request->got);
    }
    if (error == 0 && is_forbidden(request, export)) {
        fuzz_fail("a request of type %u that is wrong is answered well", request->type);
    }
    if (error == 0 && request->end > judge.sent) {
        fuzz_fail("a WRITE is done before its bytes are sent");
    }
    request->is_done = true;
}

static bool is_known_error(uint32_t error)
{
    static const uint8_t known[] = {0,          NBD_EPERM,     NBD_EIO,     NBD_EINVAL,
                                    NBD_ENOSPC, NBD_EOVERFLOW, NBD_ENOTSUP, NBD_ESHUTDOWN};
    return error < 256 && memchr(known, (int)error, sizeof known);
}

static uint32_t take_simple(const uint8_t *bytes, uint32_t there, const struct judge_export *export)
{
    if (there < NBD_SIMPLE_REPLY_BYTES) {
        return 0;
    }
    uint32_t error = nbd_get32(bytes + 4);
    struct asked *request = find_asked(nbd_get64(bytes + 8));
    if (!is_known_error(error)) {
        fuzz_fail("there is no error %" PRIu32, error);
    }
    if (!request) {
        return 0;
    }
    uint32_t data = request->type == NBD_CMD_READ && error == 0 ? request->length : 0;
    if (judge.is_structured && data > 0) {
        fuzz_fail("a READ is answered in the simple way, and that was not agreed");
    }
    if (there - NBD_SIMPLE_REPLY_BYTES < data) {
        return 0;
    }
    request->got = data;
    end_request(request, error, export);
    return NBD_SIMPLE_REPLY_BYTES + data;
}

static void take_data(struct asked *request, const uint8_t *data, uint32_t length)
{
    uint64_t offset = length > 8 ? nbd_get64(data) : 0;
    if (length <= 8 || request->type != NBD_CMD_READ || offset < request->offset ||
        offset - request->offset + (length - 8) > request->length) {
        fuzz_fail("data that were not asked for");
    }
    if (request->flags & NBD_CMD_FLAG_DF && length - 8 != request->length) {
        fuzz_fail("data in pieces, and that was forbidden");
    }
    request->got += length - 8;
}

static void check_status(const struct asked *request, const uint8_t *data, uint32_t length)
{
    uint64_t sum = 0;
    for (uint32_t at = 4; at + 8 <= length; at += 8) {
        sum += nbd_get32(data + at);
        if (nbd_get32(data + at) == 0) {
            fuzz_fail("an extent of no bytes");
        }
    }
    if (length < 12 || length % 8 != 4 || request->type != NBD_CMD_BLOCK_STATUS ||
        sum > request->length || (request->flags & NBD_CMD_FLAG_REQ_ONE && length != 12)) {
        fuzz_fail("a block status that was not asked for");
    }
}

/* is_part: of a READ in pieces, and with the offset of the one that failed. */
static void check_error(struct asked *request, const uint8_t *data, uint32_t length, bool is_part)
{
    uint32_t others = is_part ? 14 : 6;
    uint32_t error = length < others ? 0 : nbd_get32(data);
    if (error == 0 || !is_known_error(error) || length != others + nbd_get16(data + 4)) {
        fuzz_fail("an error chunk of %" PRIu32 " bytes, error %" PRIu32, length, error);
    }
    uint64_t offset = is_part ? nbd_get64(data + length - 8) : request->offset;
    if ((is_part && request->type != NBD_CMD_READ) || offset < request->offset ||
        offset - request->offset >= (uint64_t)request->length + !is_part) {
        fuzz_fail("an error at %" PRIu64 ", which was not asked for", offset);
    }
    request->has_failed = true;
}

static uint32_t take_chunk(const uint8_t *bytes, uint32_t there, const struct judge_export *export)
{
    const uint8_t *data = bytes + NBD_STRUCTURED_REPLY_BYTES;
    if (there < NBD_STRUCTURED_REPLY_BYTES) {
        return 0;
    }
    uint16_t flags = nbd_get16(bytes + 4), type = nbd_get16(bytes + 6);
    uint32_t length = nbd_get32(bytes + 16);
    struct asked *request = find_asked(nbd_get64(bytes + 8));
    if (flags > NBD_REPLY_FLAG_DONE || length > RECEIVED_MAX / 2) {
        fuzz_fail("a chunk with flags %#x, %" PRIu32 " bytes", flags, length);
    }
    if (!request || there - NBD_STRUCTURED_REPLY_BYTES < length) {
        return 0;
    }
    if (type == NBD_CHUNK_OFFSET_DATA) {
        take_data(request, data, length);
    } else if (type == NBD_CHUNK_BLOCK_STATUS) {
        check_status(request, data, length);
    } else if (type == NBD_CHUNK_ERROR || type == NBD_CHUNK_ERROR_OFFSET) {
        check_error(request, data, length, type == NBD_CHUNK_ERROR_OFFSET);
    } else {
        fuzz_fail("a chunk of type %#x", type);
    }
    if (flags & NBD_REPLY_FLAG_DONE) {
        end_request(request, request->has_failed ? NBD_EIO : 0, export);
    }
    return NBD_STRUCTURED_REPLY_BYTES + length;
}

static uint32_t take(const uint8_t *bytes, uint32_t there, const struct judge_export *export)
{
    if (!judge.is_greeted) {
        return take_hello(bytes, there);
    }
    if (!judge.is_transmitting) {
        return take_answer(bytes, there, export);
    }
    uint32_t magic = there < 4 ? NBD_SIMPLE_REPLY_MAGIC : nbd_get32(bytes);
    if (magic == NBD_STRUCTURED_REPLY_MAGIC && judge.is_structured) {
        return take_chunk(bytes, there, export);
    }
    if (magic != NBD_SIMPLE_REPLY_MAGIC) {
        fuzz_fail("a reply begins with %#" PRIx32, magic);
    }
    return take_simple(bytes, there, export);
}

void judge_received(const uint8_t *bytes, uint32_t length, const struct judge_export *export)
{
    uint32_t taken = 0;
    if (judge.is_lost) {
        return;
    }
    if (length > RECEIVED_MAX - judge.received) {
        fuzz_fail("a reply that is longer than any may be");
    }
    memcpy(received + judge.received, bytes, length);
    judge.received += length;
    for (uint32_t more = 1; more > 0 && taken < judge.received && !judge.is_lost; taken += more) {
        more = take(received + taken, judge.received - taken, export);
    }
    judge.received -= taken;
    memmove(received, received + taken, judge.received);
}

/* --- the end ---------------------------------------------------------------------------------- */

void judge_end_of_answers(void)
{
    bool is_cut = judge.count > 0 && asked[judge.count - 1].end > judge.sent;
    bool goes_on = judge.is_over && judge.sent > judge.next; /* after DISC */
    if (judge.is_lost || judge.is_dropped || is_cut || goes_on) {
        return; /* the connection is dropped, and what was on its way with it */
    }
    if (judge.received > 0) {
        fuzz_fail("the last reply is not whole");
    }
    for (uint32_t i = 0; i < judge.count; i++) {
        if (!asked[i].is_done && asked[i].end <= judge.sent) {
            fuzz_fail("request %#" PRIx64 " of type %u is never answered", asked[i].cookie,
                      asked[i].type);
        }
    }
}

bool judge_knows_requests(void)
{
    return judge.is_transmitting;
}

void judge_mark_changes(uint8_t *ret_marks, uint64_t size)
{
    for (uint32_t i = 0; i < judge.count; i++) {
        const struct asked *request = &asked[i];
        bool changes = request->type == NBD_CMD_WRITE || request->type == NBD_CMD_TRIM ||
                       request->type == NBD_CMD_WRITE_ZEROES;
        if (changes && request->offset < size) {
            uint64_t room = size - request->offset;
            memset(ret_marks + request->offset, 1, request->length < room ? request->length : room);
        }
    }
}
