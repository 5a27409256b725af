/* SPDX-License-Identifier: MIT */
/*
 * sim_arena.h: hands out pieces of one block of memory, which a simulated world lives in and goes
 * with. Must not know what they are for.
 *
 * Powers of two from 16 bytes, a list of free pieces for each; a piece once cut stays of its size.
 * What it answers depends on the calls made and on nothing else. With AddressSanitizer whatever is
 * not taken is poisoned: an access to it is reported as one to freed memory is.
 */
#ifndef WEIR_ENGINE_SIM_ARENA_H
#define WEIR_ENGINE_SIM_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define WEIR_ARENA_CLASSES 60 /* 1 << 4 to 1 << 63 */

struct weir_arena {
    uint8_t *memory;
    size_t size;
    size_t cut;                     /* bytes of it that were ever handed out */
    size_t used;                    /* bytes that are out, each piece counted as its power of two */
    void *free[WEIR_ARENA_CLASSES]; /* each begins with a pointer to the next */
};

/* memory: all zeroes, as mmap(2) gives it, and aligned to 16 bytes. */
void weir_arena_init(struct weir_arena *arena, void *memory, size_t size);
/* Before the memory is given back to where it came from; all pieces are gone with it. */
void weir_arena_end(struct weir_arena *arena);

/* Zeroed, aligned to 16 bytes; NULL: full. */
void *weir_arena_take(struct weir_arena *arena, size_t size);
/* NULL is fine; else `size` is that of the take. */
void weir_arena_give(struct weir_arena *arena, void *piece, size_t size);
size_t weir_arena_used(const struct weir_arena *arena);

#endif
