/* SPDX-License-Identifier: MIT */
/*
 * observed FILE SOCKET SECONDS [stall]: a small store that can be looked into while it runs. It
 * appends to FILE, looks blocks up and sums them on workers, shows its numbers and live ops at the
 * unix socket SOCKET, and reports when its loop stands still; with `stall` once, for 300 ms.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

enum { APPENDS = 4, LOOKUPS = 16, BLOCK = 4096, FILE_BLOCKS = 4096 };

static struct request {
    struct weir_op op;
    uint64_t next; /* block, of an append */
    char bytes[BLOCK];
} appends[APPENDS], lookups[LOOKUPS];

static struct weir_loop *loop;
static struct weir_task *wal_append, *lookup, *checksum;
static struct weir_op nobody_answers; /* a read of a pipe into which nobody writes */
static struct weir_op second;         /* a timer */
static int file, ending, stall_wanted;

/* --- the store -------------------------------------------------------------------------------- */

/* A macro, so that reports name the line that asked, and not one of submit_at(). */
#define submit(op, callback, task) submit_at((op), (callback), (task), WEIR_SITE)

static void submit_at(struct weir_op *op, weir_callback *callback, struct weir_task *task,
                      const char *site)
{
    op->callback = callback;
    op->task = task;
    int r = weir_submit_at(loop, op, site);
    if (r < 0) {
        fprintf(stderr, "submit: %s\n", strerror(-r));
        exit(1);
    }
}

static void append(struct request *request);

static void on_appended(struct weir_op *op)
{
    if (!ending) {
        append(WEIR_CONTAINER(op, struct request, op));
    }
}

static void append(struct request *request)
{
    request->next = (request->next + APPENDS) % FILE_BLOCKS;
    weir_op_write(&request->op, file, request->bytes, BLOCK, request->next * BLOCK);
    request->op.rw_flags = RWF_DSYNC;
    submit(&request->op, on_appended, wal_append);
}

static void look_up(struct request *request);

static void compute_too_long(void)
{
    uint64_t until_ns = weir_now(loop) + 300 * WEIR_MS;
    while (weir_now(loop) < until_ns) {
    }
}

static void on_summed(struct weir_op *op)
{
    if (stall_wanted) {
        stall_wanted = 0;
        compute_too_long();
    }
    if (!ending) {
        look_up(WEIR_CONTAINER(op, struct request, op));
    }
}

static int64_t sum(void *argument) /* on a worker */
{
    const struct request *request = argument;
    uint64_t sum = 0;
    for (int i = 0; i < BLOCK; i++) {
        sum = sum * 31 + (unsigned char)request->bytes[i];
    }
    return (int64_t)(sum >> 1);
}

static void on_looked_up(struct weir_op *op)
{
    if (!ending) {
        struct request *request = WEIR_CONTAINER(op, struct request, op);
        weir_op_call(op, sum, request);
        submit(op, on_summed, checksum);
    }
}

static void look_up(struct request *request)
{
    uint64_t block = (uint64_t)rand() % FILE_BLOCKS;
    weir_op_read(&request->op, file, request->bytes, BLOCK, block * BLOCK);
    submit(&request->op, on_looked_up, lookup);
}

static void on_nobody(struct weir_op *op)
{
    (void)op;
}

static void on_end(struct weir_op *op)
{
    (void)op;
    ending = 1;
    weir_cancel(loop, &nobody_answers);
    weir_cancel(loop, &second);
}

/* --- who looks on ----------------------------------------------------------------------------- */

static void on_stall(void *context, const struct weir_stall *stall) /* the watchdog's thread */
{
    (void)context;
    fprintf(stderr, "%s stands still for %u ms, %s in %s, the callback of a %s of %s (%s)\n",
            stall->loop, (unsigned)(stall->lasted_ns / WEIR_MS),
            weir_stall_cause_name(stall->cause),
            stall->callback_symbol ? stall->callback_symbol : "its turn",
            stall->kind ? stall->kind : "-", stall->task ? stall->task : "-",
            stall->site ? stall->site : "-");
    backtrace_symbols_fd((void *const *)stall->frames, (int)stall->frame_count, STDERR_FILENO);
}

static struct weir_watchdog *watchdog;
static struct weir_endpoint *endpoint;

static int show(const char *path)
{
    struct weir_watchdog_options watch = {.callback = on_stall, .threshold_ns = 50 * WEIR_MS};
    int r = weir_watchdog_open(&watch, &watchdog);
    r = r < 0 ? r : weir_watchdog_watch(watchdog, loop, "store");
    r = r < 0 ? r : weir_endpoint_open(&(struct weir_endpoint_options){.path = path}, &endpoint);
    return r < 0 ? r : weir_endpoint_add(endpoint, loop, "store");
}

static struct weir_snapshot *now, *before;

/* What happened in the last second: what lies between two snapshots. In the loop's own thread
 * nothing moves between the two taken here; elsewhere take one, and weir_snapshot_copy() it. */
static void on_second(struct weir_op *op)
{
    const struct weir_snapshot_task *row;
    if (op->result < 0) { /* cancelled: the end */
        return;
    }
    weir_snapshot_clear(now);
    weir_snapshot_add(now, loop, "store");
    weir_snapshot_subtract(now, before);
    for (uint32_t i = 0; (row = weir_snapshot_task_at(now, i)) != NULL; i++) {
        printf(
            "%-12s %8" PRIu64 " ops, p99 of flight %6u us\n", row->task, row->counters.finished,
            (unsigned)(weir_histogram_percentile(&row->stages[WEIR_STAGE_FLIGHT], 99) / WEIR_US));
    }
    weir_snapshot_clear(before);
    weir_snapshot_add(before, loop, "store");
    if (!ending) { /* it may have been due together with the end, too late to be cancelled */
        weir_op_timeout_in(op, loop, WEIR_S);
        submit(op, on_second, NULL);
    }
}

/* --- beginning and end ------------------------------------------------------------------------ */

static int fail(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(-error));
    return 1;
}

static int open_file(const char *path)
{
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    bool bad = file < 0 || ftruncate(file, (off_t)FILE_BLOCKS * BLOCK) < 0;
    return bad ? -errno : 0;
}

static int open_all(const char *socket)
{
    struct weir_options options = {
        .flags = WEIR_INSPECTABLE, .depth = 64, .recorder_events = 1 << 16};
    int r = weir_loop_open(&options, &loop);
    struct weir_task_options task = {.name = "wal append", .share = 4};
    r = r < 0 ? r : weir_task_open(loop, &task, &wal_append);
    task = (struct weir_task_options){.name = "lookup", .backtrace_every = 100};
    r = r < 0 ? r : weir_task_open(loop, &task, &lookup);
    task = (struct weir_task_options){.name = "checksum"};
    r = r < 0 ? r : weir_task_open(loop, &task, &checksum);
    r = r < 0 ? r : weir_snapshot_open(0, 0, &now);
    r = r < 0 ? r : weir_snapshot_open(0, 0, &before);
    return r < 0 ? r : show(socket);
}

static int close_all(void)
{
    struct weir_report left;
    int r = weir_loop_close(loop, 5 * WEIR_S, &left);
    for (size_t i = 0; r == -ETIMEDOUT && i < left.count; i++) {
        const struct weir_live *op = &left.ops[i];
        fprintf(stderr, "%s of %s on fd %d, %u ms old, submitted at %s, is still out\n", op->kind,
                op->task, op->fd, (unsigned)(op->age_ns / WEIR_MS), op->site);
    }
    if (r == -ETIMEDOUT) {
        weir_loop_abandon(loop); /* or close it again, and wait longer */
    }
    weir_endpoint_close(endpoint); /* the loop has left both by itself */
    weir_watchdog_close(watchdog);
    return r;
}

int main(int argc, char **argv)
{
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    if (argc > 5 || seconds <= 0) {
        fprintf(stderr, "usage: observed FILE SOCKET SECONDS [stall]\n");
        return 2;
    }
    int r = open_file(argv[1]);
    if (r < 0) {
        return fail(argv[1], r);
    }
    r = open_all(argv[2]);
    if (r < 0) {
        return fail(argv[2], r);
    }
    struct weir_op end = {0};
    char byte;
    int pipe_fds[2];
    if (pipe(pipe_fds) < 0) {
        return fail("pipe", -errno);
    }
    stall_wanted = argc == 5 && strcmp(argv[4], "stall") == 0;
    weir_op_timeout_in(&end, loop, (uint64_t)(seconds * WEIR_S));
    submit(&end, on_end, NULL);
    weir_op_timeout_in(&second, loop, WEIR_S);
    submit(&second, on_second, NULL);
    weir_op_read(&nobody_answers, pipe_fds[0], &byte, 1, WEIR_CURRENT);
    submit(&nobody_answers, on_nobody, NULL);
    for (int i = 0; i < APPENDS; i++) {
        appends[i].next = (uint64_t)i;
        append(&appends[i]);
    }
    for (int i = 0; i < LOOKUPS; i++) {
        look_up(&lookups[i]);
    }
    r = weir_loop_run(loop);
    weir_snapshot_close(now);
    weir_snapshot_close(before);
    r = r < 0 ? r : close_all();
    return r < 0 ? fail("run", r) : 0;
}
