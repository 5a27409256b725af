/* SPDX-License-Identifier: MIT */
/*
 * tls.c: tls.h by GnuTLS, whose transport is the session's two buffers.
 *
 * GnuTLS that was told EAGAIN while it sent wants the same bytes again, which our caller may not
 * have any more. So a record is only begun when the output has room for all of it: an EAGAIN comes
 * from an empty input alone, but in a handshake, which is repeated as it is.
 */
#include "tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RECORD_MAX = 16384, /* bytes of plaintext, by the protocol */
    /* What comes on top of them: header, padding and tag, a change of keys that goes before it, and
     * the alert that ends the connection and must fit always. */
    RECORD_EXTRA = 1024,
};

#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_config {
    gnutls_priority_t priority;
    gnutls_certificate_credentials_t certificates; /* or NULL, and the next is there */
    gnutls_psk_server_credentials_t keys;
};

struct tls {
    gnutls_session_t session;
    size_t input_start; /* what GnuTLS has not fetched yet: to input_end */
    size_t input_end;
    size_t output_start; /* what has not been sent yet: to output_end */
    size_t output_end;
    uint8_t input[TLS_INPUT_SIZE];
    uint8_t output[TLS_OUTPUT_SIZE];
};

bool tls_supported(void)
{
    return true;
}

/* --- what all sessions share ------------------------------------------------------------------ */

struct why {
    char *text;
    size_t size;
};

__attribute__((format(printf, 3, 4))) static int because(struct why why, int error,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why.text, why.size, format, arguments);
    va_end(arguments);
    return error;
}

/* GnuTLS tells no more than that it could not read a file. */
static int check_readable(const char *path, struct why why)
{
    if (access(path, R_OK) < 0) {
        int error = -errno;
        return because(why, error, "%s: %s", path, strerror(-error));
    }
    return 0;
}

static int load_certificates(struct tls_config *config, const char *folder, struct why why)
{
    char certificate[PATH_MAX];
    char key[PATH_MAX];
    int length = snprintf(certificate, sizeof certificate, "%s/server-cert.pem", folder);
    snprintf(key, sizeof key, "%s/server-key.pem", folder);
    if (length >= PATH_MAX) {
        return because(why, -ENAMETOOLONG, "%s: %s", folder, strerror(ENAMETOOLONG));
    }
    int error = check_readable(certificate, why);
    if (error == 0) {
        error = check_readable(key, why);
    }
    if (error < 0) {
        return error;
    }
    int result = gnutls_certificate_allocate_credentials(&config->certificates);
    if (result == GNUTLS_E_SUCCESS) {
        result = gnutls_certificate_set_x509_key_file(config->certificates, certificate, key,
                                                      GNUTLS_X509_FMT_PEM);
    }
    if (result < 0) {
        return because(why, -EINVAL, "%s with its key: %s", certificate, gnutls_strerror(result));
    }
    return 0;
}

/* GnuTLS looks a user up in the file whenever one comes. */
static int load_keys(struct tls_config *config, const char *path, struct why why)
{
    int error = check_readable(path, why);
    if (error < 0) {
        return error;
    }
    int result = gnutls_psk_allocate_server_credentials(&config->keys);
    if (result == GNUTLS_E_SUCCESS) {
        result = gnutls_psk_set_server_credentials_file(config->keys, path);
    }
    return result < 0 ? because(why, -EINVAL, "%s: %s", path, gnutls_strerror(result)) : 0;
}

int tls_config_open(const char *certificates, const char *psk_file, char *ret_why, size_t why_size,
                    struct tls_config **ret_config)
{
    struct why why = {ret_why, why_size};
    struct tls_config *config = calloc(1, sizeof *config);
    if (!config) {
        return because(why, -ENOMEM, "%s", strerror(ENOMEM));
    }
    int error = certificates ? load_certificates(config, certificates, why)
                             : load_keys(config, psk_file, why);
    if (error == 0) {
        const char *wanted = certificates ? VERSIONS : VERSIONS ":+ECDHE-PSK:+DHE-PSK:+PSK";
        int result = gnutls_priority_init(&config->priority, wanted, NULL);
        if (result < 0) {
            error = because(why, -EINVAL, "%s: %s", wanted, gnutls_strerror(result));
        }
    }
    if (error < 0) {
        tls_config_close(config);
        return error;
    }
    *ret_config = config;
    return 0;
}

void tls_config_close(struct tls_config *config)
{
    if (!config) {
        return;
    }
    if (config->priority) {
        gnutls_priority_deinit(config->priority);
    }
    if (config->certificates) {
        gnutls_certificate_free_credentials(config->certificates);
    }
    if (config->keys) {
        gnutls_psk_free_server_credentials(config->keys);
    }
    free(config);
}

/* --- the transport, as GnuTLS sees it --------------------------------------------------------- */

static ssize_t refuse_for_now(struct tls *tls)
{
    gnutls_transport_set_errno(tls->session, EAGAIN);
    return -1;
}

static ssize_t pull(gnutls_transport_ptr_t context, void *bytes, size_t room)
{
    struct tls *tls = context;
    size_t length = tls->input_end - tls->input_start;
    if (length == 0) {
        return refuse_for_now(tls);
    }
    if (length > room) {
        length = room;
    }
    memcpy(bytes, tls->input + tls->input_start, length);
    tls->input_start += length;
    return (ssize_t)length;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned timeout_ms)
{
    (void)timeout_ms;
    const struct tls *tls = context;
    return tls->input_start < tls->input_end;
}

static ssize_t push(gnutls_transport_ptr_t context, const void *bytes, size_t length)
{
    struct tls *tls = context;
    size_t room = TLS_OUTPUT_SIZE - tls->output_end;
    if (room == 0) {
        return refuse_for_now(tls);
    }
    if (length > room) {
        length = room;
    }
    memcpy(tls->output + tls->output_end, bytes, length);
    tls->output_end += length;
    return (ssize_t)length;
}

/* --- a session -------------------------------------------------------------------------------- */

int tls_open(struct tls_config *config, struct tls **ret_tls)
{
    struct tls *tls = malloc(sizeof *tls); /* not cleared: nothing is read that was not written */
    if (!tls) {
        return -ENOMEM;
    }
    tls->input_start = tls->input_end = 0;
    tls->output_start = tls->output_end = 0;
    if (gnutls_init(&tls->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
        free(tls);
        return -ENOMEM;
    }
    int result = gnutls_priority_set(tls->session, config->priority);
    if (result == GNUTLS_E_SUCCESS) {
        result =
            config->certificates
                ? gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, config->certificates)
                : gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK, config->keys);
    }
    if (result < 0) {
        tls_close(tls);
        return -ENOMEM;
    }
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
    gnutls_transport_set_push_function(tls->session, push);
    *ret_tls = tls;
    return 0;
}

void tls_close(struct tls *tls)
{
    if (tls) {
        gnutls_deinit(tls->session);
        free(tls);
    }
}

void *tls_input(struct tls *tls, size_t *ret_room)
{
    size_t length = tls->input_end - tls->input_start;
    memmove(tls->input, tls->input + tls->input_start, length);
    tls->input_start = 0;
    tls->input_end = length;
    *ret_room = TLS_INPUT_SIZE - length;
    return tls->input + length;
}

void tls_received(struct tls *tls, size_t length)
{
    tls->input_end += length;
}

const void *tls_output(struct tls *tls, size_t *ret_length)
{
    *ret_length = tls->output_end - tls->output_start;
    return tls->output + tls->output_start;
}

void tls_output_sent(struct tls *tls, size_t length)
{
    tls->output_start += length;
    size_t left = tls->output_end - tls->output_start;
    /* Moved when no more is left than was sent: then in all no more is moved than sent. */
    if (left <= tls->output_start) {
        memmove(tls->output, tls->output + tls->output_start, left);
        tls->output_start = 0;
        tls->output_end = left;
    }
}

/* What a result of GnuTLS means: 0, try the same again, or an errno. */
static int judge(struct tls *tls, ssize_t result)
{
    if (result == GNUTLS_E_AGAIN) {
        /* It also says so after a message of TLS itself, whatever follows in the input. */
        bool goes_on = tls->input_start < tls->input_end && tls->output_end < TLS_OUTPUT_SIZE;
        return goes_on ? 0 : -EAGAIN;
    }
    if (result == GNUTLS_E_INTERRUPTED || result == GNUTLS_E_WARNING_ALERT_RECEIVED) {
        return 0;
    }
    gnutls_alert_send_appropriate(tls->session, (int)result);
    return -EPROTO;
}

int tls_handshake(struct tls *tls)
{
    int result;
    while ((result = gnutls_handshake(tls->session)) < 0) {
        int error = judge(tls, result);
        if (error < 0) {
            return error;
        }
    }
    return 0;
}

int64_t tls_read(struct tls *tls, void *bytes, size_t room)
{
    ssize_t result;
    while ((result = gnutls_record_recv(tls->session, bytes, room)) < 0) {
        int error = judge(tls, result); /* of a client that wants to negotiate anew: broken */
        if (error < 0) {
            return error;
        }
    }
    return result;
}

int64_t tls_write(struct tls *tls, const void *bytes, size_t length)
{
    size_t taken = 0;
    while (taken < length) {
        size_t room = TLS_OUTPUT_SIZE - tls->output_end;
        if (room <= RECORD_EXTRA) {
            break;
        }
        size_t part = length - taken;
        part = part < RECORD_MAX ? part : RECORD_MAX;
        part = part < room - RECORD_EXTRA ? part : room - RECORD_EXTRA;
        ssize_t result = gnutls_record_send(tls->session, (const char *)bytes + taken, part);
        if (result < 0) {
            return -EPROTO;
        }
        taken += (size_t)result;
    }
    return (int64_t)taken;
}

void tls_bye(struct tls *tls)
{
    gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}
