/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "storm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POISON 0xdb /* in buffers that were handed back */

unsigned char item_file_byte(uint64_t offset)
{
    return (unsigned char)(offset * 31 + offset / 256 + 7);
}

struct item *item_new(struct world *world, struct channel *channel, int end)
{
    struct item *item = calloc(1, sizeof *item);
    CHECK(item != NULL);
    item->world = world;
    item->channel = channel;
    item->end = end;
    item->fds[0] = channel != NULL ? channel->fd[end] : -1;
    item->fds[1] = -1;
    item->client = -1;
    item->task = -1;
    if (channel != NULL) {
        channel->refs++;
    }
    return item;
}

static void quarantine(struct world *world, unsigned char *buffer, size_t length)
{
    unsigned place = world->quarantine_next++ % STORM_QUARANTINE;
    unsigned char *old = world->quarantine[place];
    for (size_t i = 0; old != NULL && i < world->quarantine_length[place]; i++) {
        if (old[i] != POISON) {
            storm_fail(world, WEIR_SITE, "a buffer was written to after its op came back");
        }
    }
    free(old);
    if (buffer != NULL) {
        memset(buffer, POISON, length);
    }
    world->quarantine[place] = buffer;
    world->quarantine_length[place] = length;
}

void item_quarantine_empty(struct world *world)
{
    for (unsigned i = 0; i < STORM_QUARANTINE; i++) {
        quarantine(world, NULL, 0);
    }
}

void item_free(struct item *item)
{
    if (item->buffer != NULL) {
        quarantine(item->world, item->buffer, item->length);
    }
    if (item->client >= 0) {
        /* -EBUSY: the CLOSE of a former file of this number is on its way back. */
        int answer = item->world->closing ? 0 : weir_forget(item->world->loop, item->client);
        CHECK(answer == 0 || answer == -EBUSY);
        close(item->client);
    }
    memset(&item->op, POISON, sizeof item->op);
    free(item);
}

/* A buffer of random length, as one piece or as a vector of two. */
static void give_buffer(struct item *item, size_t most)
{
    item->length = 1 + storm_random(item->world, most);
    item->buffer = malloc(item->length);
    CHECK(item->buffer != NULL);
    memset(item->buffer, STORM_UNTOUCHED, item->length);
    size_t first = storm_random(item->world, item->length);
    item->iov[0] = (struct iovec){item->buffer, first};
    item->iov[1] = (struct iovec){item->buffer + first, item->length - first};
    item->message.msg_iov = item->iov;
    item->message.msg_iovlen = 2;
}

static void fill_file(struct item *item)
{
    struct world *world = item->world;
    int fd = item->fds[0];
    unsigned choice = (unsigned)storm_random(world, 60);
    /* These find their fd late, in a worker: a close that does not wait for them hits a stranger.
     * */
    switch (choice) {
    case 0:
        weir_op_fdatasync(&item->op, fd);
        return;
    case 1:
        weir_op_fadvise(&item->op, fd, 0, 4096, POSIX_FADV_WILLNEED);
        return;
    case 2:
        weir_op_fallocate(&item->op, fd, 0, 0, STORM_FILE_SIZE);
        return;
    case 3:
        weir_op_sync_file_range(&item->op, fd, 0, 4096, SYNC_FILE_RANGE_WRITE);
        return;
    case 4:
        weir_op_ftruncate(&item->op, fd, STORM_FILE_SIZE);
        return;
    default:
        break;
    }
    give_buffer(item, STORM_BUFFER_MAX);
    item->offset = storm_random(world, STORM_FILE_SIZE - item->length + 1);
    item->reads = choice % 4 != 0;
    if (!item->reads) {
        for (size_t i = 0; i < item->length; i++) {
            item->buffer[i] = item_file_byte(item->offset + i);
        }
    }
    if (choice % 8 == 0) {
        weir_op_write(&item->op, fd, item->buffer, item->length, item->offset);
    } else if (!item->reads) {
        weir_op_writev(&item->op, fd, item->iov, 2, item->offset);
    } else if (choice % 2 == 0) {
        weir_op_readv(&item->op, fd, item->iov, 2, item->offset);
    } else {
        weir_op_read(&item->op, fd, item->buffer, item->length, item->offset);
        item->may_again = choice % 16 == 1;
        item->op.rw_flags = item->may_again ? RWF_NOWAIT : 0;
    }
    item->op.flags = storm_random(world, 4) == 0 ? WEIR_WHOLE : 0;
}

static void fill_stream_write(struct item *item)
{
    int fd = item->fds[0];
    bool vector = storm_random(item->world, 2) == 0;
    memset(item->buffer, item->channel->tag, item->length);
    item->channel->sent += item->length;
    if (item->channel->type == CHANNEL_PIPE && vector) {
        weir_op_writev(&item->op, fd, item->iov, 2, WEIR_CURRENT);
    } else if (item->channel->type == CHANNEL_PIPE) {
        weir_op_write(&item->op, fd, item->buffer, item->length, 0);
    } else if (vector) {
        weir_op_sendmsg(&item->op, fd, &item->message, 0);
    } else {
        weir_op_send(&item->op, fd, item->buffer, item->length, 0);
    }
}

static void fill_stream_read(struct item *item)
{
    int fd = item->fds[0];
    bool vector = storm_random(item->world, 2) == 0;
    if (item->channel->type == CHANNEL_PIPE && vector) {
        weir_op_readv(&item->op, fd, item->iov, 2, WEIR_CURRENT);
    } else if (item->channel->type == CHANNEL_PIPE) {
        weir_op_read(&item->op, fd, item->buffer, item->length, 0);
    } else if (vector) {
        weir_op_recvmsg(&item->op, fd, &item->message, 0);
    } else {
        weir_op_recv(&item->op, fd, item->buffer, item->length, 0);
    }
}

static void fill_stream(struct item *item)
{
    struct world *world = item->world;
    bool pipe = item->channel->type == CHANNEL_PIPE;
    unsigned choice = (unsigned)storm_random(world, 100);
    item->reads = pipe ? item->end == 0 : choice % 2 == 0;
    if (choice < 6) {
        weir_op_poll(&item->op, item->fds[0], item->reads ? POLLIN : POLLOUT);
        return;
    }
    if (choice < 10 && pipe && item->reads) {
        item->fds[1] = item->fds[0];
        item->fds[0] = world->null;
        weir_op_splice(&item->op, item->fds[1], WEIR_CURRENT, item->fds[0], WEIR_CURRENT, 4096, 0);
        return;
    }
    give_buffer(item, storm_random(world, 4) == 0 ? STORM_BUFFER_MAX : 300);
    item->op.flags = storm_random(world, 2) == 0 ? WEIR_WHOLE : 0;
    if (item->reads) {
        fill_stream_read(item);
    } else {
        fill_stream_write(item);
    }
}

static void fill_listener(struct item *item)
{
    if (storm_random(item->world, 2) == 0) {
        weir_op_accept(&item->op, item->fds[0], NULL, NULL, SOCK_CLOEXEC);
        return;
    }
    /* A socket of its own. Aborting leaves no TIME_WAIT behind. */
    struct linger abort = {.l_onoff = 1};
    item->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    item->fds[0] = item->client;
    CHECK(item->client >= 0);
    CHECK_EQUAL(setsockopt(item->client, SOL_SOCKET, SO_LINGER, &abort, sizeof abort), 0);
    item->address = item->channel->address;
    weir_op_connect(&item->op, item->client, (struct sockaddr *)&item->address,
                    sizeof item->address);
}

static int64_t work(void *argument)
{
    struct item *item = argument;
    item->ran++;
    for (uint64_t i = 0; i < item->lasts && !weir_op_asked(&item->op); i++) {
        __asm__ volatile("" ::: "memory");
    }
    return item->value;
}

static void fill_call(struct item *item)
{
    struct world *world = item->world;
    item->value = (int64_t)storm_random(world, 1000) - 50; /* EAGAIN and EINTR among them */
    item->lasts = storm_random(world, storm_random(world, 32) == 0 ? 1000000 : 3000);
    weir_op_call(&item->op, work, item);
    item->op.flags = storm_random(world, 2) == 0 ? WEIR_SHORT : 0;
}

/* For ever, but for a cancel or its deadline. */
static void fill_watch(struct item *item)
{
    struct world *world = item->world;
    if (storm_random(world, 2) == 0) {
        weir_op_signal(&item->op, WEIR_SIGNAL(SIGUSR1), NULL);
    } else {
        weir_op_child(&item->op, world->child, NULL);
    }
}

static struct item *without_channel(struct world *world)
{
    struct item *item = item_new(world, NULL, 0);
    switch (storm_random(world, 12)) {
    case 0:
        weir_op_openat(&item->op, AT_FDCWD, world->path, O_RDONLY | O_CLOEXEC, 0);
        break;
    case 1:
        weir_op_statx(&item->op, AT_FDCWD, world->path, 0, STATX_SIZE, &item->statx);
        break;
    case 2:
    case 3:
        weir_op_nop(&item->op);
        break;
    case 4:
        weir_op_socket(&item->op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        break;
    case 5:
    case 6:
    case 7:
        fill_call(item);
        break;
    case 8:
        if (storm_random(world, 8) == 0) {
            fill_watch(item);
            break;
        }
        /* fall through */
    default:
        weir_op_timeout_in(&item->op, world->loop, storm_random(world, 3000) * WEIR_US);
        item->at_ns = item->op.arg.timeout.at_ns;
        break;
    }
    return item;
}

static struct item *random_on_channel(struct world *world)
{
    struct channel *channel = world->channels[storm_random(world, STORM_CHANNELS)];
    int end = channel_open_end(world, channel);
    if (end < 0) {
        return NULL;
    }
    struct item *item = item_new(world, channel, end);
    switch (channel->type) {
    case CHANNEL_FILE:
        fill_file(item);
        if (storm_random(world, 8) == 0) {
            item->op.route = WEIR_ROUTE_OFFLOAD;
        }
        break;
    case CHANNEL_LISTENER:
        fill_listener(item);
        break;
    default:
        fill_stream(item);
        break;
    }
    return item;
}

/* Deadline, intended time, task, route. */
static void item_dress(struct item *item)
{
    struct world *world = item->world;
    if (item->op.kind != WEIR_KIND_TIMEOUT && storm_random(world, 8) == 0) {
        item->deadline_ns = weir_now(world->loop) + storm_random(world, 2000) * WEIR_US;
        item->op.deadline_ns = item->deadline_ns;
    }
    if (storm_random(world, 16) == 0) {
        item->op.intended_ns = weir_now(world->loop) - storm_random(world, 1000) * WEIR_US;
    }
    if (storm_random(world, 2) == 0) {
        item->task = (int)storm_random(world, STORM_TASKS);
        item->op.task = world->tasks[item->task];
    }
    if (item->op.route == WEIR_ROUTE_AUTO && storm_random(world, 4) == 0) {
        item->op.route =
            (uint8_t)(storm_random(world, 2) == 0 ? WEIR_ROUTE_RING : WEIR_ROUTE_INLINE);
    }
}

struct item *item_random(struct world *world)
{
    bool alone = storm_random(world, 4) == 0;
    struct item *item = alone ? without_channel(world) : random_on_channel(world);
    if (item == NULL) {
        return NULL;
    }
    item_dress(item);
    return item;
}

struct item *item_without_channel(struct world *world)
{
    struct item *item = without_channel(world);
    item_dress(item);
    return item;
}
