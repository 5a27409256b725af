/* SPDX-License-Identifier: MIT */
/* sim.h: what the suite's simulated world and its threads know of each other. */
#ifndef TESTS_SEAM_SIM_H
#define TESTS_SEAM_SIM_H

#define SIM_CALLS_REAL
#include "seam.h"
#include "sim_calls.h"

#include <engine/backend/sim.h>

/* The world of all loops and fds of this process. */
struct weir_sim *sim_world(void);

/* Lets every other thread that can go on do so, a while. False: none did. In one of them: goes to
 * whoever let it. */
bool sim_let_others(void);

/* Of struct seam_backend. */
void sim_prepare(struct weir_options *options);
void sim_opened(struct weir_loop *loop);
void sim_fail_turns(struct weir_loop *loop);
int sim_fds_open(void);
void sim_hold_op(struct weir_loop *loop, struct weir_op *op);
void sim_let_op_go(struct weir_op *op);
void sim_limit_fds(bool none);
int sim_use_and_close_a_world(void);
void sim_pause(void);

#endif
