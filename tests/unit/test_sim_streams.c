/* SPDX-License-Identifier: MIT */
/* test_sim_streams.c: how pipes and sockets of a world wait, take time, fill up and break. */
#include "sim_world.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

static struct weir_sim *sim;
static struct weir_loop *loop;

static void begin(const struct weir_sim_plan *plan)
{
    sim = open_world(5, plan);
    loop = open_loop(sim);
}

static void what_is_sent_arrives_after_its_way_and_at_the_lines_speed(void **state)
{
    (void)state;
    static char bytes[50000];
    const struct weir_sim_plan plan = {
        .network = {WEIR_MS, WEIR_MS},
        .network_bytes_per_s = 1000000,
    };
    struct weir_op send = {0};
    struct weir_op receive = {0};
    int sent;
    int received;
    int ends[2];
    begin(&plan);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    uint64_t before_ns = weir_now(loop);
    weir_op_recv(&receive, ends[1], bytes, sizeof bytes, MSG_WAITALL);
    weir_op_send(&send, ends[0], bytes, sizeof bytes, 0);
    start(loop, &receive, &received);
    start(loop, &send, &sent);
    assert_int_equal(await(loop, &send, &sent), sizeof bytes);
    assert_true(weir_now(loop) - before_ns < WEIR_MS);
    assert_int_equal(await(loop, &receive, &received), sizeof bytes);
    assert_in_range(weir_now(loop) - before_ns, 51 * WEIR_MS, 52 * WEIR_MS);
    close_world(sim, loop);
}

static void a_small_write_goes_into_a_pipe_in_one_piece_or_waits(void **state)
{
    (void)state;
    static char bytes[70000];
    struct weir_op fill = {0};
    struct weir_op write = {0};
    int calls;
    int fds[2];
    begin(NULL);
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    weir_op_write(&fill, fds[1], bytes, 65536 - 10, 0);
    assert_int_equal(carry_out(loop, &fill), 65536 - 10);
    weir_op_write(&write, fds[1], bytes, 11, 0);
    start(loop, &write, &calls);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    weir_op_write(&fill, fds[1], bytes, 5000, 0);
    assert_int_equal(carry_out(loop, &fill), 10);
    weir_op_read(&fill, fds[0], bytes, 11, 0);
    assert_int_equal(carry_out(loop, &fill), 11);
    assert_int_equal(await(loop, &write, &calls), 11);
    close_world(sim, loop);
}

static void what_would_wait_is_EAGAIN_for_who_asks_for_it(void **state)
{
    (void)state;
    struct weir_op op = {0};
    char text[8];
    int ends[2];
    begin(NULL);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_recv(&op, ends[0], text, sizeof text, MSG_DONTWAIT);
    assert_int_equal(carry_out(loop, &op), -EAGAIN);
    weir_op_read(&op, ends[0], text, sizeof text, 0);
    op.rw_flags = RWF_NOWAIT;
    assert_int_equal(carry_out(loop, &op), -EAGAIN);
    weir_op_read(&op, ends[0], text, sizeof text, 0);
    op.rw_flags = 1u << 30;
    assert_int_equal(carry_out(loop, &op), -EOPNOTSUPP);
    close_world(sim, loop);
}

static void a_cancelled_MSG_WAITALL_answers_what_had_come(void **state)
{
    (void)state;
    struct weir_op op = {0};
    char text[8];
    int calls;
    int ends[2];
    begin(NULL);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_recv(&op, ends[0], text, 8, MSG_WAITALL);
    start(loop, &op, &calls);
    assert_int_equal(write_text(loop, ends[1], "abc", 0), 3);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    assert_int_equal(weir_cancel(loop, &op), 0);
    assert_int_equal(await(loop, &op, &calls), 3);
    assert_memory_equal(text, "abc", 3);
    close_world(sim, loop);
}

static int make_socket(void)
{
    struct weir_op op = {0};
    weir_op_socket(&op, AF_INET, SOCK_STREAM, 0);
    return (int)carry_out(loop, &op);
}

static struct sockaddr_in address_of(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int make_listener(int backlog, struct sockaddr_in *ret_address)
{
    struct weir_op op = {0};
    int fd = make_socket();
    *ret_address = address_of(0);
    socklen_t length = sizeof *ret_address;
    weir_op_bind(&op, fd, (struct sockaddr *)ret_address, sizeof *ret_address);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_listen(&op, fd, backlog);
    assert_int_equal(carry_out(loop, &op), 0);
    assert_int_equal(weir_sim_sockname(sim, fd, (struct sockaddr *)ret_address, &length), 0);
    assert_int_not_equal(ret_address->sin_port, 0);
    return fd;
}

static void a_connect_waits_for_a_full_backlog_and_is_refused_if_the_listener_goes(void **state)
{
    (void)state;
    enum { CLIENTS = 3 };
    struct sockaddr_in address;
    struct weir_op ops[CLIENTS] = {0};
    struct weir_op accept = {0};
    int calls[CLIENTS];
    begin(NULL);
    int listener = make_listener(0, &address);
    for (int i = 0; i < CLIENTS; i++) {
        weir_op_connect(&ops[i], make_socket(), (struct sockaddr *)&address, sizeof address);
        start(loop, &ops[i], &calls[i]);
        assert_int_equal(weir_loop_turn(loop, WEIR_S) == 1, i == 0); /* a backlog of one */
    }
    weir_op_accept(&accept, listener, NULL, NULL, SOCK_NONBLOCK);
    int server = (int)carry_out(loop, &accept);
    assert_true(server > 0);
    assert_int_equal(weir_sim_fcntl(sim, server, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(await(loop, &ops[1], &calls[1]), 0);
    assert_int_equal(calls[2], 0);
    close_file(loop, listener);
    assert_int_equal(await(loop, &ops[2], &calls[2]), -ECONNREFUSED);
    /* Nobody will accept it any more. */
    weir_op_send(&accept, ops[1].fd, "x", 1, 0);
    assert_int_equal(carry_out(loop, &accept), -ECONNRESET);
    close_world(sim, loop);
}

static void who_closes_with_bytes_unread_resets_the_connection(void **state)
{
    (void)state;
    struct weir_op op = {0};
    char text[8];
    int ends[2];
    begin(NULL);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    assert_int_equal(write_text(loop, ends[0], "abc", 0), 3);
    close_file(loop, ends[1]);
    weir_op_poll(&op, ends[0], POLLIN);
    assert_int_equal(carry_out(loop, &op) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
    assert_int_equal(read_text(loop, ends[0], text, sizeof text, 0), -ECONNRESET);
    assert_int_equal(read_text(loop, ends[0], text, sizeof text, 0), 0);
    assert_int_equal(write_text(loop, ends[0], "abc", 0), -EPIPE);
    close_world(sim, loop);
}

static void a_port_is_one_sockets_at_a_time(void **state)
{
    (void)state;
    struct sockaddr_in address;
    struct weir_op op = {0};
    begin(NULL);
    int listener = make_listener(1, &address);
    int other = make_socket();
    weir_op_bind(&op, other, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(carry_out(loop, &op), -EADDRINUSE);
    weir_op_connect(&op, other, (struct sockaddr *)&address, 3);
    assert_int_equal(carry_out(loop, &op), -EINVAL);
    close_file(loop, listener);
    weir_op_bind(&op, other, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_recv(&op, other, &address, 1, 0);
    assert_int_equal(carry_out(loop, &op), -ENOTCONN);
    weir_op_shutdown(&op, other, SHUT_WR);
    assert_int_equal(carry_out(loop, &op), -ENOTCONN);
    close_world(sim, loop);
}

static void a_poll_waits_for_what_it_names(void **state)
{
    (void)state;
    struct weir_op in = {0};
    struct weir_op hangup = {0};
    int in_calls;
    int hangup_calls;
    int fds[2];
    begin(NULL);
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    weir_op_poll(&in, fds[0], POLLIN);
    weir_op_poll(&hangup, fds[0], 0);
    start(loop, &in, &in_calls);
    start(loop, &hangup, &hangup_calls);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    assert_int_equal(write_text(loop, fds[1], "x", 0), 1);
    assert_int_equal(await(loop, &in, &in_calls), POLLIN);
    assert_int_equal(hangup_calls, 0);
    close_file(loop, fds[1]);
    assert_int_equal(await(loop, &hangup, &hangup_calls), POLLHUP);
    close_world(sim, loop);
}

static void what_is_tried_on_the_spot_is_counted_and_the_rest_goes_its_way(void **state)
{
    (void)state;
    struct weir_counters counters;
    struct weir_op op = {0};
    char text[8];
    int calls;
    int ends[2];
    begin(NULL);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_recv(&op, ends[0], text, sizeof text, 0);
    op.route = WEIR_ROUTE_INLINE;
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    assert_int_equal(write_text(loop, ends[1], "abc", 0), 3);
    assert_int_equal(await(loop, &op, &calls), 3);
    assert_int_equal(write_text(loop, ends[1], "defg", 0), 4);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    assert_int_equal(carry_out(loop, &op), 4);
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_int_equal(counters.inline_tries, 2);
    assert_int_equal(counters.inline_done, 1);
    close_world(sim, loop);
}

static void a_full_disk_and_full_memory_are_said(void **state)
{
    (void)state;
    static char bytes[100000];
    const struct weir_sim_plan small_disk = {.disk_bytes = 65536};
    const struct weir_sim_plan small_memory = {.memory_bytes = 4 << 20, .fds_max = 100000};
    struct weir_op op = {0};
    struct weir_sim *none;
    begin(&small_disk);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    weir_op_write(&op, file, bytes, sizeof bytes, 0);
    op.flags = WEIR_WHOLE;
    assert_int_equal(carry_out(loop, &op), -ENOSPC);
    assert_int_equal(op.moved, 65536);
    close_world(sim, loop);
    assert_int_equal(weir_sim_open(1, &small_memory, &none), 0);
    struct weir_loop *no_loop;
    struct weir_options options = {.policy = WEIR_SIM, .sim.world = none, .depth = 32000};
    assert_int_equal(weir_loop_open(&options, &no_loop), -ENOMEM);
    int fds[2];
    int r;
    do {
        r = weir_sim_pipe(none, fds, 0);
    } while (r == 0);
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(weir_sim_close(none), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_arrives_after_its_way_and_at_the_lines_speed),
        cmocka_unit_test(a_small_write_goes_into_a_pipe_in_one_piece_or_waits),
        cmocka_unit_test(what_would_wait_is_EAGAIN_for_who_asks_for_it),
        cmocka_unit_test(a_cancelled_MSG_WAITALL_answers_what_had_come),
        cmocka_unit_test(a_connect_waits_for_a_full_backlog_and_is_refused_if_the_listener_goes),
        cmocka_unit_test(who_closes_with_bytes_unread_resets_the_connection),
        cmocka_unit_test(a_port_is_one_sockets_at_a_time),
        cmocka_unit_test(a_poll_waits_for_what_it_names),
        cmocka_unit_test(what_is_tried_on_the_spot_is_counted_and_the_rest_goes_its_way),
        cmocka_unit_test(a_full_disk_and_full_memory_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
