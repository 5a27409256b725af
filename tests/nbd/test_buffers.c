/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/buffers.h: what of the pool is resident. */
#include "unit.h"

#include <sys/mman.h>
#include <unistd.h>

#include "buffers.h"

/* Pages of a buffer that are resident. */
static size_t resident(const struct buffer *buffer)
{
    unsigned char pages[BUFFER_BYTES / 4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t count = 0;
    assert_int_equal(mincore(buffer->bytes, BUFFER_BYTES, pages), 0);
    for (size_t i = 0; i < BUFFER_BYTES / page; i++) {
        count += pages[i] & 1;
    }
    return count;
}

static void a_buffer_is_resident_as_a_whole_once_it_is_used_and_not_before(void **state)
{
    (void)state;
    struct buffers buffers;
    struct share share = {0};
    assert_int_equal(buffers_open(&buffers, 1), 0);
    const struct buffer *last = &buffers.all[buffers.count - 1]; /* no huge page reaches it */
    assert_int_equal(resident(buffers.free), 0);
    struct buffer *one = buffer_take(&buffers, &share);
    if (madvise(one->bytes, 1, MADV_POPULATE_WRITE) != 0) {
        print_message("skipped: no MADV_POPULATE_WRITE (Linux 5.14)\n");
        skip();
    }
    size_t whole = BUFFER_BYTES / (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(resident(one), whole);
    buffer_drop(&buffers, one);
    struct buffer *again = buffer_take(&buffers, &share);
    assert_ptr_equal(again, one);
    struct buffer *two = buffer_take(&buffers, &share);
    assert_ptr_not_equal(two, one);
    assert_int_equal(resident(two), whole);
    assert_int_equal(resident(last), 0);
    buffer_drop(&buffers, two);
    buffer_drop(&buffers, again);
    buffers_close(&buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_is_resident_as_a_whole_once_it_is_used_and_not_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
