/* SPDX-License-Identifier: MIT */
/* engine/backend/sim_disk.h: what a crash may and may not do to names, promise by
 * promise. */
#include "crash_story.h"

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

static void full_and_unlinked(void)
{
    static char bytes[WORLD_BYTES];
    struct weir_inode *file = disk_open(disk, "file", O_RDWR | O_CREAT);
    assert_int_equal(disk_write(disk, file, bytes, sizeof bytes, 0), sizeof bytes);
    weir_disk_sync_all(disk);
    weir_disk_release(disk, file);
    assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
}

/* 0: there is room, 1: the file is back and takes it all, until it is unlinked again */
static int full_or_not(void)
{
    static char bytes[WORLD_BYTES];
    bool back = disk_has(disk, "file");
    struct weir_inode *other = disk_open(disk, "other", O_RDWR | O_CREAT);
    if (back) {
        assert_int_equal(disk_write(disk, other, bytes, 1, 0), -ENOSPC);
        assert_int_equal(weir_disk_unlink(disk, NULL, "file", 0), 0);
        weir_disk_sync_all(disk);
    }
    assert_int_equal(disk_write(disk, other, bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(disk_write(disk, other, bytes, 1, sizeof bytes), -ENOSPC);
    return back;
}

static void a_file_that_comes_back_takes_its_room_again(void **state)
{
    (void)state;
    tell(full_and_unlinked, full_or_not);
    expect_seen(2);
}

static void linked_then_unlinked(void)
{
    disk_put(disk, "old", "text");
    assert_int_equal(weir_disk_mkdir(disk, NULL, "dir", 0755), 0);
    weir_disk_sync_all(disk);
    assert_int_equal(weir_disk_link(disk, NULL, "old", NULL, "dir/new", 0), 0);
    assert_int_equal(weir_disk_unlink(disk, NULL, "old", 0), 0);
}

/* 0: before, 1: both names, 2: the new one */
static int which_names(void)
{
    bool old = disk_says(disk, "old", "text");
    bool new = disk_says(disk, "dir/new", "text");
    assert_true(old || new);
    assert_int_equal(disk_statx(disk, old ? "old" : "dir/new").stx_nlink, old + new);
    return old ? new : 2;
}

static void a_file_that_is_linked_then_unlinked_keeps_a_name(void **state)
{
    (void)state;
    tell(linked_then_unlinked, which_names);
    expect_seen(3);
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
        STORY_TEST(a_synced_file_may_have_no_name),
        STORY_TEST(a_synced_directory_may_have_no_name_and_takes_its_files_with_it),
        STORY_TEST(a_rename_over_a_file_leaves_the_old_or_the_new),
        STORY_TEST(a_rename_is_there_once_its_directory_is_synced),
        STORY_TEST(a_file_moved_into_a_new_directory_is_in_one_of_its_places),
        STORY_TEST(a_sync_of_where_a_file_was_moved_to_brings_it_there),
        STORY_TEST(what_was_moved_out_of_a_removed_directory_is_not_lost),
        STORY_TEST(a_sync_of_a_removal_brings_with_it_what_was_moved_out),
        STORY_TEST(an_exchange_happens_in_both_places_or_in_none),
        STORY_TEST(names_of_one_directory_survive_in_any_order),
        STORY_TEST(directories_are_never_moved_into_each_other),
        STORY_TEST(a_file_that_comes_back_takes_its_room_again),
        STORY_TEST(a_file_that_is_linked_then_unlinked_keeps_a_name),
        STORY_TEST(an_unlinked_file_comes_back_whole_or_is_gone_with_all_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
