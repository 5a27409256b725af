/* SPDX-License-Identifier: MIT */
/* rate.h: one line on a terminal that says what goes on, and is rewritten in place. */
#ifndef NBD_RATE_H
#define NBD_RATE_H

#include <stdint.h>
#include <stdio.h>

struct rate {
    /* Since the start. */
    uint64_t reads;
    uint64_t writes;
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t others; /* requests of other kinds */
    uint64_t errors; /* requests answered with one */
    /* Now. */
    uint32_t connections;
    uint32_t in_flight;
};

/* What happened from before to now, seconds apart, per second. Does nothing when file is no
 * terminal. */
void rate_print(FILE *file, const struct rate *now, const struct rate *before, double seconds);

/* Clears the line, so that something else may be printed. */
void rate_end(FILE *file);

#endif
