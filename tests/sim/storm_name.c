/* SPDX-License-Identifier: MIT */
/*
 * storm_name.c: the model of names in a directory. Ops on the same name are not live at once, so
 * that each has one right answer.
 */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define NOREPLACE 1u /* RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h */
#define EXCHANGE 2u

static bool is_free(const struct storm *storm, const struct name *name)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        const struct item *item = &storm->items[i];
        if (item->live && (item->names[0] == name || item->names[1] == name)) {
            return false;
        }
    }
    return true;
}

static int expect_rename(const struct name *from, const struct name *to, unsigned flags)
{
    if (from->inode == 0 || (flags == EXCHANGE && to->inode == 0)) {
        return -ENOENT;
    }
    if (flags == NOREPLACE && to->inode != 0) {
        return -EEXIST;
    }
    if (flags == EXCHANGE || to->inode == 0 || to->inode == from->inode) {
        return 0;
    }
    bool from_dir = from->type == NAME_DIR;
    bool to_dir = to->type == NAME_DIR;
    return from_dir && !to_dir ? -ENOTDIR : !from_dir && to_dir ? -EISDIR : 0;
}

static int expect_link(const struct name *from, const struct name *to)
{
    return from->inode == 0         ? -ENOENT
           : to->inode != 0         ? -EEXIST
           : from->type == NAME_DIR ? -EPERM
                                    : 0;
}

static void fill_two(struct item *item, bool link)
{
    const struct name *from = item->names[0];
    const struct name *to = item->names[1];
    if (link) {
        weir_op_linkat(&item->op, AT_FDCWD, from->path, AT_FDCWD, to->path, 0);
        item->expected = expect_link(from, to);
        return;
    }
    item->mode = (int)storm_random(item->storm, 3);
    weir_op_renameat(&item->op, AT_FDCWD, from->path, AT_FDCWD, to->path, (unsigned)item->mode);
    item->expected = expect_rename(from, to, (unsigned)item->mode);
}

static void fill_one(struct item *item)
{
    struct name *name = item->names[0];
    bool exists = name->inode != 0;
    switch (storm_random(item->storm, 6)) {
    case 0:
        weir_op_mkdirat(&item->op, AT_FDCWD, name->path, 0700);
        item->expected = exists ? -EEXIST : 0;
        break;
    case 1:
        weir_op_symlinkat(&item->op, "/nowhere", AT_FDCWD, name->path);
        item->expected = exists ? -EEXIST : 0;
        break;
    case 2:
        weir_op_openat(&item->op, AT_FDCWD, name->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                       0600);
        item->expected = exists ? -EEXIST : 0;
        break;
    case 3:
        weir_op_statx(&item->op, AT_FDCWD, name->path, AT_SYMLINK_NOFOLLOW, STATX_TYPE,
                      &item->statx);
        item->expected = exists ? 0 : -ENOENT;
        break;
    default:
        item->mode = storm_random(item->storm, 2) == 0 ? AT_REMOVEDIR : 0;
        weir_op_unlinkat(&item->op, AT_FDCWD, name->path, item->mode);
        item->expected = !exists                                     ? -ENOENT
                         : item->mode == 0 && name->type == NAME_DIR ? -EISDIR
                         : item->mode != 0 && name->type != NAME_DIR ? -ENOTDIR
                                                                     : 0;
        break;
    }
}

bool name_fill(struct item *item)
{
    struct storm *storm = item->storm;
    uint64_t first = storm_random(storm, STORM_NAMES);
    item->names[0] = &storm->names[first];
    if (!is_free(storm, item->names[0])) {
        return false;
    }
    uint64_t choice = storm_random(storm, 10);
    if (choice >= 4) {
        fill_one(item);
        return true;
    }
    uint64_t second = (first + 1 + storm_random(storm, STORM_NAMES - 1)) % STORM_NAMES;
    item->names[1] = &storm->names[second];
    if (!is_free(storm, item->names[1])) {
        return false;
    }
    fill_two(item, choice == 0);
    return true;
}

static void renamed(struct name *from, struct name *to, unsigned flags)
{
    if (from->inode == to->inode) {
        return;
    }
    uint64_t inode = to->inode;
    unsigned type = to->type;
    to->inode = from->inode;
    to->type = from->type;
    from->inode = flags == EXCHANGE ? inode : 0;
    from->type = type;
}

static void made(struct item *item, unsigned type)
{
    item->names[0]->inode = ++item->storm->inodes;
    item->names[0]->type = type;
}

void name_judge(struct item *item)
{
    struct name *name = item->names[0];
    /* Made, though closing has then closed the fd. */
    bool discarded = item->op.kind == WEIR_KIND_OPENAT && item->came != CAME_NOT &&
                     item->op.result == -ECANCELED && item->brought >= 0 && !item->polled;
    if (item->op.result < 0 && !(discarded && item->came != CAME_WITHDRAWN)) {
        return;
    }
    if (item->expected < 0) {
        item_wrong(item, "it cannot have been done");
    }
    switch (item->op.kind) {
    case WEIR_KIND_MKDIRAT:
        made(item, NAME_DIR);
        break;
    case WEIR_KIND_SYMLINKAT:
        made(item, NAME_LINK);
        break;
    case WEIR_KIND_OPENAT:
        made(item, NAME_FILE);
        break;
    case WEIR_KIND_UNLINKAT:
        name->inode = 0;
        break;
    case WEIR_KIND_RENAMEAT:
        renamed(name, item->names[1], (unsigned)item->mode);
        break;
    case WEIR_KIND_LINKAT:
        item->names[1]->inode = name->inode;
        item->names[1]->type = name->type;
        break;
    default: {
        static const unsigned types[] = {
            [NAME_FILE] = S_IFREG, [NAME_DIR] = S_IFDIR, [NAME_LINK] = S_IFLNK};
        STORM_EQUAL(item->storm, item->statx.stx_mode & S_IFMT, types[name->type]);
        break;
    }
    }
}

void name_clear_all(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_NAMES; i++) {
        struct name *name = &storm->names[i];
        struct weir_op op = {0};
        snprintf(name->path, sizeof name->path, "/name-%u", i);
        weir_op_unlinkat(&op, AT_FDCWD, name->path, 0);
        if (storm_do(storm, &op) == -EISDIR) {
            weir_op_unlinkat(&op, AT_FDCWD, name->path, AT_REMOVEDIR);
            STORM_EQUAL(storm, storm_do(storm, &op), 0);
        }
        name->inode = 0;
    }
}
