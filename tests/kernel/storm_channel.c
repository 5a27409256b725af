/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "storm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void open_file(struct channel *channel)
{
    static unsigned char content[STORM_FILE_SIZE];
    channel->fd[0] = check_file(STORM_FILE_SIZE);
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = item_file_byte(i);
    }
    CHECK_EQUAL(pwrite(channel->fd[0], content, sizeof content, 0), sizeof content);
}

static void open_listener(struct channel *channel, int blocking)
{
    channel->fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | blocking, 0);
    CHECK(channel->fd[0] >= 0);
    channel->address.sin_family = AF_INET;
    channel->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof channel->address;
    struct sockaddr *address = (struct sockaddr *)&channel->address;
    CHECK_EQUAL(bind(channel->fd[0], address, length), 0);
    CHECK_EQUAL(listen(channel->fd[0], 8), 0);
    CHECK_EQUAL(getsockname(channel->fd[0], address, &length), 0);
}

void channel_open(struct world *world, unsigned place)
{
    struct channel *channel = calloc(1, sizeof *channel);
    CHECK(channel != NULL);
    channel->place = place;
    channel->type = (enum channel_type)(place % CHANNEL_TYPES);
    channel->tag = ++world->tag;
    channel->fd[1] = -1;
    channel->state[1] = END_CLOSED;
    bool blocking = storm_random(world, 2) == 0;
    switch (channel->type) {
    case CHANNEL_FILE:
        open_file(channel);
        break;
    case CHANNEL_PIPE:
        CHECK_EQUAL(pipe2(channel->fd, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)), 0);
        if (storm_random(world, 2) == 0) {
            CHECK(fcntl(channel->fd[1], F_SETPIPE_SZ, 4096) >= 0);
        }
        channel->state[1] = END_OPEN;
        break;
    case CHANNEL_SOCKET:
        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK),
                               0, channel->fd),
                    0);
        channel->state[1] = END_OPEN;
        break;
    default:
        open_listener(channel, blocking ? 0 : SOCK_NONBLOCK);
        break;
    }
    world->channels[place] = channel;
}

static bool has_two_ends(const struct channel *channel)
{
    return channel->type == CHANNEL_PIPE || channel->type == CHANNEL_SOCKET;
}

bool channel_ended(const struct channel *channel)
{
    return channel->state[0] != END_OPEN ||
           (has_two_ends(channel) && channel->state[1] != END_OPEN);
}

int channel_open_end(struct world *world, const struct channel *channel)
{
    int end = (int)storm_random(world, 2);
    if (channel->state[end] != END_OPEN) {
        end = 1 - end;
    }
    return channel->state[end] == END_OPEN ? end : -1;
}

static bool is_gone(const struct channel *channel)
{
    return channel->state[0] == END_CLOSED && channel->state[1] == END_CLOSED;
}

static bool lives_on(const struct world *world, int fd)
{
    for (unsigned i = 0; i < world->places; i++) {
        const struct item *item = world->items[i];
        if (item != NULL && (item->fds[0] == fd || item->fds[1] == fd)) {
            return true;
        }
    }
    return false;
}

void channel_mark(struct world *world, int fd)
{
    for (unsigned i = 0; i < world->places; i++) {
        struct item *item = world->items[i];
        if (item != NULL && (item->fds[0] == fd || item->fds[1] == fd)) {
            storm_asked(item);
        }
    }
}

/* One of the two forms of rule 20; the other is a CLOSE op. */
static void forget_end(struct world *world, struct channel *channel, int end)
{
    int fd = channel->fd[end];
    if (!world->closing) {
        int answer = weir_forget(world->loop, fd);
        world->forgets++;
        channel_mark(world, fd);
        if (answer == -EBUSY && lives_on(world, fd)) {
            channel->state[end] = END_DRAINING;
            return;
        }
        if (answer != 0) {
            storm_fail(world, WEIR_SITE, "forget answered %d", answer);
        }
    }
    CHECK_EQUAL(close(fd), 0);
    channel->state[end] = END_CLOSED;
}

static void close_end(struct world *world, struct channel *channel, int end)
{
    bool full = world->live[BOUND_GATE] >= storm_most(world, BOUND_GATE);
    if (world->closing || full || storm_random(world, 2) == 0) {
        forget_end(world, channel, end);
        return;
    }
    struct item *item = item_new(world, channel, end);
    weir_op_close(&item->op, channel->fd[end]);
    channel_mark(world, channel->fd[end]);
    channel->state[end] = END_CLOSING;
    storm_submit(world, item);
}

void channel_release(struct channel *channel)
{
    if (channel->refs == 0 && is_gone(channel)) {
        free(channel);
    }
}

/* A successor, which at once gets numbers that were just given back. */
static void replace(struct world *world, struct channel *channel)
{
    int first = channel->fd[0];
    int second = channel->fd[1];
    bool current = world->channels[channel->place] == channel;
    if (!is_gone(channel) || !current) {
        return;
    }
    unsigned place = channel->place;
    world->channels[place] = NULL;
    channel_release(channel);
    if (world->closing) {
        return;
    }
    channel_open(world, place);
    int now = world->channels[place]->fd[0];
    world->reused += now == first || now == second;
}

void channel_close(struct world *world, struct channel *channel)
{
    int first = channel_open_end(world, channel);
    bool half = !world->closing && !channel_ended(channel) && storm_random(world, 2) == 0;
    channel->refs++; /* it may be replaced on the way */
    if (first >= 0) {
        close_end(world, channel, first);
    }
    if (first >= 0 && !half && channel->state[1 - first] == END_OPEN) {
        close_end(world, channel, 1 - first);
    }
    channel->refs--;
    replace(world, channel);
}

static void settle(struct world *world, struct channel *channel, int fd)
{
    for (int end = 0; end < 2; end++) {
        bool waits = channel->state[end] == END_DRAINING && channel->fd[end] == fd;
        if (waits && (world->closing || !lives_on(world, fd))) {
            forget_end(world, channel, end);
            STORM_CHECK(world, channel->state[end] == END_CLOSED);
        }
    }
    replace(world, channel);
}

void channel_settle(struct world *world, const struct item *item)
{
    /* Not only the op's own channel: another one may have been given the number meanwhile, and what
     * is live on a number is what keeps it. Who still waits has not been replaced. */
    for (unsigned i = 0; i < STORM_CHANNELS; i++) {
        for (int j = 0; j < 2; j++) {
            if (item->fds[j] >= 0 && world->channels[i] != NULL) {
                settle(world, world->channels[i], item->fds[j]);
            }
        }
    }
}

void channel_closed(struct world *world, struct channel *channel, int end, int64_t result)
{
    STORM_CHECK(world, channel->state[end] == END_CLOSING);
    if (result == 0) {
        channel->state[end] = END_CLOSED;
        for (unsigned i = 0; i < world->places; i++) {
            const struct item *item = world->items[i];
            bool same = item != NULL && item->channel == channel;
            if (same && (item->fds[0] == channel->fd[end] || item->fds[1] == channel->fd[end])) {
                storm_fail(world, WEIR_SITE, "a CLOSE came back before a %s on its fd",
                           weir_kind_name(item->op.kind));
            }
        }
    } else {
        /* Cancelled or too late: the fd is still open. */
        forget_end(world, channel, end);
    }
}
