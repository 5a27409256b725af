/* SPDX-License-Identifier: MIT */
/* perf/child.c: both ends of the socket between the parent and an engine's process. */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* All or nothing. 0, or -1: the other end is gone. */
static int send_all(int fd, const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, (const char *)data + done, length - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static int receive_all(int fd, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = read(fd, (char *)data + done, length - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static int answer_tasks(int fd, const struct engine *engine, void *state)
{
    struct task_row *rows = calloc(TASK_ROWS_MAX, sizeof *rows);
    size_t count = 0;
    if (rows != NULL && engine->tasks != NULL) {
        count = engine->tasks(state, rows, TASK_ROWS_MAX);
    }
    int r = send_all(fd, &count, sizeof count);
    if (r == 0) {
        r = send_all(fd, rows, count * sizeof *rows);
    }
    free(rows);
    return r;
}

/* The child's life. Ctrl-C is the parent's affair: it lets the interval end and prints. */
static void serve(int fd, const struct engine *engine, struct workload *workload)
{
    signal(SIGINT, SIG_IGN);
    void *state = NULL;
    char error[ERROR_MAX] = "";
    int r = engine->open(workload, &state, error);
    if (send_all(fd, &r, sizeof r) < 0 || (r < 0 && send_all(fd, error, sizeof error) < 0) ||
        r < 0) {
        _exit(1);
    }
    int64_t expected = workload->is_file ? workload->block : 0;
    struct request request;
    while (receive_all(fd, &request, sizeof request) == 0) {
        if (request.verb == VERB_TASKS) {
            r = answer_tasks(fd, engine, state);
        } else {
            struct interval interval;
            interval_run(engine, state, request.seconds, request.every, expected, &interval);
            r = send_all(fd, &interval, sizeof interval);
        }
        if (r < 0) {
            break;
        }
    }
    if (!workload->fake_enter) {
        engine->close(state);
    }
    _exit(0);
}

static int fail_ended(const struct child *child)
{
    complain("the process of engine %s ended unexpectedly; run it alone with --engine %s",
             child->engine->name, child->engine->name);
    return -1;
}

int child_open(const struct engine *engine, struct workload *workload, struct child *ret_child)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        complain("no socket pair: %s", strerror(errno));
        return -1;
    }
    fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        complain("cannot start a process for engine %s: %s", engine->name, strerror(errno));
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (pid == 0) {
        /* Later siblings hold copies of the parent's end, so its closing alone would not end us. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        close(fds[0]);
        serve(fds[1], engine, workload);
    }
    close(fds[1]);
    struct child child = {.engine = engine, .pid = pid, .fd = fds[0]};
    char error[ERROR_MAX];
    int r = 0;
    if (receive_all(child.fd, &r, sizeof r) < 0 ||
        (r < 0 && receive_all(child.fd, error, sizeof error) < 0)) {
        r = fail_ended(&child);
    } else if (r < 0) {
        complain("%s", error);
    }
    if (r < 0) {
        child_close(&child);
        return -1;
    }
    *ret_child = child;
    return 0;
}

int child_run(struct child *child, double seconds, uint32_t every, struct interval *ret_interval)
{
    struct request request = {.verb = VERB_RUN, .every = every, .seconds = seconds};
    if (send_all(child->fd, &request, sizeof request) < 0 ||
        receive_all(child->fd, ret_interval, sizeof *ret_interval) < 0) {
        return fail_ended(child);
    }
    if (ret_interval->error < 0) {
        complain("engine %s: an op failed: %s", child->engine->name,
                 strerror(-ret_interval->error));
        return -1;
    }
    return 0;
}

int child_tasks(struct child *child, struct task_row *ret_rows, size_t max)
{
    struct request request = {.verb = VERB_TASKS};
    size_t count = 0;
    if (send_all(child->fd, &request, sizeof request) < 0 ||
        receive_all(child->fd, &count, sizeof count) < 0 || count > max ||
        receive_all(child->fd, ret_rows, count * sizeof *ret_rows) < 0) {
        return fail_ended(child);
    }
    return (int)count;
}

void child_close(struct child *child)
{
    if (child->pid == 0) {
        return;
    }
    shutdown(child->fd, SHUT_RDWR);
    close(child->fd);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    child->pid = 0;
}
