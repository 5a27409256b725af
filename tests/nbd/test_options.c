/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/options.h: what is understood; and of what is not, that it is said what to do.
 * argp ends the process then, so each line is read by a child. */
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

#include "options.h"
#include "tls.h"

enum { WORDS_MAX = 80 };

/* Words as in a shell, at single spaces; cut in place, as argv is. */
static struct options parsed(const char *line)
{
    static char text[8192];
    char *argv[WORDS_MAX] = {(char[]){"weir-nbd"}};
    int argc = 1;
    char *rest;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < WORDS_MAX - 1);
        argv[argc++] = word;
    }
    struct options options;
    assert_int_equal(options_parse(argc, argv, &options), 0);
    return options;
}

/* Its exit status, 100 when the line was understood, and what it printed. */
static int status_of(const char *line, char *ret_text, size_t size)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        parsed(line);
        _exit(100);
    }
    close(pipe_fds[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(pipe_fds[0], ret_text + length, size - 1 - length)) > 0) {
        length += (size_t)got;
    }
    ret_text[length] = '\0';
    close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void assert_misuse(const char *line, const char *expected)
{
    char text[16384];
    int status = status_of(line, text, sizeof text);
    if (status != 2 || !strstr(text, expected)) {
        fail_msg("%.100s: exit %d, expected \"%s\", got: %s", line, status, expected, text);
    }
}

static void a_file_alone_is_served_by_defaults(void **state)
{
    (void)state;
    struct options options = parsed("disk.img");
    assert_int_equal(options.export_count, 1);
    assert_string_equal(options.exports[0].name, "");
    assert_string_equal(options.exports[0].path, "disk.img");
    assert_null(options.unix_path);
    assert_string_equal(options.listen_host, "127.0.0.1");
    assert_string_equal(options.listen_port, "10809");
    assert_int_equal(options.policy, WEIR_AUTO);
    assert_int_equal(options.loops, 1);
    assert_int_equal(options.depth, 128);
    assert_int_equal(options.connections_max, 64);
    assert_int_equal(options.create_bytes, 0);
    assert_int_equal(options.spin_ns, 0);
    assert_int_equal(options.handshake_ns, 10 * WEIR_S);
    assert_int_equal(options.drain_ns, 5 * WEIR_S);
    assert_false(options.read_only || options.direct || options.verbose || options.inline_writes);
    assert_true(!options.metrics && !options.tls_certificates && !options.tls_psk);
}

static void every_option_is_understood(void **state)
{
    (void)state;
    struct options options =
        parsed("--export a=/x=y --export b=z first --unix /s --read-only --policy epoll --loops 64 "
               "--depth=4096 --direct --create 10G --max-connections 4096 --metrics /m --verbose "
               "--spin 50 --handshake-timeout 0.5 --drain-timeout 60");
    assert_int_equal(options.export_count, 3);
    assert_string_equal(options.exports[0].name, "a");
    assert_string_equal(options.exports[0].path, "/x=y");
    assert_string_equal(options.exports[1].name, "b");
    assert_string_equal(options.exports[2].path, "first");
    assert_string_equal(options.unix_path, "/s");
    assert_true(options.read_only && options.direct && options.verbose);
    assert_int_equal(options.policy, WEIR_EPOLL);
    assert_int_equal(options.loops, 64);
    assert_int_equal(options.depth, 4096);
    assert_int_equal(options.create_bytes, 10ull << 30);
    assert_int_equal(options.connections_max, 4096);
    assert_string_equal(options.metrics, "/m");
    assert_int_equal(options.spin_ns, 50 * WEIR_US);
    assert_int_equal(options.handshake_ns, WEIR_S / 2);
    assert_int_equal(options.drain_ns, 60 * WEIR_S);
    assert_false(options.inline_writes);
    assert_int_equal(parsed("f --policy io_uring").policy, WEIR_IO_URING);
    assert_true(parsed("f --inline-writes").inline_writes);
}

static void sizes_have_units(void **state)
{
    (void)state;
    assert_int_equal(parsed("f --create 512").create_bytes, 512);
    assert_int_equal(parsed("f --create 3K").create_bytes, 3072);
    assert_int_equal(parsed("f --create 512M").create_bytes, 512ull << 20);
    assert_int_equal(parsed("f --create 1T").create_bytes, 1ull << 40);
    assert_int_equal(parsed("f --create 9223372036854775807").create_bytes, INT64_MAX);
    for (const char *const *bad =
             (const char *[]){"511", "0", "-1", "", "M", "1X", "1MM", "1.5G", "0x1000",
                              "9223372036854775808", "8388608T", "99999999999999999999", NULL};
         *bad; bad++) {
        char line[64];
        snprintf(line, sizeof line, "f --create=%s", *bad);
        assert_misuse(line, "give bytes, at least 512, such as 512M, 10G or 1T");
    }
}

static void addresses_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host;
        const char *port;
    } cases[] = {
        {"127.0.0.1:0", "127.0.0.1", "0"},
        {"localhost:10809", "localhost", "10809"},
        {"[::1]:65535", "::1", "65535"},
        {"[fe80::1%lo]:1", "fe80::1%lo", "1"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char line[64];
        snprintf(line, sizeof line, "f --listen %s", cases[i].text);
        struct options options = parsed(line);
        assert_string_equal(options.listen_host, cases[i].host);
        assert_string_equal(options.listen_port, cases[i].port);
    }
    for (const char *const *bad = (const char *[]){"10809", ":10809", "::1:10809", "[]:1", "[::1:1",
                                                   "[::1]", "[", "a:b:1", "", NULL};
         *bad; bad++) {
        char line[64];
        snprintf(line, sizeof line, "f --listen=%s", *bad);
        assert_misuse(line, "give ADDR:PORT, such as");
    }
    assert_misuse("f --listen a:", "give a whole number from 0 to 65535");
    assert_misuse("f --listen a:65536", "give a whole number from 0 to 65535");
    assert_misuse("f --listen a:nbd", "give a whole number from 0 to 65535");
}

static void numbers_have_limits(void **state)
{
    (void)state;
    static const struct {
        const char *option;
        unsigned min;
        unsigned max;
    } cases[] = {
        {"--loops", 1, 64},
        {"--depth", 1, 4096},
        {"--max-connections", 1, 4096},
        {"--spin", 0, 1000000},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char line[64];
        char expected[64];
        snprintf(expected, sizeof expected, "give a whole number from %u to %u", cases[i].min,
                 cases[i].max);
        const long long values[] = {(long long)cases[i].min - 1, cases[i].max + 1, 1ll << 32};
        for (size_t j = 0; j < COUNT_OF(values); j++) {
            snprintf(line, sizeof line, "f %s=%lld", cases[i].option, values[j]);
            assert_misuse(line, expected);
        }
        snprintf(line, sizeof line, "f %s=1x", cases[i].option);
        assert_misuse(line, expected);
    }
    assert_misuse("f --handshake-timeout 0", "give seconds from 0.01 to 86400");
    assert_misuse("f --drain-timeout nan", "give seconds from 0.01 to 86400");
}

static void names_are_few_short_and_differ(void **state)
{
    (void)state;
    char line[8000] = "";
    size_t length = 0;
    for (int i = 0; i < EXPORTS_MAX; i++) {
        length += (size_t)snprintf(line + length, sizeof line - length, "--export=%d=f ", i);
    }
    assert_int_equal(parsed(line).export_count, EXPORTS_MAX);
    snprintf(line + length, sizeof line - length, "one-more");
    assert_misuse(line, "more exports than 64");
    char name[EXPORT_NAME_MAX + 2] = {0};
    memset(name, 'n', EXPORT_NAME_MAX);
    snprintf(line, sizeof line, "--export=%s=f", name);
    assert_string_equal(parsed(line).exports[0].name, name);
    name[EXPORT_NAME_MAX] = 'n';
    snprintf(line, sizeof line, "--export=%s=f", name);
    assert_misuse(line, "a name of 4097 bytes: give at most 4096");
    assert_misuse("--export a=1 --export a=2", "two exports named \"a\", 1 and 2");
    assert_misuse("one two", "two exports named \"\", one and two");
    assert_misuse("one --export =two", "two exports named \"\"");
    assert_misuse("--export disk.img", "give NAME=FILE, such as disk=disk.img");
    assert_misuse("--export disk=", "export \"disk\": give its FILE");
    assert_misuse("", "nothing to serve: give a FILE, or --export NAME=FILE");
}

static void what_excludes_each_other_is_said(void **state)
{
    (void)state;
    assert_misuse("f --unix /s --listen a:1", "--unix and --listen: give one of them");
    assert_misuse("f --tls-psk k --tls-certificates d",
                  "--tls-certificates and --tls-psk: give one of them");
    assert_misuse("f --inline-writes --direct", "--inline-writes and --direct: give one of them");
    assert_misuse("f --policy kqueue", "--policy kqueue: give auto, io_uring or epoll");
    assert_misuse("f --policy sim", "give auto, io_uring or epoll");
    assert_misuse("f --frobnicate", "unrecognized option");
    if (tls_supported()) {
        assert_string_equal(parsed("f --tls-psk k").tls_psk, "k");
        assert_string_equal(parsed("f --tls-certificates d").tls_certificates, "d");
    } else {
        assert_misuse("f --tls-psk k", "was built without TLS");
        assert_misuse("f --tls-certificates d", "was built without TLS");
    }
}

static void help_and_version_are_no_misuse(void **state)
{
    (void)state;
    char text[16384];
    assert_int_equal(status_of("--help", text, sizeof text), 0);
    for (const char *const *word = (const char *[]){"[FILE]", "--create=SIZE", "(default 10)",
                                                    "default 127.0.0.1:10809", "LISTEN_FDS", NULL};
         *word; word++) {
        assert_non_null(strstr(text, *word));
    }
    char expected[64];
    snprintf(expected, sizeof expected, "weir-nbd %s\n", weir_version());
    assert_int_equal(status_of("--version", text, sizeof text), 0);
    assert_string_equal(text, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_alone_is_served_by_defaults),
        cmocka_unit_test(every_option_is_understood),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(addresses_are_taken_apart),
        cmocka_unit_test(numbers_have_limits),
        cmocka_unit_test(names_are_few_short_and_differ),
        cmocka_unit_test(what_excludes_each_other_is_said),
        cmocka_unit_test(help_and_version_are_no_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
