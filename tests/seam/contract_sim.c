/* SPDX-License-Identifier: MIT */
/* contract_sim.c: the contract on the simulator. */
#include "sim.h"

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
    return seam_main(argc, argv);
}
