/* SPDX-License-Identifier: MIT */
/*
 * observer.c: what weir/observe.h promises of the observer, and what tasks count of bytes and
 * errnos.
 */
#include "seam.h"

static struct weir_task *task_open(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    return task;
}

/* --- the observer ----------------------------------------------------------------------------- */

/* What was told, as letters. */
struct diary {
    char text[64];
    size_t length;
    int64_t result;
    int error;
    bool called; /* the callback, not the observer */
};

static void write_down(void *context, char letter)
{
    struct diary *diary = context;
    if (diary->length + 1 < sizeof diary->text) {
        diary->text[diary->length++] = letter;
    }
}

static void told_submitted(void *context, const struct weir_op *op, uint64_t at_ns)
{
    (void)op;
    (void)at_ns;
    write_down(context, 's');
}

static void told_left(void *context, const struct weir_op *op, uint64_t at_ns)
{
    (void)op;
    (void)at_ns;
    write_down(context, 'l');
}

static void told_done(void *context, const struct weir_op *op, int64_t result, uint64_t at_ns)
{
    (void)op;
    (void)at_ns;
    ((struct diary *)context)->result = result;
    write_down(context, 'd');
}

static void told_handed_back(void *context, const struct weir_op *op, uint64_t at_ns)
{
    struct diary *diary = context;
    (void)at_ns;
    write_down(context, op->result == diary->result && !diary->called ? 'h' : '!');
}

static void told_refused(void *context, const struct weir_op *op, int error)
{
    (void)op;
    ((struct diary *)context)->error = error;
    write_down(context, 'r');
}

static struct weir_observer observer_of(struct diary *diary)
{
    memset(diary, 0, sizeof *diary);
    return (struct weir_observer){told_submitted,   told_left,    told_done,
                                  told_handed_back, told_refused, diary};
}

static void expect_told(struct diary *diary, const char *want)
{
    if (strcmp(diary->text, want) != 0) {
        fprintf(stderr, "told %s, not %s\n", diary->text, want);
    }
    expect(strcmp(diary->text, want) == 0);
    memset(diary, 0, sizeof *diary);
}

SEAM_TEST(the_observer_is_told_of_each_op_in_order_whatever_became_of_it)
{
    struct diary diary;
    struct weir_observer observer = observer_of(&diary);
    struct weir_options options = {
        .depth = 2, .timers_max = 1, .offload_depth = 1, .observer = &observer};
    struct weir_loop *loop = seam_loop_with(options);
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    struct tracked others[2] = {0};
    weir_op_fsync(&op.op, -1);
    expect_equal(seam_carry_out(loop, &op), -EBADF);
    expect_told(&diary, "sldh");
    weir_op_timeout_in(&op.op, loop, 1);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_told(&diary, "sdh");
    struct seam_work call;
    seam_work_fill(&call, 7);
    expect_equal(seam_carry_out(loop, &call.call), 7);
    expect_told(&diary, "sldh");
    seam_read_byte(loop, &op, pipe.in); /* never leaves: no turn comes between */
    expect_equal(seam_cancel(loop, &op), 0);
    seam_await(loop, &op);
    expect_told(&diary, "sdh");
    seam_read_byte(loop, &others[0], pipe.in);
    seam_read_byte(loop, &others[1], pipe.in);
    weir_op_nop(&op.op);
    seam_refused(loop, &op, -EAGAIN);
    expect_equal(diary.error, -EAGAIN);
    expect_told(&diary, "ssr");
    seam_cancel(loop, &others[0]);
    seam_cancel(loop, &others[1]);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_observer_with_no_entries_is_told_nothing)
{
    struct weir_observer observer = {0};
    struct weir_loop *loop = seam_loop_with((struct weir_options){.observer = &observer});
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(loop);
}

/* --- what tasks count ------------------------------------------------------------------------- */

SEAM_TEST(a_task_counts_the_bytes_it_moved_and_tells_its_errnos_apart)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct weir_task_counters counters;
    struct weir_task_errors errors;
    struct tracked op = {.op.task = task};
    char data[4096];
    int file = seam_file(3000);
    weir_op_read(&op.op, file, data, sizeof data, 0);
    expect_equal(seam_carry_out(loop, &op), 3000);
    weir_op_nop(&op.op); /* moves none */
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_read(&op.op, file, data, 1000, 500);
    op.op.flags = WEIR_WHOLE;
    expect_equal(seam_carry_out(loop, &op), 1000);
    op.op.flags = 0;
    for (int i = 0; i < 3; i++) {
        weir_op_fsync(&op.op, -1);
        expect_equal(seam_carry_out(loop, &op), -EBADF);
    }
    weir_op_openat(&op.op, AT_FDCWD, "no such file", O_RDONLY, 0);
    expect_equal(seam_carry_out(loop, &op), -ENOENT);
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.bytes, 4000);
    expect_equal(counters.failed, 4);
    expect_equal(weir_task_read_errors(task, &errors), 0);
    expect_equal(errors.count, 2);
    expect_equal(errors.errors[0].error, -EBADF);
    expect_equal(errors.errors[0].times, 3);
    expect_equal(errors.errors[1].error, -ENOENT);
    expect_equal(errors.errors[1].times, 1);
    expect_equal(errors.others, 0);
    expect_equal(weir_task_read_errors(NULL, &errors), -EINVAL);
    expect_equal(weir_task_read_errors(task, NULL), -EINVAL);
    seam_end(loop);
    close(file);
}

static void expect_errors(struct weir_task *task, uint32_t count, uint64_t others)
{
    struct weir_task_errors errors;
    expect_equal(weir_task_read_errors(task, &errors), 0);
    expect_equal(errors.count, count);
    expect_equal(errors.others, others);
}

SEAM_TEST(errnos_past_the_last_entry_and_values_that_are_none_are_counted_together)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    for (int i = 0; i <= WEIR_ERRORS_MAX; i++) {
        struct seam_work call;
        expect_errors(task, (uint32_t)i, 0);
        seam_work_fill(&call, -100 - i);
        call.call.op.task = task;
        expect_equal(seam_carry_out(loop, &call.call), -100 - i);
    }
    expect_errors(task, WEIR_ERRORS_MAX, 1);
    struct seam_work call;
    seam_work_fill(&call, INT64_MIN);
    call.call.op.task = task;
    expect_equal(seam_carry_out(loop, &call.call), INT64_MIN);
    expect_errors(task, WEIR_ERRORS_MAX, 2);
    seam_end(loop);
}

SEAM_TEST(a_whole_transfer_that_is_continued_is_counted_under_its_task)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct seam_pair pair = seam_socketpair(SOCK_STREAM);
    struct tracked op = {.op.task = task};
    struct weir_task_counters counters;
    weir_op_recv(&op.op, pair.in, op.data, 4, 0);
    op.op.flags = WEIR_WHOLE;
    seam_submit(loop, &op);
    seam_write(pair.out, "ab", 2);
    seam_turns(loop, 3);
    seam_write(pair.out, "cd", 2);
    seam_await(loop, &op);
    expect_equal(op.result, 4);
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect(counters.continued >= 1);
    expect_equal(counters.bytes, 4);
    expect_equal(seam_counters(loop).continued, counters.continued);
    seam_end(loop);
    seam_pair_close(&pair);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_observer_is_told_of_each_op_in_order_whatever_became_of_it),
    cmocka_unit_test(an_observer_with_no_entries_is_told_nothing),
    cmocka_unit_test(a_task_counts_the_bytes_it_moved_and_tells_its_errnos_apart),
    cmocka_unit_test(errnos_past_the_last_entry_and_values_that_are_none_are_counted_together),
    cmocka_unit_test(a_whole_transfer_that_is_continued_is_counted_under_its_task),
};

const struct seam_group observer_group = SEAM_GROUP("observer", tests);
