/* SPDX-License-Identifier: MIT */
/* test_sim_kinds.c: every kind of op in a simulated world, end to end. */
#include "sim_world.h"

#include <linux/falloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct weir_sim *sim;
static struct weir_loop *loop;

static int set_up(void **state)
{
    (void)state;
    sim = open_world(1, NULL);
    loop = open_loop(sim);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_world(sim, loop);
    return 0;
}

static int64_t plus_one(void *argument)
{
    return *(int64_t *)argument + 1;
}

static void a_nop_a_timer_and_a_call_come_back(void **state)
{
    (void)state;
    struct weir_op op = {0};
    int64_t number = 41;
    weir_op_nop(&op);
    assert_int_equal(carry_out(loop, &op), 0);
    uint64_t before_ns = weir_now(loop);
    weir_op_timeout_in(&op, loop, 10 * WEIR_S);
    assert_int_equal(carry_out(loop, &op), 0);
    assert_true(weir_now(loop) >= before_ns + 10 * WEIR_S);
    assert_true(weir_now(loop) < before_ns + 10 * WEIR_S + WEIR_MS);
    weir_op_call(&op, plus_one, &number);
    assert_int_equal(carry_out(loop, &op), 42);
    assert_ptr_equal(weir_loop_sim(loop), sim);
    assert_int_equal(weir_sim_now(sim), weir_now(loop));
}

static void a_pipe_carries_bytes_and_then_its_end(void **state)
{
    (void)state;
    int fds[2];
    char text[16];
    struct weir_op read = {0};
    int calls;
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    assert_int_equal(fds[0], WEIR_SIM_FD_FIRST);
    assert_int_equal(fds[1], WEIR_SIM_FD_FIRST + 1);
    weir_op_read(&read, fds[0], text, sizeof text, WEIR_CURRENT);
    start(loop, &read, &calls);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(write_text(loop, fds[1], "hello", 0), 5);
    assert_int_equal(await(loop, &read, &calls), 5);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(close_file(loop, fds[1]), 0);
    assert_int_equal(carry_out(loop, &read), 0);
    assert_int_equal(close_file(loop, fds[0]), 0);
    assert_int_equal(carry_out(loop, &read), -EBADF);
}

static void who_writes_to_a_full_pipe_waits_for_its_reader(void **state)
{
    (void)state;
    static char bytes[200000];
    static char got[200000];
    int fds[2];
    struct weir_op write = {0};
    struct weir_op read = {0};
    int wrote;
    int was_read;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    assert_int_equal(weir_sim_pipe(sim, fds, O_NONBLOCK), 0);
    weir_op_write(&write, fds[1], bytes, sizeof bytes, 0);
    write.flags = WEIR_WHOLE;
    weir_op_read(&read, fds[0], got, sizeof got, 0);
    read.flags = WEIR_WHOLE;
    start(loop, &write, &wrote);
    start(loop, &read, &was_read);
    assert_int_equal(weir_loop_run(loop), 0);
    assert_int_equal(write.result, sizeof bytes);
    assert_int_equal(read.result, sizeof bytes);
    assert_memory_equal(bytes, got, sizeof bytes);
    weir_op_write(&write, fds[1], bytes, 100, 0);
    close_file(loop, fds[0]);
    assert_int_equal(carry_out(loop, &write), -EPIPE);
}

static void files_are_made_written_read_and_named(void **state)
{
    (void)state;
    char text[32];
    struct weir_op op = {0};
    struct statx stat = {0};
    weir_op_mkdirat(&op, AT_FDCWD, "/dir", 0755);
    assert_int_equal(carry_out(loop, &op), 0);
    int dir = open_file(loop, "/dir", O_RDONLY | O_DIRECTORY);
    weir_op_openat(&op, dir, "file", O_RDWR | O_CREAT | O_EXCL, 0600);
    int file = (int)carry_out(loop, &op);
    assert_true(file > dir);
    assert_int_equal(carry_out(loop, &op), -EEXIST);
    assert_int_equal(write_text(loop, file, "first second", 0), 12);
    assert_int_equal(sync_file(loop, file), 0);
    weir_op_fdatasync(&op, file);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_sync_file_range(&op, file, 0, 0, SYNC_FILE_RANGE_WRITE);
    assert_int_equal(carry_out(loop, &op), 0);
    assert_int_equal(read_text(loop, file, text, sizeof text, 6), 6);
    assert_string_equal(text, "second");
    weir_op_renameat(&op, dir, "file", AT_FDCWD, "/other", 0);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_linkat(&op, AT_FDCWD, "/other", dir, "again", 0);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_symlinkat(&op, "/dir/again", AT_FDCWD, "/link");
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_ftruncate(&op, file, 5);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_fallocate(&op, file, FALLOC_FL_KEEP_SIZE, 0, 10000);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_fadvise(&op, file, 0, 0, POSIX_FADV_DONTNEED);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_statx(&op, AT_FDCWD, "/link", 0, STATX_BASIC_STATS, &stat);
    assert_int_equal(carry_out(loop, &op), 0);
    assert_int_equal(stat.stx_size, 5);
    assert_int_equal(stat.stx_nlink, 2);
    weir_op_unlinkat(&op, AT_FDCWD, "/link", 0);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_unlinkat(&op, AT_FDCWD, "/nothing", 0);
    assert_int_equal(carry_out(loop, &op), -ENOENT);
    weir_op_poll(&op, file, POLLIN | POLLOUT);
    assert_int_equal(carry_out(loop, &op), POLLIN | POLLOUT);
    assert_int_equal(close_file(loop, file), 0);
    assert_int_equal(close_file(loop, file), -EBADF);
}

static void vectors_positions_and_appends_are_kept(void **state)
{
    (void)state;
    char a[3] = "abc";
    char b[4] = "defg";
    char text[32];
    struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 4}};
    struct iovec back[] = {{b, 4}, {a, 3}};
    struct weir_op op = {0};
    int file = open_file(loop, "/vector", O_RDWR | O_CREAT);
    weir_op_writev(&op, file, iov, 3, WEIR_CURRENT);
    assert_int_equal(carry_out(loop, &op), 7);
    weir_op_readv(&op, file, back, 2, 0);
    assert_int_equal(carry_out(loop, &op), 7);
    assert_memory_equal(b, "abcd", 4);
    assert_memory_equal(a, "efg", 3);
    assert_int_equal(write_text(loop, file, "h", WEIR_CURRENT), 1);
    weir_op_write(&op, file, "i", 1, 0);
    op.rw_flags = RWF_APPEND | RWF_DSYNC;
    assert_int_equal(carry_out(loop, &op), 1);
    assert_int_equal(read_text(loop, file, text, sizeof text, 0), 9);
    assert_string_equal(text, "abcdefghi");
    weir_op_read(&op, file, (void *)8, 16, 0);
    assert_int_equal(carry_out(loop, &op), -EFAULT);
    int only = open_file(loop, "/vector", O_WRONLY | O_APPEND);
    weir_op_read(&op, only, text, 1, 0);
    assert_int_equal(carry_out(loop, &op), -EBADF);
    int null = open_file(loop, "/dev/null", O_RDWR);
    assert_int_equal(write_text(loop, null, "gone", 0), 4);
    assert_int_equal(read_text(loop, null, text, sizeof text, 0), 0);
}

static int make_socket(int domain, int type)
{
    struct weir_op op = {0};
    weir_op_socket(&op, domain, type, 0);
    return (int)carry_out(loop, &op);
}

static int listen_at(const void *address, socklen_t length, int domain)
{
    struct weir_op op = {0};
    int fd = make_socket(domain, SOCK_STREAM);
    int one = 1;
    weir_op_setsockopt(&op, fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_bind(&op, fd, address, length);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_listen(&op, fd, 1);
    assert_int_equal(carry_out(loop, &op), 0);
    return fd;
}

/* Connects to a listener, and talks. */
static void talk(const void *address, socklen_t length, int domain)
{
    struct sockaddr_storage peer = {0};
    socklen_t peer_length = sizeof peer;
    struct weir_op op = {0};
    struct weir_op accept = {0};
    int accepted;
    char text[16];
    int listener = listen_at(address, length, domain);
    weir_op_accept(&accept, listener, (struct sockaddr *)&peer, &peer_length, 0);
    start(loop, &accept, &accepted);
    int client = make_socket(domain, SOCK_STREAM);
    weir_op_connect(&op, client, address, length);
    assert_int_equal(carry_out(loop, &op), 0);
    int server = (int)await(loop, &accept, &accepted);
    assert_true(server > client);
    assert_int_equal(peer.ss_family, domain);
    weir_op_send(&op, client, "question", 8, 0);
    assert_int_equal(carry_out(loop, &op), 8);
    weir_op_recv(&op, server, text, 8, MSG_WAITALL);
    assert_int_equal(carry_out(loop, &op), 8);
    assert_memory_equal(text, "question", 8);
    weir_op_shutdown(&op, client, SHUT_WR);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_poll(&op, server, POLLRDHUP);
    assert_int_equal(carry_out(loop, &op), POLLRDHUP);
    weir_op_recv(&op, server, text, sizeof text, 0);
    assert_int_equal(carry_out(loop, &op), 0);
    assert_int_equal(write_text(loop, server, "answer", 0), 6);
    assert_int_equal(read_text(loop, client, text, sizeof text, 0), 6);
    assert_string_equal(text, "answer");
    close_file(loop, server);
    close_file(loop, listener);
    assert_int_equal(read_text(loop, client, text, sizeof text, 0), 0);
    close_file(loop, client);
    client = make_socket(domain, SOCK_STREAM);
    weir_op_connect(&op, client, address, length);
    assert_int_equal(carry_out(loop, &op), -ECONNREFUSED);
    close_file(loop, client);
}

static void tcp_connects_half_closes_and_refuses(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address6.sin6_addr = in6addr_loopback;
    talk(&address, sizeof address, AF_INET);
    talk(&address, sizeof address, AF_INET); /* the port is free again */
    talk(&address6, sizeof address6, AF_INET6);
}

static void unix_sockets_are_found_by_their_path(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/socket"};
    struct weir_op op = {0};
    talk(&address, sizeof address, AF_UNIX);
    int second = make_socket(AF_UNIX, SOCK_STREAM);
    weir_op_bind(&op, second, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(carry_out(loop, &op), -EADDRINUSE); /* its name is still there */
    weir_op_unlinkat(&op, AT_FDCWD, "/socket", 0);
    assert_int_equal(carry_out(loop, &op), 0);
    weir_op_connect(&op, second, (struct sockaddr *)&address, sizeof address);
    assert_int_equal(carry_out(loop, &op), -ENOENT);
    talk(&address, sizeof address, AF_UNIX);
}

static void messages_keep_their_borders_and_names(void **state)
{
    (void)state;
    int fds[2];
    char text[4];
    char whole[32];
    struct weir_op op = {0};
    assert_int_equal(weir_sim_socketpair(sim, SOCK_SEQPACKET, fds), 0);
    weir_op_send(&op, fds[0], "one", 3, 0);
    assert_int_equal(carry_out(loop, &op), 3);
    weir_op_send(&op, fds[0], "longer", 6, 0);
    assert_int_equal(carry_out(loop, &op), 6);
    weir_op_recv(&op, fds[1], whole, sizeof whole, 0);
    assert_int_equal(carry_out(loop, &op), 3);
    weir_op_recv(&op, fds[1], text, sizeof text, MSG_TRUNC | MSG_PEEK);
    assert_int_equal(carry_out(loop, &op), 6);
    struct iovec iov = {text, sizeof text};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    weir_op_recvmsg(&op, fds[1], &message, 0);
    assert_int_equal(carry_out(loop, &op), 4);
    assert_int_equal(message.msg_flags, MSG_TRUNC);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in from = {0};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = make_socket(AF_INET, SOCK_DGRAM);
    int other = make_socket(AF_INET, SOCK_DGRAM);
    weir_op_bind(&op, one, (struct sockaddr *)&to, sizeof to);
    assert_int_equal(carry_out(loop, &op), 0);
    iov = (struct iovec){"datagram", 8};
    message = (struct msghdr){&to, sizeof to, &iov, 1, NULL, 0, 0};
    weir_op_sendmsg(&op, other, &message, 0);
    assert_int_equal(carry_out(loop, &op), 8);
    iov = (struct iovec){whole, sizeof whole};
    message = (struct msghdr){&from, sizeof from, &iov, 1, NULL, 0, 0};
    weir_op_recvmsg(&op, one, &message, 0);
    assert_int_equal(carry_out(loop, &op), 8);
    assert_int_equal(from.sin_family, AF_INET);
    assert_true(ntohs(from.sin_port) >= 32768);
}

static void splice_moves_between_pipe_file_and_socket(void **state)
{
    (void)state;
    int fds[2];
    int ends[2];
    char text[16];
    struct weir_op op = {0};
    int file = open_file(loop, "/splice", O_RDWR | O_CREAT);
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    assert_int_equal(write_text(loop, file, "0123456789", 0), 10);
    weir_op_splice(&op, file, 2, fds[1], WEIR_CURRENT, 5, 0);
    assert_int_equal(carry_out(loop, &op), 5);
    weir_op_splice(&op, fds[0], WEIR_CURRENT, ends[0], WEIR_CURRENT, 100, 0);
    assert_int_equal(carry_out(loop, &op), 5);
    assert_int_equal(read_text(loop, ends[1], text, sizeof text, 0), 5);
    assert_string_equal(text, "23456");
    weir_op_splice(&op, file, 0, file, 0, 5, 0);
    assert_int_equal(carry_out(loop, &op), -EINVAL);
}

static void signals_and_children_are_refused(void **state)
{
    (void)state;
    struct weir_op op = {0};
    weir_op_signal(&op, WEIR_SIGNAL(15), NULL);
    assert_int_equal(carry_out(loop, &op), -EOPNOTSUPP);
    weir_op_child(&op, 1, NULL);
    assert_int_equal(carry_out(loop, &op), -EOPNOTSUPP);
}

static void a_full_table_of_fds_is_EMFILE(void **state)
{
    (void)state;
    int fds[2];
    weir_sim_limit_fds(sim, weir_sim_fds(sim) + 1);
    assert_int_equal(weir_sim_pipe(sim, fds, 0), -EMFILE);
    int file = open_file(loop, "/last", O_RDWR | O_CREAT);
    assert_true(file >= 0);
    assert_int_equal(open_file(loop, "/more", O_RDWR | O_CREAT), -EMFILE);
    assert_int_equal(make_socket(AF_INET, SOCK_STREAM), -EMFILE);
    close_file(loop, file);
    assert_int_equal(open_file(loop, "/last", O_RDONLY), file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_nop_a_timer_and_a_call_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pipe_carries_bytes_and_then_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_writes_to_a_full_pipe_waits_for_its_reader, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(files_are_made_written_read_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_positions_and_appends_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tcp_connects_half_closes_and_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_sockets_are_found_by_their_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_keep_their_borders_and_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(splice_moves_between_pipe_file_and_socket, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(signals_and_children_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_table_of_fds_is_EMFILE, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
