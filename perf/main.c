/* SPDX-License-Identifier: MIT */
/* perf/main.c: weir-perf: finds the subcommand. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <weir/base.h>

#include "all.h"
#include "compare.h"
#include "gate.h"
#include "interval.h"
#include "probe.h"
#include "run.h"
#include "timer.h"

#define EXIT_USAGE 2

static const struct subcommand {
    const char *name;
    const char *what;
    int (*run)(int argc, char **argv);
} subcommands[] = {
    {"all", "file, nop and echo on weir and on raw loops, in 20 seconds", all_main},
    {"nop", "NOPs on one engine; --fake-enter: user-space work only", nop_main},
    {"file", "reads or writes of a file on one engine", file_main},
    {"echo", "an echo server on one engine, and a client", echo_main},
    {"offload", "calls to worker threads and back on one engine", offload_main},
    {"timer", "start, cancel, fire, re-arm; lateness beside clock_nanosleep", timer_main},
    {"compare", "engines against each other, in adjacent pairs of short intervals", compare_main},
    {"gate", "overload: load that does not wait, with the gate, shares and goals, and without",
     gate_main},
    {"probe", "what the kernel offers and what a loop runs on", probe_main},
};

static void print_help(FILE *file)
{
    fputs("usage: weir-perf SUBCOMMAND [options]\n\n", file);
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        fprintf(file, "  %-8s  %s\n", subcommands[i].name, subcommands[i].what);
    }
    fputs(
        "  help      this\n\n"
        "weir-perf SUBCOMMAND --help lists its options. Ctrl-C ends a run and prints what there "
        "is.\n"
        "Exit status: 0; 1 when something failed; 2 for a wrong command line; 130 after Ctrl-C.\n",
        file);
}

static int print_version(void)
{
    printf("weir-perf %s\n", weir_version());
    return 0;
}

/* Says what an exit code alone does not: that figures are of a part, or have not reached the
 * reader. */
static int finish(int code)
{
    if (code == 130) {
        fprintf(stderr, "weir-perf: interrupted: what is printed is of what ran until then\n");
    }
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
        fprintf(stderr, "weir-perf: cannot write to standard output: %s\n", strerror(errno));
        return 1;
    }
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        return print_version();
    }
    interval_prepare();
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        if (strcmp(name, subcommands[i].name) == 0) {
            char title[64];
            snprintf(title, sizeof title, "weir-perf %s", name);
            argv[1] = title;
            return finish(subcommands[i].run(argc - 1, argv + 1));
        }
    }
    fprintf(stderr, "weir-perf: there is no subcommand \"%s\"; weir-perf help lists them\n", name);
    return EXIT_USAGE;
}
