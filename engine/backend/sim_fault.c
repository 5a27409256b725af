/* SPDX-License-Identifier: MIT */
/* sim_fault.c: which of the plan's faults strike an op, and with what. */
#include "sim.h"

#define MILLION 1000000u
#define ERRORS_MOST 8

/* What a kind may give when nothing is wrong with its arguments. */
static const uint8_t errors[WEIR_KIND_COUNT][ERRORS_MOST] = {
    [WEIR_KIND_READ] = {EIO, ENOMEM},
    [WEIR_KIND_WRITE] = {EIO, ENOSPC, EDQUOT, ENOMEM},
    [WEIR_KIND_READV] = {EIO, ENOMEM},
    [WEIR_KIND_WRITEV] = {EIO, ENOSPC, EDQUOT, ENOMEM},
    [WEIR_KIND_FSYNC] = {EIO, ENOSPC, EDQUOT},
    [WEIR_KIND_SYNC_FILE_RANGE] = {EIO, ENOSPC, ENOMEM},
    [WEIR_KIND_FALLOCATE] = {EIO, ENOSPC, EINTR},
    [WEIR_KIND_OPENAT] = {EMFILE, ENFILE, ENOMEM, ENOSPC, EIO, EACCES, EINTR},
    [WEIR_KIND_CLOSE] = {EIO, ENOSPC, EDQUOT, EINTR},
    [WEIR_KIND_STATX] = {EIO, ENOMEM, EACCES},
    [WEIR_KIND_UNLINKAT] = {EIO, ENOMEM, EROFS, EACCES, EBUSY},
    [WEIR_KIND_RENAMEAT] = {EIO, ENOMEM, ENOSPC, EROFS, EACCES, EBUSY},
    [WEIR_KIND_LINKAT] = {EIO, ENOMEM, ENOSPC, EROFS, EACCES, EMLINK},
    [WEIR_KIND_SYMLINKAT] = {EIO, ENOMEM, ENOSPC, EROFS, EACCES},
    [WEIR_KIND_MKDIRAT] = {EIO, ENOMEM, ENOSPC, EROFS, EACCES},
    [WEIR_KIND_FADVISE] = {EIO},
    [WEIR_KIND_SOCKET] = {EMFILE, ENFILE, ENOBUFS, ENOMEM},
    [WEIR_KIND_BIND] = {EADDRINUSE, EACCES, ENOMEM},
    [WEIR_KIND_LISTEN] = {EADDRINUSE},
    [WEIR_KIND_SETSOCKOPT] = {ENOBUFS, ENOMEM},
    [WEIR_KIND_ACCEPT] = {EMFILE, ENFILE, ECONNABORTED, ENOBUFS, ENOMEM, EINTR},
    [WEIR_KIND_CONNECT] = {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EINTR},
    [WEIR_KIND_RECV] = {ECONNRESET, ETIMEDOUT, ENOMEM, EAGAIN, EINTR},
    [WEIR_KIND_SEND] = {ECONNRESET, EPIPE, ENOBUFS, ENOMEM, EAGAIN, EINTR},
    [WEIR_KIND_RECVMSG] = {ECONNRESET, ETIMEDOUT, ENOMEM, EAGAIN, EINTR},
    [WEIR_KIND_SENDMSG] = {ECONNRESET, EPIPE, ENOBUFS, ENOMEM, EAGAIN, EINTR},
    [WEIR_KIND_SHUTDOWN] = {ENOTCONN},
    [WEIR_KIND_POLL] = {ENOMEM, EINTR},
    [WEIR_KIND_SPLICE] = {EIO, ENOMEM, EAGAIN},
    [WEIR_KIND_FTRUNCATE] = {EIO, ENOSPC, EINTR},
};

static bool is_reset_fit(const struct weir_sim_run *run)
{
    const struct weir_sim_file *file = run->attempt.file;
    return file && file->stream && file->stream->role == WEIR_STREAM_SOCKET && file->stream->peer;
}

/* Whether there is anything for the fault to do to the op. */
static bool can_strike(const struct weir_sim_fault *fault, const struct weir_sim_run *run)
{
    unsigned kind = run->op->kind;
    switch (fault->what) {
    case WEIR_SIM_ERROR:
        return errors[kind][0] != 0;
    case WEIR_SIM_SHORT:
        return weir_kind_traits(kind) & WEIR_KIND_MAY_WHOLE;
    case WEIR_SIM_RESET:
        return is_reset_fit(run);
    default:
        return true;
    }
}

static bool is_opened_by(const struct weir_sim_file *file, const char *path)
{
    return file && file->path && strcmp(file->path, path) == 0;
}

static bool names_a_path(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_MKDIRAT:
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
    case WEIR_KIND_SYMLINKAT:
        return true;
    default:
        return false;
    }
}

static bool is_on_path(const struct weir_sim *sim, const struct weir_sim_run *run, const char *path)
{
    const struct weir_op *op = run->op;
    if (names_a_path(op)) {
        const char *path2 = op->arg.path.path2;
        return strcmp(op->arg.path.path, path) == 0 || (path2 && strcmp(path2, path) == 0);
    }
    const struct weir_sim_file *closed =
        op->kind == WEIR_KIND_CLOSE ? weir_sim_file_of(sim, op->fd) : NULL;
    return is_opened_by(run->attempt.file, path) || is_opened_by(run->attempt.file2, path) ||
           is_opened_by(closed, path);
}

static bool matches(const struct weir_sim *sim, const struct weir_sim_fault *fault,
                    const struct weir_sim_run *run)
{
    bool kind = fault->kinds == 0 || fault->kinds >> run->op->kind & 1;
    return kind && can_strike(fault, run) && (!fault->path || is_on_path(sim, run, fault->path));
}

/* Counts a match, and says whether this is one to strike. */
static bool is_its_turn(struct weir_sim *sim, uint32_t index)
{
    const struct weir_sim_fault *fault = &sim->faults[index];
    if (fault->nth == 0) {
        return weir_sim_roll(sim, WEIR_SIM_DIE_FAULT) % MILLION < fault->per_million;
    }
    uint32_t count = fault->count ? fault->count : 1;
    uint64_t matched = ++sim->matched[index];
    return matched >= fault->nth &&
           (count == WEIR_SIM_ALWAYS || matched < (uint64_t)fault->nth + count);
}

static int draw_error(struct weir_sim *sim, unsigned kind)
{
    uint32_t count = 0;
    while (count < ERRORS_MOST && errors[kind][count] != 0) {
        count++;
    }
    WEIR_CHECK(count > 0); /* kinds without errors are not struck */
    return errors[kind][weir_sim_roll(sim, WEIR_SIM_DIE_FAULT) % count];
}

static void take_effect(struct weir_sim *sim, struct weir_sim_run *run,
                        const struct weir_sim_fault *fault)
{
    run->fault = fault->what;
    run->delay_ns = 0;
    if (fault->what == WEIR_SIM_ERROR) {
        run->error = fault->error ? fault->error : draw_error(sim, run->op->kind);
    } else if (fault->what == WEIR_SIM_SHORT) {
        run->attempt.cut = weir_sim_roll(sim, WEIR_SIM_DIE_FAULT) | 1;
    } else if (fault->what == WEIR_SIM_DELAY || fault->what == WEIR_SIM_JUMP) {
        run->delay_ns = weir_sim_draw(sim, WEIR_SIM_DIE_FAULT, &fault->delay);
    }
    sim->counters.faults++;
    weir_sim_trace(sim, "fault", run, fault->what);
}

void weir_sim_strike(struct weir_sim *sim, struct weir_sim_run *run)
{
    /* All of them count, so that the nth of one does not depend on the others. */
    const struct weir_sim_fault *strikes = NULL;
    for (uint32_t i = 0; i < sim->plan.fault_count; i++) {
        if (matches(sim, &sim->faults[i], run) && is_its_turn(sim, i) && !strikes) {
            strikes = &sim->faults[i];
        }
    }
    if (strikes) {
        take_effect(sim, run, strikes);
    }
}

bool weir_sim_faults_fit(const struct weir_sim_fault *faults, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_sim_fault *fault = &faults[i];
        if (fault->what < WEIR_SIM_ERROR || fault->what > WEIR_SIM_CRASH || fault->error < 0 ||
            fault->error > 511 || fault->per_million > MILLION ||
            fault->kinds >> WEIR_KIND_COUNT != 0 || fault->delay.min_ns > fault->delay.max_ns) {
            return false;
        }
    }
    return true;
}
