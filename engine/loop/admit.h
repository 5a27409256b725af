/* SPDX-License-Identifier: MIT */
/*
 * admit.h: how a turn begins. It is a part of the turn and not a function beside it: a try on the
 * spot is made beneath it, and where the kernel leaves the processor's stack of return addresses
 * in disorder (Safe RET, against AMD's SRSO), each return on the way out of a system call is a
 * misprediction, some 8 ns.
 */
#ifndef WEIR_ENGINE_ADMIT_H
#define WEIR_ENGINE_ADMIT_H

#include <engine/loop/loop.h>

/* Whether anybody may have come nearer to his turn. */
static inline bool weir_loop_may_let_through(const struct weir_loop *loop)
{
    return loop->onlookers > 0 || loop->closers.head || weir_gate_has_waiting(&loop->gate) ||
           weir_gate_has_waiting(&loop->offload_gate);
}

/* What has passed the gate leaves now; then who waits there, while there is room and budget. quiet:
 * weir_loop_is_quiet(), so none waits. Whether it still is. */
static inline bool weir_loop_admit(struct weir_loop *loop, bool quiet)
{
    const uint64_t stamp_ns = loop->stamp_ns;
    loop->sends =
        loop->leaving_end != loop->leaving || (!quiet && weir_gate_has_waiting(&loop->gate));
    for (struct weir_op **op = loop->leaving, **end = loop->leaving_stamped; op != end; op++) {
        (*op)->left_ns = stamp_ns;
    }
    if (loop->leaves_late) {
        weir_loop_stage_leaving(loop);
        quiet = quiet && weir_loop_is_quiet(loop); /* one that failed, say, is early */
    }
    if (weir_unlikely(!quiet) && weir_loop_may_let_through(loop)) {
        weir_loop_admit_who_waits(loop);
    }
    loop->leaving_stamped = loop->leaving;
    loop->leaving_end = loop->leaving;
    loop->leaving_limit =
        loop->leaving + (quiet || !weir_gate_has_waiting(&loop->gate) ? loop->leaving_most : 0);
    loop->bytes_left = loop->admit_bytes_max;
    return quiet;
}

#endif
