/* SPDX-License-Identifier: MIT */
/*
 * check.h: invariants that hold or the process stops. WEIR_CHECK stays in release builds, since
 * carrying on past a broken invariant loses somebody's data; WEIR_AUDIT is for what costs more than
 * a compare.
 */
#ifndef WEIR_ENGINE_CHECK_H
#define WEIR_ENGINE_CHECK_H

#include <assert.h>

#define weir_likely(condition) __builtin_expect(!!(condition), 1)
#define weir_unlikely(condition) __builtin_expect(!!(condition), 0)

/* Prints the condition and aborts. */
_Noreturn void weir_check_failed(const char *condition, const char *site);

#define WEIR_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (weir_unlikely(!(condition))) {                                                         \
            weir_check_failed(#condition, __FILE__);                                               \
        }                                                                                          \
    } while (0)

#define WEIR_AUDIT(condition) assert(condition)

/* What the compiler may take for granted, so that it does not ask. */
#define weir_assume(condition)                                                                     \
    do {                                                                                           \
        WEIR_AUDIT(condition);                                                                     \
        if (!(condition)) {                                                                        \
            __builtin_unreachable();                                                               \
        }                                                                                          \
    } while (0)

#endif
