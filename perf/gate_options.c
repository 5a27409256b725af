/* SPDX-License-Identifier: MIT */
/* perf/gate_options.c: by argp, as options.c does it for the other subcommands. */
#include "gate_options.h"

#include <argp.h>
#include <string.h>
#include <weir/loop.h>

#include "parse.h"

#define TASKS_DEPTH_MIN 16 /* the foreground reserves eight */

enum gate_key {
    KEY_EXPERIMENT = 0x100,
    KEY_WORKLOAD,
    KEY_POLICY,
    KEY_ROUNDS,
    KEY_INTERVAL,
    KEY_HOLD,
    KEY_WINDOW,
    KEY_DEPTH,
    KEY_WAITING,
    KEY_POOL,
    KEY_PEER_WORK,
    KEY_PATH,
    KEY_SIZE,
    KEY_JSON,
    KEY_HTML,
    KEY_SVG_DIR,
};

static void parse_experiments(struct argp_state *state, char *text, struct gate_options *options)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {{"sweep", GATE_SWEEP},
                 {"hold", GATE_HOLD},
                 {"tasks", GATE_TASKS},
                 {"goal", GATE_GOAL},
                 {"all", GATE_ALL}};
    char *rest;
    options->experiments = 0;
    for (char *name = strtok_r(text, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        unsigned bits = 0;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            bits |= strcmp(name, known[i].name) == 0 ? known[i].bits : 0;
        }
        if (bits == 0) {
            argp_error(state, "--experiment %s: give some of sweep,hold,tasks,goal, or all", name);
        }
        options->experiments |= bits;
    }
    if (options->experiments == 0) {
        argp_error(state, "--experiment: give some of sweep,hold,tasks,goal, or all");
    }
}

static error_t parse_size_option(int key, char *text, struct argp_state *state)
{
    struct gate_options *options = state->input;
    switch (key) {
    case KEY_DEPTH:
        options->depth = parse_number_or_usage(state, "--depth", text, 1, 4096);
        return 0;
    case KEY_WAITING:
        options->waiting = parse_number_or_usage(state, "--waiting", text, 0, 65536);
        return 0;
    case KEY_POOL:
        options->pool = parse_number_or_usage(state, "--pool", text, 1, 1u << 20);
        return 0;
    case KEY_PEER_WORK:
        if (!parse_duration(text, (uint64_t)WEIR_S, &options->peer_work_ns)) {
            argp_error(state, "--peer-work %s: give a time up to 1 s, such as 5us", text);
        }
        return 0;
    case KEY_SIZE:
        if (!parse_size(text, 1u << 20, 1ull << 40, &options->file.size)) {
            argp_error(state, "--size %s: give bytes from 1M to 1024G, such as 256M", text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void check_sizes(struct argp_state *state, const struct gate_options *options)
{
    if (options->pool <= options->depth + options->waiting) {
        argp_error(state, "--pool: give more than --depth and --waiting together");
    }
    if ((options->experiments & GATE_TASKS) != 0 && options->depth < TASKS_DEPTH_MIN) {
        argp_error(state, "--depth: tasks need %d at least; give others with --experiment",
                   TASKS_DEPTH_MIN);
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct gate_options *options = state->input;
    switch (key) {
    case KEY_EXPERIMENT:
        parse_experiments(state, text, options);
        return 0;
    case KEY_WORKLOAD:
        if (strcmp(text, "file") != 0 && strcmp(text, "echo") != 0) {
            argp_error(state, "--workload %s: give file or echo", text);
        }
        options->echo = strcmp(text, "echo") == 0;
        return 0;
    case KEY_POLICY:
        if (!policy_find(text, &options->policy)) {
            argp_error(state, "--policy %s: give auto, io_uring or epoll", text);
        }
        options->policy_name = text;
        return 0;
    case KEY_ROUNDS:
        options->rounds = parse_number_or_usage(state, "--rounds", text, 1, 1000);
        return 0;
    case KEY_INTERVAL:
        options->interval_s = parse_seconds_or_usage(state, "--interval", text);
        return 0;
    case KEY_HOLD:
        options->hold_s = parse_seconds_or_usage(state, "--hold", text);
        return 0;
    case KEY_WINDOW:
        options->window_s = parse_seconds_or_usage(state, "--window", text);
        return 0;
    case KEY_PATH:
        options->file.path = text;
        return 0;
    case KEY_JSON:
        options->file.json = text;
        return 0;
    case KEY_HTML:
        options->html = text;
        return 0;
    case KEY_SVG_DIR:
        options->svg_dir = text;
        return 0;
    case ARGP_KEY_END:
        check_sizes(state, options);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is no option", text);
        return 0;
    default:
        return parse_size_option(key, text, state);
    }
}

static const struct argp_option list[] = {
    {"experiment", KEY_EXPERIMENT, "LIST", 0,
     "Some of sweep, hold, tasks, goal, with commas; or all (default; about 11 minutes)", 0},
    {"workload", KEY_WORKLOAD, "NAME", 0,
     "Of sweep and hold. file (default): 4 KiB random reads of a file in the page cache; echo: "
     "64-byte messages to a process that computes on each and sends it back",
     0},
    {"policy", KEY_POLICY, "NAME", 0,
     "auto, io_uring or epoll (default: auto; tasks: io_uring, then epoll)", 0},
    {"rounds", KEY_ROUNDS, "N", 0, "Rounds, in alternating order (default 16)", 0},
    {"interval", KEY_INTERVAL, "S", 0, "Of each load in sweep and tasks, seconds (default 0.5)", 0},
    {"hold", KEY_HOLD, "S", 0, "Of hold: seconds, over all rounds (default 60)", 0},
    {"window", KEY_WINDOW, "S", 0,
     "Of goal: seconds of a window; the load jumps every two, a run has nine, of which the first "
     "is "
     "not judged (default 1)",
     0},
    {"depth", KEY_DEPTH, "N", 0, "The gate's depth: ops in flight (default 32)", 1},
    {"waiting", KEY_WAITING, "N", 0, "Ops that may wait beyond that (default 64)", 1},
    {"pool", KEY_POOL, "N", 0,
     "Requests of the loop without a gate: an interval ends when all are out (default 65536)", 1},
    {"peer-work", KEY_PEER_WORK, "TIME", 0,
     "What the echo's peer computes on a message (default 5us)", 1},
    {"path", KEY_PATH, "FILE", 0,
     "The file; made if missing and kept (default: a nameless one in TMPDIR or /var/tmp)", 2},
    {"size", KEY_SIZE, "BYTES", 0, "How much of it (default 256M)", 2},
    {"json", KEY_JSON, "FILE", 0,
     "Write the numbers as JSON; - is standard output, and then no text", 3},
    {"html", KEY_HTML, "FILE", 0, "Write one page with the curves", 3},
    {"svg-dir", KEY_SVG_DIR, "DIR", 0, "Write the curves as .svg files into this folder", 3},
    {0},
};

static const char doc[] =
    "Overload: load that arrives on a schedule, whether or not earlier ops are back; latency "
    "counts "
    "from the intended start. The capacity is measured right before each interval.\v"
    "sweep  0.5 to 3 times the capacity, with the gate and as if there were none\n"
    "hold   twice the capacity for a minute, with and without; the fewer may wait, the more a "
    "timer "
    "tick of the machine, tens of us on virtual ones, weighs in the p99\n"
    "tasks  a foreground of 4 KiB reads at a tenth of the capacity beside 64 random reads of 128 "
    "KiB that are always out: alone, together, with shares and a budget of two such reads a turn, "
    "with shares and a latency goal\n"
    "goal   0.5 and 3 times the capacity in turns, with a goal of twice the p99 of FLIGHT at a "
    "tenth of the capacity, and without\n";

void gate_options_parse(int argc, char **argv, struct gate_options *ret_options)
{
    *ret_options = (struct gate_options){
        .experiments = GATE_ALL,
        .rounds = 16,
        .depth = 32,
        .waiting = 64,
        .pool = 65536,
        .interval_s = 0.5,
        .hold_s = 60,
        .window_s = 1,
        .peer_work_ns = 5 * (uint64_t)WEIR_US,
        .file = {.size = 256u << 20, .block = 4096, .depth = 1, .workers = options_cpus()},
    };
    const struct argp argp = {list, parse_option, 0, doc, 0, 0, 0};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, 0, ret_options);
    ret_options->file.job = gate_needs_file(ret_options) ? JOB_FILE : JOB_NOP;
}
