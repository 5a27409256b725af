/* SPDX-License-Identifier: MIT */
/* kinds_sockets.c: the kinds of sockets, end to end, over the loopback and AF_UNIX. */
#include "seam.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/un.h>

/* A listening socket, made by ops; *ret_address is where it listens. */
static int serve(struct weir_loop *loop, struct sockaddr_in *ret_address)
{
    struct tracked op = {0};
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    weir_op_socket(&op.op, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int server = (int)seam_carry_out(loop, &op);
    expect(server >= 0);
    expect_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
    expect(fcntl(server, F_GETFL) & O_NONBLOCK);
    weir_op_setsockopt(&op.op, server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_bind(&op.op, server, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_listen(&op.op, server, 8);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(getsockname(server, (struct sockaddr *)&address, &length), 0);
    *ret_address = address;
    return server;
}

static void close_by_op(struct weir_loop *loop, int fd)
{
    struct tracked op = {0};
    weir_op_close(&op.op, fd);
    expect_equal(seam_carry_out(loop, &op), 0);
}

SEAM_TEST(a_server_and_a_client_are_made_of_ops_alone)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    struct tracked accept = {0};
    struct sockaddr_in address;
    struct sockaddr_in peer = {0};
    socklen_t peer_length = sizeof peer;
    int server = serve(loop, &address);
    weir_op_accept(&accept.op, server, (struct sockaddr *)&peer, &peer_length,
                   SOCK_CLOEXEC | SOCK_NONBLOCK);
    seam_submit(loop, &accept);
    weir_op_socket(&op.op, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = (int)seam_carry_out(loop, &op);
    weir_op_connect(&op.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_await(loop, &accept);
    int accepted = (int)accept.result;
    expect(accepted >= 0);
    expect_equal(fcntl(accepted, F_GETFD), FD_CLOEXEC);
    expect(fcntl(accepted, F_GETFL) & O_NONBLOCK);
    socklen_t length = sizeof address;
    expect_equal(getsockname(client, (struct sockaddr *)&address, &length), 0);
    expect_equal(peer_length, sizeof peer);
    expect_equal(peer.sin_port, address.sin_port);
    expect_equal(peer.sin_addr.s_addr, address.sin_addr.s_addr);
    weir_op_send(&op.op, client, "ping", 4, 0);
    expect_equal(seam_carry_out(loop, &op), 4);
    weir_op_recv(&op.op, accepted, op.data, sizeof op.data, 0);
    expect_equal(seam_carry_out(loop, &op), 4);
    expect(memcmp(op.data, "ping", 4) == 0);
    weir_op_shutdown(&op.op, accepted, SHUT_WR);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_recv(&op.op, client, op.data, sizeof op.data, 0);
    expect_equal(seam_carry_out(loop, &op), 0);
    close_by_op(loop, client);
    close_by_op(loop, accepted);
    close_by_op(loop, server);
    seam_end(loop);
}

SEAM_TEST(socket_bind_listen_and_setsockopt_answer_the_kernels_errors)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    struct sockaddr_in address;
    int taken = seam_listener(0, &address);
    int one = 1;
    weir_op_socket(&op.op, AF_INET, 99, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_socket(&op.op, 9999, SOCK_STREAM, 0);
    expect_equal(seam_carry_out(loop, &op), -EAFNOSUPPORT);
    weir_op_socket(&op.op, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = (int)seam_carry_out(loop, &op);
    expect(fd >= 0);
    weir_op_bind(&op.op, fd, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), -EADDRINUSE);
    weir_op_bind(&op.op, 0x7fffffff, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    weir_op_listen(&op.op, -1, 1);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    weir_op_setsockopt(&op.op, fd, SOL_SOCKET, 9999, &one, sizeof one);
    expect_equal(seam_carry_out(loop, &op), -ENOPROTOOPT);
    weir_op_setsockopt(&op.op, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    expect_equal(seam_carry_out(loop, &op), 0);
    int value = 0;
    socklen_t length = sizeof value;
    expect_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length), 0);
    expect_equal(value, 1);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    weir_op_listen(&op.op, null, 1);
    expect_equal(seam_carry_out(loop, &op), -ENOTSOCK);
    weir_op_setsockopt(&op.op, null, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    expect_equal(seam_carry_out(loop, &op), -ENOTSOCK);
    close(null);
    close(fd);
    close(taken);
    seam_end(loop);
}

SEAM_TEST(accept_recv_send_and_shutdown_answer_the_kernels_errors)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    int loose = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    weir_op_accept(&op.op, sockets.in, NULL, NULL, 0);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_recv(&op.op, loose, op.data, 1, 0);
    expect_equal(seam_carry_out(loop, &op), -ENOTCONN);
    weir_op_shutdown(&op.op, loose, SHUT_RDWR);
    expect_equal(seam_carry_out(loop, &op), -ENOTCONN);
    weir_op_shutdown(&op.op, sockets.in, 77);
    expect_equal(seam_carry_out(loop, &op), -EINVAL);
    weir_op_recv(&op.op, -1, op.data, 1, 0);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    weir_op_send(&op.op, null, op.data, 1, 0);
    expect_equal(seam_carry_out(loop, &op), -ENOTSOCK);
    weir_op_accept(&op.op, null, NULL, NULL, 0);
    expect_equal(seam_carry_out(loop, &op), -ENOTSOCK);
    close(null);
    close(loose);
    seam_pair_close(&sockets);
    seam_end(loop);
}

SEAM_TEST(MSG_flags_reach_the_kernel)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    seam_write(sockets.out, "abc", 3);
    weir_op_recv(&op.op, sockets.in, op.data, 2, MSG_PEEK);
    expect_equal(seam_carry_out(loop, &op), 2);
    weir_op_recv(&op.op, sockets.in, op.data, sizeof op.data, 0);
    expect_equal(seam_carry_out(loop, &op), 3);
    struct seam_pair datagrams = seam_socketpair(SOCK_DGRAM);
    weir_op_send(&op.op, datagrams.out, "0123456789", 10, 0);
    expect_equal(seam_carry_out(loop, &op), 10);
    weir_op_recv(&op.op, datagrams.in, op.data, 4, MSG_TRUNC);
    expect_equal(seam_carry_out(loop, &op), 10);
    seam_pair_close(&sockets);
    seam_pair_close(&datagrams);
    seam_end(loop);
}

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static void put_fd(struct msghdr *message, union control *control, int fd)
{
    memset(control, 0, sizeof *control);
    message->msg_control = control;
    message->msg_controllen = sizeof control->space;
    control->header.cmsg_level = SOL_SOCKET;
    control->header.cmsg_type = SCM_RIGHTS;
    control->header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control->header), &fd, sizeof fd);
}

static void pass_fd(struct weir_loop *loop, unsigned flags)
{
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {.op.flags = flags};
    char text[] = "fd";
    char got[2];
    union control out;
    union control in;
    struct iovec iov = {text, 2};
    struct iovec iov_in = {got, 2};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct msghdr received = {
        .msg_iov = &iov_in, .msg_iovlen = 1, .msg_control = &in, .msg_controllen = sizeof in.space};
    put_fd(&message, &out, pipe.out);
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    if (seam_simulates()) { /* it passes no fds, and says so */
        expect_equal(seam_carry_out(loop, &op), -EOPNOTSUPP);
        seam_pair_close(&pipe);
        seam_pair_close(&sockets);
        return;
    }
    expect_equal(seam_carry_out(loop, &op), 2);
    weir_op_recvmsg(&op.op, sockets.in, &received, MSG_CMSG_CLOEXEC);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect(memcmp(got, "fd", 2) == 0);
    expect_equal(received.msg_controllen, sizeof in.space);
    expect_equal(in.header.cmsg_type, SCM_RIGHTS);
    int passed;
    memcpy(&passed, CMSG_DATA(&in.header), sizeof passed);
    seam_write(passed, "z", 1);
    char byte;
    seam_read(pipe.in, &byte, 1);
    expect_equal(byte, 'z');
    close(passed);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
}

SEAM_TEST(sendmsg_and_recvmsg_pass_an_fd)
{
    struct weir_loop *loop = seam_loop();
    pass_fd(loop, 0);
    seam_end(loop);
}

SEAM_TEST(whole_sendmsg_and_recvmsg_pass_an_fd_with_their_first_part)
{
    struct weir_loop *loop = seam_loop();
    pass_fd(loop, WEIR_WHOLE);
    seam_end(loop);
}

SEAM_TEST(datagrams_carry_their_senders_name)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    int fds[2];
    struct sockaddr_in names[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        names[i] = (struct sockaddr_in){.sin_family = AF_INET};
        names[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof names[i];
        expect_equal(bind(fds[i], (struct sockaddr *)&names[i], sizeof names[i]), 0);
        expect_equal(getsockname(fds[i], (struct sockaddr *)&names[i], &length), 0);
    }
    char text[] = "hi";
    struct iovec iov = {text, 2};
    struct msghdr message = {
        .msg_name = &names[1], .msg_namelen = sizeof names[1], .msg_iov = &iov, .msg_iovlen = 1};
    weir_op_sendmsg(&op.op, fds[0], &message, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    struct sockaddr_in from = {0};
    struct iovec iov_in = {op.data, sizeof op.data};
    struct msghdr received = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov_in, .msg_iovlen = 1};
    weir_op_recvmsg(&op.op, fds[1], &received, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect_equal(received.msg_namelen, sizeof from);
    expect_equal(from.sin_port, names[0].sin_port);
    close(fds[0]);
    close(fds[1]);
    seam_end(loop);
}

SEAM_TEST(a_big_recv_takes_what_is_there)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {0};
    static char data[100000];
    static char got[200000];
    seam_pattern(data, sizeof data, 0);
    seam_write(sockets.out, data, sizeof data);
    size_t done = 0;
    while (done < sizeof data) {
        weir_op_recv(&op.op, sockets.in, got + done, sizeof got - done, 0);
        int64_t result = seam_carry_out(loop, &op);
        expect(result > 0);
        done += (size_t)result;
    }
    expect_equal(done, sizeof data);
    expect(seam_pattern_holds(got, done, 0));
    seam_pair_close(&sockets);
    seam_end(loop);
}

static void fill_unix_address(struct sockaddr_un *address, const struct seam_dir *dir)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "%s/s", dir->path);
}

SEAM_TEST(unix_sockets_bind_connect_and_accept_by_path)
{
    struct weir_loop *loop = seam_loop();
    struct seam_dir dir;
    struct sockaddr_un address;
    struct tracked op = {0};
    struct tracked accept = {0};
    seam_dir_make(&dir);
    fill_unix_address(&address, &dir);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    weir_op_connect(&op.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    weir_op_bind(&op.op, server, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_connect(&op.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), -ECONNREFUSED); /* bound and not listening */
    weir_op_listen(&op.op, server, 4);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_accept(&accept.op, server, NULL, NULL, SOCK_CLOEXEC);
    seam_submit(loop, &accept);
    weir_op_connect(&op.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_await(loop, &accept);
    expect(accept.result >= 0);
    weir_op_connect(&op.op, client, (struct sockaddr *)&address, sizeof address);
    expect_equal(seam_carry_out(loop, &op), -EISCONN);
    close((int)accept.result);
    close(client);
    close(server);
    expect_equal(unlinkat(dir.fd, "s", 0), 0);
    seam_dir_remove(&dir);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_server_and_a_client_are_made_of_ops_alone),
    cmocka_unit_test(socket_bind_listen_and_setsockopt_answer_the_kernels_errors),
    cmocka_unit_test(accept_recv_send_and_shutdown_answer_the_kernels_errors),
    cmocka_unit_test(MSG_flags_reach_the_kernel),
    cmocka_unit_test(sendmsg_and_recvmsg_pass_an_fd),
    cmocka_unit_test(whole_sendmsg_and_recvmsg_pass_an_fd_with_their_first_part),
    cmocka_unit_test(datagrams_carry_their_senders_name),
    cmocka_unit_test(a_big_recv_takes_what_is_there),
    cmocka_unit_test(unix_sockets_bind_connect_and_accept_by_path),
};

const struct seam_group kinds_sockets_group = SEAM_GROUP("kinds_sockets", tests);
