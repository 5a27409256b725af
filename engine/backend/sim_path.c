/* SPDX-License-Identifier: MIT */
/*
 * sim_path.c: finds what a path names, as path_resolution(7) says. Changes nothing.
 */
#include "sim_inode.h"

static uint32_t length_of(const char *name)
{
    uint32_t length = 0;
    while (name[length] && name[length] != '/') {
        length++;
    }
    return length;
}

static bool is_dots(const struct weir_walk *walk)
{
    return walk->name[0] == '.' &&
           (walk->length == 1 || (walk->length == 2 && walk->name[1] == '.'));
}

/* Puts what a symlink says before the rest of the path. */
static int splice(struct weir_walk *walk, const struct weir_inode *symlink, const char **rest)
{
    size_t left = strlen(*rest);
    size_t room = sizeof walk->path;
    if (symlink->size + 1 + left + 1 > room) {
        return -ENAMETOOLONG;
    }
    /* Without a slash that was not there: it would ask for a directory. */
    bool slash = left > 0 || walk->slash;
    memmove(walk->path + symlink->size + slash, *rest, left + 1);
    memcpy(walk->path, symlink->target, symlink->size);
    if (slash) {
        walk->path[symlink->size] = '/';
    }
    *rest = walk->path;
    return 0;
}

/* One step: from walk->inode, a directory, to walk->name in it. */
static void step(struct weir_walk *walk)
{
    struct weir_inode *from = walk->inode;
    walk->dir = NULL;
    if (is_dots(walk)) {
        walk->inode = walk->length == 2 ? from->parent : from;
        return;
    }
    struct weir_entry *entry = weir_entry_find(from, walk->name, walk->length);
    walk->dir = from;
    walk->inode = entry ? entry->now : NULL;
}

static bool is_followed(const struct weir_walk *walk, enum weir_walk_how how, bool last)
{
    if (!walk->inode || !S_ISLNK(walk->inode->mode)) {
        return false;
    }
    return !last || how == WEIR_WALK_FOLLOW || (how == WEIR_WALK_NOFOLLOW && walk->slash) ||
           (how == WEIR_WALK_CREATE && !walk->slash);
}

static int walk_on(struct weir_disk *disk, const char *rest, enum weir_walk_how how,
                   struct weir_walk *walk)
{
    for (int links = 0;;) {
        walk->name = rest;
        walk->length = length_of(rest);
        rest += walk->length;
        walk->slash = *rest == '/';
        rest += strspn(rest, "/");
        if (!S_ISDIR(walk->inode->mode)) {
            return -ENOTDIR;
        }
        if (walk->length > WEIR_DISK_NAME_MAX) {
            return -ENAMETOOLONG;
        }
        struct weir_inode *from = walk->inode;
        step(walk);
        bool last = *rest == '\0';
        if (is_followed(walk, how, last)) {
            int wrong = ++links > WEIR_DISK_LINKS_MAX ? -ELOOP : splice(walk, walk->inode, &rest);
            if (wrong) {
                return wrong;
            }
            walk->inode = *rest == '/' ? &disk->root : from;
            rest += strspn(rest, "/");
            last = *rest == '\0'; /* it leads to the root */
            walk->dir = NULL;
            walk->name = rest;
            walk->length = 0;
        } else if (!walk->inode && (!last || !walk->dir)) {
            return -ENOENT;
        }
        if (last) {
            bool judged = how == WEIR_WALK_FOLLOW || how == WEIR_WALK_NOFOLLOW;
            bool no_dir = walk->inode && walk->slash && !S_ISDIR(walk->inode->mode);
            return judged && no_dir ? -ENOTDIR : 0;
        }
    }
}

int weir_walk(struct weir_disk *disk, struct weir_inode *at, const char *path,
              enum weir_walk_how how, struct weir_walk *ret_walk)
{
    size_t length = strnlen(path, WEIR_DISK_PATH_MAX);
    if (length == 0 || length == WEIR_DISK_PATH_MAX) {
        return length ? -ENAMETOOLONG : -ENOENT;
    }
    memcpy(ret_walk->path, path, length + 1);
    const char *rest = ret_walk->path + strspn(ret_walk->path, "/");
    ret_walk->inode = *path == '/' || !at ? &disk->root : at;
    ret_walk->dir = NULL;
    ret_walk->name = rest;
    ret_walk->length = 0;
    ret_walk->slash = false;
    return *rest ? walk_on(disk, rest, how, ret_walk) : 0;
}
