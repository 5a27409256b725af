/* SPDX-License-Identifier: MIT */
/*
 * top_target.c: a service to look at: top_target SOCKET [blind | both] [many] [fails] [watched].
 * Its loop "main" has tasks that write, read and compute at a steady rate, and an op that waits for
 * a peer for ever; with "blind" there is a loop "side & co" too, not WEIR_INSPECTABLE; with
 * "both" it is, and an op of it is older than that peer's, another one younger. With "many" 5000
 * more ops wait. With "fails" a task "broken" has nothing but errors; with "watched" the main loop
 * has a watchdog.
 *
 * Lines on standard input: "stick" makes a callback stand still until the next line; the end of
 * input, or "end", ends it. Lines on standard output: "ready", "stuck", "going on".
 */
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK 4096
#define OPS_A_TICK 4
#define MANY 5000
#define DEPTH 16384

struct work {
    struct weir_op op;
    char block[BLOCK];
};

static struct weir_loop *loop;
static struct weir_op tick;
static struct weir_op listening; /* to standard input */
static struct weir_op peer;
static struct weir_op *many;
static struct weir_op digest;
static struct weir_op broken; /* task NULL: it is not wanted */
static struct work writes[OPS_A_TICK];
static struct work reads[OPS_A_TICK];
static bool over;
static char byte;

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

/* Blocks. False: the end. */
static bool read_line(char *ret_line, size_t size)
{
    size_t used = 0;
    char c;
    while (read(STDIN_FILENO, &c, 1) == 1) {
        if (c == '\n') {
            ret_line[used] = '\0';
            return strcmp(ret_line, "end") != 0;
        }
        if (used + 1 < size) {
            ret_line[used++] = c;
        }
    }
    return false;
}

static void on_input(struct weir_op *op)
{
    char line[64];
    if (op->result < 0) {
        return; /* the loop closes */
    }
    over = !read_line(line, sizeof line);
    if (!over && strcmp(line, "stick") == 0) {
        say("stuck");
        over = !read_line(line, sizeof line); /* here it stands still */
        say("going on");
    }
    if (over) {
        weir_loop_stop(loop);
        return;
    }
    weir_op_poll(op, STDIN_FILENO, POLLIN);
    CHECK_EQUAL(weir_submit(loop, op), 0);
}

static int64_t compute(void *argument)
{
    (void)argument;
    return 0;
}

static void on_tick(struct weir_op *op)
{
    if (op->result < 0) {
        return; /* the loop closes */
    }
    for (unsigned i = 0; i < OPS_A_TICK; i++) {
        weir_submit(loop, &writes[i].op); /* one that is live still is refused */
        weir_submit(loop, &reads[i].op);
    }
    weir_submit(loop, &digest);
    if (broken.task) {
        weir_submit(loop, &broken);
    }
    weir_op_timeout_in(op, loop, 2 * WEIR_MS);
    CHECK_EQUAL(weir_submit(loop, op), 0);
}

static struct weir_task *open_task(const char *name, uint32_t backtrace_every)
{
    struct weir_task *task;
    const struct weir_task_options options = {.name = name, .backtrace_every = backtrace_every};
    CHECK_EQUAL(weir_task_open(loop, &options, &task), 0);
    return task;
}

static void begin_work(int file, int waits_for)
{
    struct weir_task *append = open_task("log append", 0);
    struct weir_task *fetch = open_task("fetch", 0);
    for (unsigned i = 0; i < OPS_A_TICK; i++) {
        writes[i].op = (struct weir_op){.callback = check_on_done, .task = append};
        weir_op_write(&writes[i].op, file, writes[i].block, BLOCK, i * BLOCK);
        reads[i].op = (struct weir_op){.callback = check_on_done, .task = fetch};
        weir_op_read(&reads[i].op, file, reads[i].block, BLOCK, i * BLOCK);
    }
    digest = (struct weir_op){.callback = check_on_done, .task = open_task("digest", 0)};
    weir_op_call(&digest, compute, NULL);
    peer = (struct weir_op){.callback = check_on_done, .task = open_task("peer \"1\"", 1)};
    weir_op_recv(&peer, waits_for, &byte, 1, 0);
    CHECK_EQUAL(weir_submit(loop, &peer), 0);
    listening = (struct weir_op){.callback = on_input};
    weir_op_poll(&listening, STDIN_FILENO, POLLIN);
    CHECK_EQUAL(weir_submit(loop, &listening), 0);
    tick = (struct weir_op){.callback = on_tick};
    weir_op_timeout_in(&tick, loop, 0);
    CHECK_EQUAL(weir_submit(loop, &tick), 0);
}

static void wait_for_many(int waits_for)
{
    struct weir_task *task = open_task("crowd", 0);
    many = calloc(MANY, sizeof *many);
    CHECK(many != NULL);
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = (struct weir_op){.callback = check_on_done, .task = task};
        weir_op_recv(&many[i], waits_for, &byte, 1, 0);
        CHECK_EQUAL(weir_submit(loop, &many[i]), 0);
    }
}

/* Reads of what is open for writing alone. */
static void begin_failing(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    broken = (struct weir_op){.callback = check_on_done, .task = open_task("broken", 0)};
    weir_op_read(&broken, fd, &byte, 1, 0);
}

static void on_stall(void *context, const struct weir_stall *stall)
{
    (void)context;
    (void)stall;
}

static struct weir_watchdog *begin_watch(void)
{
    struct weir_watchdog *watchdog;
    CHECK_EQUAL(
        weir_watchdog_open(&(struct weir_watchdog_options){.callback = on_stall}, &watchdog), 0);
    CHECK_EQUAL(weir_watchdog_watch(watchdog, loop, "main"), 0);
    return watchdog;
}

/* A loop beside the main one. */
static struct weir_loop *open_side(struct weir_endpoint *endpoint, bool is_inspectable)
{
    struct weir_loop *side = check_open(&(struct weir_options){
        .flags = is_inspectable ? WEIR_INSPECTABLE : 0,
        .depth = 64,
        .offload_workers = WEIR_NO_OFFLOAD,
    });
    CHECK_EQUAL(weir_endpoint_add(endpoint, side, "side & co"), 0);
    return side;
}

/* Apart from what was submitted before and after by more than clocks may differ. */
static void wait_aside(struct weir_loop *side, struct weir_op *op, int waits_for)
{
    usleep(100000);
    *op = (struct weir_op){.callback = check_on_done};
    weir_op_recv(op, waits_for, &byte, 1, 0);
    CHECK_EQUAL(weir_submit(side, op), 0);
    CHECK(weir_loop_turn(side, 0) >= 0);
}

/* Until the end: also while no work comes back. */
static void run(struct weir_loop *side)
{
    static struct weir_op nop = {.callback = check_on_done};
    for (unsigned turns = 0; !over; turns++) {
        CHECK(weir_loop_turn(loop, -1) >= 0);
        if (side) {
            weir_op_nop(&nop);
            weir_submit(side, &nop);
            CHECK(weir_loop_turn(side, 0) >= 0);
        }
        if (turns == 20) {
            say("ready");
        }
    }
}

static bool has_mode(char **modes, const char *mode)
{
    while (*modes && strcmp(*modes, mode) != 0) {
        modes++;
    }
    return *modes != NULL;
}

int main(int argc, char **argv)
{
    static struct weir_op aside[2];
    struct weir_endpoint *endpoint;
    struct weir_loop *side = NULL;
    struct weir_watchdog *watchdog = NULL;
    int pair[2];
    CHECK(argc >= 2);
    bool both = has_mode(argv + 2, "both");
    check_guard(300);
    loop = check_open(&(struct weir_options){
        .flags = WEIR_INSPECTABLE, .depth = DEPTH, .offload_workers = 1, .recorder_events = 1024});
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    if (has_mode(argv + 2, "watched")) {
        watchdog = begin_watch();
    }
    CHECK_EQUAL(weir_endpoint_open(&(struct weir_endpoint_options){.path = argv[1]}, &endpoint), 0);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loop, "main"), 0);
    if (both || has_mode(argv + 2, "blind")) {
        side = open_side(endpoint, both);
    }
    if (both) {
        wait_aside(side, &aside[0], pair[0]);
    }
    begin_work(check_file((size_t)OPS_A_TICK * BLOCK), pair[0]);
    if (both) {
        wait_aside(side, &aside[1], pair[0]);
    }
    if (has_mode(argv + 2, "fails")) {
        begin_failing();
    }
    if (has_mode(argv + 2, "many")) {
        wait_for_many(pair[0]);
    }
    run(side);
    check_close(loop);
    if (side) {
        check_close(side);
    }
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(weir_watchdog_close(watchdog), 0);
    free(many);
    return 0;
}
