/* SPDX-License-Identifier: MIT */
/* contract_io_uring.c: the contract on the io_uring backend. */
#include "seam.h"

#include <sys/syscall.h>

static const long turn_syscalls[] = {SYS_io_uring_enter, -1};

const struct seam_backend seam_backend = {
    .name = "io_uring",
    .policy = WEIR_IO_URING,
    .turn_syscalls = turn_syscalls,
    .splice_keeps_fd = true,
};

int main(int argc, char **argv)
{
    return seam_main(argc, argv);
}
