/* SPDX-License-Identifier: MIT */
/* sim_connect.c: how streams come to be, get names, find each other, and what is set of them. */
#include "sim_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>

#define PORT_FIRST 32768u
#define PORT_LAST 60999u
#define BACKLOG_MAX 4096
#define OPTION_NAME_MAX 255 /* of socket(7), tcp(7) and their kin: no name there is above it */
#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define PATH_MAX_UN sizeof(((struct sockaddr_un *)0)->sun_path)

/* --- births ----------------------------------------------------------------------------------- */

static struct weir_stream *make(struct weir_net *net, enum weir_stream_role role, int domain,
                                int type)
{
    struct weir_stream *stream = weir_arena_take(net->arena, sizeof *stream);
    if (stream) {
        stream->net = net;
        stream->role = role;
        stream->domain = domain;
        stream->type = type;
    }
    return stream;
}

static void join(struct weir_stream *one, struct weir_stream *other)
{
    one->peer = other;
    other->peer = one;
    one->state = WEIR_STREAM_CONNECTED;
    other->state = WEIR_STREAM_CONNECTED;
}

static int make_two(struct weir_net *net, const enum weir_stream_role roles[2], int type,
                    struct weir_stream *ret_ends[2])
{
    struct weir_stream *one = make(net, roles[0], AF_UNIX, type);
    struct weir_stream *other = make(net, roles[1], AF_UNIX, type);
    if (!one || !other) {
        weir_arena_give(net->arena, one, sizeof *one);
        weir_arena_give(net->arena, other, sizeof *other);
        return -ENOMEM;
    }
    join(one, other);
    ret_ends[0] = one;
    ret_ends[1] = other;
    return 0;
}

int weir_stream_pipe(struct weir_net *net, struct weir_stream *ret_ends[2])
{
    static const enum weir_stream_role roles[2] = {WEIR_STREAM_PIPE_IN, WEIR_STREAM_PIPE_OUT};
    return make_two(net, roles, SOCK_STREAM, ret_ends);
}

int weir_stream_pair(struct weir_net *net, int type, struct weir_stream *ret_ends[2])
{
    static const enum weir_stream_role roles[2] = {WEIR_STREAM_SOCKET, WEIR_STREAM_SOCKET};
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
        return -EINVAL;
    }
    return make_two(net, roles, type, ret_ends);
}

static int judge_socket(int domain, int type, int protocol)
{
    if (type < 0 || type > SOCK_PACKET) {
        return -EINVAL;
    }
    if (domain == AF_UNIX) {
        bool known = type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET;
        return !known                                 ? -ESOCKTNOSUPPORT
               : protocol == 0 || protocol == PF_UNIX ? 0
                                                      : -EPROTONOSUPPORT;
    }
    if (domain != AF_INET && domain != AF_INET6) {
        return -EAFNOSUPPORT;
    }
    if (type != SOCK_STREAM && type != SOCK_DGRAM) {
        return -ESOCKTNOSUPPORT;
    }
    int own = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    return protocol == 0 || protocol == own ? 0 : -EPROTONOSUPPORT;
}

int weir_stream_socket(struct weir_net *net, int domain, int type, int protocol,
                       struct weir_stream **ret_stream)
{
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    int r = judge_socket(domain, type & ~flags, protocol);
    if (r < 0) {
        return r;
    }
    struct weir_stream *stream = make(net, WEIR_STREAM_SOCKET, domain, type & ~flags);
    if (!stream) {
        return -ENOMEM;
    }
    *ret_stream = stream;
    return 0;
}

/* --- names ------------------------------------------------------------------------------------ */

int weir_name_set(struct weir_name *name, const struct sockaddr *address, socklen_t length)
{
    if (!address || length < sizeof address->sa_family) {
        return -EINVAL;
    }
    *name = (struct weir_name){0};
    size_t least = address->sa_family == AF_INET    ? sizeof name->address.in
                   : address->sa_family == AF_INET6 ? sizeof name->address.in6
                                                    : sizeof address->sa_family;
    bool is_known = address->sa_family == AF_INET || address->sa_family == AF_INET6 ||
                    address->sa_family == AF_UNIX;
    if (!is_known) {
        return -EAFNOSUPPORT;
    }
    if (length < least || (address->sa_family == AF_UNIX && length > sizeof name->address.un)) {
        return -EINVAL;
    }
    bool is_unix = address->sa_family == AF_UNIX;
    name->length = is_unix ? length : (socklen_t)least;
    memcpy(&name->address, address, name->length);
    return 0;
}

static bool is_abstract(const struct weir_name *name)
{
    return name->length > PATH_OFFSET && name->address.un.sun_path[0] == 0;
}

static in_port_t *port_of(struct weir_name *name)
{
    return name->address.any.sa_family == AF_INET ? &name->address.in.sin_port
                                                  : &name->address.in6.sin6_port;
}

static bool is_any(const struct weir_name *name)
{
    return name->address.any.sa_family == AF_INET
               ? name->address.in.sin_addr.s_addr == htonl(INADDR_ANY)
               : memcmp(&name->address.in6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
}

static bool is_same_host(const struct weir_name *one, const struct weir_name *other)
{
    if (is_any(one) || is_any(other)) {
        return true;
    }
    return one->address.any.sa_family == AF_INET
               ? one->address.in.sin_addr.s_addr == other->address.in.sin_addr.s_addr
               : memcmp(&one->address.in6.sin6_addr, &other->address.in6.sin6_addr,
                        sizeof one->address.in6.sin6_addr) == 0;
}

static bool is_same(struct weir_name *one, struct weir_name *other)
{
    if (one->address.any.sa_family != other->address.any.sa_family) {
        return false;
    }
    if (one->address.any.sa_family == AF_UNIX) {
        return one->length == other->length &&
               memcmp(&one->address, &other->address, one->length) == 0;
    }
    return *port_of(one) == *port_of(other) && is_same_host(one, other);
}

/* The inode of an AF_UNIX path, held; NULL and *ret_error. */
static struct weir_inode *inode_of(const struct weir_net *net, const struct weir_name *name,
                                   int *ret_error)
{
    char path[PATH_MAX_UN + 1] = {0};
    struct weir_inode *inode = NULL;
    memcpy(path, name->address.un.sun_path, name->length - PATH_OFFSET);
    *ret_error = weir_disk_open(net->disk, NULL, path, O_PATH, 0, &inode);
    return inode;
}

static bool is_path(const struct weir_name *name)
{
    return name->address.any.sa_family == AF_UNIX && name->length > PATH_OFFSET &&
           !is_abstract(name);
}

/* Who has it; by its inode for a path, and *ret_error where that names nothing. */
static struct weir_stream *find(const struct weir_stream *like, const struct weir_name *name,
                                int *ret_error)
{
    struct weir_name wanted = *name;
    struct weir_inode *inode = NULL;
    *ret_error = 0;
    if (is_path(name)) {
        inode = inode_of(like->net, name, ret_error);
        if (!inode) {
            return NULL;
        }
    }
    struct weir_stream *found = like->net->bound;
    while (found && (found->type != like->type || found->domain != like->domain ||
                     (inode ? found->inode != inode : !is_same(&found->name, &wanted)))) {
        found = found->next_bound;
    }
    if (inode) {
        weir_disk_release(like->net->disk, inode);
    }
    return found;
}

struct weir_stream *weir_net_find(const struct weir_stream *like, const struct weir_name *name)
{
    int error;
    return find(like, name, &error);
}

static void add(struct weir_stream *stream, const struct weir_name *name)
{
    stream->name = *name;
    stream->is_bound = true;
    stream->next_bound = stream->net->bound;
    stream->net->bound = stream;
}

void weir_net_unbind(struct weir_stream *stream)
{
    if (!stream->is_bound) {
        return;
    }
    struct weir_stream **link = &stream->net->bound;
    while (*link != stream) {
        link = &(*link)->next_bound;
    }
    *link = stream->next_bound;
    if (stream->inode) {
        weir_disk_release(stream->net->disk, stream->inode);
    }
    stream->is_bound = false;
}

/* A free port for the name. */
static int choose_port(struct weir_stream *stream, struct weir_name *name)
{
    struct weir_net *net = stream->net;
    for (uint32_t tries = 0; tries <= PORT_LAST - PORT_FIRST; tries++) {
        if (net->next_port < PORT_FIRST || net->next_port > PORT_LAST) {
            net->next_port = PORT_FIRST;
        }
        *port_of(name) = htons(net->next_port++);
        if (!weir_net_find(stream, name)) {
            return 0;
        }
    }
    return -EADDRINUSE;
}

static void choose_abstract(struct weir_stream *stream, struct weir_name *name)
{
    static const char digits[] = "0123456789abcdef";
    uint32_t number = ++stream->net->next_autobind;
    name->length = PATH_OFFSET + 6; /* unix(7): a zero and five digits */
    for (int i = 5; i > 0; i--) {
        name->address.un.sun_path[i] = digits[number % 16];
        number /= 16;
    }
}

int weir_net_autobind(struct weir_stream *stream)
{
    struct weir_name name = {0};
    if (stream->is_bound) {
        return 0;
    }
    name.address.any.sa_family = (sa_family_t)stream->domain;
    if (stream->domain == AF_UNIX) {
        choose_abstract(stream, &name);
        add(stream, &name);
        return 0;
    }
    if (stream->domain == AF_INET) {
        name.length = sizeof name.address.in;
        name.address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        name.length = sizeof name.address.in6;
        name.address.in6.sin6_addr = in6addr_loopback;
    }
    int r = choose_port(stream, &name);
    if (r == 0) {
        add(stream, &name);
    }
    return r;
}

static int bind_path(struct weir_stream *stream, const struct weir_name *name)
{
    char path[PATH_MAX_UN + 1] = {0};
    memcpy(path, name->address.un.sun_path, name->length - PATH_OFFSET);
    int r = weir_disk_mksocket(stream->net->disk, NULL, path, 0777, &stream->inode);
    if (r == 0) {
        add(stream, name);
    }
    return r == -EEXIST ? -EADDRINUSE : r;
}

int weir_stream_bind(struct weir_stream *stream, const struct sockaddr *address, socklen_t length)
{
    struct weir_name name;
    int r = weir_name_set(&name, address, length);
    if (r < 0) {
        return r;
    }
    if (name.address.any.sa_family != stream->domain) {
        return stream->domain == AF_UNIX ? -EINVAL : -EAFNOSUPPORT;
    }
    if (stream->is_bound) {
        return -EINVAL;
    }
    if (stream->domain == AF_UNIX) {
        if (name.length <= PATH_OFFSET) {
            return weir_net_autobind(stream);
        }
        if (is_path(&name)) {
            return bind_path(stream, &name);
        }
    } else if (*port_of(&name) == 0) {
        r = choose_port(stream, &name);
    }
    if (r == 0 && weir_net_find(stream, &name)) {
        r = -EADDRINUSE;
    }
    if (r == 0) {
        add(stream, &name);
    }
    return r;
}

/* --- connections ------------------------------------------------------------------------------ */

int weir_stream_listen(struct weir_stream *stream, int backlog)
{
    if (stream->type == SOCK_DGRAM) {
        return -EOPNOTSUPP;
    }
    if (stream->state == WEIR_STREAM_CONNECTED ||
        (!stream->is_bound && stream->domain == AF_UNIX)) {
        return -EINVAL;
    }
    int r = weir_net_autobind(stream);
    if (r < 0) {
        return r;
    }
    backlog = backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog;
    stream->backlog = (uint32_t)backlog + 1; /* as Linux counts */
    stream->state = WEIR_STREAM_LISTENING;
    return 0;
}

static int connect_datagrams(struct weir_stream *stream, const struct weir_name *name)
{
    int error;
    struct weir_stream *peer = find(stream, name, &error);
    if (stream->domain == AF_UNIX && !peer) {
        return error < 0 ? error : -ECONNREFUSED;
    }
    if (stream->domain != AF_UNIX) {
        int r = weir_net_autobind(stream);
        if (r < 0) {
            return r;
        }
    }
    stream->peer_name = *name;
    stream->state = WEIR_STREAM_CONNECTED;
    return 0;
}

static int queue_connection(struct weir_stream *stream, struct weir_stream *listener)
{
    struct weir_stream *end = make(stream->net, WEIR_STREAM_SOCKET, stream->domain, stream->type);
    if (!end) {
        return -ENOMEM;
    }
    stream->peer_name = listener->name;
    end->name = listener->name;
    if (stream->domain != AF_UNIX && is_any(&end->name)) {
        end->name.address = stream->name.address; /* the host it was reached by */
        *port_of(&end->name) = *port_of(&listener->name);
    }
    end->peer_name = stream->name;
    join(stream, end);
    *(listener->pending ? &listener->pending_tail->next_pending : &listener->pending) = end;
    listener->pending_tail = end;
    listener->pending_count++;
    listener->net->changed(listener->net->context, listener);
    return 0;
}

int weir_stream_connect(struct weir_stream *stream, const struct sockaddr *address,
                        socklen_t length, struct weir_stream **ret_listener)
{
    struct weir_name name;
    int error = weir_name_set(&name, address, length);
    if (error < 0) {
        return error;
    }
    if (name.address.any.sa_family != stream->domain) {
        return stream->domain == AF_UNIX ? -EINVAL : -EAFNOSUPPORT;
    }
    if (stream->type == SOCK_DGRAM) {
        return connect_datagrams(stream, &name);
    }
    if (stream->state != WEIR_STREAM_FRESH) {
        return stream->state == WEIR_STREAM_CONNECTED ? -EISCONN : -EINVAL;
    }
    struct weir_stream *listener = find(stream, &name, &error);
    if (!listener || listener->state != WEIR_STREAM_LISTENING || listener->read_shut) {
        return error < 0 ? error : -ECONNREFUSED;
    }
    if (listener->pending_count >= listener->backlog) {
        *ret_listener = listener;
        return -EAGAIN;
    }
    if (stream->domain != AF_UNIX) {
        error = weir_net_autobind(stream);
        if (error < 0) {
            return error;
        }
    }
    return queue_connection(stream, listener);
}

int weir_stream_accept(struct weir_stream *listener, struct weir_stream **ret_stream)
{
    struct weir_stream *stream = listener->pending;
    if (listener->state != WEIR_STREAM_LISTENING || (listener->read_shut && !stream)) {
        return listener->type == SOCK_DGRAM ? -EOPNOTSUPP : -EINVAL;
    }
    if (!stream) {
        return -EAGAIN;
    }
    listener->pending = stream->next_pending;
    listener->pending_count--;
    stream->next_pending = NULL;
    listener->net->changed(listener->net->context, listener);
    *ret_stream = stream;
    return 0;
}

/* --- options ---------------------------------------------------------------------------------- */

int weir_stream_set(struct weir_stream *stream, int level, int name, const void *value,
                    socklen_t length)
{
    int number;
    if (length < sizeof number || length > sizeof(struct linger) * 16) {
        return -EINVAL;
    }
    bool is_inet = stream->domain != AF_UNIX;
    if (name <= 0 || name > OPTION_NAME_MAX) {
        return -ENOPROTOOPT;
    }
    if (level != SOL_SOCKET && !(is_inet && (level == IPPROTO_TCP || level == IPPROTO_IP ||
                                             level == IPPROTO_IPV6 || level == IPPROTO_UDP))) {
        return level == IPPROTO_TCP ? -EOPNOTSUPP : -ENOPROTOOPT;
    }
    memcpy(&number, value, sizeof number);
    if (level == SOL_SOCKET && name == SO_LINGER && length >= sizeof(struct linger)) {
        struct linger linger;
        memcpy(&linger, value, sizeof linger);
        stream->linger_reset = linger.l_onoff && linger.l_linger == 0;
    }
    uint32_t i = 0;
    while (i < stream->option_count &&
           (stream->options[i].level != level || stream->options[i].name != name)) {
        i++;
    }
    if (i == WEIR_STREAM_OPTIONS) {
        return -ENOBUFS;
    }
    stream->option_count += i == stream->option_count;
    stream->options[i] = (struct weir_stream_option){level, name, number};
    return 0;
}

int weir_stream_get(const struct weir_stream *stream, int level, int name, int *ret_value)
{
    for (uint32_t i = 0; i < stream->option_count; i++) {
        if (stream->options[i].level == level && stream->options[i].name == name) {
            *ret_value = stream->options[i].value;
            return 0;
        }
    }
    return -ENOPROTOOPT;
}
