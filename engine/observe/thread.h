/* SPDX-License-Identifier: MIT */
/*
 * thread.h: what the kernel says of a thread of this process: the time it has computed, the time it
 * was kept waiting for a CPU, its state. Must not know who asks.
 */
#ifndef WEIR_ENGINE_THREAD_H
#define WEIR_ENGINE_THREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct weir_thread_sight {
    uint64_t cpu_ns;  /* of its CPU clock; 0: not known */
    uint64_t wait_ns; /* ready to run, and not let; the kernel adds a wait when it ends. 0: none, or
                       * not known (no CONFIG_SCHED_INFO) */
    char state;       /* 'R', 'S', 'D' and so on, proc(5); 0: not known */
};

void weir_thread_see(pid_t thread, struct weir_thread_sight *ret_sight);

/* A signal to this thread alone waits to be taken. False also where that is not known. */
bool weir_thread_is_pending(pid_t thread, int signal);

#endif
