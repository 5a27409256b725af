/* SPDX-License-Identifier: MIT */
/* ask.c: what one may ask of a loop: facts, counters, its tasks. Changes nothing else. */
#include <engine/loop/loop.h>

struct weir_backend *weir_loop_backend(struct weir_loop *loop)
{
    return loop->backend;
}

uint64_t weir_now(const struct weir_loop *loop)
{
    return loop && loop->backend ? weir_loop_exact(loop) : 0;
}

struct weir_sim *weir_loop_sim(const struct weir_loop *loop)
{
    return loop && loop->backend ? weir_policy_world(loop->backend) : NULL;
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

static uint32_t count_waiting(const struct weir_gate *gate)
{
    uint32_t waiting = 0;
    for (const struct weir_flow *flow = gate->lines[WEIR_LINE_WAITING].head; flow;
         flow = flow->links[WEIR_LINE_WAITING].next) {
        const struct weir_op *op = flow->lines[WEIR_LINE_WAITING].head;
        for (; op; op = op->held.link.next) {
            waiting++;
        }
    }
    return waiting;
}

int weir_loop_counters(const struct weir_loop *loop, struct weir_counters *ret_counters)
{
    int r = weir_loop_check(loop);
    if (r < 0 || !ret_counters) {
        return r < 0 ? r : -EINVAL;
    }
    *ret_counters = loop->counters;
    ret_counters->finished = weir_tasks_finished(&loop->tasks);
    ret_counters->submitted = ret_counters->finished + weir_loop_count_live(loop);
    ret_counters->in_flight = weir_gate_in_flight(&loop->gate);
    ret_counters->waiting = count_waiting(&loop->gate);
    ret_counters->offload_in_flight = weir_gate_in_flight(&loop->offload_gate);
    ret_counters->offload_waiting = count_waiting(&loop->offload_gate);
    ret_counters->timers = loop->timers;
    ret_counters->posts = __atomic_load_n(&loop->posts_accepted, __ATOMIC_RELAXED);
    ret_counters->posts_refused = __atomic_load_n(&loop->posts_refused, __ATOMIC_RELAXED);
    return 0;
}

int weir_loop_gate(const struct weir_loop *loop, const struct weir_op *op,
                   struct weir_gate_state *ret_state)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!ret_state || (op && (op->kind == WEIR_KIND_NONE || op->kind >= WEIR_KIND_COUNT ||
                              weir_op_is_timer(op)))) {
        return -EINVAL;
    }
    const struct weir_gate *gate =
        op && weir_op_is_offloaded(op) ? &loop->offload_gate : &loop->gate;
    *ret_state = weir_loop_describe_gate(gate);
    ret_state->waiting = count_waiting(gate);
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

static void follow_limits(struct weir_loop *loop, const struct weir_task *task, bool opened)
{
    bool goal = task->flows[WEIR_GATE_MAIN].goal.flight_ns != 0;
    loop->onlookers += opened ? goal : -(uint32_t)goal;
    bool governed = loop->gate.bytes_max != 0 || loop->gate.steer.goals;
    loop->governs = (uint8_t)((loop->governs & WEIR_OBSERVED) | (governed ? WEIR_GOVERNED : 0));
    weir_loop_set_plain(loop);
}

static int set_limits(struct weir_loop *loop, struct weir_task *task,
                      const struct weir_task_options *options)
{
    struct weir_flow main = {
        .share = options->share,
        .depth = options->depth,
        .reserve = options->reserve,
        .bytes_max = options->bytes_max,
        .goal.flight_ns = options->goal_ns,
    };
    struct weir_flow offload = {
        .share = options->share,
        .depth = options->offload_depth,
        .reserve = options->offload_reserve,
        .bytes_max = options->bytes_max,
        .goal.flight_ns = options->goal_ns,
    };
    bool has_workers = loop->offload_gate.places != 0;
    if (!has_workers && (offload.depth | offload.reserve) != 0) {
        return -EINVAL;
    }
    int r = weir_gate_set_limits(&loop->gate, task, &main);
    if (r == 0 && has_workers) {
        r = weir_gate_set_limits(&loop->offload_gate, task, &offload);
        if (r < 0) {
            weir_gate_clear_limits(&loop->gate, task);
        }
    }
    if (r == 0) {
        task->plain = task->flows[WEIR_GATE_MAIN].governed ? NULL : &loop->tasks;
        follow_limits(loop, task, true);
    }
    return r;
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
    struct weir_task *task;
    r = weir_tasks_open(&loop->tasks, options->name, &task);
    if (r < 0) {
        return r;
    }
    task->backtrace_every = options->backtrace_every;
    r = options->backtrace_every != 0 && !loop->inspectable ? -EINVAL
                                                            : set_limits(loop, task, options);
    if (r < 0) {
        weir_tasks_close(task);
        return r;
    }
    *ret_task = task;
    return 0;
}

int weir_task_close(struct weir_task *task)
{
    if (!task) {
        return 0;
    }
    int r = weir_guard_check(task->tasks->guard);
    if (r < 0) {
        return r;
    }
    /* A post of it that nobody has looked at yet counts as live from then on. */
    struct weir_loop *loop = WEIR_CONTAINER(task->tasks, struct weir_loop, tasks);
    weir_loop_take_posts(loop);
    if (!task->built_in &&
        (task->flows[WEIR_GATE_MAIN].rooms || task->flows[WEIR_GATE_OFFLOAD].rooms)) {
        return -EBUSY;
    }
    r = weir_tasks_close(task);
    if (r == 0) {
        weir_gate_clear_limits(&loop->gate, task);
        weir_gate_clear_limits(&loop->offload_gate, task);
        follow_limits(loop, task, false);
    }
    return r;
}

struct weir_task *weir_task_next(struct weir_loop *loop, struct weir_task *task)
{
    if (weir_loop_check(loop) < 0) {
        return NULL;
    }
    struct weir_task *end = loop->tasks.array + loop->tasks.used;
    for (task = task ? task + 1 : loop->tasks.array; task < end; task++) {
        if (task->open && (!task->built_in || weir_task_was_asked(task))) {
            return task;
        }
    }
    return NULL;
}
