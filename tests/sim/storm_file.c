/* SPDX-License-Identifier: MIT */
/*
 * storm_file.c: the model of files, byte by byte, and of what a crash may leave of them. Ops that
 * would touch the same bytes are not live at once, so that there is one right answer.
 */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

void file_open(struct storm *storm, struct file *file)
{
    struct weir_op op = {0};
    weir_op_openat(&op, AT_FDCWD, file->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    file->handle.fd = (int)storm_do(storm, &op);
    STORM_CHECK(storm, file->handle.fd >= 0);
    file->handle.state = HANDLE_OPEN;
    file->position = 0;
    file->opens++;
}

/* --- filling ---------------------------------------------------------------------------------- */

static bool is_free(const struct item *item)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        const struct item *other = &item->storm->items[i];
        if (other->live && other->file == item->file && (item->alters || other->alters) &&
            item->low < other->high && other->low < item->high) {
            return false;
        }
    }
    return true;
}

static void give_iov(struct item *item)
{
    size_t first = storm_random(item->storm, item->length);
    item->iov[0] = (struct iovec){item->buffer, first};
    item->iov[1] = (struct iovec){item->buffer + first, item->length - first};
}

static void fill_transfer(struct item *item, uint64_t offset)
{
    struct weir_op *op = &item->op;
    int fd = item->file->handle.fd;
    bool vector = storm_random(item->storm, 2) == 0;
    give_iov(item);
    if (item->reads && vector) {
        weir_op_readv(op, fd, item->iov, 2, offset);
    } else if (item->reads) {
        weir_op_read(op, fd, item->buffer, item->length, offset);
    } else if (vector) {
        weir_op_writev(op, fd, item->iov, 2, offset);
    } else {
        weir_op_write(op, fd, item->buffer, item->length, offset);
    }
}

/* What it touches. A write past the end touches what lies between. */
static void set_range(struct item *item, bool whole)
{
    const struct file *file = item->file;
    item->low = whole ? 0 : item->offset;
    item->high = whole ? UINT64_MAX : item->offset + item->length;
    if (!whole && item->alters && item->high > file->size) {
        item->low = item->low < file->size ? item->low : file->size;
    }
    if (!whole && !item->alters && item->high > file->size) {
        item->high = UINT64_MAX; /* how much there is matters */
    }
}

static void fill_bytes(struct item *item)
{
    struct storm *storm = item->storm;
    struct file *file = item->file;
    bool big = storm_random(storm, 4) == 0;
    uint64_t choice = storm_random(storm, 16);
    bool current = choice == 0;
    item->reads = storm_random(storm, 5) < 2;
    item->alters = !item->reads;
    item->length = 1 + storm_random(storm, big ? STORM_BUFFER_MAX : 700);
    item->offset = storm_random(storm, STORM_FILE_MAX - item->length + 1);
    item->append = !current && item->alters && choice == 1;
    if (current) {
        item->offset = file->position;
    } else if (item->append) {
        item->offset = file->size;
    }
    if (item->offset + item->length > STORM_FILE_MAX) {
        item->offset = 0;
        current = false;
        item->append = false;
    }
    for (size_t i = 0; i < item->length; i++) {
        item->buffer[i] = item->reads ? STORM_UNTOUCHED : (unsigned char)storm_random(storm, 255);
    }
    fill_transfer(item, current ? WEIR_CURRENT : item->offset);
    item->syncs = item->alters && choice == 2;
    item->op.rw_flags = item->append ? RWF_APPEND : item->syncs ? RWF_DSYNC : 0;
    item->mode = current;
    set_range(item, current || item->append);
    item->alters = item->alters || current;
}

static void fill_allocate(struct item *item)
{
    static const int modes[] = {
        0,
        FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
    };
    struct storm *storm = item->storm;
    item->mode = modes[storm_random(storm, 5)];
    item->length = 1 + storm_random(storm, 5000);
    item->offset = storm_random(storm, STORM_FILE_MAX - item->length + 1);
    weir_op_fallocate(&item->op, item->file->handle.fd, item->mode, item->offset, item->length);
}

static void fill_sync(struct item *item)
{
    struct storm *storm = item->storm;
    int fd = item->file->handle.fd;
    item->alters = true;
    switch (storm_random(storm, storm->may_fill ? 6 : 8)) {
    case 0:
    case 1:
        weir_op_fsync(&item->op, fd);
        break;
    case 2:
        weir_op_fdatasync(&item->op, fd);
        break;
    case 3:
        weir_op_sync_file_range(&item->op, fd, storm_random(storm, 8192), 4096, 7);
        break;
    case 4:
        item->alters = false;
        weir_op_fadvise(&item->op, fd, 0, 4096, POSIX_FADV_WILLNEED);
        break;
    case 5:
        item->alters = false;
        weir_op_statx(&item->op, AT_FDCWD, item->file->path, 0, STATX_SIZE, &item->statx);
        break;
    case 6:
        item->length = storm_random(storm, STORM_FILE_MAX);
        weir_op_ftruncate(&item->op, fd, item->length);
        break;
    default:
        fill_allocate(item);
        break;
    }
    set_range(item, true);
}

bool file_fill(struct item *item, bool sync)
{
    struct file *file = &item->storm->files[storm_random(item->storm, STORM_FILES)];
    if (file->handle.state != HANDLE_OPEN) {
        return false;
    }
    item->file = file;
    item->handle = &file->handle;
    item->from = file->opens;
    if (sync) {
        fill_sync(item);
    } else {
        fill_bytes(item);
    }
    return is_free(item);
}

/* --- what has happened ------------------------------------------------------------------------ */

static void may_be(struct file *file, uint64_t at, uint8_t value)
{
    file->may[at][value / 8] |= (uint8_t)(1u << value % 8);
}

static void must_be(struct file *file, uint64_t at)
{
    memset(file->may[at], 0, sizeof file->may[at]);
    may_be(file, at, file->now[at]);
}

static void set_size(struct file *file, uint64_t size)
{
    file->size = size;
    file->size_least = size < file->size_least ? size : file->size_least;
    file->size_most = size > file->size_most ? size : file->size_most;
}

static void zero(struct file *file, uint64_t low, uint64_t high)
{
    for (uint64_t i = low; i < high && i < STORM_FILE_MAX; i++) {
        file->now[i] = 0;
        may_be(file, i, 0);
    }
}

static void synced(struct file *file)
{
    for (uint64_t i = 0; i < STORM_FILE_MAX; i++) {
        if (!file->missed[i]) {
            must_be(file, i);
        }
    }
    file->size_least = file->size;
    file->size_most = file->size;
}

static void written(struct item *item, uint64_t moved)
{
    struct file *file = item->file;
    for (uint64_t i = 0; i < moved; i++) {
        file->now[item->offset + i] = item->buffer[i];
        file->missed[item->offset + i] = false;
        may_be(file, item->offset + i, item->buffer[i]);
    }
    uint64_t end = item->offset + moved;
    if (moved > 0 && end > file->size) {
        set_size(file, end);
    }
    if (item->syncs && item->op.result > 0) {
        for (uint64_t i = item->offset; i < end; i++) {
            must_be(file, i);
        }
        file->size_least = file->size_least > end ? file->size_least : end;
    }
}

static void allocated(struct item *item)
{
    struct file *file = item->file;
    uint64_t end = item->offset + item->length;
    if (item->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
        zero(file, item->offset, end);
    }
    if (!(item->mode & FALLOC_FL_KEEP_SIZE) && end > file->size) {
        set_size(file, end);
    }
}

static void judge_read(struct item *item, uint64_t moved)
{
    const struct file *file = item->file;
    uint64_t left = item->offset < file->size ? file->size - item->offset : 0;
    uint64_t most = left < item->length ? left : item->length;
    bool whole = item->op.flags & WEIR_WHOLE;
    if (moved > most) {
        item_wrong(item, "read past the end");
    }
    if (item->op.result >= 0 && moved < most && (whole || !item->storm->may_cut)) {
        item_wrong(item, "a short read");
    }
    if (item->op.result == 0 && most > 0) {
        item_wrong(item, "no end was due");
    }
    if (memcmp(item->buffer, file->now + item->offset, moved) != 0) {
        item_wrong(item, "not what was written");
    }
    for (uint64_t i = moved; i < item->length; i++) {
        if (item->buffer[i] != STORM_UNTOUCHED) {
            item_wrong(item, "the buffer was written to past the result");
        }
    }
}

static void judge_write(struct item *item, uint64_t moved)
{
    bool may_cut =
        item->storm->may_fill || (item->storm->may_cut && !(item->op.flags & WEIR_WHOLE));
    if (moved > item->length || (item->op.result >= 0 && moved < item->length && !may_cut) ||
        item->op.result == 0) {
        item_wrong(item, "a short write");
    }
    written(item, moved);
}

void file_judge(struct item *item)
{
    struct file *file = item->file;
    uint64_t moved = item_moved(item);
    if (item->op.kind >= WEIR_KIND_READ && item->op.kind <= WEIR_KIND_WRITEV) {
        if (item->reads) {
            judge_read(item, moved);
        } else {
            judge_write(item, moved);
        }
        file->position += item->mode && item->from == file->opens ? moved : 0;
        return;
    }
    if (item->op.result != 0) {
        if (item->op.kind == WEIR_KIND_FSYNC) {
            memset(file->missed, 1, sizeof file->missed);
        }
        return;
    }
    switch (item->op.kind) {
    case WEIR_KIND_FSYNC:
        synced(file);
        break;
    case WEIR_KIND_FTRUNCATE:
        zero(file, item->length, STORM_FILE_MAX);
        set_size(file, item->length);
        break;
    case WEIR_KIND_FALLOCATE:
        allocated(item);
        break;
    case WEIR_KIND_STATX:
        STORM_EQUAL(item->storm, item->statx.stx_size, file->size);
        break;
    default:
        break;
    }
}

/* --- crashes ---------------------------------------------------------------------------------- */

void file_may(struct item *item)
{
    struct file *file = item->file;
    uint64_t end = item->offset + item->length;
    bool writes = (item->op.kind == WEIR_KIND_WRITE || item->op.kind == WEIR_KIND_WRITEV);
    for (uint64_t i = 0; writes && i < item->length; i++) {
        may_be(file, item->offset + i, item->buffer[i]);
    }
    if (item->op.kind == WEIR_KIND_FALLOCATE) {
        for (uint64_t i = item->offset; i < end; i++) {
            may_be(file, i, 0);
        }
    }
    if (item->op.kind == WEIR_KIND_FTRUNCATE) {
        for (uint64_t i = item->length; i < STORM_FILE_MAX; i++) {
            may_be(file, i, 0);
        }
        end = item->length;
        file->size_least = end < file->size_least ? end : file->size_least;
        file->size_most = end > file->size_most ? end : file->size_most;
    } else if (writes || item->op.kind == WEIR_KIND_FALLOCATE) {
        file->size_most = end > file->size_most ? end : file->size_most;
    }
}

static void check_byte(struct storm *storm, const struct file *file, uint64_t at, uint8_t found,
                       bool crashed)
{
    bool may = file->may[at][found / 8] >> found % 8 & 1;
    bool unwritten = crashed && found == 0 && at >= file->size_least;
    if (!may && !unwritten) {
        storm_fail(storm, WEIR_SITE, "%s: byte %llu is %u and not %u%s", file->path,
                   (unsigned long long)at, found, file->now[at],
                   crashed ? " or what a crash may leave" : "");
    }
}

static void check(struct storm *storm, struct file *file, bool crashed)
{
    static uint8_t found[STORM_FILE_MAX + 1];
    struct weir_op op = {0};
    int64_t size;
    weir_op_read(&op, file->handle.fd, found, sizeof found, 0);
    size = storm_do(storm, &op);
    if (size < 0 || (uint64_t)size < file->size_least || (uint64_t)size > file->size_most) {
        storm_fail(storm, WEIR_SITE, "%s has %lld bytes and not %llu to %llu", file->path,
                   (long long)size, (unsigned long long)file->size_least,
                   (unsigned long long)file->size_most);
    }
    memset(found + size, 0, sizeof found - (size_t)size);
    for (uint64_t i = 0; i < (uint64_t)size; i++) {
        check_byte(storm, file, i, found[i], crashed);
    }
    memcpy(file->now, found, STORM_FILE_MAX);
    file->size = (uint64_t)size;
    if (crashed) {
        memset(file->missed, 0, sizeof file->missed);
        synced(file);
    }
    for (uint64_t i = 0; i < STORM_FILE_MAX; i++) {
        may_be(file, i, file->now[i]);
    }
}

static void check_exactly(struct storm *storm, const struct file *file)
{
    static uint8_t found[STORM_FILE_MAX + 1];
    struct weir_op op = {0};
    weir_op_read(&op, file->handle.fd, found, sizeof found, 0);
    int64_t size = storm_do(storm, &op);
    STORM_EQUAL(storm, size, file->size);
    STORM_CHECK(storm, memcmp(found, file->now, (size_t)size) == 0);
}

void file_check_all(struct storm *storm, enum ending ending)
{
    for (unsigned i = 0; i < STORM_FILES; i++) {
        if (ending == ENDING_CLEAN) {
            check_exactly(storm, &storm->files[i]);
        } else {
            check(storm, &storm->files[i], ending == ENDING_CRASH);
        }
    }
}
