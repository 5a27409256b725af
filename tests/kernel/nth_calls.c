/* SPDX-License-Identifier: MIT */
#include "nth_calls.h"

#include <engine/backend/kernel.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NR_PWAIT2 441 /* epoll_pwait2(2) on every machine */

static const char *const names[NTH_CALLS] = {
    [NTH_MALLOC] = "malloc",
    [NTH_MMAP] = "mmap",
    [NTH_MADVISE] = "madvise",
    [NTH_MPROTECT] = "mprotect",
    [NTH_PTHREAD_CREATE] = "pthread_create",
    [NTH_EVENTFD] = "eventfd",
    [NTH_EPOLL_CREATE] = "epoll_create1",
    [NTH_EPOLL_ADD] = "epoll_ctl",
    [NTH_EPOLL_WAIT] = "epoll_wait",
    [NTH_EPOLL_PWAIT2] = "epoll_pwait2",
    [NTH_TIMERFD] = "timerfd_create",
    [NTH_SIGNALFD] = "signalfd",
    [NTH_PIPE] = "pipe2",
    [NTH_PWRITEV2] = "pwritev2",
    [NTH_AFFINITY] = "sched_getaffinity",
    [NTH_FOPEN] = "fopen",
    [NTH_OPEN] = "open",
    [NTH_RING_SETUP] = "io_uring_setup",
    [NTH_RING_MMAP] = "io_uring_queue_mmap",
    [NTH_RING_DONTFORK] = "io_uring_ring_dontfork",
    [NTH_RING_ENTER] = "io_uring_enter",
    [NTH_REGISTER_RING_FD] = "io_uring_register_ring_fd",
    [NTH_REGISTER_EVENTFD] = "io_uring_register_eventfd",
    [NTH_REGISTER_PROBE] = "io_uring_register PROBE",
    [NTH_REGISTER_ENABLE] = "io_uring_register ENABLE_RINGS",
    [NTH_REGISTER_WORKERS] = "io_uring_register IOWQ_MAX_WORKERS",
    [NTH_REGISTER_MESSAGE] = "io_uring_register SEND_MSG_RING",
};

/* All relaxed: workers make calls while the plan goes, and either answer is right then. */
static struct {
    int call;
    int error;
    unsigned n;
    bool lasts;
    unsigned made;
    unsigned struck;
} plan;

static bool kernel_is_old;
static uint64_t mapped;

void nth_age_kernel(bool old)
{
    __atomic_store_n(&kernel_is_old, old, __ATOMIC_RELAXED);
}

uint64_t nth_mapped(void)
{
    return __atomic_load_n(&mapped, __ATOMIC_RELAXED);
}

const char *nth_name(enum nth_call call)
{
    return names[call];
}

void nth_arm(enum nth_call call, int error, unsigned n, bool lasts)
{
    plan.error = error;
    plan.n = n;
    plan.lasts = lasts;
    plan.made = 0;
    plan.struck = 0;
    __atomic_store_n(&plan.call, call, __ATOMIC_RELEASE);
}

void nth_disarm(void)
{
    __atomic_store_n(&plan.call, NTH_NONE, __ATOMIC_RELAXED);
}

unsigned nth_struck(void)
{
    return __atomic_load_n(&plan.struck, __ATOMIC_RELAXED);
}

/* What an old kernel answers; 0: as this one. */
static int error_of_age(enum nth_call call)
{
    if (!__atomic_load_n(&kernel_is_old, __ATOMIC_RELAXED)) {
        return 0;
    }
    switch (call) {
    case NTH_PWRITEV2: /* of a flag it does not know */
        return EOPNOTSUPP;
    case NTH_EPOLL_PWAIT2:
        return ENOSYS;
    case NTH_REGISTER_RING_FD:
    case NTH_REGISTER_WORKERS:
    case NTH_REGISTER_MESSAGE:
        return EINVAL;
    default:
        return 0;
    }
}

static bool strikes(enum nth_call call)
{
    if (__atomic_load_n(&plan.call, __ATOMIC_ACQUIRE) != (int)call) {
        return false;
    }
    unsigned at = __atomic_add_fetch(&plan.made, 1, __ATOMIC_RELAXED);
    if (at < plan.n || (at > plan.n && !plan.lasts)) {
        return false;
    }
    __atomic_add_fetch(&plan.struck, 1, __ATOMIC_RELAXED);
    return true;
}

bool nth_fails(enum nth_call call)
{
    int error = strikes(call) ? plan.error : error_of_age(call);
    if (error != 0) {
        errno = error;
    }
    return error != 0;
}

/* --- the C library's: under the names that a 64-bit off_t gives them -------------------------- */

#define STAND_IN(call, type, failure, name, parameters, arguments)                                 \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return nth_fails(call) ? (failure) : __real_##name arguments;                              \
    }

STAND_IN(NTH_MADVISE, int, -1, madvise, (void *at, size_t size, int advice), (at, size, advice))
STAND_IN(NTH_MPROTECT, int, -1, mprotect, (void *at, size_t size, int protection),
         (at, size, protection))
STAND_IN(NTH_PTHREAD_CREATE, int, errno, pthread_create,
         (pthread_t * ret_thread, const pthread_attr_t *attributes, void *(*function)(void *),
          void *argument),
         (ret_thread, attributes, function, argument))
STAND_IN(NTH_EVENTFD, int, -1, eventfd, (unsigned value, int flags), (value, flags))
STAND_IN(NTH_EPOLL_CREATE, int, -1, epoll_create1, (int flags), (flags))
STAND_IN(NTH_EPOLL_WAIT, int, -1, epoll_wait,
         (int fd, struct epoll_event *events, int max, int wait_ms), (fd, events, max, wait_ms))
STAND_IN(NTH_TIMERFD, int, -1, timerfd_create, (int clock, int flags), (clock, flags))
STAND_IN(NTH_SIGNALFD, int, -1, signalfd, (int fd, const sigset_t *set, int flags),
         (fd, set, flags))
STAND_IN(NTH_PIPE, int, -1, pipe2, (int *ret_fds, int flags), (ret_fds, flags))
STAND_IN(NTH_PWRITEV2, ssize_t, -1, pwritev64v2,
         (int fd, const struct iovec *iov, int count, off_t offset, int flags),
         (fd, iov, count, offset, flags))
STAND_IN(NTH_AFFINITY, int, -1, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *ret_set),
         (pid, size, ret_set))
STAND_IN(NTH_FOPEN, FILE *, NULL, fopen64, (const char *path, const char *mode), (path, mode))

void *__real_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *memory =
        nth_fails(NTH_MMAP) ? MAP_FAILED : __real_mmap64(at, size, protection, flags, fd, offset);
    __atomic_add_fetch(&mapped, memory != MAP_FAILED ? size : 0, __ATOMIC_RELAXED);
    return memory;
}

int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size)
{
    int r = __real_munmap(at, size);
    __atomic_sub_fetch(&mapped, r == 0 ? size : 0, __ATOMIC_RELAXED);
    return r;
}

int __real_epoll_ctl(int set, int what, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int what, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    bool fails = what == EPOLL_CTL_ADD && nth_fails(NTH_EPOLL_ADD);
    return fails ? -1 : __real_epoll_ctl(set, what, fd, event);
}

/* Only files that are there. */
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    return nth_fails(NTH_OPEN) ? -1 : __real_open64(path, flags);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long values[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) { /* more than were given is what the C library reads, too */
        values[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == NR_PWAIT2 && nth_fails(NTH_EPOLL_PWAIT2)) {
        return -1;
    }
    return __real_syscall(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

/* --- liburing's: they answer the errno ------------------------------------------------------- */

STAND_IN(NTH_RING_SETUP, int, -errno, io_uring_setup,
         (unsigned entries, struct io_uring_params *params), (entries, params))
STAND_IN(NTH_RING_DONTFORK, int, -errno, io_uring_ring_dontfork, (struct io_uring * ring), (ring))
STAND_IN(NTH_RING_ENTER, int, -errno, io_uring_enter2,
         (unsigned fd, unsigned to_submit, unsigned wait_nr, unsigned flags, sigset_t *set,
          size_t size),
         (fd, to_submit, wait_nr, flags, set, size))
STAND_IN(NTH_REGISTER_RING_FD, int, -errno, io_uring_register_ring_fd, (struct io_uring * ring),
         (ring))
STAND_IN(NTH_REGISTER_EVENTFD, int, -errno, io_uring_register_eventfd,
         (struct io_uring * ring, int fd), (ring, fd))

int __real_io_uring_queue_mmap(int fd, struct io_uring_params *params, struct io_uring *ring);
int __wrap_io_uring_queue_mmap(int fd, struct io_uring_params *params, struct io_uring *ring);
int __wrap_io_uring_queue_mmap(int fd, struct io_uring_params *params, struct io_uring *ring)
{
    if (nth_fails(NTH_RING_MMAP)) {
        memset(ring, 0, sizeof *ring); /* as it does: fd 0 */
        return -errno;
    }
    return __real_io_uring_queue_mmap(fd, params, ring);
}

static enum nth_call registers(unsigned opcode)
{
    switch (opcode) {
    case IORING_REGISTER_PROBE:
        return NTH_REGISTER_PROBE;
    case IORING_REGISTER_ENABLE_RINGS:
        return NTH_REGISTER_ENABLE;
    case IORING_REGISTER_IOWQ_MAX_WORKERS:
        return NTH_REGISTER_WORKERS;
    case WEIR_REGISTER_SEND_MSG_RING:
        return NTH_REGISTER_MESSAGE;
    default:
        return NTH_CALLS;
    }
}

int __real_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count)
{
    bool fails = nth_fails(registers(opcode));
    return fails ? -errno : __real_io_uring_register(fd, opcode, argument, count);
}
