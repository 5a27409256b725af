/* SPDX-License-Identifier: MIT */
/* engine/backend/sim_arena.h: pieces are whole, zeroed, and come again. */
#include "unit.h"

#include <engine/backend/sim_arena.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)1 << 20)

static struct weir_arena arena;
static uint8_t *memory;

static int open_arena(void **state)
{
    (void)state;
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    weir_arena_init(&arena, memory, SIZE);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    weir_arena_end(&arena);
    for (size_t i = 0; i < SIZE; i++) {
        memory[i] = 0; /* all of it may be touched again */
    }
    return munmap(memory, SIZE);
}

static int is_zero(const uint8_t *piece, size_t size)
{
    size_t i = 0;
    while (i < size && piece[i] == 0) {
        i++;
    }
    return i == size;
}

static void pieces_are_zeroed_and_aligned_also_when_they_come_again(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16, 17, 100, 4096, 4097, 65536};
    for (int round = 0; round < 3; round++) {
        uint8_t *pieces[COUNT_OF(sizes)];
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            pieces[i] = weir_arena_take(&arena, sizes[i]);
            assert_non_null(pieces[i]);
            assert_int_equal((uintptr_t)pieces[i] % 16, 0);
            assert_true(is_zero(pieces[i], sizes[i]));
            memset(pieces[i], 0xff, sizes[i]);
        }
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            weir_arena_give(&arena, pieces[i], sizes[i]);
        }
        assert_int_equal(weir_arena_used(&arena), 0);
    }
}

static void a_piece_that_was_given_back_is_the_next_one_of_its_size(void **state)
{
    (void)state;
    void *first = weir_arena_take(&arena, 100);
    void *other = weir_arena_take(&arena, 100);
    weir_arena_give(&arena, first, 100);
    assert_ptr_equal(weir_arena_take(&arena, 128), first);
    assert_ptr_not_equal(weir_arena_take(&arena, 128), other);
    assert_int_equal(weir_arena_used(&arena), 3 * 128);
}

static void a_full_arena_answers_NULL_and_has_room_again(void **state)
{
    (void)state;
    void *last = NULL;
    uint32_t count = 0;
    for (void *piece; (piece = weir_arena_take(&arena, 4096)); count++) {
        last = piece;
    }
    assert_int_equal(count, SIZE / 4096);
    assert_int_equal(weir_arena_used(&arena), SIZE);
    assert_null(weir_arena_take(&arena, 1));
    weir_arena_give(&arena, last, 4096);
    assert_ptr_equal(weir_arena_take(&arena, 4096), last);
    volatile size_t absurd = SIZE_MAX; /* volatile: the compiler would warn of what is refused */
    assert_null(weir_arena_take(&arena, absurd));
    absurd = (size_t)1 << 63;
    assert_null(weir_arena_take(&arena, absurd));
    weir_arena_give(&arena, NULL, 4096);
    assert_int_equal(weir_arena_used(&arena), SIZE);
}

static void random_takes_and_gives_never_share_a_byte(void **state)
{
    (void)state;
    struct {
        uint8_t *piece;
        size_t size;
    } taken[64] = {0};
    struct random random = random_open();
    for (int step = 0; step < 20000; step++) {
        uint64_t i = random_below(&random, COUNT_OF(taken));
        if (taken[i].piece) {
            for (size_t at = 0; at < taken[i].size; at++) {
                assert_int_equal(taken[i].piece[at], i + 1);
            }
            weir_arena_give(&arena, taken[i].piece, taken[i].size);
            taken[i].piece = NULL;
            continue;
        }
        taken[i].size = 1 + (size_t)random_below(&random, 1500);
        taken[i].piece = weir_arena_take(&arena, taken[i].size);
        assert_non_null(taken[i].piece);
        assert_true(is_zero(taken[i].piece, taken[i].size));
        memset(taken[i].piece, (int)i + 1, taken[i].size);
    }
    for (uint64_t i = 0; i < COUNT_OF(taken); i++) {
        weir_arena_give(&arena, taken[i].piece, taken[i].size);
    }
    assert_int_equal(weir_arena_used(&arena), 0);
}

int main(void)
{
#define ARENA_TEST(name) cmocka_unit_test_setup_teardown(name, open_arena, close_arena)
    const struct CMUnitTest tests[] = {
        ARENA_TEST(pieces_are_zeroed_and_aligned_also_when_they_come_again),
        ARENA_TEST(a_piece_that_was_given_back_is_the_next_one_of_its_size),
        ARENA_TEST(a_full_arena_answers_NULL_and_has_room_again),
        ARENA_TEST(random_takes_and_gives_never_share_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
