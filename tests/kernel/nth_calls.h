/* SPDX-License-Identifier: MIT */
/*
 * nth_calls.h: the calls of the C library and of liburing that a loop lives on, each with a
 * stand-in that lets them pass but for the one that is to fail. They are put in place by the
 * linker (--wrap), so only the engine and the test itself come by them; malloc's by being called
 * malloc, so that the C library comes by it too.
 *
 * One plan at a time. Stand-ins run on any thread.
 */
#ifndef WEIR_TESTS_KERNEL_NTH_CALLS_H
#define WEIR_TESTS_KERNEL_NTH_CALLS_H

#include <stdbool.h>
#include <stdint.h>

enum nth_call {
    NTH_NONE,
    NTH_MALLOC, /* calloc and realloc too */
    NTH_MMAP,
    NTH_MADVISE,
    NTH_MPROTECT,
    NTH_PTHREAD_CREATE,
    NTH_EVENTFD,
    NTH_EPOLL_CREATE,
    NTH_EPOLL_ADD, /* epoll_ctl: the others take no memory */
    NTH_EPOLL_WAIT,
    NTH_EPOLL_PWAIT2,
    NTH_TIMERFD,
    NTH_SIGNALFD,
    NTH_PIPE,
    NTH_PWRITEV2,
    NTH_AFFINITY,
    NTH_FOPEN,
    NTH_OPEN,
    NTH_RING_SETUP,
    NTH_RING_MMAP,
    NTH_RING_DONTFORK,
    NTH_RING_ENTER,
    NTH_REGISTER_RING_FD,
    NTH_REGISTER_EVENTFD,
    NTH_REGISTER_PROBE, /* from here on io_uring_register, by what is asked for */
    NTH_REGISTER_ENABLE,
    NTH_REGISTER_WORKERS,
    NTH_REGISTER_MESSAGE,
    NTH_CALLS
};

const char *nth_name(enum nth_call call);

/* The n-th such call from now on answers error, and if it lasts all after it. */
void nth_arm(enum nth_call call, int error, unsigned n, bool lasts);
void nth_disarm(void);
/* Calls that were made to fail since nth_arm(). */
unsigned nth_struck(void);

/* From now on what came after Linux 5.11 fails as it does there, whatever the plan is. */
void nth_age_kernel(bool old);

/* Bytes that are mapped by calls that came by here. */
uint64_t nth_mapped(void);

/* For the stand-ins: whether this call is to fail; errno then says why. */
bool nth_fails(enum nth_call call);

#endif
