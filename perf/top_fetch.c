/* SPDX-License-Identifier: MIT */
#include "top_fetch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 10         /* twice what an endpoint gives a connection */
#define SLICE_NS 100000000ull /* how long is waited before go_on() is asked again */
#define BODY_FIRST 65536
#define BODY_MAX ((size_t)1 << 30)
#define NS_A_SECOND 1000000000ull

struct why {
    char *text;
    size_t size;
};

/* -error. */
__attribute__((format(printf, 3, 4))) static int fail(struct why why, int error, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why.text, why.size, format, arguments);
    va_end(arguments);
    return -error;
}

uint64_t top_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_A_SECOND + (uint64_t)now.tv_nsec;
}

bool top_wait(int fd, short events, uint64_t until_ns)
{
    uint64_t now_ns = top_now();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec timeout = {(time_t)(left_ns / NS_A_SECOND), (long)(left_ns % NS_A_SECOND)};
    struct pollfd polled = {.fd = fd, .events = events};
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&polled, 1, &timeout, &none) > 0;
}

/* --- the connection --------------------------------------------------------------------------- */

static int explain_connect(struct why why, const char *path, int error)
{
    struct stat status;
    bool is_other = stat(path, &status) == 0 && !S_ISSOCK(status.st_mode);
    switch (error) {
    case ENOENT:
        return fail(why, ECONNREFUSED,
                    "%s: no such socket: is the service running, and did it open an endpoint "
                    "(weir/endpoint.h)?",
                    path);
    case ECONNREFUSED:
        return fail(why, ECONNREFUSED,
                    is_other ? "%s: this is no socket: give the one that a service opened "
                               "(weir/endpoint.h)"
                             : "%s: nobody listens: the service has ended and left its socket "
                               "behind (killed?)",
                    path);
    case EACCES:
    case EPERM:
        return fail(why, EACCES,
                    "%s: permission denied: run as the service's user, or let it give its endpoint "
                    "a mode (weir_endpoint_options.mode)",
                    path);
    case EAGAIN:
        return fail(why, ETIMEDOUT,
                    "%s: it does not accept connections: its process is stopped (a debugger, "
                    "SIGSTOP) or has no CPU",
                    path);
    default:
        return fail(why, error, "%s: %s", path, strerror(error));
    }
}

/* The fd, or negative errno. */
static int connect_to(const char *path, bool blocks, pid_t *ret_pid, struct why why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t peer_size = sizeof peer;
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    if (strlen(path) >= sizeof address.sun_path) {
        return fail(why, ENAMETOOLONG, "%s: longer than a socket's path can be (%zu bytes)", path,
                    sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (blocks ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0) {
        return fail(why, errno, "%s: %s", path, strerror(errno));
    }
    /* connect waits while the backlog is full, which a socket that does not block would not. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        return explain_connect(why, path, error);
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0) {
        *ret_pid = peer.pid;
    }
    return fd;
}

/* --- the answer ------------------------------------------------------------------------------- */

struct answer {
    char *bytes; /* malloc'ed */
    size_t size;
    size_t capacity;
};

static int explain_hang_up(struct why why, const char *path)
{
    return fail(why, ECONNREFUSED, "%s: it hung up without an answer: has the service ended?",
                path);
}

static int explain_receive(struct why why, const char *path, int error)
{
    if (error == EAGAIN) {
        return fail(why, ETIMEDOUT,
                    "%s: no answer in %d s: its process is stopped (a debugger, SIGSTOP) or has no "
                    "CPU",
                    path, PATIENCE_S);
    }
    if (error == ECONNRESET) {
        return explain_hang_up(why, path);
    }
    return fail(why, error, "%s: %s", path, strerror(error));
}

/* 0: there is more room. */
static int make_room(struct answer *answer)
{
    if (answer->size + 1 < answer->capacity) {
        return 0;
    }
    size_t capacity = answer->capacity ? 2 * answer->capacity : BODY_FIRST;
    char *larger = capacity <= BODY_MAX ? realloc(answer->bytes, capacity) : NULL;
    if (!larger) {
        return -ENOMEM;
    }
    answer->bytes = larger;
    answer->capacity = capacity;
    return 0;
}

/* All that comes until the end. The bytes, with a NUL behind them, which are the caller's to free
 * whatever comes. */
static int receive(int fd, const struct top_patience *patience, struct answer *answer,
                   const char *path, struct why why)
{
    uint64_t until_ns = top_now() + PATIENCE_S * NS_A_SECOND;
    for (;;) {
        if (make_room(answer) < 0) {
            return fail(why, ENOMEM, "%s: no memory for its answer", path);
        }
        ssize_t got = recv(fd, answer->bytes + answer->size, answer->capacity - answer->size - 1,
                           MSG_DONTWAIT);
        if (got == 0) {
            answer->bytes[answer->size] = '\0';
            return 0;
        }
        if (got > 0) {
            answer->size += (size_t)got;
            continue;
        }
        int error = errno;
        uint64_t now_ns = top_now();
        if (error != EAGAIN || now_ns >= until_ns) {
            return explain_receive(why, path, error);
        }
        bool asks = patience && now_ns + SLICE_NS < until_ns;
        if (!top_wait(fd, POLLIN, asks ? now_ns + SLICE_NS : until_ns) && patience &&
            !patience->go_on(patience->context)) {
            return fail(why, EINTR, "interrupted");
        }
    }
}

/* Cuts the head off. */
static int take_apart(char *bytes, size_t size, const char *path, struct top_page *page,
                      struct why why)
{
    unsigned status;
    if (!bytes || size == 0) {
        return explain_hang_up(why, path);
    }
    char *body = strstr(bytes, "\r\n\r\n");
    const char *length = strstr(bytes, "\r\nContent-Length: ");
    if (!body || sscanf(bytes, "HTTP/1.%*1[01] %3u ", &status) != 1) {
        return fail(why, EPROTO, "%s: who listens there is no endpoint of weir", path);
    }
    body += 4;
    size -= (size_t)(body - bytes);
    if (length && length < body && strtoull(length + 18, NULL, 10) != size) {
        return fail(why, ECONNREFUSED, "%s: the answer ends too early: has the service ended?",
                    path);
    }
    if (status != 200) {
        return fail(why, EPROTO, "%s: the endpoint answered %u: %.*s", path, status,
                    (int)strcspn(body, "\r\n"), body);
    }
    memmove(bytes, body, size + 1);
    page->body = bytes;
    page->size = size;
    return 0;
}

int top_fetch(const char *path, const char *page, const struct top_patience *patience,
              struct top_page *ret_page, char *ret_why, size_t why_size)
{
    struct why why = {ret_why, why_size};
    struct answer answer = {0};
    struct top_page got = {0};
    char request[256];
    int fd = connect_to(path, !patience, &got.pid, why);
    if (fd < 0) {
        return fd;
    }
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", page);
    /* Where this fails it may have answered already that it is full: that is what to say then. */
    send(fd, request, (size_t)length, MSG_NOSIGNAL);
    int r = receive(fd, patience, &answer, path, why);
    close(fd);
    r = r < 0 ? r : take_apart(answer.bytes, answer.size, path, &got, why);
    if (r < 0) {
        free(answer.bytes);
        return r;
    }
    *ret_page = got;
    return 0;
}
