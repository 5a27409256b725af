/* SPDX-License-Identifier: MIT */
/* engine/backend/sim_disk.h: what a crash may and may not do to the bytes of files, promise by
 * promise. */
#include "crash_story.h"

#include <linux/falloc.h>

#define SECTOR 512
#define BIG (16 * SECTOR)

static void put_big(char byte, const char *path)
{
    char bytes[BIG];
    memset(bytes, byte, sizeof bytes);
    struct weir_inode *file = disk_open(disk, path, O_WRONLY | O_CREAT);
    assert_int_equal(disk_write(disk, file, bytes, sizeof bytes, 0), sizeof bytes);
    weir_disk_release(disk, file);
}

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

/* Sectors of which the writes are, the latest first. */
struct strokes {
    struct {
        uint32_t first;
        uint32_t count;
    } writes[3];
    uint32_t groups[16]; /* for each sector: those that are of one piece of a write */
};

static const struct strokes all_strokes[] = {
    {{{0, 8}, {8, 8}}, {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}},
    {{{0, 8}, {0, 16}}, {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}},
    {{{0, 16}, {4, 4}, {8, 2}}, {0}},
    {{{2, 2}, {0, 16}}, {0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
};
static const struct strokes *strokes;

static void written_by_strokes(void)
{
    static char bytes[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY | O_CREAT);
    disk_sync(disk, "/");
    for (int i = 2; i >= 0; i--) {
        memset(bytes, 'b' + i, sizeof bytes);
        uint64_t length = strokes->writes[i].count * SECTOR;
        uint64_t offset = strokes->writes[i].first * SECTOR;
        assert_int_equal(disk_write(disk, file, bytes, length, offset), length);
    }
}

/* Of the latest write to a sector. */
static char byte_of(size_t sector)
{
    int i = 0;
    while (sector - strokes->writes[i].first >= strokes->writes[i].count) {
        i++;
    }
    return (char)('b' + i);
}

static int torn_groups(void)
{
    char got[BIG] = {0};
    uint32_t kept[3] = {0};
    uint32_t count[3] = {0};
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    disk_read(disk, file, got, sizeof got, 0);
    for (size_t i = 0; i < BIG / SECTOR; i++) {
        kept[strokes->groups[i]] += got[i * SECTOR] == byte_of(i);
        count[strokes->groups[i]]++;
    }
    struct weir_disk_losses losses;
    weir_disk_losses(disk, &losses);
    uint32_t torn = 0;
    for (size_t i = 0; i < 3; i++) {
        torn += kept[i] < count[i] ? kept[i] : 0;
    }
    assert_int_equal(losses.sectors_lost, BIG / SECTOR - kept[0] - kept[1] - kept[2]);
    assert_int_equal(losses.sectors_torn, torn);
    return torn > 0;
}

static void a_sector_is_torn_from_its_own_write_and_not_from_its_neighbour(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(all_strokes); i++) {
        strokes = &all_strokes[i];
        tell(written_by_strokes, torn_groups);
        expect_seen(2);
    }
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

static void truncated_and_written_further_on(void)
{
    put_big('a', "file");
    disk_sync(disk, "file");
    disk_sync(disk, "/");
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(weir_disk_truncate(disk, file, 700), 0);
    assert_int_equal(disk_write(disk, file, "bbbbbbbbbb", 10, 1000), 10);
}

/* 0: as before, 1: 700 bytes, 2: zeroes from there on, 3: and then what was written */
static int zero_from_700(void)
{
    char got[BIG];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    uint64_t size = weir_disk_size(file);
    assert_int_equal(disk_read(disk, file, got, sizeof got, 0), size);
    bool written = false;
    for (size_t i = 0; i < size; i++) {
        written = written || got[i] == 'b';
        bool may_be_written = i >= 1000 && got[i] == 'b';
        assert_true(got[i] == (i < 700 || size == BIG ? 'a' : 0) || may_be_written);
    }
    assert_true(size == BIG || size == 700 || size == 1010);
    assert_false(written && size == BIG);
    return size == BIG ? 0 : size == 700 ? 1 : written ? 3 : 2;
}

static void what_was_cut_off_does_not_come_back_beside_what_was_written_since(void **state)
{
    (void)state;
    tell(truncated_and_written_further_on, zero_from_700);
    expect_seen(4);
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

static void range_after_a_truncate(void)
{
    truncated_and_written();
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(weir_disk_sync_range(disk, file, 0, 0, RANGE_FLAGS), 0);
}

static void range_of_a_hole(void)
{
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY | O_CREAT);
    assert_int_equal(weir_disk_truncate(disk, file, BIG), 0);
    weir_disk_sync_all(disk);
    put_big('b', "file");
    assert_int_equal(weir_disk_sync_range(disk, file, 0, 0, RANGE_FLAGS), 0);
}

static void range_past_the_synced_size(void)
{
    disk_put(disk, "file", "text");
    weir_disk_sync_all(disk);
    struct weir_inode *file = disk_open(disk, "file", O_WRONLY);
    assert_int_equal(disk_write(disk, file, "more", 4, 2000), 4);
    assert_int_equal(weir_disk_sync_range(disk, file, 0, 0, RANGE_FLAGS), 0);
}

/* 0: it was not written, 1: it was, 2: zeroes stand there */
static int more_or_zero(void)
{
    char got[4];
    struct weir_inode *file = disk_open(disk, "file", O_RDONLY);
    int64_t size = disk_read(disk, file, got, sizeof got, 2000);
    return size == 0 ? 0 : memcmp(got, "more", 4) == 0 ? 1 : 2;
}

static void a_synced_range_keeps_nothing_that_had_no_place_on_the_disk(void **state)
{
    (void)state;
    tell(range_after_a_truncate, before_empty_new_or_zero);
    expect_seen(4);
    tell(range_of_a_hole, how_much_is_punched);
    expect_seen(3);
    tell(range_past_the_synced_size, more_or_zero);
    expect_seen(3);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY_TEST(a_write_that_was_not_synced_is_kept_dropped_or_torn_by_sectors),
        STORY_TEST(a_sector_is_torn_from_its_own_write_and_not_from_its_neighbour),
        STORY_TEST(what_was_synced_is_whole),
        STORY_TEST(appends_to_one_sector_survive_up_to_any_of_them),
        STORY_TEST(a_truncate_happens_or_does_not_and_what_came_after_it_goes_with_it),
        STORY_TEST(what_was_cut_off_and_synced_does_not_come_back),
        STORY_TEST(what_was_cut_off_does_not_come_back_beside_what_was_written_since),
        STORY_TEST(a_hole_is_punched_by_sectors),
        STORY_TEST(a_synced_range_keeps_what_was_overwritten_and_only_if_it_was_waited_for),
        STORY_TEST(a_synced_range_keeps_nothing_that_had_no_place_on_the_disk),
        STORY_TEST(a_synced_range_keeps_no_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
