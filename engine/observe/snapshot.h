/* SPDX-License-Identifier: MIT */
/*
 * snapshot.h: how a snapshot keeps its rows: in the order they came, behind an index that is sorted
 * by label and task, so that a row of 50 KiB never moves. All in one piece of memory, of which only
 * rows that were taken are touched. Must not know who looks at loops, and when.
 */
#ifndef WEIR_ENGINE_SNAPSHOT_H
#define WEIR_ENGINE_SNAPSHOT_H

#include <engine/observe/text.h>
#include <stdbool.h>
#include <weir/snapshot.h>

struct weir_snapshot {
    uint32_t tasks_max;
    uint32_t loops_max;
    uint32_t task_count;
    uint32_t loop_count;
    uint64_t taken_ns; /* CLOCK_REALTIME; 0: nothing was added */
    uint64_t since_ns; /* the same; 0: it is no interval */
    bool interval;
    uint32_t *task_order; /* the rows' places, sorted */
    uint32_t *loop_order;
    struct weir_snapshot_task *tasks;
    struct weir_snapshot_loop *loops;
    struct weir_snapshot_task *scratch;   /* what is being copied from a loop */
    struct weir_histogram *scratch_times; /* the same */
};

/* NULL: there is none. */
struct weir_snapshot_task *weir_snapshot_find_task(const struct weir_snapshot *snapshot,
                                                   const char *label, const char *task);
struct weir_snapshot_loop *weir_snapshot_find_loop(const struct weir_snapshot *snapshot,
                                                   const char *label);
/* Finds it, or makes it, zeroed. NULL: no more room. */
struct weir_snapshot_task *weir_snapshot_make_task(struct weir_snapshot *snapshot,
                                                   const char *label, const char *task);
struct weir_snapshot_loop *weir_snapshot_make_loop(struct weir_snapshot *snapshot,
                                                   const char *label);
/* Takes the rows back that were made when there were `count` already. */
void weir_snapshot_drop_tasks(struct weir_snapshot *snapshot, uint32_t count);

/* Writes further members of a loop's object, each with a comma before it. */
typedef void weir_snapshot_more(void *context, const struct weir_snapshot_loop *row,
                                struct weir_text *text);

/* The formats. The second writes "taken_ns" to "tasks" into an object that is open; more: NULL:
 * none. */
void weir_snapshot_write_json(const struct weir_snapshot *snapshot, struct weir_text *text);
void weir_snapshot_write_json_members(const struct weir_snapshot *snapshot,
                                      weir_snapshot_more *more, void *context,
                                      struct weir_text *text);
void weir_snapshot_write_prometheus(const struct weir_snapshot *snapshot, struct weir_text *text);
/* 0; -ENOMEM; -EOPNOTSUPP: built without zlib. */
int weir_snapshot_write_hlog(const struct weir_snapshot *snapshot, struct weir_text *text);

#endif
