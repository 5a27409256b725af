/* SPDX-License-Identifier: MIT */
/* perf/process.c: forks, and moves whole messages. */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

int process_send(int fd, const void *data, size_t length)
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

int process_receive(int fd, void *data, size_t length)
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

/* Ctrl-C is the parent's affair: it lets the interval end and prints. */
static void begin_life(pid_t parent)
{
    /* Later siblings hold copies of the parent's end, so its closing alone would not end us. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    signal(SIGINT, SIG_IGN);
}

int process_start(const char *name, void (*live)(void *context, int fd), void *context,
                  struct process *ret_process)
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
        complain("cannot start a process for %s: %s", name, strerror(errno));
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (pid == 0) {
        begin_life(parent);
        close(fds[0]);
        live(context, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    *ret_process = (struct process){.pid = pid, .fd = fds[0]};
    return 0;
}

void process_end(struct process *process)
{
    if (process->pid == 0) {
        return;
    }
    shutdown(process->fd, SHUT_RDWR);
    close(process->fd);
    while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    process->pid = 0;
}
