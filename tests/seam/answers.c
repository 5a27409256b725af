/* SPDX-License-Identifier: MIT */
/* answers.c: what submit does when there is no credit: refuse, wait, or let the caller run it; by
 * the loop's default and by the op's own flag, at both gates. And ops that wait too long. */
#include "gates.h"

static void expect_refused(struct weir_loop *loop, struct guest *guest, uint16_t flags)
{
    guest_op(guest)->op.flags = flags;
    seam_refused(loop, guest_op(guest), -EAGAIN);
}

static void expect_taken(struct weir_loop *loop, struct guest *guest, uint16_t flags)
{
    guest_op(guest)->op.flags = flags;
    seam_submit(loop, guest_op(guest));
}

/* --- one that refuses ------------------------------------------------------------------------- */

static void refuse_to_wait(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 2));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest first;
    struct guest ops[2];
    guest_fill(&first, offload, true, task);
    expect_taken(loop, &first, WEIR_OR_REFUSE); /* there is a credit */
    guest_fill(&ops[0], offload, false, task);
    guest_fill(&ops[1], offload, false, task);
    expect_refused(loop, &ops[0], WEIR_OR_REFUSE); /* before it has left */
    seam_turns(loop, 2);
    expect_refused(loop, &ops[0], WEIR_OR_REFUSE);
    expect_equal(seam_counters(loop).refused, 2);
    expect_equal(gates_counters(task).refused, 2);
    expect_equal(seam_counters(loop).waited, 0);
    expect_taken(loop, &ops[0], 0);
    expect_taken(loop, &ops[1], WEIR_OR_WAIT);
    expect_equal(seam_counters(loop).waited, 2);
    expect_equal(gates_counters(task).waited, 2);
    expect_equal(gates_state(loop, offload).waiting, 2);
    guest_leave(loop, &first);
    expect_equal(seam_run(loop), 0);
    expect_taken(loop, &ops[0], WEIR_OR_REFUSE);
    expect_equal(seam_run(loop), 0);
    expect_equal(guest_op(&ops[0])->calls, 2);
    seam_end(loop);
}

SEAM_TEST(an_op_that_refuses_is_refused_where_it_would_have_to_wait)
{
    gates_both(refuse_to_wait);
}

static void refuse_by_default(bool offload)
{
    struct weir_options options = gates_options(offload, 1, 1);
    options.flags = WEIR_REFUSES;
    struct weir_loop *loop = seam_loop_with(options);
    struct guest first;
    struct guest ops[2];
    guest_stay(loop, &first, offload, NULL);
    guest_fill(&ops[0], offload, false, NULL);
    guest_fill(&ops[1], offload, false, NULL);
    expect_refused(loop, &ops[0], 0);
    expect_refused(loop, &ops[0], WEIR_OR_REFUSE);
    expect_taken(loop, &ops[0], WEIR_OR_WAIT);
    expect_refused(loop, &ops[1], WEIR_OR_WAIT); /* nor is there a place to wait */
    seam_turns(loop, 2);
    expect_refused(loop, &ops[1], 0);
    expect_equal(seam_counters(loop).refused, 4);
    expect_equal(seam_counters(loop).waited, 1);
    guest_leave(loop, &first);
    seam_run(loop);
    expect_taken(loop, &ops[1], 0);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
}

SEAM_TEST(a_loop_that_refuses_lets_those_wait_that_say_so)
{
    gates_both(refuse_by_default);
}

static void refuse_what_is_reserved(bool offload)
{
    struct weir_options options = gates_options(offload, 3, 3);
    options.flags = WEIR_REFUSES;
    struct weir_loop *loop = seam_loop_with(options);
    struct weir_task_options reserving = {0};
    *(offload ? &reserving.offload_reserve : &reserving.reserve) = 1;
    gates_task(loop, reserving);
    struct guest stays[2];
    struct guest op;
    guest_fill(&op, offload, false, NULL);
    guest_stay(loop, &stays[0], offload, NULL);
    guest_stay(loop, &stays[1], offload, NULL);
    expect_refused(loop, &op, 0); /* the third credit is not its own */
    seam_turns(loop, 2);
    expect_refused(loop, &op, 0);
    guest_leave(loop, &stays[0]);
    expect_taken(loop, &op, 0);
    guest_leave(loop, &stays[1]);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
}

SEAM_TEST(an_op_that_refuses_is_refused_what_is_reserved_for_others)
{
    gates_both(refuse_what_is_reserved);
}

SEAM_TEST(an_op_that_refuses_is_refused_at_the_cap_of_its_task)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8, .waiting_max = 8});
    struct weir_task *task = gates_task(loop, (struct weir_task_options){.depth = 1});
    struct guest first;
    struct guest op;
    guest_stay(loop, &first, false, task);
    guest_fill(&op, false, false, task);
    expect_refused(loop, &op, WEIR_OR_REFUSE);
    guest_op(&op)->op.task = NULL;
    expect_taken(loop, &op, WEIR_OR_REFUSE);
    seam_await(loop, guest_op(&op));
    guest_leave(loop, &first);
    seam_end(loop);
}

SEAM_TEST(a_post_waits_whatever_it_says)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.flags = WEIR_REFUSES | WEIR_CALLER_RUNS,
                                             .depth = 1,
                                             .offload_workers = 1,
                                             .offload_depth = 1});
    struct guest first[2];
    struct guest posts[4];
    for (int gate = 0; gate < 2; gate++) {
        guest_stay(loop, &first[gate], gate == 1, NULL);
        for (int i = 0; i < 2; i++) {
            struct guest *post = &posts[2 * gate + i];
            guest_fill(post, gate == 1, false, NULL);
            guest_op(post)->op.flags = i == 0 ? WEIR_OR_REFUSE : gate == 1 ? WEIR_OR_RUN : 0;
            seam_posted(loop, guest_op(post));
        }
    }
    seam_turns(loop, 3);
    for (int i = 0; i < 4; i++) {
        expect_equal(guest_op(&posts[i])->calls, 0);
    }
    expect_equal(seam_counters(loop).caller_ran, 0);
    guest_leave(loop, &first[0]);
    guest_leave(loop, &first[1]);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 4; i++) {
        expect_equal(guest_op(&posts[i])->result, 0);
    }
    seam_end(loop);
}

/* --- one that is run -------------------------------------------------------------------------- */

SEAM_TEST(a_call_that_says_so_is_run_by_its_caller_once_it_cannot_even_wait)
{
    static const uint32_t defaults[] = {0, WEIR_REFUSES};
    for (size_t i = 0; i < SEAM_COUNT(defaults); i++) {
        struct weir_options options = gates_options(true, 1, 1);
        options.flags = defaults[i];
        struct weir_loop *loop = seam_loop_with(options);
        struct guest first;
        struct guest waits;
        struct guest runs;
        guest_stay(loop, &first, true, NULL);
        guest_fill(&waits, true, false, NULL);
        expect_taken(loop, &waits, WEIR_OR_RUN);
        expect_equal(waits.work.begun, 0);
        expect_equal(seam_counters(loop).waited, 1);
        guest_fill(&runs, true, false, NULL);
        expect_refused(loop, &runs, WEIR_OR_WAIT);
        expect_taken(loop, &runs, WEIR_OR_RUN);
        expect_equal(runs.work.begun, 1);
        expect_equal(guest_op(&runs)->calls, 0);
        expect_equal(seam_counters(loop).caller_ran, 1);
        seam_turns(loop, 1);
        expect_equal(guest_op(&runs)->calls, 1);
        guest_leave(loop, &first);
        expect_equal(seam_run(loop), 0);
        expect_equal(waits.work.begun, 1);
        seam_end(loop);
    }
}

SEAM_TEST(where_callers_run_their_calls_one_may_wait_or_be_refused_instead)
{
    struct weir_options options = gates_options(true, 1, 1);
    options.flags = WEIR_CALLER_RUNS;
    struct weir_loop *loop = seam_loop_with(options);
    struct guest first;
    struct guest waits;
    struct guest more;
    guest_stay(loop, &first, true, NULL);
    guest_fill(&waits, true, false, NULL);
    guest_fill(&more, true, false, NULL);
    expect_refused(loop, &more, WEIR_OR_REFUSE);
    expect_taken(loop, &waits, WEIR_OR_WAIT);
    expect_refused(loop, &more, WEIR_OR_WAIT);
    expect_refused(loop, &more, WEIR_OR_REFUSE);
    expect_equal(more.work.begun, 0);
    expect_taken(loop, &more, 0);
    expect_equal(more.work.begun, 1);
    expect_equal(seam_counters(loop).refused, 3);
    expect_equal(seam_counters(loop).caller_ran, 1);
    guest_leave(loop, &first);
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
}

SEAM_TEST(answers_that_make_no_sense_are_EINVAL)
{
    static const uint16_t two[] = {
        WEIR_OR_WAIT | WEIR_OR_REFUSE,
        WEIR_OR_WAIT | WEIR_OR_RUN,
        WEIR_OR_REFUSE | WEIR_OR_RUN,
        WEIR_OR_WAIT | WEIR_OR_REFUSE | WEIR_OR_RUN,
    };
    static const uint16_t one[] = {WEIR_OR_WAIT, WEIR_OR_REFUSE, WEIR_OR_RUN};
    struct weir_loop *loop = seam_loop();
    struct guest op;
    for (int gate = 0; gate < 2; gate++) {
        guest_fill(&op, gate == 1, false, NULL);
        for (size_t i = 0; i < SEAM_COUNT(two); i++) {
            guest_op(&op)->op.flags = two[i];
            seam_refused(loop, guest_op(&op), -EINVAL);
            expect_equal(weir_loop_post(loop, &guest_op(&op)->op), -EINVAL);
        }
    }
    struct tracked timer = {.op.callback = seam_called};
    weir_op_timeout_in(&timer.op, loop, 0);
    for (size_t i = 0; i < SEAM_COUNT(one); i++) {
        timer.op.flags = one[i];
        seam_refused(loop, &timer, -EINVAL);
    }
    struct tracked other = {.op.callback = seam_called, .op.flags = WEIR_OR_RUN};
    weir_op_nop(&other.op);
    seam_refused(loop, &other, -EINVAL);
    weir_op_fsync(&other.op, 0);
    other.op.route = WEIR_ROUTE_OFFLOAD;
    seam_refused(loop, &other, -EINVAL);
    expect_equal(seam_counters(loop).refused, 0);
    seam_end(loop);
}

/* --- one that waits too long ------------------------------------------------------------------ */

static void expect_no_sample(const struct weir_task *task)
{
    static struct weir_histogram histogram;
    for (int stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        expect_equal(weir_task_read(task, (enum weir_stage)stage, &histogram), 0);
        expect_equal(histogram.count, 0);
    }
}

/* A WRITE to the pipe, or a CALL, that must never happen. */
static void fill_late(struct weir_loop *loop, struct guest *guest, bool offload,
                      const struct seam_pair *pipe, struct weir_task *task)
{
    guest_fill(guest, offload, false, task);
    if (!offload) {
        weir_op_write(&guest_op(guest)->op, pipe->out, "x", 1, WEIR_CURRENT);
    }
    guest_op(guest)->op.deadline_ns = weir_now(loop) + WEIR_MS;
}

static void expect_shed(struct weir_loop *loop, struct guest *late, const struct seam_pair *pipe)
{
    struct weir_task *task = guest_op(late)->op.task;
    char byte;
    expect_equal(guest_op(late)->result, -ETIME);
    expect_equal(late->work.begun, 0);
    expect(read(pipe->in, &byte, 1) < 0 && errno == EAGAIN);
    expect_equal(seam_counters(loop).shed, 1);
    expect_equal(gates_counters(task).shed, 1);
    expect_equal(gates_counters(task).expired, 1);
    expect_equal(gates_counters(task).finished, 1);
    expect_equal(gates_counters(task).waited, seam_counters(loop).waited);
    expect_no_sample(task);
}

static void shed_one(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 1));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct seam_pair pipe = seam_pipe(O_NONBLOCK);
    struct guest first;
    struct guest late;
    guest_stay(loop, &first, offload, NULL);
    fill_late(loop, &late, offload, &pipe, task);
    seam_submit(loop, guest_op(&late));
    seam_await(loop, guest_op(&late));
    expect_shed(loop, &late, &pipe);
    guest_leave(loop, &first);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(an_op_whose_deadline_passes_while_it_waits_is_shed_and_never_happens)
{
    gates_both(shed_one);
}

static void shed_post(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 0));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct seam_pair pipe = seam_pipe(O_NONBLOCK);
    struct guest first;
    struct guest late;
    guest_stay(loop, &first, offload, NULL);
    fill_late(loop, &late, offload, &pipe, task);
    seam_posted(loop, guest_op(&late));
    seam_await(loop, guest_op(&late));
    expect_shed(loop, &late, &pipe);
    guest_leave(loop, &first);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(so_is_a_post_that_waits_for_a_place)
{
    gates_both(shed_post);
}

/* The credit is free, but the loop's owner comes too late to turn. */
static void shed_before_it_leaves(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 1));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct seam_pair pipe = seam_pipe(O_NONBLOCK);
    struct guest first;
    struct guest late;
    guest_stay(loop, &first, offload, NULL);
    seam_turns(loop, 1);
    fill_late(loop, &late, offload, &pipe, task);
    uint64_t deadline_ns = guest_op(&late)->op.deadline_ns += 20 * WEIR_MS;
    seam_submit(loop, guest_op(&late));
    guest_leave(loop, &first);
    while (weir_now(loop) < deadline_ns) {
        usleep(1000);
    }
    if (guest_op(&late)->calls == 0) {
        seam_await(loop, guest_op(&late));
    }
    expect_shed(loop, &late, &pipe);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(so_is_one_that_could_leave_but_finds_itself_late)
{
    gates_both(shed_before_it_leaves);
}

static void leave_in_time(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 1));
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest first;
    struct guest op;
    guest_stay(loop, &first, offload, NULL);
    seam_turns(loop, 1);
    guest_fill(&op, offload, false, task);
    guest_op(&op)->op.deadline_ns = weir_now(loop) + 3600 * WEIR_S;
    seam_submit(loop, guest_op(&op));
    guest_leave(loop, &first);
    seam_await(loop, guest_op(&op));
    expect_equal(guest_op(&op)->result, 0);
    expect_equal(seam_counters(loop).shed, 0);
    expect_equal(seam_counters(loop).waited, 1);
    expect_equal(gates_counters(task).waited, 1);
    seam_end(loop);
}

SEAM_TEST(one_that_waits_and_leaves_in_time_is_not_shed)
{
    gates_both(leave_in_time);
}

SEAM_TEST(an_op_that_has_left_and_is_late_is_expired_and_not_shed)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = gates_task(loop, (struct weir_task_options){0});
    struct guest op;
    guest_fill(&op, false, true, task);
    guest_op(&op)->op.deadline_ns = weir_now(loop) + 100 * WEIR_MS;
    seam_submit(loop, guest_op(&op));
    seam_await(loop, guest_op(&op));
    expect_equal(guest_op(&op)->result, -ETIME);
    expect_equal(seam_counters(loop).shed, 0);
    expect_equal(gates_counters(task).shed, 0);
    expect_equal(gates_counters(task).expired, 1);
    seam_pair_close(&op.pipe);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_op_that_refuses_is_refused_where_it_would_have_to_wait),
    cmocka_unit_test(a_loop_that_refuses_lets_those_wait_that_say_so),
    cmocka_unit_test(an_op_that_refuses_is_refused_what_is_reserved_for_others),
    cmocka_unit_test(an_op_that_refuses_is_refused_at_the_cap_of_its_task),
    cmocka_unit_test(a_post_waits_whatever_it_says),
    cmocka_unit_test(a_call_that_says_so_is_run_by_its_caller_once_it_cannot_even_wait),
    cmocka_unit_test(where_callers_run_their_calls_one_may_wait_or_be_refused_instead),
    cmocka_unit_test(answers_that_make_no_sense_are_EINVAL),
    cmocka_unit_test(an_op_whose_deadline_passes_while_it_waits_is_shed_and_never_happens),
    cmocka_unit_test(so_is_a_post_that_waits_for_a_place),
    cmocka_unit_test(so_is_one_that_could_leave_but_finds_itself_late),
    cmocka_unit_test(one_that_waits_and_leaves_in_time_is_not_shed),
    cmocka_unit_test(an_op_that_has_left_and_is_late_is_expired_and_not_shed),
};

const struct seam_group answers_group = SEAM_GROUP("answers", tests);
