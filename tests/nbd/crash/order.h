/* SPDX-License-Identifier: MIT */
/*
 * order.h: watches the ops of the server's loops: no reply that promises something may be sent
 * before a sync has come back that left after all had been written that it is to cover.
 */
#ifndef ORDER_H
#define ORDER_H

#include <stdint.h>

struct weir_observer;

/* Before each life. */
void order_begin(void);
/* For the loop of that shard. */
const struct weir_observer *order_observer(uint32_t shard);

#endif
