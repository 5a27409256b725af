/* SPDX-License-Identifier: MIT */
/* sending.h: a connection's replies, which stand in line until they are sent, as many at a time as
 * there are. */
#ifndef SENDING_H
#define SENDING_H

struct connection;
struct request;

/* Puts a finished reply in line. */
void sending_add(struct connection *connection, struct request *request);
/* Sends what there is, unless something is on its way. */
void sending_go(struct connection *connection);
/* Nothing of the line will be sent. */
void sending_drop(struct connection *connection);

#endif
