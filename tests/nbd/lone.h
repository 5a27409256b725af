/* SPDX-License-Identifier: MIT */
/*
 * lone.h: the only client of a shard of weir-nbd with one disk, in a simulated world: what a test
 * says goes to the server as bytes, and what comes back is kept.
 */
#ifndef LONE_H
#define LONE_H

#include "connection.h"

#define LONE_DISK_BYTES (1u << 20)

struct lone {
    struct weir_sim *world;
    struct shard shard; /* the server's */
    struct connection connection;
    struct export disk;
    bool is_gone; /* the connection */
    /* the client's */
    struct weir_loop *loop;
    int fd;
    struct weir_op sending, receiving;
    unsigned char bytes[1024];
    unsigned char in[64 << 10];
    uint32_t in_end; /* what of it has been received */
};
extern struct lone lone;

/* Connected, its handshake over. What of lone.disk was set before holds, until the world is closed.
 */
void lone_open(const struct weir_sim_fault *faults, uint32_t fault_count, bool is_memory);
/* The client hangs up, and is gone. */
void lone_leave(void);
/* The same first, if it is still there. */
void lone_close(void);

/* Turns both loops for so long, in the world's time. */
void lone_run(uint64_t ns);
/* Sends them, and returns when they are in the socket. */
void lone_say(const void *bytes, uint32_t length);
/* The same while the server stands still, so that it finds all at once. */
void lone_say_at_once(const void *bytes, uint32_t length);
void lone_forget_answers(void);

/* A request; a WRITE's data is what stands there. Its length in bytes. */
uint32_t lone_put(unsigned char *to, uint16_t flags, uint16_t type, uint64_t cookie,
                  uint64_t offset, uint32_t length);

#endif
