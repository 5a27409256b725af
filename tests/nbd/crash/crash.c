/* SPDX-License-Identifier: MIT */
/*
 * nbd_crash [--seed SEED [--trace | --show] | --crashes COUNT] [--without WHAT [--blind]]
 *
 * The core of weir-nbd in simulated worlds, a seed each: clients write, flush, trim and read over
 * several connections, things go wrong, the machine stops at any point, and the disk is read. What
 * was promised (by a reply to a change with FUA, or to a FLUSH that was sent after a change had
 * been answered) must be there, and at every byte nothing but what may be; and no such promise may
 * leave before the sync that covers it is back. --without takes away one of the things that make it
 * so: then that must be found, within SEEDS_WITHOUT seeds, by a reply that leaves too early; or,
 * with --blind, by what is lost.
 *
 * --show prints what becomes of promises, of a world in which nothing goes wrong.
 */
#include "crash.h"
#include "client.h"
#include "machine.h"
#include "order.h"
#include "without.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIVES_MAX = 12, /* of a world, from start to crash */
    SHOWN = 10,     /* requests, with --show, in one life */
    SEEDS_WITHOUT = 100,
    SIZE_MAX_BYTES = 1 << 20,
};

struct world world;
struct total total;
bool is_shown, is_blind;

/* --- drawn and told --------------------------------------------------------------------------- */

uint64_t draw(uint64_t below)
{
    return weir_sim_random(world.sim) % below;
}

void complain(const char *format, ...)
{
    if (!world.complaint[0]) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(world.complaint, sizeof world.complaint, format, arguments);
        va_end(arguments);
    }
}

void show(const char *format, ...)
{
    if (is_shown) {
        va_list arguments;
        uint64_t ns = weir_sim_now(world.sim);
        printf("%" PRIu64 ".%09" PRIu64 " ", ns / (uint64_t)WEIR_S, ns % (uint64_t)WEIR_S);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        puts("");
    }
}

static void trace_line(void *context, const char *line)
{
    (void)context;
    puts(line);
}

/* --- a life ----------------------------------------------------------------------------------- */

static unsigned char found[SIZE_MAX_BYTES];
static bool is_made; /* the disk */

/* What the machine has kept. */
static bool recover(void)
{
    if (!is_made) {
        is_made = machine_make_disk();
        return is_made;
    }
    if (!machine_read_disk(found)) {
        return false;
    }
    uint64_t wrong = model_check_survivors(found);
    if (wrong != MODEL_RIGHT) {
        complain("at %" PRIu64 " something is lost that was promised", wrong);
    }
    model_begin(found);
    return !world.complaint[0];
}

static void serve(void)
{
    bool is_long = draw(world.is_calm ? 2 : 12) == 0 || is_shown;
    uint64_t now_ns = weir_sim_now(world.sim);
    uint64_t end_ns = now_ns + (is_long ? (world.is_calm ? 40 * WEIR_S : 200 * WEIR_MS)
                                        : draw((draw(2) ? 20 : 3) * WEIR_MS));
    uint64_t drain_ns = draw(4) == 0 && !is_shown ? now_ns + draw(10 * WEIR_MS) : UINT64_MAX;
    int result = 0;
    world.asks_left = is_shown ? SHOWN : 10 + (uint32_t)draw(200);
    clients_begin();
    while (result >= 0 && !clients_are_done() && now_ns < end_ns && !world.complaint[0]) {
        result = machine_turn();
        now_ns = weir_sim_now(world.sim);
        for (uint32_t i = 0; now_ns >= drain_ns && i < world.shard_count; i++) {
            world.is_draining = true;
            shard_drain(&shards[i]);
        }
    }
    if (weir_sim_has_crashed(world.sim)) {
        return;
    }
    if (result < 0) {
        complain("the loops do not go on: %s", strerror(-result));
    } else if (is_long && world.is_calm && !clients_are_done()) {
        complain("the server does not answer");
    }
}

static void live(void)
{
    struct weir_options options = {.policy = WEIR_SIM, .sim.world = world.sim, .depth = 64};
    if (weir_loop_open(&options, &world.loop) < 0) {
        complain("no loop");
        return;
    }
    world.is_draining = false;
    asks_begin();
    order_begin();
    without_begin();
    if (recover() && machine_start()) {
        serve();
    }
    weir_sim_crash(world.sim); /* if nothing has done that */
    machine_abandon();
    weir_sim_restart(world.sim);
    total.crashes++;
}

/* --- a world ---------------------------------------------------------------------------------- */

#define KIND(kind) (1ULL << WEIR_KIND_##kind)

/* What may go wrong. Each world has some of it: much of one hides another. */
static const struct weir_sim_fault misfortunes[] = {
    {.what = WEIR_SIM_CRASH, .per_million = 2000},
    {.what = WEIR_SIM_CRASH, .kinds = KIND(FSYNC) | KIND(SENDMSG), .per_million = 5000},
    {.what = WEIR_SIM_SHORT, .per_million = 200000},
    {.what = WEIR_SIM_DELAY, .per_million = 50000, .delay = {0, 5 * WEIR_MS}},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(WRITE) | KIND(WRITEV), .per_million = 10000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(FALLOCATE), .per_million = 30000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(FALLOCATE), .per_million = 300000, .error = EOPNOTSUPP},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(READ) | KIND(FADVISE), .per_million = 10000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(RECV) | KIND(SENDMSG), .per_million = 1000},
    {.what = WEIR_SIM_STUCK, .per_million = 1000},
    {.what = WEIR_SIM_DEAF, .kinds = KIND(FSYNC) | KIND(WRITE), .per_million = 1000},
    {.what = WEIR_SIM_RESET, .per_million = 1000},
    {.what = WEIR_SIM_LATE, .per_million = 100000},
};

/* A sync that fails is told to each who has the file open in Linux; in a world to the one whose op
 * it was. So with one shard any may fail; with two all of them from one on. */
static const struct weir_sim_fault sync_fails[] = {
    {.what = WEIR_SIM_ERROR, .kinds = KIND(FSYNC), .per_million = 50000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(FSYNC), .nth = 60, .count = WEIR_SIM_ALWAYS},
};

static void draw_world(uint64_t seed, struct weir_sim_fault *faults, struct weir_sim_plan *plan)
{
    enum { COUNT = sizeof misfortunes / sizeof *misfortunes };
    uint64_t bits = seed * 0x9e3779b97f4a7c15ULL >> 16;
    world = (struct world){.is_calm = is_shown || (bits & 3) == 0};
    world.shard_count = 1 + (bits >> 2 & 1);
    world.block = (bits >> 3 & 3) == 0 ? 512 : 1;
    world.size = (400u << 10) + (bits >> 5 & 0x7ffff); /* of that, to 512 KiB more */
    world.size -= world.size % world.block;
    world.is_small = (bits >> 24 & 7) == 0;
    plan->disk_bytes = world.is_small ? 300 << 10 : 0; /* 0: plenty */
    plan->sector_bytes = 64u << (bits >> 27 & 3) * 2;  /* 64 to 4096 */
    if (bits >> 29 & 1) { /* a disk that is slow to write, and has synced soon */
        plan->storage = (struct weir_sim_span){50 * WEIR_US, WEIR_MS};
        plan->sync = (struct weir_sim_span){WEIR_US, 100 * WEIR_US};
    }
    plan->faults = faults;
    if (world.is_calm) {
        return;
    }
    if (bits >> 30 & 1) {
        faults[plan->fault_count++] = sync_fails[world.shard_count - 1];
    }
    for (int i = 0; i < COUNT; i++) {
        if (bits >> (31 + i) & 1) {
            world.may_not_trim |= misfortunes[i].error == EOPNOTSUPP;
            faults[plan->fault_count++] = misfortunes[i];
        }
    }
}

/* Many lives of one disk. False: there is a complaint. */
static bool survives(uint64_t seed, bool is_traced, uint64_t crashes)
{
    struct weir_sim_fault faults[1 + sizeof misfortunes / sizeof *misfortunes];
    struct weir_sim_plan plan = {.trace = is_traced ? trace_line : NULL};
    struct weir_sim_counters counters;
    draw_world(seed, faults, &plan);
    if (weir_sim_open(seed, &plan, &world.sim) < 0) {
        complain("no memory for a world");
        return false;
    }
    model_init(world.size);
    is_made = false;
    for (int i = 0;
         i < (is_shown ? 1 : LIVES_MAX) && !world.complaint[0] && total.crashes < crashes; i++) {
        live();
    }
    if (!world.complaint[0] && !is_shown) { /* the last crash is looked at as well */
        live();
    }
    weir_sim_counters(world.sim, &counters);
    total.sectors_lost += counters.sectors_lost;
    total.sectors_torn += counters.sectors_torn;
    total.simulated_ns += weir_sim_now(world.sim) - 3600 * WEIR_S; /* where it begins */
    if (is_traced) {
        printf("hash %016" PRIx64 "\n", weir_sim_hash(world.sim));
    }
    weir_sim_close(world.sim);
    return !world.complaint[0];
}

/* --- the program ------------------------------------------------------------------------------ */

static const char *const withouts[] = {"nothing", "flush", "fua", "wait", "anew", "memory"};

static void tell(const char *program, uint64_t seed)
{
    printf("seed %" PRIu64 ": %s\nagain: %s --seed %" PRIu64 "%s%s%s\n", seed, world.complaint,
           program, seed, nbd_without ? " --without " : "",
           nbd_without ? withouts[nbd_without] : "", is_blind ? " --blind" : "");
}

static void tell_total(uint64_t seeds)
{
    printf("%" PRIu64 " crashes in %" PRIu64 " worlds and %.1f simulated seconds\n"
           "changes: %" PRIu64 " answered, %" PRIu64 " of them with FUA; flushes: %" PRIu64
           "; reads: %" PRIu64 "\n"
           "requests that failed: %" PRIu64 ", that were never answered: %" PRIu64 "\n"
           "sectors lost in crashes: %" PRIu64 ", torn off the rest of their write: %" PRIu64 "\n"
           "promises that left after the sync that covers them: %" PRIu64 "\n"
           "nothing that was promised is lost\n",
           total.crashes, seeds, (double)total.simulated_ns / 1e9, total.changes, total.promises,
           total.flushes, total.reads, total.failures, total.unanswered, total.sectors_lost,
           total.sectors_torn, total.promises_checked);
}

/* The exit code. With something taken away, that is what is to be found. */
static int search(const char *program, uint64_t crashes)
{
    uint64_t seed = 1;
    for (; nbd_without ? seed <= SEEDS_WITHOUT : total.crashes < crashes; seed++) {
        if (!survives(seed, false, crashes)) {
            tell(program, seed);
            return !(nbd_without && strstr(world.complaint, is_blind ? "is lost" : "leaves"));
        }
    }
    tell_total(seed - 1);
    return nbd_without != WITHOUT_NOTHING;
}

static enum nbd_without without_named(const char *name)
{
    for (int i = WITHOUT_FLUSH; i <= WITHOUT_MEMORY; i++) {
        if (strcmp(withouts[i], name) == 0) {
            return (enum nbd_without)i;
        }
    }
    return WITHOUT_NOTHING;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"crashes", required_argument, NULL, 'c'},
                                            {"without", required_argument, NULL, 'w'},
                                            {"trace", no_argument, NULL, 't'},
                                            {"show", no_argument, NULL, 'o'},
                                            {"blind", no_argument, NULL, 'b'},
                                            {0}};
    const char *is_long = getenv("WEIR_LONG");
    uint64_t seed = 0, crashes = is_long && is_long[0] == '1' ? 20000 : 1000;
    bool is_traced = false, is_wrong = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            seed = strtoull(optarg, NULL, 0);
            is_wrong |= seed == 0;
            break;
        case 'c':
            crashes = strtoull(optarg, NULL, 0);
            break;
        case 'w':
            nbd_without = without_named(optarg);
            is_wrong |= nbd_without == WITHOUT_NOTHING;
            break;
        case 't':
            is_traced = true;
            break;
        case 'b':
            is_blind = true;
            break;
        case 'o':
            is_shown = true;
            break;
        default:
            is_wrong = true;
        }
    }
    if (is_wrong || optind < argc || ((is_traced || is_shown) && seed == 0)) {
        fprintf(stderr, "usage: nbd_crash [--seed SEED [--trace | --show] | --crashes COUNT]\n"
                        "                 [--without flush|fua|wait|anew|memory [--blind]]\n");
        return 2;
    }
    if (seed == 0) {
        return search(argv[0], crashes);
    }
    bool is_good = survives(seed, is_traced, UINT64_MAX);
    if (!is_good) {
        tell(argv[0], seed);
    }
    return !is_good;
}
