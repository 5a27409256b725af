/* SPDX-License-Identifier: MIT */
/* engine/offload/offload.h: there and back, withdrawing, the lanes' promises. */
#include "offload_world.h"

#include <engine/base/clock.h>
#include <engine/base/rest.h>
#include <engine/offload/worker.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>

/* --- there and back --------------------------------------------------------------------------- */

static void a_call_runs_on_a_worker_and_comes_back_with_its_value(void **state)
{
    (void)state;
    assert_int_equal(open_world(2, 8, 0), 0);
    assert_null(weir_offload_take(offload));
    push(7, 1, WEIR_LANE_SHORT);
    wait_finished(1);
    assert_true(weir_offload_has_finished(offload));
    assert_ptr_equal(weir_offload_take(offload), &jobs[7].op);
    assert_int_equal(jobs[7].op.result, 7);
    assert_int_equal(jobs[7].runs, 1);
    assert_true(jobs[7].ran_on < 2);
}

static void finished_ops_come_back_oldest_first(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, JOBS, 0), 0);
    push(0, JOBS, WEIR_LANE_SHORT);
    wait_finished(JOBS);
    struct weir_op *op = weir_offload_take(offload);
    for (uint32_t i = 0; i < JOBS; i++, op = op->held.link.next) {
        assert_ptr_equal(op, &jobs[i].op);
        assert_int_equal(op->result, i);
    }
    assert_null(op);
}

static void a_withdrawn_op_never_runs(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 16, 0), 0);
    occupy(0, WEIR_LANE_SHORT);
    push(1, 8, WEIR_LANE_SHORT);
    push(9, 4, WEIR_LANE_LONG);
    for (uint32_t i = 2; i <= 12; i += 2) {
        assert_true(weir_offload_withdraw(offload, &jobs[i].op));
        assert_false(weir_offload_withdraw(offload, &jobs[i].op));
    }
    sem_post(&let_go);
    run_out(7);
    for (uint32_t i = 1; i <= 12; i++) {
        assert_int_equal(jobs[i].runs, i % 2);
    }
}

static void an_op_that_was_not_flushed_can_be_withdrawn(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 2, 0), 0);
    weir_offload_push(offload, &jobs[0].op, WEIR_LANE_LONG);
    assert_true(weir_offload_withdraw(offload, &jobs[0].op));
    push(1, 1, WEIR_LANE_LONG);
    run_out(1);
    assert_int_equal(jobs[0].runs, 0);
    assert_int_equal(jobs[1].runs, 1);
}

static void what_runs_or_has_finished_cannot_be_withdrawn(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 4, 0), 0);
    occupy(0, WEIR_LANE_LONG);
    assert_false(weir_offload_withdraw(offload, &jobs[0].op));
    sem_post(&let_go);
    wait_finished(1);
    assert_false(weir_offload_withdraw(offload, &jobs[0].op));
    assert_ptr_equal(weir_offload_take(offload), &jobs[0].op);
}

static void an_op_past_its_deadline_is_not_run(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 4, 0), 0);
    jobs[0].op.deadline_ns = weir_clock_monotonic();
    jobs[1].op.deadline_ns = weir_clock_monotonic() + 3600000000000ULL;
    push(0, 2, WEIR_LANE_SHORT);
    run_out(2);
    assert_int_equal(jobs[0].op.result, -ETIME);
    assert_int_equal(jobs[0].runs, 0);
    assert_int_equal(jobs[1].op.result, 1);
    assert_int_equal(jobs[1].runs, 1);
}

/* I/O, which no function of the caller's could tell. */
static void io_asked_back_before_a_worker_begins_is_not_done(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 4, 0), 0);
    char byte = 'a';
    weir_op_read(&jobs[0].op, open("/dev/zero", O_RDONLY | O_CLOEXEC), &byte, 1, 0);
    jobs[0].op.asked_back = WEIR_ASKED_CANCEL;
    push(0, 2, WEIR_LANE_SHORT);
    run_out(2);
    assert_int_equal(jobs[0].op.result, -ECANCELED);
    assert_int_equal(byte, 'a');
    assert_int_equal(jobs[1].runs, 1);
    close(jobs[0].op.fd);
}

/* It is asked back when it cannot be withdrawn any more: it runs, and may look. */
static void a_call_asked_back_after_it_was_taken_runs(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 4, 0), 0);
    jobs[3].op.asked_back = WEIR_ASKED_CANCEL;
    push(3, 1, WEIR_LANE_SHORT);
    run_out(1);
    assert_int_equal(jobs[3].runs, 1);
    assert_int_equal(jobs[3].op.result, 3);
}

/* --- before the flush ------------------------------------------------------------------------- */

static void push_unflushed(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        weir_offload_push(offload, &jobs[i].op, WEIR_LANE_LONG);
    }
}

static void await_idle(void)
{
    while (!__atomic_load_n(&offload->idle[0], __ATOMIC_SEQ_CST)) {
        usleep(100);
    }
}

static void many_pushes_are_not_kept_for_the_flush(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, JOBS, 0), 0);
    push_unflushed(0, 8);
    wait_finished(8);
    assert_int_equal(jobs[7].runs, 1);
}

/* The worker has gone back to sleep, and is woken a second time by the flush alone. */
static void a_flush_wakes_for_what_was_shown_before(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, JOBS, 0), 0);
    for (uint32_t more = 8; more < 10; more++) {
        push_unflushed(0, 8);
        wait_finished(8);
        await_idle();
        push_unflushed(8, more);
        weir_offload_flush(offload);
        wait_finished(more);
        assert_non_null(weir_offload_take(offload));
    }
}

static void open_where_looks_are_made(void)
{
    if (weir_cpus_of_thread() == 1) {
        print_message("skipped: on one CPU nobody looks\n");
        skip();
    }
    assert_int_equal(open_world(1, JOBS, 0), 0);
}

static bool has_finished(const void *context)
{
    (void)context;
    return weir_offload_has_finished(offload);
}

static bool watch(void)
{
    return weir_offload_watch(offload, UINT64_MAX, UINT64_MAX, has_finished, NULL);
}

static void a_watch_sees_what_has_finished_and_needs_nothing_out(void **state)
{
    (void)state;
    open_where_looks_are_made();
    assert_false(watch());
    push(0, 2, WEIR_LANE_LONG);
    wait_finished(2);
    assert_true(watch());
    assert_non_null(weir_offload_take(offload));
    assert_false(watch());
    assert_int_equal(offload->out, 0);
    weir_offload_push(offload, &jobs[0].op, WEIR_LANE_LONG);
    assert_int_equal(offload->out, 1);
    assert_true(weir_offload_withdraw(offload, &jobs[0].op));
    assert_int_equal(offload->out, 0);
}

static bool see_nothing(const void *context)
{
    ++*(unsigned *)(uintptr_t)context;
    return false;
}

static void a_watch_ends_by_its_time_and_sees_what_it_is_told_to(void **state)
{
    (void)state;
    unsigned looks = 0;
    open_where_looks_are_made();
    push(0, 1, WEIR_LANE_LONG);
    wait_finished(1);
    assert_false(weir_offload_watch(offload, UINT64_MAX, UINT64_MAX, see_nothing, &looks));
    assert_true(looks >= WEIR_LOOKS_A_CLOCK_READING);
    looks = 0;
    assert_false(weir_offload_watch(offload, UINT64_MAX, 1, see_nothing, &looks)); /* is past */
    assert_int_equal(looks, WEIR_LOOKS_A_CLOCK_READING);
    looks = 0;
    assert_false(weir_offload_watch(offload, 0, UINT64_MAX, see_nothing, &looks));
    assert_int_equal(looks, WEIR_LOOKS_A_CLOCK_READING);
}

static bool see_other(const void *context)
{
    ++*(unsigned *)(uintptr_t)context;
    return true;
}

static void what_others_bring_makes_no_look_pay(void **state)
{
    (void)state;
    unsigned looks = 0;
    open_where_looks_are_made();
    occupy(0, WEIR_LANE_LONG);
    for (uint32_t i = 0; i < WEIR_LOOK_MISSES_FREE; i++) {
        assert_true(weir_offload_watch(offload, UINT64_MAX, UINT64_MAX, see_other, &looks));
    }
    assert_false(weir_offload_watch(offload, UINT64_MAX, UINT64_MAX, see_other, &looks));
    assert_int_equal(looks, WEIR_LOOK_MISSES_FREE);
    sem_post(&let_go);
}

static void who_shares_its_only_cpu_does_not_look(void **state)
{
    (void)state;
    cpu_set_t all;
    cpu_set_t one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(weir_cpus_of_thread(), 1);
    assert_int_equal(open_world(1, JOBS, 0), 0);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    push(0, 1, WEIR_LANE_LONG);
    wait_finished(1);
    assert_false(watch()); /* it is there, and would be seen */
    usleep(2000);          /* the worker would look, and in vain */
    weir_offload_close(offload);
    const struct weir_look *look = &offload->workers[0].look; /* its own until it has ended */
    assert_int_equal(look->missed + look->skipped, 0);
    offload = NULL;
}

static void who_looks_in_vain_looks_less_until_it_pays(void **state)
{
    (void)state;
    struct weir_look look = {0};
    uint32_t looks = 0;
    for (uint32_t i = 0; i < WEIR_LOOK_MISSES_FREE + 4 * WEIR_LOOK_EVERY; i++) {
        if (weir_look_now(&look)) {
            looks++;
            weir_look_learn(&look, false);
        }
    }
    assert_int_equal(looks, WEIR_LOOK_MISSES_FREE + 4);
    weir_look_learn(&look, true);
    for (uint32_t i = 0; i < WEIR_LOOK_MISSES_FREE; i++) {
        assert_true(weir_look_now(&look));
        weir_look_learn(&look, false);
    }
}

/* Tombstones fill the ring hundreds of times over while the worker is busy. */
static void withdrawn_places_are_used_again_and_the_order_is_kept(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 8, 0), 0);
    occupy(0, WEIR_LANE_SHORT);
    push(1, 3, WEIR_LANE_SHORT);
    for (uint32_t i = 0; i < 5000; i++) {
        push(10, 3, WEIR_LANE_SHORT);
        for (uint32_t j = 10; j < 13; j++) {
            assert_true(weir_offload_withdraw(offload, &jobs[j].op));
        }
        if (i == 2500) {
            push(4, 1, WEIR_LANE_SHORT);
        }
    }
    sem_post(&let_go);
    run_out(5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(jobs[i].ran_at, i);
    }
    for (uint32_t i = 10; i < 13; i++) {
        assert_int_equal(jobs[i].runs, 0);
    }
}

/* A consumer that claimed a place and then did not run: its cell is not overwritten. */
static void a_lap_around_a_slow_consumer_loses_and_doubles_nothing(void **state)
{
    (void)state;
    struct weir_op *cells[4] = {NULL};
    struct weir_ring ring;
    uint32_t slow_taken = 0;
    weir_ring_init(&ring, cells, COUNT_OF(cells), 0);
    weir_ring_push(&ring, &jobs[0].op);
    weir_ring_publish(&ring);
    ring.head++; /* claimed, and not emptied */
    for (uint32_t i = 1; i <= 40; i++) {
        weir_ring_push(&ring, &jobs[i].op);
        weir_ring_publish(&ring);
        assert_true(weir_ring_may_have(&ring));
        struct weir_op *op = weir_ring_take(&ring);
        if (op == &jobs[0].op) { /* its cell came round again, and another took it there */
            slow_taken++;
            op = weir_ring_take(&ring);
        }
        assert_ptr_equal(op, &jobs[i].op);
    }
    assert_int_equal(slow_taken, 1);
    assert_null(weir_ring_take(&ring));
    assert_false(weir_ring_may_have(&ring));
    assert_null(cells[0]); /* what the slow one finds */
}

/* What the workers were not woken for yet, or saw taken away, they are woken for again. */
static void tombstones_are_cleared_and_what_is_left_is_published_again(void **state)
{
    (void)state;
    struct weir_op *cells[8] = {NULL};
    struct weir_ring ring;
    weir_ring_init(&ring, cells, COUNT_OF(cells), 0);
    weir_ring_push(&ring, &jobs[0].op);
    weir_ring_push(&ring, &jobs[1].op);
    assert_int_equal(weir_ring_publish(&ring), 2);
    for (uint32_t lap = 0; lap < 100; lap++) {
        for (uint32_t i = 0; i < 6; i++) {
            weir_ring_push(&ring, &jobs[2].op);
            assert_int_equal(weir_ring_publish(&ring), lap > 0 && i == 0 ? 3 : 1);
            cells[jobs[2].op.held.carrier.position] = NULL;
            assert_true(ring.tail - ring.head <= COUNT_OF(cells));
        }
    }
    assert_ptr_equal(weir_ring_take(&ring), &jobs[0].op);
    assert_ptr_equal(weir_ring_take(&ring), &jobs[1].op);
    assert_null(weir_ring_take(&ring));
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void short_work_runs_before_long_work_that_was_there_first(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 16, 0), 0);
    occupy(0, WEIR_LANE_LONG);
    push(1, 3, WEIR_LANE_LONG);
    push(4, 3, WEIR_LANE_SHORT);
    sem_post(&let_go);
    run_out(7);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(jobs[i].ran_at, i + 3);
        assert_int_equal(jobs[i + 3].ran_at, i);
    }
}

static void every_eighth_take_is_long_work(void **state)
{
    (void)state;
    assert_int_equal(open_world(1, 128, 0), 0);
    occupy(0, WEIR_LANE_LONG);
    push(1, 4, WEIR_LANE_LONG);
    push(5, 100, WEIR_LANE_SHORT);
    sem_post(&let_go);
    run_out(105);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(jobs[i].ran_at, i * 8);
    }
}

static void one_of_several_workers_never_takes_long_work(void **state)
{
    (void)state;
    assert_int_equal(open_world(3, 32, 0), 0);
    for (uint32_t i = 0; i < 2; i++) {
        occupy(i, WEIR_LANE_LONG);
    }
    push(2, 8, WEIR_LANE_LONG);
    push(10, 8, WEIR_LANE_SHORT);
    run_out(8); /* though all who take long work are busy */
    for (uint32_t i = 0; i < 18; i++) {
        assert_int_equal(jobs[i].runs, i < 2 || i >= 10);
        assert_true(i < 10 || jobs[i].ran_on == 0);
    }
    sem_post(&let_go);
    sem_post(&let_go);
    run_out(10);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(jobs[i].runs, 1);
        assert_int_not_equal(jobs[i].ran_on, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OFFLOAD_TEST(a_call_runs_on_a_worker_and_comes_back_with_its_value),
        OFFLOAD_TEST(finished_ops_come_back_oldest_first),
        OFFLOAD_TEST(a_withdrawn_op_never_runs),
        OFFLOAD_TEST(an_op_that_was_not_flushed_can_be_withdrawn),
        OFFLOAD_TEST(what_runs_or_has_finished_cannot_be_withdrawn),
        OFFLOAD_TEST(an_op_past_its_deadline_is_not_run),
        OFFLOAD_TEST(io_asked_back_before_a_worker_begins_is_not_done),
        OFFLOAD_TEST(a_call_asked_back_after_it_was_taken_runs),
        OFFLOAD_TEST(many_pushes_are_not_kept_for_the_flush),
        OFFLOAD_TEST(a_flush_wakes_for_what_was_shown_before),
        OFFLOAD_TEST(a_watch_sees_what_has_finished_and_needs_nothing_out),
        OFFLOAD_TEST(a_watch_ends_by_its_time_and_sees_what_it_is_told_to),
        OFFLOAD_TEST(what_others_bring_makes_no_look_pay),
        OFFLOAD_TEST(who_shares_its_only_cpu_does_not_look),
        OFFLOAD_TEST(who_looks_in_vain_looks_less_until_it_pays),
        OFFLOAD_TEST(withdrawn_places_are_used_again_and_the_order_is_kept),
        OFFLOAD_TEST(a_lap_around_a_slow_consumer_loses_and_doubles_nothing),
        OFFLOAD_TEST(tombstones_are_cleared_and_what_is_left_is_published_again),
        OFFLOAD_TEST(short_work_runs_before_long_work_that_was_there_first),
        OFFLOAD_TEST(every_eighth_take_is_long_work),
        OFFLOAD_TEST(one_of_several_workers_never_takes_long_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
