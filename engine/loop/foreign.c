/* SPDX-License-Identifier: MIT */
/*
 * foreign.c: the loop inside somebody else's: an epoll set of the backend's fd and a timer, and the
 * duty, at the end of every turn, to leave nothing that the set would not tell of.
 */
#include <engine/loop/admit.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void arm_timer(struct weir_loop *loop)
{
    uint64_t next_ns = weir_loop_due(loop);
    if (next_ns > INT64_MAX) {
        next_ns = 0; /* none, or past what the kernel's clock can reach: disarmed */
    } else if (next_ns == 0) {
        next_ns = 1; /* 0 would disarm; 1 is as long past */
    }
    if (next_ns == loop->armed_ns) {
        return;
    }
    loop->armed_ns = next_ns;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(next_ns / 1000000000u),
                     .tv_nsec = (long)(next_ns % 1000000000u)},
    };
    timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void weir_loop_arm_foreign(struct weir_loop *loop)
{
    struct weir_backend *backend = loop->backend;
    weir_loop_admit(loop, false);
    weir_loop_put_off_finished(loop);
    weir_loop_send_parked(loop); /* who waits for the fd does not spin */
    if (loop->offload) {
        weir_offload_flush(loop->offload);
    }
    int r = backend->table->turn(backend, WEIR_NO_SLEEP, NULL, 0);
    if (r < 0) {
        weir_loop_fail(loop, r); /* the next turn says so */
    }
    arm_timer(loop);
    __atomic_store_n(&loop->bell.word, WEIR_BELL_ASLEEP, __ATOMIC_SEQ_CST);
    bool ready = weir_loop_has_work(loop) || weir_loop_is_rung(loop);
    if (ready && weir_bell_ring(&loop->bell)) {
        backend->table->wake(backend);
    }
}

static int add(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int make(struct weir_loop *loop)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return -errno;
    }
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->timer_fd < 0) {
        return -errno;
    }
    loop->armed_ns = 0;
    int ready_fd = loop->backend->table->fd(loop->backend);
    if (ready_fd < 0) {
        return ready_fd;
    }
    int r = add(loop->epoll_fd, ready_fd);
    return r < 0 ? r : add(loop->epoll_fd, loop->timer_fd);
}

int weir_loop_fd(struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->failed) {
        return loop->failed;
    }
    if (loop->backend->table->carries_calls) {
        return -EOPNOTSUPP;
    }
    if (loop->epoll_fd >= 0) {
        return loop->epoll_fd;
    }
    r = make(loop);
    if (r < 0) {
        weir_loop_close_foreign(loop);
        return r;
    }
    if (!loop->in_turn) {
        weir_loop_arm_foreign(loop);
    }
    return loop->epoll_fd;
}

void weir_loop_close_foreign(struct weir_loop *loop)
{
    if (loop->timer_fd >= 0) {
        close(loop->timer_fd);
    }
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    loop->timer_fd = -1;
    loop->epoll_fd = -1;
}
