/* SPDX-License-Identifier: MIT */
/* nth_malloc.c: malloc as the program and the C library call it. Not for a sanitizer's builds,
 * which bring an allocator of their own. */
#include "nth_calls.h"

#include <stddef.h>

/* What glibc's own names stand for: it exports these beside them. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
    return nth_fails(NTH_MALLOC) ? NULL : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    return nth_fails(NTH_MALLOC) ? NULL : __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    return nth_fails(NTH_MALLOC) ? NULL : __libc_realloc(memory, size);
}
