/* SPDX-License-Identifier: MIT */
/* input.h: what is known of a fuzzer by those who feed inputs to it: libFuzzer, and replay.c. */
#ifndef TESTS_INPUT_H
#define TESTS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const size_t fuzz_input_max; /* bytes of an input that mean anything */
extern bool fuzz_loud;              /* all that an input does, as lines */

/* Carries an input out and judges it; aborts if something is wrong. Its hash: the same input has
 * the same again. */
uint64_t fuzz_run(const uint8_t *bytes, size_t size);

#endif
