/* SPDX-License-Identifier: MIT */
/* service.h: what a service manager hands us, and what it wants to hear: sd_listen_fds(3) and
 * sd_notify(3), by their documented protocols. Knows nothing of what is served. */
#ifndef NBD_SERVICE_H
#define NBD_SERVICE_H

#include <stdint.h>

enum { SERVICE_FD_FIRST = 3 };

/*
 * How many listening sockets were handed to us: SERVICE_FD_FIRST and those after it; now closed on
 * exec, and the variables unset. 0: none, or meant for another process. -errno: promised, and not
 * there. To be called once, before there are threads.
 */
int service_listen_fds(void);

/* Sends lines such as "READY=1\nSTATUS=..." to the manager. Without one it does nothing; nor does
 * it fail, or wait long for a manager that does not listen. */
void service_notify(const char *state);
/* RELOADING=1, with the time that has to go with it. READY=1 ends it. */
void service_notify_reloading(void);

/* A WATCHDOG=1 is due within this long, again and again (half of it is customary). 0: none is. */
uint64_t service_watchdog_ns(void);

#endif
