/* SPDX-License-Identifier: MIT */
/*
 * loop.c: the turn. weir_loop_turn_once() reads like the page in docs/design.md: take posts, admit,
 * carry, settle, collect, hand back, announce room.
 *
 * Invariants: what is DONE before a turn's first callback is handed back in that turn, and nothing
 * else; a callback is the last touch of its op; nothing is DONE between turns but what stands on
 * the early list.
 */
#include <engine/loop/admit.h>

/* --- collect ---------------------------------------------------------------------------------- */

/* What the workers have finished. */
static uint32_t collect_offload(struct weir_loop *loop, uint32_t count)
{
    struct weir_op *next;
    for (struct weir_op *op = weir_offload_take(loop->offload); op; op = next) {
        next = op->held.link.next;
        loop->events[count++] = (struct weir_event){.op = op, .result = op->result};
    }
    return count;
}

/* Decides for each event whether its op is DONE or goes on (short transfers, EAGAIN, EINTR). The
 * number of those that stand, moved together. */
static uint32_t settle(struct weir_loop *loop, uint32_t count)
{
    uint32_t stand = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct weir_event event = loop->events[i];
        struct weir_op *op = event.op;
        if (op->state != WEIR_DONE) {
            enum weir_settled settled = weir_loop_settle(loop, op, &event);
            if (settled == WEIR_GOES_ON) {
                weir_loop_stage(loop, op);
            }
            if (settled == WEIR_ENDS) {
                weir_op_finish_odd(op, event.result);
                WEIR_PROBE_DONE(op, event.result);
            } else if (event.more == WEIR_LAST) {
                continue;
            }
        }
        loop->events[i].more = WEIR_LAST;
        loop->events[stand++] = event;
    }
    return stand;
}

/* What was done by being staged. */
static uint32_t collect_finished(struct weir_loop *loop, uint32_t count)
{
    for (uint32_t i = 0; i < loop->finished; i++) {
        loop->events[count++].op = loop->events[loop->reap_max + i].op;
    }
    loop->finished = 0;
    return count;
}

static uint32_t collect_early(struct weir_loop *loop, uint32_t count)
{
    while (loop->early.head && count < loop->events_max - WEIR_TIMERS_A_TURN) {
        struct weir_op *op = weir_queue_pop(&loop->early);
        loop->events[count++] = (struct weir_event){.op = op, .result = op->result};
    }
    return count;
}

static uint32_t collect_timers(struct weir_loop *loop, uint32_t count)
{
    if (loop->heap.count == 0) {
        return count;
    }
    uint64_t now_ns = weir_loop_exact(loop);
    for (int i = 0; i < WEIR_TIMERS_A_TURN && weir_heap_next(&loop->heap) <= now_ns; i++) {
        struct weir_op *op = loop->heap.entries[1].op;
        struct weir_event *event = &loop->events[count];
        weir_heap_remove(&loop->heap, op);
        event->op = op;
        count += weir_loop_expire(loop, op, now_ns, &event->result);
    }
    return count;
}

/* --- the turn --------------------------------------------------------------------------------- */

#ifdef NDEBUG
static void audit(const struct weir_loop *loop)
{
    (void)loop;
}
#else
/* Counts must equal the lists they count. */
static uint32_t audit_waiting(const struct weir_gate *gate)
{
    uint32_t waiting = 0;
    for (const struct weir_flow *flow = gate->lines[WEIR_LINE_WAITING].head; flow;
         flow = flow->links[WEIR_LINE_WAITING].next) {
        const struct weir_op *op = flow->lines[WEIR_LINE_WAITING].head;
        WEIR_CHECK(op);
        for (; op; op = op->held.link.next) {
            WEIR_CHECK(op->state == WEIR_AT_GATE);
            waiting++;
        }
    }
    return waiting;
}

static void audit_gate(const struct weir_loop *loop, const struct weir_gate *gate)
{
    uint32_t waiting = audit_waiting(gate);
    uint32_t extra = 0;
    uint32_t live = 0;
    uint32_t credits = 0;
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        const struct weir_op *op = weir_slots_op(&loop->slots, i);
        if (op && weir_op_is_offloaded(op) == (gate == &loop->offload_gate)) {
            live++;
            credits += weir_op_has_credit(op);
            extra += weir_op_has_credit(op) && op->governed & WEIR_GOVERNED ? op->credits - 1 : 0;
            waiting += op->state == WEIR_DONE && op->with == WEIR_CARRIER_NOBODY;
            WEIR_CHECK(op->slot == &loop->slots.slots[i]);
        }
    }
    WEIR_CHECK(live == gate->live && live == waiting + credits && live <= gate->places);
    WEIR_CHECK(extra == gate->extra && credits + extra == weir_gate_in_flight(gate));
    WEIR_CHECK(credits + extra <= gate->depth_max && gate->depth <= gate->depth_max);
}

static void audit(const struct weir_loop *loop)
{
    audit_gate(loop, &loop->gate);
    audit_gate(loop, &loop->offload_gate);
    WEIR_CHECK(loop->plain_most == weir_loop_plain_most(loop));
    for (uint32_t i = 0; i < loop->spin.parked_count; i++) {
        uint32_t stand = weir_op_stand(loop->spin.parked[i]);
        WEIR_CHECK(stand == weir_op_stand_as(WEIR_IN_FLIGHT, WEIR_CARRIER_LEAVING));
    }
}
#endif

void weir_loop_refuse(struct weir_loop *loop, int error)
{
    __atomic_store_n(&loop->refuse, error, __ATOMIC_RELAXED);
    loop->loud = true;
    weir_loop_set_plain(loop);
    /* Release: who sees the bit sees why (weir_loop_post_at()). From here on no post is counted. */
    __atomic_fetch_or(&loop->posts, WEIR_POSTS_REFUSED, __ATOMIC_RELEASE);
}

void weir_loop_fail(struct weir_loop *loop, int error)
{
    loop->failed = error;
    weir_loop_refuse(loop, error);
}

/* All that came back. */
static inline __attribute__((always_inline)) uint32_t come_back(struct weir_loop *loop, int carried,
                                                                bool quiet)
{
    uint32_t count = (uint32_t)carried;
    bool unsettled = loop->backend->unsettled;
    if (loop->finished > 0) {
        count = collect_finished(loop, count);
    }
    if (__atomic_load_n(&loop->woken, __ATOMIC_RELAXED)) {
        /* This turn is the one that did not wait. Acquire: what the waker wrote is seen by the
         * callbacks. */
        __atomic_exchange_n(&loop->woken, 0, __ATOMIC_ACQUIRE);
    }
    if (loop->offload && weir_offload_has_finished(loop->offload)) {
        count = collect_offload(loop, count);
        unsettled = true;
    }
    if (weir_unlikely(unsettled)) {
        count = settle(loop, count); /* which may finish others early */
    }
    if (weir_unlikely(unsettled || !quiet)) {
        count = collect_early(loop, count);
        count = collect_timers(loop, count);
    }
    return count;
}

/* The backend had nothing to give, or is gone. */
static int leave_early(struct weir_loop *loop, int error)
{
    weir_loop_put_off_finished(loop);
    if (error != -EDEADLK) {
        weir_loop_fail(loop, error);
    }
    weir_loop_end_plain(loop);
    loop->in_turn = false;
    weir_loop_show_end(loop);
    WEIR_PROBE_TURN(loop, error);
    return error;
}

/* Whether anybody looks at the loop, or left something for it, while the callbacks ran. */
static inline bool has_more_to_do(const struct weir_loop *loop)
{
    return ((uint32_t)loop->backend->dead | loop->onlookers | weir_loop_count_posts(loop) |
            (uint32_t)(loop->epoll_fd + 1)) != 0;
}

/* 0, or the errno of a backend that is gone. */
static __attribute__((noinline)) int do_more(struct weir_loop *loop)
{
    if (loop->backend->dead != 0) {
        return loop->backend->dead; /* nobody else is called either */
    }
    weir_loop_take_posts(loop); /* they stand before those who wait for room */
    if (loop->onlookers > 0) {
        weir_loop_announce_room(loop);
        weir_loop_tell_marks(loop);
        if (loop->backend->dead != 0) {
            return loop->backend->dead;
        }
        weir_steer_judge(&loop->gate, loop->stamp_ns);
        weir_steer_judge(&loop->offload_gate, loop->stamp_ns);
    }
    if (loop->epoll_fd >= 0 && loop->failed == 0) {
        weir_loop_arm_foreign(loop);
    }
    return 0;
}

/* Compiled once for each `quiet`, so that most turns ask nothing in vain. */
static inline __attribute__((always_inline)) int turn(struct weir_loop *loop, uint64_t until_ns,
                                                      bool quiet)
{
    int carried = 0;
    bool still = false; /* quiet, after what was staged */
    loop->in_turn = true;
    loop->counters.turns++;
    loop->tries_left = WEIR_INLINE_MAX;
    if (!quiet) {
        weir_loop_show_turn(loop);
        weir_loop_take_posts(loop);
    }
    if (quiet || loop->failed == 0) {
        still = weir_loop_admit(loop, quiet);
        if (!quiet) {
            weir_loop_show_left(loop);
        }
        carried =
            still ? weir_loop_carry_quiet(loop, until_ns) : weir_loop_carry_loud(loop, until_ns);
        if (weir_unlikely(carried < 0)) {
            return leave_early(loop, carried);
        }
        weir_loop_set_stamp(loop, loop->backend->stamp_ns);
    } else {
        weir_loop_stamp(loop);
    }
    if (!quiet) {
        weir_loop_show_awake(loop);
    }
    loop->done_ns = loop->stamp_ns;
    weir_loop_let_plain(loop);
    uint32_t count = weir_loop_hand_back(loop, come_back(loop, carried, still));
    if (weir_unlikely(has_more_to_do(loop))) {
        int r = do_more(loop);
        if (r < 0) {
            return leave_early(loop, r);
        }
    }
    audit(loop);
    weir_loop_end_plain(loop);
    loop->in_turn = false;
    if (weir_unlikely(loop->closing)) {
        weir_loop_step_closing(loop);
    }
    if (!quiet) {
        weir_loop_show_end(loop);
    }
    WEIR_PROBE_TURN(loop, count);
    return (int)count;
}

static __attribute__((noinline)) int turn_loud(struct weir_loop *loop, uint64_t until_ns)
{
    return turn(loop, until_ns, false);
}

int weir_loop_turn_once(struct weir_loop *loop, uint64_t until_ns)
{
    return weir_likely(weir_loop_is_quiet(loop)) ? turn(loop, until_ns, true)
                                                 : turn_loud(loop, until_ns);
}

int weir_loop_turn(struct weir_loop *loop, int64_t wait_ns)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->in_turn) {
        return -EBUSY;
    }
    if (loop->failed) {
        return loop->failed;
    }
    uint64_t until_ns = WEIR_NO_SLEEP;
    if (wait_ns < 0) {
        until_ns = WEIR_SLEEP_FOREVER;
    } else if (wait_ns > 0) {
        until_ns = weir_loop_exact(loop) + (uint64_t)wait_ns;
    }
    return weir_loop_turn_once(loop, until_ns);
}

static bool keeps_running(const struct weir_loop *loop)
{
    return weir_loop_count_live(loop) > 0 || loop->holds > 0 || weir_loop_has_rooms(loop) ||
           loop->closed;
}

int weir_loop_run(struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->in_turn) {
        return -EBUSY;
    }
    if (loop->failed) {
        return loop->failed;
    }
    while (r >= 0 && keeps_running(loop)) {
        /* A stop from before has woken a turn that is over: it must not be slept through. */
        bool stopped = __atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE);
        r = weir_loop_turn_once(loop, stopped ? WEIR_NO_SLEEP : WEIR_SLEEP_FOREVER);
        if (stopped || __atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE)) {
            break;
        }
    }
    __atomic_store_n(&loop->stop, 0, __ATOMIC_RELAXED);
    return r < 0 ? r : 0;
}

int weir_loop_wake(struct weir_loop *loop)
{
    if (!loop) {
        return -EINVAL;
    }
    if (weir_guard_forked(loop->guard)) {
        return -ECHILD;
    }
    int r = weir_loop_check_thread(loop);
    if (r < 0) {
        return r;
    }
    /* Seq_cst, and before the bell: pairs with carry(). Also a release for the acquire there. */
    __atomic_store_n(&loop->woken, 1, __ATOMIC_SEQ_CST);
    if (weir_bell_ring(&loop->bell)) {
        loop->backend->table->wake(loop->backend);
    }
    return 0;
}

int weir_loop_stop(struct weir_loop *loop)
{
    if (loop && !weir_guard_forked(loop->guard) && weir_loop_check_thread(loop) == 0) {
        __atomic_store_n(&loop->stop, 1, __ATOMIC_RELEASE);
    }
    return weir_loop_wake(loop);
}

int weir_loop_hold(struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    if (r == 0) {
        loop->holds++;
    }
    return r;
}

int weir_loop_release(struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->holds == 0) {
        return -EINVAL;
    }
    loop->holds--;
    return 0;
}
