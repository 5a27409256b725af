/* SPDX-License-Identifier: MIT */
#include "extents.h"
#include "request.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

/* Where what is at `position` ends; sets *ret_is_hole. Where a file cannot tell, all is data. */
static uint64_t end_of_extent(int fd, uint64_t position, uint64_t end, bool *ret_is_hole)
{
    off_t data = lseek(fd, (off_t)position, SEEK_DATA);
    *ret_is_hole = data < 0 ? errno == ENXIO : (uint64_t)data > position;
    if (*ret_is_hole) {
        return data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
    }
    off_t hole = data < 0 ? -1 : lseek(fd, (off_t)position, SEEK_HOLE);
    return hole <= (off_t)position || (uint64_t)hole > end ? end : (uint64_t)hole;
}

int64_t extents_find(void *argument) /* on a worker: lseek(2) may have to read */
{
    struct request *request = argument;
    struct extent *extents = (struct extent *)request->data;
    uint64_t position = request->offset, end = position + request->length;
    int64_t wanted = request->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX, count = 0;
    while (position < end && count < wanted) {
        bool is_hole;
        uint64_t next = end_of_extent(request->file->opened.fd, position, end, &is_hole);
        extents[count++] = (struct extent){
            .length = (uint32_t)(next - position),
            .flags = is_hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0,
        };
        position = next;
    }
    return count;
}
