/* SPDX-License-Identifier: MIT */
/* test_sim_ends.c: how ops and loops of a simulated world end: asked back, crashed, closed. */
#include "sim_world.h"

static int64_t work(void *argument)
{
    (void)argument;
    return 1;
}

/* --- being asked back ------------------------------------------------------------------------- */

static void an_op_is_cancelled_or_expires_wherever_it_is(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop =
        open_loop_with((struct weir_options){.sim.world = sim, .depth = 1, .waiting_max = 1});
    struct weir_op op = {0};
    struct weir_op behind = {0};
    char byte;
    int calls;
    int behind_calls;
    int fds[2];
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    /* Not left yet. */
    weir_op_read(&op, fds[0], &byte, 1, 0);
    start(loop, &op, &calls);
    assert_int_equal(weir_cancel(loop, &op), 0);
    assert_int_equal(await(loop, &op, &calls), -ECANCELED);
    /* Waiting for the pipe; another at the gate. */
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    weir_op_nop(&behind);
    start(loop, &behind, &behind_calls);
    assert_int_equal(weir_cancel(loop, &behind), 0);
    assert_int_equal(await(loop, &behind, &behind_calls), -ECANCELED);
    assert_int_equal(weir_cancel(loop, &op), 0);
    assert_int_equal(weir_cancel(loop, &op), 0);
    assert_int_equal(await(loop, &op, &calls), -ECANCELED);
    assert_int_equal(weir_cancel(loop, &op), -ENOENT);
    /* By its deadline, to the nanosecond or a turn's time later. */
    uint64_t deadline_ns = weir_now(loop) + 3 * WEIR_MS;
    op.deadline_ns = deadline_ns;
    start(loop, &op, &calls);
    assert_int_equal(await(loop, &op, &calls), -ETIME);
    assert_in_range(weir_now(loop), deadline_ns, deadline_ns + 10 * WEIR_US);
    close_world(sim, loop);
}

static void a_file_op_in_flight_is_cancelled_in_time_or_not(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    int cancelled = 0;
    for (int i = 0; i < 100; i++) {
        struct weir_op op = {0};
        char text[8];
        int calls;
        weir_op_write(&op, file, "x", 1, 0);
        assert_true(write_text(loop, file, "-", 0) == 1);
        start(loop, &op, &calls);
        assert_int_equal(weir_loop_turn(loop, 0), 0);
        assert_int_equal(weir_cancel(loop, &op), 0);
        int64_t r = await(loop, &op, &calls);
        assert_true(r == 1 || r == -ECANCELED);
        cancelled += r < 0;
        assert_int_equal(read_text(loop, file, text, sizeof text, 0), 1);
        assert_int_equal(text[0], r == 1 ? 'x' : '-');
    }
    assert_in_range(cancelled, 20, 80);
    close_world(sim, loop);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
    struct weir_op op;
    struct weir_op other;
    struct weir_loop *loop;
    int calls;
    int posted;
    int asked;
};

static int64_t try_what_a_worker_may_not(void *argument)
{
    struct call *call = argument;
    struct weir_op op = {0};
    weir_op_nop(&op);
    op.callback = on_done;
    assert_int_equal(weir_submit(call->loop, &op), -EPERM);
    assert_int_equal(weir_cancel(call->loop, &call->op), -EPERM);
    assert_int_equal(weir_loop_turn(call->loop, 0), -EPERM);
    assert_int_equal(weir_loop_run(call->loop), -EPERM);
    assert_int_equal(weir_loop_close(call->loop, 0, NULL), -EPERM);
    assert_int_equal(weir_loop_abandon(call->loop), -EPERM);
    assert_int_equal(weir_loop_wake(call->loop), 0);
    weir_op_nop(&call->other);
    call->other.callback = on_done;
    call->other.user = &call->posted;
    assert_int_equal(weir_loop_post(call->loop, &call->other), 0);
    call->asked = weir_op_asked(&call->op);
    return 7;
}

static bool lets_nothing_end(struct weir_op *op)
{
    (void)op;
    return false;
}

static void an_op_whose_cancel_came_too_late_does_not_wait_afterwards(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct weir_sim *sim = open_world(seed, NULL);
        struct weir_loop *loop = open_loop(sim);
        struct weir_op op = {0};
        int calls;
        int fds[2];
        int file = open_file(loop, "/file", O_RDWR | O_CREAT);
        assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
        weir_op_splice(&op, fds[0], WEIR_CURRENT, file, 0, 8, 0);
        start(loop, &op, &calls);
        assert_int_equal(weir_loop_turn(loop, 0), 0); /* on its way, to find the pipe empty */
        assert_int_equal(weir_cancel(loop, &op), 0);
        assert_int_equal(await(loop, &op, &calls), -ECANCELED);
        close_world(sim, loop);
    }
}

static void a_calls_function_is_refused_what_a_worker_is(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct call call = {.loop = open_loop(sim)};
    weir_op_call(&call.op, try_what_a_worker_may_not, &call);
    assert_int_equal(carry_out(call.loop, &call.op), 7);
    assert_int_equal(weir_loop_run(call.loop), 0);
    assert_int_equal(call.posted, 1);
    assert_int_equal(call.asked, 0);
    close_world(sim, call.loop);
}

static void a_running_call_is_told_and_a_queued_one_comes_back_at_once(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct call call = {
        .loop = open_loop_with((struct weir_options){.sim.world = sim, .offload_workers = 1}),
    };
    struct weir_op queued = {0};
    int queued_calls;
    sim->may_end_call = lets_nothing_end;
    weir_op_call(&call.op, try_what_a_worker_may_not, &call);
    start(call.loop, &call.op, &call.calls);
    weir_op_call(&queued, work, NULL);
    start(call.loop, &queued, &queued_calls);
    assert_int_equal(weir_loop_turn(call.loop, 10 * WEIR_MS), 0);
    assert_int_equal(weir_cancel(call.loop, &call.op), -EALREADY);
    assert_int_equal(weir_cancel(call.loop, &call.op), -EALREADY);
    assert_int_equal(weir_cancel(call.loop, &queued), 0);
    assert_int_equal(await(call.loop, &queued, &queued_calls), -ECANCELED);
    assert_int_equal(weir_loop_turn(call.loop, 10 * WEIR_MS), 0);
    sim->may_end_call = NULL;
    assert_int_equal(await(call.loop, &call.op, &call.calls), 7);
    assert_int_not_equal(call.asked, 0);
    close_world(sim, call.loop);
}

static void routed_ops_take_simulated_workers(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop =
        open_loop_with((struct weir_options){.sim.world = sim, .offload_workers = 2});
    struct weir_counters counters;
    struct weir_op op = {0};
    struct weir_op calls[3] = {0};
    int done[3];
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    sim->may_end_call = lets_nothing_end;
    for (int i = 0; i < 3; i++) { /* long work, for which one of the two workers is not there */
        weir_op_call(&calls[i], work, NULL);
        start(loop, &calls[i], &done[i]);
    }
    weir_op_write(&op, file, "x", 1, 0);
    op.route = WEIR_ROUTE_OFFLOAD;
    assert_int_equal(carry_out(loop, &op), 1);
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_int_equal(counters.offloaded, 4);
    assert_int_equal(counters.offload_in_flight, 3);
    sim->may_end_call = NULL;
    assert_int_equal(weir_loop_run(loop), 0);
    close_world(sim, loop);
    loop = open_loop_with((struct weir_options){.offload_workers = WEIR_NO_OFFLOAD});
    op.route = WEIR_ROUTE_OFFLOAD;
    assert_int_equal(weir_submit(loop, &op), -EOPNOTSUPP);
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
}

/* --- crashing --------------------------------------------------------------------------------- */

static void what_was_synced_survives_a_crash_and_what_was_not_may_not(void **state)
{
    (void)state;
    int lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct weir_sim *sim = open_world(seed, NULL);
        struct weir_loop *loop = open_loop(sim);
        char text[32];
        int root = open_file(loop, "/", O_RDONLY | O_DIRECTORY);
        int file = open_file(loop, "/file", O_RDWR | O_CREAT);
        assert_int_equal(write_text(loop, file, "synced", 0), 6);
        assert_int_equal(sync_file(loop, file), 0);
        assert_int_equal(sync_file(loop, root), 0);
        assert_int_equal(write_text(loop, file, "not", 1000), 3);
        assert_int_equal(weir_sim_crash(sim), 0);
        assert_int_equal(weir_sim_crash(sim), -EALREADY);
        assert_int_equal(weir_sim_fds(sim), 0);
        assert_int_equal(weir_loop_turn(loop, 0), -EOWNERDEAD);
        assert_int_equal(weir_loop_run(loop), -EOWNERDEAD);
        assert_int_equal(weir_sim_restart(sim), -EBUSY);
        assert_int_equal(weir_loop_abandon(loop), 0);
        assert_int_equal(weir_sim_restart(sim), 0);
        loop = open_loop(sim);
        assert_true(open_file(loop, "/file", O_RDONLY) == WEIR_SIM_FD_FIRST);
        assert_true(read_text(loop, WEIR_SIM_FD_FIRST, text, 7, 0) == 6);
        assert_string_equal(text, "synced");
        lost += read_text(loop, WEIR_SIM_FD_FIRST, text, 4, 1000) != 3 || strcmp(text, "not") != 0;
        close_world(sim, loop);
    }
    assert_in_range(lost, 5, 45);
}

static void crash_here(struct weir_op *op)
{
    on_done(op);
    struct weir_op more = {.callback = on_done};
    assert_int_equal(weir_sim_crash(weir_loop_sim(op->loop)), 0);
    weir_op_nop(&more);
    assert_int_equal(weir_submit(op->loop, &more), -EOWNERDEAD);
}

static void a_crash_in_a_callback_hands_nothing_back_any_more(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    struct weir_loop *other = open_loop(sim);
    struct weir_op ops[4] = {0};
    struct weir_op timer = {0};
    int calls = 0;
    for (int i = 0; i < 4; i++) {
        weir_op_nop(&ops[i]);
        ops[i].callback = crash_here;
        ops[i].user = &calls;
        assert_int_equal(weir_submit(loop, &ops[i]), 0);
    }
    weir_op_timeout(&timer, 1);
    timer.callback = on_done;
    timer.user = &calls;
    assert_int_equal(weir_submit(loop, &timer), 0);
    assert_int_equal(weir_loop_turn(loop, -1), -EOWNERDEAD);
    assert_int_equal(calls, 1);
    assert_int_equal(weir_loop_turn(other, 0), -EOWNERDEAD);
    assert_int_equal(weir_cancel(loop, &ops[3]), -EALREADY);
    assert_int_equal(weir_loop_close(loop, -1, NULL), -EOWNERDEAD);
    assert_int_equal(calls, 1);
    assert_int_equal(weir_loop_abandon(loop), 0);
    assert_int_equal(weir_sim_close(sim), -EBUSY);
    assert_int_equal(weir_loop_abandon(other), 0);
    assert_int_equal(weir_sim_close(sim), 0);
}

static int calls_of_waiters;

static void on_room(struct weir_room *room, int result)
{
    (void)room;
    (void)result;
    calls_of_waiters++;
}

static void on_closed(struct weir_loop *loop, int result)
{
    (void)loop;
    (void)result;
    calls_of_waiters++;
}

static void close_and_crash_here(struct weir_op *op)
{
    assert_int_equal(weir_loop_close_begin(op->loop, -1, on_closed), 0);
    crash_here(op);
}

static void a_crash_calls_nobody_who_waits_for_room_or_a_close(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        struct weir_sim *sim = open_world(1, NULL);
        struct weir_loop *loop = open_loop(sim);
        struct weir_room room = {.callback = on_room};
        int calls = 0;
        struct weir_op op = {
            .callback = closes ? close_and_crash_here : crash_here,
            .user = &calls,
        };
        calls_of_waiters = 0;
        weir_op_nop(&op);
        assert_int_equal(weir_submit(loop, &op), 0);
        assert_int_equal(weir_wait_room(loop, &room, &op), 0);
        assert_int_equal(weir_loop_turn(loop, 0), -EOWNERDEAD);
        assert_int_equal(weir_loop_close(loop, -1, NULL), -EOWNERDEAD);
        assert_int_equal(calls, 1);
        assert_int_equal(calls_of_waiters, 0);
        assert_int_equal(weir_loop_abandon(loop), 0);
        assert_int_equal(weir_sim_close(sim), 0);
    }
}

static void a_crash_ends_ops_wherever_they_are(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop =
        open_loop_with((struct weir_options){.sim.world = sim, .offload_workers = 1});
    struct weir_op ops[7] = {0};
    int calls[7];
    char text[8];
    int fds[2];
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    weir_op_read(&ops[0], fds[0], text, 8, 0);
    weir_op_fsync(&ops[1], file);
    weir_op_call(&ops[2], work, NULL);
    weir_op_call(&ops[3], work, NULL);
    weir_op_timeout_in(&ops[4], loop, WEIR_S);
    weir_op_write(&ops[5], fds[1], text, 0, 0);
    for (int i = 0; i < 6; i++) {
        start(loop, &ops[i], &calls[i]);
    }
    assert_int_equal(weir_loop_turn(loop, 0), 1); /* of nothing, to the pipe */
    weir_op_nop(&ops[6]);
    start(loop, &ops[6], &calls[6]);
    assert_int_equal(weir_sim_crash(sim), 0);
    assert_null(sim->first);
    assert_int_equal(weir_loop_abandon(loop), 0);
    assert_int_equal(weir_sim_restart(sim), 0);
    loop = open_loop(sim);
    assert_int_equal(open_file(loop, "/new", O_RDWR | O_CREAT), WEIR_SIM_FD_FIRST);
    close_world(sim, loop);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void close_brings_all_back_and_gives_all_back(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    size_t used = weir_arena_used(&sim->arena);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op ops[3] = {0};
    int calls[3];
    int ends[2];
    char text[8];
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_recv(&ops[0], ends[0], text, 8, 0);
    weir_op_accept(&ops[1], ends[0], NULL, NULL, 0);
    weir_op_socket(&ops[2], AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i < 3; i++) {
        start(loop, &ops[i], &calls[i]);
    }
    write_text(loop, ends[1], "abc", 0);
    close_file(loop, ends[0]);
    close_file(loop, ends[1]);
    assert_int_equal(weir_loop_close(loop, WEIR_S, NULL), 0);
    assert_int_equal(calls[0] + calls[1] + calls[2], 3);
    if (ops[2].result >= 0) {
        weir_sim_file_close(sim, (int)ops[2].result);
    }
    assert_int_equal(weir_sim_fds(sim), 0);
    assert_int_equal(weir_arena_used(&sim->arena), used);
    assert_int_equal(weir_sim_close(sim), 0);
    assert_int_equal(weir_sim_close(NULL), 0);
}

static void an_fd_that_came_too_late_is_closed_with_its_loop(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {.what = WEIR_SIM_LATE};
    struct weir_sim_fault late = fault;
    late.nth = 1;
    const struct weir_sim_plan plan = {.faults = &late, .fault_count = 1};
    struct weir_sim *sim = open_world(1, &plan);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op op = {0};
    int calls;
    weir_op_openat(&op, AT_FDCWD, "/file", O_RDWR | O_CREAT, 0600);
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(weir_loop_close(loop, WEIR_S, NULL), 0);
    assert_int_equal(op.result, -ECANCELED);
    assert_int_equal(weir_sim_fds(sim), 0);
    assert_int_equal(weir_sim_close(sim), 0);
}

static void an_abandoned_loop_leaves_its_world(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op op = {0};
    char text[8];
    int calls;
    int fds[2];
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    weir_op_read(&op, fds[0], text, 8, 0);
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    assert_int_equal(weir_loop_abandon(loop), 0);
    assert_int_equal(weir_loop_turn(loop, 0), -EPERM);
    assert_int_equal(weir_now(loop), 0);
    assert_null(weir_loop_sim(loop));
    assert_int_equal(weir_sim_close(sim), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_op_is_cancelled_or_expires_wherever_it_is),
        cmocka_unit_test(a_file_op_in_flight_is_cancelled_in_time_or_not),
        cmocka_unit_test(an_op_whose_cancel_came_too_late_does_not_wait_afterwards),
        cmocka_unit_test(a_calls_function_is_refused_what_a_worker_is),
        cmocka_unit_test(a_running_call_is_told_and_a_queued_one_comes_back_at_once),
        cmocka_unit_test(routed_ops_take_simulated_workers),
        cmocka_unit_test(what_was_synced_survives_a_crash_and_what_was_not_may_not),
        cmocka_unit_test(a_crash_in_a_callback_hands_nothing_back_any_more),
        cmocka_unit_test(a_crash_calls_nobody_who_waits_for_room_or_a_close),
        cmocka_unit_test(a_crash_ends_ops_wherever_they_are),
        cmocka_unit_test(close_brings_all_back_and_gives_all_back),
        cmocka_unit_test(an_fd_that_came_too_late_is_closed_with_its_loop),
        cmocka_unit_test(an_abandoned_loop_leaves_its_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
