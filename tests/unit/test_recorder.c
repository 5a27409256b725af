/* SPDX-License-Identifier: MIT */
/* engine/observe/recorder.h: what stands in the ring, and what the dump makes of it. */
#include "told.h"

#include <stdio.h>
#include <string.h>

#define EVENTS 1024u
#define OPS 40u
#define DAY_NS (24ULL * 3600 * 1000000000)

struct world {
    struct weir_recorder recorder;
    struct weir_guard guard;
    struct weir_tasks tasks;
    struct weir_task *task; /* "wal" */
    uint32_t index;         /* of it */
    struct weir_op ops[OPS];
    void *ring;
    void *memory;
};

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    size_t size = (WEIR_KIND_COUNT + 2) * sizeof(struct weir_task);
    world->memory = calloc(1, size);
    world->ring = calloc(1, weir_recorder_size(EVENTS));
    assert_true(world->memory && world->ring);
    weir_tasks_init(&world->tasks, &world->guard, world->memory, size);
    assert_int_equal(weir_tasks_open(&world->tasks, "wal \"1\"", &world->task), 0);
    world->index = (uint32_t)(world->task - world->tasks.array);
    weir_recorder_init(&world->recorder, EVENTS, world->ring);
    for (uint32_t i = 0; i < OPS; i++) {
        weir_op_read(&world->ops[i], (int)i, NULL, 0, 0);
    }
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    free(world->ring);
    free(world->memory);
    free(world);
    return 0;
}

static void note(struct world *world, enum weir_recorded what, uint32_t op, int64_t value,
                 uint64_t at_ns)
{
    weir_recorder_note(&world->recorder, what, &world->ops[op], world->index, value, at_ns);
}

static void note_life(struct world *world, uint32_t op, uint64_t at_ns)
{
    note(world, WEIR_RECORDED_SUBMITTED, op, 0, at_ns);
    note(world, WEIR_RECORDED_LEFT, op, 0, at_ns + 1);
    note(world, WEIR_RECORDED_DONE, op, 7, at_ns + 2);
    note(world, WEIR_RECORDED_HANDED_BACK, op, 7, at_ns + 3);
}

/* What a dump tells, of those phases. */
static void expect(struct world *world, uint64_t now_ns, const char *phases, const char *story)
{
    static char text[4096];
    struct told told;
    told_dump(&told, &world->recorder, &world->tasks, now_ns);
    assert_string_equal(told_story(&told, phases, text, sizeof text), story);
    told_free(&told);
}

static void a_ring_has_a_power_of_two_of_places(void **state)
{
    (void)state;
    assert_int_equal(weir_recorder_size(0), 0);
    assert_int_equal(weir_recorder_size(1), 1024 * sizeof(struct weir_record));
    assert_int_equal(weir_recorder_size(1024), 1024 * sizeof(struct weir_record));
    assert_int_equal(weir_recorder_size(1025), 2048 * sizeof(struct weir_record));
    assert_true(weir_recorder_size(WEIR_RECORDER_MAX) == (1ULL << 24) * sizeof(struct weir_record));
}

static void a_dump_without_a_ring_or_a_writer_is_refused(void **state)
{
    struct world *world = *state;
    struct told told = {0};
    struct weir_recorder none;
    weir_recorder_init(&none, 0, NULL);
    assert_int_equal(weir_recorder_dump(&none, &world->tasks, 1, told_write, &told), -ENODATA);
    assert_int_equal(weir_recorder_dump(NULL, &world->tasks, 1, told_write, &told), -EINVAL);
    assert_int_equal(weir_recorder_dump(&world->recorder, NULL, 1, told_write, &told), -EINVAL);
    assert_int_equal(weir_recorder_dump(&world->recorder, &world->tasks, 1, NULL, NULL), -EINVAL);
    assert_int_equal(told.calls, 0);
}

static void an_empty_ring_is_a_trace_of_nothing(void **state)
{
    expect(*state, 500, "beniC", "C ops live=0 @0; C ops in flight=0 @0");
}

static void a_life_is_a_slice_with_its_stages_inside(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 3, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 3, 0, 1010);
    note(world, WEIR_RECORDED_DONE, 3, 4096, 1400);
    note(world, WEIR_RECORDED_HANDED_BACK, 3, 4096, 1402);
    expect(world, 9000, "be",
           "b read @0; b wait @0; e wait @10; b flight @10; e flight @400; b delivery @400; "
           "e delivery @402; e read=4096 @402");
    expect(world, 9000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=1 @0; C ops in flight=1 @10; "
           "C ops in flight=0 @400; C ops live=0 @402");
}

static void a_slice_says_task_row_and_fd_if_there_is_one(void **state)
{
    struct world *world = *state;
    struct told told;
    note_life(world, 3, 1000);
    weir_op_nop(&world->ops[4]);
    note_life(world, 4, 1000);
    told_dump(&told, &world->recorder, &world->tasks, 2000);
    assert_int_equal(told.events[0].fd, 3);
    assert_int_equal(told.events[8].fd, INT32_MIN);
    assert_int_equal(told.events[0].tid, world->index + 1);
    assert_non_null(strstr(told.text, "\"args\":{\"task\":\"wal \\\"1\\\"\",\"fd\":3,"));
    char row[160];
    snprintf(row, sizeof row,
             "\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":\"wal \\\"1\\\"\"}}",
             world->index + 1);
    assert_non_null(strstr(told.text, row));
    assert_non_null(strstr(told.text, "\"name\":\"process_name\""));
    told_free(&told);
}

static void a_task_that_is_none_is_a_question_mark(void **state)
{
    struct world *world = *state;
    struct told told;
    world->index = 60000;
    note_life(world, 3, 1000);
    told_dump(&told, &world->recorder, &world->tasks, 2000);
    assert_int_equal(told.events[0].tid, 60001);
    assert_non_null(strstr(told.text, "\"task\":\"?\""));
    told_free(&told);
}

static void a_timer_is_in_flight_at_once_and_counted_as_live_only(void **state)
{
    struct world *world = *state;
    weir_op_timeout(&world->ops[0], 1200);
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_DONE, 0, 0, 1200);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, 0, 1201);
    expect(world, 2000, "be",
           "b timeout @0; b flight @0; e flight @200; b delivery @200; e delivery @201; "
           "e timeout=0 @201");
    expect(world, 2000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=1 @0; C ops live=0 @201");
}

static void an_op_cancelled_at_the_gate_never_flies(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_DONE, 0, -ECANCELED, 1200);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, -ECANCELED, 1200);
    char story[256];
    snprintf(story, sizeof story,
             "b read @0; b wait @0; e wait @200; b delivery @200; e delivery @200; e read=%d @200",
             -ECANCELED);
    expect(world, 2000, "be", story);
    expect(world, 2000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=1 @0; C ops live=0 @200");
}

/* Withdrawn between its submission and the turn that would have stamped it. */
static void an_op_that_leaves_after_it_is_done_has_not_flown(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_DONE, 0, -ECANCELED, 1100);
    note(world, WEIR_RECORDED_LEFT, 0, 0, 1150);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, -ECANCELED, 1200);
    char story[256];
    snprintf(story, sizeof story,
             "b read @0; b wait @0; e wait @100; b delivery @100; e delivery @200; e read=%d @200",
             -ECANCELED);
    expect(world, 2000, "be", story);
}

static void what_is_live_ends_at_the_dump(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_SUBMITTED, 1, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 1, 0, 1001);
    note(world, WEIR_RECORDED_SUBMITTED, 2, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 2, 0, 1001);
    note(world, WEIR_RECORDED_DONE, 2, 5, 1002);
    expect(world, 1100, "be",
           "b read @0; b wait @0; e wait @100; e read @100 live; "
           "b read @0; b wait @0; e wait @1; b flight @1; e flight @100; e read @100 live; "
           "b read @0; b wait @0; e wait @1; b flight @1; e flight @2; b delivery @2; "
           "e delivery @100; e read=5 @100 live");
    expect(world, 1100, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=3 @0; C ops in flight=2 @1; "
           "C ops in flight=1 @2");
}

static void a_dump_older_than_its_events_ends_what_is_live_with_them(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    expect(world, 10, "be", "b read @0; b wait @0; e wait @0; e read @0 live");
}

static void an_address_may_be_many_ops_one_after_the_other(void **state)
{
    struct world *world = *state;
    struct told told;
    note_life(world, 0, 1000);
    note_life(world, 0, 1003); /* in its own callback, at the same reading */
    told_dump(&told, &world->recorder, &world->tasks, 2000);
    assert_int_equal(told.events[0].id, 0);
    assert_int_equal(told.events[8].id, 4);
    assert_int_equal(told.events[8].ts_ns, 3);
    told_free(&told);
}

/* DONE is of the turn's reading, HANDED_BACK of a later one: in the ring they alternate. */
static void stamps_out_of_turn_disturb_nobody_else(void **state)
{
    struct world *world = *state;
    for (uint32_t op = 0; op < 2; op++) {
        note(world, WEIR_RECORDED_SUBMITTED, op, 0, 1000);
        note(world, WEIR_RECORDED_LEFT, op, 0, 1000);
    }
    note(world, WEIR_RECORDED_DONE, 0, 0, 1100);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, 0, 1150);
    note(world, WEIR_RECORDED_DONE, 1, 0, 1100);
    note(world, WEIR_RECORDED_HANDED_BACK, 1, 0, 1160);
    expect(world, 2000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=2 @0; C ops in flight=2 @0; "
           "C ops in flight=0 @100; C ops live=1 @150; C ops live=0 @160");
}

static void a_clock_that_steps_back_stands_still_instead(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 0, 0, 990);
    note(world, WEIR_RECORDED_DONE, 0, 0, 1005);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, 0, 1004);
    expect(world, 2000, "be",
           "b read @10; b wait @10; e wait @10; b flight @10; e flight @15; b delivery @15; "
           "e delivery @15; e read=0 @15");
}

static void an_address_is_one_op_at_a_time_though_the_clock_steps_back(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_REFUSED, 1, -EAGAIN, 900);
    note_life(world, 0, 1000);
    note_life(world, 0, 1001);
    struct told told;
    told_dump(&told, &world->recorder, &world->tasks, 2000);
    assert_int_equal(told.events[7].ts_ns, 103);
    assert_int_equal(told.events[8].ts_ns, 103);
    told_free(&told);
}

/* Of an op that was submitted while live both ends come. */
static void an_end_that_is_one_too_many_is_a_life_of_its_own(void **state)
{
    struct world *world = *state;
    note_life(world, 0, 1000);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, 7, 1010);
    expect(world, 2000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=1 @0; C ops in flight=1 @1; "
           "C ops in flight=0 @2; C ops live=0 @10");
    expect(world, 2000, "be",
           "b read @0; b wait @0; e wait @1; b flight @1; e flight @2; b delivery @2; "
           "e delivery @3; e read=7 @3; "
           "b read @3 earlier; b delivery @3; e delivery @10; e read=7 @10");
}

static void times_are_exact_after_a_year_of_uptime(void **state)
{
    struct world *world = *state;
    struct told told;
    note_life(world, 0, 365 * DAY_NS + 1);
    note_life(world, 0, 366 * DAY_NS + 3); /* past 2^53 ns: a double of ns would be even */
    told_dump(&told, &world->recorder, &world->tasks, 367 * DAY_NS);
    assert_true(told.begin_ns == 365 * DAY_NS + 1);
    assert_true(told.events[8].ts_ns == DAY_NS + 2);
    assert_non_null(strstr(told.text, "\"ts\":86400000000.002,"));
    told_free(&told);
}

static void a_refusal_is_an_instant_and_no_life(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_REFUSED, 0, -EAGAIN, 1000);
    note(world, WEIR_RECORDED_SUBMITTED, 1, 0, 1000);
    note(world, WEIR_RECORDED_REFUSED, 1, -EBUSY, 1001);
    note(world, WEIR_RECORDED_LEFT, 1, 0, 1002);
    note(world, WEIR_RECORDED_DONE, 1, 0, 1003);
    note(world, WEIR_RECORDED_HANDED_BACK, 1, 0, 1004);
    world->ops[2].kind = 200;
    note(world, WEIR_RECORDED_REFUSED, 2, -EINVAL, 1005);
    char story[160];
    snprintf(story, sizeof story, "i refused read=%d @0; i refused read=%d @1; i refused ?=%d @5",
             -EAGAIN, -EBUSY, -EINVAL);
    expect(world, 2000, "i", story);
    expect(world, 2000, "be",
           "b read @0; b wait @0; e wait @2; b flight @2; e flight @3; b delivery @3; "
           "e delivery @4; e read=0 @4");
}

static void an_op_submitted_while_live_is_lost_and_another_begins(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 0, 0, 1000);
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1010);
    note(world, WEIR_RECORDED_DONE, 0, 1, 1020);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, 1, 1020);
    expect(world, 2000, "be",
           "b read @0; b wait @0; e wait @0; b flight @0; e flight @10; e read @10 lost; "
           "b read @10; b wait @10; e wait @20; b delivery @20; e delivery @20; e read=1 @20");
    expect(world, 2000, "C",
           "C ops live=0 @0; C ops in flight=0 @0; C ops live=1 @0; C ops in flight=1 @0; "
           "C ops in flight=0 @10; C ops live=0 @20");
}

/* --- written over ----------------------------------------------------------------------------- */

/* The first events are those of op 0 to the third; fills the ring up with lives of op 1, so that
 * the first `lost` cannot be read. */
static void lose(struct world *world, uint64_t lost)
{
    uint64_t more = EVENTS - 1 + lost - world->recorder.written;
    for (uint64_t i = 0; i < more / 4; i++) {
        note_life(world, 1, 2000 + 4 * i);
    }
    for (uint64_t i = 0; i < more % 4; i++) {
        note(world, WEIR_RECORDED_REFUSED, 2, -EAGAIN, 9000);
    }
}

static void note_split_life(struct world *world, int64_t result)
{
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 0, 0, 1010);
    note(world, WEIR_RECORDED_DONE, 0, result, 1020);
    note(world, WEIR_RECORDED_HANDED_BACK, 0, result, 1030);
}

/* The first `count` slices of it. */
static void expect_first(struct world *world, uint64_t lost, size_t count, const char *story)
{
    static char text[4096];
    struct told told;
    lose(world, lost);
    told_dump(&told, &world->recorder, &world->tasks, 10000);
    assert_int_equal(told.lost, lost);
    assert_int_equal(told.kept, EVENTS - 1);
    told.count = count;
    assert_string_equal(told_story(&told, "be", text, sizeof text), story);
    told_free(&told);
}

static void a_ring_that_is_full_but_for_one_place_has_lost_nothing(void **state)
{
    struct world *world = *state;
    note_split_life(world, 5);
    expect_first(world, 0, 8,
                 "b read @0; b wait @0; e wait @10; b flight @10; e flight @20; b delivery @20; "
                 "e delivery @30; e read=5 @30");
}

static void an_op_whose_submission_is_lost_waits_from_the_oldest_event_on(void **state)
{
    struct world *world = *state;
    note_split_life(world, 5);
    expect_first(world, 1, 8,
                 "b read @0 earlier; b wait @0; e wait @0; b flight @0; e flight @10; "
                 "b delivery @10; e delivery @20; e read=5 @20");
    expect(world, 10000, "i", "");
}

static void an_op_of_which_the_leaving_is_lost_flies_from_the_oldest_event_on(void **state)
{
    struct world *world = *state;
    note(world, WEIR_RECORDED_SUBMITTED, 3, 0, 1000);
    note(world, WEIR_RECORDED_LEFT, 3, 0, 1000);
    note(world, WEIR_RECORDED_SUBMITTED, 0, 0, 1000);
    note(world, WEIR_RECORDED_DONE, 3, 1, 1500);
    note(world, WEIR_RECORDED_DONE, 0, -ECANCELED, 1510);
    lose(world, 3);
    struct told told;
    told_dump(&told, &world->recorder, &world->tasks, 10000);
    static char text[1 << 20];
    told_story(&told, "be", text, sizeof text);
    assert_non_null(strstr(text, "b read @0 earlier; b flight @0; e flight @0; b delivery @0; "
                                 "e delivery @8500; e read=1 @8500 live"));
    /* It may have waited, or flown: no more is said than is known. */
    assert_non_null(strstr(text, "b read @0 earlier; b delivery @10; e delivery @8500; "
                                 "e read=-125 @8500 live"));
    told_story(&told, "C", text, sizeof text);
    assert_non_null(strstr(text, "C ops live=0 @0; C ops in flight=0 @0; C ops live=2 @0; "));
    told_free(&told);
}

static void an_op_of_which_all_but_the_end_is_lost_was_being_delivered(void **state)
{
    struct world *world = *state;
    note_split_life(world, 5);
    expect_first(world, 3, 4, "b read @0 earlier; b delivery @0; e delivery @0; e read=5 @0");
}

static void a_ring_written_over_many_times_tells_its_last_events(void **state)
{
    struct world *world = *state;
    struct told told;
    for (uint64_t i = 0; i < 10 * EVENTS; i++) {
        note_life(world, (uint32_t)(i % OPS), 1000 + 4 * i);
    }
    told_dump(&told, &world->recorder, &world->tasks, 1ULL << 40);
    assert_int_equal(told.kept, EVENTS - 1);
    assert_int_equal(told.lost, 40 * EVENTS - EVENTS + 1);
    uint64_t begun = 0;
    uint64_t earlier = 0;
    for (size_t i = 0; i < told.count; i++) {
        begun += told.events[i].phase == 'b' && strcmp(told.events[i].name, "read") == 0;
        earlier += told.events[i].earlier;
    }
    assert_int_equal(begun, EVENTS / 4);
    assert_int_equal(earlier, 1); /* of four events one is lost */
    told_free(&told);
}

static void what_the_writer_answers_is_answered_and_nothing_is_written_after_it(void **state)
{
    struct world *world = *state;
    for (uint64_t i = 0; i < 100; i++) {
        note_life(world, 0, 1000 + 4 * i);
    }
    struct told all = {0};
    assert_int_equal(weir_recorder_dump(&world->recorder, &world->tasks, 9999, told_write, &all),
                     0);
    for (int at = 1; at <= all.calls; at++) {
        struct told told = {.fail_at = at, .fail_with = -EPIPE};
        int r = weir_recorder_dump(&world->recorder, &world->tasks, 9999, told_write, &told);
        assert_int_equal(r, -EPIPE);
        assert_int_equal(told.calls, at);
        told_free(&told);
    }
    told_free(&all);
}

int main(void)
{
#define RECORDER_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        RECORDER_TEST(a_ring_has_a_power_of_two_of_places),
        RECORDER_TEST(a_dump_without_a_ring_or_a_writer_is_refused),
        RECORDER_TEST(an_empty_ring_is_a_trace_of_nothing),
        RECORDER_TEST(a_life_is_a_slice_with_its_stages_inside),
        RECORDER_TEST(a_slice_says_task_row_and_fd_if_there_is_one),
        RECORDER_TEST(a_task_that_is_none_is_a_question_mark),
        RECORDER_TEST(a_timer_is_in_flight_at_once_and_counted_as_live_only),
        RECORDER_TEST(an_op_cancelled_at_the_gate_never_flies),
        RECORDER_TEST(an_op_that_leaves_after_it_is_done_has_not_flown),
        RECORDER_TEST(what_is_live_ends_at_the_dump),
        RECORDER_TEST(a_dump_older_than_its_events_ends_what_is_live_with_them),
        RECORDER_TEST(an_address_may_be_many_ops_one_after_the_other),
        RECORDER_TEST(stamps_out_of_turn_disturb_nobody_else),
        RECORDER_TEST(a_clock_that_steps_back_stands_still_instead),
        RECORDER_TEST(an_address_is_one_op_at_a_time_though_the_clock_steps_back),
        RECORDER_TEST(an_end_that_is_one_too_many_is_a_life_of_its_own),
        RECORDER_TEST(times_are_exact_after_a_year_of_uptime),
        RECORDER_TEST(a_refusal_is_an_instant_and_no_life),
        RECORDER_TEST(an_op_submitted_while_live_is_lost_and_another_begins),
        RECORDER_TEST(a_ring_that_is_full_but_for_one_place_has_lost_nothing),
        RECORDER_TEST(an_op_whose_submission_is_lost_waits_from_the_oldest_event_on),
        RECORDER_TEST(an_op_of_which_the_leaving_is_lost_flies_from_the_oldest_event_on),
        RECORDER_TEST(an_op_of_which_all_but_the_end_is_lost_was_being_delivered),
        RECORDER_TEST(a_ring_written_over_many_times_tells_its_last_events),
        RECORDER_TEST(what_the_writer_answers_is_answered_and_nothing_is_written_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
