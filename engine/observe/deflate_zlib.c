/* SPDX-License-Identifier: MIT */
#include <engine/observe/deflate.h>
#include <errno.h>
#include <zlib.h>

size_t weir_deflate_bound(size_t size)
{
    return compressBound(size);
}

int weir_deflate(const void *from, size_t size, void *into, size_t *ret_size)
{
    uLongf used = compressBound(size);
    /* The room is enough, so that memory is all that may be missing. */
    if (compress2(into, &used, from, size, Z_DEFAULT_COMPRESSION) != Z_OK) {
        return -ENOMEM;
    }
    *ret_size = used;
    return 0;
}
