/* SPDX-License-Identifier: MIT */
#include <engine/base/check.h>
#include <stdio.h>
#include <stdlib.h>

void weir_check_failed(const char *condition, const char *site)
{
    fprintf(stderr, "weir: broken invariant in %s: %s\n", site, condition);
    abort();
}
