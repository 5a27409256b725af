/* SPDX-License-Identifier: MIT */
/*
 * routes.c: who carries an op out changes nothing of what it does. (The files of kinds run once per
 * route besides: see meson.build.)
 */
#include "seam.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const enum weir_route routes[] = {WEIR_ROUTE_AUTO, WEIR_ROUTE_RING, WEIR_ROUTE_INLINE,
                                         WEIR_ROUTE_OFFLOAD};

static const struct weir_options idle_workers = {.offload_workers = 2};

SEAM_TEST(a_file_is_the_same_by_every_route)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    int file = seam_file(100000);
    static char data[30000];
    for (size_t i = 0; i < 40; i++) {
        struct tracked op = {.op.route = routes[i % 4], .op.flags = i < 20 ? WEIR_WHOLE : 0};
        struct iovec iov[2] = {{data, 7000}, {data + 7000, sizeof data - 7000}};
        size_t at = i * 1000;
        memset(data, 0, sizeof data);
        weir_op_read(&op.op, file, data, sizeof data, at);
        expect_equal(seam_carry_out(loop, &op), sizeof data);
        expect_equal(op.op.route, routes[i % 4]); /* it persists */
        expect(seam_pattern_holds(data, sizeof data, at));
        weir_op_writev(&op.op, file, iov, 2, at + 1);
        expect_equal(seam_carry_out(loop, &op), sizeof data);
        memset(data, 0, sizeof data);
        weir_op_readv(&op.op, file, iov, 2, at + 1);
        expect_equal(seam_carry_out(loop, &op), sizeof data);
        expect(seam_pattern_holds(data, sizeof data, at));
        weir_op_write(&op.op, file, data + 1, sizeof data - 1, at + 1); /* as it was */
        expect_equal(seam_carry_out(loop, &op), sizeof data - 1);
        seam_pattern(data, sizeof data, at);
        weir_op_write(&op.op, file, data, sizeof data, at);
        expect_equal(seam_carry_out(loop, &op), sizeof data);
        seam_pattern(data, 1, at + sizeof data);
        weir_op_write(&op.op, file, data, 1, at + sizeof data);
        expect_equal(seam_carry_out(loop, &op), 1);
    }
    seam_end(loop);
    close(file);
}

SEAM_TEST(the_end_of_a_file_and_errors_are_the_same_by_every_route)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    int file = seam_file(10);
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int unwritable = seam_readable();
    for (size_t i = 0; i < SEAM_COUNT(routes); i++) {
        struct tracked op = {.op.route = routes[i]};
        char data[20];
        weir_op_read(&op.op, file, data, sizeof data, 4);
        expect_equal(seam_carry_out(loop, &op), 6);
        weir_op_read(&op.op, file, data, sizeof data, 10);
        expect_equal(seam_carry_out(loop, &op), 0);
        weir_op_read(&op.op, file, data, 0, 0);
        expect_equal(seam_carry_out(loop, &op), 0);
        weir_op_read(&op.op, -1, data, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EBADF);
        weir_op_read(&op.op, directory, data, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EISDIR);
        weir_op_write(&op.op, unwritable, data, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EBADF);
        weir_op_read(&op.op, file, (void *)8, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EFAULT);
        weir_op_send(&op.op, file, data, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -ENOTSOCK);
    }
    seam_end(loop);
    close(file);
    close(directory);
    close(unwritable);
}

SEAM_TEST(the_files_own_position_is_used_by_every_route)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    int file = seam_file(100);
    for (size_t i = 0; i < 8; i++) {
        struct tracked op = {.op.route = routes[i % 4]};
        weir_op_read(&op.op, file, op.data, 5, WEIR_CURRENT);
        expect_equal(seam_carry_out(loop, &op), 5);
        expect(seam_pattern_holds(op.data, 5, i * 5));
    }
    expect_equal(lseek(file, 0, SEEK_CUR), 40);
    seam_end(loop);
    close(file);
}

SEAM_TEST(a_broken_pipe_is_EPIPE_and_raises_no_signal_by_any_route)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    for (size_t i = 0; i < SEAM_COUNT(routes); i++) {
        struct seam_pair pipe = seam_pipe(0);
        struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
        struct seam_pair source = seam_pipe(0);
        struct tracked op = {.op.route = routes[i]};
        seam_write(source.out, "x", 1);
        close(pipe.in);
        close(sockets.in);
        weir_op_write(&op.op, pipe.out, "x", 1, WEIR_CURRENT);
        expect_equal(seam_carry_out(loop, &op), -EPIPE); /* the signal would end the process */
        weir_op_write(&op.op, sockets.out, "x", 1, WEIR_CURRENT);
        expect_equal(seam_carry_out(loop, &op), -EPIPE);
        weir_op_send(&op.op, sockets.out, "x", 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EPIPE);
        weir_op_splice(&op.op, source.in, WEIR_CURRENT, pipe.out, WEIR_CURRENT, 1, 0);
        expect_equal(seam_carry_out(loop, &op), -EPIPE);
        seam_pair_close(&source);
        close(pipe.out);
        close(sockets.out);
    }
    sigset_t pending;
    expect_equal(sigpending(&pending), 0);
    seam_end(loop);
    expect_equal(sigpending(&pending), 0);
    expect_equal(sigismember(&pending, SIGPIPE), 0);
}

/* --- inline ----------------------------------------------------------------------------------- */

SEAM_TEST(inline_does_on_the_spot_what_does_not_block)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked op = {.op.route = WEIR_ROUTE_INLINE};
    struct iovec iov = {op.data, 3};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    weir_op_send(&op.op, sockets.out, "abc", 3, 0);
    expect_equal(seam_carry_out(loop, &op), 3);
    weir_op_recv(&op.op, sockets.in, op.data, 16, 0);
    expect_equal(seam_carry_out(loop, &op), 3);
    expect(memcmp(op.data, "abc", 3) == 0);
    weir_op_sendmsg(&op.op, sockets.out, &message, 0);
    expect_equal(seam_carry_out(loop, &op), 3);
    weir_op_recvmsg(&op.op, sockets.in, &message, 0);
    expect_equal(seam_carry_out(loop, &op), 3);
    weir_op_write(&op.op, pipe.out, "de", 2, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 2);
    weir_op_read(&op.op, pipe.in, op.data, 16, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 2);
    expect(memcmp(op.data, "de", 2) == 0);
    struct weir_counters counters = seam_counters(loop);
    expect(counters.inline_tries >= 6);
    expect(counters.inline_done >= 4); /* the sockets at least, whatever the pipes' kernel can do */
    expect(counters.inline_done <= counters.inline_tries);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_file_in_memory_is_read_and_written_on_the_spot_if_that_is_said)
{
    struct weir_loop *loop = seam_loop();
    int file = memfd_create("memory", MFD_CLOEXEC);
    struct tracked op = {.op.route = WEIR_ROUTE_INLINE, .op.flags = WEIR_IN_MEMORY};
    struct iovec iov[2] = {{op.data, 2}, {op.data + 2, 2}};
    weir_op_write(&op.op, file, "abcdef", 6, 0);
    expect_equal(seam_carry_out(loop, &op), 6);
    weir_op_writev(&op.op, file, iov, 2, 6);
    memcpy(op.data, "ghij", 4);
    expect_equal(seam_carry_out(loop, &op), 4);
    weir_op_readv(&op.op, file, iov, 2, 1);
    expect_equal(seam_carry_out(loop, &op), 4);
    expect(memcmp(op.data, "bcde", 4) == 0);
    op.op.flags |= WEIR_WHOLE;
    weir_op_read(&op.op, file, op.data, 16, 2);
    expect_equal(seam_carry_out(loop, &op), 8); /* to its end */
    expect(memcmp(op.data, "cdefghij", 8) == 0);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.inline_done, counters.inline_tries);
    expect(counters.inline_done >= 4);
    expect_equal(counters.offloaded, 0);

    op.op.route = WEIR_ROUTE_AUTO; /* by any other way it is as without */
    weir_op_write(&op.op, file, "xy", 2, 0);
    expect_equal(seam_carry_out(loop, &op), 2);
    weir_op_read(&op.op, file, op.data, 4, 0);
    expect_equal(seam_carry_out(loop, &op), 4);
    expect(memcmp(op.data, "xycd", 4) == 0);
    op.op.flags = WEIR_IN_MEMORY;
    weir_op_fsync(&op.op, file);
    expect_equal(weir_submit(loop, &op.op), -EINVAL);
    weir_op_nop(&op.op);
    expect_equal(weir_submit(loop, &op.op), -EINVAL);
    seam_end(loop);
    close(file);
}

SEAM_TEST(inline_waits_like_any_op_for_what_would_block)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked timer = {0};
    struct tracked read_op = {.op.route = WEIR_ROUTE_INLINE};
    struct tracked whole = {.op.route = WEIR_ROUTE_INLINE, .op.flags = WEIR_WHOLE};
    struct tracked cancelled = {.op.route = WEIR_ROUTE_INLINE};
    struct tracked late = {.op.route = WEIR_ROUTE_INLINE};
    seam_read_byte(loop, &read_op, pipe.in);
    seam_write(sockets.out, "ab", 2);
    weir_op_recv(&whole.op, sockets.in, whole.data, 4, 0);
    seam_submit(loop, &whole);
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    expect_equal(seam_carry_out(loop, &timer), 0); /* the loop turns */
    expect_equal(read_op.calls + whole.calls, 0);
    seam_write(pipe.out, "p", 1);
    seam_await(loop, &read_op);
    expect_equal(read_op.data[0], 'p');
    seam_write(sockets.out, "cd", 2);
    seam_await(loop, &whole);
    expect_equal(whole.result, 4);
    expect(memcmp(whole.data, "abcd", 4) == 0);
    seam_read_byte(loop, &cancelled, pipe.in);
    seam_turns(loop, 2);
    expect_equal(seam_cancel(loop, &cancelled), 0);
    seam_await(loop, &cancelled);
    expect_equal(cancelled.result, -ECANCELED);
    weir_op_read(&late.op, pipe.in, late.data, 1, WEIR_CURRENT);
    late.op.deadline_ns = weir_now(loop) + WEIR_MS;
    expect_equal(seam_carry_out(loop, &late), -ETIME);
    seam_end(loop);
    seam_pair_close(&pipe);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_turn_tries_no_more_than_its_share_on_the_spot_and_all_are_done)
{
    enum { OPS = 3 * WEIR_INLINE_MAX + 5 };
    struct weir_loop *loop = seam_loop();
    int file = seam_file(OPS + 16);
    static struct tracked ops[OPS];
    memset(ops, 0, sizeof ops);
    for (size_t i = 0; i < OPS; i++) {
        ops[i].op.route = WEIR_ROUTE_INLINE;
        weir_op_read(&ops[i].op, file, ops[i].data, 16, i);
        seam_submit(loop, &ops[i]);
    }
    uint64_t tries = 0;
    while (weir_loop_live(loop) > 0) {
        expect(seam_turn(loop, -1) >= 0);
        uint64_t now = seam_counters(loop).inline_tries;
        expect(now <= tries + WEIR_INLINE_MAX);
        tries = now;
    }
    expect(tries >= WEIR_INLINE_MAX);
    for (size_t i = 0; i < OPS; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, 16);
        expect(seam_pattern_holds(ops[i].data, 16, i));
    }
    seam_end(loop);
    close(file);
}

static int inline_left;

static void read_inline_again(struct tracked *op)
{
    expect_equal(op->result, 16);
    if (inline_left-- > 0) {
        weir_op_read(&op->op, op->op.fd, op->data, 16, 0);
        seam_submit(op->context, op);
    }
}

SEAM_TEST(inline_reads_without_end_keep_neither_timers_nor_posts_from_coming)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(16);
    struct tracked reads[4] = {0};
    struct tracked timer = {0};
    struct tracked posted = {0};
    inline_left = 1 << 30;
    for (int i = 0; i < 4; i++) {
        reads[i].op.route = WEIR_ROUTE_INLINE;
        reads[i].then = read_inline_again;
        reads[i].context = loop;
        weir_op_read(&reads[i].op, file, reads[i].data, 16, 0);
        seam_submit(loop, &reads[i]);
    }
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    seam_submit(loop, &timer);
    weir_op_nop(&posted.op);
    seam_posted(loop, &posted);
    seam_await_count(loop, &timer.calls, 1);
    seam_await_count(loop, &posted.calls, 1);
    inline_left = 0;
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    close(file);
}

/* --- offload ---------------------------------------------------------------------------------- */

SEAM_TEST(an_op_routed_to_a_worker_blocks_there_and_not_here)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked blocked = {.op.route = WEIR_ROUTE_OFFLOAD};
    struct tracked timer = {0};
    seam_read_byte(loop, &blocked, pipe.in);
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    expect_equal(seam_carry_out(loop, &timer), 0);
    expect_equal(blocked.calls, 0);
    expect_equal(seam_counters(loop).offload_in_flight, 1);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &blocked);
    expect_equal(blocked.result, 1);
    expect_equal(blocked.data[0], 'a');
    expect_equal(seam_counters(loop).offloaded, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_queued_op_that_was_routed_comes_back_cancelled_or_expired_and_is_not_carried_out)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    int file = seam_file(10);
    struct seam_work busy;
    struct tracked cancelled = {.op.route = WEIR_ROUTE_OFFLOAD};
    struct tracked expired = {.op.route = WEIR_ROUTE_OFFLOAD};
    struct stat status;
    seam_block(loop, &busy);
    weir_op_ftruncate(&cancelled.op, file, 1);
    seam_submit(loop, &cancelled);
    weir_op_ftruncate(&expired.op, file, 2);
    expired.op.deadline_ns = weir_now(loop) + 2 * WEIR_MS;
    seam_submit(loop, &expired);
    seam_turns(loop, 1);
    expect_equal(seam_cancel(loop, &cancelled), 0);
    seam_await(loop, &cancelled);
    seam_await(loop, &expired);
    expect_equal(cancelled.result, -ECANCELED);
    expect_equal(expired.result, -ETIME);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    expect_equal(fstat(file, &status), 0);
    expect_equal(status.st_size, 10);
    seam_end(loop);
    close(file);
}

SEAM_TEST(a_whole_transfer_that_was_routed_goes_on_part_by_part)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked whole = {.op.route = WEIR_ROUTE_OFFLOAD, .op.flags = WEIR_WHOLE};
    weir_op_read(&whole.op, pipe.in, whole.data, 6, WEIR_CURRENT);
    seam_submit(loop, &whole);
    for (int i = 0; i < 6; i++) {
        char byte = (char)('a' + i);
        expect_equal(whole.calls, 0);
        seam_write(pipe.out, &byte, 1);
        while (i < 5 && whole.op.moved <= (unsigned)i) {
            expect(seam_turn(loop, WEIR_MS) >= 0);
        }
    }
    seam_await(loop, &whole);
    expect_equal(whole.result, 6);
    expect(memcmp(whole.data, "abcdef", 6) == 0);
    expect_equal(seam_counters(loop).continued, 5);
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* Of what may not go to a worker. */
static void fill_forbidden(struct weir_op *op, int i)
{
    static struct msghdr message;
    static struct sockaddr_in address;
    static char byte;
    switch (i) {
    case 0:
        weir_op_accept(op, 0, NULL, NULL, 0);
        break;
    case 1:
        weir_op_connect(op, 0, (struct sockaddr *)&address, sizeof address);
        break;
    case 2:
        weir_op_poll(op, 0, 1);
        break;
    case 3:
        weir_op_recv(op, 0, &byte, 1, 0);
        break;
    case 4:
        weir_op_recvmsg(op, 0, &message, 0);
        break;
    case 5:
        weir_op_signal(op, WEIR_SIGNAL(SIGUSR2), NULL);
        break;
    case 6:
        weir_op_child(op, getpid(), NULL);
        break;
    case 7:
        weir_op_timeout(op, 1);
        break;
    case 8:
        weir_op_close(op, -1);
        break;
    default:
        weir_op_nop(op);
        break;
    }
}

SEAM_TEST(kinds_that_wait_for_others_may_not_be_routed_to_a_worker)
{
    struct weir_loop *loop = seam_loop_with(idle_workers);
    for (int i = 0; i < 10; i++) {
        struct tracked op = {.op.callback = seam_called, .op.route = WEIR_ROUTE_OFFLOAD};
        fill_forbidden(&op.op, i);
        seam_refused(loop, &op, -EINVAL);
    }
    expect_equal(weir_loop_live(loop), 0);
    seam_end(loop);
}

static void unwanted_room(struct weir_room *room, int result)
{
    (void)room;
    (void)result;
}

SEAM_TEST(without_workers_what_needs_one_is_EOPNOTSUPP_and_the_rest_works)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = WEIR_NO_OFFLOAD});
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    int file = seam_file(10);
    struct seam_work work;
    struct tracked routed = {.op.route = WEIR_ROUTE_OFFLOAD};
    struct tracked op = {0};
    struct weir_room room = {.callback = unwanted_room};
    struct weir_facts facts;
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect_equal(facts.workers, 0);
    expect_equal(facts.memory_offload, 0);
    seam_work_fill(&work, 1);
    work.call.op.callback = seam_called;
    seam_refused(loop, &work.call, -EOPNOTSUPP);
    expect_equal(seam_post(loop, &work.call, WEIR_SITE), -EOPNOTSUPP);
    expect_equal(weir_wait_room(loop, &room, &work.call.op), -EOPNOTSUPP);
    weir_op_fsync(&routed.op, file);
    routed.op.callback = seam_called;
    seam_refused(loop, &routed, -EOPNOTSUPP);
    weir_op_send(&op.op, sockets.out, "a", 1, 0);
    expect_equal(seam_carry_out(loop, &op), 1);
    weir_op_recv(&op.op, sockets.in, op.data, 1, 0);
    expect_equal(seam_carry_out(loop, &op), 1);
    weir_op_timeout_in(&op.op, loop, 1);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_fsync(&op.op, file); /* native, or not to be had */
    int64_t result = seam_carry_out(loop, &op);
    expect(result == 0 || result == -EOPNOTSUPP);
    seam_end(loop);
    seam_pair_close(&sockets);
    close(file);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_file_is_the_same_by_every_route),
    cmocka_unit_test(the_end_of_a_file_and_errors_are_the_same_by_every_route),
    cmocka_unit_test(the_files_own_position_is_used_by_every_route),
    cmocka_unit_test(a_broken_pipe_is_EPIPE_and_raises_no_signal_by_any_route),
    cmocka_unit_test(inline_does_on_the_spot_what_does_not_block),
    cmocka_unit_test(a_file_in_memory_is_read_and_written_on_the_spot_if_that_is_said),
    cmocka_unit_test(inline_waits_like_any_op_for_what_would_block),
    cmocka_unit_test(a_turn_tries_no_more_than_its_share_on_the_spot_and_all_are_done),
    cmocka_unit_test(inline_reads_without_end_keep_neither_timers_nor_posts_from_coming),
    cmocka_unit_test(an_op_routed_to_a_worker_blocks_there_and_not_here),
    cmocka_unit_test(
        a_queued_op_that_was_routed_comes_back_cancelled_or_expired_and_is_not_carried_out),
    cmocka_unit_test(a_whole_transfer_that_was_routed_goes_on_part_by_part),
    cmocka_unit_test(kinds_that_wait_for_others_may_not_be_routed_to_a_worker),
    cmocka_unit_test(without_workers_what_needs_one_is_EOPNOTSUPP_and_the_rest_works),
};

const struct seam_group routes_group = SEAM_GROUP("routes", tests);
