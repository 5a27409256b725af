/* SPDX-License-Identifier: MIT */
/* shares.c: in which order tasks are served that wait, and what their caps, reserves and budgets
 * let through, at both gates. */
#include "gates.h"

#define EACH 24

/* --- shares ----------------------------------------------------------------------------------- */

/* With depth 1 the order in which ops come back is that in which they are served. */
static void serve_by_shares(bool offload)
{
    static const uint32_t shares[] = {1, 3};
    static struct guest guests[2][EACH];
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 1, 2 * EACH));
    struct guest first;
    guest_stay(loop, &first, offload, NULL);
    seam_turns(loop, 1);
    for (int i = 0; i < 2; i++) {
        struct weir_task *task = gates_task(loop, (struct weir_task_options){.share = shares[i]});
        for (int j = 0; j < EACH; j++) {
            guest_pass(loop, &guests[i][j], offload, task);
        }
    }
    guest_leave(loop, &first);
    expect_equal(seam_run(loop), 0);
    uint64_t begin = guest_op(&first)->order;
    for (uint64_t served = 4; served <= EACH; served += 4) {
        unsigned of_first = 0;
        for (int j = 0; j < EACH; j++) {
            of_first += guest_op(&guests[0][j])->order - begin <= served;
            expect(j == 0 || guest_op(&guests[0][j - 1])->order < guest_op(&guests[0][j])->order);
            expect(j == 0 || guest_op(&guests[1][j - 1])->order < guest_op(&guests[1][j])->order);
        }
        expect_equal(of_first, served / 4);
    }
    seam_end(loop);
}

SEAM_TEST(tasks_that_wait_are_served_by_their_shares_and_each_in_order)
{
    gates_both(serve_by_shares);
}

SEAM_TEST(large_ops_count_for_more)
{
    enum { SMALL = 12, LARGE = 3 };
    static char block[192 << 10]; /* costs 4 */
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 99});
    struct weir_task *large = gates_task(loop, (struct weir_task_options){0});
    struct weir_task *small = gates_task(loop, (struct weir_task_options){0});
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct guest first;
    struct tracked writes[LARGE] = {0};
    struct guest nops[SMALL];
    guest_stay(loop, &first, false, NULL);
    seam_turns(loop, 1);
    for (int i = 0; i < LARGE; i++) {
        weir_op_write(&writes[i].op, null, block, sizeof block, WEIR_CURRENT);
        writes[i].op.task = large;
        seam_submit(loop, &writes[i]);
    }
    for (int i = 0; i < SMALL; i++) {
        guest_pass(loop, &nops[i], false, small);
    }
    guest_leave(loop, &first);
    expect_equal(seam_run(loop), 0);
    for (int i = 1; i < LARGE; i++) {
        unsigned between = 0;
        for (int j = 0; j < SMALL; j++) {
            uint64_t order = guest_op(&nops[j])->order;
            between += writes[i - 1].order < order && order < writes[i].order;
        }
        expect_equal(between, 4);
    }
    seam_end(loop);
    close(null);
}

/* --- caps ------------------------------------------------------------------------------------- */

static struct weir_task_options capped(bool offload, uint32_t depth)
{
    struct weir_task_options options = {0};
    *(offload ? &options.offload_depth : &options.depth) = depth;
    return options;
}

static void keep_cap(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 8, 8));
    struct weir_task *task = gates_task(loop, capped(offload, 2));
    struct guest guests[4];
    struct guest other;
    guest_stay(loop, &guests[0], offload, task);
    guest_stay(loop, &guests[1], offload, task);
    seam_turns(loop, 2);
    expect_equal(seam_counters(loop).waited, 0); /* at the cap, and not past it */
    expect_equal(gates_state(loop, offload).in_flight, 2);
    guest_stay(loop, &guests[2], offload, task);
    guest_stay(loop, &guests[3], offload, task);
    guest_fill(&other, offload, true, NULL);
    seam_submit(loop, guest_op(&other)); /* it passes them */
    seam_turns(loop, 2);
    expect_equal(gates_counters(task).waited, 2);
    expect_equal(seam_counters(loop).waited, 2);
    expect_equal(gates_state(loop, offload).in_flight, 3);
    expect_equal(gates_state(loop, offload).waiting, 2);
    guest_leave(loop, &guests[0]);
    seam_turns(loop, 1);
    expect_equal(gates_state(loop, offload).in_flight, 3);
    expect_equal(gates_state(loop, offload).waiting, 1);
    guest_leave(loop, &guests[1]);
    if (!offload) { /* there they end in the order they came */
        guest_leave(loop, &guests[2]);
    }
    guest_leave(loop, &other);
    if (offload) {
        guest_leave(loop, &guests[2]);
    }
    guest_leave(loop, &guests[3]);
    expect_equal(gates_state(loop, offload).in_flight, 0);
    seam_end(loop);
}

SEAM_TEST(a_task_at_its_cap_waits_and_others_pass_it)
{
    gates_both(keep_cap);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static char sink[4096];

/* A READ of so many bytes that never come. */
static void read_idle(struct weir_loop *loop, struct tracked *op, const struct seam_pair *pipe,
                      uint64_t length, struct weir_task *task)
{
    weir_op_read(&op->op, pipe->in, sink, length, WEIR_CURRENT);
    op->op.task = task;
    seam_submit(loop, op);
}

static void cancel_and_await(struct weir_loop *loop, struct tracked *op)
{
    expect_equal(seam_cancel(loop, op), 0);
    seam_await(loop, op);
    expect_equal(op->result, -ECANCELED);
}

static void expect_in_flight(struct weir_loop *loop, uint32_t ops, uint64_t bytes)
{
    seam_turns(loop, 2);
    struct weir_gate_state state = gates_state(loop, false);
    expect_equal(state.in_flight, ops);
    expect_equal(state.bytes_in_flight, bytes);
}

/* A budget of 100 bytes. */
static void keep_bytes(struct weir_loop *loop, struct weir_task *task)
{
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    struct guest nop;
    read_idle(loop, &ops[0], &pipe, 60, task);
    read_idle(loop, &ops[1], &pipe, 40, task);
    expect_in_flight(loop, 2, 100);
    expect_equal(seam_counters(loop).waited, 0);
    read_idle(loop, &ops[2], &pipe, 1, task);
    expect_in_flight(loop, 2, 100);
    expect_equal(seam_counters(loop).waited, 1);
    cancel_and_await(loop, &ops[1]);
    expect_in_flight(loop, 2, 61);
    cancel_and_await(loop, &ops[0]);
    cancel_and_await(loop, &ops[2]);
    read_idle(loop, &ops[0], &pipe, 101, task); /* one larger op passes alone */
    read_idle(loop, &ops[1], &pipe, 1, task);
    expect_in_flight(loop, 1, 101);
    weir_op_read(&ops[2].op, pipe.in, sink, 1, WEIR_CURRENT);
    ops[2].op.flags = WEIR_OR_REFUSE;
    ops[2].op.callback = seam_called;
    seam_refused(loop, &ops[2], -EAGAIN);
    cancel_and_await(loop, &ops[0]);
    expect_in_flight(loop, 1, 1);
    read_idle(loop, &ops[3], &pipe, 101, task); /* and not beside another */
    expect_in_flight(loop, 1, 1);
    cancel_and_await(loop, &ops[3]);
    cancel_and_await(loop, &ops[1]);
    guest_pass(loop, &nop, false, task);
    seam_await(loop, guest_op(&nop));
    expect_in_flight(loop, 0, 0);
    seam_forget_pair(loop, &pipe);
    seam_end(loop);
}

SEAM_TEST(a_loop_keeps_its_budget_of_bytes_in_flight)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 8, .waiting_max = 8, .bytes_max = 100});
    expect_equal(gates_state(loop, false).bytes_max, 100);
    keep_bytes(loop, NULL);
}

SEAM_TEST(a_task_keeps_its_own)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 8, .waiting_max = 8});
    keep_bytes(loop, gates_task(loop, (struct weir_task_options){.bytes_max = 100}));
}

SEAM_TEST(what_waits_for_its_peer_or_moves_nothing_passes_a_budget_that_is_spent)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 8, .waiting_max = 8, .bytes_max = 10});
    struct seam_pair pipe = seam_pipe(0);
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct tracked large = {0};
    struct tracked recv_op = {0};
    struct guest nop;
    read_idle(loop, &large, &pipe, sizeof sink, NULL);
    weir_op_recv(&recv_op.op, sockets.in, sink, sizeof sink, 0);
    seam_submit(loop, &recv_op);
    expect_in_flight(loop, 2, sizeof sink);
    guest_pass(loop, &nop, false, NULL);
    seam_await(loop, guest_op(&nop));
    expect_equal(seam_counters(loop).waited, 0);
    cancel_and_await(loop, &recv_op);
    cancel_and_await(loop, &large);
    seam_forget_pair(loop, &pipe);
    seam_forget_pair(loop, &sockets);
    seam_end(loop);
}

/* --- reserves --------------------------------------------------------------------------------- */

static struct weir_task_options reserving(bool offload, uint32_t reserve)
{
    struct weir_task_options options = {0};
    *(offload ? &options.offload_reserve : &options.reserve) = reserve;
    return options;
}

static void keep_reserve(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 4, 2));
    struct weir_task *task = gates_task(loop, reserving(offload, 2));
    struct guest others[4];
    struct guest own[3];
    struct guest more;
    expect_equal(gates_state(loop, offload).reserved, 2);
    guest_fill(&more, offload, false, NULL);
    for (int i = 0; i < 4; i++) {
        guest_stay(loop, &others[i], offload, NULL);
    }
    seam_refused(loop, guest_op(&more), -EAGAIN); /* two places are not theirs */
    seam_turns(loop, 2);
    expect_equal(gates_state(loop, offload).in_flight, 2);
    expect_equal(gates_state(loop, offload).waiting, 2);
    expect_equal(seam_counters(loop).waited, 2);
    for (int i = 0; i < 2; i++) {
        guest_fill(&own[i], offload, true, task);
        guest_op(&own[i])->op.flags = WEIR_OR_REFUSE; /* it does not wait */
        seam_submit(loop, guest_op(&own[i]));
    }
    seam_turns(loop, 1);
    expect_equal(gates_state(loop, offload).in_flight, 4);
    expect_equal(gates_counters(task).waited, 0);
    guest_fill(&own[2], offload, false, task);
    seam_refused(loop, guest_op(&own[2]), -EAGAIN); /* one past it */
    if (!offload) {
        guest_leave(loop, &own[0]);
        seam_refused(loop, guest_op(&more), -EAGAIN); /* it is lent to nobody */
        guest_pass(loop, &own[2], false, task);
        seam_await(loop, guest_op(&own[2]));
        guest_leave(loop, &own[1]);
        expect_equal(weir_task_close(task), 0);
        seam_submit(loop, guest_op(&more)); /* free again */
    }
    for (int i = 0; i < 2; i++) {
        guest_leave(loop, &others[i]);
    }
    for (int i = 0; offload && i < 2; i++) {
        guest_leave(loop, &own[i]);
    }
    for (int i = 2; i < 4; i++) {
        guest_leave(loop, &others[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
}

SEAM_TEST(a_reserve_is_accepted_and_leaves_at_once_though_all_else_is_full)
{
    gates_both(keep_reserve);
}

SEAM_TEST(a_reserve_passes_every_budget)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .depth = 8, .waiting_max = 8, .bytes_max = 10, .admit_ops_max = 1, .admit_bytes_max = 10});
    struct weir_task *task = gates_task(loop, (struct weir_task_options){.reserve = 3});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked others[3] = {0};
    struct tracked own[3] = {0};
    for (int i = 0; i < 3; i++) {
        read_idle(loop, &others[i], &pipe, 10, NULL);
    }
    for (int i = 0; i < 3; i++) {
        read_idle(loop, &own[i], &pipe, 10, task);
    }
    seam_turns(loop, 1);
    struct weir_gate_state gate = gates_state(loop, false);
    expect(gate.in_flight == 4); /* and one of the others, which have their own budget */
    expect_equal(gate.bytes_in_flight, 10);
    for (int i = 0; i < 3; i++) {
        cancel_and_await(loop, &own[i]);
        cancel_and_await(loop, &others[i]);
    }
    seam_forget_pair(loop, &pipe);
    seam_end(loop);
}

/* --- posts ------------------------------------------------------------------------------------ */

static void pass_posts(bool offload)
{
    struct weir_loop *loop = seam_loop_with(gates_options(offload, 3, 0));
    struct weir_task *task = gates_task(loop, reserving(offload, 2));
    struct guest stays[2];
    struct guest posts[3];
    guest_stay(loop, &stays[0], offload, NULL);
    seam_turns(loop, 1);
    for (int i = 0; i < 3; i++) {
        guest_fill(&posts[i], offload, false, i == 2 ? task : NULL);
        seam_posted(loop, guest_op(&posts[i]));
    }
    if (offload) { /* its one worker is busy: it has a place and a credit */
        seam_turns(loop, 2);
        expect_equal(gates_state(loop, true).in_flight, 2);
    } else {
        seam_await(loop, guest_op(&posts[2]));
    }
    expect_equal(guest_op(&posts[0])->calls, 0);
    guest_leave(loop, &stays[0]);
    expect_equal(seam_run(loop), 0);
    expect(guest_op(&posts[0])->order < guest_op(&posts[1])->order);
    seam_end(loop);
}

SEAM_TEST(posts_that_have_no_place_do_not_stop_those_of_a_task_that_has)
{
    gates_both(pass_posts);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tasks_that_wait_are_served_by_their_shares_and_each_in_order),
    cmocka_unit_test(large_ops_count_for_more),
    cmocka_unit_test(a_task_at_its_cap_waits_and_others_pass_it),
    cmocka_unit_test(a_loop_keeps_its_budget_of_bytes_in_flight),
    cmocka_unit_test(a_task_keeps_its_own),
    cmocka_unit_test(what_waits_for_its_peer_or_moves_nothing_passes_a_budget_that_is_spent),
    cmocka_unit_test(a_reserve_is_accepted_and_leaves_at_once_though_all_else_is_full),
    cmocka_unit_test(a_reserve_passes_every_budget),
    cmocka_unit_test(posts_that_have_no_place_do_not_stop_those_of_a_task_that_has),
};

const struct seam_group shares_group = SEAM_GROUP("shares", tests);
