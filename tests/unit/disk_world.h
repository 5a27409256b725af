/* SPDX-License-Identifier: MIT */
/* disk_world.h: a simulated disk for a test, and short ways to what is on it. Paths begin at its
 * root. */
#ifndef WEIR_TESTS_DISK_WORLD_H
#define WEIR_TESTS_DISK_WORLD_H

#include "unit.h"

#include <engine/backend/sim_disk.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct disk_world {
    struct weir_arena arena;
    struct weir_disk *disk;
    void *memory;
    size_t size;
};

static inline void disk_world_open(struct disk_world *world, uint64_t seed, uint64_t bytes)
{
    struct weir_disk_options options = {.bytes = bytes, .sector_bytes = 512, .seed = seed};
    world->size = (size_t)64 << 20;
    world->memory = mmap(NULL, world->size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(world->memory, MAP_FAILED);
    weir_arena_init(&world->arena, world->memory, world->size);
    assert_int_equal(weir_disk_init(&world->arena, &options, &world->disk), 0);
}

static inline void disk_world_close(struct disk_world *world)
{
    weir_arena_end(&world->arena);
    munmap(world->memory, world->size);
}

/* The inode, held; it must work. */
static inline struct weir_inode *disk_open(struct weir_disk *disk, const char *path, int flags)
{
    struct weir_inode *inode = NULL;
    assert_int_equal(weir_disk_open(disk, NULL, path, flags, 0644, &inode), 0);
    return inode;
}

static inline int disk_try_open(struct weir_disk *disk, const char *path, int flags)
{
    struct weir_inode *inode;
    int r = weir_disk_open(disk, NULL, path, flags, 0644, &inode);
    if (r == 0) {
        weir_disk_release(disk, inode);
    }
    return r;
}

static inline bool disk_has(struct weir_disk *disk, const char *path)
{
    return disk_try_open(disk, path, O_PATH | O_NOFOLLOW) == 0;
}

static inline int64_t disk_write(struct weir_disk *disk, struct weir_inode *inode,
                                 const void *bytes, uint64_t length, uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, length};
    return weir_disk_write(disk, inode, &iov, 1, UINT64_MAX, offset);
}

static inline int64_t disk_read(struct weir_disk *disk, struct weir_inode *inode, void *bytes,
                                uint64_t length, uint64_t offset)
{
    struct iovec iov = {bytes, length};
    return weir_disk_read(disk, inode, &iov, 1, UINT64_MAX, offset);
}

/* Makes a file that says so. */
static inline void disk_put(struct weir_disk *disk, const char *path, const char *text)
{
    struct weir_inode *inode = disk_open(disk, path, O_WRONLY | O_CREAT | O_TRUNC);
    assert_int_equal(disk_write(disk, inode, text, strlen(text), 0), strlen(text));
    weir_disk_release(disk, inode);
}

/* Whether the file is there and says just that. */
static inline bool disk_says(struct weir_disk *disk, const char *path, const char *text)
{
    char got[64] = {0};
    struct weir_inode *inode;
    if (weir_disk_open(disk, NULL, path, O_RDONLY, 0, &inode) != 0) {
        return false;
    }
    int64_t length = disk_read(disk, inode, got, sizeof got, 0);
    weir_disk_release(disk, inode);
    return length == (int64_t)strlen(text) && memcmp(got, text, strlen(text)) == 0;
}

static inline void disk_sync(struct weir_disk *disk, const char *path)
{
    struct weir_inode *inode = disk_open(disk, path, O_RDONLY);
    assert_int_equal(weir_disk_sync(disk, inode), 0);
    weir_disk_release(disk, inode);
}

static inline struct statx disk_statx(struct weir_disk *disk, const char *path)
{
    struct statx got;
    assert_int_equal(
        weir_disk_statx(disk, NULL, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &got), 0);
    return got;
}

#endif
