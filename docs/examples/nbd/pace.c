/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Bytes, if net.core.wmem_max lets us: where that is 208 KiB, as it long was by default, there is
 * room enough for replies of 4,437 bytes. */
#define SEND_BUFFER (1 << 20)

/* How many replies are left to read when we are woken, some 20 to 24: what the client does
 * meanwhile takes longer than to wake us and to make the next (with 16 it ran dry, and with 20 on
 * machines where a CPU that sleeps takes long to wake). */
#define REPLIES_LEFT 24
/* The same where the loop has several such clients: on few CPUs they and we share them, and clients
 * that never run dry leave them to nobody else. The kernel counts whole messages, so that most have
 * run dry by then; and shall. */
#define REPLIES_LEFT_SHARED 8
/* Smaller ones weigh less than what the kernel counts with them; larger ones take so long to read
 * that there is nothing to gain, and push what is in the caches out. */
#define REPLY_BYTES_MIN 4000
#define REPLY_BYTES_MAX 9000
/* Small writes that are with another thread, from which on nothing more is received: with fewer, it
 * would have nothing to do before the next are here. */
#define WRITES_MANY 4

static void set_room(int fd, int bytes)
{
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

void pace_begin(struct pace *pace, int fd)
{
    int domain = 0, room = 0;
    socklen_t length = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    if (domain == AF_UNIX) { /* TCP tells what is not acknowledged; its room grows by itself */
        set_room(fd, SEND_BUFFER);
        length = sizeof room;
        getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &length);
    }
    pace->room = (uint32_t)room;
}

void pace_see(struct pace *pace, const struct msghdr *message)
{
    size_t bytes = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        bytes += message->msg_iov[i].iov_len;
    }
    pace->reply_bytes = (uint32_t)(bytes / message->msg_iovlen);
}

/* A unix socket is writable when what is unread is at most a quarter of its room, which is twice
 * what it was set to: unix_writable() in the kernel's net/unix/af_unix.c, sk_setsockopt() in
 * net/core/sock.c. If that changes, we are woken at another time. */
bool pace_waits(struct pace *pace, int fd, bool has_others)
{
    int unread;
    uint32_t left = pace->reply_bytes * (has_others ? REPLIES_LEFT_SHARED : REPLIES_LEFT);
    bool may_wait = pace->has_sent && !pace->is_slow && pace->reply_bytes >= REPLY_BYTES_MIN &&
                    pace->reply_bytes <= REPLY_BYTES_MAX && 4 * left <= pace->room;
    pace->has_sent = pace->is_slow = false;
    if (!may_wait || ioctl(fd, SIOCOUTQ, &unread) < 0) {
        return false;
    }
    if (unread <= (int)left) {
        pace->is_deaf = false;
        return false;
    }
    if (pace->is_deaf) {
        return false;
    }
    set_room(fd, (int)left * 2);
    return true;
}

void pace_end(struct pace *pace, int fd, bool has_read)
{
    set_room(fd, SEND_BUFFER);
    pace->is_deaf = !has_read;
}

bool pace_write_begins(struct pace *pace, uint64_t now_ns)
{
    if (++pace->writes != WRITES_MANY) {
        return false;
    }
    pace->many_ns = now_ns;
    pace->until_ns = pace->is_stalled ? 0 : now_ns + PACE_NS;
    return !pace->is_stalled;
}

bool pace_write_ends(struct pace *pace, uint64_t now_ns)
{
    if (pace->writes-- != WRITES_MANY) {
        return false;
    }
    pace->is_stalled = now_ns - pace->many_ns >= PACE_NS;
    pace->until_ns = 0;
    return true;
}
