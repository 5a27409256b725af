/* SPDX-License-Identifier: MIT */
/*
 * world_sim.c: the calls of sim_calls.h on fds and paths: each is an op of its kind, done at once
 * by weir_sim_do(), as another process would. One that must wait steps the world until it need not.
 */
#include "sim.h"

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>

#define FDS_MAX 4096

static struct weir_sim *world;

/* A turn takes 1 us: files and calls finish in the one they left with or some turns later, what is
 * sent arrives at once. What time does has tests of its own. */
static const struct weir_sim_plan plan = {
    .storage = {1, 3000},
    .sync = {1, 3000},
    .network = {1, 1},
    .call = {1, 3000},
    .storage_bytes_per_s = UINT64_MAX,
    .network_bytes_per_s = UINT64_MAX,
    .fds_max = FDS_MAX,
    .pipe_bytes = 256 << 10,
};

static bool is_ours(int fd)
{
    return fd >= WEIR_SIM_FD_FIRST;
}

/* A call's answer, as the C library gives it. */
static int64_t answer(int64_t result)
{
    if (result >= 0) {
        return result;
    }
    errno = (int)-result;
    return -1;
}

static int64_t done(const struct weir_op *op)
{
    return answer(weir_sim_do(sim_world(), op));
}

/* With a number that may block: until the op can be done. */
static int64_t done_waiting(const struct weir_op *op, bool may_wait)
{
    bool blocks = may_wait && !(weir_sim_fcntl(sim_world(), op->fd, F_GETFL, 0) & O_NONBLOCK);
    for (;;) {
        int64_t result = weir_sim_do(sim_world(), op);
        if (result != -EAGAIN || !blocks) {
            return answer(result);
        }
        bool moved = sim_let_others();
        if (!weir_sim_step(sim_world()) && !moved) {
            return answer(-EDEADLK); /* a real call would never return */
        }
    }
}

/* --- the world ------------------------------------------------------------------------------- */

static void make_dir(const char *path)
{
    struct weir_op op = {0};
    weir_op_mkdirat(&op, AT_FDCWD, path, 0777);
    int64_t result = weir_sim_do(world, &op);
    expect(result == 0 || result == -EEXIST);
}

struct weir_sim *sim_world(void)
{
    if (world == NULL) {
        expect_equal(weir_sim_open(seam_random(), &plan, &world), 0);
        make_dir("/tmp");
        const char *temporary = getenv("TMPDIR");
        char path[PATH_MAX];
        if (temporary != NULL && snprintf(path, sizeof path, "%s", temporary) > 0) {
            for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash, '/')) {
                *slash = '\0';
                make_dir(path);
                *slash++ = '/';
            }
            make_dir(path);
        }
    }
    return world;
}

int sim_fds_open(void)
{
    return (int)weir_sim_fds(sim_world());
}

void sim_limit_fds(bool none)
{
    weir_sim_limit_fds(sim_world(), none ? weir_sim_fds(sim_world()) : FDS_MAX);
}

int sim_use_and_close_a_world(void)
{
    struct weir_sim *own = NULL;
    struct weir_loop *loop = NULL;
    struct weir_options options = {.policy = WEIR_SIM};
    struct tracked open_op = {0};
    struct tracked sync_op = {0};
    expect_equal(weir_sim_open(1, NULL, &own), 0);
    options.sim.world = own;
    expect_equal(weir_loop_open(&options, &loop), 0);
    weir_op_openat(&open_op.op, AT_FDCWD, "/file", O_RDWR | O_CREAT, 0600);
    expect(seam_carry_out(loop, &open_op) >= 0);
    weir_op_fsync(&sync_op.op, (int)open_op.result);
    seam_submit(loop, &sync_op);
    expect(seam_turn(loop, 0) >= 0);
    expect_equal(weir_sim_close(own), -EBUSY);
    seam_end(loop);
    return weir_sim_close(own);
}

/* --- pipes and sockets ----------------------------------------------------------------------- */

static void set_flags(int fd, int flags)
{
    weir_sim_fcntl(world, fd, F_SETFL, flags & O_NONBLOCK);
}

int sim_pipe2(int fds[2], int flags)
{
    return (int)answer(weir_sim_pipe(sim_world(), fds, flags & O_NONBLOCK));
}

int sim_socketpair(int domain, int type, int protocol, int fds[2])
{
    (void)domain;
    (void)protocol;
    int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    int result = weir_sim_socketpair(sim_world(), type & ~flags, fds);
    for (int i = 0; i < 2 && result == 0; i++) {
        set_flags(fds[i], type);
    }
    return (int)answer(result);
}

int sim_socket(int domain, int type, int protocol)
{
    struct weir_op op = {0};
    weir_op_socket(&op, domain, type, protocol);
    return (int)done(&op);
}

int sim_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct weir_op op = {0};
    weir_op_bind(&op, fd, address, length);
    return (int)done(&op);
}

int sim_listen(int fd, int backlog)
{
    struct weir_op op = {0};
    weir_op_listen(&op, fd, backlog);
    return (int)done(&op);
}

int sim_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct weir_op op = {0};
    weir_op_connect(&op, fd, address, length);
    return (int)done_waiting(&op, true);
}

int sim_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct weir_op op = {0};
    weir_op_accept(&op, fd, address, length, flags);
    return (int)done_waiting(&op, true);
}

int sim_shutdown(int fd, int how)
{
    struct weir_op op = {0};
    weir_op_shutdown(&op, fd, how);
    return (int)done(&op);
}

int sim_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    return (int)answer(weir_sim_sockname(sim_world(), fd, address, length));
}

int sim_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    struct weir_op op = {0};
    weir_op_setsockopt(&op, fd, level, name, value, length);
    return (int)done(&op);
}

int sim_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    return (int)answer(weir_sim_getsockopt(sim_world(), fd, level, name, value, length));
}

ssize_t sim_send(int fd, const void *data, size_t length, int flags)
{
    struct weir_op op = {0};
    weir_op_send(&op, fd, data, length, flags);
    return done_waiting(&op, (flags & MSG_DONTWAIT) == 0);
}

ssize_t sim_recv(int fd, void *data, size_t length, int flags)
{
    struct weir_op op = {0};
    weir_op_recv(&op, fd, data, length, flags);
    return done_waiting(&op, (flags & MSG_DONTWAIT) == 0);
}

/* --- data ------------------------------------------------------------------------------------ */

ssize_t sim_write(int fd, const void *data, size_t length)
{
    struct weir_op op = {0};
    if (!is_ours(fd)) {
        return write(fd, data, length);
    }
    weir_op_write(&op, fd, data, length, WEIR_CURRENT);
    return done_waiting(&op, true);
}

ssize_t sim_read(int fd, void *data, size_t length)
{
    struct weir_op op = {0};
    if (!is_ours(fd)) {
        return read(fd, data, length);
    }
    weir_op_read(&op, fd, data, length, WEIR_CURRENT);
    return done_waiting(&op, true);
}

ssize_t sim_pwrite(int fd, const void *data, size_t length, off_t offset)
{
    struct weir_op op = {0};
    weir_op_write(&op, fd, data, length, (uint64_t)offset);
    return done(&op);
}

ssize_t sim_pread(int fd, void *data, size_t length, off_t offset)
{
    struct weir_op op = {0};
    weir_op_read(&op, fd, data, length, (uint64_t)offset);
    return done(&op);
}

off_t sim_lseek(int fd, off_t offset, int whence)
{
    return answer(weir_sim_seek(sim_world(), fd, offset, whence));
}

int sim_ftruncate(int fd, off_t length)
{
    struct weir_op op = {0};
    weir_op_ftruncate(&op, fd, (uint64_t)length);
    return (int)done(&op);
}

/* --- numbers --------------------------------------------------------------------------------- */

int sim_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    int argument = command == F_SETFL || command == F_SETFD ? va_arg(list, int) : 0;
    va_end(list);
    if (!is_ours(fd)) {
        return fcntl(fd, command, argument);
    }
    return (int)answer(weir_sim_fcntl(sim_world(), fd, command, argument));
}

int sim_dup3(int fd, int at, int flags)
{
    (void)flags;
    return (int)answer(weir_sim_dup(sim_world(), fd, at));
}

int sim_close(int fd)
{
    struct weir_op op = {0};
    if (!is_ours(fd)) {
        return close(fd);
    }
    weir_op_close(&op, fd);
    return (int)done(&op);
}

/* --- names ----------------------------------------------------------------------------------- */

static int open_it(int dirfd, const char *path, int flags, mode_t mode)
{
    struct weir_op op = {0};
    weir_op_openat(&op, dirfd, path, flags, mode);
    return (int)done(&op);
}

int sim_open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    return open_it(AT_FDCWD, path, flags, mode);
}

int sim_openat(int dirfd, const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    return open_it(dirfd, path, flags, mode);
}

int sim_fstatat(int dirfd, const char *path, struct stat *ret_stat, int flags)
{
    struct weir_op op = {0};
    struct statx got = {0};
    weir_op_statx(&op, dirfd, path, flags, STATX_BASIC_STATS, &got);
    int result = (int)done(&op);
    if (result == 0) {
        *ret_stat = (struct stat){
            .st_ino = got.stx_ino,
            .st_mode = got.stx_mode,
            .st_nlink = got.stx_nlink,
            .st_size = (off_t)got.stx_size,
            .st_blocks = (blkcnt_t)got.stx_blocks,
        };
    }
    return result;
}

int sim_fstat(int fd, struct stat *ret_stat)
{
    return sim_fstatat(fd, "", ret_stat, AT_EMPTY_PATH);
}

int sim_faccessat(int dirfd, const char *path, int mode, int flags)
{
    struct stat stat;
    (void)mode;
    return sim_fstatat(dirfd, path, &stat, flags);
}

int sim_mkdirat(int dirfd, const char *path, mode_t mode)
{
    struct weir_op op = {0};
    weir_op_mkdirat(&op, dirfd, path, mode);
    return (int)done(&op);
}

int sim_unlinkat(int dirfd, const char *path, int flags)
{
    struct weir_op op = {0};
    weir_op_unlinkat(&op, dirfd, path, flags);
    return (int)done(&op);
}

int sim_symlinkat(const char *target, int dirfd, const char *path)
{
    struct weir_op op = {0};
    weir_op_symlinkat(&op, target, dirfd, path);
    return (int)done(&op);
}

/* Writes another name into the pattern's six X. */
static void name_it(char *pattern)
{
    static unsigned names;
    char digits[7];
    snprintf(digits, sizeof digits, "%06u", ++names % 1000000);
    memcpy(strstr(pattern, "XXXXXX"), digits, 6);
}

int sim_mkostemp(char *pattern, int flags)
{
    name_it(pattern);
    return open_it(AT_FDCWD, pattern, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
}

char *sim_mkdtemp(char *pattern)
{
    name_it(pattern);
    return sim_mkdirat(AT_FDCWD, pattern, 0700) == 0 ? pattern : NULL;
}

int sim_memfd_create(const char *name, unsigned flags)
{
    char path[] = "/memory-XXXXXX";
    (void)name;
    int fd = sim_mkostemp(path, flags & MFD_CLOEXEC ? O_CLOEXEC : 0);
    return fd >= 0 && sim_unlinkat(AT_FDCWD, path, 0) == 0 ? fd : -1;
}

mode_t sim_umask(mode_t mask)
{
    (void)mask;
    return 0; /* a world has none */
}
