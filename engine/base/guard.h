/* SPDX-License-Identifier: MIT */
/*
 * guard.h: who may call: the owning thread, in the process that opened.
 *
 * A thread is known by the address of its own copy of a thread-local byte, and a fork by a page
 * that the kernel wipes in the child (MADV_WIPEONFORK, Linux 4.14): one load and one compare a
 * call, no getpid, no pthread_atfork.
 */
#ifndef WEIR_ENGINE_GUARD_H
#define WEIR_ENGINE_GUARD_H

#include <engine/base/check.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stands at the start of the wiped page: all zero in a child. */
struct weir_guard {
    const void *owner; /* a thread's self; or &weir_thread_nobody, also once the loop was
                        * abandoned */
};

extern const char weir_thread_nobody __attribute__((visibility("hidden")));

/* initial-exec: no call to find the address; one byte fits the loader's surplus even after
 * dlopen. */
extern __thread char weir_thread_byte
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline const void *weir_thread_self(void)
{
    return &weir_thread_byte;
}

/* Relaxed: adoption may write it while another thread asks whether it is the owner, which it is
 * not. */
static inline const void *weir_guard_owner(const struct weir_guard *guard)
{
    return __atomic_load_n(&guard->owner, __ATOMIC_RELAXED);
}

static inline void weir_guard_set(struct weir_guard *guard, const void *owner)
{
    __atomic_store_n(&guard->owner, owner, __ATOMIC_RELAXED);
}

/* 0, -ECHILD or -EPERM. */
static inline int weir_guard_check(const struct weir_guard *guard)
{
    const void *owner = weir_guard_owner(guard);
    if (weir_likely(owner == weir_thread_self())) {
        return 0;
    }
    return owner ? -EPERM : -ECHILD;
}

/* Whether this is a child of the process that opened. */
static inline bool weir_guard_forked(const struct weir_guard *guard)
{
    return weir_guard_owner(guard) == NULL;
}

#endif
