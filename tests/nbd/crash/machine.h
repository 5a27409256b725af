/* SPDX-License-Identifier: MIT */
/* machine.h: the server's core in a world, as main.c and server.c have it on real machines: one or
 * two shards, files, connections. And a disk that can be looked at without it. */
#ifndef MACHINE_H
#define MACHINE_H

#include "shard.h"

enum { MACHINE_SHARDS = 2 };

extern struct shard shards[MACHINE_SHARDS];

/* Each of these false: not in this life, for something went wrong, or the machine stopped. */

/* The disk's file is there, of its size, and will be after a crash. */
bool machine_make_disk(void);
/* All of its bytes. */
bool machine_read_disk(unsigned char *ret_bytes);
/* The server: opens its loops and its files. */
bool machine_start(void);

bool machine_has_seat(uint32_t shard);
/* A client that is accepted; fd is the server's from now on. */
void machine_connect(uint32_t shard, int fd);

/* Turns all loops once. 0 or -errno. */
int machine_turn(void);
/* The loops are gone, and all that was in them, once the machine has stopped. */
void machine_abandon(void);

#endif
