/* SPDX-License-Identifier: MIT */
/*
 * open.c: the loop's birth: options judged, backend chosen, memory taken, workers started. The
 * memory is one mapping, laid out here, beside the page that tells a fork and the workers' stacks.
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
#define OFFLOAD_DEPTH_DEFAULT 256
#define OFFLOAD_STACK_DEFAULT (256u << 10)
#define OFFLOAD_STACK_MIN (16u << 10)
#define OFFLOAD_STACK_MAX (1u << 30)
#define POSTS_DEFAULT 1024
#define SPIN_NS_MAX 1000000000ULL
#define LINE 64ULL

const char *weir_version(void)
{
    return "0.1.0";
}

static const char *judge_offload_options(const struct weir_options *options)
{
    if (options->offload_workers > WEIR_WORKERS_MAX &&
        options->offload_workers != WEIR_NO_OFFLOAD) {
        return "options.offload_workers is above WEIR_WORKERS_MAX, 1024, and not WEIR_NO_OFFLOAD";
    }
    if (options->offload_depth > WEIR_OFFLOAD_DEPTH_MAX) {
        return "options.offload_depth is above WEIR_OFFLOAD_DEPTH_MAX, 32764";
    }
    if (options->offload_waiting_max > WEIR_WAITING_MAX) {
        return "options.offload_waiting_max is above WEIR_WAITING_MAX, 1048576";
    }
    if (options->offload_stack != 0 && (options->offload_stack < OFFLOAD_STACK_MIN ||
                                        options->offload_stack > OFFLOAD_STACK_MAX)) {
        return "options.offload_stack is not between 16 KiB and 1 GiB";
    }
    if (options->posts_max > WEIR_POSTS_MAX) {
        return "options.posts_max is above WEIR_POSTS_MAX, 1048576";
    }
    return NULL;
}

/* NULL, or what is wrong with the options. */
static const char *judge_options(const struct weir_options *options)
{
    if ((unsigned)options->policy > WEIR_SIM) {
        return "options.policy is none of enum weir_policy";
    }
    if (options->flags &
        ~(uint32_t)(WEIR_FOR_ADOPTION | WEIR_CALLER_RUNS | WEIR_REFUSES | WEIR_INSPECTABLE)) {
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
    if (options->depth_min > (options->depth ? options->depth : DEPTH_DEFAULT)) {
        return "options.depth_min is above the depth";
    }
    if (options->memory_max > WEIR_MEMORY_MAX) {
        return "options.memory_max is above WEIR_MEMORY_MAX, 1 TiB";
    }
    if (options->memory_max != 0 && !weir_tasks_fit(options->memory_max)) {
        return "options.memory_max is too little for the built-in tasks: give 2 MiB or more";
    }
    if (options->spin_ns_max > SPIN_NS_MAX) {
        return "options.spin_ns_max is above 1 s";
    }
    if (options->native_kinds >> WEIR_KIND_COUNT || options->native_kinds & 1) {
        return "options.native_kinds has a bit that is none of enum weir_kind";
    }
    if (options->recorder_events > WEIR_RECORDER_MAX) {
        return "options.recorder_events is above WEIR_RECORDER_MAX, 16777216";
    }
    if (options->backtrace_every != 0 && !(options->flags & WEIR_INSPECTABLE)) {
        return "options.backtrace_every needs the flag WEIR_INSPECTABLE";
    }
    return judge_offload_options(options);
}

/* What no backend is to blame for. */
static void note_refusal(struct weir_decision *decision, int error, enum weir_cause cause,
                         const char *hint)
{
    if (decision) {
        struct weir_rejection *rejection = &decision->rejected[decision->rejected_count++];
        rejection->backend = "none";
        rejection->error = error;
        rejection->cause = cause;
        snprintf(rejection->hint, sizeof rejection->hint, "%s", hint);
        decision->chosen = NULL;
    }
}

static int refuse_options(struct weir_decision *decision, const char *hint)
{
    note_refusal(decision, -EINVAL, WEIR_CAUSE_OPTION, hint);
    return -EINVAL;
}

/* Memory and threads: all that loops need beside their backend. */
static void refuse_resources(struct weir_decision *decision, int error)
{
    note_refusal(decision, error, WEIR_CAUSE_OTHER,
                 error == -EAGAIN
                     ? "no more threads for the workers: raise RLIMIT_NPROC or the cgroup's "
                       "pids.max, or ask for fewer by options.offload_workers"
                     : "no memory for the loop or its workers' stacks: look at RLIMIT_AS, the "
                       "cgroup's limit and vm.max_map_count, or ask for less by the options");
}

static void set_defaults(struct weir_options *options)
{
    options->depth = options->depth ? options->depth : DEPTH_DEFAULT;
    options->timers_max = options->timers_max ? options->timers_max : TIMERS_DEFAULT;
    options->admit_ops_max = options->admit_ops_max ? options->admit_ops_max : ADMIT_OPS_DEFAULT;
    options->admit_bytes_max =
        options->admit_bytes_max ? options->admit_bytes_max : ADMIT_BYTES_DEFAULT;
    options->memory_max = options->memory_max ? options->memory_max : MEMORY_DEFAULT;
    options->posts_max = options->posts_max ? options->posts_max : POSTS_DEFAULT;
    options->offload_depth =
        options->offload_depth ? options->offload_depth : OFFLOAD_DEPTH_DEFAULT;
    options->offload_stack =
        options->offload_stack ? options->offload_stack : OFFLOAD_STACK_DEFAULT;
    if (options->offload_workers == WEIR_NO_OFFLOAD) {
        options->offload_depth = 0;
        options->offload_waiting_max = 0;
    }
}

/* How many workers, and why. */
static uint32_t choose_workers(const struct weir_options *options, struct weir_facts *facts)
{
    char *reason = facts->workers_reason;
    size_t size = sizeof facts->workers_reason;
    if (options->offload_workers == WEIR_NO_OFFLOAD) {
        snprintf(reason, size, "options.offload_workers is WEIR_NO_OFFLOAD");
        return 0;
    }
    if (options->offload_workers != 0) {
        snprintf(reason, size, "options.offload_workers");
        return options->offload_workers;
    }
    uint32_t cpus = 0;
    if (options->probe) {
        cpus = options->probe->cpus;
        snprintf(reason, size, "%s", options->probe->cpus_reason);
    } else {
        cpus = weir_cpus_allowed("", reason, size);
    }
    return cpus < WEIR_WORKERS_MAX ? cpus : WEIR_WORKERS_MAX;
}

static bool on_finished_call(void *context)
{
    struct weir_loop *loop = context;
    bool asleep = weir_bell_ring(&loop->bell);
    if (asleep) {
        loop->backend->table->wake(loop->backend);
    }
    return asleep;
}

static uint64_t aligned(uint64_t size)
{
    return (size + LINE - 1) & ~(LINE - 1);
}

static uint32_t count_slots(const struct weir_options *options, const struct weir_facts *facts)
{
    return facts->depth + options->waiting_max + options->offload_depth +
           options->offload_waiting_max;
}

static uint32_t count_events(const struct weir_options *options, const struct weir_facts *facts)
{
    return facts->cq_entries + facts->depth + options->offload_depth + WEIR_TIMERS_A_TURN;
}

/* Ops that one turn lets leave. */
static uint32_t count_leaving(const struct weir_options *options, const struct weir_facts *facts)
{
    return options->admit_ops_max < facts->depth ? options->admit_ops_max : facts->depth;
}

/* Timers, deadlines of what has a slot, and of posts. */
static uint32_t count_timers(const struct weir_options *options, uint32_t slots)
{
    return options->timers_max + slots + options->posts_max;
}

/* The arena: loop, slots, report, heap, events, views and recorder, tasks. */
static void measure(const struct weir_options *options, struct weir_facts *facts)
{
    uint32_t slots = count_slots(options, facts);
    uint64_t heap_places = count_timers(options, slots);
    uint64_t events = count_events(options, facts);
    facts->memory_slots =
        aligned(weir_slots_size(slots)) + aligned((uint64_t)slots * sizeof(struct weir_live));
    facts->memory_timers = aligned(weir_heap_size((uint32_t)heap_places));
    facts->memory_events = aligned(events * sizeof(struct weir_event)) +
                           aligned(count_leaving(options, facts) * sizeof(struct weir_op *));
    facts->memory_tasks =
        aligned(options->memory_max / sizeof(struct weir_task) * sizeof(struct weir_task));
    facts->memory_observe = aligned(weir_loop_observe_size(options, slots));
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

static void lay_out(struct weir_loop *loop, const struct weir_options *options)
{
    uint32_t slots = count_slots(options, &loop->facts);
    struct weir_facts *facts = &loop->facts;
    char *at = (char *)loop + aligned(sizeof *loop);
    weir_slots_init(&loop->slots, slots, at);
    at += aligned(weir_slots_size(slots));
    loop->report = (struct weir_live *)(void *)at;
    at += aligned((uint64_t)slots * sizeof(struct weir_live));
    weir_heap_init(&loop->heap, count_timers(options, slots), at);
    at += facts->memory_timers;
    loop->events = (struct weir_event *)(void *)at;
    loop->leaving =
        (struct weir_op **)(void *)(at + aligned(loop->events_max * sizeof(struct weir_event)));
    loop->leaving_stamped = loop->leaving;
    loop->leaving_end = loop->leaving;
    loop->leaving_limit = loop->leaving;
    at += facts->memory_events;
    weir_loop_observe(loop, options, at);
    at += facts->memory_observe;
    weir_tasks_init(&loop->tasks, loop->guard, at, facts->memory_tasks);
}

static enum weir_way way_of(unsigned kind)
{
    uint32_t traits = weir_kind_traits(kind);
    return traits & WEIR_KIND_BYTES       ? WEIR_WAY_SHORT_BYTES
           : traits & WEIR_KIND_MAY_WHOLE ? WEIR_WAY_SHORT_VECTOR
                                          : WEIR_WAY_SHORT;
}

static void set_ways(struct weir_loop *loop)
{
    /* With a backend that does not stage in memory all wait for the turn, whatever their kind. */
    uint64_t in_memory = loop->backend->in_memory;
    uint64_t kinds = WEIR_PLAIN_KINDS & (in_memory ? in_memory : ~0ULL);
    for (unsigned kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        enum weir_way way = in_memory ? way_of(kind) : WEIR_WAY_LATE;
        loop->ways[kind] = kinds >> kind & 1 ? way : WEIR_WAY_CHECKED;
    }
    if (!loop->backend->table->carries_calls) {
        loop->ways[WEIR_KIND_CALL] = WEIR_WAY_CALL;
    }
}

static void on_died(void *context, int error)
{
    struct weir_loop *loop = context;
    weir_loop_fail(loop, error);
    loop->call_until = loop->events;
}

static void set_goal(struct weir_gate *gate, const struct weir_options *options)
{
    struct weir_steer *steer = &gate->steer;
    steer->depth_min = options->depth_min < gate->depth_max ? options->depth_min : gate->depth_max;
    steer->depth_min = steer->depth_min > 0 ? steer->depth_min : 1;
    steer->of_loop.flight_ns = options->goal_ns;
    weir_steer_set(steer, &steer->of_loop);
}

static int make_loop(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend *backend, struct weir_loop **ret_loop)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    measure(options, facts);
    size_t arena_size = aligned(sizeof(struct weir_loop)) + facts->memory_slots +
                        facts->memory_timers + facts->memory_events + facts->memory_observe +
                        facts->memory_tasks;
    facts->memory_total = facts->memory_ring + facts->memory_loop + facts->memory_slots +
                          facts->memory_timers + facts->memory_events + facts->memory_observe +
                          facts->memory_tasks;

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
        .caller_runs = options->flags & WEIR_CALLER_RUNS,
        .refuses = options->flags & WEIR_REFUSES,
        .governs = options->bytes_max != 0 || options->goal_ns != 0 ? WEIR_GOVERNED : 0,
        .onlookers = options->goal_ns != 0,
        /* A clock that does not move by itself is not worth watching. */
        .spin = {.max_ns = backend->table->carries_calls ? 0 : options->spin_ns_max},
        .posts_max = options->posts_max,
        .admit_ops_max = options->admit_ops_max,
        .leaving_most = count_leaving(options, facts),
        .bytes_left = options->admit_bytes_max,
        .admit_bytes_max = options->admit_bytes_max,
        .timers_max = options->timers_max,
        .reap_max = facts->cq_entries,
        .events_max = count_events(options, facts),
        .epoll_fd = -1,
        .timer_fd = -1,
        .user = options->user,
        .arena_size = arena_size,
        .facts = *facts,
    };
    weir_gate_init(&loop->gate, WEIR_GATE_MAIN, facts->depth, options->waiting_max);
    weir_gate_init(&loop->offload_gate, WEIR_GATE_OFFLOAD, options->offload_depth,
                   options->offload_waiting_max);
    loop->gate.bytes_max = options->bytes_max;
    loop->offload_gate.bytes_max = options->bytes_max;
    set_goal(&loop->gate, options);
    set_goal(&loop->offload_gate, options);
    lay_out(loop, options);
    set_ways(loop);
    loop->loud = loop->inspectable || loop->spin.max_ns != 0;
    weir_loop_set_plain(loop);
    backend->slots = &loop->slots;
    backend->died = on_died;
    backend->context = loop;
    backend->counters = &loop->counters;
    *ret_loop = loop;
    return 0;
}

void weir_loop_free(struct weir_loop *loop)
{
    if (!loop) {
        return;
    }
    if (loop->offload_memory) {
        munmap(loop->offload_memory, loop->offload_size);
    }
    munmap(loop->guard, (size_t)sysconf(_SC_PAGESIZE));
    munmap(loop, loop->arena_size);
}

/* The ring and its workers. Their stacks are a mapping of their own. */
static int open_offload(struct weir_loop *loop, const struct weir_options *options)
{
    struct weir_facts *facts = &loop->facts;
    facts->offload_depth = options->offload_depth;
    facts->offload_waiting_max = options->offload_waiting_max;
    facts->posts_max = options->posts_max;
    if (loop->backend->table->carries_calls) {
        return 0; /* it has said how many workers it simulates */
    }
    struct weir_offload_options offload = {
        .workers = choose_workers(options, facts),
        .ops_max = facts->depth + options->offload_depth,
        .stack = options->offload_stack,
        .write_flags = loop->backend->write_flags,
        .slots = &loop->slots,
        .spin_ns = options->spin_ns_max,
        .finished = on_finished_call,
        .context = loop,
    };
    facts->workers = offload.workers;
    if (offload.workers == 0) {
        return 0;
    }
    loop->offload_size = weir_offload_size(&offload);
    loop->offload_memory = map(loop->offload_size);
    if (!loop->offload_memory) {
        return -ENOMEM;
    }
    facts->memory_offload = loop->offload_size;
    facts->memory_total += loop->offload_size;
    return weir_offload_open(&offload, loop->offload_memory, &loop->offload);
}

static int bind_to_thread(struct weir_loop *loop, const struct weir_options *options)
{
    int r = weir_policy_adopt(options, loop->backend, &loop->facts);
    if (r < 0) {
        weir_loop_fail(loop, r);
        return r;
    }
    loop->unowned = false;
    /* Seq_cst, and before the look: whoever rang until now found it awake, and made no call. */
    __atomic_store_n(&loop->bell.word, WEIR_BELL_UNTOUCHED, __ATOMIC_SEQ_CST);
    if (weir_loop_is_rung(loop)) {
        __atomic_store_n(&loop->bell.word, WEIR_BELL_AWAKE, __ATOMIC_RELAXED);
    }
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
    if (r == 0) {
        r = open_offload(loop, &options);
    }
    if (r < 0) {
        refuse_resources(options.decision, r);
    } else if (!(options.flags & WEIR_FOR_ADOPTION)) {
        r = bind_to_thread(loop, &options);
    }
    if (r < 0) {
        if (loop && loop->offload) {
            weir_offload_close(loop->offload);
        }
        backend->table->close(backend, false);
        weir_loop_free(loop);
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
    int r = weir_loop_check_thread(loop);
    return r < 0 ? r : bind_to_thread(loop, NULL);
}

int weir_probe(struct weir_probe *ret_probe)
{
    if (!ret_probe) {
        return -EINVAL;
    }
    weir_policy_probe(ret_probe);
    ret_probe->cpus = weir_cpus_allowed("", ret_probe->cpus_reason, sizeof ret_probe->cpus_reason);
    return 0;
}
