/* SPDX-License-Identifier: MIT */
/*
 * admit.c: how ops pass the gate: the budget of a turn, and who leaves with it. An op for which
 * there is room, and before which nobody waits, goes through at once (submit.c), and leaves with
 * the others when the turn begins.
 */
#include <engine/loop/loop.h>

void weir_loop_wait_at_gate(struct weir_loop *loop, struct weir_op *op, struct weir_task *task,
                            const char *site)
{
    struct weir_gate *gate = weir_loop_gate_of(loop, op);
    struct weir_flow *flow = weir_gate_flow(gate, task);
    if (weir_gate_would_wait(gate, flow, weir_gate_want(gate, op))) {
        loop->counters.waited++;
        weir_relaxed_add(&task->counters.waited, 1);
    }
    bool governed = flow->governed || op->burst > 1;
    op->governed = (uint8_t)(loop->governs | (governed ? WEIR_GOVERNED : 0));
    weir_op_move(op, WEIR_AT_GATE);
    weir_slots_take(&loop->slots, op, task, site);
    weir_gate_enter(gate, flow, op);
    if (gate == &loop->gate) {
        loop->leaving_limit = loop->leaving; /* who comes now stands behind it */
    }
    if (op->governed) {
        weir_loop_set_plain(loop);
    }
}

void weir_loop_enter_gate(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    if (op->kind == WEIR_KIND_CLOSE) {
        /* Now, and not when it is admitted: what it cancels may hold the credit it waits for. */
        weir_loop_ask_fd(loop, op->fd, op, NULL);
    }
    loop->slots.two_fds |= !!(weir_kind_traits(op->kind) & WEIR_KIND_HAS_FD2);
    weir_loop_wait_at_gate(loop, op, weir_loop_task_of(loop, op), site);
}

static bool fits_bytes(struct weir_loop *loop, const struct weir_op *op)
{
    return !(weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE) ||
           weir_loop_fits_bytes(loop, weir_op_bytes(op));
}

/* Lets the first of a flow through. */
static struct weir_op *let_through(struct weir_loop *loop, struct weir_gate *gate,
                                   struct weir_flow *flow)
{
    struct weir_op *op = weir_gate_admit(gate, flow);
    op->left_ns = loop->stamp_ns;
    weir_op_move(op, WEIR_IN_FLIGHT);
    WEIR_PROBE_LEAVE(op);
    if (op->governed) {
        weir_loop_set_plain(loop); /* it may have other credits than it wanted when it came */
    }
    if (weir_unlikely(loop->tell.any)) {
        weir_tell_left(&loop->tell, op, op->slot->task, loop->stamp_ns);
    }
    return op;
}

/* *now_ns: 0, or what the clock said to who asked first in this turn. */
static bool is_late(const struct weir_loop *loop, const struct weir_op *op, uint64_t *now_ns)
{
    if (weir_likely(op->deadline_ns == 0)) {
        return false;
    }
    *now_ns = *now_ns != 0 ? *now_ns : weir_loop_exact(loop);
    return op->deadline_ns <= *now_ns;
}

/* The next who leaves; who has become late meanwhile is sent back. */
static struct weir_flow *next_in_time(struct weir_loop *loop, struct weir_gate *gate,
                                      uint64_t *now_ns)
{
    struct weir_flow *flow;
    while ((flow = weir_gate_next(gate)) != NULL) {
        struct weir_op *op = flow->lines[WEIR_LINE_WAITING].head;
        if (!is_late(loop, op, now_ns)) {
            break;
        }
        weir_loop_ask(loop, op, WEIR_ASKED_DEADLINE);
    }
    return flow;
}

/* What is reserved passes the budget too. */
static void admit_main(struct weir_loop *loop)
{
    struct weir_gate *gate = &loop->gate;
    uint32_t budget = loop->admit_ops_max - (uint32_t)(loop->leaving_end - loop->leaving);
    struct weir_flow *flow;
    uint64_t now_ns = 0;
    while ((flow = next_in_time(loop, gate, &now_ns)) != NULL) {
        if (!weir_gate_is_reserved(gate, flow)) {
            if (budget == 0 || !fits_bytes(loop, flow->lines[WEIR_LINE_WAITING].head)) {
                break;
            }
            budget--;
        }
        struct weir_op *op = let_through(loop, gate, flow);
        if (weir_likely(op->kind != WEIR_KIND_CLOSE) || !weir_loop_close_waits(loop, op)) {
            weir_loop_stage(loop, op);
        }
    }
}

/* Queueing is all that a turn does of these, so there is no budget. */
static void admit_offload(struct weir_loop *loop)
{
    struct weir_gate *gate = &loop->offload_gate;
    struct weir_flow *flow;
    uint64_t now_ns = 0;
    while ((flow = next_in_time(loop, gate, &now_ns)) != NULL) {
        weir_loop_stage(loop, let_through(loop, gate, flow));
    }
}

void weir_loop_admit_who_waits(struct weir_loop *loop)
{
    weir_loop_step_closers(loop);
    admit_main(loop);
    admit_offload(loop);
    weir_steer_look(&loop->gate, loop->stamp_ns);
    weir_steer_look(&loop->offload_gate, loop->stamp_ns);
}
