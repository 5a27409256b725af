/* SPDX-License-Identifier: MIT */
/* storm_run.c: a seed: what its world is like, its loops one after the other, and how each ends. */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LOOPS_MOST 8
#define OPS_MOST 5000
#define KINDS_FILE                                                                                 \
    (1ULL << WEIR_KIND_READ | 1ULL << WEIR_KIND_WRITE | 1ULL << WEIR_KIND_READV |                  \
     1ULL << WEIR_KIND_WRITEV | 1ULL << WEIR_KIND_FSYNC | 1ULL << WEIR_KIND_FALLOCATE |            \
     1ULL << WEIR_KIND_FTRUNCATE)
#define KINDS_NAME                                                                                 \
    (1ULL << WEIR_KIND_OPENAT | 1ULL << WEIR_KIND_STATX | 1ULL << WEIR_KIND_UNLINKAT |             \
     1ULL << WEIR_KIND_RENAMEAT | 1ULL << WEIR_KIND_LINKAT | 1ULL << WEIR_KIND_MKDIRAT)
#define KINDS_LATE                                                                                 \
    (KINDS_NAME | 1ULL << WEIR_KIND_FSYNC | 1ULL << WEIR_KIND_FALLOCATE |                          \
     1ULL << WEIR_KIND_FTRUNCATE)
#define KINDS_STREAM                                                                               \
    (1ULL << WEIR_KIND_RECV | 1ULL << WEIR_KIND_SEND | 1ULL << WEIR_KIND_RECVMSG |                 \
     1ULL << WEIR_KIND_SENDMSG | 1ULL << WEIR_KIND_POLL | 1ULL << WEIR_KIND_SPLICE)
#define KINDS_OTHER                                                                                \
    (1ULL << WEIR_KIND_CLOSE | 1ULL << WEIR_KIND_ACCEPT | 1ULL << WEIR_KIND_CONNECT |              \
     1ULL << WEIR_KIND_SOCKET | 1ULL << WEIR_KIND_NOP)

bool storm_is_dead(const struct storm *storm)
{
    return weir_sim_has_crashed(storm->sim);
}

/* --- the world -------------------------------------------------------------------------------- */

static void draw_fault(struct storm *storm, struct weir_sim_fault *fault)
{
    static const enum weir_sim_fault_what whats[] = {
        WEIR_SIM_ERROR, WEIR_SIM_ERROR, WEIR_SIM_SHORT, WEIR_SIM_SHORT,
        WEIR_SIM_DELAY, WEIR_SIM_STUCK, WEIR_SIM_LATE,  WEIR_SIM_RESET,
        WEIR_SIM_JUMP,  WEIR_SIM_CRASH, WEIR_SIM_DEAF,
    };
    uint64_t kinds = ONE_OF(storm, KINDS_FILE, KINDS_NAME, KINDS_STREAM, KINDS_OTHER,
                            KINDS_FILE | KINDS_STREAM, 1ULL << WEIR_KIND_CALL);
    fault->what = whats[storm_random(storm, 11)];
    fault->kinds = kinds;
    fault->delay = (struct weir_sim_span){WEIR_MS, 200 * WEIR_MS};
    fault->per_million = (uint32_t)ONE_OF(storm, 2000, 20000, 150000);
    switch (fault->what) {
    case WEIR_SIM_ERROR:
        if (storm_random(storm, 3) == 0) { /* which nobody sees: it is tried again */
            fault->error = EAGAIN;
            fault->kinds &= ~(1ULL << WEIR_KIND_CLOSE);
            fault->kinds |= KINDS_LATE | 1ULL << WEIR_KIND_CONNECT; /* these by timer */
            fault->per_million = (uint32_t)ONE_OF(storm, 20000, 200000, 600000);
        } else {
            storm->failing |= kinds;
        }
        break;
    case WEIR_SIM_SHORT:
        storm->may_cut = true;
        break;
    case WEIR_SIM_RESET:
        storm->may_reset = true;
        break;
    case WEIR_SIM_LATE:
        fault->kinds = KINDS_LATE; /* what waits for a peer might never end */
        break;
    case WEIR_SIM_DEAF:
        storm->may_deafen = true;
        break;
    case WEIR_SIM_CRASH:
        fault->kinds = 0;
        fault->nth = 1 + (uint32_t)storm_random(storm, 4 * OPS_MOST);
        break;
    default:
        break;
    }
}

static void draw_plan(struct storm *storm)
{
    struct weir_sim_plan *plan = &storm->plan;
    plan->memory_bytes = 64u << 20;
    plan->pipe_bytes = (uint32_t)ONE_OF(storm, 4096, 8192, 65536);
    plan->sector_bytes = (uint32_t)ONE_OF(storm, 64, 512, 4096);
    storm->may_fill = storm_random(storm, 8) == 0;
    plan->disk_bytes = storm->may_fill ? 48u << 10 : 8u << 20;
    if (storm_random(storm, 4) == 0) {
        plan->storage = (struct weir_sim_span){1, WEIR_US};
        plan->network = (struct weir_sim_span){1, WEIR_US};
    }
    if (storm_random(storm, 4) == 0) {
        plan->call = (struct weir_sim_span){WEIR_US, 20 * WEIR_MS};
        plan->network_bytes_per_s = 1u << 20;
    }
    uint32_t faults = (uint32_t)storm_random(storm, STORM_FAULTS + 1);
    for (uint32_t i = 0; i < faults && storm_random(storm, 3) > 0; i++) {
        draw_fault(storm, &storm->faults[plan->fault_count++]);
    }
    plan->faults = storm->faults;
}

static void draw_weights(struct storm *storm)
{
    static const unsigned most[WEIGHTS] = {
        [WEIGHT_FILE] = 20,     [WEIGHT_SYNC] = 4,        [WEIGHT_STREAM] = 20,
        [WEIGHT_LISTENER] = 8,  [WEIGHT_NAME] = 10,       [WEIGHT_NOP] = 10,
        [WEIGHT_CALL] = 10,     [WEIGHT_TIMER] = 10,      [WEIGHT_CANCEL] = 16,
        [WEIGHT_CANCEL_FD] = 2, [WEIGHT_CANCEL_TASK] = 2, [WEIGHT_CLOSE] = 4,
        [WEIGHT_FORGET] = 3,    [WEIGHT_ROOM] = 5,        [WEIGHT_MARK] = 4,
        [WEIGHT_TASK] = 3,      [WEIGHT_WAKE] = 3,        [WEIGHT_FORBIDDEN] = 2,
        [WEIGHT_CRASH] = 1,
    };
    static const unsigned chances[CHANCES] = {
        [CHANCE_POST] = 8,    [CHANCE_DEADLINE] = 8, [CHANCE_WHOLE] = 12,   [CHANCE_TASK] = 16,
        [CHANCE_OFFLOAD] = 6, [CHANCE_INLINE] = 8,   [CHANCE_INTENDED] = 4, [CHANCE_NESTED] = 10,
        [CHANCE_WINDOW] = 12, [CHANCE_NOWAIT] = 4,   [CHANCE_ORDERED] = 16, [CHANCE_ANSWER] = 12,
    };
    for (unsigned i = 0; i < WEIGHTS; i++) {
        bool used = storm_random(storm, 3) > 0;
        storm->weights[i] = used && most[i] > 0 ? 1 + (unsigned)storm_random(storm, most[i]) : 0;
    }
    storm->weights[WEIGHT_NOP]++; /* not nothing at all */
    for (unsigned i = 0; i < WEIGHTS; i++) {
        storm->weight_sum += storm->weights[i];
    }
    for (unsigned i = 0; i < CHANCES; i++) {
        bool used = storm_random(storm, 3) > 0;
        storm->chances[i] = used ? (unsigned)storm_random(storm, chances[i] + 1) : 0;
    }
    storm->span_ns = ONE_OF(storm, 300 * WEIR_US, 5 * WEIR_MS, WEIR_S);
}

static void sync_root(struct storm *storm)
{
    struct weir_op op = {0};
    weir_op_openat(&op, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
    int fd = (int)storm_do(storm, &op);
    STORM_CHECK(storm, fd >= 0);
    weir_op_fsync(&op, fd);
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
    weir_op_close(&op, fd);
    STORM_EQUAL(storm, storm_do(storm, &op), 0);
}

static void furnish(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_FILES; i++) {
        struct file *file = &storm->files[i];
        snprintf(file->path, sizeof file->path, "/file-%u", i);
        for (unsigned at = 0; at < STORM_FILE_MAX; at++) {
            file->may[at][0] = 1;
        }
    }
    handle_open_all(storm);
    name_clear_all(storm);
    sync_root(storm);
}

/* --- a loop ----------------------------------------------------------------------------------- */

static void draw_options(struct storm *storm)
{
    struct weir_options *options = &storm->options;
    *options = (struct weir_options){.policy = WEIR_SIM, .sim = {.world = storm->sim}};
    options->depth = (uint32_t)ONE_OF(storm, 1, 2, 3, 4, 8, 16, 64);
    options->waiting_max = (uint32_t)ONE_OF(storm, 0, 1, options->depth, 3 * options->depth);
    options->timers_max = (uint32_t)ONE_OF(storm, 1, 4, 40);
    options->admit_ops_max = (uint32_t)ONE_OF(storm, 0, 0, 1, 3);
    options->admit_bytes_max = ONE_OF(storm, 0, 0, 4096);
    options->offload_workers = (uint32_t)ONE_OF(storm, WEIR_NO_OFFLOAD, 0, 1, 2, 2);
    options->offload_depth = (uint32_t)ONE_OF(storm, 1, 2, 8, 20);
    options->offload_waiting_max =
        (uint32_t)ONE_OF(storm, 0, 1, options->offload_depth, 2 * options->offload_depth);
    options->posts_max = (uint32_t)ONE_OF(storm, 1, 4, 40);
    options->flags = (uint32_t)ONE_OF(storm, 0, 0, 0, WEIR_CALLER_RUNS, WEIR_REFUSES,
                                      WEIR_REFUSES | WEIR_CALLER_RUNS);
    options->bytes_max = ONE_OF(storm, 0, 0, 0, 1000, 8192);
    options->goal_ns = ONE_OF(storm, 0, 0, 0, 1, 100 * WEIR_US, 5 * WEIR_MS);
    options->depth_min = (uint32_t)ONE_OF(storm, 0, 0, 1, (options->depth + 1) / 2);
}

static void open_loop(struct storm *storm)
{
    draw_options(storm);
    STORM_EQUAL(storm, weir_loop_open(&storm->options, &storm->loop), 0);
    gate_watch(storm);
    storm->closing = false;
    storm->closed = false;
    storm->rung = false;
    storm->tally = (struct tally){0};
    memset(storm->tallies, 0, sizeof storm->tallies);
    storm->posts_accepted = 0;
    storm->posts_refused = 0;
    storm->caller_ran = 0;
    for (int i = 0; i < STORM_TASKS; i++) {
        task_open(storm, i);
    }
}

static void turn(struct storm *storm, int64_t wait_ns)
{
    gate_turn_begins(storm);
    gate_turn_ends(storm, weir_loop_turn(storm->loop, wait_ns));
}

static void cancel_all(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        if (storm->items[i].live) {
            gate_cancel(&storm->items[i]);
        }
    }
}

/* Until nothing is live. Nobody submits any more. */
static void drain(struct storm *storm)
{
    storm->ops_left = 0;
    for (unsigned i = 0; gate_live(storm) > 0 && !storm_is_dead(storm); i++) {
        uint64_t deadlocks = storm->deadlocks;
        turn(storm, -1);
        if (storm->deadlocks > deadlocks && !storm_is_dead(storm)) {
            cancel_all(storm);
        }
        if (i > 100000) {
            storm_fail(storm, WEIR_SITE, "lost: %u ops are live and do not come back",
                       gate_live(storm));
        }
    }
}

static void work(struct storm *storm)
{
    while (storm->ops_left > 0 && !storm_is_dead(storm)) {
        uint64_t steps = storm_random(storm, 9);
        for (uint64_t i = 0; i < steps; i++) {
            storm_step(storm);
        }
        if (storm_is_dead(storm)) {
            turn(storm, 0);
            return;
        }
        uint64_t deadlocks = storm->deadlocks;
        turn(storm, (int64_t)ONE_OF(storm, 0, 0, WEIR_US, WEIR_MS, UINT64_MAX));
        if (storm_is_dead(storm)) {
            return;
        }
        gate_compare(storm);
        struct item *item = storm->deadlocks > deadlocks ? item_random_live(storm) : NULL;
        if (item) {
            gate_cancel(item);
        }
        storm->ops_left -= storm->ops_left > 0; /* also where nothing is submitted */
    }
}

/* --- its end ---------------------------------------------------------------------------------- */

static void on_closed(struct weir_loop *loop, int result)
{
    struct storm *storm = storm_current;
    STORM_CHECK(storm, loop == storm->loop);
    STORM_EQUAL(storm, result, 0);
    storm->closed = true;
}

static void end_rooms(struct storm *storm)
{
    for (unsigned i = 0; i < STORM_ROOMS; i++) {
        STORM_CHECK(storm, !storm->rooms[i].waits);
    }
}

/* True: it is closed. False: the machine crashed first. */
static bool close_loop(struct storm *storm)
{
    bool begun = storm_random(storm, 2) == 0;
    if (storm_random(storm, 2) == 0) {
        drain(storm);
    }
    if (storm_is_dead(storm)) {
        return false;
    }
    storm->closing = true;
    gate_turn_begins(storm);
    if (begun) {
        STORM_EQUAL(storm, weir_loop_close_begin(storm->loop, -1, on_closed), 0);
        STORM_EQUAL(storm, weir_loop_close_begin(storm->loop, -1, on_closed), -EALREADY);
    }
    while (begun && !storm->closed && !storm_is_dead(storm)) {
        int called = weir_loop_turn(storm->loop, -1);
        if (called == -EDEADLK) {
            storm_fail(storm, WEIR_SITE, "lost cancel: %u ops keep the loop from closing",
                       gate_live(storm));
        }
        STORM_CHECK(storm, called >= 0 || storm_is_dead(storm));
    }
    int r = storm_is_dead(storm) ? 0 : weir_loop_close(storm->loop, -1, NULL);
    storm->in_turn = false;
    if (storm_is_dead(storm)) {
        STORM_CHECK(storm, r == 0 || r == -EOWNERDEAD);
        return r == 0 && !begun;
    }
    if (r == -EDEADLK) {
        storm_fail(storm, WEIR_SITE, "lost cancel: %u ops keep the loop from closing",
                   gate_live(storm));
    }
    STORM_EQUAL(storm, r, 0);
    STORM_EQUAL(storm, gate_live(storm), 0);
    end_rooms(storm);
    return true;
}

/* What was live is forgotten, and may have happened. */
static void lose_all(struct storm *storm, enum ending ending)
{
    STORM_EQUAL(storm, weir_loop_abandon(storm->loop), 0);
    storm->closing = true; /* the loop is gone */
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        struct item *item = &storm->items[i];
        if (item->live && item->file) {
            file_may(item);
        }
        item->handle = NULL;
        item->own.fd = -1;
    }
    gate_forget_all(storm);
    if (ending == ENDING_CRASH) {
        storm->crashes++;
        STORM_EQUAL(storm, weir_sim_restart(storm->sim), 0);
    }
    handle_close_all(storm);
    handle_open_all(storm);
    file_check_all(storm, ending);
    name_clear_all(storm);
    sync_root(storm);
}

static void end_loop(struct storm *storm)
{
    uint64_t choice = storm_random(storm, storm->may_deafen ? 2 : 6);
    bool dead = storm_is_dead(storm);
    if (!dead && choice == 0) {
        lose_all(storm, ENDING_ABANDON);
    } else if (!dead && choice == 1) {
        STORM_EQUAL(storm, weir_sim_crash(storm->sim), 0);
        turn(storm, -1);
        lose_all(storm, ENDING_CRASH);
    } else if (dead || !close_loop(storm)) {
        lose_all(storm, ENDING_CRASH);
    } else {
        gate_forget_all(storm);
        handle_settle_all(storm);
        STORM_EQUAL(storm, weir_sim_fds(storm->sim), handle_count_open(storm));
        file_check_all(storm, ENDING_CLEAN);
        for (unsigned i = 0; i < STORM_STREAMS; i++) {
            stream_drain(storm, &storm->streams[i]);
        }
    }
    storm->loop = NULL;
}

/* Nothing is left of what the seed made. */
static void clean_up(struct storm *storm, size_t used)
{
    handle_close_all(storm);
    name_clear_all(storm);
    for (unsigned i = 0; i < STORM_FILES; i++) {
        struct weir_op op = {0};
        weir_op_unlinkat(&op, AT_FDCWD, storm->files[i].path, 0);
        STORM_EQUAL(storm, storm_do(storm, &op), 0);
    }
    sync_root(storm);
    weir_sim_sleep(storm->sim, WEIR_S);
    if (weir_arena_used(&storm->sim->arena) != used) {
        storm_fail(storm, WEIR_SITE, "leaked: %zu bytes of the world are used, and not %zu",
                   weir_arena_used(&storm->sim->arena), used);
    }
    STORM_EQUAL(storm, weir_sim_close(storm->sim), 0);
}

void storm_run(struct storm *storm)
{
    draw_plan(storm);
    draw_weights(storm);
    STORM_EQUAL(storm, weir_sim_open(storm->seed, &storm->plan, &storm->sim), 0);
    storm->sim->echo_every = (uint32_t)ONE_OF(storm, 0, 3, 20);
    sync_root(storm);
    size_t used = weir_arena_used(&storm->sim->arena);
    furnish(storm);
    uint64_t loops = 1 + storm_random(storm, LOOPS_MOST);
    for (uint64_t i = 0; i < loops; i++) {
        storm->ops_left = 1 + storm_random(storm, OPS_MOST);
        open_loop(storm);
        work(storm);
        end_loop(storm);
    }
    storm_hash(storm, weir_sim_hash(storm->sim));
    storm->end_ns = weir_sim_now(storm->sim);
    clean_up(storm, used);
}
