/* SPDX-License-Identifier: MIT */
/*
 * perf/resolve.h: the last step of options_parse(): names become contenders, lists are dealt out to
 * them, and what does not go together is refused.
 */
#ifndef PERF_RESOLVE_H
#define PERF_RESOLVE_H

#include <argp.h>
#include <weir/loop.h>

#include "options.h"

/* What a loop has room for, less what it needs itself. */
#define CONNECTIONS_MAX (WEIR_DEPTH_MAX - 64)
#define MESSAGE_MAX (16u << 20)

/* Does not come back from a wrong command line. */
void options_resolve(struct argp_state *state, enum option_set set, struct options *options);

#endif
