/* SPDX-License-Identifier: MIT */
/*
 * storm.c: random submits, posts, cancels, deadlines, forgets and closes over files, pipes, sockets
 * and calls, by every route, beside a model that says what the engine may answer. Every accepted op
 * must come back exactly once with a plausible result, no fd may leak, the counters must add up.
 *
 *   storm [--policy io_uring|epoll] [--seed N] [--ops N] [--patience SECONDS] [--broken-cancel]
 *
 * --broken-cancel takes the backend's cancel away: the storm must notice (exit 1, "lost cancel").
 */
#include "storm.h"

#include "check.h"

#include <engine/backend/backend.h>
#include <engine/loop/loop.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t storm_random(struct world *world, uint64_t below)
{
    world->random += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = world->random;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return (mixed ^ (mixed >> 31)) % below;
}

void storm_fail(struct world *world, const char *site, const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "%s: failed: seed %llu, op %llu: ", site, (unsigned long long)world->seed,
            (unsigned long long)world->tally.submitted);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    unlink(world->path);
    _exit(1);
}

#define TURNS_MAX 1000 /* for what no worker carries out */

/* Pipes and sockets: the kernel cancels what waits for them at once, it needs no other thread for
 * it. */
static bool comes_at_once(const struct item *item)
{
    const struct channel *channel = item->channel;
    return channel != NULL && (channel->type == CHANNEL_PIPE || channel->type == CHANNEL_SOCKET) &&
           item->op.kind != WEIR_KIND_SPLICE && item->op.kind != WEIR_KIND_CLOSE && !item->posted;
}

/* An op whose cancel was promised long ago is lost. The time is only a guard, and generous; while
 * the machine itself stands still (virtual ones do, for half a minute) it does not pass. */
static void scan(struct world *world)
{
    uint64_t now = weir_now(world->loop);
    if (world->turn % 256 != 0 && now < world->scanned_ns + 100 * WEIR_MS) {
        return;
    }
    uint64_t gap_ns = now - world->scanned_ns;
    world->patience_ns += world->scanned_ns != 0 && gap_ns > WEIR_S ? gap_ns : 0;
    world->scanned_ns = now;
    for (unsigned i = 0; i < world->places; i++) {
        const struct item *item = world->items[i];
        if (item == NULL || item->asked_ns == 0) {
            continue;
        }
        bool turned = world->turn > item->asked_turn + TURNS_MAX && comes_at_once(item);
        if (turned || now > item->asked_ns + world->patience_ns) {
            storm_fail(world, WEIR_SITE,
                       "lost cancel: %s on fd %d was asked back %llu turns and %llu ms ago and did "
                       "not come",
                       weir_kind_name(item->op.kind), item->op.fd,
                       (unsigned long long)(world->turn - item->asked_turn),
                       (unsigned long long)(now - item->asked_ns) / WEIR_MS);
        }
    }
}

static void turn(struct world *world, int64_t wait_ns)
{
    world->turn++;
    int called = weir_loop_turn(world->loop, wait_ns);
    if (called < 0) {
        storm_fail(world, WEIR_SITE, "turn answered %s", strerror(-called));
    }
    mail_collect(world);
    scan(world);
}

/* --- the whole -------------------------------------------------------------------------------- */

static uint32_t one_of(struct world *world, const uint32_t *values, size_t count)
{
    return values[storm_random(world, count)];
}

static void choose_options(struct world *world)
{
    static const uint32_t depths[] = {1, 2, 3, 4, 8, 16, 64, 256};
    static const uint32_t timers[] = {1, 4, 64};
    static const uint32_t admits[] = {0, 1, 3, 16};
    static const uint32_t workers[] = {0, 0, 2};
    static const uint32_t cancels[] = {20, 100, 300};
    static const uint32_t closes[] = {1, 5, 20};
    struct weir_options *options = &world->options;
    options->depth = one_of(world, depths, sizeof depths / sizeof depths[0]);
    uint32_t waiting[] = {0, 1, options->depth, 4 * options->depth};
    options->waiting_max = one_of(world, waiting, sizeof waiting / sizeof waiting[0]);
    options->timers_max = one_of(world, timers, sizeof timers / sizeof timers[0]);
    options->admit_ops_max = one_of(world, admits, sizeof admits / sizeof admits[0]);
    options->admit_bytes_max = storm_random(world, 2) * 4096;
    options->workers_bounded = one_of(world, workers, sizeof workers / sizeof workers[0]);
    world->cancels = one_of(world, cancels, sizeof cancels / sizeof cancels[0]);
    world->closes = one_of(world, closes, sizeof closes / sizeof closes[0]);
    options->offload_workers = 1 + (uint32_t)storm_random(world, 3);
    options->offload_depth = one_of(world, depths, sizeof depths / sizeof depths[0]);
    options->offload_waiting_max = one_of(world, waiting, sizeof waiting / sizeof waiting[0]);
    options->flags = storm_random(world, 2) == 0 ? WEIR_CALLER_RUNS : 0;
    options->posts_max = one_of(world, timers, sizeof timers / sizeof timers[0]);
    options->spin_ns_max = storm_random(world, 4) == 0 ? 20 * WEIR_US : 0;
    world->places = STORM_POSTED;
    for (unsigned i = 0; i < BOUNDS; i++) {
        world->places += storm_most(world, (enum bound)i);
    }
    printf(
        "seed %llu: depth %u, waiting_max %u, timers_max %u, admit %u ops and %llu bytes, "
        "%u cancels and %u closes in 1000 steps; %u workers, offload depth %u and waiting %u, %s, "
        "posts_max %u, spin %llu ns\n",
        (unsigned long long)world->seed, options->depth, options->waiting_max, options->timers_max,
        options->admit_ops_max, (unsigned long long)options->admit_bytes_max, world->cancels,
        world->closes, options->offload_workers, options->offload_depth,
        options->offload_waiting_max, options->flags != 0 ? "caller runs" : "refuses",
        options->posts_max, (unsigned long long)options->spin_ns_max);
    fflush(stdout);
}

static enum weir_cancelled cancel_nothing(struct weir_backend *backend, struct weir_op *op)
{
    (void)backend;
    (void)op;
    return WEIR_CANCEL_ASKED;
}

static void break_cancel(struct weir_loop *loop)
{
    static struct weir_backend_table broken;
    struct weir_backend *backend = weir_loop_backend(loop);
    broken = *backend->table;
    broken.cancel = cancel_nothing;
    backend->table = &broken;
}

static void prepare(struct world *world, bool broken_cancel)
{
    choose_options(world);
    world->items = calloc(world->places, sizeof *world->items);
    CHECK(world->items != NULL);
    world->null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(world->null >= 0);
    snprintf(world->path, sizeof world->path, "weir-storm-XXXXXX");
    int fd = mkstemp(world->path);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, STORM_FILE_SIZE), 0);
    close(fd);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1); /* SIGNAL waits for it */
    CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    CHECK((world->child = fork()) >= 0);
    if (world->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    CHECK_EQUAL(weir_loop_open(&world->options, &world->loop), 0);
    mail_start(world);
    if (broken_cancel) {
        /* A forgotten op that stays hits whoever gets its fd's number: seen first, but not meant.
         * */
        world->closes = 0;
        break_cancel(world->loop);
    }
    static const char *const names[STORM_TASKS] = {"one", "two", "three"};
    for (unsigned i = 0; i < STORM_TASKS; i++) {
        struct weir_task_options options = {.name = names[i]};
        CHECK_EQUAL(weir_task_open(world->loop, &options, &world->tasks[i]), 0);
    }
    for (unsigned i = 0; i < STORM_CHANNELS; i++) {
        channel_open(world, i);
    }
}

static void check_counters(struct world *world)
{
    struct weir_counters counters;
    mail_settle(world);
    unsigned live = storm_live(world);
    unsigned timers = world->live[BOUND_TIMERS];
    CHECK_EQUAL(weir_loop_counters(world->loop, &counters), 0);
    CHECK_EQUAL(counters.submitted, world->tally.submitted);
    CHECK_EQUAL(counters.refused, world->tally.refused);
    CHECK_EQUAL(counters.finished, world->tally.finished);
    CHECK_EQUAL(counters.submitted - counters.finished, live);
    CHECK(counters.in_flight <= world->options.depth);
    CHECK(counters.in_flight + counters.waiting <= world->live[BOUND_GATE]);
    CHECK(counters.offload_in_flight <= world->options.offload_depth);
    CHECK(counters.offload_in_flight + counters.offload_waiting <= world->live[BOUND_OFFLOAD]);
    CHECK_EQUAL(counters.posts, world->posts);
    CHECK_EQUAL(counters.posts_refused, world->posts_refused);
    CHECK_EQUAL(counters.caller_ran, world->caller_ran);
    CHECK_EQUAL(counters.cq_overflow, 0);
    CHECK_EQUAL(counters.stale, 0);
    CHECK(counters.timers <= timers);
    CHECK(counters.timers >= timers - world->live_posted[BOUND_TIMERS]);
    CHECK_EQUAL(weir_loop_live(world->loop), live);
    for (unsigned i = 0; i < STORM_TASKS; i++) {
        struct weir_task_counters task;
        const struct tally *tally = &world->task_tallies[i];
        CHECK_EQUAL(weir_task_read_counters(world->tasks[i], &task), 0);
        if (world->loop->inbox != NULL) {
            break; /* what is there was not counted yet */
        }
        CHECK_EQUAL(task.submitted, tally->submitted);
        CHECK_EQUAL(task.refused, tally->refused);
        CHECK_EQUAL(task.finished, tally->finished);
        CHECK_EQUAL(task.cancelled, tally->cancelled);
        CHECK_EQUAL(task.expired, tally->expired);
        CHECK_EQUAL(task.live, tally->submitted - tally->finished);
    }
}

static void blow(struct world *world)
{
    while (world->tally.submitted < world->ops_wanted) {
        for (uint64_t steps = storm_random(world, 32); steps > 0; steps--) {
            storm_step(world);
        }
        turn(world, storm_random(world, 8) == 0 ? 20 * WEIR_US : 0);
        if (storm_random(world, 1024) == 0) {
            check_counters(world);
        }
    }
}

/* Asks for every op back and waits until all are: half of the seeds; the others leave that to
 * close. */
static void calm(struct world *world)
{
    mail_settle(world);
    while (storm_live(world) > 0) {
        for (unsigned i = 0; i < world->places; i++) {
            if (world->items[i] != NULL) {
                storm_cancel(world, world->items[i]);
            }
        }
        turn(world, WEIR_MS);
    }
}

static void submit_openat(struct world *world)
{
    struct item *item = item_new(world, NULL, 0);
    /* O_CREAT, though it is there: the kernel leaves that to a worker, which may be half-way. */
    weir_op_openat(&item->op, AT_FDCWD, world->path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    storm_submit(world, item);
}

/* Fills the gate with ops that make fds, some of which have begun when close asks for them; and
 * more than fills it, so that some wait for room. */
static void burst(struct world *world)
{
    for (uint32_t i = 0; i < world->options.depth; i++) {
        submit_openat(world);
    }
    turn(world, 0);
    uint64_t refused = world->tally.refused;
    while (world->tally.refused < refused + STORM_ROOMS * 8) {
        submit_openat(world);
    }
}

static void on_closed(struct weir_loop *loop, int result)
{
    CHECK(loop != NULL);
    CHECK_EQUAL(result, 0);
}

static void close_all(struct world *world)
{
    if (storm_random(world, 2) == 0) {
        mail_end(world);
    }
    world->closing = true;
    if (__atomic_load_n(&world->posting, __ATOMIC_RELAXED)) {
        /* Posts may come while it closes: refused, or accepted before and handed back. */
        CHECK_EQUAL(weir_loop_close_begin(world->loop, (int64_t)world->patience_ns, on_closed), 0);
        mail_end(world);
    }
    struct weir_report left = {0};
    int answer = weir_loop_close(world->loop, (int64_t)world->patience_ns, &left);
    for (size_t i = 0; answer != 0 && i < left.count; i++) {
        fprintf(stderr, "out: a %s on fd %d, %s, for %llu ms\n", left.ops[i].kind, left.ops[i].fd,
                left.ops[i].state, (unsigned long long)left.ops[i].age_ns / WEIR_MS);
    }
    if (answer != 0) {
        storm_fail(world, WEIR_SITE, "close answered %d, %zu ops are out", answer, left.count);
    }
    for (unsigned i = 0; i < world->places; i++) {
        STORM_CHECK(world, world->items[i] == NULL);
    }
    for (unsigned i = 0; i < STORM_ROOMS; i++) {
        STORM_CHECK(world, !world->rooms[i].waits);
    }
    for (unsigned i = 0; i < STORM_CHANNELS; i++) {
        if (world->channels[i] != NULL) {
            channel_close(world, world->channels[i]);
        }
    }
    item_quarantine_empty(world);
    CHECK_EQUAL(world->tally.submitted, world->tally.finished);
    CHECK_EQUAL(unlink(world->path), 0);
    CHECK_EQUAL(kill(world->child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(world->child, NULL, 0), world->child); /* nobody reaped it */
    close(world->null);
    free(world->items);
}

static void storm(struct world *world, bool broken_cancel)
{
    size_t fds = check_fd_count();
    world->random = world->seed;
    prepare(world, broken_cancel);
    blow(world);
    if (storm_random(world, 2) == 0) {
        calm(world);
    }
    check_counters(world);
    burst(world);
    close_all(world);
    CHECK_EQUAL(check_fd_count(), fds);
    printf("%llu ops came back once: %llu cancelled, %llu past deadline; %llu refused;"
           " %llu forgets, %llu times a number was reused at once; %llu posts, %llu refused; "
           "%llu calls run by submit\n",
           (unsigned long long)world->tally.finished, (unsigned long long)world->tally.cancelled,
           (unsigned long long)world->tally.expired, (unsigned long long)world->tally.refused,
           (unsigned long long)world->forgets, (unsigned long long)world->reused,
           (unsigned long long)world->posts, (unsigned long long)world->posts_refused,
           (unsigned long long)world->caller_ran);
    for (unsigned kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        if (world->kinds[kind] > 0) {
            printf("%s %llu; ", weir_kind_name(kind), (unsigned long long)world->kinds[kind]);
        }
    }
    printf("\nOK\n");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"policy", required_argument, NULL, 'P'},  {"seed", required_argument, NULL, 's'},
        {"ops", required_argument, NULL, 'o'},     {"patience", required_argument, NULL, 'p'},
        {"broken-cancel", no_argument, NULL, 'b'}, {0},
    };
    static struct world world;
    bool broken_cancel = false;
    world.seed = (uint64_t)time(NULL);
    world.ops_wanted = 100000;
    world.patience_ns = 20 * WEIR_S;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'P':
            world.options.policy = strcmp(optarg, "epoll") == 0 ? WEIR_EPOLL : WEIR_IO_URING;
            break;
        case 's':
            world.seed = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            world.ops_wanted = strtoull(optarg, NULL, 0);
            break;
        case 'p':
            world.patience_ns = strtoull(optarg, NULL, 0) * WEIR_S;
            break;
        case 'b':
            broken_cancel = true;
            break;
        default:
            return 2;
        }
    }
    check_guard(600);
    storm(&world, broken_cancel);
    return 0;
}
