/* SPDX-License-Identifier: MIT */
/* contract_sim.c: the contract on the simulator. */
#include "sim.h"

#include <inttypes.h>

static const struct seam_simulated simulated = {
    .prepare = sim_prepare,
    .opened = sim_opened,
    .fail_turns = sim_fail_turns,
    .hold_op = sim_hold_op,
    .let_op_go = sim_let_op_go,
    .limit_fds = sim_limit_fds,
    .fds_open = sim_fds_open,
    .use_and_close_a_world = sim_use_and_close_a_world,
    .pause = sim_pause,
};

const struct seam_backend seam_backend = {
    .name = "sim",
    .policy = WEIR_SIM,
    .turn_syscalls = NULL,
    .splice_keeps_fd = true,
    .simulated = &simulated,
};

int main(int argc, char **argv)
{
    int result = seam_main(argc, argv);
    const char *wanted = getenv("WEIR_HASH");
    if (wanted != NULL) { /* of the same WEIR_SEED: the same in every build */
        printf("hash %016" PRIx64 "\n", weir_sim_hash(sim_world()));
    }
    return result;
}
