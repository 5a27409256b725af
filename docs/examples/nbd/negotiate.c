/* SPDX-License-Identifier: MIT */
#include "negotiate.h"
#include "connection.h"

#include <errno.h>
#include <stdio.h>

#define OPTION_BYTES 16u /* magic, option, length */
#define ALLOCATION "base:allocation"

/* An option, all of it here. */
struct option {
    uint32_t number;
    const unsigned char *data;
    uint32_t length;
};

/* A string of the client's: a length and so many bytes, no NUL. */
struct text {
    const unsigned char *bytes;
    uint32_t length;
};

/* --- saying something ------------------------------------------------------------------------- */

/* Bytes to be sent, up to NBD_STRING_MAX and some; NULL: the connection is lost for want of memory.
 * There are always buffers for all that one option is answered with. */
static unsigned char *begin_message(struct connection *connection, struct request **ret_request)
{
    uint32_t bytes = (uint32_t)sizeof(struct request) + NBD_STRING_MAX + 256;
    struct buffer *memory;
    struct request *request = connection_carve(connection, bytes, 64, &memory);
    if (!request) {
        connection_break(connection, "no memory for an answer");
        return NULL;
    }
    memset(request, 0, sizeof *request);
    request->connection = connection;
    request->whole = request;
    request->memory = memory;
    request->holds = 1;
    connection->live++;
    *ret_request = request;
    return (unsigned char *)(request + 1);
}

static void end_message(struct connection *connection, struct request *request,
                        const unsigned char *end)
{
    request->iov[0].iov_base = request + 1;
    request->iov[0].iov_len = (size_t)(end - (unsigned char *)(request + 1));
    sending_add(connection, request);
}

/* The answer to an option; its data in two parts, each may be empty. */
static void say(struct connection *connection, const struct option *option, uint32_t type,
                const unsigned char *first, uint32_t first_length, const void *second,
                uint32_t second_length)
{
    struct request *request;
    unsigned char *to = begin_message(connection, &request);
    if (to) {
        to = nbd_put64(to, NBD_OPTION_REPLY_MAGIC);
        to = nbd_put32(to, option->number);
        to = nbd_put32(to, type);
        to = nbd_put32(to, first_length + second_length);
        to = (unsigned char *)memcpy(to, first, first_length) + first_length;
        to = (unsigned char *)memcpy(to, second, second_length) + second_length;
        end_message(connection, request, to);
    }
}

static void acknowledge(struct connection *connection, const struct option *option)
{
    say(connection, option, NBD_REP_ACK, (const unsigned char *)"", 0, "", 0);
}

static void refuse(struct connection *connection, const struct option *option, uint32_t error,
                   const char *why)
{
    connection_tell(connection, "option %u is refused: %s", (unsigned)option->number, why);
    say(connection, option, error, (const unsigned char *)"", 0, why, (uint32_t)strlen(why));
}

/* --- what a client says ----------------------------------------------------------------------- */

/* Takes a string off the front of *rest. False: it is cut off, or longer than strings may be. */
static bool take_text(struct option *rest, struct text *ret_text)
{
    if (rest->length < 4) {
        return false;
    }
    uint32_t length = nbd_get32(rest->data);
    if (length > NBD_STRING_MAX || length > rest->length - 4) {
        return false;
    }
    *ret_text = (struct text){rest->data + 4, length};
    rest->data += 4 + length;
    rest->length -= 4 + length;
    return true;
}

static bool is_text(const struct text *text, const char *string)
{
    return text->length == strlen(string) && memcmp(text->bytes, string, text->length) == 0;
}

/* NULL: there is none of that name. */
static struct file *find_file(struct connection *connection, const struct text *name)
{
    struct shard *shard = connection->shard;
    for (uint32_t i = 0; i < shard->options.export_count; i++) {
        if (is_text(name, shard->options.exports[i].name)) {
            return &shard->files[i];
        }
    }
    bool is_the_one = name->length == 0 && shard->options.export_count == 1;
    return is_the_one ? &shard->files[0] : NULL;
}

/* --- exports ---------------------------------------------------------------------------------- */

static uint16_t flags_of(const struct file *file, const struct negotiated *negotiated)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;
    flags |= file->export->read_only
                 ? NBD_FLAG_READ_ONLY
                 : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    flags |= negotiated->structured ? NBD_FLAG_SEND_DF : 0;
    return (uint16_t)flags;
}

static void begin_transmission(struct connection *connection, struct file *file)
{
    connection->file = file;
    connection->failures = atomic_load(&file->export->told);
    connection->phase = CONNECTION_TRANSMISSION;
    if (connection->negotiated.allocation != file) {
        connection->negotiated.allocation = NULL;
    }
    connection_tell(connection, "uses \"%s\"", file->export->name);
}

/* The old way: no answer but the export's own, and none at all to say no. */
static void on_export_name(struct connection *connection, const struct option *option)
{
    struct text name = {option->data, option->length};
    struct file *file = find_file(connection, &name);
    struct request *request;
    unsigned char *to;
    if (connection->shard->options.tls && !connection->tls) {
        connection_break(connection, "it does not use TLS");
    } else if (!file) {
        connection_break(connection, "it asks for an export that is not there");
    } else if ((to = begin_message(connection, &request))) {
        to = nbd_put64(to, file->opened.size);
        to = nbd_put16(to, flags_of(file, &connection->negotiated));
        if (!connection->negotiated.no_zeroes) {
            memset(to, 0, 124);
            to += 124;
        }
        end_message(connection, request, to);
        begin_transmission(connection, file);
    }
}

static void say_info(struct connection *connection, const struct option *option,
                     const struct file *file, uint16_t info)
{
    unsigned char bytes[16], *to = nbd_put16(bytes, info);
    const char *text = "";
    switch (info) {
    case NBD_INFO_EXPORT:
        to = nbd_put64(to, file->opened.size);
        to = nbd_put16(to, flags_of(file, &connection->negotiated));
        break;
    case NBD_INFO_NAME:
        text = file->export->name;
        break;
    case NBD_INFO_BLOCK_SIZE:
        to = nbd_put32(to, file->opened.block_min);
        to = nbd_put32(to, file->opened.block_min > 4096 ? file->opened.block_min : 4096);
        to = nbd_put32(to, NBD_PAYLOAD_MAX);
        break;
    default:
        return; /* what we do not know of need not be told */
    }
    say(connection, option, NBD_REP_INFO, bytes, (uint32_t)(to - bytes), text,
        (uint32_t)strlen(text));
}

/* INFO and GO: a name, and the numbers of what else the client wants to know. */
static void on_info(struct connection *connection, const struct option *option)
{
    struct option rest = *option;
    struct text name;
    if (!take_text(&rest, &name) || rest.length < 2 ||
        rest.length != 2 + 2 * (uint32_t)nbd_get16(rest.data)) {
        refuse(connection, option, NBD_REP_ERR_INVALID, "its length does not fit");
        return;
    }
    struct file *file = find_file(connection, &name);
    if (!file) {
        refuse(connection, option, NBD_REP_ERR_UNKNOWN, "no such export");
        return;
    }
    bool told[NBD_INFO_BLOCK_SIZE + 1] = {false};
    for (const unsigned char *at = rest.data + 2; at < rest.data + rest.length; at += 2) {
        uint16_t info = nbd_get16(at);
        if (info <= NBD_INFO_BLOCK_SIZE) {
            told[info] = true;
        }
    }
    if (!told[NBD_INFO_BLOCK_SIZE] && file->opened.block_min > 512) {
        refuse(connection, option, NBD_REP_ERR_BLOCK_SIZE_REQD, "it has to ask for block sizes");
        return;
    }
    told[NBD_INFO_EXPORT] = told[NBD_INFO_BLOCK_SIZE] = true;
    for (uint16_t info = 0; info <= NBD_INFO_BLOCK_SIZE; info++) {
        if (told[info]) {
            say_info(connection, option, file, info);
        }
    }
    acknowledge(connection, option);
    if (option->number == NBD_OPT_GO) {
        begin_transmission(connection, file);
    }
}

static void on_list(struct connection *connection, const struct option *option)
{
    const struct shard_options *options = &connection->shard->options;
    if (option->length > 0) {
        refuse(connection, option, NBD_REP_ERR_INVALID, "it takes no data");
        return;
    }
    for (uint32_t i = 0; i < options->export_count; i++) {
        const char *name = options->exports[i].name;
        unsigned char length[4];
        nbd_put32(length, (uint32_t)strlen(name));
        say(connection, option, NBD_REP_SERVER, length, 4, name, (uint32_t)strlen(name));
    }
    acknowledge(connection, option);
}

/* --- contexts --------------------------------------------------------------------------------- */

/* LIST and SET: a name, and queries, of which "base:allocation" finds something; and, to list,
 * "base:", or none at all. */
static void on_context(struct connection *connection, const struct option *option)
{
    struct option rest = *option;
    bool sets = option->number == NBD_OPT_SET_META_CONTEXT, is_found = false;
    struct text name, query;
    if (sets) {
        connection->negotiated.allocation = NULL; /* what was set before is over, come what may */
    }
    if (!connection->negotiated.structured) {
        refuse(connection, option, NBD_REP_ERR_INVALID, "it needs structured replies");
        return;
    }
    bool is_good = take_text(&rest, &name) && rest.length >= 4;
    uint32_t count = is_good ? nbd_get32(rest.data) : 0;
    rest.data += is_good ? 4 : 0;
    rest.length -= is_good ? 4 : 0;
    is_found = count == 0 && !sets;
    for (uint32_t i = 0; is_good && i < count; i++) {
        is_good = take_text(&rest, &query);
        is_found |= is_good && (is_text(&query, ALLOCATION) || (!sets && is_text(&query, "base:")));
    }
    if (!is_good || rest.length > 0) {
        refuse(connection, option, NBD_REP_ERR_INVALID, "its length does not fit");
        return;
    }
    const struct file *file = find_file(connection, &name);
    if (!file) {
        refuse(connection, option, NBD_REP_ERR_UNKNOWN, "no such export");
        return;
    }
    if (is_found) {
        unsigned char id[4];
        nbd_put32(id, sets ? NBD_CONTEXT_ALLOCATION : 0);
        say(connection, option, NBD_REP_META_CONTEXT, id, 4, ALLOCATION, sizeof ALLOCATION - 1);
    }
    if (sets && is_found) {
        connection->negotiated.allocation = file;
    }
    acknowledge(connection, option);
}

/* --- others ----------------------------------------------------------------------------------- */

static void on_structured(struct connection *connection, const struct option *option)
{
    if (option->length > 0) {
        refuse(connection, option, NBD_REP_ERR_INVALID, "it takes no data");
    } else {
        connection->negotiated.structured = true;
        acknowledge(connection, option);
    }
}

/* Nothing that was said in the clear counts afterwards: anybody may have said it. */
static void on_starttls(struct connection *connection, const struct option *option)
{
    if (!connection->shard->options.tls) {
        refuse(connection, option, NBD_REP_ERR_POLICY, "this server was started without TLS");
    } else if (option->length > 0 || connection->tls) {
        refuse(connection, option, NBD_REP_ERR_INVALID,
               connection->tls ? "TLS is there already" : "it takes no data");
    } else if (connection_pending(connection) > 0) {
        connection_break(connection, "it goes on in the clear after STARTTLS");
    } else {
        connection->negotiated.structured = false;
        connection->negotiated.allocation = NULL;
        acknowledge(connection, option);
        connection->phase = CONNECTION_TLS;
    }
}

static void on_option(struct connection *connection, const struct option *option)
{
    bool needs_tls = connection->shard->options.tls && !connection->tls;
    switch (option->number) {
    case NBD_OPT_EXPORT_NAME:
        on_export_name(connection, option);
        return;
    case NBD_OPT_ABORT:
        acknowledge(connection, option);
        connection_end(connection);
        return;
    case NBD_OPT_STARTTLS:
        on_starttls(connection, option);
        return;
    default:
        break;
    }
    if (needs_tls) {
        refuse(connection, option, NBD_REP_ERR_TLS_REQD, "this server wants TLS");
        return;
    }
    switch (option->number) {
    case NBD_OPT_LIST:
        on_list(connection, option);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        on_info(connection, option);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        on_structured(connection, option);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        on_context(connection, option);
        break;
    default:
        refuse(connection, option, NBD_REP_ERR_UNSUP, "no such option here");
        break;
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

void negotiate_begin(struct connection *connection)
{
    struct request *request;
    unsigned char *to = begin_message(connection, &request);
    if (to) {
        to = nbd_put64(to, NBD_MAGIC);
        to = nbd_put64(to, NBD_OPTION_MAGIC);
        to = nbd_put16(to, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
        end_message(connection, request, to);
    }
}

static void take_flags(struct connection *connection)
{
    uint32_t flags = nbd_get32(connection_bytes(connection));
    connection->in_start += 4;
    if (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) {
        connection_break(connection, "it sets flags that there are not");
        return;
    }
    connection->negotiated.no_zeroes = flags & NBD_NO_ZEROES;
    connection->phase = CONNECTION_OPTIONS;
}

/* False: it is not all here. */
static bool take_option(struct connection *connection)
{
    const unsigned char *bytes = connection_bytes(connection);
    if (connection_pending(connection) < OPTION_BYTES) {
        return false;
    }
    struct option option = {nbd_get32(bytes + 8), bytes + OPTION_BYTES, nbd_get32(bytes + 12)};
    if (nbd_get64(bytes) != NBD_OPTION_MAGIC) {
        connection_break(connection, "an option without its magic");
        return false;
    }
    if (option.length > NEGOTIATE_OPTION_MAX) {
        connection_break(connection, "an option of more than 16 KiB");
        return false;
    }
    if (connection_pending(connection) < OPTION_BYTES + option.length) {
        return false;
    }
    connection->in_start += OPTION_BYTES + option.length;
    on_option(connection, &option);
    return true;
}

void negotiate_take(struct connection *connection)
{
    if (!connection->in) {
        return;
    }
    if (connection->phase == CONNECTION_GREETING && connection_pending(connection) >= 4) {
        take_flags(connection);
    }
    while (connection->phase == CONNECTION_OPTIONS && !connection->replies &&
           !connection->is_sending && take_option(connection)) {
    }
}
