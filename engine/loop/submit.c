/* SPDX-License-Identifier: MIT */
/*
 * submit.c: the one door in. All checks come before the op is touched, so a refused op is as it
 * was.
 */
#include <engine/loop/loop.h>

#define LENGTH32_MAX UINT32_MAX

/* 0, or -EINVAL for what the header says an op may not be. */
static int judge(const struct weir_loop *loop, const struct weir_op *op)
{
    if (op->kind == WEIR_KIND_NONE || op->kind >= WEIR_KIND_COUNT || !op->callback ||
        op->route != WEIR_ROUTE_AUTO) {
        return -EINVAL;
    }
    if (weir_unlikely(op->flags != 0)) {
        bool whole = weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE;
        if (op->flags & ~(uint32_t)WEIR_WHOLE || !whole) {
            return -EINVAL;
        }
    }
    if (weir_unlikely(op->task && (op->task->tasks != &loop->tasks || !op->task->open))) {
        return -EINVAL;
    }
    if (weir_unlikely(weir_kind_traits(op->kind) & WEIR_KIND_LENGTH32 &&
                      op->arg.io.length > LENGTH32_MAX)) {
        return -EINVAL;
    }
    return weir_op_is_timer(op) && op->deadline_ns != 0 ? -EINVAL : 0;
}

/* Kinds that take no more than a slot and a place in the FIFO: all but those that submit_checked()
 * names. */
#define KIND(name) (1ULL << WEIR_KIND_##name)
#define PLAIN_KINDS                                                                                \
    (((1ULL << WEIR_KIND_COUNT) - 1) &                                                             \
     ~(KIND(NONE) | KIND(TIMEOUT) | KIND(CLOSE) | KIND(SYNC_FILE_RANGE) | KIND(FADVISE) |          \
       KIND(RENAMEAT) | KIND(LINKAT) | KIND(SPLICE)))

_Static_assert(WEIR_KIND_COUNT < 64, "a bit per kind");

static int refuse_full(struct weir_loop *loop, struct weir_task *task)
{
    loop->counters.refused++;
    weir_relaxed_add(&task->counters.refused, 1);
    return -EAGAIN;
}

static inline void take(struct weir_loop *loop, struct weir_op *op, struct weir_task *task)
{
    op->loop = loop;
    op->attempts = 0;
    weir_relaxed_add(&task->counters.submitted, 1);
}

static inline void take_slot(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                             const char *site)
{
    take(loop, op, task);
    struct weir_slot *slot = weir_slots_take(&loop->slots, op);
    slot->task = task;
    slot->site = site;
    op->born_ns = loop->stamp_ns;
    weir_queue_push(&loop->waiting, op);
}

static int submit_timer(struct weir_loop *loop, struct weir_op *op, struct weir_task *task)
{
    if (loop->timers >= loop->timers_max) {
        return refuse_full(loop, task);
    }
    take(loop, op, task);
    loop->timers++;
    weir_op_move(op, WEIR_IN_FLIGHT);
    op->with = WEIR_CARRIER_TIMER;
    weir_heap_insert(&loop->heap, op, op->arg.timeout.at_ns);
    return 0;
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
    r = judge(loop, op);
    if (r < 0) {
        return r;
    }
    struct weir_task *task = weir_loop_task_of(loop, op);
    if (weir_op_is_timer(op)) {
        return submit_timer(loop, op, task);
    }
    if (loop->slots.used == loop->slots.count) {
        return refuse_full(loop, task);
    }
    if (op->kind == WEIR_KIND_CLOSE) {
        /* Now, and not when it is admitted: what it cancels may hold the credit it waits for. */
        weir_loop_ask_fd(loop, op->fd, op, NULL);
    }
    if (!loop->stamp_fresh) {
        weir_loop_stamp(loop);
        loop->stamp_fresh = true;
        weir_loop_set_plain(loop);
    }
    loop->counters.waited += loop->slots.used >= loop->depth;
    loop->slots.two_fds += !!(weir_kind_traits(op->kind) & WEIR_KIND_HAS_FD2);
    op->moved = 0;
    weir_op_move(op, WEIR_AT_GATE);
    take_slot(loop, op, task, site);
    if (op->deadline_ns != 0) {
        weir_heap_insert(&loop->heap, op, op->deadline_ns);
    }
    return 0;
}

/* Whether submit_checked() would find nothing to refuse and nothing to do but take a slot. Nearly
 * all are, so they are not asked one by one. */
static inline bool is_plain(const struct weir_loop *loop, const struct weir_op *op)
{
    return weir_loop_check(loop) == 0 && loop->slots.used < loop->plain_max && op && op->callback &&
           (op->flags | op->route | weir_op_stand(op)) == 0 && op->deadline_ns == 0 &&
           op->kind < WEIR_KIND_COUNT && (PLAIN_KINDS >> op->kind & 1) &&
           (!op->task || (op->task->tasks == &loop->tasks && op->task->open));
}

int weir_submit_at(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    if (weir_unlikely(!is_plain(loop, op))) {
        return submit_checked(loop, op, site);
    }
    /* is_plain() has looked: the op is WITH_CALLER. */
    weir_op_set_stand(op, weir_op_plain_stand(WEIR_AT_GATE, WEIR_CARRIER_NOBODY));
    take_slot(loop, op, weir_loop_task_of(loop, op), site);
    return 0;
}
