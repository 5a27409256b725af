/* SPDX-License-Identifier: MIT */
/*
 * told.h: reads a dump of the flight recorder back, an event a line, and checks what every dump
 * must hold to: an "e" for each "b", of its id and in its order, times that do not fall within an
 * id, counters that are not negative. Fails the test where one does not.
 */
#ifndef WEIR_TESTS_TOLD_H
#define WEIR_TESTS_TOLD_H

#include "unit.h"

#include <engine/observe/recorder.h>
#include <engine/observe/task.h>
#include <stdbool.h>

struct told_event {
    char phase;
    char name[64];
    uint64_t id;
    uint64_t ts_ns;
    int tid;
    bool live;
    bool lost;
    bool earlier;
    bool has_result; /* or error */
    int64_t result;
    int fd;       /* INT32_MIN: none was told */
    uint64_t ops; /* of a counter */
};

struct told {
    char *text; /* all of it, with a NUL */
    size_t size;
    size_t capacity;
    int fail_with; /* what the writer answers, from its fail_at-th call on */
    int fail_at;
    int calls;

    struct told_event *events;
    size_t count;
    uint64_t begin_ns;
    uint64_t kept;
    uint64_t lost;
};

/* A weir_writer into a struct told. */
int told_write(void *context, const char *text, size_t size);
/* Dumps, reads back and checks. */
void told_dump(struct told *told, const struct weir_recorder *recorder,
               const struct weir_tasks *tasks, uint64_t now_ns);
/* The events of phase but for b and e of stages, "b read 5 live; ...": in `into`. */
const char *told_story(const struct told *told, const char *phases, char *into, size_t size);
void told_free(struct told *told);

#endif
