/* SPDX-License-Identifier: MIT */
/*
 * sim_disk.c: the disk as a whole, and the lives of its inodes. One lives while it has names or
 * holds; its memory stays while a crash could bring one of its names back.
 */
#include "sim_inode.h"

int weir_disk_init(struct weir_arena *arena, const struct weir_disk_options *options,
                   struct weir_disk **ret_disk)
{
    uint32_t sector = options->sector_bytes;
    if (sector < WEIR_DISK_SECTOR_MIN || sector > WEIR_DISK_PAGE || (sector & (sector - 1)) != 0) {
        return -EINVAL;
    }
    struct weir_disk *disk = weir_arena_take(arena, sizeof *disk);
    if (!disk) {
        return -ENOMEM;
    }
    disk->arena = arena;
    disk->bytes = options->bytes;
    disk->sector_bytes = sector;
    disk->sector_count = WEIR_DISK_PAGE / sector;
    disk->random = options->seed;
    disk->last_number = 1;
    disk->pressure = arena->size / 4 * 3;
    disk->root.number = 1;
    disk->root.mode = S_IFDIR | 0755;
    disk->root.parent = &disk->root;
    disk->root.holds = 1; /* for ever */
    disk->last = &disk->root;
    *ret_disk = disk;
    return 0;
}

void weir_disk_set_now(struct weir_disk *disk, uint64_t now_ns)
{
    disk->now_ns = now_ns;
}

/* SplitMix64: every state is a good one, zero too. */
uint64_t weir_disk_random(struct weir_disk *disk)
{
    uint64_t word = disk->random += 0x9e3779b97f4a7c15ULL;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ULL;
    word = (word ^ word >> 27) * 0x94d049bb133111ebULL;
    return word ^ word >> 31;
}

void weir_disk_relieve(struct weir_disk *disk)
{
    if (weir_likely(weir_arena_used(disk->arena) < disk->pressure)) {
        return;
    }
    weir_disk_sync_all(disk);
    /* Not again before as much has come that it may be worth it. */
    size_t least = disk->arena->size / 4 * 3;
    size_t next = weir_arena_used(disk->arena) + disk->arena->size / 16;
    disk->pressure = next > least ? next : least;
}

void weir_disk_sync_all(struct weir_disk *disk)
{
    while (disk->first_change) {
        weir_change_commit(disk, disk->first_change);
    }
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        weir_page_sync_all(disk, inode);
    }
}

void weir_disk_losses(const struct weir_disk *disk, struct weir_disk_losses *ret_losses)
{
    *ret_losses = disk->losses;
}

/* --- inodes ----------------------------------------------------------------------------------- */

struct weir_inode *weir_inode_make(struct weir_disk *disk, mode_t mode)
{
    struct weir_inode *inode = weir_arena_take(disk->arena, sizeof *inode);
    if (!inode) {
        return NULL;
    }
    inode->number = ++disk->last_number;
    inode->mode = mode;
    inode->cut = WEIR_NO_CUT;
    inode->btime_ns = inode->mtime_ns = inode->ctime_ns = disk->now_ns;
    inode->prev = disk->last;
    disk->last->next = inode;
    disk->last = inode;
    return inode;
}

void weir_inode_free(struct weir_disk *disk, struct weir_inode *inode)
{
    WEIR_CHECK(!inode->entries && inode != &disk->root);
    weir_page_drop_all(disk, inode);
    if (inode->target) {
        weir_arena_give(disk->arena, inode->target, inode->size + 1);
    }
    inode->prev->next = inode->next;
    if (inode->next) {
        inode->next->prev = inode->prev;
    } else {
        disk->last = inode->prev;
    }
    weir_arena_give(disk->arena, inode, sizeof *inode);
}

void weir_inode_settle(struct weir_disk *disk, struct weir_inode *inode)
{
    if (inode->links || inode->holds) {
        return;
    }
    if (!inode->retired) {
        inode->retired = true;
        disk->used -= inode->charged * WEIR_DISK_PAGE;
    }
    if (inode->pins == 0) {
        weir_inode_free(disk, inode);
    }
}

struct weir_inode *weir_disk_root(struct weir_disk *disk)
{
    return &disk->root;
}

void weir_disk_hold(struct weir_inode *inode)
{
    inode->holds++;
}

void weir_disk_release(struct weir_disk *disk, struct weir_inode *inode)
{
    WEIR_CHECK(inode->holds > 0);
    inode->holds--;
    weir_inode_settle(disk, inode);
}

mode_t weir_disk_mode(const struct weir_inode *inode)
{
    return inode->mode;
}

uint64_t weir_disk_size(const struct weir_inode *inode)
{
    return inode->size;
}

uint64_t weir_disk_number(const struct weir_inode *inode)
{
    return inode->number;
}
