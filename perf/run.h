/* SPDX-License-Identifier: MIT */
/* perf/run.h: the subcommands that measure one engine. They answer the exit code. */
#ifndef PERF_RUN_H
#define PERF_RUN_H

int nop_main(int argc, char **argv);
int file_main(int argc, char **argv);
int echo_main(int argc, char **argv);
int offload_main(int argc, char **argv);

#endif
