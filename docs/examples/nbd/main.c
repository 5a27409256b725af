/* SPDX-License-Identifier: MIT */
/* weir-nbd: serves files as network block devices. See weir-nbd --help. */
#include "listen.h"
#include "options.h"
#include "rate.h"
#include "server.h"
#include "service.h"
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a disk does not give back by then, after all clients were hung up on, is left. */
#define GIVE_UP_NS (1 * WEIR_S)

static struct options options;
static struct export exports[EXPORTS_MAX];
static struct server server;
static struct tls_config *tls;
static struct weir_endpoint *endpoint;
static struct weir_op signalled, ticking, watching, expiring;
static struct rate rate;
static const char *socket_path; /* ours to remove */
static bool is_over;

static int fail(const char *what, int error)
{
    rate_end(stdout);
    fprintf(stderr, "weir-nbd: %s: %s\n", what, strerror(-error));
    return 1;
}

/* --- what comes from outside ------------------------------------------------------------------ */

static void submit(struct weir_op *op, weir_callback *callback)
{
    op->callback = callback;
    op->task = op->kind == WEIR_KIND_TIMEOUT ? NULL : server_task(&server);
    weir_submit(server_loop(&server), op); /* refused at the end alone: then there is no more */
}

static void on_drained(struct server *drained)
{
    (void)drained;
    is_over = true;
}

static void on_given_up(struct weir_op *op)
{
    is_over |= op->result == 0;
}

static void on_expired(struct weir_op *op)
{
    if (op->result == 0) {
        fprintf(stderr, "weir-nbd: clients are still there after %u ms: they are hung up on\n",
                (unsigned)(options.drain_ns / WEIR_MS));
        server_hang_up(&server);
        weir_op_timeout_in(op, server_loop(&server), GIVE_UP_NS);
        submit(op, on_given_up);
    }
}

/* While we listen at it: afterwards it may be another's. */
static void remove_socket(void)
{
    if (socket_path) {
        unlink(socket_path);
        socket_path = NULL;
    }
}

/* Clients get the replies to what they have asked for, and no more. */
static void drain(void)
{
    if (server.is_draining) {
        return;
    }
    rate_end(stdout);
    service_notify("STOPPING=1");
    weir_op_timeout_in(&expiring, server_loop(&server), options.drain_ns);
    submit(&expiring, on_expired);
    remove_socket();
    server_drain(&server);
}

static void on_reopened(struct server *reopened)
{
    (void)reopened;
    service_notify("READY=1");
}

static void on_signal(struct weir_op *op);

static void await_signal(void)
{
    weir_op_signal(&signalled, WEIR_SIGNAL(SIGTERM) | WEIR_SIGNAL(SIGINT) | WEIR_SIGNAL(SIGHUP),
                   NULL);
    submit(&signalled, on_signal);
}

static void on_signal(struct weir_op *op)
{
    if (op->result == SIGHUP && !server.is_draining) {
        service_notify_reloading();
        server_reopen(&server);
    } else if (op->result == SIGTERM || op->result == SIGINT) {
        drain();
    } else if (op->result < 0 && op->result != -ECANCELED) {
        fail("no signal can be waited for", (int)op->result);
        drain();
        return;
    }
    if (op->result != -ECANCELED) {
        await_signal();
    }
}

static void on_watch(struct weir_op *op)
{
    if (op->result == 0) {
        if (server_ping(&server)) { /* all loops turn: the manager may know */
            service_notify("WATCHDOG=1");
        }
        weir_op_timeout_in(op, server_loop(&server), service_watchdog_ns() / 2);
        submit(op, on_watch);
    }
}

static void on_tick(struct weir_op *op)
{
    if (op->result == 0 && !server.is_draining) {
        struct rate before = rate;
        server_rate(&server, &rate);
        rate_print(stdout, &rate, &before, 1);
        weir_op_timeout_in(op, server_loop(&server), WEIR_S);
        submit(op, on_tick);
    }
}

/* --- the start -------------------------------------------------------------------------------- */

static int make(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    int result = ftruncate(fd, (off_t)options.create_bytes) < 0 ? -errno : 0;
    close(fd);
    if (result < 0) { /* or it would be served the next time, as it is */
        unlink(path);
    }
    return result;
}

static int make_exports(void)
{
    for (uint32_t i = 0; i < options.export_count; i++) {
        int result = options.create_bytes > 0 ? make(options.exports[i].path) : 0;
        if (result < 0) {
            return fail(options.exports[i].path, result);
        }
        exports[i].name = options.exports[i].name;
        exports[i].path = options.exports[i].path;
        exports[i].read_only = options.read_only;
        exports[i].direct = options.direct;
        exports[i].inline_writes = options.inline_writes;
    }
    return 0;
}

/* Where clients find us: who hands us sockets has decided that already. */
static int listen_all(int given, int *fds)
{
    if (given > SERVER_LISTENERS_MAX) {
        fail("LISTEN_FDS", -E2BIG);
        return -E2BIG;
    }
    int count = given;
    for (int i = 0; i < given; i++) {
        int listens = 0;
        socklen_t length = sizeof listens;
        fds[i] = SERVICE_FD_FIRST + i;
        if (getsockopt(fds[i], SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 || !listens) {
            fail("LISTEN_FDS: not a socket that listens", -ENOTSOCK);
            return -ENOTSOCK;
        }
    }
    if (given == 0 && options.unix_path) {
        fds[0] = listen_unix(options.unix_path);
        count = fds[0] < 0 ? fds[0] : 1;
        socket_path = fds[0] < 0 ? NULL : options.unix_path;
    } else if (given == 0) {
        count = listen_tcp(options.listen_host, options.listen_port, fds, SERVER_LISTENERS_MAX);
    }
    if (count < 0) {
        fail(options.unix_path ? options.unix_path : options.listen_host, count);
    }
    return count;
}

static void print_uris(const int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        for (uint32_t j = 0; j < options.export_count; j++) {
            char uri[3 * EXPORT_NAME_MAX + 512];
            const char *name = options.export_count == 1 ? "" : exports[j].name;
            if (listen_uri(fds[i], tls != NULL, name, uri, sizeof uri) == 0) {
                puts(uri);
            }
        }
    }
    fflush(stdout);
}

static int open_server(const struct weir_decision *decision)
{
    struct server_options want = {
        .shard =
            {
                .loop = {.policy = options.policy,
                         .spin_ns_max = options.spin_ns,
                         .flags = options.metrics ? WEIR_INSPECTABLE : 0,
                         .decision = (struct weir_decision *)decision},
                .depth = options.depth,
                .connections = options.connections_max,
                .exports = exports,
                .export_count = options.export_count,
                .tls = tls,
                .handshake_ns = options.handshake_ns,
            },
        .shards = options.loops,
        .endpoint = endpoint,
        .is_verbose = options.verbose,
        .drained = on_drained,
        .reopened = on_reopened,
    };
    const char *culprit = "";
    int result = server_open(&server, &want, &culprit);
    if (result < 0) {
        fail(culprit, result);
        if (result == -ENOENT) {
            fprintf(stderr, "  --create SIZE makes a file that is not there\n");
        }
        for (uint32_t i = 0; i < decision->rejected_count; i++) {
            fprintf(stderr, "  %s: %s\n", decision->rejected[i].backend,
                    decision->rejected[i].hint);
        }
    } else if (options.verbose) {
        struct weir_facts facts;
        weir_loop_facts(server_loop(&server), &facts);
        fprintf(stderr, "weir-nbd: runs on %s: %s\n", facts.backend, facts.reason);
    }
    return result;
}

/* What is needed before clients can come. */
static int prepare(void)
{
    char why[256];
    struct weir_endpoint_options shown = {.path = options.metrics};
    int result = 0;
    if (options.tls_certificates || options.tls_psk) {
        result = tls_config_open(options.tls_certificates, options.tls_psk, why, sizeof why, &tls);
        if (result < 0) {
            fprintf(stderr, "weir-nbd: TLS: %s\n", why);
            return 1;
        }
    }
    if (options.metrics) {
        result = weir_endpoint_open(&shown, &endpoint);
        if (result < 0) {
            return fail(options.metrics, result);
        }
    }
    return make_exports();
}

static int serve(bool shows_rate)
{
    int result = 0;
    await_signal();
    if (service_watchdog_ns() > 0) {
        weir_op_timeout_in(&watching, server_loop(&server), 0);
        submit(&watching, on_watch);
    }
    if (shows_rate && isatty(STDOUT_FILENO)) {
        weir_op_timeout_in(&ticking, server_loop(&server), WEIR_S);
        submit(&ticking, on_tick);
    }
    service_notify("READY=1\nSTATUS=serving");
    while (!is_over && result >= 0) {
        result = server_turn(&server);
    }
    return result < 0 ? fail("the loop failed", result) : 0;
}

/* Listens, serves, and closes what is open. given: sockets that somebody has handed to us, who then
 * knows where they are, and whose stdout may be ours. The exit code. */
static int run(int given)
{
    int fds[SERVER_LISTENERS_MAX];
    int count = listen_all(given, fds);
    int result = count < 0;
    for (int i = 0; i < count; i++) {
        server_listen(&server, fds[i]);
    }
    if (count > 0) {
        if (given == 0) {
            print_uris(fds, count);
        }
        result = serve(given == 0);
        remove_socket();
    }
    return server_close(&server) < 0 ? 1 : result;
}

int main(int argc, char **argv)
{
    struct weir_decision decision = {0};
    options_parse(argc, argv, &options);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in all threads, so before there are any */
    signal(SIGPIPE, SIG_IGN);

    int given = service_listen_fds();
    if (given < 0) {
        return fail("LISTEN_FDS", given);
    }
    int result = prepare();
    if (result == 0) {
        result = open_server(&decision) < 0 ? 1 : run(given);
    }
    weir_endpoint_close(endpoint);
    tls_config_close(tls);
    return result;
}
