/* SPDX-License-Identifier: MIT */
#include <engine/observe/snapshot.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 65536u
#define TASKS_DEFAULT 128u
#define LOOPS_DEFAULT 16u

/* Where the part of a piece of memory begins that is `size` bytes; *offset moves past it. */
static size_t take(size_t *offset, size_t size)
{
    size_t begin = *offset;
    *offset = (begin + size + 63) & ~(size_t)63;
    return begin;
}

int weir_snapshot_open(uint32_t tasks_max, uint32_t loops_max, struct weir_snapshot **ret_snapshot)
{
    if (!ret_snapshot || tasks_max > ROWS_MAX || loops_max > ROWS_MAX) {
        return -EINVAL;
    }
    tasks_max = tasks_max ? tasks_max : TASKS_DEFAULT;
    loops_max = loops_max ? loops_max : LOOPS_DEFAULT;
    size_t size = 0;
    size_t head = take(&size, sizeof(struct weir_snapshot));
    size_t task_order = take(&size, tasks_max * sizeof(uint32_t));
    size_t loop_order = take(&size, loops_max * sizeof(uint32_t));
    size_t times = take(&size, sizeof(struct weir_histogram));
    size_t scratch = take(&size, sizeof(struct weir_snapshot_task));
    size_t loops = take(&size, loops_max * sizeof(struct weir_snapshot_loop));
    size_t tasks = take(&size, tasks_max * sizeof(struct weir_snapshot_task));
    char *memory = malloc(size);
    if (!memory) {
        return -ENOMEM;
    }
    struct weir_snapshot *snapshot = (void *)(memory + head);
    memset(snapshot, 0, sizeof *snapshot);
    snapshot->tasks_max = tasks_max;
    snapshot->loops_max = loops_max;
    snapshot->task_order = (void *)(memory + task_order);
    snapshot->loop_order = (void *)(memory + loop_order);
    snapshot->scratch_times = (void *)(memory + times);
    snapshot->scratch = (void *)(memory + scratch);
    snapshot->loops = (void *)(memory + loops);
    snapshot->tasks = (void *)(memory + tasks);
    *ret_snapshot = snapshot;
    return 0;
}

void weir_snapshot_close(struct weir_snapshot *snapshot)
{
    free(snapshot);
}

void weir_snapshot_clear(struct weir_snapshot *snapshot)
{
    if (!snapshot) {
        return;
    }
    snapshot->task_count = 0;
    snapshot->loop_count = 0;
    snapshot->taken_ns = 0;
    snapshot->since_ns = 0;
    snapshot->interval = false;
}

int weir_snapshot_copy(struct weir_snapshot *into, const struct weir_snapshot *from)
{
    if (!into || !from) {
        return -EINVAL;
    }
    if (into == from) {
        return 0;
    }
    if (from->task_count > into->tasks_max || from->loop_count > into->loops_max) {
        return -ENOSPC;
    }
    into->task_count = from->task_count;
    into->loop_count = from->loop_count;
    into->taken_ns = from->taken_ns;
    into->since_ns = from->since_ns;
    into->interval = from->interval;
    memcpy(into->task_order, from->task_order, from->task_count * sizeof *from->task_order);
    memcpy(into->loop_order, from->loop_order, from->loop_count * sizeof *from->loop_order);
    memcpy(into->tasks, from->tasks, from->task_count * sizeof *from->tasks);
    memcpy(into->loops, from->loops, from->loop_count * sizeof *from->loops);
    return 0;
}

/* --- rows, sorted ----------------------------------------------------------------------------- */

static int compare_task(const struct weir_snapshot_task *row, const char *label, const char *task)
{
    int order = strcmp(row->label, label);
    return order ? order : strcmp(row->task, task);
}

/* The first place in the order whose row is not less. */
static uint32_t task_place(const struct weir_snapshot *snapshot, const char *label,
                           const char *task)
{
    uint32_t low = 0;
    uint32_t high = snapshot->task_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_task(&snapshot->tasks[snapshot->task_order[middle]], label, task) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint32_t loop_place(const struct weir_snapshot *snapshot, const char *label)
{
    uint32_t place = 0;
    while (place < snapshot->loop_count &&
           strcmp(snapshot->loops[snapshot->loop_order[place]].label, label) < 0) {
        place++;
    }
    return place;
}

static bool is_task_at(const struct weir_snapshot *snapshot, uint32_t place, const char *label,
                       const char *task)
{
    return place < snapshot->task_count &&
           compare_task(&snapshot->tasks[snapshot->task_order[place]], label, task) == 0;
}

static bool is_loop_at(const struct weir_snapshot *snapshot, uint32_t place, const char *label)
{
    return place < snapshot->loop_count &&
           strcmp(snapshot->loops[snapshot->loop_order[place]].label, label) == 0;
}

static struct weir_snapshot_task *task_at(const struct weir_snapshot *snapshot, uint32_t place)
{
    return place < snapshot->task_count ? &snapshot->tasks[snapshot->task_order[place]] : NULL;
}

static struct weir_snapshot_loop *loop_at(const struct weir_snapshot *snapshot, uint32_t place)
{
    return place < snapshot->loop_count ? &snapshot->loops[snapshot->loop_order[place]] : NULL;
}

struct weir_snapshot_task *weir_snapshot_find_task(const struct weir_snapshot *snapshot,
                                                   const char *label, const char *task)
{
    uint32_t place = task_place(snapshot, label, task);
    return is_task_at(snapshot, place, label, task) ? task_at(snapshot, place) : NULL;
}

struct weir_snapshot_loop *weir_snapshot_find_loop(const struct weir_snapshot *snapshot,
                                                   const char *label)
{
    uint32_t place = loop_place(snapshot, label);
    return is_loop_at(snapshot, place, label) ? loop_at(snapshot, place) : NULL;
}

/* Puts the next row, `count` so far, at `place`. */
static void insert(uint32_t *order, uint32_t place, uint32_t count)
{
    memmove(order + place + 1, order + place, (count - place) * sizeof *order);
    order[place] = count;
}

struct weir_snapshot_task *weir_snapshot_make_task(struct weir_snapshot *snapshot,
                                                   const char *label, const char *task)
{
    uint32_t place = task_place(snapshot, label, task);
    if (is_task_at(snapshot, place, label, task)) {
        return task_at(snapshot, place);
    }
    if (snapshot->task_count == snapshot->tasks_max) {
        return NULL;
    }
    insert(snapshot->task_order, place, snapshot->task_count);
    struct weir_snapshot_task *row = &snapshot->tasks[snapshot->task_count++];
    memset(row, 0, sizeof *row);
    memcpy(row->label, label, strlen(label));
    memcpy(row->task, task, strlen(task));
    return row;
}

struct weir_snapshot_loop *weir_snapshot_make_loop(struct weir_snapshot *snapshot,
                                                   const char *label)
{
    uint32_t place = loop_place(snapshot, label);
    if (is_loop_at(snapshot, place, label)) {
        return loop_at(snapshot, place);
    }
    if (snapshot->loop_count == snapshot->loops_max) {
        return NULL;
    }
    insert(snapshot->loop_order, place, snapshot->loop_count);
    struct weir_snapshot_loop *row = &snapshot->loops[snapshot->loop_count++];
    memset(row, 0, sizeof *row);
    memcpy(row->label, label, strlen(label));
    return row;
}

void weir_snapshot_drop_tasks(struct weir_snapshot *snapshot, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t place = 0; place < snapshot->task_count; place++) {
        if (snapshot->task_order[place] < count) {
            snapshot->task_order[kept++] = snapshot->task_order[place];
        }
    }
    snapshot->task_count = count;
}

/* --- reading ---------------------------------------------------------------------------------- */

uint64_t weir_snapshot_taken_ns(const struct weir_snapshot *snapshot)
{
    return snapshot ? snapshot->taken_ns : 0;
}

uint64_t weir_snapshot_since_ns(const struct weir_snapshot *snapshot)
{
    return snapshot ? snapshot->since_ns : 0;
}

const struct weir_snapshot_task *weir_snapshot_task_at(const struct weir_snapshot *snapshot,
                                                       uint32_t index)
{
    return snapshot ? task_at(snapshot, index) : NULL;
}

const struct weir_snapshot_loop *weir_snapshot_loop_at(const struct weir_snapshot *snapshot,
                                                       uint32_t index)
{
    return snapshot ? loop_at(snapshot, index) : NULL;
}
