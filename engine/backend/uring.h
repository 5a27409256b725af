/* SPDX-License-Identifier: MIT */
/*
 * uring.h: what the io_uring backend's three files share, and what the harness may do to it.
 */
#ifndef WEIR_ENGINE_URING_H
#define WEIR_ENGINE_URING_H

#include <engine/backend/backend.h>
#include <engine/backend/kernel.h>

/* Stands for io_uring_enter(2): the number of entries taken, or -errno. */
typedef int weir_enter_call(void *context, struct io_uring *ring, unsigned to_submit,
                            unsigned wait_nr, unsigned flags);

#define WEIR_URING_OPS 64 /* opcodes that are probed */

struct weir_uring {
    struct weir_backend base;
    struct io_uring ring;
    struct weir_clock clock;

    unsigned enter_flags; /* with every enter: GETEVENTS, REGISTERED_RING */
    unsigned enter_wait;  /* with every enter that waits: NO_IOWAIT */
    int wake_fd;          /* an eventfd; a poll of it is armed in the ring */
    int ready_fd;         /* signalled by the kernel at completions; -1: nobody asked for it */
    bool wake_armed;
    bool wakes_by_message; /* the kernel can be told to put a completion into the ring */
    bool failed;           /* an enter answered `error`: nothing more reaches the kernel */
    int error;
    bool blocks_sigpipe;     /* counted among the loops that want SIGPIPE blocked */
    uint32_t refused_enters; /* EAGAIN or EBUSY in a row, */
    uint64_t refused_last;   /* and which of the enters the last of them was */
    uint64_t native;         /* bit per opcode the kernel has */

    weir_enter_call *enter; /* NULL: the system call */
    void *enter_context;
};

extern const struct weir_backend_table weir_uring_table;

static inline struct weir_uring *weir_uring_of(struct weir_backend *backend)
{
    return WEIR_CONTAINER(backend, struct weir_uring, base);
}

/* Whether the kernel has an opcode for its kind. */
static inline bool weir_uring_carries(const struct weir_uring *uring, const struct weir_op *op)
{
    return uring->base.in_memory >> op->kind & 1;
}

/*
 * The tag of a completion: the slot's, and whether it is the op's own or its cancel's. The highest
 * values are the wake poll's, the probe's and a wake by message's: no slot has such a number.
 */
#define WEIR_URING_WAKE UINT64_MAX
#define WEIR_URING_PROBE (UINT64_MAX - 1)
#define WEIR_URING_MESSAGE (UINT64_MAX - 2)
#define WEIR_URING_CANCEL WEIR_SLOT_OTHER

static inline uint64_t weir_uring_tag(const struct weir_op *op)
{
    return op->slot->tag;
}

int weir_uring_open(const struct weir_options *options, struct weir_facts *facts,
                    struct weir_backend **ret_backend);
int weir_uring_adopt(struct weir_backend *backend, struct weir_facts *facts);
void weir_uring_close(struct weir_backend *backend, bool forked);
int weir_uring_fd(struct weir_backend *backend);

/* The kinds for which the kernel has an opcode of `native`, a bit each. */
uint64_t weir_uring_kinds(uint64_t native);
/* Fills a zeroed SQE for an op of such a kind, all but user_data; NOP needs none. */
void weir_uring_prepare(struct weir_uring *uring, const struct weir_op *op,
                        struct io_uring_sqe *sqe);

/* Puts a completion tagged WEIR_URING_MESSAGE into the ring. Any thread, signal handlers too.
 * False: the kernel cannot, or has no memory for it now. */
bool weir_uring_message(const struct weir_uring *uring);

/*
 * Sends what is staged and, with wait_nr 1, waits until until_ns. 0: done, or to be tried again
 * (counted); -errno: the ring cannot go on.
 */
int weir_uring_enter(struct weir_uring *uring, unsigned wait_nr, uint64_t until_ns);

/* For the harness: puts another function in place of the system call. */
void weir_uring_replace_enter(struct weir_backend *backend, weir_enter_call *call, void *context);

#endif
