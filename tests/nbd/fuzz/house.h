/* SPDX-License-Identifier: MIT */
/* house.h: a world with weir-nbd's core in it, three files that it may serve, and one connection,
 * whose other end is the client's. */
#ifndef HOUSE_H
#define HOUSE_H

#include "judge.h"

#include <weir/weir.h>

enum { HOUSE_EXPORTS = 3 };

struct house {
    struct weir_sim *sim;
    struct weir_loop *loop; /* the client's */
    int fd;                 /* its end of the connection */
    bool is_gone;           /* the connection, from the server */
    bool is_calm;           /* nothing goes wrong in this world by itself */
    struct judge_export exports[HOUSE_EXPORTS];
};

extern struct house house;

/* As the first bytes of an input say: fuzz.h. */
void house_open(const uint8_t options[3]);
/* Turns both loops so many times. */
void house_turn(uint32_t times);
/* Of the connection by now; NULL. */
const struct judge_export *house_export(void);
void house_drain(void);
void house_hang_up(void);
/* The connection goes, all that it held is back, the files are as they may be. The world's hash. */
uint64_t house_close(void);

#endif
