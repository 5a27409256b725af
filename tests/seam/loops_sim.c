/* SPDX-License-Identifier: MIT */
/* loops_sim.c: what the suite does to loops that are in its simulated world. See struct
 * seam_simulated. */
#include "sim.h"

#include <engine/loop/loop.h>

/* The others act just before the bell says ASLEEP, and just after: then a few times, as each may
 * yield between what it does. */
static void window(struct weir_backend *backend, int asleep)
{
    (void)backend;
    for (int i = 0; i <= 3 * asleep; i++) {
        sim_let_others();
    }
}

/* A function that blocks begins when its end is asked for, and ends when it may. */
static bool may_end_call(struct weir_op *op)
{
    return op->arg.call.function != seam_work_do || seam_work_may_end(op->arg.call.argument);
}

void sim_prepare(struct weir_options *options)
{
    sim_world()->may_end_call = may_end_call;
    options->sim.world = sim_world();
}

void sim_opened(struct weir_loop *loop)
{
    loop->backend->window = window;
}

/* --- a turn that fails ----------------------------------------------------------------------- */

static int turn_fails(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                      uint32_t max)
{
    (void)backend;
    (void)until_ns;
    (void)events;
    (void)max;
    return -EPERM;
}

void sim_fail_turns(struct weir_loop *loop)
{
    static struct weir_backend_table failing;
    failing = *loop->backend->table;
    failing.turn = turn_fails;
    loop->backend->table = &failing;
}

/* --- an op that cannot be interrupted -------------------------------------------------------- */

static struct weir_sim_run *run_of(const struct weir_sim_loop *loop, const struct weir_op *op)
{
    for (uint32_t i = 0; i < loop->run_count; i++) {
        if (loop->runs[i].state == WEIR_SIM_UNDERWAY && loop->runs[i].op == op) {
            return &loop->runs[i];
        }
    }
    return NULL;
}

/* It departs for a slow disk; then what happens next to it is no longer planned, and as to a cancel
 * it is one of those that come late. */
void sim_hold_op(struct weir_loop *loop, struct weir_op *op)
{
    struct weir_sim *sim = sim_world();
    struct weir_sim_span before = sim->plan.storage;
    sim->plan.storage = (struct weir_sim_span){WEIR_S, WEIR_S};
    expect_equal(weir_loop_turn(loop, 0), 0);
    sim->plan.storage = before;
    struct weir_sim_run *run = run_of(weir_sim_loop_of(loop->backend), op);
    expect(run != NULL);
    weir_sim_unplan(sim, &run->next);
    run->fault = WEIR_SIM_LATE;
}

/* Nothing if its loop has left the world. */
void sim_let_op_go(struct weir_op *op)
{
    for (struct weir_sim_loop *loop = sim_world()->loops; loop != NULL; loop = loop->next) {
        struct weir_sim_run *run = run_of(loop, op);
        if (run != NULL) {
            weir_sim_plan(sim_world(), &run->next, sim_world()->now_ns + 1);
        }
    }
}
