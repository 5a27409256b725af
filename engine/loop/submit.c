/* SPDX-License-Identifier: MIT */
/*
 * submit.c: the one door in. All checks come before the op is touched, so a refused op is as it was.
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

static int refuse_full(struct weir_loop *loop, struct weir_task *task)
{
    loop->counters.refused++;
    weir_relaxed_add(&task->counters.refused, 1);
    return -EAGAIN;
}

static void take(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                   const char *site)
{
    if (!loop->stamp_fresh) {
        weir_loop_stamp(loop);
        loop->stamp_fresh = true;
    }
    op->born_ns = loop->stamp_ns;
    op->loop = loop;
    op->site = site;
    op->moved = 0;
    loop->live++;
    loop->counters.submitted++;
    weir_relaxed_add(&task->counters.submitted, 1);
    weir_relaxed_store(&task->live, task->live + 1);
}

static int submit_timer(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                        const char *site)
{
    if (loop->timers >= loop->timers_max) {
        return refuse_full(loop, task);
    }
    take(loop, op, task, site);
    loop->timers++;
    weir_op_move(op, WEIR_IN_FLIGHT);
    op->with = WEIR_CARRIER_TIMER;
    weir_heap_insert(&loop->heap, op, op->arg.timeout.at_ns);
    return 0;
}

int weir_submit_at(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    int r = weir_loop_check(loop);
    if (weir_unlikely(r < 0)) {
        return r;
    }
    if (weir_unlikely(loop->refuse != 0)) {
        return loop->refuse;
    }
    if (weir_unlikely(!op)) {
        return -EINVAL;
    }
    if (weir_unlikely(op->state != WEIR_WITH_CALLER)) {
        return -EBUSY;
    }
    r = judge(loop, op);
    if (weir_unlikely(r < 0)) {
        return r;
    }
    struct weir_task *task = weir_loop_task_of(loop, op);
    if (weir_op_is_timer(op)) {
        return submit_timer(loop, op, task, site);
    }
    if (weir_unlikely(loop->slots.used == loop->slots.count)) {
        return refuse_full(loop, task);
    }
    take(loop, op, task, site);
    if (op->kind == WEIR_KIND_CLOSE) {
        /* Now, and not when it is admitted: what it cancels may hold the credit it waits for. */
        weir_loop_ask_fd(loop, op->fd, op, NULL);
    }
    weir_slots_take(&loop->slots, op, task);
    if (op->deadline_ns != 0) {
        weir_heap_insert(&loop->heap, op, op->deadline_ns);
    }
    loop->counters.waited += loop->in_flight + loop->waiting_count >= loop->depth;
    weir_op_move(op, WEIR_AT_GATE);
    weir_queue_push(&loop->waiting, op);
    loop->waiting_count++;
    return 0;
}
