/* SPDX-License-Identifier: MIT */
#include "client.h"
#include "crash.h"
#include "machine.h"
#include "nbd.h"

#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 4, ASKS = 8, IN_BYTES = 512 << 10 };

#define HELLO_BYTES 18u
#define OPTION_REPLY_BYTES 20u

enum client_phase { CLIENT_AWAY, CLIENT_HELLO, CLIENT_OPTIONS, CLIENT_READY };

static struct client {
    enum client_phase phase;
    uint32_t shard;
    int fd;
    struct weir_op receiving, sending, closing, pause;
    bool is_receiving, is_sending, is_closing, is_pausing;
    bool is_structured;
    uint32_t pipeline; /* asks at a time */
    struct ask asks[ASKS];
    struct ask *queue, *last; /* to be sent; the first may be on its way */
    unsigned char hello[64];  /* what it says at first */
    unsigned char *in;        /* IN_BYTES */
    uint32_t in_end;
} clients[CLIENTS];

static void client_go(struct client *client);

/* --- asks ------------------------------------------------------------------------------------- */

struct ask *clients_find(uint64_t cookie)
{
    for (int i = 0; i < CLIENTS * ASKS; i++) {
        struct ask *ask = &clients[i / ASKS].asks[i % ASKS];
        if (cookie != 0 && ask->cookie == cookie) {
            return ask;
        }
    }
    return NULL;
}

static uint32_t live_of(const struct client *client)
{
    uint32_t count = 0;
    for (int i = 0; i < ASKS; i++) {
        count += client->asks[i].cookie != 0;
    }
    return count;
}

bool clients_are_done(void)
{
    uint32_t count = world.is_draining ? 0 : world.asks_left;
    for (int i = 0; i < CLIENTS; i++) {
        count += live_of(&clients[i]);
    }
    return count == 0;
}

static struct ask *free_ask(struct client *client)
{
    for (int i = 0; i < ASKS; i++) {
        if (client->asks[i].cookie == 0) {
            return &client->asks[i];
        }
    }
    return NULL;
}

/* --- connections ------------------------------------------------------------------------------ */

static bool submit(struct weir_op *op, struct client *client, weir_callback *callback)
{
    op->callback = callback;
    op->user = client;
    int result = weir_submit(world.loop, op);
    if (result < 0 && !weir_sim_has_crashed(world.sim)) {
        complain("a client's loop refuses an op: %s", strerror(-result));
    }
    return result == 0;
}

static void on_paused(struct weir_op *op)
{
    struct client *client = op->user;
    client->is_pausing = false;
    client_go(client);
}

static void pause_client(struct client *client, uint64_t ns)
{
    if (!client->is_pausing) {
        weir_op_timeout_in(&client->pause, world.loop, ns);
        client->is_pausing = submit(&client->pause, client, on_paused);
    }
}

static void on_closed(struct weir_op *op)
{
    struct client *client = op->user;
    client->is_closing = false;
    client->fd = -1;
    client_go(client);
}

/* In the middle of anything. */
static void hang_up(struct client *client)
{
    if (client->phase == CLIENT_AWAY) {
        return;
    }
    client->phase = CLIENT_AWAY;
    client->queue = NULL;
    show("client %d: is gone", (int)(client - clients));
    for (int i = 0; i < ASKS; i++) {
        if (client->asks[i].cookie != 0) {
            ask_lose(&client->asks[i]);
        }
    }
    weir_op_close(&client->closing, client->fd);
    client->is_closing = submit(&client->closing, client, on_closed);
}

static void receive(struct client *client);

static void come(struct client *client)
{
    int fds[2];
    if (!machine_has_seat(client->shard)) {
        pause_client(client, WEIR_MS); /* one who was here before has not left it yet */
        return;
    }
    if (weir_sim_socketpair(world.sim, SOCK_STREAM, fds) < 0) {
        complain("a client has no socket");
        return;
    }
    machine_connect(client->shard, fds[1]);
    client->fd = fds[0];
    client->phase = CLIENT_HELLO;
    client->in_end = 0;
    client->is_structured = draw(2);
    receive(client);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void send_next(struct client *client);

static void on_hello_sent(struct weir_op *op)
{
    struct client *client = op->user;
    client->is_sending = false;
    if (op->result < 0) {
        hang_up(client);
    }
    client_go(client);
}

static void on_sent(struct weir_op *op)
{
    struct client *client = op->user;
    if (client->queue) { /* NULL: it has hung up meanwhile */
        client->queue = client->queue->next;
    }
    on_hello_sent(op);
}

static void send_bytes(struct client *client, const void *bytes, uint32_t length,
                       weir_callback *callback)
{
    weir_op_send(&client->sending, client->fd, bytes, length, 0);
    client->sending.flags = WEIR_WHOLE;
    client->is_sending = submit(&client->sending, client, callback);
}

static void send_next(struct client *client)
{
    if (client->is_sending || !client->queue) {
        return;
    }
    if (ask_send(client->queue)) {
        send_bytes(client, client->queue->bytes, client->queue->byte_count, on_sent);
    } else {
        world.asks_left = 0;
        hang_up(client);
    }
}

static void say_hello(struct client *client)
{
    unsigned char *to = nbd_put32(client->hello, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    if (client->is_structured) {
        to = nbd_put64(to, NBD_OPTION_MAGIC);
        to = nbd_put32(to, NBD_OPT_STRUCTURED_REPLY);
        to = nbd_put32(to, 0);
    }
    to = nbd_put64(to, NBD_OPTION_MAGIC);
    to = nbd_put32(to, NBD_OPT_GO);
    to = nbd_put32(to, 8);
    to = nbd_put32(to, 0); /* the name's length */
    to = nbd_put16(to, 1);
    to = nbd_put16(to, NBD_INFO_BLOCK_SIZE);
    send_bytes(client, client->hello, (uint32_t)(to - client->hello), on_hello_sent);
}

/* --- receiving -------------------------------------------------------------------------------- */

/* What an answer takes of the bytes that are there, 0: it is not all there. */
static uint32_t take_hello(struct client *client, const unsigned char *bytes, uint32_t there)
{
    if (there < HELLO_BYTES) {
        return 0;
    }
    if (nbd_get64(bytes) != NBD_MAGIC || nbd_get64(bytes + 8) != NBD_OPTION_MAGIC) {
        complain("the server's hello is none");
    }
    client->phase = CLIENT_OPTIONS;
    say_hello(client);
    return HELLO_BYTES;
}

static uint32_t take_option(struct client *client, const unsigned char *bytes, uint32_t there)
{
    if (there < OPTION_REPLY_BYTES || there < OPTION_REPLY_BYTES + nbd_get32(bytes + 16)) {
        return 0;
    }
    uint32_t option = nbd_get32(bytes + 8), type = nbd_get32(bytes + 12);
    if (nbd_get64(bytes) != NBD_OPTION_REPLY_MAGIC || type > NBD_REP_INFO) {
        complain("option %u is answered with %#x", (unsigned)option, (unsigned)type);
    }
    if (option == NBD_OPT_GO && type == NBD_REP_ACK) {
        client->phase = CLIENT_READY;
        asks_meet((uint32_t)(client - clients));
        show("client %d: is served", (int)(client - clients));
    }
    return OPTION_REPLY_BYTES + nbd_get32(bytes + 16);
}

static struct ask *answered_ask(struct client *client, const unsigned char *cookie)
{
    struct ask *ask = clients_find(nbd_get64(cookie));
    if (!ask || ask < client->asks || ask >= client->asks + ASKS || ask->asked == 0) {
        complain("an answer to what was not asked");
        return NULL;
    }
    return ask;
}

/* Often right after a promise: what was promised is to be there. */
static void answer(struct client *client, struct ask *ask, uint32_t error)
{
    bool is_promised = error == 0 && ask_is_promised(ask);
    ask_answer(ask, error);
    if (is_promised && draw(60) == 0) {
        weir_sim_crash(world.sim);
    } else if (draw(8) == 0) {
        pause_client(client, draw(WEIR_MS));
    } else if (!world.is_calm && draw(300) == 0) {
        hang_up(client);
    }
}

static uint32_t take_simple(struct client *client, const unsigned char *bytes, uint32_t there)
{
    struct ask *ask = there < NBD_SIMPLE_REPLY_BYTES ? NULL : answered_ask(client, bytes + 8);
    if (!ask) {
        return 0;
    }
    uint32_t error = nbd_get32(bytes + 4);
    uint32_t data = ask->type == NBD_CMD_READ && error == 0 ? ask->length : 0;
    if (there < NBD_SIMPLE_REPLY_BYTES + data) {
        return 0;
    }
    if (data > 0) {
        ask_take(ask, bytes + NBD_SIMPLE_REPLY_BYTES, ask->offset, data);
    }
    answer(client, ask, error);
    return NBD_SIMPLE_REPLY_BYTES + data;
}

/* Whether it is right: for the whole, or of a READ for the part that begins at an offset. */
static bool is_error_of(const struct ask *ask, uint16_t type, const unsigned char *data,
                        uint32_t length)
{
    bool is_part = type == NBD_CHUNK_ERROR_OFFSET && ask->type == NBD_CMD_READ;
    uint32_t others = is_part ? 14 : 6;
    if ((!is_part && type != NBD_CHUNK_ERROR) || length < others ||
        nbd_get16(data + 4) != length - others) {
        return false;
    }
    uint64_t offset = is_part ? nbd_get64(data + length - 8) : 0;
    return !is_part || (offset >= ask->offset && offset - ask->offset < ask->length);
}

static uint32_t take_chunk(struct client *client, const unsigned char *bytes, uint32_t there)
{
    const unsigned char *data = bytes + NBD_STRUCTURED_REPLY_BYTES;
    if (there < NBD_STRUCTURED_REPLY_BYTES ||
        there - NBD_STRUCTURED_REPLY_BYTES < nbd_get32(bytes + 16)) {
        return 0;
    }
    uint32_t length = nbd_get32(bytes + 16), error = 0;
    uint16_t flags = nbd_get16(bytes + 4), type = nbd_get16(bytes + 6);
    struct ask *ask = answered_ask(client, bytes + 8);
    if (!ask) {
        return 0;
    }
    if (type == NBD_CHUNK_OFFSET_DATA && length > 8 && ask->type == NBD_CMD_READ) {
        ask_take(ask, data + 8, nbd_get64(data), length - 8);
    } else if (is_error_of(ask, type, data, length)) {
        error = nbd_get32(data);
        ask->has_failed = true;
    } else {
        complain("%s is answered with a chunk of type %u", ask_name(ask), (unsigned)type);
    }
    if (flags & NBD_REPLY_FLAG_DONE) {
        answer(client, ask, error ? error : ask->has_failed ? NBD_EIO : 0);
    }
    return NBD_STRUCTURED_REPLY_BYTES + length;
}

static uint32_t take(struct client *client, const unsigned char *bytes, uint32_t there)
{
    switch (client->phase) {
    case CLIENT_AWAY:
        return 0;
    case CLIENT_HELLO:
        return take_hello(client, bytes, there);
    case CLIENT_OPTIONS:
        return take_option(client, bytes, there);
    default:
        break;
    }
    uint32_t magic = there < 4 ? NBD_SIMPLE_REPLY_MAGIC : nbd_get32(bytes);
    if (magic == NBD_STRUCTURED_REPLY_MAGIC && client->is_structured) {
        return take_chunk(client, bytes, there);
    }
    if (magic != NBD_SIMPLE_REPLY_MAGIC) {
        complain("an answer begins with %#x", (unsigned)magic);
    }
    return take_simple(client, bytes, there);
}

static void on_received(struct weir_op *op)
{
    struct client *client = op->user;
    client->is_receiving = false;
    if (client->phase != CLIENT_AWAY && op->result <= 0) {
        hang_up(client);
    } else if (client->phase != CLIENT_AWAY) {
        uint32_t taken = 0;
        client->in_end += (uint32_t)op->result;
        for (uint32_t more = 1; more > 0 && !world.complaint[0]; taken += more) {
            more = take(client, client->in + taken, client->in_end - taken);
        }
        client->in_end -= taken;
        memmove(client->in, client->in + taken, client->in_end);
    }
    client_go(client);
}

static void receive(struct client *client)
{
    weir_op_recv(&client->receiving, client->fd, client->in + client->in_end,
                 IN_BYTES - client->in_end, 0);
    client->is_receiving = submit(&client->receiving, client, on_received);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void ask_more(struct client *client)
{
    while (!client->is_pausing && world.asks_left > 0 && live_of(client) < client->pipeline) {
        struct ask *ask = free_ask(client);
        if (client->queue && ask == client->queue && client->is_sending) {
            break; /* answered before all of it was on its way: its bytes are in use */
        }
        ask_draw(ask);
        world.asks_left--;
        *(client->queue ? &client->last->next : &client->queue) = ask;
        client->last = ask;
        if (draw(3) == 0) {
            break;
        }
    }
    send_next(client);
}

static void client_go(struct client *client)
{
    if (weir_sim_has_crashed(world.sim) || world.complaint[0]) {
        return;
    }
    if (client->phase == CLIENT_AWAY) {
        bool is_gone = !client->is_receiving && !client->is_sending && !client->is_closing;
        if (is_gone && !client->is_pausing && world.asks_left > 0 && !world.is_draining) {
            come(client);
        }
        return;
    }
    if (client->phase == CLIENT_READY) {
        ask_more(client);
    }
    if (client->phase != CLIENT_AWAY && !client->is_receiving) {
        receive(client);
    }
}

void clients_begin(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &clients[i];
        struct client fresh = {.fd = -1, .in = client->in, .pipeline = 1 + (uint32_t)draw(ASKS)};
        fresh.in = fresh.in ? fresh.in : malloc(IN_BYTES);
        fresh.shard = (uint32_t)i % world.shard_count;
        for (int j = 0; j < ASKS; j++) {
            unsigned char *bytes = client->asks[j].bytes;
            fresh.asks[j].client = (uint32_t)i;
            fresh.asks[j].bytes = bytes ? bytes : malloc(ASK_BYTES);
            if (!fresh.asks[j].bytes || !fresh.in) {
                abort();
            }
        }
        *client = fresh;
        client_go(client);
    }
}
