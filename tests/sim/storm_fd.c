/* SPDX-License-Identifier: MIT */
/* storm_fd.c: how fds are closed: by CLOSE ops, or by weir_forget() and then behind the engine. */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct stream *stream_of(struct storm *storm, const struct handle *handle, int *ret_end)
{
    for (unsigned i = 0; i < STORM_STREAMS; i++) {
        for (int end = 0; end < 2; end++) {
            if (&storm->streams[i].end[end] == handle) {
                *ret_end = end;
                return &storm->streams[i];
            }
        }
    }
    return NULL;
}

static struct file *file_of(struct storm *storm, const struct handle *handle)
{
    for (unsigned i = 0; i < STORM_FILES; i++) {
        if (&storm->files[i].handle == handle) {
            return &storm->files[i];
        }
    }
    return NULL;
}

struct handle *handle_random(struct storm *storm)
{
    uint64_t choice = storm_random(storm, STORM_FILES + STORM_STREAMS);
    struct handle *handle = choice < STORM_FILES
                                ? &storm->files[choice].handle
                                : &storm->streams[choice - STORM_FILES].end[storm_random(storm, 2)];
    return handle->state == HANDLE_OPEN ? handle : NULL;
}

static bool is_on(const struct item *item, int fd)
{
    bool splice = item->op.kind == WEIR_KIND_SPLICE;
    return item->op.fd == fd || (splice && item->op.arg.io.fd2 == fd);
}

void handle_mark(struct storm *storm, int fd, const struct item *but)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        if (item->live && item != but && is_on(item, fd)) {
            gate_asked(item);
        }
    }
}

static void is_closing(struct storm *storm, struct handle *handle)
{
    int end;
    struct stream *stream = stream_of(storm, handle, &end);
    if (stream) {
        stream_closes(stream, end);
    }
}

/* A stream without open ends that nobody uses becomes another; a file is opened again. */
static void renew(struct storm *storm, struct handle *handle)
{
    int end;
    struct file *file = file_of(storm, handle);
    if (file && handle->state == HANDLE_CLOSED) {
        file_open(storm, file);
        return;
    }
    struct stream *stream = stream_of(storm, handle, &end);
    if (stream && stream->refs == 0 && stream->end[0].state == HANDLE_CLOSED &&
        stream->end[1].state == HANDLE_CLOSED && stream->end[0].refs == 0 &&
        stream->end[1].refs == 0) {
        stream_open(storm, stream);
    }
}

static void close_behind(struct storm *storm, struct handle *handle)
{
    struct weir_op op = {0};
    weir_op_close(&op, handle->fd);
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
    handle->state = HANDLE_CLOSED;
    is_closing(storm, handle);
    renew(storm, handle);
}

struct item *handle_close(struct storm *storm, struct handle *handle)
{
    struct item *item = item_take(storm);
    if (!item) {
        return NULL;
    }
    item->handle = handle;
    handle->refs++;
    handle->state = HANDLE_CLOSING;
    weir_op_close(&item->op, handle->fd);
    is_closing(storm, handle);
    return item;
}

void handle_forget(struct storm *storm, struct handle *handle)
{
    int answer = weir_forget(storm->loop, handle->fd);
    STORM_CHECK(storm, answer == 0 || answer == -EBUSY);
    STORM_CHECK(storm, answer == 0 || handle->refs > 0 || handle->state != HANDLE_DRAINING);
    handle_mark(storm, handle->fd, NULL);
    is_closing(storm, handle);
    storm_hash(storm, (uint64_t)answer);
    if (answer == 0) {
        close_behind(storm, handle);
    } else {
        handle->state = HANDLE_DRAINING;
    }
}

void handle_judge_close(struct item *item)
{
    struct storm *storm = item->storm;
    struct handle *handle = item->handle;
    bool open = weir_sim_fcntl(storm->sim, handle->fd, F_GETFD, 0) >= 0;
    bool withdrawn = item->op.result == -ECANCELED || item->op.result == -ETIME;
    if (withdrawn && !open) {
        item_wrong(item, "it is closed, and said not");
    }
    if (handle->state != HANDLE_CLOSING) {
        item_wrong(item, "its fd was not to be closed");
    }
    if (handle->refs > 1 && !withdrawn && item->op.result == 0) {
        for (unsigned i = 0; i < STORM_ITEMS; i++) {
            const struct item *other = &storm->items[i];
            if (other->live && other->handle == handle && other->serial < item->serial &&
                other->op.fd == handle->fd && !other->may_cancel) {
                item_wrong(item, "a CLOSE came back before another on its fd");
            }
        }
    }
    handle->state = withdrawn ? HANDLE_OPEN : HANDLE_CLOSED;
}

void handle_release(struct storm *storm, struct handle *handle)
{
    handle->refs--;
    if (handle->state == HANDLE_DRAINING && handle->refs == 0 && !storm->closing &&
        !storm_is_dead(storm)) {
        handle_forget(storm, handle);
    } else {
        renew(storm, handle);
    }
}

static void settle(struct storm *storm, struct handle *handle)
{
    STORM_EQUAL(storm, handle->refs, 0);
    STORM_CHECK(storm, handle->state != HANDLE_CLOSING);
    if (handle->state == HANDLE_DRAINING) {
        close_behind(storm, handle);
    }
}

void handle_settle_all(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_FILES; i++) {
        settle(storm, &storm->files[i].handle);
    }
    for (unsigned i = 0; i < STORM_STREAMS; i++) {
        settle(storm, &storm->streams[i].end[0]);
        settle(storm, &storm->streams[i].end[1]);
    }
}

void handle_close_all(struct storm *storm)
{
    for (int i = 0; i < (int)storm->sim->fds_max; i++) {
        struct weir_op op = {0};
        weir_op_close(&op, WEIR_SIM_FD_FIRST + i);
        storm_do(storm, &op);
    }
    STORM_EQUAL(storm, weir_sim_fds(storm->sim), 0);
}

void handle_open_all(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_FILES; i++) {
        storm->files[i].handle = (struct handle){0};
        file_open(storm, &storm->files[i]);
    }
    for (unsigned i = 0; i < STORM_STREAMS; i++) {
        stream_open(storm, &storm->streams[i]);
    }
    storm->null = weir_sim_null(storm->sim);
    STORM_CHECK(storm, storm->null >= 0);
}

uint32_t handle_count_open(const struct storm *storm)
{
    uint32_t open = 1; /* the null device */
    for (unsigned i = 0; i < STORM_FILES; i++) {
        open += storm->files[i].handle.state != HANDLE_CLOSED;
    }
    for (unsigned i = 0; i < STORM_STREAMS; i++) {
        open += storm->streams[i].end[0].state != HANDLE_CLOSED;
        open += storm->streams[i].end[1].state != HANDLE_CLOSED;
    }
    return open;
}
