/* SPDX-License-Identifier: MIT */
#include <engine/base/sigpipe.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NOSIGNAL 0x100 /* RWF_NOSIGNAL, Linux 6.18 */

#ifdef RWF_NOSIGNAL
_Static_assert(RWF_NOSIGNAL == NOSIGNAL, "as the kernel has it");
#endif

/* Calls of this thread that want SIGPIPE blocked, and whether the first of them had to block it. */
static __thread struct {
    unsigned count;
    bool ours;
} blocked;

/* A write of nothing to a pipe tells. */
int weir_sigpipe_probe(uint32_t *ret_write_flags)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    struct iovec nothing = {.iov_base = ends, .iov_len = 0};
    *ret_write_flags = pwritev2(ends[1], &nothing, 1, -1, NOSIGNAL) == 0 ? NOSIGNAL : 0;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static sigset_t only_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

void weir_sigpipe_block(void)
{
    sigset_t set = only_sigpipe();
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &set, &before);
    if (blocked.count++ == 0) {
        blocked.ours = !sigismember(&before, SIGPIPE);
    }
}

void weir_sigpipe_unblock(bool raised)
{
    sigset_t set = only_sigpipe();
    if (--blocked.count > 0 || !blocked.ours) {
        return;
    }
    while (raised && sigtimedwait(&set, NULL, &(struct timespec){0}) > 0) {
        /* one that a write of ours raised must not arrive now */
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
