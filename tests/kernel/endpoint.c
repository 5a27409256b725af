/* SPDX-License-Identifier: MIT */
/*
 * endpoint.c: where an endpoint's socket appears and what it leaves alone, which loops it shows,
 * and every stated error. What it answers is looked at by endpoint.py.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_MAX_BYTES 107
#define STARTERS 8
#define ROUNDS 60

static struct weir_endpoint *const untouched = (struct weir_endpoint *)0x5a;

/* The working folder of the rest of the test: one of its own, with a short name. */
static void enter_folder(void)
{
    char name[] = "/tmp/weir-XXXXXX";
    CHECK(mkdtemp(name) != NULL);
    CHECK_EQUAL(chdir(name), 0);
}

static void leave_folder(void)
{
    char name[64];
    CHECK(getcwd(name, sizeof name) != NULL);
    CHECK_EQUAL(chdir("/"), 0);
    CHECK_EQUAL(rmdir(name), 0); /* -ENOTEMPTY: a file was left behind */
}

static int try_at(const char *path, uint32_t mode, struct weir_endpoint **ret_endpoint)
{
    return weir_endpoint_open(&(struct weir_endpoint_options){.path = path, .mode = mode},
                              ret_endpoint);
}

static struct weir_endpoint *open_at(const char *path)
{
    struct weir_endpoint *endpoint = NULL;
    CHECK_EQUAL(try_at(path, 0, &endpoint), 0);
    return endpoint;
}

/* An endpoint of this process may still have to hang up on who has looked whether it lives. */
static void check_fds_are(size_t fds)
{
    for (int i = 0; i < 500 && check_fd_count() != fds; i++) {
        usleep(10000);
    }
    CHECK_EQUAL(check_fd_count(), fds);
}

/* No endpoint opens there, and what is there is what was there. */
static void check_refused(const char *path, int error)
{
    struct stat before = {0};
    struct stat after = {0};
    struct weir_endpoint *endpoint = untouched;
    size_t fds = check_fd_count();
    int was = lstat(path, &before);
    CHECK_EQUAL(try_at(path, 0, &endpoint), error);
    CHECK(endpoint == untouched);
    CHECK_EQUAL(lstat(path, &after), was);
    CHECK_EQUAL(after.st_ino, before.st_ino);
    CHECK_EQUAL(after.st_mode, before.st_mode);
    check_fds_are(fds);
}

static int socket_at(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

/* The status that a request gets; the answer's size in *ret_size. */
static int ask(const char *path, const char *page, size_t *ret_size)
{
    char text[4096];
    char first[16] = "";
    int fd = connect_to(path);
    CHECK(fd >= 0);
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\n\r\n", page);
    CHECK_EQUAL(send(fd, text, (size_t)length, MSG_NOSIGNAL), length);
    *ret_size = 0;
    for (;;) {
        ssize_t got = recv(fd, text, sizeof text, 0);
        CHECK(got >= 0);
        if (got == 0) {
            break;
        }
        if (*ret_size == 0) {
            CHECK(got >= 12); /* it sends its head at once */
            memcpy(first, text, 12);
        }
        *ret_size += (size_t)got;
    }
    close(fd);
    return atoi(first + 9);
}

/* --- where it appears ------------------------------------------------------------------------- */

static void an_endpoint_that_makes_no_sense_is_refused(void)
{
    char path[PATH_MAX_BYTES + 2];
    struct weir_endpoint *endpoint = untouched;
    enter_folder();
    struct weir_endpoint_options options = {.path = "s", .mode = 01600};
    CHECK_EQUAL(weir_endpoint_open(NULL, &endpoint), -EINVAL);
    CHECK_EQUAL(weir_endpoint_open(&options, NULL), -EINVAL);
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    options = (struct weir_endpoint_options){.path = "s", .loops_max = 65537};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    options = (struct weir_endpoint_options){.path = "s", .tasks_max = 65537};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), -EINVAL);
    CHECK(endpoint == untouched);
    check_refused("", -EINVAL);
    check_refused("none/s", -ENOENT);
    check_refused("./", -EADDRINUSE);
    check_refused(".", -EADDRINUSE);
    make_file("file");
    check_refused("file/s", -ENOTDIR);
    CHECK_EQUAL(unlink("file"), 0);
    CHECK_EQUAL(weir_endpoint_close(NULL), 0);

    memset(path, 'x', sizeof path);
    path[PATH_MAX_BYTES + 1] = '\0';
    check_refused(path, -ENAMETOOLONG);
    path[PATH_MAX_BYTES] = '\0'; /* the longest */
    CHECK_EQUAL(weir_endpoint_close(open_at(path)), 0);
    CHECK_EQUAL(weir_endpoint_close(open_at("s")), 0); /* the shortest */
    leave_folder();
}

static void a_socket_has_the_bits_asked_for_whatever_the_umask(void)
{
    static const struct {
        uint32_t asked;
        mode_t got;
    } cases[] = {{0, 0600}, {0660, 0660}, {0777, 0777}, {0600, 0600}};
    struct stat status;
    enter_folder();
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct weir_endpoint *endpoint;
        mode_t mask = i % 2 ? 0777 : 0;
        umask(mask);
        CHECK_EQUAL(try_at("s", cases[i / 2].asked, &endpoint), 0);
        CHECK_EQUAL(umask(022), mask);
        CHECK_EQUAL(lstat("s", &status), 0);
        CHECK(S_ISSOCK(status.st_mode));
        CHECK_EQUAL(status.st_mode & 07777, cases[i / 2].got);
        CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    }
    leave_folder();
}

static void a_socket_that_nobody_listens_to_is_replaced(void)
{
    size_t size;
    enter_folder();
    size_t fds = check_fd_count();
    int fd = socket_at("s", SOCK_STREAM);
    CHECK_EQUAL(listen(fd, 1), 0);
    check_refused("s", -EADDRINUSE); /* its owner lives */
    close(fd);
    struct weir_endpoint *endpoint = open_at("s");
    CHECK_EQUAL(ask("s", "/", &size), 200);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(check_fd_count(), fds);
    leave_folder();
}

static void what_somebody_uses_is_left_alone(void)
{
    enter_folder();
    struct weir_endpoint *endpoint = open_at("s");
    check_refused("s", -EADDRINUSE);
    CHECK_EQUAL(symlink("s", "link"), 0);
    check_refused("link", -EADDRINUSE);
    CHECK_EQUAL(unlink("link"), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);

    int fd = socket_at("s", SOCK_STREAM); /* one whose backlog is full */
    CHECK_EQUAL(listen(fd, 0), 0);
    int client = connect_to("s");
    CHECK(client >= 0);
    check_refused("s", -EADDRINUSE);
    close(client);
    close(fd);
    CHECK_EQUAL(unlink("s"), 0);

    fd = socket_at("s", SOCK_DGRAM);
    check_refused("s", -EADDRINUSE);
    close(fd);
    CHECK_EQUAL(unlink("s"), 0);
    make_file("s");
    check_refused("s", -EADDRINUSE);
    CHECK_EQUAL(unlink("s"), 0);
    leave_folder();
}

static void a_name_beside_it_that_is_taken_does_no_harm(void)
{
    enter_folder();
    make_file("s.soc~");
    make_file("s.soc%");
    struct weir_endpoint *endpoint = open_at("s.sock");
    CHECK_EQUAL(access("s.sock", F_OK), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(unlink("s.soc~"), 0);
    CHECK_EQUAL(unlink("s.soc%"), 0);
    leave_folder();
}

static void close_removes_its_own_socket_and_no_other(void)
{
    char folder[64];
    enter_folder();
    CHECK(getcwd(folder, sizeof folder) != NULL);
    struct weir_endpoint *endpoint = open_at("s");
    CHECK_EQUAL(unlink("s"), 0);
    make_file("s");
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(unlink("s"), 0); /* it was there still */

    endpoint = open_at("s");
    CHECK_EQUAL(unlink("s"), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);

    endpoint = open_at("s");
    CHECK_EQUAL(chdir("/"), 0); /* where no "s" is */
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(chdir(folder), 0);
    CHECK_EQUAL(access("s", F_OK), -1);
    leave_folder();
}

/* Holds a socket there, if it gets it, until all have tried. Exit code: whether it did. */
static void start_one(pthread_barrier_t *barrier)
{
    struct weir_endpoint *endpoint;
    pthread_barrier_wait(barrier);
    int r = try_at("s", 0, &endpoint);
    pthread_barrier_wait(barrier);
    if (r == 0) {
        size_t size;
        CHECK_EQUAL(ask("s", "/", &size), 200);
        CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
        _exit(10);
    }
    CHECK_EQUAL(r, -EADDRINUSE);
    _exit(11);
}

static void of_many_that_start_at_once_one_gets_the_place(void)
{
    pthread_barrier_t *barrier =
        mmap(NULL, sizeof *barrier, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t shared;
    CHECK(barrier != MAP_FAILED);
    CHECK_EQUAL(pthread_barrierattr_init(&shared), 0);
    CHECK_EQUAL(pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED), 0);
    CHECK_EQUAL(pthread_barrier_init(barrier, &shared, STARTERS), 0);
    enter_folder();
    for (int round = 0; round < ROUNDS; round++) {
        pid_t children[STARTERS];
        int winners = 0;
        if (round % 2) {
            close(socket_at("s", SOCK_STREAM)); /* one to be replaced */
        }
        for (int i = 0; i < STARTERS; i++) {
            children[i] = fork();
            CHECK(children[i] >= 0);
            if (children[i] == 0) {
                start_one(barrier);
            }
        }
        for (int i = 0; i < STARTERS; i++) {
            int code = check_wait(children[i]);
            CHECK(code == 10 || code == 11);
            winners += code == 10;
        }
        CHECK_EQUAL(winners, 1);
    }
    leave_folder();
}

/* --- its thread ------------------------------------------------------------------------------- */

/* A line of a file of /proc/self/task/ID, of the thread with this name. */
static bool read_of_thread(const char *name, const char *field, char *ret_line, size_t size)
{
    bool found = false;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        char path[300];
        bool is_it = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "re");
        while (file && fgets(ret_line, (int)size, file)) {
            is_it = is_it || (strncmp(ret_line, "Name:", 5) == 0 && strstr(ret_line, name));
            if (is_it && strncmp(ret_line, field, strlen(field)) == 0) {
                found = true;
                break;
            }
        }
        if (file) {
            fclose(file);
        }
        if (found) {
            break;
        }
    }
    closedir(tasks);
    return found;
}

static void its_thread_takes_no_signals_and_ends(void)
{
    char line[256];
    size_t size;
    sigset_t before;
    sigset_t after;
    enter_folder();
    CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    struct weir_endpoint *endpoint = open_at("s");
    CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_EQUAL(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    CHECK_EQUAL(ask("s", "/", &size), 200); /* it has its name by now */
    CHECK(read_of_thread("weir-endpoint", "SigBlk:", line, sizeof line));
    unsigned long long blocked = strtoull(line + strlen("SigBlk:"), NULL, 16);
    for (int signal = 1; signal < 32; signal++) {
        bool can_be = signal != SIGKILL && signal != SIGSTOP;
        CHECK_EQUAL(blocked >> (signal - 1) & 1, can_be);
    }
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK(!read_of_thread("weir-endpoint", "Name:", line, sizeof line));
    leave_folder();
}

/* --- its loops -------------------------------------------------------------------------------- */

static void *add_elsewhere(void *argument)
{
    void **both = argument;
    CHECK_EQUAL(weir_endpoint_add(both[0], both[1], "c"), -EPERM);
    CHECK_EQUAL(weir_endpoint_add(both[0], both[2], "d"), -EPERM);
    CHECK_EQUAL(weir_endpoint_remove(both[0], both[1]), -EPERM);
    return NULL;
}

static void loops_are_added_and_removed_by_the_rules(void)
{
    char label[WEIR_LABEL_MAX + 2];
    struct weir_endpoint *endpoint;
    enter_folder();
    const struct weir_endpoint_options options = {.path = "s", .loops_max = 2};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), 0);
    struct weir_loop *loops[] = {check_open(NULL), check_open(NULL), check_open(NULL)};
    struct weir_loop *simulated = check_open(&(struct weir_options){.policy = WEIR_SIM});
    CHECK_EQUAL(weir_endpoint_add(NULL, loops[0], "a"), -EINVAL);
    CHECK_EQUAL(weir_endpoint_add(endpoint, NULL, "a"), -EINVAL);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[0], NULL), -EINVAL);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[0], ""), -EINVAL);
    CHECK_EQUAL(weir_endpoint_remove(NULL, loops[0]), -EINVAL);
    CHECK_EQUAL(weir_endpoint_remove(endpoint, NULL), -EINVAL);
    CHECK_EQUAL(weir_endpoint_remove(endpoint, loops[0]), -ENOENT);
    CHECK_EQUAL(weir_endpoint_add(endpoint, simulated, "a"), -EOPNOTSUPP);
    memset(label, 'l', sizeof label);
    label[WEIR_LABEL_MAX + 1] = '\0';
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[0], label), -ENAMETOOLONG);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[0], label + 1), 0);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[0], "other"), -EEXIST);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[1], label + 1), -EEXIST);
    void *elsewhere[] = {endpoint, loops[0], loops[2]};
    pthread_t thread;
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[1], "b"), 0);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[2], "c"), -ENOSPC);
    CHECK_EQUAL(weir_endpoint_remove(endpoint, loops[1]), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, add_elsewhere, elsewhere), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loops[2], "c"), 0);
    CHECK_EQUAL(weir_endpoint_close(endpoint), -EBUSY);
    check_close(loops[0]); /* leaves by itself */
    CHECK_EQUAL(weir_endpoint_close(endpoint), -EBUSY);
    CHECK_EQUAL(weir_loop_abandon(loops[2]), 0); /* so does this */
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    check_close(loops[1]);
    check_close(simulated);
    leave_folder();
}

static void more_tasks_than_it_holds_are_said_and_no_part_is_shown(void)
{
    size_t size;
    struct weir_endpoint *endpoint;
    struct weir_task *task;
    enter_folder();
    const struct weir_endpoint_options options = {.path = "s", .tasks_max = 2};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), 0);
    struct weir_loop *loop = check_open(NULL);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loop, "a"), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
        CHECK_EQUAL(ask("s", "/metrics", &size), 200); /* of one name: one row */
    }
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "u"}, &task), 0);
    CHECK_EQUAL(ask("s", "/json?interval=1", &size), 200);
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "v"}, &task), 0);
    CHECK_EQUAL(ask("s", "/metrics", &size), 503);
    CHECK_EQUAL(ask("s", "/json", &size), 503);
    CHECK_EQUAL(ask("s", "/", &size), 200);
    check_close(loop);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    leave_folder();
}

/* --- fork ------------------------------------------------------------------------------------- */

struct forked {
    struct weir_endpoint *endpoint;
    struct weir_loop *loop;
};

static void be_child(void *argument)
{
    struct forked *forked = argument;
    CHECK_EQUAL(weir_endpoint_add(forked->endpoint, forked->loop, "b"), -ECHILD);
    CHECK_EQUAL(weir_endpoint_remove(forked->endpoint, forked->loop), -ECHILD);
    size_t fds = check_fd_count();
    CHECK_EQUAL(weir_endpoint_close(forked->endpoint), -ECHILD);
    CHECK_EQUAL(check_fd_count(), fds - 3); /* the listener, its folder, the thread's bell */
    CHECK_EQUAL(weir_endpoint_close(forked->endpoint), -ECHILD);
    CHECK_EQUAL(check_fd_count(), fds - 3);
    CHECK_EQUAL(weir_loop_close(forked->loop, 0, NULL), -ECHILD);
    CHECK_EQUAL(access("s", F_OK), 0);
}

static void a_child_is_refused_and_the_parent_goes_on(void)
{
    size_t size;
    enter_folder();
    struct forked forked = {open_at("s"), check_open(NULL)};
    CHECK_EQUAL(weir_endpoint_add(forked.endpoint, forked.loop, "a"), 0);
    check_in_child(be_child, &forked);
    CHECK_EQUAL(ask("s", "/metrics", &size), 200);
    CHECK_EQUAL(weir_endpoint_remove(forked.endpoint, forked.loop), 0);
    CHECK_EQUAL(weir_endpoint_close(forked.endpoint), 0);
    check_close(forked.loop);
    leave_folder();
}

/* --- races ------------------------------------------------------------------------------------ */

#define KEEPERS 3
#define CLIENTS 2
#define LIVES 40
#define TASKS 20

struct race {
    struct weir_endpoint *endpoint;
    int keepers; /* that go on; atomic */
};

static void work_a_little(struct weir_loop *loop)
{
    struct weir_op ops[8];
    for (int i = 0; i < 8; i++) {
        ops[i] = (struct weir_op){.callback = check_on_done};
        weir_op_nop(&ops[i]);
        CHECK_EQUAL(weir_submit(loop, &ops[i]), 0);
    }
    while (weir_loop_live(loop) > 0) {
        CHECK(weir_loop_turn(loop, WEIR_MS) >= 0);
    }
}

/* Opens a loop, shows it, works, and ends in one of the three ways in which a loop leaves. */
static void *keep_loops(void *argument)
{
    struct race *race = argument;
    for (int life = 0; life < LIVES; life++) {
        char label[WEIR_LABEL_MAX + 1];
        struct weir_loop *loop;
        struct weir_task *task;
        const struct weir_options options = {
            .flags = life % 2 ? WEIR_INSPECTABLE : 0,
            .depth = 16,
            .offload_workers = WEIR_NO_OFFLOAD,
            .recorder_events = 64,
        };
        snprintf(label, sizeof label, "%p", (void *)&label);
        CHECK_EQUAL(weir_loop_open(&options, &loop), 0);
        for (int i = 0; i < TASKS; i++) { /* so that looking at it takes a while */
            char name[16];
            snprintf(name, sizeof name, "t%d", i);
            CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
        }
        CHECK_EQUAL(weir_endpoint_add(race->endpoint, loop, label), 0);
        for (int i = 0; i < 20; i++) {
            work_a_little(loop);
        }
        if (life % 3 == 0) {
            CHECK_EQUAL(weir_endpoint_remove(race->endpoint, loop), 0);
        }
        CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
    }
    __atomic_sub_fetch(&race->keepers, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void *keep_asking(void *argument)
{
    static const char *const pages[] = {"/json", "/metrics", "/json?interval=1", "/trace", "/hlog"};
    const struct race *race = argument;
    for (unsigned i = 0; __atomic_load_n(&race->keepers, __ATOMIC_ACQUIRE) > 0; i++) {
        size_t size;
        int status = ask("s", pages[i % 5], &size);
        CHECK(i % 5 > 2 || status == 200);
    }
    return NULL;
}

static void loops_come_and_go_while_clients_ask(void)
{
    pthread_t threads[KEEPERS + CLIENTS];
    enter_folder();
    struct race race = {.endpoint = open_at("s"), .keepers = KEEPERS};
    size_t fds = check_fd_count();
    for (int i = 0; i < KEEPERS + CLIENTS; i++) {
        CHECK_EQUAL(
            pthread_create(&threads[i], NULL, i < KEEPERS ? keep_loops : keep_asking, &race), 0);
    }
    for (int i = 0; i < KEEPERS + CLIENTS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQUAL(weir_endpoint_close(race.endpoint), 0);
    CHECK_EQUAL(check_fd_count(), fds - 3);
    leave_folder();
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(an_endpoint_that_makes_no_sense_is_refused),
        CHECK_TEST(a_socket_has_the_bits_asked_for_whatever_the_umask),
        CHECK_TEST(a_socket_that_nobody_listens_to_is_replaced),
        CHECK_TEST(what_somebody_uses_is_left_alone),
        CHECK_TEST(a_name_beside_it_that_is_taken_does_no_harm),
        CHECK_TEST(close_removes_its_own_socket_and_no_other),
        CHECK_TEST(of_many_that_start_at_once_one_gets_the_place),
        CHECK_TEST(its_thread_takes_no_signals_and_ends),
        CHECK_TEST(loops_are_added_and_removed_by_the_rules),
        CHECK_TEST(more_tasks_than_it_holds_are_said_and_no_part_is_shown),
        CHECK_TEST(a_child_is_refused_and_the_parent_goes_on),
        CHECK_TEST(loops_come_and_go_while_clients_ask),
    };
    check_guard(150);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
