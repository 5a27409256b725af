/* SPDX-License-Identifier: MIT */
/*
 * wal.h: a write-ahead log: one file of records, each with a number and a checksum. What was
 * acknowledged is there after any crash, whole and in order.
 *
 * Appends that come while a batch is being written and synced wait for the next: one fdatasync(2)
 * acknowledges all of a batch (group commit). Recovery reads the records up to the first that is
 * not whole, writes them anew, cuts off what stands behind them, and syncs.
 *
 * A log that met an error stops: the batch may have reached the disk or not, and after a sync that
 * failed to sync again proves nothing. What there is only recovery tells: close it, open it again.
 *
 * All of it on the loop's thread; one log object per file.
 */
#ifndef WAL_H
#define WAL_H

#include <weir/weir.h>

#define WAL_FILE "wal"
#define WAL_BATCH_BYTES (64 * 1024)
#define WAL_RECORD_MAX (16 * 1024)

struct wal;
struct wal_append;

/* A record that recovery found; bytes are valid during the call. */
typedef void wal_recovered(struct wal *wal, uint64_t number, const void *bytes, uint32_t length);
/* result: 0 or -errno. */
typedef void wal_done(struct wal *wal, int result);
typedef void wal_appended(struct wal_append *append);

/* One append: the caller's memory, the log's from wal_append() to the callback. */
struct wal_append {
    wal_appended *callback; /* set by the caller */
    void *user;             /* anything; the log does not look at it */
    int result;             /* 0: it is safe. -errno: nobody knows; only recovery tells */
    uint64_t number;        /* the record's, from 1 */
    struct wal_append *next;
};

struct wal_batch {
    struct wal_append *first;
    struct wal_append *last;
    uint32_t used;
    char bytes[WAL_BATCH_BYTES];
};

enum wal_state { WAL_CLOSED, WAL_OPENING, WAL_OPEN, WAL_STOPPED, WAL_CLOSING };

/* The caller's memory, zeroed before it is opened; what is in it is the log's own. */
struct wal {
    struct weir_op op; /* the one thing that the log is doing */
    struct weir_room room;
    struct weir_loop *loop;
    struct weir_task *recovering, *writing, *syncing;
    wal_recovered *recovered;
    wal_done *done; /* of opening, then of closing */
    void *user;     /* anything; the log does not look at it */
    int directory;  /* fds; -1: none */
    int file;
    enum wal_state state;
    int error;     /* that stopped it */
    uint64_t tail; /* bytes of the file that hold records */
    uint64_t next; /* record's number */
    struct wal_batch batches[2];
    struct wal_batch *filling; /* what comes now */
    struct wal_batch *flying;  /* is being written and synced; NULL: none, and none is filling */
};

/*
 * Opens the log of a directory, makes it if there is none. `recovered` is called for each record,
 * in order; then `opened`: 0, and all of them are on the disk for good; or -errno, and what was
 * recovered counts for nothing.
 * 0: `opened` will come; or -errno of weir_task_open() or weir_submit().
 */
int wal_open(struct wal *wal, struct weir_loop *loop, const char *directory,
             wal_recovered *recovered, wal_done *opened);

/*
 * Appends a record; bytes are copied. append->number is its number.
 * 0: append->callback will come, later. Refused: -EAGAIN: both batches are full: try again when an
 * append has come back; -EMSGSIZE; -EBADF: not open; or the error that stopped the log.
 */
int wal_append(struct wal *wal, struct wal_append *append, const void *bytes, uint32_t length);

/* `closed`: 0, or the error that had stopped it. 0: it will come; -EBUSY: appends are on their way,
 * or it is neither open nor stopped; or -errno of weir_submit(). */
int wal_close(struct wal *wal, wal_done *closed);

#endif
