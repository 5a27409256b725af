/* SPDX-License-Identifier: MIT */
/* crash.h: a world, what is drawn and told in it, and what all worlds together have seen. */
#ifndef CRASH_H
#define CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <weir/weir.h>

struct world {
    struct weir_sim *sim;
    struct weir_loop *loop; /* the clients', and of whoever looks at the disk itself */
    uint64_t size;          /* of the disk that is served */
    uint32_t block;         /* what requests are multiples of */
    uint32_t shard_count;
    bool is_calm;       /* nothing goes wrong but that the machine stops: nothing may fail */
    bool is_small;      /* but for want of room on the disk below */
    bool may_not_trim;  /* the disk below may not be able to: then a TRIM does nothing, and works */
    bool is_draining;   /* the server; in this life */
    uint32_t asks_left; /* requests to be made in this life */
    char complaint[200];
};

extern struct world world;
extern bool is_shown; /* what happens to promises is printed */
extern bool is_blind; /* only what is lost or not there is complained of */

struct total {
    uint64_t crashes, simulated_ns;
    uint64_t reads, changes, flushes; /* that were answered well */
    uint64_t promises;                /* of changes: with FUA */
    uint64_t failures, unanswered;
    uint64_t promises_checked; /* that left after the sync that covers them */
    uint64_t sectors_lost, sectors_torn;
};

extern struct total total;

/* From 0 on. */
uint64_t draw(uint64_t below);
/* The first counts, and ends the life. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line with the time in front. */
void show(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
