/* SPDX-License-Identifier: MIT */
/* copy SOURCE TARGET: copies a regular file, BLOCKS parts of it in flight at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

enum { BLOCKS = 8, BLOCK_SIZE = 256 * 1024 };

static struct block { /* is read, written at the same offset, used for the next part of the file */
    struct weir_op op;
    uint64_t offset;
    char bytes[BLOCK_SIZE];
} blocks[BLOCKS];
static int source, target, failed;
static uint64_t next_offset;

static int good(const char *what, int64_t result)
{
    if (result < 0) {
        fprintf(stderr, "copy: %s: %s\n", what, strerror((int)-result));
        failed = 1; /* what is in flight comes back, and nothing follows it */
    }
    return !failed;
}

static void on_written(struct weir_op *op);

static void on_read(struct weir_op *op)
{
    if (good("read", op->result) && op->result > 0) { /* 0: the end of the file */
        struct block *block = WEIR_CONTAINER(op, struct block, op);
        weir_op_write(op, target, block->bytes, (uint64_t)op->result, block->offset);
        op->callback = on_written;
        good("write", weir_submit(op->loop, op));
    }
}

static void read_next(struct weir_loop *loop, struct block *block)
{
    block->offset = next_offset;
    next_offset += BLOCK_SIZE;
    weir_op_read(&block->op, source, block->bytes, BLOCK_SIZE, block->offset);
    block->op.callback = on_read;
    block->op.flags = WEIR_WHOLE; /* short only at the end of the file, for writes never */
    good("read", weir_submit(loop, &block->op));
}

static void on_written(struct weir_op *op)
{
    if (good("write", op->result)) {
        read_next(op->loop, WEIR_CONTAINER(op, struct block, op));
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: copy SOURCE TARGET\n");
        return 2;
    }
    source = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (good(argv[1], source < 0 ? -errno : 0)) {
        target = open(argv[2], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        good(argv[2], target < 0 ? -errno : 0);
    }
    struct weir_loop *loop;
    if (failed || !good("opening a loop", weir_loop_open(NULL, &loop))) { /* NULL: defaults */
        return 1;
    }
    for (int i = 0; i < BLOCKS; i++) {
        read_next(loop, &blocks[i]);
    }
    good("run", weir_loop_run(loop)); /* until nothing is live */
    weir_loop_close(loop, 0, NULL);
    return !good(argv[2], close(target) < 0 ? -errno : 0);
}
