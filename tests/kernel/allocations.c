/* SPDX-License-Identifier: MIT */
#include "allocations.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* What glibc's own names stand for: it exports these beside them. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void __libc_free(void *memory);
extern void *__libc_memalign(size_t alignment, size_t size);

static struct allocations counts;

static void count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

struct allocations allocations_now(void)
{
    return counts;
}

uint64_t allocations_since(const struct allocations *before)
{
    return counts.malloc - before->malloc + (counts.calloc - before->calloc) +
           (counts.realloc - before->realloc) + (counts.free - before->free) +
           (counts.aligned - before->aligned) + (counts.mmap - before->mmap) +
           (counts.munmap - before->munmap);
}

void *malloc(size_t size)
{
    count(&counts.malloc);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(&counts.calloc);
    return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    count(&counts.realloc);
    return __libc_realloc(memory, size);
}

void free(void *memory)
{
    count(&counts.free);
    __libc_free(memory);
}

void *memalign(size_t alignment, size_t size)
{
    count(&counts.aligned);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count(&counts.aligned);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    count(&counts.aligned);
    void *memory = __libc_memalign(alignment, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *ret_memory = memory;
    return 0;
}

/* mmap has two names, and <sys/mman.h> turns the one into the other: so it is not included here. */
void *mapped(void *at, size_t size, int protection, int flags, int fd,
             off_t offset) __asm__("mmap");
void *mapped_large(void *at, size_t size, int protection, int flags, int fd,
                   off_t offset) __asm__("mmap64");
int unmapped(void *at, size_t size) __asm__("munmap");

void *mapped(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    count(&counts.mmap);
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mapped_large(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mapped(at, size, protection, flags, fd, offset);
}

int unmapped(void *at, size_t size)
{
    count(&counts.munmap);
    return (int)syscall(SYS_munmap, at, size);
}
