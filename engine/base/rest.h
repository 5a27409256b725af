/* SPDX-License-Identifier: MIT */
/* rest.h: how a thread watches memory. */
#ifndef WEIR_ENGINE_REST_H
#define WEIR_ENGINE_REST_H

#include <engine/base/clock.h>
#include <stdbool.h>

#define WEIR_LOOKS_A_CLOCK_READING 16

/* Between two looks. */
#if defined(__x86_64__) || defined(__i386__)
static inline void weir_rest_cpu(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static inline void weir_rest_cpu(void)
{
    __asm__ volatile("isb" ::: "memory"); /* yield does nothing where cores have one thread */
}
#else
static inline void weir_rest_cpu(void)
{
    __asm__ volatile("" ::: "memory");
}
#endif

/* Watches until seen(context) or until_ns, CLOCK_MONOTONIC. Whether it was seen. */
static inline bool weir_watch(bool (*seen)(const void *context), const void *context,
                              uint64_t until_ns)
{
    do {
        for (int i = 0; i < WEIR_LOOKS_A_CLOCK_READING; i++) {
            if (seen(context)) {
                return true;
            }
            weir_rest_cpu();
        }
    } while (weir_clock_monotonic() < until_ns);
    return false;
}

#endif
