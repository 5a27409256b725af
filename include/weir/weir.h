/* SPDX-License-Identifier: MIT */
/* weir/weir.h: everything. The headers are the reference; docs/guide/ teaches. */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <weir/base.h>
#include <weir/endpoint.h>
#include <weir/histogram.h>
#include <weir/loop.h>
#include <weir/observe.h>
#include <weir/op.h>
#include <weir/policy.h>
#include <weir/sim.h>
#include <weir/snapshot.h>
#include <weir/task.h>
#include <weir/watchdog.h>

#endif
