/* SPDX-License-Identifier: MIT */
/*
 * recorded.c POLICY WAY: a mixed load of all that can befall an op, on a loop with a flight
 * recorder, whose dump goes to stdout, for tests/unit/trace.py to judge.
 *
 *   whole    nothing is overwritten; a last line says how many lives and refusals there were
 *   live     by the loop's thread, between two turns, ops waiting and in flight
 *   stuck    by another thread, while the loop is in a callback that waits for it
 *   beside   by another thread, again and again while the load runs: the last one
 */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ITEMS 48
#define BUFFER 4096
#define POSTS 200
#define OPS_WHOLE 4000
#define OPS_MOST 12000
#define EVENTS_WHOLE (1u << 16)
#define EVENTS_FEW 4096

enum way { WHOLE, LIVE, STUCK, BESIDE };

struct item {
    struct weir_op op;
    bool busy;
    int pair[2]; /* what a RECV of it waits on */
    char buffer[BUFFER];
};

struct load {
    struct weir_loop *loop;
    struct weir_task *task;
    int file;
    uint64_t random;
    unsigned budget; /* ops still to be submitted */
    unsigned lives;
    unsigned refused;
    unsigned live;
    int over;
    struct item items[ITEMS];
    struct weir_op posts[POSTS];
    FILE *dump;
    char *text;
    size_t size;
};

static struct load load;

static uint64_t below(uint64_t limit)
{
    load.random = load.random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (load.random >> 33) % limit;
}

/* --- the dump --------------------------------------------------------------------------------- */

static int put(void *context, const char *text, size_t size)
{
    return fwrite(text, 1, size, context) == size ? 0 : -EIO;
}

/* Keeps the last one. */
static void dump(void)
{
    free(load.text);
    load.text = NULL;
    FILE *file = open_memstream(&load.text, &load.size);
    CHECK(file);
    CHECK_EQUAL(weir_loop_trace(load.loop, put, file), 0);
    CHECK_EQUAL(fclose(file), 0);
}

static void *dump_once(void *argument)
{
    dump();
    return argument;
}

static void *dump_on(void *argument)
{
    do {
        dump();
    } while (!__atomic_load_n(&load.over, __ATOMIC_ACQUIRE));
    return argument;
}

/* --- the load --------------------------------------------------------------------------------- */

static int64_t add_up(void *argument)
{
    const struct item *item = argument;
    int64_t sum = 0;
    for (size_t i = 0; i < 64; i++) {
        sum += item->buffer[i];
    }
    return sum;
}

static void on_item(struct weir_op *op)
{
    struct item *item = op->user;
    item->busy = false;
    load.live--;
}

/* A RECV that nobody sends to, with an end in sight. */
static void fill_recv(struct item *item)
{
    weir_op_recv(&item->op, item->pair[0], item->buffer, BUFFER, 0);
    if (below(2)) {
        item->op.deadline_ns = weir_now(load.loop) + below(2000000);
    } else {
        CHECK_EQUAL(write(item->pair[1], "a", 1), 1);
    }
}

static void fill_call(struct item *item)
{
    static const uint16_t flags[] = {0, WEIR_SHORT, WEIR_OR_RUN, WEIR_OR_REFUSE};
    weir_op_call(&item->op, add_up, item);
    item->op.flags = flags[below(4)];
}

static void fill(struct item *item)
{
    item->op.flags = 0;
    item->op.route = WEIR_ROUTE_AUTO;
    item->op.task = below(3) == 0 ? load.task : NULL;
    uint64_t offset = below(64) * BUFFER;
    switch (below(9)) {
    case 0:
        weir_op_nop(&item->op);
        break;
    case 1:
        weir_op_read(&item->op, load.file, item->buffer, BUFFER, offset);
        item->op.route = (uint8_t)below(WEIR_ROUTE_OFFLOAD + 1);
        break;
    case 2:
        weir_op_write(&item->op, load.file, item->buffer, BUFFER, offset);
        item->op.flags = below(2) ? WEIR_WHOLE : WEIR_OR_REFUSE;
        break;
    case 3:
        weir_op_fdatasync(&item->op, load.file);
        break;
    case 4:
        weir_op_timeout_in(&item->op, load.loop, below(1500000));
        break;
    case 5:
        fill_call(item);
        break;
    case 6:
        weir_op_poll(&item->op, load.file, 1);
        break;
    case 7:
        weir_op_read(&item->op, -1, item->buffer, BUFFER, 0); /* -EBADF */
        break;
    default:
        fill_recv(item);
        break;
    }
}

static void count(int r)
{
    CHECK(r == 0 || r == -EAGAIN);
    load.lives += r == 0;
    load.refused += r != 0;
}

static void submit_some(void)
{
    for (size_t i = 0; i < ITEMS && load.budget > 0; i++) {
        struct item *item = &load.items[i];
        if (item->busy && below(16) == 0) {
            weir_cancel(load.loop, &item->op);
        } else if (!item->busy && below(3) > 0) {
            fill(item);
            int r = weir_submit(load.loop, &item->op);
            count(r);
            item->op.deadline_ns = r == 0 ? item->op.deadline_ns : 0;
            item->busy = r == 0;
            load.live += r == 0;
            load.budget--;
        }
    }
}

static void on_post(struct weir_op *op)
{
    (void)op;
    load.live--;
}

static void *post_all(void *argument)
{
    for (size_t i = 0; i < POSTS; i++) {
        struct weir_op *op = &load.posts[i];
        op->callback = on_post;
        if (i % 4) {
            weir_op_nop(op);
        } else {
            weir_op_timeout(op, 1);
        }
        int r;
        while ((r = weir_loop_post(load.loop, op)) == -EAGAIN) {
            usleep(100);
        }
        CHECK_EQUAL(r, 0);
    }
    return argument;
}

static void run_load(unsigned ops)
{
    pthread_t poster;
    load.budget = ops;
    load.live += POSTS;
    load.lives += POSTS;
    CHECK_EQUAL(pthread_create(&poster, NULL, post_all, NULL), 0);
    while (load.budget > 0 || load.live > 0) {
        submit_some();
        CHECK(weir_loop_turn(load.loop, WEIR_MS / 4) >= 0);
    }
    CHECK_EQUAL(pthread_join(poster, NULL), 0);
}

/* Ops that do not come back by themselves: armed, and behind them at the gate. */
static void arm(void)
{
    for (size_t i = 0; i < ITEMS; i++) {
        struct item *item = &load.items[i];
        item->op.flags = 0;
        item->op.route = WEIR_ROUTE_AUTO;
        if (i % 8 == 0) {
            weir_op_timeout_in(&item->op, load.loop, 3600 * WEIR_S);
        } else {
            weir_op_recv(&item->op, item->pair[0], item->buffer, BUFFER, MSG_PEEK);
        }
        count(weir_submit(load.loop, &item->op));
    }
    CHECK(weir_loop_turn(load.loop, 0) >= 0);
}

static void on_stuck(struct weir_op *op)
{
    pthread_t other;
    (void)op;
    CHECK_EQUAL(pthread_create(&other, NULL, dump_once, NULL), 0);
    CHECK_EQUAL(pthread_join(other, NULL), 0);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void open_load(enum weir_policy policy, enum way way)
{
    struct weir_options options = {
        .policy = policy,
        .depth = 12,
        .waiting_max = 12,
        .timers_max = 8,
        .offload_depth = 3,
        .posts_max = 16,
        .recorder_events = way == WHOLE ? EVENTS_WHOLE : EVENTS_FEW,
    };
    load.loop = check_open(&options);
    struct weir_task_options task = {.name = "the \"log\"", .depth = 4};
    CHECK_EQUAL(weir_task_open(load.loop, &task, &load.task), 0);
    load.file = check_file(64 * BUFFER);
    load.random = 7;
    for (size_t i = 0; i < ITEMS; i++) {
        struct item *item = &load.items[i];
        item->op.callback = on_item;
        item->op.user = item;
        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, item->pair), 0);
    }
}

static void close_load(void)
{
    CHECK_EQUAL(weir_loop_close(load.loop, 5 * WEIR_S, NULL), 0);
    CHECK(fwrite(load.text, 1, load.size, stdout) == load.size);
    free(load.text);
}

static void run(enum way way)
{
    pthread_t other;
    if (way == BESIDE) {
        CHECK_EQUAL(pthread_create(&other, NULL, dump_on, NULL), 0);
    }
    run_load(way == WHOLE ? OPS_WHOLE : OPS_MOST);
    if (way == BESIDE) {
        __atomic_store_n(&load.over, 1, __ATOMIC_RELEASE);
        CHECK_EQUAL(pthread_join(other, NULL), 0);
        return;
    }
    arm();
    if (way == STUCK) {
        struct weir_op op = {.callback = on_stuck};
        weir_op_call(&op, add_up, &load.items[0]);
        CHECK_EQUAL(weir_submit(load.loop, &op), 0);
        while (!load.text) {
            CHECK(weir_loop_turn(load.loop, WEIR_MS) >= 0);
        }
    } else {
        dump();
    }
}

int main(int argc, char **argv)
{
    static const char *const ways[] = {"whole", "live", "stuck", "beside"};
    CHECK_EQUAL(argc, 3);
    enum weir_policy policy = strcmp(argv[1], "epoll") == 0 ? WEIR_EPOLL : WEIR_IO_URING;
    for (int way = WHOLE; way <= BESIDE; way++) {
        if (strcmp(argv[2], ways[way]) == 0) {
            check_guard(120);
            open_load(policy, (enum way)way);
            run((enum way)way);
            close_load();
            if (way == WHOLE) {
                printf("lives %u refused %u\n", load.lives, load.refused);
            }
            return 0;
        }
    }
    return 2;
}
