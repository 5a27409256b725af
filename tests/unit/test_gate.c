/* SPDX-License-Identifier: MIT */
/* engine/loop/gate.h: the fair order of those who wait, and the limits that let others pass. */
#include "gate_world.h"

#define FLOWS 3
#define SERVED 10000
#define BLOCK WEIR_SHARE_BYTES

static struct gate_world world;

static int close_world(void **state)
{
    (void)state;
    gate_world_close(&world);
    return 0;
}

/* --- shares ----------------------------------------------------------------------------------- */

/* A task whose ops all come again as soon as they are back. */
struct client {
    struct weir_task *task;
    struct weir_op ops[32];
    uint64_t bytes; /* that each of its ops moves */
    uint64_t served;
};

static struct client clients[FLOWS];

static void open_clients(const uint32_t *shares)
{
    memset(clients, 0, sizeof clients);
    gate_world_open(&world, 8, FLOWS * COUNT_OF(clients[0].ops));
    for (unsigned i = 0; i < FLOWS; i++) {
        clients[i].task = gate_world_task(&world, (struct weir_flow){.share = shares[i]});
    }
}

static void enter(struct client *client, struct weir_op *op)
{
    static char block[1];
    weir_op_read(op, 0, block, client->bytes, 0);
    op->task = client->task;
    gate_world_enter(&world, op);
}

static void saturate(struct client *client)
{
    for (size_t i = 0; i < COUNT_OF(client->ops); i++) {
        enter(client, &client->ops[i]);
    }
}

static struct client *client_of(const struct weir_op *op)
{
    struct client *client = clients;
    while (client->task != op->task) {
        client++;
    }
    return client;
}

/* Lets `count` ops through, the oldest in flight coming back whenever the gate is full. */
static void serve(unsigned count)
{
    struct weir_op *flight[8];
    unsigned begin = 0;
    unsigned end = 0;
    for (unsigned i = 0; i < FLOWS; i++) {
        clients[i].served = 0;
    }
    while (end < count) {
        struct weir_op *op = gate_world_admit(&world);
        if (op) {
            client_of(op)->served++;
            flight[end++ % COUNT_OF(flight)] = op;
            continue;
        }
        assert_true(begin < end);
        op = flight[begin++ % COUNT_OF(flight)];
        gate_world_hand_back(&world, op);
        enter(client_of(op), op);
    }
    for (; begin < end; begin++) {
        gate_world_hand_back(&world, flight[begin % COUNT_OF(flight)]);
    }
}

static void assert_within_1_percent(uint64_t got, uint64_t want)
{
    assert_in_range(got, want - want / 100, want + want / 100);
}

static void saturated_tasks_are_served_in_proportion_to_their_shares(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 2, 4};
    open_clients(shares);
    for (unsigned i = 0; i < FLOWS; i++) {
        saturate(&clients[i]);
    }
    serve(SERVED);
    for (unsigned i = 0; i < FLOWS; i++) {
        assert_within_1_percent(clients[i].served, SERVED * shares[i] / 7);
    }
}

static void what_an_idle_task_leaves_is_split_by_the_shares_of_the_others(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 2, 4};
    for (unsigned idle = 0; idle < FLOWS; idle++) {
        open_clients(shares);
        for (unsigned i = 0; i < FLOWS; i++) {
            if (i != idle) {
                saturate(&clients[i]);
            }
        }
        serve(SERVED);
        for (unsigned i = 0; i < FLOWS; i++) {
            uint64_t want = i == idle ? 0 : SERVED * shares[i] / (7 - shares[idle]);
            assert_within_1_percent(clients[i].served, want);
        }
        if (idle + 1 < FLOWS) {
            gate_world_close(&world);
        }
    }
}

static void equal_shares_alternate(void **state)
{
    (void)state;
    static const uint32_t shares[] = {3, 3, 3};
    open_clients(shares);
    for (unsigned i = 0; i < FLOWS; i++) {
        saturate(&clients[i]);
    }
    const struct client *last[FLOWS] = {0};
    for (unsigned i = 0; i < FLOWS * COUNT_OF(clients[0].ops); i++) {
        struct weir_op *op = gate_world_admit(&world);
        assert_non_null(op);
        struct client *client = client_of(op);
        if (i >= FLOWS) {
            assert_ptr_equal(client, last[i % FLOWS]); /* the same three in the same order */
        }
        last[i % FLOWS] = client;
        gate_world_hand_back(&world, op);
    }
}

static void who_was_idle_is_owed_nothing(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 1, 1};
    open_clients(shares);
    saturate(&clients[0]);
    saturate(&clients[1]);
    serve(SERVED);
    saturate(&clients[2]);
    /* From now on a third each, and not what it has missed. */
    serve(30);
    assert_in_range(clients[2].served, 9, 11);
}

static void who_was_lent_the_whole_gate_owes_nothing(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 1, 1};
    open_clients(shares);
    clients[0].bytes = 1000 * (uint64_t)BLOCK;
    saturate(&clients[0]);
    serve(SERVED);
    assert_int_equal(clients[0].served, SERVED);
    saturate(&clients[1]);
    serve(2); /* one each: the last of those large ops is not made up for */
    assert_int_equal(clients[0].served, 1);
    assert_int_equal(clients[1].served, 1);
}

static void a_large_op_counts_as_one_and_one_more_for_each_64_KiB(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 1, 1};
    open_clients(shares);
    clients[0].bytes = BLOCK - 1; /* costs 1 */
    clients[1].bytes = BLOCK;     /* 2 */
    clients[2].bytes = 4 * BLOCK; /* 5 */
    for (unsigned i = 0; i < FLOWS; i++) {
        saturate(&clients[i]);
    }
    serve(SERVED);
    assert_within_1_percent(clients[0].served, SERVED * 10 / 17);
    assert_within_1_percent(clients[1].served, SERVED * 5 / 17);
    assert_within_1_percent(clients[2].served, SERVED * 2 / 17);
}

/* A length is not cut at submit, and says nothing of what a system call moves at most. */
static void lengths_past_any_file_upset_neither_order_nor_books(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 1, 1};
    open_clients(shares);
    world.gate.bytes_max = 1 << 20;
    clients[0].bytes = UINT64_MAX;
    clients[1].bytes = (uint64_t)INT64_MAX + 1;
    clients[2].bytes = BLOCK;
    for (unsigned i = 0; i < FLOWS; i++) {
        saturate(&clients[i]);
    }
    struct weir_op *op;
    while ((op = gate_world_admit(&world)) != NULL) {
        assert_true(world.gate.bytes_in_flight <= world.gate.bytes_max ||
                    weir_gate_in_flight(&world.gate) == 1);
        struct weir_op *beside = gate_world_admit(&world);
        bool is_large = op->arg.io.length > world.gate.bytes_max;
        assert_false(beside && is_large);
        gate_world_hand_back(&world, op);
        if (beside) {
            gate_world_hand_back(&world, beside);
        }
    }
    assert_int_equal(world.gate.live, 0);
    assert_int_equal(world.gate.bytes, 0);
    saturate(&clients[0]);
    saturate(&clients[2]);
    /* Such an op is worth 2 GiB, which is 16384 of the other's: nobody's time has run round. */
    serve(50000);
    assert_in_range(clients[0].served, 2, 4);
}

/* --- limits ----------------------------------------------------------------------------------- */

static struct weir_op many[64];

static void wait_nop(struct weir_op *op, struct weir_task *task)
{
    weir_op_nop(op);
    op->task = task;
    gate_world_enter(&world, op);
}

static void within_a_task_it_is_first_in_first_out(void **state)
{
    (void)state;
    gate_world_open(&world, 2, 62);
    memset(many, 0, sizeof many);
    struct weir_task *task = gate_world_task(&world, (struct weir_flow){.share = 9, .depth = 1});
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        wait_nop(&many[i], i % 2 ? task : NULL);
    }
    size_t next[2] = {0, 1};
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        struct weir_op *op = gate_world_admit(&world);
        assert_non_null(op);
        assert_ptr_equal(op, &many[next[op->task != NULL]]);
        next[op->task != NULL] += 2;
        gate_world_hand_back(&world, op);
    }
}

static void a_task_at_its_cap_lets_others_pass_and_is_first_when_it_has_room(void **state)
{
    (void)state;
    gate_world_open(&world, 8, 56);
    memset(many, 0, sizeof many);
    struct weir_task *capped = gate_world_task(&world, (struct weir_flow){.share = 1, .depth = 2});
    for (size_t i = 0; i < 10; i++) {
        wait_nop(&many[i], capped);
    }
    for (size_t i = 10; i < 40; i++) {
        wait_nop(&many[i], NULL);
    }
    struct weir_op *flight[8];
    unsigned of_task = 0;
    for (unsigned i = 0; i < 8; i++) {
        flight[i] = gate_world_admit(&world);
        assert_non_null(flight[i]);
        of_task += flight[i]->task == capped;
    }
    assert_int_equal(of_task, 2);
    assert_null(gate_world_admit(&world));
    /* Others are served while it cannot be: its tag stays, and others' move past it. */
    for (unsigned i = 0; i < 8; i++) {
        if (flight[i]->task != capped) {
            gate_world_hand_back(&world, flight[i]);
            flight[i] = gate_world_admit(&world);
            assert_null(flight[i]->task);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        if (flight[i]->task == capped) {
            gate_world_hand_back(&world, flight[i]);
            assert_ptr_equal(gate_world_admit(&world)->task, capped);
            break;
        }
    }
}

static void a_reserve_is_free_whatever_the_others_do(void **state)
{
    (void)state;
    gate_world_open(&world, 8, 24);
    memset(many, 0, sizeof many);
    struct weir_task *flood = gate_world_task(&world, (struct weir_flow){.share = 1024});
    struct weir_task *kept = gate_world_task(&world, (struct weir_flow){.share = 1, .reserve = 3});
    struct weir_flow *of_flood = weir_gate_flow(&world.gate, flood);
    size_t count = 0;
    while (weir_gate_has_place(&world.gate, of_flood)) {
        wait_nop(&many[count++], flood);
        while (gate_world_admit(&world)) {
        }
    }
    assert_int_equal(count, 32 - 3);
    assert_int_equal(weir_gate_in_flight(&world.gate), 8 - 3);
    world.gate.depth = 1; /* nor does it matter that a goal has lowered the depth */
    for (size_t i = 0; i < 3; i++) {
        struct weir_op *op = &many[count + i];
        wait_nop(op, kept);
        assert_ptr_equal(gate_world_admit(&world), op);
        assert_null(gate_world_admit(&world));
    }
    assert_false(weir_gate_has_place(&world.gate, weir_gate_flow(&world.gate, kept)));
    gate_world_hand_back(&world, &many[count + 1]);
    assert_false(weir_gate_has_place(&world.gate, of_flood)); /* it is lent to nobody */
    assert_null(gate_world_admit(&world));
    wait_nop(&many[count + 1], kept);
    assert_ptr_equal(gate_world_admit(&world), &many[count + 1]);
}

static void limits_are_taken_up_to_their_limit_and_not_past_it(void **state)
{
    (void)state;
    static const struct {
        struct weir_flow limits;
        int want;
    } cases[] = {
        {{.share = WEIR_SHARE_MAX}, 0},
        {{.share = WEIR_SHARE_MAX + 1}, -EINVAL},
        {{.share = UINT32_MAX}, -EINVAL},
        {{.depth = 2, .reserve = 2}, 0},
        {{.depth = 2, .reserve = 3}, -EINVAL},
        {{.reserve = 7}, 0},
        {{.reserve = 8}, -EINVAL},
        {{.reserve = UINT32_MAX}, -EINVAL},
        {{.depth = UINT32_MAX, .bytes_max = UINT64_MAX}, 0},
    };
    gate_world_open(&world, 8, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct weir_task *task = NULL;
        assert_int_equal(weir_tasks_open(&world.tasks, "t", &task), 0);
        int r = weir_gate_set_limits(&world.gate, task, &cases[i].limits);
        assert_int_equal(r, cases[i].want);
        if (r == 0) {
            weir_gate_clear_limits(&world.gate, task);
        }
        assert_int_equal(world.gate.reserved, 0);
        assert_int_equal(world.gate.unused_places, 0);
        assert_int_equal(world.gate.unused_credits, 0);
        assert_int_equal(weir_tasks_close(task), 0);
    }
    struct weir_task *task = gate_world_task(&world, (struct weir_flow){.reserve = 4});
    struct weir_task *other = NULL;
    assert_int_equal(weir_tasks_open(&world.tasks, "t", &other), 0);
    struct weir_flow three = {.reserve = 3};
    struct weir_flow four = {.reserve = 4};
    assert_int_equal(weir_gate_set_limits(&world.gate, other, &four), -EINVAL);
    assert_int_equal(weir_gate_set_limits(&world.gate, other, &three), 0);
    gate_world_end_task(&world, other);
    gate_world_end_task(&world, task);
}

static void a_wide_op_is_not_passed_for_ever_by_narrow_ones(void **state)
{
    (void)state;
    gate_world_open(&world, 8, 40);
    memset(many, 0, sizeof many);
    struct weir_task *flood = gate_world_task(&world, (struct weir_flow){.share = 8});
    struct weir_op wide = {.burst = 500}; /* more than there is: it takes all of it */
    for (size_t i = 0; i < 40; i++) {
        wait_nop(&many[i], flood);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_non_null(gate_world_admit(&world));
    }
    wait_nop(&wide, NULL);
    unsigned passed = 0;
    for (size_t i = 0; wide.state != WEIR_IN_FLIGHT; i = (i + 1) % 40) {
        if (many[i].state == WEIR_IN_FLIGHT) {
            gate_world_hand_back(&world, &many[i]);
            wait_nop(&many[i], flood);
        }
        while (weir_gate_next(&world.gate)) {
            passed += gate_world_admit(&world) != &wide;
        }
        assert_true(passed <= 8);
        bool all_waits = weir_gate_in_flight(&world.gate) == 0;
        assert_false(all_waits);
    }
    assert_int_equal(wide.credits, 8);
    assert_int_equal(weir_gate_in_flight(&world.gate), 8);
}

static void what_moves_no_bytes_passes_every_byte_budget(void **state)
{
    (void)state;
    static char block[100];
    gate_world_open(&world, 8, 8);
    memset(many, 0, sizeof many);
    world.gate.bytes_max = 10;
    weir_op_write(&many[0], 0, block, sizeof block, 0);
    gate_world_enter(&world, &many[0]);
    assert_ptr_equal(gate_world_admit(&world), &many[0]); /* larger than the budget: alone */
    weir_op_recv(&many[1], 0, block, sizeof block, 0);
    gate_world_enter(&world, &many[1]);
    wait_nop(&many[2], NULL);
    assert_ptr_equal(gate_world_admit(&world), &many[1]);
    assert_ptr_equal(gate_world_admit(&world), &many[2]);
    weir_op_write(&many[3], 0, block, 1, 0);
    gate_world_enter(&world, &many[3]);
    assert_null(gate_world_admit(&world));
    gate_world_hand_back(&world, &many[0]);
    assert_ptr_equal(gate_world_admit(&world), &many[3]);
}

int main(void)
{
#define GATE_TEST(name) cmocka_unit_test_teardown(name, close_world)
    const struct CMUnitTest tests[] = {
        GATE_TEST(saturated_tasks_are_served_in_proportion_to_their_shares),
        GATE_TEST(what_an_idle_task_leaves_is_split_by_the_shares_of_the_others),
        GATE_TEST(equal_shares_alternate),
        GATE_TEST(who_was_idle_is_owed_nothing),
        GATE_TEST(who_was_lent_the_whole_gate_owes_nothing),
        GATE_TEST(a_large_op_counts_as_one_and_one_more_for_each_64_KiB),
        GATE_TEST(lengths_past_any_file_upset_neither_order_nor_books),
        GATE_TEST(within_a_task_it_is_first_in_first_out),
        GATE_TEST(a_task_at_its_cap_lets_others_pass_and_is_first_when_it_has_room),
        GATE_TEST(a_reserve_is_free_whatever_the_others_do),
        GATE_TEST(limits_are_taken_up_to_their_limit_and_not_past_it),
        GATE_TEST(a_wide_op_is_not_passed_for_ever_by_narrow_ones),
        GATE_TEST(what_moves_no_bytes_passes_every_byte_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
