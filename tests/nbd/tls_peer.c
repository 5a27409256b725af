/* SPDX-License-Identifier: MIT */
#include "tls_peer.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"server-cert.pem", "server-key.pem", "other-key.pem",
                                    "keys.psk"};

static bool write_file(const char *folder, const char *name, const void *bytes, size_t length)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    bool good = file && fwrite(bytes, 1, length, file) == length;
    return file && fclose(file) == 0 && good;
}

static bool make_key(const char *folder, const char *name, gnutls_x509_privkey_t *ret_key)
{
    gnutls_datum_t text = {0};
    bool good =
        gnutls_x509_privkey_init(ret_key) >= 0 &&
        gnutls_x509_privkey_generate(*ret_key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) >= 0 &&
        gnutls_x509_privkey_export2(*ret_key, GNUTLS_X509_FMT_PEM, &text) >= 0 &&
        write_file(folder, name, text.data, text.size);
    gnutls_free(text.data);
    return good;
}

static bool make_certificate(const char *folder, gnutls_x509_privkey_t key)
{
    static const char host[] = "localhost";
    const uint8_t serial = 1;
    time_t now = time(NULL);
    gnutls_datum_t text = {0};
    gnutls_x509_crt_t certificate;
    bool good = gnutls_x509_crt_init(&certificate) >= 0 &&
                gnutls_x509_crt_set_version(certificate, 3) >= 0 &&
                gnutls_x509_crt_set_serial(certificate, &serial, sizeof serial) >= 0 &&
                gnutls_x509_crt_set_dn(certificate, "CN=localhost", NULL) >= 0 &&
                gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, host,
                                                     sizeof host - 1, GNUTLS_FSAN_SET) >= 0 &&
                gnutls_x509_crt_set_activation_time(certificate, now - 86400) >= 0 &&
                gnutls_x509_crt_set_expiration_time(certificate, now + 86400) >= 0 &&
                gnutls_x509_crt_set_key(certificate, key) >= 0 &&
                gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0) >= 0 &&
                gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &text) >= 0 &&
                write_file(folder, names[0], text.data, text.size);
    gnutls_free(text.data);
    gnutls_x509_crt_deinit(certificate);
    return good;
}

bool peer_files_make(struct peer_files *ret_files)
{
    static const char keys[] = "reader:00112233445566778899aabbccddeeff\n"
                               "writer:ffeeddccbbaa99887766554433221100\n";
    snprintf(ret_files->folder, sizeof ret_files->folder, "/tmp/weir-XXXXXX");
    if (!mkdtemp(ret_files->folder)) {
        return false;
    }
    snprintf(ret_files->psk, sizeof ret_files->psk, "%s/%s", ret_files->folder, names[3]);
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_privkey_t other = NULL;
    bool good = make_key(ret_files->folder, names[1], &key) &&
                make_key(ret_files->folder, names[2], &other) &&
                make_certificate(ret_files->folder, key) &&
                write_file(ret_files->folder, names[3], keys, sizeof keys - 1);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_privkey_deinit(other);
    return good;
}

void peer_files_remove(const struct peer_files *files)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", files->folder, names[i]);
        unlink(path);
    }
    rmdir(files->folder);
}

/* --- the client's transport ------------------------------------------------------------------- */

static size_t wire_put(struct wire *wire, const void *bytes, size_t length)
{
    memmove(wire->bytes, wire->bytes + wire->start, wire->end - wire->start);
    wire->end -= wire->start;
    wire->start = 0;
    if (length > WIRE_SIZE - wire->end) {
        length = WIRE_SIZE - wire->end;
    }
    memcpy(wire->bytes + wire->end, bytes, length);
    wire->end += length;
    return length;
}

static size_t wire_get(struct wire *wire, void *bytes, size_t room)
{
    size_t length = wire->end - wire->start;
    if (length > room) {
        length = room;
    }
    memcpy(bytes, wire->bytes + wire->start, length);
    wire->start += length;
    return length;
}

static ssize_t done_or_again(struct peer *peer, size_t length)
{
    if (length == 0) {
        gnutls_transport_set_errno(peer->session, EAGAIN);
        return -1;
    }
    return (ssize_t)length;
}

static ssize_t push(gnutls_transport_ptr_t context, const void *bytes, size_t length)
{
    struct peer *peer = context;
    return done_or_again(peer, wire_put(&peer->to_server, bytes, length));
}

static ssize_t pull(gnutls_transport_ptr_t context, void *bytes, size_t room)
{
    struct peer *peer = context;
    return done_or_again(peer, wire_get(&peer->to_client, bytes, room));
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned timeout_ms)
{
    (void)timeout_ms;
    const struct peer *peer = context;
    return peer->to_client.start < peer->to_client.end;
}

/* --- the client ------------------------------------------------------------------------------- */

static bool trust(struct peer *peer, const struct peer_files *files)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", files->folder, names[0]);
    if (gnutls_certificate_allocate_credentials(&peer->certificates) < 0 ||
        gnutls_certificate_set_x509_trust_file(peer->certificates, path, GNUTLS_X509_FMT_PEM) < 1) {
        return false;
    }
    gnutls_session_set_verify_cert(peer->session, "localhost", 0);
    return gnutls_credentials_set(peer->session, GNUTLS_CRD_CERTIFICATE, peer->certificates) >= 0;
}

static bool be_user(struct peer *peer, const char *user, const char *hex_key)
{
    gnutls_datum_t key = {(unsigned char *)(uintptr_t)hex_key, (unsigned)strlen(hex_key)};
    return gnutls_psk_allocate_client_credentials(&peer->keys) >= 0 &&
           gnutls_psk_set_client_credentials(peer->keys, user, &key, GNUTLS_PSK_KEY_HEX) >= 0 &&
           gnutls_credentials_set(peer->session, GNUTLS_CRD_PSK, peer->keys) >= 0;
}

struct peer *peer_open(const struct peer_files *files, const char *priority, const char *user,
                       const char *hex_key)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer || gnutls_init(&peer->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK) < 0) {
        free(peer);
        return NULL;
    }
    if (gnutls_priority_set_direct(peer->session, priority, NULL) < 0 ||
        !(user ? be_user(peer, user, hex_key) : trust(peer, files))) {
        peer_close(peer);
        return NULL;
    }
    gnutls_transport_set_ptr(peer->session, peer);
    gnutls_transport_set_push_function(peer->session, push);
    gnutls_transport_set_pull_function(peer->session, pull);
    gnutls_transport_set_pull_timeout_function(peer->session, pull_timeout);
    return peer;
}

void peer_close(struct peer *peer)
{
    gnutls_deinit(peer->session);
    if (peer->certificates) {
        gnutls_certificate_free_credentials(peer->certificates);
    }
    if (peer->keys) {
        gnutls_psk_free_client_credentials(peer->keys);
    }
    free(peer);
}

size_t peer_carry_to_server(struct peer *peer, struct tls *tls, size_t most)
{
    size_t room;
    void *bytes = tls_input(tls, &room);
    size_t length = wire_get(&peer->to_server, bytes, room < most ? room : most);
    tls_received(tls, length);
    return length;
}

size_t peer_carry_to_client(struct peer *peer, struct tls *tls, size_t most)
{
    size_t length;
    const void *bytes = tls_output(tls, &length);
    length = wire_put(&peer->to_client, bytes, length < most ? length : most);
    tls_output_sent(tls, length);
    return length;
}

/* --- both ------------------------------------------------------------------------------------ */

size_t random_piece(struct random *random, size_t most)
{
    return 1 + (size_t)random_below(random, most);
}

void pair_shake(struct pair *pair, struct random *random, size_t piece_max, int *ret_server,
                int *ret_client)
{
    int server = -EAGAIN;
    int client = GNUTLS_E_AGAIN;
    size_t moved = 1;
    while (moved > 0) {
        if (client == GNUTLS_E_AGAIN) {
            client = gnutls_handshake(pair->peer->session);
            if (client < 0 && client != GNUTLS_E_AGAIN) {
                gnutls_alert_send_appropriate(pair->peer->session, client);
            }
        }
        moved = peer_carry_to_server(pair->peer, pair->tls, random_piece(random, piece_max));
        if (server == -EAGAIN) {
            server = tls_handshake(pair->tls);
        }
        moved += peer_carry_to_client(pair->peer, pair->tls, random_piece(random, piece_max));
    }
    *ret_server = server;
    *ret_client = client;
}
