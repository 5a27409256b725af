/* SPDX-License-Identifier: MIT */
#include "listener.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_on(struct sockaddr *address, socklen_t length)
{
    int yes = 1;
    /* Non-blocking: then the epoll backend can try accept4(2), and needs no worker for it. */
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, address, &length) < 0) {
        int error = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return error;
    }
    return fd;
}

static int listen_at_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = listen_on((struct sockaddr *)&address, sizeof address);
    if (fd >= 0) {
        printf("listening at %s\n", path);
    }
    return fd;
}

static int listen_at_port(const char *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = listen_on((struct sockaddr *)&address, sizeof address);
    if (fd >= 0) {
        printf("listening at 127.0.0.1:%u\n", ntohs(address.sin_port));
    }
    return fd;
}

int listener_open(const char *where)
{
    int fd = strchr(where, '/') ? listen_at_path(where) : listen_at_port(where);
    fflush(stdout);
    return fd;
}

void listener_close(int fd, const char *where)
{
    close(fd);
    if (strchr(where, '/')) {
        unlink(where);
    }
}
