/* SPDX-License-Identifier: MIT */
/* perf/echo.c: listener, limits and the list of free connections. */
#include "echo.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "report.h"

/* Beside connections: standard streams, ring, epoll and eventfds, sockets of the harness. */
#define OTHER_FDS 64
#define BACKLOG 4096

int echo_raise_limit(const struct options *options)
{
    uint32_t idle = 0;
    for (uint32_t i = 0; i < options->engine_count; i++) {
        idle = options->contenders[i].idle > idle ? options->contenders[i].idle : idle;
    }
    uint64_t needed = (uint64_t)options->connections + idle + OTHER_FDS;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < needed) {
        complain("%llu connections need %llu fds, the hard limit is %llu: raise it (ulimit -Hn) or "
                 "give fewer --connections or --idle",
                 (unsigned long long)options->connections + idle, (unsigned long long)needed,
                 (unsigned long long)limit.rlim_cur);
        return -1;
    }
    return 0;
}

/* Binds to a free port, or to a name that the kernel chooses. */
static int listen_somewhere(int fd, struct workload *workload)
{
    int one = 1;
    socklen_t size;
    memset(&workload->address, 0, sizeof workload->address);
    if (workload->tcp) {
        struct sockaddr_in *address = (struct sockaddr_in *)&workload->address;
        address->sin_family = AF_INET;
        address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        size = sizeof *address;
        if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0) {
            return -1;
        }
    } else {
        workload->address.ss_family = AF_UNIX;
        size = sizeof(sa_family_t);
    }
    if (bind(fd, (struct sockaddr *)&workload->address, size) < 0 || listen(fd, BACKLOG) < 0) {
        return -1;
    }
    workload->address_size = sizeof workload->address;
    return getsockname(fd, (struct sockaddr *)&workload->address, &workload->address_size);
}

int echo_listen(struct workload *workload)
{
    int fd =
        socket(workload->tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || listen_somewhere(fd, workload) < 0) {
        complain("no listener: %s; try the other --transport", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    workload->listener = fd;
    return 0;
}

struct free_list *free_list_make(uint32_t room)
{
    struct free_list *list = malloc(sizeof *list + room * sizeof *list->numbers);
    if (list != NULL) {
        list->count = 0;
        for (uint32_t i = room; i > 0; i--) {
            free_list_give(list, i - 1);
        }
    }
    return list;
}
