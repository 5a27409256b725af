/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd: which way a request goes to its file, and when more is received. In a
 * simulated world, where what is made on the spot is counted. */
#include "lone.h"
#include "unit.h"

#define LITTLE (16u << 10)
#define MUCH BUFFER_PIECE

static unsigned char bytes[2 * (NBD_REQUEST_BYTES + MUCH + 1)];

static uint32_t ask(uint32_t at, uint16_t type, uint64_t cookie, uint32_t length)
{
    return at + lone_put(bytes + at, 0, type, cookie, 0, length);
}

/* How many ops are made on the spot, of what is said in one go. */
static uint64_t made_at_once(uint32_t length_of_all, uint32_t answer_bytes)
{
    struct weir_counters before, after;
    assert_int_equal(weir_loop_counters(lone.shard.loop, &before), 0);
    lone_forget_answers();
    lone_say(bytes, length_of_all);
    lone_run(100 * WEIR_MS);
    assert_int_equal(lone.in_end, answer_bytes);
    assert_int_equal(weir_loop_counters(lone.shard.loop, &after), 0);
    return after.inline_done - before.inline_done;
}

/* --- which way -------------------------------------------------------------------------------- */

static uint64_t writes_made_at_once(uint32_t count, uint32_t length)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        end = ask(end, NBD_CMD_WRITE, i, length);
    }
    return made_at_once(end, count * NBD_SIMPLE_REPLY_BYTES);
}

static void writes_to_memory_are_made_at_once(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    assert_int_equal(writes_made_at_once(2, SPLICED_MIN - 1), 2);
    lone_close();
}

/* To an export of O_DIRECT none is spliced. */
static void below_64k_where_more_is_not_spliced(void **state)
{
    (void)state;
    lone.disk.direct = true;
    lone_open(NULL, 0, true);
    assert_int_equal(writes_made_at_once(2, SPLICED_MIN - 1), 2);
    assert_int_equal(writes_made_at_once(1, SPLICED_MIN), 0);
    lone_close();
}

static void to_another_file_none_is(void **state)
{
    (void)state;
    lone_open(NULL, 0, false);
    assert_int_equal(writes_made_at_once(2, 1), 0);
    lone_close();
}

static void but_where_somebody_answers_for_it_up_to_16k(void **state)
{
    (void)state;
    lone.disk.inline_writes = true;
    lone_open(NULL, 0, false);
    assert_int_equal(writes_made_at_once(2, LITTLE), 2);
    assert_int_equal(writes_made_at_once(1, LITTLE + 1), 0);
    lone_close();
}

/* How many were tried by now. */
static uint64_t tries(void)
{
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(lone.shard.loop, &counters), 0);
    return counters.inline_tries;
}

/* While a change of that kind is under way it is its client's own; and when it is back. */
static void is_counted(uint16_t type, enum weir_kind kind, bool is_trusted)
{
    const struct weir_sim_fault slow = {.what = WEIR_SIM_DELAY,
                                        .kinds = 1ULL << kind,
                                        .nth = 1,
                                        .count = 1,
                                        .delay = {50 * WEIR_MS, 50 * WEIR_MS}};
    lone.disk.direct = true; /* or it would be spliced */
    lone.disk.inline_writes = is_trusted;
    lone_open(&slow, 1, !is_trusted);
    lone_say(bytes, ask(0, type, 0, MUCH));
    lone_run(10 * WEIR_MS);
    assert_int_equal(lone.connection.changes, type == NBD_CMD_WRITE);
    assert_int_equal(lone.shard.files[0].changes, 1);
    lone_run(100 * WEIR_MS);
    assert_int_equal(lone.in_end, NBD_SIMPLE_REPLY_BYTES);
    assert_int_equal(lone.connection.changes, 0);
    assert_int_equal(lone.shard.files[0].changes, 0);
    lone_close();
}

static void what_another_thread_changes_is_counted(void **state)
{
    (void)state;
    for (int is_trusted = 0; is_trusted < 2; is_trusted++) {
        is_counted(NBD_CMD_WRITE, WEIR_KIND_WRITE, is_trusted);
        is_counted(NBD_CMD_TRIM, WEIR_KIND_FALLOCATE, is_trusted);
        is_counted(NBD_CMD_WRITE_ZEROES, WEIR_KIND_FALLOCATE, is_trusted);
    }
}

static void no_write_is_made_at_once_while_that_is_another_clients(void **state)
{
    (void)state;
    for (int is_trusted = 0; is_trusted < 2; is_trusted++) {
        lone.disk.inline_writes = is_trusted;
        lone_open(NULL, 0, !is_trusted);
        lone.shard.files[0].changes++; /* a client's that is not this one */
        uint64_t before = tries();
        assert_int_equal(writes_made_at_once(2, 1), 0);
        assert_int_equal(tries(), before);
        lone.shard.files[0].changes--;
        assert_int_equal(writes_made_at_once(2, 1), 2);
        lone_close();
    }
}

/* Between two pieces, of which one is being written. */
static void what_is_under_way_keeps_its_file_when_its_client_is_thrown_out(void **state)
{
    (void)state;
    const struct weir_sim_fault slow = {.what = WEIR_SIM_DELAY,
                                        .kinds = 1ULL << WEIR_KIND_WRITE,
                                        .nth = 1,
                                        .count = 1,
                                        .delay = {50 * WEIR_MS, 50 * WEIR_MS}};
    lone_open(&slow, 1, false);
    lone_say_at_once(bytes, ask(0, NBD_CMD_FLUSH, 0, 0)); /* what is received next are both */
    lone_put(bytes, 0, NBD_CMD_WRITE, 1, 0, 2 * MUCH);
    lone_say_at_once(bytes, NBD_REQUEST_BYTES + MUCH);
    for (int i = 0; i < 100 && lone.connection.changes == 0; i++) {
        assert_true(shard_turn(&lone.shard, WEIR_MS) >= 0);
    }
    assert_int_equal(lone.connection.changes, 1);
    assert_null(lone.connection.intake.filling);
    uint32_t users = lone.shard.files[0].users;
    shard_hang_up(&lone.shard);
    assert_int_equal(lone.shard.files[0].users, users);
    lone_run(10 * WEIR_MS);
    assert_int_equal(lone.shard.files[0].changes, 1);
    assert_true(lone.shard.files[0].users > 0);
    assert_false(lone.is_gone);
    lone_run(100 * WEIR_MS);
    assert_int_equal(lone.shard.files[0].users, 0);
    assert_true(lone.is_gone);
    lone_close();
}

static void reads_are_up_to_16k(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    assert_int_equal(made_at_once(ask(0, NBD_CMD_READ, 0, LITTLE), NBD_SIMPLE_REPLY_BYTES + LITTLE),
                     1);
    assert_int_equal(
        made_at_once(ask(0, NBD_CMD_READ, 0, LITTLE + 1), NBD_SIMPLE_REPLY_BYTES + LITTLE + 1), 0);
    lone_close();
}

/* --- when more is received -------------------------------------------------------------------- */

/* Until what was said has come. */
static void turn_until_taken(uint32_t length)
{
    lone_say(bytes, length);
    for (int i = 0; i < 1000 && lone.connection.live == 0; i++) {
        assert_true(shard_turn(&lone.shard, WEIR_MS) >= 0);
    }
    assert_int_equal(lone.connection.live, 1);
}

static void behind_a_reply_that_is_made_at_once(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    turn_until_taken(ask(0, NBD_CMD_READ, 0, LITTLE));
    assert_false(lone.connection.is_receiving);
    assert_true(shard_turn(&lone.shard, WEIR_S) >= 0); /* does not sleep */
    assert_true(lone.connection.is_sending);
    assert_true(lone.connection.is_receiving);
    lone_close();
}

static void at_once_where_a_request_takes_longer(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    turn_until_taken(ask(0, NBD_CMD_READ, 0, LITTLE + 1));
    assert_true(lone.connection.is_receiving);
    lone_close();
}

static void and_a_turn_later_if_it_could_not_be_made_at_once(void **state)
{
    (void)state;
    static const struct weir_sim_fault slow = {.what = WEIR_SIM_DELAY,
                                               .kinds = 1ULL << WEIR_KIND_READ,
                                               .nth = 1,
                                               .count = WEIR_SIM_ALWAYS,
                                               .delay = {WEIR_S, WEIR_S}};
    lone_open(&slow, 1, true);
    turn_until_taken(ask(0, NBD_CMD_READ, 0, LITTLE));
    uint64_t now_ns = weir_sim_now(lone.world);
    assert_true(shard_turn(&lone.shard, WEIR_S) >= 0);
    assert_true(weir_sim_now(lone.world) < now_ns + WEIR_MS);
    assert_int_equal(lone.connection.live, 1);
    assert_true(lone.connection.is_receiving);
    lone_run(2 * WEIR_S);
    lone_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_to_memory_are_made_at_once),
        cmocka_unit_test(below_64k_where_more_is_not_spliced),
        cmocka_unit_test(to_another_file_none_is),
        cmocka_unit_test(but_where_somebody_answers_for_it_up_to_16k),
        cmocka_unit_test(what_another_thread_changes_is_counted),
        cmocka_unit_test(no_write_is_made_at_once_while_that_is_another_clients),
        cmocka_unit_test(what_is_under_way_keeps_its_file_when_its_client_is_thrown_out),
        cmocka_unit_test(reads_are_up_to_16k),
        cmocka_unit_test(behind_a_reply_that_is_made_at_once),
        cmocka_unit_test(at_once_where_a_request_takes_longer),
        cmocka_unit_test(and_a_turn_later_if_it_could_not_be_made_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
