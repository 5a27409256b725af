/* SPDX-License-Identifier: MIT */
/*
 * failed.h: a loop that fails under ops in every place, and what it then has to answer: contract
 * rule 8.
 */
#ifndef WEIR_TESTS_KERNEL_FAILED_H
#define WEIR_TESTS_KERNEL_FAILED_H

#include <weir/weir.h>

struct failed_op {
    struct weir_op op;
    unsigned handed;
    char byte;
};

struct failed {
    struct weir_loop *loop;
    int pipe[2];
    struct failed_op in_flight;  /* in the kernel: a read of an empty pipe */
    struct failed_op staged[3];  /* meet the error on their way into the kernel */
    struct failed_op at_gate[2]; /* depth is 4: there is no room for them */
    struct failed_op timer;
    struct failed_op late; /* submitted to the failed loop: refused */
};

/* Puts an op into each place of a loop of depth 4 with room for at least 2 behind the gate, with
 * one turn. The structure must stay as long as the process: the kernel keeps the read. */
void failed_prepare(struct failed *failed, struct weir_loop *loop);
/* The turn's answer was `answer`; the loop must have failed with `error`. Abandons it. */
void failed_check(struct failed *failed, int answer, int error);

#endif
