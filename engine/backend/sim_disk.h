/* SPDX-License-Identifier: MIT */
/*
 * sim_disk.h: a file system in memory that can crash: what system calls see is one thing, what
 * survives a crash another. Must not know ops, fds, faults, latencies or a clock.
 *
 * Errors are those of the system call of the same name, negative; permissions are kept and
 * reported, and not enforced. There is no umask. All randomness comes from the seed; all memory
 * from the arena.
 *
 * What survives a crash. It is the weakest that a service may meet on a file system in use which
 * keeps fsync(2)'s word (ext4 in any of its modes, XFS, btrfs), and not the best that one of them
 * does; no order is kept that nobody asked for.
 *
 * Promised:
 * - fsync and fdatasync of a file: its bytes and its size, also a smaller one.
 * - fsync of a directory: all changes of its entries until then.
 * - A change of an entry (create, link, unlink, mkdir, rename, ...) happened or did not. A rename
 *   is one change, in two directories too: a file is never without both names, nor under both, and
 *   what it replaces is there until then. An exchange as well.
 * - The changes of one name happen in their order; so do those of one file's names, and those that
 *   move directories to other directories. A directory is not gone before what was moved out of it
 *   has arrived, and nothing is moved into one that is not there. An fsync of one of two such
 *   directories brings what its change stands on with it.
 * - A byte reads as it was synced last, or as a write since then left it, or as 0 where it was cut
 *   off, punched out, or is past the synced size. Nobody else's bytes show up.
 *
 * Not promised, and the seed sees to it:
 * - A write survives in whole: each sector (sector_bytes) of it does or does not. Several writes to
 *   one sector: any of them, or none.
 * - Writes reach the disk in their order, whether to one file or several: a later one may survive
 *   without an earlier one. Nor in that of changes of names: a new file may be renamed over an old
 *   one and be found empty.
 * - A new size brings its bytes with it: they may be 0.
 * - A truncate survives, or what was written past it since.
 * - fsync of a new file makes its name survive: only an fsync of the directory does. Nor does that
 *   of a directory keep its own name in its parent.
 * - Changes of different names in one directory happen in their order.
 * - sync_file_range: only bytes that were overwritten where synced ones stood, and only with
 *   WAIT_AFTER as well as WRITE; no size, and nothing in what was a hole.
 * - That what nobody synced is lost: it may have been written back at any time.
 *
 * Times (statx) are not part of this: they stay as they were last.
 */
#ifndef WEIR_ENGINE_SIM_DISK_H
#define WEIR_ENGINE_SIM_DISK_H

#include "sim_arena.h"

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct statx;

#define WEIR_DISK_PAGE 4096u
#define WEIR_DISK_SECTOR_MIN 64u
#define WEIR_DISK_NAME_MAX 255u
#define WEIR_DISK_PATH_MAX 4096u               /* with the 0 at its end */
#define WEIR_DISK_LINKS_MAX 40                 /* symlinks followed in one look-up; then -ELOOP */
#define WEIR_DISK_FILE_MAX ((uint64_t)1 << 44) /* bytes of a file; then -EFBIG */

struct weir_disk;
/* A file, directory, symlink or socket's name: what an open fd refers to. Lives while it has a name
 * or a hold. */
struct weir_inode;

struct weir_disk_options {
    uint64_t bytes;        /* what all files together may hold, in pages of WEIR_DISK_PAGE */
    uint32_t sector_bytes; /* a power of 2, WEIR_DISK_SECTOR_MIN to WEIR_DISK_PAGE */
    uint64_t seed;
};

/* An empty disk, in the arena and gone with it. 0; -EINVAL; -ENOMEM. */
int weir_disk_init(struct weir_arena *arena, const struct weir_disk_options *options,
                   struct weir_disk **ret_disk);
/* Time stamps from here on; ns since the epoch. */
void weir_disk_set_now(struct weir_disk *disk, uint64_t now_ns);

/* --- inodes ----------------------------------------------------------------------------------- */

struct weir_inode *weir_disk_root(struct weir_disk *disk); /* lives for ever, without a hold */
void weir_disk_hold(struct weir_inode *inode);
/* The last hold of one without a name frees it. */
void weir_disk_release(struct weir_disk *disk, struct weir_inode *inode);

mode_t weir_disk_mode(const struct weir_inode *inode); /* with its type: S_ISREG(), ... */
uint64_t weir_disk_size(const struct weir_inode *inode);
/* Never given twice on a disk; the root's is 1. */
uint64_t weir_disk_number(const struct weir_inode *inode);

/* --- paths ------------------------------------------------------------------------------------ */

/*
 * `at`: where relative paths begin, a directory held by an fd (-ENOTDIR: it is none); NULL: the
 * root. An absolute path begins at the root, whatever at is.
 */

/*
 * open(2) but for the fd: looks up, makes, cuts to nothing. Knows O_CREAT, O_EXCL, O_TRUNC,
 * O_DIRECTORY, O_NOFOLLOW, O_PATH, O_TMPFILE and the access mode; what else is in flags is the
 * caller's to heed (O_APPEND: write at weir_disk_size(); O_SYNC, O_DSYNC: weir_disk_sync() after).
 * A socket's name is -ENXIO unless O_PATH. 0, and *ret_inode holds it.
 */
int weir_disk_open(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                   mode_t mode, struct weir_inode **ret_inode);
/* flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH; AT_NO_AUTOMOUNT and AT_STATX_* change nothing. */
int weir_disk_statx(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                    unsigned mask, struct statx *ret_statx);
int weir_disk_mkdir(struct weir_disk *disk, struct weir_inode *at, const char *path, mode_t mode);
/* Also for paths that name a socket: bind(2). -EEXIST where bind(2) says -EADDRINUSE. 0, and
 * *ret_inode holds it. */
int weir_disk_mksocket(struct weir_disk *disk, struct weir_inode *at, const char *path, mode_t mode,
                       struct weir_inode **ret_inode);
int weir_disk_symlink(struct weir_disk *disk, const char *target, struct weir_inode *at,
                      const char *path);
/* flags: AT_REMOVEDIR. */
int weir_disk_unlink(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags);
/* flags: AT_SYMLINK_FOLLOW, AT_EMPTY_PATH (then from_at is linked: also one of O_TMPFILE). */
int weir_disk_link(struct weir_disk *disk, struct weir_inode *from_at, const char *from,
                   struct weir_inode *to_at, const char *to, int flags);
/* flags: RENAME_NOREPLACE or RENAME_EXCHANGE; -EINVAL for others. */
int weir_disk_rename(struct weir_disk *disk, struct weir_inode *from_at, const char *from,
                     struct weir_inode *to_at, const char *to, unsigned flags);

/* --- content: -EISDIR for directories, -EINVAL for what else is no regular file --------------- */

/*
 * pread(2) and pwrite(2) of at most `length` bytes of what the iovecs hold. Bytes moved. A read
 * past the end moves 0; a write moves a part if the disk gets full (-ENOSPC if nothing) or the file
 * too long (-EFBIG).
 */
int64_t weir_disk_read(struct weir_disk *disk, struct weir_inode *inode, const struct iovec *iov,
                       uint32_t count, uint64_t length, uint64_t offset);
int64_t weir_disk_write(struct weir_disk *disk, struct weir_inode *inode, const struct iovec *iov,
                        uint32_t count, uint64_t length, uint64_t offset);
int weir_disk_truncate(struct weir_disk *disk, struct weir_inode *inode, uint64_t size);
/* fallocate(2); mode: 0, FALLOC_FL_KEEP_SIZE, PUNCH_HOLE with KEEP_SIZE, ZERO_RANGE with or without
 * KEEP_SIZE; -EOPNOTSUPP for others. */
int weir_disk_allocate(struct weir_disk *disk, struct weir_inode *inode, int mode, uint64_t offset,
                       uint64_t length);

/* --- durability ------------------------------------------------------------------------------- */

/* fsync(2) and fdatasync(2), which here promise the same; for directories too. */
int weir_disk_sync(struct weir_disk *disk, struct weir_inode *inode);
/* A sync that failed: what it should have written counts as written, as in Linux: no later sync
 * does it, until something is written to the same page. For directories and others: nothing. */
void weir_disk_miss_sync(struct weir_inode *inode);
/* sync_file_range(2), flags SYNC_FILE_RANGE_*. length 0: to the end. */
int weir_disk_sync_range(struct weir_disk *disk, struct weir_inode *inode, uint64_t offset,
                         uint64_t length, unsigned flags);
/* As if everything was synced, as unmounting does. */
void weir_disk_sync_all(struct weir_disk *disk);

/* What crashes have cost. */
struct weir_disk_losses {
    uint64_t sectors_lost; /* written, not synced, gone */
    uint64_t sectors_torn; /* kept though others of the same write are gone */
    uint64_t names_lost;   /* changes of entries that did not survive */
};

/* The machine stops and starts again: what survives is all there is. All holds are gone, and every
 * inode but the root must be looked up anew. */
void weir_disk_crash(struct weir_disk *disk);
void weir_disk_losses(const struct weir_disk *disk, struct weir_disk_losses *ret_losses);

#endif
