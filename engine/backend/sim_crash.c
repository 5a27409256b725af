/* SPDX-License-Identifier: MIT */
/*
 * sim_crash.c: what survives. First the changes of names, one by one in their order; then every
 * file that still has a name, sector by sector. Draws are made in an order that depends on nothing
 * but what was done to the disk.
 */
#include "sim_inode.h"

/* How much of what was not synced survives, drawn anew for the names and for each file: a machine
 * seldom loses half of everything. */
static uint64_t draw_chance(struct weir_disk *disk)
{
    static const uint8_t eighths[] = {0, 1, 4, 7, 8};
    return eighths[weir_disk_random(disk) % sizeof eighths];
}

static bool draw_kept(struct weir_disk *disk, uint64_t chance)
{
    return weir_disk_random(disk) % 8 < chance;
}

/* --- names ------------------------------------------------------------------------------------ */

/* Those before it that are still there were dropped. */
static bool can_stand(const struct weir_disk *disk, const struct weir_change *change)
{
    for (const struct weir_change *before = change->prev; before; before = before->prev) {
        if (weir_change_depends(change, before)) {
            return false;
        }
    }
    return weir_change_arrives(disk, change);
}

static void judge_changes(struct weir_disk *disk)
{
    uint64_t chance = draw_chance(disk);
    for (struct weir_change *change = disk->first_change; change;) {
        struct weir_change *next = change->next;
        if (draw_kept(disk, chance) && can_stand(disk, change)) {
            weir_change_commit(disk, change);
        }
        change = next;
    }
    disk->losses.names_lost += disk->change_count;
    while (disk->last_change) {
        weir_change_discard(disk, disk->last_change);
    }
}

/* What is synced is what is. Frees nothing: who has no name may get one yet. */
static void restore_names(struct weir_disk *disk)
{
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        inode->named = inode->links > 0;
        inode->holds = 1; /* so that it stays while we look */
    }
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        for (struct weir_entry *entry = inode->entries; entry; entry = entry->next) {
            weir_entry_set(entry, NULL);
        }
    }
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        for (struct weir_entry *entry = inode->entries; entry;) {
            struct weir_entry *next = entry->next;
            weir_entry_set(entry, entry->synced);
            weir_entry_settle(disk, entry);
            entry = next;
        }
    }
}

static void mark_reached(struct weir_disk *disk)
{
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        inode->reached = inode == &disk->root;
        inode->work = NULL;
    }
    for (struct weir_inode *dir = &disk->root, *last = dir; dir; dir = dir->work) {
        for (struct weir_entry *entry = dir->entries; entry; entry = entry->next) {
            if (!entry->now->reached) {
                entry->now->reached = true;
                last->work = entry->now;
                last = entry->now;
            }
        }
    }
}

static void empty_directory(struct weir_disk *disk, struct weir_inode *dir)
{
    while (dir->entries) {
        struct weir_entry *entry = dir->entries;
        struct weir_inode *synced = entry->synced;
        weir_entry_set(entry, NULL);
        entry->synced = NULL;
        weir_inode_unpin(disk, synced);
        weir_entry_settle(disk, entry);
    }
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* One file on its way through a crash. */
struct wreck {
    struct weir_disk *disk;
    struct weir_inode *file;
    uint64_t chance;
    uint64_t kept_below; /* bytes past it are as they were synced */
    uint64_t next;       /* the sector of the file that would go on with the same write */
    uint64_t kept;       /* sectors of that write */
    uint64_t lost;
};

static void end_write(struct wreck *wreck)
{
    wreck->disk->losses.sectors_torn += wreck->lost ? wreck->kept : 0;
    wreck->disk->losses.sectors_lost += wreck->lost;
    wreck->kept = 0;
    wreck->lost = 0;
}

/* Whether a dirty sector keeps what was written. */
static bool judge_sector(struct wreck *wreck, const struct weir_page *page, uint32_t sector)
{
    struct weir_disk *disk = wreck->disk;
    uint64_t number = (uint64_t)page->index * disk->sector_count + sector;
    if (number != wreck->next || page->begins >> sector & 1) {
        end_write(wreck);
    }
    wreck->next = number + 1;
    bool kept = draw_kept(disk, wreck->chance) && number * disk->sector_bytes < wreck->kept_below;
    wreck->kept += kept;
    wreck->lost += !kept;
    return kept;
}

/* Puts what was synced over what was written, in the rest of a sector. */
static void revert(const struct weir_page *page, uint64_t from, uint64_t end)
{
    if (!page->bytes || from >= end) {
        return; /* the synced bytes stay, and are where they are */
    }
    if (page->synced) {
        memcpy(page->bytes + from, page->synced + from, end - from);
    } else {
        memset(page->bytes + from, 0, end - from);
    }
}

static void wreck_page(struct wreck *wreck, struct weir_page *page)
{
    struct weir_disk *disk = wreck->disk;
    uint64_t begin = (uint64_t)page->index * WEIR_DISK_PAGE;
    for (uint32_t i = 0; i < disk->sector_count; i++) {
        uint64_t from = (uint64_t)i * disk->sector_bytes;
        uint64_t end = from + disk->sector_bytes;
        uint64_t turn = end; /* old from here */
        if (begin + end > wreck->kept_below) {
            turn = wreck->kept_below > begin + from ? wreck->kept_below - begin : from;
        }
        if (page->dirty >> i & 1 && !judge_sector(wreck, page, i)) {
            turn = from;
        }
        if (!page->bytes && page->synced) {
            memset(page->synced + from, 0, turn - from); /* it was punched out, or cut off */
        }
        revert(page, turn, end);
    }
    if (page->bytes) {
        weir_arena_give(disk->arena, page->synced, WEIR_DISK_PAGE);
        page->synced = page->bytes;
    }
    page->bytes = page->synced;
}

/* All is as it is synced now; nothing stands past the end. */
static void trim(struct weir_disk *disk, struct weir_inode *file)
{
    file->listed = NULL;
    struct weir_page *page = weir_page_next(file, 0);
    while (page) {
        uint64_t index = page->index;
        uint64_t begin = index * WEIR_DISK_PAGE;
        page->next = NULL;
        page->listed = false;
        page->dirty = 0;
        page->begins = 0;
        page->missed = 0;
        if ((begin >= file->size && page->bytes) || (!page->bytes && !page->charged)) {
            weir_page_drop(disk, file, page);
        } else if (page->bytes) {
            file->charged += !page->charged;
            page->charged = true;
            if (file->size - begin < WEIR_DISK_PAGE) {
                uint64_t from = file->size - begin;
                memset(page->bytes + from, 0, WEIR_DISK_PAGE - from);
            }
        }
        page = weir_page_next(file, index + 1);
    }
}

static void wreck_file(struct weir_disk *disk, struct weir_inode *file)
{
    if (!file->listed && file->size == file->synced_size) {
        file->cut = WEIR_NO_CUT; /* zeroes were cut off */
        return;
    }
    struct wreck wreck = {
        .disk = disk, .file = file, .chance = draw_chance(disk), .kept_below = UINT64_MAX};
    if (draw_kept(disk, wreck.chance)) {
        weir_page_sync_size(disk, file);
    } else if (file->size != file->synced_size || file->cut != WEIR_NO_CUT) {
        uint64_t synced = file->synced_size;
        wreck.kept_below = file->cut < synced ? file->cut : synced;
    }
    file->size = file->synced_size;
    file->cut = WEIR_NO_CUT;
    for (struct weir_page *page = weir_page_next(file, 0); page;
         page = weir_page_next(file, (uint64_t)page->index + 1)) {
        if (page->listed) {
            wreck_page(&wreck, page);
        }
    }
    end_write(&wreck);
    trim(disk, file);
}

/* --- all -------------------------------------------------------------------------------------- */

static void count_lost(struct weir_disk *disk, const struct weir_inode *file)
{
    for (const struct weir_page *page = file->listed; page && file->named; page = page->next) {
        disk->losses.sectors_lost += (uint64_t)__builtin_popcountll(page->dirty);
    }
}

void weir_disk_crash(struct weir_disk *disk)
{
    judge_changes(disk);
    restore_names(disk);
    mark_reached(disk);
    for (struct weir_inode *inode = &disk->root; inode; inode = inode->next) {
        if (!inode->reached) {
            count_lost(disk, inode);
            empty_directory(disk, inode);
        } else if (S_ISREG(inode->mode)) {
            wreck_file(disk, inode);
        }
    }
    disk->used = 0;
    for (struct weir_inode *inode = disk->root.next; inode;) {
        struct weir_inode *next = inode->next;
        inode->holds = 0;
        if (inode->reached) {
            inode->retired = false;
            disk->used += inode->charged * WEIR_DISK_PAGE;
        } else {
            inode->retired = true;
            weir_inode_settle(disk, inode);
        }
        inode = next;
    }
}
