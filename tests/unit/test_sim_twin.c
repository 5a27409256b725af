/* SPDX-License-Identifier: MIT */
/*
 * engine/backend/sim_disk.h against the kernel: the same random calls on the simulated disk and on
 * a directory of a real file system answer the same, and leave the same behind.
 */
#include "disk_world.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <unistd.h>

#define STEPS 40000
#define OPEN_MAX_HERE 4
#define FILE_BYTES 20000

/* A file open on both sides. */
struct both {
    int fd;
    struct weir_inode *inode;
};

static struct disk_world world;
static struct weir_disk *disk;
static struct random draw;
static char folder[] = "/tmp/weir-twin-XXXXXX";
static int root;
static struct both open_files[OPEN_MAX_HERE];
static uint32_t successes;

static int answer(int r)
{
    return r < 0 ? -errno : r;
}

static void close_both(struct both *both)
{
    if (both->inode) {
        close(both->fd);
        weir_disk_release(disk, both->inode);
        *both = (struct both){0};
    }
}

static void remove_all(int dir)
{
    DIR *stream = fdopendir(dup(dir));
    rewinddir(stream);
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int sub = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0) {
            remove_all(sub);
            close(sub);
        }
        unlinkat(dir, entry->d_name, sub >= 0 ? AT_REMOVEDIR : 0);
    }
    closedir(stream);
}

static int open_twins(void **state)
{
    (void)state;
    disk_world_open(&world, 1, (uint64_t)32 << 20);
    disk = world.disk;
    assert_non_null(mkdtemp(folder));
    root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(root >= 0);
    umask(0);
    return 0;
}

static int close_twins(void **state)
{
    (void)state;
    for (int i = 0; i < OPEN_MAX_HERE; i++) {
        close_both(&open_files[i]);
    }
    remove_all(root);
    close(root);
    rmdir(folder);
    disk_world_close(&world);
    return 0;
}

/* A path of few names, so that calls meet. Never above the folder, and never absolute. */
static const char *draw_path(char *path)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const char *const tails[] = {"", "", "", "", "", "", "/", "/.", "//", "/nothing"};
    uint64_t depth = 1 + random_below(&draw, 3);
    *path = '\0';
    for (uint64_t i = 0; i < depth; i++) {
        strcat(path, names[random_below(&draw, COUNT_OF(names))]);
        strcat(path, i + 1 == depth                 ? tails[random_below(&draw, COUNT_OF(tails))]
                     : random_below(&draw, 20) == 0 ? "/../"
                                                    : "/");
    }
    return path;
}

static void expect_same(const char *what, const char *path, int got, int wanted)
{
    if (got != wanted) {
        print_error("%s %s: %d, the kernel says %d\n", what, path, got, wanted);
    }
    assert_int_equal(got, wanted);
    successes += got >= 0;
}

static void expect_same_statx(const char *path, const struct statx *got, const struct statx *wanted)
{
    expect_same("mode of", path, got->stx_mode, wanted->stx_mode);
    if (!S_ISDIR(got->stx_mode)) {
        expect_same("size of", path, (int)got->stx_size, (int)wanted->stx_size);
        expect_same("links of", path, (int)got->stx_nlink, (int)wanted->stx_nlink);
    }
}

/* --- calls ------------------------------------------------------------------------------------ */

static void do_open(void)
{
    static const int flags[] = {0,
                                O_CREAT,
                                O_CREAT,
                                O_CREAT | O_EXCL,
                                O_TRUNC,
                                O_DIRECTORY,
                                O_NOFOLLOW,
                                O_PATH | O_NOFOLLOW,
                                O_CREAT | O_TRUNC};
    static const int modes[] = {O_RDONLY, O_RDWR, O_RDWR};
    char path[64];
    draw_path(path);
    struct both made = {0};
    int how = flags[random_below(&draw, COUNT_OF(flags))];
    how |= modes[random_below(&draw, COUNT_OF(modes))];
    made.fd = answer(openat(root, path, how | O_CLOEXEC, 0640));
    int r = weir_disk_open(disk, NULL, path, how, 0640, &made.inode);
    expect_same("open", path, r, made.fd < 0 ? made.fd : 0);
    if (r < 0) {
        return;
    }
    struct both *place = &open_files[random_below(&draw, OPEN_MAX_HERE)];
    close_both(place);
    *place = made;
    if (how & O_PATH || !(how & O_RDWR)) {
        close_both(place); /* only what may be written is kept */
    }
}

static void do_unlink(void)
{
    char path[64];
    int flags = random_below(&draw, 2) ? AT_REMOVEDIR : 0;
    draw_path(path);
    expect_same("unlink", path, weir_disk_unlink(disk, NULL, path, flags),
                answer(unlinkat(root, path, flags)));
}

static void do_mkdir(void)
{
    char path[64];
    draw_path(path);
    expect_same("mkdir", path, weir_disk_mkdir(disk, NULL, path, 0750),
                answer(mkdirat(root, path, 0750)));
}

static void do_rename(void)
{
    static const unsigned flags[] = {
        0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_NOREPLACE};
    char path[64];
    char to[64];
    unsigned how = flags[random_below(&draw, COUNT_OF(flags))];
    draw_path(path);
    draw_path(to);
    expect_same("rename", path, weir_disk_rename(disk, NULL, path, NULL, to, how),
                answer(renameat2(root, path, root, to, how)));
}

static void do_link(void)
{
    char path[64];
    char to[64];
    int flags = random_below(&draw, 2) ? AT_SYMLINK_FOLLOW : 0;
    draw_path(path);
    draw_path(to);
    expect_same("link", path, weir_disk_link(disk, NULL, path, NULL, to, flags),
                answer(linkat(root, path, root, to, flags)));
}

static void do_symlink(void)
{
    char path[64];
    char target[64];
    draw_path(path);
    draw_path(target);
    expect_same("symlink", path, weir_disk_symlink(disk, target, NULL, path),
                answer(symlinkat(target, root, path)));
}

static void do_statx(void)
{
    char path[64];
    struct statx got;
    struct statx wanted;
    int flags = random_below(&draw, 2) ? AT_SYMLINK_NOFOLLOW : 0;
    draw_path(path);
    int r = weir_disk_statx(disk, NULL, path, flags, STATX_BASIC_STATS, &got);
    expect_same("statx", path, r, answer(statx(root, path, flags, STATX_BASIC_STATS, &wanted)));
    if (r == 0) {
        expect_same_statx(path, &got, &wanted);
    }
}

static void do_write(struct both *both)
{
    char bytes[3 * WEIR_DISK_PAGE];
    uint64_t offset = random_below(&draw, FILE_BYTES);
    uint64_t length = random_below(&draw, random_below(&draw, 2) ? sizeof bytes : 600);
    memset(bytes, (int)random_below(&draw, 255) + 1, sizeof bytes);
    assert_int_equal(disk_write(disk, both->inode, bytes, length, offset),
                     pwrite(both->fd, bytes, length, (off_t)offset));
}

static void do_read(struct both *both)
{
    char got[2 * FILE_BYTES];
    char wanted[sizeof got];
    uint64_t offset = random_below(&draw, FILE_BYTES);
    uint64_t length = random_below(&draw, sizeof got);
    int64_t r = disk_read(disk, both->inode, got, length, offset);
    assert_int_equal(r, pread(both->fd, wanted, length, (off_t)offset));
    assert_memory_equal(got, wanted, (size_t)r);
}

static void do_truncate(struct both *both)
{
    uint64_t size = random_below(&draw, FILE_BYTES);
    expect_same("truncate", "", weir_disk_truncate(disk, both->inode, size),
                answer(ftruncate(both->fd, (off_t)size)));
}

static void do_allocate(struct both *both)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
    int mode = modes[random_below(&draw, COUNT_OF(modes))];
    uint64_t offset = random_below(&draw, FILE_BYTES);
    uint64_t length = 1 + random_below(&draw, FILE_BYTES - offset);
    int r = answer(fallocate(both->fd, mode, (off_t)offset, (off_t)length));
    if (r != -EOPNOTSUPP) { /* not every file system has them all */
        expect_same("fallocate", "", weir_disk_allocate(disk, both->inode, mode, offset, length),
                    r);
    }
}

static void on_open_file(void)
{
    struct both *both = &open_files[random_below(&draw, OPEN_MAX_HERE)];
    if (!both->inode) {
        return;
    }
    static void (*const calls[])(struct both *) = {do_write, do_write,    do_write,   do_read,
                                                   do_read,  do_truncate, do_allocate};
    calls[random_below(&draw, COUNT_OF(calls))](both);
    if (random_below(&draw, 10) == 0) {
        assert_int_equal(weir_disk_sync(disk, both->inode), 0);
    }
    struct stat status;
    assert_int_equal(fstat(both->fd, &status), 0);
    assert_int_equal(weir_disk_size(both->inode), status.st_size);
}

static void on_path(void)
{
    static void (*const calls[])(void) = {do_open,   do_open,   do_open,    do_open,  do_unlink,
                                          do_unlink, do_link,   do_symlink, do_statx, do_mkdir,
                                          do_mkdir,  do_rename, do_rename,  do_rename};
    calls[random_below(&draw, COUNT_OF(calls))]();
}

/* --- the tests -------------------------------------------------------------------------------- */

static bool kernel_exchanges(void)
{
    int a = mkdirat(root, "a", 0700);
    int b = mkdirat(root, "b", 0700);
    int r = renameat2(root, "a", root, "b", RENAME_EXCHANGE);
    unlinkat(root, "a", AT_REMOVEDIR);
    unlinkat(root, "b", AT_REMOVEDIR);
    return a == 0 && b == 0 && r == 0;
}

static void random_calls_answer_as_the_kernel_does(void **state)
{
    (void)state;
    draw = random_open();
    if (!kernel_exchanges()) {
        print_message("skipped: the file system of %s cannot exchange names\n", folder);
        skip();
    }
    for (int step = 0; step < STEPS; step++) {
        if (random_below(&draw, 3) == 0) {
            on_open_file();
        } else {
            on_path();
        }
        if (random_below(&draw, 500) == 0) {
            weir_disk_sync_all(disk); /* nobody sees it */
        }
    }
    assert_in_range(successes, STEPS / 10, STEPS); /* not all the same error */
}

static void what_is_synced_looks_the_same_after_a_crash(void **state)
{
    (void)state;
    for (int i = 0; i < OPEN_MAX_HERE; i++) {
        close_both(&open_files[i]);
    }
    weir_disk_sync_all(disk);
    weir_disk_crash(disk);
    for (int step = 0; step < STEPS / 10; step++) {
        do_statx();
    }
}

static int expect_both(const char *path)
{
    struct statx got;
    int r = weir_disk_statx(disk, NULL, path, 0, STATX_SIZE, &got);
    struct stat status;
    expect_same("stat", path, r, answer(fstatat(root, path, &status, 0)));
    return r;
}

static void paths_that_are_too_long_or_go_round_are_refused(void **state)
{
    (void)state;
    static char path[2 * WEIR_DISK_PATH_MAX];
    memset(path, 'x', sizeof path);
    for (int length = 254; length < 258; length++) {
        path[length] = '\0';
        assert_int_equal(expect_both(path), length > 255 ? -ENAMETOOLONG : -ENOENT);
        path[length] = 'x';
    }
    memset(path, '/', sizeof path);
    path[0] = '.';
    for (int length = 4094; length < 4098; length++) {
        path[length] = '\0';
        assert_int_equal(expect_both(path), length > 4095 ? -ENAMETOOLONG : 0);
        path[length] = '/';
    }
    char name[8];
    char target[8] = ".";
    for (int i = 0; i < 42; i++) {
        snprintf(name, sizeof name, "s%d", i);
        assert_int_equal(weir_disk_symlink(disk, target, NULL, name), 0);
        assert_int_equal(symlinkat(target, root, name), 0);
        assert_int_equal(expect_both(name), i < 40 ? 0 : -ELOOP);
        memcpy(target, name, sizeof name);
    }
    assert_int_equal(expect_both(""), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_calls_answer_as_the_kernel_does),
        cmocka_unit_test(what_is_synced_looks_the_same_after_a_crash),
        cmocka_unit_test(paths_that_are_too_long_or_go_round_are_refused),
    };
    return cmocka_run_group_tests(tests, open_twins, close_twins);
}
