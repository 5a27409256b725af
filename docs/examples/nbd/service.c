/* SPDX-License-Identifier: MIT */
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A variable that is a whole number, to max. */
static bool read_number(const char *name, uint64_t max, uint64_t *ret_value)
{
    const char *text = getenv(name);
    if (!text || *text < '0' || *text > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool is_ours(const char *pid_name)
{
    uint64_t pid;
    return read_number(pid_name, INT32_MAX, &pid) && pid == (uint64_t)getpid();
}

int service_listen_fds(void)
{
    uint64_t count = 0;
    if (is_ours("LISTEN_PID") && !read_number("LISTEN_FDS", INT16_MAX, &count)) {
        return -EINVAL;
    }
    for (int fd = SERVICE_FD_FIRST; fd < SERVICE_FD_FIRST + (int)count; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
            return -errno;
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (int)count;
}

void service_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    /* A path, or @ for the zero byte that begins an abstract name. */
    if (length < 2 || length >= sizeof address.sun_path || (*path != '/' && *path != '@')) {
        return;
    }
    memcpy(address.sun_path, path, length);
    if (*path == '@') {
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    /* READY=1 is worth a short wait for a busy manager; one that is stuck must not stop us too. */
    struct timeval wait = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void service_notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    service_notify(state);
}

uint64_t service_watchdog_ns(void)
{
    uint64_t us;
    if ((getenv("WATCHDOG_PID") && !is_ours("WATCHDOG_PID")) ||
        !read_number("WATCHDOG_USEC", UINT64_MAX / 1000, &us)) {
        return 0;
    }
    return us * 1000;
}
