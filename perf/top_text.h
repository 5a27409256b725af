/* SPDX-License-Identifier: MIT */
/*
 * perf/top_text.h: lines of text for a terminal: cut at its width, with colours or without, and
 * without what a name could do to a terminal.
 */
#ifndef PERF_TOP_TEXT_H
#define PERF_TOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum top_style {
    TOP_BOLD = 1,
    TOP_DIM = 2,
    TOP_RED = 31,
    TOP_GREEN = 32,
    TOP_YELLOW = 33,
};

struct top_text {
    unsigned width; /* columns; 0: any number */
    bool styled;
    char *bytes; /* malloc'ed; NULL: none, or no memory */
    size_t size;
    size_t capacity;
    unsigned column;
    unsigned lines; /* ended */
};

/* Bytes as they are, which count for nothing. */
void top_append(struct top_text *text, const char *bytes, size_t size);
/* Up to the first NUL; each byte that is no plain character is shown as one. */
void top_put(struct top_text *text, const char *string);
/* In `columns`, the rest blank; longer ones are cut, with a "~" at the end. */
void top_put_cut(struct top_text *text, const char *string, unsigned columns);
/* Its end, behind "..." if it must be cut, so that `columns` of the width are left. */
void top_put_end(struct top_text *text, const char *string, unsigned columns);
unsigned top_columns_of(const char *string);
void top_print(struct top_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void top_style(struct top_text *text, enum top_style style);
void top_plain(struct top_text *text);
void top_end_line(struct top_text *text);
/* Ends there after `lines` lines. */
void top_keep_lines(struct top_text *text, unsigned lines);
void top_free(struct top_text *text);

#define TOP_NUMBER_SIZE 32
/* "999us", "1.2ms", in five columns at most. */
const char *top_duration(uint64_t ns, char buffer[TOP_NUMBER_SIZE]);
/* "99999", "1.2M", in five columns at most. */
const char *top_number(double number, char buffer[TOP_NUMBER_SIZE]);
/* The same, but what is more than nothing does not look like nothing: "<0.1". */
const char *top_rate(double rate, char buffer[TOP_NUMBER_SIZE]);

#endif
