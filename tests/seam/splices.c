/* SPDX-License-Identifier: MIT */
/*
 * splices.c: which splices a turn makes on the spot, which wait, and which say EAGAIN instead.
 * (What they move: kinds_files.c. How they are taken back: cancel.c, closing_fds.c.)
 */
#include "seam.h"

#include <arpa/inet.h>
#include <sys/mman.h>

static const enum weir_route routes[] = {WEIR_ROUTE_AUTO, WEIR_ROUTE_RING, WEIR_ROUTE_INLINE,
                                         WEIR_ROUTE_OFFLOAD};

static void splice_asks_for_EAGAIN(struct weir_loop *loop, bool blocking)
{
    static char block[65536];
    struct seam_pair from = seam_pipe(seam_pipe_flags(blocking));
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM | seam_socket_flags(blocking));
    struct seam_pair to = seam_pipe(seam_pipe_flags(blocking));
    for (size_t i = 0; i < SEAM_COUNT(routes); i++) {
        struct tracked op = {.op.route = (uint8_t)routes[i]};
        weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 8192,
                       SPLICE_F_NONBLOCK);
        expect_equal(seam_carry_out(loop, &op), -EAGAIN); /* no source */
        weir_op_splice(&op.op, sockets.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 8192,
                       SPLICE_F_NONBLOCK);
        expect_equal(seam_carry_out(loop, &op), -EAGAIN);
        seam_write(sockets.out, "a", 1);
        expect_equal(seam_carry_out(loop, &op), 1);
    }
    expect_equal(fcntl(to.out, F_SETFL, O_NONBLOCK), 0);
    while (write(to.out, block, sizeof block) > 0) {
    }
    expect_equal(fcntl(to.out, F_SETFL, seam_pipe_flags(blocking)), 0);
    seam_write(from.out, "b", 1);
    for (size_t i = 0; i < SEAM_COUNT(routes); i++) {
        struct tracked op = {.op.route = (uint8_t)routes[i]};
        weir_op_splice(&op.op, from.in, WEIR_CURRENT, to.out, WEIR_CURRENT, 8192,
                       SPLICE_F_NONBLOCK);
        expect_equal(seam_carry_out(loop, &op), -EAGAIN); /* no room */
    }
    seam_forget_pair(loop, &from);
    seam_forget_pair(loop, &sockets);
    seam_forget_pair(loop, &to);
}

SEAM_TEST(a_splice_with_SPLICE_F_NONBLOCK_says_EAGAIN_by_every_route)
{
    seam_with_both(splice_asks_for_EAGAIN);
}

static int64_t done_on_the_spot(struct weir_loop *loop)
{
    struct weir_counters counters = seam_counters(loop);
    return (int64_t)counters.inline_done;
}

SEAM_TEST(a_splice_is_made_on_the_spot_where_neither_end_waits)
{
    struct weir_loop *loop = seam_loop();
    int memory = memfd_create("memory", MFD_CLOEXEC), file = seam_file(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct seam_pair pipe = seam_pipe(0), other = seam_pipe(0);
    struct tracked op = {.op.route = WEIR_ROUTE_INLINE};
    char got[8];
    seam_write(sockets.out, "abcdef", 6);
    op.op.flags = WEIR_IN_MEMORY;
    weir_op_splice(&op.op, sockets.in, WEIR_CURRENT, pipe.out, WEIR_CURRENT, 8, 0);
    expect_equal(seam_carry_out(loop, &op), 6);
    expect_equal(done_on_the_spot(loop), 1);
    op.op.flags = 0;
    weir_op_splice(&op.op, pipe.in, WEIR_CURRENT, other.out, WEIR_CURRENT, 4, 0);
    expect_equal(seam_carry_out(loop, &op), 4);
    expect_equal(done_on_the_spot(loop), 2);

    struct seam_pair unblocked = seam_socketpair(SOCK_STREAM | SOCK_NONBLOCK);
    seam_write(unblocked.out, "x", 1);
    weir_op_splice(&op.op, unblocked.in, WEIR_CURRENT, other.out, WEIR_CURRENT, 8, 0);
    expect_equal(seam_carry_out(loop, &op), 1);
    expect_equal(done_on_the_spot(loop), 3);
    op.op.flags = WEIR_IN_MEMORY;
    weir_op_splice(&op.op, other.in, WEIR_CURRENT, memory, 1, 8, 0);
    expect_equal(seam_carry_out(loop, &op), 5);
    weir_op_splice(&op.op, memory, 2, other.out, WEIR_CURRENT, 2, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect_equal(done_on_the_spot(loop), 5);
    op.op.flags = WEIR_IN_MEMORY | WEIR_WHOLE;
    weir_op_splice(&op.op, other.in, WEIR_CURRENT, memory, 7, 2, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect_equal(done_on_the_spot(loop), 6);
    expect_equal(pread(memory, got, 8, 1), 8);
    expect(memcmp(got, "abcdx\0bc", 8) == 0);
    expect_equal(seam_counters(loop).offloaded, 0);

    op.op.flags = 0; /* a file's device may have to be waited for */
    weir_op_splice(&op.op, pipe.in, WEIR_CURRENT, file, 0, 8, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect_equal(pread(file, got, 8, 0), 2);
    expect(memcmp(got, "ef", 2) == 0);

    uint64_t before =
        seam_counters(loop).inline_done; /* nothing there: that is an answer as well */
    weir_op_splice(&op.op, pipe.in, WEIR_CURRENT, other.out, WEIR_CURRENT, 8, SPLICE_F_NONBLOCK);
    expect_equal(seam_carry_out(loop, &op), -EAGAIN);
    expect_equal(seam_counters(loop).inline_done, before + 1);
    weir_op_splice(&op.op, -1, WEIR_CURRENT, other.out, WEIR_CURRENT, 8, SPLICE_F_NONBLOCK);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    seam_end(loop);
    close(memory);
    close(file);
    seam_pair_close(&sockets);
    seam_pair_close(&pipe);
    seam_pair_close(&other);
    seam_pair_close(&unblocked);
}

/* Two ends of a TCP connection that block. */
static struct seam_pair tcp_pair(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct seam_pair pair = {-1, -1};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    expect_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    expect_equal(listen(listener, 1), 0);
    expect_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    pair.out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect_equal(connect(pair.out, (struct sockaddr *)&address, length), 0);
    pair.in = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    expect(pair.in >= 0);
    close(listener);
    return pair;
}

SEAM_TEST(a_splice_of_a_TCP_socket_that_blocks_does_not_hold_the_turn)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair sockets = tcp_pair();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {.op.route = WEIR_ROUTE_INLINE};
    weir_op_splice(&op.op, sockets.in, WEIR_CURRENT, pipe.out, WEIR_CURRENT, 8, 0);
    seam_submit(loop, &op);
    seam_expect_turning(loop);
    expect_equal(op.calls, 0);
    seam_write(sockets.out, "bc", 2);
    seam_await(loop, &op);
    expect_equal(op.result, 2);
    seam_end(loop);
    seam_pair_close(&sockets);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_splice_is_made_on_the_spot_where_neither_end_waits),
    cmocka_unit_test(a_splice_of_a_TCP_socket_that_blocks_does_not_hold_the_turn),
    cmocka_unit_test(a_splice_with_SPLICE_F_NONBLOCK_says_EAGAIN_by_every_route),
};

const struct seam_group splices_group = SEAM_GROUP("splices", tests);
