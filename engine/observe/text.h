/* SPDX-License-Identifier: MIT */
/*
 * text.h: text on its way into a weir_writer: small pieces are put together in a buffer, the first
 * error is remembered, and nothing is written after it; so who emits looks at the error once, at
 * the end. Must not know what is written.
 *
 * What it writes does not depend on the locale: no %f and its like, which write a comma in some;
 * see weir_text_fixed().
 */
#ifndef WEIR_ENGINE_TEXT_H
#define WEIR_ENGINE_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <weir/observe.h>

#define WEIR_TEXT_BUFFER 4096

struct weir_text {
    weir_writer *writer;
    void *context;
    int error; /* the writer's first one, negative; 0: none */
    size_t used;
    char buffer[WEIR_TEXT_BUFFER];
};

void weir_text_begin(struct weir_text *text, weir_writer *writer, void *context);
/* Writes what the buffer holds. 0, or the first error. */
int weir_text_end(struct weir_text *text);

void weir_text_put(struct weir_text *text, const char *bytes, size_t size);
/* As printf(3), WEIR_TEXT_BUFFER - 1 bytes at most: more is the error -EMSGSIZE. */
void weir_text_print(struct weir_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* number / 10^decimals, "12.000345"; decimals: 0 to 18. */
void weir_text_fixed(struct weir_text *text, uint64_t number, unsigned decimals);

/*
 * Any bytes as a quoted string of JSON; of a Prometheus label value. Both must be UTF-8: a byte
 * that belongs to no valid character becomes U+FFFD and its two hexadecimal digits, so that names
 * which differ go on differing.
 */
void weir_text_json_string(struct weir_text *text, const char *string);
void weir_text_label_value(struct weir_text *text, const char *string);
/* The same as a tag of an HdrHistogram log, not quoted: whitespace, control characters and commas
 * become '_'. */
void weir_text_tag(struct weir_text *text, const char *string);

#endif
