/* SPDX-License-Identifier: MIT */
/* perf/engine_weir.h: what weir's drivers share: opening a loop, and the numbers of its tasks. */
#ifndef PERF_ENGINE_WEIR_H
#define PERF_ENGINE_WEIR_H

#include <weir/weir.h>

#include "engine.h"
#include "workload.h"

/*
 * Opens a loop as the contender wants it: policy and spin; depth and offload as `options` say, all
 * of them or an error. `files_need_workers`: on a backend that is not io_uring it is opened with
 * workload->workers. 0, or a negative errno and a text that says what to do.
 */
int weir_open_loop(const struct workload *workload, struct weir_options *options,
                   bool files_need_workers, struct weir_loop **ret_loop, char error[ERROR_MAX]);
size_t weir_copy_tasks(struct weir_loop *loop, struct task_row *ret_rows, size_t max);

#endif
