/* SPDX-License-Identifier: MIT */
/*
 * endpoint.c: which loops an endpoint shows, its thread, a child of fork, and every stated error.
 * Its socket is address.c's, what it answers endpoint.py's.
 */
#include "endpoint_check.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    endpoint_enter_folder();
    CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    struct weir_endpoint *endpoint = endpoint_open_at("s");
    CHECK_EQUAL(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_EQUAL(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    CHECK_EQUAL(endpoint_ask("s", "/", &size), 200); /* it has its name by now */
    CHECK(read_of_thread("weir-endpoint", "SigBlk:", line, sizeof line));
    unsigned long long blocked = strtoull(line + strlen("SigBlk:"), NULL, 16);
    for (int signal = 1; signal < 32; signal++) {
        /* A fault of its own goes to the service's handlers. */
        bool fault = signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
                     signal == SIGILL || signal == SIGTRAP || signal == SIGSYS;
        bool can_be = signal != SIGKILL && signal != SIGSTOP;
        CHECK_EQUAL(blocked >> (signal - 1) & 1, can_be && !fault);
    }
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK(!read_of_thread("weir-endpoint", "Name:", line, sizeof line));
    endpoint_leave_folder();
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
    endpoint_enter_folder();
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
    endpoint_leave_folder();
}

static void more_tasks_than_it_holds_are_said_and_no_part_is_shown(void)
{
    size_t size;
    struct weir_endpoint *endpoint;
    struct weir_task *task;
    endpoint_enter_folder();
    const struct weir_endpoint_options options = {.path = "s", .tasks_max = 2};
    CHECK_EQUAL(weir_endpoint_open(&options, &endpoint), 0);
    struct weir_loop *loop = check_open(NULL);
    CHECK_EQUAL(weir_endpoint_add(endpoint, loop, "a"), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
        CHECK_EQUAL(endpoint_ask("s", "/metrics", &size), 200); /* of one name: one row */
    }
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "u"}, &task), 0);
    CHECK_EQUAL(endpoint_ask("s", "/json?interval=1", &size), 200);
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = "v"}, &task), 0);
    CHECK_EQUAL(endpoint_ask("s", "/metrics", &size), 503);
    CHECK_EQUAL(endpoint_ask("s", "/json", &size), 503);
    CHECK_EQUAL(endpoint_ask("s", "/", &size), 200);
    check_close(loop);
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    endpoint_leave_folder();
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
    endpoint_enter_folder();
    struct forked forked = {endpoint_open_at("s"), check_open(NULL)};
    CHECK_EQUAL(weir_endpoint_add(forked.endpoint, forked.loop, "a"), 0);
    check_in_child(be_child, &forked);
    CHECK_EQUAL(endpoint_ask("s", "/metrics", &size), 200);
    CHECK_EQUAL(weir_endpoint_remove(forked.endpoint, forked.loop), 0);
    CHECK_EQUAL(weir_endpoint_close(forked.endpoint), 0);
    check_close(forked.loop);
    endpoint_leave_folder();
}

/* --- races ------------------------------------------------------------------------------------ */

/* liburing unmaps a ring by itself, unseen by ThreadSanitizer, which then takes the next thread's
 * ring at the same address for the old one. */
#ifdef __SANITIZE_THREAD__
#define RACE_POLICY WEIR_EPOLL
#else
#define RACE_POLICY WEIR_AUTO
#endif
#define KEEPERS 3
#define CLIENTS 2
#define LIVES 40
#define TASKS 20

struct race {
    struct weir_endpoint *endpoint;
    int keepers; /* that go on; atomic */
};

/* Of loops in several threads, which check_on_done would count together. */
static void on_done(struct weir_op *op)
{
    (void)op;
}

static void work_a_little(struct weir_loop *loop)
{
    struct weir_op ops[8];
    for (int i = 0; i < 8; i++) {
        ops[i] = (struct weir_op){.callback = on_done};
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
            .policy = RACE_POLICY,
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
        int status = endpoint_ask("s", pages[i % 5], &size);
        CHECK(i % 5 > 2 || status == 200);
    }
    return NULL;
}

static void loops_come_and_go_while_clients_ask(void)
{
    pthread_t threads[KEEPERS + CLIENTS];
    endpoint_enter_folder();
    struct race race = {.endpoint = endpoint_open_at("s"), .keepers = KEEPERS};
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
    endpoint_leave_folder();
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(its_thread_takes_no_signals_and_ends),
        CHECK_TEST(loops_are_added_and_removed_by_the_rules),
        CHECK_TEST(more_tasks_than_it_holds_are_said_and_no_part_is_shown),
        CHECK_TEST(a_child_is_refused_and_the_parent_goes_on),
        CHECK_TEST(loops_come_and_go_while_clients_ask),
    };
    check_guard(150);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
