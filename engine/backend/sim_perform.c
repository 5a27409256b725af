/* SPDX-License-Identifier: MIT */
/*
 * sim_perform.c: what each kind does in a world, as perform.c says it of a kernel: an attempt, made
 * at one moment, that happens or would have to wait. Must not know when, or by whom it is asked.
 */
#include "sim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#define RW_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)
#define LOWEST_ADDRESS 4096u
#define NULL_DEVICE "/dev/null"

/* --- the files of an op ----------------------------------------------------------------------- */

/* Which fds a kind looks up. */
enum looked_up { NOTHING, FD, PATH, PATH_TWO, TWO_FDS, SECOND_PATH };

static enum looked_up what_is_looked_up(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_NOP:
    case WEIR_KIND_CLOSE:
    case WEIR_KIND_SOCKET:
    case WEIR_KIND_SIGNAL:
    case WEIR_KIND_CHILD:
    case WEIR_KIND_CALL:
        return NOTHING;
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_MKDIRAT:
        return PATH;
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
        return PATH_TWO;
    case WEIR_KIND_SYMLINKAT:
        return SECOND_PATH;
    case WEIR_KIND_SPLICE:
        return TWO_FDS;
    default:
        return FD;
    }
}

static int look_up(struct weir_sim *sim, int fd, struct weir_sim_file **ret_file)
{
    struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    if (!file) {
        return -EBADF;
    }
    weir_sim_file_hold(file);
    *ret_file = file;
    return 0;
}

/* The directory that a path begins at, if it needs one. */
static int look_up_directory(struct weir_sim *sim, int fd, const char *path,
                             struct weir_sim_file **ret_file)
{
    if (weir_sim_is_bad_address(path)) {
        return -EFAULT;
    }
    return fd == AT_FDCWD || path[0] == '/' ? 0 : look_up(sim, fd, ret_file);
}

int weir_sim_try_begin(struct weir_sim *sim, const struct weir_op *op, struct weir_sim_try *attempt)
{
    enum looked_up looked_up = what_is_looked_up(op);
    int r = 0;
    switch (looked_up) {
    case NOTHING:
        return 0;
    case FD:
    case TWO_FDS:
        r = look_up(sim, op->fd, &attempt->file);
        break;
    case PATH:
    case PATH_TWO:
        r = look_up_directory(sim, op->fd, op->arg.path.path, &attempt->file);
        break;
    case SECOND_PATH:
        return look_up_directory(sim, op->fd, op->arg.path.path2, &attempt->file);
    }
    if (r == 0 && looked_up == TWO_FDS) {
        r = look_up(sim, weir_op_fd2(op), &attempt->file2);
    } else if (r == 0 && looked_up == PATH_TWO) {
        r = look_up_directory(sim, weir_op_fd2(op), op->arg.path.path2, &attempt->file2);
    }
    return r;
}

void weir_sim_try_end(struct weir_sim *sim, struct weir_sim_try *attempt)
{
    if (attempt->file) {
        weir_sim_file_release(sim, attempt->file);
    }
    if (attempt->file2) {
        weir_sim_file_release(sim, attempt->file2);
    }
    attempt->file = NULL;
    attempt->file2 = NULL;
}

/* --- memory and lengths ----------------------------------------------------------------------- */

bool weir_sim_is_bad_address(const void *address)
{
    return (uintptr_t)address < LOWEST_ADDRESS;
}

int64_t weir_sim_vector_bytes(const struct iovec *iov, uint64_t count)
{
    uint64_t bytes = 0;
    if (count > 0 && weir_sim_is_bad_address(iov)) {
        return -EFAULT;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (iov[i].iov_len > INT64_MAX) {
            return -EINVAL;
        }
        if (iov[i].iov_len > 0 && weir_sim_is_bad_address(iov[i].iov_base)) {
            return bytes > 0 ? (int64_t)bytes : -EFAULT; /* as far as it goes */
        }
        bytes += iov[i].iov_len;
        bytes = bytes < WEIR_TRANSFER_MAX ? bytes : WEIR_TRANSFER_MAX;
    }
    return (int64_t)bytes;
}

uint64_t weir_sim_cut(const struct weir_sim_try *attempt, uint64_t could)
{
    return attempt->cut == 0 || could <= 1 ? could : 1 + attempt->cut % (could - 1);
}

/* --- transfers -------------------------------------------------------------------------------- */

struct transfer {
    struct iovec one; /* what iov points to when there is a single buffer */
    const struct iovec *iov;
    uint32_t count;
    uint64_t length;
    uint64_t offset;
    bool reads;
};

static int set_transfer(struct transfer *transfer, const struct weir_op *op)
{
    struct weir_part part;
    weir_op_part(op, &part);
    transfer->one = (struct iovec){part.buffer, part.length};
    transfer->iov = &transfer->one;
    transfer->count = 1;
    transfer->offset = part.offset;
    transfer->reads = weir_kind_traits(op->kind) & WEIR_KIND_READS;
    if (weir_kind_traits(part.kind) & WEIR_KIND_VECTOR) {
        transfer->iov = part.buffer;
        transfer->count = (uint32_t)part.length;
    }
    int64_t bytes = weir_sim_vector_bytes(transfer->iov, transfer->count);
    transfer->length = bytes < 0 ? 0 : (uint64_t)bytes;
    return bytes < 0 ? (int)bytes : 0;
}

static int64_t move_on_disk(struct weir_sim *sim, const struct weir_op *op,
                            struct weir_sim_try *attempt, const struct transfer *transfer)
{
    struct weir_sim_file *file = attempt->file;
    bool current = transfer->offset == WEIR_CURRENT;
    uint64_t offset = current ? file->position : transfer->offset;
    uint64_t size = weir_disk_size(file->inode);
    uint64_t could = transfer->length;
    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    if (!transfer->reads && (file->flags & O_APPEND || op->rw_flags & RWF_APPEND)) {
        offset = size;
    }
    if (transfer->reads) {
        uint64_t left = offset < size ? size - offset : 0;
        could = left < could ? left : could;
    }
    could = weir_sim_cut(attempt, could);
    int64_t r = transfer->reads ? weir_disk_read(sim->disk, file->inode, transfer->iov,
                                                 transfer->count, could, offset)
                                : weir_disk_write(sim->disk, file->inode, transfer->iov,
                                                  transfer->count, could, offset);
    if (r > 0 && current) {
        file->position = offset + (uint64_t)r;
    }
    bool sync = file->flags & (O_SYNC | O_DSYNC) || op->rw_flags & (RWF_SYNC | RWF_DSYNC);
    if (r > 0 && !transfer->reads && sync) {
        int synced = weir_disk_sync(sim->disk, file->inode);
        r = synced < 0 ? synced : r;
    }
    return r;
}

/* Whether the fd was opened for it. */
static bool may_move(const struct weir_sim_file *file, bool reads)
{
    int mode = file->flags & O_ACCMODE;
    return !(file->flags & O_PATH) && mode != (reads ? O_WRONLY : O_RDONLY);
}

static int64_t move(struct weir_sim *sim, const struct weir_op *op, struct weir_sim_try *attempt)
{
    struct transfer transfer;
    struct weir_sim_file *file = attempt->file;
    bool reads = weir_kind_traits(op->kind) & WEIR_KIND_READS;
    if (!may_move(file, reads)) {
        return -EBADF;
    }
    if (op->rw_flags & ~(uint32_t)RW_KNOWN) {
        return -EOPNOTSUPP;
    }
    int r = set_transfer(&transfer, op);
    if (r < 0) {
        return r;
    }
    if (file->kind == WEIR_SIM_FILE_NULL) {
        return reads ? 0 : (int64_t)transfer.length;
    }
    if (file->kind == WEIR_SIM_FILE_DISK) {
        return move_on_disk(sim, op, attempt, &transfer);
    }
    return reads
               ? weir_sim_stream_read(sim, attempt, transfer.iov, transfer.count, transfer.length)
               : weir_sim_stream_write(sim, attempt, transfer.iov, transfer.count, transfer.length);
}

/* --- files ------------------------------------------------------------------------------------ */

/* What a kind answers on what is no file of the disk; 0 for /dev/null. */
static int refuse(const struct weir_op *op, const struct weir_sim_file *file)
{
    bool socket = file->stream && file->stream->role == WEIR_STREAM_SOCKET;
    switch (op->kind) {
    case WEIR_KIND_SYNC_FILE_RANGE:
    case WEIR_KIND_FADVISE:
        return -ESPIPE;
    case WEIR_KIND_FALLOCATE:
        return socket ? -ENODEV : -ESPIPE;
    default:
        return -EINVAL;
    }
}

static int64_t on_file(struct weir_sim *sim, const struct weir_op *op,
                       const struct weir_sim_try *attempt)
{
    struct weir_sim_file *file = attempt->file;
    uint64_t offset = op->arg.io.offset;
    uint64_t length = op->arg.io.length;
    if (file->flags & O_PATH) {
        return -EBADF;
    }
    if (file->kind != WEIR_SIM_FILE_DISK) {
        return refuse(op, file);
    }
    switch (op->kind) {
    case WEIR_KIND_FSYNC:
        return weir_disk_sync(sim->disk, file->inode);
    case WEIR_KIND_SYNC_FILE_RANGE:
        return weir_disk_sync_range(sim->disk, file->inode, offset, length, op->arg.io.flags);
    case WEIR_KIND_FALLOCATE:
        return !may_move(file, false) ? -EBADF
                                      : weir_disk_allocate(sim->disk, file->inode,
                                                           (int)op->arg.io.flags, offset, length);
    case WEIR_KIND_FADVISE:
        return op->arg.io.flags > POSIX_FADV_NOREUSE ? -EINVAL : 0;
    default:
        return !may_move(file, false) || length > INT64_MAX
                   ? -EINVAL
                   : weir_disk_truncate(sim->disk, file->inode, length);
    }
}

/* --- paths ------------------------------------------------------------------------------------ */

/* 0 and where a path begins, or -ENOTDIR. */
static int directory_of(const struct weir_sim_file *file, struct weir_inode **ret_inode)
{
    *ret_inode = file ? file->inode : NULL;
    return file && !file->inode ? -ENOTDIR : 0;
}

static int64_t open_null(struct weir_sim *sim, int flags)
{
    struct weir_sim_file *file;
    return weir_sim_file_open(sim, WEIR_SIM_FILE_NULL, flags, &file);
}

static int64_t open_path(struct weir_sim *sim, const struct weir_op *op, struct weir_inode *at)
{
    const char *path = op->arg.path.path;
    int flags = (int)op->arg.path.flags;
    struct weir_inode *inode;
    struct weir_sim_file *file;
    int r = weir_sim_may_open(sim);
    if (r == 0 && strcmp(path, NULL_DEVICE) == 0) {
        return open_null(sim, flags);
    }
    if (r == 0) {
        r = weir_disk_open(sim->disk, at, path, flags, (mode_t)op->mode_or_offset2, &inode);
    }
    if (r < 0) {
        return r;
    }
    int fd = weir_sim_file_open(sim, WEIR_SIM_FILE_DISK, flags, &file);
    if (fd < 0) {
        weir_disk_release(sim->disk, inode);
        return fd;
    }
    file->inode = inode;
    weir_sim_file_name(sim, file, path);
    return fd;
}

static int64_t on_path(struct weir_sim *sim, const struct weir_op *op,
                       const struct weir_sim_try *attempt)
{
    const char *path = op->arg.path.path;
    const char *path2 = op->arg.path.path2;
    int flags = (int)op->arg.path.flags;
    mode_t mode = (mode_t)op->mode_or_offset2;
    struct weir_inode *at;
    struct weir_inode *at2;
    int r = directory_of(attempt->file, &at);
    r = r < 0 ? r : directory_of(attempt->file2, &at2);
    if (r < 0) {
        return r;
    }
    switch (op->kind) {
    case WEIR_KIND_OPENAT:
        return open_path(sim, op, at);
    case WEIR_KIND_STATX:
        return weir_sim_is_bad_address(op->arg.path.statx)
                   ? -EFAULT
                   : weir_disk_statx(sim->disk, at, path, flags, mode, op->arg.path.statx);
    case WEIR_KIND_UNLINKAT:
        return weir_disk_unlink(sim->disk, at, path, flags);
    case WEIR_KIND_RENAMEAT:
        return weir_disk_rename(sim->disk, at, path, at2, path2, (unsigned)flags);
    case WEIR_KIND_LINKAT:
        return weir_disk_link(sim->disk, at, path, at2, path2, flags);
    case WEIR_KIND_SYMLINKAT:
        return weir_sim_is_bad_address(path) ? -EFAULT
                                             : weir_disk_symlink(sim->disk, path, at, path2);
    default:
        return weir_disk_mkdir(sim->disk, at, path, mode);
    }
}

/* --- readiness -------------------------------------------------------------------------------- */

static int64_t poll_file(struct weir_sim *sim, const struct weir_op *op,
                         struct weir_sim_try *attempt)
{
    struct weir_sim_file *file = attempt->file;
    unsigned wanted = op->arg.io.flags;
    unsigned ready = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
    if (op->kind != WEIR_KIND_POLL) { /* one that is tried again when it is ready */
        wanted = weir_kind_traits(op->kind) & WEIR_KIND_READS ? POLLIN : POLLOUT;
    }
    if (file->flags & O_PATH) {
        return -EBADF;
    }
    if (file->stream) {
        ready = weir_stream_poll(file->stream, sim->now_ns);
    }
    ready &= wanted | POLLERR | POLLHUP;
    if (ready != 0) {
        return (int64_t)ready;
    }
    attempt->waits = file;
    return -EAGAIN;
}

/* --- all of them ------------------------------------------------------------------------------ */

int64_t weir_sim_perform(struct weir_sim *sim, const struct weir_op *op,
                         struct weir_sim_try *attempt)
{
    attempt->waits = NULL;
    if (op->retry == WEIR_RETRY_POLL && attempt->file) {
        return poll_file(sim, op, attempt);
    }
    switch (op->kind) {
    case WEIR_KIND_NOP:
        return 0;
    case WEIR_KIND_READ:
    case WEIR_KIND_WRITE:
    case WEIR_KIND_READV:
    case WEIR_KIND_WRITEV:
        return move(sim, op, attempt);
    case WEIR_KIND_FSYNC:
    case WEIR_KIND_SYNC_FILE_RANGE:
    case WEIR_KIND_FALLOCATE:
    case WEIR_KIND_FADVISE:
    case WEIR_KIND_FTRUNCATE:
        return on_file(sim, op, attempt);
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
    case WEIR_KIND_SYMLINKAT:
    case WEIR_KIND_MKDIRAT:
        return on_path(sim, op, attempt);
    case WEIR_KIND_CLOSE:
        return weir_sim_file_close(sim, op->fd);
    case WEIR_KIND_RECV:
    case WEIR_KIND_SEND:
    case WEIR_KIND_RECVMSG:
    case WEIR_KIND_SENDMSG:
        return weir_sim_message(sim, op, attempt);
    case WEIR_KIND_POLL:
        return poll_file(sim, op, attempt);
    case WEIR_KIND_SPLICE:
        return weir_sim_splice(sim, op, attempt);
    case WEIR_KIND_SIGNAL:
    case WEIR_KIND_CHILD:
    case WEIR_KIND_CALL:
        return -EOPNOTSUPP;
    default:
        return weir_sim_on_socket(sim, op, attempt);
    }
}
