/* SPDX-License-Identifier: MIT */
/* sim_world.c: a world's beginning and end, its crashes, and what weir/sim.h offers besides. */
#include "sim.h"

#include <engine/base/guard.h>
#include <sys/mman.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define US 1000ULL
#define MEMORY_MIN (4 * MIB)
#define MEMORY_MAX (1ULL << 44)
#define FDS_MAX (1u << 20)
#define PIPE_MAX (1u << 30)
#define DISK_SEED 0x6469736bULL

/* --- the plan --------------------------------------------------------------------------------- */

static void set_span(struct weir_sim_span *span, uint64_t min_ns, uint64_t max_ns)
{
    if (span->min_ns == 0 && span->max_ns == 0) {
        *span = (struct weir_sim_span){min_ns, max_ns};
    }
}

static void set_defaults(struct weir_sim_plan *plan)
{
    set_span(&plan->storage, 20 * US, 200 * US);
    set_span(&plan->sync, 200 * US, 2000 * US);
    set_span(&plan->network, 20 * US, 100 * US);
    set_span(&plan->call, 1 * US, 100 * US);
    plan->storage_bytes_per_s = plan->storage_bytes_per_s ? plan->storage_bytes_per_s : GIB;
    plan->network_bytes_per_s = plan->network_bytes_per_s ? plan->network_bytes_per_s : GIB;
    plan->disk_bytes = plan->disk_bytes ? plan->disk_bytes : 256 * MIB;
    plan->fds_max = plan->fds_max ? plan->fds_max : 1024;
    plan->pipe_bytes = plan->pipe_bytes ? plan->pipe_bytes : 64 * KIB;
    plan->sector_bytes = plan->sector_bytes ? plan->sector_bytes : 512;
    plan->memory_bytes = plan->memory_bytes ? plan->memory_bytes : 512 * MIB;
}

static bool is_span(const struct weir_sim_span *span)
{
    return span->min_ns <= span->max_ns;
}

/* Defaults filled in. */
static bool fits(const struct weir_sim_plan *plan)
{
    uint32_t sector = plan->sector_bytes;
    bool sector_fits =
        sector >= WEIR_DISK_SECTOR_MIN && sector <= WEIR_DISK_PAGE && (sector & (sector - 1)) == 0;
    bool spans_fit = is_span(&plan->storage) && is_span(&plan->sync) && is_span(&plan->network) &&
                     is_span(&plan->call);
    bool faults_fit =
        plan->fault_count == 0 || (plan->faults && plan->fault_count <= WEIR_SIM_FAULTS_MAX &&
                                   weir_sim_faults_fit(plan->faults, plan->fault_count));
    return sector_fits && spans_fit && faults_fit && plan->fds_max <= FDS_MAX &&
           plan->pipe_bytes <= PIPE_MAX && plan->memory_bytes >= MEMORY_MIN &&
           plan->memory_bytes <= MEMORY_MAX;
}

/* --- birth and end ---------------------------------------------------------------------------- */

/* What a world needs from the beginning. */
static int furnish(struct weir_sim *sim)
{
    const struct weir_sim_plan *plan = &sim->plan;
    size_t faults_size = plan->fault_count * sizeof *sim->faults;
    sim->fds_max = plan->fds_max;
    sim->fds = weir_arena_take(&sim->arena, sim->fds_max * sizeof *sim->fds);
    if (!sim->fds) {
        return -ENOMEM;
    }
    if (plan->fault_count > 0) {
        sim->faults = weir_arena_take(&sim->arena, faults_size);
        sim->matched = weir_arena_take(&sim->arena, plan->fault_count * sizeof *sim->matched);
        if (!sim->faults || !sim->matched) {
            return -ENOMEM;
        }
        memcpy(sim->faults, plan->faults, faults_size);
    }
    sim->plan.faults = sim->faults;
    struct weir_disk_options disk = {
        .bytes = plan->disk_bytes,
        .sector_bytes = plan->sector_bytes,
        .seed = sim->dice[WEIR_SIM_DIE_TIME] ^ DISK_SEED,
    };
    int r = weir_disk_init(&sim->arena, &disk, &sim->disk);
    if (r < 0) {
        return r;
    }
    weir_disk_set_now(sim->disk, sim->now_ns);
    sim->net = (struct weir_net){
        .arena = &sim->arena,
        .disk = sim->disk,
        .capacity = plan->pipe_bytes,
        .bytes_per_s = plan->network_bytes_per_s,
        .changed = weir_sim_stream_changed,
        .context = sim,
    };
    return 0;
}

int weir_sim_make(const struct weir_sim_options *options, struct weir_sim **ret_sim)
{
    struct weir_sim_plan plan = options->plan ? *options->plan : (struct weir_sim_plan){0};
    set_defaults(&plan);
    if (!fits(&plan)) {
        return -EINVAL;
    }
    void *memory = mmap(NULL, plan.memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    struct weir_sim *sim = memory;
    size_t own = (sizeof *sim + 63) & ~(size_t)63;
    sim->size = plan.memory_bytes;
    sim->plan = plan;
    sim->thread = weir_thread_self();
    sim->now_ns = WEIR_SIM_BEGIN_NS;
    sim->late = options->seed & 1;
    weir_sim_seed(sim, options->seed);
    weir_arena_init(&sim->arena, (char *)memory + own, sim->size - own);
    int r = furnish(sim);
    if (r < 0) {
        weir_sim_free(sim);
        return r;
    }
    weir_sim_trace(sim, "begins", NULL, (int64_t)options->seed);
    *ret_sim = sim;
    return 0;
}

void weir_sim_free(struct weir_sim *sim)
{
    weir_arena_end(&sim->arena);
    munmap(sim, sim->size);
}

int weir_sim_open(uint64_t seed, const struct weir_sim_plan *plan, struct weir_sim **ret_sim)
{
    if (!ret_sim) {
        return -EINVAL;
    }
    return weir_sim_make(&(struct weir_sim_options){.seed = seed, .plan = plan}, ret_sim);
}

int weir_sim_close(struct weir_sim *sim)
{
    if (sim && sim->loops) {
        return -EBUSY;
    }
    if (sim) {
        weir_sim_free(sim);
    }
    return 0;
}

/* --- crashes ---------------------------------------------------------------------------------- */

static void stop_loop(struct weir_sim_loop *loop)
{
    weir_sim_drop_all(loop);
    loop->base.dead = -EOWNERDEAD;
    loop->base.died(loop->base.context, -EOWNERDEAD);
}

int weir_sim_crash(struct weir_sim *sim)
{
    if (!sim) {
        return -EINVAL;
    }
    if (sim->crashed) {
        return -EALREADY;
    }
    weir_sim_trace(sim, "crash", NULL, 0);
    sim->crashed = true;
    sim->counters.crashes++;
    for (struct weir_sim_loop *loop = sim->loops; loop; loop = loop->next) {
        stop_loop(loop);
    }
    for (struct weir_stream *stream = sim->net.bound; stream; stream = stream->next_bound) {
        stream->inode = NULL; /* the disk drops its holds itself */
    }
    weir_sim_file_drop_all(sim);
    weir_disk_crash(sim->disk);
    struct weir_disk_losses losses;
    weir_disk_losses(sim->disk, &losses);
    sim->counters.sectors_lost = losses.sectors_lost;
    sim->counters.sectors_torn = losses.sectors_torn;
    weir_sim_trace(sim, "lost", NULL, (int64_t)losses.sectors_lost);
    weir_sim_trace(sim, "torn", NULL, (int64_t)losses.sectors_torn);
    return 0;
}

bool weir_sim_has_crashed(const struct weir_sim *sim)
{
    return sim && sim->crashed;
}

int weir_sim_restart(struct weir_sim *sim)
{
    if (!sim || !sim->crashed) {
        return -EINVAL;
    }
    if (sim->loops) {
        return -EBUSY;
    }
    sim->crashed = false;
    weir_sim_trace(sim, "restart", NULL, 0);
    return 0;
}

/* --- what one may ask of it ------------------------------------------------------------------- */

uint64_t weir_sim_now(const struct weir_sim *sim)
{
    return sim ? sim->now_ns : 0;
}

uint64_t weir_sim_hash(const struct weir_sim *sim)
{
    return sim ? sim->hash : 0;
}

uint64_t weir_sim_random(struct weir_sim *sim)
{
    return sim ? weir_sim_roll(sim, WEIR_SIM_DIE_USER) : 0;
}

int weir_sim_counters(const struct weir_sim *sim, struct weir_sim_counters *ret_counters)
{
    if (!sim || !ret_counters) {
        return -EINVAL;
    }
    *ret_counters = sim->counters;
    return 0;
}

/* --- pipes and pairs -------------------------------------------------------------------------- */

/* An fd for each end. */
static int open_ends(struct weir_sim *sim, struct weir_stream *ends[2], const int flags[2],
                     int ret_fds[2])
{
    int fds[2] = {-1, -1};
    struct weir_sim_file *files[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = weir_sim_file_open(sim, WEIR_SIM_FILE_STREAM, flags[i], &files[i]);
        if (fds[i] < 0) {
            for (int j = 0; j < 2; j++) {
                weir_stream_close(ends[j], &(struct weir_when){0});
            }
            if (i == 1) {
                weir_sim_file_close(sim, fds[0]);
            }
            return fds[i];
        }
    }
    for (int i = 0; i < 2; i++) {
        files[i]->stream = ends[i];
        ends[i]->user = files[i];
        ret_fds[i] = fds[i];
    }
    return 0;
}

static int judge_two(const struct weir_sim *sim, const int *ret_fds, int flags, int known)
{
    if (!sim || !ret_fds || sim->crashed || flags & ~known) {
        return -EINVAL;
    }
    return sim->fds_open + 2 > sim->plan.fds_max ? -EMFILE : 0;
}

int weir_sim_pipe(struct weir_sim *sim, int ret_fds[2], int flags)
{
    struct weir_stream *ends[2];
    int r = judge_two(sim, ret_fds, flags, O_NONBLOCK | O_CLOEXEC);
    r = r < 0 ? r : weir_stream_pipe(&sim->net, ends);
    const int both[2] = {flags | O_RDONLY, flags | O_WRONLY};
    return r < 0 ? r : open_ends(sim, ends, both, ret_fds);
}

int weir_sim_socketpair(struct weir_sim *sim, int type, int ret_fds[2])
{
    struct weir_stream *ends[2];
    int flags = type & (SOCK_NONBLOCK | SOCK_CLOEXEC);
    int r = judge_two(sim, ret_fds, 0, 0);
    r = r < 0 ? r : weir_stream_pair(&sim->net, type & ~flags, ends);
    int opened = O_RDWR | (flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
    const int both[2] = {opened | (flags & SOCK_CLOEXEC ? O_CLOEXEC : 0),
                         opened | (flags & SOCK_CLOEXEC ? O_CLOEXEC : 0)};
    return r < 0 ? r : open_ends(sim, ends, both, ret_fds);
}
