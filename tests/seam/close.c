/* SPDX-License-Identifier: MIT */
/* close.c: rule 25: closing, its report, the asynchronous form, abandon, and what is free at
 * once. */
#include "seam.h"

#include <sched.h>
#include <sys/mount.h>

SEAM_TEST(a_pending_read_comes_back_cancelled_and_close_answers_0)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    seam_turns(loop, 2);
    seam_end(loop);
    expect_equal(op.calls, 1);
    expect_equal(op.result, -ECANCELED);
    seam_write(pipe.out, "a", 1);
    char left;
    seam_read(pipe.in, &left, 1);
    seam_pair_close(&pipe);
}

SEAM_TEST(close_hands_back_ops_in_every_state)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4, .waiting_max = 20});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair other = seam_pipe(0);
    struct tracked ops[40] = {0};
    for (int i = 0; i < 40; i++) {
        if (i < 12) {
            seam_read_byte(loop, &ops[i], pipe.in);
        } else if (i < 20) {
            weir_op_splice(&ops[i].op, pipe.in, WEIR_CURRENT, other.out, WEIR_CURRENT, 1, 0);
            ops[i].op.deadline_ns = weir_now(loop) + 3600 * WEIR_S;
            seam_submit(loop, &ops[i]);
        } else {
            weir_op_timeout_in(&ops[i].op, loop, 3600 * WEIR_S);
            seam_submit(loop, &ops[i]);
        }
        if (i == 5) {
            seam_turns(loop, 1);
        }
    }
    expect_equal(seam_cancel(loop, &ops[0]), 0);
    expect_equal(seam_cancel(loop, &ops[11]), 0);
    expect_equal(seam_cancel(loop, &ops[30]), 0);
    seam_end(loop);
    for (int i = 0; i < 40; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ECANCELED);
    }
    seam_pair_close(&pipe);
    seam_pair_close(&other);
}

SEAM_TEST(close_of_nothing_answers_0_without_waiting)
{
    expect_equal(weir_loop_close(NULL, 0, NULL), 0);
    expect_equal(weir_loop_abandon(NULL), 0);
    struct weir_report report = {.count = 77};
    struct weir_loop *loop = seam_loop();
    expect_equal(seam_close(loop, 0, &report), 0);
    loop = seam_loop();
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(seam_close(loop, 0, &report), 0);
}

SEAM_TEST(loops_leave_no_fd_behind)
{
    struct seam_pair pipe = seam_pipe(0);
    seam_end(seam_loop());
    int fds = seam_fds_open();
    for (int i = 0; i < 50; i++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8});
        struct tracked op = {0};
        seam_read_byte(loop, &op, pipe.in);
        int epoll = seam_foreign(loop);
        seam_turns(loop, 1);
        seam_end(loop);
        seam_foreign_close(epoll);
        expect_equal(op.result, -ECANCELED);
    }
    expect_equal(seam_fds_open(), fds);
    seam_pair_close(&pipe);
}

/* --- the asynchronous form ------------------------------------------------------------------- */

static unsigned closings;
static int closing_result;
static unsigned calls_at_closing;
static struct tracked *watched;

static void closed(struct weir_loop *loop, int result)
{
    expect(loop != NULL);
    closings++;
    closing_result = result;
    calls_at_closing = watched->calls;
}

SEAM_TEST(close_begin_closes_in_the_turns_that_follow)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    struct tracked more = {.op.callback = seam_called};
    struct weir_task *task = NULL;
    watched = &op;
    closings = 0;
    seam_read_byte(loop, &op, pipe.in);
    seam_turns(loop, 1);
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), 0);
    expect_equal(closings, 0);
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), -EALREADY);
    weir_op_nop(&more.op);
    seam_refused(loop, &more, -ESHUTDOWN);
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "x"}, &task), -ESHUTDOWN);
    while (closings == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(closing_result, 0);
    expect_equal(calls_at_closing, 1); /* its callback was the last touch */
    expect_equal(op.result, -ECANCELED);
    expect_equal(seam_close(loop, 0, NULL), 0);
    expect_equal(closings, 1);
    seam_pair_close(&pipe);
}

SEAM_TEST(closing_a_loop_with_nothing_live_begins_and_ends_in_one_run)
{
    static struct tracked none;
    watched = &none;
    for (int turns = 0; turns < 3; turns++) {
        struct weir_loop *loop = seam_loop();
        closings = 0;
        closing_result = 1;
        seam_turns(loop, turns);
        expect_equal(weir_loop_close_begin(loop, -1, closed), 0);
        expect_equal(seam_run(loop), 0); /* nothing will ever complete: it must not sleep */
        expect_equal(closings, 1);
        expect_equal(closing_result, 0);
        expect_equal(seam_close(loop, 0, NULL), 0);
        expect_equal(closings, 1);
    }
}

static void begin_close(struct tracked *op)
{
    expect_equal(weir_loop_close_begin(op->context, 20 * WEIR_S, closed), 0);
    expect_equal(weir_loop_close_begin(op->context, 20 * WEIR_S, closed), -EALREADY);
    expect_equal(closings, 0); /* not inside this callback */
    struct tracked more = {.op.callback = seam_called};
    weir_op_nop(&more.op);
    seam_refused(op->context, &more, -ESHUTDOWN);
}

SEAM_TEST(close_begin_may_be_called_in_a_callback)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked op = {.then = begin_close, .context = loop};
    watched = &idle;
    closings = 0;
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(seam_run(loop), 0);
    while (closings == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(closings, 1);
    expect_equal(calls_at_closing, 1);
    expect_equal(idle.result, -ECANCELED);
    expect_equal(seam_close(loop, 0, NULL), 0);
    seam_pair_close(&pipe);
}

SEAM_TEST(close_begin_refuses_as_the_header_says)
{
    struct weir_loop *loop = seam_loop();
    expect_equal(weir_loop_close_begin(NULL, 0, closed), -EINVAL);
    expect_equal(weir_loop_close_begin(loop, 0, NULL), -EINVAL);
    seam_end(loop);
}

/* --- late success ---------------------------------------------------------------------------- */

static void close_what_succeeded(struct tracked *op)
{
    if (op->result >= 0) {
        close((int)op->result);
    }
}

SEAM_TEST(an_fd_that_a_late_success_made_while_closing_does_not_leak)
{
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    seam_end(seam_loop());
    int fds = seam_fds_open();
    for (int i = 0; i < 100; i++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8});
        struct tracked ops[6] = {0};
        for (int j = 0; j < 6; j++) {
            ops[j].then = close_what_succeeded;
            if (j < 2) {
                weir_op_accept(&ops[j].op, listener, NULL, NULL, SOCK_CLOEXEC);
            } else if (j < 4) {
                weir_op_openat(&ops[j].op, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC, 0);
            } else {
                weir_op_socket(&ops[j].op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            }
            if (i % 3 != 2 || j < 2) {
                seam_submit(loop, &ops[j]);
            }
        }
        seam_turns(loop, i % 3);
        /* The accepts are armed; this completes one, unseen by the loop until it closes. */
        int client = seam_client(&address);
        seam_end(loop);
        expect(ops[0].calls == 1 && ops[1].calls == 1);
        close(client);
        expect_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
        int left = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (left >= 0) {
            close(left);
        }
        expect_equal(fcntl(listener, F_SETFL, 0), 0);
        expect_equal(seam_fds_open(), fds);
    }
    close(listener);
}

/* --- abandon --------------------------------------------------------------------------------- */

SEAM_TEST(an_abandoned_loop_calls_nobody_back)
{
    static struct tracked idle; /* its memory stays, as abandon asks */
    static struct tracked timer;
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    seam_submit(loop, &timer);
    seam_turns(loop, 1);
    unsigned fired = timer.calls;
    expect_equal(weir_loop_abandon(loop), 0);
    seam_write(pipe.out, "a", 1);
    struct weir_loop *next = seam_loop();
    struct tracked later = {0};
    weir_op_timeout_in(&later.op, next, 5 * WEIR_MS);
    expect_equal(seam_carry_out(next, &later), 0);
    expect_equal(idle.calls, 0);
    expect_equal(timer.calls, fired);
    seam_end(next);
}

SEAM_TEST(a_loop_that_is_closing_may_be_abandoned)
{
    static struct tracked idle;
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    watched = &idle;
    closings = 0;
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), 0);
    expect_equal(weir_loop_abandon(loop), 0);
    expect_equal(closings, 0);
}

/* --- what is free at once -------------------------------------------------------------------- */

SEAM_TEST(a_port_with_an_armed_accept_rebinds_at_once_after_close)
{
    struct sockaddr_in address;
    int listener = seam_listener(0, &address);
    for (int i = 0; i < 20; i++) {
        struct weir_loop *loop = seam_loop();
        struct tracked accept = {0};
        weir_op_accept(&accept.op, listener, NULL, NULL, SOCK_CLOEXEC);
        seam_submit(loop, &accept);
        seam_turns(loop, 2);
        seam_end(loop);
        expect_equal(accept.result, -ECANCELED);
        close(listener);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        expect(listener >= 0);
        expect_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
        expect_equal(listen(listener, 8), 0);
    }
    close(listener);
}

#define NO_MOUNT 77

static int mount_use_unmount(const char *path)
{
    char file[96];
    struct weir_loop *loop = NULL;
    struct tracked write_op = {0};
    struct tracked poll_op = {0};
    snprintf(file, sizeof file, "%s/file", path);
    child_expect(mount("none", path, "tmpfs", 0, NULL) == 0);
    child_expect(seam_open((struct weir_options){0}, &loop) == 0);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    child_expect(fd >= 0);
    weir_op_write(&write_op.op, fd, "x", 1, 0);
    child_expect(seam_try_submit(loop, &write_op, WEIR_SITE) == 0);
    child_expect(seam_run(loop) == 0);
    child_expect(write_op.result == 1);
    weir_op_fsync(&poll_op.op, fd);
    child_expect(seam_try_submit(loop, &poll_op, WEIR_SITE) == 0);
    child_expect(seam_turn(loop, 0) >= 0);
    child_expect(seam_close(loop, 20 * WEIR_S, NULL) == 0);
    close(fd);
    child_expect(umount(path) == 0);
    return 0;
}

static int mount_ten_times(void *context)
{
    struct seam_dir *dir = context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return NO_MOUNT;
    }
    close(dir->fd);
    for (int i = 0; i < 10; i++) {
        child_expect(mount_use_unmount(dir->path) == 0);
    }
    return 0;
}

SEAM_TEST(a_file_system_unmounts_at_once_after_close)
{
    struct seam_dir dir;
    if (seam_simulates()) {
        expect_equal(seam_backend.simulated->use_and_close_a_world(), 0);
        return;
    }
    seam_dir_make(&dir);
    int result = seam_child(mount_ten_times, &dir);
    seam_dir_remove(&dir);
    if (result == NO_MOUNT) {
        seam_skip("mounting needs the privilege to make a mount namespace");
    }
    expect_equal(result, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_pending_read_comes_back_cancelled_and_close_answers_0),
    cmocka_unit_test(close_hands_back_ops_in_every_state),
    cmocka_unit_test(close_of_nothing_answers_0_without_waiting),
    cmocka_unit_test(loops_leave_no_fd_behind),
    cmocka_unit_test(close_begin_closes_in_the_turns_that_follow),
    cmocka_unit_test(closing_a_loop_with_nothing_live_begins_and_ends_in_one_run),
    cmocka_unit_test(close_begin_may_be_called_in_a_callback),
    cmocka_unit_test(close_begin_refuses_as_the_header_says),
    cmocka_unit_test(an_fd_that_a_late_success_made_while_closing_does_not_leak),
    cmocka_unit_test(an_abandoned_loop_calls_nobody_back),
    cmocka_unit_test(a_loop_that_is_closing_may_be_abandoned),
    cmocka_unit_test(a_port_with_an_armed_accept_rebinds_at_once_after_close),
    cmocka_unit_test(a_file_system_unmounts_at_once_after_close),
};

const struct seam_group close_group = SEAM_GROUP("close", tests);
