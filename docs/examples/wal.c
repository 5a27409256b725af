/* SPDX-License-Identifier: MIT */
/* wal.c: the log, as a chain of callbacks of one op: open, recover, then write, sync, write, ... */
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#define PATIENCE_NS (30 * WEIR_S) /* a disk that takes longer is broken */

/* Before each record's bytes; this machine's byte order. */
struct header {
    uint32_t sum; /* of all that follows */
    uint32_t length;
    uint64_t number; /* from 1: so zeroes are no record */
};

/* CRC-32C. Plain; a service would use the processor's instruction for it. */
static uint32_t sum_of(uint32_t sum, const void *bytes, size_t length)
{
    const unsigned char *byte = bytes;
    for (sum = ~sum; length > 0; length--) {
        sum ^= *byte++;
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~sum;
}

static uint32_t sum_of_record(const struct header *header, const void *bytes)
{
    uint32_t sum = sum_of(0, &header->length, sizeof *header - sizeof header->sum);
    return sum_of(sum, bytes, header->length);
}

/* --- one step after the other ----------------------------------------------------------------- */

static struct wal *wal_of(struct weir_op *op)
{
    return WEIR_CONTAINER(op, struct wal, op);
}

static void fail(struct wal *wal, int64_t error);

static void on_room(struct weir_room *room, int result)
{
    struct wal *wal = WEIR_CONTAINER(room, struct wal, room);
    result = result < 0 ? result : weir_submit(wal->loop, &wal->op);
    if (result == -EAGAIN) {
        result = weir_wait_room(wal->loop, room, &wal->op);
    }
    if (result < 0) {
        fail(wal, result);
    }
}

/* Submits the op as it was filled, now or when the loop has room for it. */
static int go(struct wal *wal, struct weir_task *task, unsigned flags, weir_callback *callback)
{
    wal->op.task = task;
    wal->op.flags = flags;
    wal->op.callback = callback;
    wal->op.deadline_ns = weir_now(wal->loop) + PATIENCE_NS;
    wal->room.callback = on_room;
    int result = weir_submit(wal->loop, &wal->op);
    return result == -EAGAIN ? weir_wait_room(wal->loop, &wal->room, &wal->op) : result;
}

/* The same from a callback, where there is nobody to answer to. */
static void go_on(struct wal *wal, struct weir_task *task, unsigned flags, weir_callback *callback)
{
    int result = go(wal, task, flags, callback);
    if (result < 0) {
        fail(wal, result);
    }
}

/* --- appending -------------------------------------------------------------------------------- */

/* Empties the batch. */
static struct wal_append *take_appends(struct wal_batch *batch)
{
    struct wal_append *first = batch->first;
    batch->first = NULL;
    batch->used = 0;
    return first;
}

static void answer(struct wal_append *append, int result)
{
    while (append) {
        struct wal_append *next = append->next; /* the callback may free it, or use it again */
        append->result = result;
        append->callback(append);
        append = next;
    }
}

static void on_written(struct weir_op *op);

/* Nothing is flying: what was filled leaves, and the other batch is filled. */
static int fly(struct wal *wal)
{
    wal->flying = wal->filling;
    wal->filling = wal->flying == wal->batches ? wal->batches + 1 : wal->batches;
    weir_op_write(&wal->op, wal->file, wal->flying->bytes, wal->flying->used, wal->tail);
    return go(wal, wal->writing, WEIR_WHOLE, on_written);
}

/* The batch is on the disk: only now may anybody be told. */
static void on_synced(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
        return;
    }
    wal->tail += wal->flying->used;
    struct wal_append *safe = take_appends(wal->flying);
    wal->flying = NULL;
    int result = wal->filling->used > 0 ? fly(wal) : 0; /* first: the disk need not wait for us */
    answer(safe, 0);
    if (result < 0) {
        fail(wal, result);
    }
}

static void on_written(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        weir_op_fdatasync(op, wal->file);
        go_on(wal, wal->syncing, 0, on_synced);
    }
}

int wal_append(struct wal *wal, struct wal_append *append, const void *bytes, uint32_t length)
{
    struct wal_batch *batch = wal->filling;
    struct header header = {.length = length, .number = wal->next};
    if (wal->state != WAL_OPEN) {
        return wal->error < 0 ? wal->error : -EBADF;
    }
    if (length > WAL_RECORD_MAX) {
        return -EMSGSIZE;
    }
    if (batch->used + sizeof header + length > sizeof batch->bytes) {
        return -EAGAIN;
    }
    header.sum = sum_of_record(&header, bytes);
    memcpy(batch->bytes + batch->used, &header, sizeof header);
    memcpy(batch->bytes + batch->used + sizeof header, bytes, length);
    batch->used += (uint32_t)sizeof header + length;
    append->number = wal->next++;
    append->next = NULL;
    *(batch->first ? &batch->last->next : &batch->first) = append;
    batch->last = append;
    int result = wal->flying ? 0 : fly(wal);
    if (result < 0) { /* refused: as if it had not been called */
        take_appends(wal->flying);
        wal->flying = NULL;
        wal->next--;
    }
    return result;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Closes what is not needed any more, one after the other, then says that opening or closing is
 * done. What a CLOSE answers changes nothing: all that matters was synced. */
static void wind_up(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    bool opens = wal->state == WAL_OPENING && wal->error == 0;
    int *fd = wal->directory >= 0 || opens ? &wal->directory : &wal->file;
    if (*fd >= 0) {
        weir_op_close(op, *fd);
        *fd = -1;
        go_on(wal, NULL, 0, wind_up);
        return;
    }
    wal->state = opens ? WAL_OPEN : WAL_CLOSED;
    if (!opens) {
        weir_task_close(wal->recovering);
        weir_task_close(wal->writing);
        weir_task_close(wal->syncing);
    }
    wal->done(wal, wal->error);
}

/* Whatever went wrong, and whenever: nothing more is written or synced. */
static void fail(struct wal *wal, int64_t error)
{
    wal->error = wal->error < 0 ? wal->error : (int)error;
    if (wal->state == WAL_OPEN) {
        wal->state = WAL_STOPPED;
        struct wal_append *unknown = take_appends(wal->flying);
        struct wal_append *unwritten = take_appends(wal->filling);
        wal->flying = NULL;
        answer(unknown, wal->error);
        answer(unwritten, wal->error);
    } else {
        wind_up(&wal->op);
    }
}

int wal_close(struct wal *wal, wal_done *closed)
{
    if (wal->flying || (wal->state != WAL_OPEN && wal->state != WAL_STOPPED)) {
        return -EBUSY;
    }
    wal->state = WAL_CLOSING;
    wal->done = closed;
    weir_op_close(&wal->op, wal->file);
    wal->file = -1;
    return go(wal, NULL, 0, wind_up);
}

/* --- recovery --------------------------------------------------------------------------------- */

/* The name of the file is on the disk, too. */
static void on_directory_synced(struct weir_op *op)
{
    if (op->result < 0) {
        fail(wal_of(op), op->result);
    } else {
        wind_up(op);
    }
}

/* What was found is on the disk, also if it was only in the cache. */
static void on_file_synced(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        weir_op_fsync(op, wal->directory);
        go_on(wal, wal->recovering, 0, on_directory_synced);
    }
}

static void on_cut(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        weir_op_fsync(op, wal->file);
        go_on(wal, wal->recovering, 0, on_file_synced);
    }
}

/* Hands over the record that begins here. Its bytes in the file; 0: here is no whole record. */
static uint64_t recover(struct wal *wal, const char *bytes, uint64_t length)
{
    struct header header;
    if (length < sizeof header) {
        return 0;
    }
    memcpy(&header, bytes, sizeof header);
    if (header.number != wal->next || header.length > WAL_RECORD_MAX ||
        header.length > length - sizeof header ||
        header.sum != sum_of_record(&header, bytes + sizeof header)) {
        return 0;
    }
    wal->recovered(wal, wal->next++, bytes + sizeof header, header.length);
    return sizeof header + header.length;
}

static void read_on(struct wal *wal);

static void on_rewritten(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        wal->tail += (uint64_t)op->result;
        read_on(wal);
    }
}

/*
 * What can be read need not be on the disk. After a sync that failed the kernel takes what it could
 * not write for written, and shows it from its cache; the next sync succeeds and does nothing. So
 * all of it is written anew, for the sync that follows.
 */
static void on_read(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) { /* not the end of the log: nothing may be cut off */
        fail(wal, op->result);
        return;
    }
    uint64_t used = 0, more;
    do {
        more = recover(wal, wal->filling->bytes + used, (uint64_t)op->result - used);
        used += more;
    } while (more > 0);
    if (used > 0) {
        weir_op_write(op, wal->file, wal->filling->bytes, used, wal->tail);
        go_on(wal, wal->recovering, WEIR_WHOLE, on_rewritten);
    } else { /* a torn tail would stand behind what is appended next, and might pass for a record */
        weir_op_ftruncate(op, wal->file, wal->tail);
        go_on(wal, wal->recovering, 0, on_cut);
    }
}

/* The batch that will be filled is large enough for any record. */
static void read_on(struct wal *wal)
{
    weir_op_read(&wal->op, wal->file, wal->filling->bytes, sizeof wal->filling->bytes, wal->tail);
    go_on(wal, wal->recovering, WEIR_WHOLE, on_read);
}

static void on_file(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        wal->file = (int)op->result;
        read_on(wal);
    }
}

static void on_directory(struct weir_op *op)
{
    struct wal *wal = wal_of(op);
    if (op->result < 0) {
        fail(wal, op->result);
    } else {
        wal->directory = (int)op->result;
        weir_op_openat(op, wal->directory, WAL_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        go_on(wal, wal->recovering, 0, on_file);
    }
}

static int open_tasks(struct wal *wal)
{
    const struct {
        const char *name;
        struct weir_task **ret_task;
    } tasks[] = {{"wal recover", &wal->recovering},
                 {"wal write", &wal->writing},
                 {"wal sync", &wal->syncing}};
    int result = 0;
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks && result == 0; i++) {
        struct weir_task_options options = {.name = tasks[i].name};
        result = weir_task_open(wal->loop, &options, tasks[i].ret_task);
    }
    return result;
}

int wal_open(struct wal *wal, struct weir_loop *loop, const char *directory,
             wal_recovered *recovered, wal_done *opened)
{
    wal->loop = loop;
    wal->recovered = recovered;
    wal->done = opened;
    wal->directory = wal->file = -1;
    wal->filling = wal->batches;
    wal->next = 1;
    wal->state = WAL_OPENING;
    int result = open_tasks(wal);
    if (result < 0) {
        return result;
    }
    weir_op_openat(&wal->op, AT_FDCWD, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    return go(wal, wal->recovering, 0, on_directory);
}
