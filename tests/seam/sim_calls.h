/* SPDX-License-Identifier: MIT */
/*
 * sim_calls.h: included before every source of the suite when it is built for the simulator: what
 * the tests do around the loop by system calls, on fds, paths and the clock, happens in the
 * simulated world, and what they do by threads, in coroutines on the one thread there is.
 *
 * Each function here is the call of its name: on a number or a path of the world it answers as the
 * kernel does for its own (-1 and errno); on another number it is the real call. Macros and no
 * wrapping by the linker: the engine's own calls are real ones.
 */
#ifndef TESTS_SEAM_SIM_CALLS_H
#define TESTS_SEAM_SIM_CALLS_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- world_sim.c: fds and paths -------------------------------------------------------------- */

int sim_pipe2(int fds[2], int flags);
int sim_socketpair(int domain, int type, int protocol, int fds[2]);
int sim_socket(int domain, int type, int protocol);
int sim_bind(int fd, const struct sockaddr *address, socklen_t length);
int sim_listen(int fd, int backlog);
int sim_connect(int fd, const struct sockaddr *address, socklen_t length);
int sim_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int sim_shutdown(int fd, int how);
int sim_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int sim_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int sim_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
ssize_t sim_send(int fd, const void *data, size_t length, int flags);
ssize_t sim_recv(int fd, void *data, size_t length, int flags);
ssize_t sim_write(int fd, const void *data, size_t length);
ssize_t sim_read(int fd, void *data, size_t length);
ssize_t sim_pwrite(int fd, const void *data, size_t length, off_t offset);
ssize_t sim_pread(int fd, void *data, size_t length, off_t offset);
off_t sim_lseek(int fd, off_t offset, int whence);
int sim_ftruncate(int fd, off_t length);
int sim_fstat(int fd, struct stat *ret_stat);
int sim_fcntl(int fd, int command, ...);
int sim_dup3(int fd, int at, int flags);
int sim_close(int fd);
int sim_open(const char *path, int flags, ...);
int sim_openat(int dirfd, const char *path, int flags, ...);
int sim_fstatat(int dirfd, const char *path, struct stat *ret_stat, int flags);
int sim_faccessat(int dirfd, const char *path, int mode, int flags);
int sim_mkdirat(int dirfd, const char *path, mode_t mode);
int sim_unlinkat(int dirfd, const char *path, int flags);
int sim_symlinkat(const char *target, int dirfd, const char *path);
int sim_mkostemp(char *pattern, int flags);
char *sim_mkdtemp(char *pattern);
int sim_memfd_create(const char *name, unsigned flags);
mode_t sim_umask(mode_t mask);

/* --- threads_sim.c: the clock and the threads ------------------------------------------------ */

int sim_usleep(useconds_t wait_us);
int sim_nanosleep(const struct timespec *wait, struct timespec *left);
int sim_clock_gettime(clockid_t clock, struct timespec *ret_now);
int sim_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                       void *(*body)(void *context), void *context);
int sim_pthread_join(pthread_t thread, void **ret_value);
int sim_pthread_barrier_wait(pthread_barrier_t *barrier);
int sim_sched_yield(void);
int sim_sem_wait(sem_t *semaphore);

#ifndef SIM_CALLS_REAL
#define pipe2(...) sim_pipe2(__VA_ARGS__)
#define socketpair(...) sim_socketpair(__VA_ARGS__)
#define socket(...) sim_socket(__VA_ARGS__)
#define bind(...) sim_bind(__VA_ARGS__)
#define listen(...) sim_listen(__VA_ARGS__)
#define connect(...) sim_connect(__VA_ARGS__)
#define accept4(...) sim_accept4(__VA_ARGS__)
#define shutdown(...) sim_shutdown(__VA_ARGS__)
#define getsockname(...) sim_getsockname(__VA_ARGS__)
#define setsockopt(...) sim_setsockopt(__VA_ARGS__)
#define getsockopt(...) sim_getsockopt(__VA_ARGS__)
#define send(...) sim_send(__VA_ARGS__)
#define recv(...) sim_recv(__VA_ARGS__)
#define write(...) sim_write(__VA_ARGS__)
#define read(...) sim_read(__VA_ARGS__)
#define pwrite(...) sim_pwrite(__VA_ARGS__)
#define pread(...) sim_pread(__VA_ARGS__)
#define lseek(...) sim_lseek(__VA_ARGS__)
#define ftruncate(...) sim_ftruncate(__VA_ARGS__)
#define fstat(...) sim_fstat(__VA_ARGS__)
#define fcntl(...) sim_fcntl(__VA_ARGS__)
#define dup3(...) sim_dup3(__VA_ARGS__)
#define close(...) sim_close(__VA_ARGS__)
#define open(...) sim_open(__VA_ARGS__)
#define openat(...) sim_openat(__VA_ARGS__)
#define fstatat(...) sim_fstatat(__VA_ARGS__)
#define faccessat(...) sim_faccessat(__VA_ARGS__)
#define mkdirat(...) sim_mkdirat(__VA_ARGS__)
#define unlinkat(...) sim_unlinkat(__VA_ARGS__)
#define unlink(path) sim_unlinkat(AT_FDCWD, (path), 0)
#define rmdir(path) sim_unlinkat(AT_FDCWD, (path), AT_REMOVEDIR)
#define symlinkat(...) sim_symlinkat(__VA_ARGS__)
#define mkostemp(...) sim_mkostemp(__VA_ARGS__)
#define mkdtemp(...) sim_mkdtemp(__VA_ARGS__)
#define memfd_create(...) sim_memfd_create(__VA_ARGS__)
#define umask(...) sim_umask(__VA_ARGS__)
#define usleep(...) sim_usleep(__VA_ARGS__)
#define nanosleep(...) sim_nanosleep(__VA_ARGS__)
#define clock_gettime(...) sim_clock_gettime(__VA_ARGS__)
#define pthread_create(...) sim_pthread_create(__VA_ARGS__)
#define pthread_join(...) sim_pthread_join(__VA_ARGS__)
#define pthread_barrier_wait(...) sim_pthread_barrier_wait(__VA_ARGS__)
#define sched_yield(...) sim_sched_yield(__VA_ARGS__)
#define sem_wait(...) sim_sem_wait(__VA_ARGS__)
#endif

#endif
