/* SPDX-License-Identifier: MIT */
/*
 * stages.c: the truth of the stages: delays that a test makes itself land in the stage that is
 * theirs. Each test reads the clock around what it does, so it knows two moments between which a
 * stamp lies, and nothing is said of how long anything took.
 */
#include "seam.h"

#include <inttypes.h>

#define PAUSE_NS (20 * WEIR_MS)

/* How far stamps may be from CLOCK_MONOTONIC: weir/task.h, "Bias", and a part in a thousand for the
 * scale of the TSC, which is learned. */
#define SKEW_NS (50 * WEIR_US)

/* The one sample of a stage; -1: none. */
static int64_t sample(const struct weir_task *task, enum weir_stage stage)
{
    static struct weir_histogram histogram;
    expect_equal(weir_task_read(task, stage, &histogram), 0);
    expect(histogram.count <= 1);
    return histogram.count == 1 ? (int64_t)histogram.max : -1;
}

static void must_be_between(const char *what, int64_t value, int64_t least, int64_t most)
{
    bool holds = value >= least - least / 1000 - SKEW_NS && value <= most + most / 1000 + SKEW_NS;
    if (!holds) {
        fprintf(stderr, "%s is %" PRId64 ", not between %" PRId64 " and %" PRId64 "\n", what, value,
                least, most);
    }
    expect(holds);
}

#define expect_between(value, least, most)                                                         \
    must_be_between(#value, (int64_t)(value), (int64_t)(least), (int64_t)(most))

static void pause_for(int64_t ns)
{
    struct timespec wait = {.tv_nsec = ns};
    nanosleep(&wait, NULL);
}

static struct weir_task *task_open(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    return task;
}

/* A timer that feeds a pipe, and when it did. */
struct feeder {
    struct tracked timer;
    int fd;
    uint64_t fed_ns;
};

static void feed(struct tracked *tracked)
{
    struct feeder *feeder = WEIR_CONTAINER(tracked, struct feeder, timer);
    feeder->fed_ns = weir_now(tracked->context);
    seam_write(feeder->fd, "x", 1);
}

static void feed_in(struct feeder *feeder, struct weir_loop *loop, int fd, uint64_t wait_ns)
{
    *feeder = (struct feeder){.fd = fd};
    weir_op_timeout_in(&feeder->timer.op, loop, wait_ns);
    feeder->timer.then = feed;
    feeder->timer.context = loop;
    seam_submit(loop, &feeder->timer);
}

SEAM_TEST(the_time_until_a_pipe_is_fed_is_flight)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "reader");
    struct seam_pair pipe = seam_pipe(0);
    struct tracked read = {.op.task = task};
    struct feeder feeder;
    uint64_t before_ns = weir_now(loop);
    seam_read_byte(loop, &read, pipe.in);
    seam_turns(loop, 1);
    uint64_t left_ns = weir_now(loop);
    feed_in(&feeder, loop, pipe.out, PAUSE_NS);
    seam_await(loop, &read);
    uint64_t back_ns = weir_now(loop);
    expect_between(sample(task, WEIR_STAGE_FLIGHT), feeder.fed_ns - left_ns, back_ns - before_ns);
    expect(feeder.fed_ns - left_ns >= (uint64_t)PAUSE_NS / 2); /* it is not all skew */
    expect_between(sample(task, WEIR_STAGE_WAIT), 0, left_ns - before_ns);
    expect_between(sample(task, WEIR_STAGE_DELIVERY), 0, back_ns - feeder.fed_ns);
    expect_equal(sample(task, WEIR_STAGE_QUEUE), -1);
    expect_equal(sample(task, WEIR_STAGE_RUN), -1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_time_behind_a_full_gate_is_wait)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 1});
    struct weir_task *task = task_open(loop, "waiter");
    struct seam_pair pipe = seam_pipe(0);
    struct tracked first = {0};
    struct tracked second = {.op.task = task};
    struct feeder feeder;
    seam_read_byte(loop, &first, pipe.in);
    seam_turns(loop, 1);
    uint64_t before_ns = weir_now(loop);
    weir_op_nop(&second.op);
    seam_submit(loop, &second);
    uint64_t born_ns = weir_now(loop);
    feed_in(&feeder, loop, pipe.out, PAUSE_NS);
    seam_await(loop, &first);
    seam_await(loop, &second);
    uint64_t back_ns = weir_now(loop);
    expect_between(sample(task, WEIR_STAGE_WAIT), feeder.fed_ns - born_ns, back_ns - before_ns);
    expect(feeder.fed_ns - born_ns >= (uint64_t)PAUSE_NS / 2);
    expect_between(sample(task, WEIR_STAGE_FLIGHT), 0, back_ns - feeder.fed_ns);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void pause_in_callback(struct tracked *tracked)
{
    (void)tracked;
    pause_for(PAUSE_NS);
}

SEAM_TEST(the_time_behind_other_callbacks_of_the_turn_is_delivery)
{
    enum { OPS = 40 }; /* the clock is read anew after every 16 */
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "many");
    static struct tracked ops[OPS];
    memset(ops, 0, sizeof ops);
    uint64_t before_ns = weir_now(loop);
    for (int i = 0; i < OPS; i++) {
        weir_op_nop(&ops[i].op);
        ops[i].op.task = task;
        ops[i].then = i == 0 ? pause_in_callback : NULL;
        seam_submit(loop, &ops[i]);
    }
    seam_await(loop, &ops[OPS - 1]);
    uint64_t back_ns = weir_now(loop);
    struct weir_histogram *all = calloc(1, sizeof *all);
    expect(all != NULL);
    expect_equal(weir_task_read(task, WEIR_STAGE_DELIVERY, all), 0);
    expect_equal(all->count, OPS);
    expect_between(all->max, PAUSE_NS, back_ns - before_ns);
    expect(weir_histogram_percentile(all, 1) < (uint64_t)PAUSE_NS); /* the first had not waited */
    free(all);
    seam_end(loop);
}

static void submit_context(struct tracked *tracked)
{
    seam_submit(tracked->op.loop, tracked->context);
}

/* The op's time with the backend begins with the turn that takes it there. */
SEAM_TEST(the_time_of_the_callbacks_after_a_submit_is_wait)
{
    enum { OPS = 40 }; /* the clock is read anew after every 16 */
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "born in a callback");
    static struct tracked ops[OPS];
    struct tracked child = {.op.task = task};
    memset(ops, 0, sizeof ops);
    weir_op_nop(&child.op);
    uint64_t before_ns = weir_now(loop);
    for (int i = 0; i < OPS; i++) {
        weir_op_nop(&ops[i].op);
        seam_submit(loop, &ops[i]);
    }
    ops[0].then = submit_context;
    ops[0].context = &child;
    ops[1].then = pause_in_callback;
    seam_await(loop, &ops[OPS - 1]);
    seam_await(loop, &child);
    uint64_t back_ns = weir_now(loop);
    expect_between(sample(task, WEIR_STAGE_WAIT), PAUSE_NS, back_ns - before_ns);
    expect_between(sample(task, WEIR_STAGE_FLIGHT), 0, back_ns - before_ns - PAUSE_NS);
    seam_end(loop);
}

/* A call that lasts, and knows how long. */
struct job {
    struct tracked call;
    uint64_t begun_ns;
    uint64_t ended_ns;
};

static uint64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_S + (uint64_t)now.tv_nsec;
}

static int64_t last(void *argument)
{
    struct job *job = argument;
    job->begun_ns = monotonic();
    pause_for(PAUSE_NS);
    job->ended_ns = monotonic();
    return 0;
}

static void submit_job(struct weir_loop *loop, struct job *job, struct weir_task *task)
{
    *job = (struct job){.call.op.task = task};
    weir_op_call(&job->call.op, last, job);
    seam_submit(loop, &job->call);
}

/* A simulated worker takes the time that its world draws, and the function none of it. */
static void expect_run(const struct job *job, struct weir_task *task, uint64_t most_ns)
{
    uint64_t ran_ns = job->ended_ns - job->begun_ns;
    expect_between(sample(task, WEIR_STAGE_RUN), seam_simulates() ? 0 : ran_ns, most_ns);
}

SEAM_TEST(the_time_behind_another_call_is_queue_and_that_of_the_function_is_run)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct weir_task *tasks[2] = {task_open(loop, "first"), task_open(loop, "second")};
    struct job jobs[2];
    uint64_t before_ns = weir_now(loop);
    submit_job(loop, &jobs[0], tasks[0]);
    submit_job(loop, &jobs[1], tasks[1]);
    uint64_t submitted_ns = weir_now(loop);
    seam_await(loop, &jobs[1].call);
    seam_await(loop, &jobs[0].call);
    uint64_t back_ns = weir_now(loop);
    expect_run(&jobs[0], tasks[0], back_ns - before_ns);
    expect_run(&jobs[1], tasks[1], back_ns - before_ns);
    int64_t queue_ns = sample(tasks[1], WEIR_STAGE_QUEUE);
    int64_t run_ns = sample(tasks[1], WEIR_STAGE_RUN);
    expect(queue_ns >= 0 && run_ns >= 0);
    expect_between(queue_ns + run_ns, 0, sample(tasks[1], WEIR_STAGE_FLIGHT));
    if (!seam_simulates()) {
        /* The one worker ended the first before it began the second. */
        expect_between(queue_ns, jobs[0].ended_ns - submitted_ns, jobs[1].begun_ns - before_ns);
    } else {
        expect(queue_ns >= sample(tasks[0], WEIR_STAGE_RUN) || queue_ns > 0);
    }
    seam_end(loop);
}

/* Its worker does not begin it with the end of the one before. */
SEAM_TEST(a_call_after_a_pause_has_run_since_its_own_beginning)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct weir_task *tasks[2] = {task_open(loop, "first"), task_open(loop, "second")};
    struct job jobs[2];
    submit_job(loop, &jobs[0], tasks[0]);
    seam_await(loop, &jobs[0].call);
    pause_for(PAUSE_NS);
    uint64_t before_ns = weir_now(loop);
    submit_job(loop, &jobs[1], tasks[1]);
    seam_await(loop, &jobs[1].call);
    expect_run(&jobs[1], tasks[1], weir_now(loop) - before_ns);
    seam_end(loop);
}

SEAM_TEST(what_a_worker_noted_is_not_that_of_the_next_op_in_its_place)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct weir_task *calls = task_open(loop, "calls");
    struct weir_task *others = task_open(loop, "others");
    struct job job;
    struct tracked other = {.op.task = others};
    submit_job(loop, &job, calls);
    seam_await(loop, &job.call);
    weir_op_nop(&other.op); /* in the place that the call has left, and by the same way back */
    other.op.deadline_ns = weir_now(loop) + 100 * WEIR_S;
    expect_equal(seam_carry_out(loop, &other), 0);
    expect(sample(calls, WEIR_STAGE_RUN) >= 0);
    expect(sample(others, WEIR_STAGE_TOTAL) >= 0);
    expect_equal(sample(others, WEIR_STAGE_QUEUE), -1);
    expect_equal(sample(others, WEIR_STAGE_RUN), -1);
    seam_end(loop);
}

SEAM_TEST(a_call_that_submit_ran_itself_has_run_and_no_queue)
{
    struct weir_options options = {
        .offload_workers = 1, .offload_depth = 1, .flags = WEIR_CALLER_RUNS};
    struct weir_loop *loop = seam_loop_with(options);
    struct weir_task *task = task_open(loop, "by its caller");
    struct seam_work blocker;
    struct job job;
    seam_work_fill(&blocker, 0);
    seam_block(loop, &blocker);
    uint64_t before_ns = weir_now(loop);
    submit_job(loop, &job, task);
    uint64_t after_ns = weir_now(loop);
    bool ran = job.ended_ns != 0; /* a post waits for its turn instead */
    seam_unblock(&blocker);
    expect_equal(seam_run(loop), 0);
    if (ran) {
        uint64_t ran_ns = job.ended_ns - job.begun_ns;
        expect_between(sample(task, WEIR_STAGE_RUN), ran_ns, after_ns - before_ns);
        expect_equal(sample(task, WEIR_STAGE_QUEUE), 0);
    }
    seam_end(loop);
}

SEAM_TEST(a_pause_of_the_loop_is_in_the_latency_from_intended_and_not_in_that_from_submit)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *honest = task_open(loop, "from intended");
    struct weir_task *naive = task_open(loop, "from submit");
    struct tracked ops[2] = {{.op.task = honest}, {.op.task = naive}};
    /* Both were to start now; the service is busy with something else. */
    uint64_t intended_ns = weir_now(loop);
    pause_for(PAUSE_NS);
    uint64_t paused_ns = weir_now(loop);
    for (int i = 0; i < 2; i++) {
        weir_op_nop(&ops[i].op);
        ops[i].op.intended_ns = i == 0 ? intended_ns : 0;
        seam_submit(loop, &ops[i]);
    }
    seam_await(loop, &ops[0]);
    seam_await(loop, &ops[1]);
    uint64_t back_ns = weir_now(loop);
    expect_between(sample(honest, WEIR_STAGE_TOTAL), paused_ns - intended_ns,
                   back_ns - intended_ns);
    expect_between(sample(honest, WEIR_STAGE_WAIT), paused_ns - intended_ns, back_ns - intended_ns);
    expect_between(sample(naive, WEIR_STAGE_TOTAL), 0, back_ns - paused_ns);
    seam_end(loop);
}

/* Also by the short way of submit, which a turn opens and must close. */
SEAM_TEST(a_pause_between_turns_is_not_in_the_latency_of_what_is_submitted_after_it)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_open(loop, "after");
    struct tracked first = {0};
    struct tracked after = {.op.task = task};
    weir_op_nop(&first.op);
    expect_equal(seam_carry_out(loop, &first), 0);
    pause_for(PAUSE_NS);
    uint64_t paused_ns = weir_now(loop);
    weir_op_nop(&after.op);
    expect_equal(seam_carry_out(loop, &after), 0);
    expect_between(sample(task, WEIR_STAGE_TOTAL), 0, weir_now(loop) - paused_ns);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_time_until_a_pipe_is_fed_is_flight),
    cmocka_unit_test(the_time_behind_a_full_gate_is_wait),
    cmocka_unit_test(the_time_behind_other_callbacks_of_the_turn_is_delivery),
    cmocka_unit_test(the_time_of_the_callbacks_after_a_submit_is_wait),
    cmocka_unit_test(the_time_behind_another_call_is_queue_and_that_of_the_function_is_run),
    cmocka_unit_test(a_call_after_a_pause_has_run_since_its_own_beginning),
    cmocka_unit_test(what_a_worker_noted_is_not_that_of_the_next_op_in_its_place),
    cmocka_unit_test(a_call_that_submit_ran_itself_has_run_and_no_queue),
    cmocka_unit_test(
        a_pause_of_the_loop_is_in_the_latency_from_intended_and_not_in_that_from_submit),
    cmocka_unit_test(a_pause_between_turns_is_not_in_the_latency_of_what_is_submitted_after_it),
};

const struct seam_group stages_group = SEAM_GROUP("stages", tests);
