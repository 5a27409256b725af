/* SPDX-License-Identifier: MIT */
/*
 * perf/process.h: a process of its own for what is measured, and the socket to it. It ends with its
 * parent. Must not know what is said over the socket.
 */
#ifndef PERF_PROCESS_H
#define PERF_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

struct process {
    pid_t pid; /* 0: none */
    int fd;
};

/*
 * Forks; the child lives in live(context, its end of the socket) and ends with it. `name` is for
 * messages. Ctrl-C is the parent's affair: the child does not see it. 0, or -1 after a message.
 */
int process_start(const char *name, void (*live)(void *context, int fd), void *context,
                  struct process *ret_process);
/* Hangs up and waits for its end. Nothing for a zeroed one. */
void process_end(struct process *process);

/* All or nothing. 0, or -1: the other end is gone. */
int process_send(int fd, const void *data, size_t length);
int process_receive(int fd, void *data, size_t length);

#endif
