/* SPDX-License-Identifier: MIT */
/* kinds_files.c: the kinds that move and keep data, end to end: files, vectors, RWF flags,
 * splices. */
#include "seam.h"

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

SEAM_TEST(a_nop_goes_to_the_backend_and_back)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    for (int i = 0; i < 1000; i++) {
        weir_op_nop(&op.op);
        expect_equal(seam_carry_out(loop, &op), 0);
    }
    seam_end(loop);
}

SEAM_TEST(write_and_read_move_data_at_their_offsets)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(0);
    struct tracked op = {0};
    char data[8192];
    char got[8192] = {0};
    seam_pattern(data, sizeof data, 0);
    weir_op_write(&op.op, file, data, sizeof data, 10000);
    expect_equal(seam_carry_out(loop, &op), sizeof data);
    weir_op_read(&op.op, file, got, sizeof got, 10000);
    expect_equal(seam_carry_out(loop, &op), sizeof got);
    expect(memcmp(data, got, sizeof data) == 0);
    weir_op_read(&op.op, file, got, 100, 0);
    expect_equal(seam_carry_out(loop, &op), 100);
    expect_equal(got[0] | got[50] | got[99], 0); /* the hole before it */
    expect_equal(lseek(file, 0, SEEK_CUR), 0);
    weir_op_write(&op.op, file, "first", 5, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 5);
    weir_op_write(&op.op, file, "second", 6, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 6);
    expect_equal(lseek(file, 0, SEEK_CUR), 11);
    expect_equal(pread(file, got, 11, 0), 11);
    expect(memcmp(got, "firstsecond", 11) == 0);
    weir_op_read(&op.op, -1, got, 1, 0);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    weir_op_read(&op.op, file, (void *)8, 16, 0);
    expect_equal(seam_carry_out(loop, &op), -EFAULT);
    seam_end(loop);
    close(file);
}

SEAM_TEST(many_reads_at_once_each_get_their_own_data)
{
    enum { BLOCK = 512, BLOCKS = 256 };
    struct weir_loop *loop = seam_loop();
    int file = seam_file((size_t)BLOCK * BLOCKS);
    static struct tracked ops[BLOCKS];
    static char blocks[BLOCKS][BLOCK];
    memset(ops, 0, sizeof ops);
    for (size_t i = 0; i < BLOCKS; i++) {
        weir_op_read(&ops[i].op, file, blocks[i], BLOCK, (BLOCKS - 1 - i) * BLOCK);
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        expect_equal(ops[i].result, BLOCK);
        expect(seam_pattern_holds(blocks[i], BLOCK, (BLOCKS - 1 - i) * BLOCK));
    }
    seam_end(loop);
    close(file);
}

SEAM_TEST(vectors_scatter_and_gather)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(0);
    struct tracked op = {0};
    char a[3] = "abc";
    char b[5] = "defgh";
    struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 5}};
    weir_op_writev(&op.op, file, iov, 3, 2);
    expect_equal(seam_carry_out(loop, &op), 8);
    char got[8];
    expect_equal(pread(file, got, 8, 2), 8);
    expect(memcmp(got, "abcdefgh", 8) == 0);
    struct iovec back[] = {{b, 5}, {a, 3}};
    weir_op_readv(&op.op, file, back, 2, 2);
    expect_equal(seam_carry_out(loop, &op), 8);
    expect(memcmp(b, "abcde", 5) == 0);
    expect(memcmp(a, "fgh", 3) == 0);
    weir_op_readv(&op.op, file, back, 2, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 8);
    expect_equal(lseek(file, 0, SEEK_CUR), 8);
    seam_end(loop);
    close(file);
}

SEAM_TEST(RWF_flags_reach_the_kernel)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(10);
    struct tracked op = {0};
    struct iovec iov = {op.data, 4};
    weir_op_write(&op.op, file, "tail", 4, 0);
    op.op.rw_flags = RWF_APPEND;
    expect_equal(seam_carry_out(loop, &op), 4);
    char got[14];
    expect_equal(pread(file, got, sizeof got, 0), 14); /* at the end, whatever the offset */
    expect(memcmp(got + 10, "tail", 4) == 0);
    weir_op_write(&op.op, file, "sync", 4, 0);
    op.op.rw_flags = RWF_DSYNC;
    expect_equal(seam_carry_out(loop, &op), 4);
    weir_op_writev(&op.op, file, &iov, 1, 0);
    op.op.rw_flags = RWF_DSYNC | RWF_APPEND;
    expect_equal(seam_carry_out(loop, &op), 4);
    expect_equal(lseek(file, 0, SEEK_END), 18);
    weir_op_read(&op.op, file, op.data, 4, 10);
    op.op.rw_flags = RWF_NOWAIT;
    int64_t result = seam_carry_out(loop, &op);
    /* Cached, not cached, or a file system that cannot tell. */
    expect(result == 4 || result == -EAGAIN || result == -EOPNOTSUPP);
    weir_op_read(&op.op, file, op.data, 4, 10);
    op.op.rw_flags = 1u << 30;
    result = seam_carry_out(loop, &op);
    expect(result == -EOPNOTSUPP || result == -EINVAL);
    weir_op_read(&op.op, file, op.data, 4, 10); /* the helper reset them */
    expect_equal(seam_carry_out(loop, &op), 4);
    expect(memcmp(op.data, "tail", 4) == 0);
    weir_op_read(&op.op, file, op.data, 4, 10);
    op.op.ioprio = (2 << 13) | 4; /* best effort, middle */
    expect_equal(seam_carry_out(loop, &op), 4);
    seam_end(loop);
    close(file);
}

SEAM_TEST(fsync_fdatasync_and_sync_file_range_answer_0)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(5000);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    weir_op_fsync(&op.op, file);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_fdatasync(&op.op, file);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_sync_file_range(&op.op, file, 0, 4096,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                SYNC_FILE_RANGE_WAIT_AFTER);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_sync_file_range(&op.op, file, 0, 0, SYNC_FILE_RANGE_WRITE);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_fsync(&op.op, pipe.in);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_sync_file_range(&op.op, pipe.in, 0, 0, SYNC_FILE_RANGE_WRITE);
    expect_equal(seam_carry_out(loop, &op), -ESPIPE);
    weir_op_fdatasync(&op.op, -1);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    seam_end(loop);
    close(file);
    seam_pair_close(&pipe);
}

SEAM_TEST(fallocate_extends_keeps_the_size_and_punches_holes)
{
    struct weir_loop *loop = seam_loop();
    int file = memfd_create("allocated", MFD_CLOEXEC); /* a file system that knows all the modes */
    struct tracked op = {0};
    struct stat stat;
    weir_op_fallocate(&op.op, file, 0, 0, 65536);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstat(file, &stat), 0);
    expect_equal(stat.st_size, 65536);
    weir_op_fallocate(&op.op, file, FALLOC_FL_KEEP_SIZE, 65536, 65536);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstat(file, &stat), 0);
    expect_equal(stat.st_size, 65536);
    weir_op_fallocate(&op.op, file, 0, (uint64_t)5 << 30, 4096); /* past 32 bits */
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstat(file, &stat), 0);
    expect_equal(stat.st_size, ((int64_t)5 << 30) + 4096);
    expect_equal(pwrite(file, "xxxx", 4, 4096), 4);
    weir_op_fallocate(&op.op, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
    expect_equal(seam_carry_out(loop, &op), 0);
    char got[4];
    expect_equal(pread(file, got, 4, 4096), 4);
    expect(memcmp(got, "\0\0\0\0", 4) == 0);
    weir_op_fallocate(&op.op, file, 0, 0, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    seam_end(loop);
    close(file);
}

SEAM_TEST(ftruncate_shortens_lengthens_and_answers_the_kernels_errors)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(100);
    int readable = seam_readable();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    struct stat status;
    char got[100];
    weir_op_ftruncate(&op.op, file, 40);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_ftruncate(&op.op, file, 5ULL << 30); /* more than 32 bits */
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(fstat(file, &status), 0);
    expect_equal(status.st_size, 5LL << 30);
    expect_equal(pread(file, got, sizeof got, 0), sizeof got);
    expect(seam_pattern_holds(got, 40, 0));
    for (int i = 40; i < 100; i++) {
        expect_equal(got[i], 0);
    }
    weir_op_ftruncate(&op.op, file, UINT64_MAX); /* ftruncate(2)'s off_t is signed */
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_ftruncate(&op.op, -1, 0);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    weir_op_ftruncate(&op.op, readable, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_ftruncate(&op.op, pipe.out, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    seam_end(loop);
    seam_pair_close(&pipe);
    close(readable);
    close(file);
}

SEAM_TEST(fadvise_answers_0_and_ESPIPE_for_a_pipe)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(5000);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    static const int advice[] = {POSIX_FADV_NORMAL, POSIX_FADV_RANDOM, POSIX_FADV_WILLNEED,
                                 POSIX_FADV_DONTNEED};
    for (size_t i = 0; i < SEAM_COUNT(advice); i++) {
        weir_op_fadvise(&op.op, file, 0, 0, advice[i]);
        expect_equal(seam_carry_out(loop, &op), 0);
    }
    weir_op_fadvise(&op.op, file, 0, 0, 99);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_fadvise(&op.op, pipe.in, 0, 0, POSIX_FADV_NORMAL);
    expect_equal(seam_carry_out(loop, &op), -ESPIPE);
    seam_end(loop);
    close(file);
    seam_pair_close(&pipe);
}

SEAM_TEST(splice_moves_between_files_and_pipes)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(1000);
    int target = seam_file(0);
    struct seam_pair a = seam_pipe(0);
    struct seam_pair b = seam_pipe(0);
    struct tracked op = {0};
    char got[64];
    weir_op_splice(&op.op, file, 100, a.out, WEIR_CURRENT, 64, 0);
    expect_equal(seam_carry_out(loop, &op), 64);
    weir_op_splice(&op.op, a.in, WEIR_CURRENT, b.out, WEIR_CURRENT, 64, SPLICE_F_MOVE);
    expect_equal(seam_carry_out(loop, &op), 64);
    weir_op_splice(&op.op, b.in, WEIR_CURRENT, target, 5000, 64, 0);
    expect_equal(seam_carry_out(loop, &op), 64);
    expect_equal(pread(target, got, 64, 5000), 64);
    expect(seam_pattern_holds(got, 64, 100));
    expect_equal(lseek(file, 0, SEEK_CUR), 0);
    weir_op_splice(&op.op, file, WEIR_CURRENT, a.out, WEIR_CURRENT, 64, 0);
    expect_equal(seam_carry_out(loop, &op), 64);
    expect_equal(lseek(file, 0, SEEK_CUR), 64);
    close(a.out);
    a.out = -1;
    weir_op_splice(&op.op, a.in, WEIR_CURRENT, b.out, WEIR_CURRENT, 100, 0);
    expect_equal(seam_carry_out(loop, &op), 64);
    weir_op_splice(&op.op, a.in, WEIR_CURRENT, b.out, WEIR_CURRENT, 100, 0);
    expect_equal(seam_carry_out(loop, &op), 0); /* end of file */
    weir_op_splice(&op.op, file, 0, target, 0, 10, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL); /* neither is a pipe */
    weir_op_splice(&op.op, -1, 0, b.out, WEIR_CURRENT, 10, 0);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    seam_end(loop);
    close(file);
    close(target);
    seam_pair_close(&a);
    seam_pair_close(&b);
}

SEAM_TEST(kinds_have_names)
{
    for (unsigned kind = WEIR_KIND_NONE; kind < WEIR_KIND_COUNT; kind++) {
        expect(weir_kind_name(kind) != NULL);
        for (unsigned other = 0; other < kind; other++) {
            expect(strcmp(weir_kind_name(kind), weir_kind_name(other)) != 0);
        }
    }
    expect(strcmp(weir_kind_name(WEIR_KIND_READ), "read") == 0);
    expect(strcmp(weir_kind_name(WEIR_KIND_NONE), "none") == 0);
    expect(weir_kind_name(WEIR_KIND_COUNT) == NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_nop_goes_to_the_backend_and_back),
    cmocka_unit_test(write_and_read_move_data_at_their_offsets),
    cmocka_unit_test(many_reads_at_once_each_get_their_own_data),
    cmocka_unit_test(vectors_scatter_and_gather),
    cmocka_unit_test(RWF_flags_reach_the_kernel),
    cmocka_unit_test(fsync_fdatasync_and_sync_file_range_answer_0),
    cmocka_unit_test(fallocate_extends_keeps_the_size_and_punches_holes),
    cmocka_unit_test(ftruncate_shortens_lengthens_and_answers_the_kernels_errors),
    cmocka_unit_test(fadvise_answers_0_and_ESPIPE_for_a_pipe),
    cmocka_unit_test(splice_moves_between_files_and_pipes),
    cmocka_unit_test(kinds_have_names),
};

const struct seam_group kinds_files_group = SEAM_GROUP("kinds_files", tests);
