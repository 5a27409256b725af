/* SPDX-License-Identifier: MIT */
/*
 * perform.h: each kind's system call, written once: for kinds that are quick, for tries on the
 * spot, and for workers. Every try is non-blocking by the call (RWF_NOWAIT, MSG_DONTWAIT,
 * SPLICE_F_NONBLOCK), never by changing the caller's fd. Must not know who asks.
 */
#ifndef WEIR_ENGINE_PERFORM_H
#define WEIR_ENGINE_PERFORM_H

#include <engine/op/op.h>

enum weir_how {
    /* -EAGAIN instead of blocking; -EOPNOTSUPP where the file cannot be tried. With WEIR_IN_MEMORY
     * the same as to block. */
    WEIR_HOW_TRY,
    WEIR_HOW_BLOCK, /* for workers */
};

/* Whether the kind is quick: its system call cannot block, so it needs no carrier. */
bool weir_op_is_quick(const struct weir_op *op);

/*
 * Makes the system call for the part of the op that is still to do (weir_op_part()), a CALL's
 * function included: >= 0 or -errno; -EOPNOTSUPP for kinds that have none. write_flags:
 * RWF_NOSIGNAL where the kernel has it; else the thread must have SIGPIPE blocked. With
 * WEIR_HOW_TRY it never blocks: -EOPNOTSUPP for kinds that cannot be tried (files' metadata).
 */
int64_t weir_op_perform(const struct weir_op *op, enum weir_how how, uint32_t write_flags);

/* Makes the fd of an op whose kind has one of its own. The fd or -errno. */
int weir_op_make_own_fd(const struct weir_op *op);

#endif
