/* SPDX-License-Identifier: MIT */
/* weir/snapshot.h: rows, intervals, capacity; merging is test_snapshot_merge.c's. */
#include "observed.h"

#include <engine/observe/fields.h>
#include <stdio.h>

#define FLIGHT WEIR_STAGE_FLIGHT

static struct weir_loop *loop;
static struct weir_loop *other;
static struct weir_snapshot *snapshot;
static struct weir_snapshot *earlier;

static int open_all(void **state)
{
    (void)state;
    loop = observed_open();
    other = observed_open();
    snapshot = observed_snapshot(0, 0);
    earlier = observed_snapshot(0, 0);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    weir_snapshot_close(snapshot);
    weir_snapshot_close(earlier);
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

/* The row holds what the task tells without a snapshot. */
static void check_row(const struct weir_snapshot_task *row, const struct weir_task *task)
{
    struct weir_task_counters counters;
    struct weir_task_errors errors;
    static struct weir_histogram histogram;
    assert_int_equal(weir_task_read_counters(task, &counters), 0);
    assert_memory_equal(&row->counters, &counters, sizeof counters);
    assert_int_equal(weir_task_read_errors(task, &errors), 0);
    assert_memory_equal(&row->errors, &errors, sizeof errors);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        assert_int_equal(weir_task_read(task, stage, &histogram), 0);
        assert_memory_equal(&row->stages[stage], &histogram, sizeof histogram);
    }
}

static void a_snapshot_holds_what_each_task_tells(void **state)
{
    (void)state;
    struct weir_task *busy = observed_task(loop, "busy");
    struct weir_task *idle = observed_task(loop, "idle");
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        observed_record(busy, stage, 1000 * (stage + 1), stage + 1);
    }
    observed_record(busy, FLIGHT, 1ULL << 40, 2);
    observed_fail(busy, -EIO);
    busy->counters.bytes = 4096;
    add(snapshot, loop, "here");
    check_row(row_of("here", "busy"), busy);
    check_row(row_of("here", "idle"), idle);
    assert_int_equal(observed_rows(snapshot), 2); /* built-in tasks have had no op */
    assert_null(weir_snapshot_task_at(snapshot, 2));
    assert_int_equal(row_of("here", "busy")->stages[FLIGHT].clipped, 2);
    assert_int_equal(row_of("here", "busy")->errors.errors[0].error, -EIO);
}

static void a_loops_own_numbers_are_in_its_row(void **state)
{
    (void)state;
    add(snapshot, loop, "here");
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(snapshot, 0);
    struct weir_facts facts;
    assert_int_equal(weir_loop_facts(loop, &facts), 0);
    assert_string_equal(row->label, "here");
    assert_string_equal(row->backend, facts.backend);
    assert_string_equal(row->reason, facts.reason);
    assert_int_equal(row->memory_total, facts.memory_total);
    assert_int_equal(row->loops, 1);
    assert_true(row->has_state); /* this is its own thread */
    struct weir_counters counters;
    struct weir_gate_state gate;
    assert_int_equal(weir_loop_counters(loop, &counters), 0);
    assert_memory_equal(&row->counters, &counters, sizeof counters);
    assert_int_equal(weir_loop_gate(loop, NULL, &gate), 0);
    for (const struct weir_field *field = weir_gate_fields; field->key; field++) {
        assert_int_equal(weir_field_value(field, &row->gates[0]), weir_field_value(field, &gate));
    }
    assert_int_equal(row->gates[0].reason, gate.reason);
    assert_null(weir_snapshot_loop_at(snapshot, 1));
}

/* --- intervals -------------------------------------------------------------------------------- */

static void the_difference_of_two_snapshots_is_what_happened_between(void **state)
{
    (void)state;
    static struct weir_histogram model;
    memset(&model, 0, sizeof model);
    struct random random = random_open();
    struct weir_task *task = observed_task(loop, "t");
    for (unsigned i = 0; i < 1000; i++) {
        observed_record(task, FLIGHT, random_below(&random, 1000000), 1);
    }
    observed_fail(task, -EIO);
    observed_fail(task, -ENOSPC);
    task->counters.submitted += 5; /* live */
    add(earlier, loop, "l");
    for (unsigned i = 0; i < 500; i++) {
        uint64_t value = 2000000 + random_below(&random, 1000000);
        observed_record(task, FLIGHT, value, 1);
        weir_histogram_record(&model, value);
    }
    observed_fail(task, -ENOSPC);
    observed_fail(task, -EPERM);
    add(snapshot, loop, "l");
    uint64_t taken_ns = weir_snapshot_taken_ns(snapshot);
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    const struct weir_snapshot_task *row = row_of("l", "t");
    assert_memory_equal(&row->stages[FLIGHT], &model, sizeof model);
    assert_int_equal(row->counters.submitted, 502);
    assert_int_equal(row->counters.failed, 2);
    assert_int_equal(row->counters.live, 5);
    assert_int_equal(row->errors.count, 2);
    assert_int_equal(row->errors.errors[0].error, -ENOSPC);
    assert_int_equal(row->errors.errors[0].times, 1);
    assert_int_equal(row->errors.errors[1].error, -EPERM);
    assert_int_equal(weir_snapshot_taken_ns(snapshot), taken_ns);
    assert_int_equal(weir_snapshot_since_ns(snapshot), weir_snapshot_taken_ns(earlier));
    assert_true(weir_snapshot_since_ns(snapshot) <= taken_ns);
}

static void an_intervals_max_is_its_own_buckets(void **state)
{
    (void)state;
    struct weir_task *task = observed_task(loop, "t");
    struct weir_task *clipping = observed_task(loop, "c");
    observed_record(task, FLIGHT, 5000000, 1);
    observed_record(clipping, FLIGHT, 1ULL << 50, 1);
    add(earlier, loop, "l");
    observed_record(task, FLIGHT, 1000, 1); /* in the bucket 992 to 1007 */
    observed_record(clipping, FLIGHT, 1ULL << 40, 1);
    observed_record(observed_task(loop, "new"), FLIGHT, 1000, 1);
    add(snapshot, loop, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].max, 1007);
    assert_int_equal(row_of("l", "new")->stages[FLIGHT].max, 1000);
    assert_int_equal(row_of("l", "c")->stages[FLIGHT].max, 1ULL << 50); /* not known better */
    assert_int_equal(row_of("l", "c")->stages[FLIGHT].clipped, 1);
    assert_int_equal(row_of("l", "t")->stages[WEIR_STAGE_WAIT].max, 0);
}

static void a_row_that_was_reset_between_the_two_stays_whole(void **state)
{
    (void)state;
    struct weir_task *task = observed_task(loop, "t");
    struct weir_task *kept = observed_task(loop, "kept");
    observed_record(task, FLIGHT, 100, 10);
    observed_record(kept, FLIGHT, 100, 10);
    add(earlier, loop, "l");
    assert_int_equal(weir_task_reset(task), 0);
    observed_record(task, FLIGHT, 100, 30); /* more than before: only the epoch shows it */
    observed_record(kept, FLIGHT, 100, 30);
    add(snapshot, loop, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].count, 30);
    assert_int_equal(row_of("l", "t")->counters.finished, 30);
    assert_int_equal(row_of("l", "kept")->stages[FLIGHT].count, 30);
    assert_int_equal(row_of("l", "kept")->counters.finished, 30);
}

static void a_task_in_the_place_of_another_of_its_name_stays_whole(void **state)
{
    (void)state;
    struct weir_task *task = observed_task(loop, "t");
    observed_record(task, FLIGHT, 100, 10);
    add(earlier, loop, "l");
    assert_int_equal(weir_task_close(task), 0);
    observed_record(observed_task(loop, "t"), FLIGHT, 100, 30);
    add(snapshot, loop, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].count, 30);
}

static void a_row_whose_loop_was_replaced_never_goes_below_zero(void **state)
{
    (void)state;
    observed_record(observed_task(loop, "t"), FLIGHT, 100, 10);
    observed_record(observed_task(other, "t"), FLIGHT, 100, 4);
    add(earlier, loop, "l");
    add(snapshot, other, "l"); /* the same epoch */
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].count, 4);
    assert_int_equal(row_of("l", "t")->counters.finished, 4);
}

static void a_row_of_which_any_bucket_shrank_stays_whole(void **state)
{
    (void)state;
    observed_record(observed_task(loop, "t"), FLIGHT, 100, 10);
    observed_record(observed_task(other, "t"), FLIGHT, 50, 10);
    observed_record(observed_task(other, "t"), FLIGHT, 200, 20);
    add(earlier, loop, "l");
    add(snapshot, other, "l");
    weir_snapshot_make_task(snapshot, "l", "t")->epoch = row_of("l", "t")->epoch / 2;
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(row_of("l", "t")->stages[FLIGHT].count, 30);
    assert_int_equal(row_of("l", "t")->counters.finished, 30);
}

static void an_interval_is_not_used_as_a_whole(void **state)
{
    (void)state;
    add(earlier, loop, "l");
    add(snapshot, loop, "l");
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), 0);
    assert_int_equal(weir_snapshot_subtract(snapshot, earlier), -EINVAL);
    assert_int_equal(weir_snapshot_subtract(earlier, snapshot), -EINVAL);
    assert_int_equal(weir_snapshot_add(snapshot, loop, "m"), -EINVAL);
    weir_snapshot_clear(snapshot);
    assert_int_equal(weir_snapshot_since_ns(snapshot), 0);
    add(snapshot, loop, "m");
}

/* --- capacity --------------------------------------------------------------------------------- */

static void open_tasks(struct weir_loop *of, const char *prefix, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s%u", prefix, i);
        observed_record(observed_task(of, name), FLIGHT, i, 1);
    }
}

static void as_many_rows_as_there_are_fit_and_one_more_adds_nothing(void **state)
{
    (void)state;
    open_tasks(loop, "a", 5);
    open_tasks(other, "a", 3); /* have rows, in the middle of the walk */
    open_tasks(other, "b", 2);
    struct weir_snapshot *exact = observed_snapshot(7, 2);
    struct weir_snapshot *tight = observed_snapshot(6, 2);
    add(exact, loop, "l");
    add(exact, other, "l");
    assert_int_equal(observed_rows(exact), 7);
    add(tight, loop, "l");
    assert_int_equal(weir_snapshot_copy(snapshot, tight), 0);
    assert_int_equal(weir_snapshot_add(tight, other, "l"), -ENOSPC);
    assert_int_equal(weir_snapshot_add(tight, other, "m"), -ENOSPC);
    assert_int_equal(observed_rows(tight), 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_memory_equal(weir_snapshot_task_at(tight, i), weir_snapshot_task_at(snapshot, i),
                            sizeof(struct weir_snapshot_task));
    }
    assert_memory_equal(weir_snapshot_loop_at(tight, 0), weir_snapshot_loop_at(snapshot, 0),
                        sizeof(struct weir_snapshot_loop));
    assert_null(weir_snapshot_loop_at(tight, 1));
    add(tight, loop, "l"); /* known rows always fit */
    assert_int_equal(observed_row(tight, "l", "a1")->stages[FLIGHT].count, 2);
    weir_snapshot_close(exact);
    weir_snapshot_close(tight);
}

static void as_many_labels_as_there_are_fit_and_one_more_adds_nothing(void **state)
{
    (void)state;
    struct weir_snapshot *two = observed_snapshot(0, 2);
    open_tasks(other, "o", 1);
    add(two, loop, "a");
    add(two, loop, "b");
    assert_int_equal(weir_snapshot_add(two, other, "c"), -ENOSPC);
    assert_int_equal(observed_rows(two), 0);
    add(two, other, "b");
    assert_int_equal(observed_rows(two), 1);
    weir_snapshot_close(two);
}

static void a_copy_is_the_same_and_fits_or_changes_nothing(void **state)
{
    (void)state;
    open_tasks(loop, "a", 3);
    add(earlier, loop, "l");
    add(earlier, loop, "m");
    struct weir_snapshot *exact = observed_snapshot(6, 2);
    struct weir_snapshot *few_rows = observed_snapshot(5, 2);
    struct weir_snapshot *few_labels = observed_snapshot(6, 1);
    assert_int_equal(weir_snapshot_copy(exact, earlier), 0);
    assert_int_equal(weir_snapshot_copy(exact, exact), 0);
    for (uint32_t i = 0; i < 6; i++) {
        assert_memory_equal(weir_snapshot_task_at(exact, i), weir_snapshot_task_at(earlier, i),
                            sizeof(struct weir_snapshot_task));
    }
    assert_int_equal(weir_snapshot_taken_ns(exact), weir_snapshot_taken_ns(earlier));
    assert_int_equal(weir_snapshot_copy(few_rows, earlier), -ENOSPC);
    assert_int_equal(weir_snapshot_copy(few_labels, earlier), -ENOSPC);
    assert_int_equal(observed_rows(few_rows) + observed_rows(few_labels), 0);
    assert_int_equal(weir_snapshot_copy(NULL, earlier), -EINVAL);
    assert_int_equal(weir_snapshot_copy(exact, NULL), -EINVAL);
    weir_snapshot_clear(exact);
    assert_int_equal(observed_rows(exact), 0);
    assert_null(weir_snapshot_loop_at(exact, 0));
    assert_int_equal(weir_snapshot_taken_ns(exact), 0);
    add(exact, loop, "l"); /* rows that are taken again are as new */
    assert_int_equal(observed_row(exact, "l", "a2")->stages[FLIGHT].count, 1);
    weir_snapshot_close(exact);
    weir_snapshot_close(few_rows);
    weir_snapshot_close(few_labels);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct weir_snapshot *none = NULL;
    char label[WEIR_LABEL_MAX + 2];
    memset(label, 'x', sizeof label);
    label[WEIR_LABEL_MAX + 1] = '\0';
    assert_int_equal(weir_snapshot_open(65537, 0, &none), -EINVAL);
    assert_int_equal(weir_snapshot_open(0, 65537, &none), -EINVAL);
    assert_int_equal(weir_snapshot_open(0, 0, NULL), -EINVAL);
    assert_null(none);
    assert_int_equal(weir_snapshot_add(NULL, loop, "l"), -EINVAL);
    assert_int_equal(weir_snapshot_add(snapshot, NULL, "l"), -EINVAL);
    assert_int_equal(weir_snapshot_add(snapshot, loop, NULL), -EINVAL);
    assert_int_equal(weir_snapshot_add(snapshot, loop, ""), -EINVAL);
    assert_int_equal(weir_snapshot_add(snapshot, loop, label), -ENAMETOOLONG);
    assert_null(weir_snapshot_loop_at(snapshot, 0));
    add(snapshot, loop, label + 1);
    assert_int_equal(weir_snapshot_subtract(NULL, snapshot), -EINVAL);
    assert_int_equal(weir_snapshot_subtract(snapshot, NULL), -EINVAL);
    assert_null(weir_snapshot_task_at(NULL, 0));
    assert_null(weir_snapshot_loop_at(NULL, 0));
    weir_snapshot_clear(NULL);
    weir_snapshot_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_snapshot_holds_what_each_task_tells),
        TEST(a_loops_own_numbers_are_in_its_row),
        TEST(the_difference_of_two_snapshots_is_what_happened_between),
        TEST(an_intervals_max_is_its_own_buckets),
        TEST(a_row_that_was_reset_between_the_two_stays_whole),
        TEST(a_task_in_the_place_of_another_of_its_name_stays_whole),
        TEST(a_row_whose_loop_was_replaced_never_goes_below_zero),
        TEST(a_row_of_which_any_bucket_shrank_stays_whole),
        TEST(an_interval_is_not_used_as_a_whole),
        TEST(as_many_rows_as_there_are_fit_and_one_more_adds_nothing),
        TEST(as_many_labels_as_there_are_fit_and_one_more_adds_nothing),
        TEST(a_copy_is_the_same_and_fits_or_changes_nothing),
        TEST(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
