/* SPDX-License-Identifier: MIT */
/* fuzz.c: the client: its verbs, one after the other, and its end. */
#include "fuzz.h"
#include "house.h"
#include "judge.h"
#include "nbd.h"
#include "tests/fuzz/input.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OUT_MAX = 300 << 10, /* in one go */
    SENT_MAX = 2 << 20,  /* in all */
    TURNS_A_VERB = 6,
    TURNS_A_PAUSE = 60,
    TURNS_BLOCKED = 600,    /* then what is to be sent will not be */
    TURNS_END = 100 * 1000, /* of what can be answered until all is */
};

const size_t fuzz_input_max = FUZZ_INPUT_MAX;
bool fuzz_loud;

static struct client {
    const uint8_t *bytes; /* the input */
    size_t left;
    struct weir_op sending, receiving, ending;
    bool is_sending, is_receiving, is_ending;
    bool reads, has_heard_all; /* has_heard_all: the server sends no more */
    bool is_cut;               /* it, or the server, was told to end before all was answered */
    uint32_t sent;             /* bytes */
    uint8_t out[OUT_MAX], in[64 << 10];
} client;

void fuzz_tell(const char *format, ...)
{
    if (fuzz_loud) {
        va_list arguments;
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        puts("");
    }
}

void fuzz_fail(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\n", stderr);
    abort();
}

/* --- reading ---------------------------------------------------------------------------------- */

static void receive(void);

static void on_received(struct weir_op *op)
{
    client.is_receiving = false;
    if (op->result <= 0) {
        client.has_heard_all = true;
        return;
    }
    judge_received(client.in, (uint32_t)op->result, house_export());
    receive();
}

static void receive(void)
{
    if (!client.reads || client.is_receiving || client.has_heard_all) {
        return;
    }
    weir_op_recv(&client.receiving, house.fd, client.in, sizeof client.in, 0);
    client.receiving.callback = on_received;
    client.is_receiving = weir_submit(house.loop, &client.receiving) == 0;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void on_sent(struct weir_op *op)
{
    (void)op;
    client.is_sending = false;
}

/* What stands in client.out. Only a server that takes nothing for long stops it, for good. */
static void send_out(uint32_t length)
{
    if (client.is_sending || length == 0 || length > SENT_MAX - client.sent) {
        return;
    }
    fuzz_tell("client: %" PRIu32 " bytes", length);
    client.sent += length;
    judge_sent(client.out, length);
    weir_op_send(&client.sending, house.fd, client.out, length, 0);
    client.sending.flags = WEIR_WHOLE;
    client.sending.callback = on_sent;
    client.is_sending = weir_submit(house.loop, &client.sending) == 0;
    for (int i = 0; i < TURNS_BLOCKED && client.is_sending; i++) {
        house_turn(1);
    }
}

static void fill(uint8_t *to, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        to[i] = (uint8_t)(i * 3 + client.sent);
    }
}

/* --- the verbs -------------------------------------------------------------------------------- */

static uint8_t next(void)
{
    if (client.left == 0) {
        return 0;
    }
    client.left--;
    return *client.bytes++;
}

static uint32_t next16(void)
{
    uint32_t high = next();
    return high << 8 | next();
}

static uint32_t next_bytes(uint8_t *to, uint32_t length)
{
    length = length < client.left ? length : (uint32_t)client.left;
    memcpy(to, client.bytes, length);
    client.bytes += length;
    client.left -= length;
    return length;
}

static void say_request(void)
{
    uint8_t type = next(), flags = next(), cookie = next();
    uint64_t offset = next16() * 37ull;
    uint32_t length = next16() * 7;
    uint8_t *to = nbd_put32(client.out, NBD_REQUEST_MAGIC);
    to = nbd_put16(to, flags);
    to = nbd_put16(to, type & 0x7f);
    to = nbd_put64(to, cookie);
    to = nbd_put64(to, offset);
    to = nbd_put32(to, length);
    if (type == NBD_CMD_WRITE && length < OUT_MAX - NBD_REQUEST_BYTES) {
        fill(to, length);
        to += length;
    }
    send_out((uint32_t)(to - client.out));
}

static uint8_t *put_option(uint8_t *to, uint32_t number, uint32_t length)
{
    to = nbd_put64(to, NBD_OPTION_MAGIC);
    to = nbd_put32(to, number);
    return nbd_put32(to, length);
}

static void say_option(void)
{
    uint8_t number = next(), length = next();
    uint8_t *to = put_option(client.out, number, length);
    send_out((uint32_t)(to - client.out) + next_bytes(to, length));
}

static void act(void)
{
    uint8_t verb = next();
    switch (verb) {
    case FUZZ_REQUEST:
        say_request();
        break;
    case FUZZ_OPTION:
        say_option();
        break;
    case FUZZ_FILL: {
        uint32_t length = next() * 1024u;
        fill(client.out, length);
        send_out(length);
        break;
    }
    case FUZZ_PAUSE:
        house_turn(TURNS_A_PAUSE);
        break;
    case FUZZ_DRAIN:
        client.is_cut = true;
        house_drain();
        break;
    case FUZZ_HANG_UP:
        client.is_cut = true;
        house_hang_up();
        break;
    case FUZZ_READING:
        client.reads = !client.reads;
        receive();
        break;
    default:
        send_out(next_bytes(client.out, verb));
        break;
    }
    house_turn(TURNS_A_VERB);
}

/* --- the handshake, where it is not in the verbs ---------------------------------------------- */

static uint8_t *put_context(uint8_t *to)
{
    static const char context[] = "base:allocation";
    uint32_t length = sizeof context - 1;
    to = put_option(to, NBD_OPT_STRUCTURED_REPLY, 0);
    to = put_option(to, NBD_OPT_SET_META_CONTEXT, 12 + length);
    to = nbd_put32(to, 0); /* the name's length */
    to = nbd_put32(to, 1);
    to = nbd_put32(to, length);
    return (uint8_t *)memcpy(to, context, length) + length;
}

static void shake_hands(enum fuzz_handshake handshake)
{
    if (handshake == FUZZ_BARE) {
        return;
    }
    uint8_t *to = nbd_put32(client.out, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    if (handshake == FUZZ_STRUCTURED) {
        to = put_context(to);
    }
    if (handshake >= FUZZ_SIMPLE) {
        to = put_option(to, NBD_OPT_GO, 8);
        to = nbd_put32(to, 0); /* the name's length */
        to = nbd_put16(to, 1);
        to = nbd_put16(to, NBD_INFO_BLOCK_SIZE);
    }
    send_out((uint32_t)(to - client.out));
    house_turn(TURNS_A_PAUSE);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_ended(struct weir_op *op)
{
    (void)op;
    client.is_ending = false;
}

static void end_by(void)
{
    client.ending.callback = on_ended;
    client.is_ending = weir_submit(house.loop, &client.ending) == 0;
    for (int i = 0; i < TURNS_END && client.is_ending; i++) {
        house_turn(1);
    }
    if (client.is_ending) {
        fuzz_fail("the client's end of the connection does not close");
    }
}

/* It sends no more, and all that it has asked for is answered, if nothing goes wrong. */
static void listen_to_the_end(void)
{
    weir_op_shutdown(&client.ending, house.fd, SHUT_WR);
    end_by();
    if (client.ending.result < 0) { /* a misfortune: the server does not know that it has ended */
        return;
    }
    client.reads = true;
    receive();
    for (int i = 0; i < TURNS_END && !client.has_heard_all; i++) {
        house_turn(1);
    }
    if (!client.has_heard_all) {
        fuzz_fail("the server does not hang up on a client that has");
    }
    if (house.is_calm && !client.is_cut) {
        judge_end_of_answers();
    }
}

uint64_t fuzz_run(const uint8_t *bytes, size_t size)
{
    uint8_t options[3] = {0};
    memset(&client, 0, offsetof(struct client, out));
    client.bytes = bytes;
    client.left = size < FUZZ_INPUT_MAX ? size : FUZZ_INPUT_MAX;
    for (int i = 0; i < 3; i++) {
        options[i] = next();
    }
    judge_begin();
    house_open(options);
    client.reads = !(options[0] & 0x80);
    receive();
    shake_hands((enum fuzz_handshake)(options[0] >> 4 & 3));
    while (client.left > 0) {
        act();
    }
    if (!(options[0] & 0x40) && !client.is_sending) {
        listen_to_the_end();
    }
    weir_op_close(&client.ending, house.fd);
    end_by();
    return house_close();
}
