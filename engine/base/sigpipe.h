/* SPDX-License-Identifier: MIT */
/*
 * sigpipe.h: how writes are kept from raising SIGPIPE: each by a flag where the kernel has it, else
 * by blocking the signal in the thread that writes. Must not know who writes.
 */
#ifndef WEIR_ENGINE_SIGPIPE_H
#define WEIR_ENGINE_SIGPIPE_H

#include <stdbool.h>
#include <stdint.h>

/* Finds out by trial: RWF_NOSIGNAL, or 0 where the kernel does not have it. 0 or -errno. */
int weir_sigpipe_probe(uint32_t *ret_write_flags);

/* Blocks it in the calling thread. Calls are counted: each needs its weir_sigpipe_unblock(). */
void weir_sigpipe_block(void);

/* In the same thread. The last one gives the signal back as the first block found it; raised: by a
 * write of ours meanwhile, as far as is known, and it does not arrive. */
void weir_sigpipe_unblock(bool raised);

#endif
