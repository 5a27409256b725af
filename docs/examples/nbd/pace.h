/* SPDX-License-Identifier: MIT */
/*
 * pace.h: when a client is left alone for a moment: nothing is received of it, and then much at
 * once.
 *
 * One that has replies enough to read, until it has read most of them. A client of many requests in
 * flight that is slower than its server sends a request with each reply that it has read. Taken
 * one by one they cost a wake-up, a receive and a send each, on both sides, and the client gains
 * nothing: the reply goes to the end of a long line. On unix sockets, which tell what their peer
 * has not read yet; while what is asked for is there at once, for a disk wants to be asked early.
 *
 * And one whose small writes are with another thread, which makes those to one file one after the
 * other: what is received meanwhile only takes the CPU from that thread and the client. Not where
 * they wait for a disk.
 *
 * Neither is for long, see PACE_NS.
 */
#ifndef NBD_PACE_H
#define NBD_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msghdr;

/* A client that sends and does not read may wait for us as we do for it, and a write for its disk:
 * after this long, what the client sends is taken all the same. Longer than a client that reads
 * needs; and so long that the CPU has another timer before it, mostly, for to set one before each
 * sleep costs some 2 us (with 1 ms). */
#define PACE_NS 10000000

/* Zeroed memory is one that holds nobody up. */
struct pace {
    bool has_sent;        /* something has gone out since the last look */
    bool is_slow;         /* since then a request took more than a turn */
    bool is_deaf;         /* the client was waited for, and did not read */
    uint32_t reply_bytes; /* of one, of late */
    uint32_t room;        /* of the socket, as the kernel counts it; 0: it does not tell */
    uint32_t writes;      /* small ones that are with another thread, or at the gate before it */
    bool is_stalled;      /* the last time they were many they took long */
    uint64_t many_ns;     /* since when they are many */
    uint64_t until_ns;    /* nothing is received until it is 0; its owner sees to it by then */
};

/* For a socket, which is given its room for sending. */
void pace_begin(struct pace *pace, int fd);

/* What is about to be sent: a reply in each iovec. */
void pace_see(struct pace *pace, const struct msghdr *message);

/* Before a receive. has_others: other clients are waited for, too. True: not yet. pace_end() when
 * fd is writable (POLLOUT), or after PACE_NS. */
bool pace_waits(struct pace *pace, int fd, bool has_others);
void pace_end(struct pace *pace, int fd, bool has_read);

/* A small write goes to another thread; true: the client is left alone, until until_ns. It is back;
 * true: and the client is not left alone any more. */
bool pace_write_begins(struct pace *pace, uint64_t now_ns);
bool pace_write_ends(struct pace *pace, uint64_t now_ns);

/* Before a receive. True: not yet, for its writes are under way. */
static inline bool pace_is_writing(const struct pace *pace)
{
    return pace->until_ns != 0;
}

#endif
