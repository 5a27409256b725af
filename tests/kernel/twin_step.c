/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "twin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FILE_MAX 20000
#define STREAM_MAX 16000 /* what is on its way never fills a pipe or a socket */

uint64_t twin_random(struct lane *lane, uint64_t below)
{
    lane->random += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = lane->random;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return (mixed ^ (mixed >> 31)) % below;
}

void lane_open(struct lane *lane, uint64_t seed, bool blocking)
{
    int fds[2];
    socklen_t length = sizeof lane->address;
    lane->random = seed;
    snprintf(lane->path, sizeof lane->path, "weir-twin-XXXXXX");
    CHECK(mkdtemp(lane->path) != NULL);
    lane->folder = open(lane->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(lane->folder >= 0);
    lane->file = check_file(0);
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK)), 0);
    CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0); /* each splice takes pages of its own */
    lane->pipe = (struct stream){.in = fds[0], .out = fds[1]};
    int type = SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK);
    CHECK_EQUAL(socketpair(AF_UNIX, type, 0, fds), 0);
    lane->sockets[0] = (struct stream){.in = fds[0], .out = fds[1]};
    lane->sockets[1] = (struct stream){.in = fds[1], .out = fds[0]};
    lane->listener = socket(AF_INET, type, 0);
    CHECK(lane->listener >= 0);
    lane->address.sin_family = AF_INET;
    lane->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr *address = (struct sockaddr *)&lane->address;
    CHECK_EQUAL(bind(lane->listener, address, length), 0);
    CHECK_EQUAL(listen(lane->listener, 8), 0);
    CHECK_EQUAL(getsockname(lane->listener, address, &length), 0);
    lane->spare[0] = -1;
    lane->spare[1] = -1;
}

void lane_close(struct lane *lane)
{
    int fds[] = {lane->folder,   lane->file,          lane->listener,      lane->pipe.in,
                 lane->pipe.out, lane->sockets[0].in, lane->sockets[0].out};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        close(fds[i]);
    }
    for (int i = 0; i < TWIN_NAMES; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s/%d", lane->path, i);
        if (unlink(name) != 0) {
            rmdir(name);
        }
    }
    CHECK_EQUAL(rmdir(lane->path), 0);
}

/* --- filling ---------------------------------------------------------------------------------- */

static size_t give_bytes(struct lane *lane, size_t most)
{
    size_t length = twin_random(lane, most + 1);
    for (size_t i = 0; i < length; i++) {
        lane->buffer[i] = (unsigned char)twin_random(lane, 256);
    }
    size_t first = twin_random(lane, length + 1);
    lane->iov[0] = (struct iovec){lane->buffer, first};
    lane->iov[1] = (struct iovec){NULL, 0};
    lane->iov[2] = (struct iovec){lane->buffer + first, length - first};
    lane->message = (struct msghdr){.msg_iov = lane->iov, .msg_iovlen = 3};
    return length;
}

static void fill_file(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    uint64_t offset = twin_random(lane, FILE_MAX);
    bool bad = twin_random(lane, 16) == 0;
    int fd = bad ? (int[]){-1, lane->folder, lane->pipe.in}[twin_random(lane, 3)] : lane->file;
    size_t length = give_bytes(lane, TWIN_BUFFER);
    if (fd == lane->pipe.in) { /* it has no position, and must not wait */
        weir_op_write(op, fd, lane->buffer, length, 0);
    } else if (lane->choice == 0) {
        weir_op_read(op, fd, lane->buffer, length, offset);
    } else if (lane->choice == 1) {
        weir_op_write(op, fd, lane->buffer, length, offset);
    } else if (lane->choice == 2) {
        weir_op_readv(op, fd, lane->iov, 3, offset);
    } else if (lane->choice == 3) {
        weir_op_writev(op, fd, lane->iov, 3, offset);
    } else if (lane->choice == 4) {
        weir_op_read(op, fd, lane->buffer, length, WEIR_CURRENT);
    } else {
        weir_op_write(op, fd, lane->buffer, length, WEIR_CURRENT);
        op->rw_flags = bad ? 0x40000000 : RWF_APPEND;
    }
    op->route = (uint8_t)twin_random(lane, 4);
    op->flags = twin_random(lane, 3) == 0 ? WEIR_WHOLE : 0;
}

static void fill_metadata(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    bool bad = twin_random(lane, 8) == 0;
    int fd = bad ? (int[]){-1, lane->folder, lane->pipe.in}[twin_random(lane, 3)] : lane->file;
    uint64_t offset = twin_random(lane, FILE_MAX);
    uint64_t length = twin_random(lane, FILE_MAX);
    switch (lane->choice) {
    case 6:
        weir_op_fsync(op, fd);
        break;
    case 7:
        weir_op_fdatasync(op, fd);
        break;
    case 8:
        weir_op_fallocate(op, fd, twin_random(lane, 2) == 0 ? 0 : FALLOC_FL_KEEP_SIZE, offset,
                          length);
        break;
    case 9:
        weir_op_fadvise(op, fd, offset, length, (int)twin_random(lane, 8));
        break;
    case 10:
        weir_op_sync_file_range(op, fd, offset, length, (unsigned)twin_random(lane, 16));
        break;
    default:
        /* One error at a time: which of two is found first is the kernel's affair. */
        weir_op_ftruncate(op, fd, !bad && offset % 8 == 0 ? UINT64_MAX : offset);
        break;
    }
    op->route = (uint8_t)(twin_random(lane, 2) == 0 ? WEIR_ROUTE_OFFLOAD : WEIR_ROUTE_AUTO);
}

static void fill_path(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    for (int i = 0; i < 2; i++) {
        snprintf(lane->names[i], sizeof lane->names[i], "%d", (int)twin_random(lane, TWIN_NAMES));
    }
    const char *name = lane->names[0];
    const char *other = lane->names[1];
    static const int flags[] = {O_RDWR | O_CREAT, O_RDONLY, O_RDONLY | O_DIRECTORY,
                                O_WRONLY | O_CREAT | O_EXCL};
    int folder = twin_random(lane, 16) == 0 ? lane->file : lane->folder;
    switch (lane->choice) {
    case 12:
        weir_op_openat(op, folder, name, flags[twin_random(lane, 4)] | O_CLOEXEC, 0600);
        break;
    case 13:
        weir_op_statx(op, folder, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &lane->statx);
        break;
    case 14:
        weir_op_unlinkat(op, folder, name, twin_random(lane, 2) == 0 ? AT_REMOVEDIR : 0);
        break;
    case 15:
        weir_op_renameat(op, folder, name, lane->folder, other, (unsigned)twin_random(lane, 3));
        break;
    case 16:
        weir_op_linkat(op, folder, name, lane->folder, other, 0);
        break;
    case 17:
        weir_op_symlinkat(op, name, folder, other);
        break;
    default:
        weir_op_mkdirat(op, folder, name, 0700);
        break;
    }
    op->route = (uint8_t)(twin_random(lane, 2) == 0 ? WEIR_ROUTE_OFFLOAD : WEIR_ROUTE_AUTO);
}

/* Reads of what is there; of nothing with a deadline. Writes of what fits. */
static void fill_stream(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    bool pipe = lane->choice < 22;
    struct stream *stream = pipe ? &lane->pipe : &lane->sockets[twin_random(lane, 2)];
    bool writes = lane->choice % 2 == 1;
    bool vector = twin_random(lane, 2) == 0;
    size_t length = give_bytes(lane, 3000);
    int route = (int)twin_random(lane, 3); /* all but OFFLOAD */
    op->flags = twin_random(lane, 3) == 0 && (writes || length <= stream->bytes) ? WEIR_WHOLE : 0;
    op->route = (uint8_t)route;
    writes = writes && stream->bytes + length <= STREAM_MAX;
    if (writes && pipe && vector) {
        weir_op_writev(op, stream->out, lane->iov, 3, 0);
    } else if (writes && pipe) {
        weir_op_write(op, stream->out, lane->buffer, length, WEIR_CURRENT);
    } else if (writes && vector) {
        weir_op_sendmsg(op, stream->out, &lane->message, 0);
    } else if (writes) {
        weir_op_send(op, stream->out, lane->buffer, length, 0);
    } else if (pipe && vector) {
        weir_op_readv(op, stream->in, lane->iov, 3, WEIR_CURRENT);
    } else if (pipe) {
        weir_op_read(op, stream->in, lane->buffer, length, 0);
    } else if (vector) {
        weir_op_recvmsg(op, stream->in, &lane->message, 0);
    } else {
        weir_op_recv(op, stream->in, lane->buffer, length, twin_random(lane, 4) ? 0 : MSG_PEEK);
    }
    if (!writes && stream->bytes == 0) {
        op->flags = 0;
        op->deadline_ns = weir_now(lane->loop) + 200 * WEIR_US;
    }
    bool peeks = op->kind == WEIR_KIND_RECV && op->arg.io.flags & MSG_PEEK;
    if (peeks) {
        op->flags = 0;
    }
    size_t moves = writes || length < stream->bytes ? length : stream->bytes;
    stream->bytes = writes ? stream->bytes + moves : stream->bytes - (peeks ? 0 : moves);
}

static void fill_connection(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    struct sockaddr *address = (struct sockaddr *)&lane->address;
    CHECK((lane->spare[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    if (lane->choice == 26) { /* somebody is in the queue already */
        CHECK_EQUAL(connect(lane->spare[0], address, sizeof lane->address), 0);
        lane->peer_length = sizeof lane->peer;
        weir_op_accept(op, lane->listener, (struct sockaddr *)&lane->peer, &lane->peer_length,
                       SOCK_CLOEXEC);
    } else if (lane->choice == 27) {
        weir_op_connect(op, lane->spare[0], address, sizeof lane->address);
    } else if (lane->choice == 28) {
        static const int how[] = {SHUT_RD, SHUT_RDWR, 77};
        weir_op_shutdown(op, lane->spare[0], how[twin_random(lane, 3)]);
    } else if (lane->choice == 29) {
        weir_op_bind(op, lane->spare[0], address, sizeof lane->address);
    } else if (lane->choice == 30) {
        static const int on = 1;
        weir_op_setsockopt(op, twin_random(lane, 2) == 0 ? lane->file : lane->spare[0], SOL_SOCKET,
                           SO_REUSEADDR, &on, sizeof on);
    } else {
        weir_op_socket(op, (int)twin_random(lane, 3), SOCK_STREAM | SOCK_CLOEXEC,
                       (int)twin_random(lane, 3));
    }
}

static int64_t work(void *argument)
{
    return *(int64_t *)argument;
}

static void fill_other(struct lane *lane)
{
    struct weir_op *op = &lane->op;
    struct stream *stream = &lane->pipe;
    switch (lane->choice) {
    case 32:
        weir_op_poll(op, twin_random(lane, 2) == 0 ? stream->out : lane->file, POLLOUT);
        break;
    case 33:
        weir_op_poll(op, stream->in, POLLIN);
        if (stream->bytes == 0) {
            op->deadline_ns = weir_now(lane->loop) + 100 * WEIR_US;
        }
        break;
    case 34: /* from the file into the pipe, as far as there is room */
        weir_op_splice(op, lane->file, twin_random(lane, FILE_MAX), stream->out, WEIR_CURRENT,
                       stream->bytes < STREAM_MAX - 4096 ? twin_random(lane, 4096) : 0, 0);
        break;
    case 35:
        weir_op_timeout_in(op, lane->loop, twin_random(lane, 50) * WEIR_US);
        break;
    case 36:
        lane->value = (int64_t)twin_random(lane, 1ULL << 40) - (1LL << 39);
        weir_op_call(op, work, &lane->value);
        op->flags = twin_random(lane, 2) == 0 ? WEIR_SHORT : 0;
        break;
    case 37:
        if (twin_random(lane, 16) == 0) {
            CHECK((lane->child = fork()) >= 0);
            if (lane->child == 0) {
                _exit((int)twin_random(lane, 100));
            }
        } else {
            lane->child = getppid(); /* not ours */
        }
        weir_op_child(op, lane->child, &lane->end);
        if (lane->child == getppid()) { /* answered at once; one that is late does not even leave */
            op->deadline_ns = weir_now(lane->loop) + WEIR_S;
        }
        break;
    default:
        weir_op_nop(op);
        break;
    }
}

static void on_idle(struct weir_op *op)
{
    struct lane *lane = op->user;
    lane->idle_live = false;
    lane->idle_result = op->result;
}

/* A CLOSE that finds a read that waits on its fd. */
static void fill_close(struct lane *lane)
{
    CHECK_EQUAL(pipe2(lane->spare, O_CLOEXEC), 0);
    lane->idle.callback = on_idle;
    lane->idle.user = lane;
    weir_op_read(&lane->idle, lane->spare[0], lane->buffer, 1, WEIR_CURRENT);
    lane->idle_live = weir_submit(lane->loop, &lane->idle) == 0;
    CHECK(lane->idle_live);
    weir_op_close(&lane->op, lane->spare[0]);
    lane->spare[0] = -1;
}

void lane_fill(struct lane *lane)
{
    lane->op.route = WEIR_ROUTE_AUTO;
    lane->op.flags = 0;
    lane->op.moved = 0;
    lane->idle_result = 0;
    memset(&lane->statx, 0, sizeof lane->statx);
    lane->end = (struct weir_exit){0};
    lane->choice = (uint8_t)twin_random(lane, 40);
    if (lane->choice < 6) {
        fill_file(lane);
    } else if (lane->choice < 12) {
        fill_metadata(lane);
    } else if (lane->choice < 19) {
        fill_path(lane);
    } else if (lane->choice < 26) {
        fill_stream(lane);
    } else if (lane->choice < 32) {
        fill_connection(lane);
    } else if (lane->choice < 39) {
        fill_other(lane);
    } else {
        fill_close(lane);
    }
}

/* --- recording -------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t so_far, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++) {
        so_far = (so_far ^ bytes[i]) * 0x100000001b3ULL;
    }
    return so_far;
}

static int waiting_in(int fd)
{
    int bytes = 0;
    return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : -1;
}

void lane_record(struct lane *lane, struct outcome *outcome)
{
    const struct weir_op *op = &lane->op;
    bool whole = op->flags & WEIR_WHOLE;
    *outcome = (struct outcome){
        .kind = op->kind,
        .route = op->route,
        .choice = lane->choice,
        .flags = op->flags,
        .result = op->result,
        .moved = whole ? op->moved : 0,
        .data = hash(14695981039346656037ULL, lane->buffer, sizeof lane->buffer),
    };
    bool makes_fd = op->kind == WEIR_KIND_ACCEPT || op->kind == WEIR_KIND_OPENAT ||
                    op->kind == WEIR_KIND_SOCKET;
    if (makes_fd && op->result >= 0) {
        close((int)op->result);
        outcome->result = 0;
    }
    if (op->kind == WEIR_KIND_CONNECT && op->result == 0) { /* its queue stays empty */
        int taken = accept4(lane->listener, NULL, NULL, SOCK_CLOEXEC);
        CHECK(taken >= 0);
        close(taken);
    }
    uint64_t seen[] = {lane->statx.stx_mode,       lane->statx.stx_size,
                       lane->statx.stx_nlink,      (uint64_t)lane->end.code,
                       (uint64_t)lane->end.status, (uint64_t)lane->idle_result};
    outcome->data = hash(outcome->data, seen, sizeof seen);
    if (op->kind == WEIR_KIND_SPLICE && op->result > 0) {
        lane->pipe.bytes += (uint64_t)op->result;
    }
    struct stat status;
    CHECK_EQUAL(fstat(lane->file, &status), 0);
    uint64_t state[] = {(uint64_t)status.st_size, (uint64_t)lseek(lane->file, 0, SEEK_CUR),
                        (uint64_t)waiting_in(lane->pipe.in),
                        (uint64_t)waiting_in(lane->sockets[0].in),
                        (uint64_t)waiting_in(lane->sockets[1].in)};
    CHECK_EQUAL(state[2], lane->pipe.bytes);
    CHECK_EQUAL(state[3], lane->sockets[0].bytes);
    CHECK_EQUAL(state[4], lane->sockets[1].bytes);
    outcome->state = hash(0, state, sizeof state);
}
