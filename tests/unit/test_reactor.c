/* SPDX-License-Identifier: MIT */
/*
 * engine/backend/epoll.h through a loop: what the contract does not see: that nothing keeps the
 * loop from sleeping, and that ops on an fd are neither lost nor stuck with the workers.
 */
#include "unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weir/weir.h>

#define OPS 64
#define OTHERS 100

static struct weir_loop *loop;
static struct weir_op ops[OPS];
static char bytes[OPS];
static unsigned back;

static void came_back(struct weir_op *op)
{
    (void)op;
    back++;
}

static int open_loop(void **state)
{
    (void)state;
    struct weir_options options = {.policy = WEIR_EPOLL, .offload_workers = 1};
    memset(ops, 0, sizeof ops);
    back = 0;
    alarm(60); /* an op that was lost */
    return weir_loop_open(&options, &loop);
}

static int close_loop(void **state)
{
    (void)state;
    return weir_loop_close(loop, 20 * WEIR_S, NULL);
}

static void submit(struct weir_op *op)
{
    op->callback = came_back;
    assert_int_equal(weir_submit(loop, op), 0);
}

static void await(unsigned count)
{
    while (back < count) {
        assert_true(weir_loop_turn(loop, -1) >= 0);
    }
    assert_int_equal(back, count);
}

static uint64_t enters(void)
{
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    return counters.enters;
}

static bool timer_fired;

static void fire(struct weir_op *op)
{
    (void)op;
    timer_fired = true;
}

/* Calls of the kernel in a pause of 50 ms: a loop that does not sleep makes thousands. */
static uint64_t enters_in_a_pause(void)
{
    static struct weir_op timer;
    uint64_t before = enters();
    timer_fired = false;
    timer.callback = fire;
    weir_op_timeout_in(&timer, loop, 50 * WEIR_MS);
    assert_int_equal(weir_submit(loop, &timer), 0);
    while (!timer_fired) {
        assert_true(weir_loop_turn(loop, -1) >= 0);
    }
    return enters() - before;
}

static void open_sockets(int sockets[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static void close_sockets(const int sockets[2])
{
    weir_forget(loop, sockets[0]);
    weir_forget(loop, sockets[1]);
    close(sockets[0]);
    close(sockets[1]);
}

static void receive_byte(struct weir_op *op, int fd)
{
    weir_op_recv(op, fd, &bytes[op - ops], 1, 0);
    submit(op);
}

static void what_nobody_reads_does_not_keep_the_loop_awake(void **state)
{
    (void)state;
    int sockets[2];
    open_sockets(sockets);
    receive_byte(&ops[0], sockets[0]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(write(sockets[1], "abc", 3), 3);
    await(1);
    assert_in_range(enters_in_a_pause(), 1, 20);
    receive_byte(&ops[0], sockets[0]);
    receive_byte(&ops[1], sockets[0]);
    await(3);
    assert_int_equal(bytes[0], 'b');
    assert_int_equal(bytes[1], 'c');
    /* A hang-up, which is told of unasked. */
    assert_int_equal(shutdown(sockets[1], SHUT_RDWR), 0);
    assert_in_range(enters_in_a_pause(), 1, 20);
    receive_byte(&ops[0], sockets[0]);
    await(4);
    assert_int_equal(ops[0].result, 0);
    close_sockets(sockets);
}

/* A refused datagram, kept on the socket's error queue: an event that a receive has no use for. */
static void what_cannot_be_taken_does_not_keep_the_loop_awake(void **state)
{
    (void)state;
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int nobody = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(nobody, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(nobody, (struct sockaddr *)&address, &length), 0);
    close(nobody);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(send(fd, "a", 1, 0), 1);
    receive_byte(&ops[0], fd);
    await(1);
    assert_int_equal(ops[0].result, -ECONNREFUSED);
    receive_byte(&ops[0], fd);
    assert_in_range(enters_in_a_pause(), 1, 20);
    assert_int_equal(back, 1);
    assert_int_equal(weir_cancel(loop, &ops[0]), 0);
    await(2);
    assert_int_equal(weir_forget(loop, fd), 0);
    close(fd);
}

static void many_who_wait_on_one_fd_all_get_their_byte(void **state)
{
    (void)state;
    int sockets[2];
    char sent[OPS];
    open_sockets(sockets);
    for (int round = 0; round < 3; round++) {
        back = 0;
        for (int i = 0; i < OPS; i++) {
            receive_byte(&ops[i], sockets[0]);
            sent[i] = (char)i;
        }
        assert_int_equal(weir_loop_turn(loop, 0), 0);
        assert_int_equal(write(sockets[1], sent, OPS), OPS);
        await(OPS);
        for (int i = 0; i < OPS; i++) {
            assert_int_equal(ops[i].result, 1);
            assert_int_equal(bytes[i], i); /* first come, first served */
        }
    }
    close_sockets(sockets);
}

/* Fills the socket until a send of one byte has to wait, and lets it through again. */
static void block_a_send(const int sockets[2])
{
    static char block[1 << 16];
    while (send(sockets[0], block, sizeof block, MSG_DONTWAIT) > 0) {
    }
    unsigned want = back + 1;
    weir_op_send(&ops[OPS - 1], sockets[0], "x", 1, 0);
    submit(&ops[OPS - 1]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    while (back < want) {
        while (recv(sockets[1], block, sizeof block, MSG_DONTWAIT) > 0) {
        }
        assert_true(weir_loop_turn(loop, WEIR_MS) >= 0);
    }
    while (recv(sockets[1], block, sizeof block, MSG_DONTWAIT) > 0) {
    }
}

static void room_that_nobody_waits_for_any_more_is_not_told_of(void **state)
{
    (void)state;
    int sockets[2];
    open_sockets(sockets);
    receive_byte(&ops[0], sockets[0]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    block_a_send(sockets);
    assert_int_equal(ops[OPS - 1].result, 1);
    assert_in_range(enters_in_a_pause(), 1, 20);
    /* The peer makes room, which AF_UNIX tells of whether it is wanted or not. */
    struct epoll_event event = {.events = EPOLLIN};
    int outer = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, weir_loop_fd(loop), &event), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(weir_loop_turn(loop, 0), 0);
    }
    assert_int_equal(write(sockets[0], "a", 1), 1);
    assert_int_equal(read(sockets[1], bytes, 1), 1);
    assert_int_equal(epoll_wait(outer, &event, 1, 0), 0);
    close(outer);
    close_sockets(sockets);
    await(2);
}

static int listen_blocking(struct sockaddr_in *ret_address)
{
    socklen_t length = sizeof *ret_address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(listener, (struct sockaddr *)ret_address, length), 0);
    assert_int_equal(listen(listener, OPS), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)ret_address, &length), 0);
    return listener;
}

static int connect_to(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
    return fd;
}

/* A blocking listener's accept(2) is for the only worker, one at a time. */
static void those_behind_another_with_the_worker_get_their_turn(void **state)
{
    (void)state;
    struct sockaddr_in address;
    int clients[OPS];
    int listener = listen_blocking(&address);
    for (int i = 0; i < OPS; i++) {
        weir_op_accept(&ops[i], listener, NULL, NULL, SOCK_CLOEXEC);
        submit(&ops[i]);
    }
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    for (int i = 0; i < OPS; i++) {
        clients[i] = connect_to(&address);
    }
    await(OPS);
    for (int i = 0; i < OPS; i++) {
        assert_true(ops[i].result >= 0);
        close((int)ops[i].result);
        close(clients[i]);
    }
    assert_int_equal(weir_forget(loop, listener), 0);
    close(listener);
}

/* A write to an eventfd that is ready, and has no room for as much. */
static void others_fds_do_not_let_a_second_op_past_the_one_with_a_worker(void **state)
{
    static uint64_t most = UINT64_MAX - 2;
    static uint64_t one = 1;
    int others[OTHERS];
    int full = eventfd(2, EFD_CLOEXEC);
    (void)state;
    assert_int_equal(weir_loop_close(loop, WEIR_S, NULL), 0);
    struct weir_options options = {.policy = WEIR_EPOLL, .depth = 8, .offload_workers = 2};
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    weir_op_write(&ops[0], full, &most, sizeof most, 0);
    submit(&ops[0]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    for (unsigned i = 0; i < OTHERS; i++) { /* more fds than are watched */
        others[i] = eventfd(1, EFD_CLOEXEC);
        weir_op_read(&ops[1], others[i], bytes, sizeof one, 0);
        submit(&ops[1]);
        await(i + 1);
        assert_int_equal(ops[1].result, sizeof one);
    }
    weir_op_write(&ops[2], full, &one, sizeof one, 0);
    submit(&ops[2]);
    for (int turns = 0; turns < 10; turns++) {
        usleep(1000); /* a worker that had it would be done */
        assert_true(weir_loop_turn(loop, 0) >= 0);
    }
    assert_int_equal(back, OTHERS);
    assert_int_equal(read(full, bytes, sizeof one), sizeof one); /* makes room */
    await(OTHERS + 2);
    assert_int_equal(ops[0].result, sizeof most);
    assert_int_equal(ops[2].result, sizeof one);
    for (unsigned i = 0; i < OTHERS; i++) {
        assert_int_equal(weir_forget(loop, others[i]), 0);
        close(others[i]);
    }
    assert_int_equal(weir_forget(loop, full), 0);
    close(full);
}

static void a_number_given_anew_without_a_word_is_found(void **state)
{
    (void)state;
    int old[2];
    int new[2];
    open_sockets(old);
    receive_byte(&ops[0], old[0]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(write(old[1], "a", 1), 1);
    await(1);
    open_sockets(new);
    assert_int_equal(dup2(new[0], old[0]), old[0]);
    receive_byte(&ops[0], old[0]);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(write(new[1], "b", 1), 1);
    await(2);
    assert_int_equal(bytes[0], 'b');
    close_sockets(old);
    close_sockets(new);
}

static void WAITALL_collects_its_parts(void **state)
{
    (void)state;
    int sockets[2];
    open_sockets(sockets);
    struct iovec iov[2] = {{bytes, 3}, {bytes + 3, 7}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    for (unsigned i = 0; i < 4; i++) {
        memset(bytes, 0, sizeof bytes);
        if (i % 2 == 0) {
            weir_op_recv(&ops[0], sockets[0], bytes, 10, MSG_WAITALL);
        } else {
            weir_op_recvmsg(&ops[0], sockets[0], &message, MSG_WAITALL);
        }
        submit(&ops[0]);
        for (const char *part = "0123456789"; *part; part++) {
            assert_int_equal(back, i);
            assert_int_equal(write(sockets[1], part, 1), 1);
            assert_true(weir_loop_turn(loop, 0) >= 0);
        }
        await(i + 1);
        assert_int_equal(ops[0].result, 10);
        assert_memory_equal(bytes, "0123456789", 10);
    }
    /* The end gives what came before it. */
    weir_op_recv(&ops[0], sockets[0], bytes, 10, MSG_WAITALL);
    submit(&ops[0]);
    assert_int_equal(write(sockets[1], "abc", 3), 3);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(shutdown(sockets[1], SHUT_WR), 0);
    await(5);
    assert_int_equal(ops[0].result, 3);
    close_sockets(sockets);
}

static void a_cancelled_WAITALL_keeps_what_it_got_and_makes_the_loop_fd_readable(void **state)
{
    (void)state;
    int sockets[2];
    struct epoll_event event = {.events = EPOLLIN};
    open_sockets(sockets);
    int outer = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, weir_loop_fd(loop), &event), 0);
    weir_op_recv(&ops[0], sockets[0], bytes, 10, MSG_WAITALL);
    submit(&ops[0]);
    assert_int_equal(write(sockets[1], "abc", 3), 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(weir_loop_turn(loop, 0), 0);
    }
    assert_int_equal(epoll_wait(outer, &event, 1, 0), 0);
    assert_int_equal(weir_cancel(loop, &ops[0]), 0);
    assert_int_equal(back, 0);
    while (back < 1) {
        assert_true(weir_loop_turn(loop, 0) >= 0);
    }
    assert_int_equal(ops[0].result, 3);
    /* The same by its deadline: the turn in which it passes leaves the fd readable. */
    weir_op_recv(&ops[0], sockets[0], bytes, 10, MSG_WAITALL);
    ops[0].deadline_ns = weir_now(loop) + 20 * WEIR_MS;
    submit(&ops[0]);
    assert_int_equal(write(sockets[1], "de", 2), 2);
    assert_true(weir_loop_turn(loop, 0) >= 0);
    while (back < 2) {
        assert_true(epoll_wait(outer, &event, 1, -1) == 1 || errno == EINTR);
        assert_true(weir_loop_turn(loop, 0) >= 0);
    }
    assert_int_equal(ops[0].result, 2);
    close_sockets(sockets);
    close(outer);
}

#define LOOP_TEST(test) cmocka_unit_test_setup_teardown(test, open_loop, close_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(what_nobody_reads_does_not_keep_the_loop_awake),
        LOOP_TEST(what_cannot_be_taken_does_not_keep_the_loop_awake),
        LOOP_TEST(many_who_wait_on_one_fd_all_get_their_byte),
        LOOP_TEST(room_that_nobody_waits_for_any_more_is_not_told_of),
        LOOP_TEST(those_behind_another_with_the_worker_get_their_turn),
        LOOP_TEST(others_fds_do_not_let_a_second_op_past_the_one_with_a_worker),
        LOOP_TEST(a_number_given_anew_without_a_word_is_found),
        LOOP_TEST(WAITALL_collects_its_parts),
        LOOP_TEST(a_cancelled_WAITALL_keeps_what_it_got_and_makes_the_loop_fd_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
