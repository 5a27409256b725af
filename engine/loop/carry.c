/* SPDX-License-Identifier: MIT */
/*
 * carry.c: ops go out (to the backend, to a worker, or by a try on the spot), and the loop sleeps,
 * in one place, until something comes back.
 */
#include <engine/loop/loop.h>
#include <engine/op/perform.h>

#define SPIN_MISSES_FREE 8   /* in a row: a sleeping worker takes as long to wake as a spin lasts */
#define SPIN_DOUBLINGS_MAX 6 /* then up to 64 turns without */
#define LOOKS_A_CLOCK_READING 4 /* a try of what is parked is a look too */
#define BLIND_NS 3000           /* how long a look may hold up events that it does not see */

/* --- out -------------------------------------------------------------------------------------- */

void weir_loop_finish_early(struct weir_loop *loop, struct weir_op *op, int64_t result)
{
    weir_op_finish_odd(op, result);
    WEIR_PROBE_DONE(op, result);
    weir_queue_push(&loop->early, op);
}

void weir_loop_put_off_finished(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < loop->finished; i++) {
        weir_queue_push(&loop->early, loop->events[loop->reap_max + i].op);
    }
    loop->finished = 0;
}

static bool is_special(const struct weir_op *op)
{
    return op->route != WEIR_ROUTE_AUTO || op->kind == WEIR_KIND_CALL ||
           weir_kind_traits(op->kind) & WEIR_KIND_OWN_FD;
}

static bool is_receive(const struct weir_op *op)
{
    return op->kind == WEIR_KIND_RECV || op->kind == WEIR_KIND_RECVMSG;
}

static bool may_try(const struct weir_op *op)
{
    bool all = is_receive(op) && op->arg.io.flags & MSG_WAITALL; /* a part is not what is wanted */
    return weir_op_is_transfer(op) && !all;
}

static bool attempt(struct weir_loop *loop, struct weir_op *op)
{
    op->result = loop->backend->table->attempt(loop->backend, op);
    return op->result != -EOPNOTSUPP && (op->result != -EAGAIN || weir_op_caller_polls(op));
}

/* A try that does not block. False: it would, or the turn has tried enough. */
static inline bool try_on_the_spot(struct weir_loop *loop, struct weir_op *op)
{
    if (!may_try(op) || loop->tries_left == 0) {
        return false;
    }
    loop->tries_left--;
    loop->counters.inline_tries++;
    bool done = attempt(loop, op);
    loop->counters.inline_done += done;
    return done;
}

static uint32_t in_flight(const struct weir_loop *loop)
{
    return weir_gate_in_flight(&loop->gate) + weir_gate_in_flight(&loop->offload_gate);
}

static inline bool is_for_spins(const struct weir_loop *loop, const struct weir_op *op)
{
    return weir_unlikely(loop->spin.max_ns != 0) && is_receive(op) && may_try(op) &&
           !(op->arg.io.flags & MSG_DONTWAIT);
}

/* What a spin tries need not be tried before: what the turn sends is sent first, and the kernel has
 * no one to tell when something comes. With so many in flight that no turn spins it is staged. */
static enum weir_staged park(struct weir_loop *loop, struct weir_op *op)
{
    struct weir_spin *spin = &loop->spin;
    if (in_flight(loop) > WEIR_SPIN_IN_FLIGHT_MAX ||
        spin->parked_count == WEIR_SPIN_IN_FLIGHT_MAX) { /* one that is sent may be parked again */
        op->with = WEIR_CARRIER_BACKEND;
        return loop->backend->table->stage(loop->backend, op);
    }
    spin->parked[spin->parked_count++] = op;
    op->with = WEIR_CARRIER_LEAVING;
    return WEIR_TAKEN;
}

/* Routes, and kinds that are the loop's own. */
static enum weir_staged stage_special(struct weir_loop *loop, struct weir_op *op)
{
    const struct weir_backend_table *table = loop->backend->table;
    if (weir_op_is_offloaded(op)) {
        if (!table->carries_calls) {
            return WEIR_NOT_HERE;
        }
        op->with = WEIR_CARRIER_OFFLOAD;
        loop->counters.offloaded++;
        return table->stage(loop->backend, op);
    }
    if (!table->carries_calls && weir_kind_traits(op->kind) & WEIR_KIND_OWN_FD) {
        op->fd = op->fd < 0 ? weir_op_make_own_fd(op) : op->fd;
        if (op->fd < 0) {
            op->result = op->fd;
            return WEIR_FINISHED;
        }
        op->retry = WEIR_RETRY_POLL;
    }
    bool tries = op->route == WEIR_ROUTE_INLINE && op->retry == WEIR_RETRY_NONE;
    if (tries && is_for_spins(loop, op)) {
        return park(loop, op);
    }
    return tries && try_on_the_spot(loop, op) ? WEIR_FINISHED : table->stage(loop->backend, op);
}

/* One of route INLINE that has left by the short way: nothing of it has been tried, and if it is
 * done on the spot, or all of a WHOLE one, what is left of its way is plain. */
static enum weir_staged stage_inline(struct weir_loop *loop, struct weir_op *op)
{
    if (is_for_spins(loop, op)) {
        return park(loop, op);
    }
    op->with = WEIR_CARRIER_BACKEND;
    if (!try_on_the_spot(loop, op)) {
        return loop->backend->table->stage(loop->backend, op);
    }
    if (op->result >= 0) {
        op->with = op->flags & WEIR_WHOLE ? WEIR_CARRIER_WHOLE : WEIR_CARRIER_PLAIN;
    }
    return WEIR_FINISHED;
}

static enum weir_staged stage(struct weir_loop *loop, struct weir_op *op)
{
    if (weir_unlikely(is_special(op))) {
        return stage_special(loop, op);
    }
    return loop->backend->table->stage(loop->backend, op);
}

void weir_loop_send_to_worker(struct weir_loop *loop, struct weir_op *op)
{
    if (!loop->offload) {
        /* A number must not stay open because nobody may wait for it. */
        bool closes = op->kind == WEIR_KIND_CLOSE;
        int64_t result = closes ? weir_op_perform(op, WEIR_HOW_BLOCK, 0) : -EOPNOTSUPP;
        weir_loop_finish_early(loop, op, result);
        return;
    }
    bool is_long = op->kind == WEIR_KIND_CALL && !(op->flags & WEIR_SHORT);
    if (op->retry == WEIR_RETRY_POLL) {
        op->retry = WEIR_RETRY_NONE; /* its result will be the transfer's */
    }
    op->with = WEIR_CARRIER_OFFLOAD;
    loop->counters.offloaded++;
    weir_offload_push(loop->offload, op, is_long ? WEIR_LANE_LONG : WEIR_LANE_SHORT);
}

void weir_loop_staged(struct weir_loop *loop, struct weir_op *op, enum weir_staged staged)
{
    while (staged == WEIR_FINISHED) {
        struct weir_event event = {.op = op, .result = op->result};
        enum weir_settled settled = weir_loop_settle(loop, op, &event);
        if (settled == WEIR_ENDS) {
            weir_loop_finish_early(loop, op, event.result);
        }
        if (settled != WEIR_GOES_ON) {
            return;
        }
        op->with = (uint8_t)weir_op_backend_carrier(op); /* a part may have moved */
        staged = stage(loop, op);
    }
    if (staged == WEIR_NOT_HERE) {
        weir_loop_send_to_worker(loop, op);
    }
}

static inline __attribute__((always_inline)) bool stage_plain(struct weir_loop *loop,
                                                              struct weir_op *op)
{
    enum weir_staged staged;
    if (op->with == WEIR_CARRIER_LEAVING && op->route == WEIR_ROUTE_INLINE) {
        staged = stage_inline(loop, op);
    } else {
        enum weir_carrier with = weir_op_backend_carrier(op);
        op->with = (uint8_t)with;
        staged = weir_unlikely(with == WEIR_CARRIER_BACKEND)
                     ? stage(loop, op)
                     : loop->backend->table->stage(loop->backend, op);
    }
    if (weir_likely(staged == WEIR_FINISHED && weir_op_finish_plain(op, op->result))) {
        return true;
    }
    weir_loop_staged(loop, op, staged);
    return false;
}

void weir_loop_stage(struct weir_loop *loop, struct weir_op *op)
{
    if (stage_plain(loop, op)) {
        weir_queue_push(&loop->early, op);
    }
}

/* Who has passed the gate and was not staged at once, in order; but for who was asked back since:
 * it is on the early list, and handed back after this. Those that are DONE by it stand behind
 * what the backend may fill. */
void weir_loop_stage_leaving(struct weir_loop *loop)
{
    const uint32_t leaving = weir_op_stand_as(WEIR_IN_FLIGHT, WEIR_CARRIER_LEAVING);
    struct weir_event *const first = loop->events + loop->reap_max;
    struct weir_event *event = first;
    for (struct weir_op **op = loop->leaving; op != loop->leaving_end; op++) {
        if (weir_likely(weir_op_stand(*op) == leaving) && stage_plain(loop, *op)) {
            weir_op_expect(*op);
            (event++)->op = *op;
        }
    }
    loop->finished = (uint32_t)(event - first);
    loop->leaves_late = false;
}

/* --- the only sleep --------------------------------------------------------------------------- */

static bool has_finished_calls(const struct weir_loop *loop)
{
    return loop->offload && weir_offload_has_finished(loop->offload);
}

bool weir_loop_is_rung(const struct weir_loop *loop)
{
    return __atomic_load_n(&loop->woken, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&loop->inbox, __ATOMIC_SEQ_CST) || has_finished_calls(loop);
}

bool weir_loop_has_work(const struct weir_loop *loop)
{
    if (weir_likely(weir_loop_is_quiet(loop))) {
        return false;
    }
    bool over_budget = weir_gate_next(&loop->gate) || weir_gate_next(&loop->offload_gate);
    bool posts = weir_gate_can_take_post(&loop->gate) ||
                 weir_gate_can_take_post(&loop->offload_gate) ||
                 (loop->posted_timers.head && loop->timers < loop->timers_max);
    bool closed = loop->closed && weir_loop_count_live(loop) == 0;
    return loop->early.head || over_budget || posts || weir_loop_room_to_tell(loop) ||
           weir_loop_mark_to_tell(loop) || closed || loop->failed;
}

uint64_t weir_loop_due(const struct weir_loop *loop)
{
    uint64_t due_ns = weir_heap_next(&loop->heap);
    if (loop->closed && loop->close_ns < due_ns) {
        due_ns = loop->close_ns;
    }
    if (weir_unlikely(loop->onlookers > 0)) {
        uint64_t main_ns = weir_steer_due(&loop->gate);
        uint64_t offload_ns = weir_steer_due(&loop->offload_gate);
        due_ns = main_ns < due_ns ? main_ns : due_ns;
        due_ns = offload_ns < due_ns ? offload_ns : due_ns;
    }
    return due_ns;
}

/* How long the turn may sleep: not at all if it has anything to do. */
static uint64_t sleep_until(const struct weir_loop *loop, uint64_t until_ns)
{
    if (loop->finished > 0 || weir_loop_has_work(loop)) {
        return WEIR_NO_SLEEP;
    }
    uint64_t due_ns = weir_loop_due(loop);
    return due_ns < until_ns ? due_ns : until_ns;
}

/* Whether to watch before sleeping: with little in flight, and if it has paid of late. */
static bool may_spin(struct weir_loop *loop)
{
    struct weir_spin *spin = &loop->spin;
    if (weir_likely(spin->max_ns == 0) || in_flight(loop) > WEIR_SPIN_IN_FLIGHT_MAX) {
        return false;
    }
    if (spin->skip > 0) {
        spin->skip--;
        return false;
    }
    return true;
}

/* The longer nothing comes, the more turns go without. */
static void learn_from_spin(struct weir_spin *spin, bool paid)
{
    if (paid) {
        spin->missed = 0;
        return;
    }
    spin->missed++;
    if (spin->missed > SPIN_MISSES_FREE) {
        uint32_t doublings = spin->missed - SPIN_MISSES_FREE;
        spin->skip = 1u << (doublings < SPIN_DOUBLINGS_MAX ? doublings : SPIN_DOUBLINGS_MAX);
    }
}

void weir_loop_unpark(struct weir_loop *loop, const struct weir_op *op)
{
    struct weir_spin *spin = &loop->spin;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < spin->parked_count; i++) {
        spin->parked[kept] = spin->parked[i];
        kept += spin->parked[i] != op;
    }
    spin->parked_count = kept;
}

void weir_loop_send_parked(struct weir_loop *loop)
{
    struct weir_spin *spin = &loop->spin;
    for (uint32_t i = 0; i < spin->parked_count; i++) {
        struct weir_op *op = spin->parked[i];
        op->with = WEIR_CARRIER_BACKEND;
        weir_loop_staged(loop, op, loop->backend->table->stage(loop->backend, op));
    }
    spin->parked_count = 0;
}

/* True: some have come, and are parked no more. */
static bool try_parked(struct weir_loop *loop)
{
    struct weir_spin *spin = &loop->spin;
    bool some_came = false;
    for (uint32_t i = 0; i < spin->parked_count;) {
        struct weir_op *op = spin->parked[i];
        if (!attempt(loop, op)) {
            i++;
            continue;
        }
        weir_loop_unpark(loop, op);
        op->with = WEIR_CARRIER_BACKEND;
        loop->counters.inline_tries++;
        loop->counters.inline_done++;
        weir_loop_staged(loop, op, WEIR_FINISHED);
        some_came = true;
    }
    return some_came;
}

/* Watches ring, inboxes and clock instead of sleeping. True: there is something to do: the
 * backend's *ret_count events (or its error), a ring of the bell, or a timer. */
static bool spin(struct weir_loop *loop, uint64_t until_ns, int *ret_count)
{
    struct weir_backend *backend = loop->backend;
    uint64_t begin_ns = weir_loop_exact(loop);
    uint64_t now_ns = begin_ns;
    uint64_t end_ns = begin_ns + loop->spin.max_ns;
    bool paid = false;
    *ret_count = 0;
    while (!paid && now_ns < end_ns) {
        for (uint32_t i = 0; i < LOOKS_A_CLOCK_READING && !paid; i += 1 + loop->spin.parked_count) {
            *ret_count = backend->table->turn(backend, WEIR_NO_SLEEP, loop->events, loop->reap_max);
            paid = *ret_count != 0 || weir_loop_is_rung(loop);
            paid |= *ret_count >= 0 && try_parked(loop); /* also if others always have something */
        }
        now_ns = weir_loop_exact(loop);
        paid = paid || now_ns >= until_ns;
    }
    loop->counters.spins++;
    loop->counters.spins_paid += paid;
    loop->counters.spin_ns += now_ns - begin_ns;
    learn_from_spin(&loop->spin, paid);
    if (paid && *ret_count == 0) { /* what ended it came behind the backend's last turn */
        backend->stamp_ns = backend->table->now(backend, WEIR_NOW_STAMP);
    }
    return paid;
}

/* What a test does in the narrowest places. */
static void look_through_window(struct weir_backend *backend, int asleep)
{
    if (weir_unlikely(backend->window != NULL)) {
        backend->window(backend, asleep);
    }
}

/* Says that the loop sleeps, to who may have rung. Until when it may: not at all if others have
 * left something. */
static inline uint64_t fall_asleep(struct weir_loop *loop, uint64_t until_ns, bool quiet)
{
    if (weir_unlikely(!quiet)) {
        look_through_window(loop->backend, 0);
    }
    bool look_again = weir_bell_fall_asleep(&loop->bell);
    if (weir_unlikely(!quiet)) {
        look_through_window(loop->backend, 1);
    }
    if (look_again && weir_loop_is_rung(loop)) {
        until_ns = WEIR_NO_SLEEP;
    }
    return until_ns;
}

static bool sees(const void *context)
{
    const struct weir_loop *loop = context;
    const struct weir_backend *backend = loop->backend;
    return weir_loop_is_rung(loop) ||
           (backend->table->has_events && backend->table->has_events(backend));
}

/* A look for what workers have, before a sleep. True: there is something to do. */
static bool watch_workers(struct weir_loop *loop, uint64_t until_ns)
{
    bool blind = !loop->backend->table->has_events && weir_gate_in_flight(&loop->gate) > 0;
    return weir_offload_watch(loop->offload, blind ? BLIND_NS : UINT64_MAX, until_ns, sees, loop);
}

static inline int sleep_in_backend(struct weir_loop *loop, uint64_t until_ns, bool quiet)
{
    struct weir_backend *backend = loop->backend;
    if (loop->finished > 0) {
        until_ns = WEIR_NO_SLEEP;
    }
    if (until_ns != WEIR_NO_SLEEP && loop->offload && !loop->sends &&
        watch_workers(loop, until_ns)) {
        until_ns = WEIR_NO_SLEEP;
    }
    if (until_ns != WEIR_NO_SLEEP) {
        until_ns = fall_asleep(loop, until_ns, quiet);
    }
    int count = backend->table->turn(backend, until_ns, loop->events, loop->reap_max);
    weir_bell_awake(&loop->bell);
    return count;
}

static inline void flush_offload(struct weir_loop *loop)
{
    if (loop->offload) {
        weir_offload_flush(loop->offload);
    }
}

int weir_loop_carry_quiet(struct weir_loop *loop, uint64_t until_ns)
{
    flush_offload(loop);
    return sleep_in_backend(loop, until_ns, true);
}

int weir_loop_carry_loud(struct weir_loop *loop, uint64_t until_ns)
{
    int count = 0;
    bool paid = false;
    flush_offload(loop);
    until_ns = sleep_until(loop, until_ns);
    if (until_ns != WEIR_NO_SLEEP) {
        weir_loop_show_sleep(loop); /* to spin is to wait too */
        paid = may_spin(loop) && spin(loop, until_ns, &count);
    }
    if (paid) {
        return count;
    }
    if (loop->spin.parked_count > 0) {
        weir_loop_send_parked(loop);
        loop->sends = true;
        until_ns = sleep_until(loop, until_ns);
    }
    return sleep_in_backend(loop, until_ns, false);
}
