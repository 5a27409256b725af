/* SPDX-License-Identifier: MIT */
/*
 * gate.c: admission. Every op passes the FIFO, even when there is room: one place admits.
 *
 * Invariant: in_flight <= depth.
 */
#include <engine/loop/loop.h>

/* Whether the next op's bytes are too many for this turn; the first passes whatever its size. */
static bool over_bytes(const struct weir_loop *loop, const struct weir_op *op, uint64_t *bytes)
{
    bool first = *bytes == 0;
    uint64_t left = loop->admit_bytes_max - *bytes;
    uint64_t wanted = weir_op_bytes(op);
    *bytes = wanted < left ? *bytes + wanted : loop->admit_bytes_max;
    return wanted > left && !first;
}

void weir_loop_admit(struct weir_loop *loop)
{
    if (weir_unlikely(loop->closers.head != NULL)) {
        weir_loop_step_closers(loop);
    }
    uint32_t credits = loop->depth - loop->in_flight;
    uint32_t places = credits < loop->admit_ops_max ? credits : loop->admit_ops_max;
    uint64_t bytes = 0;
    for (; places > 0 && loop->waiting.head; places--) {
        struct weir_op *op = loop->waiting.head;
        bool moves_bytes = weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE;
        if (moves_bytes && over_bytes(loop, op, &bytes)) {
            break;
        }
        weir_queue_pop(&loop->waiting);
        loop->in_flight++;
        op->left_ns = loop->stamp_ns;
        WEIR_CHECK(weir_op_move_plain(op, WEIR_AT_GATE, WEIR_IN_FLIGHT));
        if (weir_unlikely(op->kind == WEIR_KIND_CLOSE) && weir_loop_close_waits(loop, op)) {
            continue;
        }
        weir_loop_stage(loop, op);
    }
}
