/* SPDX-License-Identifier: MIT */
/*
 * sim_arena.c: free lists over a block that is cut from the front. What was never handed out is
 * still zero, so only pieces that come back are cleared.
 */
#include "sim_arena.h"

#include <engine/base/check.h>
#include <string.h>

#define CLASS_SMALLEST 4 /* 1 << 4: what a free piece's pointer needs, and the alignment */

/* gcc says so by a macro, clang by a question that gcc does not understand. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISONS 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_POISONS 1
#endif

#ifdef ARENA_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

/* The power of two that holds size bytes; its piece is 1 << class. */
static unsigned class_of(size_t size)
{
    if (size <= (size_t)1 << CLASS_SMALLEST) {
        return CLASS_SMALLEST;
    }
    return 64 - (unsigned)__builtin_clzll((unsigned long long)size - 1);
}

void weir_arena_init(struct weir_arena *arena, void *memory, size_t size)
{
    memset(arena, 0, sizeof *arena);
    arena->memory = memory;
    arena->size = size;
    ASAN_POISON_MEMORY_REGION(memory, size);
}

void weir_arena_end(struct weir_arena *arena)
{
    /* The addresses may be somebody else's next. */
    ASAN_UNPOISON_MEMORY_REGION(arena->memory, arena->size);
    memset(arena, 0, sizeof *arena);
}

void *weir_arena_take(struct weir_arena *arena, size_t size)
{
    if (size > arena->size) {
        return NULL;
    }
    unsigned class = class_of(size);
    size_t whole = (size_t)1 << class;
    void **free = &arena->free[class - CLASS_SMALLEST];
    void *piece = *free;
    if (piece) {
        ASAN_UNPOISON_MEMORY_REGION(piece, size > sizeof(void *) ? size : sizeof(void *));
        memcpy(free, piece, sizeof *free);
        memset(piece, 0, size);
    } else {
        if (whole > arena->size - arena->cut) {
            return NULL;
        }
        piece = arena->memory + arena->cut;
        arena->cut += whole;
        ASAN_UNPOISON_MEMORY_REGION(piece, size);
    }
    arena->used += whole;
    return piece;
}

void weir_arena_give(struct weir_arena *arena, void *piece, size_t size)
{
    if (!piece) {
        return;
    }
    unsigned class = class_of(size);
    size_t whole = (size_t)1 << class;
    void **free = &arena->free[class - CLASS_SMALLEST];
    WEIR_CHECK((uint8_t *)piece >= arena->memory &&
               (uint8_t *)piece + whole <= arena->memory + arena->cut);
    ASAN_UNPOISON_MEMORY_REGION(piece, sizeof *free);
    memcpy(piece, free, sizeof *free);
    *free = piece;
    arena->used -= whole;
    ASAN_POISON_MEMORY_REGION(piece, whole);
}

size_t weir_arena_used(const struct weir_arena *arena)
{
    return arena->used;
}
