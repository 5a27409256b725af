/* SPDX-License-Identifier: MIT */
/*
 * again.c: what an op was tried for in one life is forgotten in the next.
 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define LIVES 24 /* more than the polls in a row after which the engine only pauses */

static uint64_t retried(struct weir_loop *loop)
{
    struct weir_counters counters;
    CHECK_EQUAL(weir_loop_counters(loop, &counters), 0);
    return counters.retried;
}

struct pipes {
    int from[2];
    int to[2];
};

static struct pipes open_pipes(void)
{
    struct pipes pipes;
    CHECK_EQUAL(pipe2(pipes.from, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(pipe2(pipes.to, O_CLOEXEC | O_NONBLOCK), 0);
    return pipes;
}

/* A splice of an empty pipe that does not block: the kernel answers EAGAIN, and it is tried again
 * once there is something. */
static void splice_when_ready(struct weir_loop *loop, struct weir_op *op, const struct pipes *pipes,
                              int64_t wait_ns)
{
    uint64_t before = retried(loop);
    char byte;
    weir_op_splice(op, pipes->from[0], WEIR_CURRENT, pipes->to[1], WEIR_CURRENT, 1, 0);
    CHECK_EQUAL(weir_submit(loop, op), 0);
    while (retried(loop) == before) {
        CHECK_EQUAL(weir_loop_turn(loop, WEIR_MS), 0);
    }
    uint64_t until = weir_now(loop) + (uint64_t)wait_ns;
    while (weir_now(loop) < until) {
        CHECK_EQUAL(weir_loop_turn(loop, WEIR_MS), 0);
    }
    CHECK_EQUAL(retried(loop), before + 1); /* it polls, however long it takes */
    CHECK_EQUAL(write(pipes->from[1], "a", 1), 1);
    check_drain(loop);
    CHECK_EQUAL(op->result, 1);
    CHECK_EQUAL(read(pipes->to[0], &byte, 1), 1);
}

static void an_op_polls_for_readiness_in_every_life(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct pipes pipes = open_pipes();
    struct weir_op op = {.callback = check_on_done};
    for (int i = 0; i < LIVES; i++) {
        splice_when_ready(loop, &op, &pipes, 0);
    }
    splice_when_ready(loop, &op, &pipes, 200 * WEIR_MS);
    CHECK_EQUAL(check_handed, LIVES + 1);
    check_close(loop);
}

/* -EISCONN is a success only for an op that has tried before. */
static void a_connect_does_not_inherit_the_tries_of_another_life(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct pipes pipes = open_pipes();
    struct weir_op op = {.callback = check_on_done};
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = (struct sockaddr *)&name;
    socklen_t length = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQUAL(bind(listener, address, length), 0);
    CHECK_EQUAL(listen(listener, 8), 0);
    CHECK_EQUAL(getsockname(listener, address, &length), 0);
    CHECK_EQUAL(connect(client, address, length), 0);
    splice_when_ready(loop, &op, &pipes, 0);
    weir_op_connect(&op, client, address, length);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    check_drain(loop);
    CHECK_EQUAL(op.result, -EISCONN);
    check_close(loop);
    close(client);
    close(listener);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(an_op_polls_for_readiness_in_every_life),
        CHECK_TEST(a_connect_does_not_inherit_the_tries_of_another_life),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
