/* SPDX-License-Identifier: MIT */
#include "failed.h"

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_handed(struct weir_op *op)
{
    WEIR_CONTAINER(op, struct failed_op, op)->handed++;
}

static void send_off(struct failed *failed, struct failed_op *it)
{
    it->op.callback = on_handed;
    CHECK_EQUAL(weir_submit(failed->loop, &it->op), 0);
}

void failed_prepare(struct failed *failed, struct weir_loop *loop)
{
    memset(failed, 0, sizeof *failed);
    failed->loop = loop;
    CHECK_EQUAL(pipe2(failed->pipe, O_CLOEXEC), 0);
    weir_op_read(&failed->in_flight.op, failed->pipe[0], &failed->in_flight.byte, 1, 0);
    send_off(failed, &failed->in_flight);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    for (int i = 0; i < 3; i++) {
        weir_op_nop(&failed->staged[i].op);
        send_off(failed, &failed->staged[i]);
    }
    for (int i = 0; i < 2; i++) {
        weir_op_nop(&failed->at_gate[i].op);
        send_off(failed, &failed->at_gate[i]);
    }
    weir_op_timeout_in(&failed->timer.op, loop, 3600 * WEIR_S);
    send_off(failed, &failed->timer);
}

static void check_cancelled(const struct failed_op *it)
{
    CHECK_EQUAL(it->handed, 1);
    CHECK_EQUAL(it->op.result, -ECANCELED);
    CHECK_EQUAL(it->op.state, 0);
}

static void check_refuses(struct failed *failed, int error)
{
    CHECK_EQUAL(weir_loop_turn(failed->loop, 0), error);
    CHECK_EQUAL(weir_loop_turn(failed->loop, -1), error);
    CHECK_EQUAL(weir_loop_run(failed->loop), error);
    weir_op_nop(&failed->late.op);
    failed->late.op.callback = on_handed;
    CHECK_EQUAL(weir_submit(failed->loop, &failed->late.op), error);
    CHECK_EQUAL(failed->late.op.state, 0);
    struct weir_room room = {0};
    CHECK(weir_wait_room(failed->loop, &room, &failed->late.op) < 0);
    CHECK_EQUAL(weir_loop_fd(failed->loop), error);
}

static void check_closes(struct failed *failed, int error)
{
    struct weir_report left = {0};
    CHECK_EQUAL(weir_loop_close(failed->loop, 100 * WEIR_MS, &left), error);
    for (int i = 0; i < 3; i++) {
        check_cancelled(&failed->staged[i]);
    }
    for (int i = 0; i < 2; i++) {
        check_cancelled(&failed->at_gate[i]);
    }
    check_cancelled(&failed->timer);
    CHECK_EQUAL(failed->late.handed, 0);
    CHECK_EQUAL(failed->in_flight.handed, 0);
    CHECK_EQUAL(left.count, 1);
    CHECK(left.ops[0].op == &failed->in_flight.op);
    CHECK(strcmp(left.ops[0].kind, "read") == 0);
    CHECK(strcmp(left.ops[0].state, "in flight") == 0);
    CHECK(strstr(left.ops[0].site, "failed.c:") != NULL);
    CHECK_EQUAL(left.ops[0].fd, failed->pipe[0]);
    printf("the failed loop reports: %s of fd %d, %s, submitted at %s\n", left.ops[0].kind,
           left.ops[0].fd, left.ops[0].state, left.ops[0].site);
}

void failed_check(struct failed *failed, int answer, int error)
{
    CHECK_EQUAL(answer, error);
    check_refuses(failed, error);
    check_closes(failed, error);
    /* It stays CLOSING, and nothing comes back twice. */
    check_closes(failed, error);
    CHECK_EQUAL(weir_loop_abandon(failed->loop), 0);
    CHECK_EQUAL(failed->in_flight.handed, 0);
}
