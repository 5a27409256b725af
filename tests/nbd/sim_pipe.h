/* SPDX-License-Identifier: MIT */
/* sim_pipe.h: pipes for a shard of weir-nbd in a simulated world: shard_options.open_pipe. */
#ifndef SIM_PIPE_H
#define SIM_PIPE_H

#include "shard.h"

static inline int sim_pipe_open(const struct shard *shard, int ret_fds[2])
{
    return weir_sim_pipe(shard->options.loop.sim.world, ret_fds, 0);
}

/* They are the world's, and gone with it: the shard is not to close them. */
static inline void sim_pipes_forget(struct shard *shard)
{
    for (uint32_t i = 0; i < PIPES; i++) {
        shard->pipes[i].fds[0] = shard->pipes[i].fds[1] = -1;
    }
}

#endif
