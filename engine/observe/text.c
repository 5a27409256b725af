/* SPDX-License-Identifier: MIT */
#include <engine/observe/text.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void weir_text_begin(struct weir_text *text, weir_writer *writer, void *context)
{
    text->writer = writer;
    text->context = context;
    text->error = 0;
    text->used = 0;
}

static void write_out(struct weir_text *text, const char *bytes, size_t size)
{
    if (text->error == 0 && size > 0) {
        text->error = text->writer(text->context, bytes, size);
    }
}

static void empty_buffer(struct weir_text *text)
{
    write_out(text, text->buffer, text->used);
    text->used = 0;
}

int weir_text_end(struct weir_text *text)
{
    empty_buffer(text);
    return text->error;
}

void weir_text_put(struct weir_text *text, const char *bytes, size_t size)
{
    if (size > sizeof text->buffer - text->used) {
        empty_buffer(text);
    }
    if (size > sizeof text->buffer) {
        write_out(text, bytes, size);
        return;
    }
    memcpy(text->buffer + text->used, bytes, size);
    text->used += size;
}

void weir_text_print(struct weir_text *text, const char *format, ...)
{
    for (bool again = true; text->error == 0; again = false) {
        size_t room = sizeof text->buffer - text->used;
        va_list arguments;
        va_start(arguments, format);
        int size = vsnprintf(text->buffer + text->used, room, format, arguments);
        va_end(arguments);
        if (size >= 0 && (size_t)size < room) {
            text->used += (size_t)size;
            return;
        }
        empty_buffer(text);
        if (!again && text->error == 0) {
            text->error = -EMSGSIZE;
        }
    }
}

void weir_text_fixed(struct weir_text *text, uint64_t number, unsigned decimals)
{
    uint64_t one = 1;
    for (unsigned i = 0; i < decimals; i++) {
        one *= 10;
    }
    weir_text_print(text, "%llu", (unsigned long long)(number / one));
    if (decimals > 0) {
        weir_text_print(text, ".%0*llu", (int)decimals, (unsigned long long)(number % one));
    }
}

static bool continues(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Bytes of the valid UTF-8 character at `at`, which ends at a NUL; 0: there is none. Neither longer
 * than need be, nor a surrogate, nor past U+10FFFF. */
static size_t utf8_length(const unsigned char *at)
{
    if (at[0] < 0x80) {
        return 1;
    }
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        return continues(at[1]) ? 2 : 0;
    }
    if (at[0] >= 0xe0 && at[0] <= 0xef) {
        bool valid = continues(at[1]) && !(at[0] == 0xe0 && at[1] < 0xa0) &&
                     !(at[0] == 0xed && at[1] > 0x9f);
        return valid && continues(at[2]) ? 3 : 0;
    }
    if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        bool valid = continues(at[1]) && !(at[0] == 0xf0 && at[1] < 0x90) &&
                     !(at[0] == 0xf4 && at[1] > 0x8f);
        return valid && continues(at[2]) && continues(at[3]) ? 4 : 0;
    }
    return 0;
}

static void put_bad_byte(struct weir_text *text, unsigned byte)
{
    weir_text_print(text, "\xef\xbf\xbd%02x", byte);
}

/* controls: of those but newline, JSON allows none in a string, and Prometheus every one. */
static void put_quoted(struct weir_text *text, const char *string, bool controls)
{
    const unsigned char *at = (const unsigned char *)string;
    weir_text_put(text, "\"", 1);
    while (*at) {
        size_t length = utf8_length(at);
        if (length == 0) {
            put_bad_byte(text, *at);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            weir_text_print(text, "\\%c", *at);
        } else if (*at == '\n') {
            weir_text_put(text, "\\n", 2);
        } else if (*at < 0x20 && !controls) {
            weir_text_print(text, "\\u%04x", *at);
        } else {
            weir_text_put(text, (const char *)at, length);
        }
        at += length;
    }
    weir_text_put(text, "\"", 1);
}

void weir_text_json_string(struct weir_text *text, const char *string)
{
    put_quoted(text, string, false);
}

void weir_text_label_value(struct weir_text *text, const char *string)
{
    put_quoted(text, string, true);
}

void weir_text_tag(struct weir_text *text, const char *string)
{
    const unsigned char *at = (const unsigned char *)string;
    while (*at) {
        size_t length = utf8_length(at);
        if (length == 0) {
            put_bad_byte(text, *at);
            length = 1;
        } else if (*at <= ' ' || *at == ',' || *at == 0x7f) {
            weir_text_put(text, "_", 1);
        } else {
            weir_text_put(text, (const char *)at, length);
        }
        at += length;
    }
}
