/* SPDX-License-Identifier: MIT */
/*
 * kernel.h: constants of kernels newer than the header that liburing 2.3 brings (Linux 6.0). Each
 * says since when, and is checked against headers that have it.
 */
#ifndef WEIR_ENGINE_KERNEL_H
#define WEIR_ENGINE_KERNEL_H

#include <liburing.h>
#include <sys/uio.h>

#define WEIR_SETUP_SINGLE_ISSUER (1u << 12) /* 6.0 */
#define WEIR_SETUP_DEFER_TASKRUN (1u << 13) /* 6.1 */
#define WEIR_SETUP_NO_SQARRAY (1u << 16)    /* 6.6; newer liburing sets it by itself */

#define WEIR_ENTER_NO_IOWAIT (1u << 7) /* 6.15 */
#define WEIR_FEAT_NO_IOWAIT (1u << 17) /* 6.15 */

#define WEIR_REGISTER_SEND_MSG_RING 31 /* 6.13 */

#define WEIR_OP_BIND 56   /* 6.11 */
#define WEIR_OP_LISTEN 57 /* 6.11 */

#define WEIR_OP_FTRUNCATE 55 /* 6.9 */

#ifdef IORING_SETUP_SINGLE_ISSUER
_Static_assert(IORING_SETUP_SINGLE_ISSUER == WEIR_SETUP_SINGLE_ISSUER, "as the kernel has it");
#endif
#ifdef IORING_SETUP_DEFER_TASKRUN
_Static_assert(IORING_SETUP_DEFER_TASKRUN == WEIR_SETUP_DEFER_TASKRUN, "as the kernel has it");
#endif
#ifdef IORING_SETUP_NO_SQARRAY
_Static_assert(IORING_SETUP_NO_SQARRAY == WEIR_SETUP_NO_SQARRAY, "as the kernel has it");
#endif
#ifdef IORING_ENTER_NO_IOWAIT
_Static_assert(IORING_ENTER_NO_IOWAIT == WEIR_ENTER_NO_IOWAIT, "as the kernel has it");
#endif
#ifdef IORING_FEAT_NO_IOWAIT
_Static_assert(IORING_FEAT_NO_IOWAIT == WEIR_FEAT_NO_IOWAIT, "as the kernel has it");
#endif

#endif
