/* SPDX-License-Identifier: MIT */
/* echo [--policy POLICY] PORT|PATH: sends back what comes, on 127.0.0.1 or on an AF_UNIX socket. */
#include "listener.h"
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

struct connection {
    struct weir_op op; /* receives, sends what came, receives, ..., closes */
    char bytes[16 * 1024];
};
static struct weir_loop *loop;
static struct weir_task *receiving, *sending;
static int listener;
static struct weir_op accepting; /* waits for a connection, or until it may try again */
static struct weir_op ending;    /* waits for a signal */
static struct weir_room room;    /* waits until a connection has ended */
static uint64_t pause_ns;        /* the last one; 0: it went well */

static int fail(const char *what, int error)
{
    fprintf(stderr, "echo: %s: %s\n", what, strerror(-error));
    return 1;
}

static struct connection *connection_of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct connection, op);
}

/* What a callback submits takes the place of the op that came back, so there is room for it. */
static void follow(struct weir_op *op, weir_callback *callback, struct weir_task *task,
                   unsigned flags)
{
    op->callback = callback;
    op->task = task;
    op->flags = flags;
    if (weir_submit(loop, op) < 0) { /* the loop is closing */
        weir_forget(loop, op->fd);
        close(op->fd);
        free(connection_of(op));
    }
}

static void on_closed(struct weir_op *op)
{
    free(connection_of(op));
}

static void hang_up(struct weir_op *op)
{
    weir_op_close(op, op->fd);
    follow(op, on_closed, NULL, 0);
}

static void on_received(struct weir_op *op);

static void receive(struct weir_op *op, int fd)
{
    weir_op_recv(op, fd, connection_of(op)->bytes, sizeof connection_of(op)->bytes, 0);
    follow(op, on_received, receiving, 0);
}

static void on_sent(struct weir_op *op)
{
    if (op->result < 0) {
        hang_up(op);
    } else {
        receive(op, op->fd); /* not before: from a peer that does not read, nothing is read */
    }
}

static void on_received(struct weir_op *op)
{
    if (op->result <= 0) { /* an error, or the peer's end */
        hang_up(op);
    } else {
        weir_op_send(op, op->fd, connection_of(op)->bytes, (uint64_t)op->result, 0);
        follow(op, on_sent, sending, WEIR_WHOLE);
    }
}

static void on_accepted(struct weir_op *op);

static void accept_next(void)
{
    weir_op_accept(&accepting, listener, NULL, NULL, SOCK_CLOEXEC);
    accepting.callback = on_accepted;
    if (weir_submit(loop, &accepting) == -EAGAIN) { /* full: who comes now stays in the backlog */
        weir_wait_room(loop, &room, &accepting);
    }
}

static void on_room(struct weir_room *node, int result)
{
    (void)node;
    if (result == 0) {
        accept_next();
    }
}

static void on_pause_over(struct weir_op *op)
{
    if (op->result == 0) {
        accept_next();
    }
}

static void back_off(int64_t error)
{
    pause_ns = pause_ns == 0 ? WEIR_MS : pause_ns * 2 < WEIR_S ? pause_ns * 2 : WEIR_S;
    fprintf(stderr, "echo: %s, tries again in %d ms\n", strerror((int)-error),
            (int)(pause_ns / WEIR_MS));
    weir_op_timeout_in(&accepting, loop, pause_ns);
    accepting.callback = on_pause_over;
    weir_submit(loop, &accepting);
}

static void on_accepted(struct weir_op *op)
{
    struct connection *connection = op->result < 0 ? NULL : calloc(1, sizeof *connection);
    if (connection) {
        pause_ns = 0;
        receive(&connection->op, (int)op->result); /* first, in the place that `accepting` left */
        accept_next();
    } else if (op->result >= 0) {
        close((int)op->result);
        back_off(-ENOMEM);
    } else if (op->result != -ECANCELED) { /* -EMFILE, -ENFILE, ...; else the loop is closing */
        back_off(op->result);
    }
}

static void on_signal(struct weir_op *op)
{
    if (op->result < 0 && op->result != -ECANCELED) {
        fail("no fd to wait for signals with", (int)op->result);
    }
    weir_loop_stop(loop);
}

static int serve(void)
{
    weir_task_open(loop, &(struct weir_task_options){.name = "receive"}, &receiving);
    weir_task_open(loop, &(struct weir_task_options){.name = "send"}, &sending);
    weir_op_signal(&ending, WEIR_SIGNAL(SIGINT) | WEIR_SIGNAL(SIGTERM), NULL);
    ending.callback = on_signal;
    int result = weir_submit(loop, &ending);
    if (result < 0) {
        return result;
    }
    room.callback = on_room;
    accept_next();
    return weir_loop_run(loop); /* until weir_loop_stop() */
}

static void print_latency(const struct weir_task *task)
{
    struct weir_histogram total;
    weir_task_read(task, WEIR_STAGE_TOTAL, &total);
    printf("%s: %llu, p50 %.1f us, p99 %.1f us\n", weir_task_name(task),
           (unsigned long long)total.count, (double)weir_histogram_percentile(&total, 50) / WEIR_US,
           (double)weir_histogram_percentile(&total, 99) / WEIR_US);
}

static int close_loop(void)
{
    struct weir_report left;
    int result = weir_loop_close(loop, 5 * WEIR_S, &left); /* cancels and hands back what is live */
    for (size_t i = 0; i < left.count; i++) {
        printf("left: %s, %s, of %s\n", left.ops[i].kind, left.ops[i].state, left.ops[i].site);
    }
    return result;
}

int main(int argc, char **argv)
{
    static const char *const policies[] = {"auto", "io_uring", "epoll", NULL};
    struct weir_options options = {.depth = 256}; /* a connection has one, and the signal */
    bool told = argc == 4 && strcmp(argv[1], "--policy") == 0;
    while (told && policies[options.policy] && strcmp(argv[2], policies[options.policy]) != 0) {
        options.policy++;
    }
    if ((argc != 2 && !told) || !policies[options.policy]) {
        fprintf(stderr, "usage: echo [--policy auto|io_uring|epoll] PORT|PATH\n");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in every thread, so before the loop is opened */

    int result = weir_loop_open(&options, &loop);
    if (result < 0) {
        return fail("opening a loop", result);
    }
    listener = listener_open(argv[argc - 1]);
    if (listener < 0) {
        return fail(argv[argc - 1], listener);
    }
    result = serve();
    print_latency(receiving);
    print_latency(sending);
    result = result < 0 ? result : close_loop();
    listener_close(listener, argv[argc - 1]);
    return result < 0 ? fail("end", result) : 0;
}
