/* SPDX-License-Identifier: MIT */
/* fill.c: ops of every kind, from bytes. Must not know what becomes of them. */
#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/un.h>

#define PICK(array) (array)[fuzz_below(sizeof(array) / sizeof *(array))]

static const char *const paths[] = {"/a", "/b", "/d", "/d/a", "a", "b", "d", "/s", "", "/no/a"};
static const uint16_t lengths[] = {1, 0, 10, 100, 600, 1000};
static const uint32_t places[] = {0, 1, 500, 512, 4000, 4096, 20000, 1u << 20};

bool fuzz_makes_fd(uint8_t kind)
{
    return kind == WEIR_KIND_OPENAT || kind == WEIR_KIND_SOCKET || kind == WEIR_KIND_ACCEPT;
}

int fuzz_take_fd(void)
{
    uint8_t byte = fuzz_take();
    if (byte >= 250) {
        return byte == 250 ? -1 : byte == 251 ? AT_FDCWD : byte == 252 ? 0 : WEIR_SIM_FD_FIRST + 99;
    }
    return WEIR_SIM_FD_FIRST + byte % 10;
}

int64_t fuzz_take_wait(void)
{
    static const int64_t waits[] = {0, 1, 1000, 60000, 5 * WEIR_MS, WEIR_S};
    return PICK(waits);
}

static int take_directory(void)
{
    uint8_t byte = fuzz_take();
    return byte < 192 ? AT_FDCWD : WEIR_SIM_FD_FIRST + byte % 10;
}

static uint64_t take_place(void)
{
    uint8_t byte = fuzz_take();
    return byte >= 200 ? WEIR_CURRENT : places[byte % (sizeof places / sizeof *places)];
}

static void set_vector(struct fuzz_item *item, uint64_t length)
{
    item->iov[0] = (struct iovec){item->buffer, length / 3};
    item->iov[1] = (struct iovec){item->buffer + length / 3, length - length / 3};
    item->message = (struct msghdr){.msg_iov = item->iov, .msg_iovlen = 2};
}

void fuzz_address(struct fuzz_item *item, uint8_t which)
{
    which %= 4;
    memset(&item->address, 0, sizeof item->address);
    if (which < 2) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&item->address;
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)(1000 + which));
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        item->address_length = sizeof *in;
    } else {
        struct sockaddr_un *un = (struct sockaddr_un *)(void *)&item->address;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, which == 2 ? "/s" : "\0s", 2);
        item->address_length = offsetof(struct sockaddr_un, sun_path) + 2;
    }
}

/* --- kinds ------------------------------------------------------------------------------------ */

static void fill_transfer(struct fuzz_item *item, struct fuzz_track *track, uint8_t kind)
{
    static const uint32_t rw_flags[] = {0, 0, RWF_NOWAIT, RWF_DSYNC, RWF_APPEND};
    struct weir_op *op = &item->op;
    int fd = fuzz_take_fd();
    uint64_t length = PICK(lengths);
    uint64_t offset = take_place();
    set_vector(item, length);
    track->most = length;
    switch (kind) {
    case WEIR_KIND_READ:
        weir_op_read(op, fd, item->buffer, length, offset);
        break;
    case WEIR_KIND_WRITE:
        weir_op_write(op, fd, item->buffer, length, offset);
        break;
    case WEIR_KIND_READV:
        weir_op_readv(op, fd, item->iov, 2, offset);
        break;
    default:
        weir_op_writev(op, fd, item->iov, 2, offset);
        break;
    }
    op->rw_flags = PICK(rw_flags);
    track->polls = op->rw_flags & RWF_NOWAIT;
}

static void fill_message(struct fuzz_item *item, struct fuzz_track *track, uint8_t kind)
{
    static const int flags_of[] = {0, 0, MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL};
    struct weir_op *op = &item->op;
    int fd = fuzz_take_fd();
    uint64_t length = PICK(lengths);
    int flags = PICK(flags_of);
    set_vector(item, length);
    track->most = length;
    track->polls = flags & MSG_DONTWAIT;
    switch (kind) {
    case WEIR_KIND_RECV:
        weir_op_recv(op, fd, item->buffer, length, flags);
        break;
    case WEIR_KIND_SEND:
        weir_op_send(op, fd, item->buffer, length, flags);
        break;
    case WEIR_KIND_RECVMSG:
        weir_op_recvmsg(op, fd, &item->message, flags);
        break;
    default:
        weir_op_sendmsg(op, fd, &item->message, flags);
        break;
    }
}

static void fill_file(struct fuzz_item *item, uint8_t kind)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                                FALLOC_FL_ZERO_RANGE};
    struct weir_op *op = &item->op;
    int fd = fuzz_take_fd();
    uint64_t length = PICK(places);
    uint64_t offset = PICK(places);
    uint8_t how = fuzz_below(8);
    switch (kind) {
    case WEIR_KIND_FSYNC:
        (how & 1 ? weir_op_fdatasync : weir_op_fsync)(op, fd);
        break;
    case WEIR_KIND_SYNC_FILE_RANGE:
        weir_op_sync_file_range(op, fd, offset, length, how);
        break;
    case WEIR_KIND_FALLOCATE:
        weir_op_fallocate(op, fd, modes[how % 4], offset, length);
        break;
    case WEIR_KIND_FADVISE:
        weir_op_fadvise(op, fd, offset, length, how);
        break;
    default:
        weir_op_ftruncate(op, fd, length);
        break;
    }
}

static void fill_path(struct fuzz_item *item, uint8_t kind)
{
    static const int open_flags[] = {O_RDWR | O_CREAT,
                                     O_RDWR | O_CREAT | O_EXCL,
                                     O_RDWR | O_CREAT | O_TRUNC,
                                     O_RDWR,
                                     O_RDONLY | O_DIRECTORY,
                                     O_RDONLY,
                                     O_WRONLY | O_CREAT | O_APPEND,
                                     O_RDWR | O_CREAT | O_DSYNC,
                                     O_PATH,
                                     O_RDONLY | O_NOFOLLOW};
    struct weir_op *op = &item->op;
    int fd = take_directory();
    const char *path = PICK(paths);
    const char *path2 = PICK(paths);
    uint8_t how = fuzz_take();
    switch (kind) {
    case WEIR_KIND_OPENAT:
        weir_op_openat(op, fd, path, open_flags[how % 10], 0644);
        break;
    case WEIR_KIND_STATX:
        weir_op_statx(op, fd, path, how & 1 ? AT_EMPTY_PATH : 0, STATX_ALL, &item->status);
        break;
    case WEIR_KIND_UNLINKAT:
        weir_op_unlinkat(op, fd, path, how & 1 ? AT_REMOVEDIR : 0);
        break;
    case WEIR_KIND_RENAMEAT:
        weir_op_renameat(op, fd, path, AT_FDCWD, path2, how % 3); /* NOREPLACE, EXCHANGE */
        break;
    case WEIR_KIND_LINKAT:
        weir_op_linkat(op, fd, path, AT_FDCWD, path2, how & 1 ? AT_SYMLINK_FOLLOW : 0);
        break;
    case WEIR_KIND_SYMLINKAT:
        weir_op_symlinkat(op, path, fd, path2);
        break;
    default:
        weir_op_mkdirat(op, fd, path, 0755);
        break;
    }
}

static void fill_socket(struct fuzz_item *item, uint8_t kind)
{
    static const int types[] = {SOCK_STREAM, SOCK_STREAM | SOCK_NONBLOCK, SOCK_DGRAM,
                                SOCK_SEQPACKET};
    struct weir_op *op = &item->op;
    if (kind == WEIR_KIND_SOCKET) {
        int type = PICK(types);
        weir_op_socket(op, fuzz_below(2) ? AF_UNIX : AF_INET, type, 0);
        return;
    }
    int fd = fuzz_take_fd();
    switch (kind) {
    case WEIR_KIND_BIND:
        fuzz_address(item, fuzz_take());
        weir_op_bind(op, fd, (const struct sockaddr *)&item->address, item->address_length);
        break;
    case WEIR_KIND_LISTEN:
        weir_op_listen(op, fd, fuzz_below(3));
        break;
    case WEIR_KIND_SETSOCKOPT:
        item->value = fuzz_below(2);
        weir_op_setsockopt(op, fd, SOL_SOCKET, SO_REUSEADDR, &item->value, sizeof item->value);
        break;
    case WEIR_KIND_ACCEPT:
        item->address_length = sizeof item->address;
        weir_op_accept(op, fd, (struct sockaddr *)&item->address, &item->address_length, 0);
        break;
    case WEIR_KIND_CONNECT:
        fuzz_address(item, fuzz_take());
        weir_op_connect(op, fd, (const struct sockaddr *)&item->address, item->address_length);
        break;
    case WEIR_KIND_SHUTDOWN:
        weir_op_shutdown(op, fd, fuzz_below(3));
        break;
    default:
        weir_op_poll(op, fd, fuzz_below(2) ? POLLIN : POLLOUT | POLLIN);
        break;
    }
}

static void fill_splice(struct fuzz_item *item, struct fuzz_track *track)
{
    int in = fuzz_take_fd();
    int out = fuzz_take_fd();
    track->most = PICK(lengths);
    uint8_t how = fuzz_take();
    uint64_t from = how & 1 ? WEIR_CURRENT : 0;
    uint64_t to = how & 2 ? WEIR_CURRENT : 0;
    weir_op_splice(&item->op, in, from, out, to, track->most, 0);
}

/* What has neither fd nor path. */
static void fill_other(struct fuzz_item *item, struct fuzz_track *track, uint8_t kind)
{
    static const uint32_t waits[] = {0, 1, 1000, 50000, 1000000, 70000000};
    struct weir_op *op = &item->op;
    switch (kind) {
    case WEIR_KIND_TIMEOUT:
        track->at_ns = weir_sim_now(fuzz.sim) + PICK(waits);
        weir_op_timeout(op, track->at_ns);
        break;
    case WEIR_KIND_SIGNAL:
        weir_op_signal(op, WEIR_SIGNAL(10), NULL);
        break;
    case WEIR_KIND_CHILD:
        weir_op_child(op, 1, NULL);
        break;
    case WEIR_KIND_CALL:
        weir_op_call(op, fuzz_function, track);
        track->acts_in_call = fuzz_below(2);
        track->holds = fuzz_below(4);
        break;
    default:
        weir_op_nop(op);
        break;
    }
}

static void fill_kind(struct fuzz_item *item, struct fuzz_track *track, uint8_t kind)
{
    uint32_t traits = weir_kind_traits(kind);
    if (kind == WEIR_KIND_SPLICE) {
        fill_splice(item, track);
    } else if (traits & WEIR_KIND_MAY_WHOLE && kind < WEIR_KIND_ACCEPT) {
        fill_transfer(item, track, kind);
    } else if (traits & WEIR_KIND_MAY_WHOLE) {
        fill_message(item, track, kind);
    } else if (kind == WEIR_KIND_CLOSE) {
        weir_op_close(&item->op, fuzz_take_fd());
    } else if (kind >= WEIR_KIND_OPENAT && kind <= WEIR_KIND_MKDIRAT) {
        fill_path(item, kind);
    } else if (kind >= WEIR_KIND_SOCKET && kind <= WEIR_KIND_POLL) {
        fill_socket(item, kind);
    } else if (kind >= WEIR_KIND_FSYNC && kind <= WEIR_KIND_FTRUNCATE &&
               kind != WEIR_KIND_TIMEOUT) {
        fill_file(item, kind);
    } else {
        fill_other(item, track, kind);
    }
}

/* --- what every kind has ---------------------------------------------------------------------- */

static void set_route(struct weir_op *op, struct fuzz_track *track)
{
    uint8_t byte = fuzz_take();
    uint32_t traits = weir_kind_traits(op->kind);
    bool no_call = op->kind == WEIR_KIND_NOP || op->kind == WEIR_KIND_CLOSE ||
                   op->kind == WEIR_KIND_TIMEOUT || traits & WEIR_KIND_WAITS;
    uint8_t route = byte & 3;
    op->route = no_call && route == WEIR_ROUTE_OFFLOAD ? WEIR_ROUTE_RING : route;
    op->flags = 0;
    if (byte & 4) {
        op->flags = traits & WEIR_KIND_MAY_WHOLE ? WEIR_WHOLE
                    : op->kind == WEIR_KIND_CALL ? WEIR_SHORT
                                                 : 0;
    }
    track->again = byte >> 3 & 3;
    track->acts = byte >> 5 & 3;
}

void fuzz_fill(unsigned op, struct fuzz_loop *loop)
{
    static const uint32_t deadlines[] = {0, 0, 0, 1, 10000, 150000, 1000000};
    struct fuzz_item *item = &fuzz_items[op];
    struct fuzz_track *track = &fuzz.tracks[op];
    uint8_t kind = (uint8_t)(1 + fuzz_below(WEIR_KIND_COUNT - 1));
    *track = (struct fuzz_track){.kind = kind};
    item->op.fd = -1;
    item->op.intended_ns = 0;
    fill_kind(item, track, kind);
    set_route(&item->op, track);
    uint8_t byte = fuzz_take();
    uint32_t wait = deadlines[byte % 7];
    bool has_deadline = wait > 0 && kind != WEIR_KIND_TIMEOUT;
    item->op.deadline_ns = has_deadline ? weir_sim_now(fuzz.sim) + wait - 1 : 0;
    track->task = loop ? byte / 7 % (FUZZ_TASKS + 1) : 0;
    track->timer = kind == WEIR_KIND_TIMEOUT;
    track->offloaded = kind == WEIR_KIND_CALL || item->op.route == WEIR_ROUTE_OFFLOAD;
    track->fd = item->op.fd;
    track->fd2 = -1;
    if (weir_kind_traits(kind) & WEIR_KIND_HAS_FD2) {
        track->fd2 = weir_op_fd2(&item->op);
    }
    track->deadline_ns = item->op.deadline_ns;
    item->op.callback = fuzz_on_done;
}
