/* SPDX-License-Identifier: MIT */
/* signals.h: the library's own threads take no signals: those are for the service's. */
#ifndef WEIR_ENGINE_SIGNALS_H
#define WEIR_ENGINE_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

/* Before a thread is made, which inherits it: all but those that a thread's own fault raises:
 * blocked, they would kill the process past its handlers. *ret_old is to be put back after. */
static inline void weir_signals_block(sigset_t *ret_old)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        sigdelset(&all, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, ret_old);
}

#endif
