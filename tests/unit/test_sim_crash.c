/* SPDX-License-Identifier: MIT */
/*
 * engine/backend/sim_disk.h: what a crash may and may not do, promise by promise: each over many
 * seeds, of which none may break it and some must go each of the ways it leaves open.
 */
#include "disk_world.h"

#include <linux/falloc.h>

#define SEEDS 400
#define SECTOR 512
#define BIG (16 * SECTOR)

static struct disk_world world;
static struct weir_disk *disk;

/* --- many crashes of the same story ----------------------------------------------------------- */

/* What was seen after the crashes of a story, by the number that it gave. */
static uint32_t seen[16];

static void tell(void (*before)(void), int (*after)(void))
{
    memset(seen, 0, sizeof seen);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        disk_world_open(&world, seed, (uint64_t)1 << 20);
        disk = world.disk;
        before();
        weir_disk_crash(disk);
        int found = after();
        assert_in_range(found, 0, COUNT_OF(seen) - 1);
        seen[found]++;
        disk_world_close(&world);
    }
}

/* Each of the first `count` was seen, and nothing else. */
static void expect_seen(uint32_t count)
{
    for (uint32_t i = 0; i < COUNT_OF(seen); i++) {
        if ((seen[i] > 0) != (i < count)) {
            print_error("%u was seen %u times\n", i, seen[i]);
        }
        assert_int_equal(seen[i] > 0, i < count);
    }
}

static void put_big(char byte, const char *path)
{
    char bytes[BIG];
    memset(bytes, byte, sizeof bytes);
    struct weir_inode *file = disk_open(disk, path, O_WRONLY | O_CREAT);
    assert_int_equal(disk_write(disk, file, bytes, sizeof bytes, 0), sizeof bytes);
    weir_disk_release(disk, file);
}

/* --- files ------------------------------------------------------------------------------------ */

static void synced_then_written_again(void)
{
    put_big('a', "file");
    disk_sync(disk, "file");
    disk_sync(disk, "/");
    put_big('b', "file");
}

/* 0: old, 1: new, 2: torn */
static int old_new_or_torn(void)
{
    char got[BIG + 1];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), BIG);
    uint32_t written = 0;
    for (size_t i = 0; i < BIG; i += SECTOR) {
        assert_true(got[i] == 'a' || got[i] == 'b');
        written += got[i] == 'b';
        for (size_t j = i; j < i + SECTOR; j++) {
            assert_int_equal(got[j], got[i]);
        }
    }
    struct weir_disk_losses losses;
    weir_disk_losses(disk, &losses);
    assert_int_equal(losses.sectors_lost, BIG / SECTOR - written);
    assert_int_equal(losses.sectors_torn, written == BIG / SECTOR ? 0 : written);
    return written == 0 ? 0 : written == BIG / SECTOR ? 1 : 2;
}

static void a_write_that_was_not_synced_is_kept_dropped_or_torn_by_sectors(void **state)
{
    (void)state;
    tell(synced_then_written_again, old_new_or_torn);
    expect_seen(3);
}

static void written_twice(void)
{
    synced_then_written_again();
    put_big('c', "file");
    disk_sync(disk, "file");
}

static int is_c(void)
{
    char got[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), BIG);
    for (size_t i = 0; i < BIG; i++) {
        assert_int_equal(got[i], 'c');
    }
    return 0;
}

static void what_was_synced_is_whole(void **state)
{
    (void)state;
    tell(written_twice, is_c);
    expect_seen(1);
}

static void appended_three_times(void)
{
    disk_put(disk, "file", "one");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(disk_write(disk, file, "two", 3, 3), 3);
    assert_int_equal(disk_write(disk, file, "three", 5, 6), 5);
}

/* 0 to 3: so many of them; 4: a size that its bytes did not come with; 5: with some of them */
static int how_many(void)
{
    static const char all[] = "onetwothree";
    static const uint64_t sizes[] = {0, 3, 6, 11};
    char got[16] = {0};
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    uint64_t size = weir_disk_size(file);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), size);
    for (int i = 0; i < 4; i++) {
        if (size == sizes[i] && memcmp(got, all, size) == 0) {
            return i;
        }
    }
    assert_true(size == 3 || size == 6 || size == 11);
    size_t length = strlen(got);
    assert_true(length < size && memcmp(got, all, length) == 0);
    return length == 0 ? 4 : 5;
}

static void appends_to_one_sector_survive_up_to_any_of_them(void **state)
{
    (void)state;
    tell(appended_three_times, how_many);
    expect_seen(6);
}

static void truncated_and_written(void)
{
    put_big('a', "file");
    disk_sync(disk, "file");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY | O_TRUNC);
    assert_int_equal(disk_write(disk, file, "new", 3, 0), 3);
}

/* 0: as before, 1: empty, 2: the new bytes, 3: as many zeroes */
static int before_empty_new_or_zero(void)
{
    char got[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    uint64_t size = weir_disk_size(file);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), size);
    if (size == BIG) {
        for (size_t i = 0; i < BIG; i++) {
            assert_int_equal(got[i], 'a');
        }
        return 0;
    }
    assert_true(size == 0 || size == 3);
    if (size && memcmp(got, "new", 3) != 0) {
        assert_memory_equal(got, "\0\0", 3);
        return 3;
    }
    return size ? 2 : 1;
}

static void a_truncate_happens_or_does_not_and_what_came_after_it_goes_with_it(void **state)
{
    (void)state;
    tell(truncated_and_written, before_empty_new_or_zero);
    expect_seen(4);
}

static void truncated_and_synced(void)
{
    put_big('a', "file");
    disk_sync(disk, "file");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(weir_disk_truncate(disk, file, 700), 0);
    assert_int_equal(weir_disk_sync(disk, file), 0);
    assert_int_equal(weir_disk_truncate(disk, file, 2000), 0);
}

/* 0: 700 bytes, 1: 2000 of which the rest is zero */
static int cut_at_700(void)
{
    char got[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    uint64_t size = weir_disk_size(file);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), size);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(got[i], i < 700 ? 'a' : 0);
    }
    assert_true(size == 700 || size == 2000);
    return size == 2000;
}

static void what_was_cut_off_and_synced_does_not_come_back(void **state)
{
    (void)state;
    tell(truncated_and_synced, cut_at_700);
    expect_seen(2);
}

static void punched(void)
{
    put_big('b', "file");
    disk_sync(disk, "file");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    assert_int_equal(weir_disk_allocate(disk, file, mode, 0, BIG), 0);
}

/* 0: nothing, 1: all, 2: some of it */
static int how_much_is_punched(void)
{
    char got[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), BIG);
    uint32_t zeroes = 0;
    for (size_t i = 0; i < BIG; i++) {
        assert_true(got[i] == 'b' || got[i] == 0);
        assert_int_equal(got[i], got[i / SECTOR * SECTOR]);
        zeroes += got[i] == 0;
    }
    return zeroes == 0 ? 0 : zeroes == BIG ? 1 : 2;
}

static void a_hole_is_punched_by_sectors(void **state)
{
    (void)state;
    tell(punched, how_much_is_punched);
    expect_seen(3);
}

#define RANGE_FLAGS                                                                                \
    (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

static unsigned range_flags;

static void range_synced(void)
{
    synced_then_written_again();
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(weir_disk_sync_range(disk, file, 0, 0, range_flags), 0);
    assert_int_equal(disk_write(disk, file, "more", 4, BIG), 4); /* and not this */
}

/* 0: both, 1: without what came later, 2: not even what was in the range */
static int range_survived(void)
{
    char got[BIG + 4];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    int64_t size = disk_read(disk, file, got, sizeof got, 0);
    for (size_t i = 0; i < BIG; i++) {
        if (got[i] != 'b') {
            return 2;
        }
    }
    return size == BIG || memcmp(got + BIG, "more", 4) != 0;
}

static void a_synced_range_keeps_what_was_overwritten_and_only_if_it_was_waited_for(void **state)
{
    (void)state;
    range_flags = RANGE_FLAGS;
    tell(range_synced, range_survived);
    expect_seen(2);
    range_flags = SYNC_FILE_RANGE_WRITE;
    tell(range_synced, range_survived);
    expect_seen(3);
}

static void range_of_a_new_file(void)
{
    disk_put(disk, "file", "text");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(weir_disk_sync_range(disk, file, 0, 0, RANGE_FLAGS), 0);
}

static int text_is_there(void)
{
    return disk_says(disk, "file", "text");
}

static void a_synced_range_keeps_no_size(void **state)
{
    (void)state;
    tell(range_of_a_new_file, text_is_there);
    expect_seen(2);
}

/* --- names ------------------------------------------------------------------------------------ */

static void file_synced_without_its_directory(void)
{
    disk_put(disk, "file", "text");
    disk_sync(disk, "file");
}

static int whole_or_gone(void)
{
    assert_true(disk_says(disk, "file", "text") || !disk_has(disk, "file"));
    return disk_has(disk, "file");
}

static void a_synced_file_may_have_no_name(void **state)
{
    (void)state;
    tell(file_synced_without_its_directory, whole_or_gone);
    expect_seen(2);
}

static void directory_synced_without_its_parent(void)
{
    assert_int_equal(weir_disk_mkdir(disk, NULL, "dir", 0755), 0);
    disk_put(disk, "dir/file", "text");
    disk_sync(disk, "dir/file");
    disk_sync(disk, "dir");
}

static int dir_with_its_file_or_not_at_all(void)
{
    assert_int_equal(disk_says(disk, "dir/file", "text"), disk_has(disk, "dir"));
    return disk_has(disk, "dir");
}

static void a_synced_directory_may_have_no_name_and_takes_its_files_with_it(void **state)
{
    (void)state;
    tell(directory_synced_without_its_parent, dir_with_its_file_or_not_at_all);
    expect_seen(2);
}

static void replaced(bool synced)
{
    disk_put(disk, "file", "old");
    weir_disk_sync_all(disk);
    disk_put(disk, "new", "fresh");
    if (synced) {
        disk_sync(disk, "new");
    }
    assert_int_equal(weir_disk_rename(disk, NULL, "new", NULL, "file", 0), 0);
}

static void replaced_safely(void)
{
    replaced(true);
}

static void replaced_without_sync(void)
{
    replaced(false);
}

/* 0: the old, 1: the new, 2: the old with the new beside it; 3: one that lost its bytes */
static int which_file(void)
{
    bool beside = disk_has(disk, "new");
    if (disk_says(disk, "file", "old")) {
        return beside ? 2 : 0;
    }
    assert_false(beside);
    if (disk_says(disk, "file", "fresh")) {
        return 1;
    }
    uint64_t size = disk_statx(disk, "file").stx_size;
    assert_true(size == 0 || (size == 5 && disk_says(disk, "file", "\0\0\0\0\0") == false));
    return 3;
}

static void a_rename_over_a_file_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    tell(replaced_safely, which_file);
    expect_seen(3);
    tell(replaced_without_sync, which_file);
    expect_seen(4);
}

static void replaced_and_directory_synced(void)
{
    replaced(true);
    disk_sync(disk, "/");
}

static int is_fresh(void)
{
    return disk_says(disk, "file", "fresh") && !disk_has(disk, "new");
}

static void a_rename_is_there_once_its_directory_is_synced(void **state)
{
    (void)state;
    tell(replaced_and_directory_synced, is_fresh);
    assert_int_equal(seen[1], SEEDS);
}

static void moved_into_a_new_directory(void)
{
    disk_put(disk, "file", "text");
    weir_disk_sync_all(disk);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "dir", 0755), 0);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "dir/sub", 0755), 0);
    assert_int_equal(weir_disk_rename(disk, NULL, "file", NULL, "dir/sub/file", 0), 0);
}

static int in_one_place(void)
{
    bool old = disk_says(disk, "file", "text");
    bool new = disk_says(disk, "dir/sub/file", "text");
    assert_true(old != new);
    return new;
}

static void a_file_moved_into_a_new_directory_is_in_one_of_its_places(void **state)
{
    (void)state;
    tell(moved_into_a_new_directory, in_one_place);
    expect_seen(2);
}

static void moved_and_target_synced(void)
{
    moved_into_a_new_directory();
    disk_sync(disk, "dir/sub");
}

static void a_sync_of_where_a_file_was_moved_to_brings_it_there(void **state)
{
    (void)state;
    tell(moved_and_target_synced, in_one_place);
    assert_int_equal(seen[1], SEEDS);
}

static void moved_out_of_a_removed_directory(void)
{
    assert_int_equal(weir_disk_mkdir(disk, NULL, "dir", 0755), 0);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "other", 0755), 0);
    disk_put(disk, "dir/file", "text");
    weir_disk_sync_all(disk);
    assert_int_equal(weir_disk_rename(disk, NULL, "dir/file", NULL, "other/file", 0), 0);
    assert_int_equal(weir_disk_unlink(disk, NULL, "dir", AT_REMOVEDIR), 0);
}

/* 0: where it was, 1: moved, 2: and the directory is gone */
static int where_it_is(void)
{
    bool old = disk_says(disk, "dir/file", "text");
    bool new = disk_says(disk, "other/file", "text");
    assert_true(old != new);
    return old ? 0 : disk_has(disk, "dir") ? 1 : 2;
}

static void what_was_moved_out_of_a_removed_directory_is_not_lost(void **state)
{
    (void)state;
    tell(moved_out_of_a_removed_directory, where_it_is);
    expect_seen(3);
}

static void removed_and_parent_synced(void)
{
    moved_out_of_a_removed_directory();
    disk_sync(disk, "/");
}

static void a_sync_of_a_removal_brings_with_it_what_was_moved_out(void **state)
{
    (void)state;
    tell(removed_and_parent_synced, where_it_is);
    assert_int_equal(seen[2], SEEDS);
}

static void exchanged(void)
{
    disk_put(disk, "a", "1");
    disk_put(disk, "b", "2");
    weir_disk_sync_all(disk);
    assert_int_equal(weir_disk_rename(disk, NULL, "a", NULL, "b", RENAME_EXCHANGE), 0);
}

static int both_or_neither(void)
{
    bool changed = disk_says(disk, "a", "2");
    assert_true(disk_says(disk, "a", changed ? "2" : "1"));
    assert_true(disk_says(disk, "b", changed ? "1" : "2"));
    return changed;
}

static void an_exchange_happens_in_both_places_or_in_none(void **state)
{
    (void)state;
    tell(exchanged, both_or_neither);
    expect_seen(2);
}

static void two_files_made(void)
{
    disk_put(disk, "a", "1");
    disk_put(disk, "b", "2");
}

static int which_of_two(void)
{
    return disk_has(disk, "a") + 2 * disk_has(disk, "b");
}

static void names_of_one_directory_survive_in_any_order(void **state)
{
    (void)state;
    tell(two_files_made, which_of_two);
    expect_seen(4);
}

static void directories_moved_round(void)
{
    assert_int_equal(weir_disk_mkdir(disk, NULL, "a", 0755), 0);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "a/x", 0755), 0);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "a/x/b", 0755), 0);
    assert_int_equal(weir_disk_mkdir(disk, NULL, "a/x/b/y", 0755), 0);
    weir_disk_sync_all(disk);
    assert_int_equal(weir_disk_rename(disk, NULL, "a/x/b", NULL, "c", 0), 0);
    assert_int_equal(weir_disk_rename(disk, NULL, "a", NULL, "c/y/a", 0), 0);
}

static int how_far_round(void)
{
    bool two = disk_has(disk, "c/y/a/x");
    bool one = disk_has(disk, "a/x") && disk_has(disk, "c/y");
    assert_true(two || one || disk_has(disk, "a/x/b/y"));
    return two ? 2 : one;
}

static void directories_are_never_moved_into_each_other(void **state)
{
    (void)state;
    tell(directories_moved_round, how_far_round);
    expect_seen(3);
}

static void unlinked_while_held(void)
{
    disk_put(disk, "file", "text");
    weir_disk_sync_all(disk);
    disk_open(disk, "file", O_RDWR); /* nobody lets go of it */
    assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
    struct weir_inode *nameless = disk_open(disk, "/", O_TMPFILE | O_RDWR);
    assert_int_equal(disk_write(disk, nameless, "x", 1, 0), 1);
}

static int back_or_gone(void)
{
    int found = whole_or_gone();
    weir_disk_sync_all(disk);
    if (found) {
        assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
        disk_sync(disk, "/");
    }
    assert_int_equal(disk_statx(disk, "/").stx_nlink, 2);
    return found;
}

static size_t used_when_empty;
static void nothing(void)
{
}

static int count_used(void)
{
    used_when_empty = weir_arena_used(&world.arena);
    return 0;
}

static int back_or_gone_and_nothing_leaks(void)
{
    int found = back_or_gone();
    assert_int_equal(weir_arena_used(&world.arena), used_when_empty);
    return found;
}

static void an_unlinked_file_comes_back_whole_or_is_gone_with_all_its_memory(void **state)
{
    (void)state;
    tell(nothing, count_used);
    tell(unlinked_while_held, back_or_gone_and_nothing_leaks);
    expect_seen(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_that_was_not_synced_is_kept_dropped_or_torn_by_sectors),
        cmocka_unit_test(what_was_synced_is_whole),
        cmocka_unit_test(appends_to_one_sector_survive_up_to_any_of_them),
        cmocka_unit_test(a_truncate_happens_or_does_not_and_what_came_after_it_goes_with_it),
        cmocka_unit_test(what_was_cut_off_and_synced_does_not_come_back),
        cmocka_unit_test(a_hole_is_punched_by_sectors),
        cmocka_unit_test(a_synced_range_keeps_what_was_overwritten_and_only_if_it_was_waited_for),
        cmocka_unit_test(a_synced_range_keeps_no_size),
        cmocka_unit_test(a_synced_file_may_have_no_name),
        cmocka_unit_test(a_synced_directory_may_have_no_name_and_takes_its_files_with_it),
        cmocka_unit_test(a_rename_over_a_file_leaves_the_old_or_the_new),
        cmocka_unit_test(a_rename_is_there_once_its_directory_is_synced),
        cmocka_unit_test(a_file_moved_into_a_new_directory_is_in_one_of_its_places),
        cmocka_unit_test(a_sync_of_where_a_file_was_moved_to_brings_it_there),
        cmocka_unit_test(what_was_moved_out_of_a_removed_directory_is_not_lost),
        cmocka_unit_test(a_sync_of_a_removal_brings_with_it_what_was_moved_out),
        cmocka_unit_test(an_exchange_happens_in_both_places_or_in_none),
        cmocka_unit_test(names_of_one_directory_survive_in_any_order),
        cmocka_unit_test(directories_are_never_moved_into_each_other),
        cmocka_unit_test(an_unlinked_file_comes_back_whole_or_is_gone_with_all_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
