/* SPDX-License-Identifier: MIT */
/* tls_none.c: tls.h in a build without GnuTLS. No session can be opened, so none is ever used. */
#include "tls.h"

#include <errno.h>
#include <stdio.h>

bool tls_supported(void)
{
    return false;
}

int tls_config_open(const char *certificates, const char *psk_file, char *ret_why, size_t why_size,
                    struct tls_config **ret_config)
{
    (void)certificates;
    (void)psk_file;
    (void)ret_config;
    snprintf(ret_why, why_size, "built without GnuTLS");
    return -EOPNOTSUPP;
}

void tls_config_close(struct tls_config *config)
{
    (void)config;
}

int tls_open(struct tls_config *config, struct tls **ret_tls)
{
    (void)config;
    (void)ret_tls;
    return -EOPNOTSUPP;
}

void tls_close(struct tls *tls)
{
    (void)tls;
}

void *tls_input(struct tls *tls, size_t *ret_room)
{
    *ret_room = 0;
    return tls;
}

void tls_received(struct tls *tls, size_t length)
{
    (void)tls;
    (void)length;
}

int tls_handshake(struct tls *tls)
{
    (void)tls;
    return -EOPNOTSUPP;
}

int64_t tls_read(struct tls *tls, void *bytes, size_t room)
{
    (void)tls;
    (void)bytes;
    (void)room;
    return -EOPNOTSUPP;
}

int64_t tls_write(struct tls *tls, const void *bytes, size_t length)
{
    (void)tls;
    (void)bytes;
    (void)length;
    return -EOPNOTSUPP;
}

const void *tls_output(struct tls *tls, size_t *ret_length)
{
    *ret_length = 0;
    return tls;
}

void tls_output_sent(struct tls *tls, size_t length)
{
    (void)tls;
    (void)length;
}

void tls_bye(struct tls *tls)
{
    (void)tls;
}
