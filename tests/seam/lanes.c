/* SPDX-License-Identifier: MIT */
/* lanes.c: long work does not stand before short work, nor before anything that needs no worker. */
#include "seam.h"

#define EACH 32

static void expect_order_of(const struct seam_work *works, int count)
{
    for (int i = 1; i < count; i++) {
        expect(works[i - 1].order < works[i].order);
    }
}

SEAM_TEST(short_calls_go_before_long_ones_and_long_ones_at_least_every_eighth_time)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    static struct seam_work long_ones[EACH];
    static struct seam_work short_ones[EACH];
    struct seam_work busy;
    seam_block(loop, &busy);
    for (int i = 0; i < EACH; i++) { /* all long ones are there first */
        seam_work_fill(&long_ones[i], 1);
        seam_submit(loop, &long_ones[i].call);
    }
    for (int i = 0; i < EACH; i++) {
        seam_work_fill(&short_ones[i], 2);
        short_ones[i].call.op.flags = WEIR_SHORT;
        seam_submit(loop, &short_ones[i].call);
    }
    seam_turns(loop, 2);
    seam_work_reset();
    seam_unblock(&busy);
    expect_equal(seam_run(loop), 0);
    expect_order_of(long_ones, EACH);
    expect_order_of(short_ones, EACH);
    /* While there were short ones: one in eight at most was long, and one in eight at least. */
    uint64_t last = short_ones[EACH - 1].order;
    uint64_t between = last - EACH;
    expect(between <= EACH / 4);
    expect(between >= EACH / 8);
    for (int i = 0; i < EACH / 8; i++) {
        expect(long_ones[i].order <= (uint64_t)(i + 1) * 8 + 1);
    }
    seam_end(loop);
}

static void expect_one_free_of_long_work(uint32_t workers)
{
    static struct seam_work long_ones[8];
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = workers});
    for (uint32_t i = 0; i < 8; i++) {
        seam_work_fill(&long_ones[i], 1);
        long_ones[i].blocks = true;
        seam_submit(loop, &long_ones[i].call);
    }
    for (uint32_t i = 0; i + 1 < workers; i++) {
        seam_await_begun(loop, &long_ones[i]);
    }
    for (int i = 0; i < 100; i++) {
        struct seam_work quick;
        seam_work_fill(&quick, i);
        quick.call.op.flags = WEIR_SHORT;
        expect_equal(seam_carry_out(loop, &quick.call), i);
    }
    for (uint32_t i = 0; i < 8; i++) {
        expect_equal(seam_begun(&long_ones[i]), i + 1 < workers);
        expect_equal(long_ones[i].call.calls, 0);
    }
    for (uint32_t i = 0; i < 8; i++) {
        seam_unblock(&long_ones[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
}

SEAM_TEST(of_two_or_more_workers_one_never_takes_long_work)
{
    expect_one_free_of_long_work(2);
    expect_one_free_of_long_work(4);
}

SEAM_TEST(files_go_on_while_long_calls_hold_all_workers_they_may_have)
{
    static struct seam_work long_ones[4];
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 2});
    int file = seam_file(4096);
    for (int i = 0; i < 4; i++) {
        seam_work_fill(&long_ones[i], 1);
        long_ones[i].blocks = true;
        seam_submit(loop, &long_ones[i].call);
    }
    seam_await_begun(loop, &long_ones[0]);
    for (int i = 0; i < 20; i++) {
        static const enum weir_route routes[] = {WEIR_ROUTE_AUTO, WEIR_ROUTE_RING,
                                                 WEIR_ROUTE_OFFLOAD};
        struct tracked op = {.op.route = routes[i % 3]};
        char data[100];
        weir_op_read(&op.op, file, data, sizeof data, (uint64_t)i);
        expect_equal(seam_carry_out(loop, &op), sizeof data);
        expect(seam_pattern_holds(data, sizeof data, (size_t)i));
        weir_op_fsync(&op.op, file);
        expect_equal(seam_carry_out(loop, &op), 0);
        weir_op_ftruncate(&op.op, file, 4096);
        expect_equal(seam_carry_out(loop, &op), 0);
    }
    for (int i = 0; i < 4; i++) {
        expect_equal(long_ones[i].call.calls, 0);
        seam_unblock(&long_ones[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    close(file);
}

SEAM_TEST(a_call_that_lasts_blocks_neither_timers_nor_sockets)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.offload_workers = 1});
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct seam_work busy;
    seam_block(loop, &busy);
    for (int i = 0; i < 500; i++) {
        struct tracked timer = {0};
        struct tracked receive = {0};
        struct tracked send = {0};
        weir_op_recv(&receive.op, sockets.in, receive.data, 1, 0);
        seam_submit(loop, &receive);
        weir_op_timeout_in(&timer.op, loop, 100 * WEIR_US);
        expect_equal(seam_carry_out(loop, &timer), 0);
        char byte = (char)i;
        weir_op_send(&send.op, sockets.out, &byte, 1, 0);
        expect_equal(seam_carry_out(loop, &send), 1);
        seam_await(loop, &receive);
        expect_equal(receive.result, 1);
        expect_equal(receive.data[0], byte);
    }
    expect_equal(busy.call.calls, 0); /* it ends when it is told, after all that */
    expect_equal(__atomic_load_n(&busy.ended, __ATOMIC_ACQUIRE), 0);
    seam_unblock(&busy);
    seam_await(loop, &busy.call);
    seam_end(loop);
    seam_pair_close(&sockets);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(short_calls_go_before_long_ones_and_long_ones_at_least_every_eighth_time),
    cmocka_unit_test(of_two_or_more_workers_one_never_takes_long_work),
    cmocka_unit_test(files_go_on_while_long_calls_hold_all_workers_they_may_have),
    cmocka_unit_test(a_call_that_lasts_blocks_neither_timers_nor_sockets),
};

const struct seam_group lanes_group = SEAM_GROUP("lanes", tests);
