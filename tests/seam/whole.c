/* SPDX-License-Identifier: MIT */
/* whole.c: rule 11: WEIR_WHOLE continues short transfers, and op->moved says how far it came. */
#include "seam.h"

#include <sys/uio.h>

#define BIG ((size_t)3 << 20)

static char *pattern_of(size_t length)
{
    char *data = malloc(length);
    expect(data != NULL);
    seam_pattern(data, length, 0);
    return data;
}

/* Feeds the pipe in parts, a turn or two after each, until the whole length is in. */
static void feed(struct weir_loop *loop, int fd, const char *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        size_t part = 1 + seam_random() % 700;
        part = part < length - done ? part : length - done;
        seam_write(fd, data + done, part);
        seam_turns(loop, 1 + (int)(seam_random() % 2));
        done += part;
    }
}

SEAM_TEST(a_whole_read_of_a_pipe_collects_all_parts)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(5000);
    char got[5000];
    for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        struct seam_pair pipe = seam_pipe(flags);
        struct tracked op = {0};
        weir_op_read(&op.op, pipe.in, got, sizeof got, WEIR_CURRENT);
        op.op.flags = WEIR_WHOLE;
        seam_submit(loop, &op);
        feed(loop, pipe.out, data, sizeof got);
        seam_await(loop, &op);
        expect_equal(op.result, sizeof got);
        expect_equal(op.op.moved, sizeof got);
        expect(seam_pattern_holds(got, sizeof got, 0));
        seam_pair_close(&pipe);
    }
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect(counters.continued > 0);
    seam_end(loop);
    free(data);
}

/* With MSG_TRUNC a datagram counts for more than it left in the buffer: as much as was asked for,
 * and it is a part all the same. */
static void receive_two_datagrams(struct weir_loop *loop, bool second_is_there)
{
    static const char data[100];
    int fds[2];
    char got[100];
    struct tracked op = {0};
    expect_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    struct seam_pair pair = {.in = fds[0], .out = fds[1]};
    weir_op_recv(&op.op, pair.in, got, sizeof got, MSG_TRUNC);
    op.op.flags = WEIR_WHOLE;
    seam_write(pair.out, data, 40);
    if (second_is_there) {
        seam_write(pair.out, data, sizeof data);
    }
    seam_submit(loop, &op);
    if (!second_is_there) {
        seam_turns(loop, 2);
        expect_equal(op.calls, 0);
        seam_write(pair.out, data, sizeof data);
    }
    seam_await(loop, &op);
    expect_equal(op.result, 40 + sizeof data);
    expect_equal(op.op.moved, 40 + sizeof data);
    seam_pair_close(&pair);
}

SEAM_TEST(a_whole_recv_adds_up_what_datagrams_say)
{
    struct weir_loop *loop = seam_loop();
    for (int i = 0; i < 2 && !seam_simulates(); i++) { /* these sockets are not in its world */
        receive_two_datagrams(loop, i == 1);
    }
    seam_end(loop);
}

static void submit_context(struct tracked *tracked)
{
    seam_submit(tracked->op.loop, tracked->context);
}

/* Submitted in a callback, where nothing has to wait, and all of it there. */
SEAM_TEST(a_whole_read_that_comes_at_once_says_so_in_moved)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked read = {.op = {.moved = 77}}; /* of an earlier life */
    struct tracked nop = {.then = submit_context, .context = &read};
    seam_write(pipe.out, "12345678", 8);
    weir_op_read(&read.op, pipe.in, read.data, 8, WEIR_CURRENT);
    read.op.flags = WEIR_WHOLE;
    weir_op_nop(&nop.op);
    expect_equal(seam_carry_out(loop, &nop), 0);
    seam_await(loop, &read);
    expect_equal(read.result, 8);
    expect_equal(read.op.moved, 8);
    expect(memcmp(read.data, "12345678", 8) == 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_whole_readv_fills_every_iovec_and_modifies_none)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(5011);
    char got[5011];
    struct seam_pair pipe = seam_pipe(0);
    struct iovec iov[] = {{got, 1}, {got + 1, 0}, {got + 1, 7}, {got + 8, 5000}, {got + 5008, 3}};
    struct iovec before[SEAM_COUNT(iov)];
    memcpy(before, iov, sizeof iov);
    struct tracked op = {0};
    weir_op_readv(&op.op, pipe.in, iov, SEAM_COUNT(iov), WEIR_CURRENT);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    for (int i = 0; i < 10; i++) {
        seam_write(pipe.out, data + i, 1); /* parts that end inside the small ones */
        seam_turns(loop, 2);
        expect(memcmp(before, iov, sizeof iov) == 0);
    }
    feed(loop, pipe.out, data + 10, sizeof got - 10);
    seam_await(loop, &op);
    expect_equal(op.result, sizeof got);
    expect(seam_pattern_holds(got, sizeof got, 0));
    expect(memcmp(before, iov, sizeof iov) == 0);
    seam_end(loop);
    seam_pair_close(&pipe);
    free(data);
}

SEAM_TEST(a_whole_recvmsg_fills_every_iovec)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(3000);
    char got[3000];
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct iovec iov[] = {{got, 10}, {got + 10, 1990}, {got + 2000, 1000}};
    struct iovec before[SEAM_COUNT(iov)];
    memcpy(before, iov, sizeof iov);
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = SEAM_COUNT(iov)};
    struct tracked op = {0};
    weir_op_recvmsg(&op.op, sockets.in, &message, 0);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    feed(loop, sockets.out, data, sizeof got);
    seam_await(loop, &op);
    expect_equal(op.result, sizeof got);
    expect(seam_pattern_holds(got, sizeof got, 0));
    expect(memcmp(before, iov, sizeof iov) == 0);
    expect(message.msg_iov == iov);
    expect_equal(message.msg_iovlen, SEAM_COUNT(iov));
    seam_end(loop);
    seam_pair_close(&sockets);
    free(data);
}

SEAM_TEST(a_whole_recv_answers_the_total_at_end_of_file)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    weir_op_recv(&op.op, sockets.in, op.data, sizeof op.data, 0);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    seam_write(sockets.out, "abc", 3);
    seam_turns(loop, 2);
    seam_write(sockets.out, "de", 2);
    seam_turns(loop, 2);
    expect_equal(op.calls, 0);
    expect_equal(shutdown(sockets.out, SHUT_WR), 0);
    seam_await(loop, &op);
    expect_equal(op.result, 5);
    expect_equal(op.op.moved, 5);
    expect(memcmp(op.data, "abcde", 5) == 0);
    weir_op_recv(&op.op, sockets.in, op.data, sizeof op.data, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(loop);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_whole_read_of_a_file_answers_the_total_at_end_of_file)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(10000);
    char got[16384];
    struct tracked op = {0};
    op.op.flags = WEIR_WHOLE;
    weir_op_read(&op.op, file, got, sizeof got, 100);
    expect_equal(seam_carry_out(loop, &op), 9900);
    expect(seam_pattern_holds(got, 9900, 100));
    weir_op_read(&op.op, file, got, 4000, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 4000);
    expect_equal(lseek(file, 0, SEEK_CUR), 4000);
    weir_op_read(&op.op, file, got, sizeof got, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 6000);
    expect(seam_pattern_holds(got, 6000, 4000));
    weir_op_read(&op.op, file, got, sizeof got, 10000);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(loop);
    close(file);
}

/* Takes what is there, a random part at a time, turning the loop between, until `length` came. */
static void drain_slowly(struct weir_loop *loop, int fd, size_t length)
{
    char part[65536];
    for (size_t done = 0; done < length;) {
        ssize_t got = recv(fd, part, 1 + seam_random() % sizeof part, MSG_DONTWAIT);
        if (got < 0 && errno == ENOTSOCK) {
            got = read(fd, part, 1 + seam_random() % sizeof part);
        }
        if (got < 0) {
            expect_equal(errno, EAGAIN);
            expect(seam_turn(loop, WEIR_MS) >= 0);
            continue;
        }
        expect(got > 0);
        expect(seam_pattern_holds(part, (size_t)got, done));
        done += (size_t)got;
        seam_turns(loop, 1);
    }
}

SEAM_TEST(a_whole_send_of_several_MiB_reaches_a_slow_reader_unharmed)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(BIG);
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        struct seam_pair sockets = seam_socketpair(SOCK_STREAM | flags);
        struct tracked op = {0};
        weir_op_send(&op.op, sockets.out, data, BIG, 0);
        op.op.flags = WEIR_WHOLE;
        seam_submit(loop, &op);
        drain_slowly(loop, sockets.in, BIG);
        seam_await(loop, &op);
        expect_equal(op.result, BIG);
        seam_pair_close(&sockets);
    }
    seam_end(loop);
    free(data);
}

SEAM_TEST(whole_writev_and_sendmsg_leave_their_iovecs_alone)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(BIG);
    struct iovec iov[] = {
        {data, 3}, {data + 3, 0}, {data + 3, BIG / 2}, {data + 3 + BIG / 2, BIG / 2 - 3}};
    struct iovec before[SEAM_COUNT(iov)];
    memcpy(before, iov, sizeof iov);
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = SEAM_COUNT(iov)};
    struct msghdr message_before = message;
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct seam_pair pipe = seam_pipe(0);
    expect_equal(fcntl(pipe.in, F_SETFL, O_NONBLOCK), 0);
    struct tracked op = {0};
    op.op.flags = WEIR_WHOLE;
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    seam_submit(loop, &op);
    drain_slowly(loop, sockets.in, BIG);
    seam_await(loop, &op);
    expect_equal(op.result, BIG);
    expect(memcmp(&message, &message_before, sizeof message) == 0);
    weir_op_writev(&op.op, pipe.out, iov, SEAM_COUNT(iov), WEIR_CURRENT);
    seam_submit(loop, &op);
    drain_slowly(loop, pipe.in, BIG);
    seam_await(loop, &op);
    expect_equal(op.result, BIG);
    expect(memcmp(before, iov, sizeof iov) == 0);
    seam_end(loop);
    seam_pair_close(&sockets);
    seam_pair_close(&pipe);
    free(data);
}

SEAM_TEST(a_whole_write_of_a_file_lands_at_its_offset)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(BIG);
    int file = seam_file(0);
    struct tracked op = {0};
    weir_op_write(&op.op, file, data, BIG, 4096);
    op.op.flags = WEIR_WHOLE;
    expect_equal(seam_carry_out(loop, &op), BIG);
    expect_equal(lseek(file, 0, SEEK_CUR), 0);
    memset(data, 0, BIG);
    expect_equal(pread(file, data, BIG, 4096), BIG);
    expect(seam_pattern_holds(data, BIG, 0));
    seam_end(loop);
    close(file);
    free(data);
}

SEAM_TEST(a_whole_splice_moves_all_through_a_pipe)
{
    struct weir_loop *loop = seam_loop();
    char *data = pattern_of(BIG);
    int source = seam_file(BIG);
    int target = seam_file(0);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked in = {0};
    struct tracked out = {0};
    weir_op_splice(&in.op, source, 1, pipe.out, WEIR_CURRENT, BIG - 1, 0);
    in.op.flags = WEIR_WHOLE;
    weir_op_splice(&out.op, pipe.in, WEIR_CURRENT, target, 7, BIG - 1, 0);
    out.op.flags = WEIR_WHOLE;
    seam_submit(loop, &in);
    seam_submit(loop, &out);
    expect_equal(seam_run(loop), 0);
    expect_equal(in.result, BIG - 1);
    expect_equal(out.result, BIG - 1);
    expect_equal(pread(target, data, BIG - 1, 7), BIG - 1);
    expect(seam_pattern_holds(data, BIG - 1, 1));
    seam_end(loop);
    seam_pair_close(&pipe);
    close(source);
    close(target);
    free(data);
}

SEAM_TEST(a_cancel_in_the_middle_of_a_whole_transfer_says_how_far_it_came)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    weir_op_read(&op.op, pipe.in, op.data, sizeof op.data, WEIR_CURRENT);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    seam_write(pipe.out, "0123456789", 10);
    seam_turns(loop, 3);
    expect_equal(op.calls, 0);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    expect_equal(op.op.moved, 10);
    expect(memcmp(op.data, "0123456789", 10) == 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void cancel_the_whole(struct tracked *op)
{
    struct tracked *whole = op->context;
    expect_equal(seam_cancel(op->op.user, whole), 0);
}

SEAM_TEST(a_whole_op_cancelled_between_its_parts_comes_back_before_the_next)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_write(pipe.out, "0123456789", 10);
    struct tracked op = {0};
    struct tracked nop = {.then = cancel_the_whole, .context = &op, .op.user = loop};
    weir_op_read(&op.op, pipe.in, op.data, sizeof op.data, WEIR_CURRENT);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    seam_await(loop, &op);
    expect_equal(op.result, -ECANCELED);
    expect_equal(op.op.moved, 10);
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect(counters.cancels == 0 || !seam_plain()); /* the next part was still here */
    seam_write(pipe.out, "a", 1);
    expect_equal(seam_turns(loop, 3), 0);
    char left;
    seam_read(pipe.in, &left, 1); /* nobody took it */
    expect_equal(left, 'a');
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_deadline_in_the_middle_of_a_whole_transfer_says_how_far_it_came)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_write(pipe.out, "01234", 5);
    struct tracked op = {0};
    /* One that expires before it left moves nothing: then with more time. */
    for (uint64_t wait = 10 * WEIR_MS; op.op.moved == 0 && wait < 60 * WEIR_S; wait *= 2) {
        weir_op_read(&op.op, pipe.in, op.data, sizeof op.data, WEIR_CURRENT);
        op.op.flags = WEIR_WHOLE;
        op.op.deadline_ns = weir_now(loop) + wait;
        expect_equal(seam_carry_out(loop, &op), -ETIME);
    }
    expect_equal(op.op.moved, 5);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_error_after_a_part_surfaces_with_the_part_in_moved)
{
    struct weir_loop *loop = seam_loop();
    enum { PART = 4096 };
    static char memory[PART];
    struct iovec iov[] = {{memory, PART}, {(void *)8, PART}}; /* no memory: page 0 */
    struct seam_pair pipe = seam_pipe(0);
    char *data = pattern_of(PART + 1);
    struct tracked op = {0};
    weir_op_readv(&op.op, pipe.in, iov, 2, WEIR_CURRENT);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    seam_write(pipe.out, data, PART);
    seam_turns(loop, 2); /* a simulated pipe need not wait to see that the rest has no place */
    expect(op.calls == 0 || seam_simulates());
    seam_write(pipe.out, data + PART, 1);
    seam_await(loop, &op);
    expect_equal(op.result, -EFAULT);
    expect_equal(op.op.moved, PART);
    expect(seam_pattern_holds(memory, PART, 0));
    /* And of a write whose reader goes away. */
    char *big = pattern_of(BIG);
    weir_op_write(&op.op, pipe.out, big, BIG, WEIR_CURRENT);
    seam_submit(loop, &op);
    seam_turns(loop, 2);
    close(pipe.in);
    pipe.in = -1;
    seam_await(loop, &op);
    expect_equal(op.result, -EPIPE);
    expect(op.op.moved > 0 && op.op.moved < BIG);
    free(big);
    free(data);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_whole_read_of_a_pipe_collects_all_parts),
    cmocka_unit_test(a_whole_recv_adds_up_what_datagrams_say),
    cmocka_unit_test(a_whole_read_that_comes_at_once_says_so_in_moved),
    cmocka_unit_test(a_whole_readv_fills_every_iovec_and_modifies_none),
    cmocka_unit_test(a_whole_recvmsg_fills_every_iovec),
    cmocka_unit_test(a_whole_recv_answers_the_total_at_end_of_file),
    cmocka_unit_test(a_whole_read_of_a_file_answers_the_total_at_end_of_file),
    cmocka_unit_test(a_whole_send_of_several_MiB_reaches_a_slow_reader_unharmed),
    cmocka_unit_test(whole_writev_and_sendmsg_leave_their_iovecs_alone),
    cmocka_unit_test(a_whole_write_of_a_file_lands_at_its_offset),
    cmocka_unit_test(a_whole_splice_moves_all_through_a_pipe),
    cmocka_unit_test(a_cancel_in_the_middle_of_a_whole_transfer_says_how_far_it_came),
    cmocka_unit_test(a_whole_op_cancelled_between_its_parts_comes_back_before_the_next),
    cmocka_unit_test(a_deadline_in_the_middle_of_a_whole_transfer_says_how_far_it_came),
    cmocka_unit_test(an_error_after_a_part_surfaces_with_the_part_in_moved),
};

const struct seam_group whole_group = SEAM_GROUP("whole", tests);
