/* SPDX-License-Identifier: MIT */
/* inside.c: rule 5: what may not be called inside a callback, whatever sort of callback it is. */
#include "seam.h"

static unsigned tried;

static void try_what_may_not_be_called(struct weir_loop *loop)
{
    struct weir_report report = {.count = 77};
    expect_equal(weir_loop_turn(loop, 0), -EBUSY);
    expect_equal(weir_loop_run(loop), -EBUSY);
    expect_equal(weir_loop_close(loop, 0, &report), -EBUSY);
    expect_equal(weir_loop_abandon(loop), -EBUSY);
    tried++;
}

static void then_try(struct tracked *op)
{
    try_what_may_not_be_called(op->context);
}

/* Three siblings and what a callback does to them: frees one, cancels one, resubmits one. */
struct siblings {
    struct weir_loop *loop;
    struct tracked *to_free;
    struct tracked to_cancel;
    struct tracked to_resubmit;
    int pipe;
};

static void then_try_with_siblings(struct tracked *op)
{
    struct siblings *s = op->context;
    try_what_may_not_be_called(s->loop);
    free(s->to_free);
    s->to_free = NULL;
    expect_equal(seam_cancel(s->loop, &s->to_cancel), 0);
    weir_op_nop(&s->to_resubmit.op);
    seam_submit(s->loop, &s->to_resubmit);
}

static void siblings_make(struct siblings *s, struct weir_loop *loop, int pipe)
{
    *s = (struct siblings){.loop = loop, .pipe = pipe};
    s->to_free = calloc(1, sizeof *s->to_free);
    expect(s->to_free != NULL);
    weir_op_nop(&s->to_free->op);
    expect_equal(seam_carry_out(loop, s->to_free), 0);
    weir_op_nop(&s->to_resubmit.op);
    expect_equal(seam_carry_out(loop, &s->to_resubmit), 0);
    seam_read_byte(loop, &s->to_cancel, pipe);
    seam_turns(loop, 1);
}

static void siblings_check(struct siblings *s)
{
    expect(s->to_free == NULL);
    expect_equal(s->to_cancel.calls, 1);
    expect_equal(s->to_cancel.result, -ECANCELED);
    expect_equal(s->to_resubmit.calls, 2);
}

enum sort { COMPLETION, TIMER, EARLY, CANCELLED, EXPIRED, SORTS };

static void start(struct weir_loop *loop, struct tracked *op, enum sort sort, int pipe)
{
    switch (sort) {
    case COMPLETION:
        weir_op_nop(&op->op);
        seam_submit(loop, op);
        break;
    case TIMER:
        weir_op_timeout_in(&op->op, loop, 1000);
        seam_submit(loop, op);
        break;
    case EARLY:
        seam_read_byte(loop, op, pipe);
        expect_equal(seam_cancel(loop, op), 0);
        break;
    case CANCELLED:
        seam_read_byte(loop, op, pipe);
        seam_turns(loop, 1);
        expect_equal(seam_cancel(loop, op), 0);
        break;
    default:
        weir_op_read(&op->op, pipe, op->data, 1, WEIR_CURRENT);
        op->op.deadline_ns = weir_now(loop) + 1000;
        seam_submit(loop, op);
        break;
    }
}

SEAM_TEST(turn_run_close_and_abandon_answer_EBUSY_in_an_ops_callback_of_every_sort)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    tried = 0;
    for (int sort = 0; sort < SORTS; sort++) {
        struct siblings siblings;
        siblings_make(&siblings, loop, pipe.in);
        struct tracked op = {.then = then_try_with_siblings, .context = &siblings};
        start(loop, &op, (enum sort)sort, pipe.in);
        expect_equal(seam_run(loop), 0);
        expect_equal(tried, sort + 1);
        siblings_check(&siblings);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void room_try(struct weir_room *room, int result)
{
    expect_equal(result, 0);
    try_what_may_not_be_called(room->user);
}

static void room_try_closing(struct weir_room *room, int result)
{
    expect_equal(result, -ESHUTDOWN);
    try_what_may_not_be_called(room->user);
}

SEAM_TEST(they_answer_EBUSY_in_a_room_waiters_callback)
{
    struct weir_loop *loop = seam_loop();
    struct tracked op = {0};
    weir_op_nop(&op.op);
    struct weir_room room = {.callback = room_try, .user = loop};
    tried = 0;
    expect_equal(weir_wait_room(loop, &room, &op.op), 0);
    for (int i = 0; i < 10 && tried == 0; i++) {
        expect(seam_turn(loop, 0) >= 0);
    }
    expect_equal(tried, 1);
    seam_end(loop);
}

static void submit_while_closing(struct tracked *op)
{
    struct weir_loop *loop = op->context;
    struct tracked *more = op->op.user;
    seam_refused(loop, more, -ESHUTDOWN);
    try_what_may_not_be_called(loop);
    weir_op_nop(&op->op);
    seam_refused(loop, op, -ESHUTDOWN);
}

SEAM_TEST(in_callbacks_made_by_close_they_answer_EBUSY_and_submit_ESHUTDOWN)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 2, .waiting_max = 4});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked more = {.op.callback = seam_called};
    weir_op_nop(&more.op);
    struct tracked ops[5] = {0};
    for (size_t i = 0; i < SEAM_COUNT(ops); i++) {
        ops[i].then = submit_while_closing;
        ops[i].context = loop;
        ops[i].op.user = &more;
        if (i < 4) {
            seam_read_byte(loop, &ops[i], pipe.in);
        } else {
            weir_op_timeout_in(&ops[i].op, loop, 3600 * WEIR_S);
            seam_submit(loop, &ops[i]);
        }
    }
    seam_turns(loop, 2);
    struct weir_room room = {.callback = room_try_closing, .user = loop};
    struct tracked full[2] = {0};
    seam_read_byte(loop, &full[0], pipe.in);
    seam_read_byte(loop, &full[1], pipe.in);
    expect_equal(weir_wait_room(loop, &room, &more.op), 0);
    tried = 0;
    seam_end(loop);
    expect_equal(tried, 6);
    for (size_t i = 0; i < SEAM_COUNT(ops); i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ECANCELED);
    }
    expect_equal(more.calls, 0);
    seam_pair_close(&pipe);
}

static void closed_try(struct weir_loop *loop, int result)
{
    expect_equal(result, 0);
    try_what_may_not_be_called(loop);
}

SEAM_TEST(they_answer_EBUSY_in_the_callback_of_close_begin)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {.then = then_try, .context = loop};
    seam_read_byte(loop, &idle, pipe.in);
    seam_turns(loop, 1);
    tried = 0;
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed_try), 0);
    while (tried < 2) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(idle.result, -ECANCELED);
    expect_equal(seam_close(loop, 0, NULL), 0);
    seam_pair_close(&pipe);
}

static void stop_the_run(struct tracked *op)
{
    expect_equal(weir_loop_stop(op->context), 0);
}

SEAM_TEST(stop_is_the_way_out_of_run_in_a_callback)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle = {0};
    struct tracked nop = {.then = stop_the_run, .context = loop};
    seam_read_byte(loop, &idle, pipe.in);
    weir_op_nop(&nop.op);
    seam_submit(loop, &nop);
    expect_equal(seam_run(loop), 0);
    expect_equal(nop.calls, 1);
    expect_equal(idle.calls, 0);
    expect_equal(weir_loop_live(loop), 1);
    seam_write(pipe.out, "a", 1);
    expect_equal(seam_run(loop), 0);
    expect_equal(idle.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(turn_run_close_and_abandon_answer_EBUSY_in_an_ops_callback_of_every_sort),
    cmocka_unit_test(they_answer_EBUSY_in_a_room_waiters_callback),
    cmocka_unit_test(in_callbacks_made_by_close_they_answer_EBUSY_and_submit_ESHUTDOWN),
    cmocka_unit_test(they_answer_EBUSY_in_the_callback_of_close_begin),
    cmocka_unit_test(stop_is_the_way_out_of_run_in_a_callback),
};

const struct seam_group inside_group = SEAM_GROUP("inside", tests);
