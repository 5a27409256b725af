/* SPDX-License-Identifier: MIT */
/*
 * memory.c: rule 28: between open and close nothing allocates, frees or maps. A program of its own:
 * it stands in for the C library's allocator and mmap, and counts while it is told to.
 */
#include "seam.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define OPS 1000000
#define LIVE 64

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

static volatile bool counting; /* the compiler thinks it knows what malloc looks at */
static unsigned long counted;

static void count(void)
{
    /* Workers allocate nothing either. */
    if (__atomic_load_n(&counting, __ATOMIC_RELAXED)) {
        __atomic_add_fetch(&counted, 1, __ATOMIC_RELAXED);
    }
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t items, size_t size)
{
    count();
    return __libc_calloc(items, size);
}

void *realloc(void *memory, size_t size)
{
    count();
    return __libc_realloc(memory, size);
}

void free(void *memory)
{
    count();
    __libc_free(memory);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    count();
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
    count();
    return (int)syscall(SYS_munmap, address, length);
}

static struct weir_loop *loop;
static struct seam_pair pipe_fds;
static int file_fd;
static unsigned long submitted;
static struct weir_task *task;

static int64_t nothing(void *argument)
{
    return argument != NULL;
}

/* Some of every sort: files, pipes, WHOLE, timers, deadlines, failures, calls, every route; a task
 * for every other one, and every seventh is posted. */
static void submit_some(struct tracked *op)
{
    unsigned long n = submitted++;
    op->op.task = n % 2 == 0 ? task : NULL;
    op->op.flags = 0;
    op->op.route = WEIR_ROUTE_AUTO;
    switch (n % 11) {
    case 0:
        weir_op_read(&op->op, file_fd, op->data, sizeof op->data, 0);
        op->op.route = (uint8_t)(n % 4);
        break;
    case 1:
        weir_op_write(&op->op, pipe_fds.out, "x", 1, WEIR_CURRENT);
        break;
    case 2:
        weir_op_read(&op->op, pipe_fds.in, op->data, 1, WEIR_CURRENT);
        op->op.flags = WEIR_WHOLE;
        break;
    case 3:
        weir_op_timeout_in(&op->op, loop, n % 20000);
        break;
    case 4:
        weir_op_fsync(&op->op, -1);
        break;
    case 5:
    case 6:
        weir_op_call(&op->op, nothing, op);
        op->op.flags = n % 11 == 5 ? WEIR_SHORT : 0;
        break;
    case 7:
        weir_op_ftruncate(&op->op, file_fd, 64);
        break;
    default:
        weir_op_nop(&op->op);
        break;
    }
    if (n % 11 == 8 || n % 11 == 5) {
        op->op.deadline_ns = weir_now(loop) + WEIR_S;
    }
    if (n % 7 == 0) {
        seam_posted(loop, op);
    } else {
        seam_submit(loop, op);
    }
}

static void again(struct tracked *op)
{
    if (submitted < OPS) {
        submit_some(op);
    }
}

SEAM_TEST(nothing_allocates_frees_or_maps_between_open_and_close)
{
    static struct tracked ops[LIVE];
    struct tracked cancelled = {0};
    struct seam_work busy;
    struct seam_work queued;
    pipe_fds = seam_pipe(0);
    file_fd = seam_file(64);
    loop = seam_loop_with((struct weir_options){.depth = 16,
                                                .waiting_max = LIVE,
                                                .offload_workers = 2,
                                                .offload_depth = LIVE / 2,
                                                .offload_waiting_max = LIVE});
    int epoll = seam_foreign(loop);
    counted = 0;
    counting = true;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    for (int i = 0; i < LIVE; i++) {
        ops[i].then = again;
        submit_some(&ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_read_byte(loop, &cancelled, pipe_fds.in);
    seam_turns(loop, 1);
    expect_equal(seam_cancel(loop, &cancelled), 0);
    seam_await(loop, &cancelled);
    seam_block(loop, &busy);
    seam_work_fill(&queued, 0);
    queued.call.op.flags = WEIR_SHORT;
    seam_submit(loop, &queued.call);
    seam_turns(loop, 1);
    seam_cancel(loop, &queued.call);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    expect_equal(seam_run(loop), 0);
    expect_equal(weir_task_close(task), 0);
    counting = false;
    expect_equal(submitted, OPS);
    expect_equal(counted, 0);
    /* And the counter counts. */
    counting = true;
    void *volatile memory = malloc(1); /* volatile: not to be left out together */
    free(memory);
    counting = false;
    expect_equal(counted, 2);
    seam_end(loop);
    seam_foreign_close(epoll);
    seam_pair_close(&pipe_fds);
    close(file_fd);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nothing_allocates_frees_or_maps_between_open_and_close),
};

const struct seam_group memory_group = SEAM_GROUP("memory", tests);

const struct seam_group *const seam_groups[] = {&memory_group, NULL};
