/* SPDX-License-Identifier: MIT */
#include "guest.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 100, PARTS = 5 };

static struct weir_op timer, call, sender, receiver, copier, posts[ROUNDS];
static int timers, calls, posted, messages;
static int halves; /* of a message: sent, received */
static uint64_t copied;
static int ends[2], source_fd, target_fd;
static char message, chunk[64 * 1024];
static pthread_t poster;
static int parts_begun, parts_over;
static int failed; /* the first -errno */

static void begin_part(struct weir_loop *loop);

static void submit(struct weir_loop *loop, struct weir_op *op, weir_callback *callback)
{
    op->callback = callback;
    int result = weir_submit(loop, op);
    failed = result < 0 && !failed ? result : failed;
}

/* Whether its part goes on. If it is over, the next one is begun. */
static bool goes_on(const struct weir_op *op, bool over)
{
    failed = op->result < 0 && !failed ? (int)op->result : failed;
    if (over && !failed) {
        parts_over++;
        begin_part(op->loop);
    }
    return !over && !failed;
}

static void on_time(struct weir_op *op)
{
    if (goes_on(op, ++timers == ROUNDS)) {
        weir_op_timeout_in(op, op->loop, WEIR_MS);
        submit(op->loop, op, on_time);
    }
}

static int64_t work(void *argument)
{
    (void)argument;
    usleep(500);
    return 0;
}

static void on_called(struct weir_op *op)
{
    if (goes_on(op, ++calls == ROUNDS)) {
        submit(op->loop, op, on_called);
    }
}

/* On a thread of its own. A NOP does nothing but run its callback on the loop's thread. */
static void *post_all(void *loop)
{
    for (int i = 0; i < ROUNDS; i++) {
        usleep(300);
        weir_loop_post(loop, &posts[i]); /* there is room: fewer than options.posts_max */
    }
    return NULL;
}

static void on_posted(struct weir_op *op)
{
    goes_on(op, ++posted == ROUNDS);
}

static void post(struct weir_loop *loop)
{
    for (int i = 0; i < ROUNDS; i++) {
        weir_op_nop(&posts[i]);
        posts[i].callback = on_posted;
    }
    failed = -pthread_create(&poster, NULL, post_all, loop);
}

static void on_half(struct weir_op *op);

static void send_message(struct weir_loop *loop)
{
    halves = 2;
    weir_op_recv(&receiver, ends[1], &message, 1, 0); /* waits for */
    submit(loop, &receiver, on_half);
    weir_op_send(&sender, ends[0], "x", 1, 0); /* this */
    submit(loop, &sender, on_half);
}

static void on_half(struct weir_op *op)
{
    halves--;
    messages += halves == 0;
    if (goes_on(op, messages == ROUNDS) && halves == 0) {
        send_message(op->loop);
    }
}

static void on_read(struct weir_op *op);

static void read_chunk(struct weir_loop *loop)
{
    weir_op_read(&copier, source_fd, chunk, sizeof chunk, copied);
    copier.flags = WEIR_WHOLE;
    submit(loop, &copier, on_read);
}

static void on_written(struct weir_op *op)
{
    copied += op->result > 0 ? (uint64_t)op->result : 0;
    if (goes_on(op, false)) {
        read_chunk(op->loop);
    }
}

static void on_read(struct weir_op *op)
{
    if (goes_on(op, op->result == 0)) {
        weir_op_write(op, target_fd, chunk, (uint64_t)op->result, copied);
        submit(op->loop, op, on_written);
    }
}

static void begin_part(struct weir_loop *loop)
{
    switch (parts_begun++) {
    case 0:
        weir_op_timeout_in(&timer, loop, WEIR_MS);
        submit(loop, &timer, on_time);
        break;
    case 1:
        weir_op_call(&call, work, NULL);
        submit(loop, &call, on_called);
        break;
    case 2:
        post(loop);
        break;
    case 3:
        send_message(loop);
        break;
    case 4:
        read_chunk(loop);
        break;
    }
}

int guest_start(struct weir_loop *loop, const char *source, const char *target)
{
    source_fd = open(source, O_RDONLY | O_CLOEXEC);
    target_fd = source_fd < 0 ? -1 : open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (target_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return -errno;
    }
    begin_part(loop);
    return failed;
}

bool guest_is_done(void)
{
    return failed || parts_over == PARTS;
}

int guest_end(void)
{
    if (failed) {
        return failed;
    }
    pthread_join(poster, NULL);
    close(source_fd);
    close(target_fd);
    close(ends[0]);
    close(ends[1]);
    printf("timers %d, calls %d, posts %d, messages %d, bytes copied %" PRIu64 "\n", timers, calls,
           posted, messages, copied);
    return 0;
}
