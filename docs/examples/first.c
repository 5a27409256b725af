/* SPDX-License-Identifier: MIT */
/* first FILE: reads the first bytes of a file. The smallest program there is. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

static void on_read(struct weir_op *op)
{
    printf("%" PRId64 " bytes\n", op->result); /* or a negative errno */
}

static int fail(const char *what, int result)
{
    fprintf(stderr, "first: %s: %s\n", what, strerror(-result));
    return 1;
}

int main(int argc, char **argv)
{
    int fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY | O_CLOEXEC);
    char buf[4096];

    struct weir_loop *loop;
    int result = weir_loop_open(&(struct weir_options){0}, &loop); /* zeroed: good defaults */
    if (result < 0) {
        return fail("open", result);
    }
    struct weir_op op = {0}; /* zeroed once; helpers then write only kind and arguments */
    weir_op_read(&op, fd, buf, sizeof buf, 0);
    op.callback = on_read;
    result = weir_submit(loop, &op); /* 0: the callback will come; -EAGAIN: full, op untouched */
    if (result < 0) {
        return fail("submit", result);
    }
    weir_loop_run(loop); /* until nothing is live */
    return weir_loop_close(loop, 0, NULL) < 0;
}
