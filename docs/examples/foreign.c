/* SPDX-License-Identifier: MIT */
/* foreign SOURCE TARGET: weir inside a program's own epoll loop. */
#include "guest.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int set, clock_fd; /* the program's own: an epoll set, and something of its own in it */
static uint64_t ticks;

static int watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int run(struct weir_loop *loop, int weir_fd)
{
    int result = weir_loop_turn(loop, 0); /* what was submitted outside a turn leaves */
    while (result >= 0 && !guest_is_done()) {
        struct epoll_event event;
        int count = epoll_wait(set, &event, 1, -1); /* no time limit: whatever happens, it tells */
        if (count < 0) {
            result = errno == EINTR ? 0 : -errno;
        } else if (event.data.fd == weir_fd) {
            result = weir_loop_turn(loop, 0); /* never sleeps */
        } else {
            uint64_t expired;
            ticks += read(clock_fd, &expired, sizeof expired) > 0 ? expired : 0;
        }
    }
    return result;
}

static int host(struct weir_loop *loop, char **files)
{
    struct itimerspec every = {{0, 5000000}, {0, 5000000}};
    set = epoll_create1(EPOLL_CLOEXEC);
    clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (set < 0 || clock_fd < 0 || timerfd_settime(clock_fd, 0, &every, NULL) < 0) {
        return -errno;
    }
    int fd = weir_loop_fd(loop);
    int result = fd < 0 ? fd : watch(fd);
    result = result < 0 ? result : watch(clock_fd);
    result = result < 0 ? result : guest_start(loop, files[0], files[1]);
    return result < 0 ? result : run(loop, fd);
}

int main(int argc, char **argv)
{
    struct weir_loop *loop;
    if (argc != 3) {
        fprintf(stderr, "usage: foreign SOURCE TARGET\n");
        return 2;
    }
    int result = weir_loop_open(NULL, &loop);
    result = result < 0 ? result : host(loop, argv + 1);
    result = result < 0 ? result : guest_end();
    if (result < 0) {
        fprintf(stderr, "foreign: %s\n", strerror(-result));
        return 1;
    }
    printf("ticks of the program's own clock: %" PRIu64 "\n", ticks);
    return weir_loop_close(loop, WEIR_S, NULL) < 0;
}
