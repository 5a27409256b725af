/* SPDX-License-Identifier: MIT */
/* perf/gate_peer.h: the other end of an echo: a process that sends back every message. */
#ifndef PERF_GATE_PEER_H
#define PERF_GATE_PEER_H

#include <stdint.h>

#include "process.h"

/*
 * Starts one that computes work_ns on every message, so that it, and not the kernel, bounds the
 * rate. *ret_fd is this end. 0; -1 after a message.
 */
int gate_peer_start(uint64_t work_ns, struct process *ret_peer, int *ret_fd);
/* Closes `fd` and waits for the peer's end. */
void gate_peer_end(struct process *peer, int fd);

#endif
