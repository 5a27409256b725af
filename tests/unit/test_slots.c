/* SPDX-License-Identifier: MIT */
/* engine/op/slots.h: a slot is one op's, its generation moves on, and a stale one finds nothing. */
#include "unit.h"

#include <engine/op/slots.h>
#include <string.h>

#define COUNT 64u
#define STEPS 20000

static struct weir_slots slots;
static void *memory;

static int open_slots(void **state)
{
    (void)state;
    size_t size = weir_slots_size(COUNT);
    memory = aligned_alloc(64, (size + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, size);
    memset(&slots, 0, sizeof slots);
    weir_slots_init(&slots, COUNT, memory);
    return 0;
}

static int close_slots(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static void take(struct weir_op *op)
{
    static char task; /* never looked at */
    weir_slots_take(&slots, op, (struct weir_task *)(void *)&task, WEIR_SITE);
}

static void a_taken_slot_finds_its_op_and_no_other_generation(void **state)
{
    (void)state;
    struct weir_op op = {0};
    weir_op_nop(&op);
    take(&op);
    assert_ptr_equal(weir_slots_find(&slots, op.slot->tag), &op);
    assert_null(weir_slots_find(&slots, op.slot->tag + WEIR_SLOT_GENERATION));
    assert_null(weir_slots_find(&slots, op.slot->tag - WEIR_SLOT_GENERATION));
    assert_null(weir_slots_find(&slots, op.slot->tag | WEIR_SLOT_OTHER));
}

static void a_freed_slot_moves_on_and_the_stale_lookup_finds_nothing(void **state)
{
    (void)state;
    struct weir_op first = {0};
    struct weir_op second = {0};
    weir_op_nop(&first);
    weir_op_nop(&second);
    take(&first);
    uint64_t stale = first.slot->tag;
    weir_slots_free(&slots, first.slot);
    assert_null(weir_slots_find(&slots, stale));
    assert_null(weir_slots_op(&slots, (uint32_t)(first.slot - slots.slots)));
    do {
        take(&second); /* until it is the same place again */
    } while (second.slot != first.slot);
    assert_true(second.slot->tag != stale);
    assert_null(weir_slots_find(&slots, stale));
    assert_ptr_equal(weir_slots_find(&slots, second.slot->tag), &second);
}

static void an_index_out_of_range_finds_nothing(void **state)
{
    (void)state;
    assert_null(weir_slots_find(&slots, WEIR_SLOT_GENERATION | COUNT * sizeof(struct weir_slot)));
    assert_null(weir_slots_find(&slots, UINT64_MAX - 1));
    assert_null(weir_slots_find(&slots, 0));
}

static void all_slots_can_be_taken_and_are_distinct(void **state)
{
    (void)state;
    static struct weir_op ops[COUNT];
    bool seen[COUNT] = {false};
    for (uint32_t i = 0; i < COUNT; i++) {
        weir_op_read(&ops[i], (int)i, NULL, 0, 0);
        take(&ops[i]);
        uint32_t index = (uint32_t)(ops[i].slot - slots.slots);
        assert_true(index < COUNT);
        assert_false(seen[index]);
        seen[index] = true;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(weir_slots_find(&slots, ops[i].slot->tag), &ops[i]);
        weir_slots_free(&slots, ops[i].slot);
    }
}

static void a_slot_keeps_what_was_submitted(void **state)
{
    (void)state;
    char byte = 0;
    struct weir_op op = {0};
    weir_op_write(&op, 12, &byte, 4096, 8192);
    take(&op);
    weir_op_nop(&op); /* what the caller does with the op must not show */
    assert_ptr_equal(op.slot->op, &op);
    assert_int_equal(slots.fds[op.slot - slots.slots], 12);
}

static uint32_t count_on_fd(int fd)
{
    uint32_t found = 0;
    uint32_t index = weir_slots_on_fd(&slots, 0, fd);
    while (index < COUNT) {
        found++;
        index = weir_slots_on_fd(&slots, index + 1, fd);
    }
    return found;
}

static void ops_are_found_by_either_of_their_fds(void **state)
{
    (void)state;
    struct weir_op read = {0};
    struct weir_op splice = {0};
    struct weir_op rename = {0};
    weir_op_read(&read, 5, NULL, 0, 0);
    weir_op_splice(&splice, 6, WEIR_CURRENT, 5, WEIR_CURRENT, 1, 0);
    weir_op_renameat(&rename, 7, "a", 6, "b", 0);
    take(&read);
    take(&splice);
    take(&rename);
    slots.two_fds = true; /* who takes slots says so */
    assert_int_equal(count_on_fd(5), 2);
    assert_int_equal(count_on_fd(6), 2);
    assert_int_equal(count_on_fd(7), 1);
    assert_int_equal(count_on_fd(8), 0);
    weir_slots_free(&slots, splice.slot);
    assert_int_equal(count_on_fd(5), 1);
    assert_int_equal(count_on_fd(6), 1);
    weir_slots_free(&slots, rename.slot);
    weir_slots_free(&slots, read.slot);
    assert_int_equal(count_on_fd(5) + count_on_fd(6) + count_on_fd(7), 0);
}

static void random_takes_and_frees_agree_with_a_model(void **state)
{
    (void)state;
    static struct weir_op ops[COUNT];
    static uint64_t tags[COUNT];
    bool taken[COUNT] = {false};
    uint32_t used = 0;
    struct random random = random_open();
    memset(ops, 0, sizeof ops);
    for (int step = 0; step < STEPS; step++) {
        uint32_t i = (uint32_t)random_below(&random, COUNT);
        if (taken[i]) {
            weir_slots_free(&slots, ops[i].slot);
            used--;
        } else {
            weir_op_read(&ops[i], (int)(i % 4), NULL, 0, 0);
            take(&ops[i]);
            tags[i] = ops[i].slot->tag;
            used++;
        }
        taken[i] = !taken[i];
        uint32_t other = (uint32_t)random_below(&random, COUNT);
        struct weir_op *found = weir_slots_find(&slots, tags[other]);
        if (taken[other]) {
            assert_ptr_equal(found, &ops[other]);
        } else {
            assert_null(found);
        }
    }
    for (int fd = 0; fd < 4; fd++) {
        uint32_t expected = 0;
        for (uint32_t i = (uint32_t)fd; i < COUNT; i += 4) {
            expected += taken[i];
        }
        assert_int_equal(count_on_fd(fd), expected);
    }
}

int main(void)
{
#define SLOTS_TEST(name) cmocka_unit_test_setup_teardown(name, open_slots, close_slots)
    const struct CMUnitTest tests[] = {
        SLOTS_TEST(a_taken_slot_finds_its_op_and_no_other_generation),
        SLOTS_TEST(a_freed_slot_moves_on_and_the_stale_lookup_finds_nothing),
        SLOTS_TEST(an_index_out_of_range_finds_nothing),
        SLOTS_TEST(all_slots_can_be_taken_and_are_distinct),
        SLOTS_TEST(a_slot_keeps_what_was_submitted),
        SLOTS_TEST(ops_are_found_by_either_of_their_fds),
        SLOTS_TEST(random_takes_and_frees_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
