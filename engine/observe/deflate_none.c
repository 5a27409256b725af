/* SPDX-License-Identifier: MIT */
/* deflate_none.c: what stands in deflate_zlib.c's place where there is no zlib. */
#include <engine/observe/deflate.h>
#include <errno.h>

size_t weir_deflate_bound(size_t size)
{
    (void)size;
    return 0;
}

int weir_deflate(const void *from, size_t size, void *into, size_t *ret_size)
{
    (void)from;
    (void)size;
    (void)into;
    (void)ret_size;
    return -EOPNOTSUPP;
}
