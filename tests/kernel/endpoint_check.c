/* SPDX-License-Identifier: MIT */
#include "endpoint_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void endpoint_enter_folder(void)
{
    char name[] = "/tmp/weir-XXXXXX";
    CHECK(mkdtemp(name) != NULL);
    CHECK_EQUAL(chdir(name), 0);
}

void endpoint_leave_folder(void)
{
    char name[64];
    CHECK(getcwd(name, sizeof name) != NULL);
    CHECK_EQUAL(chdir("/"), 0);
    CHECK_EQUAL(rmdir(name), 0); /* -ENOTEMPTY: a file was left behind */
}

struct weir_endpoint *endpoint_open_at(const char *path)
{
    struct weir_endpoint *endpoint = NULL;
    CHECK_EQUAL(weir_endpoint_open(&(struct weir_endpoint_options){.path = path}, &endpoint), 0);
    return endpoint;
}

int endpoint_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

int endpoint_ask(const char *path, const char *page, size_t *ret_size)
{
    char text[4096];
    char first[16] = "";
    int fd = endpoint_connect(path);
    CHECK(fd >= 0);
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\n\r\n", page);
    CHECK_EQUAL(send(fd, text, (size_t)length, MSG_NOSIGNAL), length);
    *ret_size = 0;
    for (;;) {
        ssize_t got = recv(fd, text, sizeof text, 0);
        CHECK(got >= 0);
        if (got == 0) {
            break;
        }
        if (*ret_size == 0) {
            CHECK(got >= 12); /* it sends its head at once */
            memcpy(first, text, 12);
        }
        *ret_size += (size_t)got;
    }
    close(fd);
    return atoi(first + 9);
}
