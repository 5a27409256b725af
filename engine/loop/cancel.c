/* SPDX-License-Identifier: MIT */
/*
 * cancel.c: the one way out: by op, fd, task, deadline and close. Also what follows from it: CLOSE
 * ops that wait for the others on their fd, and fds that are forgotten.
 *
 * Invariants: whoever asks first decides the result; at most one cancel per op reaches the backend;
 * a cancel never lacks room.
 */
#include <engine/loop/loop.h>

/* From the workers, real or simulated. False: one has begun. */
static bool withdraw_call(struct weir_loop *loop, struct weir_op *op)
{
    const struct weir_backend_table *table = loop->backend->table;
    return table->carries_calls ? table->cancel(loop->backend, op) == WEIR_CANCEL_WITHDRAWN
                                : weir_offload_withdraw(loop->offload, op);
}

/* In flight, on its way out. -EALREADY: it is with a worker that has begun. */
static int ask_carrier(struct weir_loop *loop, struct weir_op *op)
{
    bool is_ours = true; /* again */
    switch (op->with) {
    case WEIR_CARRIER_LEAVING: /* stays where it is, see stage_leaving(); or was parked */
        weir_loop_unpark(loop, op);
        break;
    case WEIR_CARRIER_TIMER:
        weir_heap_remove(&loop->heap, op);
        break;
    case WEIR_CARRIER_CLOSER:
        weir_queue_remove(&loop->closers, op);
        break;
    case WEIR_CARRIER_OFFLOAD:
        if (!withdraw_call(loop, op)) {
            /* Relaxed: a hint, weir_op_asked(); a worker that has not begun I/O answers it. */
            __atomic_store_n(&op->asked_back, op->asked, __ATOMIC_RELAXED);
            return -EALREADY;
        }
        break;
    case WEIR_CARRIER_CALLER: /* asked for by its own function */
        return -EALREADY;
    default:
        is_ours = loop->backend->table->cancel(loop->backend, op) == WEIR_CANCEL_WITHDRAWN;
        break;
    }
    if (is_ours) {
        weir_loop_finish_early(loop, op, weir_op_asked_result(op));
    }
    return 0;
}

int weir_loop_ask(struct weir_loop *loop, struct weir_op *op, enum weir_asked asked)
{
    if (op->state == WEIR_DONE) {
        return op->asked ? 0 : -EALREADY;
    }
    /* Once the backend has failed, what was asked back before may be withdrawn after all. */
    bool failed = loop->failed && weir_op_is_with_backend(op);
    if (op->asked && !failed) {
        return op->with == WEIR_CARRIER_OFFLOAD ? -EALREADY : 0;
    }
    if (!op->asked) {
        op->asked = (uint8_t)asked;
    }
    if (asked == WEIR_ASKED_DEADLINE && op->state != WEIR_IN_FLIGHT) {
        loop->counters.shed++;
        weir_relaxed_add(&weir_loop_task_of(loop, op)->counters.shed, 1);
    }
    if (op->state == WEIR_POSTED) {
        weir_loop_withdraw_post(loop, op);
    } else if (op->state == WEIR_AT_GATE) {
        struct weir_gate *gate = weir_loop_gate_of(loop, op);
        struct weir_flow *flow = weir_gate_flow(gate, op->slot->task);
        weir_gate_step_out(gate, flow, WEIR_LINE_WAITING, op);
        weir_loop_finish_early(loop, op, weir_op_asked_result(op));
    } else {
        return ask_carrier(loop, op);
    }
    return 0;
}

int weir_cancel(struct weir_loop *loop, struct weir_op *op)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!op) {
        return -EINVAL;
    }
    if (op->state == WEIR_WITH_CALLER || op->loop != loop) {
        return -ENOENT;
    }
    if (op->state == WEIR_POSTED) {
        weir_loop_empty_inbox(loop); /* it may still be there */
    }
    return weir_loop_ask(loop, op, WEIR_ASKED_CANCEL);
}

static bool may_ask(const struct weir_op *op)
{
    return !op->asked && op->state != WEIR_DONE;
}

uint32_t weir_loop_ask_fd(struct weir_loop *loop, int fd, const struct weir_op *but, int *ret_asked)
{
    uint32_t live = 0;
    struct weir_posts posts = {.fd = fd, .but = but};
    int asked = fd < 0 ? 0 : weir_loop_ask_posts(loop, &posts, WEIR_ASKED_CANCEL);
    uint32_t first = fd < 0 ? loop->slots.count : 0; /* no op is on a negative fd */
    for (uint32_t i = weir_slots_on_fd(&loop->slots, first, fd); i < loop->slots.count;
         i = weir_slots_on_fd(&loop->slots, i + 1, fd)) {
        struct weir_op *op = loop->slots.slots[i].op;
        if (op == but) {
            continue;
        }
        live++;
        if (may_ask(op)) {
            asked++;
            weir_loop_ask(loop, op, WEIR_ASKED_CANCEL);
        }
    }
    if (ret_asked) {
        *ret_asked = asked;
    }
    return fd < 0 ? live : live + weir_loop_count_slotless(loop, fd);
}

int weir_cancel_fd(struct weir_loop *loop, int fd)
{
    int asked;
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (fd < 0) {
        return -EBADF;
    }
    weir_loop_ask_fd(loop, fd, NULL, &asked);
    return asked;
}

/* A hole is filled with the last entry, and what that displaces moves towards the root: walking
 * from the end, and looking again at a place that was filled, meets every entry. */
static int ask_timers(struct weir_loop *loop, const struct weir_task *task)
{
    int asked = 0;
    for (uint32_t i = loop->heap.count; i > 0;) {
        struct weir_op *op = loop->heap.entries[i].op;
        if (weir_op_is_timer(op) && weir_loop_task_of(loop, op) == task) {
            asked++;
            weir_loop_ask(loop, op, WEIR_ASKED_CANCEL);
            i = i < loop->heap.count ? i : loop->heap.count;
        } else {
            i--;
        }
    }
    return asked;
}

int weir_cancel_task(struct weir_loop *loop, struct weir_task *task)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!task || task->tasks != &loop->tasks || !task->open) {
        return -EINVAL;
    }
    int asked = 0;
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        struct weir_slot *slot = &loop->slots.slots[i];
        if (slot->task == task && !weir_slots_is_free(&loop->slots, slot) && may_ask(slot->op)) {
            asked++;
            weir_loop_ask(loop, slot->op, WEIR_ASKED_CANCEL);
        }
    }
    struct weir_posts posts = {.fd = -1, .task = task};
    return asked + ask_timers(loop, task) + weir_loop_ask_posts(loop, &posts, WEIR_ASKED_CANCEL);
}

int weir_forget(struct weir_loop *loop, int fd)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (fd < 0) {
        return -EBADF;
    }
    weir_loop_ask_fd(loop, fd, NULL, NULL);
    for (uint32_t i = weir_slots_on_fd(&loop->slots, 0, fd); i < loop->slots.count;
         i = weir_slots_on_fd(&loop->slots, i + 1, fd)) {
        const struct weir_op *op = loop->slots.slots[i].op;
        bool late = weir_kind_traits(op->kind) & WEIR_KIND_LATE_FD ||
                    op->retry != WEIR_RETRY_NONE || op->with == WEIR_CARRIER_OFFLOAD;
        if (op->state == WEIR_IN_FLIGHT && late) {
            return -EBUSY;
        }
    }
    loop->backend->table->forget(loop->backend, fd);
    return 0;
}

bool weir_loop_close_waits(struct weir_loop *loop, struct weir_op *op)
{
    if (weir_loop_ask_fd(loop, op->fd, op, NULL) == 0) {
        return false;
    }
    op->with = WEIR_CARRIER_CLOSER;
    weir_queue_push(&loop->closers, op);
    return true;
}

void weir_loop_step_closers(struct weir_loop *loop)
{
    struct weir_op *next;
    for (struct weir_op *op = loop->closers.head; op; op = next) {
        next = op->held.link.next;
        if (weir_loop_ask_fd(loop, op->fd, op, NULL) == 0) {
            weir_queue_remove(&loop->closers, op);
            weir_loop_stage(loop, op);
        }
    }
}

void weir_loop_arm(struct weir_loop *loop, struct weir_op *op, uint64_t at_ns)
{
    if (op->deadline_ns != 0 && op->deadline_ns < at_ns) {
        at_ns = op->deadline_ns;
    }
    weir_heap_insert(&loop->heap, op, at_ns);
}

bool weir_loop_expire(struct weir_loop *loop, struct weir_op *op, uint64_t now_ns,
                      int64_t *ret_result)
{
    if (weir_op_is_timer(op)) {
        *ret_result = 0;
        weir_op_move(op, WEIR_DONE);
        WEIR_PROBE_DONE(op, *ret_result);
        return true;
    }
    if (op->state != WEIR_IN_FLIGHT || op->with != WEIR_CARRIER_TIMER) {
        weir_loop_ask(loop, op, WEIR_ASKED_DEADLINE);
        return false;
    }
    if (op->deadline_ns != 0 && op->deadline_ns <= now_ns) {
        op->asked = WEIR_ASKED_DEADLINE;
        *ret_result = weir_op_asked_result(op);
        weir_op_move(op, WEIR_DONE);
        WEIR_PROBE_DONE(op, *ret_result);
        return true;
    }
    op->retry = WEIR_RETRY_NONE;
    if (op->deadline_ns != 0) {
        weir_loop_arm(loop, op, op->deadline_ns);
    }
    weir_loop_stage(loop, op);
    return false;
}
