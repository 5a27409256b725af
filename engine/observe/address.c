/* SPDX-License-Identifier: MIT */
/*
 * Bound under another name in the same folder, given its permission bits, made to listen, and only
 * then renamed: so it appears at once and whole. Bound in place it would for a moment have what
 * bits the umask leaves (which belongs to all threads, so it is not ours to change), and would look
 * like one that nobody listens to, for another process to replace.
 */
#include <engine/observe/address.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 16
#define LOCK_TRIES 50
#define LOCK_PAUSE_NS 20000000

/* Put in the place of the path's last byte: a name that is as long, so that it fits if the path
 * does, and that nobody gives to a socket. */
static const char marks[] = "~%#=+^!,";

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path)); /* at most WEIR_ADDRESS_MAX, and all else is 0 */
    return address;
}

static int rename_in(const struct weir_address *address, const char *from, unsigned flags)
{
    long r = syscall(SYS_renameat2, address->folder, from, address->folder, address->name, flags);
    return r < 0 ? -errno : 0;
}

static int open_folder(const char *path, size_t name_at)
{
    char folder[WEIR_ADDRESS_MAX + 1] = ".";
    if (name_at > 0) {
        memcpy(folder, path, name_at);
        folder[name_at] = '\0';
    }
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Whether nobody listens at what is there: 0; -EADDRINUSE: somebody does; -ENOTSOCK: it is no
 * socket; -ENOENT: it is gone. */
static int judge(const struct weir_address *address, const char *path)
{
    struct stat there;
    if (fstatat(address->folder, address->name, &there, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (!S_ISSOCK(there.st_mode)) {
        return -ENOTSOCK;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    struct sockaddr_un to = address_of(path);
    int r = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
    close(fd);
    /* All others (a full backlog, no permission, a socket of another type) mean that it lives. */
    return r == -ECONNREFUSED ? 0 : r == -ENOENT ? r : -EADDRINUSE;
}

/* Of those that start at once over a deserted socket only one may find it deserted. Between weir's
 * endpoints the folder's lock sees to it; where there is none to be had (a folder that may not be
 * read, a lock that somebody else keeps) the last one to come gets the place. The fd, or -1. */
static int lock_folder(const struct weir_address *address)
{
    int fd = openat(address->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return fd;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static void unlock_folder(int fd)
{
    if (fd >= 0) {
        flock(fd, LOCK_UN); /* a child of fork(2) may have a copy, which would keep it */
        close(fd);
    }
}

/* From the name it was bound under to its own. */
static int take_place(const struct weir_address *address, const char *path, const char *bound)
{
    int lock = lock_folder(address);
    int r = rename_in(address, bound, RENAME_NOREPLACE);
    if (r == -EEXIST || r == -EINVAL || r == -ENOSYS) { /* a file system may lack the flag */
        r = judge(address, path);
        r = r == 0 || r == -ENOENT ? rename_in(address, bound, 0) : r;
    }
    unlock_folder(lock);
    return r;
}

/* Binds under the first name that is free; which goes into ret_bound. */
static int bind_beside(const struct weir_address *address, const char *path,
                       char ret_bound[WEIR_ADDRESS_MAX + 1])
{
    struct sockaddr_un to = address_of(path);
    char *mark = &to.sun_path[strlen(path) - 1];
    int r = -EADDRINUSE;
    for (size_t i = 0; i < sizeof marks - 1 && r == -EADDRINUSE; i++) {
        if (marks[i] == path[strlen(path) - 1]) {
            continue;
        }
        *mark = marks[i];
        r = bind(address->listener, (struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
    }
    memcpy(ret_bound, address->name, sizeof address->name);
    ret_bound[strlen(ret_bound) - 1] = *mark;
    return r;
}

static int publish(struct weir_address *address, const char *path, mode_t mode)
{
    char bound[WEIR_ADDRESS_MAX + 1];
    struct stat status = {0};
    int r = bind_beside(address, path, bound);
    if (r < 0) {
        return r;
    }
    if (fchmodat(address->folder, bound, mode, 0) < 0 ||
        fstatat(address->folder, bound, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        listen(address->listener, BACKLOG) < 0) {
        r = -errno;
    }
    r = r < 0 ? r : take_place(address, path, bound);
    if (r < 0) {
        unlinkat(address->folder, bound, 0);
        return r;
    }
    address->device = status.st_dev;
    address->inode = status.st_ino;
    return 0;
}

int weir_address_open(const char *path, mode_t mode, struct weir_address *ret_address)
{
    const char *slash = strrchr(path, '/');
    size_t name_at = slash ? (size_t)(slash - path) + 1 : 0;
    if (strlen(path) > WEIR_ADDRESS_MAX) {
        return -ENAMETOOLONG;
    }
    struct weir_address address = {.listener = -1, .folder = open_folder(path, name_at)};
    if (address.folder < 0) {
        return address.folder;
    }
    memcpy(address.name, path + name_at, strlen(path + name_at) + 1);
    address.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = address.listener < 0 ? -errno : address.name[0] ? 0 : -ENOTSOCK; /* 'folder/' */
    r = r < 0 ? r : publish(&address, path, mode);
    if (r < 0) {
        weir_address_leave(&address);
        return r;
    }
    *ret_address = address;
    return 0;
}

void weir_address_close(struct weir_address *address)
{
    struct stat there;
    if (address->listener >= 0 &&
        fstatat(address->folder, address->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        there.st_dev == address->device && there.st_ino == address->inode) {
        unlinkat(address->folder, address->name, 0);
    }
    weir_address_leave(address);
}

void weir_address_leave(struct weir_address *address)
{
    if (address->listener >= 0) {
        close(address->listener);
        close(address->folder);
    } else if (address->folder >= 0) {
        close(address->folder);
    }
    address->listener = -1;
    address->folder = -1;
}
