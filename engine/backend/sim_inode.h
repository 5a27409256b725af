/* SPDX-License-Identifier: MIT */
/*
 * sim_inode.h: how the simulated disk is built, for its own files: inodes, pages, entries of
 * directories, and the changes of entries that no crash may count on yet.
 *
 * Everything is there twice: as it is now, and as it is synced. A crash turns the first into a
 * mixture of both. sim_page.c keeps bytes, sim_file.c moves them, sim_entry.c keeps names,
 * sim_path.c finds them, sim_dir.c changes them, sim_crash.c mixes.
 */
#ifndef WEIR_ENGINE_SIM_INODE_H
#define WEIR_ENGINE_SIM_INODE_H

#include "sim_disk.h"

#include <engine/base/check.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A page that differs from what is synced is on its file's list of `listed` pages, and leaves it
 * only when the file is synced. */
struct weir_page {
    uint8_t *bytes;  /* what is read; NULL: zeroes */
    uint8_t *synced; /* what was synced; NULL: zeroes. The same as bytes: nothing was written */
    uint64_t dirty;  /* a bit per sector: written since */
    uint64_t begins; /* of these: another write than of the sector before it */
    uint64_t missed; /* of these: a sync of them failed, and later ones pass over them */
    struct weir_page *next;
    uint32_t index;
    bool listed;
    bool charged; /* counts into what the disk holds */
};

#define WEIR_NO_CUT UINT64_MAX

struct weir_inode {
    uint64_t number;
    mode_t mode;
    uint32_t links; /* names it has now */
    uint32_t holds;
    uint32_t pins; /* names it had, as far as something still refers to them; entries in it */
    bool linkable; /* of O_TMPFILE: may get a name though it has none */
    bool retired;  /* neither names nor holds: only a crash can bring it back */
    bool reached;  /* in a crash: has a name that survives */
    bool named;    /* in a crash: had a name before it */
    uint64_t btime_ns;
    uint64_t mtime_ns;
    uint64_t ctime_ns;
    struct weir_inode *next; /* all of the disk, by number */
    struct weir_inode *prev;
    struct weir_inode *work; /* in a crash: the next to look into */

    /* A file. Zero past the sizes, in its bytes; past the synced size synced bytes do not count. */
    void *tree; /* a page if the height is 0; else a node of 64 trees of one height less */
    unsigned height;
    uint64_t size;
    uint64_t synced_size;
    uint64_t cut;     /* the least it was truncated to since its size was synced */
    uint64_t charged; /* pages */
    struct weir_page *listed;

    /* A directory. */
    struct weir_entry *entries;
    uint32_t live; /* of them: names now */
    uint32_t directories;
    struct weir_inode *parent; /* NULL: it has no name; the root's is the root */
    struct weir_entry *home;   /* its synced name; NULL: it has none */

    char *target; /* a symlink; 0-terminated, size is its length */
};

/* A name in a directory, as long as there is something under it, was, or may have been. */
struct weir_entry {
    struct weir_entry *next;
    struct weir_entry *prev;
    struct weir_inode *dir;
    struct weir_inode *now;
    struct weir_inode *synced;
    uint32_t changes; /* that are not synced */
    uint32_t hash;
    uint32_t length;
    char name[];
};

/* What one system call did to names: one entry, or the two of a rename. */
struct weir_change {
    struct weir_change *next;
    struct weir_change *prev;
    struct weir_change_part {
        struct weir_entry *entry;
        struct weir_inode *was;
        struct weir_inode *becomes;
    } parts[2];
    uint32_t count;
    bool moves_directory; /* to another one */
    bool marked;
};

struct weir_disk {
    struct weir_arena *arena;
    uint64_t bytes;
    uint64_t used;
    uint32_t sector_bytes;
    uint32_t sector_count; /* of a page */
    uint64_t random;
    uint64_t now_ns;
    uint64_t last_number;
    size_t pressure; /* bytes of the arena from which on all is written back */
    struct weir_inode root;
    struct weir_inode *last; /* of all inodes; the root is the first */
    struct weir_change *first_change;
    struct weir_change *last_change;
    uint32_t change_count;
    struct weir_disk_losses losses;
};

uint64_t weir_disk_random(struct weir_disk *disk);
/* Before what takes memory: when the arena fills, all is written back, as a kernel would. */
void weir_disk_relieve(struct weir_disk *disk);

/* --- sim_disk.c: inodes ----------------------------------------------------------------------- */

/* Without names, and without a hold. NULL: the arena is full. */
struct weir_inode *weir_inode_make(struct weir_disk *disk, mode_t mode);
/* After a name, a hold or a pin went. It may be gone after it. */
void weir_inode_settle(struct weir_disk *disk, struct weir_inode *inode);
/* Nothing refers to it. */
void weir_inode_free(struct weir_disk *disk, struct weir_inode *inode);

static inline void weir_inode_unpin(struct weir_disk *disk, struct weir_inode *inode)
{
    if (inode) {
        inode->pins--;
        weir_inode_settle(disk, inode);
    }
}

/* --- sim_page.c ------------------------------------------------------------------------------- */

/* NULL: there is none. */
struct weir_page *weir_page_find(const struct weir_inode *file, uint64_t index);
/* The first from index on; NULL: none. */
struct weir_page *weir_page_next(const struct weir_inode *file, uint64_t index);
/* Found or made; NULL: the arena is full. */
struct weir_page *weir_page_get(struct weir_disk *disk, struct weir_inode *file, uint64_t index);
/* The same with room for bytes on the disk. NULL: it is full. */
struct weir_page *weir_page_reserve(struct weir_disk *disk, struct weir_inode *file,
                                    uint64_t index);
/* The same with bytes of its own that may be written. */
struct weir_page *weir_page_write(struct weir_disk *disk, struct weir_inode *file, uint64_t index);
/* It reads as zeroes now, and takes no room. */
void weir_page_empty(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page);
void weir_page_uncharge(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page);
/* Onto the file's list. */
void weir_page_list(struct weir_inode *file, struct weir_page *page);
/* Takes it out of the tree. It is on no list. */
void weir_page_drop(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page);
void weir_page_drop_all(struct weir_disk *disk, struct weir_inode *file);
/* Makes what is now what is synced: the size and its cut, or all. */
void weir_page_sync_size(struct weir_disk *disk, struct weir_inode *file);
void weir_page_sync_all(struct weir_disk *disk, struct weir_inode *file);
/* Writes a sector back, if it stands where synced bytes may stand. */
bool weir_page_sync_sector(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page,
                           uint32_t sector);

/* --- sim_entry.c ------------------------------------------------------------------------------ */

/* NULL: nothing was ever under that name. */
struct weir_entry *weir_entry_find(const struct weir_inode *dir, const char *name, uint32_t length);
/* Found or made; NULL: the arena is full. weir_entry_settle() if nothing comes under it. */
struct weir_entry *weir_entry_get(struct weir_disk *disk, struct weir_inode *dir, const char *name,
                                  uint32_t length);
void weir_entry_settle(struct weir_disk *disk, struct weir_entry *entry);
/* What is under it now, with all that is counted about it. Frees nothing. */
void weir_entry_set(struct weir_entry *entry, struct weir_inode *inode);

/* Carries a change out: 0, or -ENOSPC: the arena is full. */
int weir_change_make(struct weir_disk *disk, const struct weir_change_part *parts, uint32_t count);
/* It is synced; or forgotten, and what is now is wrong. */
void weir_change_commit(struct weir_disk *disk, struct weir_change *change);
void weir_change_discard(struct weir_disk *disk, struct weir_change *change);
/* Whether the earlier must be synced for the later to be. */
bool weir_change_depends(const struct weir_change *later, const struct weir_change *earlier);
/* Whether what it brings can be found in what is synced. */
bool weir_change_arrives(const struct weir_disk *disk, const struct weir_change *change);
/* Syncs the changes in a directory, and what they stand on. */
void weir_change_sync(struct weir_disk *disk, const struct weir_inode *dir);

/* --- sim_path.c ------------------------------------------------------------------------------- */

enum weir_walk_how {
    WEIR_WALK_FOLLOW,   /* a symlink at the end too */
    WEIR_WALK_NOFOLLOW, /* ... if a slash comes after it */
    WEIR_WALK_CREATE,   /* ... if none does; what has one may be no directory */
    WEIR_WALK_NAME,     /* not at the end, whatever it is: for calls that change names */
};

/* Where a path leads. */
struct weir_walk {
    struct weir_inode *inode; /* NULL: there is nothing of that name */
    struct weir_inode *dir;   /* where the last name is; NULL: the path ends in ., .. or / */
    const char *name;         /* in path; not 0-terminated; empty: the root */
    uint32_t length;
    bool slash; /* came after it */
    char path[2 * WEIR_DISK_PATH_MAX];
};

/* 0 also if only the last name is missing. */
int weir_walk(struct weir_disk *disk, struct weir_inode *at, const char *path,
              enum weir_walk_how how, struct weir_walk *ret_walk);

#endif
