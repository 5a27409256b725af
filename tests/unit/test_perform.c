/* SPDX-License-Identifier: MIT */
/* engine/op/perform.h: tries that do not block and do not change the fd; what cannot be tried. */
#include "unit.h"

#include <engine/op/perform.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct weir_op op;
static char data[65536];

static int64_t attempt(void)
{
    return weir_op_perform(&op, WEIR_HOW_TRY, 0);
}

static int64_t block(void)
{
    return weir_op_perform(&op, WEIR_HOW_BLOCK, 0);
}

static int reset(void **state)
{
    (void)state;
    memset(&op, 0, sizeof op);
    alarm(60); /* a try that blocks */
    return 0;
}

static void open_pipe(int ends[2])
{
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

static void close_both(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void a_try_of_a_blocking_pipe_or_socket_answers_EAGAIN(void **state)
{
    (void)state;
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    weir_op_recv(&op, sockets[0], data, 1, 0);
    assert_int_equal(attempt(), -EAGAIN);
    weir_op_read(&op, sockets[0], data, 1, 0);
    assert_int_equal(attempt(), -EAGAIN);
    int64_t sent = 0;
    for (int i = 0; i < 1000 && sent >= 0; i++) {
        weir_op_send(&op, sockets[0], data, sizeof data, 0);
        sent = attempt();
    }
    assert_int_equal(sent, -EAGAIN);
    assert_false(fcntl(sockets[0], F_GETFL) & O_NONBLOCK);
    close_both(sockets);
    int ends[2];
    open_pipe(ends);
    weir_op_read(&op, ends[0], data, 1, WEIR_CURRENT);
    int64_t got = attempt();
    assert_true(got == -EAGAIN || got == -EOPNOTSUPP); /* pipes: since Linux 6.5 */
    weir_op_splice(&op, ends[0], WEIR_CURRENT, ends[1], WEIR_CURRENT, 1, 0);
    assert_true(attempt() < 0);
    close_both(ends);
}

static void what_has_no_position_ignores_the_offset(void **state)
{
    (void)state;
    int ends[2];
    open_pipe(ends);
    weir_op_write(&op, ends[1], "abc", 3, 12345);
    assert_int_equal(block(), 3);
    struct iovec iov = {data, 8};
    weir_op_readv(&op, ends[0], &iov, 1, 12345);
    assert_int_equal(block(), 3);
    assert_memory_equal(data, "abc", 3);
    close_both(ends);
}

static void a_try_of_a_file_gives_all_of_it_or_nothing(void **state)
{
    (void)state;
    char path[] = "weir-perform-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, data, 10000), 10000);
    weir_op_read(&op, fd, data, 4096, 100);
    int64_t got = attempt();
    assert_true(got == 4096 || got == -EAGAIN || got == -EOPNOTSUPP);
    weir_op_read(&op, fd, data, 4096, 9000); /* to the end of the file */
    got = attempt();
    assert_true(got == 1000 || got == -EAGAIN || got == -EOPNOTSUPP);
    weir_op_read(&op, fd, data, 4096, 9000);
    assert_int_equal(block(), 1000);
    weir_op_ftruncate(&op, fd, 5);
    assert_int_equal(attempt(), -EOPNOTSUPP);
    assert_int_equal(block(), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 5);
    weir_op_fadvise(&op, fd, 0, 0, 12345);
    assert_int_equal(block(), -EINVAL);
    weir_op_close(&op, fd);
    assert_int_equal(attempt(), -EOPNOTSUPP);
    assert_int_equal(block(), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* The cache holds its first page, and no more of it. False: not on this file system. */
static bool cool_down(int fd)
{
    struct iovec all = {data, sizeof data};
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0); /* reads none ahead */
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    assert_int_equal(pread(fd, data, 1, 0), 1);
    ssize_t got = preadv2(fd, &all, 1, 0, RWF_NOWAIT);
    return got > 0 && got < (ssize_t)sizeof data;
}

static void a_try_that_stops_where_the_page_cache_does_is_no_short_read(void **state)
{
    (void)state;
    char path[] = "weir-perform-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, data, sizeof data), sizeof data);
    if (!cool_down(fd)) {
        close(fd);
        skip();
    }
    /* A try that finds the rest missing may have it read all the same: by the next it may be there,
     * but never a part of it. */
    weir_op_read(&op, fd, data, sizeof data, 0);
    int64_t got = attempt();
    assert_true(got == -EAGAIN || got == (int64_t)sizeof data);
    weir_op_read(&op, fd, data, 4096, 0);
    assert_int_equal(attempt(), 4096);
    op.flags = WEIR_WHOLE; /* keeps what is there, and goes on */
    weir_op_read(&op, fd, data, sizeof data, 0);
    got = attempt();
    assert_true(got > 0 && got <= (int64_t)sizeof data);
    assert_int_equal(block(), sizeof data);
    close(fd);
}

static void a_blocking_listener_cannot_be_tried_and_what_does_not_listen_can(void **state)
{
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    weir_op_accept(&op, listener, NULL, NULL, 0);
    assert_int_equal(attempt(), -EINVAL);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(attempt(), -EOPNOTSUPP);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(attempt(), -EAGAIN);
    close(listener);
    weir_op_accept(&op, -1, NULL, NULL, 0);
    assert_int_equal(attempt(), -EBADF);
    int counter = eventfd(0, EFD_CLOEXEC);
    weir_op_accept(&op, counter, NULL, NULL, 0);
    assert_int_equal(attempt(), -ENOTSOCK);
    close(counter);
}

static void a_try_of_connect_on_a_blocking_socket_leaves_it_blocking(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(listen(listener, 0), 0);
    int64_t last = 0;
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        weir_op_connect(&op, fd, (struct sockaddr *)&address, length);
        last = attempt();
        assert_int_equal(last, i == 0 ? 0 : -EAGAIN); /* the backlog holds one */
        assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
        close(fd);
    }
    close(listener);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void a_splice_into_a_broken_pipe_raises_nothing(void **state)
{
    (void)state;
    int from[2];
    int to[2];
    struct sigaction counting = {.sa_handler = count_signal};
    struct sigaction before;
    assert_int_equal(sigaction(SIGPIPE, &counting, &before), 0);
    open_pipe(from);
    open_pipe(to);
    close(to[0]);
    assert_int_equal(write(from[1], "a", 1), 1);
    weir_op_splice(&op, from[0], WEIR_CURRENT, to[1], WEIR_CURRENT, 1, 0);
    assert_int_equal(attempt(), -EPIPE);
    assert_int_equal(signals, 0);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    close_both(from);
    close(to[1]);
}

static void a_poll_answers_what_is_there(void **state)
{
    (void)state;
    int counter = eventfd(0, EFD_CLOEXEC);
    weir_op_poll(&op, counter, POLLIN);
    assert_int_equal(attempt(), -EAGAIN);
    weir_op_poll(&op, counter, POLLIN | POLLOUT);
    assert_int_equal(attempt(), POLLOUT);
    close(counter);
    assert_int_equal(attempt(), -EBADF);
    weir_op_poll(&op, -1, POLLIN);
    assert_int_equal(attempt(), -EBADF);
}

static int64_t half(void *argument)
{
    return *(int64_t *)argument / 2;
}

static void a_call_answers_what_its_function_returns(void **state)
{
    (void)state;
    int64_t number = -84;
    weir_op_call(&op, half, &number);
    assert_int_equal(attempt(), -EOPNOTSUPP);
    assert_int_equal(block(), -42);
}

static void a_signal_is_taken_once(void **state)
{
    (void)state;
    sigset_t set;
    sigset_t before;
    struct signalfd_siginfo info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    weir_op_signal(&op, WEIR_SIGNAL(SIGUSR1) | WEIR_SIGNAL(SIGUSR2), &info);
    op.fd = weir_op_make_own_fd(&op);
    assert_true(op.fd >= 0);
    assert_int_equal(attempt(), -EAGAIN);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(attempt(), SIGUSR1);
    assert_int_equal(info.ssi_signo, SIGUSR1);
    assert_int_equal(attempt(), -EAGAIN);
    close(op.fd);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static void a_child_is_reaped_when_it_has_ended(void **state)
{
    (void)state;
    struct weir_exit end = {0};
    int ends[2];
    open_pipe(ends);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 7 : 8);
    }
    assert_true(pid > 0);
    weir_op_child(&op, pid, &end);
    op.fd = weir_op_make_own_fd(&op);
    assert_true(op.fd >= 0);
    assert_int_equal(attempt(), -EAGAIN);
    close_both(ends);
    struct pollfd ended = {.fd = op.fd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, -1), 1);
    assert_int_equal(attempt(), 0);
    assert_int_equal(end.code, CLD_EXITED);
    assert_int_equal(end.status, 7);
    assert_int_equal(attempt(), -ECHILD);
    close(op.fd);
    weir_op_child(&op, 1, &end); /* no child of ours */
    assert_int_equal(weir_op_make_own_fd(&op), -ECHILD);
}

#define PERFORM_TEST(test) cmocka_unit_test_setup(test, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PERFORM_TEST(a_try_of_a_blocking_pipe_or_socket_answers_EAGAIN),
        PERFORM_TEST(what_has_no_position_ignores_the_offset),
        PERFORM_TEST(a_try_of_a_file_gives_all_of_it_or_nothing),
        PERFORM_TEST(a_try_that_stops_where_the_page_cache_does_is_no_short_read),
        PERFORM_TEST(a_blocking_listener_cannot_be_tried_and_what_does_not_listen_can),
        PERFORM_TEST(a_try_of_connect_on_a_blocking_socket_leaves_it_blocking),
        PERFORM_TEST(a_splice_into_a_broken_pipe_raises_nothing),
        PERFORM_TEST(a_poll_answers_what_is_there),
        PERFORM_TEST(a_call_answers_what_its_function_returns),
        PERFORM_TEST(a_signal_is_taken_once),
        PERFORM_TEST(a_child_is_reaped_when_it_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
