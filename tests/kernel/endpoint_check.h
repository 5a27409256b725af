/* SPDX-License-Identifier: MIT */
/*
 * endpoint_check.h: what the tests of an endpoint share: a folder for its socket, and a client.
 */
#ifndef WEIR_TESTS_KERNEL_ENDPOINT_CHECK_H
#define WEIR_TESTS_KERNEL_ENDPOINT_CHECK_H

#include "check.h"

/* Makes a folder with a short name the working folder; and back, where it must be empty. */
void endpoint_enter_folder(void);
void endpoint_leave_folder(void);

/* With defaults, or a failure. */
struct weir_endpoint *endpoint_open_at(const char *path);

/* A connection; a negative errno. */
int endpoint_connect(const char *path);
/* The status that a request gets; the answer's size in *ret_size. */
int endpoint_ask(const char *path, const char *page, size_t *ret_size);

#endif
