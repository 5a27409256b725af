/* SPDX-License-Identifier: MIT */
/*
 * faults.c: the program that runs while strace makes its io_uring_enter calls fail (faults.py says
 * which). Every op must be handed back exactly once with the right data.
 *
 *   faults work    opens, works with checked data through a gate of 4, closes
 *   faults open    opens and closes: the enters before the first mark are the probe's own
 *   faults failed  expects a fatal error at the first enter after its second mark
 *
 * A mark is a getppid(2), which nothing else here calls: it tells the trace's phases apart.
 */
#include "check.h"
#include "failed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 4
#define ROUNDS 24
#define BLOCK 1000

struct tracked {
    struct weir_op op;
    bool live;
    unsigned accepted;
    unsigned handed;
    int64_t expected;
};

/* What every round submits, in this order. */
enum part {
    PIPE_READ, /* first, so that it waits in the kernel for the write */
    SOCKET_READ,
    FILE_WRITE,
    FILE_READ, /* the block of the round before */
    PIPE_WRITE,
    SOCKET_WRITE,
    TIMER,
    NOP,
    PARTS
};

struct work {
    struct weir_loop *loop;
    struct tracked parts[PARTS];
    int file;
    int pipe[2];
    int socket[2];
    unsigned round;
    unsigned live;
    unsigned total;
    unsigned char sent[3][BLOCK]; /* to file, pipe and socket */
    unsigned char got[3][BLOCK];
};

static void mark(void)
{
    syscall(SYS_getppid);
}

static void pattern(unsigned char *block, unsigned round, unsigned stream)
{
    for (size_t i = 0; i < BLOCK; i++) {
        block[i] = (unsigned char)(round * 131 + stream * 17 + i * 7 + i / 251);
    }
}

static void on_part(struct weir_op *op)
{
    struct work *work = op->user;
    struct tracked *part = WEIR_CONTAINER(op, struct tracked, op);
    CHECK(part->live);
    part->live = false;
    part->handed++;
    work->live--;
    if (op->result != part->expected) {
        check_fail(WEIR_SITE, "round %u: %s gave %lld, not %lld", work->round,
                   weir_kind_name(op->kind), (long long)op->result, (long long)part->expected);
    }
}

static void send_off(struct work *work, enum part which, int64_t expected)
{
    struct tracked *part = &work->parts[which];
    part->expected = expected;
    part->op.callback = on_part;
    part->op.user = work;
    CHECK_EQUAL(weir_submit(work->loop, &part->op), 0);
    part->live = true;
    part->accepted++;
    work->live++;
    work->total++;
}

static void fill_round(struct work *work)
{
    struct tracked *parts = work->parts;
    for (unsigned stream = 0; stream < 3; stream++) {
        pattern(work->sent[stream], work->round, stream);
        memset(work->got[stream], 0, BLOCK);
    }
    parts[PIPE_READ].op.flags = WEIR_WHOLE;
    uint64_t block_at = (uint64_t)work->round * BLOCK;
    weir_op_read(&parts[PIPE_READ].op, work->pipe[0], work->got[1], BLOCK, 0);
    weir_op_recv(&parts[SOCKET_READ].op, work->socket[0], work->got[2], BLOCK, 0);
    weir_op_write(&parts[FILE_WRITE].op, work->file, work->sent[0], BLOCK, block_at);
    weir_op_write(&parts[PIPE_WRITE].op, work->pipe[1], work->sent[1], BLOCK, 0);
    weir_op_send(&parts[SOCKET_WRITE].op, work->socket[1], work->sent[2], BLOCK, 0);
    weir_op_timeout_in(&parts[TIMER].op, work->loop, 100 * WEIR_US);
    weir_op_nop(&parts[NOP].op);
    send_off(work, PIPE_READ, BLOCK);
    send_off(work, SOCKET_READ, BLOCK);
    send_off(work, FILE_WRITE, BLOCK);
    if (work->round > 0) {
        weir_op_read(&parts[FILE_READ].op, work->file, work->got[0], BLOCK, block_at - BLOCK);
        send_off(work, FILE_READ, BLOCK);
    }
    send_off(work, PIPE_WRITE, BLOCK);
    send_off(work, SOCKET_WRITE, BLOCK);
    send_off(work, TIMER, 0);
    send_off(work, NOP, 0);
}

static void check_round(struct work *work)
{
    for (unsigned i = 0; i < PARTS; i++) {
        CHECK_EQUAL(work->parts[i].handed, work->parts[i].accepted);
    }
    CHECK(memcmp(work->got[1], work->sent[1], BLOCK) == 0);
    CHECK(memcmp(work->got[2], work->sent[2], BLOCK) == 0);
    unsigned char expected[BLOCK];
    if (work->round > 0) {
        pattern(expected, work->round - 1, 0);
        CHECK(memcmp(work->got[0], expected, BLOCK) == 0);
    }
}

static struct weir_loop *open_loop(void)
{
    struct weir_options options = {.depth = DEPTH, .waiting_max = PARTS};
    struct weir_loop *loop = NULL;
    CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
    mark();
    return loop;
}

/* What the driver compares with the trace. */
static void print_counters(const struct work *work)
{
    struct weir_counters counters;
    CHECK_EQUAL(weir_loop_counters(work->loop, &counters), 0);
    CHECK_EQUAL(counters.submitted, work->total);
    CHECK_EQUAL(counters.finished, work->total);
    CHECK_EQUAL(counters.refused, 0);
    CHECK_EQUAL(counters.cq_overflow, 0);
    CHECK_EQUAL(counters.stale, 0);
    CHECK_EQUAL(counters.in_flight, 0);
    printf("enters=%llu EINTR=%llu EAGAIN=%llu EBUSY=%llu short=%llu\n",
           (unsigned long long)counters.enters, (unsigned long long)counters.enter_eintr,
           (unsigned long long)counters.enter_eagain, (unsigned long long)counters.enter_ebusy,
           (unsigned long long)counters.enter_short);
}

/* With two ops in flight: they come back cancelled, and each once. */
static void close_busy(struct work *work)
{
    mark();
    struct tracked *parts = work->parts;
    parts[PIPE_READ].op.flags = 0;
    weir_op_read(&parts[PIPE_READ].op, work->pipe[0], work->got[1], BLOCK, 0);
    weir_op_timeout_in(&parts[TIMER].op, work->loop, 3600 * WEIR_S);
    send_off(work, PIPE_READ, -ECANCELED);
    send_off(work, TIMER, -ECANCELED);
    CHECK(weir_loop_turn(work->loop, 0) >= 0);
    CHECK_EQUAL(weir_loop_close(work->loop, 5 * WEIR_S, NULL), 0);
    CHECK_EQUAL(work->live, 0);
    CHECK_EQUAL(parts[PIPE_READ].handed, parts[PIPE_READ].accepted);
    CHECK_EQUAL(parts[TIMER].handed, parts[TIMER].accepted);
}

static void do_work(void)
{
    static struct work work;
    CHECK_EQUAL(pipe2(work.pipe, O_CLOEXEC), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, work.socket), 0);
    work.file = check_file((size_t)ROUNDS * BLOCK);
    work.loop = open_loop();
    for (work.round = 0; work.round < ROUNDS; work.round++) {
        fill_round(&work);
        check_drain(work.loop);
        CHECK_EQUAL(work.live, 0);
        check_round(&work);
    }
    print_counters(&work);
    close_busy(&work);
}

static void do_open(void)
{
    struct weir_loop *loop = open_loop();
    CHECK_EQUAL(weir_loop_close(loop, 5 * WEIR_S, NULL), 0);
}

static void do_failed(void)
{
    struct weir_loop *loop = open_loop();
    static struct failed failed;
    failed_prepare(&failed, loop);
    mark();
    int answer = weir_loop_turn(loop, 0);
    if (answer >= 0) {
        /* The driver's first run, which only counts the enters up to the mark. */
        printf("no fault: turn answered %d\n", answer);
        exit(0);
    }
    failed_check(&failed, answer, -EBADR);
}

int main(int argc, char **argv)
{
    check_guard(30);
    if (argc == 2 && strcmp(argv[1], "work") == 0) {
        do_work();
    } else if (argc == 2 && strcmp(argv[1], "open") == 0) {
        do_open();
    } else if (argc == 2 && strcmp(argv[1], "failed") == 0) {
        do_failed();
    } else {
        fprintf(stderr, "usage: faults work|open|failed\n");
        return 2;
    }
    printf("OK\n");
    return 0;
}
