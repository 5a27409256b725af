/* SPDX-License-Identifier: MIT */
/*
 * probes.h: places of the engine that perf, bpftrace and SystemTap may stop at (USDT), provider
 * `weir`. Each is a nop, and a note that says where its arguments stand: in a register, or in the
 * op, where they are read only if somebody asks. A build without sys/sdt.h has none, and does not
 * evaluate their arguments: they must have no side effects.
 *
 *   submit     op, kind, fd           accepted; of a post: when it has a place, or is withdrawn
 *   refuse     op, kind, fd, error    the op is the caller's
 *   leave      op, kind, fd           let through by its gate
 *   done       op, kind, fd, result   it is back
 *   hand_back  op, kind, fd, result   the last thing before its last callback
 *   turn       loop, count            a turn has ended; ops it handed back, or its error
 *   stall      loop's name, ns        a watchdog reports that it has stood still so long
 *
 * op and loop are addresses, the name a string, error and result a negative errno or the result.
 */
#ifndef WEIR_ENGINE_PROBES_H
#define WEIR_ENGINE_PROBES_H

#ifdef WEIR_USDT

#include <stdint.h>
#include <sys/sdt.h>

/* A compiler takes each line of an asm for an instruction, and would not inline what has a probe
 * any more: that cost 6 instructions an op. "inline" (GCC 9, clang 11) says that it is as
 * small as can be. All macros of sys/sdt.h end in this one; if another version's do not, they work
 * as they are. */
#if defined(_SDT_PROBE) && defined(_SDT_ASM_BODY) && defined(_SDT_ASM_BASE)
#undef _SDT_PROBE
#define _SDT_PROBE(provider, name, n, arglist)                                                     \
    do {                                                                                           \
        __asm__ volatile inline(                                                                   \
            _SDT_ASM_BODY(provider, name, _SDT_ASM_ARGS, (n))::_SDT_ASM_OPERANDS_##n arglist);     \
        __asm__ volatile inline(_SDT_ASM_BASE);                                                    \
    } while (0)
#endif

#define WEIR_PROBE_SUBMIT(op) DTRACE_PROBE3(weir, submit, op, (op)->kind, (op)->fd)
#define WEIR_PROBE_REFUSE(op, error)                                                               \
    DTRACE_PROBE4(weir, refuse, op, (op)->kind, (op)->fd, (int)(error))
#define WEIR_PROBE_LEAVE(op) DTRACE_PROBE3(weir, leave, op, (op)->kind, (op)->fd)
#define WEIR_PROBE_DONE(op, result)                                                                \
    DTRACE_PROBE4(weir, done, op, (op)->kind, (op)->fd, (int64_t)(result))
#define WEIR_PROBE_HAND_BACK(op, result)                                                           \
    DTRACE_PROBE4(weir, hand_back, op, (op)->kind, (op)->fd, (int64_t)(result))
#define WEIR_PROBE_TURN(loop, count) DTRACE_PROBE2(weir, turn, loop, (int)(count))
#define WEIR_PROBE_STALL(name, ns) DTRACE_PROBE2(weir, stall, name, (uint64_t)(ns))

#else

/* sizeof: used, as the compiler sees it, and not evaluated. */
#define WEIR_PROBE_SUBMIT(op) ((void)sizeof(op))
#define WEIR_PROBE_REFUSE(op, error) ((void)sizeof(op), (void)sizeof(error))
#define WEIR_PROBE_LEAVE(op) ((void)sizeof(op))
#define WEIR_PROBE_DONE(op, result) ((void)sizeof(op), (void)sizeof(result))
#define WEIR_PROBE_HAND_BACK(op, result) ((void)sizeof(op), (void)sizeof(result))
#define WEIR_PROBE_TURN(loop, count) ((void)sizeof(loop), (void)sizeof(count))
#define WEIR_PROBE_STALL(name, ns) ((void)sizeof(name), (void)sizeof(ns))

#endif

#endif
