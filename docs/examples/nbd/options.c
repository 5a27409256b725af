/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <weir/base.h>

#include "tls.h"

enum key {
    KEY_EXPORT = 0x100,
    KEY_READ_ONLY,
    KEY_CREATE,
    KEY_DIRECT,
    KEY_UNIX,
    KEY_LISTEN,
    KEY_TLS_CERTIFICATES,
    KEY_TLS_PSK,
    KEY_CONNECTIONS,
    KEY_HANDSHAKE,
    KEY_DRAIN,
    KEY_POLICY,
    KEY_LOOPS,
    KEY_DEPTH,
    KEY_SPIN,
    KEY_INLINE_WRITES,
    KEY_METRICS,
    KEY_VERBOSE,
};

static const struct argp_option list[] = {
    {0, 0, 0, 0, "What is served:", 1},
    {"export", KEY_EXPORT, "NAME=FILE", 0,
     "A file or block device, under a name; at most 64 times. FILE alone is short for "
     "--export =FILE. The empty name means the only export there is",
     0},
    {"read-only", KEY_READ_ONLY, 0, 0, "Refuse to write", 0},
    {"create", KEY_CREATE, "SIZE", 0,
     "Make files that are missing, of SIZE bytes without data; K, M, G, T are powers of 1024", 0},
    {"direct", KEY_DIRECT, 0, 0, "O_DIRECT: past the page cache", 0},

    {0, 0, 0, 0, "To whom:", 2},
    {"unix", KEY_UNIX, "PATH", 0, "Listen at a unix socket", 0},
    {"listen", KEY_LISTEN, "ADDR:PORT", 0,
     "Listen at a TCP port, 0 for any that is free; [ADDR]:PORT for IPv6 (default "
     "127.0.0.1:10809)",
     0},
    {"tls-certificates", KEY_TLS_CERTIFICATES, "DIR", 0,
     "TLS for everybody, by DIR/server-cert.pem and server-key.pem", 0},
    {"tls-psk", KEY_TLS_PSK, "FILE", 0, "TLS for those whose keys psktool(1) wrote to FILE", 0},
    {"max-connections", KEY_CONNECTIONS, "N", 0, "1 to 4096 at a time (default 64)", 0},
    {"handshake-timeout", KEY_HANDSHAKE, "SECONDS", 0,
     "Until a client has chosen an export (default 10)", 0},
    {"drain-timeout", KEY_DRAIN, "SECONDS", 0,
     "For requests to end in, after SIGTERM or SIGINT (default 5)", 0},

    {0, 0, 0, 0, "How:", 3},
    {"policy", KEY_POLICY, "NAME", 0, "What to run on: auto (default), io_uring or epoll", 0},
    {"loops", KEY_LOOPS, "N", 0, "1 to 64 threads with a loop each (default 1)", 0},
    {"depth", KEY_DEPTH, "N", 0, "1 to 4096 requests in flight of each loop (default 128)", 0},
    {"spin", KEY_SPIN, "MICROSECONDS", 0,
     "How long a loop watches before it sleeps, at most 1000000 (default 0: not at all). Where "
     "clients have few requests under way, 50 makes them twice as fast and more; with many, or "
     "without a CPU to spare, slower",
     0},
    {"inline-writes", KEY_INLINE_WRITES, 0, 0,
     "Write what is at most 16 KiB in the loop itself: on few CPUs faster, for files in "
     "the page cache; but while a disk does not keep up, everybody on that loop waits",
     0},

    {0, 0, 0, 0, "What is seen of it:", 4},
    {"metrics", KEY_METRICS, "PATH", 0,
     "Show metrics at a unix socket: curl --unix-socket PATH http://weir/metrics", 0},
    {"verbose", KEY_VERBOSE, 0, 0, "Say on standard error who comes, goes and fails", 0},
    {0},
};

static const char doc[] =
    "Serves files as network block devices (NBD). Prints the URIs to connect to."
    "\v"
    "Takes listening sockets from a service manager (LISTEN_FDS) instead of --unix and --listen, "
    "and tells it (NOTIFY_SOCKET) when it is ready and that it is alive. SIGTERM and SIGINT end it "
    "when the requests under way have; SIGHUP makes it open its files anew.\n"
    "\n"
    "Exit status: 0; 1 for what failed while it ran; 2 for a wrong command line.";

struct parse {
    struct options *options;
    bool listen_given;
};

/* --- values: or a message, and exit 2 --------------------------------------------------------- */

static uint32_t parse_number(struct argp_state *state, const char *option, const char *text,
                             uint32_t min, uint32_t max)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value < min || value > max) {
        argp_error(state, "%s %s: give a whole number from %u to %u", option, text, min, max);
    }
    return (uint32_t)value;
}

static uint64_t parse_seconds_ns(struct argp_state *state, const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.01 && value <= 86400)) {
        argp_error(state, "%s %s: give seconds from 0.01 to 86400", option, text);
    }
    return (uint64_t)(value * 1e9);
}

static uint64_t parse_size(struct argp_state *state, const char *option, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (*text < '0' || *text > '9' || end[unit != NULL] != '\0' ||
        value > ((uint64_t)INT64_MAX >> shift) || value << shift < 512) {
        argp_error(state, "%s %s: give bytes, at least 512, such as 512M, 10G or 1T", option, text);
    }
    return value << shift;
}

static enum weir_policy parse_policy(struct argp_state *state, const char *text)
{
    static const struct {
        const char *name;
        enum weir_policy policy;
    } policies[] = {{"auto", WEIR_AUTO}, {"io_uring", WEIR_IO_URING}, {"epoll", WEIR_EPOLL}};
    for (unsigned i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strcmp(text, policies[i].name) == 0) {
            return policies[i].policy;
        }
    }
    argp_error(state, "--policy %s: give auto, io_uring or epoll", text);
    return WEIR_AUTO;
}

/* Cuts argv's string in two, at its last colon. */
static void parse_address(struct argp_state *state, char *text, struct options *options)
{
    char *colon = strrchr(text, ':');
    char *host = text;
    bool good = colon && colon > text;
    if (good && *host == '[') {
        good = colon[-1] == ']' && colon - host > 2;
    } else if (good) {
        good = !memchr(host, ':', (size_t)(colon - host));
    }
    if (!good) {
        argp_error(state, "--listen %s: give ADDR:PORT, such as 0.0.0.0:10809 or [::1]:10809",
                   text);
        return;
    }
    parse_number(state, "the port of --listen", colon + 1, 0, UINT16_MAX);
    *colon = '\0';
    if (*host == '[') {
        host++;
        colon[-1] = '\0';
    }
    options->listen_host = host;
    options->listen_port = colon + 1;
}

static void add_export(struct argp_state *state, const char *name, const char *path,
                       struct options *options)
{
    if (strlen(name) > EXPORT_NAME_MAX) {
        argp_error(state, "--export: a name of %zu bytes: give at most %d", strlen(name),
                   EXPORT_NAME_MAX);
    }
    if (*path == '\0') {
        argp_error(state, "export \"%s\": give its FILE", name);
    }
    if (options->export_count == EXPORTS_MAX) {
        argp_error(state, "more exports than %d: start another weir-nbd for \"%s\"", EXPORTS_MAX,
                   name);
    }
    for (uint32_t i = 0; i < options->export_count; i++) {
        if (strcmp(name, options->exports[i].name) == 0) {
            argp_error(state, "two exports named \"%s\", %s and %s: give each a name of its own",
                       name, options->exports[i].path, path);
        }
    }
    options->exports[options->export_count].name = name;
    options->exports[options->export_count].path = path;
    options->export_count++;
}

/* Cuts argv's string in two, at its first equals sign. */
static void parse_export(struct argp_state *state, char *text, struct options *options)
{
    char *equals = strchr(text, '=');
    if (!equals) {
        argp_error(state, "--export %s: give NAME=FILE, such as disk=disk.img", text);
        return;
    }
    *equals = '\0';
    add_export(state, text, equals + 1, options);
}

/* --- options ---------------------------------------------------------------------------------- */

static error_t parse_running(int key, const char *text, struct argp_state *state,
                             struct options *options)
{
    switch (key) {
    case KEY_CONNECTIONS:
        options->connections_max = parse_number(state, "--max-connections", text, 1, 4096);
        return 0;
    case KEY_HANDSHAKE:
        options->handshake_ns = parse_seconds_ns(state, "--handshake-timeout", text);
        return 0;
    case KEY_DRAIN:
        options->drain_ns = parse_seconds_ns(state, "--drain-timeout", text);
        return 0;
    case KEY_POLICY:
        options->policy = parse_policy(state, text);
        return 0;
    case KEY_LOOPS:
        options->loops = parse_number(state, "--loops", text, 1, LOOPS_MAX);
        return 0;
    case KEY_DEPTH:
        options->depth = parse_number(state, "--depth", text, 1, 4096);
        return 0;
    case KEY_SPIN:
        options->spin_ns = parse_number(state, "--spin", text, 0, 1000000) * 1000ull;
        return 0;
    case KEY_INLINE_WRITES:
        options->inline_writes = true;
        return 0;
    case KEY_METRICS:
        options->metrics = text;
        return 0;
    case KEY_VERBOSE:
        options->verbose = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What can be judged only when all of it is read. */
static void check_whole(struct argp_state *state, const struct parse *parse)
{
    const struct options *options = parse->options;
    if (options->export_count == 0) {
        argp_error(state, "nothing to serve: give a FILE, or --export NAME=FILE");
    }
    if (options->unix_path && parse->listen_given) {
        argp_error(state, "--unix and --listen: give one of them");
    }
    if (options->inline_writes && options->direct) {
        argp_error(state, "--inline-writes and --direct: give one of them; past the page cache "
                          "every write waits for its disk");
    }
    if (options->tls_certificates && options->tls_psk) {
        argp_error(state, "--tls-certificates and --tls-psk: give one of them");
    }
    if ((options->tls_certificates || options->tls_psk) && !tls_supported()) {
        argp_error(state, "this weir-nbd was built without TLS: install GnuTLS (libgnutls28-dev) "
                          "and build it with -Dgnutls=enabled");
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct parse *parse = state->input;
    struct options *options = parse->options;
    switch (key) {
    case KEY_EXPORT:
        parse_export(state, text, options);
        return 0;
    case ARGP_KEY_ARG:
        add_export(state, "", text, options);
        return 0;
    case KEY_READ_ONLY:
        options->read_only = true;
        return 0;
    case KEY_CREATE:
        options->create_bytes = parse_size(state, "--create", text);
        return 0;
    case KEY_DIRECT:
        options->direct = true;
        return 0;
    case KEY_UNIX:
        options->unix_path = text;
        return 0;
    case KEY_LISTEN:
        parse_address(state, text, options);
        parse->listen_given = true;
        return 0;
    case KEY_TLS_CERTIFICATES:
        options->tls_certificates = text;
        return 0;
    case KEY_TLS_PSK:
        options->tls_psk = text;
        return 0;
    case ARGP_KEY_END:
        check_whole(state, parse);
        return 0;
    default:
        return parse_running(key, text, state, options);
    }
}

static void print_version(FILE *file, struct argp_state *state)
{
    (void)state;
    fprintf(file, "weir-nbd %s\n", weir_version());
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    *ret_options = (struct options){
        .listen_host = "127.0.0.1",
        .listen_port = "10809",
        .loops = 1,
        .depth = 128,
        .connections_max = 64,
        .handshake_ns = 10 * WEIR_S,
        .drain_ns = 5 * WEIR_S,
    };
    const struct argp argp = {list, parse_option, "[FILE]", doc, 0, 0, 0};
    argp_program_version_hook = print_version;
    argp_err_exit_status = 2;
    struct parse parse = {.options = ret_options};
    return -argp_parse(&argp, argc, argv, 0, 0, &parse);
}
