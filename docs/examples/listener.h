/* SPDX-License-Identifier: MIT */
/* listener.h: a socket that listens; nothing of weir's in it. */
#ifndef LISTENER_H
#define LISTENER_H

/* where: a port of 127.0.0.1 (0: any that is free), or with a slash in it the path of an AF_UNIX
 * socket. Says on stdout where it listens. The fd, non-blocking, or -errno. */
int listener_open(const char *where);
void listener_close(int fd, const char *where);

#endif
