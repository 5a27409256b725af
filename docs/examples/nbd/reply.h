/* SPDX-License-Identifier: MIT */
/* reply.h: replies as bytes, made in the request's own memory: its iov[0] is what is to be sent. */
#ifndef REPLY_H
#define REPLY_H

#include "request.h"

#define REPLY_HEADER_MAX 64u /* what may stand before the data */

/* Of a READ's piece; is_last: no further one follows. */
void reply_make_read(struct request *piece, bool is_structured, bool is_last);
/* Of all others, and of a READ that was refused. */
void reply_make(struct request *whole, bool is_structured);

#endif
