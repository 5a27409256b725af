/* SPDX-License-Identifier: MIT */
/* world.c: worlds and loops come and go, and leave nothing behind. */
#include "fuzz.h"

#define PICK(array) (array)[fuzz_below(sizeof(array) / sizeof *(array))]
#define FOLDERS_MOST 6 /* within each other, as they are cleared away */
#define STEPS_MOST 100000

/* --- the plan --------------------------------------------------------------------------------- */

static const uint64_t kind_sets[] = {
    0,
    1ULL << WEIR_KIND_WRITE | 1ULL << WEIR_KIND_SEND,
    1ULL << WEIR_KIND_READ | 1ULL << WEIR_KIND_RECV,
    1ULL << WEIR_KIND_CLOSE,
    1ULL << WEIR_KIND_CALL,
    1ULL << WEIR_KIND_OPENAT | 1ULL << WEIR_KIND_ACCEPT,
    1ULL << WEIR_KIND_CONNECT | 1ULL << WEIR_KIND_POLL,
    1ULL << WEIR_KIND_NOP,
};

/* Faults that make an op try again do not strike for ever, or a run would not end. */
static void take_fault(struct weir_sim_fault *fault)
{
    static const int errors[] = {0, EINTR, EAGAIN, EIO, ENOSPC};
    static const uint32_t chances[] = {10000, 200000, 500000};
    uint8_t what = fuzz_take();
    *fault = (struct weir_sim_fault){
        .what = (enum weir_sim_fault_what)(WEIR_SIM_ERROR + what % 9),
        .path = what >= 200 ? "/a" : NULL,
        .kinds = PICK(kind_sets),
        .delay = {1000, 40 * WEIR_MS},
    };
    uint8_t when = fuzz_take();
    fault->nth = when & 1 ? 1 + when / 2 % 8 : 0;
    fault->count = 1 + when / 16 % 4;
    fault->per_million = fault->nth ? 0 : chances[when / 2 % 3];
    fault->error = fault->what == WEIR_SIM_ERROR ? PICK(errors) : 0;
    bool keeps = fault->what == WEIR_SIM_DEAF || fault->what == WEIR_SIM_LATE;
    fuzz.may_hang = fuzz.may_hang || keeps;
}

static void take_plan(struct weir_sim_plan *plan)
{
    static const uint32_t pipes[] = {4096, 1, 16, 700};
    static const uint32_t sectors[] = {512, 4096, 1024};
    static const uint64_t disks[] = {1 << 20, 8192, 100000};
    /* One by one: C does not say in which order an initializer's parts are drawn. */
    *plan = (struct weir_sim_plan){.memory_bytes = 4 << 20};
    plan->fds_max = fuzz_below(4) ? FUZZ_FDS_MAX : 4;
    plan->pipe_bytes = PICK(pipes);
    plan->sector_bytes = PICK(sectors);
    plan->disk_bytes = PICK(disks);
    uint8_t pace = fuzz_below(3);
    if (pace > 0) { /* at once, or with much between */
        struct weir_sim_span span = {pace == 1 ? 1 : 1000, pace == 1 ? 1 : 3 * WEIR_MS};
        plan->storage = span;
        plan->sync = span;
        plan->network = span;
        plan->call = span;
    }
    fuzz.fault_count = fuzz_below(FUZZ_FAULTS + 1);
    for (uint32_t i = 0; i < fuzz.fault_count; i++) {
        take_fault(&fuzz.faults[i]);
        fuzz_say("fault %d kinds %llx nth %u count %u by chance %u error %d%s", fuzz.faults[i].what,
                 (unsigned long long)fuzz.faults[i].kinds, fuzz.faults[i].nth, fuzz.faults[i].count,
                 fuzz.faults[i].per_million, fuzz.faults[i].error,
                 fuzz.faults[i].path ? " on /a" : "");
    }
    plan->faults = fuzz.faults;
    plan->fault_count = fuzz.fault_count;
}

static void trace(void *context, const char *line)
{
    (void)context;
    fuzz_say("                    %s", line);
}

void fuzz_open_world(void)
{
    struct weir_sim_plan plan;
    uint64_t seed = fuzz_take();
    take_plan(&plan);
    plan.trace = fuzz_loud ? trace : NULL;
    int r = weir_sim_open(seed, &plan, &fuzz.sim);
    fuzz_expect(r == 0, "a world", r);
    fuzz.sim->may_end_call = fuzz_may_end_call;
    fuzz.arena_was = weir_arena_used(&fuzz.sim->arena);
    fuzz_open_loop();
}

/* --- loops ------------------------------------------------------------------------------------ */

static void take_options(struct weir_options *options)
{
    static const uint32_t workers[] = {2, 1, 3, WEIR_NO_OFFLOAD};
    static const uint64_t bytes[] = {0, 1, 100, 1500};
    uint8_t byte = fuzz_take();
    *options = (struct weir_options){
        .policy = WEIR_SIM,
        .depth = 1 + byte % 6,
        .waiting_max = byte / 6 % 5,
        .timers_max = 1 + byte / 32 % 4,
        .sim.world = fuzz.sim,
    };
    byte = fuzz_take();
    options->offload_workers = workers[byte % 4];
    options->offload_depth = 1 + byte / 4 % 3;
    options->offload_waiting_max = byte / 16 % 3;
    options->posts_max = 1 + byte / 64 % 4;
    byte = fuzz_take();
    options->admit_ops_max = byte % 3;
    options->admit_bytes_max = bytes[byte / 4 % 4];
    options->flags = (byte & 64 ? WEIR_CALLER_RUNS : 0) | (byte & 128 ? WEIR_FOR_ADOPTION : 0);
    options->spin_ns_max = byte & 32 ? 1000 : 0;
}

static void adopt(struct weir_loop *loop)
{
    struct weir_op op = {0};
    weir_op_nop(&op);
    op.callback = fuzz_on_done;
    fuzz_expect(weir_submit(loop, &op) == -EPERM, "a submit before the adoption", 0);
    fuzz_expect(weir_loop_post(loop, &op) == -EPERM, "a post before the adoption", 0);
    fuzz_expect(weir_loop_turn(loop, 0) == -EPERM, "a turn before the adoption", 0);
    fuzz_expect(weir_loop_adopt(loop) == 0, "an adoption", 0);
}

struct fuzz_loop *fuzz_open_loop(void)
{
    struct fuzz_loop *loop = fuzz.loops;
    while (loop < fuzz.loops + FUZZ_LOOPS && loop->loop) {
        loop++;
    }
    if (loop == fuzz.loops + FUZZ_LOOPS) {
        return NULL;
    }
    *loop = (struct fuzz_loop){0};
    take_options(&loop->options);
    struct weir_options bad = loop->options;
    bad.timers_max = WEIR_TIMERS_MAX + 1;
    fuzz_expect(weir_loop_open(&bad, &loop->loop) == -EINVAL && !loop->loop, "bad options", 0);
    int r = weir_loop_open(&loop->options, &loop->loop);
    fuzz_say("open loop %u: depth %u + %u, timers %u, %d workers, calls %u + %u, posts %u: %d",
             fuzz_number_of(loop), loop->options.depth, loop->options.waiting_max,
             loop->options.timers_max, (int)loop->options.offload_workers,
             loop->options.offload_depth, loop->options.offload_waiting_max,
             loop->options.posts_max, r);
    fuzz_expect(r == (fuzz_crashed() ? -EOWNERDEAD : 0), "an open", r);
    if (r == 0) {
        weir_loop_backend(loop->loop)->window = fuzz_in_window;
        fuzz_expect(weir_loop_sim(loop->loop) == fuzz.sim, "a loop's world", 0);
        if (loop->options.flags & WEIR_FOR_ADOPTION) {
            adopt(loop->loop);
        }
        fuzz_expect(weir_loop_adopt(loop->loop) == -EBUSY, "a second adoption", 0);
    }
    return loop;
}

void fuzz_abandon(struct fuzz_loop *loop)
{
    fuzz_say("abandon loop %u", fuzz_number_of(loop));
    int r = weir_loop_abandon(loop->loop);
    fuzz_expect(r == 0, "an abandonment", r);
    if (!fuzz_crashed()) {
        /* It stays to say so; here that would be a leak. */
        r = weir_loop_turn(loop->loop, 0);
        fuzz_expect(r == -EPERM, "a turn of an abandoned loop", r);
        weir_loop_free(loop->loop);
        fuzz.fds_unknown = true; /* what nobody was told of stays open */
    }
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        struct fuzz_track *track = &fuzz.tracks[i];
        if (track->live && track->loop == fuzz_number_of(loop)) {
            memset(&fuzz_items[i], 0, sizeof fuzz_items[i]);
            *track = (struct fuzz_track){0};
            fuzz_hide(i);
        }
    }
    for (struct fuzz_room *room = fuzz.rooms; room < fuzz.rooms + FUZZ_ROOMS; room++) {
        if (room->waits && room->loop == fuzz_number_of(loop)) {
            *room = (struct fuzz_room){0};
        }
    }
    *loop = (struct fuzz_loop){0};
}

static void poke_dead_loop(struct fuzz_loop *loop)
{
    struct weir_op op = {0};
    struct weir_report report;
    weir_op_nop(&op);
    op.callback = fuzz_on_done;
    const int answers[] = {
        weir_submit(loop->loop, &op),    weir_loop_post(loop->loop, &op),
        weir_loop_turn(loop->loop, -1),  weir_loop_run(loop->loop),
        weir_loop_turn(loop->loop, 100), weir_loop_close(loop->loop, -1, &report),
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        fuzz_expect(answers[i] == -EOWNERDEAD, "a dead loop answers", answers[i]);
    }
    fuzz_expect(report.count <= loop->live, "a dead loop's report", (int64_t)report.count);
}

void fuzz_restart(void)
{
    for (struct fuzz_loop *loop = fuzz.loops; loop < fuzz.loops + FUZZ_LOOPS; loop++) {
        if (loop->loop) {
            fuzz_expect(weir_sim_restart(fuzz.sim) == -EBUSY, "a restart with loops", 0);
            poke_dead_loop(loop);
            fuzz_abandon(loop);
        }
    }
    fuzz_say("restart");
    fuzz_expect(weir_sim_fds(fuzz.sim) == 0, "fds after a crash", weir_sim_fds(fuzz.sim));
    fuzz_expect(weir_sim_restart(fuzz.sim) == 0, "a restart", 0);
    fuzz.fds = 0;
    memset(fuzz.told, 0, sizeof fuzz.told);
    fuzz.fds_unknown = false;
    fuzz_open_loop();
}

bool fuzz_may_hang(const struct fuzz_loop *loop)
{
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        const struct fuzz_track *track = &fuzz.tracks[i];
        bool in_worker = track->offloaded && track->kind != WEIR_KIND_CALL;
        if (track->live && track->loop == fuzz_number_of(loop) && in_worker) {
            return true; /* a worker that waits is not interrupted */
        }
    }
    return fuzz.may_hang;
}

void fuzz_end_loops(void)
{
    for (struct fuzz_loop *loop = fuzz.loops; loop < fuzz.loops + FUZZ_LOOPS; loop++) {
        if (loop->loop) {
            fuzz_close(loop, -1);
        }
        if (fuzz_crashed()) {
            fuzz_restart();
            fuzz_end_loops();
            return;
        }
        if (loop->loop) {
            fuzz_abandon(loop);
        }
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

static int64_t unlink_at(const char *path, int flags)
{
    struct weir_op op = {0};
    weir_op_unlinkat(&op, AT_FDCWD, path, flags);
    return weir_sim_do(fuzz.sim, &op);
}

/* All that a folder can hold, the folders in it too. */
static void clear_away(const char *folder, int within)
{
    static const char *const names[] = {"a", "b", "d", "s"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4 * FOLDERS_MOST];
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        fuzz_expect(length < (int)sizeof path, "a path is too long", length);
        int64_t r = unlink_at(path, 0);
        if (r == -EISDIR && within < FOLDERS_MOST) {
            clear_away(path, within + 1);
            r = unlink_at(path, AT_REMOVEDIR);
        }
        fuzz_expect(r == 0 || r == -ENOENT, "a file cannot be unlinked", r);
    }
}

static void sync_root(void)
{
    struct weir_op op = {0};
    weir_op_openat(&op, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
    int fd = (int)weir_sim_do(fuzz.sim, &op);
    fuzz_expect(fd >= WEIR_SIM_FD_FIRST, "the root", fd);
    weir_op_fsync(&op, fd);
    fuzz_expect(weir_sim_do(fuzz.sim, &op) == 0, "a sync of the root", 0);
    weir_sim_file_close(fuzz.sim, fd);
}

void fuzz_close_world(void)
{
    fuzz_expect(weir_sim_fds(fuzz.sim) == fuzz.fds || fuzz.fds_unknown, "open fds",
                weir_sim_fds(fuzz.sim));
    for (int i = 0; i < FUZZ_FDS_MAX; i++) {
        weir_sim_file_close(fuzz.sim, WEIR_SIM_FD_FIRST + i);
    }
    clear_away("", 0);
    sync_root();
    for (int steps = 0; weir_sim_step(fuzz.sim); steps++) {
        fuzz_expect(steps < STEPS_MOST, "an empty world goes on", steps);
    }
    size_t used = weir_arena_used(&fuzz.sim->arena);
    fuzz_expect(used == fuzz.arena_was, "bytes that an empty world keeps",
                (int64_t)(used - fuzz.arena_was));
    fuzz_expect(weir_sim_close(fuzz.sim) == 0, "a close of a world", 0);
    fuzz.sim = NULL;
}
