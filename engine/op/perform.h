/* SPDX-License-Identifier: MIT */
/*
 * perform.h: kinds done by a plain system call, each written once: the quick ones, which cannot
 * block and so need no carrier. Must not know who asks.
 */
#ifndef WEIR_ENGINE_PERFORM_H
#define WEIR_ENGINE_PERFORM_H

#include <engine/op/op.h>

/* Whether weir_op_perform() knows the kind. */
bool weir_op_performs(const struct weir_op *op);

/* Makes the system call: >= 0 or -errno. */
int64_t weir_op_perform(const struct weir_op *op);

#endif
