/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void check_fail(const char *site, const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "%s: failed: ", site);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(1);
}

void check_skip(const char *format, ...)
{
    printf("skipped: ");
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
    _exit(CHECK_SKIPPED);
}

void check_equal(const char *site, const char *what, long long actual, long long expected)
{
    if (actual != expected) {
        check_fail(site, "%s: %lld is not %lld", what, actual, expected);
    }
}

int check_wait(pid_t child)
{
    int status;
    pid_t waited;
    do {
        waited = waitpid(child, &status, 0);
    } while (waited < 0 && errno == EINTR);
    CHECK_EQUAL(waited, child);
    if (!WIFEXITED(status)) {
        check_fail(WEIR_SITE, "a child was killed by signal %d", WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}

#if defined(__SANITIZE_ADDRESS__)
static bool is_running(const char *thread)
{
    char path[64];
    char text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", thread);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    const char *end = strrchr(text, ')'); /* the name may have others in it */
    return read && end && strncmp(end, ") R", 3) == 0;
}

static bool another_is_running(void)
{
    bool running = false;
    DIR *threads = opendir("/proc/self/task");
    CHECK(threads != NULL);
    for (struct dirent *entry; (entry = readdir(threads));) {
        pid_t thread = (pid_t)atoi(entry->d_name);
        running = running || (thread > 0 && thread != gettid() && is_running(entry->d_name));
    }
    closedir(threads);
    return running;
}

/* AddressSanitizer's allocator has locks that a fork does not take (gcc 12): a child of a moment
 * when a thread that begins allocates waits for them for ever. Such threads come to rest; one that
 * computes by design is not waited for longer than 2 s. */
static void let_others_rest(void)
{
    for (unsigned i = 0; i < 2000 && another_is_running(); i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}
#else
static void let_others_rest(void)
{
}
#endif

void check_in_child(void (*function)(void *argument), void *argument)
{
    let_others_rest();
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        function(argument);
        fflush(stdout);
        _exit(0);
    }
    int code = check_wait(child);
    if (code != 0) {
        _exit(code);
    }
}

static void hang(int signal)
{
    (void)signal;
    static const char text[] = "failed: the guard against hangs went off\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(1);
}

void check_guard(unsigned seconds)
{
    struct sigaction action = {.sa_handler = hang};
    CHECK_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    alarm(seconds);
}

uint64_t check_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int check_file(size_t size)
{
    char name[] = "weir-test-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(unlink(name), 0);
    CHECK_EQUAL(ftruncate(fd, (off_t)size), 0);
    return fd;
}

size_t check_fd_count(void)
{
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    size_t count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count - 1;
}

size_t check_maps_count(const char *text)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    size_t count = 0;
    char line[512];
    while (fgets(line, sizeof line, maps) != NULL) {
        count += strstr(line, text) != NULL;
    }
    fclose(maps);
    return count;
}

unsigned check_handed;

struct weir_loop *check_open(const struct weir_options *options)
{
    struct weir_loop *loop = NULL;
    CHECK_EQUAL(weir_loop_open(options, &loop), 0);
    check_handed = 0;
    return loop;
}

void check_close(struct weir_loop *loop)
{
    CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
}

void check_on_done(struct weir_op *op)
{
    (void)op;
    check_handed++;
}

void check_drain(struct weir_loop *loop)
{
    uint64_t moved = weir_now(loop);
    while (weir_loop_live(loop) > 0) {
        int called = weir_loop_turn(loop, 100 * WEIR_MS);
        if (called < 0) {
            check_fail(WEIR_SITE, "turn answered %s", strerror(-called));
        }
        if (called > 0) {
            moved = weir_now(loop);
        } else if (weir_now(loop) > moved + 5 * WEIR_S) {
            check_fail(WEIR_SITE, "lost: %lld ops did not come back in 5 s",
                       (long long)weir_loop_live(loop));
        }
    }
    CHECK_EQUAL(weir_loop_live(loop), 0);
}

void check_deny(int first, int last, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)first, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (unsigned)last, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
        check_skip("this kernel has no system call filters: %s", strerror(errno));
    }
}

static int run_named(const char *name, const struct check_test *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tests[i].name, name) == 0) {
            tests[i].run();
            printf("ok: %s\n", name);
            fflush(stdout);
            return 0;
        }
    }
    fprintf(stderr, "there is no test %s\n", name);
    return 2;
}

static int run_all(const struct check_test *tests, size_t count)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(run_named(tests[i].name, tests, count));
        }
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        bool well =
            WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CHECK_SKIPPED);
        if (!well) {
            printf("not ok: %s\n", tests[i].name);
            fflush(stdout);
            failed = 1;
        }
    }
    return failed;
}

int check_main(int argc, char **argv, const struct check_test *tests, size_t count)
{
    if (argc < 2) {
        return run_all(tests, count);
    }
    for (int i = 1; i < argc; i++) {
        int result = run_named(argv[i], tests, count);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}
