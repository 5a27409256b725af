/* SPDX-License-Identifier: MIT */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

/* --- unix ------------------------------------------------------------------------------------- */

/* 0: nobody listens there, and it is gone; or why it may not go. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0) {
        return -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -ENOTSOCK;
    }
    int fd = open_socket(AF_UNIX);
    if (fd < 0) {
        return fd;
    }
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    /* EAGAIN: so many are waiting there already; EPROTOTYPE: a socket of datagrams. */
    bool stale = result < 0 && errno == ECONNREFUSED;
    close(fd);
    if (!stale) {
        return -EADDRINUSE;
    }
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_unix(int fd, const struct sockaddr_un *address)
{
    return bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? -errno : 0;
}

int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path == '\0') {
        return -ENOENT; /* to the kernel it would be an abstract name */
    }
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = open_socket(AF_UNIX);
    if (fd < 0) {
        return fd;
    }
    int error = bind_unix(fd, &address);
    if (error == -EADDRINUSE) {
        error = remove_stale(&address);
        if (error == 0) {
            error = bind_unix(fd, &address);
        }
    }
    if (error == 0 && listen(fd, SOMAXCONN) < 0) {
        error = -errno;
    }
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

/* --- TCP -------------------------------------------------------------------------------------- */

static int listen_address(const struct addrinfo *address)
{
    int fd = open_socket(address->ai_family);
    if (fd < 0) {
        return fd;
    }
    int yes = 1;
    /* IPv4 has its own socket, if asked for. */
    if ((address->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) < 0) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* Names can have the same address twice, as localhost in some files of hosts. */
static bool is_repeated(const struct addrinfo *all, const struct addrinfo *address)
{
    for (; all != address; all = all->ai_next) {
        if (all->ai_addrlen == address->ai_addrlen &&
            memcmp(all->ai_addr, address->ai_addr, address->ai_addrlen) == 0) {
            return true;
        }
    }
    return false;
}

static int listen_all(const struct addrinfo *all, int *fds, int fds_max)
{
    int count = 0;
    int unusable = -EADDRNOTAVAIL;
    for (const struct addrinfo *address = all; address && count < fds_max;
         address = address->ai_next) {
        if (is_repeated(all, address)) {
            continue;
        }
        int fd = listen_address(address);
        if (fd >= 0) {
            fds[count++] = fd;
        } else if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) {
            unusable = fd;
        } else {
            while (count > 0) {
                close(fds[--count]);
            }
            return fd;
        }
    }
    return count > 0 ? count : unusable;
}

int listen_tcp(const char *host, const char *port, int *fds, int fds_max)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *all;
    int result = getaddrinfo(host, port, &hints, &all);
    if (result != 0) {
        return result == EAI_SYSTEM ? -errno : result == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
    }
    result = listen_all(all, fds, fds_max);
    freeaddrinfo(all);
    return result;
}

/* --- URIs ------------------------------------------------------------------------------------- */

struct text {
    char *bytes;
    size_t size;
    size_t length; /* may be more than fits */
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    size_t room = text->length < text->size ? text->size - text->length : 0;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(room > 0 ? text->bytes + text->length : NULL, room, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

/* Percent-encoded, but for what no part of a URI gives a meaning to, and the slash. */
static void put_encoded(struct text *text, const char *string)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~/";
    for (; *string; string++) {
        put(text, strchr(plain, *string) ? "%c" : "%%%02X", (unsigned char)*string);
    }
}

static int put_unix(struct text *text, const struct sockaddr_un *address, bool tls,
                    const char *export_name)
{
    if (address->sun_path[0] == '\0') {
        return -EAFNOSUPPORT; /* abstract */
    }
    put(text, "%s+unix:///", tls ? "nbds" : "nbd");
    put_encoded(text, export_name);
    put(text, "?socket=");
    if (address->sun_path[0] != '/') {
        char folder[PATH_MAX];
        if (!getcwd(folder, sizeof folder)) {
            return -errno;
        }
        put_encoded(text, folder);
        put(text, "/");
    }
    put_encoded(text, address->sun_path);
    return 0;
}

static int put_tcp(struct text *text, const struct sockaddr *address, socklen_t length, bool tls,
                   const char *export_name)
{
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (getnameinfo(address, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return -EAFNOSUPPORT;
    }
    put(text, address->sa_family == AF_INET6 ? "%s://[%s]:%s" : "%s://%s:%s", tls ? "nbds" : "nbd",
        host, port);
    if (*export_name) {
        put(text, "/");
        put_encoded(text, export_name);
    }
    return 0;
}

int listen_uri(int fd, bool tls, const char *export_name, char *ret_uri, size_t size)
{
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } address = {.storage = {0}}; /* zeroed: a path may come without its end */
    socklen_t length = sizeof address - 1;
    if (getsockname(fd, &address.any, &length) < 0) {
        return -errno;
    }
    struct text text = {.bytes = ret_uri, .size = size};
    int error = -EAFNOSUPPORT;
    if (address.any.sa_family == AF_UNIX) {
        error = put_unix(&text, &address.un, tls, export_name);
    } else if (address.any.sa_family == AF_INET || address.any.sa_family == AF_INET6) {
        error = put_tcp(&text, &address.any, length, tls, export_name);
    }
    return error < 0 ? error : text.length >= size ? -ENAMETOOLONG : 0;
}
