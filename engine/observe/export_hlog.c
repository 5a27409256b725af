/* SPDX-License-Identifier: MIT */
/*
 * export_hlog.c: a snapshot as an HdrHistogram interval log: histograms in V2 encoding, deflated,
 * in base64.
 *
 * Written with two significant digits: then an octave has 128 slots, and our 32 buckets of an
 * octave are whole slots. A bucket's samples stand in the slot of its highest value, or of the
 * largest value recorded where that is smaller, so that a reader's percentiles, each the highest
 * value of a slot, are ours; but for those that we clamp to the largest value: there a reader may
 * find up to a slot, 1/128, more. Clipped samples stand in the largest value's slot.
 */
#include <engine/base/histogram.h>
#include <engine/observe/deflate.h>
#include <engine/observe/snapshot.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIGITS 2
#define SLOT_BITS 7 /* of an octave: half of the power of two above 2 * 10^DIGITS */
_Static_assert(SLOT_BITS >= WEIR_HISTOGRAM_BITS, "a bucket is whole slots");

#define COOKIE 0x1c849313u            /* V2, counts as ZigZag LEB128 */
#define COOKIE_COMPRESSED 0x1c849314u /* the same, deflated */
#define HEADER_SIZE 40
#define COUNT_SIZE 9                 /* of a count at most: LEB128 whose ninth byte is whole */
#define VALUE_MAX ((1ULL << 62) - 1) /* of others' signed values, and twice it is one too */

/* For each bucket, and for the clipped samples, a count and the zeros before it. */
#define ENCODED_MAX (HEADER_SIZE + (WEIR_HISTOGRAM_BUCKETS + 1) * 2 * COUNT_SIZE)

struct encoder {
    size_t used;
    uint64_t next_slot; /* the first that nothing was said of */
    uint8_t encoded[ENCODED_MAX];
    uint8_t compressed[]; /* the frame, then as many bytes as they may become */
};

#define FRAME_SIZE 8

static void store_big_endian(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        at[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
}

static uint64_t slot_of(uint64_t value)
{
    unsigned highest = 63u - (unsigned)__builtin_clzll(value | (1u << SLOT_BITS));
    unsigned shift = highest - SLOT_BITS;
    return ((uint64_t)shift << SLOT_BITS) + (value >> shift);
}

static void put_count(struct encoder *encoder, int64_t count)
{
    uint64_t left = count < 0 ? ((uint64_t)-count << 1) - 1 : (uint64_t)count << 1; /* ZigZag */
    for (unsigned i = 1; i < COUNT_SIZE && left >= 0x80; i++) {
        encoder->encoded[encoder->used++] = (uint8_t)(left | 0x80);
        left >>= 7;
    }
    encoder->encoded[encoder->used++] = (uint8_t)left;
}

/* The samples of a slot; slots come in rising order. */
static void put_slot(struct encoder *encoder, uint64_t slot, uint64_t count)
{
    uint64_t zeros = slot - encoder->next_slot;
    if (zeros > 0) {
        put_count(encoder, zeros == 1 ? 0 : -(int64_t)zeros);
    }
    put_count(encoder, (int64_t)count);
    encoder->next_slot = slot + 1;
}

static void encode(struct encoder *encoder, const struct weir_histogram *histogram)
{
    uint64_t max = histogram->max < VALUE_MAX ? histogram->max : VALUE_MAX;
    uint64_t slot = 0;
    uint64_t count = 0; /* of `slot`, so far */
    encoder->used = HEADER_SIZE;
    encoder->next_slot = 0;
    for (unsigned i = 0; i <= WEIR_HISTOGRAM_BUCKETS; i++) {
        bool last = i == WEIR_HISTOGRAM_BUCKETS;
        uint64_t more = last ? histogram->clipped : histogram->buckets[i];
        uint64_t highest = last ? max : weir_histogram_highest(i);
        uint64_t here = slot_of(highest < max ? highest : max);
        if (more > 0 && count > 0 && here != slot) {
            put_slot(encoder, slot, count);
            count = 0;
        }
        if (more > 0) {
            slot = here;
            count += more;
        }
    }
    if (count > 0) {
        put_slot(encoder, slot, count);
    }
    uint8_t *header = encoder->encoded;
    store_big_endian(header, COOKIE, 4);
    store_big_endian(header + 4, encoder->used - HEADER_SIZE, 4);
    store_big_endian(header + 8, 0, 4); /* slots are not shifted */
    store_big_endian(header + 12, DIGITS, 4);
    store_big_endian(header + 16, 1, 8);                  /* the lowest value told from 0 */
    store_big_endian(header + 24, max < 2 ? 2 : max, 8);  /* what a reader must have slots for */
    store_big_endian(header + 32, 0x3ff0000000000000, 8); /* 1.0: values are as they are */
}

static void put_base64(struct weir_text *text, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t here = size - i < 3 ? size - i : 3;
        uint32_t three = (uint32_t)bytes[i] << 16;
        three |= here > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        three |= here > 2 ? bytes[i + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], digits[three >> 6 & 63],
                        digits[three & 63]};
        memset(four + here + 1, '=', 3 - here);
        weir_text_put(text, four, sizeof four);
    }
}

static void put_thousandths(struct weir_text *text, const char *before, uint64_t value)
{
    weir_text_print(text, "%s", before);
    weir_text_fixed(text, value, 3);
}

static void put_head(struct weir_text *text, uint64_t start_ns)
{
    time_t seconds = (time_t)(start_ns / 1000000000u);
    struct tm utc = {0};
    char date[64] = "";
    if (gmtime_r(&seconds, &utc)) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    weir_text_print(text, "#[Logged by weir %s]\n", weir_version());
    weir_text_print(text, "#[Histogram log format version 1.2]\n");
    put_thousandths(text, "#[StartTime: ", start_ns / 1000000);
    weir_text_print(text, " (seconds since epoch), %s]\n", date);
    weir_text_print(text, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
                          "\"Interval_Compressed_Histogram\"\n");
}

/* A line of the log, its tag excepted. */
static int put_interval(struct weir_text *text, struct encoder *encoder, uint64_t start_ns,
                        uint64_t length_ns, const struct weir_histogram *histogram)
{
    size_t size;
    encode(encoder, histogram);
    int r = weir_deflate(encoder->encoded, encoder->used, encoder->compressed + FRAME_SIZE, &size);
    if (r < 0) {
        return r;
    }
    store_big_endian(encoder->compressed, COOKIE_COMPRESSED, 4);
    store_big_endian(encoder->compressed + 4, size, 4);
    put_thousandths(text, ",", start_ns / 1000000);
    put_thousandths(text, ",", length_ns / 1000000);
    put_thousandths(text, ",", histogram->max / 1000); /* milliseconds */
    weir_text_print(text, ",");
    put_base64(text, encoder->compressed, FRAME_SIZE + size);
    weir_text_print(text, "\n");
    return 0;
}

static int put_task(struct weir_text *text, struct encoder *encoder,
                    const struct weir_snapshot *snapshot, const struct weir_snapshot_task *row)
{
    uint64_t start_ns = snapshot->since_ns ? snapshot->since_ns : snapshot->taken_ns;
    int r = 0;
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT && r == 0; stage++) {
        if (row->stages[stage].count == 0) {
            continue;
        }
        weir_text_print(text, "Tag=");
        weir_text_tag(text, row->label);
        weir_text_print(text, ".");
        weir_text_tag(text, row->task);
        weir_text_print(text, ".%s", weir_stage_name(stage));
        r = put_interval(text, encoder, start_ns, snapshot->taken_ns - start_ns,
                         &row->stages[stage]);
    }
    return r;
}

int weir_snapshot_write_hlog(const struct weir_snapshot *snapshot, struct weir_text *text)
{
    size_t bound = weir_deflate_bound(ENCODED_MAX);
    if (bound == 0) {
        return -EOPNOTSUPP;
    }
    struct encoder *encoder = malloc(sizeof *encoder + FRAME_SIZE + bound);
    if (!encoder) {
        return -ENOMEM;
    }
    int r = 0;
    put_head(text, snapshot->since_ns ? snapshot->since_ns : snapshot->taken_ns);
    for (uint32_t i = 0; i < snapshot->task_count && r == 0; i++) {
        r = put_task(text, encoder, snapshot, weir_snapshot_task_at(snapshot, i));
    }
    free(encoder);
    return r;
}
