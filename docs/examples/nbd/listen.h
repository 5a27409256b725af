/* SPDX-License-Identifier: MIT */
/* listen.h: sockets that listen, and the URIs by which clients find them. Non-blocking and closed
 * on exec. Knows nothing of who accepts. */
#ifndef NBD_LISTEN_H
#define NBD_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A socket at path; one that stands there and at which nobody listens any more is replaced. The fd,
 * or -errno: -EADDRINUSE: somebody listens there; -ENOTSOCK: something else is there;
 * -ENAMETOOLONG: above 107 bytes. Whoever closes it unlinks path.
 */
int listen_unix(const char *path);

/*
 * A socket for each address that host has, fds_max at most; port "0": any that is free, one for
 * each. Addresses that this machine cannot use (IPv6, often) are left out while there is another.
 * How many, or -errno and none.
 */
int listen_tcp(const char *host, const char *port, int *fds, int fds_max);

/*
 * Writes the URI of an export (name "": the default one) at a listening fd, as of NBD's doc/uri.md:
 * nbd://127.0.0.1:10809/name, nbd+unix:///name?socket=/path, with tls nbds and nbds+unix. 0 or
 * -errno: -ENAMETOOLONG: does not fit; -EAFNOSUPPORT: an address for which there is no URI.
 */
int listen_uri(int fd, bool tls, const char *export_name, char *ret_uri, size_t size);

#endif
