/* SPDX-License-Identifier: MIT */
#include "top_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096

void top_append(struct top_text *text, const char *bytes, size_t size)
{
    if (size > text->capacity - text->size) {
        size_t capacity = text->capacity ? text->capacity : FIRST_CAPACITY;
        while (capacity < text->size + size) {
            capacity *= 2;
        }
        char *larger = realloc(text->bytes, capacity);
        if (!larger) {
            return; /* what is shown lacks it */
        }
        text->bytes = larger;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

/* Bytes of the character that begins there: UTF-8, as far as it takes to count columns. */
static size_t character_size(const char *at)
{
    size_t size = 1;
    while (((unsigned char)at[size] & 0xc0) == 0x80 && size < 4) {
        size++;
    }
    return size;
}

/* C0, DEL, C1: what makes a terminal do things. */
static bool is_control(const char *at, size_t size)
{
    unsigned char first = (unsigned char)at[0];
    return first < 0x20 || first == 0x7f || (size == 1 && first >= 0x80) ||
           (size == 2 && first == 0xc2 && (unsigned char)at[1] < 0xa0);
}

unsigned top_columns_of(const char *string)
{
    unsigned columns = 0;
    for (; *string; string += character_size(string)) {
        columns++;
    }
    return columns;
}

static void put_some(struct top_text *text, const char *string, unsigned columns)
{
    while (*string && columns > 0 && (text->width == 0 || text->column < text->width)) {
        size_t size = character_size(string);
        if (is_control(string, size)) {
            top_append(text, "?", 1);
        } else {
            top_append(text, string, size);
        }
        string += size;
        text->column++;
        columns--;
    }
}

void top_put(struct top_text *text, const char *string)
{
    put_some(text, string, ~0u);
}

void top_put_cut(struct top_text *text, const char *string, unsigned columns)
{
    unsigned has = top_columns_of(string);
    if (has > columns) {
        put_some(text, string, columns - 1);
        put_some(text, "~", 1);
        return;
    }
    put_some(text, string, has);
    for (; has < columns; has++) {
        put_some(text, " ", 1);
    }
}

void top_put_end(struct top_text *text, const char *string, unsigned columns)
{
    unsigned has = top_columns_of(string);
    unsigned taken = text->column + columns;
    unsigned room = text->width == 0 ? has : text->width > taken ? text->width - taken : 0;
    if (has > room) {
        put_some(text, "...", room);
        room = room > 3 ? room - 3 : 0;
        for (; has > room; has--) {
            string += character_size(string);
        }
    }
    top_put(text, string);
}

void top_print(struct top_text *text, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    top_put(text, line);
}

void top_style(struct top_text *text, enum top_style style)
{
    char code[16];
    if (text->styled) {
        top_append(text, code, (size_t)snprintf(code, sizeof code, "\033[%dm", (int)style));
    }
}

void top_plain(struct top_text *text)
{
    if (text->styled) {
        top_append(text, "\033[0m", 4);
    }
}

void top_end_line(struct top_text *text)
{
    top_plain(text);
    top_append(text, "\n", 1);
    text->column = 0;
    text->lines++;
}

void top_keep_lines(struct top_text *text, unsigned lines)
{
    if (text->lines <= lines) {
        return;
    }
    size_t end = 0;
    for (unsigned line = 0; line < lines; line++) {
        const char *next = memchr(text->bytes + end, '\n', text->size - end);
        end = (size_t)(next - text->bytes) + 1;
    }
    text->size = end;
    text->lines = lines;
}

void top_free(struct top_text *text)
{
    free(text->bytes);
    *text = (struct top_text){.width = text->width, .styled = text->styled};
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* From `from` on values are told in units of `size`. A little early, where rounding would give the
 * unit before a digit more. */
struct scale {
    double from;
    double size;
    const char *unit;
};

/* In the last unit that it has come to; small ones get a decimal. */
static const char *in_scale(double value, const struct scale *scale, size_t count, char *buffer)
{
    size_t at = 0;
    while (at + 1 < count && value >= scale[at + 1].from) {
        at++;
    }
    double scaled = value / scale[at].size;
    const char *unit = value > 0 ? scale[at].unit : "";
    bool is_whole = at == 0 && scaled >= 0 && scaled == (double)(uint64_t)scaled;
    snprintf(buffer, TOP_NUMBER_SIZE, scaled < 9.95 && !is_whole ? "%.1f%s" : "%.0f%s", scaled,
             unit);
    return buffer;
}

const char *top_duration(uint64_t ns, char buffer[TOP_NUMBER_SIZE])
{
    static const struct scale scale[] = {
        {0, 1, "ns"},
        {999.5, 1e3, "us"},
        {999.5e3, 1e6, "ms"},
        {999.5e6, 1e9, "s"},
        {599.5e9, 60e9, "m"},
        {599.5 * 60e9, 3600e9, "h"},
        {99.5 * 3600e9, 86400e9, "d"},
    };
    return in_scale((double)ns, scale, sizeof scale / sizeof *scale, buffer);
}

const char *top_number(double number, char buffer[TOP_NUMBER_SIZE])
{
    static const struct scale scale[] = {
        {0, 1, ""},          {99999.5, 1e3, "k"},  {999.5e3, 1e6, "M"},
        {999.5e6, 1e9, "G"}, {999.5e9, 1e12, "T"},
    };
    return in_scale(number, scale, sizeof scale / sizeof *scale, buffer);
}

const char *top_rate(double rate, char buffer[TOP_NUMBER_SIZE])
{
    if (rate > 0 && rate < 0.05) {
        snprintf(buffer, TOP_NUMBER_SIZE, "<0.1");
        return buffer;
    }
    return top_number(rate, buffer);
}
