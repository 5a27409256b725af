/* SPDX-License-Identifier: MIT */
/*
 * sim_entry.c: the names in directories, and the changes of them that are not synced: in the order
 * they were made, each carried out already. Which of them can survive without which is said here.
 */
#include "sim_inode.h"

/* So many wait to be synced; past that the oldest is, as a journal's space is limited. */
#define CHANGES_MAX 256

static uint32_t hash_of(const char *name, uint32_t length)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (uint32_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    }
    return hash;
}

struct weir_entry *weir_entry_find(const struct weir_inode *dir, const char *name, uint32_t length)
{
    uint32_t hash = hash_of(name, length);
    struct weir_entry *entry = dir->entries;
    while (entry && (entry->hash != hash || entry->length != length ||
                     memcmp(entry->name, name, length) != 0)) {
        entry = entry->next;
    }
    return entry;
}

struct weir_entry *weir_entry_get(struct weir_disk *disk, struct weir_inode *dir, const char *name,
                                  uint32_t length)
{
    struct weir_entry *entry = weir_entry_find(dir, name, length);
    if (entry) {
        return entry;
    }
    entry = weir_arena_take(disk->arena, sizeof *entry + length);
    if (!entry) {
        return NULL;
    }
    entry->dir = dir;
    entry->hash = hash_of(name, length);
    entry->length = length;
    memcpy(entry->name, name, length);
    entry->next = dir->entries;
    if (entry->next) {
        entry->next->prev = entry;
    }
    dir->entries = entry;
    dir->pins++;
    return entry;
}

void weir_entry_settle(struct weir_disk *disk, struct weir_entry *entry)
{
    if (entry->now || entry->synced || entry->changes) {
        return;
    }
    struct weir_inode *dir = entry->dir;
    if (entry->prev) {
        entry->prev->next = entry->next;
    } else {
        dir->entries = entry->next;
    }
    if (entry->next) {
        entry->next->prev = entry->prev;
    }
    weir_arena_give(disk->arena, entry, sizeof *entry + entry->length);
    weir_inode_unpin(disk, dir);
}

void weir_entry_set(struct weir_entry *entry, struct weir_inode *inode)
{
    struct weir_inode *dir = entry->dir;
    struct weir_inode *was = entry->now;
    if (was) {
        was->links--;
        dir->live--;
        if (S_ISDIR(was->mode)) {
            dir->directories--;
            /* An exchange may have given it its new place already. */
            was->parent = was->links ? was->parent : NULL;
        }
    }
    if (inode) {
        inode->links++;
        dir->live++;
        if (S_ISDIR(inode->mode)) {
            dir->directories++;
            inode->parent = dir;
        }
    }
    entry->now = inode;
}

/* --- changes ---------------------------------------------------------------------------------- */

static void pin(struct weir_inode *inode)
{
    if (inode) {
        inode->pins++;
    }
}

static bool moves_directory(const struct weir_change_part *parts, uint32_t count)
{
    return count == 2 && parts[0].entry->dir != parts[1].entry->dir &&
           ((parts[0].was && S_ISDIR(parts[0].was->mode)) ||
            (parts[0].becomes && S_ISDIR(parts[0].becomes->mode)));
}

int weir_change_make(struct weir_disk *disk, const struct weir_change_part *parts, uint32_t count)
{
    struct weir_change *change = weir_arena_take(disk->arena, sizeof *change);
    if (!change) {
        return -ENOSPC;
    }
    change->count = count;
    change->moves_directory = moves_directory(parts, count);
    for (uint32_t i = 0; i < count; i++) {
        change->parts[i] = parts[i];
        parts[i].entry->changes++;
        pin(parts[i].was);
        pin(parts[i].becomes);
    }
    for (uint32_t i = 0; i < count; i++) {
        weir_entry_set(parts[i].entry, parts[i].becomes);
        parts[i].entry->dir->mtime_ns = parts[i].entry->dir->ctime_ns = disk->now_ns;
        struct weir_inode *subject = parts[i].was ? parts[i].was : parts[i].becomes;
        subject->ctime_ns = disk->now_ns;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].was) {
            weir_inode_settle(disk, parts[i].was);
        }
    }
    change->prev = disk->last_change;
    *(change->prev ? &change->prev->next : &disk->first_change) = change;
    disk->last_change = change;
    if (++disk->change_count > CHANGES_MAX) {
        weir_change_commit(disk, disk->first_change);
    }
    return 0;
}

void weir_change_commit(struct weir_disk *disk, struct weir_change *change)
{
    for (uint32_t i = 0; i < change->count; i++) {
        struct weir_change_part *part = &change->parts[i];
        WEIR_CHECK(part->entry->synced == part->was);
        part->entry->synced = part->becomes;
        pin(part->becomes);
        if (part->becomes && S_ISDIR(part->becomes->mode)) {
            part->becomes->home = part->entry;
        }
    }
    for (uint32_t i = 0; i < change->count; i++) {
        struct weir_change_part *part = &change->parts[i];
        if (part->was && part->was->home == part->entry && part->becomes != part->was) {
            part->was->home = NULL;
        }
        weir_inode_unpin(disk, part->was);
    }
    weir_change_discard(disk, change);
}

void weir_change_discard(struct weir_disk *disk, struct weir_change *change)
{
    *(change->prev ? &change->prev->next : &disk->first_change) = change->next;
    *(change->next ? &change->next->prev : &disk->last_change) = change->prev;
    disk->change_count--;
    for (uint32_t i = 0; i < change->count; i++) {
        struct weir_change_part *part = &change->parts[i];
        weir_inode_unpin(disk, part->was);
        weir_inode_unpin(disk, part->becomes);
        part->entry->changes--;
        weir_entry_settle(disk, part->entry);
    }
    weir_arena_give(disk->arena, change, sizeof *change);
}

/* Whether the change takes a name away from the inode and gives it none. */
static bool removes(const struct weir_change *change, const struct weir_inode *inode)
{
    bool gone = false;
    for (uint32_t i = 0; i < change->count; i++) {
        gone = gone || change->parts[i].was == inode;
        if (change->parts[i].becomes == inode) {
            return false;
        }
    }
    return gone;
}

static bool is_subject(const struct weir_change_part *part, const struct weir_inode *inode)
{
    return inode && (part->was == inode || part->becomes == inode);
}

bool weir_change_depends(const struct weir_change *later, const struct weir_change *earlier)
{
    /* Else two could move two directories into each other. */
    if (later->moves_directory && earlier->moves_directory) {
        return true;
    }
    for (uint32_t i = 0; i < later->count; i++) {
        const struct weir_change_part *part = &later->parts[i];
        for (uint32_t j = 0; j < earlier->count; j++) {
            const struct weir_change_part *before = &earlier->parts[j];
            if (part->entry == before->entry || is_subject(before, part->was) ||
                is_subject(before, part->becomes)) {
                return true;
            }
            /* What was moved out of a directory must have gone before the directory goes. */
            if (part->was == before->entry->dir && removes(later, part->was)) {
                return true;
            }
        }
    }
    return false;
}

/* Whether a directory has a way from the root in what is synced. */
static bool is_found(const struct weir_disk *disk, const struct weir_inode *dir)
{
    while (dir != &disk->root) {
        if (!dir->home) {
            return false;
        }
        dir = dir->home->dir;
    }
    return true;
}

bool weir_change_arrives(const struct weir_disk *disk, const struct weir_change *change)
{
    for (uint32_t i = 0; i < change->count && change->count == 2; i++) {
        const struct weir_change_part *part = &change->parts[i];
        if (part->becomes && !is_found(disk, part->entry->dir)) {
            return false;
        }
    }
    return true;
}

/* Marks what must be synced with those that are marked already. */
static void mark_needed(struct weir_disk *disk)
{
    bool all = false; /* to find the way to where something was moved, as a journal would */
    for (struct weir_change *later = disk->last_change; later; later = later->prev) {
        later->marked = later->marked || all;
        if (!later->marked) {
            continue;
        }
        all = all || !weir_change_arrives(disk, later);
        for (struct weir_change *earlier = later->prev; earlier && !all; earlier = earlier->prev) {
            earlier->marked = earlier->marked || weir_change_depends(later, earlier);
        }
    }
}

void weir_change_sync(struct weir_disk *disk, const struct weir_inode *dir)
{
    for (struct weir_change *change = disk->first_change; change; change = change->next) {
        for (uint32_t i = 0; i < change->count; i++) {
            change->marked = change->marked || change->parts[i].entry->dir == dir;
        }
    }
    mark_needed(disk);
    for (struct weir_change *change = disk->first_change; change;) {
        struct weir_change *next = change->next;
        if (change->marked) {
            weir_change_commit(disk, change);
        }
        change = next;
    }
}
