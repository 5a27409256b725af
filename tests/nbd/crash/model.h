/* SPDX-License-Identifier: MIT */
/*
 * model.h: what a disk may hold, byte by byte: what it held when this life of the server began, and
 * every change since, each with when it was asked for, when it was answered, and whether it was
 * promised to be safe. Knows no server and no simulator.
 *
 * One change comes after another only if it was asked for when that had been answered. Of those
 * that were under way together either may be the last, and of the bytes of one any may be there
 * and others not.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_NEVER UINT64_MAX
#define MODEL_RIGHT UINT64_MAX

struct change {
    uint64_t number; /* its bytes follow from it; 0: zeroes */
    uint64_t offset, length;
    uint64_t asked, answered; /* moments; MODEL_NEVER: not yet */
    bool worked;              /* and it is certain that it has happened */
    bool safe;                /* and that it must survive a crash */
    uint32_t doubted;         /* by clients, a bit each: those who know that it may be lost */
};

/* Moments are numbers that grow: no two are the same. */
uint64_t model_moment(void);

/* A disk of zeroes. */
void model_init(uint64_t size);

/* One that is asked for now. NULL: there are as many as there may be in a life. */
struct change *model_change(uint64_t offset, uint64_t length, bool zeroes);
/* The bytes that it writes. */
void model_fill(const struct change *change, unsigned char *ret_bytes);
void model_answer(struct change *change, bool worked, bool safe);
/* A flush that a client had asked for at that moment has been answered: all that had been answered
 * by then is safe, whoever it had answered, but for what that client knows to be in doubt. */
void model_flush(uint64_t asked, uint32_t client);
/* A client knows that a sync has failed: what was asked for before that moment, and is not safe, no
 * later flush of that client says anything about. */
void model_doubt(uint64_t before, uint32_t client);

/* The first offset whose byte cannot be what a read that was asked for at that moment finds; or
 * MODEL_RIGHT. */
uint64_t model_check_read(const unsigned char *bytes, uint64_t offset, uint64_t length,
                          uint64_t asked);
/* The same of all bytes, read when the machine has stopped and started again. */
uint64_t model_check_survivors(const unsigned char *bytes);
/* What was found then is how the next life begins. */
void model_begin(const unsigned char *bytes);

#endif
