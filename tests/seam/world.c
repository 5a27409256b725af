/* SPDX-License-Identifier: MIT */
/* world.c: the files, pipes, sockets and children of the contract's tests. See seam.h. */
#include "seam.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CHILD_SECONDS 60
#define VAST_STEP ((size_t)16 << 20)

struct seam_pair seam_pipe(int flags)
{
    int fds[2];
    expect_equal(pipe2(fds, O_CLOEXEC | flags), 0);
    return (struct seam_pair){.in = fds[0], .out = fds[1]};
}

struct seam_pair seam_socketpair(int type)
{
    int fds[2];
    expect_equal(socketpair(AF_UNIX, SOCK_CLOEXEC | type, 0, fds), 0);
    return (struct seam_pair){.in = fds[0], .out = fds[1]};
}

void seam_pair_close(struct seam_pair *pair)
{
    if (pair->in >= 0) {
        close(pair->in);
    }
    if (pair->out >= 0) {
        close(pair->out);
    }
    pair->in = -1;
    pair->out = -1;
}

int seam_listener(int flags, struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    expect(fd >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    expect_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_equal(listen(fd, 64), 0);
    expect_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *ret_address = address;
    return fd;
}

int seam_client(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(fd >= 0);
    expect_equal(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
    return fd;
}

void seam_write(int fd, const void *data, size_t length)
{
    expect_equal(write(fd, data, length), length);
}

void seam_read(int fd, void *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t got = read(fd, (char *)data + done, length - done);
        expect(got > 0 || (got < 0 && errno == EINTR));
        done += got > 0 ? (size_t)got : 0;
    }
}

/* Differs at every place and has no period that a page or block size divides. */
static char pattern_at(size_t place)
{
    return (char)((place * 31 + place / 251) & 0xff);
}

void seam_pattern(char *data, size_t length, size_t from)
{
    for (size_t i = 0; i < length; i++) {
        data[i] = pattern_at(from + i);
    }
}

bool seam_pattern_holds(const char *data, size_t length, size_t from)
{
    for (size_t i = 0; i < length; i++) {
        if (data[i] != pattern_at(from + i)) {
            return false;
        }
    }
    return true;
}

static const char *temporary(void)
{
    const char *given = getenv("TMPDIR");
    return given != NULL && strlen(given) < 32 ? given : "/tmp";
}

int seam_file(size_t length)
{
    char path[64];
    snprintf(path, sizeof path, "%s/weir-file-XXXXXX", temporary());
    int fd = mkostemp(path, O_CLOEXEC);
    expect(fd >= 0);
    expect_equal(unlink(path), 0);
    if (length > 0) {
        char *data = malloc(length);
        expect(data != NULL);
        seam_pattern(data, length, 0);
        seam_write(fd, data, length);
        free(data);
        expect_equal(lseek(fd, 0, SEEK_SET), 0);
    }
    return fd;
}

int seam_fds_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    expect(dir != NULL);
    int count = 0;
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count + (seam_simulates() ? seam_backend.simulated->fds_open() : 0);
}

int seam_readable(void)
{
    struct seam_dir dir;
    seam_dir_make(&dir);
    int fd = openat(dir.fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    expect(fd >= 0);
    seam_write(fd, "0123456789", 10);
    close(fd);
    fd = openat(dir.fd, "file", O_RDONLY | O_CLOEXEC);
    expect(fd >= 0);
    expect_equal(unlinkat(dir.fd, "file", 0), 0);
    seam_dir_remove(&dir);
    return fd;
}

static struct rlimit fds_before;

void seam_fds_forbid(void)
{
    if (seam_simulates()) {
        seam_backend.simulated->limit_fds(true);
        return;
    }
    int lowest = dup(0);
    expect(lowest >= 0);
    close(lowest);
    expect_equal(getrlimit(RLIMIT_NOFILE, &fds_before), 0);
    struct rlimit none = {.rlim_cur = (rlim_t)lowest, .rlim_max = fds_before.rlim_max};
    expect_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

void seam_fds_allow(void)
{
    if (seam_simulates()) {
        seam_backend.simulated->limit_fds(false);
        return;
    }
    expect_equal(setrlimit(RLIMIT_NOFILE, &fds_before), 0);
}

/* --- a foreign loop -------------------------------------------------------------------------- */

int seam_foreign(struct weir_loop *loop)
{
    int fd = weir_loop_fd(loop);
    expect_equal(weir_loop_fd(loop), fd);
    expect_equal(fd < 0 ? fd : 0, seam_across_threads());
    if (fd < 0) {
        return -1;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    expect(epoll >= 0);
    expect_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    return epoll;
}

/* Goes on after EINTR: the kernel takes a closed ring down later, and interrupts whatever its
 * thread sleeps in by then. */
static void wait_until_readable(int epoll)
{
    struct epoll_event event;
    int ready = 0;
    do {
        ready = epoll_wait(epoll, &event, 1, -1);
    } while (ready < 0 && errno == EINTR);
    expect_equal(ready, 1);
}

void seam_foreign_turn(struct weir_loop *loop, int epoll)
{
    if (epoll >= 0) {
        wait_until_readable(epoll);
    }
    expect(seam_turn(loop, epoll >= 0 ? 0 : -1) >= 0);
}

bool seam_foreign_asks(int epoll)
{
    struct epoll_event event;
    return epoll >= 0 && epoll_wait(epoll, &event, 1, 0) == 1;
}

void seam_foreign_close(int epoll)
{
    if (epoll >= 0) {
        close(epoll);
    }
}

void seam_dir_make(struct seam_dir *dir)
{
    snprintf(dir->path, sizeof dir->path, "%s/weir-dir-XXXXXX", temporary());
    expect(mkdtemp(dir->path) != NULL);
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    expect(dir->fd >= 0);
}

void seam_dir_remove(struct seam_dir *dir)
{
    close(dir->fd);
    expect_equal(rmdir(dir->path), 0);
}

char *seam_vast(size_t length)
{
    size_t size = (length + VAST_STEP - 1) / VAST_STEP * VAST_STEP;
    /* In brackets: the real ones, where the simulator's are in their place. */
    int memory = (memfd_create)("vast", MFD_CLOEXEC);
    expect(memory >= 0);
    expect_equal((ftruncate)(memory, (off_t)VAST_STEP), 0);
    char *vast = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    expect(vast != MAP_FAILED);
    for (size_t at = 0; at < size; at += VAST_STEP) {
        expect(mmap(vast + at, VAST_STEP, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory,
                    0) == vast + at);
    }
    close(memory);
    return vast;
}

void seam_vast_end(char *vast, size_t length)
{
    size_t size = (length + VAST_STEP - 1) / VAST_STEP * VAST_STEP;
    expect_equal(munmap(vast, size), 0);
}

int seam_child(int (*body)(void *context), void *context)
{
    fflush(stdout);
    pid_t child = fork();
    expect(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGALRM, SIG_DFL);
        alarm(CHILD_SECONDS);
        _exit(body(context));
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        expect_equal(errno, EINTR);
    }
    if (WIFSIGNALED(status)) {
        return 128 + WTERMSIG(status);
    }
    return WEXITSTATUS(status);
}
