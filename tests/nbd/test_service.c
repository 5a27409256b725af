/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/service.h as a service manager meets it. What is handed over stands in the
 * environment and at fixed fds, so each case is played in a child. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "service.h"

/* --- sockets that are handed over ------------------------------------------------------------- */

enum { CHILD_GOOD = 100 };

static void set_number(const char *name, long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    setenv(name, text, 1);
}

static void assert_child_good(bool (*play)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(play() ? CHILD_GOOD : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CHILD_GOOD);
}

/* Two of them, as execve() leaves them: open, and not closed on exec. */
static bool hand_over(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int high = fcntl(fd, F_DUPFD, 20);
    return high >= 20 && dup2(high, 3) == 3 && dup2(high, 4) == 4;
}

static bool closed_on_exec(int fd)
{
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static bool play_two(void)
{
    set_number("LISTEN_FDS", 2);
    set_number("LISTEN_PID", getpid());
    setenv("LISTEN_FDNAMES", "a:b", 1);
    return hand_over() && service_listen_fds() == 2 && closed_on_exec(3) && closed_on_exec(4) &&
           !getenv("LISTEN_FDS") && !getenv("LISTEN_PID") && !getenv("LISTEN_FDNAMES") &&
           service_listen_fds() == 0;
}

static bool play_anothers(void)
{
    set_number("LISTEN_FDS", 2);
    set_number("LISTEN_PID", getppid());
    return hand_over() && service_listen_fds() == 0 && !closed_on_exec(3) && !getenv("LISTEN_FDS");
}

static bool play_no_pid(void)
{
    set_number("LISTEN_FDS", 2);
    unsetenv("LISTEN_PID");
    return hand_over() && service_listen_fds() == 0 && !closed_on_exec(3);
}

static bool play_missing(void)
{
    set_number("LISTEN_FDS", 3);
    set_number("LISTEN_PID", getpid());
    bool good = hand_over();
    close(5);
    return good && service_listen_fds() == -EBADF;
}

static bool play_nonsense(void)
{
    for (const char *const *bad = (const char *[]){"", "two", "-1", "2x", "99999", NULL}; *bad;
         bad++) {
        setenv("LISTEN_FDS", *bad, 1);
        set_number("LISTEN_PID", getpid());
        if (service_listen_fds() != -EINVAL) {
            return false;
        }
    }
    return true;
}

static void sockets_meant_for_us_are_taken_once(void **state)
{
    (void)state;
    assert_child_good(play_two);
}

static void sockets_of_another_process_are_left_alone(void **state)
{
    (void)state;
    assert_child_good(play_anothers);
    assert_child_good(play_no_pid);
}

static void sockets_that_are_promised_have_to_be_there(void **state)
{
    (void)state;
    assert_child_good(play_missing);
    assert_child_good(play_nonsense);
}

/* --- what the manager hears ------------------------------------------------------------------- */

struct manager {
    char folder[32];
    struct sockaddr_un address;
    int fd;
};

static struct manager manager_open(const char *abstract)
{
    struct manager manager = {.folder = "/tmp/weir-XXXXXX", .address.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(manager.folder));
    char *path = manager.address.sun_path;
    int length = abstract ? snprintf(path, 100, "@%s-%d", abstract, getpid())
                          : snprintf(path, 100, "%s/notify", manager.folder);
    setenv("NOTIFY_SOCKET", path, 1);
    if (abstract) {
        path[0] = '\0';
    }
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(manager.fd, (struct sockaddr *)&manager.address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length)),
                     0);
    return manager;
}

static void manager_close(struct manager *manager)
{
    close(manager->fd);
    unlink(manager->address.sun_path);
    rmdir(manager->folder);
    unsetenv("NOTIFY_SOCKET");
}

static void assert_heard(struct manager *manager, const char *expected)
{
    char text[256] = "";
    assert_true(recv(manager->fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, expected);
}

static void a_state_is_one_datagram_at_a_path_or_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct manager manager = manager_open(i == 1 ? "weir-test-notify" : NULL);
        service_notify("READY=1\nSTATUS=serves");
        service_notify("WATCHDOG=1");
        assert_heard(&manager, "READY=1\nSTATUS=serves");
        assert_heard(&manager, "WATCHDOG=1");
        assert_int_equal(recv(manager.fd, (char[1]){0}, 1, 0), -1);
        manager_close(&manager);
    }
}

static void a_reload_tells_its_time(void **state)
{
    (void)state;
    struct manager manager = manager_open(NULL);
    struct timespec before;
    struct timespec after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    service_notify_reloading();
    clock_gettime(CLOCK_MONOTONIC, &after);
    char text[256] = "";
    long long us = 0;
    assert_true(recv(manager.fd, text, sizeof text - 1, 0) > 0);
    assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%lld", &us), 1);
    assert_true(us >= before.tv_sec * 1000000ll + before.tv_nsec / 1000);
    assert_true(us <= after.tv_sec * 1000000ll + after.tv_nsec / 1000);
    manager_close(&manager);
}

static void a_manager_that_is_not_there_or_does_not_read_stops_nobody(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    service_notify("READY=1");
    for (const char *const *bad =
             (const char *[]){"", "/", "@", "relative", "/nowhere/at/all", "vsock:1:2", NULL};
         *bad; bad++) {
        setenv("NOTIFY_SOCKET", *bad, 1);
        service_notify("READY=1");
    }
    char text[300];
    memset(text, '/', sizeof text);
    text[sizeof text - 1] = '\0';
    setenv("NOTIFY_SOCKET", text, 1);
    service_notify("READY=1");
    /* Its queue is full. Were we to wait for it, this test would not end. */
    struct manager manager = manager_open(NULL);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    while (sendto(fd, "x", 1, 0, (struct sockaddr *)&manager.address, sizeof manager.address) ==
           1) {
    }
    assert_int_equal(errno, EAGAIN);
    service_notify("READY=1");
    close(fd);
    manager_close(&manager);
}

static void the_watchdog_is_ours_or_nobodys(void **state)
{
    (void)state;
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(service_watchdog_ns(), 0);
    set_number("WATCHDOG_USEC", 2500000);
    assert_int_equal(service_watchdog_ns(), 2500000000ull);
    set_number("WATCHDOG_PID", getpid());
    assert_int_equal(service_watchdog_ns(), 2500000000ull);
    set_number("WATCHDOG_PID", getppid());
    assert_int_equal(service_watchdog_ns(), 0);
    unsetenv("WATCHDOG_PID");
    setenv("WATCHDOG_USEC", "18446744073709551615", 1);
    assert_int_equal(service_watchdog_ns(), 0);
    setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(service_watchdog_ns(), 0);
    unsetenv("WATCHDOG_USEC");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_meant_for_us_are_taken_once),
        cmocka_unit_test(sockets_of_another_process_are_left_alone),
        cmocka_unit_test(sockets_that_are_promised_have_to_be_there),
        cmocka_unit_test(a_state_is_one_datagram_at_a_path_or_a_name),
        cmocka_unit_test(a_reload_tells_its_time),
        cmocka_unit_test(a_manager_that_is_not_there_or_does_not_read_stops_nobody),
        cmocka_unit_test(the_watchdog_is_ours_or_nobodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
