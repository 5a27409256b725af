/* SPDX-License-Identifier: MIT */
/* tasks.c: tasks as weir/task.h promises them: names, counters, histograms, limits, closing. */
#include "seam.h"

#include <pthread.h>

static struct weir_task *task_open(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    expect(task != NULL);
    return task;
}

static struct weir_task_counters counters_of(const struct weir_task *task)
{
    struct weir_task_counters counters;
    expect_equal(weir_task_read_counters(task, &counters), 0);
    return counters;
}

static uint64_t samples(const struct weir_task *task, enum weir_stage stage)
{
    static struct weir_histogram histogram;
    expect_equal(weir_task_read(task, stage, &histogram), 0);
    return histogram.count;
}

/* The built-in task of a kind. */
static struct weir_task *builtin(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    while ((task = weir_task_next(loop, task)) != NULL) {
        if (strcmp(weir_task_name(task), name) == 0) {
            return task;
        }
    }
    return NULL;
}

SEAM_TEST(every_op_is_in_the_counters_and_every_finished_one_in_the_histograms)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4, .waiting_max = 96});
    struct weir_task *task = task_open(loop, "wal append");
    static struct tracked ops[100];
    memset(ops, 0, sizeof ops);
    struct tracked more = {.op.callback = seam_called, .op.task = task};
    for (int i = 0; i < 100; i++) {
        if (i % 10 == 0) {
            weir_op_fsync(&ops[i].op, -1); /* fails */
        } else {
            weir_op_nop(&ops[i].op);
        }
        ops[i].op.task = task;
        seam_submit(loop, &ops[i]);
    }
    weir_op_nop(&more.op);
    seam_refused(loop, &more, -EAGAIN);
    expect_equal(counters_of(task).live, 100);
    expect_equal(seam_run(loop), 0);
    struct weir_task_counters counters = counters_of(task);
    expect_equal(counters.submitted, 100);
    expect_equal(counters.refused, 1);
    expect_equal(counters.finished, 100);
    expect_equal(counters.failed, 10);
    expect_equal(counters.cancelled, 0);
    expect_equal(counters.expired, 0);
    expect_equal(counters.live, 0);
    for (int stage = 0; stage <= WEIR_STAGE_TOTAL; stage++) {
        expect_equal(samples(task, (enum weir_stage)stage), 100);
    }
    expect_equal(samples(task, WEIR_STAGE_QUEUE), samples(task, WEIR_STAGE_RUN));
    seam_end(loop);
}

SEAM_TEST(cancelled_ops_are_counted_and_not_sampled_expired_ones_are_both)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[10] = {0};
    uint64_t deadline = weir_now(loop) + 100 * WEIR_MS;
    for (int i = 0; i < 10; i++) {
        ops[i].op.task = task;
        weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.deadline_ns = i < 4 ? deadline : 0;
        seam_submit(loop, &ops[i]);
    }
    seam_turns(loop, 1);
    bool in_time = weir_now(loop) < deadline; /* all had left before it */
    for (int i = 4; i < 10; i++) {
        expect_equal(seam_cancel(loop, &ops[i]), 0);
    }
    expect_equal(seam_run(loop), 0);
    struct weir_task_counters counters = counters_of(task);
    expect_equal(counters.finished, 10);
    expect_equal(counters.expired, 4);
    expect_equal(counters.cancelled, 6);
    expect_equal(counters.failed, 0);
    expect(!in_time || samples(task, WEIR_STAGE_TOTAL) == 4);
    expect(samples(task, WEIR_STAGE_TOTAL) <= 4);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_op_without_a_task_falls_into_its_kinds)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked op = {0};
    expect(builtin(loop, "read") == NULL); /* it had no op yet */
    seam_write(pipe.out, "ab", 2);
    for (int i = 0; i < 2; i++) {
        seam_read_byte(loop, &op, pipe.in);
        seam_await(loop, &op);
    }
    struct weir_task *task = builtin(loop, "read");
    expect(task != NULL);
    expect_equal(counters_of(task).finished, 2);
    expect_equal(samples(task, WEIR_STAGE_FLIGHT), 2);
    expect(builtin(loop, "write") == NULL);
    expect_equal(weir_task_close(task), -EINVAL);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(latency_counts_from_the_intended_start)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "late");
    struct tracked op = {.op.task = task};
    static struct weir_histogram histogram;
    weir_op_nop(&op.op);
    op.op.intended_ns = weir_now(loop) - WEIR_S;
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(weir_task_read(task, WEIR_STAGE_WAIT, &histogram), 0);
    expect(histogram.max >= WEIR_S);
    expect_equal(weir_task_read(task, WEIR_STAGE_TOTAL, &histogram), 0);
    expect(histogram.max >= WEIR_S);
    expect(weir_histogram_percentile(&histogram, 50) >= WEIR_S);
    seam_end(loop);
}

SEAM_TEST(a_timer_has_no_wait_stage_and_its_lateness_as_flight)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "tick");
    struct tracked op = {.op.task = task};
    static struct weir_histogram histogram;
    weir_op_timeout(&op.op, weir_now(loop) - WEIR_S);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(samples(task, WEIR_STAGE_WAIT), 0);
    expect_equal(samples(task, WEIR_STAGE_TOTAL), 1);
    expect_equal(weir_task_read(task, WEIR_STAGE_FLIGHT, &histogram), 0);
    expect_equal(histogram.count, 1);
    expect(histogram.max >= WEIR_S);
    seam_end(loop);
}

SEAM_TEST(a_task_with_live_ops_closes_with_EBUSY_and_without_them_with_0)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct weir_task *task = task_open(loop, "t");
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[3] = {0};
    for (int i = 0; i < 3; i++) {
        ops[i].op.task = task;
        if (i < 2) {
            seam_read_byte(loop, &ops[i], pipe.in);
        } else {
            weir_op_timeout_in(&ops[i].op, loop, 3600 * WEIR_S);
            seam_submit(loop, &ops[i]);
        }
    }
    for (int i = 0; i < 3; i++) {
        expect_equal(weir_task_close(task), -EBUSY);
        expect_equal(seam_cancel(loop, &ops[i]), 0);
        expect_equal(weir_task_close(task), -EBUSY); /* not back yet */
        seam_await(loop, &ops[i]);
    }
    expect_equal(weir_task_close(task), 0);
    expect_equal(weir_task_close(NULL), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void close_own_task(struct tracked *op)
{
    expect_equal(weir_task_close(op->op.task), 0);
    op->op.task = NULL;
}

SEAM_TEST(a_task_may_be_closed_in_the_callback_of_its_last_op)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {.then = close_own_task, .op.task = task_open(loop, "t")};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(seam_turns(loop, 2), 0);
    seam_end(loop);
}

SEAM_TEST(names_are_taken_up_to_their_limit_and_copied)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = NULL;
    char name[WEIR_TASK_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[WEIR_TASK_NAME_MAX + 1] = '\0';
    struct weir_task_options options = {.name = name};
    expect_equal(weir_task_open(loop, &options, &task), -ENAMETOOLONG);
    expect(task == NULL);
    name[WEIR_TASK_NAME_MAX] = '\0';
    expect_equal(weir_task_open(loop, &options, &task), 0);
    memset(name, 'x', WEIR_TASK_NAME_MAX);
    expect_equal(strlen(weir_task_name(task)), WEIR_TASK_NAME_MAX);
    expect_equal(weir_task_name(task)[0], 'n');
    options.name = "";
    expect_equal(weir_task_open(loop, &options, &task), -EINVAL);
    options.name = NULL;
    expect_equal(weir_task_open(loop, &options, &task), -EINVAL);
    expect_equal(weir_task_open(loop, NULL, &task), -EINVAL);
    options.name = "ok";
    expect_equal(weir_task_open(loop, &options, NULL), -EINVAL);
    expect_equal(weir_task_open(NULL, &options, &task), -EINVAL);
    seam_end(loop);
}

SEAM_TEST(memory_max_bounds_the_tasks_and_a_closed_one_makes_room)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.memory_max = 2u << 20});
    struct weir_task *tasks[1000];
    struct weir_task *more = NULL;
    int count = 0;
    int result = 0;
    while (count < 1000 && result == 0) {
        result = weir_task_open(loop, &(struct weir_task_options){.name = "many"}, &tasks[count]);
        count += result == 0;
    }
    expect_equal(result, -ENOSPC);
    expect(count > 0);
    struct tracked op = {.op.task = tasks[count - 1]};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(weir_task_close(tasks[count - 1]), 0);
    more = task_open(loop, "again");
    /* A reused place starts empty. */
    expect_equal(counters_of(more).submitted, 0);
    expect_equal(samples(more, WEIR_STAGE_TOTAL), 0);
    expect(strcmp(weir_task_name(more), "again") == 0);
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "x"}, &tasks[0]),
                 -ENOSPC);
    struct weir_facts facts;
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect(facts.memory_tasks <= 2u << 20);
    seam_end(loop);
}

SEAM_TEST(a_reset_empties_all_but_live)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {.op.task = task};
    struct tracked op = {.op.task = task};
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    expect_equal(weir_task_reset(task), 0);
    struct weir_task_counters counters = counters_of(task);
    expect_equal(counters.submitted, 0);
    expect_equal(counters.finished, 0);
    expect_equal(counters.live, 1);
    for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        expect_equal(samples(task, (enum weir_stage)stage), 0);
    }
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &idle);
    counters = counters_of(task);
    expect_equal(counters.finished, 1);
    expect_equal(counters.live, 0);
    expect_equal(samples(task, WEIR_STAGE_TOTAL), 1);
    expect_equal(weir_task_reset(NULL), -EINVAL);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_walk_shows_every_open_task_once)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *tasks[5];
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    for (int i = 0; i < 5; i++) {
        tasks[i] = task_open(loop, "mine");
    }
    expect_equal(weir_task_close(tasks[2]), 0);
    int builtins = 0;
    int mine = 0;
    struct weir_task *task = NULL;
    while ((task = weir_task_next(loop, task)) != NULL) {
        bool is_mine = strcmp(weir_task_name(task), "mine") == 0;
        expect(is_mine || mine == 0); /* built-in ones first */
        mine += is_mine;
        builtins += !is_mine;
    }
    expect_equal(builtins, 1);
    expect_equal(mine, 4);
    seam_end(loop);
}

/* In a real thread on every backend. */
struct reader {
    const struct weir_task *task;
    int stop;
    int failed;
};

static void *read_meanwhile(void *context)
{
    struct reader *reader = context;
    static struct weir_histogram histogram;
    struct weir_task_counters counters;
    while (!__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE)) {
        reader->failed |= weir_task_read(reader->task, WEIR_STAGE_TOTAL, &histogram) != 0;
        reader->failed |= weir_task_read_counters(reader->task, &counters) != 0;
        reader->failed |= counters.finished > 20000 || histogram.count > 20000;
    }
    return NULL;
}

static void again(struct tracked *op)
{
    if (op->calls < 20000) {
        weir_op_nop(&op->op);
        seam_submit(op->context, op);
    }
    if (op->calls % 1000 == 0) {
        expect_equal(weir_task_reset(op->op.task), 0);
    }
}

SEAM_TEST(another_thread_may_read_while_the_loop_records_and_resets)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct reader reader = {.task = task};
    struct tracked op = {.then = again, .context = loop, .op.task = task};
    pthread_t thread;
    expect_equal((pthread_create)(&thread, NULL, read_meanwhile, &reader), 0);
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(seam_run(loop), 0);
    __atomic_store_n(&reader.stop, 1, __ATOMIC_RELEASE);
    expect_equal((pthread_join)(thread, NULL), 0);
    expect_equal(reader.failed, 0);
    seam_end(loop);
}

/* A reading of what was counted before a reset and what was at it is not one. */
static void *read_counters_meanwhile(void *context)
{
    struct reader *reader = context;
    struct weir_task_counters counters;
    while (!__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE)) {
        reader->failed |= weir_task_read_counters(reader->task, &counters) != 0;
        reader->failed |= counters.submitted > 1 || counters.finished > 1 || counters.live > 1;
    }
    return NULL;
}

#ifdef __SANITIZE_THREAD__ /* where a reset lasts much longer */
#define RESETS 15000
#else
#define RESETS 300000
#endif

static void reset_and_again(struct tracked *op)
{
    expect_equal(weir_task_reset(op->op.task), 0);
    if (op->calls < RESETS) {
        weir_op_nop(&op->op);
        seam_submit(op->context, op);
    }
}

SEAM_TEST(a_reset_is_read_by_another_thread_as_a_whole_or_not_at_all)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    struct reader reader = {.task = task};
    struct tracked op = {.then = reset_and_again, .context = loop, .op.task = task};
    pthread_t thread;
    expect_equal((pthread_create)(&thread, NULL, read_counters_meanwhile, &reader), 0);
    weir_op_nop(&op.op);
    seam_submit(loop, &op);
    expect_equal(seam_run(loop), 0);
    __atomic_store_n(&reader.stop, 1, __ATOMIC_RELEASE);
    expect_equal((pthread_join)(thread, NULL), 0);
    expect_equal(reader.failed, 0);
    seam_end(loop);
}

SEAM_TEST(the_reading_calls_refuse_NULL_and_no_such_stage)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "t");
    static struct weir_histogram histogram;
    struct weir_task_counters counters;
    expect_equal(weir_task_read(NULL, WEIR_STAGE_WAIT, &histogram), -EINVAL);
    expect_equal(weir_task_read(task, WEIR_STAGE_COUNT, &histogram), -EINVAL);
    expect_equal(weir_task_read(task, WEIR_STAGE_WAIT, NULL), -EINVAL);
    expect_equal(weir_task_read_counters(NULL, &counters), -EINVAL);
    expect_equal(weir_task_read_counters(task, NULL), -EINVAL);
    expect(weir_stage_name(WEIR_STAGE_COUNT) == NULL);
    expect(strcmp(weir_stage_name(WEIR_STAGE_TOTAL), "total") == 0);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_op_is_in_the_counters_and_every_finished_one_in_the_histograms),
    cmocka_unit_test(cancelled_ops_are_counted_and_not_sampled_expired_ones_are_both),
    cmocka_unit_test(an_op_without_a_task_falls_into_its_kinds),
    cmocka_unit_test(latency_counts_from_the_intended_start),
    cmocka_unit_test(a_timer_has_no_wait_stage_and_its_lateness_as_flight),
    cmocka_unit_test(a_task_with_live_ops_closes_with_EBUSY_and_without_them_with_0),
    cmocka_unit_test(a_task_may_be_closed_in_the_callback_of_its_last_op),
    cmocka_unit_test(names_are_taken_up_to_their_limit_and_copied),
    cmocka_unit_test(memory_max_bounds_the_tasks_and_a_closed_one_makes_room),
    cmocka_unit_test(a_reset_empties_all_but_live),
    cmocka_unit_test(the_walk_shows_every_open_task_once),
    cmocka_unit_test(another_thread_may_read_while_the_loop_records_and_resets),
    cmocka_unit_test(a_reset_is_read_by_another_thread_as_a_whole_or_not_at_all),
    cmocka_unit_test(the_reading_calls_refuse_NULL_and_no_such_stage),
};

const struct seam_group tasks_group = SEAM_GROUP("tasks", tests);
