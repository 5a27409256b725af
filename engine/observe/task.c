/* SPDX-License-Identifier: MIT */
#include <engine/observe/task.h>
#include <stdio.h>
#include <string.h>

#define BUILT_IN (WEIR_KIND_COUNT - 1)
/* a reader meets at most a few resets; more is a loop that resets in a loop */

const char *weir_stage_name(enum weir_stage stage)
{
    static const char *const names[] = {"wait", "flight", "delivery", "total"};
    return (unsigned)stage < WEIR_STAGE_COUNT ? names[stage] : NULL;
}

bool weir_tasks_fit(uint64_t size)
{
    return size / sizeof(struct weir_task) >= BUILT_IN;
}

void weir_tasks_init(struct weir_tasks *tasks, const struct weir_guard *guard, void *memory,
                     uint64_t size)
{
    memset(tasks, 0, sizeof *tasks);
    tasks->guard = guard;
    tasks->array = memory;
    tasks->capacity = (uint32_t)(size / sizeof(struct weir_task));
    tasks->used = BUILT_IN;
    for (unsigned kind = 1; kind < WEIR_KIND_COUNT; kind++) {
        struct weir_task *task = &tasks->array[kind - 1];
        tasks->of_kind[kind] = task;
        task->tasks = tasks;
        task->plain = tasks;
        task->run_left_ns = WEIR_NEVER_NS;
        task->open = true;
        task->built_in = true;
        snprintf(task->name, sizeof task->name, "%s", weir_kind_name(kind));
    }
}

int weir_tasks_open(struct weir_tasks *tasks, const char *name, struct weir_task **ret_task)
{
    size_t length = name ? strlen(name) : 0;
    if (length == 0) {
        return -EINVAL;
    }
    if (length > WEIR_TASK_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    uint32_t place = BUILT_IN;
    while (place < tasks->used && tasks->array[place].open) {
        place++;
    }
    if (place == tasks->capacity) {
        return -ENOSPC;
    }
    struct weir_task *task = &tasks->array[place];
    if (place == tasks->used) {
        tasks->used++; /* never used: still zeroed, its pages untouched */
    } else {
        memset(task, 0, sizeof *task);
    }
    task->tasks = tasks;
    task->run_left_ns = WEIR_NEVER_NS;
    task->open = true;
    memcpy(task->name, name, length + 1);
    *ret_task = task;
    return 0;
}

void weir_task_record_timer(struct weir_task *task, const struct weir_sample *sample)
{
    weir_relaxed_add(&task->counters.finished, 1);
    for (unsigned stage = WEIR_STAGE_WAIT + 1; stage < WEIR_STAGE_COUNT; stage++) {
        weir_histogram_add(&task->stages[stage], sample->stages[stage], 1);
    }
}

static void end_run(struct weir_task *task)
{
    const uint64_t *stages = task->sample.stages;
    uint64_t times = task->run;
    weir_relaxed_add(&task->counters.finished, times);
    weir_histogram_add(&task->stages[WEIR_STAGE_WAIT], stages[WEIR_STAGE_WAIT], times);
    weir_histogram_add(&task->stages[WEIR_STAGE_DELIVERY], stages[WEIR_STAGE_DELIVERY], times);
    weir_histogram_add_two(&task->stages[WEIR_STAGE_FLIGHT], stages[WEIR_STAGE_FLIGHT],
                           &task->stages[WEIR_STAGE_TOTAL], stages[WEIR_STAGE_TOTAL], times);
    task->run_left_ns = WEIR_NEVER_NS;
}

struct weir_sample *weir_task_begin_run(struct weir_task *task, uint64_t from_ns, uint64_t left_ns)
{
    if (task->run_left_ns != WEIR_NEVER_NS) {
        end_run(task);
    } else {
        task->next_run = task->tasks->runs;
        task->tasks->runs = task;
    }
    task->run = 1;
    task->run_from_ns = from_ns;
    task->run_left_ns = left_ns;
    return &task->sample;
}

void weir_tasks_flush(struct weir_tasks *tasks)
{
    struct weir_task *task = tasks->runs;
    tasks->runs = NULL;
    for (; task; task = task->next_run) {
        end_run(task);
    }
}

uint64_t weir_tasks_finished(const struct weir_tasks *tasks)
{
    uint64_t finished = tasks->finished_by_closed;
    for (uint32_t i = 0; i < tasks->used; i++) {
        const struct weir_task *task = &tasks->array[i];
        finished += task->open ? task->counters.finished : 0;
    }
    for (const struct weir_task *task = tasks->runs; task; task = task->next_run) {
        finished += task->run;
    }
    return finished;
}

int weir_tasks_close(struct weir_task *task)
{
    if (task->built_in || !task->open) {
        return -EINVAL;
    }
    weir_tasks_flush(task->tasks);
    if (weir_task_live(task) > 0) {
        return -EBUSY;
    }
    task->tasks->finished_by_closed += task->counters.finished;
    task->open = false;
    task->plain = NULL;
    return 0;
}

/* A child's copy of the counters means nothing. */
static bool forked(const struct weir_task *task)
{
    return weir_guard_forked(task->tasks->guard);
}

/* In a callback the owner sees all that it has had back. */
static void see_own_run(const struct weir_task *task)
{
    if (weir_guard_owner(task->tasks->guard) == weir_thread_self()) {
        weir_tasks_flush(task->tasks);
    }
}

/* A reset is a sequence lock: the epoch is odd while it lasts. A reader that meets one tries
 * again. */
static uint64_t begin_read(const struct weir_task *task)
{
    uint64_t epoch;
    do { /* acquire: pairs with the releases in weir_task_reset(), which takes microseconds */
        epoch = __atomic_load_n(&task->epoch, __ATOMIC_ACQUIRE);
    } while (epoch & 1);
    return epoch;
}

static bool end_read(const struct weir_task *task, uint64_t epoch)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return epoch == __atomic_load_n(&task->epoch, __ATOMIC_RELAXED);
}

int weir_task_read(const struct weir_task *task, enum weir_stage stage,
                   struct weir_histogram *ret_histogram)
{
    if (!task || !ret_histogram || (unsigned)stage >= WEIR_STAGE_COUNT) {
        return -EINVAL;
    }
    if (forked(task)) {
        return -ECHILD;
    }
    see_own_run(task);
    uint64_t epoch;
    do {
        epoch = begin_read(task);
        weir_histogram_copy(ret_histogram, &task->stages[stage]);
    } while (!end_read(task, epoch));
    return 0;
}

/* finished before submitted: what is finished then has been submitted too, and live is not
 * negative. */
static void copy_counters(const struct weir_task *task, struct weir_task_counters *ret_counters)
{
    const struct weir_task_counters *from = &task->counters;
    const struct weir_task_counters *since = &task->at_reset;
    uint64_t finished = __atomic_load_n(&from->finished, __ATOMIC_ACQUIRE);
    uint64_t submitted = weir_relaxed_load(&from->submitted);
    ret_counters->live = submitted - finished;
    ret_counters->submitted = submitted - weir_relaxed_load(&since->submitted);
    ret_counters->finished = finished - weir_relaxed_load(&since->finished);
    ret_counters->refused = weir_relaxed_load(&from->refused) - weir_relaxed_load(&since->refused);
    ret_counters->waited = weir_relaxed_load(&from->waited) - weir_relaxed_load(&since->waited);
    ret_counters->shed = weir_relaxed_load(&from->shed) - weir_relaxed_load(&since->shed);
    ret_counters->failed = weir_relaxed_load(&from->failed) - weir_relaxed_load(&since->failed);
    ret_counters->cancelled =
        weir_relaxed_load(&from->cancelled) - weir_relaxed_load(&since->cancelled);
    ret_counters->expired = weir_relaxed_load(&from->expired) - weir_relaxed_load(&since->expired);
}

int weir_task_counters(const struct weir_task *task, struct weir_task_counters *ret_counters)
{
    if (!task || !ret_counters) {
        return -EINVAL;
    }
    if (forked(task)) {
        return -ECHILD;
    }
    see_own_run(task);
    uint64_t epoch;
    do {
        epoch = begin_read(task);
        copy_counters(task, ret_counters);
    } while (!end_read(task, epoch));
    return 0;
}

int weir_task_reset(struct weir_task *task)
{
    if (!task) {
        return -EINVAL;
    }
    int r = weir_guard_check(task->tasks->guard);
    if (r < 0) {
        return r;
    }
    weir_tasks_flush(task->tasks);
    /* Odd while it lasts, as a sequence lock: a reader that saw any of the zeros sees the epoch
     * move. */
    __atomic_store_n(&task->epoch, task->epoch + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        weir_histogram_clear(&task->stages[stage]);
    }
    const struct weir_task_counters *from = &task->counters;
    weir_relaxed_store(&task->at_reset.submitted, from->submitted);
    weir_relaxed_store(&task->at_reset.refused, from->refused);
    weir_relaxed_store(&task->at_reset.waited, from->waited);
    weir_relaxed_store(&task->at_reset.shed, from->shed);
    weir_relaxed_store(&task->at_reset.finished, from->finished);
    weir_relaxed_store(&task->at_reset.failed, from->failed);
    weir_relaxed_store(&task->at_reset.cancelled, from->cancelled);
    weir_relaxed_store(&task->at_reset.expired, from->expired);
    __atomic_store_n(&task->epoch, task->epoch + 1, __ATOMIC_RELEASE);
    return 0;
}

const char *weir_task_name(const struct weir_task *task)
{
    return task ? task->name : NULL;
}
