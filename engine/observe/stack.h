/* SPDX-License-Identifier: MIT */
/*
 * stack.h: the stack of another thread, taken by a signal to it. Must not know loops or watchdogs.
 *
 * The signal carries the address of a request, so no global is needed; the handler fills in only a
 * request that is wanted at that moment, so one that comes late (the thread had blocked the signal,
 * or slept uninterruptibly) finds it not wanted and leaves it alone, or answers a later wish with
 * the stack of then, which is as good.
 *
 * Unwinding takes no locks with glibc 2.35 and later and a libgcc of GCC 12 and later. With older
 * ones it takes the dynamic linker's lock, and a thread that was interrupted in dlopen(3) walks its
 * own half-made lists.
 */
#ifndef WEIR_ENGINE_STACK_H
#define WEIR_ENGINE_STACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Installs the handler. ret_former: what there was. 0; -EINVAL: no signal that may be caught for
 * this; -EBUSY: it has a handler. */
int weir_stack_install(int signal, struct sigaction *ret_former);
/* Puts back what there was, if the handler is still ours. Signals that are pending are dropped. */
void weir_stack_remove(int signal, const struct sigaction *former);

struct weir_stack;

/* One for each thread. NULL: no memory. */
struct weir_stack *weir_stack_open(void);
/* One whose signals have not all arrived stays for ever, on purpose: a late one would write to
 * it. */
void weir_stack_close(struct weir_stack *stack);

/* A word that the thread itself writes, and what is in it as long as the thread is where its stack
 * is wanted. The thread compares when its stack is taken: the signal ends what it slept in, so by
 * the time that the answer is seen it may be long past that. The word must stay until the call has
 * returned and the thread is out of its handler. */
struct weir_stack_place {
    const uint64_t *word; /* atomic */
    uint64_t value;
};

/* The stack of a thread of this process, the innermost frame first: where it was, then return
 * addresses. At most `max`. place: NULL: wherever it is. 0: it did not answer in 100 ms; in 2, if
 * an earlier signal is still pending there; or it was elsewhere by then. */
uint32_t weir_stack_take(struct weir_stack *stack, pid_t thread, int signal,
                         const struct weir_stack_place *place, void **ret_frames, uint32_t max);

#endif
