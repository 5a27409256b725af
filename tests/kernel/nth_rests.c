/* SPDX-License-Identifier: MIT */
/* nth_rests.c: what a round may not leave behind: fds, mappings, threads, a blocked signal, and a
 * process whose next loop is a lesser one. */
#include "nth.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct weir_facts nth_good;

struct rests {
    size_t fds;
    size_t rings;
    uint64_t mapped; /* bytes, by the engine's own calls */
    size_t bytes;    /* in mappings of no file; 0: a sanitizer makes some of its own */
    bool sigpipe_blocked;
};

static size_t anonymous_bytes(void)
{
    char line[512];
    size_t bytes = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        unsigned long long from;
        unsigned long long to;
        unsigned long long file;
        int end = 0;
        CHECK_EQUAL(sscanf(line, "%llx-%llx %*s %*s %*s %llu %n", &from, &to, &file, &end), 3);
        bytes += file == 0 && line[end] == '\0' ? to - from : 0;
    }
    fclose(maps);
    return bytes;
}

/* The process's own: the kernel's workers of a ring stay for a while after it. */
static size_t count_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder != NULL);
    size_t count = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        char path[sizeof entry->d_name + sizeof "/proc/self/task//comm"];
        char name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file) { /* else it ended meanwhile */
            count += entry->d_name[0] != '.' && fgets(name, sizeof name, file) &&
                     strncmp(name, "iou-", 4) != 0;
            fclose(file);
        }
    }
    closedir(folder);
    return count;
}

static struct rests find_rests(void)
{
    sigset_t blocked;
    CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    return (struct rests){
        .fds = check_fd_count(),
        .rings = check_maps_count("[io_uring]"),
        .mapped = nth_mapped(),
        .bytes = NTH_WITH_MALLOC ? anonymous_bytes() : 0,
        .sigpipe_blocked = sigismember(&blocked, SIGPIPE) == 1,
    };
}

static void open_good(struct round *round, struct weir_facts *ret_facts)
{
    struct weir_loop *loop = check_open(&(struct weir_options){.policy = round->policy});
    struct weir_op op = {.callback = check_on_done};
    CHECK_EQUAL(weir_loop_facts(loop, ret_facts), 0);
    weir_op_nop(&op);
    WANT(round, weir_submit(loop, &op) == 0);
    check_drain(loop);
    WANT(round, check_handed == 1 && op.result == 0);
    check_close(loop);
}

void nth_learn_good(struct round *round)
{
    open_good(round, &nth_good);
}

void nth_check_good(struct round *round)
{
    struct weir_facts facts;
    open_good(round, &facts);
    WANT(round, strcmp(facts.backend, nth_good.backend) == 0);
    WANT(round, facts.depth == nth_good.depth);
    WANT(round, facts.workers == nth_good.workers);
    WANT(round, facts.ring_flags == nth_good.ring_flags);
    WANT(round, facts.ring_fd_registered == nth_good.ring_fd_registered);
    WANT(round, facts.sigpipe_blocked == nth_good.sigpipe_blocked);
    WANT(round, strcmp(facts.wakes_by, nth_good.wakes_by) == 0);
    WANT(round, facts.memory_total == nth_good.memory_total);
}

static struct rests first_rests;
static size_t first_threads;

void nth_learn_rests(void)
{
    first_rests = find_rests();
    first_threads = count_threads();
}

void nth_check_rests(struct round *round)
{
    struct rests rests = find_rests();
    WANT(round, rests.fds == first_rests.fds);
    WANT(round, rests.rings == first_rests.rings);
    WANT(round, rests.mapped == first_rests.mapped);
    WANT(round, rests.bytes == first_rests.bytes);
    WANT(round, rests.sigpipe_blocked == first_rests.sigpipe_blocked);
    while (count_threads() > first_threads) {
        sched_yield(); /* one that was joined is still on its way out; the guard ends it */
    }
}
