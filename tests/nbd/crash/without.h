/* SPDX-License-Identifier: MIT */
/*
 * without.h: included before request.c when that is built for its crash test, so that the test can
 * take away one of the things that make a promise true, and see that it notices.
 */
#ifndef WITHOUT_H
#define WITHOUT_H

#include "export.h"

enum nbd_without {
    WITHOUT_NOTHING,
    WITHOUT_FLUSH,  /* FLUSH is answered, and nothing is synced */
    WITHOUT_FUA,    /* so is FUA */
    WITHOUT_WAIT,   /* FUA's sync is asked for before its write is back */
    WITHOUT_ANEW,   /* a sync that is on its way already is taken for enough */
    WITHOUT_MEMORY, /* a sync that failed is forgotten */
};

extern enum nbd_without nbd_without;

/* Before each life of the server. */
void without_begin(void);

void without_file_sync(struct file *file, struct sync_wait *wait);
int without_submit(struct weir_loop *loop, struct weir_op *op);

#endif
