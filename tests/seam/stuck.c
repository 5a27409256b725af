/* SPDX-License-Identifier: MIT */
/*
 * stuck.c: rule 25: close while an op cannot be interrupted. The op is a read of a memory file into
 * a page that userfaultfd keeps missing: whoever carries it out stays in the kernel until the page
 * comes. A simulated disk keeps it until it is told.
 */
#include "seam.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct stuck {
    int fault; /* -1: simulated */
    int file;
    size_t page;
    size_t length;        /* to ask for; the file has 5 */
    uint64_t patience_ns; /* until its deadline, 0: none; stuck_start() waits until that is past */
    uint64_t deadline_ns;
    char *memory; /* one page that is missing */
    struct tracked op;
};

static bool stuck_make(struct stuck *stuck)
{
    *stuck = (struct stuck){.fault = -1, .page = (size_t)sysconf(_SC_PAGESIZE), .length = 5};
    stuck->memory =
        mmap(NULL, stuck->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(stuck->memory != MAP_FAILED);
    stuck->file = memfd_create("stuck", MFD_CLOEXEC);
    expect(stuck->file >= 0);
    seam_write(stuck->file, "hello", 5);
    if (seam_simulates()) {
        return true;
    }
    stuck->fault = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (stuck->fault < 0) {
        return false;
    }
    struct uffdio_api api = {.api = UFFD_API};
    expect_equal(ioctl(stuck->fault, UFFDIO_API, &api), 0);
    struct uffdio_register missing = {
        .range = {(uintptr_t)stuck->memory, stuck->page},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    expect_equal(ioctl(stuck->fault, UFFDIO_REGISTER, &missing), 0);
    return true;
}

static void stuck_submit(struct stuck *stuck, struct weir_loop *loop)
{
    weir_op_read(&stuck->op.op, stuck->file, stuck->memory, stuck->length, 0);
    stuck->deadline_ns = stuck->patience_ns == 0 ? 0 : weir_now(loop) + stuck->patience_ns;
    stuck->op.op.deadline_ns = stuck->deadline_ns;
    seam_submit(loop, &stuck->op);
}

/* Turns until somebody is stuck in it (with more time, if it expired). */
static void await_fault(struct stuck *stuck, struct weir_loop *loop)
{
    struct uffd_msg message;
    while (read(stuck->fault, &message, sizeof message) != (ssize_t)sizeof message) {
        expect_equal(errno, EAGAIN);
        expect(seam_turn(loop, WEIR_MS) >= 0);
        if (stuck->op.calls > 0) {
            expect_equal(stuck->op.result, -ETIME);
            stuck->op.calls = 0;
            stuck->patience_ns *= 2;
            stuck_submit(stuck, loop);
        }
    }
    expect_equal(message.event, UFFD_EVENT_PAGEFAULT);
}

/* Submits the read, and turns until it is stuck. */
static void stuck_start(struct stuck *stuck, struct weir_loop *loop)
{
    stuck_submit(stuck, loop);
    if (seam_simulates()) {
        seam_backend.simulated->hold_op(loop, &stuck->op.op);
    } else {
        await_fault(stuck, loop);
    }
    while (stuck->deadline_ns > 0 && weir_now(loop) <= stuck->deadline_ns) {
        expect_equal(seam_turn(loop, WEIR_MS), 0);
    }
    expect_equal(seam_turns(loop, 2), 0);
    expect_equal(stuck->op.calls, 0);
}

static void stuck_release(struct stuck *stuck)
{
    if (seam_simulates()) {
        seam_backend.simulated->let_op_go(&stuck->op.op);
        return;
    }
    struct uffdio_zeropage zero = {.range = {(uintptr_t)stuck->memory, stuck->page}};
    expect_equal(ioctl(stuck->fault, UFFDIO_ZEROPAGE, &zero), 0);
}

static void stuck_end(struct stuck *stuck)
{
    if (stuck->fault >= 0) {
        close(stuck->fault);
    }
    if (stuck->file >= 0) {
        close(stuck->file);
    }
    munmap(stuck->memory, stuck->page);
}

/* Rule 15: a worker of ours that is in it cannot be asked; the kernel's own can be. */
static int cancel_of_running(struct weir_loop *loop)
{
    return seam_counters(loop).offloaded > 0 ? -EALREADY : 0;
}

static void stuck_or_skip(struct stuck *stuck)
{
    if (!stuck_make(stuck)) {
        seam_skip("userfaultfd needs privilege, or a kernel that has it");
    }
}

static void expect_reported(const struct stuck *stuck, const struct weir_report *report,
                            const char *site)
{
    expect_equal(report->count, 1);
    const struct weir_live *live = &report->ops[0];
    expect(live->op == &stuck->op.op);
    expect(strcmp(live->task, "stubborn") == 0);
    expect(strcmp(live->kind, "read") == 0);
    expect(strcmp(live->state, "in flight") == 0);
    expect(strstr(live->site, site) != NULL);
    expect_equal(live->fd, stuck->file);
    expect_equal(live->offset, 0);
    expect_equal(live->length, 5);
    expect(live->age_ns > 0);
}

SEAM_TEST(close_answers_ETIMEDOUT_and_names_what_is_out_and_closes_once_it_is_back)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked more = {.op.callback = seam_called};
    struct weir_task *task = NULL;
    struct weir_report report = {0};
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "stubborn"}, &task), 0);
    stuck.op.op.task = task;
    seam_read_byte(loop, &idle, pipe.in);
    stuck_start(&stuck, loop);
    expect_equal(seam_close(loop, 20 * WEIR_MS, &report), -ETIMEDOUT);
    expect_equal(idle.calls, 1);
    expect_equal(idle.result, -ECANCELED);
    expect_equal(stuck.op.calls, 0);
    expect_reported(&stuck, &report, "stuck.c:");
    weir_op_nop(&more.op);
    seam_refused(loop, &more, -ESHUTDOWN);
    expect_equal(seam_close(loop, 0, &report), -ETIMEDOUT);
    expect_equal(report.count, 1);
    expect_equal(seam_close(loop, WEIR_MS, NULL), -ETIMEDOUT);
    stuck_release(&stuck);
    seam_end(loop);
    expect_equal(stuck.op.calls, 1);
    expect_equal(stuck.op.result, 5); /* it succeeded before the cancel could */
    expect_equal(idle.calls, 1);
    stuck_end(&stuck);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_report_names_the_oldest_first)
{
    struct stuck older;
    struct stuck younger;
    stuck_or_skip(&older);
    stuck_or_skip(&younger);
    struct weir_loop *loop = seam_loop();
    struct weir_report report = {0};
    struct tracked nops[2] = {0};
    /* Two ops that come back leave their places in reverse: the older read gets the later one. */
    for (int i = 0; i < 2; i++) {
        weir_op_nop(&nops[i].op);
        seam_submit(loop, &nops[i]);
    }
    while (nops[1].calls == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    stuck_start(&older, loop);
    stuck_start(&younger, loop);
    expect_equal(seam_close(loop, 0, &report), -ETIMEDOUT);
    expect_equal(report.count, 2);
    expect(report.ops[0].op == &older.op.op);
    expect(report.ops[1].op == &younger.op.op);
    expect(report.ops[0].age_ns >= report.ops[1].age_ns);
    stuck_release(&older);
    stuck_release(&younger);
    seam_end(loop);
    stuck_end(&older);
    stuck_end(&younger);
}

static unsigned closings;
static int closing_result;

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    closings++;
    closing_result = result;
}

SEAM_TEST(close_begin_calls_back_with_ETIMEDOUT_and_close_may_go_on)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    struct weir_report report = {0};
    stuck_start(&stuck, loop);
    closings = 0;
    expect_equal(weir_loop_close_begin(loop, 10 * WEIR_MS, closed), 0);
    while (closings == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(closing_result, -ETIMEDOUT);
    expect_equal(seam_close(loop, 0, &report), -ETIMEDOUT);
    expect_equal(report.count, 1);
    stuck_release(&stuck);
    seam_end(loop);
    expect_equal(closings, 1);
    expect_equal(stuck.op.calls, 1);
    stuck_end(&stuck);
}

SEAM_TEST(a_transfer_that_cannot_be_interrupted_comes_back_when_it_is_done)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    stuck_start(&stuck, loop);
    expect_equal(seam_cancel(loop, &stuck.op), cancel_of_running(loop));
    expect_equal(seam_cancel(loop, &stuck.op), cancel_of_running(loop));
    for (int i = 0; i < 5; i++) {
        expect_equal(seam_turn(loop, WEIR_MS), 0);
    }
    stuck_release(&stuck);
    seam_await(loop, &stuck.op);
    /* It succeeded, so it keeps its success. */
    expect_equal(stuck.op.result, 5);
    expect(memcmp(stuck.memory, "hello", 5) == 0);
    seam_end(loop);
    stuck_end(&stuck);
}

SEAM_TEST(a_deadline_of_such_a_transfer_passes_and_its_success_stays)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    stuck.patience_ns = 10 * WEIR_MS;
    stuck_start(&stuck, loop);
    stuck_release(&stuck);
    seam_await(loop, &stuck.op);
    expect_equal(stuck.op.result, 5);
    seam_end(loop);
    stuck_end(&stuck);
}

/* A WHOLE read of more than there is, whose only part comes after it was asked back. */
static void expect_no_next_part(int64_t want)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    stuck.length = 10;
    stuck.op.op.flags = WEIR_WHOLE;
    stuck.patience_ns = want == -ETIME ? 10 * WEIR_MS : 0;
    stuck_start(&stuck, loop);
    if (want == -ECANCELED) {
        expect_equal(seam_cancel(loop, &stuck.op), cancel_of_running(loop));
        expect_equal(seam_turns(loop, 2), 0);
    }
    stuck_release(&stuck);
    seam_await(loop, &stuck.op);
    expect_equal(stuck.op.result, want);
    expect_equal(stuck.op.op.moved, 5);
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.continued, 0);
    seam_end(loop);
    stuck_end(&stuck);
}

SEAM_TEST(a_whole_transfer_asked_back_in_the_middle_of_a_part_makes_no_other)
{
    expect_no_next_part(-ECANCELED);
    expect_no_next_part(-ETIME);
}

SEAM_TEST(CLOSE_waits_for_a_transfer_that_cannot_be_interrupted)
{
    struct stuck stuck;
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    struct tracked close_op = {0};
    struct tracked impatient = {0};
    stuck_start(&stuck, loop);
    /* One that gives up while it waits does not close. */
    weir_op_close(&impatient.op, stuck.file);
    impatient.op.deadline_ns = weir_now(loop) + WEIR_MS;
    expect_equal(seam_carry_out(loop, &impatient), -ETIME);
    weir_op_close(&impatient.op, stuck.file);
    seam_submit(loop, &impatient);
    seam_turns(loop, 2);
    expect_equal(seam_cancel(loop, &impatient), 0);
    seam_await(loop, &impatient);
    expect_equal(impatient.result, -ECANCELED);
    expect(fcntl(stuck.file, F_GETFD) >= 0);
    /* The kernel has resolved it: the number is free. A worker of ours may not have. */
    expect_equal(weir_forget(loop, stuck.file), seam_counters(loop).offloaded > 0 ? -EBUSY : 0);
    weir_op_close(&close_op.op, stuck.file);
    seam_submit(loop, &close_op);
    for (int i = 0; i < 5; i++) {
        expect_equal(seam_turn(loop, WEIR_MS), 0);
    }
    stuck_release(&stuck);
    seam_await(loop, &close_op);
    expect_equal(close_op.result, 0);
    expect_equal(stuck.op.calls, 1);
    expect(stuck.op.order < close_op.order);
    expect(fcntl(stuck.file, F_GETFD) < 0);
    stuck.file = -1;
    seam_end(loop);
    stuck_end(&stuck);
}

SEAM_TEST(a_loop_with_such_a_transfer_may_be_abandoned)
{
    static struct stuck stuck; /* its memory stays, as abandon asks */
    stuck_or_skip(&stuck);
    struct weir_loop *loop = seam_loop();
    stuck_start(&stuck, loop);
    expect_equal(seam_close(loop, WEIR_MS, NULL), -ETIMEDOUT);
    expect_equal(weir_loop_abandon(loop), 0);
    stuck_release(&stuck);
    expect_equal(stuck.op.calls, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(close_answers_ETIMEDOUT_and_names_what_is_out_and_closes_once_it_is_back),
    cmocka_unit_test(the_report_names_the_oldest_first),
    cmocka_unit_test(close_begin_calls_back_with_ETIMEDOUT_and_close_may_go_on),
    cmocka_unit_test(a_transfer_that_cannot_be_interrupted_comes_back_when_it_is_done),
    cmocka_unit_test(a_deadline_of_such_a_transfer_passes_and_its_success_stays),
    cmocka_unit_test(a_whole_transfer_asked_back_in_the_middle_of_a_part_makes_no_other),
    cmocka_unit_test(CLOSE_waits_for_a_transfer_that_cannot_be_interrupted),
    cmocka_unit_test(a_loop_with_such_a_transfer_may_be_abandoned),
};

const struct seam_group stuck_group = SEAM_GROUP("stuck", tests);
