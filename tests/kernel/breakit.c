/* SPDX-License-Identifier: MIT */
/* breakit.c: what people do wrong, each answered as the headers say. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- limits and arguments --------------------------------------------------------------------- */

static void check_open_refuses(const struct weir_options *options)
{
    struct weir_loop *loop = (struct weir_loop *)&check_handed;
    size_t fds = check_fd_count();
    CHECK_EQUAL(weir_loop_open(options, &loop), -EINVAL);
    CHECK(loop == (struct weir_loop *)&check_handed);
    CHECK_EQUAL(check_fd_count(), fds);
}

static void an_absurd_limit_is_refused_at_open(void)
{
    check_open_refuses(&(struct weir_options){.depth = 1u << 20});
    check_open_refuses(&(struct weir_options){.depth = UINT32_MAX});
    check_open_refuses(&(struct weir_options){.depth = WEIR_DEPTH_MAX + 1});
    check_open_refuses(&(struct weir_options){.waiting_max = WEIR_WAITING_MAX + 1});
    check_open_refuses(&(struct weir_options){.timers_max = WEIR_TIMERS_MAX + 1});
    check_open_refuses(&(struct weir_options){.memory_max = 4096});
    check_open_refuses(&(struct weir_options){.policy = (enum weir_policy)77});
    check_open_refuses(&(struct weir_options){.flags = 1u << 15});
    CHECK_EQUAL(weir_loop_open(NULL, NULL), -EINVAL);
    check_close(check_open(&(struct weir_options){.depth = 1}));
}

static void check_submit_refuses(struct weir_loop *loop, struct weir_op *op, int error)
{
    struct weir_op before = *op;
    CHECK_EQUAL(weir_submit(loop, op), error);
    CHECK(memcmp(&before, op, sizeof before) == 0);
}

static void an_op_that_makes_no_sense_is_refused_untouched(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    check_submit_refuses(loop, &op, -EINVAL);
    op.kind = WEIR_KIND_COUNT;
    check_submit_refuses(loop, &op, -EINVAL);
    op.kind = 255;
    check_submit_refuses(loop, &op, -EINVAL);
    weir_op_nop(&op);
    op.route = WEIR_ROUTE_OFFLOAD + 1;
    check_submit_refuses(loop, &op, -EINVAL);
    op.route = 0;
    op.flags = 1u << 15;
    check_submit_refuses(loop, &op, -EINVAL);
    op.flags = WEIR_WHOLE;
    check_submit_refuses(loop, &op, -EINVAL);
    op.flags = 0;
    op.callback = NULL;
    check_submit_refuses(loop, &op, -EINVAL);
    op.callback = check_on_done;
    weir_op_timeout(&op, 1);
    op.deadline_ns = 1;
    check_submit_refuses(loop, &op, -EINVAL);
    CHECK_EQUAL(weir_submit(loop, NULL), -EINVAL);
    CHECK_EQUAL(weir_submit(NULL, &op), -EINVAL);
    CHECK_EQUAL(weir_loop_live(loop), 0);
    check_close(loop);
    CHECK_EQUAL(check_handed, 0);
}

static void a_second_submit_of_a_live_op_is_refused(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_submit_refuses(loop, &op, -EBUSY);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 1);
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 2);
    check_close(loop);
}

/* --- wrong thread, wrong place ---------------------------------------------------------------- */

static void *use_from_elsewhere(void *argument)
{
    struct weir_loop *loop = argument;
    struct weir_counters counters;
    struct weir_facts facts;
    struct weir_room room = {0};
    static struct weir_op op = {.callback = check_on_done};
    weir_op_nop(&op);
    check_submit_refuses(loop, &op, -EPERM);
    CHECK_EQUAL(weir_loop_turn(loop, 0), -EPERM);
    CHECK_EQUAL(weir_loop_run(loop), -EPERM);
    CHECK_EQUAL(weir_cancel(loop, &op), -EPERM);
    CHECK_EQUAL(weir_cancel_fd(loop, 0), -EPERM);
    CHECK_EQUAL(weir_forget(loop, 0), -EPERM);
    CHECK_EQUAL(weir_loop_hold(loop), -EPERM);
    CHECK_EQUAL(weir_loop_fd(loop), -EPERM);
    CHECK_EQUAL(weir_loop_live(loop), -EPERM);
    CHECK_EQUAL(weir_wait_room(loop, &room, &op), -EPERM);
    CHECK_EQUAL(weir_loop_counters(loop, &counters), -EPERM);
    CHECK_EQUAL(weir_loop_facts(loop, &facts), -EPERM);
    CHECK_EQUAL(weir_loop_close(loop, 0, NULL), -EPERM);
    CHECK_EQUAL(weir_loop_abandon(loop), -EPERM);
    CHECK_EQUAL(weir_loop_wake(loop), 0);
    return NULL;
}

static void another_thread_is_refused_and_harms_nothing(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, use_from_elsewhere, loop), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 1);
    check_close(loop);
}

static void on_done_meddle(struct weir_op *op)
{
    CHECK_EQUAL(weir_loop_turn(op->user, 0), -EBUSY);
    CHECK_EQUAL(weir_loop_run(op->user), -EBUSY);
    CHECK_EQUAL(weir_loop_close(op->user, 0, NULL), -EBUSY);
    CHECK_EQUAL(weir_loop_abandon(op->user), -EBUSY);
    check_on_done(op);
}

static void on_room_meddle(struct weir_room *room, int answer)
{
    CHECK_EQUAL(answer, 0);
    CHECK_EQUAL(weir_loop_turn(room->user, 0), -EBUSY);
    CHECK_EQUAL(weir_loop_close(room->user, 0, NULL), -EBUSY);
    check_handed++;
}

static void turn_and_close_inside_a_callback_are_refused(void)
{
    struct weir_loop *loop = check_open(&(struct weir_options){.depth = 1});
    struct weir_op op = {.callback = on_done_meddle, .user = loop};
    struct weir_op timer = {.callback = on_done_meddle, .user = loop};
    struct weir_op pending = {.callback = on_done_meddle, .user = loop};
    struct weir_room room = {.callback = on_room_meddle, .user = loop};
    int pipe[2];
    char byte;
    CHECK_EQUAL(pipe2(pipe, O_CLOEXEC), 0);
    weir_op_timeout(&timer, 1);
    weir_op_nop(&op);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_submit(loop, &timer), 0);
    CHECK_EQUAL(weir_wait_room(loop, &room, &pending), -EINVAL);
    weir_op_read(&pending, pipe[0], &byte, 1, 0);
    CHECK_EQUAL(weir_submit(loop, &pending), -EAGAIN);
    CHECK_EQUAL(weir_wait_room(loop, &room, &pending), 0);
    check_drain(loop);
    while (check_handed < 3) {
        CHECK(weir_loop_turn(loop, 0) >= 0);
    }
    /* And in a callback that close itself makes. */
    CHECK_EQUAL(weir_submit(loop, &pending), 0);
    check_close(loop);
    CHECK_EQUAL(check_handed, 4);
    CHECK_EQUAL(pending.result, -ECANCELED);
}

/* --- 4 GiB and a byte ------------------------------------------------------------------------- */

#define HUGE ((4ULL << 30) + 1)
#define WINDOW (16ULL << 20)

/* That much address space, but only a window of memory, over and over. */
static char *map_huge(void)
{
    int memory = memfd_create("window", MFD_CLOEXEC);
    CHECK(memory >= 0);
    CHECK_EQUAL(ftruncate(memory, WINDOW), 0);
    char *base =
        mmap(NULL, HUGE + WINDOW, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    for (uint64_t at = 0; at < HUGE; at += WINDOW) {
        char *window =
            mmap(base + at, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0);
        CHECK(window == base + at);
    }
    close(memory);
    return base;
}

/* Zeros in any number: /dev/zero may answer less than asked for when another process wants to run.
 * */
static int hole(void)
{
    int fd = memfd_create("hole", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, 5LL << 30), 0);
    return fd;
}

static void a_read_of_4_gib_and_a_byte_is_cut_or_whole_never_wrapped(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    char *buffer = map_huge();
    int zero = hole();
    weir_op_read(&op, zero, buffer, HUGE, 0);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(op.result, 0x7ffff000);
    weir_op_read(&op, zero, buffer, 1ULL << 32, 0);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(op.result, 0x7ffff000);
    buffer[HUGE - 1] = 1;
    op.flags = WEIR_WHOLE;
    weir_op_read(&op, zero, buffer, HUGE, 0);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(op.result, HUGE);
    CHECK_EQUAL(op.moved, HUGE);
    CHECK_EQUAL(buffer[HUGE - 1], 0);
    check_close(loop);
    CHECK_EQUAL(check_handed, 3);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(an_absurd_limit_is_refused_at_open),
        CHECK_TEST(an_op_that_makes_no_sense_is_refused_untouched),
        CHECK_TEST(a_second_submit_of_a_live_op_is_refused),
        CHECK_TEST(another_thread_is_refused_and_harms_nothing),
        CHECK_TEST(turn_and_close_inside_a_callback_are_refused),
        CHECK_TEST(a_read_of_4_gib_and_a_byte_is_cut_or_whole_never_wrapped),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
