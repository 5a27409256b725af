/* SPDX-License-Identifier: MIT */
/*
 * sim_dir.c: the system calls on paths: each judges as Linux does, and makes one change.
 */
#include "sim_inode.h"

#include <fcntl.h>
#include <stdio.h>

/* --- new names -------------------------------------------------------------------------------- */

/* Whether a name can be made where a walk has led. */
static int check_new(const struct weir_disk *disk, const struct weir_walk *walk, bool directory)
{
    if (walk->inode) {
        return -EEXIST;
    }
    WEIR_CHECK(walk->dir);
    bool removed = walk->dir != &disk->root && walk->dir->links == 0;
    return removed || (walk->slash && !directory) ? -ENOENT : 0;
}

/* Gives an inode a name. */
static int add_name(struct weir_disk *disk, const struct weir_walk *walk, struct weir_inode *inode)
{
    struct weir_entry *entry = weir_entry_get(disk, walk->dir, walk->name, walk->length);
    if (!entry) {
        return -ENOSPC;
    }
    struct weir_change_part part = {entry, NULL, inode};
    int wrong = weir_change_make(disk, &part, 1);
    if (wrong) {
        weir_entry_settle(disk, entry);
    }
    return wrong;
}

/* Makes an inode with a name; it is held. */
static int make(struct weir_disk *disk, const struct weir_walk *walk, mode_t mode,
                struct weir_inode **ret_inode)
{
    struct weir_inode *inode = weir_inode_make(disk, mode);
    if (!inode) {
        return -ENOSPC;
    }
    weir_disk_hold(inode);
    int wrong = add_name(disk, walk, inode);
    if (wrong) {
        weir_disk_release(disk, inode);
        return wrong;
    }
    *ret_inode = inode;
    return 0;
}

static int make_at(struct weir_disk *disk, struct weir_inode *at, const char *path, mode_t mode,
                   struct weir_inode **ret_inode)
{
    struct weir_walk walk;
    weir_disk_relieve(disk);
    int wrong = weir_walk(disk, at, path, WEIR_WALK_NAME, &walk);
    wrong = wrong ? wrong : check_new(disk, &walk, S_ISDIR(mode));
    return wrong ? wrong : make(disk, &walk, mode, ret_inode);
}

int weir_disk_mkdir(struct weir_disk *disk, struct weir_inode *at, const char *path, mode_t mode)
{
    struct weir_inode *inode;
    int wrong = make_at(disk, at, path, S_IFDIR | (mode & 01777), &inode);
    if (wrong == 0) {
        weir_disk_release(disk, inode);
    }
    return wrong;
}

int weir_disk_mksocket(struct weir_disk *disk, struct weir_inode *at, const char *path, mode_t mode,
                       struct weir_inode **ret_inode)
{
    return make_at(disk, at, path, S_IFSOCK | (mode & 07777), ret_inode);
}

int weir_disk_symlink(struct weir_disk *disk, const char *target, struct weir_inode *at,
                      const char *path)
{
    size_t length = strnlen(target, WEIR_DISK_PATH_MAX);
    if (length == 0 || length == WEIR_DISK_PATH_MAX) {
        return length ? -ENAMETOOLONG : -ENOENT;
    }
    struct weir_inode *inode;
    weir_disk_relieve(disk);
    char *copy = weir_arena_take(disk->arena, length + 1);
    int wrong = copy ? make_at(disk, at, path, S_IFLNK | 0777, &inode) : -ENOSPC;
    if (wrong) {
        weir_arena_give(disk->arena, copy, length + 1);
        return wrong;
    }
    memcpy(copy, target, length);
    inode->target = copy;
    inode->size = length;
    weir_disk_release(disk, inode);
    return 0;
}

static int find_linked(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                       struct weir_inode **ret_inode)
{
    if (*path == '\0' && flags & AT_EMPTY_PATH) {
        *ret_inode = at ? at : &disk->root;
        return 0;
    }
    struct weir_walk walk;
    enum weir_walk_how how = flags & AT_SYMLINK_FOLLOW ? WEIR_WALK_FOLLOW : WEIR_WALK_NOFOLLOW;
    int wrong = weir_walk(disk, at, path, how, &walk);
    if (wrong || !walk.inode) {
        return wrong ? wrong : -ENOENT;
    }
    *ret_inode = walk.inode;
    return 0;
}

int weir_disk_link(struct weir_disk *disk, struct weir_inode *from_at, const char *from,
                   struct weir_inode *to_at, const char *to, int flags)
{
    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) {
        return -EINVAL;
    }
    struct weir_inode *inode;
    struct weir_walk walk;
    weir_disk_relieve(disk);
    int wrong = find_linked(disk, from_at, from, flags, &inode);
    wrong = wrong ? wrong : weir_walk(disk, to_at, to, WEIR_WALK_NAME, &walk);
    wrong = wrong ? wrong : check_new(disk, &walk, false);
    if (wrong) {
        return wrong;
    }
    if (S_ISDIR(inode->mode)) {
        return -EPERM;
    }
    return inode->links || inode->linkable ? add_name(disk, &walk, inode) : -ENOENT;
}

/* --- open ------------------------------------------------------------------------------------- */

static int check_open(const struct weir_inode *inode, int flags)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (flags & O_CREAT && flags & O_EXCL) {
        return -EEXIST;
    }
    if (flags & O_DIRECTORY && !S_ISDIR(inode->mode)) {
        return -ENOTDIR;
    }
    if (flags & O_PATH) {
        return 0;
    }
    switch (inode->mode & S_IFMT) {
    case S_IFDIR:
        return writes || flags & (O_CREAT | O_TRUNC) ? -EISDIR : 0;
    case S_IFLNK:
        return -ELOOP;
    case S_IFSOCK:
        return -ENXIO;
    default:
        return 0;
    }
}

static int open_nameless(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                         mode_t mode, struct weir_inode **ret_inode)
{
    struct weir_walk walk;
    int wrong = weir_walk(disk, at, path, WEIR_WALK_FOLLOW, &walk);
    if (wrong || !walk.inode) {
        return wrong ? wrong : -ENOENT;
    }
    if (!S_ISDIR(walk.inode->mode)) {
        return -ENOTDIR;
    }
    if ((flags & O_ACCMODE) == O_RDONLY) {
        return -EINVAL;
    }
    struct weir_inode *inode = weir_inode_make(disk, S_IFREG | (mode & 07777));
    if (!inode) {
        return -ENOSPC;
    }
    inode->linkable = !(flags & O_EXCL);
    weir_disk_hold(inode);
    *ret_inode = inode;
    return 0;
}

int weir_disk_open(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                   mode_t mode, struct weir_inode **ret_inode)
{
    flags &= flags & O_PATH ? O_PATH | O_DIRECTORY | O_NOFOLLOW : -1;
    weir_disk_relieve(disk);
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        return open_nameless(disk, at, path, flags, mode, ret_inode);
    }
    if (flags & O_CREAT && flags & O_DIRECTORY) {
        return -EINVAL;
    }
    struct weir_walk walk;
    bool stays = flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL);
    enum weir_walk_how how = flags & O_CREAT ? stays ? WEIR_WALK_NAME : WEIR_WALK_CREATE
                             : stays         ? WEIR_WALK_NOFOLLOW
                                             : WEIR_WALK_FOLLOW;
    int wrong = weir_walk(disk, at, path, how, &walk);
    if (wrong) {
        return wrong;
    }
    if (flags & O_CREAT && walk.dir && walk.slash) {
        return -EISDIR;
    }
    if (!walk.inode) {
        wrong = flags & O_CREAT ? check_new(disk, &walk, false) : -ENOENT;
        return wrong ? wrong : make(disk, &walk, S_IFREG | (mode & 07777), ret_inode);
    }
    wrong = check_open(walk.inode, flags);
    if (wrong == 0 && flags & O_TRUNC) {
        wrong = weir_disk_truncate(disk, walk.inode, 0);
    }
    if (wrong == 0) {
        weir_disk_hold(walk.inode);
        *ret_inode = walk.inode;
    }
    return wrong;
}

/* --- unlink, rename --------------------------------------------------------------------------- */

int weir_disk_unlink(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags)
{
    bool directory = flags & AT_REMOVEDIR;
    if (flags & ~AT_REMOVEDIR) {
        return -EINVAL;
    }
    struct weir_walk walk;
    weir_disk_relieve(disk);
    int wrong = weir_walk(disk, at, path, WEIR_WALK_NAME, &walk);
    if (wrong || !walk.inode) {
        return wrong ? wrong : -ENOENT;
    }
    if (!walk.dir) { /* /, . or .. */
        return !directory         ? -EISDIR
               : walk.length == 0 ? -EBUSY
               : walk.length == 1 ? -EINVAL
                                  : -ENOTEMPTY;
    }
    if (S_ISDIR(walk.inode->mode) != directory) {
        return directory ? -ENOTDIR : -EISDIR;
    }
    if (walk.slash && !directory) {
        return -ENOTDIR;
    }
    if (directory && walk.inode->live) {
        return -ENOTEMPTY;
    }
    struct weir_entry *entry = weir_entry_find(walk.dir, walk.name, walk.length);
    struct weir_change_part part = {entry, walk.inode, NULL};
    return weir_change_make(disk, &part, 1);
}

static bool is_within(const struct weir_inode *dir, const struct weir_inode *above)
{
    while (dir != above && dir && dir->parent != dir) {
        dir = dir->parent;
    }
    return dir == above;
}

static int check_rename(const struct weir_disk *disk, const struct weir_walk *from,
                        const struct weir_walk *to, unsigned flags)
{
    if (!from->dir || !to->dir) { /* /, . or .. */
        return from->dir && flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    }
    if (!from->inode || (!to->inode && flags & RENAME_EXCHANGE)) {
        return -ENOENT;
    }
    if (to->inode && flags & RENAME_NOREPLACE) {
        return -EEXIST;
    }
    bool directory = S_ISDIR(from->inode->mode);
    bool exchange = flags & RENAME_EXCHANGE;
    if ((!directory && (from->slash || (to->slash && !exchange))) ||
        (exchange && to->slash && !S_ISDIR(to->inode->mode))) {
        return -ENOTDIR;
    }
    if (directory && is_within(to->dir, from->inode)) {
        return -EINVAL;
    }
    if (!to->inode) {
        return check_new(disk, to, true);
    }
    if (S_ISDIR(to->inode->mode) && is_within(from->dir, to->inode)) {
        return exchange ? -EINVAL : -ENOTEMPTY;
    }
    if (exchange || from->inode == to->inode) {
        return 0;
    }
    if (directory != S_ISDIR(to->inode->mode)) {
        return directory ? -ENOTDIR : -EISDIR;
    }
    return directory && to->inode->live ? -ENOTEMPTY : 0;
}

int weir_disk_rename(struct weir_disk *disk, struct weir_inode *from_at, const char *from,
                     struct weir_inode *to_at, const char *to, unsigned flags)
{
    if (flags && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) {
        return -EINVAL;
    }
    struct weir_walk old;
    struct weir_walk new;
    weir_disk_relieve(disk);
    int wrong = weir_walk(disk, from_at, from, WEIR_WALK_NAME, &old);
    wrong = wrong ? wrong : weir_walk(disk, to_at, to, WEIR_WALK_NAME, &new);
    wrong = wrong ? wrong : check_rename(disk, &old, &new, flags);
    if (wrong || old.inode == new.inode) {
        return wrong;
    }
    struct weir_entry *source = weir_entry_find(old.dir, old.name, old.length);
    struct weir_entry *target = weir_entry_get(disk, new.dir, new.name, new.length);
    if (!target) {
        return -ENOSPC;
    }
    struct weir_change_part parts[2] = {
        {source, old.inode, flags & RENAME_EXCHANGE ? new.inode : NULL},
        {target, new.inode, old.inode},
    };
    wrong = weir_change_make(disk, parts, 2);
    if (wrong) {
        weir_entry_settle(disk, target);
    }
    return wrong;
}

/* --- statx ------------------------------------------------------------------------------------ */

static struct statx_timestamp timestamp(uint64_t time_ns)
{
    return (struct statx_timestamp){
        .tv_sec = (int64_t)(time_ns / 1000000000),
        .tv_nsec = (uint32_t)(time_ns % 1000000000),
    };
}

static void fill(const struct weir_inode *inode, struct statx *statx)
{
    *statx = (struct statx){
        .stx_mask = STATX_BASIC_STATS | STATX_BTIME,
        .stx_blksize = WEIR_DISK_PAGE,
        .stx_nlink = S_ISDIR(inode->mode) ? 2 + inode->directories : inode->links,
        .stx_mode = (uint16_t)inode->mode,
        .stx_ino = inode->number,
        .stx_size = inode->size,
        .stx_blocks = inode->charged * (WEIR_DISK_PAGE / 512),
        .stx_atime = timestamp(inode->mtime_ns), /* reads leave it alone */
        .stx_btime = timestamp(inode->btime_ns),
        .stx_ctime = timestamp(inode->ctime_ns),
        .stx_mtime = timestamp(inode->mtime_ns),
        .stx_dev_minor = 1,
    };
}

int weir_disk_statx(struct weir_disk *disk, struct weir_inode *at, const char *path, int flags,
                    unsigned mask, struct statx *ret_statx)
{
    const int known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    if (flags & ~known || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE ||
        mask & STATX__RESERVED) {
        return -EINVAL;
    }
    if (*path == '\0' && flags & AT_EMPTY_PATH) {
        fill(at ? at : &disk->root, ret_statx);
        return 0;
    }
    struct weir_walk walk;
    bool follows = !(flags & AT_SYMLINK_NOFOLLOW);
    int wrong = weir_walk(disk, at, path, follows ? WEIR_WALK_FOLLOW : WEIR_WALK_NOFOLLOW, &walk);
    if (wrong || !walk.inode) {
        return wrong ? wrong : -ENOENT;
    }
    fill(walk.inode, ret_statx);
    return 0;
}
