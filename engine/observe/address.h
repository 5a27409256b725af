/* SPDX-License-Identifier: MIT */
/*
 * address.h: a unix socket that listens at a path: put there whole, and taken away again. Must not
 * know who serves it.
 *
 * Invariant: at the path there is never a socket of ours that does not listen yet, or has other
 * permission bits than were asked for; and what others put there is never removed, but for a socket
 * that nobody listens to.
 */
#ifndef WEIR_ENGINE_ADDRESS_H
#define WEIR_ENGINE_ADDRESS_H

#include <stdint.h>
#include <sys/types.h>

#define WEIR_ADDRESS_MAX 107 /* bytes of a path, without the NUL: sun_path's */

struct weir_address {
    int listener; /* does not block; -1: none */
    int folder; /* of the path, O_PATH: it is found again whatever happens to the working folder */
    char name[WEIR_ADDRESS_MAX + 1]; /* in it */
    dev_t device;                    /* the socket's file */
    ino_t inode;
};

/* 0; as weir_endpoint_open(). */
int weir_address_open(const char *path, mode_t mode, struct weir_address *ret_address);
/* Removes the file if it is still ours, and closes. */
void weir_address_close(struct weir_address *address);
/* Closes, and leaves the file: it is the parent's. */
void weir_address_leave(struct weir_address *address);

#endif
