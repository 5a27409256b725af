/* SPDX-License-Identifier: MIT */
/* target.c: what libFuzzer calls. */
#include "input.h"

#include <stdio.h>
#include <stdlib.h>

#define TWICE_EVERY 16 /* inputs */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint32_t inputs;
    uint64_t hash = fuzz_run(bytes, size);
    if (inputs++ % TWICE_EVERY == 0 && fuzz_run(bytes, size) != hash) {
        fputs("the same input, another run\n", stderr);
        abort();
    }
    return 0;
}
