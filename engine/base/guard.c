/* SPDX-License-Identifier: MIT */
#include <engine/base/guard.h>

const char weir_thread_nobody;
__thread char weir_thread_byte __attribute__((tls_model("initial-exec")));
