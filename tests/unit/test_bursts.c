/* SPDX-License-Identifier: MIT */
/*
 * Ops with several completions, through a loop whose backend is played by the test: no real one has
 * any yet. What a burst holds, what it is handed, and what an end for want of room becomes. And, by
 * the same means, what ends a spin.
 */
#include "unit.h"

#include <engine/loop/admit.h>
#include <sched.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define DEPTH 8

static struct weir_loop *loop;
static const struct weir_backend_table *real;
static struct weir_backend_table played;

/* The carrier. */
static struct weir_op *staged[EVENTS_MAX];
static unsigned staged_count;
static struct weir_op *asked;
static struct weir_event given[EVENTS_MAX];
static unsigned given_count;

static enum weir_staged stage(struct weir_backend *backend, struct weir_op *op)
{
    (void)backend;
    assert_true(staged_count < EVENTS_MAX);
    staged[staged_count++] = op;
    return WEIR_TAKEN;
}

static enum weir_cancelled cancel(struct weir_backend *backend, struct weir_op *op)
{
    (void)backend;
    asked = op;
    return WEIR_CANCEL_ASKED;
}

/* Never sleeps: a test that waits for what it did not give fails. */
static int turn(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                uint32_t max)
{
    (void)until_ns;
    assert_true(given_count <= max);
    for (unsigned i = 0; i < given_count; i++) {
        events[i] = given[i];
    }
    backend->unsettled = true;
    backend->stamp_ns = real->now(backend, WEIR_NOW_STAMP);
    int count = (int)given_count;
    given_count = 0;
    return count;
}

static void give(struct weir_op *op, int64_t result, enum weir_more more)
{
    given[given_count++] = (struct weir_event){.op = op, .result = result, .more = more};
}

/* What the callbacks were told. */
static struct {
    struct weir_op *op;
    int64_t result;
    unsigned more;
} told[EVENTS_MAX];
static unsigned told_count;
static int cancel_in_callback; /* of the next one; then what the cancel answered */

static void called(struct weir_op *op)
{
    told[told_count].op = op;
    told[told_count].result = op->result;
    told[told_count++].more = op->more;
    if (cancel_in_callback == 1) {
        cancel_in_callback = weir_cancel(loop, op);
    }
}

static void assert_told(unsigned i, const struct weir_op *op, int64_t result, enum weir_more more)
{
    assert_true(i < told_count);
    assert_ptr_equal(told[i].op, op);
    assert_int_equal(told[i].result, result);
    assert_int_equal(told[i].more, more);
}

static int open_loop(void **state)
{
    (void)state;
    staged_count = given_count = told_count = 0;
    asked = NULL;
    cancel_in_callback = 0;
    struct weir_options options = {.policy = WEIR_EPOLL, .offload_workers = 1, .depth = DEPTH};
    options.waiting_max = 16;
    int r = weir_loop_open(&options, &loop);
    if (r == 0) {
        struct weir_backend *backend = weir_loop_backend(loop);
        real = backend->table;
        played = *real;
        played.stage = stage;
        played.cancel = cancel;
        played.turn = turn;
        backend->table = &played;
        backend->bursts = 1ULL << WEIR_KIND_SPLICE;
    }
    return r;
}

static int close_loop(void **state)
{
    (void)state;
    struct weir_backend *backend = weir_loop_backend(loop);
    backend->table = real;
    return weir_loop_close(loop, 20 * WEIR_S, NULL);
}

static void fill(struct weir_op *op, uint16_t burst)
{
    weir_op_splice(op, 0, WEIR_CURRENT, 1, WEIR_CURRENT, 4096, 0);
    op->callback = called;
    op->burst = burst;
}

static void submit(struct weir_op *op, uint16_t burst)
{
    fill(op, burst);
    assert_int_equal(weir_submit(loop, op), 0);
}

static uint32_t in_flight(void)
{
    struct weir_gate_state gate;
    assert_int_equal(weir_loop_gate(loop, NULL, &gate), 0);
    assert_int_equal(gate.in_flight, weir_gate_in_flight(&loop->gate));
    return gate.in_flight;
}

static void turn_once(int want)
{
    assert_int_equal(weir_loop_turn(loop, 0), want);
}

static void a_burst_is_for_kinds_that_the_backend_carries_so(void **state)
{
    (void)state;
    struct weir_op op = {.callback = called};
    weir_op_nop(&op);
    op.burst = 2;
    assert_int_equal(weir_submit(loop, &op), -EINVAL);
    assert_int_equal(weir_loop_post(loop, &op), -EINVAL);
    assert_int_equal(op.state, 0);
    op.burst = 1; /* what every op holds */
    assert_int_equal(weir_submit(loop, &op), 0);
    turn_once(0);
    give(&op, 0, WEIR_LAST);
    turn_once(1);
    fill(&op, 2);
    op.route = WEIR_ROUTE_OFFLOAD; /* a worker has one result */
    assert_int_equal(weir_submit(loop, &op), -EINVAL);
    op.route = WEIR_ROUTE_AUTO;
    weir_loop_backend(loop)->bursts = 0;
    assert_int_equal(weir_submit(loop, &op), -EINVAL);
}

static void it_holds_its_credits_until_its_last_completion(void **state)
{
    (void)state;
    struct weir_op op = {0};
    submit(&op, 3);
    turn_once(0);
    assert_int_equal(in_flight(), 3);
    give(&op, 10, WEIR_MORE);
    give(&op, 20, WEIR_MORE);
    turn_once(2);
    assert_told(0, &op, 10, WEIR_MORE);
    assert_told(1, &op, 20, WEIR_MORE);
    assert_int_equal(in_flight(), 3);
    assert_int_equal(weir_submit(loop, &op), -EBUSY); /* live still */
    give(&op, 30, WEIR_MORE);
    give(&op, 0, WEIR_LAST);
    turn_once(2);
    assert_told(2, &op, 30, WEIR_MORE);
    assert_told(3, &op, 0, WEIR_LAST);
    assert_int_equal(in_flight(), 0);
    assert_int_equal(weir_loop_live(loop), 0);
    assert_int_equal(staged_count, 1);
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_int_equal(counters.submitted, 1);
    assert_int_equal(counters.finished, 1);
    assert_int_equal(counters.rearmed, 0);
    op.burst = 0;
}

static void an_end_for_want_of_room_is_told_counted_and_started_again(void **state)
{
    (void)state;
    struct weir_op op = {0};
    struct weir_counters counters;
    submit(&op, 3);
    turn_once(0);
    for (unsigned i = 1; i <= 3; i++) {
        give(&op, 10, WEIR_MORE);
        give(&op, 7, WEIR_LAST); /* a success, and no MORE: the queue was full */
        turn_once(2);
        assert_told(2 * i - 2, &op, 10, WEIR_MORE);
        assert_told(2 * i - 1, &op, 7, WEIR_REARMED);
        assert_int_equal(staged_count, 1 + i);
        assert_ptr_equal(staged[i], &op);
        assert_int_equal(in_flight(), 3);
        assert_int_equal(weir_loop_counters(loop, &counters), 0);
        assert_int_equal(counters.rearmed, i);
        assert_int_equal(counters.finished, 0);
    }
    give(&op, -ECONNRESET, WEIR_LAST);
    turn_once(1);
    assert_told(6, &op, -ECONNRESET, WEIR_LAST);
    assert_int_equal(weir_loop_live(loop), 0);
    assert_int_equal(in_flight(), 0);
}

static void a_cancel_in_the_middle_brings_what_had_come_and_then_the_end(void **state)
{
    (void)state;
    struct weir_op op = {0};
    submit(&op, 4);
    turn_once(0);
    give(&op, 1, WEIR_MORE);
    give(&op, 2, WEIR_MORE);
    cancel_in_callback = 1;
    turn_once(2);
    assert_int_equal(cancel_in_callback, 0);
    assert_ptr_equal(asked, &op);
    assert_told(1, &op, 2, WEIR_MORE);
    assert_int_equal(in_flight(), 4);
    give(&op, 3, WEIR_MORE);
    give(&op, -ECANCELED, WEIR_LAST);
    turn_once(2);
    assert_told(2, &op, 3, WEIR_MORE);
    assert_told(3, &op, -ECANCELED, WEIR_LAST);
    assert_int_equal(in_flight(), 0);
    submit(&op, 4);
    turn_once(0);
    assert_int_equal(weir_cancel(loop, &op), 0);
    give(&op, 5, WEIR_LAST); /* full, and asked for: the end, and not started again */
    turn_once(1);
    assert_told(4, &op, 5, WEIR_LAST);
    assert_int_equal(staged_count, 2);
    assert_int_equal(weir_loop_live(loop), 0);
}

/* The last one came with it: cancel says so, and the loop does not ask for it. */
static void in_the_callback_of_one_before_the_last_it_has_finished(void **state)
{
    (void)state;
    struct weir_op op = {0};
    submit(&op, 2);
    turn_once(0);
    give(&op, 1, WEIR_MORE);
    give(&op, 0, WEIR_LAST);
    cancel_in_callback = 1;
    turn_once(2);
    assert_int_equal(cancel_in_callback, -EALREADY);
    assert_null(asked);
    assert_told(1, &op, 0, WEIR_LAST);
}

static void credits_of_all_together_never_pass_the_depth(void **state)
{
    (void)state;
    struct weir_op ops[6] = {{0}};
    static const uint16_t bursts[] = {3, 3, 2, 1, 500, 1};
    static const uint32_t want[] = {8, 8, 8, 8, 8, 1}; /* in flight once the first i are back */
    for (unsigned i = 0; i < 6; i++) {
        submit(&ops[i], bursts[i]);
    }
    turn_once(0);
    assert_int_equal(staged_count, 3); /* 3 + 3 + 2 */
    for (unsigned i = 0; i < 6; i++) {
        turn_once(0);
        assert_int_equal(staged[i]->state, WEIR_IN_FLIGHT);
        assert_ptr_equal(staged[i], &ops[i]); /* in the order they came */
        assert_true(in_flight() <= want[i]);
        give(&ops[i], 0, WEIR_LAST);
        turn_once(1);
    }
    assert_int_equal(in_flight(), 0);
    assert_int_equal(staged_count, 6);
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_int_equal(counters.cq_overflow, 0);
}

/* A wide op that waits is not counted as one credit by who asks whether it would wait. */
static void who_would_stand_behind_a_wide_op_is_told_that_it_would_wait(void **state)
{
    (void)state;
    struct weir_op first = {0};
    struct weir_op wide = {0};
    struct weir_op op = {.callback = called};
    submit(&first, 2);
    turn_once(0);
    submit(&wide, DEPTH); /* finds DEPTH - 2 */
    turn_once(0);
    assert_int_equal(staged_count, 1);
    weir_op_nop(&op);
    op.flags = WEIR_OR_REFUSE;
    assert_int_equal(weir_submit(loop, &op), -EAGAIN);
    op.flags = 0;
    assert_int_equal(weir_submit(loop, &op), 0);
    turn_once(0);
    assert_int_equal(staged_count, 1);
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_int_equal(counters.waited, 2);
    give(&first, 0, WEIR_LAST);
    turn_once(1);
    turn_once(0);
    give(&wide, 0, WEIR_LAST);
    turn_once(1);
    turn_once(0);
    give(&op, 0, WEIR_LAST);
    turn_once(1);
    assert_int_equal(weir_loop_live(loop), 0);
}

/* The short way of submit knows of it too. */
static void beside_a_wide_op_plain_ones_find_what_it_leaves(void **state)
{
    (void)state;
    struct weir_op wide = {0};
    struct weir_op ops[3] = {{0}};
    submit(&wide, DEPTH - 2);
    turn_once(0);
    loop->refuses = true;
    for (int i = 0; i < 3; i++) {
        ops[i].callback = called;
        weir_op_nop(&ops[i]);
        assert_int_equal(weir_submit(loop, &ops[i]), i < 2 ? 0 : -EAGAIN);
    }
    turn_once(0);
    assert_int_equal(in_flight(), DEPTH);
    give(&ops[0], 0, WEIR_LAST);
    give(&ops[1], 0, WEIR_LAST);
    give(&wide, 0, WEIR_LAST);
    turn_once(3);
    assert_int_equal(weir_loop_live(loop), 0);
}

/* What is reserved when it is admitted decides how many credits it gets, not when it came; as by
 * weir_loop_fd(), before others are submitted. */
static void credits_that_changed_while_it_waited_are_not_given_twice(void **state)
{
    (void)state;
    struct weir_task *task;
    struct weir_task_options options = {.name = "reserve", .reserve = 4};
    assert_int_equal(weir_task_open(loop, &options, &task), 0);
    struct weir_op wide = {0};
    submit(&wide, DEPTH);
    assert_int_equal(weir_task_close(task), 0);
    weir_loop_admit(loop, false);
    assert_int_equal(in_flight(), DEPTH);
    struct weir_op ops[4] = {0};
    for (unsigned i = 0; i < 4; i++) {
        submit(&ops[i], 0);
    }
    turn_once(0);
    assert_int_equal(in_flight(), DEPTH);
    assert_int_equal(staged_count, 1);
    give(&wide, 0, WEIR_LAST);
    turn_once(1);
    turn_once(0);
    for (unsigned i = 0; i < 4; i++) {
        give(&ops[i], 0, WEIR_LAST);
    }
    turn_once(4);
}

static void a_wide_op_that_got_fewer_credits_leaves_the_rest_to_others(void **state)
{
    (void)state;
    struct weir_op wide = {0};
    submit(&wide, 5);
    struct weir_task *task;
    struct weir_task_options options = {.name = "reserve", .reserve = 5};
    assert_int_equal(weir_task_open(loop, &options, &task), 0);
    turn_once(0);
    assert_int_equal(loop->plain_most, weir_gate_plain_max(&loop->gate));
    give(&wide, 0, WEIR_LAST);
    turn_once(1);
    assert_int_equal(loop->plain_most, weir_gate_plain_max(&loop->gate));
    assert_int_equal(weir_task_close(task), 0);
}

/* --- a spin ----------------------------------------------------------------------------------- */

static bool ended; /* the call's function has */

static int64_t nap(void *argument)
{
    (void)argument;
    usleep(2000);
    __atomic_store_n(&ended, true, __ATOMIC_RELEASE);
    return 0;
}

/* The loop's thread does not run between its last look at the backend and the end of the call. */
static int turn_and_stand(struct weir_backend *backend, uint64_t until_ns,
                          struct weir_event *events, uint32_t max)
{
    int count = real->turn(backend, until_ns, events, max);
    while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE) ||
           !weir_offload_has_finished(loop->offload)) {
        sched_yield();
    }
    return count;
}

static void what_ends_a_spin_is_stamped_behind_it(void **state)
{
    (void)state;
    struct weir_options options = {.offload_workers = 1, .spin_ns_max = 100 * WEIR_MS};
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    struct weir_backend *backend = weir_loop_backend(loop);
    real = backend->table;
    played = *real;
    played.turn = turn_and_stand;
    backend->table = &played;
    told_count = 0;
    struct weir_op op = {.callback = called};
    weir_op_call(&op, nap, NULL);
    assert_int_equal(weir_submit(loop, &op), 0);
    assert_int_equal(weir_loop_turn(loop, -1), 1);
    const struct weir_histogram *stages = loop->tasks.of_kind[WEIR_KIND_CALL]->stages;
    assert_true(stages[WEIR_STAGE_RUN].max >= 2 * WEIR_MS);
    assert_true(stages[WEIR_STAGE_FLIGHT].max >=
                stages[WEIR_STAGE_QUEUE].max + stages[WEIR_STAGE_RUN].max);
    close_loop(NULL);
}

int main(void)
{
#define BURST_TEST(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)
    const struct CMUnitTest tests[] = {
        BURST_TEST(a_burst_is_for_kinds_that_the_backend_carries_so),
        BURST_TEST(it_holds_its_credits_until_its_last_completion),
        BURST_TEST(an_end_for_want_of_room_is_told_counted_and_started_again),
        BURST_TEST(a_cancel_in_the_middle_brings_what_had_come_and_then_the_end),
        BURST_TEST(in_the_callback_of_one_before_the_last_it_has_finished),
        BURST_TEST(credits_of_all_together_never_pass_the_depth),
        BURST_TEST(who_would_stand_behind_a_wide_op_is_told_that_it_would_wait),
        BURST_TEST(beside_a_wide_op_plain_ones_find_what_it_leaves),
        BURST_TEST(credits_that_changed_while_it_waited_are_not_given_twice),
        BURST_TEST(a_wide_op_that_got_fewer_credits_leaves_the_rest_to_others),
        cmocka_unit_test(what_ends_a_spin_is_stamped_behind_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
