/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h: bytes that become a client of weir-nbd's core, in a simulated world.
 *
 * The first three say what there is:
 *     0  bits 0-1: exports, 1 to 3; 2: the first is read-only; 3: it wants blocks of 512;
 *        4-5: the handshake (enum fuzz_handshake); 6: the client closes at once at the end, else it
 *        sends no more and reads all; 7: it reads nothing
 *     1  bits 0-2: requests at the files; 3: nearly all buffers are somebody else's; 4: sockets
 *        that hold little; 5-7: the world's seed
 *     2  what goes wrong in the world, a bit each
 * All others are what the client does, a verb and what that needs:
 *     0 to 0xef       sends so many of the bytes that follow, in one go
 *     FUZZ_REQUEST    sends a request: type, flags, cookie, offset (2, in 37), length (2, in 7);
 *                     0x80 in type: a WRITE's bytes do not follow by themselves
 *     FUZZ_OPTION     sends an option: number, length, and so many bytes that follow
 *     others          enum fuzz_verb
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FUZZ_INPUT_MAX = 4096 };

enum fuzz_handshake {
    FUZZ_BARE,       /* it is in the verbs */
    FUZZ_GREETED,    /* the client's flags are sent */
    FUZZ_SIMPLE,     /* all of it, to simple replies */
    FUZZ_STRUCTURED, /* to structured ones, with base:allocation */
};

enum fuzz_verb {
    FUZZ_REQUEST = 0xf0,
    FUZZ_OPTION,
    FUZZ_FILL,    /* sends bytes of no meaning: how many, in 1024 */
    FUZZ_PAUSE,   /* lets the server work */
    FUZZ_DRAIN,   /* the server is to end */
    FUZZ_HANG_UP, /* at once */
    FUZZ_READING, /* reads no more, or again */
};

/* For --loud. */
void fuzz_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What is wrong. */
void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
