/* SPDX-License-Identifier: MIT */
/* engine/observe/text.h: what reaches the writer, in what pieces, and errors. */
#include "unit.h"

#include <engine/observe/text.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct {
    char bytes[65536];
    size_t used;
    int calls;
    int fails_at; /* the call that fails; 0: none */
} written;

static int keep(void *context, const char *bytes, size_t size)
{
    assert_ptr_equal(context, &written);
    assert_true(size > 0);
    if (++written.calls == written.fails_at) {
        return -ENOSPC;
    }
    assert_true(written.used + size < sizeof written.bytes);
    memcpy(written.bytes + written.used, bytes, size);
    written.used += size;
    written.bytes[written.used] = '\0';
    return 0;
}

static struct weir_text text;

static int begin(void **state)
{
    (void)state;
    memset(&written, 0, sizeof written);
    weir_text_begin(&text, keep, &written);
    return 0;
}

static void small_pieces_reach_the_writer_together(void **state)
{
    (void)state;
    weir_text_put(&text, "one ", 4);
    weir_text_print(&text, "%d %s", 2, "three");
    assert_int_equal(written.calls, 0);
    assert_int_equal(weir_text_end(&text), 0);
    assert_int_equal(written.calls, 1);
    assert_string_equal(written.bytes, "one 2 three");
    assert_int_equal(weir_text_end(&text), 0);
    assert_int_equal(written.calls, 1);
}

static void nothing_is_lost_at_the_buffers_end(void **state)
{
    (void)state;
    static char expected[65536];
    size_t length = 0;
    for (int i = 0; i < 6000; i++) {
        length += (size_t)snprintf(expected + length, sizeof expected - length, "%d,", i);
        weir_text_print(&text, "%d,", i);
    }
    static char large[3 * WEIR_TEXT_BUFFER];
    memset(large, 'x', sizeof large);
    weir_text_put(&text, large, sizeof large);
    assert_int_equal(weir_text_end(&text), 0);
    assert_int_equal(written.used, length + sizeof large);
    assert_memory_equal(written.bytes, expected, length);
    assert_memory_equal(written.bytes + length, large, sizeof large);
}

static void a_print_fills_the_buffer_to_its_last_byte_and_not_past_it(void **state)
{
    (void)state;
    weir_text_put(&text, "x", 1);
    weir_text_print(&text, "%*d", WEIR_TEXT_BUFFER - 1, 7);
    assert_int_equal(weir_text_end(&text), 0);
    assert_int_equal(written.used, WEIR_TEXT_BUFFER);
    assert_int_equal(written.bytes[WEIR_TEXT_BUFFER - 1], '7');
    weir_text_print(&text, "%*d", WEIR_TEXT_BUFFER, 7);
    assert_int_equal(weir_text_end(&text), -EMSGSIZE);
    assert_int_equal(written.used, WEIR_TEXT_BUFFER);
}

static void the_writers_first_error_stays_and_ends_the_writing(void **state)
{
    (void)state;
    written.fails_at = 2;
    for (int i = 0; i < 10000; i++) {
        weir_text_print(&text, "%d,", i);
        weir_text_put(&text, "y", 1);
    }
    assert_int_equal(weir_text_end(&text), -ENOSPC);
    assert_int_equal(written.calls, 2);
    assert_int_equal(text.error, -ENOSPC);
}

static const char *json(const char *string)
{
    begin(NULL);
    weir_text_json_string(&text, string);
    assert_int_equal(weir_text_end(&text), 0);
    return written.bytes;
}

static const char *label(const char *string)
{
    begin(NULL);
    weir_text_label_value(&text, string);
    assert_int_equal(weir_text_end(&text), 0);
    return written.bytes;
}

static void any_bytes_become_a_string_that_others_read(void **state)
{
    (void)state;
    assert_string_equal(json(""), "\"\"");
    assert_string_equal(json("wal append"), "\"wal append\"");
    assert_string_equal(json("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
    assert_string_equal(json("\x01\t\x1f\x7f"), "\"\\u0001\\u0009\\u001f\x7f\"");
    assert_string_equal(label("a\"b\\c\nd\te"), "\"a\\\"b\\\\c\\nd\te\"");
    /* the smallest and largest of each length, and the neighbours of the surrogates */
    const char *valid = "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
                        "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", valid);
    assert_string_equal(json(valid), quoted);
    assert_string_equal(label(valid), quoted);
}

#define BAD "\xef\xbf\xbd"

static void a_byte_that_is_no_utf8_is_marked_and_told(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *expected;
    } cases[] = {
        {"\x80", BAD "80"},
        {"a\xff", "a" BAD "ff"},
        {"\xc3", BAD "c3"},              /* cut */
        {"\xc3(", BAD "c3("},            /* no continuation */
        {"\xe2\x82", BAD "e2" BAD "82"}, /* cut */
        {"\xc0\xaf", BAD "c0" BAD "af"}, /* longer than need be */
        {"\xc1\xbf", BAD "c1" BAD "bf"},
        {"\xe0\x9f\xbf", BAD "e0" BAD "9f" BAD "bf"},
        {"\xf0\x8f\xbf\xbf", BAD "f0" BAD "8f" BAD "bf" BAD "bf"},
        {"\xed\xa0\x80", BAD "ed" BAD "a0" BAD "80"},              /* a surrogate */
        {"\xf4\x90\x80\x80", BAD "f4" BAD "90" BAD "80" BAD "80"}, /* past the last */
        {"\xf5\x80\x80\x80", BAD "f5" BAD "80" BAD "80" BAD "80"},
        {"\xf0\x9f\x98", BAD "f0" BAD "9f" BAD "98"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%s\"", cases[i].expected);
        assert_string_equal(json(cases[i].bytes), quoted);
        assert_string_equal(label(cases[i].bytes), quoted);
    }
}

static void decimals_are_exact(void **state)
{
    (void)state;
    weir_text_fixed(&text, 0, 9);
    weir_text_put(&text, " ", 1);
    weir_text_fixed(&text, 12000345678, 9);
    weir_text_put(&text, " ", 1);
    weir_text_fixed(&text, 7, 0);
    weir_text_put(&text, " ", 1);
    weir_text_fixed(&text, UINT64_MAX, 18);
    assert_int_equal(weir_text_end(&text), 0);
    assert_string_equal(written.bytes, "0.000000000 12.000345678 7 18.446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(small_pieces_reach_the_writer_together, begin),
        cmocka_unit_test_setup(nothing_is_lost_at_the_buffers_end, begin),
        cmocka_unit_test_setup(a_print_fills_the_buffer_to_its_last_byte_and_not_past_it, begin),
        cmocka_unit_test_setup(the_writers_first_error_stays_and_ends_the_writing, begin),
        cmocka_unit_test_setup(any_bytes_become_a_string_that_others_read, begin),
        cmocka_unit_test_setup(a_byte_that_is_no_utf8_is_marked_and_told, begin),
        cmocka_unit_test_setup(decimals_are_exact, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
