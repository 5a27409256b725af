/* SPDX-License-Identifier: MIT */
/*
 * sigpipe.c: on a kernel whose writes cannot be asked to keep quiet. It stands in for pwritev2,
 * with which the engine finds out.
 */
#include "check.h"

#include <engine/backend/uring.h>
#include <engine/loop/loop.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    (void)fd, (void)iov, (void)count, (void)offset, (void)flags;
    errno = EOPNOTSUPP;
    return -1;
}

static bool is_blocked(void)
{
    sigset_t set;
    CHECK_EQUAL(sigprocmask(SIG_SETMASK, NULL, &set), 0);
    return sigismember(&set, SIGPIPE) == 1;
}

static struct weir_loop *open_blocking(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_facts facts;
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    CHECK_EQUAL(facts.sigpipe_blocked, 1);
    CHECK(is_blocked());
    return loop;
}

static void write_to_broken_pipe(struct weir_loop *loop)
{
    int ends[2];
    CHECK_EQUAL(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQUAL(close(ends[0]), 0);
    struct weir_op op = {.callback = check_on_done};
    weir_op_write(&op, ends[1], "x", 1, WEIR_CURRENT);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(op.result, -EPIPE);
    CHECK_EQUAL(close(ends[1]), 0);
}

static void the_last_of_several_loops_gives_SIGPIPE_back(void)
{
    CHECK(!is_blocked());
    for (int first = 0; first < 2; first++) {
        struct weir_loop *loops[2] = {open_blocking(), open_blocking()};
        check_close(loops[first]);
        CHECK(is_blocked());
        write_to_broken_pipe(loops[1 - first]); /* a signal would end this process */
        check_close(loops[1 - first]);          /* nor does it arrive now */
        CHECK(!is_blocked());
    }
}

static void a_thread_that_blocked_SIGPIPE_itself_keeps_it_blocked(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    CHECK_EQUAL(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    struct weir_loop *loops[2] = {open_blocking(), open_blocking()};
    check_close(loops[0]);
    check_close(loops[1]);
    CHECK(is_blocked());
}

static int refuse(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
                  unsigned flags)
{
    (void)context, (void)ring, (void)to_submit, (void)wait_nr, (void)flags;
    return -EPERM;
}

static void a_failed_adoption_gives_SIGPIPE_back(void)
{
    struct weir_loop *loop = check_open(&(struct weir_options){.flags = WEIR_FOR_ADOPTION});
    weir_uring_replace_enter(weir_loop_backend(loop), refuse, NULL);
    CHECK_EQUAL(weir_loop_adopt(loop), -EPERM);
    CHECK(!is_blocked());
    CHECK_EQUAL(weir_loop_close(loop, 0, NULL), 0);
    CHECK(!is_blocked());
    check_close(open_blocking());
    CHECK(!is_blocked());
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(the_last_of_several_loops_gives_SIGPIPE_back),
        CHECK_TEST(a_thread_that_blocked_SIGPIPE_itself_keeps_it_blocked),
        CHECK_TEST(a_failed_adoption_gives_SIGPIPE_back),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
