/* SPDX-License-Identifier: MIT */
/* engine/loop/timer.h: the heap of points in time, against a model that looks at all of them. */
#include "unit.h"

#include <engine/loop/timer.h>
#include <string.h>

#define COUNT 300u
#define STEPS 40000

static struct weir_heap heap;
static void *memory;
static struct weir_op ops[COUNT];
static uint64_t due[COUNT]; /* the model: when each op is due, 0 while it is not in */

static int open_heap(void **state)
{
    (void)state;
    memory = malloc(weir_heap_size(COUNT));
    assert_non_null(memory);
    memset(ops, 0, sizeof ops);
    memset(due, 0, sizeof due);
    weir_heap_init(&heap, COUNT, memory);
    return 0;
}

static int close_heap(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static void insert(uint32_t i, uint64_t at_ns)
{
    due[i] = at_ns;
    weir_heap_insert(&heap, &ops[i], at_ns);
}

static void take(uint32_t i)
{
    weir_heap_remove(&heap, &ops[i]);
    due[i] = 0;
    assert_int_equal(ops[i].heap_index, 0);
}

/* Takes the earliest, as the loop does; its number. */
static uint32_t pop(void)
{
    uint32_t i = (uint32_t)(heap.entries[1].op - ops);
    assert_true(due[i] == weir_heap_next(&heap));
    take(i);
    return i;
}

static void check_against_the_model(void)
{
    uint64_t earliest = UINT64_MAX;
    uint32_t count = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        if (due[i] == 0) {
            assert_int_equal(ops[i].heap_index, 0);
            continue;
        }
        count++;
        earliest = due[i] < earliest ? due[i] : earliest;
        assert_in_range(ops[i].heap_index, 1, heap.count);
        const struct weir_heap_entry *entry = &heap.entries[ops[i].heap_index];
        assert_ptr_equal(entry->op, &ops[i]);
        assert_true(entry->at_ns == due[i]);
    }
    assert_int_equal(heap.count, count);
    assert_true(weir_heap_next(&heap) == earliest);
}

static void an_empty_heap_is_due_never(void **state)
{
    (void)state;
    assert_true(weir_heap_next(&heap) == UINT64_MAX);
    insert(0, 5);
    take(0);
    assert_true(weir_heap_next(&heap) == UINT64_MAX);
}

static void everything_comes_out_in_order(void **state)
{
    (void)state;
    struct random random = random_open();
    for (int round = 0; round < 50; round++) {
        uint32_t count = 1 + (uint32_t)random_below(&random, COUNT);
        for (uint32_t i = 0; i < count; i++) {
            insert(i, 1 + random_below(&random, round % 2 ? 20 : UINT64_MAX - 1));
        }
        uint64_t last = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t at_ns = weir_heap_next(&heap);
            assert_true(at_ns >= last);
            last = at_ns;
            pop();
        }
        assert_int_equal(heap.count, 0);
    }
}

static void random_inserts_removes_and_pops_agree_with_the_model(void **state)
{
    (void)state;
    struct random random = random_open();
    uint64_t pops = 0;
    for (int step = 0; step < STEPS; step++) {
        uint32_t i = (uint32_t)random_below(&random, COUNT);
        /* Few different times in some stretches: equal ones must not lose each other. */
        uint64_t range = step / 1000 % 2 ? 8 : 1000000;
        if (due[i] == 0) {
            insert(i, 1 + random_below(&random, range));
        } else if (random_below(&random, 3)) {
            take(i);
        } else {
            pop();
            pops++;
        }
        if (step % 7 == 0) {
            check_against_the_model();
        }
    }
    assert_true(pops > 1000);
    while (heap.count) {
        pop();
    }
    check_against_the_model();
}

static void a_full_heap_holds_its_capacity(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) {
        insert(i, COUNT - i); /* each new one is the earliest */
        assert_true(weir_heap_next(&heap) == COUNT - i);
    }
    check_against_the_model();
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(pop(), COUNT - 1 - i);
    }
}

static void an_op_taken_from_the_middle_can_be_put_back_elsewhere(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) {
        insert(i, 1000 + i);
    }
    for (uint32_t i = 0; i < COUNT; i++) { /* as a deadline that moves */
        take(i);
        insert(i, 1 + (i * 7919u) % 5000u);
        check_against_the_model();
    }
}

int main(void)
{
#define HEAP_TEST(name) cmocka_unit_test_setup_teardown(name, open_heap, close_heap)
    const struct CMUnitTest tests[] = {
        HEAP_TEST(an_empty_heap_is_due_never),
        HEAP_TEST(everything_comes_out_in_order),
        HEAP_TEST(random_inserts_removes_and_pops_agree_with_the_model),
        HEAP_TEST(a_full_heap_holds_its_capacity),
        HEAP_TEST(an_op_taken_from_the_middle_can_be_put_back_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
