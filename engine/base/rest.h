/* SPDX-License-Identifier: MIT */
/* rest.h: what a thread that watches memory does between two looks. */
#ifndef WEIR_ENGINE_REST_H
#define WEIR_ENGINE_REST_H

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

#endif
