/* SPDX-License-Identifier: MIT */
/* perf/gate_bench.c: what each kind of trial opens, runs and reads; and both ends of the socket. */
#include "gate_bench.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "interval.h"
#include "meter.h"
#include "report.h"

/* Of a stretch at full load, not counted: sockets fill, depths settle. */
#define SETTLE 0.2
#define SAMPLE_NS (2 * (uint64_t)WEIR_MS)

/*
 * The foreground has places for all that arrive while the loop is in the longest turn, so that
 * waiting is compared and not refusing. Its reserve covers what arrives in a turn
 * (some 20 us: two or three); these leave with the next one, past the budget.
 */
#define FRONT_PLACES 4096
#define FRONT_SHARE 8
#define FRONT_RESERVE 8
#define TURN_BYTES (2 * BACK_BLOCK + FRONT_RESERVE * FRONT_BLOCK)

#define LOW_LOAD 0.5 /* of the capacity, in turns with */
#define HIGH_LOAD 3
#define IDLE_LOAD 0.1
#define GOAL_FACTOR 2 /* goal over the p99 of FLIGHT at IDLE_LOAD */

struct state {
    struct workload *file;
    struct rig *rig;
    int statm;
};

/* --- opening ---------------------------------------------------------------------------------- */

/* The rig for that plan: the one that stands, or a new one. 0; -1 after a message. */
static int have_rig(struct state *state, const struct rig_plan *plan)
{
    if (state->rig != NULL && memcmp(&state->rig->plan, plan, sizeof *plan) == 0) {
        return 0;
    }
    rig_close(state->rig);
    state->rig = NULL;
    return rig_open(plan, state->file, &state->rig);
}

/* A loop with a gate, and one task that has all of it. */
static void plan_gated(const struct trial_plan *plan, struct rig_plan *ret_plan)
{
    memset(ret_plan, 0, sizeof *ret_plan);
    ret_plan->policy = plan->policy;
    ret_plan->echo = plan->echo;
    ret_plan->peer_work_ns = plan->echo ? plan->peer_work_ns : 0;
    ret_plan->depth = plan->depth;
    ret_plan->waiting = plan->waiting;
    ret_plan->flows[FRONT].task.name = plan->echo ? "send" : "read";
    ret_plan->flows[FRONT].block = plan->block;
    /* One to spare, to be refused with. */
    ret_plan->flows[FRONT].requests = plan->depth + plan->waiting + 1;
}

/* All that arrives goes to the kernel at once; only the pool ends it. */
static void plan_ungated(const struct trial_plan *plan, struct rig_plan *ret_plan)
{
    plan_gated(plan, ret_plan);
    uint32_t deepest = WEIR_DEPTH_MAX - DRAINS;
    ret_plan->depth = plan->pool < deepest ? plan->pool : deepest;
    ret_plan->waiting = plan->pool - ret_plan->depth;
    ret_plan->admit_ops_max = plan->pool;
    ret_plan->admit_bytes_max = 1ull << 40;
    ret_plan->flows[FRONT].requests = plan->pool;
    ret_plan->flows[FRONT].untouched = true;
}

/*
 * Reads from the page cache are done inside the enter call, so a turn is as long as what it lets
 * in. Shares on: two background reads a turn, and the reserve. A foreground op then waits for the
 * end of the turn that it found running, and for its own: four reads of 128 KiB at most, some
 * 40 us, where all that may leave (a depth of 32) would be 64 reads. With one read a turn it waits
 * for half of that, but the background loses a tenth to the entering of the kernel; with three it
 * gains little more. Latency goal: the gate's depth does the same by itself, so there is neither
 * budget nor reserve.
 */
static void plan_tasks(const struct trial_plan *plan, struct rig_plan *ret_plan)
{
    plan_gated(plan, ret_plan);
    ret_plan->waiting = BACK_OUT + FRONT_PLACES;
    struct flow_plan *front = &ret_plan->flows[FRONT];
    struct flow_plan *back = &ret_plan->flows[BACK];
    front->task.name = "foreground";
    front->requests = FRONT_PLACES + 1;
    back->task.name = "background";
    back->block = BACK_BLOCK;
    back->requests = BACK_OUT + 1;
    if (plan->sharing == SHARING_ON || plan->sharing == SHARING_GOAL) {
        front->task.share = FRONT_SHARE;
        back->task.share = 1;
    }
    if (plan->sharing == SHARING_ON) {
        front->task.reserve = FRONT_RESERVE;
        ret_plan->admit_bytes_max = TURN_BYTES;
    } else if (plan->sharing == SHARING_GOAL) {
        front->task.goal_ns = plan->front_goal_ns;
    }
}

/* --- running ---------------------------------------------------------------------------------- */

static uint64_t read_rss(const struct state *state)
{
    char text[128] = "";
    ssize_t n = pread(state->statm, text, sizeof text - 1, 0);
    const char *second = n > 0 ? strchr(text, ' ') : NULL;
    uint64_t pages = second != NULL ? strtoull(second, NULL, 10) : 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void watch_rss(const struct state *state, struct trial *trial)
{
    uint64_t rss = read_rss(state);
    trial->rss_min = trial->rss_min == 0 || rss < trial->rss_min ? rss : trial->rss_min;
    trial->rss_max = rss > trial->rss_max ? rss : trial->rss_max;
}

static uint64_t after_ns(uint64_t from_ns, double seconds)
{
    return from_ns + (uint64_t)(seconds * 1e9);
}

/* Closed loop at the gate's depth. 0; -1 after a message. */
static int measure_capacity(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    struct rig *rig = state->rig;
    rig_begin(rig, false);
    rig_keep_out(rig, FRONT, plan->depth);
    rig_work_until(rig, after_ns(rig->begun_ns, SETTLE * plan->capacity_s));
    uint64_t from_ns = meter_clock();
    uint64_t before = rig->flows[FRONT].traffic.finished;
    rig_work_until(rig, after_ns(from_ns, (1 - SETTLE) * plan->capacity_s));
    uint64_t ops = rig->flows[FRONT].traffic.finished - before;
    trial->capacity_per_s = (double)ops * 1e9 / (double)(meter_clock() - from_ns);
    return rig_end(rig);
}

/* The load as paced, watching memory. 0; -1 after a message. */
static int run_load(struct state *state, double seconds, struct trial *trial)
{
    struct rig *rig = state->rig;
    uint64_t from_ns = meter_clock();
    uint64_t now_ns = from_ns;
    uint64_t end_ns = after_ns(now_ns, seconds);
    bool goes_on = true;
    watch_rss(state, trial);
    while (goes_on && now_ns < end_ns) {
        now_ns = now_ns + SAMPLE_NS < end_ns ? now_ns + SAMPLE_NS : end_ns;
        goes_on = rig_work_until(rig, now_ns);
        watch_rss(state, trial);
    }
    trial->wall_s = (double)(meter_clock() - from_ns) / 1e9;
    trial->exhausted = rig->exhausted;
    trial->offered_s = rig->exhausted ? trial->wall_s : seconds;
    trial->turns = rig->turns;
    for (int i = 0; i < FLOWS_MAX; i++) {
        trial->in_time[i] = rig->flows[i].traffic.finished;
    }
    int r = rig_end(rig);
    for (int i = 0; i < FLOWS_MAX; i++) {
        trial->traffic[i] = rig->flows[i].traffic;
    }
    return r;
}

static int try_load(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    struct rig_plan wanted;
    if (plan->gated) {
        plan_gated(plan, &wanted);
    } else {
        plan_ungated(plan, &wanted);
    }
    if (have_rig(state, &wanted) < 0) {
        return -1;
    }
    if (!plan->gated) {
        rig_release(state->rig);
    }
    if (measure_capacity(state, plan, trial) < 0) {
        return -1;
    }
    rig_begin(state->rig, false);
    rig_pace(state->rig, FRONT, plan->multiplier * trial->capacity_per_s);
    return run_load(state, plan->seconds, trial);
}

static int measure_gated_capacity(struct state *state, const struct trial_plan *plan,
                                  struct trial *trial)
{
    struct rig_plan plain;
    plan_gated(plan, &plain);
    return have_rig(state, &plain) < 0 ? -1 : measure_capacity(state, plan, trial);
}

static int try_tasks(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    struct rig_plan wanted;
    plan_tasks(plan, &wanted);
    if (measure_gated_capacity(state, plan, trial) < 0 || have_rig(state, &wanted) < 0) {
        return -1;
    }
    struct rig *rig = state->rig;
    rig_begin(rig, true);
    if (plan->sharing != SHARING_FRONT_ALONE) {
        rig_keep_out(rig, BACK, BACK_OUT);
    }
    if (plan->sharing != SHARING_BACK_ALONE) {
        rig_pace(rig, FRONT, FRONT_PART * trial->capacity_per_s);
    }
    rig_work_until(rig, after_ns(rig->begun_ns, SETTLE * plan->seconds));
    rig_settle(rig);
    return run_load(state, plan->seconds, trial);
}

/* Twice the p99 of FLIGHT of a loop that has little to do. */
static int find_goal(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    struct rig *rig = state->rig;
    struct weir_histogram flight;
    rig_begin(rig, false);
    rig_pace(rig, FRONT, IDLE_LOAD * trial->capacity_per_s);
    rig_work_until(rig, after_ns(rig->begun_ns, plan->seconds));
    rig_take_flight(rig, FRONT, &flight);
    trial->goal_ns = GOAL_FACTOR * weir_histogram_percentile(&flight, 99);
    trial->goal_ns = trial->goal_ns != 0 ? trial->goal_ns : 1; /* a stalled machine: no sample */
    return rig_end(rig);
}

/* True: all of it. */
static bool run_window(struct state *state, uint64_t from_ns, double seconds, struct window *window)
{
    struct rig *rig = state->rig;
    uint64_t before = rig->flows[FRONT].traffic.finished;
    bool goes_on = true;
    for (int i = 0; i < WINDOW_SAMPLES && goes_on; i++) {
        goes_on = rig_work_until(rig, after_ns(from_ns, seconds * (i + 1) / WINDOW_SAMPLES));
        window->depths[i] = rig_depth(rig);
    }
    struct weir_histogram flight;
    rig_take_flight(rig, FRONT, &flight);
    window->flight_p50_ns = weir_histogram_percentile(&flight, 50);
    window->flight_p99_ns = weir_histogram_percentile(&flight, 99);
    window->ops_per_s = (double)(rig->flows[FRONT].traffic.finished - before) / seconds;
    return goes_on;
}

static int try_goal(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    if (measure_gated_capacity(state, plan, trial) < 0 || find_goal(state, plan, trial) < 0) {
        return -1;
    }
    struct rig_plan wanted;
    plan_gated(plan, &wanted);
    wanted.goal_ns = plan->gated ? trial->goal_ns : 0;
    if (have_rig(state, &wanted) < 0) {
        return -1;
    }
    struct rig *rig = state->rig;
    rig_begin(rig, false);
    bool goes_on = true;
    double multiplier = 0;
    for (uint32_t i = 0; i < plan->windows && goes_on; i++) {
        struct window *window = &trial->windows[i];
        window->multiplier = i < 3 || (i - 1) / 2 % 2 == 0 ? LOW_LOAD : HIGH_LOAD;
        if (window->multiplier != multiplier) {
            multiplier = window->multiplier;
            rig_pace(rig, FRONT, multiplier * trial->capacity_per_s);
        }
        goes_on =
            run_window(state, after_ns(rig->begun_ns, i * plan->seconds), plan->seconds, window);
        trial->window_count += goes_on;
    }
    trial->wall_s = (double)(meter_clock() - rig->begun_ns) / 1e9;
    trial->exhausted = rig->exhausted;
    trial->turns = rig->turns;
    int r = rig_end(rig);
    trial->traffic[FRONT] = rig->flows[FRONT].traffic;
    return r;
}

/* --- the process ------------------------------------------------------------------------------ */

static void make_trial(struct state *state, const struct trial_plan *plan, struct trial *trial)
{
    static int (*const tries[])(struct state *, const struct trial_plan *, struct trial *) = {
        [TRIAL_LOAD] = try_load,
        [TRIAL_TASKS] = try_tasks,
        [TRIAL_GOAL] = try_goal,
    };
    memset(trial, 0, sizeof *trial);
    meter_over = 0;
    trial->error = tries[plan->kind](state, plan, trial);
    trial->cut = meter_over != 0;
    struct weir_facts facts;
    if (state->rig != NULL && weir_loop_facts(state->rig->loop, &facts) == 0) {
        snprintf(trial->backend, sizeof trial->backend, "%s", facts.backend);
    }
}

static void live_as_bench(void *context, int fd)
{
    struct state state = {
        .file = context,
        .statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC),
    };
    struct trial_plan plan;
    struct trial *trial = calloc(1, sizeof *trial);
    prctl(PR_SET_TIMERSLACK, 1); /* else a sleep until the next arrival ends 50 us later */
    while (trial != NULL && process_receive(fd, &plan, sizeof plan) == 0) {
        make_trial(&state, &plan, trial);
        if (process_send(fd, trial, sizeof *trial) < 0) {
            break;
        }
    }
    rig_close(state.rig);
    free(trial);
}

int bench_start(struct workload *file, struct bench *ret_bench)
{
    ret_bench->file = file;
    return process_start("the loop", live_as_bench, file, &ret_bench->process);
}

/* Until there is something to receive; after Ctrl-C the process is told to hurry. */
static void await_answer(const struct process *process)
{
    struct pollfd answer = {.fd = process->fd, .events = POLLIN};
    while (poll(&answer, 1, 100) <= 0) {
        if (interrupted) {
            kill(process->pid, SIGALRM);
        }
    }
}

int bench_try(struct bench *bench, const struct trial_plan *plan, struct trial *ret_trial)
{
    if (process_send(bench->process.fd, plan, sizeof *plan) == 0) {
        await_answer(&bench->process);
        if (process_receive(bench->process.fd, ret_trial, sizeof *ret_trial) == 0) {
            return ret_trial->error;
        }
    }
    complain("the process of the loop ended unexpectedly");
    return -1;
}

void bench_end(struct bench *bench)
{
    process_end(&bench->process);
}
