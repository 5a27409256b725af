/* SPDX-License-Identifier: MIT */
/*
 * wal_crash [--seed SEED [--trace] | --crashes COUNT] [--without commit|recovery|directory]
 *
 * The log in simulated worlds, a seed each: clients append, things go wrong, the machine stops at
 * any point, the log recovers; again and again. What was acknowledged must be there, whole and in
 * order, and nothing that was not appended. --without leaves out one of the log's syncs: then it
 * must be found to lose data, within SEEDS_WITHOUT seeds.
 */
#include "wal.h"
#include "wal_without.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CLIENTS = 12,
    RECORDS_MAX = 2048, /* in a world */
    LIVES_MAX = 12,     /* of a world, from start to crash */
    SEEDS_WITHOUT = 100,
};

enum wal_sync wal_without;

/* --- a world, and what its log should hold ---------------------------------------------------- */

static struct weir_sim *sim;
static struct weir_loop *loop;
static struct wal wal;
static struct client { /* appends, is answered, pauses now and then, appends again */
    struct wal_append append;
    struct weir_op pause;
} clients[CLIENTS];
static struct weir_op neighbour; /* other work on the loop, which has a place for one op */

/* Records are told by a number that no other has, in any life; their bytes follow from it. */
static struct record {
    uint64_t tag;
    uint32_t length;
} records[RECORDS_MAX + 1]; /* by their numbers, which begin with 1 */
static uint64_t appended;   /* records: the last one's number */
static uint64_t safe;       /* of these: acknowledged, or once recovered */
static uint64_t found;      /* of these: recovered in this life */
static uint64_t tags;
/* Of records, in this world. Those of one length are the likeliest to be taken for another. */
static uint32_t usual_length;
static bool over; /* this life: the log is of no use any more */
static char complaint[200];

static struct {
    uint64_t crashes, kills, appended, recovered, unknown, simulated_ns;
} total;

/* The first complaint counts. A crash ends the life, wherever we are. */
#define complain(...)                                                                              \
    do {                                                                                           \
        if (!complaint[0]) {                                                                       \
            snprintf(complaint, sizeof complaint, __VA_ARGS__);                                    \
        }                                                                                          \
        weir_sim_crash(sim);                                                                       \
    } while (0)

static uint64_t draw(uint64_t below)
{
    return weir_sim_random(sim) % below;
}

static void fill(char *bytes, const struct record *record)
{
    uint64_t state = record->tag;
    for (uint32_t i = 0; i < record->length; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        bytes[i] = (char)(state >> 56);
    }
}

/* --- the clients, and other work on the loop -------------------------------------------------- */

static void work(struct weir_op *op);

static void rest(struct weir_op *op)
{
    weir_op_timeout_in(op, loop, draw(WEIR_MS));
    op->callback = work;
    weir_submit(loop, op);
}

static void work(struct weir_op *op)
{
    weir_op_nop(op);
    op->callback = rest;
    if (weir_submit(loop, op) == -EAGAIN) {
        rest(op);
    }
}

static void on_appended(struct wal_append *append);
static void on_pause_over(struct weir_op *op);

static void pause_client(struct client *client)
{
    weir_op_timeout_in(&client->pause, loop, draw(2 * WEIR_MS));
    client->pause.callback = on_pause_over;
    weir_submit(loop, &client->pause);
}

static void append_next(struct client *client)
{
    char bytes[WAL_RECORD_MAX];
    struct record record = {
        .tag = ++tags,
        .length = draw(2) == 0 ? (uint32_t)draw(usual_length + 1) : usual_length,
    };
    if (appended == RECORDS_MAX) {
        over = true;
        return;
    }
    fill(bytes, &record);
    client->append.callback = on_appended;
    client->append.user = client;
    int result = wal_append(&wal, &client->append, bytes, record.length);
    if (result == 0) {
        records[++appended] = record;
        total.appended++;
        if (client->append.number != appended) {
            complain("record %" PRIu64 " is given number %" PRIu64, appended,
                     client->append.number);
        }
    } else if (result == -EAGAIN) {
        pause_client(client);
    } else {
        over = true;
    }
}

static void on_pause_over(struct weir_op *op)
{
    if (op->result == 0) {
        append_next(WEIR_CONTAINER(op, struct client, pause));
    }
}

static void on_appended(struct wal_append *append)
{
    if (append->result < 0) {
        total.unknown++;
        over = true;
        return;
    }
    if (append->number != ++safe) {
        complain("record %" PRIu64 " is acknowledged before %" PRIu64, append->number, safe);
    }
    if (draw(3) == 0) {
        pause_client(append->user);
    } else {
        append_next(append->user);
    }
}

/* --- recovery --------------------------------------------------------------------------------- */

static void on_recovered(struct wal *log, uint64_t number, const void *bytes, uint32_t length)
{
    (void)log;
    char expected[WAL_RECORD_MAX];
    found++;
    if (number != found || number > appended) {
        complain("record %" PRIu64 " is recovered, the %" PRIu64 "th of %" PRIu64, number, found,
                 appended);
        return;
    }
    fill(expected, &records[number]);
    if (length != records[number].length || memcmp(bytes, expected, length) != 0) {
        complain("record %" PRIu64 " is not what was appended", number);
    }
}

static void on_opened(struct wal *log, int result)
{
    (void)log;
    if (result < 0) { /* what was recovered does not count; another try may do better */
        over = true;
        return;
    }
    if (found < safe) {
        complain("records %" PRIu64 " to %" PRIu64 " were acknowledged and are lost", found + 1,
                 safe);
        return;
    }
    total.recovered += found;
    appended = safe = found; /* from now on they are to stay, acknowledged or not */
    for (int i = 0; i < CLIENTS; i++) {
        append_next(&clients[i]);
    }
}

/* --- a world ---------------------------------------------------------------------------------- */

static uint64_t draw_end(void)
{
    uint64_t length = draw(16);
    return weir_now(loop) + draw(length == 0 ? 40 * WEIR_S : (length < 8 ? 20 : 4) * WEIR_MS);
}

/* The service runs until it is of no use, the time is up, or a fault stops the machine. */
static void serve(void)
{
    work(&neighbour);
    int result = wal_open(&wal, loop, "/", on_recovered, on_opened);
    uint64_t end_ns = draw_end();
    while (result >= 0 && !over && weir_now(loop) < end_ns) {
        result = weir_loop_turn(loop, (int64_t)(end_ns - weir_now(loop)));
    }
    if (result < 0 && !weir_sim_has_crashed(sim)) {
        complain("the loop does not go on: %s", strerror(-result));
    }
}

/* Ends by a crash, or by the end of the process alone: then the machine goes on, and what is in its
 * cache is there for the next process. */
static void live(void)
{
    memset(&wal, 0, sizeof wal);
    memset(clients, 0, sizeof clients);
    memset(&neighbour, 0, sizeof neighbour);
    over = false;
    found = 0;
    struct weir_options options = {.policy = WEIR_SIM, .sim.world = sim, .depth = 1};
    if (weir_loop_open(&options, &loop) < 0) {
        complain("no loop");
        return;
    }
    serve();
    if (draw(2) == 0) {
        weir_sim_crash(sim); /* if a fault has not done that */
    }
    int result = weir_sim_has_crashed(sim) ? -EOWNERDEAD : weir_loop_close(loop, WEIR_S, NULL);
    if (result == 0) {
        total.kills++;
    } else if (weir_sim_has_crashed(sim)) { /* or as the loop was closing */
        weir_loop_abandon(loop);
        weir_sim_restart(sim);
        total.crashes++;
    } else {
        complain("the loop does not close");
    }
}

/* What may go wrong. Each world has some of it: much of one hides another. */
static const struct weir_sim_fault misfortunes[] = {
    {.what = WEIR_SIM_CRASH, .per_million = 3000},
    {.what = WEIR_SIM_SHORT, .per_million = 200000},
    {.what = WEIR_SIM_DELAY, .per_million = 50000, .delay = {0, 20 * WEIR_MS}},
    {.what = WEIR_SIM_ERROR, .kinds = 1ULL << WEIR_KIND_WRITE, .per_million = 3000},
    {.what = WEIR_SIM_ERROR, .kinds = 1ULL << WEIR_KIND_FSYNC, .per_million = 30000},
    {.what = WEIR_SIM_ERROR, .kinds = 1ULL << WEIR_KIND_FSYNC, .path = "/", .per_million = 200000},
    {.what = WEIR_SIM_ERROR, .per_million = 2000},
    {.what = WEIR_SIM_STUCK, .per_million = 1000},
    {.what = WEIR_SIM_LATE, .per_million = 100000},
};

/* Many lives of one log. False: there is a complaint. */
static bool survives(uint64_t seed, void (*trace)(void *context, const char *line))
{
    enum { COUNT = sizeof misfortunes / sizeof *misfortunes };
    struct weir_sim_fault faults[COUNT];
    struct weir_sim_plan plan = {.faults = faults, .trace = trace};
    uint64_t bits = seed * 0x9e3779b97f4a7c15ULL >> 32;
    for (int i = 0; i < COUNT; i++) {
        if (bits >> i & 1) {
            faults[plan.fault_count++] = misfortunes[i];
        }
    }
    plan.disk_bytes = bits >> 16 & 3 ? 0 : 96 * 1024; /* 0: plenty */
    usual_length = (const uint32_t[]){50, 100, 700, WAL_RECORD_MAX}[bits >> 20 & 3];
    plan.sector_bytes = 64u << (bits >> 18 & 3) * 2; /* 64 to 4096: the smaller, the more tears */
    if (weir_sim_open(seed, &plan, &sim) < 0) {
        snprintf(complaint, sizeof complaint, "no memory for a world");
        return false;
    }
    appended = safe = tags = 0;
    complaint[0] = 0;
    for (int i = 0; i < LIVES_MAX && !complaint[0] && appended < RECORDS_MAX; i++) {
        live();
    }
    total.simulated_ns += weir_sim_now(sim) - 3600 * WEIR_S; /* where it begins */
    if (trace) {
        printf("hash %016" PRIx64 "\n", weir_sim_hash(sim));
    }
    weir_sim_close(sim);
    return !complaint[0];
}

/* --- the program ------------------------------------------------------------------------------ */

static const char *const syncs[] = {"none", "commit", "recovery", "directory"};

static void print_line(void *context, const char *line)
{
    (void)context;
    puts(line);
}

static void tell(const char *program, uint64_t seed)
{
    printf("seed %" PRIu64 ": %s\nagain: %s --seed %" PRIu64 "%s%s\n", seed, complaint, program,
           seed, wal_without ? " --without " : "", wal_without ? syncs[wal_without] : "");
}

/* The exit code. With a sync left out, loss is what is looked for. */
static int search(const char *program, uint64_t crashes)
{
    for (uint64_t seed = 1; wal_without ? seed <= SEEDS_WITHOUT : total.crashes < crashes; seed++) {
        if (!survives(seed, NULL)) {
            tell(program, seed);
            return !(wal_without && strncmp(complaint, "record", 6) == 0);
        }
    }
    printf("%" PRIu64 " crashes and %" PRIu64 " kills in %" PRIu64 " simulated seconds; %" PRIu64
           " records appended, %" PRIu64 " of them unanswered for; %" PRIu64 " recovered\n",
           total.crashes, total.kills, total.simulated_ns / (uint64_t)WEIR_S, total.appended,
           total.unknown, total.recovered);
    return wal_without != WAL_SYNC_NONE;
}

static enum wal_sync sync_named(const char *name)
{
    for (int i = WAL_SYNC_COMMIT; i <= WAL_SYNC_DIRECTORY; i++) {
        if (strcmp(syncs[i], name) == 0) {
            return (enum wal_sync)i;
        }
    }
    return WAL_SYNC_NONE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"crashes", required_argument, NULL, 'c'},
                                            {"without", required_argument, NULL, 'w'},
                                            {"trace", no_argument, NULL, 't'},
                                            {0}};
    const char *is_long = getenv("WEIR_LONG");
    uint64_t seed = 0, crashes = is_long && is_long[0] == '1' ? 10000 : 500;
    bool traced = false, wrong = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            seed = strtoull(optarg, NULL, 0);
            wrong |= seed == 0;
            break;
        case 'c':
            crashes = strtoull(optarg, NULL, 0);
            break;
        case 'w':
            wal_without = sync_named(optarg);
            wrong |= wal_without == WAL_SYNC_NONE;
            break;
        case 't':
            traced = true;
            break;
        default:
            wrong = true;
        }
    }
    if (wrong || optind < argc || (traced && seed == 0)) {
        fprintf(stderr, "usage: wal_crash [--seed SEED [--trace] | --crashes COUNT]\n"
                        "                 [--without commit|recovery|directory]\n");
        return 2;
    }
    if (seed == 0) {
        return search(argv[0], crashes);
    }
    bool good = survives(seed, traced ? print_line : NULL);
    if (!good) {
        tell(argv[0], seed);
    }
    return !good;
}
