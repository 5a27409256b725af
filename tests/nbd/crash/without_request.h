/* SPDX-License-Identifier: MIT */
/* without_request.h: stands before request.c alone: its calls go by without.c. */
#ifndef WITHOUT_REQUEST_H
#define WITHOUT_REQUEST_H

#include "without.h"

#undef weir_submit
#define weir_submit(loop, op) without_submit((loop), (op))
#define file_sync(file, wait) without_file_sync((file), (wait))

#endif
