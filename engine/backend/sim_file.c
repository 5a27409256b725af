/* SPDX-License-Identifier: MIT */
/*
 * sim_file.c: the system calls on a file's content. Which bytes of it a crash may drop is noted as
 * they are written; now and then some are written back that nobody asked for.
 */
#include "sim_inode.h"

#include <fcntl.h>
#include <linux/falloc.h>

/* One in so many calls that change a file finds that it was written back just before. */
#define WRITTEN_BACK_ONE_IN 8

static int check_file(const struct weir_inode *inode)
{
    return S_ISREG(inode->mode) ? 0 : S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- iovecs ----------------------------------------------------------------------------------- */

/* Where a transfer stands in the caller's memory. */
struct cursor {
    const struct iovec *iov;
    uint64_t moved; /* of the first */
};

static uint64_t length_of(const struct iovec *iov, uint32_t count, uint64_t most)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < count && length < most; i++) {
        length += min_of(iov[i].iov_len, most - length);
    }
    return length;
}

/* Between the caller's memory and a page's; bytes NULL: zeroes. */
static void move(struct cursor *cursor, uint8_t *bytes, uint64_t length, bool reads)
{
    while (length > 0) {
        uint64_t part = min_of(cursor->iov->iov_len - cursor->moved, length);
        uint8_t *memory = (uint8_t *)cursor->iov->iov_base + cursor->moved;
        if (part == 0) {
            cursor->iov++;
            cursor->moved = 0;
            continue;
        }
        if (!reads) {
            memcpy(bytes, memory, part);
        } else if (bytes) {
            memcpy(memory, bytes, part);
        } else {
            memset(memory, 0, part);
        }
        bytes = bytes ? bytes + part : NULL;
        cursor->moved += part;
        length -= part;
    }
}

int64_t weir_disk_read(struct weir_disk *disk, struct weir_inode *inode, const struct iovec *iov,
                       uint32_t count, uint64_t length, uint64_t offset)
{
    (void)disk;
    int wrong = check_file(inode);
    if (wrong) {
        return wrong;
    }
    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    length = offset < inode->size ? min_of(length, inode->size - offset) : 0;
    length = length_of(iov, count, length);
    struct cursor cursor = {iov, 0};
    for (uint64_t done = 0; done < length;) {
        uint64_t from = (offset + done) % WEIR_DISK_PAGE;
        uint64_t part = min_of(WEIR_DISK_PAGE - from, length - done);
        struct weir_page *page = weir_page_find(inode, (offset + done) / WEIR_DISK_PAGE);
        move(&cursor, page && page->bytes ? page->bytes + from : NULL, part, true);
        done += part;
    }
    return (int64_t)length;
}

/* --- what is written is dirty ----------------------------------------------------------------- */

static bool is_written_back(struct weir_disk *disk)
{
    return weir_disk_random(disk) % WRITTEN_BACK_ONE_IN == 0;
}

/* Bits of the sectors first to last. */
static uint64_t sectors_mask(uint32_t first, uint32_t last)
{
    return UINT64_MAX >> (63 - last) & UINT64_MAX << first;
}

/* A change of bytes in one page, as a part of a call. */
struct stroke {
    uint64_t from; /* in the page */
    uint64_t length;
    bool begins;       /* the call's first page */
    bool written_back; /* the file was, just before the call */
};

/* Notes it before it happens. */
static void mark(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page,
                 const struct stroke *stroke)
{
    uint32_t first = (uint32_t)stroke->from / disk->sector_bytes;
    uint32_t last = (uint32_t)(stroke->from + stroke->length - 1) / disk->sector_bytes;
    for (uint32_t i = first; stroke->written_back && i <= last; i++) {
        if (page->dirty >> i & 1 && weir_disk_random(disk) % 2) {
            weir_page_sync_sector(disk, file, page, i);
        }
    }
    page->missed = 0; /* a page is written back as a whole */
    page->dirty |= sectors_mask(first, last);
    page->begins &= ~sectors_mask(first, last);
    page->begins |= (uint64_t)stroke->begins << first;
    if (last + 1 < disk->sector_count) {
        page->begins |= (uint64_t)1 << (last + 1);
    }
}

/* What comes after a call's last byte is not of the same write. */
static void mark_end(struct weir_inode *file, uint64_t end)
{
    struct weir_page *page =
        end % WEIR_DISK_PAGE == 0 ? weir_page_find(file, end / WEIR_DISK_PAGE) : NULL;
    if (page) {
        page->begins |= 1;
    }
}

static void touch(struct weir_disk *disk, struct weir_inode *file)
{
    file->mtime_ns = file->ctime_ns = disk->now_ns;
}

int64_t weir_disk_write(struct weir_disk *disk, struct weir_inode *inode, const struct iovec *iov,
                        uint32_t count, uint64_t length, uint64_t offset)
{
    int wrong = check_file(inode);
    length = length_of(iov, count, length);
    if (wrong || length == 0) {
        return wrong;
    }
    if (offset >= WEIR_DISK_FILE_MAX) {
        return offset > INT64_MAX ? -EINVAL : -EFBIG;
    }
    length = min_of(length, WEIR_DISK_FILE_MAX - offset);
    weir_disk_relieve(disk);
    struct stroke stroke = {.begins = true, .written_back = is_written_back(disk)};
    if (stroke.written_back) {
        weir_page_sync_size(disk, inode);
    }
    struct cursor cursor = {iov, 0};
    uint64_t done = 0;
    while (done < length) {
        struct weir_page *page = weir_page_write(disk, inode, (offset + done) / WEIR_DISK_PAGE);
        if (!page) {
            break;
        }
        stroke.from = (offset + done) % WEIR_DISK_PAGE;
        stroke.length = min_of(WEIR_DISK_PAGE - stroke.from, length - done);
        mark(disk, inode, page, &stroke);
        move(&cursor, page->bytes + stroke.from, stroke.length, false);
        stroke.begins = false;
        done += stroke.length;
    }
    if (done == 0) {
        return -ENOSPC;
    }
    mark_end(inode, offset + done);
    inode->size = offset + done > inode->size ? offset + done : inode->size;
    touch(disk, inode);
    return (int64_t)done;
}

/* --- sizes ------------------------------------------------------------------------------------ */

/* 0, or -ENOSPC: a page in the middle of which it ends cannot be copied. */
static int cut(struct weir_disk *disk, struct weir_inode *file, uint64_t size)
{
    uint64_t from = size % WEIR_DISK_PAGE;
    uint64_t index = size / WEIR_DISK_PAGE;
    struct weir_page *page = from ? weir_page_find(file, index) : NULL;
    if (page && page->bytes) {
        page = weir_page_write(disk, file, index);
        if (!page) {
            return -ENOSPC;
        }
        memset(page->bytes + from, 0, WEIR_DISK_PAGE - from);
        page->missed = 0;
        uint32_t gone = (uint32_t)((from + disk->sector_bytes - 1) / disk->sector_bytes);
        page->dirty &= gone < disk->sector_count ? ~(UINT64_MAX << gone) : UINT64_MAX;
    }
    for (page = weir_page_next(file, index + (from > 0)); page;) {
        index = (uint64_t)page->index + 1;
        weir_page_empty(disk, file, page);
        page->dirty = 0;
        page->begins = 0;
        if (!page->listed) {
            weir_page_drop(disk, file, page); /* it was only reserved */
        }
        page = weir_page_next(file, index);
    }
    file->cut = min_of(file->cut, size);
    return 0;
}

int weir_disk_truncate(struct weir_disk *disk, struct weir_inode *inode, uint64_t size)
{
    int wrong = check_file(inode);
    if (wrong || size > WEIR_DISK_FILE_MAX) {
        return wrong ? wrong : size > INT64_MAX ? -EINVAL : -EFBIG;
    }
    weir_disk_relieve(disk);
    if (is_written_back(disk)) {
        weir_page_sync_size(disk, inode);
    }
    wrong = size < inode->size ? cut(disk, inode, size) : 0;
    if (wrong) {
        return wrong;
    }
    inode->size = size;
    touch(disk, inode);
    return 0;
}

/* --- fallocate -------------------------------------------------------------------------------- */

/* Zeroes over what is there. */
static int zero(struct weir_disk *disk, struct weir_inode *file, uint64_t from, uint64_t end,
                bool punch)
{
    struct stroke stroke = {.begins = true};
    for (struct weir_page *page = weir_page_next(file, from / WEIR_DISK_PAGE); page;
         page = weir_page_next(file, (uint64_t)page->index + 1)) {
        uint64_t begin = (uint64_t)page->index * WEIR_DISK_PAGE;
        if (begin >= end) {
            break;
        }
        stroke.from = from > begin ? from - begin : 0;
        stroke.length = min_of(end - begin, WEIR_DISK_PAGE) - stroke.from;
        bool whole = stroke.length == WEIR_DISK_PAGE && punch;
        if (page->bytes) {
            if (!whole && !weir_page_write(disk, file, page->index)) {
                return -ENOSPC;
            }
            mark(disk, file, page, &stroke);
            stroke.begins = false;
        }
        if (whole) {
            weir_page_empty(disk, file, page);
        } else if (page->bytes) {
            memset(page->bytes + stroke.from, 0, stroke.length);
        }
    }
    mark_end(file, end);
    return 0;
}

static int reserve(struct weir_disk *disk, struct weir_inode *file, uint64_t offset, uint64_t end)
{
    uint64_t last = (end - 1) / WEIR_DISK_PAGE;
    for (uint64_t index = offset / WEIR_DISK_PAGE; index <= last; index++) {
        if (!weir_page_reserve(disk, file, index)) {
            return -ENOSPC;
        }
    }
    return 0;
}

int weir_disk_allocate(struct weir_disk *disk, struct weir_inode *inode, int mode, uint64_t offset,
                       uint64_t length)
{
    const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    bool punch = mode & FALLOC_FL_PUNCH_HOLE;
    if (!S_ISREG(inode->mode)) {
        return S_ISDIR(inode->mode) ? -EISDIR : -ENODEV;
    }
    if (offset > INT64_MAX || length == 0 || length > INT64_MAX) {
        return -EINVAL;
    }
    if (mode & ~known || (punch && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))) {
        return -EOPNOTSUPP;
    }
    uint64_t end = offset + length;
    if (end > WEIR_DISK_FILE_MAX) {
        return -EFBIG;
    }
    weir_disk_relieve(disk);
    int wrong = 0;
    if (punch || mode & FALLOC_FL_ZERO_RANGE) {
        wrong = zero(disk, inode, offset, end, punch);
    }
    if (wrong == 0 && !punch) {
        wrong = reserve(disk, inode, offset, end);
    }
    if (wrong) {
        return wrong;
    }
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > inode->size) {
        inode->size = end;
    }
    touch(disk, inode);
    return 0;
}

/* --- durability ------------------------------------------------------------------------------- */

int weir_disk_sync(struct weir_disk *disk, struct weir_inode *inode)
{
    if (S_ISDIR(inode->mode)) {
        weir_change_sync(disk, inode);
        return 0;
    }
    if (!S_ISREG(inode->mode)) {
        return -EINVAL;
    }
    weir_page_sync_all(disk, inode);
    return 0;
}

void weir_disk_miss_sync(struct weir_inode *inode)
{
    for (struct weir_page *page = inode->listed; page; page = page->next) {
        page->missed |= page->dirty;
    }
}

int weir_disk_sync_range(struct weir_disk *disk, struct weir_inode *inode, uint64_t offset,
                         uint64_t length, unsigned flags)
{
    const unsigned waits = SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (flags & ~(waits | SYNC_FILE_RANGE_WAIT_BEFORE) || offset > INT64_MAX ||
        length > INT64_MAX || offset + length > INT64_MAX) {
        return -EINVAL;
    }
    if (!S_ISREG(inode->mode)) {
        return S_ISDIR(inode->mode) ? 0 : -ESPIPE;
    }
    uint64_t last = length ? (offset + length - 1) / WEIR_DISK_PAGE : UINT64_MAX;
    for (struct weir_page *page = inode->listed; page && (flags & waits) == waits;
         page = page->next) {
        if (page->index < offset / WEIR_DISK_PAGE || page->index > last || !page->synced) {
            continue; /* what was a hole has no place on the disk that its size or map tells */
        }
        for (uint32_t i = 0; i < disk->sector_count; i++) {
            if ((page->dirty & ~page->missed) >> i & 1 &&
                weir_page_sync_sector(disk, inode, page, i)) {
                page->dirty &= ~((uint64_t)1 << i);
            }
        }
    }
    return 0;
}
