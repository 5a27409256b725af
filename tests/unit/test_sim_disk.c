/* SPDX-License-Identifier: MIT */
/* engine/backend/sim_disk.h: what of the simulated disk has no twin in every kernel: its limits,
 * holds, allocation. For the rest see test_sim_twin.c. */
#include "disk_world.h"

#include <linux/falloc.h>

#define BYTES (64 * WEIR_DISK_PAGE)

static struct disk_world world;
static struct weir_disk *disk;

static int open_world(void **state)
{
    (void)state;
    disk_world_open(&world, 1, BYTES);
    disk = world.disk;
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    disk_world_close(&world);
    return 0;
}

static void a_sector_is_a_power_of_2_within_a_page(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 32, 96, 513, 8192};
    struct weir_disk *other;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct weir_disk_options options = {.sector_bytes = wrong[i]};
        assert_int_equal(weir_disk_init(&world.arena, &options, &other), -EINVAL);
    }
    for (uint32_t sector = WEIR_DISK_SECTOR_MIN; sector <= WEIR_DISK_PAGE; sector *= 2) {
        struct weir_disk_options options = {.sector_bytes = sector};
        assert_int_equal(weir_disk_init(&world.arena, &options, &other), 0);
    }
}

static void a_full_disk_writes_a_part_then_answers_ENOSPC_and_has_room_again(void **state)
{
    (void)state;
    static char bytes[BYTES + 1000];
    struct weir_inode *file = disk_open(disk, "big", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, file, bytes, sizeof bytes, 0), BYTES);
    assert_int_equal(disk_write(disk, file, bytes, 1, BYTES), -ENOSPC);
    assert_int_equal(disk_write(disk, file, bytes, 10, 100), 10); /* over what is there */
    struct weir_inode *other = disk_open(disk, "other", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, other, bytes, 1, 0), -ENOSPC);
    assert_int_equal(weir_disk_allocate(disk, other, 0, 0, 1), -ENOSPC);
    assert_int_equal(weir_disk_truncate(disk, other, 1 << 30), 0); /* a hole takes nothing */
    assert_int_equal(weir_disk_truncate(disk, file, BYTES - 2 * WEIR_DISK_PAGE + 1), 0);
    assert_int_equal(disk_write(disk, other, bytes, 1, 0), 1);
    assert_int_equal(disk_write(disk, other, bytes, 1, WEIR_DISK_PAGE), -ENOSPC);
    assert_int_equal(weir_disk_unlink(disk, NULL, "big", 0), 0);
    assert_int_equal(disk_write(disk, other, bytes, 1, WEIR_DISK_PAGE), -ENOSPC);
    weir_disk_release(disk, file); /* it was held until now */
    assert_int_equal(disk_write(disk, other, bytes, BYTES, 0), BYTES);
    weir_disk_release(disk, other);
    assert_int_equal(weir_disk_unlink(disk, NULL, "other", 0), 0);
    other = disk_open(disk, "other", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, other, bytes, BYTES, 0), BYTES);
}

static void reserved_room_is_kept_until_it_is_punched_out(void **state)
{
    (void)state;
    static char bytes[BYTES];
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    struct weir_inode *other = disk_open(disk, "other", O_RDWR | O_CREAT);
    int keep = FALLOC_FL_KEEP_SIZE;
    assert_int_equal(weir_disk_allocate(disk, file, keep, 0, BYTES / 2), 0);
    assert_int_equal(weir_disk_size(file), 0);
    assert_int_equal(disk_statx(disk, "file").stx_blocks, BYTES / 2 / 512);
    assert_int_equal(disk_write(disk, other, bytes, BYTES, 0), BYTES / 2);
    assert_int_equal(disk_write(disk, file, bytes, BYTES, 0), BYTES / 2);
    assert_int_equal(
        weir_disk_allocate(disk, file, keep | FALLOC_FL_PUNCH_HOLE, 10, 2 * WEIR_DISK_PAGE), 0);
    assert_int_equal(disk_write(disk, other, bytes, BYTES, BYTES / 2), WEIR_DISK_PAGE);
    assert_int_equal(weir_disk_allocate(disk, file, FALLOC_FL_ZERO_RANGE, 0, 10), 0);
    assert_int_equal(weir_disk_allocate(disk, file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
                     -EOPNOTSUPP);
    assert_int_equal(weir_disk_allocate(disk, file, FALLOC_FL_PUNCH_HOLE, 0, 4096), -EOPNOTSUPP);
    assert_int_equal(weir_disk_allocate(disk, file, 0, 0, 0), -EINVAL);
}

static void a_file_ends_at_its_limit(void **state)
{
    (void)state;
    char bytes[4] = "1234";
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, file, bytes, 4, WEIR_DISK_FILE_MAX - 3), 3);
    assert_int_equal(weir_disk_size(file), WEIR_DISK_FILE_MAX);
    assert_int_equal(disk_write(disk, file, bytes, 4, WEIR_DISK_FILE_MAX), -EFBIG);
    assert_int_equal(disk_write(disk, file, bytes, 4, (uint64_t)1 << 63), -EINVAL);
    assert_int_equal(disk_read(disk, file, bytes, 4, (uint64_t)1 << 63), -EINVAL);
    assert_int_equal(weir_disk_truncate(disk, file, WEIR_DISK_FILE_MAX + 1), -EFBIG);
    assert_int_equal(weir_disk_truncate(disk, file, UINT64_MAX), -EINVAL);
    assert_int_equal(disk_read(disk, file, bytes, 4, WEIR_DISK_FILE_MAX - 4), 4);
    assert_memory_equal(bytes,
                        "\0"
                        "123",
                        4);
    assert_int_equal(weir_disk_truncate(disk, file, 0), 0);
    assert_int_equal(disk_statx(disk, "file").stx_blocks, 0);
}

static void vectors_are_cut_to_the_length(void **state)
{
    (void)state;
    char got[8] = "........";
    struct iovec out[] = {{"ab", 2}, {NULL, 0}, {"cdefgh", 6}};
    struct iovec in[] = {{got, 3}, {got + 4, 4}};
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    assert_int_equal(weir_disk_write(disk, file, out, 3, 6, WEIR_DISK_PAGE - 4), 6);
    assert_int_equal(weir_disk_size(file), WEIR_DISK_PAGE + 2);
    assert_int_equal(weir_disk_read(disk, file, in, 2, 5, WEIR_DISK_PAGE - 4), 5);
    assert_memory_equal(got, "abc.de..", 8);
    assert_int_equal(weir_disk_write(disk, file, out, 3, 0, 1 << 20), 0);
    assert_int_equal(weir_disk_size(file), WEIR_DISK_PAGE + 2);
}

static void an_unlinked_file_lives_while_it_is_held_and_its_memory_comes_back(void **state)
{
    (void)state;
    char got[5];
    disk_sync(disk, "/");
    size_t before = weir_arena_used(&world.arena);
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, file, "hello", 5, 10000), 5);
    assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
    weir_disk_sync_all(disk);
    assert_int_equal(disk_read(disk, file, got, 5, 10000), 5);
    assert_memory_equal(got, "hello", 5);
    weir_disk_release(disk, file);
    assert_int_equal(weir_arena_used(&world.arena), before);
}

static void a_nameless_file_may_get_a_name_unless_it_is_exclusive(void **state)
{
    (void)state;
    struct weir_inode *file = disk_open(disk, "/", O_TMPFILE | O_RDWR);
    struct weir_inode *never = disk_open(disk, "/", O_TMPFILE | O_RDWR | O_EXCL);
    assert_int_equal(disk_write(disk, file, "text", 4, 0), 4);
    assert_int_equal(weir_disk_link(disk, never, "", NULL, "name", AT_EMPTY_PATH), -ENOENT);
    assert_int_equal(weir_disk_link(disk, file, "", NULL, "name", AT_EMPTY_PATH), 0);
    assert_true(disk_says(disk, "name", "text"));
    assert_int_equal(disk_try_open(disk, "/", O_TMPFILE | O_RDONLY), -EINVAL);
}

static void a_sockets_name_is_no_file(void **state)
{
    (void)state;
    struct weir_inode *socket;
    struct weir_inode *other;
    assert_int_equal(weir_disk_mksocket(disk, NULL, "socket", 0755, &socket), 0);
    assert_int_equal(weir_disk_mksocket(disk, NULL, "socket", 0755, &other), -EEXIST);
    assert_true(S_ISSOCK(disk_statx(disk, "socket").stx_mode));
    assert_int_equal(disk_try_open(disk, "socket", O_RDWR), -ENXIO);
    other = disk_open(disk, "socket", O_PATH);
    assert_ptr_equal(other, socket);
    assert_int_equal(weir_disk_unlink(disk, NULL, "socket", 0), 0);
    weir_disk_release(disk, other);
    weir_disk_release(disk, socket);
}

static void a_full_arena_is_relieved_by_writing_back(void **state)
{
    (void)state;
    static char bytes[WEIR_DISK_PAGE];
    disk_world_close(&world);
    disk_world_open(&world, 1, (uint64_t)1 << 40);
    disk = world.disk;
    /* Ten times what the arena holds goes through it, and nobody syncs. */
    for (uint64_t i = 0; i < 10 * world.size / sizeof bytes / 64; i++) {
        struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT | O_EXCL);
        for (uint64_t page = 0; page < 64; page++) {
            assert_int_equal(disk_write(disk, file, bytes, sizeof bytes, page * sizeof bytes),
                             sizeof bytes);
        }
        weir_disk_release(disk, file);
        assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
    }
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    uint64_t offset = 0;
    while (disk_write(disk, file, bytes, sizeof bytes, offset) > 0) {
        offset += sizeof bytes;
    }
    assert_true(offset > world.size / 4 * 3);
    assert_int_equal(disk_write(disk, file, bytes, 1, offset), -ENOSPC);
    weir_disk_release(disk, file);
    assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
    weir_disk_sync_all(disk);
    assert_true(weir_arena_used(&world.arena) < world.size / 100);
}

int main(void)
{
#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        DISK_TEST(a_sector_is_a_power_of_2_within_a_page),
        DISK_TEST(a_full_disk_writes_a_part_then_answers_ENOSPC_and_has_room_again),
        DISK_TEST(reserved_room_is_kept_until_it_is_punched_out),
        DISK_TEST(a_file_ends_at_its_limit),
        DISK_TEST(vectors_are_cut_to_the_length),
        DISK_TEST(an_unlinked_file_lives_while_it_is_held_and_its_memory_comes_back),
        DISK_TEST(a_nameless_file_may_get_a_name_unless_it_is_exclusive),
        DISK_TEST(a_sockets_name_is_no_file),
        DISK_TEST(a_full_arena_is_relieved_by_writing_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
