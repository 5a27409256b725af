/* SPDX-License-Identifier: MIT */
/*
 * perf/gate_peer.c: one blocking loop. Messages and not a stream, since ops on one fd have no
 * order; and a small send buffer, since what lies in there is out of the gate's sight: an AF_UNIX
 * socket that was full becomes writable again only when three quarters of its buffer are empty, and
 * senders wait for that however short their queue is.
 */
#include "gate_peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meter.h"
#include "report.h"

/* The kernel doubles it, and a message of 64 bytes takes nearly 1 KiB of it: about 32 messages. */
#define SEND_BUFFER 16384

struct peer {
    uint64_t work_ns;
    int fds[2];
};

static void live_as_peer(void *context, int fd)
{
    const struct peer *peer = context;
    char message[256];
    close(fd);
    close(peer->fds[0]);
    for (;;) {
        ssize_t n = recv(peer->fds[1], message, sizeof message, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        uint64_t end_ns = meter_clock() + peer->work_ns;
        while (meter_clock() < end_ns) {
        }
        while (send(peer->fds[1], message, (size_t)n, MSG_NOSIGNAL) < 0) {
            if (errno != EINTR) {
                return;
            }
        }
    }
}

int gate_peer_start(uint64_t work_ns, struct process *ret_peer, int *ret_fd)
{
    struct peer peer = {.work_ns = work_ns};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, peer.fds) < 0) {
        complain("no socket pair: %s", strerror(errno));
        return -1;
    }
    int size = SEND_BUFFER;
    setsockopt(peer.fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    int r = process_start("the echo peer", live_as_peer, &peer, ret_peer);
    close(peer.fds[1]);
    if (r < 0) {
        close(peer.fds[0]);
        return -1;
    }
    *ret_fd = peer.fds[0];
    return 0;
}

void gate_peer_end(struct process *peer, int fd)
{
    if (peer->pid != 0) {
        close(fd);
        process_end(peer);
    }
}
