/* SPDX-License-Identifier: MIT */
/*
 * tls.h: the server's side of TLS 1.2 and 1.3, from memory to memory. Does no I/O and waits for
 * nothing: the owner receives ciphertext into tls_input() and sends what stands in tls_output().
 * Built without GnuTLS every open answers -EOPNOTSUPP.
 *
 * At most one receive and one send may be under way: what tls_input() gave moves only at the next
 * tls_input(), what tls_output() gave only in tls_output_sent(). Any other function may be called
 * meanwhile. Memory of a session is fixed: it is taken at open, and by GnuTLS for its keys.
 */
#ifndef NBD_TLS_H
#define NBD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TLS_INPUT_SIZE = 32 << 10,   /* any record fits, and what follows it in the same receive */
    TLS_OUTPUT_SIZE = 160 << 10, /* the largest records, nine of them */
};

struct tls_config; /* certificate or keys; any number of threads may open sessions from one */
struct tls;        /* one connection; belongs to one thread at a time */

/* Was it built with GnuTLS? */
bool tls_supported(void);

/*
 * certificates: a folder with server-cert.pem and server-key.pem, as certtool(1) makes them for
 * nbdkit and qemu; clients are not asked for certificates, so a ca-cert.pem there is for them. Or
 * psk_file: a file of lines username:hexkey, as psktool(1) makes it. The other is NULL. 0, or
 * -errno, and in ret_why what is wrong, for people.
 */
int tls_config_open(const char *certificates, const char *psk_file, char *ret_why, size_t why_size,
                    struct tls_config **ret_config);
/* Once its sessions are closed. */
void tls_config_close(struct tls_config *config);

/* 0 or -ENOMEM. config must outlive the session. */
int tls_open(struct tls_config *config, struct tls **ret_tls);
void tls_close(struct tls *tls);

/* Where ciphertext is to be received, *ret_room bytes at most: never 0 after tls_handshake() or
 * tls_read() has answered -EAGAIN. Then how much came. */
void *tls_input(struct tls *tls, size_t *ret_room);
void tls_received(struct tls *tls, size_t length);

/* The next step: 0 done; -EAGAIN: send what is in the output, and receive; else -EPROTO: failed,
 * and the output may end in an alert that says so to the peer. */
int tls_handshake(struct tls *tls);

/* Plaintext: bytes (room is at least 1); -EAGAIN: receive more; 0: the peer said that it ends;
 * -EPROTO: broken. */
int64_t tls_read(struct tls *tls, void *bytes, size_t room);

/* Takes as many bytes as the output has room for, maybe none: then send first. -EPROTO: broken. */
int64_t tls_write(struct tls *tls, const void *bytes, size_t length);

/* Ciphertext to be sent. Then how much of it was. */
const void *tls_output(struct tls *tls, size_t *ret_length);
void tls_output_sent(struct tls *tls, size_t length);

/* Says to the peer that nothing will follow; it has to be sent as well. */
void tls_bye(struct tls *tls);

#endif
