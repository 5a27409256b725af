/* SPDX-License-Identifier: MIT */
/* forked.c: a loop in a forked child answers -ECHILD and touches nothing; exec gets none of its
 * fds. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_child_refused(struct weir_loop *loop, struct weir_op *op)
{
    struct weir_counters counters;
    struct weir_facts facts;
    struct weir_room room = {0};
    struct weir_op fresh = {.callback = check_on_done};
    weir_op_nop(&fresh);
    CHECK_EQUAL(weir_submit(loop, &fresh), -ECHILD);
    CHECK_EQUAL(weir_cancel(loop, op), -ECHILD);
    CHECK_EQUAL(weir_cancel_fd(loop, 0), -ECHILD);
    CHECK_EQUAL(weir_forget(loop, 0), -ECHILD);
    CHECK_EQUAL(weir_loop_turn(loop, 0), -ECHILD);
    CHECK_EQUAL(weir_loop_run(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_wake(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_stop(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_hold(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_release(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_fd(loop), -ECHILD);
    CHECK_EQUAL(weir_loop_live(loop), -ECHILD);
    CHECK_EQUAL(weir_wait_room(loop, &room, &fresh), -ECHILD);
    CHECK_EQUAL(weir_loop_counters(loop, &counters), -ECHILD);
    CHECK_EQUAL(weir_loop_facts(loop, &facts), -ECHILD);
}

static size_t ring_fds(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 256; fd++) {
        char name[32];
        char target[128];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        count += strstr(target, "io_uring") != NULL || strstr(target, "eventfd") != NULL;
    }
    return count;
}

struct forked {
    struct weir_loop *loop;
    struct weir_op *op;
    size_t fds;
};

/* What the child maps after the fork must survive its close: it may lie where the parent's ring
 * does. */
static void be_a_child(void *argument)
{
    struct forked *forked = argument;
    CHECK_EQUAL(check_maps_count("io_uring"), 0);
    char *own[64];
    for (int i = 0; i < 64; i++) {
        own[i] = mmap(NULL, 4096U << (i % 6), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
        CHECK(own[i] != MAP_FAILED);
        own[i][0] = (char)i;
    }
    check_child_refused(forked->loop, forked->op);
    CHECK(ring_fds() > 0);
    CHECK_EQUAL(weir_loop_close(forked->loop, 0, NULL), -ECHILD);
    CHECK_EQUAL(ring_fds(), 0);
    CHECK(check_fd_count() < forked->fds);
    for (int i = 0; i < 64; i++) {
        CHECK_EQUAL(own[i][0], i);
        own[i][(4096U << (i % 6)) - 1] = 1;
    }
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    check_close(loop);
}

static void a_fork_with_ops_in_flight_refuses_the_child_and_leaves_the_parent_alone(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    struct weir_op timer = {.callback = check_on_done};
    struct weir_op staged = {.callback = check_on_done};
    int pipe[2];
    char byte = 0;
    CHECK_EQUAL(pipe2(pipe, O_CLOEXEC), 0);
    CHECK(weir_loop_fd(loop) >= 0);
    weir_op_read(&op, pipe[0], &byte, 1, 0);
    weir_op_timeout_in(&timer, loop, 50 * WEIR_MS);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_submit(loop, &timer), 0);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    weir_op_nop(&staged);
    CHECK_EQUAL(weir_submit(loop, &staged), 0);
    CHECK(check_maps_count("io_uring") > 0);
    struct forked forked = {.loop = loop, .op = &op, .fds = check_fd_count()};
    check_in_child(be_a_child, &forked);
    CHECK_EQUAL(write(pipe[1], "x", 1), 1);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 3);
    CHECK_EQUAL(op.result, 1);
    CHECK_EQUAL(byte, 'x');
    CHECK_EQUAL(timer.result, 0);
    CHECK_EQUAL(staged.result, 0);
    check_close(loop);
}

static void every_fd_of_a_loop_is_close_on_exec(void)
{
    char before[1024];
    unsigned found = 0;
    for (int fd = 0; fd < 1024; fd++) {
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    }
    struct weir_loop *loop = check_open(NULL);
    CHECK(weir_loop_fd(loop) >= 0);
    for (int fd = 0; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && !before[fd]) {
            found++;
            CHECK_EQUAL(flags, FD_CLOEXEC);
        }
    }
    printf("%u fds, all close-on-exec\n", found);
    CHECK(found >= 3); /* ring, eventfd, epoll set */
    check_close(loop);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_fork_with_ops_in_flight_refuses_the_child_and_leaves_the_parent_alone),
        CHECK_TEST(every_fd_of_a_loop_is_close_on_exec),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
