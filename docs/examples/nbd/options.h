/* SPDX-License-Identifier: MIT */
/* options.h: what the command line asks for. Knows nothing of how it is done. */
#ifndef NBD_OPTIONS_H
#define NBD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <weir/policy.h>

enum {
    EXPORTS_MAX = 64,
    EXPORT_NAME_MAX = 4096, /* bytes: the protocol's limit of any string */
    LOOPS_MAX = 64,
};

/* Strings are argv's, which must stay. */
struct options {
    struct {
        const char *name; /* "": the one that a client gets which names none */
        const char *path;
    } exports[EXPORTS_MAX];
    uint32_t export_count; /* at least 1; names differ */

    const char *unix_path;   /* NULL: TCP, at the two below */
    const char *listen_host; /* a name or an address, without brackets */
    const char *listen_port; /* a number; "0": any that is free */

    bool read_only;
    bool direct;           /* O_DIRECT */
    uint64_t create_bytes; /* a missing file is made that large; 0: it must be there */

    enum weir_policy policy;
    uint32_t loops; /* threads, each with a loop */
    uint32_t depth; /* requests in flight of one loop */
    uint32_t connections_max;
    uint64_t spin_ns;      /* how long a loop watches before it sleeps */
    bool inline_writes;    /* the loop makes small writes itself; not with direct */
    uint64_t handshake_ns; /* a client that has not chosen an export by then is dropped */
    uint64_t drain_ns;     /* how long requests may take to end once we are asked to */

    const char *metrics;          /* path of the socket, or NULL */
    const char *tls_certificates; /* a folder; at most one of the two is given */
    const char *tls_psk;          /* a file */
    bool verbose;
};

/* Fills in the defaults and parses argv. 0. Does not come back from --help and --version (exit 0)
 * or a wrong command line (says what to do; exit 2). */
int options_parse(int argc, char **argv, struct options *ret_options);

#endif
