/* SPDX-License-Identifier: MIT */
/* deflate.h: zlib's stream format, where the library was built with zlib. */
#ifndef WEIR_ENGINE_DEFLATE_H
#define WEIR_ENGINE_DEFLATE_H

#include <stddef.h>

/* What `size` bytes become at most, bytes; 0: built without zlib. */
size_t weir_deflate_bound(size_t size);

/* Into `into`, which holds weir_deflate_bound(size) bytes; *ret_size: as many as it takes.
 * Allocates meanwhile. 0; -ENOMEM; -EOPNOTSUPP: built without zlib. */
int weir_deflate(const void *from, size_t size, void *into, size_t *ret_size);

#endif
