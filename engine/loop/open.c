/* SPDX-License-Identifier: MIT */
/*
 * open.c: the loop's birth: options judged, memory taken, backend chosen; and the numbers one may
 * ask for later. All memory is one mapping, laid out here, beside the page that tells a fork.
 */
#include <engine/loop/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH_DEFAULT 256
#define TIMERS_DEFAULT 1024
#define ADMIT_OPS_DEFAULT 256
#define ADMIT_BYTES_DEFAULT (8ULL << 20)
#define MEMORY_DEFAULT (4ULL << 20)
#define LINE 64ULL

const char *weir_version(void)
{
    return "0.1.0";
}

/* NULL, or what is wrong with the options. */
static const char *judge_options(const struct weir_options *options)
{
    if (options->policy != WEIR_AUTO && options->policy != WEIR_IO_URING) {
        return "options.policy is none of enum weir_policy";
    }
    if (options->flags & ~(uint32_t)WEIR_FOR_ADOPTION) {
        return "options.flags has a bit that is none of enum weir_loop_flags";
    }
    if (options->depth > WEIR_DEPTH_MAX) {
        return "options.depth is above WEIR_DEPTH_MAX, 32764";
    }
    if (options->waiting_max > WEIR_WAITING_MAX) {
        return "options.waiting_max is above WEIR_WAITING_MAX, 1048576";
    }
    if (options->timers_max > WEIR_TIMERS_MAX) {
        return "options.timers_max is above WEIR_TIMERS_MAX, 16777216";
    }
    if (options->memory_max > WEIR_MEMORY_MAX) {
        return "options.memory_max is above WEIR_MEMORY_MAX, 1 TiB";
    }
    if (options->memory_max != 0 && !weir_tasks_fit(options->memory_max)) {
        return "options.memory_max is too little for the built-in tasks: give 2 MiB or more";
    }
    return NULL;
}

static int refuse_options(struct weir_decision *decision, const char *hint)
{
    if (decision) {
        struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
        rejection->backend = "none";
        rejection->error = -EINVAL;
        rejection->cause = WEIR_CAUSE_OPTION;
        snprintf(rejection->hint, sizeof rejection->hint, "%s", hint);
    }
    return -EINVAL;
}

static void set_defaults(struct weir_options *options)
{
    options->depth = options->depth ? options->depth : DEPTH_DEFAULT;
    options->timers_max = options->timers_max ? options->timers_max : TIMERS_DEFAULT;
    options->admit_ops_max = options->admit_ops_max ? options->admit_ops_max : ADMIT_OPS_DEFAULT;
    options->admit_bytes_max =
        options->admit_bytes_max ? options->admit_bytes_max : ADMIT_BYTES_DEFAULT;
    options->memory_max = options->memory_max ? options->memory_max : MEMORY_DEFAULT;
}

static uint64_t aligned(uint64_t size)
{
    return (size + LINE - 1) & ~(LINE - 1);
}

/* The arena: loop, slots, report, heap, events, tasks. */
static void measure(const struct weir_options *options, struct weir_facts *facts, uint32_t slots)
{
    uint64_t heap_places = (uint64_t)options->timers_max + slots;
    uint64_t events = facts->cq_entries + WEIR_TIMERS_A_TURN;
    facts->memory_slots =
        aligned(weir_slots_size(slots)) + aligned((uint64_t)slots * sizeof(struct weir_live));
    facts->memory_timers = aligned(weir_heap_size((uint32_t)heap_places));
    facts->memory_events = aligned(events * sizeof(struct weir_event));
    facts->memory_tasks =
        aligned(options->memory_max / sizeof(struct weir_task) * sizeof(struct weir_task));
    facts->memory_loop += aligned(sizeof(struct weir_loop)) + (uint64_t)sysconf(_SC_PAGESIZE);
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* A page of its own, zero in children (Linux 4.14). */
static struct weir_guard *map_guard(size_t page)
{
    void *memory = map(page);
    if (memory && madvise(memory, page, MADV_WIPEONFORK) < 0) {
        munmap(memory, page);
        return NULL;
    }
    return memory;
}

static void lay_out(struct weir_loop *loop, const struct weir_options *options, uint32_t slots)
{
    struct weir_facts *facts = &loop->facts;
    char *at = (char *)loop + aligned(sizeof *loop);
    weir_slots_init(&loop->slots, slots, at);
    at += aligned(weir_slots_size(slots));
    loop->report = (struct weir_live *)(void *)at;
    at += aligned((uint64_t)slots * sizeof(struct weir_live));
    weir_heap_init(&loop->heap, options->timers_max + slots, at);
    at += facts->memory_timers;
    loop->events = (struct weir_event *)(void *)at;
    at += facts->memory_events;
    weir_tasks_init(&loop->tasks, loop->guard, at, facts->memory_tasks);
}

static int make_loop(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend *backend, struct weir_loop **ret_loop)
{
    uint32_t slots = facts->depth + options->waiting_max;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    measure(options, facts, slots);
    size_t arena_size = aligned(sizeof(struct weir_loop)) + facts->memory_slots +
                        facts->memory_timers + facts->memory_events + facts->memory_tasks;
    facts->memory_total = facts->memory_ring + facts->memory_loop + facts->memory_slots +
                          facts->memory_timers + facts->memory_events + facts->memory_tasks;

    struct weir_loop *loop = map(arena_size);
    if (!loop) {
        return -ENOMEM;
    }
    struct weir_guard *guard = map_guard(page);
    if (!guard) {
        munmap(loop, arena_size);
        return -ENOMEM;
    }
    weir_guard_set(guard, &weir_thread_nobody);
    *loop = (struct weir_loop){
        .guard = guard,
        .unowned = true,
        .backend = backend,
        .depth = facts->depth,
        .admit_ops_max = options->admit_ops_max,
        .admit_bytes_max = options->admit_bytes_max,
        .timers_max = options->timers_max,
        .reap_max = facts->cq_entries,
        .events_max = facts->cq_entries + WEIR_TIMERS_A_TURN,
        .epoll_fd = -1,
        .timer_fd = -1,
        .user = options->user,
        .arena_size = arena_size,
        .facts = *facts,
    };
    lay_out(loop, options, slots);
    backend->slots = &loop->slots;
    backend->counters = &loop->counters;
    *ret_loop = loop;
    return 0;
}

void weir_loop_free(struct weir_loop *loop)
{
    if (!loop) {
        return;
    }
    munmap(loop->guard, (size_t)sysconf(_SC_PAGESIZE));
    munmap(loop, loop->arena_size);
}

static int bind_to_thread(struct weir_loop *loop, const struct weir_options *options)
{
    int r = weir_policy_adopt(options, loop->backend, &loop->facts);
    if (r < 0) {
        loop->failed = r;
        loop->refuse = r;
        return r;
    }
    loop->unowned = false;
    weir_guard_set(loop->guard, weir_thread_self());
    return 0;
}

int weir_loop_open(const struct weir_options *given, struct weir_loop **ret_loop)
{
    struct weir_options options = given ? *given : (struct weir_options){0};
    struct weir_backend *backend = NULL;
    struct weir_loop *loop = NULL;
    if (options.decision) {
        memset(options.decision, 0, sizeof *options.decision);
    }
    if (!ret_loop) {
        return -EINVAL;
    }
    const char *wrong = judge_options(&options);
    if (wrong) {
        return refuse_options(options.decision, wrong);
    }
    set_defaults(&options);
    struct weir_facts facts = {
        .depth_asked = options.depth,
        .waiting_max = options.waiting_max,
        .timers_max = options.timers_max,
    };
    int r = weir_policy_open(&options, &facts, &backend);
    if (r < 0) {
        return r;
    }
    r = make_loop(&options, &facts, backend, &loop);
    if (r == 0 && !(options.flags & WEIR_FOR_ADOPTION)) {
        r = bind_to_thread(loop, &options);
    }
    if (r < 0) {
        backend->table->close(backend, false);
        weir_loop_free(loop);
        if (options.decision) {
            options.decision->chosen = NULL;
        }
        return r;
    }
    *ret_loop = loop;
    return 0;
}

int weir_loop_adopt(struct weir_loop *loop)
{
    if (!loop) {
        return -EINVAL;
    }
    if (weir_guard_forked(loop->guard)) {
        return -ECHILD;
    }
    if (!loop->unowned || loop->failed) {
        return -EBUSY;
    }
    return bind_to_thread(loop, NULL);
}

/* --- what one may ask ------------------------------------------------------------------------- */

struct weir_backend *weir_loop_backend(struct weir_loop *loop)
{
    return loop->backend;
}

uint64_t weir_now(const struct weir_loop *loop)
{
    return loop ? weir_loop_exact(loop) : 0;
}

void *weir_loop_user(const struct weir_loop *loop)
{
    return loop ? loop->user : NULL;
}

int64_t weir_loop_live(const struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    return r < 0 ? r : (int64_t)weir_loop_count_live(loop);
}

int weir_loop_counters(const struct weir_loop *loop, struct weir_counters *ret_counters)
{
    int r = weir_loop_check(loop);
    if (r < 0 || !ret_counters) {
        return r < 0 ? r : -EINVAL;
    }
    *ret_counters = loop->counters;
    ret_counters->submitted = loop->counters.finished + weir_loop_count_live(loop);
    ret_counters->in_flight = loop->in_flight;
    ret_counters->waiting = 0;
    for (const struct weir_op *op = loop->waiting.head; op; op = op->held.link.next) {
        ret_counters->waiting++;
    }
    ret_counters->timers = loop->timers;
    return 0;
}

int weir_loop_facts(const struct weir_loop *loop, struct weir_facts *ret_facts)
{
    int r = weir_loop_check(loop);
    if (r < 0 || !ret_facts) {
        return r < 0 ? r : -EINVAL;
    }
    *ret_facts = loop->facts;
    return 0;
}

int weir_task_open(struct weir_loop *loop, const struct weir_task_options *options,
                   struct weir_task **ret_task)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->refuse != 0) {
        return loop->refuse;
    }
    if (!options || !ret_task) {
        return -EINVAL;
    }
    return weir_tasks_open(&loop->tasks, options->name, ret_task);
}

struct weir_task *weir_task_next(struct weir_loop *loop, struct weir_task *task)
{
    if (weir_loop_check(loop) < 0) {
        return NULL;
    }
    struct weir_task *end = loop->tasks.array + loop->tasks.used;
    for (task = task ? task + 1 : loop->tasks.array; task < end; task++) {
        if (task->open &&
            (!task->built_in || task->counters.submitted > 0 || weir_task_live(task) > 0)) {
            return task;
        }
    }
    return NULL;
}
