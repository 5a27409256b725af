/* SPDX-License-Identifier: MIT */
/* tls_peer.h: a client of GnuTLS's own, certificates and keys for both sides, and the wire between
 * the client and a session of tls.h: memory, carried in pieces of any size. */
#ifndef NBD_TESTS_TLS_PEER_H
#define NBD_TESTS_TLS_PEER_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls.h"
#include "unit.h"

/* A folder with server-cert.pem and server-key.pem for localhost, other-key.pem, which does not
 * match, and keys.psk with the keys of "reader" and "writer". */
struct peer_files {
    char folder[32];
    char psk[64];
};
bool peer_files_make(struct peer_files *ret_files);
void peer_files_remove(const struct peer_files *files);

#define PEER_VERSION_12 "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK"
#define PEER_VERSION_13 "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:+PSK"

/* What may be on its way, one direction. */
enum { WIRE_SIZE = 512 << 10 };
struct wire {
    size_t start;
    size_t end;
    uint8_t bytes[WIRE_SIZE];
};

struct peer {
    gnutls_session_t session;
    gnutls_certificate_credentials_t certificates;
    gnutls_psk_client_credentials_t keys;
    struct wire to_server;
    struct wire to_client;
};

/* By certificates when user is NULL, and then the server's is verified. NULL: as little memory. */
struct peer *peer_open(const struct peer_files *files, const char *priority, const char *user,
                       const char *hex_key);
void peer_close(struct peer *peer);

/* Moves at most so many bytes one way; how many it were. */
size_t peer_carry_to_server(struct peer *peer, struct tls *tls, size_t most);
size_t peer_carry_to_client(struct peer *peer, struct tls *tls, size_t most);

/* From 1 to most. */
size_t random_piece(struct random *random, size_t most);

/* Both ends of a connection. */
struct pair {
    struct tls *tls;
    struct peer *peer;
};

/* Both go on until both are done, or either failed, or nothing moves any more; in pieces of random
 * size, to that. What each said last: tls_handshake() and gnutls_handshake(). */
void pair_shake(struct pair *pair, struct random *random, size_t piece_max, int *ret_server,
                int *ret_client);

#endif
