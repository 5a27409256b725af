/* SPDX-License-Identifier: MIT */
#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What O_DIRECT wants offsets, lengths and memory to be a multiple of: tried, since only kernels
 * from 6.1 on can say it (STATX_DIOALIGN). */
static uint32_t direct_block(int fd, uint32_t otherwise)
{
    unsigned char bytes[512] __attribute__((aligned(4096)));
    return pread(fd, bytes, sizeof bytes, sizeof bytes) >= 0 ? (uint32_t)sizeof bytes : otherwise;
}

static int look_at(int fd, bool direct, struct opened *ret_opened)
{
    struct stat is;
    if (fstat(fd, &is) < 0) {
        return -errno;
    }
    uint64_t size = (uint64_t)is.st_size;
    uint32_t block = (uint32_t)is.st_blksize;
    if (S_ISBLK(is.st_mode)) {
        int sector = 512;
        if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0) {
            return -errno;
        }
        block = (uint32_t)sector;
    } else if (!S_ISREG(is.st_mode)) {
        return S_ISDIR(is.st_mode) ? -EISDIR : -ENOTSUP;
    }
    block = direct ? direct_block(fd, block) : 1;
    if (block == 0 || block > EXPORT_BLOCK_MAX || (block & (block - 1)) != 0) {
        return -EINVAL;
    }
    struct statfs system; /* of a device it would be that of its node, often a tmpfs */
    bool is_memory =
        S_ISREG(is.st_mode) && fstatfs(fd, &system) == 0 && system.f_type == TMPFS_MAGIC;
    *ret_opened =
        (struct opened){.fd = fd, .size = size, .block_min = block, .is_memory = is_memory};
    if (direct) { /* the last part of a block cannot be reached */
        ret_opened->size -= size % block;
    }
    return 0;
}

int export_open(const struct export *export, struct opened *ret_opened)
{
    /* O_NONBLOCK: without it io_uring sends each read of a tmpfs to a worker thread; files of
     * others do not mind. */
    int flags = (export->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
    int fd = open(export->path, flags | (export->direct ? O_DIRECT : 0));
    if (fd < 0) {
        return -errno;
    }
    int result = look_at(fd, export->direct, ret_opened);
    if (result < 0) {
        close(fd);
    }
    return result;
}

/* --- sync ------------------------------------------------------------------------------------- */

static void on_synced(struct weir_op *op);

static void answer(struct sync_wait *wait, int result)
{
    while (wait) {
        struct sync_wait *next = wait->next; /* the callback may be the end of it */
        wait->callback(wait, result);
        wait = next;
    }
}

static void note_failure(struct export *export, int64_t result)
{
    if (result < 0) {
        atomic_store(&export->sync_error, (int)result);
        atomic_fetch_add(&export->failures, 1);
    }
}

/* All that were waiting fly: whatever they want to be safe was written before now. */
static void fly(struct file *file)
{
    file->flying = file->waiting;
    file->waiting = file->last_waiting = NULL;
    weir_op_fdatasync(&file->sync, file->opened.fd);
    file->sync.callback = on_synced;
    file->sync.task = file->syncing;
    int result = weir_submit(file->loop, &file->sync); /* its task has a place reserved */
    if (result < 0) {
        file->sync.result = result;
        on_synced(&file->sync);
    }
}

static void on_synced(struct weir_op *op)
{
    struct file *file = WEIR_CONTAINER(op, struct file, sync);
    struct sync_wait *safe = file->flying;
    int result = op->result < 0 ? (int)op->result : 0;
    note_failure(file->export, result);
    file->flying = NULL;
    if (file->waiting) { /* first: the disk need not wait for us */
        fly(file);
    }
    answer(safe, result);
}

void file_sync(struct file *file, struct sync_wait *wait)
{
    wait->next = NULL;
    *(file->waiting ? &file->last_waiting->next : &file->waiting) = wait;
    file->last_waiting = wait;
    if (!file->flying) {
        fly(file);
    }
}

/* --- opened again ----------------------------------------------------------------------------- */

static int64_t open_again(void *argument) /* on a worker */
{
    struct file *file = argument;
    return export_open(file->export, &file->next);
}

/* What was written to the old file is on the disk before anybody asks the new one for that. */
static void on_old_synced(struct weir_op *op)
{
    struct file *file = WEIR_CONTAINER(op, struct file, change);
    note_failure(file->export, op->result);
    weir_forget(file->loop, file->opened.fd);
    close(file->opened.fd);
    file->opened = file->next;
    file->is_changing = false;
    file->changed(file, 0);
}

static void sync_old(struct file *file)
{
    weir_op_fdatasync(&file->change, file->opened.fd);
    file->change.callback = on_old_synced;
    int result = weir_submit(file->loop, &file->change);
    if (result < 0) {
        file->change.result = result;
        on_old_synced(&file->change);
    }
}

static void on_opened(struct weir_op *op)
{
    struct file *file = WEIR_CONTAINER(op, struct file, change);
    file->is_opening = false;
    if (op->result < 0) { /* goes on with the one it has */
        file->changed(file, (int)op->result);
        return;
    }
    file->is_changing = true;
    if (file->users == 0) {
        sync_old(file);
    }
}

void file_leave(struct file *file)
{
    if (--file->users == 0 && file->is_changing) {
        sync_old(file);
    }
}

int file_reopen(struct file *file)
{
    if (file->is_opening || file->is_changing) {
        return -EALREADY;
    }
    weir_op_call(&file->change, open_again, file);
    file->change.callback = on_opened;
    file->change.task = file->reopening;
    int result = weir_submit(file->loop, &file->change);
    file->is_opening = result == 0;
    return result;
}
