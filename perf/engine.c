/* SPDX-License-Identifier: MIT */
/* perf/engine.c: the table of engines. */
#include "engine.h"

#include <string.h>

static const struct engine *const engines[] = {&engine_weir, &engine_uring};

const struct engine *engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}
