/* SPDX-License-Identifier: MIT */
/*
 * submit.c: the one door in. All checks come before the op is touched, so a refused op is as it
 * was.
 */
#include <engine/loop/loop.h>

#define LENGTH32_MAX UINT32_MAX

static bool flags_fit(const struct weir_op *op)
{
    bool whole = weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE;
    bool moves = (op->kind >= WEIR_KIND_READ && op->kind <= WEIR_KIND_WRITEV) ||
                 op->kind == WEIR_KIND_SPLICE;
    uint32_t known = (whole ? WEIR_WHOLE : 0) | (moves ? WEIR_IN_MEMORY : 0) |
                     (op->kind == WEIR_KIND_CALL ? WEIR_SHORT | WEIR_OR_RUN : 0) |
                     (weir_op_is_timer(op) ? 0 : WEIR_OR_WAIT | WEIR_OR_REFUSE);
    uint32_t answer = op->flags & (WEIR_OR_WAIT | WEIR_OR_REFUSE | WEIR_OR_RUN);
    return (op->flags & ~known) == 0 && (answer & (answer - 1)) == 0;
}

/* What waits for others may not hold a worker; what a worker has nothing to do with is no call. */
static bool route_fits(const struct weir_op *op)
{
    bool no_call = op->kind == WEIR_KIND_NOP || op->kind == WEIR_KIND_CLOSE ||
                   op->kind == WEIR_KIND_TIMEOUT || weir_kind_traits(op->kind) & WEIR_KIND_WAITS;
    return op->route < WEIR_ROUTE_OFFLOAD || (op->route == WEIR_ROUTE_OFFLOAD && !no_call);
}

static bool burst_fits(const struct weir_loop *loop, const struct weir_op *op)
{
    return op->burst < 2 || (loop->backend->bursts >> op->kind & 1 && !weir_op_is_offloaded(op));
}

int weir_loop_judge(const struct weir_loop *loop, const struct weir_op *op)
{
    if (op->kind == WEIR_KIND_NONE || op->kind >= WEIR_KIND_COUNT || !op->callback ||
        !flags_fit(op) || !route_fits(op) || !burst_fits(loop, op)) {
        return -EINVAL;
    }
    if (op->task && (op->task->tasks != &loop->tasks || !op->task->open)) {
        return -EINVAL;
    }
    if (weir_kind_traits(op->kind) & WEIR_KIND_LENGTH32 && op->arg.io.length > LENGTH32_MAX) {
        return -EINVAL;
    }
    if (op->kind == WEIR_KIND_CALL && !op->arg.call.function) {
        return -EINVAL;
    }
    if (weir_op_is_offloaded(op) && loop->offload_gate.places == 0) {
        return -EOPNOTSUPP;
    }
    return weir_op_is_timer(op) && op->deadline_ns != 0 ? -EINVAL : 0;
}

_Static_assert(WEIR_TAKEN == 0, "what stage() says is what submit answers");

static inline void take(struct weir_loop *loop, struct weir_op *op, struct weir_task *task)
{
    op->loop = loop;
    op->attempts = 0;
    weir_relaxed_add(&task->counters.submitted, 1);
}

void weir_loop_start_timer(struct weir_loop *loop, struct weir_op *op)
{
    loop->timers++;
    weir_op_move(op, WEIR_IN_FLIGHT);
    op->with = WEIR_CARRIER_TIMER;
    weir_heap_insert(&loop->heap, op, op->arg.timeout.at_ns);
}

/* Between turns the first who needs a stamp reads the clock. */
static inline void freshen_stamp(struct weir_loop *loop)
{
    if (!loop->stamp_fresh) {
        weir_loop_stamp(loop);
        weir_loop_let_plain(loop);
    }
}

/* A TIMEOUT that was accepted. */
static void begin_timer(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                        const char *site)
{
    take(loop, op, task);
    weir_loop_start_timer(loop, op);
    WEIR_PROBE_SUBMIT(op);
    if (weir_unlikely(loop->tell.any)) {
        freshen_stamp(loop);
        weir_tell_submitted(&loop->tell, op, task, site, loop->stamp_ns);
    }
}

/* The caller pays for what the workers cannot take; its callback still comes from a turn. */
static int run_by_caller(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                         const char *site)
{
    take(loop, op, task);
    op->slot = NULL;
    op->born_ns = loop->stamp_ns;
    op->left_ns = loop->stamp_ns;
    weir_op_move(op, WEIR_IN_FLIGHT);
    op->with = WEIR_CARRIER_CALLER;
    loop->slotless++;
    loop->counters.caller_ran++;
    WEIR_PROBE_SUBMIT(op);
    WEIR_PROBE_LEAVE(op);
    if (weir_unlikely(loop->tell.any)) {
        weir_tell_submitted(&loop->tell, op, task, site, loop->stamp_ns);
        weir_tell_left(&loop->tell, op, task, loop->stamp_ns);
    }
    bool in_turn = loop->in_turn;
    loop->in_turn = true; /* no turn, run or close inside the function */
    uint64_t begun_ns = weir_loop_exact(loop);
    int64_t result = op->arg.call.function(op->arg.call.argument);
    op->bytes = weir_loop_exact(loop) - begun_ns; /* for leave_odd(): it has no slot */
    loop->in_turn = in_turn;
    weir_loop_finish_early(loop, op, result);
    return 0;
}

bool weir_loop_refuses_to_wait(const struct weir_loop *loop, const struct weir_op *op)
{
    return op->flags & WEIR_OR_REFUSE ||
           (loop->refuses && !(op->flags & (WEIR_OR_WAIT | WEIR_OR_RUN)));
}

/* A call that is not accepted is run instead. */
static bool runs_instead(const struct weir_loop *loop, const struct weir_op *op)
{
    return op->kind == WEIR_KIND_CALL &&
           (op->flags & WEIR_OR_RUN ||
            (loop->caller_runs && !(op->flags & (WEIR_OR_WAIT | WEIR_OR_REFUSE))));
}

/* Whether its gate, or the heap, has nothing for an op. */
static bool is_full(struct weir_loop *loop, const struct weir_op *op)
{
    if (weir_op_is_timer(op)) {
        return loop->timers >= loop->timers_max;
    }
    struct weir_gate *gate = weir_loop_gate_of(loop, op);
    struct weir_flow *flow = weir_loop_flow_of(loop, op);
    return !weir_gate_has_place(gate, flow) ||
           (weir_loop_refuses_to_wait(loop, op) &&
            weir_gate_would_wait(gate, flow, weir_gate_want(gate, op)));
}

static int refuse(struct weir_loop *loop, struct weir_op *op, int error)
{
    WEIR_PROBE_REFUSE(op, error);
    if (weir_unlikely(loop->tell.any)) {
        freshen_stamp(loop);
        weir_tell_refused(&loop->tell, op, weir_loop_task_of(loop, op), error, loop->stamp_ns);
    }
    return error;
}

/* Any op, and every reason to refuse one. */
static __attribute__((noinline)) int submit_checked(struct weir_loop *loop, struct weir_op *op,
                                                    const char *site)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->refuse != 0) {
        return loop->refuse;
    }
    if (!op) {
        return -EINVAL;
    }
    if (op->state != WEIR_WITH_CALLER) {
        return -EBUSY;
    }
    r = weir_loop_judge(loop, op);
    if (r < 0) {
        return r;
    }
    struct weir_task *task = weir_loop_task_of(loop, op);
    bool full = is_full(loop, op);
    bool caller_runs = full && runs_instead(loop, op);
    if (full && !caller_runs) {
        loop->counters.refused++;
        weir_relaxed_add(&task->counters.refused, 1);
        return refuse(loop, op, -EAGAIN);
    }
    if (weir_op_is_timer(op)) {
        begin_timer(loop, op, task, site);
        return 0;
    }
    freshen_stamp(loop);
    if (caller_runs) {
        return run_by_caller(loop, op, task, site);
    }
    take(loop, op, task);
    op->moved = 0;
    op->born_ns = loop->stamp_ns;
    weir_loop_enter_gate(loop, op, site);
    if (op->deadline_ns != 0) {
        weir_heap_insert(&loop->heap, op, op->deadline_ns);
    }
    WEIR_PROBE_SUBMIT(op);
    if (weir_unlikely(loop->tell.any)) {
        weir_tell_submitted(&loop->tell, op, task, site, op->born_ns);
    }
    return 0;
}

/* Whether submit_checked() would find nothing to refuse and nothing to do but take a slot, `way`
 * aside: it has these flags, this route, and nothing else beside its arguments. Nearly all are so,
 * so they are not asked one by one. */
static inline bool is_plain(const struct weir_loop *loop, const struct weir_op *op, uint16_t flags,
                            uint8_t route)
{
    return weir_loop_check(loop) == 0 && loop->gate.live < loop->plain_max && op && op->callback &&
           (weir_op_extras_but(op, flags, route) | weir_op_stand(op)) == 0;
}

/* Apart, and with submit's answer, so that this is a jump too. */
static __attribute__((noinline)) int wait_at_gate(struct weir_loop *loop, struct weir_op *op,
                                                  struct weir_task *task, const char *site)
{
    weir_loop_wait_at_gate(loop, op, task, site);
    return 0;
}

/* A plain op, with what it takes of the turn's budget of bytes: it need not wait if there is room
 * and nobody waits, see weir_loop_admit(). */
static inline __attribute__((always_inline)) int submit_plain(struct weir_loop *loop,
                                                              struct weir_op *op, const char *site,
                                                              uint64_t bytes,
                                                              enum weir_carrier with)
{
    struct weir_task *task = weir_loop_task_of(loop, op);
    if (weir_unlikely(task->plain != &loop->tasks)) {
        return submit_checked(loop, op, site);
    }
    op->loop = loop;
    op->born_ns = loop->stamp_ns;
    op->left_ns = loop->stamp_ns; /* unless the clock is read again before the turn begins */
    if (with != WEIR_CARRIER_PLAIN) {
        op->moved = 0;
    }
    weir_relaxed_add(&task->counters.submitted, 1);
    WEIR_PROBE_SUBMIT(op);
    if (weir_unlikely(loop->leaving_end >= loop->leaving_limit) ||
        (bytes > 0 && weir_unlikely(!weir_loop_fits_bytes(loop, bytes)))) {
        return wait_at_gate(loop, op, task, site);
    }
    weir_slots_take(&loop->slots, op, task, site);
    loop->gate.live++;
    *loop->leaving_end++ = op;
    weir_op_set_stand(op, weir_op_stand_as(WEIR_IN_FLIGHT, with));
    WEIR_PROBE_LEAVE(op);
    if (with == WEIR_CARRIER_LEAVING) {
        loop->leaves_late = true;
        return 0;
    }
    /* Its answer is ours, and this the last thing done: a jump, and nothing to keep across it. */
    enum weir_staged staged = loop->backend->table->stage(loop->backend, op);
    WEIR_AUDIT(staged == WEIR_TAKEN);
    return (int)staged;
}

/* Apart, for the sum of the lengths is a call. */
static __attribute__((noinline)) int submit_vector(struct weir_loop *loop, struct weir_op *op,
                                                   const char *site)
{
    return submit_plain(loop, op, site, weir_op_bytes(op), WEIR_CARRIER_PLAIN);
}

static __attribute__((noinline)) int submit_late(struct weir_loop *loop, struct weir_op *op,
                                                 const char *site)
{
    uint64_t bytes = 0;
    if (weir_likely(weir_op_is_buffer(op))) {
        bytes = op->arg.io.length;
    } else if (weir_op_is_transfer(op)) {
        bytes = weir_op_bytes(op);
    }
    return submit_plain(loop, op, site, bytes, WEIR_CARRIER_LEAVING);
}

/* A CALL with nothing but WEIR_SHORT, perhaps: it is queued at once if its gate has room and nobody
 * waits there, so that workers go on while the callbacks of a turn still run. */
static __attribute__((noinline)) int submit_call(struct weir_loop *loop, struct weir_op *op,
                                                 const char *site)
{
    struct weir_gate *gate = &loop->offload_gate;
    struct weir_task *task = weir_loop_task_of(loop, op);
    if (weir_unlikely(!op->arg.call.function || task->plain != &loop->tasks ||
                      weir_gate_flow(gate, task)->governed || !loop->offload ||
                      weir_gate_has_waiting(gate) || gate->live >= weir_gate_plain_max(gate))) {
        return submit_checked(loop, op, site);
    }
    op->loop = loop;
    op->born_ns = loop->stamp_ns;
    op->left_ns = loop->stamp_ns;
    weir_relaxed_add(&task->counters.submitted, 1);
    WEIR_PROBE_SUBMIT(op);
    weir_slots_take(&loop->slots, op, task, site);
    gate->live++;
    op->state = WEIR_IN_FLIGHT;
    WEIR_PROBE_LEAVE(op);
    weir_loop_send_to_worker(loop, op);
    return 0;
}

/* One that has something beside its arguments: WEIR_WHOLE alone, or the route INLINE, mostly. */
static __attribute__((noinline)) int submit_special(struct weir_loop *loop, struct weir_op *op,
                                                    const char *site)
{
    if (op && weir_op_is_inline(op)) {
        return is_plain(loop, op, op->flags, WEIR_ROUTE_INLINE) ? submit_late(loop, op, site)
                                                                : submit_checked(loop, op, site);
    }
    if (is_plain(loop, op, WEIR_WHOLE, WEIR_ROUTE_AUTO) && weir_op_is_buffer(op)) {
        enum weir_way way = loop->ways[op->kind];
        if (way == WEIR_WAY_SHORT_BYTES) {
            return submit_plain(loop, op, site, op->arg.io.length, WEIR_CARRIER_WHOLE);
        }
        if (way == WEIR_WAY_LATE) {
            return submit_late(loop, op, site);
        }
    } else if (is_plain(loop, op, WEIR_SHORT, WEIR_ROUTE_AUTO) &&
               loop->ways[op->kind] == WEIR_WAY_CALL) {
        return submit_call(loop, op, site);
    }
    return submit_checked(loop, op, site);
}

int weir_submit_at(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    if (weir_unlikely(!is_plain(loop, op, 0, WEIR_ROUTE_AUTO))) {
        return submit_special(loop, op, site);
    }
    enum weir_way way = loop->ways[op->kind];
    if (weir_likely(way >= WEIR_WAY_SHORT)) {
        uint64_t bytes = way == WEIR_WAY_SHORT ? 0 : op->arg.io.length;
        return submit_plain(loop, op, site, bytes, WEIR_CARRIER_PLAIN);
    }
    if (way == WEIR_WAY_LATE) {
        return submit_late(loop, op, site);
    }
    if (way == WEIR_WAY_CALL) {
        return submit_call(loop, op, site);
    }
    return way == WEIR_WAY_SHORT_VECTOR ? submit_vector(loop, op, site)
                                        : submit_checked(loop, op, site);
}
