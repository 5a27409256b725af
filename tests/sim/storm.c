/* SPDX-License-Identifier: MIT */
/*
 * storm.c: weir's own engine in simulated worlds, beside a shadow model of what it may answer. Each
 * seed draws which ops, faults, sizes and options it uses, and how often. --help says the rest.
 */
#include "storm.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct storm *storm_current;

uint64_t storm_random(struct storm *storm, uint64_t below)
{
    storm->random += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = storm->random;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return (mixed ^ (mixed >> 31)) % below;
}

uint64_t storm_one_of(struct storm *storm, const uint64_t *values, size_t count)
{
    return values[storm_random(storm, count)];
}

bool storm_chance(struct storm *storm, enum chance chance)
{
    return storm_random(storm, 16) < storm->chances[chance];
}

void storm_hash(struct storm *storm, uint64_t value)
{
    uint64_t hash = (storm->hash ^ value) * 0xd6e8feb86659fd93ULL;
    storm->hash = hash ^ hash >> 32;
}

/* --- failing ---------------------------------------------------------------------------------- */

static void say_seed(void)
{
    if (storm_current) {
        fprintf(stderr, "seed %" PRIu64 " failed; again: %s --seed %" PRIu64 "\n",
                storm_current->seed, storm_current->program, storm_current->seed);
    }
}

void storm_fail(struct storm *storm, const char *site, const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "%s: the model: turn %" PRIu64 ", op %" PRIu64 ": ", site, storm->turn,
            storm->serials);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    say_seed();
    _exit(1);
}

void storm_equal(struct storm *storm, const char *site, const char *what, int64_t actual,
                 int64_t wanted)
{
    if (actual != wanted) {
        storm_fail(storm, site, "%s: %" PRId64 " is not %" PRId64, what, actual, wanted);
    }
}

static void on_signal(int number)
{
    say_seed();
    signal(number, SIG_DFL);
    raise(number);
}

/* With AddressSanitizer, which ends the process its own way. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void tell_seed_of_crashes(void)
{
    static const int signals[] = {SIGABRT, SIGALRM};
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        signal(signals[i], on_signal);
    }
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(say_seed);
    } else {
        signal(SIGSEGV, on_signal);
        signal(SIGBUS, on_signal);
    }
}

/* --- the program ------------------------------------------------------------------------------ */

struct asked {
    uint64_t first;
    uint64_t last;
    bool hash;
    bool numbers;
    bool trace;
    bool broken;
};

static void print_line(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

static void run(struct storm *storm, const char *program, uint64_t seed, const struct asked *asked)
{
    memset(storm, 0, sizeof *storm);
    storm->seed = seed;
    storm->random = seed;
    storm->program = program;
    storm->broken = asked->broken;
    if (asked->trace) {
        storm->plan.trace = print_line;
    }
    TAILQ_INIT(&storm->free);
    for (unsigned i = 0; i < BOUNDS * STORM_LINES; i++) {
        struct line *line = &storm->lines[i / STORM_LINES][i % STORM_LINES];
        TAILQ_INIT(&line->waiting);
        TAILQ_INIT(&line->posts);
        TAILQ_INIT(&line->rooms);
        line->share = 1;
    }
    for (unsigned i = 0; i < STORM_ITEMS; i++) {
        TAILQ_INSERT_TAIL(&storm->free, &storm->items[i], link);
    }
    for (unsigned i = 0; i < STORM_ROOMS; i++) {
        storm->rooms[i].storm = storm;
    }
    for (unsigned i = 0; i < STORM_MARKS; i++) {
        storm->marks[i].storm = storm;
    }
    storm_current = storm;
    storm_run(storm);
    storm_current = NULL;
}

static uint64_t real_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_S + (uint64_t)now.tv_nsec;
}

static void run_all(struct storm *storm, const char *program, const struct asked *asked)
{
    uint64_t begin_ns = real_now();
    uint64_t ops = 0;
    uint64_t turns = 0;
    uint64_t crashes = 0;
    uint64_t virtual_ns = 0;
    for (uint64_t seed = asked->first; seed <= asked->last; seed++) {
        alarm(300); /* against hangs */
        run(storm, program, seed, asked);
        if (asked->hash) {
            printf("seed %" PRIu64 " hash %016" PRIx64 "\n", seed, storm->hash);
        }
        ops += storm->ops;
        turns += storm->turns;
        crashes += storm->crashes;
        virtual_ns += storm->end_ns - WEIR_SIM_BEGIN_NS;
    }
    uint64_t real_ns = real_now() - begin_ns;
    printf("%" PRIu64 " seeds, %" PRIu64 " ops, %" PRIu64 " turns, %" PRIu64 " crashes\n",
           asked->last - asked->first + 1, ops, turns, crashes);
    if (asked->numbers) {
        printf("simulated %.3f s in %.3f s: %.1f to 1; %.0f ops/s\n", (double)virtual_ns / 1e9,
               (double)real_ns / 1e9, (double)virtual_ns / (double)real_ns,
               (double)ops * 1e9 / (double)real_ns);
    }
}

static const char help[] =
    "usage: storm [--seed N | --seeds N..M] [--hash] [--long] [--trace] [--broken-cancel]\n"
    "\n"
    "Random work on the engine in simulated worlds, beside a model that says what it may answer.\n"
    "  --seed N      that seed alone; 1 if nothing is said\n"
    "  --seeds N..M  from N to M\n"
    "  --hash        print each seed's hash of all that happened: the same on every machine\n"
    "  --long        print simulated time per real time, and ops per second\n"
    "  --trace       print every step of the worlds\n"
    "  --broken-cancel  lose every cancel on its way to the backend: it must be noticed\n"
    "Exits 1 at the first seed that fails, and prints it and the command that repeats it.\n";

static bool parse_seeds(const char *text, struct asked *asked)
{
    char *end;
    asked->first = strtoull(text, &end, 0);
    asked->last = asked->first;
    if (end[0] == '.' && end[1] == '.') {
        asked->last = strtoull(end + 2, &end, 0);
    }
    return *end == '\0' && asked->last >= asked->first;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"seeds", required_argument, NULL, 's'},
        {"hash", no_argument, NULL, 'h'},          {"long", no_argument, NULL, 'l'},
        {"trace", no_argument, NULL, 't'},         {"help", no_argument, NULL, '?'},
        {"broken-cancel", no_argument, NULL, 'b'}, {0},
    };
    static struct storm storm;
    struct asked asked = {.first = 1, .last = 1};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 's' && !parse_seeds(optarg, &asked)) {
            fprintf(stderr, "storm: %s are no seeds\n", optarg);
            return 2;
        }
        asked.hash |= option == 'h';
        asked.numbers |= option == 'l';
        asked.trace |= option == 't';
        asked.broken |= option == 'b';
        if (option == '?') {
            fputs(help, optind > 1 && strcmp(argv[optind - 1], "--help") == 0 ? stdout : stderr);
            return strcmp(argv[optind - 1], "--help") == 0 ? 0 : 2;
        }
    }
    tell_seed_of_crashes();
    run_all(&storm, argv[0], &asked);
    printf("OK\n");
    return 0;
}
