/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/rate.h on a terminal of any width, and on none. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "rate.h"

static struct {
    int master;
    FILE *file;
} terminal;

static int open_terminal(void **state)
{
    (void)state;
    terminal.master = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal.master < 0 || grantpt(terminal.master) < 0 || unlockpt(terminal.master) < 0) {
        return -1;
    }
    int fd = open(ptsname(terminal.master), O_RDWR | O_NOCTTY);
    terminal.file = fdopen(fd, "w");
    return terminal.file ? 0 : -1;
}

static int close_terminal(void **state)
{
    (void)state;
    fclose(terminal.file);
    close(terminal.master);
    return 0;
}

/* The line, without what moves and clears. */
static const char *shown(unsigned short columns, const struct rate *now, const struct rate *before,
                         double seconds)
{
    static char text[1024];
    struct winsize window = {.ws_row = 24, .ws_col = columns};
    assert_int_equal(ioctl(terminal.master, TIOCSWINSZ, &window), 0);
    rate_print(terminal.file, now, before, seconds);
    ssize_t length = read(terminal.master, text, sizeof text - 1);
    assert_true(length >= 4);
    text[length] = '\0';
    assert_int_equal(text[0], '\r');
    assert_string_equal(text + length - 3, "\033[K");
    text[length - 3] = '\0';
    return text + 1;
}

static const struct rate before = {.reads = 1000, .writes = 10, .read_bytes = 5};

static void what_happened_is_told_per_second(void **state)
{
    (void)state;
    struct rate now = before;
    assert_string_equal(shown(80, &now, &before, 1),
                        "0 reads/s 0 B/s   0 writes/s 0 B/s   0 connections   0 in flight");
    now.reads += 90400;
    now.read_bytes += 2 * 176ull << 20;
    now.writes += 2400;
    now.written_bytes += 2 * 4928307;
    now.connections = 3;
    now.in_flight = 32;
    assert_string_equal(
        shown(90, &now, &before, 2),
        "45.2 k reads/s 176 MiB/s   1.2 k writes/s 4.7 MiB/s   3 connections   32 in flight");
    now.connections = 1;
    now.in_flight = 1;
    now.errors = 1;
    now.others = 5;
    assert_non_null(
        strstr(shown(200, &now, &before, 2), "   1 connection   1 error   1 in flight"));
    assert_non_null(strstr(shown(200, &now, &before, 0.5), "   10 others/s"));
}

static void figures_keep_to_three_or_so(void **state)
{
    (void)state;
    static const struct {
        uint64_t count;
        const char *expected;
    } cases[] = {
        {999, "999 reads/s"},         {1000, "1.0 k reads/s"},
        {99900, "99.9 k reads/s"},    {99960, "100 k reads/s"},
        {999400, "999 k reads/s"},    {999600, "1.0 M reads/s"},
        {12345678, "12.3 M reads/s"}, {UINT64_MAX, "18446744074 G reads/s"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct rate now = {.reads = cases[i].count};
        const char *line = shown(200, &now, &(struct rate){0}, 1);
        assert_memory_equal(line, cases[i].expected, strlen(cases[i].expected));
    }
}

static void the_line_never_reaches_the_last_column(void **state)
{
    (void)state;
    const struct rate now = {
        .reads = UINT64_MAX,
        .writes = UINT64_MAX,
        .read_bytes = UINT64_MAX,
        .written_bytes = UINT64_MAX,
        .others = UINT64_MAX,
        .errors = UINT64_MAX,
        .connections = UINT32_MAX,
        .in_flight = UINT32_MAX,
    };
    size_t longest = 0;
    for (unsigned short columns = 1; columns < 300; columns++) {
        size_t length = strlen(shown(columns, &now, &(struct rate){0}, 0.001));
        assert_true(length < columns);
        longest = length > longest ? length : longest;
    }
    assert_true(longest > 100);
    assert_true(strlen(shown(UINT16_MAX, &now, &(struct rate){0}, 1)) > 100);
    assert_true(strlen(shown(0, &now, &(struct rate){0}, 1)) < 80); /* a width is not known */
}

static void the_end_clears_the_line(void **state)
{
    (void)state;
    char text[16] = "";
    rate_end(terminal.file);
    assert_int_equal(read(terminal.master, text, sizeof text - 1), 4);
    assert_string_equal(text, "\r\033[K");
}

static void what_is_no_terminal_gets_nothing(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    rate_print(file, &before, &(struct rate){0}, 1);
    rate_end(file);
    fflush(file);
    assert_int_equal(lseek(fileno(file), 0, SEEK_END), 0);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_happened_is_told_per_second),
        cmocka_unit_test(figures_keep_to_three_or_so),
        cmocka_unit_test(the_line_never_reaches_the_last_column),
        cmocka_unit_test(the_end_clears_the_line),
        cmocka_unit_test(what_is_no_terminal_gets_nothing),
    };
    return cmocka_run_group_tests(tests, open_terminal, close_terminal);
}
