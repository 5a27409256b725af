/* SPDX-License-Identifier: MIT */
/* sim.c: the simulator as a backend: what of a loop is in a world, and its turn. */
#include "sim.h"

#include <engine/base/guard.h>
#include <stdio.h>

#define TURN_NS 1000u
#define ECHO_TURNS 3

static void give_memory(struct weir_sim_loop *loop)
{
    struct weir_arena *arena = &loop->sim->arena;
    weir_arena_give(arena, loop->runs, loop->run_count * sizeof *loop->runs);
    weir_arena_give(arena, loop->workers, loop->worker_count * sizeof *loop->workers);
    weir_arena_give(arena, loop, sizeof *loop);
}

static struct weir_sim_loop *make(struct weir_sim *sim, uint32_t runs, uint32_t workers)
{
    struct weir_sim_loop *loop = weir_arena_take(&sim->arena, sizeof *loop);
    if (!loop) {
        return NULL;
    }
    loop->sim = sim;
    loop->run_count = runs;
    loop->worker_count = workers;
    loop->runs = weir_arena_take(&sim->arena, runs * sizeof *loop->runs);
    loop->workers = weir_arena_take(&sim->arena, workers * sizeof *loop->workers);
    if (!loop->runs || (workers > 0 && !loop->workers)) {
        give_memory(loop);
        return NULL;
    }
    for (uint32_t i = runs; i > 0; i--) {
        loop->runs[i - 1].loop = loop;
        loop->runs[i - 1].after = loop->free;
        loop->free = &loop->runs[i - 1];
    }
    loop->base.table = &weir_sim_table;
    loop->base.in_memory = sim->late ? 0 : ~0ULL;
    loop->base.thread = sim->thread;
    return loop;
}

static uint32_t count_workers(const struct weir_options *options, struct weir_facts *facts)
{
    uint32_t workers = options->offload_workers;
    workers = workers == WEIR_NO_OFFLOAD ? 0 : workers != 0 ? workers : WEIR_SIM_WORKERS;
    facts->workers = workers;
    snprintf(facts->workers_reason, sizeof facts->workers_reason, "simulated");
    return workers;
}

static int open_loop(const struct weir_options *options, struct weir_facts *facts,
                     struct weir_backend **ret_backend)
{
    struct weir_sim *sim = options->sim.world;
    bool is_private = !sim;
    int r = is_private ? weir_sim_make(&options->sim, &sim) : 0;
    if (r < 0) {
        return r;
    }
    if (sim->crashed || sim->thread != weir_thread_self()) {
        return sim->crashed ? -EOWNERDEAD : -EOPNOTSUPP;
    }
    uint32_t runs = options->depth + options->offload_depth;
    struct weir_sim_loop *loop = make(sim, runs, count_workers(options, facts));
    if (!loop) {
        if (is_private) {
            weir_sim_free(sim);
        }
        return -ENOMEM;
    }
    sim->is_private = is_private;
    loop->number = ++sim->loops_ever;
    loop->next = sim->loops;
    sim->loops = loop;
    facts->depth = options->depth;
    facts->cq_entries = runs;
    facts->clock = "virtual";
    facts->wakes_by = "nobody";
    facts->memory_ring = sizeof *loop + runs * sizeof *loop->runs;
    *ret_backend = &loop->base;
    return 0;
}

/* The loop has seen to it that the thread is the world's. */
static int adopt(struct weir_backend *backend, struct weir_facts *facts)
{
    (void)backend;
    (void)facts;
    return 0;
}

static void close_loop(struct weir_backend *backend, bool forked)
{
    struct weir_sim_loop *loop = weir_sim_loop_of(backend);
    struct weir_sim *sim = loop->sim;
    if (forked) {
        return;
    }
    weir_sim_drop_all(loop);
    struct weir_sim_loop **link = &sim->loops;
    while (*link != loop) {
        link = &(*link)->next;
    }
    *link = loop->next;
    bool is_private = sim->is_private;
    give_memory(loop);
    if (is_private) {
        weir_sim_free(sim);
    }
}

static enum weir_staged stage(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_sim_loop *loop = weir_sim_loop_of(backend);
    struct weir_sim_run *run = loop->free;
    if (backend->dead) {
        return WEIR_TAKEN; /* and gone with the machine */
    }
    loop->free = run->after;
    run->op = op;
    run->tag = op->slot->tag;
    op->held.carrier.position = (uint32_t)(run - loop->runs);
    weir_sim_list(&loop->staged, run, WEIR_SIM_STAGED);
    return WEIR_TAKEN;
}

/* For the route INLINE: what is there already. What is refused, and what a fault may meet on its
 * way, is not for a try. */
static int64_t attempt(struct weir_backend *backend, const struct weir_op *op)
{
    struct weir_sim *sim = weir_sim_loop_of(backend)->sim;
    struct weir_sim_try attempt = {0};
    if (backend->dead || sim->plan.fault_count > 0) {
        return -EOPNOTSUPP;
    }
    int64_t r = weir_sim_try_begin(sim, op, &attempt);
    bool reads = weir_kind_traits(op->kind) & WEIR_KIND_READS;
    bool on_disk = (attempt.file && attempt.file->inode) || (attempt.file2 && attempt.file2->inode);
    bool may_be_cold = on_disk && reads && !(op->flags & WEIR_IN_MEMORY);
    bool is_cold = may_be_cold && weir_sim_roll(sim, WEIR_SIM_DIE_TIME) & 1;
    if (r < 0 || is_cold) {
        weir_sim_try_end(sim, &attempt);
        return r < 0 ? -EOPNOTSUPP : -EAGAIN;
    }
    if (attempt.file && attempt.file->stream && (!reads || op->kind == WEIR_KIND_SPLICE)) {
        attempt.way_ns = weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &sim->plan.network);
    }
    r = weir_sim_perform(sim, op, &attempt);
    weir_sim_try_end(sim, &attempt);
    weir_sim_trace(sim, "at once", NULL, r);
    return r;
}

static enum weir_cancelled cancel(struct weir_backend *backend, struct weir_op *op)
{
    struct weir_sim_loop *loop = weir_sim_loop_of(backend);
    return backend->dead ? WEIR_CANCEL_LOST : weir_sim_ask(&loop->runs[op->held.carrier.position]);
}

/* Sleeps until one of the loop's own is finished. Another loop's ends the sleep too, since it may
 * be turned next. 0; -EDEADLK; -errno. */
static int sleep_in_world(struct weir_sim_loop *loop, uint64_t until_ns)
{
    struct weir_sim *sim = loop->sim;
    uint64_t finished = sim->finished;
    while (!loop->finished.head && !loop->woken && sim->finished == finished &&
           sim->now_ns < until_ns && !sim->crashed) {
        if (!weir_sim_advance(sim, until_ns)) {
            return -EDEADLK;
        }
    }
    return 0;
}

/* True: *ret_event is an op's. */
static bool give_one(struct weir_sim_loop *loop, uint64_t tag, int64_t result,
                     struct weir_event *ret_event)
{
    struct weir_op *op = weir_slots_find(loop->base.slots, tag);
    if (!op) {
        loop->base.counters->stale++;
        return false;
    }
    *ret_event = (struct weir_event){.op = op, .result = result};
    uint32_t every = loop->sim->echo_every;
    if (!weir_op_finish_plain(op, result)) {
        loop->base.unsettled = true;
    } else if (every != 0 && ++loop->plain % every == 0 && loop->echo.tag == 0) {
        loop->echo = (struct weir_sim_echo){tag, result, ECHO_TURNS};
    }
    return true;
}

static uint32_t give(struct weir_sim_loop *loop, struct weir_event *events, uint32_t max)
{
    uint32_t count = 0;
    struct weir_sim_echo echo = loop->echo;
    if (echo.tag != 0 && max > 0 && --loop->echo.turns == 0) {
        loop->echo.tag = 0;
        count += give_one(loop, echo.tag, echo.result, events);
    }
    while (loop->finished.head && count < max) {
        const struct weir_sim_run *run = loop->finished.head;
        uint64_t tag = run->tag;
        int64_t result = run->result;
        weir_sim_drop(loop->finished.head);
        count += give_one(loop, tag, result, &events[count]);
    }
    return count;
}

/* A turn takes its time, so that who is always busy, or never sleeps, does not stop the clock. */
static void pass_time(struct weir_sim *sim)
{
    uint64_t until_ns = sim->now_ns + TURN_NS;
    while (sim->now_ns < until_ns && !sim->crashed) {
        weir_sim_advance(sim, until_ns);
    }
}

static int turn(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                uint32_t max)
{
    struct weir_sim_loop *loop = weir_sim_loop_of(backend);
    struct weir_sim *sim = loop->sim;
    int r = 0;
    if (!backend->dead) {
        weir_sim_depart(loop);
        weir_sim_happen(sim);
        pass_time(sim);
    }
    if (until_ns != WEIR_NO_SLEEP) {
        r = sleep_in_world(loop, until_ns);
    }
    loop->woken = false;
    if (backend->dead || r < 0) {
        return backend->dead ? backend->dead : r;
    }
    backend->unsettled = false;
    backend->stamp_ns = sim->now_ns;
    return (int)give(loop, events, max);
}

static void wake(struct weir_backend *backend)
{
    weir_sim_loop_of(backend)->woken = true;
    backend->counters->wakes++;
}

static uint64_t now(struct weir_backend *backend, enum weir_now which)
{
    (void)which;
    return weir_sim_loop_of(backend)->sim->now_ns;
}

static void forget(struct weir_backend *backend, int fd)
{
    (void)backend;
    (void)fd;
}

static void discard(struct weir_backend *backend, int fd)
{
    weir_sim_file_close(weir_sim_loop_of(backend)->sim, fd);
}

static int fd(struct weir_backend *backend)
{
    (void)backend;
    return -EOPNOTSUPP;
}

const struct weir_backend_table weir_sim_table = {
    .name = "sim",
    .carries_calls = true,
    .open = open_loop,
    .adopt = adopt,
    .close = close_loop,
    .stage = stage,
    .attempt = attempt,
    .cancel = cancel,
    .turn = turn,
    .wake = wake,
    .now = now,
    .forget = forget,
    .discard = discard,
    .fd = fd,
};
