/* SPDX-License-Identifier: MIT */
#include "order.h"
#include "client.h"
#include "crash.h"
#include "machine.h"
#include "request.h"

#include <weir/observe.h>

static uint64_t left[MACHINE_SHARDS]; /* when the sync left that is on its way; a shard has one */
static uint64_t covered;              /* when the last that left of those that worked did */

void order_begin(void)
{
    covered = 0;
}

/* What a client asked for and this op is of; NULL: nothing that anybody waits for, or no change. */
static struct ask *ask_of(uint32_t shard, const struct weir_op *op)
{
    struct weir_task **tasks = shards[shard].tasks;
    if (op->task != tasks[WORK_WRITE] && op->task != tasks[WORK_TRIM] &&
        op->task != tasks[WORK_WRITE_ZEROES]) {
        return NULL;
    }
    return clients_find(WEIR_CONTAINER(op, const struct request, op)->whole->cookie);
}

static void on_left(void *context, const struct weir_op *op, uint64_t at_ns)
{
    uint32_t shard = (uint32_t)(uintptr_t)context;
    struct ask *ask = ask_of(shard, op);
    (void)at_ns;
    if (ask) {
        show("server: %s: %s leaves", ask_name(ask), weir_kind_name(op->kind));
    } else if (op->kind == WEIR_KIND_FSYNC) {
        show("server: fdatasync leaves");
        left[shard] = model_moment();
    }
}

static void on_done(void *context, const struct weir_op *op, int64_t result, uint64_t at_ns)
{
    uint32_t shard = (uint32_t)(uintptr_t)context;
    struct ask *ask = ask_of(shard, op);
    (void)at_ns;
    if (ask) {
        show("server: %s: %s is back: %lld", ask_name(ask), weir_kind_name(op->kind),
             (long long)result);
        ask->written = model_moment();
    } else if (op->kind == WEIR_KIND_FSYNC) {
        show("server: fdatasync is back: %lld", (long long)result);
        if (result < 0) {
            asks_note_failure();
        }
        covered = result >= 0 && left[shard] > covered ? left[shard] : covered;
    }
}

/* A reply that is about to be sent. */
static void check(const struct iovec *part)
{
    const unsigned char *bytes = part->iov_base;
    if (part->iov_len != NBD_SIMPLE_REPLY_BYTES || nbd_get32(bytes) != NBD_SIMPLE_REPLY_MAGIC ||
        nbd_get32(bytes + 4) != 0) {
        return;
    }
    struct ask *ask = clients_find(nbd_get64(bytes + 8));
    if (!ask || !ask_is_promised(ask)) {
        return;
    }
    uint64_t written = ask->type == NBD_CMD_FLUSH ? ask->to_be_covered : ask->written;
    show("server: %s: its reply is sent", ask_name(ask));
    if (ask->type != NBD_CMD_FLUSH && written == 0) {
        complain("the reply to %s leaves before anything was written", ask_name(ask));
    } else if (written > covered) {
        complain("the reply to %s leaves before the sync that covers it is back", ask_name(ask));
    }
    total.promises_checked++;
}

static void on_submitted(void *context, const struct weir_op *op, uint64_t at_ns)
{
    (void)context;
    (void)at_ns;
    if (op->kind == WEIR_KIND_SENDMSG && !is_blind) {
        const struct msghdr *message = op->arg.io.buffer;
        for (size_t i = 0; i < message->msg_iovlen; i++) {
            check(&message->msg_iov[i]);
        }
    }
}

const struct weir_observer *order_observer(uint32_t shard)
{
    static struct weir_observer observers[MACHINE_SHARDS];
    observers[shard] = (struct weir_observer){
        .submitted = on_submitted,
        .left = on_left,
        .done = on_done,
        .context = (void *)(uintptr_t)shard,
    };
    return &observers[shard];
}
