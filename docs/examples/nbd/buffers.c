/* SPDX-License-Identifier: MIT */
#include "buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* <linux/mman.h> since 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

int buffers_open(struct buffers *buffers, uint32_t connections)
{
    *buffers = (struct buffers){.count = connections * BUFFERS_SURE + BUFFERS_LENT};
    size_t bytes = (size_t)buffers->count * BUFFER_BYTES;
    buffers->all = calloc(buffers->count, sizeof *buffers->all);
    /* Touched only as it is used: see touch(). */
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!buffers->all || memory == MAP_FAILED) {
        free(buffers->all);
        if (memory != MAP_FAILED) {
            munmap(memory, bytes);
        }
        return -ENOMEM;
    }
    buffers->memory = memory;
    for (uint32_t i = buffers->count; i-- > 0;) {
        buffers->all[i].bytes = buffers->memory + (size_t)i * BUFFER_BYTES;
        buffers->all[i].next = buffers->free;
        buffers->free = &buffers->all[i];
    }
    buffers->free_count = buffers->count;
    buffers->sure = connections * BUFFERS_SURE;
    return 0;
}

void buffers_close(struct buffers *buffers)
{
    if (buffers->memory) {
        munmap(buffers->memory, (size_t)buffers->count * BUFFER_BYTES);
        free(buffers->all);
    }
    *buffers = (struct buffers){0};
}

/* A buffer that is taken for the first time, whole: so memory grows with the most that were ever
 * held at once, not with what happened to be in them. Where the kernel cannot (before 5.14), by and
 * by. */
static void touch(struct buffers *buffers, const struct buffer *buffer)
{
    if (buffer == &buffers->all[buffers->touched]) {
        buffers->touched++;
        madvise(buffer->bytes, BUFFER_BYTES, MADV_POPULATE_WRITE);
    }
}

struct buffer *buffer_take(struct buffers *buffers, struct share *share)
{
    if (share->held < BUFFERS_SURE) {
        buffers->sure--;
    } else if (share->held - BUFFERS_SURE >= buffers->free_count - buffers->sure) {
        return NULL;
    }
    struct buffer *buffer = buffers->free;
    buffers->free = buffer->next;
    buffers->free_count--;
    touch(buffers, buffer);
    buffer->share = share;
    buffer->holds = 1;
    share->held++;
    return buffer;
}

void buffer_drop(struct buffers *buffers, struct buffer *buffer)
{
    if (!buffer || --buffer->holds > 0) {
        return;
    }
    if (--buffer->share->held < BUFFERS_SURE) {
        buffers->sure++;
    }
    buffer->next = buffers->free; /* the last one used is the next one: it is in the cache */
    buffers->free = buffer;
    buffers->free_count++;
    buffers->was_dropped = true;
}

void *buffer_carve(struct buffers *buffers, struct share *share, struct carving *carving,
                   uint32_t length, uint32_t alignment, struct buffer **ret_buffer)
{
    struct buffer *buffer = carving->buffer;
    if (buffer && buffer->holds == 1) { /* all that was cut from it is gone */
        carving->used = 0;
    }
    uint32_t at = (carving->used + alignment - 1) & ~(alignment - 1); /* buffers begin a page */
    if (!buffer || at + length > BUFFER_BYTES) {
        struct buffer *next = buffer_take(buffers, share);
        if (!next) {
            return NULL;
        }
        buffer_drop(buffers, buffer);
        carving->buffer = buffer = next;
        at = 0;
    }
    carving->used = at + length;
    *ret_buffer = buffer_hold(buffer);
    return buffer->bytes + at;
}
