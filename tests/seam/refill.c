/* SPDX-License-Identifier: MIT */
/* refill.c: rule 4: what a fill helper writes, what persists, what a second submit answers. */
#include "seam.h"

#include <signal.h>
#include <sys/stat.h>

static char buffer[64];
static struct iovec iov = {buffer, sizeof buffer};
static struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
static struct sockaddr_in address = {.sin_family = AF_INET};
static socklen_t address_length = sizeof address;
static struct statx statx_buffer;

static void fill_data(struct weir_op *op, unsigned kind)
{
    switch (kind) {
    case WEIR_KIND_NOP:
        weir_op_nop(op);
        break;
    case WEIR_KIND_READ:
        weir_op_read(op, 3, buffer, sizeof buffer, 0);
        break;
    case WEIR_KIND_WRITE:
        weir_op_write(op, 3, buffer, sizeof buffer, 0);
        break;
    case WEIR_KIND_READV:
        weir_op_readv(op, 3, &iov, 1, 0);
        break;
    case WEIR_KIND_WRITEV:
        weir_op_writev(op, 3, &iov, 1, 0);
        break;
    case WEIR_KIND_FSYNC:
        weir_op_fsync(op, 3);
        break;
    case WEIR_KIND_SYNC_FILE_RANGE:
        weir_op_sync_file_range(op, 3, 0, 0, 0);
        break;
    case WEIR_KIND_FALLOCATE:
        weir_op_fallocate(op, 3, 0, 0, 1);
        break;
    case WEIR_KIND_FADVISE:
        weir_op_fadvise(op, 3, 0, 0, 0);
        break;
    case WEIR_KIND_POLL:
        weir_op_poll(op, 3, 1);
        break;
    case WEIR_KIND_SPLICE:
        weir_op_splice(op, 3, WEIR_CURRENT, 4, WEIR_CURRENT, 1, 0);
        break;
    case WEIR_KIND_TIMEOUT:
        weir_op_timeout(op, 1);
        break;
    default:
        break;
    }
}

static void fill_path(struct weir_op *op, unsigned kind)
{
    switch (kind) {
    case WEIR_KIND_OPENAT:
        weir_op_openat(op, AT_FDCWD, "a", O_RDONLY, 0);
        break;
    case WEIR_KIND_CLOSE:
        weir_op_close(op, 3);
        break;
    case WEIR_KIND_STATX:
        weir_op_statx(op, AT_FDCWD, "a", 0, STATX_SIZE, &statx_buffer);
        break;
    case WEIR_KIND_UNLINKAT:
        weir_op_unlinkat(op, AT_FDCWD, "a", 0);
        break;
    case WEIR_KIND_RENAMEAT:
        weir_op_renameat(op, AT_FDCWD, "a", AT_FDCWD, "b", 0);
        break;
    case WEIR_KIND_LINKAT:
        weir_op_linkat(op, AT_FDCWD, "a", AT_FDCWD, "b", 0);
        break;
    case WEIR_KIND_SYMLINKAT:
        weir_op_symlinkat(op, "a", AT_FDCWD, "b");
        break;
    case WEIR_KIND_MKDIRAT:
        weir_op_mkdirat(op, AT_FDCWD, "a", 0700);
        break;
    default:
        break;
    }
}

static void fill_socket(struct weir_op *op, unsigned kind)
{
    switch (kind) {
    case WEIR_KIND_SOCKET:
        weir_op_socket(op, AF_INET, SOCK_STREAM, 0);
        break;
    case WEIR_KIND_BIND:
        weir_op_bind(op, 3, (struct sockaddr *)&address, sizeof address);
        break;
    case WEIR_KIND_LISTEN:
        weir_op_listen(op, 3, 1);
        break;
    case WEIR_KIND_SETSOCKOPT:
        weir_op_setsockopt(op, 3, SOL_SOCKET, SO_REUSEADDR, buffer, 4);
        break;
    case WEIR_KIND_ACCEPT:
        weir_op_accept(op, 3, (struct sockaddr *)&address, &address_length, 0);
        break;
    case WEIR_KIND_CONNECT:
        weir_op_connect(op, 3, (struct sockaddr *)&address, sizeof address);
        break;
    case WEIR_KIND_RECV:
        weir_op_recv(op, 3, buffer, sizeof buffer, 0);
        break;
    case WEIR_KIND_SEND:
        weir_op_send(op, 3, buffer, sizeof buffer, 0);
        break;
    case WEIR_KIND_RECVMSG:
        weir_op_recvmsg(op, 3, &message, 0);
        break;
    case WEIR_KIND_SENDMSG:
        weir_op_sendmsg(op, 3, &message, 0);
        break;
    case WEIR_KIND_SHUTDOWN:
        weir_op_shutdown(op, 3, SHUT_RDWR);
        break;
    default:
        break;
    }
}

static int64_t nothing(void *argument)
{
    return argument != NULL;
}

static void fill_others(struct weir_op *op, unsigned kind)
{
    switch (kind) {
    case WEIR_KIND_FTRUNCATE:
        weir_op_ftruncate(op, 3, 10);
        break;
    case WEIR_KIND_SIGNAL:
        weir_op_signal(op, WEIR_SIGNAL(SIGUSR1), NULL);
        break;
    case WEIR_KIND_CHILD:
        weir_op_child(op, 1, NULL);
        break;
    case WEIR_KIND_CALL:
        weir_op_call(op, nothing, NULL);
        break;
    default:
        break;
    }
}

SEAM_TEST(a_fill_helper_writes_kind_and_arguments_and_nothing_else)
{
    for (unsigned kind = WEIR_KIND_NOP; kind < WEIR_KIND_COUNT; kind++) {
        struct weir_op op;
        struct weir_op before;
        memset(&op, 0x5a, sizeof op);
        op.state = 0; /* with its caller */
        memcpy(&before, &op, sizeof op);
        fill_data(&op, kind);
        fill_path(&op, kind);
        fill_socket(&op, kind);
        fill_others(&op, kind);
        expect_equal(op.kind, kind);
        expect(op.callback == before.callback);
        expect(op.user == before.user);
        expect(op.task == before.task);
        expect_equal(op.deadline_ns, before.deadline_ns);
        expect_equal(op.intended_ns, before.intended_ns);
        expect_equal(op.flags, before.flags);
        expect_equal(op.route, before.route);
        expect_equal(op.state, 0);
        expect_equal(op.asked, before.asked);
        expect_equal(op.rw_flags, 0);
        expect_equal(op.ioprio, 0);
        expect_equal(op.buffer_index, 0);
        expect_equal(op.buffer_group, 0);
        expect_equal(op.buffer_id, before.buffer_id);
    }
}

static int fill_live(void *context)
{
    weir_op_nop(context);
    return 0;
}

#ifdef NDEBUG
static const int filling_a_live_op = 0; /* the caller's error, and unseen */
#else
static const int filling_a_live_op = 128 + SIGABRT;
#endif

SEAM_TEST(filling_a_live_op_is_caught_in_debug_builds)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    expect_equal(seam_child(fill_live, &op.op), filling_a_live_op);
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(deadline_and_intended_are_consumed_and_the_rest_persists)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "kept"}, &task), 0);
    struct seam_pair pipe = seam_pipe(0);
    seam_write(pipe.out, "ab", 2);
    struct tracked op = {0};
    weir_op_read(&op.op, pipe.in, op.data, 1, WEIR_CURRENT);
    op.op.user = &pipe;
    op.op.task = task;
    op.op.flags = WEIR_WHOLE;
    op.op.deadline_ns = weir_now(loop) + 3600 * WEIR_S;
    op.op.intended_ns = weir_now(loop);
    /* seam_called() expects both stamps to be zero in the callback. */
    expect_equal(seam_carry_out(loop, &op), 1);
    expect(op.op.user == &pipe);
    expect(op.op.task == task);
    expect_equal(op.op.flags, WEIR_WHOLE);
    expect_equal(op.op.route, WEIR_ROUTE_AUTO);
    expect(op.op.callback == seam_called);
    weir_op_read(&op.op, pipe.in, op.data, 1, WEIR_CURRENT);
    expect_equal(seam_carry_out(loop, &op), 1);
    struct weir_task_counters counters;
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.finished, 2);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(stamps_are_consumed_by_cancelled_and_expired_ops_and_timers_too)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[3] = {0};
    for (int i = 0; i < 2; i++) {
        weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.intended_ns = weir_now(loop);
        ops[i].op.deadline_ns = weir_now(loop) + (i == 0 ? 1000 : 3600 * WEIR_S);
        seam_submit(loop, &ops[i]);
    }
    weir_op_timeout_in(&ops[2].op, loop, 0);
    ops[2].op.intended_ns = weir_now(loop);
    seam_submit(loop, &ops[2]);
    expect_equal(seam_cancel(loop, &ops[1]), 0);
    expect_equal(seam_run(loop), 0);
    expect_equal(ops[0].result, -ETIME);
    expect_equal(ops[1].result, -ECANCELED);
    expect_equal(ops[2].result, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_second_submit_of_a_live_op_answers_EBUSY)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 4});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked in_flight = {0};
    struct tracked at_gate = {0};
    struct tracked timer = {0};
    seam_read_byte(loop, &in_flight, pipe.in);
    seam_refused(loop, &in_flight, -EBUSY);
    seam_turns(loop, 2);
    seam_read_byte(loop, &at_gate, pipe.in);
    weir_op_timeout_in(&timer.op, loop, 3600 * WEIR_S);
    seam_submit(loop, &timer);
    seam_refused(loop, &in_flight, -EBUSY);
    seam_refused(loop, &at_gate, -EBUSY);
    seam_refused(loop, &timer, -EBUSY);
    expect_equal(seam_cancel(loop, &at_gate), 0);
    seam_refused(loop, &at_gate, -EBUSY);
    expect_equal(seam_cancel(loop, &timer), 0);
    seam_refused(loop, &timer, -EBUSY);
    seam_write(pipe.out, "a", 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(in_flight.result, 1);
    expect_equal(at_gate.result, -ECANCELED);
    expect_equal(timer.result, -ECANCELED);
    expect_equal(in_flight.calls + at_gate.calls + timer.calls, 3);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(a_live_op_submitted_to_another_loop_answers_EBUSY)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    seam_read_byte(loop, &op, pipe.in);
    seam_refused(other, &op, -EBUSY);
    seam_turns(loop, 2);
    seam_refused(other, &op, -EBUSY);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &op);
    /* Back with its caller, it may go to either. */
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(other, &op), 0);
    seam_end(other);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_fill_helper_writes_kind_and_arguments_and_nothing_else),
    cmocka_unit_test(filling_a_live_op_is_caught_in_debug_builds),
    cmocka_unit_test(deadline_and_intended_are_consumed_and_the_rest_persists),
    cmocka_unit_test(stamps_are_consumed_by_cancelled_and_expired_ops_and_timers_too),
    cmocka_unit_test(a_second_submit_of_a_live_op_answers_EBUSY),
    cmocka_unit_test(a_live_op_submitted_to_another_loop_answers_EBUSY),
};

const struct seam_group refill_group = SEAM_GROUP("refill", tests);
