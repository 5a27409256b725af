/* SPDX-License-Identifier: MIT */
/*
 * client.h: clients of the server, each with a connection to the same export: they send what is
 * drawn, several requests at a time, read the answers, pause, hang up now and then, and come again.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "ask.h"

/* All of them, in a life of the server that begins. */
void clients_begin(void);
/* All has been asked, and nothing is to be answered. */
bool clients_are_done(void);
/* NULL: nobody waits for that any more. */
struct ask *clients_find(uint64_t cookie);

#endif
