/* SPDX-License-Identifier: MIT */
/* perf/top_options.h: the command line of weir-top. */
#ifndef PERF_TOP_OPTIONS_H
#define PERF_TOP_OPTIONS_H

#include <stdbool.h>

struct top_options {
    const char *path;
    bool once;
    bool json;
    double interval_s;
};

/* Does not come back from a wrong command line, nor from --help. */
void top_options_parse(int argc, char **argv, struct top_options *ret_options);

#endif
