/* SPDX-License-Identifier: MIT */
/* perf/probe.h: the subcommand `probe`. Answers the exit code: 1 where no backend can be had. */
#ifndef PERF_PROBE_H
#define PERF_PROBE_H

int probe_main(int argc, char **argv);

#endif
