/* SPDX-License-Identifier: MIT */
/* perf/all.h: the subcommand `all`: the main figures at a glance. Answers the exit code. */
#ifndef PERF_ALL_H
#define PERF_ALL_H

int all_main(int argc, char **argv);

#endif
