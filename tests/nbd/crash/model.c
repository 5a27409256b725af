/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <stdlib.h>
#include <string.h>

enum { CHANGES_MAX = 1024, BYTES_MAX = 1 << 20 };

static unsigned char at_first[BYTES_MAX];
static uint64_t bytes_count;
static struct change changes[CHANGES_MAX];
static uint32_t change_count;
static uint64_t moments, numbers;

uint64_t model_moment(void)
{
    return ++moments;
}

void model_init(uint64_t size)
{
    bytes_count = size;
    change_count = 0;
    moments = numbers = 0;
    memset(at_first, 0, sizeof at_first);
}

void model_begin(const unsigned char *bytes)
{
    change_count = 0;
    memcpy(at_first, bytes, bytes_count);
}

/* --- changes ---------------------------------------------------------------------------------- */

/* Eight bytes of a change, at an offset that is a multiple of 8. */
static uint64_t word_of(const struct change *change, uint64_t offset)
{
    uint64_t value = change->number * 0x9e3779b97f4a7c15ULL ^ offset;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
    return change->number ? value ^ value >> 31 : 0;
}

static unsigned char byte_of(const struct change *change, uint64_t offset)
{
    return (unsigned char)(word_of(change, offset & ~7ULL) >> (offset & 7) * 8);
}

struct change *model_change(uint64_t offset, uint64_t length, bool zeroes)
{
    if (change_count == CHANGES_MAX) {
        return NULL;
    }
    struct change *change = &changes[change_count++];
    *change = (struct change){
        .number = zeroes ? 0 : ++numbers,
        .offset = offset,
        .length = length,
        .asked = model_moment(),
        .answered = MODEL_NEVER,
    };
    return change;
}

void model_fill(const struct change *change, unsigned char *ret_bytes)
{
    for (uint64_t i = 0; i < change->length; i++) {
        ret_bytes[i] = byte_of(change, change->offset + i);
    }
}

void model_answer(struct change *change, bool worked, bool safe)
{
    change->answered = model_moment();
    change->worked = worked;
    change->safe = worked && safe;
}

void model_flush(uint64_t asked, uint32_t client)
{
    for (uint32_t i = 0; i < change_count; i++) {
        struct change *change = &changes[i];
        change->safe |=
            change->worked && change->answered < asked && !(change->doubted >> client & 1);
    }
}

void model_doubt(uint64_t before, uint32_t client)
{
    for (uint32_t i = 0; i < change_count; i++) {
        if (!changes[i].safe && changes[i].asked < before) {
            changes[i].doubted |= 1u << client;
        }
    }
}

/* --- what may be found ------------------------------------------------------------------------ */

/* A look at some bytes: what touches them, and where what touches them changes. */
struct look {
    const unsigned char *bytes;
    uint64_t offset, end;
    uint64_t asked; /* MODEL_NEVER: after a crash */
    uint32_t touching_count, border_count, possible_count;
    const struct change *touching[CHANGES_MAX];
    const struct change *possible[CHANGES_MAX]; /* of one part, from border to border */
    uint64_t borders[2 * CHANGES_MAX + 2];
};

/* Whether it must be there: it, or what has come after it. */
static bool must_be_there(const struct look *look, const struct change *change)
{
    return look->asked == MODEL_NEVER ? change->safe
                                      : change->worked && change->answered < look->asked;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static void find_borders(struct look *look)
{
    look->borders[look->border_count++] = look->offset;
    look->borders[look->border_count++] = look->end;
    for (uint32_t i = 0; i < change_count; i++) {
        const struct change *change = &changes[i];
        uint64_t end = change->offset + change->length;
        if (change->offset >= look->end || end <= look->offset) {
            continue;
        }
        look->touching[look->touching_count++] = change;
        if (change->offset > look->offset) {
            look->borders[look->border_count++] = change->offset;
        }
        if (end < look->end) {
            look->borders[look->border_count++] = end;
        }
    }
    qsort(look->borders, look->border_count, sizeof *look->borders, compare);
}

/* Whose bytes may be there from one border to the next; true: those of the beginning too. */
static bool find_possible(struct look *look, uint64_t from)
{
    const struct change *covering[CHANGES_MAX];
    uint32_t count = 0;
    uint64_t last = 0; /* when the last one that must be there was asked for */
    for (uint32_t i = 0; i < look->touching_count; i++) {
        const struct change *change = look->touching[i];
        if (change->offset <= from && from < change->offset + change->length) {
            covering[count++] = change;
            if (must_be_there(look, change) && change->asked > last) {
                last = change->asked;
            }
        }
    }
    look->possible_count = 0;
    while (count-- > 0) { /* the latest first: it is the likeliest */
        if (covering[count]->answered > last) {
            look->possible[look->possible_count++] = covering[count];
        }
    }
    return last == 0;
}

static bool is_possible(const struct look *look, uint64_t offset)
{
    for (uint32_t i = 0; i < look->possible_count; i++) {
        if (byte_of(look->possible[i], offset) == look->bytes[offset - look->offset]) {
            return true;
        }
    }
    return false;
}

static uint64_t check(const unsigned char *bytes, uint64_t offset, uint64_t length, uint64_t asked)
{
    static struct look look;
    look.bytes = bytes;
    look.offset = offset;
    look.end = offset + length;
    look.asked = asked;
    look.touching_count = look.border_count = 0;
    find_borders(&look);
    for (uint32_t i = 0; i + 1 < look.border_count; i++) {
        uint64_t from = look.borders[i], end = look.borders[i + 1];
        if (from == end) {
            continue;
        }
        bool may_be_old = find_possible(&look, from);
        for (uint64_t at = from; at < end; at++) {
            bool is_old = may_be_old && at_first[at] == bytes[at - offset];
            if (!is_old && !is_possible(&look, at)) {
                return at;
            }
        }
    }
    return MODEL_RIGHT;
}

uint64_t model_check_read(const unsigned char *bytes, uint64_t offset, uint64_t length,
                          uint64_t asked)
{
    return check(bytes, offset, length, asked);
}

uint64_t model_check_survivors(const unsigned char *bytes)
{
    return check(bytes, 0, bytes_count, MODEL_NEVER);
}
