/* SPDX-License-Identifier: MIT */
/* offload FILE: the CRC-32 of each block of a file, summed by workers, printed in order. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

enum { BLOCKS = 16, BLOCK_SIZE = 256 * 1024 };

static struct block { /* is read, summed, printed when its turn has come, and used again */
    struct weir_op op;
    uint64_t offset;
    int64_t length, sum; /* sum: -1 until it is known */
    unsigned char bytes[BLOCK_SIZE];
} blocks[BLOCKS];
static struct weir_loop *loop;
static struct weir_op interrupt;
static uint64_t printed; /* blocks */
static int file, error;  /* the first one: nothing is begun after it */

static int good(int64_t result)
{
    error = result < 0 && !error ? (int)result : error;
    return !error;
}

/* Runs on a worker, beside others of its kind: it looks at nothing but its block. */
static int64_t sum_block(void *argument)
{
    const struct block *block = argument;
    uint32_t sum = UINT32_MAX;
    for (int64_t i = 0; i < block->length; i++) {
        if (i % 4096 == 0 && weir_op_asked(&block->op)) {
            return -ECANCELED; /* nobody wants it any more */
        }
        sum ^= block->bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
        }
    }
    return ~sum;
}

/* The callbacks run on the loop's thread, one at a time: none of this needs a lock. */
static void on_read(struct weir_op *op);

static void read_block(struct block *block, uint64_t offset)
{
    block->offset = offset;
    block->sum = -1;
    weir_op_read(&block->op, file, block->bytes, BLOCK_SIZE, offset);
    block->op.callback = on_read;
    block->op.flags = WEIR_WHOLE;
    good(weir_submit(loop, &block->op));
}

static void on_summed(struct weir_op *op)
{
    struct block *block = WEIR_CONTAINER(op, struct block, op);
    for (block->sum = op->result; good(op->result); printed++) {
        block = &blocks[printed % BLOCKS];
        if (block->sum < 0) { /* others are done already, but this one comes first */
            return;
        }
        printf("%" PRIu64 " %08" PRIx64 "\n", block->offset, (uint64_t)block->sum);
        read_block(block, block->offset + (uint64_t)BLOCKS * BLOCK_SIZE);
    }
}

static void on_read(struct weir_op *op)
{
    struct block *block = WEIR_CONTAINER(op, struct block, op);
    block->length = op->result;
    if (good(op->result) && op->result > 0) { /* 0: past the end of the file */
        weir_op_call(op, sum_block, block);
        op->callback = on_summed;
        op->flags = 0;
        good(weir_submit(loop, op));
    }
}

static void on_interrupt(struct weir_op *op)
{
    if (op->result == SIGINT) { /* else it was the close */
        good(-EINTR);
        for (int i = 0; i < BLOCKS; i++) {
            weir_cancel(loop, &blocks[i].op); /* queued: is not run; running: is told */
        }
    }
}

static void sum_all(void)
{
    weir_op_signal(&interrupt, WEIR_SIGNAL(SIGINT), NULL);
    interrupt.callback = on_interrupt;
    good(weir_submit(loop, &interrupt));
    for (uint64_t i = 0; i < BLOCKS; i++) {
        read_block(&blocks[i], i * BLOCK_SIZE);
    }
    while (weir_loop_live(loop) > 1 && weir_loop_turn(loop, -1) >= 0) {
        /* until the wait for a signal alone is left: close() ends that */
    }
    good(weir_loop_close(loop, -1, NULL));
}

int main(int argc, char **argv)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before the loop has threads that could take it */
    file = open(argc > 1 ? argv[1] : "", O_RDONLY | O_CLOEXEC);
    if (good(file < 0 ? -errno : 0) && good(weir_loop_open(NULL, &loop))) {
        sum_all();
    }
    if (error) {
        fprintf(stderr, "offload: %s\n", strerror(-error));
    }
    return error != 0;
}
