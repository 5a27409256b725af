/* SPDX-License-Identifier: MIT */
/* clamp.c: rule 12: lengths past 32 bits and vectors past IOV_MAX are cut, never wrapped. */
#include "seam.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define MOST 0x7ffff000
#define VAST (((size_t)1 << 32) + 1)

static struct weir_loop *loop;
static char *vast;
static int zeros; /* a memory file that is one hole, longer than anything read from it */
static int null;

static int vast_open(void **state)
{
    (void)state;
    loop = seam_loop();
    vast = seam_vast(VAST);
    zeros = memfd_create("zeros", MFD_CLOEXEC);
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return zeros < 0 || null < 0 || ftruncate(zeros, 2 * (off_t)VAST) != 0;
}

static int vast_close(void **state)
{
    (void)state;
    close(zeros);
    close(null);
    seam_vast_end(vast, VAST);
    seam_end(loop);
    return 0;
}

SEAM_TEST(a_read_of_4_GiB_and_1_moves_0x7ffff000)
{
    struct tracked op = {0};
    weir_op_read(&op.op, zeros, vast, VAST, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), MOST);
    weir_op_read(&op.op, zeros, vast, VAST - 1, 0); /* the low 32 bits are all 0 */
    expect_equal(seam_carry_out(loop, &op), MOST);
}

SEAM_TEST(a_write_of_4_GiB_and_1_moves_0x7ffff000)
{
    struct tracked op = {0};
    weir_op_write(&op.op, null, vast, VAST, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), MOST);
    weir_op_write(&op.op, null, vast, VAST - 1, 0);
    expect_equal(seam_carry_out(loop, &op), MOST);
    weir_op_write(&op.op, null, vast, MOST, 0);
    expect_equal(seam_carry_out(loop, &op), MOST);
    weir_op_write(&op.op, null, vast, MOST + (size_t)1, 0);
    expect_equal(seam_carry_out(loop, &op), MOST);
}

SEAM_TEST(a_whole_transfer_of_4_GiB_and_1_moves_all_of_it)
{
    struct tracked op = {0};
    op.op.flags = WEIR_WHOLE;
    weir_op_write(&op.op, null, vast, VAST, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), VAST);
    expect_equal(op.op.moved, VAST);
    weir_op_read(&op.op, zeros, vast, VAST, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), VAST);
    expect_equal(lseek(zeros, 0, SEEK_CUR), VAST);
}

SEAM_TEST(vectors_that_sum_to_more_are_cut_too)
{
    struct iovec iov[] = {{vast, (size_t)3 << 30}, {vast, (size_t)1 << 30}, {vast, 4096}};
    struct tracked op = {0};
    weir_op_writev(&op.op, null, iov, SEAM_COUNT(iov), 0);
    expect_equal(seam_carry_out(loop, &op), MOST);
    op.op.flags = WEIR_WHOLE;
    weir_op_writev(&op.op, null, iov, SEAM_COUNT(iov), 0);
    expect_equal(seam_carry_out(loop, &op), ((int64_t)4 << 30) + 4096);
}

SEAM_TEST(more_than_IOV_MAX_buffers_are_a_short_transfer)
{
    static struct iovec iov[2 * IOV_MAX + 1];
    static char bytes[2 * IOV_MAX + 1];
    for (size_t i = 0; i < SEAM_COUNT(iov); i++) {
        iov[i] = (struct iovec){&bytes[i], 1};
    }
    int file = seam_file(sizeof bytes);
    struct tracked op = {0};
    weir_op_readv(&op.op, file, iov, IOV_MAX, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    weir_op_readv(&op.op, file, iov, IOV_MAX + 1, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    expect(seam_pattern_holds(bytes, IOV_MAX, 0));
    weir_op_writev(&op.op, null, iov, IOV_MAX + 1, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    weir_op_writev(&op.op, null, iov, ((uint64_t)1 << 32) + 1, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    memset(bytes, 0, sizeof bytes);
    op.op.flags = WEIR_WHOLE;
    weir_op_readv(&op.op, file, iov, SEAM_COUNT(iov), 0);
    expect_equal(seam_carry_out(loop, &op), sizeof bytes);
    expect(seam_pattern_holds(bytes, sizeof bytes, 0));
    close(file);
}

/* The first IOV_MAX hold nothing: what the kernel moves of them is not the end. */
SEAM_TEST(a_whole_vector_that_begins_with_IOV_MAX_empty_buffers_moves_the_rest)
{
    static struct iovec iov[2 * IOV_MAX + 2];
    char got[5] = {0};
    int file = seam_file(8);
    struct tracked op = {0};
    op.op.flags = WEIR_WHOLE;
    static const size_t empty[] = {IOV_MAX - 1, IOV_MAX, IOV_MAX + 1, 2 * IOV_MAX + 1};
    for (size_t i = 0; i < SEAM_COUNT(empty); i++) {
        memset(iov, 0, sizeof iov);
        iov[empty[i]] = (struct iovec){"hello", 5};
        weir_op_writev(&op.op, file, iov, empty[i] + 1, 10 * i);
        expect_equal(seam_carry_out(loop, &op), 5);
        iov[empty[i]].iov_base = got;
        weir_op_readv(&op.op, file, iov, empty[i] + 1, 10 * i);
        expect_equal(seam_carry_out(loop, &op), 5);
        expect(memcmp(got, "hello", 5) == 0);
        memset(iov, 0, sizeof iov);
        weir_op_writev(&op.op, file, iov, empty[i] + 1, 0);
        expect_equal(seam_carry_out(loop, &op), 0);
    }
    close(file);
}

SEAM_TEST(messages_of_more_than_IOV_MAX_buffers_are_EMSGSIZE_and_of_so_many_go_through)
{
    static struct iovec iov[IOV_MAX + 1];
    static char bytes[IOV_MAX + 1];
    for (size_t i = 0; i < SEAM_COUNT(iov); i++) {
        iov[i] = (struct iovec){&bytes[i], 1};
    }
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = IOV_MAX};
    struct tracked op = {0};
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    weir_op_recvmsg(&op.op, sockets.in, &message, 0);
    expect_equal(seam_carry_out(loop, &op), IOV_MAX);
    message.msg_iovlen = IOV_MAX + 1;
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    expect_equal(seam_carry_out(loop, &op), -EMSGSIZE);
    seam_write(sockets.out, "z", 1);
    weir_op_recvmsg(&op.op, sockets.in, &message, 0);
    expect_equal(seam_carry_out(loop, &op), -EMSGSIZE);
    expect_equal(message.msg_iovlen, IOV_MAX + 1);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_length_of_exactly_4_GiB_is_never_taken_for_0)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct tracked op = {0};
    seam_write(sockets.out, "hello", 5);
    weir_op_recv(&op.op, sockets.in, vast, (uint64_t)1 << 32, 0);
    expect_equal(seam_carry_out(loop, &op), 5);
    seam_write(pipe.out, "hello", 5);
    weir_op_read(&op.op, pipe.in, vast, (uint64_t)1 << 32, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 5);
    seam_write(pipe.out, "hello", 5);
    weir_op_splice(&op.op, pipe.in, WEIR_CURRENT, other.out, WEIR_CURRENT, (uint64_t)1 << 32, 0);
    expect_equal(seam_carry_out(loop, &op), 5);
    weir_op_send(&op.op, sockets.out, vast, (uint64_t)1 << 32, MSG_DONTWAIT);
    expect(seam_carry_out(loop, &op) > 0);
    seam_pair_close(&sockets);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
}

SEAM_TEST(a_length_of_0_is_0)
{
    struct tracked op = {0};
    int file = seam_file(8);
    weir_op_read(&op.op, file, op.data, 0, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_write(&op.op, file, op.data, 0, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_readv(&op.op, file, NULL, 0, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    op.op.flags = WEIR_WHOLE;
    weir_op_write(&op.op, file, op.data, 0, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    close(file);
}

#define VAST_TEST(sentence) cmocka_unit_test_setup_teardown(sentence, vast_open, vast_close)

static const struct CMUnitTest tests[] = {
    VAST_TEST(a_read_of_4_GiB_and_1_moves_0x7ffff000),
    VAST_TEST(a_write_of_4_GiB_and_1_moves_0x7ffff000),
    VAST_TEST(a_whole_transfer_of_4_GiB_and_1_moves_all_of_it),
    VAST_TEST(vectors_that_sum_to_more_are_cut_too),
    VAST_TEST(more_than_IOV_MAX_buffers_are_a_short_transfer),
    VAST_TEST(a_whole_vector_that_begins_with_IOV_MAX_empty_buffers_moves_the_rest),
    VAST_TEST(messages_of_more_than_IOV_MAX_buffers_are_EMSGSIZE_and_of_so_many_go_through),
    VAST_TEST(a_length_of_exactly_4_GiB_is_never_taken_for_0),
    VAST_TEST(a_length_of_0_is_0),
};

const struct seam_group clamp_group = SEAM_GROUP("clamp", tests);
