/* SPDX-License-Identifier: MIT */
/*
 * allocations.h: counts calls of the C library's allocator and of mmap(2) and munmap(2) in this
 * process, by standing in front of them (allocations.c defines their names), shared libraries
 * included.
 */
#ifndef WEIR_TESTS_KERNEL_ALLOCATIONS_H
#define WEIR_TESTS_KERNEL_ALLOCATIONS_H

#include <stdint.h>

struct allocations {
    uint64_t malloc;
    uint64_t calloc;
    uint64_t realloc;
    uint64_t free;
    uint64_t aligned; /* posix_memalign, aligned_alloc, memalign */
    uint64_t mmap;
    uint64_t munmap;
};

/* Since the process began; any thread's. */
struct allocations allocations_now(void);
/* All of them together, since `before`. */
uint64_t allocations_since(const struct allocations *before);

#endif
