/* SPDX-License-Identifier: MIT */
/*
 * buffers.h: the memory of a loop's connections, all of it mapped at the start: buffers of one
 * size, counted by those who hold them. Each connection is sure of BUFFERS_SURE of them; what is
 * left beyond that is lent, and nobody may hold more of it than is still there for others. So a
 * client that never reads its replies keeps a part, and nobody waits for it.
 */
#ifndef BUFFERS_H
#define BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of a transfer, and room for what stands before it (a request, its reply's header). */
#define BUFFER_PIECE (128u << 10)
#define BUFFER_BYTES (BUFFER_PIECE + 8192u)
#define BUFFERS_SURE 4u
#define BUFFERS_LENT 256u

struct buffer {
    unsigned char *bytes; /* BUFFER_BYTES, a page's multiple */
    struct buffer *next;  /* while it is free */
    struct share *share;  /* whose it is */
    uint32_t holds;       /* it is free again when all are dropped */
};

/* A connection's part. Zeroed at first. */
struct share {
    uint32_t held;
};

/* A buffer from which small pieces are cut, one after the other. Zeroed at first; its buffer is to
 * be dropped at last. */
struct carving {
    struct buffer *buffer;
    uint32_t used;
};

struct buffers {
    struct buffer *all;
    struct buffer *free;
    unsigned char *memory;
    uint32_t count;
    uint32_t free_count;
    uint32_t touched; /* so many, from the first, were taken ever */
    uint32_t sure;    /* of the free ones: kept for those who hold less than they are sure of, and
                       * for those who have not come yet */
    bool was_dropped; /* one became free: who waits may look again. The reader resets it */
};

/* For so many connections. 0; -ENOMEM. */
int buffers_open(struct buffers *buffers, uint32_t connections);
void buffers_close(struct buffers *buffers);

/* With one hold; NULL: not now. */
struct buffer *buffer_take(struct buffers *buffers, struct share *share);
static inline struct buffer *buffer_hold(struct buffer *buffer)
{
    buffer->holds++;
    return buffer;
}
/* A piece of the carving's buffer, or of the next: with a hold, which is *ret_buffer's. alignment:
 * a power of 2, to a page. At most BUFFER_BYTES. NULL: not now. */
void *buffer_carve(struct buffers *buffers, struct share *share, struct carving *carving,
                   uint32_t length, uint32_t alignment, struct buffer **ret_buffer);
/* NULL too. */
void buffer_drop(struct buffers *buffers, struct buffer *buffer);

#endif
