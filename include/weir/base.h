/* SPDX-License-Identifier: MIT */
/*
 * weir/base.h: what every other header needs: visibility, units, WEIR_CONTAINER, the version.
 */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_API __attribute__((visibility("default")))

/* Durations and points in time are nanoseconds; points in time are CLOCK_MONOTONIC. */
#define WEIR_US 1000LL
#define WEIR_MS 1000000LL
#define WEIR_S 1000000000LL

/* The struct `type` whose field `member` is at `pointer`. */
#define WEIR_CONTAINER(pointer, type, member)                                                      \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* The place in the source where this stands, as one string literal: "file.c:12". */
#define WEIR_SITE_LINE_(line) #line
#define WEIR_SITE_LINE(line) WEIR_SITE_LINE_(line)
#define WEIR_SITE __FILE__ ":" WEIR_SITE_LINE(__LINE__)

struct weir_loop;
struct weir_task;
struct weir_op;

/* The version of the library that runs, "major.minor.patch". A literal; any thread. */
WEIR_API const char *weir_version(void);

#ifdef __cplusplus
}
#endif
#endif
