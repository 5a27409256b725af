/* SPDX-License-Identifier: MIT */
/* perf/engine.c: the table of engines, and which can do what. */
#include "engine.h"

static const struct engine weir = {
    .name = "weir",
    .what = "weir, histograms on",
    .takes_policy = true,
    .drivers =
        {
            [JOB_NOP] = &weir_ops_driver,
            [JOB_FILE] = &weir_ops_driver,
            [JOB_ECHO] = &weir_echo_driver,
            [JOB_OFFLOAD] = &weir_ops_driver,
        },
};
static const struct engine uring = {
    .name = "uring",
    .what = "a raw liburing loop",
    .drivers =
        {
            [JOB_NOP] = &uring_ops_driver,
            [JOB_FILE] = &uring_ops_driver,
            [JOB_ECHO] = &uring_echo_driver,
        },
};
static const struct engine epoll = {
    .name = "epoll",
    .what = "a raw loop on level-triggered epoll",
    .drivers = {[JOB_ECHO] = &epoll_echo_driver},
};
static const struct engine psync = {
    .name = "psync",
    .what = "threads that pread and pwrite, behind a mutex and a condition variable",
    .drivers = {[JOB_FILE] = &psync_driver},
};
static const struct engine preads = {
    .name = "pread",
    .what = "pread and pwrite, one after the other",
    .drivers = {[JOB_FILE] = &pread_driver},
};
static const struct engine mutex = {
    .name = "mutex",
    .what = "threads behind a mutex and a condition variable, an eventfd back to a ring",
    .drivers = {[JOB_OFFLOAD] = &mutex_driver},
};

const struct engine *const engines[] = {&weir, &uring, &epoll, &psync, &preads, &mutex, NULL};
