/* SPDX-License-Identifier: MIT */
/* contract_epoll.c: the contract on the epoll backend. */
#include "seam.h"

#include <sys/syscall.h>

#ifdef SYS_epoll_wait
#define EPOLL_WAIT SYS_epoll_wait
#else
#define EPOLL_WAIT SYS_epoll_pwait /* as newer machines have it */
#endif
#define EPOLL_PWAIT2 441 /* Linux 5.11 */

static const long turn_syscalls[] = {EPOLL_WAIT, SYS_epoll_pwait, EPOLL_PWAIT2, -1};

const struct seam_backend seam_backend = {
    .name = "epoll",
    .policy = WEIR_EPOLL,
    .turn_syscalls = turn_syscalls,
    .splice_keeps_fd = false,
};

int main(int argc, char **argv)
{
    return seam_main(argc, argv);
}
