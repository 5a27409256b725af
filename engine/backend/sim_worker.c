/* SPDX-License-Identifier: MIT */
/*
 * sim_worker.c: simulated workers: who is next. The lanes and their rules are those of the offload
 * ring: short work first, long work at least every 8th time, and one worker of several only for
 * short work.
 */
#include "sim.h"

enum { SHORT, LONG };

static struct weir_sim_run *take(const struct weir_sim_loop *loop, uint32_t index)
{
    struct weir_sim_worker *worker = &loop->workers[index];
    struct weir_sim_run *is_short = loop->lanes[SHORT].head;
    bool takes_long = index > 0 || loop->worker_count == 1;
    struct weir_sim_run *is_long = takes_long ? loop->lanes[LONG].head : NULL;
    bool due = worker->since_long + 1 >= WEIR_SIM_LONG_EVERY;
    if (is_long && (due || !is_short)) {
        worker->since_long = 0;
        return is_long;
    }
    worker->since_long += is_short && worker->since_long < WEIR_SIM_LONG_EVERY;
    return is_short;
}

/* Gives those who are idle something to do. */
static void assign(struct weir_sim_loop *loop)
{
    for (uint32_t i = 0; i < loop->worker_count && !loop->sim->crashed; i++) {
        struct weir_sim_run *run = loop->workers[i].run ? NULL : take(loop, i);
        if (run) {
            weir_sim_unlist(run);
            loop->workers[i].run = run;
            run->worker = i + 1;
            weir_sim_begin(run);
        }
    }
}

void weir_sim_queue(struct weir_sim_run *run)
{
    struct weir_sim_loop *loop = run->loop;
    bool is_long = run->op->kind == WEIR_KIND_CALL && !(run->op->flags & WEIR_SHORT);
    weir_sim_list(&loop->lanes[is_long ? LONG : SHORT], run, WEIR_SIM_QUEUED);
    assign(loop);
}

void weir_sim_free_worker(struct weir_sim_run *run)
{
    struct weir_sim_loop *loop = run->loop;
    if (run->worker != 0) {
        loop->workers[run->worker - 1].run = NULL;
        run->worker = 0;
        assign(loop);
    }
}
