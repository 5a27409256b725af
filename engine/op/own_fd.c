/* SPDX-License-Identifier: MIT */
#include <engine/op/own_fd.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PIDFD_OPEN 434 /* on every machine; Linux 5.3 */
#define ID_OF_PIDFD 3     /* P_PIDFD of waitid(2); Linux 5.4 */

#ifdef SYS_pidfd_open
_Static_assert(SYS_pidfd_open == NR_PIDFD_OPEN, "as the kernel has it");
#endif

/* -EINVAL: none, or one that this thread does not block: it would be delivered past the fd. */
static int make_signal_fd(uint64_t signals)
{
    sigset_t set;
    sigset_t blocked;
    sigemptyset(&set);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    bool fit = signals != 0;
    for (int number = 1; number <= 64; number++) {
        if (signals & WEIR_SIGNAL(number)) {
            sigaddset(&set, number);
            fit = fit && sigismember(&blocked, number) == 1;
        }
    }
    if (!fit) {
        return -EINVAL;
    }
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int64_t take_signal(const struct weir_op *op)
{
    struct signalfd_siginfo info;
    ssize_t got = read(op->fd, &info, sizeof info);
    if (got < 0) {
        return -errno;
    }
    if (op->arg.watch.ret_info) {
        memcpy(op->arg.watch.ret_info, &info, sizeof info);
    }
    return info.ssi_signo;
}

/* 0: it has ended; -EAGAIN: not yet. */
static int wait_for_child(int fd, int options, siginfo_t *ret_info)
{
    ret_info->si_pid = 0;
    if (waitid((idtype_t)ID_OF_PIDFD, (id_t)fd, ret_info, WEXITED | options) < 0) {
        return -errno;
    }
    return ret_info->si_pid != 0 ? 0 : -EAGAIN;
}

static int make_child_fd(int32_t pid)
{
    siginfo_t info;
    int fd = (int)syscall(NR_PIDFD_OPEN, pid, 0);
    if (fd < 0) {
        return errno == ENOSYS ? -EOPNOTSUPP : -errno;
    }
    int r = wait_for_child(fd, WNOHANG | WNOWAIT, &info);
    if (r < 0 && r != -EAGAIN) { /* no child of ours: its end would be for nobody */
        close(fd);
        return r;
    }
    return fd;
}

static int64_t reap_child(const struct weir_op *op, enum weir_how how)
{
    siginfo_t info;
    int r = wait_for_child(op->fd, how == WEIR_HOW_TRY ? WNOHANG : 0, &info);
    if (r == 0 && op->arg.watch.ret_info) {
        struct weir_exit end = {.code = info.si_code, .status = info.si_status};
        memcpy(op->arg.watch.ret_info, &end, sizeof end);
    }
    return r;
}

int weir_op_make_own_fd(const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_KIND_SIGNAL:
        return make_signal_fd(op->arg.watch.signals);
    case WEIR_KIND_CHILD:
        return make_child_fd(op->arg.watch.pid);
    default:
        return -EOPNOTSUPP;
    }
}

int64_t weir_op_take_own(const struct weir_op *op, enum weir_how how)
{
    return op->kind == WEIR_KIND_SIGNAL ? take_signal(op) : reap_child(op, how);
}
