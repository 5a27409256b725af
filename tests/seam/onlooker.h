/* SPDX-License-Identifier: MIT */
/* onlooker.h: an observer that holds the engine to the order of what it is told of each op. */
#ifndef TESTS_SEAM_ONLOOKER_H
#define TESTS_SEAM_ONLOOKER_H

#include <weir/weir.h>

/* One for a loop to be opened with; a failure ends the process. Never freed: loops may be
 * abandoned. */
const struct weir_observer *onlooker_new(void);

#endif
