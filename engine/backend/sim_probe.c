/* SPDX-License-Identifier: MIT */
/* sim_probe.c: what tests do to a world behind its loops' backs. Nothing of it is traced. */
#include "sim.h"

#include <unistd.h>

int64_t weir_sim_do(struct weir_sim *sim, const struct weir_op *op)
{
    struct weir_sim_try attempt = {0};
    int64_t r = weir_sim_try_begin(sim, op, &attempt);
    if (r == 0) {
        r = weir_sim_perform(sim, op, &attempt);
        r = r == -EAGAIN && attempt.moved > 0 ? (int64_t)attempt.moved : r;
    }
    weir_sim_try_end(sim, &attempt);
    return r;
}

bool weir_sim_step(struct weir_sim *sim)
{
    return weir_sim_advance(sim, UINT64_MAX);
}

void weir_sim_sleep(struct weir_sim *sim, uint64_t ns)
{
    uint64_t until_ns = sim->now_ns + ns;
    while (sim->now_ns < until_ns && !sim->crashed) {
        weir_sim_advance(sim, until_ns);
    }
}

int weir_sim_dup(struct weir_sim *sim, int fd, int at)
{
    struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    if (!file || at == fd) {
        return file ? fd : -EBADF;
    }
    if (at < 0) {
        int r = weir_sim_may_open(sim);
        return r < 0 ? r : weir_sim_file_number(sim, file, 0);
    }
    if (at < WEIR_SIM_FD_FIRST || (uint32_t)(at - WEIR_SIM_FD_FIRST) >= sim->fds_max) {
        return -EBADF;
    }
    weir_sim_file_close(sim, at);
    sim->fds[at - WEIR_SIM_FD_FIRST].file = file;
    sim->fds_open++;
    weir_sim_file_hold(file);
    return at;
}

int weir_sim_null(struct weir_sim *sim)
{
    struct weir_sim_file *file;
    int r = weir_sim_may_open(sim);
    return r < 0 ? r : weir_sim_file_open(sim, WEIR_SIM_FILE_NULL, O_RDWR, &file);
}

uint32_t weir_sim_fds(const struct weir_sim *sim)
{
    return sim->fds_open;
}

void weir_sim_limit_fds(struct weir_sim *sim, uint32_t max)
{
    sim->plan.fds_max = max < sim->fds_max ? max : sim->fds_max;
}

int weir_sim_fcntl(struct weir_sim *sim, int fd, int command, int argument)
{
    struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    if (!file) {
        return -EBADF;
    }
    switch (command) {
    case F_GETFD:
        return sim->fds[fd - WEIR_SIM_FD_FIRST].flags;
    case F_GETFL:
        return file->flags;
    case F_SETFL:
        file->flags =
            (file->flags & ~(O_NONBLOCK | O_APPEND)) | (argument & (O_NONBLOCK | O_APPEND));
        return 0;
    default:
        return -EINVAL;
    }
}

int64_t weir_sim_seek(struct weir_sim *sim, int fd, int64_t offset, int whence)
{
    struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    if (!file || !file->inode) {
        return file ? -ESPIPE : -EBADF;
    }
    int64_t from = whence == SEEK_SET   ? 0
                   : whence == SEEK_CUR ? (int64_t)file->position
                                        : (int64_t)weir_disk_size(file->inode);
    if (from + offset < 0) {
        return -EINVAL;
    }
    file->position = (uint64_t)(from + offset);
    return from + offset;
}

int weir_sim_sockname(struct weir_sim *sim, int fd, struct sockaddr *ret_address, socklen_t *length)
{
    const struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    if (!file || !file->stream || file->stream->role != WEIR_STREAM_SOCKET) {
        return file ? -ENOTSOCK : -EBADF;
    }
    struct weir_name name = file->stream->name;
    if (name.length == 0) {
        name.length = sizeof name.address.any.sa_family;
        name.address.any.sa_family = (sa_family_t)file->stream->domain;
    }
    memcpy(ret_address, &name.address, name.length < *length ? name.length : *length);
    *length = name.length;
    return 0;
}

int weir_sim_getsockopt(struct weir_sim *sim, int fd, int level, int name, void *ret_value,
                        socklen_t *length)
{
    const struct weir_sim_file *file = weir_sim_file_of(sim, fd);
    int value;
    if (!file || !file->stream || file->stream->role != WEIR_STREAM_SOCKET) {
        return file ? -ENOTSOCK : -EBADF;
    }
    int r = weir_stream_get(file->stream, level, name, &value);
    if (r == 0) {
        memcpy(ret_value, &value, *length < sizeof value ? *length : sizeof value);
        *length = sizeof value;
    }
    return r;
}
