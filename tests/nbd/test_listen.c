/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/listen.h: who may take an address, and the URI by which it is found. */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"

static char folder[] = "/tmp/weir-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/s", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int connected(const char *to)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", to);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int result = connect(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
    return result;
}

static void assert_listens(int fd)
{
    int yes = 0;
    socklen_t length = sizeof yes;
    assert_true(fd >= 0);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &length), 0);
    assert_int_equal(yes, 1);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void a_socket_that_nobody_listens_at_is_replaced(void **state)
{
    (void)state;
    int first = listen_unix(path);
    assert_listens(first);
    close(first); /* as if killed: the path stays */
    assert_int_equal(access(path, F_OK), 0);
    int second = listen_unix(path);
    assert_listens(second);
    assert_int_equal(connected(path), 0);
    close(second);
    unlink(path);
}

static void a_socket_that_somebody_listens_at_is_not(void **state)
{
    (void)state;
    int first = listen_unix(path);
    assert_int_equal(listen_unix(path), -EADDRINUSE);
    assert_int_equal(connected(path), 0);
    /* Nor when so many are waiting there that no more may. */
    assert_int_equal(listen(first, 0), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int waiting[8];
    int last = 0;
    for (size_t i = 0; i < COUNT_OF(waiting); i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        last = connect(waiting[i], (struct sockaddr *)&address, sizeof address);
    }
    assert_true(last < 0 && errno == EAGAIN);
    assert_int_equal(listen_unix(path), -EADDRINUSE);
    for (size_t i = 0; i < COUNT_OF(waiting); i++) {
        close(waiting[i]);
    }
    close(first);
    unlink(path);
}

static void what_is_no_socket_stays(void **state)
{
    (void)state;
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(file, "precious", 8), 8);
    close(file);
    assert_int_equal(listen_unix(path), -ENOTSOCK);
    char link_path[80];
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(symlink(path, link_path), 0);
    assert_int_equal(listen_unix(link_path), -ENOTSOCK);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 8);
    unlink(path);
    close(listen_unix(path)); /* the link leads to a socket that could be replaced */
    assert_int_equal(listen_unix(link_path), -ENOTSOCK);
    unlink(link_path);
    unlink(path);
    assert_int_equal(listen_unix(folder), -ENOTSOCK);
}

static void a_path_has_to_fit_and_its_folder_to_be_there(void **state)
{
    (void)state;
    char longer[109];
    memset(longer, 'x', sizeof longer);
    longer[108] = '\0';
    assert_int_equal(listen_unix(longer), -ENAMETOOLONG);
    assert_int_equal(listen_unix("/nowhere/s"), -ENOENT);
    assert_int_equal(listen_unix(""), -ENOENT);
}

static void any_free_port_is_found_and_taken_once(void **state)
{
    (void)state;
    int fds[4];
    assert_int_equal(listen_tcp("127.0.0.1", "0", fds, COUNT_OF(fds)), 1);
    assert_listens(fds[0]);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    assert_int_equal(getsockname(fds[0], (struct sockaddr *)&address, &length), 0);
    char port[8];
    char expected[64];
    char uri[64];
    snprintf(port, sizeof port, "%u", ntohs(address.sin_port));
    snprintf(expected, sizeof expected, "nbd://127.0.0.1:%s", port);
    assert_int_equal(listen_uri(fds[0], false, "", uri, sizeof uri), 0);
    assert_string_equal(uri, expected);
    snprintf(expected, sizeof expected, "nbds://127.0.0.1:%s/a/b%%20c", port);
    assert_int_equal(listen_uri(fds[0], true, "a/b c", uri, sizeof uri), 0);
    assert_string_equal(uri, expected);
    assert_int_equal(listen_tcp("127.0.0.1", port, fds + 1, 3), -EADDRINUSE);
    close(fds[0]);
    assert_int_equal(listen_tcp("127.0.0.1", port, fds, 1), 1);
    close(fds[0]);
}

static void a_name_is_listened_at_by_every_address_it_has(void **state)
{
    (void)state;
    int fds[8];
    int count = listen_tcp("localhost", "0", fds, COUNT_OF(fds));
    assert_true(count >= 1);
    for (int i = 0; i < count; i++) {
        char uri[128];
        assert_listens(fds[i]);
        assert_int_equal(listen_uri(fds[i], false, "", uri, sizeof uri), 0);
        assert_true(strncmp(uri, "nbd://127.", 10) == 0 || strncmp(uri, "nbd://[::1]:", 12) == 0);
        close(fds[i]);
    }
    /* No more than are wanted; none of a machine that is elsewhere (RFC 5737), or not at all. */
    assert_int_equal(listen_tcp("localhost", "0", fds, 1), 1);
    close(fds[0]);
    assert_int_equal(listen_tcp("192.0.2.1", "0", fds, COUNT_OF(fds)), -EADDRNOTAVAIL);
    assert_int_equal(listen_tcp("no..name", "0", fds, COUNT_OF(fds)), -EADDRNOTAVAIL);
}

static void a_socket_of_ipv6_leaves_ipv4_alone(void **state)
{
    (void)state;
    int fd;
    int result = listen_tcp("::", "0", &fd, 1);
    if (result == -EADDRNOTAVAIL || result == -EAFNOSUPPORT) {
        print_message("no IPv6 here\n");
        skip();
    }
    assert_int_equal(result, 1);
    int only = 0;
    assert_int_equal(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &(socklen_t){sizeof only}),
                     0);
    assert_int_equal(only, 1);
    char uri[128];
    unsigned port;
    assert_int_equal(listen_uri(fd, false, "x", uri, sizeof uri), 0);
    assert_int_equal(sscanf(uri, "nbd://[::]:%u/x", &port), 1);
    close(fd);
}

static void a_path_of_any_bytes_becomes_a_uri(void **state)
{
    (void)state;
    char odd[64];
    char expected[256];
    char uri[256];
    snprintf(odd, sizeof odd, "%s/a b&c?d#e%%f+\xc3\xa9", folder);
    int fd = listen_unix(odd);
    assert_listens(fd);
    snprintf(expected, sizeof expected,
             "nbds+unix:///n%%3D1%%3F?socket=%s/a%%20b%%26c%%3Fd%%23e%%25f%%2B%%C3%%A9", folder);
    assert_int_equal(listen_uri(fd, true, "n=1?", uri, sizeof uri), 0);
    assert_string_equal(uri, expected);
    size_t exact = strlen(expected) + 1;
    assert_int_equal(listen_uri(fd, true, "n=1?", uri, exact), 0);
    assert_int_equal(listen_uri(fd, true, "n=1?", uri, exact - 1), -ENAMETOOLONG);
    assert_int_equal(listen_uri(fd, true, "n=1?", uri, 1), -ENAMETOOLONG);
    close(fd);
    unlink(odd);
}

static void a_relative_path_becomes_absolute_in_the_uri(void **state)
{
    (void)state;
    char before[PATH_MAX];
    char uri[256];
    char expected[256];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    int fd = listen_unix("s");
    assert_listens(fd);
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%s/s", folder);
    assert_int_equal(listen_uri(fd, false, "", uri, sizeof uri), 0);
    assert_string_equal(uri, expected);
    close(fd);
    unlink("s");
    assert_int_equal(chdir(before), 0);
}

/* A path may fill all of its field, without a zero behind it. */
static void the_longest_path_is_whole(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = sizeof address.sun_path;
    memset(address.sun_path, 'x', size);
    memcpy(address.sun_path, folder, strlen(folder));
    address.sun_path[strlen(folder)] = '/';
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    char expected[256];
    char uri[256];
    snprintf(expected, sizeof expected, "nbd+unix:///?socket=%.*s", (int)size, address.sun_path);
    assert_int_equal(listen_uri(fd, false, "", uri, sizeof uri), 0);
    assert_string_equal(uri, expected);
    close(fd);
    unlink(expected + strlen("nbd+unix:///?socket="));
}

static void what_has_no_uri_is_said(void **state)
{
    (void)state;
    char uri[64];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(listen_uri(fd, false, "", uri, sizeof uri), -EAFNOSUPPORT);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, 64, "weir-test-listen-%d", getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen_uri(fd, false, "", uri, sizeof uri), -EAFNOSUPPORT);
    close(fd);
    assert_int_equal(listen_uri(-1, false, "", uri, sizeof uri), -EBADF);
    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(listen_uri(fd, false, "", uri, sizeof uri), -ENOTSOCK);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_that_nobody_listens_at_is_replaced),
        cmocka_unit_test(a_socket_that_somebody_listens_at_is_not),
        cmocka_unit_test(what_is_no_socket_stays),
        cmocka_unit_test(a_path_has_to_fit_and_its_folder_to_be_there),
        cmocka_unit_test(any_free_port_is_found_and_taken_once),
        cmocka_unit_test(a_name_is_listened_at_by_every_address_it_has),
        cmocka_unit_test(a_socket_of_ipv6_leaves_ipv4_alone),
        cmocka_unit_test(a_path_of_any_bytes_becomes_a_uri),
        cmocka_unit_test(a_relative_path_becomes_absolute_in_the_uri),
        cmocka_unit_test(the_longest_path_is_whole),
        cmocka_unit_test(what_has_no_uri_is_said),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
