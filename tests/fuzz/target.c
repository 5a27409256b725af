/* SPDX-License-Identifier: MIT */
/* target.c: what libFuzzer calls. */
#include "fuzz.h"

#define TWICE_EVERY 16 /* inputs */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint32_t inputs;
    uint64_t hash = fuzz_run(bytes, size);
    if (inputs++ % TWICE_EVERY == 0) {
        fuzz_expect(fuzz_run(bytes, size) == hash, "the same input, another run", 0);
    }
    return 0;
}
