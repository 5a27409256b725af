/* SPDX-License-Identifier: MIT */
#include <engine/observe/task.h>
#include <string.h>

#define BUILT_IN (WEIR_KIND_COUNT - 1)
#define ERRNO_MAX 4095 /* MAX_ERRNO of Linux: a CALL may answer anything below */
#define NAME_WORDS ((WEIR_TASK_NAME_MAX + 1) / sizeof(uint64_t))

_Static_assert((WEIR_TASK_NAME_MAX + 1) % sizeof(uint64_t) == 0, "a name is whole words");

const char *weir_stage_name(enum weir_stage stage)
{
    static const char *const names[] = {"wait", "flight", "delivery", "total", "queue", "run"};
    return (unsigned)stage < WEIR_STAGE_COUNT ? names[stage] : NULL;
}

/* --- opening and closing ---------------------------------------------------------------------- */

/* Opening and resetting are a sequence lock: the epoch is odd while they last. A reader that meets
 * one tries again. */
static void begin_change(struct weir_task *task)
{
    weir_relaxed_store(&task->epoch, task->epoch + 1);
    /* A reader that saw any word of the change sees the epoch move. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_change(struct weir_task *task)
{
    __atomic_store_n(&task->epoch, task->epoch + 1, __ATOMIC_RELEASE);
}

static void set_open(struct weir_task *task, bool open)
{
    __atomic_store_n(&task->open, open, __ATOMIC_RELAXED);
}

static void set_name(struct weir_task *task, const char *name)
{
    uint64_t words[NAME_WORDS] = {0};
    memcpy(words, name, strlen(name));
    for (unsigned i = 0; i < NAME_WORDS; i++) {
        weir_relaxed_store(&task->name[i], words[i]);
    }
}

void weir_task_copy_name(const struct weir_task *task, char ret_name[WEIR_TASK_NAME_MAX + 1])
{
    uint64_t words[NAME_WORDS];
    for (unsigned i = 0; i < NAME_WORDS; i++) {
        words[i] = weir_relaxed_load(&task->name[i]);
    }
    memcpy(ret_name, words, sizeof words);
    ret_name[WEIR_TASK_NAME_MAX] = '\0'; /* torn by a reuse of the place, it still ends */
}

uint32_t weir_task_index(const struct weir_task *task)
{
    return (uint32_t)(task - task->tasks->array);
}

uint32_t weir_tasks_used(const struct weir_tasks *tasks)
{
    /* Acquire: what lies before it is initialised. */
    return __atomic_load_n(&tasks->used, __ATOMIC_ACQUIRE);
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
        set_name(task, weir_kind_name(kind));
    }
}

static void clear_words(void *memory, size_t size)
{
    uint64_t *words = memory;
    for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
        weir_relaxed_store(&words[i], 0);
    }
}

/* A closed task's place is as new; readers see it word by word. */
static void empty(struct weir_task *task)
{
    clear_words(&task->counters, sizeof task->counters);
    clear_words(&task->at_reset, sizeof task->at_reset);
    clear_words(&task->errors, sizeof task->errors);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        weir_histogram_clear(&task->stages[stage]);
    }
    memset(task->flows, 0, sizeof task->flows); /* the loop's alone */
    task->plain = NULL;
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
    begin_change(task);
    if (place < tasks->used) {
        empty(task);
    } else { /* never used: still zeroed, its pages untouched, and seen by nobody */
        task->tasks = tasks;
    }
    task->backtrace_every = 0;
    task->backtrace_left = 0;
    task->run_left_ns = WEIR_NEVER_NS;
    set_name(task, name);
    set_open(task, true);
    end_change(task);
    if (place == tasks->used) {
        __atomic_store_n(&tasks->used, place + 1, __ATOMIC_RELEASE);
    }
    *ret_task = task;
    return 0;
}

/* --- recording -------------------------------------------------------------------------------- */

void weir_task_record_timer(struct weir_task *task, const struct weir_sample *sample)
{
    weir_relaxed_add(&task->counters.finished, 1);
    for (unsigned stage = WEIR_STAGE_FLIGHT; stage <= WEIR_STAGE_TOTAL; stage++) {
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
    if (task->run_bytes != 0) {
        weir_relaxed_add(&task->counters.bytes, task->run_bytes);
        task->run_bytes = 0;
    }
    task->run_left_ns = WEIR_NEVER_NS;
}

void weir_task_count_error(struct weir_task *task, int64_t error)
{
    struct weir_task_errors *errors = &task->errors;
    uint32_t i = 0;
    while (i < errors->count && errors->errors[i].error != error) {
        i++;
    }
    if (i == WEIR_ERRORS_MAX || error < -ERRNO_MAX) {
        weir_relaxed_add(&errors->others, 1);
        return;
    }
    __atomic_store_n(&errors->errors[i].error, (int32_t)error, __ATOMIC_RELAXED);
    weir_relaxed_add(&errors->errors[i].times, 1);
    if (i == errors->count) {
        /* Release: who sees the entry counted sees it. */
        __atomic_store_n(&errors->count, i + 1, __ATOMIC_RELEASE);
    }
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
    set_open(task, false);
    task->plain = NULL;
    return 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

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

static uint64_t begin_read(const struct weir_task *task)
{
    uint64_t epoch;
    do { /* acquire: pairs with the release in end_change(); a change takes microseconds */
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
#define SINCE(name)                                                                                \
    (ret_counters->name = weir_relaxed_load(&from->name) - weir_relaxed_load(&since->name))
    SINCE(refused);
    SINCE(waited);
    SINCE(shed);
    SINCE(failed);
    SINCE(cancelled);
    SINCE(expired);
    SINCE(bytes);
    SINCE(continued);
#undef SINCE
}

int weir_task_read_counters(const struct weir_task *task, struct weir_task_counters *ret_counters)
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

static void copy_errors(const struct weir_task *task, struct weir_task_errors *ret_errors)
{
    const struct weir_task_errors *from = &task->errors;
    memset(ret_errors, 0, sizeof *ret_errors);
    ret_errors->others = weir_relaxed_load(&from->others);
    ret_errors->count = __atomic_load_n(&from->count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < ret_errors->count; i++) {
        ret_errors->errors[i].error = __atomic_load_n(&from->errors[i].error, __ATOMIC_RELAXED);
        ret_errors->errors[i].times = weir_relaxed_load(&from->errors[i].times);
    }
}

int weir_task_read_errors(const struct weir_task *task, struct weir_task_errors *ret_errors)
{
    if (!task || !ret_errors) {
        return -EINVAL;
    }
    if (forked(task)) {
        return -ECHILD;
    }
    uint64_t epoch;
    do {
        epoch = begin_read(task);
        copy_errors(task, ret_errors);
    } while (!end_read(task, epoch));
    return 0;
}

bool weir_task_copy(const struct weir_task *task, struct weir_snapshot_task *ret_row)
{
    uint64_t epoch;
    bool open;
    do {
        epoch = begin_read(task);
        open = __atomic_load_n(&task->open, __ATOMIC_RELAXED) &&
               (!task->built_in || weir_task_was_asked(task));
        if (open) {
            see_own_run(task);
            weir_task_copy_name(task, ret_row->task);
            copy_counters(task, &ret_row->counters);
            copy_errors(task, &ret_row->errors);
            for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
                weir_histogram_copy(&ret_row->stages[stage], &task->stages[stage]);
            }
            ret_row->epoch = epoch;
        }
    } while (!end_read(task, epoch));
    return open;
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
    begin_change(task);
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        weir_histogram_clear(&task->stages[stage]);
    }
    clear_words(&task->errors, sizeof task->errors);
    const struct weir_task_counters *from = &task->counters;
    const uint64_t *now = (const uint64_t *)(const void *)from;
    uint64_t *then = (uint64_t *)(void *)&task->at_reset;
    for (size_t i = 0; i < sizeof *from / sizeof(uint64_t); i++) {
        weir_relaxed_store(&then[i], now[i]);
    }
    end_change(task);
    return 0;
}

const char *weir_task_name(const struct weir_task *task)
{
    return task ? (const char *)task->name : NULL;
}
