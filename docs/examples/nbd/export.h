/* SPDX-License-Identifier: MIT */
/*
 * export.h: what is served: a name and a path that all loops share, and the file as one loop has it
 * open. Here a sync answers for all that was written before it was asked for, and one fdatasync
 * answers all who asked while the last one was on its way.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <weir/weir.h>

enum { EXPORT_BLOCK_MAX = 4096 }; /* what O_DIRECT may want that a buffer has room for */

struct export
{
    const char *name; /* "": the one that is meant when no name is said */
    const char *path;
    bool read_only;
    bool direct;        /* O_DIRECT */
    bool inline_writes; /* small ones are made in the turn, though they may have to wait there */
    /* Syncs that failed, and with what the last one did; any loop writes and reads them. Linux
     * tells of pages that it could not write once for each open file, and then takes them for
     * written (fsync(2), NOTES): a later success says nothing about what was written before. So
     * whoever has written then, on whatever connection, has to be told; and if nobody was, whoever
     * comes next, for a FLUSH stands for the writes of those who have left, too. */
    _Atomic uint32_t failures;
    _Atomic uint32_t told; /* of these, somebody was, in answer to a FLUSH */
    _Atomic int sync_error;
};

/* What opening one finds. */
struct opened {
    int fd;
    uint64_t size;      /* bytes */
    uint32_t block_min; /* what offsets and lengths have to be a multiple of; 1: anything */
    bool is_memory;     /* of a tmpfs */
};

/* Blocks. 0 or -errno; -EISDIR; -ENOTSUP: neither a file nor a block device; -EINVAL: O_DIRECT
 * wants larger blocks than EXPORT_BLOCK_MAX. */
int export_open(const struct export *export, struct opened *ret_opened);

struct sync_wait;
typedef void sync_callback(struct sync_wait *wait, int result);
struct sync_wait {
    sync_callback *callback;
    struct sync_wait *next; /* the file's */
};

struct file {
    struct export *export;
    struct weir_loop *loop;
    struct weir_task *syncing, *reopening; /* the tasks of its own ops */
    struct opened opened;
    uint32_t users;   /* ops and syncs that use opened.fd: they end by themselves, and soon */
    uint32_t changes; /* of these: writes, trims and zeroes that other threads make */
    bool is_opening;  /* anew, on a worker */
    bool is_changing; /* to what was opened: start no op, it is over soon */

    struct weir_op sync;
    struct sync_wait *waiting, *last_waiting; /* for the next sync */
    struct sync_wait *flying;                 /* for the one on its way */

    struct weir_op change;
    struct opened next; /* takes the place of `opened` when that has no users */
    void (*changed)(struct file *file, int result); /* 0; or why it could not be opened */
    void *user;
};

/* The callback comes once all that is written by now is on the disk, or is not: -errno. */
void file_sync(struct file *file, struct sync_wait *wait);

/* An op of a request begins to use it, and ends. */
static inline void file_use(struct file *file)
{
    file->users++;
}
void file_leave(struct file *file);

/* Opens the export again, syncs and closes the file it had, and takes the other. Calls `changed`.
 * -EALREADY: it is at it. Others: the loop's. */
int file_reopen(struct file *file);

#endif
