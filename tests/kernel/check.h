/* SPDX-License-Identifier: MIT */
/*
 * check.h: what the kernel tests share: checks that end the process at the first failure, whatever
 * the build type and also in forked children; and a main that runs tests by name.
 */
#ifndef WEIR_TESTS_KERNEL_CHECK_H
#define WEIR_TESTS_KERNEL_CHECK_H

#include <stddef.h>
#include <sys/types.h>
#include <weir/weir.h>

/* What meson takes for "skipped". */
#define CHECK_SKIPPED 77

struct check_test {
    const char *name;
    void (*run)(void);
};

#define CHECK_TEST(function)                                                                       \
    {                                                                                              \
#function, function                                                                        \
    }

/* The tests named in argv; all of them, each in a child of its own, if none is named. */
int check_main(int argc, char **argv, const struct check_test *tests, size_t count);

_Noreturn void check_fail(const char *site, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Only for what kernel, privilege or tools lack. */
_Noreturn void check_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check_equal(const char *site, const char *what, long long actual, long long expected);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_fail(WEIR_SITE, "%s", #condition);                                               \
        }                                                                                          \
    } while (0)

#define CHECK_EQUAL(actual, expected)                                                              \
    check_equal(WEIR_SITE, #actual " == " #expected, (long long)(actual), (long long)(expected))

/* Runs function(argument) in a forked child that then exits with 0, and passes its exit code on: a
 * failure fails this process too, a skip skips it. */
void check_in_child(void (*function)(void *argument), void *argument);
/* Waits for a child; its exit code, or a failure if a signal killed it. */
int check_wait(pid_t child);

/* CLOCK_MONOTONIC, ns: where no loop is open. */
uint64_t check_now(void);

/* Ends the process with a message after so many seconds: a guard against hangs, not a measurement.
 * */
void check_guard(unsigned seconds);

/* A file without a name in the working folder: meson's build folder, where the file system is the
 * one people have and not a tmpfs. Of size bytes, all zero. */
int check_file(size_t size);
/* Open fds of this process. */
size_t check_fd_count(void);
/* Lines of /proc/self/maps that contain text. */
size_t check_maps_count(const char *text);

/* A loop, or a failure. */
struct weir_loop *check_open(const struct weir_options *options);
/* The loop must close with 0. */
void check_close(struct weir_loop *loop);
/* A callback that only counts, in check_handed; check_open sets that to 0. */
void check_on_done(struct weir_op *op);
extern unsigned check_handed;

/* Turns until nothing is live; fails when five seconds pass without a callback. */
void check_drain(struct weir_loop *loop);

/* Adds a system call filter to this thread and its children that answers first to last with error.
 * */
void check_deny(int first, int last, int error);

#endif
