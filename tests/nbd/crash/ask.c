/* SPDX-License-Identifier: MIT */
#include "ask.h"
#include "crash.h"
#include "nbd.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t cookies;        /* that have been given; of all worlds */
static uint64_t covered_so_far; /* the last `written` of the changes whose replies have come */
static bool has_sync_failed;    /* at the server */
static uint32_t flushes;        /* that are not answered */
static uint64_t sync_told;      /* the last moment when a client was told that one failed */

void asks_begin(void)
{
    covered_so_far = sync_told = 0;
    flushes = 0;
    has_sync_failed = false;
}

static bool changes(const struct ask *ask)
{
    return ask->type == NBD_CMD_WRITE || ask->type == NBD_CMD_TRIM ||
           ask->type == NBD_CMD_WRITE_ZEROES;
}

bool ask_is_promised(const struct ask *ask)
{
    return ask->type == NBD_CMD_FLUSH || (changes(ask) && ask->flags & NBD_CMD_FLAG_FUA);
}

const char *ask_name(const struct ask *ask)
{
    static const char *const names[NBD_CMD_COUNT] = {"READ", "WRITE", "DISC",         "FLUSH",
                                                     "TRIM", "CACHE", "WRITE_ZEROES", ""};
    static char name[64];
    snprintf(name, sizeof name, "%s%s %" PRIu64, names[ask->type],
             ask->flags & NBD_CMD_FLAG_FUA ? " with FUA," : "", ask->cookie);
    return name;
}

/* --- drawing ---------------------------------------------------------------------------------- */

static uint32_t draw_length(void)
{
    switch (draw(8)) {
    case 0:
    case 1:
        return 1 + (uint32_t)draw(16);
    case 2:
    case 3:
        return 1 + (uint32_t)draw(5000);
    case 4:
    case 5:
        return 512 * (1 + (uint32_t)draw(32));
    case 6:
        return 1 + (uint32_t)draw(70000);
    default: /* in one to three pieces, of 128 KiB */
        return 1 + (uint32_t)draw(ASK_LENGTH_MAX);
    }
}

/* Half of them where others are, or near the borders of pieces. */
static void draw_range(struct ask *ask)
{
    uint64_t length = draw_length();
    length = (length + world.block - 1) / world.block * world.block;
    length = length > ASK_LENGTH_MAX ? ASK_LENGTH_MAX : length; /* a multiple of any block */
    uint64_t room = world.size - length + 1;
    uint64_t offset = draw(room);
    switch (draw(4)) {
    case 0:
        offset = draw(room < 8192 ? room : 8192);
        break;
    case 1:
        offset = (128 << 10) - 600 + draw(1200);
        offset = offset < room ? offset : draw(room);
        break;
    default:
        break;
    }
    ask->offset = offset / world.block * world.block;
    ask->length = (uint32_t)length;
}

void ask_draw(struct ask *ask)
{
    static const uint8_t types[] = {
        NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE,        NBD_CMD_WRITE,
        NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_WRITE_ZEROES,
        NBD_CMD_TRIM,  NBD_CMD_FLUSH, NBD_CMD_FLUSH,        NBD_CMD_FLUSH,
        NBD_CMD_READ,  NBD_CMD_READ,  NBD_CMD_READ,         NBD_CMD_CACHE};
    *ask = (struct ask){.client = ask->client, .bytes = ask->bytes, .cookie = ++cookies};
    ask->type = types[draw(sizeof types)];
    if (ask->type != NBD_CMD_FLUSH) {
        draw_range(ask);
    }
    if (changes(ask) && draw(4) == 0) {
        ask->flags |= NBD_CMD_FLAG_FUA;
    }
    if (ask->type == NBD_CMD_WRITE_ZEROES) {
        ask->flags |= draw(2) ? NBD_CMD_FLAG_NO_HOLE : 0;
    }
}

/* --- sending ---------------------------------------------------------------------------------- */

bool ask_send(struct ask *ask)
{
    if (changes(ask)) {
        ask->change = model_change(ask->offset, ask->length, ask->type != NBD_CMD_WRITE);
        if (!ask->change) {
            return false;
        }
    }
    ask->asked = ask->change ? ask->change->asked : model_moment();
    ask->to_be_covered = covered_so_far;
    flushes += ask->type == NBD_CMD_FLUSH;
    unsigned char *to = nbd_put32(ask->bytes, NBD_REQUEST_MAGIC);
    to = nbd_put16(to, ask->flags);
    to = nbd_put16(to, ask->type);
    to = nbd_put64(to, ask->cookie);
    to = nbd_put64(to, ask->offset);
    to = nbd_put32(to, ask->length);
    if (ask->type == NBD_CMD_WRITE) {
        model_fill(ask->change, to);
        to += ask->length;
    }
    ask->byte_count = (uint32_t)(to - ask->bytes);
    show("client %" PRIu32 ": %s is sent, %" PRIu32 " bytes at %" PRIu64, ask->client,
         ask_name(ask), ask->length, ask->offset);
    return true;
}

/* --- answers ---------------------------------------------------------------------------------- */

void ask_take(struct ask *ask, const unsigned char *bytes, uint64_t offset, uint32_t length)
{
    if (offset < ask->offset || offset + length > ask->offset + ask->length) {
        complain("%s is answered with bytes that were not asked for", ask_name(ask));
        return;
    }
    ask->got += length;
    uint64_t wrong = model_check_read(bytes, offset, length, ask->asked);
    if (wrong != MODEL_RIGHT) {
        complain("%s finds at %" PRIu64 " what is not there, or not any more", ask_name(ask),
                 wrong);
    }
}

void asks_note_failure(void)
{
    has_sync_failed = true;
}

void asks_meet(uint32_t client)
{
    if (has_sync_failed && flushes > 0) {
        sync_told = model_moment(); /* an answer that says so may be on its way */
    }
    model_doubt(sync_told, client);
}

/* A sync that has failed may have lost anything that was not safe. */
static void take_flush(const struct ask *ask, bool worked)
{
    flushes--;
    if (worked) {
        model_flush(ask->asked, ask->client);
    } else {
        sync_told = model_moment();
        model_doubt(sync_told, ask->client);
    }
}

static void count(const struct ask *ask, bool worked)
{
    if (!worked) {
        total.failures++;
    } else if (ask->change) {
        total.changes++;
        total.promises += ask_is_promised(ask);
    } else if (ask->type == NBD_CMD_FLUSH) {
        total.flushes++;
    } else if (ask->type == NBD_CMD_READ) {
        total.reads++;
    }
}

static void answer_change(struct ask *ask, bool worked)
{
    bool is_certain = worked && !(ask->type == NBD_CMD_TRIM && world.may_not_trim);
    bool is_hole = ask->type != NBD_CMD_WRITE;
    model_answer(ask->change, is_certain, ask_is_promised(ask));
    if (is_hole && has_sync_failed) {
        /* A world takes what a failed sync has missed for missed until bytes are written there: a
         * hole that is made where there is one already does not count. */
        ask->change->safe = false;
        ask->change->doubted = UINT32_MAX;
    }
}

void ask_answer(struct ask *ask, uint32_t error)
{
    bool worked = error == 0;
    show("client %" PRIu32 ": %s is answered: %s", ask->client, ask_name(ask),
         worked ? "done" : "failed");
    count(ask, worked);
    if (!worked && world.is_calm && !(world.is_small && error == NBD_ENOSPC)) {
        complain("%s fails: error %" PRIu32, ask_name(ask), error);
    }
    if (worked && ask->type == NBD_CMD_READ && ask->got != ask->length) {
        complain("%s is answered with %" PRIu32 " bytes of %" PRIu32, ask_name(ask), ask->got,
                 ask->length);
    }
    if (ask->change) {
        answer_change(ask, worked);
        if (worked && ask->written > covered_so_far) {
            covered_so_far = ask->written;
        }
    } else if (ask->type == NBD_CMD_FLUSH) {
        take_flush(ask, worked);
    }
    ask->cookie = 0;
}

void ask_lose(struct ask *ask)
{
    if (ask->asked != 0 && ask->type == NBD_CMD_FLUSH) {
        flushes--;
        sync_told = has_sync_failed ? model_moment() : sync_told; /* so its answer may have said */
    }
    total.unanswered += ask->asked != 0;
    ask->cookie = 0;
}
