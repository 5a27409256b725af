/* SPDX-License-Identifier: MIT */
/* perf/options.c: the command line of each subcommand, by argp. Knows no engine but its name. */
#include "options.h"

#include <argp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <weir/loop.h>

#include "parse.h"
#include "resolve.h"

enum key {
    KEY_ENGINE = 0x100,
    KEY_ENGINES,
    KEY_WORKLOAD,
    KEY_DEPTH,
    KEY_PAIRS,
    KEY_SECONDS,
    KEY_INTERVAL,
    KEY_EVERY,
    KEY_FAKE_ENTER,
    KEY_JSON,
    KEY_RW,
    KEY_BLOCK,
    KEY_SIZE,
    KEY_PATH,
    KEY_DIRECT,
    KEY_OVERWRITE,
    KEY_TIMERS,
    KEY_SAMPLES,
    KEY_POLICY,
    KEY_SPIN,
    KEY_ROUTE,
    KEY_WORKERS,
    KEY_CONNECTIONS,
    KEY_IDLE,
    KEY_SHARES,
    KEY_ONLOOKERS,
    KEY_TRANSPORT,
    KEY_CLIENT_SPIN,
    KEY_PIN,
};

static const char *const access_names[] = {
    [ACCESS_RANDREAD] = "randread", [ACCESS_RANDWRITE] = "randwrite", [ACCESS_READ] = "read",
    [ACCESS_WRITE] = "write",       [ACCESS_RANDRW] = "randrw",
};

const char *access_name(enum access access)
{
    return access_names[access];
}

static void parse_access(struct argp_state *state, const char *text, struct options *options)
{
    for (unsigned i = 0; i < sizeof access_names / sizeof *access_names; i++) {
        if (strcmp(text, access_names[i]) == 0) {
            options->access = (enum access)i;
            return;
        }
    }
    argp_error(state, "--rw %s: give one of randread, randwrite, read, write, randrw", text);
}

static error_t parse_measure(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case KEY_ENGINE:
    case KEY_ENGINES:
        options->engines = text;
        return 0;
    case KEY_POLICY:
        options->policy = text;
        return 0;
    case KEY_SPIN:
        options->spin = text;
        return 0;
    case KEY_SHARES:
        options->shares = text;
        return 0;
    case KEY_ONLOOKERS:
        options->onlookers = text;
        return 0;
    case KEY_WORKLOAD:
        if (!job_find(text, &options->job)) {
            argp_error(state, "--workload %s: give nop, file, echo or offload", text);
        }
        return 0;
    case KEY_WORKERS:
        options->workers = parse_number_or_usage(state, "--workers", text, 1, WEIR_WORKERS_MAX);
        return 0;
    case KEY_DEPTH:
        options->depth = parse_number_or_usage(state, "--depth", text, 1, WEIR_DEPTH_MAX);
        return 0;
    case KEY_PAIRS:
        options->pairs = parse_number_or_usage(state, "--pairs", text, 1, 100000);
        return 0;
    case KEY_SECONDS:
        options->seconds = parse_seconds_or_usage(state, "--seconds", text);
        return 0;
    case KEY_INTERVAL:
        options->interval_s = parse_seconds_or_usage(state, "--interval", text);
        return 0;
    case KEY_EVERY:
        options->every = parse_number_or_usage(state, "--every", text, 1, 1000000);
        return 0;
    case KEY_FAKE_ENTER:
        options->fake_enter = true;
        return 0;
    case KEY_JSON:
        options->json = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_file(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    uint64_t value = 0;
    switch (key) {
    case KEY_RW:
        parse_access(state, text, options);
        return 0;
    case KEY_BLOCK:
        if (!parse_size(text, 512, 1u << 30, &value) || value % 512 != 0) {
            argp_error(state, "--block %s: give a multiple of 512 from 512 to 1G, such as 4k",
                       text);
        }
        options->block = (uint32_t)value;
        return 0;
    case KEY_SIZE:
        if (!parse_size(text, 1, 1ull << 43, &value)) {
            argp_error(state, "--size %s: give bytes, at most 8192G, such as 256M", text);
        }
        options->size = value;
        return 0;
    case KEY_ROUTE:
        options->route = text;
        return 0;
    case KEY_PATH:
        options->path = text;
        return 0;
    case KEY_DIRECT:
        options->direct = true;
        return 0;
    case KEY_OVERWRITE:
        options->overwrite = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_echo(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    uint64_t value = 0;
    switch (key) {
    case KEY_CONNECTIONS:
        options->connections =
            parse_number_or_usage(state, "--connections", text, 1, CONNECTIONS_MAX);
        return 0;
    case KEY_IDLE:
        options->idle = text;
        return 0;
    case KEY_TRANSPORT:
        if (strcmp(text, "tcp") != 0 && strcmp(text, "unix") != 0) {
            argp_error(state, "--transport %s: give tcp or unix", text);
        }
        options->tcp = strcmp(text, "tcp") == 0;
        return 0;
    case KEY_CLIENT_SPIN:
        options->client_spin = true;
        return 0;
    case KEY_PIN:
        options->pin = true;
        return 0;
    case KEY_SIZE:
        if (!parse_size(text, 1, MESSAGE_MAX, &value)) {
            argp_error(state, "--size %s: give bytes from 1 to 16M", text);
        }
        options->size = value;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_timer(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case KEY_TIMERS:
        options->timers = parse_number_or_usage(state, "--timers", text, 1, WEIR_TIMERS_MAX);
        return 0;
    case KEY_SAMPLES:
        options->samples = parse_number_or_usage(state, "--samples", text, 10, 1000000);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option engine_options[] = {
    {"engine", KEY_ENGINE, "NAME", 0,
     "weir, weir@io_uring, weir@epoll; uring: a raw liburing loop; epoll: a raw loop on "
     "level-triggered epoll (echo); psync: pread on threads behind a mutex, pread: a plain loop "
     "(file); mutex: threads behind a mutex, an eventfd back (offload). Default weir",
     0},
    {"seconds", KEY_SECONDS, "S", 0, "How long (default 2)", 0},
    {0},
};
static const struct argp_option common_options[] = {
    {"policy", KEY_POLICY, "NAME", 0,
     "What weir without an @ runs on: auto (default), io_uring, epoll", 0},
    {"shares", KEY_SHARES, "N:N...[,N:N...]", 0,
     "Weir's ops belong in turns to tasks of these shares, at most 8 (default 0: to none); a list "
     "as of --spin",
     0},
    {"onlookers", KEY_ONLOOKERS, "NAME+NAME...[,...]", 0,
     "Who looks on at weir's ops: observer, inspectable, stacks, recorder, watchdog, joined by + "
     "(default none); a list as of --spin",
     0},
    {"spin", KEY_SPIN, "TIME[,TIME]", 0,
     "How long an engine watches before it sleeps, such as 50us; a number alone is ns (default 0: "
     "not at all). A list gives one for each of --engines, the last for the rest",
     0},
    {"every", KEY_EVERY, "N", 0,
     "Measure the latency of every N-th op (default 1; 31 in comparisons, where a reading of the "
     "clock per batch would weigh on the ratio)",
     0},
    {0},
};
static const struct argp_option depth_options[] = {
    {"depth", KEY_DEPTH, "N", 0, "Ops in flight, but for echo (default 32)", 0},
    {0},
};
static const struct argp_option workers_options[] = {
    {"workers", KEY_WORKERS, "N", 0,
     "Threads of psync and mutex, and of weir for offload, --route offload and files on epoll; "
     "elsewhere weir has none (default: the CPUs this may run on)",
     0},
    {0},
};
static const struct argp_option fake_options[] = {
    {"fake-enter", KEY_FAKE_ENTER, 0, 0,
     "Compare the user-space work of weir and of the raw loop, with a stand-in for the system call "
     "(depth 32, then 1, unless --depth is given)",
     0},
    {"pairs", KEY_PAIRS, "N", 0, "With --fake-enter: pairs of intervals (default 16)", 0},
    {0},
};
static const struct argp_option compare_options[] = {
    {"workload", KEY_WORKLOAD, "NAME", 0, "nop, file, echo or offload (default nop)", 0},
    {"engines", KEY_ENGINES, "A,B[,C]", 0,
     "Which; all are set against B (default weir,uring). weir, weir@io_uring, weir@epoll: all "
     "workloads; uring: nop, file, echo; epoll: echo; psync, pread: file; mutex: offload",
     0},
    {"pairs", KEY_PAIRS, "N", 0, "Pairs of adjacent intervals (default 16)", 0},
    {"interval", KEY_INTERVAL, "S", 0, "Length of one interval (default 0.25)", 0},
    {0},
};
static const struct argp_option path_options[] = {
    {"path", KEY_PATH, "FILE", 0,
     "The file or device; made if missing and kept (default: a nameless one in TMPDIR or /var/tmp)",
     0},
    {"size", KEY_SIZE, "BYTES", 0, "How much of it (default 256M); of echo: see there", 0},
    {"overwrite", KEY_OVERWRITE, 0, 0, "Write to a file that holds somebody else's data", 0},
    {0},
};
static const struct argp_option access_options[] = {
    {"rw", KEY_RW, "HOW", 0, "randread, randwrite, read, write or randrw (default randread)", 0},
    {"block", KEY_BLOCK, "BYTES", 0, "Bytes per op (default 4k)", 0},
    {"direct", KEY_DIRECT, 0, 0, "O_DIRECT: past the page cache", 0},
    {"route", KEY_ROUTE, "HOW[,HOW]", 0,
     "What weir's ops ask for: auto (default), ring, inline, memory (inline, of a file said to be "
     "in memory: the try may wait), offload; a list as of --spin",
     0},
    {0},
};
static const struct argp_option echo_options[] = {
    {"connections", KEY_CONNECTIONS, "N", 0, "Each has one message under way (default 50)", 0},
    {"idle", KEY_IDLE, "N[,N]", 0,
     "Silent connections beside them (default 0); a list as of --spin", 0},
    {"transport", KEY_TRANSPORT, "HOW", 0, "tcp (loopback, default) or unix", 0},
    {"client-spin", KEY_CLIENT_SPIN, 0, 0, "The client never sleeps", 0},
    {"pin", KEY_PIN, 0, 0,
     "Server and client to a CPU each, as comparisons always do (default: the kernel moves "
     "them, and ops/s with them)",
     0},
    {0},
};
static const struct argp_option message_options[] = {
    {"size", KEY_SIZE, "BYTES", 0, "Of a message (default 64)", 0},
    {0},
};
static const struct argp_option timer_options[] = {
    {"timers", KEY_TIMERS, "N", 0, "How many (default 1000000)", 0},
    {"samples", KEY_SAMPLES, "N", 0, "Waits measured for lateness (default 2000)", 0},
    {0},
};
static const struct argp_option probe_options[] = {
    {"depth", KEY_DEPTH, "N", 0, "Ops in flight to ask for (default: the library's)", 0},
    {0},
};
static const struct argp_option json_options[] = {
    {"json", KEY_JSON, "FILE", 0,
     "Write the numbers as JSON; - is standard output, and then no text", 0},
    {0},
};

static const struct argp engine_argp = {engine_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp common_argp = {common_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp depth_argp = {depth_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp workers_argp = {workers_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp fake_argp = {fake_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp compare_argp = {compare_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp path_argp = {path_options, parse_file, 0, 0, 0, 0, 0};
static const struct argp access_argp = {access_options, parse_file, 0, 0, 0, 0, 0};
static const struct argp echo_argp = {echo_options, parse_echo, 0, 0, 0, 0, 0};
static const struct argp message_argp = {message_options, parse_echo, 0, 0, 0, 0, 0};
static const struct argp timer_argp = {timer_options, parse_timer, 0, 0, 0, 0, 0};
static const struct argp json_argp = {json_options, parse_measure, 0, 0, 0, 0, 0};
static const struct argp probe_argp = {probe_options, parse_measure, 0, 0, 0, 0, 0};

#define CHILDREN_MAX 9

static const struct option_group {
    const char *doc;
    struct argp_child children[CHILDREN_MAX];
} groups[] = {
    [OPTION_SET_NOP] = {"Runs NOPs through the whole way of an op and back.",
                        {{&engine_argp, 0, 0, 0},
                         {&common_argp, 0, 0, 0},
                         {&depth_argp, 0, 0, 0},
                         {&fake_argp, 0, 0, 0},
                         {&json_argp, 0, 0, 0},
                         {0}}},
    [OPTION_SET_FILE] = {"Reads or writes a file.",
                         {{&engine_argp, 0, 0, 0},
                          {&common_argp, 0, 0, 0},
                          {&depth_argp, 0, 0, 0},
                          {&workers_argp, 0, 0, 0},
                          {&access_argp, 0, 0, 0},
                          {&path_argp, 0, 0, 0},
                          {&json_argp, 0, 0, 0},
                          {0}}},
    [OPTION_SET_ECHO] = {"Runs an echo server on the engine, and a client on raw epoll that is the "
                         "same for every engine, each in a process of its own. CPU time per op is "
                         "the server's alone; latency is what the client sees.",
                         {{&engine_argp, 0, 0, 0},
                          {&common_argp, 0, 0, 0},
                          {&echo_argp, 0, 0, 0},
                          {&message_argp, 0, 0, 0},
                          {&json_argp, 0, 0, 0},
                          {0}}},
    [OPTION_SET_OFFLOAD] = {"Sends calls that do nothing to worker threads and back.",
                            {{&engine_argp, 0, 0, 0},
                             {&common_argp, 0, 0, 0},
                             {&depth_argp, 0, 0, 0},
                             {&workers_argp, 0, 0, 0},
                             {&json_argp, 0, 0, 0},
                             {0}}},
    [OPTION_SET_COMPARE] =
        {"Runs engines in turn, each in a process of its own, as adjacent pairs of short "
         "intervals, and prints the median of the pairs' ratios with its quartiles, and how the "
         "first engine compares with itself.",
         {{&compare_argp, 0, 0, 0},
          {&common_argp, 0, 0, 0},
          {&depth_argp, 0, 0, 0},
          {&workers_argp, 0, 0, 0},
          {&json_argp, 0, 0, 0},
          {&access_argp, 0, "With --workload file:", 0},
          {&path_argp, 0, "Which file:", 0},
          {&echo_argp, 0, "With --workload echo (--size: bytes of a message, default 64):", 0},
          {0}}},
    [OPTION_SET_TIMER] = {"Starts, cancels, fires and re-arms timers, and measures how late they "
                          "are beside clock_nanosleep(2).",
                          {{&timer_argp, 0, 0, 0}, {&json_argp, 0, 0, 0}, {0}}},
    [OPTION_SET_PROBE] = {"Shows what the kernel offers and what a loop would run on.",
                          {{&probe_argp, 0, 0, 0}, {&json_argp, 0, 0, 0}, {0}}},
    [OPTION_SET_ALL] = {"Runs file, nop and echo on weir and on raw loops, about 20 seconds in "
                        "all.",
                        {{&path_argp, 0, 0, 0}, {&json_argp, 0, 0, 0}, {0}}},
};

struct top {
    const struct option_group *group;
    enum option_set set;
    struct options *options;
};

/* Every child gets the same struct to fill. */
static error_t parse_top(int key, char *text, struct argp_state *state)
{
    (void)text;
    const struct top *top = state->input;
    if (key == ARGP_KEY_INIT) {
        for (unsigned i = 0; top->group->children[i].argp != NULL; i++) {
            state->child_inputs[i] = top->options;
        }
        return 0;
    }
    if (key == ARGP_KEY_END) {
        options_resolve(state, top->set, top->options);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

uint32_t options_cpus(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? (uint32_t)count : 1;
}

void options_parse(enum option_set set, int argc, char **argv, struct options *ret_options)
{
    static const enum job jobs[] = {
        [OPTION_SET_FILE] = JOB_FILE,
        [OPTION_SET_ECHO] = JOB_ECHO,
        [OPTION_SET_OFFLOAD] = JOB_OFFLOAD,
        [OPTION_SET_ALL] = JOB_FILE,
    };
    *ret_options = (struct options){
        .job = jobs[set],
        .workers = options_cpus(),
        .pairs = 16,
        .seconds = 2,
        .interval_s = 0.25,
        .access = ACCESS_RANDREAD,
        .block = 4096,
        .tcp = true,
        .connections = 50,
        .timers = 1000000,
        .samples = 2000,
    };
    const struct argp argp = {0, parse_top, 0, groups[set].doc, groups[set].children, 0, 0};
    argp_err_exit_status = 2;
    struct top top = {&groups[set], set, ret_options};
    argp_parse(&argp, argc, argv, 0, 0, &top);
}
