/* SPDX-License-Identifier: MIT */
/*
 * call.c: CALLs: what they answer and who runs them; rules 15, 17, 21 and 27: asked back while
 * they are queued and while they run.
 */
#include "seam.h"

#include <signal.h>

#define THOUSAND 1000

static struct weir_options one_worker(void)
{
    return (struct weir_options){.offload_workers = 1};
}

SEAM_TEST(a_call_runs_on_a_worker_and_comes_back_on_the_loops_thread)
{
    struct weir_loop *loop = seam_loop();
    struct seam_work work;
    seam_work_fill(&work, 42);
    expect_equal(seam_carry_out(loop, &work.call), 42); /* its callback looks at the thread */
    expect_equal(work.begun, 1);
    expect(seam_by_worker(&work));
    expect_equal(seam_counters(loop).offloaded, 1);
    seam_end(loop);
}

SEAM_TEST(a_call_answers_what_its_function_returned_whatever_that_is)
{
    static const int64_t values[] = {
        0,       1,      -1,     INT64_MAX, INT64_MIN, 1LL << 32,   -(1LL << 32),
        -EAGAIN, -EINTR, -ETIME, -512,      -516,      -EOPNOTSUPP,
    };
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = NULL;
    struct weir_task_counters counters;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    for (size_t i = 0; i < SEAM_COUNT(values); i++) {
        struct seam_work work;
        seam_work_fill(&work, values[i]);
        work.call.op.task = task;
        expect_equal(seam_carry_out(loop, &work.call), values[i]);
        expect_equal(work.begun, 1); /* and is not tried again */
    }
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.finished, SEAM_COUNT(values));
    expect_equal(seam_counters(loop).retried, 0);
    seam_end(loop);
}

SEAM_TEST(a_negative_value_counts_as_a_failure)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = NULL;
    struct weir_task_counters counters;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    for (int i = 0; i < 10; i++) {
        struct seam_work work;
        seam_work_fill(&work, i < 3 ? -7 - i : i);
        work.call.op.task = task;
        expect_equal(seam_carry_out(loop, &work.call), work.value);
    }
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.submitted, 10);
    expect_equal(counters.finished, 10);
    expect_equal(counters.failed, 3);
    expect_equal(counters.cancelled, 0);
    static struct weir_histogram flight;
    expect_equal(weir_task_read(task, WEIR_STAGE_FLIGHT, &flight), 0);
    expect_equal(flight.count, 10);
    seam_end(loop);
}

static unsigned freed;

static void free_work(struct tracked *call)
{
    free(call->context);
    freed++;
}

static void call_again(struct tracked *call)
{
    struct seam_work *work = call->context;
    if (call->calls < 100) {
        weir_op_call(&call->op, seam_work_do, work);
        seam_submit(call->op.user, call);
    }
}

SEAM_TEST(a_call_may_be_freed_and_resubmitted_in_its_callback)
{
    struct weir_loop *loop = seam_loop();
    struct seam_work work;
    freed = 0;
    for (int i = 0; i < 100; i++) {
        struct seam_work *own = malloc(sizeof *own);
        expect(own != NULL);
        seam_work_fill(own, i);
        own->call.then = free_work;
        own->call.context = own;
        seam_submit(loop, &own->call);
    }
    seam_work_fill(&work, 1);
    work.call.then = call_again;
    work.call.context = &work;
    work.call.op.user = loop;
    seam_submit(loop, &work.call);
    expect_equal(seam_run(loop), 0);
    expect_equal(freed, 100);
    expect_equal(work.begun, 100);
    seam_end(loop);
}

static int64_t sum_left;
static uint64_t sum;

static int64_t add_up(void *argument)
{
    uint64_t *number = argument;
    return (int64_t)__atomic_add_fetch(number, 1, __ATOMIC_RELAXED);
}

static void call_while_left(struct tracked *call)
{
    sum += (uint64_t)call->result;
    if (sum_left > 0) {
        sum_left--;
        weir_op_call(&call->op, add_up, call->context);
        call->op.flags = seam_random() % 2 == 0 ? WEIR_SHORT : 0;
        seam_submit(call->op.user, call);
    }
}

SEAM_TEST(many_calls_on_several_workers_run_and_come_back_exactly_once)
{
    enum { LIVE = 64, ALL = 50000 };
    static struct tracked calls[LIVE];
    static uint64_t numbers[LIVE];
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = 3, .offload_depth = LIVE});
    memset(calls, 0, sizeof calls);
    memset(numbers, 0, sizeof numbers);
    sum_left = ALL - LIVE;
    sum = 0;
    for (int i = 0; i < LIVE; i++) {
        calls[i].then = call_while_left;
        calls[i].context = &numbers[i];
        calls[i].op.user = loop;
        weir_op_call(&calls[i].op, add_up, &numbers[i]);
        seam_submit(loop, &calls[i]);
    }
    expect_equal(seam_run(loop), 0);
    uint64_t ran = 0;
    uint64_t answered = 0;
    for (int i = 0; i < LIVE; i++) {
        ran += numbers[i];
        answered += numbers[i] * (numbers[i] + 1) / 2;
        expect_equal(numbers[i], calls[i].calls);
    }
    expect_equal(ran, ALL);
    expect_equal(sum, answered);
    expect_equal(seam_counters(loop).offloaded, ALL);
    seam_end(loop);
}

/* --- asked back ------------------------------------------------------------------------------- */

SEAM_TEST(a_thousand_queued_calls_come_back_cancelled_while_every_worker_is_busy_and_none_runs)
{
    static struct seam_work queued[THOUSAND];
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .offload_workers = 2, .offload_depth = 600, .offload_waiting_max = 500});
    struct seam_work busy[2];
    seam_block(loop, &busy[0]);
    seam_work_fill(&busy[1], 0);
    busy[1].blocks = true;
    busy[1].call.op.flags = WEIR_SHORT; /* the other worker takes nothing else */
    seam_submit(loop, &busy[1].call);
    seam_await_begun(loop, &busy[1]);
    for (int i = 0; i < THOUSAND; i++) {
        seam_work_fill(&queued[i], i);
        queued[i].call.op.flags = i % 2 == 0 ? WEIR_SHORT : 0;
        seam_submit(loop, &queued[i].call);
    }
    seam_turns(loop, 3); /* as many as fit are with the workers, the rest at the gate */
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(seam_cancel(loop, &queued[i].call), 0);
        expect_equal(seam_cancel(loop, &queued[i].call), 0);
    }
    /* Both workers are in their functions until they are told: nobody but the loop can do it. */
    while (weir_loop_live(loop) > 2) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(__atomic_load_n(&busy[0].ended, __ATOMIC_ACQUIRE), 0);
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(queued[i].call.calls, 1);
        expect_equal(queued[i].call.result, -ECANCELED);
    }
    seam_unblock(&busy[0]);
    seam_unblock(&busy[1]);
    expect_equal(seam_run(loop), 0);
    struct seam_work last;
    seam_work_fill(&last, 5);
    expect_equal(seam_carry_out(loop, &last.call), 5); /* what was queued has had its time */
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(seam_begun(&queued[i]), 0);
        expect_equal(queued[i].call.calls, 1);
    }
    seam_end(loop);
}

SEAM_TEST(the_place_of_a_cancelled_call_is_free_for_another)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = 1, .offload_depth = 3});
    struct seam_work busy;
    struct seam_work queued;
    seam_block(loop, &busy);
    for (int i = 0; i < 100; i++) { /* far more than the ring has cells */
        seam_work_fill(&queued, i);
        seam_submit(loop, &queued.call);
        seam_turns(loop, i % 3);
        expect_equal(seam_cancel(loop, &queued.call), 0);
        seam_await(loop, &queued.call);
        expect_equal(queued.call.result, -ECANCELED);
        expect_equal(seam_begun(&queued), 0);
    }
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
}

SEAM_TEST(a_running_call_that_is_cancelled_is_told_and_keeps_its_result)
{
    struct weir_loop *loop = seam_loop_with(one_worker());
    for (int i = 0; i < 20; i++) {
        struct seam_work work;
        seam_work_fill(&work, i % 2 == 0 ? 7 : -EINTR);
        work.until_asked = true;
        seam_submit(loop, &work.call);
        seam_await_begun(loop, &work);
        expect_equal(weir_op_asked(&work.call.op), 0);
        seam_turns(loop, 2);
        expect_equal(work.call.calls, 0);
        expect_equal(seam_cancel(loop, &work.call), -EALREADY);
        expect_equal(seam_cancel(loop, &work.call), -EALREADY);
        expect(weir_op_asked(&work.call.op) != 0);
        seam_await(loop, &work.call);
        expect_equal(work.call.result, work.value);
        expect_equal(work.begun, 1);
    }
    expect_equal(weir_op_asked(NULL), 0);
    seam_end(loop);
}

SEAM_TEST(an_op_is_asked_for_one_life_only)
{
    struct weir_loop *loop = seam_loop_with(one_worker());
    struct seam_work work;
    seam_work_fill(&work, 3);
    work.until_asked = true;
    seam_submit(loop, &work.call);
    seam_await_begun(loop, &work);
    expect_equal(seam_cancel(loop, &work.call), -EALREADY);
    seam_await(loop, &work.call);
    work.until_asked = false;
    work.blocks = true;
    work.begun = 0;
    weir_op_call(&work.call.op, seam_work_do, &work);
    seam_submit(loop, &work.call);
    expect_equal(weir_op_asked(&work.call.op), 0);
    seam_await_begun(loop, &work);
    expect_equal(weir_op_asked(&work.call.op), 0);
    seam_unblock(&work);
    seam_await(loop, &work.call);
    expect_equal(work.call.result, 3);
    seam_end(loop);
}

SEAM_TEST(a_queued_call_past_its_deadline_is_not_run)
{
    struct weir_loop *loop = seam_loop_with(
        (struct weir_options){.offload_workers = 1, .offload_depth = 4, .offload_waiting_max = 4});
    struct seam_work busy;
    struct seam_work queued[7];
    seam_block(loop, &busy);
    for (int i = 0; i < 7; i++) { /* some at the gate */
        seam_work_fill(&queued[i], i);
        queued[i].call.op.deadline_ns = i == 0 ? 1 : weir_now(loop) + (uint64_t)i * WEIR_MS;
        seam_submit(loop, &queued[i].call);
    }
    for (int i = 0; i < 7; i++) {
        seam_await(loop, &queued[i].call); /* while the worker is busy */
        expect_equal(queued[i].call.result, -ETIME);
    }
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    for (int i = 0; i < 7; i++) {
        expect_equal(seam_begun(&queued[i]), 0);
    }
    seam_end(loop);
}

SEAM_TEST(a_running_call_past_its_deadline_is_told_and_keeps_its_result)
{
    struct weir_loop *loop = seam_loop_with(one_worker());
    struct seam_work work;
    int ran = 0;
    do { /* until the worker was quick enough */
        seam_work_fill(&work, 11);
        work.until_asked = true;
        work.call.op.deadline_ns = weir_now(loop) + 20 * WEIR_MS;
        seam_submit(loop, &work.call);
        seam_await_count(loop, &work.call.calls, 1);
        ran = work.call.result == 11;
        expect(ran || work.call.result == -ETIME);
        expect_equal(seam_begun(&work), ran);
    } while (!ran);
    seam_end(loop);
}

SEAM_TEST(calls_are_asked_back_by_task_and_not_by_any_fd)
{
    struct weir_loop *loop = seam_loop_with(one_worker());
    struct weir_task *task = NULL;
    struct seam_work busy;
    struct seam_work queued[4];
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    seam_block(loop, &busy);
    for (int i = 0; i < 4; i++) {
        seam_work_fill(&queued[i], 1);
        queued[i].call.op.task = i < 3 ? task : NULL;
        seam_submit(loop, &queued[i].call);
    }
    seam_turns(loop, 1);
    expect_equal(weir_cancel_fd(loop, 0), 0);
    expect_equal(weir_cancel_task(loop, task), 3);
    for (int i = 0; i < 3; i++) {
        seam_await(loop, &queued[i].call);
        expect_equal(queued[i].call.result, -ECANCELED);
    }
    seam_unblock(&busy);
    seam_await(loop, &queued[3].call);
    expect_equal(queued[3].call.result, 1);
    expect_equal(weir_task_close(task), 0);
    seam_end(loop);
}

/* --- workers ---------------------------------------------------------------------------------- */

struct self {
    sigset_t blocked;
    size_t stack;
    char name[32];
};

static int64_t look_at_myself(void *argument)
{
    struct self *self = argument;
    pthread_attr_t attributes;
    void *base;
    if (pthread_sigmask(SIG_SETMASK, NULL, &self->blocked) != 0 ||
        pthread_getname_np(pthread_self(), self->name, sizeof self->name) != 0 ||
        pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return -1;
    }
    int r = pthread_attr_getstack(&attributes, &base, &self->stack);
    pthread_attr_destroy(&attributes);
    return r;
}

/* Most of what the options promise. */
static int64_t use_the_stack(void *argument)
{
    volatile char room[160 * 1024];
    for (size_t i = 0; i < sizeof room; i += 512) {
        room[i] = (char)i;
    }
    return room[(uintptr_t)argument];
}

/* Cannot be blocked, or must not: what a thread's own fault raises. */
static bool may_come(int number)
{
    static const int numbers[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,
                                  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS};
    for (size_t i = 0; i < SEAM_COUNT(numbers); i++) {
        if (numbers[i] == number) {
            return true;
        }
    }
    return false;
}

/* It has no thread and no stack of its own: the function finds the loop's. */
static void expect_the_loops_thread(const struct self *self)
{
    struct self own = {0};
    expect_equal(look_at_myself(&own), 0);
    expect(memcmp(&own, self, sizeof own) == 0);
}

SEAM_TEST(workers_are_named_block_signals_and_have_the_stack_that_was_asked_for)
{
    static const uint32_t stacks[] = {0, 1 << 20, 4 << 20};
    for (size_t i = 0; i < SEAM_COUNT(stacks); i++) {
        struct weir_loop *loop =
            seam_loop_with((struct weir_options){.offload_workers = 2, .offload_stack = stacks[i]});
        struct self self = {0};
        struct tracked call = {0};
        weir_op_call(&call.op, look_at_myself, &self);
        expect_equal(seam_carry_out(loop, &call), 0);
        if (seam_simulates()) {
            expect_the_loops_thread(&self);
            seam_end(loop);
            continue;
        }
        for (int number = 1; number < 32; number++) { /* two behind these are the C library's */
            expect(may_come(number) || sigismember(&self.blocked, number));
        }
        expect(strncmp(self.name, "weir", 4) == 0);
        expect(self.stack + 8192 >= (stacks[i] == 0 ? 256 << 10 : stacks[i]));
        weir_op_call(&call.op, use_the_stack, (void *)512);
        expect_equal(seam_carry_out(loop, &call), 0);
        seam_end(loop);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_call_runs_on_a_worker_and_comes_back_on_the_loops_thread),
    cmocka_unit_test(a_call_answers_what_its_function_returned_whatever_that_is),
    cmocka_unit_test(a_negative_value_counts_as_a_failure),
    cmocka_unit_test(a_call_may_be_freed_and_resubmitted_in_its_callback),
    cmocka_unit_test(many_calls_on_several_workers_run_and_come_back_exactly_once),
    cmocka_unit_test(
        a_thousand_queued_calls_come_back_cancelled_while_every_worker_is_busy_and_none_runs),
    cmocka_unit_test(the_place_of_a_cancelled_call_is_free_for_another),
    cmocka_unit_test(a_running_call_that_is_cancelled_is_told_and_keeps_its_result),
    cmocka_unit_test(an_op_is_asked_for_one_life_only),
    cmocka_unit_test(a_queued_call_past_its_deadline_is_not_run),
    cmocka_unit_test(a_running_call_past_its_deadline_is_told_and_keeps_its_result),
    cmocka_unit_test(calls_are_asked_back_by_task_and_not_by_any_fd),
    cmocka_unit_test(workers_are_named_block_signals_and_have_the_stack_that_was_asked_for),
};

const struct seam_group call_group = SEAM_GROUP("call", tests);
