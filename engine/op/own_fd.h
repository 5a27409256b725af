/* SPDX-License-Identifier: MIT */
/*
 * own_fd.h: the kinds that wait on an fd of the engine's own: for a signal, by signalfd(2), and for
 * a child's end, by pidfd_open(2). Made by weir_op_make_own_fd().
 */
#ifndef WEIR_ENGINE_OWN_FD_H
#define WEIR_ENGINE_OWN_FD_H

#include <engine/op/perform.h>

/* Takes what op->fd has become readable for. >= 0 or -errno. */
int64_t weir_op_take_own(const struct weir_op *op, enum weir_how how);

#endif
