/* SPDX-License-Identifier: MIT */
/*
 * gate.c: admission. Every op passes the FIFO, even when there is room: one place admits.
 *
 * Invariant: in_flight <= depth.
 */
#include <engine/loop/loop.h>

void weir_loop_admit(struct weir_loop *loop)
{
    uint32_t ops = loop->admit_ops_max;
    uint64_t bytes = 0;

    if (loop->closers.head) {
        weir_loop_step_closers(loop);
    }
    while (loop->waiting.head && loop->in_flight < loop->depth && ops > 0) {
        struct weir_op *op = loop->waiting.head;
        if (weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE) {
            bytes += weir_op_bytes(op); /* kinds that move none are not even asked */
            if (bytes > loop->admit_bytes_max && ops < loop->admit_ops_max) {
                break; /* the next turn's; the first of a turn passes whatever its size */
            }
        }
        ops--;
        weir_queue_pop(&loop->waiting);
        loop->waiting_count--;
        loop->in_flight++;
        loop->slots.slots[op->slot].left_ns = loop->stamp_ns;
        WEIR_CHECK(weir_op_move_plain(op, WEIR_AT_GATE, WEIR_IN_FLIGHT));
        if (weir_unlikely(op->kind == WEIR_KIND_CLOSE) && weir_loop_close_waits(loop, op)) {
            continue;
        }
        weir_loop_stage(loop, op);
    }
}
