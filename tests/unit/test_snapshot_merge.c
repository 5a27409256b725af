/* SPDX-License-Identifier: MIT */
/* weir/snapshot.h: loops and tasks that become one row, and the order of rows. */
#include "observed.h"

#include <engine/observe/pulse.h>
#include <pthread.h>
#include <stdio.h>

#define FLIGHT WEIR_STAGE_FLIGHT

static struct weir_loop *loop;
static struct weir_loop *other;
static struct weir_snapshot *snapshot;

static int open_all(void **state)
{
    (void)state;
    loop = observed_open();
    other = observed_open();
    snapshot = observed_snapshot(0, 0);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    weir_snapshot_close(snapshot);
    observed_close(loop);
    observed_close(other);
    return 0;
}

static void add(struct weir_snapshot *into, struct weir_loop *from, const char *label)
{
    assert_int_equal(weir_snapshot_add(into, from, label), 0);
}

static const struct weir_snapshot_task *row_of(const char *label, const char *task)
{
    const struct weir_snapshot_task *row = observed_row(snapshot, label, task);
    assert_non_null(row);
    return row;
}

static void loops_of_one_label_merge_exactly(void **state)
{
    (void)state;
    static struct weir_histogram model;
    memset(&model, 0, sizeof model);
    struct random random = random_open();
    struct weir_task *tasks[] = {observed_task(loop, "both"), observed_task(other, "both"),
                                 observed_task(other, "both")};
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t value = random_next(&random) >> (20 + random_below(&random, 44));
        observed_record(tasks[i % 3], FLIGHT, value, 1);
        weir_histogram_record(&model, value);
    }
    observed_task(other, "alone");
    add(snapshot, loop, "one");
    add(snapshot, other, "one");
    const struct weir_snapshot_task *row = row_of("one", "both");
    assert_memory_equal(&row->stages[FLIGHT], &model, sizeof model);
    assert_int_equal(row->counters.submitted, 3000);
    assert_int_equal(row->counters.finished, 3000);
    assert_int_equal(row->epoch, tasks[0]->epoch + tasks[1]->epoch + tasks[2]->epoch);
    assert_int_equal(observed_rows(snapshot), 2);
    assert_int_equal(weir_snapshot_loop_at(snapshot, 0)->loops, 2);
    assert_null(weir_snapshot_loop_at(snapshot, 1));
}

static void loops_of_different_labels_stay_apart(void **state)
{
    (void)state;
    observed_record(observed_task(loop, "same"), FLIGHT, 100, 1);
    observed_record(observed_task(other, "same"), FLIGHT, 200, 1);
    add(snapshot, loop, "a");
    add(snapshot, other, "b");
    assert_int_equal(row_of("a", "same")->stages[FLIGHT].sum, 100);
    assert_int_equal(row_of("b", "same")->stages[FLIGHT].sum, 200);
}

static void rows_are_sorted_by_label_then_task(void **state)
{
    (void)state;
    static const char *const names[] = {"m", "z", "a", "\xff", "k", "ab", "A"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        observed_task(loop, names[i]);
        observed_task(other, names[COUNT_OF(names) - 1 - i]);
    }
    add(snapshot, loop, "y");
    add(snapshot, other, "x");
    add(snapshot, loop, "z");
    add(snapshot, loop, "a");
    assert_int_equal(observed_rows(snapshot), 4 * COUNT_OF(names));
    for (uint32_t i = 1; i < 4 * COUNT_OF(names); i++) {
        const struct weir_snapshot_task *before = weir_snapshot_task_at(snapshot, i - 1);
        const struct weir_snapshot_task *after = weir_snapshot_task_at(snapshot, i);
        int order = strcmp(before->label, after->label);
        assert_true(order < 0 || (order == 0 && strcmp(before->task, after->task) < 0));
    }
    for (uint32_t i = 1; i < 4; i++) {
        assert_true(strcmp(weir_snapshot_loop_at(snapshot, i - 1)->label,
                           weir_snapshot_loop_at(snapshot, i)->label) < 0);
    }
}

static void errors_merge_and_those_without_an_entry_are_others(void **state)
{
    (void)state;
    struct weir_task *first = observed_task(loop, "t");
    struct weir_task *second = observed_task(other, "t");
    for (int i = 1; i <= 10; i++) {
        observed_fail(first, -i);
        observed_fail(first, -i);
        observed_fail(second, -i - 8); /* 9 to 18 */
    }
    add(snapshot, loop, "l");
    add(snapshot, other, "l");
    const struct weir_task_errors *errors = &row_of("l", "t")->errors;
    assert_int_equal(errors->count, WEIR_ERRORS_MAX);
    for (int i = 0; i < WEIR_ERRORS_MAX; i++) {
        assert_int_equal(errors->errors[i].error, -i - 1);
        uint64_t times = i < 8 ? 2 : i < 10 ? 3 : 1;
        assert_int_equal(errors->errors[i].times, times);
    }
    assert_int_equal(errors->others, 2);
}

static void *add_elsewhere(void *context)
{
    (void)context;
    return (void *)(intptr_t)weir_snapshot_add(snapshot, loop, "l");
}

static void a_loop_that_cannot_be_inspected_takes_the_labels_state_away(void **state)
{
    (void)state;
    pthread_t thread;
    void *answer;
    observed_record(observed_task(loop, "t"), FLIGHT, 7, 3);
    add(snapshot, other, "l");
    assert_true(weir_snapshot_loop_at(snapshot, 0)->has_state);
    assert_true(weir_snapshot_loop_at(snapshot, 0)->gates[0].depth > 0);
    assert_int_equal(pthread_create(&thread, NULL, add_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_int_equal((intptr_t)answer, 0);
    add(snapshot, other, "l"); /* nor does one that can bring it back */
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, 0);
    static const struct weir_gate_state none;
    assert_false(row->has_state);
    assert_memory_equal(&row->gates[0], &none, sizeof none);
    assert_int_equal(row->loops, 3);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].count, 3);
}

static void check_seen(const struct weir_snapshot_loop *row, const uint64_t want[7])
{
    for (unsigned cause = 0; cause < WEIR_STALL_CAUSE_COUNT; cause++) {
        assert_int_equal(row->stalls[cause], want[cause]);
        assert_int_equal(row->longest_stall_ns[cause], want[4 + cause]);
    }
    assert_int_equal(row->slow_ops, want[3]);
}

static void stalls_are_summed_and_the_longest_of_all_stays(void **state)
{
    (void)state;
    struct weir_stall_counts *seen = &weir_loop_pulse(loop)->seen;
    *seen = (struct weir_stall_counts){{1, 2, 3}, 4, {10, 20, 30}};
    weir_loop_pulse(other)->seen = (struct weir_stall_counts){{10, 20, 30}, 40, {11, 19, 31}};
    struct weir_snapshot *earlier = observed_snapshot(0, 0);
    add(earlier, loop, "l");
    add(earlier, other, "l");
    check_seen(weir_snapshot_loop_at(earlier, 0), (uint64_t[]){11, 22, 33, 44, 11, 20, 31});
    seen->stalls[WEIR_STALL_BLOCKED] += 5;
    seen->slow_ops += 6;
    seen->longest_ns[WEIR_STALL_BLOCKED] = 70;
    add(snapshot, loop, "l");
    add(snapshot, other, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    check_seen(weir_snapshot_loop_at(snapshot, 0), (uint64_t[]){0, 5, 0, 6, 11, 70, 31});
    weir_snapshot_clear(snapshot);
    seen->longest_ns[WEIR_STALL_BLOCKED] = 1; /* one that has ended, and another came: not less */
    add(snapshot, loop, "l");
    add(snapshot, other, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    check_seen(weir_snapshot_loop_at(snapshot, 0), (uint64_t[]){11, 27, 33, 50, 11, 19, 31});
    weir_snapshot_close(earlier);
}

static void gates_are_summed_and_one_without_a_cap_leaves_none(void **state)
{
    (void)state;
    struct weir_loop *capped[2];
    const struct weir_options options = {
        .depth = 3, .waiting_max = 4, .bytes_max = 1000, .offload_workers = WEIR_NO_OFFLOAD};
    assert_int_equal(weir_loop_open(&options, &capped[0]), 0);
    assert_int_equal(weir_loop_open(&options, &capped[1]), 0);
    add(snapshot, capped[0], "capped");
    add(snapshot, capped[1], "capped");
    add(snapshot, capped[0], "mixed");
    add(snapshot, loop, "mixed");
    add(snapshot, capped[1], "mixed");
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, 0);
    assert_int_equal(row->gates[0].depth, 6);
    assert_int_equal(row->gates[0].depth_max, 6);
    assert_int_equal(row->gates[0].places, 14);
    assert_int_equal(row->gates[0].bytes_max, 2000);
    row = weir_snapshot_loop_at(snapshot, 1);
    assert_int_equal(row->gates[0].depth, 14);
    assert_int_equal(row->gates[0].bytes_max, 0);
    observed_close(capped[0]);
    observed_close(capped[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(loops_of_one_label_merge_exactly),
        TEST(loops_of_different_labels_stay_apart),
        TEST(rows_are_sorted_by_label_then_task),
        TEST(errors_merge_and_those_without_an_entry_are_others),
        TEST(a_loop_that_cannot_be_inspected_takes_the_labels_state_away),
        TEST(stalls_are_summed_and_the_longest_of_all_stays),
        TEST(gates_are_summed_and_one_without_a_cap_leaves_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
