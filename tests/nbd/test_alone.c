/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd: a client is left alone while its small writes are with another thread, and not
 * for long. In a simulated world, where a write takes what the test says. */
#include "lone.h"
#include "unit.h"

#include <errno.h>

#define SMALL 4096u
#define SMALL_MAX (16u << 10)
#define FEW 3
#define WRITES_MAX 8
#define LAST 99 /* the cookie of what can be answered at once */

static uint16_t flags; /* of its writes */
static bool is_broken; /* the disk: the first writes fail */

/* A client of a disk of which each of the first WRITES_MAX writes takes as long as said first, and
 * each further one as then. */
static void open_disk(uint64_t first_ns, uint64_t then_ns, bool is_memory)
{
    const struct weir_sim_fault slow[] = {{.what = is_broken ? WEIR_SIM_ERROR : WEIR_SIM_DELAY,
                                           .error = EIO,
                                           .kinds = 1ULL << WEIR_KIND_WRITE,
                                           .nth = 1,
                                           .count = WRITES_MAX,
                                           .delay = {first_ns, first_ns}},
                                          {.what = WEIR_SIM_DELAY,
                                           .kinds = 1ULL << WEIR_KIND_WRITE,
                                           .nth = WRITES_MAX + 1,
                                           .count = WEIR_SIM_ALWAYS,
                                           .delay = {then_ns, then_ns}}};
    lone_open(slow, COUNT_OF(slow), is_memory);
}

static void open_world(uint64_t write_ns, bool is_memory)
{
    open_disk(write_ns, write_ns, is_memory);
}

/* Writes in one go, and when they are with the disk what needs none to be refused. */
static void ask_all(uint32_t writes, uint32_t length)
{
    static unsigned char bytes[WRITES_MAX * (NBD_REQUEST_BYTES + SMALL_MAX + 1)];
    uint32_t end = 0;
    for (uint32_t i = 0; i < writes; i++) {
        end += lone_put(bytes + end, flags, NBD_CMD_WRITE, i, i * SMALL, length);
    }
    lone_say(bytes, end);
    lone_run(500 * WEIR_US);
    lone_say(bytes, lone_put(bytes, 0, NBD_CMD_READ, LAST, LONE_DISK_BYTES, SMALL));
}

static uint32_t answers(void)
{
    return lone.in_end / NBD_SIMPLE_REPLY_BYTES;
}

static uint64_t answered(uint32_t index) /* the cookie */
{
    assert_true(index < answers());
    return nbd_get64(lone.in + index * NBD_SIMPLE_REPLY_BYTES + 8);
}

static void all_is_answered(uint32_t writes)
{
    lone_run(200 * WEIR_MS);
    assert_int_equal(answers(), writes + 1);
    for (uint32_t i = 0; i <= writes; i++) {
        uint32_t error = nbd_get32(lone.in + i * NBD_SIMPLE_REPLY_BYTES + 4);
        uint32_t wanted = is_broken ? NBD_EIO : 0;
        assert_int_equal(error, answered(i) == LAST ? NBD_EINVAL : wanted);
    }
    lone_close();
    flags = 0;
    is_broken = false;
}

/* --- who is left alone ------------------------------------------------------------------------ */

static void what_comes_after_many_small_writes_is_taken_when_they_are_back(void **state)
{
    (void)state;
    open_world(5 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL_MAX);
    lone_run(8 * WEIR_MS);
    assert_int_equal(answers(), WRITES_MAX + 1);
    for (uint32_t i = 0; i < WRITES_MAX - FEW; i++) {
        assert_int_not_equal(answered(i), LAST);
    }
    all_is_answered(WRITES_MAX);
}

static void but_not_later_than_10_ms(void **state)
{
    (void)state;
    open_world(100 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    uint64_t until_ns = lone.connection.pace.until_ns;
    lone_run(8 * WEIR_MS);
    assert_int_equal(answers(), 0);
    while (weir_sim_now(lone.world) < until_ns) {
        assert_true(shard_turn(&lone.shard, WEIR_S) >= 0); /* sleeps no longer than that */
    }
    assert_true(weir_sim_now(lone.world) < until_ns + WEIR_MS);
    lone_run(WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(WRITES_MAX);
}

static void nor_if_there_were_writes_before_that_were_back_earlier(void **state)
{
    (void)state;
    open_disk(2 * WEIR_MS, 100 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    lone_run(3 * WEIR_MS);
    assert_int_equal(answers(), WRITES_MAX + 1);
    lone_forget_answers();
    ask_all(WRITES_MAX, SMALL);
    lone_run(8 * WEIR_MS);
    assert_int_equal(answers(), 0);
    lone_run(3 * WEIR_MS);
    assert_int_equal(answers(), 1);
    all_is_answered(WRITES_MAX);
}

static void not_for_writes_that_wait_for_a_disk_until_it_is_quick_again(void **state)
{
    (void)state;
    open_disk(12 * WEIR_MS, 5 * WEIR_MS, false);
    const uint32_t wanted[] = {0, 1, 0}; /* answered at once */
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        lone_forget_answers();
        ask_all(WRITES_MAX, SMALL);
        lone_run(WEIR_MS);
        assert_int_equal(answers(), wanted[i]);
        lone_run(20 * WEIR_MS);
        assert_int_equal(answers(), WRITES_MAX + 1);
    }
    all_is_answered(WRITES_MAX);
}

static void a_sync_is_no_write(void **state)
{
    (void)state;
    flags = NBD_CMD_FLAG_FUA;
    open_world(5 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    lone_run(8 * WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(WRITES_MAX);
}

static void writes_that_fail_are_back_too(void **state)
{
    (void)state;
    is_broken = true;
    open_world(0, false);
    ask_all(WRITES_MAX, SMALL);
    all_is_answered(WRITES_MAX);
}

static void four_writes_are_many(void **state)
{
    (void)state;
    open_world(5 * WEIR_MS, false);
    ask_all(FEW + 1, SMALL);
    lone_run(WEIR_MS);
    assert_int_equal(answers(), 0);
    all_is_answered(FEW + 1);
}

static void is_taken_at_once(uint32_t writes, uint32_t length, bool is_memory)
{
    open_world(5 * WEIR_MS, is_memory);
    ask_all(writes, length);
    lone_run(WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(writes);
}

static void three_are_few(void **state)
{
    (void)state;
    is_taken_at_once(FEW, SMALL, false);
}

static void nor_for_large_ones(void **state)
{
    (void)state;
    is_taken_at_once(WRITES_MAX, SMALL_MAX + 1, false);
}

static void nor_for_those_that_the_loop_makes_itself(void **state)
{
    (void)state;
    is_taken_at_once(WRITES_MAX, SMALL, true);
    lone.disk.inline_writes = true;
    is_taken_at_once(WRITES_MAX, SMALL, false);
}

static void nor_for_those_past_the_page_cache_where_each_has_its_way(void **state)
{
    (void)state;
    lone.disk.direct = true;
    is_taken_at_once(WRITES_MAX, SMALL, false);
}

/* --- who has others beside it ----------------------------------------------------------------- */

static void who_takes_turns_with_another_has_others(void **state)
{
    (void)state;
    struct shard of_two = {.turns = 1000};
    const struct connection *one = &(struct connection){.fd = 1};
    const struct connection *other = &(struct connection){.fd = 2};
    shard_note_waiting(&of_two, one);
    of_two.turns += 100;
    shard_note_waiting(&of_two, one);
    assert_false(shard_has_others(&of_two, one));
    assert_true(shard_has_others(&of_two, other));
    shard_note_waiting(&of_two, other);
    assert_true(shard_has_others(&of_two, one));
    of_two.turns += 63;
    assert_true(shard_has_others(&of_two, other));
    of_two.turns++; /* by then it would have come back */
    assert_false(shard_has_others(&of_two, other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_after_many_small_writes_is_taken_when_they_are_back),
        cmocka_unit_test(but_not_later_than_10_ms),
        cmocka_unit_test(nor_if_there_were_writes_before_that_were_back_earlier),
        cmocka_unit_test(not_for_writes_that_wait_for_a_disk_until_it_is_quick_again),
        cmocka_unit_test(a_sync_is_no_write),
        cmocka_unit_test(writes_that_fail_are_back_too),
        cmocka_unit_test(four_writes_are_many),
        cmocka_unit_test(three_are_few),
        cmocka_unit_test(nor_for_large_ones),
        cmocka_unit_test(nor_for_those_that_the_loop_makes_itself),
        cmocka_unit_test(nor_for_those_past_the_page_cache_where_each_has_its_way),
        cmocka_unit_test(who_takes_turns_with_another_has_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
