/* SPDX-License-Identifier: MIT */
/*
 * sim_page.c: the pages of a file, in a tree as high as it needs to be: what is in them now, and
 * what is synced. A page that is written for the first time after a sync is copied.
 */
#include "sim_inode.h"

#define NODE_BITS 6
#define NODE_COUNT (1u << NODE_BITS)

struct node {
    void *children[NODE_COUNT];
};

static uint64_t reach(unsigned height)
{
    return (uint64_t)1 << (NODE_BITS * height);
}

static unsigned child_of(uint64_t index, unsigned height)
{
    return index >> (NODE_BITS * (height - 1)) & (NODE_COUNT - 1);
}

struct weir_page *weir_page_find(const struct weir_inode *file, uint64_t index)
{
    if (index >= reach(file->height)) {
        return NULL;
    }
    void *tree = file->tree;
    for (unsigned height = file->height; tree && height > 0; height--) {
        tree = ((struct node *)tree)->children[child_of(index, height)];
    }
    return tree;
}

struct weir_page *weir_page_next(const struct weir_inode *file, uint64_t index)
{
    while (index < reach(file->height)) {
        void *tree = file->tree;
        unsigned height = file->height;
        while (tree && height > 0) {
            tree = ((struct node *)tree)->children[child_of(index, height)];
            height--;
        }
        if (tree) {
            return tree;
        }
        index = (index | (reach(height) - 1)) + 1; /* past what is not there */
    }
    return NULL;
}

/* Makes the tree high enough. */
static bool grow(struct weir_disk *disk, struct weir_inode *file, uint64_t index)
{
    while (index >= reach(file->height)) {
        if (file->tree) {
            struct node *node = weir_arena_take(disk->arena, sizeof *node);
            if (!node) {
                return false;
            }
            node->children[0] = file->tree;
            file->tree = node;
        }
        file->height++;
    }
    return true;
}

struct weir_page *weir_page_get(struct weir_disk *disk, struct weir_inode *file, uint64_t index)
{
    if (!grow(disk, file, index)) {
        return NULL;
    }
    void **at = &file->tree;
    for (unsigned height = file->height; height > 0; height--) {
        if (!*at && !(*at = weir_arena_take(disk->arena, sizeof(struct node)))) {
            return NULL;
        }
        at = &((struct node *)*at)->children[child_of(index, height)];
    }
    if (!*at && (*at = weir_arena_take(disk->arena, sizeof(struct weir_page)))) {
        ((struct weir_page *)*at)->index = (uint32_t)index;
    }
    return *at;
}

struct weir_page *weir_page_reserve(struct weir_disk *disk, struct weir_inode *file, uint64_t index)
{
    struct weir_page *page = weir_page_get(disk, file, index);
    if (!page || page->charged) {
        return page;
    }
    if (disk->used + WEIR_DISK_PAGE > disk->bytes) {
        return NULL;
    }
    disk->used += WEIR_DISK_PAGE;
    file->charged++;
    page->charged = true;
    return page;
}

struct weir_page *weir_page_write(struct weir_disk *disk, struct weir_inode *file, uint64_t index)
{
    struct weir_page *page = weir_page_reserve(disk, file, index);
    if (!page || (page->bytes && page->bytes != page->synced)) {
        return page;
    }
    uint8_t *bytes = weir_arena_take(disk->arena, WEIR_DISK_PAGE);
    if (!bytes) {
        return NULL;
    }
    if (page->bytes) {
        memcpy(bytes, page->bytes, WEIR_DISK_PAGE);
    }
    page->bytes = bytes;
    weir_page_list(file, page);
    return page;
}

void weir_page_uncharge(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page)
{
    if (page->charged) {
        page->charged = false;
        file->charged--;
        disk->used -= file->retired ? 0 : WEIR_DISK_PAGE;
    }
}

void weir_page_empty(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page)
{
    weir_page_uncharge(disk, file, page);
    page->missed = 0;
    if (page->bytes) {
        if (page->bytes != page->synced) {
            weir_arena_give(disk->arena, page->bytes, WEIR_DISK_PAGE);
        }
        page->bytes = NULL;
        weir_page_list(file, page);
    }
}

void weir_page_list(struct weir_inode *file, struct weir_page *page)
{
    if (!page->listed) {
        page->listed = true;
        page->next = file->listed;
        file->listed = page;
    }
}

static void give_page(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page)
{
    weir_page_uncharge(disk, file, page);
    if (page->synced != page->bytes) {
        weir_arena_give(disk->arena, page->synced, WEIR_DISK_PAGE);
    }
    weir_arena_give(disk->arena, page->bytes, WEIR_DISK_PAGE);
    weir_arena_give(disk->arena, page, sizeof *page);
}

void weir_page_drop(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page)
{
    void **at = &file->tree;
    for (unsigned height = file->height; height > 0; height--) {
        at = &((struct node *)*at)->children[child_of(page->index, height)];
    }
    *at = NULL;
    give_page(disk, file, page);
}

/* Recursive, but never deeper than a tree is high: six nodes. */
static void drop_tree(struct weir_disk *disk, struct weir_inode *file, void *tree, unsigned height)
{
    if (!tree) {
        return;
    }
    if (height == 0) {
        give_page(disk, file, tree);
        return;
    }
    struct node *node = tree;
    for (unsigned i = 0; i < NODE_COUNT; i++) {
        drop_tree(disk, file, node->children[i], height - 1);
    }
    weir_arena_give(disk->arena, node, sizeof *node);
}

void weir_page_drop_all(struct weir_disk *disk, struct weir_inode *file)
{
    drop_tree(disk, file, file->tree, file->height);
    file->tree = NULL;
    file->height = 0;
    file->listed = NULL;
}

/* --- what is synced --------------------------------------------------------------------------- */

void weir_page_sync_size(struct weir_disk *disk, struct weir_inode *file)
{
    file->synced_size = file->size;
    if (file->cut == WEIR_NO_CUT) {
        return;
    }
    /* What was cut off does not come back: the pages it was in are listed. */
    for (struct weir_page *page = file->listed; page; page = page->next) {
        uint64_t begin = (uint64_t)page->index * WEIR_DISK_PAGE;
        if (!page->synced || begin + WEIR_DISK_PAGE <= file->cut) {
            continue;
        }
        WEIR_CHECK(page->synced != page->bytes);
        if (begin >= file->cut) {
            weir_arena_give(disk->arena, page->synced, WEIR_DISK_PAGE);
            page->synced = NULL;
        } else {
            uint64_t from = file->cut - begin;
            memset(page->synced + from, 0, WEIR_DISK_PAGE - from);
        }
    }
    file->cut = WEIR_NO_CUT;
}

/* Syncs the sectors that no sync has missed. False: those are all. */
static bool sync_around(struct weir_disk *disk, struct weir_page *page)
{
    if (!page->missed) {
        return false;
    }
    if (!page->synced && !(page->synced = weir_arena_take(disk->arena, WEIR_DISK_PAGE))) {
        page->missed = 0;
        return false;
    }
    for (uint32_t i = 0; i < disk->sector_count; i++) {
        uint64_t from = (uint64_t)i * disk->sector_bytes;
        if (!(page->missed >> i & 1)) {
            memcpy(page->synced + from, page->bytes + from, disk->sector_bytes);
        }
    }
    return true;
}

void weir_page_sync_all(struct weir_disk *disk, struct weir_inode *file)
{
    if (!S_ISREG(file->mode)) {
        return;
    }
    weir_page_sync_size(disk, file);
    struct weir_page *next;
    struct weir_page *page = file->listed;
    file->listed = NULL;
    for (; page; page = next) {
        next = page->next;
        page->next = NULL;
        page->listed = false;
        page->dirty = page->missed;
        page->begins = 0;
        if (sync_around(disk, page)) {
            weir_page_list(file, page);
            continue;
        }
        page->dirty = 0;
        if (page->synced != page->bytes) {
            weir_arena_give(disk->arena, page->synced, WEIR_DISK_PAGE);
            page->synced = page->bytes;
        }
        if (!page->bytes && !page->charged) {
            weir_page_drop(disk, file, page);
        }
    }
}

bool weir_page_sync_sector(struct weir_disk *disk, struct weir_inode *file, struct weir_page *page,
                           uint32_t sector)
{
    uint64_t from = (uint64_t)sector * disk->sector_bytes;
    uint64_t begin = (uint64_t)page->index * WEIR_DISK_PAGE + from;
    if (!page->bytes || page->bytes == page->synced || begin >= file->synced_size ||
        begin + disk->sector_bytes > file->cut) {
        return false;
    }
    if (!page->synced && !(page->synced = weir_arena_take(disk->arena, WEIR_DISK_PAGE))) {
        return false;
    }
    memcpy(page->synced + from, page->bytes + from, disk->sector_bytes);
    return true;
}
