/* SPDX-License-Identifier: MIT */
/*
 * malloc.c: between open and close the engine neither allocates nor frees nor maps, whatever it is
 * asked to do. Seen twice: at the C library's door, and at the kernel's, which also sees who goes
 * past it.
 */
#include "allocations.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH 32
#define WAITING 32
#define TIMERS 16
#define ITEMS 96 /* more than there are places: the rest is refused, and waits for room */
#define BLOCK 512
#define BLOCKS 64
#define TASKS 3
#define DEADLINE_EVERY 64

struct mix;

struct item {
    struct weir_op op;
    struct weir_room room;
    struct mix *mix;
    struct iovec iov;
    char block[BLOCK];
};

struct mix {
    struct weir_loop *loop;
    struct weir_task *tasks[TASKS];
    struct item items[ITEMS];
    uint64_t random;
    uint64_t wanted;
    uint64_t submitted;
    uint64_t finished;
    uint64_t refused;
    uint64_t cancels;
    uint64_t rooms;
    uint64_t kinds[WEIR_KIND_COUNT];
    uint64_t cancelled;
    uint64_t expired;
    int file;
    int pipe[2];
    int readable; /* blocks in the pipe that no read was submitted for */
};

static uint64_t next_random(struct mix *mix)
{
    mix->random ^= mix->random << 13;
    mix->random ^= mix->random >> 7;
    mix->random ^= mix->random << 17;
    return mix->random;
}

static void fill_pipe(struct item *item)
{
    struct mix *mix = item->mix;
    uint64_t choice = next_random(mix) % DEADLINE_EVERY;
    if (mix->readable > 0 || choice == 0) {
        /* Without data it can only end by deadline or cancel. */
        item->op.deadline_ns = weir_now(mix->loop) + 200 * WEIR_US;
        mix->readable -= mix->readable > 0;
        item->op.flags = choice % 2 ? WEIR_WHOLE : 0;
        weir_op_read(&item->op, mix->pipe[0], item->block, BLOCK, 0);
    } else {
        item->op.deadline_ns = weir_now(mix->loop) + 200 * WEIR_US;
        weir_op_write(&item->op, mix->pipe[1], item->block, BLOCK, 0);
    }
}

static void fill(struct item *item)
{
    struct mix *mix = item->mix;
    uint64_t choice = next_random(mix) % 100;
    uint64_t offset = next_random(mix) % BLOCKS * BLOCK;
    item->op.flags = 0;
    item->op.deadline_ns = 0; /* still there after a refusal */
    item->iov = (struct iovec){item->block, BLOCK};
    item->op.task = choice % 4 < TASKS ? mix->tasks[choice % 4] : NULL;
    if (choice < 10) {
        weir_op_read(&item->op, mix->file, item->block, BLOCK, offset);
    } else if (choice < 13) {
        item->op.flags = WEIR_WHOLE;
        weir_op_readv(&item->op, mix->file, &item->iov, 1, offset);
    } else if (choice < 15) {
        weir_op_write(&item->op, mix->file, item->block, BLOCK, offset);
    } else if (choice < 31) {
        fill_pipe(item);
    } else if (choice < 40) {
        weir_op_timeout_in(&item->op, mix->loop, next_random(mix) % 50 * WEIR_US);
    } else if (choice < 42) {
        weir_op_poll(&item->op, mix->pipe[1], POLLOUT);
        item->op.deadline_ns = weir_now(mix->loop) + 200 * WEIR_US;
    } else {
        weir_op_nop(&item->op);
    }
}

static void submit_next(struct item *item);

static void on_room(struct weir_room *room, int result)
{
    struct item *item = WEIR_CONTAINER(room, struct item, room);
    CHECK(result == 0 || (result == -ESHUTDOWN && item->mix->finished == item->mix->wanted));
    item->mix->rooms++;
    submit_next(item);
}

static void submit_next(struct item *item)
{
    struct mix *mix = item->mix;
    if (mix->submitted >= mix->wanted) {
        return;
    }
    fill(item);
    int answer = weir_submit(mix->loop, &item->op);
    if (answer == 0) {
        mix->submitted++;
        mix->kinds[item->op.kind]++;
    } else {
        CHECK_EQUAL(answer, -EAGAIN);
        mix->refused++;
        weir_op_nop(&item->op); /* what room is waited for: a timer has none */
        item->room.callback = on_room;
        CHECK_EQUAL(weir_wait_room(mix->loop, &item->room, &item->op), 0);
    }
    if (next_random(mix) % 16 == 0) {
        struct item *other = &mix->items[next_random(mix) % ITEMS];
        mix->cancels += weir_cancel(mix->loop, &other->op) == 0;
    }
}

static void on_done(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct mix *mix = item->mix;
    mix->finished++;
    mix->cancelled += op->result == -ECANCELED;
    mix->expired += op->result == -ETIME;
    if (op->result < 0 && op->result != -ECANCELED && op->result != -ETIME) {
        check_fail(WEIR_SITE, "%s gave %lld", weir_kind_name(op->kind), (long long)op->result);
    }
    if (op->kind == WEIR_KIND_WRITE && op->fd == mix->pipe[1]) {
        /* A write that could not end found the pipe full. */
        mix->readable += op->result == BLOCK || op->result == -ETIME;
    }
    submit_next(item);
}

static void mix_prepare(struct mix *mix, uint64_t wanted)
{
    memset(mix, 0, sizeof *mix);
    mix->random = 88172645463325252ULL;
    mix->wanted = wanted;
    mix->file = check_file((size_t)BLOCKS * BLOCK);
    CHECK_EQUAL(pipe2(mix->pipe, O_CLOEXEC), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        mix->items[i].mix = mix;
        mix->items[i].op.callback = on_done;
    }
}

static void mix_open(struct mix *mix)
{
    struct weir_options options = {
        .depth = DEPTH,
        .waiting_max = WAITING,
        .timers_max = TIMERS,
    };
    CHECK_EQUAL(weir_loop_open(&options, &mix->loop), 0);
}

/* Everything between open and close. */
static void mix_run(struct mix *mix)
{
    static const char *const names[TASKS] = {"log append", "lookup", "compaction"};
    for (int i = 0; i < TASKS; i++) {
        struct weir_task_options options = {.name = names[i]};
        CHECK_EQUAL(weir_task_open(mix->loop, &options, &mix->tasks[i]), 0);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        submit_next(&mix->items[i]);
    }
    while (mix->finished < mix->wanted) {
        CHECK(weir_loop_turn(mix->loop, 100 * WEIR_MS) >= 0);
    }
    CHECK(weir_cancel_fd(mix->loop, mix->file) >= 0);
    CHECK(weir_cancel_task(mix->loop, mix->tasks[0]) >= 0);
    CHECK_EQUAL(weir_forget(mix->loop, mix->pipe[0]), 0);
    static struct weir_histogram histogram;
    CHECK_EQUAL(weir_task_read(mix->tasks[0], WEIR_STAGE_TOTAL, &histogram), 0);
    CHECK(histogram.count > 0);
    for (int i = 0; i < TASKS; i++) {
        CHECK_EQUAL(weir_task_reset(mix->tasks[i]), 0);
        CHECK_EQUAL(weir_task_close(mix->tasks[i]), 0);
    }
    CHECK_EQUAL(weir_loop_live(mix->loop), 0);
}

/* That the mix was one. */
static void mix_check(const struct mix *mix)
{
    printf("%llu ops: %llu nop, %llu read, %llu readv, %llu write, %llu timeout, %llu poll;\n"
           "%llu refused, %llu waits for room, %llu cancels, %llu cancelled, %llu past deadline\n",
           (unsigned long long)mix->finished, (unsigned long long)mix->kinds[WEIR_KIND_NOP],
           (unsigned long long)mix->kinds[WEIR_KIND_READ],
           (unsigned long long)mix->kinds[WEIR_KIND_READV],
           (unsigned long long)mix->kinds[WEIR_KIND_WRITE],
           (unsigned long long)mix->kinds[WEIR_KIND_TIMEOUT],
           (unsigned long long)mix->kinds[WEIR_KIND_POLL], (unsigned long long)mix->refused,
           (unsigned long long)mix->rooms, (unsigned long long)mix->cancels,
           (unsigned long long)mix->cancelled, (unsigned long long)mix->expired);
    CHECK_EQUAL(mix->submitted, mix->wanted);
    CHECK(mix->refused > 0 && mix->rooms > 0 && mix->cancels > 0 && mix->cancelled > 0);
    CHECK(mix->expired > 0);
}

static void
    *volatile kept; /* keeps the compiler from leaving out what is only there to be counted */

static void check_counter(void)
{
    struct allocations before = allocations_now();
    void *memory = NULL;
    kept = malloc(10);
    kept = realloc(kept, 100);
    free(kept);
    kept = calloc(3, 5);
    free(kept);
    CHECK_EQUAL(posix_memalign(&memory, 64, 64), 0);
    free(memory);
    kept = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(kept, 4096);
    CHECK_EQUAL(allocations_since(&before), 9);
    before = allocations_now();
    free(strdup("counted inside the C library"));
    CHECK_EQUAL(allocations_since(&before), 2);
}

static void a_million_mixed_ops_allocate_nothing_between_open_and_close(void)
{
    static struct mix mix;
    check_counter();
    mix_prepare(&mix, 1000000);
    struct allocations before = allocations_now();
    mix_open(&mix);
    /* Or the counter would not see the engine's calls. */
    CHECK(allocations_now().mmap > before.mmap);
    before = allocations_now();
    mix_run(&mix);
    struct allocations after = allocations_now();
    CHECK_EQUAL(after.malloc, before.malloc);
    CHECK_EQUAL(after.calloc, before.calloc);
    CHECK_EQUAL(after.realloc, before.realloc);
    CHECK_EQUAL(after.free, before.free);
    CHECK_EQUAL(after.aligned, before.aligned);
    CHECK_EQUAL(after.mmap, before.mmap);
    CHECK_EQUAL(after.munmap, before.munmap);
    CHECK_EQUAL(weir_loop_close(mix.loop, 5 * WEIR_S, NULL), 0);
    mix_check(&mix);
    printf("malloc, calloc, realloc, free, memalign, mmap, munmap between open and close: 0\n");
}

#define TRAPPED 42 /* the exit code of a process that made a trapped call */

static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    char text[] = "system call 000 maps or unmaps memory\n";
    text[12] = (char)('0' + info->si_syscall / 100 % 10);
    text[13] = (char)('0' + info->si_syscall / 10 % 10);
    text[14] = (char)('0' + info->si_syscall % 10);
    ssize_t written = write(STDOUT_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(TRAPPED);
}

/* From here on mmap, munmap, mremap and brk end the process. */
static void trap_mappings(void)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    CHECK_EQUAL(sigaction(SIGSYS, &action, NULL), 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_brk, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
        check_skip("this kernel has no system call filters: %s", strerror(errno));
    }
}

static void check_trap(void)
{
    printf("one on purpose: ");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        trap_mappings();
        syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit(0);
    }
    CHECK_EQUAL(check_wait(child), TRAPPED);
}

static void the_kernel_sees_no_mapping_either(void)
{
    static struct mix mix;
    check_trap();
    mix_prepare(&mix, 200000);
    mix_open(&mix);
    printf("the mix begins:\n");
    fflush(stdout);
    trap_mappings();
    mix_run(&mix);
    mix_check(&mix);
    /* Close unmaps, which the filter forbids for good: the process ends here instead. */
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_million_mixed_ops_allocate_nothing_between_open_and_close),
        CHECK_TEST(the_kernel_sees_no_mapping_either),
    };
    check_guard(300);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
