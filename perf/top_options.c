/* SPDX-License-Identifier: MIT */
#include "top_options.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#define INTERVAL_MIN_S 0.5 /* the endpoint makes none that are shorter */
#define INTERVAL_MAX_S 3600

enum top_key { KEY_HELP = 'h', KEY_ONCE = 0x100, KEY_JSON };

static const struct argp_option list[] = {
    {"once", KEY_ONCE, 0, 0, "Look once, over one interval, print, and end", 0},
    {"json", KEY_JSON, 0, 0, "Print the endpoint's JSON instead, a document each interval", 0},
    {"interval", 'i', "S", 0, "Seconds between looks, 0.5 to 3600 (default 1)", 0},
    {NULL, KEY_HELP, 0, OPTION_HIDDEN, NULL, 0},
    {0},
};

static const char doc[] =
    "Shows what the loops of a running service do, as it says at the socket PATH that it opened "
    "with weir_endpoint_open(): rates and latency of the last interval, gates, and the oldest ops "
    "that are live. Works while a loop is stuck in a callback."
    "\v"
    "Of each task: ops per second; of these failed or expired, and refused, per second; bytes per "
    "second; ops live, of these in flight, age of the oldest; and p50/p99 of the stages: wait "
    "(behind the gate), flight (kernel, device or worker), of that queue (for a worker) and run "
    "(on one), delivery (behind other callbacks). Under it what it failed with. A dash: not known; "
    "ops are listed of loops that are WEIR_INSPECTABLE alone. Tasks that did nothing are only "
    "counted.\n"
    "\n"
    "A loop that a watchdog watches is said to stand still when it is in one callback, or one "
    "turn, for more than 100 ms.\n"
    "\n"
    "Of a gate: the bar shows credits taken (#), free (.), and withheld for a latency goal (-).\n"
    "\n"
    "On a terminal q ends it, and it waits for a service that stops or ends. Without one, or with "
    "--once, plain text is printed. No colours where "
    "NO_COLOR is set.\n"
    "\n"
    "Exit status: 0; 1 when the socket cannot be read (on a terminal: the first time); 2 for a "
    "wrong command line.";

static void parse_interval(struct argp_state *state, const char *text, struct top_options *options)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= INTERVAL_MIN_S && value <= INTERVAL_MAX_S)) {
        argp_error(state, "--interval %s: give seconds from 0.5 to 3600", text);
    }
    options->interval_s = value;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct top_options *options = state->input;
    switch (key) {
    case KEY_HELP:
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        return 0;
    case KEY_ONCE:
        options->once = true;
        return 0;
    case KEY_JSON:
        options->json = true;
        return 0;
    case 'i':
        parse_interval(state, text, options);
        return 0;
    case ARGP_KEY_ARG:
        if (options->path) {
            argp_error(state, "one PATH, not also \"%s\"", text);
        }
        options->path = text;
        return 0;
    case ARGP_KEY_END:
        if (!options->path) {
            argp_error(state, "give the PATH of a service's socket");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_version(FILE *file, struct argp_state *state)
{
    (void)state;
    fputs("weir-top " WEIR_TOP_VERSION "\n", file);
}

void top_options_parse(int argc, char **argv, struct top_options *ret_options)
{
    *ret_options = (struct top_options){.interval_s = 1};
    const struct argp argp = {list, parse_option, "PATH", doc, 0, 0, 0};
    argp_program_version_hook = print_version;
    argp_err_exit_status = 2;
    argv[0] = (char[]){"weir-top"}; /* whatever it was called as: what messages begin with */
    argp_parse(&argp, argc, argv, 0, 0, ret_options);
}
