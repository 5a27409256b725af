/* SPDX-License-Identifier: MIT */
/* perf/child.c: both ends of the socket between the parent and an engine's process. */
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "echo.h"
#include "meter.h"
#include "report.h"
#include "workload.h"

enum verb {
    VERB_RUN,
    VERB_TASKS,
};

struct request {
    enum verb verb;
    uint32_t every;
    double seconds;
};

static int answer_tasks(int fd, const struct driver *driver, void *state)
{
    struct task_row *rows = calloc(TASK_ROWS_MAX, sizeof *rows);
    size_t count = 0;
    if (rows != NULL && driver->tasks != NULL) {
        count = driver->tasks(state, rows, TASK_ROWS_MAX);
    }
    int r = process_send(fd, &count, sizeof count);
    if (r == 0) {
        r = process_send(fd, rows, count * sizeof *rows);
    }
    free(rows);
    return r;
}

static int answer_run(int fd, const struct driver *driver, void *state,
                      const struct interval_plan *plan)
{
    struct interval interval;
    interval_run(driver, state, plan, &interval);
    return process_send(fd, &interval, sizeof interval);
}

/* Opens a driver and tells the parent how that went; does not come back if it went wrong. */
static void *open_driver(int fd, const struct driver *driver, struct workload *workload)
{
    void *state = NULL;
    char error[ERROR_MAX] = "";
    int r = driver->open(workload, &state, error);
    if (process_send(fd, &r, sizeof r) < 0 ||
        (r < 0 && process_send(fd, error, sizeof error) < 0) || r < 0) {
        _exit(1);
    }
    return state;
}

/* The life of either process: answers requests until the parent has hung up. */
static void answer_requests(int fd, const struct driver *driver, void *state,
                            struct interval_plan *plan)
{
    struct request request;
    int r = 0;
    while (r == 0 && process_receive(fd, &request, sizeof request) == 0) {
        if (request.verb == VERB_TASKS) {
            r = answer_tasks(fd, driver, state);
        } else {
            plan->seconds = request.seconds;
            plan->every = request.every;
            r = answer_run(fd, driver, state, plan);
        }
    }
}

static void live_as_engine(void *context, int fd)
{
    const struct child *child = context;
    struct workload *workload = child->workload;
    const struct engine *engine = child->contender->engine;
    const struct driver *driver = engine->drivers[workload->job];
    struct interval_plan plan = {
        .expected = workload_expected(workload),
        .cpu_clock = CLOCK_PROCESS_CPUTIME_ID,
    };
    workload->stop_fd = fd;
    void *state = open_driver(fd, driver, workload);
    if (workload->job == JOB_ECHO) {
        int r = driver->run(state, NULL);
        if (r < 0) {
            complain("engine %s: the server failed: %s", child->contender->name, strerror(-r));
            _exit(1);
        }
    }
    answer_requests(fd, driver, state, &plan);
    if (!workload->fake_enter) {
        driver->close(state);
    }
}

static void live_as_client(void *context, int fd)
{
    const struct child *child = context;
    struct interval_plan plan = {.expected = workload_expected(child->workload)};
    if (clock_getcpuclockid(child->engine.pid, &plan.cpu_clock) != 0) {
        _exit(1);
    }
    void *state = open_driver(fd, &client_driver, child->workload);
    answer_requests(fd, &client_driver, state, &plan);
    client_driver.close(state);
}

static int fail_ended(const struct child *child)
{
    complain("the process of engine %s ended unexpectedly; run it alone with --engine %s",
             child->contender->name, child->contender->name);
    return -1;
}

/* Forks, and waits until what it opens is open. 0, or -1 after a message. */
static int start_process(struct child *child, void (*live)(void *, int), struct process *process)
{
    char name[LABEL_MAX];
    snprintf(name, sizeof name, "engine %s", child->contender->name);
    if (process_start(name, live, child, process) < 0) {
        return -1;
    }
    char error[ERROR_MAX];
    int r = 0;
    if (process_receive(process->fd, &r, sizeof r) < 0 ||
        (r < 0 && process_receive(process->fd, error, sizeof error) < 0)) {
        return fail_ended(child);
    }
    if (r < 0) {
        complain("%s", error);
    }
    return r < 0 ? -1 : 0;
}

/* A server with a listener of its own, then its client. */
static int start_echo(struct child *child)
{
    struct workload *workload = child->workload;
    if (echo_listen(workload) < 0) {
        return -1;
    }
    int r = start_process(child, live_as_engine, &child->engine);
    close(workload->listener);
    if (r == 0) {
        r = start_process(child, live_as_client, &child->client);
    }
    return r;
}

int child_open(const struct contender *contender, struct workload *workload,
               struct child *ret_child)
{
    struct child child = {.contender = contender, .workload = workload};
    workload->who = contender;
    int r = workload->job == JOB_ECHO ? start_echo(&child)
                                      : start_process(&child, live_as_engine, &child.engine);
    if (r < 0) {
        child_close(&child);
        return -1;
    }
    *ret_child = child;
    return 0;
}

/* The first thread of a process, which its loop runs on. */
static void place(const struct process *process, uint32_t number)
{
    cpu_set_t allowed;
    if (process->pid == 0 || sched_getaffinity(0, sizeof allowed, &allowed) < 0) {
        return;
    }
    number %= (uint32_t)CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && number-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(process->pid, sizeof one, &one);
        }
    }
}

void child_place(const struct child *child, uint32_t number)
{
    place(&child->engine, number);
    place(&child->client, number + 1);
}

int child_run(struct child *child, double seconds, uint32_t every, struct interval *ret_interval)
{
    struct request request = {.verb = VERB_RUN, .every = every, .seconds = seconds};
    const struct process *runner = child->client.pid != 0 ? &child->client : &child->engine;
    if (process_send(runner->fd, &request, sizeof request) < 0 ||
        process_receive(runner->fd, ret_interval, sizeof *ret_interval) < 0) {
        return fail_ended(child);
    }
    if (ret_interval->error < 0) {
        complain("engine %s: an op failed: %s", child->contender->name,
                 strerror(-ret_interval->error));
        return -1;
    }
    return 0;
}

int child_tasks(struct child *child, struct task_row *ret_rows, size_t max)
{
    struct request request = {.verb = VERB_TASKS};
    size_t count = 0;
    if (process_send(child->engine.fd, &request, sizeof request) < 0 ||
        process_receive(child->engine.fd, &count, sizeof count) < 0 || count > max ||
        process_receive(child->engine.fd, ret_rows, count * sizeof *ret_rows) < 0) {
        return fail_ended(child);
    }
    return (int)count;
}

void child_close(struct child *child)
{
    process_end(&child->client);
    process_end(&child->engine);
}
