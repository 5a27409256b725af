/* SPDX-License-Identifier: MIT */
#include "without.h"
#include "request.h"

#include <string.h>

enum nbd_without nbd_without;

/* WITHOUT_WAIT: syncs that were asked for together with their write. */
static struct early {
    struct request *request; /* NULL: free */
    struct sync_wait wait;
    struct sync_wait *wanted; /* what waits for it; NULL: the write is not back yet */
    bool is_done;
    int result;
} earlies[64];

enum { EARLIES = sizeof earlies / sizeof *earlies };

void without_begin(void)
{
    memset(earlies, 0, sizeof earlies);
}

static struct early *early_of(const struct request *request)
{
    for (int i = 0; i < EARLIES; i++) {
        if (earlies[i].request == request) {
            return &earlies[i];
        }
    }
    return NULL;
}

static void on_early(struct sync_wait *wait, int result)
{
    struct early *early = WEIR_CONTAINER(wait, struct early, wait);
    early->is_done = true;
    early->result = result;
    if (early->wanted) {
        early->request = NULL;
        early->wanted->callback(early->wanted, result);
    }
}

int without_submit(struct weir_loop *loop, struct weir_op *op)
{
    struct request *request = WEIR_CONTAINER(op, struct request, op);
    struct early *early = early_of(NULL);
    int result = weir_submit(loop, op);
    if (result == 0 && nbd_without == WITHOUT_WAIT && early && !early_of(request) &&
        request->type == NBD_CMD_WRITE && request->whole == request && request->unissued == 0 &&
        request->flags & NBD_CMD_FLAG_FUA) {
        *early = (struct early){.request = request, .wait.callback = on_early};
        file_sync(request->file, &early->wait);
    }
    return result;
}

/* False: it is not to be synced as it should be, and that has been seen to. */
static bool syncs(struct file *file, struct sync_wait *wait)
{
    struct request *request = WEIR_CONTAINER(wait, struct request, sync);
    struct early *early;
    bool is_flush = request->type == NBD_CMD_FLUSH;
    switch (nbd_without) {
    case WITHOUT_FLUSH:
    case WITHOUT_FUA:
        if (is_flush == (nbd_without == WITHOUT_FLUSH)) {
            wait->callback(wait, 0);
            return false;
        }
        return true;
    case WITHOUT_WAIT:
        early = early_of(request);
        if (early && early->is_done) {
            early->request = NULL;
            wait->callback(wait, early->result);
        } else if (early) {
            early->wanted = wait;
        }
        return !early;
    case WITHOUT_ANEW:
        if (file->flying) {
            wait->next = file->flying;
            file->flying = wait;
            return false;
        }
        return true;
    case WITHOUT_MEMORY:
        request->failures = atomic_load(&file->export->failures);
        return true;
    default:
        return true;
    }
}

void without_file_sync(struct file *file, struct sync_wait *wait)
{
    if (syncs(file, wait)) {
        file_sync(file, wait);
    }
}
