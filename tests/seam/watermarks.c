/* SPDX-License-Identifier: MIT */
/* watermarks.c: who wants to know when a gate fills and when it has emptied, at both gates. */
#include "gates.h"

#define MARKS 3

static struct {
    struct weir_watermark mark;
    unsigned above;
    unsigned below;
    void (*then)(struct weir_watermark *mark, int is_above);
} marks[MARKS];

static struct weir_loop *marked;

static void mark_called(struct weir_watermark *mark, int is_above)
{
    size_t i = (size_t)(uintptr_t)mark->user;
    *(is_above ? &marks[i].above : &marks[i].below) += 1;
    if (marks[i].then != NULL) {
        marks[i].then(mark, is_above);
    }
}

static void marks_reset(struct weir_loop *loop)
{
    memset(marks, 0, sizeof marks);
    marked = loop;
    for (size_t i = 0; i < MARKS; i++) {
        marks[i].mark.callback = mark_called;
        marks[i].mark.user = (void *)(uintptr_t)i;
    }
}

/* The gate that is meant, by an op of it. */
static const struct weir_op *example(bool offload)
{
    static struct weir_op call;
    weir_op_call(&call, seam_work_do, NULL);
    return offload ? &call : NULL;
}

static void watch(size_t i, bool offload, uint32_t high, uint32_t low)
{
    marks[i].mark.high = high;
    marks[i].mark.low = low;
    expect_equal(weir_watch_gate(marked, &marks[i].mark, example(offload)), 0);
}

static void expect_told(size_t i, unsigned above, unsigned below)
{
    expect_equal(marks[i].above, above);
    expect_equal(marks[i].below, below);
}

/* --- crossings -------------------------------------------------------------------------------- */

static void cross_both_ways(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 2, 2));
    struct guest guests[4];
    marks_reset(loop);
    watch(0, offload, 3, 1);
    for (unsigned round = 1; round <= 3; round++) {
        guest_stay(loop, &guests[0], offload, NULL);
        guest_stay(loop, &guests[1], offload, NULL);
        seam_turns(loop, 3);
        expect_told(0, round - 1, round - 1); /* one below the mark */
        guest_stay(loop, &guests[2], offload, NULL);
        expect_told(0, round - 1, round - 1); /* not inside submit */
        seam_turns(loop, 1);
        expect_told(0, round, round - 1);
        guest_stay(loop, &guests[3], offload, NULL);
        seam_turns(loop, 3);
        expect_told(0, round, round - 1); /* once */
        guest_leave(loop, &guests[0]);
        guest_leave(loop, &guests[1]);
        seam_turns(loop, 2);
        expect_told(0, round, round - 1); /* one above the low one */
        guest_leave(loop, &guests[2]);
        expect_told(0, round, round);
        guest_leave(loop, &guests[3]);
        seam_turns(loop, 2);
        expect_told(0, round, round);
    }
    expect_equal(weir_unwatch_gate(loop, &marks[0].mark), 0);
    seam_end(loop);
}

SEAM_TEST(a_mark_is_told_once_when_it_is_reached_and_once_when_the_low_one_is)
{
    gates_both(cross_both_ways);
}

/* The turn has nothing else to do, and would sleep until the op is let go. */
static void tell_without_sleeping(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 4, 0));
    struct guest guests[2];
    marks_reset(loop);
    seam_turns(loop, 2);
    watch(0, offload, 1, 0);
    guest_stay(loop, &guests[0], offload, NULL);
    expect(seam_turn(loop, -1) >= 0);
    expect_told(0, 1, 0);
    watch(1, offload, 1, 0); /* crossed already */
    expect(seam_turn(loop, -1) >= 0);
    expect_told(1, 1, 0);
    guest_leave(loop, &guests[0]);
    expect_told(0, 1, 1);
    expect_told(1, 1, 1);
    guest_stay(loop, &guests[1], offload, NULL);
    expect(seam_turn(loop, -1) >= 0);
    expect_told(0, 2, 1);
    guest_leave(loop, &guests[1]);
    seam_end(loop);
}

SEAM_TEST(a_crossing_between_turns_is_told_by_the_next_which_does_not_sleep)
{
    gates_both(tell_without_sleeping);
}

SEAM_TEST(the_gates_have_marks_of_their_own)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 4, .offload_workers = 1, .offload_depth = 4});
    struct guest call;
    struct guest read_op;
    marks_reset(loop);
    watch(0, false, 1, 0);
    watch(1, true, 1, 0);
    guest_stay(loop, &call, true, NULL);
    seam_turns(loop, 2);
    expect_told(0, 0, 0);
    expect_told(1, 1, 0);
    guest_stay(loop, &read_op, false, NULL);
    seam_turns(loop, 2);
    expect_told(0, 1, 0);
    guest_leave(loop, &call);
    expect_told(0, 1, 0);
    expect_told(1, 1, 1);
    guest_leave(loop, &read_op);
    expect_told(0, 1, 1);
    seam_end(loop);
}

static struct guest again;

static void submit_again(struct tracked *op)
{
    (void)op;
    guest_stay(marked, &again, false, NULL);
}

/* Down to the low mark, and up again before the turn has ended. */
SEAM_TEST(a_crossing_that_is_undone_within_its_turn_is_not_told)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct guest first;
    marks_reset(loop);
    watch(0, false, 1, 0);
    guest_stay(loop, &first, false, NULL);
    guest_op(&first)->then = submit_again;
    seam_turns(loop, 1);
    expect_told(0, 1, 0);
    guest_leave(loop, &first);
    seam_turns(loop, 2);
    expect_told(0, 1, 0);
    guest_leave(loop, &again);
    expect_told(0, 1, 1);
    seam_end(loop);
}

/* --- in the callback -------------------------------------------------------------------------- */

static struct guest submitted;

/* Crosses the mark again, each way: it is told of that by the next turn. */
static void submit_more(struct weir_watermark *mark, int is_above)
{
    (void)mark;
    if (!is_above && marks[0].below == 1) {
        guest_stay(marked, &submitted, false, NULL);
    }
}

SEAM_TEST(its_callback_may_submit_and_a_mark_is_told_at_most_once_a_turn)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct guest first;
    marks_reset(loop);
    marks[0].then = submit_more;
    watch(0, false, 1, 0);
    guest_stay(loop, &first, false, NULL);
    seam_turns(loop, 1);
    expect_told(0, 1, 0);
    guest_leave(loop, &first);
    expect_told(0, 1, 1); /* it has submitted, and the level is above again */
    expect(seam_turn(loop, -1) >= 0);
    expect_told(0, 2, 1);
    guest_leave(loop, &submitted);
    expect_told(0, 2, 2);
    seam_end(loop);
}

static void unwatch_all(struct weir_watermark *mark, int is_above)
{
    expect_equal(is_above, 1);
    for (size_t i = 0; i < MARKS; i++) {
        int r = weir_unwatch_gate(marked, &marks[i].mark);
        expect_equal(r, 0);
    }
    memset(mark, 0x5a, sizeof *mark); /* ours again: nobody looks at it */
}

SEAM_TEST(its_callback_may_unwatch_itself_and_the_others)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct guest guest;
    marks_reset(loop);
    for (size_t i = 0; i < MARKS; i++) {
        marks[i].then = unwatch_all;
        watch(i, false, 1, 0);
    }
    guest_stay(loop, &guest, false, NULL);
    seam_turns(loop, 3);
    expect_equal(marks[0].above + marks[1].above + marks[2].above, 1);
    guest_leave(loop, &guest);
    expect_equal(marks[0].below + marks[1].below + marks[2].below, 0);
    seam_end(loop);
}

static void watch_anew(struct weir_watermark *mark, int is_above)
{
    if (is_above) {
        expect_equal(weir_unwatch_gate(marked, mark), 0);
        expect_equal(weir_watch_gate(marked, mark, NULL), 0);
    }
}

SEAM_TEST(one_that_watches_anew_is_told_by_the_next_turn)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4});
    struct guest guest;
    marks_reset(loop);
    marks[0].then = watch_anew;
    watch(0, false, 1, 0);
    guest_stay(loop, &guest, false, NULL);
    for (unsigned turn = 1; turn <= 5; turn++) {
        expect(seam_turn(loop, -1) >= 0);
        expect_told(0, turn, 0);
    }
    marks[0].then = NULL;
    guest_leave(loop, &guest);
    seam_end(loop);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void keep_limits(bool offload)
{
    static const struct {
        uint32_t high;
        uint32_t low;
        int want;
    } cases[] = {
        {7, 6, 0},       {7, 0, 0},       {1, 0, 0},       {8, 0, -EINVAL},
        {0, 0, -EINVAL}, {3, 3, -EINVAL}, {3, 4, -EINVAL}, {UINT32_MAX, 0, -EINVAL},
    };
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 4, 3));
    marks_reset(loop);
    for (size_t i = 0; i < SEAM_COUNT(cases); i++) {
        struct weir_watermark *mark = &marks[0].mark;
        mark->high = cases[i].high;
        mark->low = cases[i].low;
        expect_equal(weir_watch_gate(loop, mark, example(offload)), cases[i].want);
        if (cases[i].want == 0) {
            expect_equal(weir_watch_gate(loop, mark, example(offload)), -EBUSY);
            expect_equal(weir_unwatch_gate(loop, mark), 0);
        }
        expect_equal(weir_unwatch_gate(loop, mark), -ENOENT);
    }
    seam_end(loop);
}

SEAM_TEST(marks_are_taken_up_to_the_places_of_the_gate_and_not_past_them)
{
    gates_both(keep_limits);
}

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    expect_equal(result, 0);
}

SEAM_TEST(watching_is_refused_as_the_header_says)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.offload_workers = WEIR_NO_OFFLOAD});
    struct weir_loop *other = seam_loop();
    struct weir_watermark none = {.high = 1};
    struct weir_gate_state gate;
    struct tracked op = {0};
    marks_reset(loop);
    struct weir_watermark *mark = &marks[0].mark;
    mark->high = 1;
    expect_equal(weir_watch_gate(NULL, mark, NULL), -EINVAL);
    expect_equal(weir_watch_gate(loop, NULL, NULL), -EINVAL);
    expect_equal(weir_watch_gate(loop, &none, NULL), -EINVAL);
    expect_equal(weir_watch_gate(loop, mark, &op.op), -EINVAL); /* of no kind */
    weir_op_timeout(&op.op, 1);
    expect_equal(weir_watch_gate(loop, mark, &op.op), -EINVAL);
    expect_equal(weir_loop_gate(loop, &op.op, &gate), -EINVAL);
    expect_equal(weir_watch_gate(loop, mark, example(true)), -EOPNOTSUPP);
    weir_op_nop(&op.op);
    op.op.task = gates_task(other, (struct weir_task_options){0});
    expect_equal(weir_watch_gate(loop, mark, &op.op), -EINVAL);
    expect_equal(weir_unwatch_gate(loop, NULL), -EINVAL);
    expect_equal(weir_unwatch_gate(NULL, mark), -EINVAL);
    expect_equal(weir_loop_gate(loop, NULL, NULL), -EINVAL);
    expect_equal(weir_loop_gate(NULL, NULL, &gate), -EINVAL);
    expect_equal(weir_watch_gate(loop, mark, NULL), 0);
    expect_equal(weir_unwatch_gate(other, mark), -ENOENT);
    expect_equal(weir_loop_close_begin(loop, WEIR_S, closed), 0);
    expect_equal(weir_watch_gate(loop, &none, NULL), -ESHUTDOWN);
    expect_equal(weir_unwatch_gate(loop, mark), 0);
    seam_end(loop);
    seam_end(other);
}

static void never_told(struct weir_watermark *mark, int is_above)
{
    (void)mark;
    (void)is_above;
    expect(false);
}

SEAM_TEST(one_of_a_loop_that_is_gone_may_watch_another)
{
    struct weir_watermark mark = {.callback = never_told, .high = 2, .low = 1};
    for (int i = 0; i < 2; i++) {
        struct weir_loop *loop = seam_loop();
        expect_equal(weir_watch_gate(loop, &mark, NULL), 0);
        seam_end(loop);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_of_a_loop_that_is_gone_may_watch_another),
    cmocka_unit_test(a_mark_is_told_once_when_it_is_reached_and_once_when_the_low_one_is),
    cmocka_unit_test(a_crossing_between_turns_is_told_by_the_next_which_does_not_sleep),
    cmocka_unit_test(the_gates_have_marks_of_their_own),
    cmocka_unit_test(a_crossing_that_is_undone_within_its_turn_is_not_told),
    cmocka_unit_test(its_callback_may_submit_and_a_mark_is_told_at_most_once_a_turn),
    cmocka_unit_test(its_callback_may_unwatch_itself_and_the_others),
    cmocka_unit_test(one_that_watches_anew_is_told_by_the_next_turn),
    cmocka_unit_test(marks_are_taken_up_to_the_places_of_the_gate_and_not_past_them),
    cmocka_unit_test(watching_is_refused_as_the_header_says),
};

const struct seam_group watermarks_group = SEAM_GROUP("watermarks", tests);
