/* SPDX-License-Identifier: MIT */
/* test_sim_faults.c: each sort of fault, by its number and by chance. */
#include "sim_world.h"

#define KIND(name) (1ULL << WEIR_KIND_##name)

static struct weir_sim *sim;
static struct weir_loop *loop;

static void begin(const struct weir_sim_fault *faults, uint32_t count)
{
    const struct weir_sim_plan plan = {.faults = faults, .fault_count = count};
    sim = open_world(7, &plan);
    loop = open_loop(sim);
}

static struct weir_sim_counters counters(void)
{
    struct weir_sim_counters so_far;
    assert_int_equal(weir_sim_counters(sim, &so_far), 0);
    return so_far;
}

static void the_third_and_fourth_write_to_one_file_fail(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_ERROR,
        .kinds = KIND(WRITE),
        .path = "/log",
        .nth = 3,
        .count = 2,
        .error = EIO,
    };
    begin(&fault, 1);
    int log = open_file(loop, "/log", O_RDWR | O_CREAT);
    int other = open_file(loop, "/other", O_RDWR | O_CREAT);
    char text[16];
    for (int i = 1; i <= 6; i++) {
        assert_int_equal(write_text(loop, other, "x", 0), 1);
        assert_int_equal(write_text(loop, log, "x", (uint64_t)i), i == 3 || i == 4 ? -EIO : 1);
    }
    assert_int_equal(read_text(loop, log, text, sizeof text, 0), 7);
    assert_memory_equal(text, "\0xx\0\0xx", 7); /* they have not happened */
    assert_int_equal(counters().faults, 2);
    close_world(sim, loop);
}

static void a_fault_for_always_strikes_from_its_number_on(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_ERROR,
        .kinds = KIND(OPENAT),
        .path = "/file",
        .nth = 2,
        .count = WEIR_SIM_ALWAYS,
        .error = ENOSPC,
    };
    begin(&fault, 1);
    assert_true(open_file(loop, "/file", O_RDWR | O_CREAT) >= 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(open_file(loop, "/file", O_RDONLY), -ENOSPC);
        assert_true(open_file(loop, "/else", O_RDONLY | O_CREAT) >= 0);
    }
    close_world(sim, loop);
}

static void by_chance_about_as_many_are_struck_and_each_with_an_error_of_its_kind(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_ERROR,
        .kinds = KIND(FSYNC),
        .per_million = 250000,
    };
    begin(&fault, 1);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    int failed = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t r = sync_file(loop, file);
        assert_true(r == 0 || r == -EIO || r == -ENOSPC || r == -EDQUOT);
        failed += r < 0;
    }
    assert_in_range(failed, 200, 300);
    close_world(sim, loop);
}

static void a_short_transfer_moves_a_part_and_a_whole_one_goes_on(void **state)
{
    (void)state;
    static char bytes[5000];
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_SHORT,
        .kinds = KIND(WRITE) | KIND(READ),
        .nth = 1,
        .count = WEIR_SIM_ALWAYS,
    };
    struct weir_op op = {0};
    begin(&fault, 1);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    weir_op_write(&op, file, bytes, sizeof bytes, 0);
    int64_t part = carry_out(loop, &op);
    assert_in_range(part, 1, sizeof bytes - 1);
    op.flags = WEIR_WHOLE;
    assert_int_equal(carry_out(loop, &op), sizeof bytes);
    assert_true(counters().faults > 2);
    weir_op_read(&op, file, bytes, sizeof bytes, 0);
    op.flags = 0;
    assert_in_range(carry_out(loop, &op), 1, sizeof bytes - 1);
    close_world(sim, loop);
}

static void a_delay_comes_on_top(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_DELAY,
        .kinds = KIND(FSYNC),
        .nth = 1,
        .delay = {5 * WEIR_S, 6 * WEIR_S},
    };
    begin(&fault, 1);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    uint64_t before_ns = weir_now(loop);
    assert_int_equal(sync_file(loop, file), 0);
    assert_in_range(weir_now(loop) - before_ns, 5 * WEIR_S, 6 * WEIR_S + 10 * WEIR_MS);
    before_ns = weir_now(loop);
    assert_int_equal(sync_file(loop, file), 0);
    assert_true(weir_now(loop) - before_ns < 10 * WEIR_MS);
    close_world(sim, loop);
}

/* A read of a file that is struck: by cancel, by deadline, by nothing. */
static int64_t read_asked(enum weir_sim_fault_what what, bool cancels, int *ret_turn)
{
    const struct weir_sim_fault fault = {.what = what, .kinds = KIND(READ), .nth = 1};
    struct weir_op op = {0};
    char text[8];
    int calls;
    begin(&fault, 1);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    write_text(loop, file, "text", 0);
    weir_op_read(&op, file, text, 4, 0);
    if (!cancels) {
        op.deadline_ns = weir_now(loop) + WEIR_US;
    }
    start(loop, &op, &calls);
    *ret_turn = weir_loop_turn(loop, 0);
    if (cancels) {
        assert_int_equal(weir_cancel(loop, &op), 0);
    }
    while (*ret_turn >= 0 && calls == 0) {
        *ret_turn = weir_loop_turn(loop, -1);
    }
    int64_t result = calls > 0 ? op.result : 0;
    if (calls == 0) { /* only a crash ends it */
        assert_int_equal(weir_sim_crash(sim), 0);
        assert_int_equal(weir_loop_abandon(loop), 0);
        assert_int_equal(weir_sim_close(sim), 0);
    } else {
        close_world(sim, loop);
    }
    return result;
}

static void a_stuck_op_comes_back_when_it_is_asked(void **state)
{
    (void)state;
    int turn;
    assert_int_equal(read_asked(WEIR_SIM_STUCK, true, &turn), -ECANCELED);
    assert_int_equal(read_asked(WEIR_SIM_STUCK, false, &turn), -ETIME);
}

static void a_late_op_succeeds_though_it_was_asked_back(void **state)
{
    (void)state;
    int turn;
    assert_int_equal(read_asked(WEIR_SIM_LATE, true, &turn), 4);
    assert_int_equal(read_asked(WEIR_SIM_LATE, false, &turn), 4);
}

static void a_deaf_op_is_ended_by_a_crash_alone(void **state)
{
    (void)state;
    int turn;
    read_asked(WEIR_SIM_DEAF, true, &turn);
    assert_int_equal(turn, -EDEADLK);
    read_asked(WEIR_SIM_DEAF, false, &turn);
    assert_int_equal(turn, -EDEADLK);
}

static void a_reset_is_ECONNRESET_at_both_ends(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {.what = WEIR_SIM_RESET, .kinds = KIND(SEND), .nth = 2};
    struct weir_op op = {0};
    char text[8];
    int ends[2];
    begin(&fault, 1);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_send(&op, ends[0], "a", 1, 0);
    assert_int_equal(carry_out(loop, &op), 1);
    weir_op_recv(&op, ends[1], text, 1, 0);
    assert_int_equal(carry_out(loop, &op), 1);
    weir_op_send(&op, ends[0], "b", 1, 0);
    assert_int_equal(carry_out(loop, &op), -ECONNRESET);
    assert_int_equal(carry_out(loop, &op), -EPIPE);
    weir_op_recv(&op, ends[1], text, 1, 0);
    assert_int_equal(carry_out(loop, &op), -ECONNRESET);
    assert_int_equal(carry_out(loop, &op), 0);
    close_world(sim, loop);
}

static void a_jump_moves_the_clock_for_all(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_JUMP,
        .kinds = KIND(NOP),
        .nth = 1,
        .delay = {WEIR_S, WEIR_S},
    };
    struct weir_op timer = {0};
    struct weir_op nop = {0};
    int calls;
    begin(&fault, 1);
    uint64_t before_ns = weir_now(loop);
    weir_op_timeout_in(&timer, loop, WEIR_MS);
    start(loop, &timer, &calls);
    weir_op_nop(&nop);
    assert_int_equal(carry_out(loop, &nop), 0);
    assert_int_equal(calls, 1); /* due in the same turn */
    assert_in_range(weir_now(loop) - before_ns, WEIR_S, WEIR_S + WEIR_MS);
    close_world(sim, loop);
}

static void a_crash_stops_the_machine_before_the_op_has_happened(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_CRASH,
        .kinds = KIND(MKDIRAT),
        .nth = 1,
    };
    struct weir_op op = {0};
    int calls;
    begin(&fault, 1);
    weir_op_mkdirat(&op, AT_FDCWD, "/dir", 0755);
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, -1), -EOWNERDEAD);
    assert_int_equal(calls, 0);
    assert_true(weir_sim_has_crashed(sim));
    assert_int_equal(weir_loop_abandon(loop), 0);
    assert_int_equal(weir_sim_restart(sim), 0);
    loop = open_loop(sim);
    assert_int_equal(open_file(loop, "/dir", O_RDONLY), -ENOENT);
    close_world(sim, loop);
}

/* What a crash leaves of a byte that was synced as 'a', written as 'b', missed by a sync, written
 * again or not, and synced. */
static char synced_after_a_failure(uint64_t seed, bool again)
{
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_ERROR, .kinds = KIND(FSYNC), .path = "/file", .nth = 2, .error = EIO};
    const struct weir_sim_plan plan = {.faults = &fault, .fault_count = 1};
    char text[2];
    sim = open_world(seed, &plan);
    loop = open_loop(sim);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    int root = open_file(loop, "/", O_RDONLY | O_DIRECTORY);
    assert_int_equal(write_text(loop, file, "a", 0), 1);
    assert_int_equal(sync_file(loop, file), 0);
    assert_int_equal(sync_file(loop, root), 0);
    assert_int_equal(write_text(loop, file, "b", 0), 1);
    assert_int_equal(sync_file(loop, file), -EIO);
    if (again) {
        assert_int_equal(write_text(loop, file, "x", 1000), 1); /* to the same page */
    }
    assert_int_equal(sync_file(loop, file), 0);
    assert_int_equal(read_text(loop, file, text, sizeof text, 0), 1);
    assert_int_equal(text[0], 'b'); /* the cache does not tell */
    assert_int_equal(weir_sim_crash(sim), 0);
    assert_int_equal(weir_loop_abandon(loop), 0);
    assert_int_equal(weir_sim_restart(sim), 0);
    loop = open_loop(sim);
    file = open_file(loop, "/file", O_RDONLY);
    assert_int_equal(read_text(loop, file, text, sizeof text, 0), 1);
    close_world(sim, loop);
    return text[0];
}

static void what_a_failed_sync_missed_no_later_one_writes_but_what_is_written_anew(void **state)
{
    (void)state;
    int lost = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        char left = synced_after_a_failure(seed, false);
        assert_true(left == 'a' || left == 'b');
        lost += left == 'a';
        assert_int_equal(synced_after_a_failure(seed, true), 'b');
    }
    assert_in_range(lost, 5, 35);
}

static void an_error_of_CLOSE_closes_all_the_same(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {.what = WEIR_SIM_ERROR, .kinds = KIND(CLOSE), .nth = 1};
    begin(&fault, 1);
    int file = open_file(loop, "/file", O_RDWR | O_CREAT);
    int64_t r = close_file(loop, file);
    assert_true(r == -EIO || r == -ENOSPC || r == -EDQUOT || r == 0);
    assert_int_equal(weir_sim_fds(sim), 0);
    close_world(sim, loop);
}

static void what_a_kernel_says_instead_of_waiting_is_tried_again(void **state)
{
    (void)state;
    const struct weir_sim_fault faults[] = {
        {.what = WEIR_SIM_ERROR, .kinds = KIND(RECV), .nth = 1, .error = EAGAIN},
        {.what = WEIR_SIM_ERROR, .kinds = KIND(RECV), .nth = 2, .error = EINTR},
        {.what = WEIR_SIM_ERROR, .kinds = KIND(WRITE), .nth = 1, .error = EAGAIN},
    };
    struct weir_op op = {0};
    char text[8];
    int ends[2];
    begin(faults, 3);
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    assert_int_equal(write_text(loop, ends[0], "abc", 0), 3);
    weir_op_recv(&op, ends[1], text, 3, 0);
    assert_int_equal(carry_out(loop, &op), 3);
    assert_int_equal(counters().faults, 3);
    close_world(sim, loop);
}

static void a_plan_out_of_its_range_is_refused_and_the_decision_says_so(void **state)
{
    (void)state;
    const struct weir_sim_fault wrong = {.what = WEIR_SIM_CRASH + 1};
    const struct weir_sim_plan plans[] = {
        {.storage = {2, 1}},
        {.sector_bytes = 500},
        {.sector_bytes = 8192},
        {.fault_count = 1},
        {.fault_count = WEIR_SIM_FAULTS_MAX + 1, .faults = &wrong},
        {.fault_count = 1, .faults = &wrong},
        {.memory_bytes = 4096},
    };
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        struct weir_sim *none = NULL;
        struct weir_loop *no_loop = NULL;
        struct weir_decision decision;
        struct weir_options options = {
            .policy = WEIR_SIM,
            .sim.plan = &plans[i],
            .decision = &decision,
        };
        assert_int_equal(weir_sim_open(1, &plans[i], &none), -EINVAL);
        assert_null(none);
        assert_int_equal(weir_loop_open(&options, &no_loop), -EINVAL);
        assert_null(decision.chosen);
        assert_int_equal(decision.rejected_count, 1);
        assert_string_equal(decision.rejected[0].backend, "sim");
        assert_int_equal(decision.rejected[0].cause, WEIR_CAUSE_OPTION);
    }
}

static void a_CLOSE_of_no_fd_is_EBADF_whatever_the_plan_says(void **state)
{
    (void)state;
    const struct weir_sim_fault fault = {
        .what = WEIR_SIM_ERROR, .kinds = KIND(CLOSE), .nth = 1, .error = EINTR};
    const struct weir_sim_plan plan = {.faults = &fault, .fault_count = 1};
    struct weir_sim *sim = open_world(1, &plan);
    struct weir_loop *loop = open_loop(sim);
    assert_int_equal(close_file(loop, WEIR_SIM_FD_FIRST), -EBADF);
    close_world(sim, loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_third_and_fourth_write_to_one_file_fail),
        cmocka_unit_test(a_fault_for_always_strikes_from_its_number_on),
        cmocka_unit_test(by_chance_about_as_many_are_struck_and_each_with_an_error_of_its_kind),
        cmocka_unit_test(a_short_transfer_moves_a_part_and_a_whole_one_goes_on),
        cmocka_unit_test(a_delay_comes_on_top),
        cmocka_unit_test(a_stuck_op_comes_back_when_it_is_asked),
        cmocka_unit_test(a_late_op_succeeds_though_it_was_asked_back),
        cmocka_unit_test(a_deaf_op_is_ended_by_a_crash_alone),
        cmocka_unit_test(a_reset_is_ECONNRESET_at_both_ends),
        cmocka_unit_test(a_jump_moves_the_clock_for_all),
        cmocka_unit_test(a_crash_stops_the_machine_before_the_op_has_happened),
        cmocka_unit_test(what_a_failed_sync_missed_no_later_one_writes_but_what_is_written_anew),
        cmocka_unit_test(an_error_of_CLOSE_closes_all_the_same),
        cmocka_unit_test(a_CLOSE_of_no_fd_is_EBADF_whatever_the_plan_says),
        cmocka_unit_test(what_a_kernel_says_instead_of_waiting_is_tried_again),
        cmocka_unit_test(a_plan_out_of_its_range_is_refused_and_the_decision_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
