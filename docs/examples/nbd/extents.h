/* SPDX-License-Identifier: MIT */
/* extents.h: which parts of a file are holes, for BLOCK_STATUS. */
#ifndef EXTENTS_H
#define EXTENTS_H

#include <stdint.h>

enum { EXTENTS_MAX = 128 }; /* that one reply tells of at most; who wants more asks again */

struct extent {
    uint32_t length; /* bytes */
    uint32_t flags;  /* enum nbd_extent_flags */
};

/* The function of a CALL, on a struct request of BLOCK_STATUS whose data have room for EXTENTS_MAX:
 * writes them there. Their number, at least 1. */
int64_t extents_find(void *request);

#endif
