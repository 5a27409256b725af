/* SPDX-License-Identifier: MIT */
/*
 * wal_without.h: included before wal.c when that is built for its crash test, so that the test can
 * leave out one of its syncs, and see that it notices.
 */
#ifndef WAL_WITHOUT_H
#define WAL_WITHOUT_H

#include <weir/weir.h>

enum wal_sync {
    WAL_SYNC_NONE,
    WAL_SYNC_COMMIT,    /* before appends are acknowledged */
    WAL_SYNC_RECOVERY,  /* after the torn tail was cut off */
    WAL_SYNC_DIRECTORY, /* after the file was made */
};

extern enum wal_sync wal_without;

static inline void wal_sync_or_not(struct weir_op *op, int fd, enum wal_sync sync)
{
    if (sync == wal_without) {
        weir_op_nop(op);
    } else if (sync == WAL_SYNC_COMMIT) {
        weir_op_fdatasync(op, fd);
    } else {
        weir_op_fsync(op, fd);
    }
}

/* Of the two fsyncs of wal.c one is made with wal->directory. */
#define weir_op_fdatasync(op, fd) wal_sync_or_not((op), (fd), WAL_SYNC_COMMIT)
#define weir_op_fsync(op, fd)                                                                      \
    wal_sync_or_not((op), (fd), &(fd) == &wal->directory ? WAL_SYNC_DIRECTORY : WAL_SYNC_RECOVERY)

#endif
