/* SPDX-License-Identifier: MIT */
/* kinds_paths.c: the kinds that work on names, end to end, in a directory of their own. */
#include "seam.h"

#include <sys/stat.h>

static struct weir_loop *loop;
static struct seam_dir dir;
static struct tracked op;

static int world_open(void **state)
{
    (void)state;
    memset(&op, 0, sizeof op);
    seam_dir_make(&dir);
    loop = seam_loop();
    return 0;
}

static int world_close(void **state)
{
    (void)state;
    seam_end(loop);
    seam_dir_remove(&dir);
    return 0;
}

static void make_file(const char *name, const char *text)
{
    int fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    expect(fd >= 0);
    seam_write(fd, text, strlen(text));
    close(fd);
}

static bool exists(const char *name)
{
    return faccessat(dir.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void remove_file(const char *name)
{
    expect_equal(unlinkat(dir.fd, name, 0), 0);
}

SEAM_TEST(openat_makes_and_opens_files)
{
    weir_op_openat(&op.op, dir.fd, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    int64_t fd = seam_carry_out(loop, &op);
    expect(fd >= 0);
    struct stat stat;
    expect_equal(fstat((int)fd, &stat), 0);
    mode_t mask = umask(0);
    umask(mask);
    expect_equal(stat.st_mode & 0777, 0640 & ~mask);
    expect_equal(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
    seam_write((int)fd, "x", 1);
    close((int)fd);
    weir_op_openat(&op.op, dir.fd, "new", O_RDONLY, 0);
    fd = seam_carry_out(loop, &op);
    expect(fd >= 0);
    expect_equal(fcntl((int)fd, F_GETFD), 0); /* O_CLOEXEC is the caller's to set */
    close((int)fd);
    weir_op_openat(&op.op, dir.fd, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    expect_equal(seam_carry_out(loop, &op), -EEXIST);
    weir_op_openat(&op.op, dir.fd, "none", O_RDONLY | O_CLOEXEC, 0);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    weir_op_openat(&op.op, -1, "new", O_RDONLY | O_CLOEXEC, 0);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    remove_file("new");
}

SEAM_TEST(a_whole_life_of_a_file_goes_through_the_loop)
{
    weir_op_openat(&op.op, dir.fd, "life", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int fd = (int)seam_carry_out(loop, &op);
    expect(fd >= 0);
    weir_op_write(&op.op, fd, "hello", 5, 0);
    expect_equal(seam_carry_out(loop, &op), 5);
    weir_op_fsync(&op.op, fd);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_read(&op.op, fd, op.data, sizeof op.data, 0);
    expect_equal(seam_carry_out(loop, &op), 5);
    expect(memcmp(op.data, "hello", 5) == 0);
    weir_op_close(&op.op, fd);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect(fcntl(fd, F_GETFD) < 0);
    weir_op_unlinkat(&op.op, dir.fd, "life", 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect(!exists("life"));
}

SEAM_TEST(statx_fills_the_callers_buffer)
{
    struct statx got;
    make_file("file", "12345");
    weir_op_statx(&op.op, dir.fd, "file", 0, STATX_SIZE | STATX_TYPE, &got);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(got.stx_size, 5);
    expect(S_ISREG(got.stx_mode));
    int fd = openat(dir.fd, "file", O_RDONLY | O_CLOEXEC);
    memset(&got, 0, sizeof got);
    weir_op_statx(&op.op, fd, "", AT_EMPTY_PATH, STATX_SIZE, &got);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(got.stx_size, 5);
    close(fd);
    expect_equal(symlinkat("file", dir.fd, "link"), 0);
    weir_op_statx(&op.op, dir.fd, "link", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &got);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect(S_ISLNK(got.stx_mode));
    weir_op_statx(&op.op, dir.fd, "none", 0, STATX_SIZE, &got);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    remove_file("link");
    remove_file("file");
}

SEAM_TEST(unlinkat_removes_files_and_directories)
{
    make_file("file", "");
    expect_equal(mkdirat(dir.fd, "sub", 0700), 0);
    weir_op_unlinkat(&op.op, dir.fd, "file", 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_unlinkat(&op.op, dir.fd, "sub", 0);
    expect_equal(seam_carry_out(loop, &op), -EISDIR);
    weir_op_unlinkat(&op.op, dir.fd, "sub", AT_REMOVEDIR);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_unlinkat(&op.op, dir.fd, "sub", AT_REMOVEDIR);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    expect(!exists("file") && !exists("sub"));
}

SEAM_TEST(renameat_moves_replaces_and_refuses_to)
{
    make_file("a", "a");
    make_file("b", "bb");
    weir_op_renameat(&op.op, dir.fd, "a", dir.fd, "b", RENAME_NOREPLACE);
    expect_equal(seam_carry_out(loop, &op), -EEXIST);
    weir_op_renameat(&op.op, dir.fd, "a", dir.fd, "b", RENAME_EXCHANGE);
    expect_equal(seam_carry_out(loop, &op), 0);
    struct stat stat;
    expect_equal(fstatat(dir.fd, "a", &stat, 0), 0);
    expect_equal(stat.st_size, 2);
    weir_op_renameat(&op.op, dir.fd, "a", dir.fd, "b", 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect(!exists("a"));
    expect_equal(fstatat(dir.fd, "b", &stat, 0), 0);
    expect_equal(stat.st_size, 2);
    expect_equal(mkdirat(dir.fd, "sub", 0700), 0);
    int sub = openat(dir.fd, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    weir_op_renameat(&op.op, dir.fd, "b", sub, "c", 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect(exists("sub/c"));
    expect_equal(unlinkat(sub, "c", 0), 0);
    close(sub);
    expect_equal(unlinkat(dir.fd, "sub", AT_REMOVEDIR), 0);
}

SEAM_TEST(linkat_and_symlinkat_make_names)
{
    struct stat stat;
    make_file("file", "123");
    weir_op_linkat(&op.op, dir.fd, "file", dir.fd, "hard", 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstatat(dir.fd, "hard", &stat, 0), 0);
    expect_equal(stat.st_nlink, 2);
    weir_op_linkat(&op.op, dir.fd, "file", dir.fd, "hard", 0);
    expect_equal(seam_carry_out(loop, &op), -EEXIST);
    weir_op_symlinkat(&op.op, "file", dir.fd, "soft");
    expect_equal(seam_carry_out(loop, &op), 0);
    ino_t file = stat.st_ino;
    expect_equal(fstatat(dir.fd, "soft", &stat, AT_SYMLINK_NOFOLLOW), 0);
    expect(S_ISLNK(stat.st_mode));
    expect_equal(stat.st_size, 4);
    expect_equal(fstatat(dir.fd, "soft", &stat, 0), 0);
    expect_equal(stat.st_ino, file); /* it leads there */
    weir_op_linkat(&op.op, dir.fd, "soft", dir.fd, "followed", AT_SYMLINK_FOLLOW);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstatat(dir.fd, "followed", &stat, AT_SYMLINK_NOFOLLOW), 0);
    expect(S_ISREG(stat.st_mode));
    weir_op_symlinkat(&op.op, "file", dir.fd, "soft");
    expect_equal(seam_carry_out(loop, &op), -EEXIST);
    remove_file("followed");
    remove_file("soft");
    remove_file("hard");
    remove_file("file");
}

SEAM_TEST(mkdirat_makes_directories)
{
    struct stat stat;
    mode_t mask = umask(0);
    umask(mask);
    weir_op_mkdirat(&op.op, dir.fd, "sub", 0750);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstatat(dir.fd, "sub", &stat, 0), 0);
    expect(S_ISDIR(stat.st_mode));
    expect_equal(stat.st_mode & 0777, 0750 & ~mask);
    weir_op_mkdirat(&op.op, dir.fd, "sub", 0750);
    expect_equal(seam_carry_out(loop, &op), -EEXIST);
    weir_op_mkdirat(&op.op, dir.fd, "none/sub", 0750);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    expect_equal(unlinkat(dir.fd, "sub", AT_REMOVEDIR), 0);
}

SEAM_TEST(many_path_ops_at_once_each_do_their_own)
{
    enum { FILES = 64 };
    static struct tracked ops[FILES];
    static char names[FILES][16];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < FILES; i++) {
        snprintf(names[i], sizeof names[i], "many-%d", i);
        weir_op_openat(&ops[i].op, dir.fd, names[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < FILES; i++) {
        expect(ops[i].result >= 0);
        expect(exists(names[i]));
        weir_op_close(&ops[i].op, (int)ops[i].result);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < FILES; i++) {
        expect_equal(ops[i].result, 0);
        weir_op_unlinkat(&ops[i].op, dir.fd, names[i], 0);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < FILES; i++) {
        expect_equal(ops[i].result, 0);
        expect(!exists(names[i]));
    }
}

#define WORLD_TEST(sentence) cmocka_unit_test_setup_teardown(sentence, world_open, world_close)

static const struct CMUnitTest tests[] = {
    WORLD_TEST(openat_makes_and_opens_files),
    WORLD_TEST(a_whole_life_of_a_file_goes_through_the_loop),
    WORLD_TEST(statx_fills_the_callers_buffer),
    WORLD_TEST(unlinkat_removes_files_and_directories),
    WORLD_TEST(renameat_moves_replaces_and_refuses_to),
    WORLD_TEST(linkat_and_symlinkat_make_names),
    WORLD_TEST(mkdirat_makes_directories),
    WORLD_TEST(many_path_ops_at_once_each_do_their_own),
};

const struct seam_group kinds_paths_group = SEAM_GROUP("kinds_paths", tests);
