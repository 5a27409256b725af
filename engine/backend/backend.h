/* SPDX-License-Identifier: MIT */
/*
 * backend.h: THE SEAM. A backend carries ops out; this is all that the loop and a backend know of
 * each other. One private const table per backend, every function required that does not say what
 * NULL means; a new one needs a decision note. The loop checks every call (who, when, in what
 * state), so backends contain no such checks.
 *
 * All functions are called on the loop's thread, but wake. No function calls back into the loop.
 */
#ifndef WEIR_ENGINE_BACKEND_H
#define WEIR_ENGINE_BACKEND_H

#include <engine/base/clock.h>
#include <engine/op/slots.h>
#include <weir/loop.h>

/* What became of an op that was staged. */
enum weir_staged {
    WEIR_TAKEN,    /* its event will come from a turn */
    WEIR_FINISHED, /* done on the spot: op->result is set, the backend has forgotten it */
    WEIR_NOT_HERE, /* this backend has no way to carry it out */
};

/* What became of a cancel. */
enum weir_cancelled {
    WEIR_CANCEL_ASKED,     /* the op's event comes, after its own completion and its cancel's */
    WEIR_CANCEL_WITHDRAWN, /* it has not happened and will not, and the backend has forgotten it; on
                            * io_uring only after a turn failed */
    WEIR_CANCEL_LOST,      /* only after a turn failed: it is with the kernel, which cannot be
                       * asked */
};

/* One completion. Events and not a list of ops, so that one op may have two in a turn. */
struct weir_event {
    struct weir_op *op;
    int64_t result; /* need not be written for a plain op that is DONE: op->result is its own */
    uint32_t
        more; /* enum weir_more. 0 before and after a turn: who fills events need not write it */
};

/*
 * The bell: one word that says what the loop is doing, so that a wake-up costs a system call only
 * when it sleeps. The loop stores ASLEEP, then looks at every inbox once more, then turns; a
 * producer fills an inbox, then looks, and exchanges RUNG. All are seq_cst: one of the two sees the
 * other.
 *
 * UNTOUCHED from when the loop has its thread until somebody rings, who then always wakes the loop
 * by the system call. So a loop that has read UNTOUCHED sleeps without a store and a look: the one
 * locked instruction of its turn.
 */
enum { WEIR_BELL_AWAKE, WEIR_BELL_ASLEEP, WEIR_BELL_RUNG, WEIR_BELL_UNTOUCHED };

struct weir_bell {
    uint32_t word;
};

static inline bool weir_bell_wants_a_call(uint32_t word)
{
    return word == WEIR_BELL_ASLEEP || word == WEIR_BELL_UNTOUCHED;
}

/* True: the loop sleeps, or may: wake it. Any thread. */
static inline bool weir_bell_ring(struct weir_bell *bell)
{
    /* The load first: most find the loop awake, and leave the line to it. */
    return weir_bell_wants_a_call(__atomic_load_n(&bell->word, __ATOMIC_SEQ_CST)) &&
           weir_bell_wants_a_call(
               __atomic_exchange_n(&bell->word, WEIR_BELL_RUNG, __ATOMIC_SEQ_CST));
}

/* Relaxed: who rings an untouched bell makes the call after; once it is touched, it stays so. */
static inline bool weir_bell_is_untouched(const struct weir_bell *bell)
{
    return __atomic_load_n(&bell->word, __ATOMIC_RELAXED) == WEIR_BELL_UNTOUCHED;
}

/* True: look at the inboxes once more before the turn. The loop's thread, as below. */
static inline bool weir_bell_fall_asleep(struct weir_bell *bell)
{
    if (weir_bell_is_untouched(bell)) {
        return false;
    }
    __atomic_store_n(&bell->word, WEIR_BELL_ASLEEP, __ATOMIC_SEQ_CST);
    return true;
}

static inline void weir_bell_awake(struct weir_bell *bell)
{
    if (!weir_bell_is_untouched(bell)) {
        /* Relaxed: a waker that still sees ASLEEP wakes once for nothing. */
        __atomic_store_n(&bell->word, WEIR_BELL_AWAKE, __ATOMIC_RELAXED);
    }
}

/* Which clock: for stamps (cheap), or for deadlines (exact). */
enum weir_now {
    WEIR_NOW_STAMP,
    WEIR_NOW_DEADLINE,
};

#define WEIR_NO_SLEEP 0ULL
#define WEIR_SLEEP_FOREVER UINT64_MAX

struct weir_backend;

struct weir_backend_table {
    const char *name;

    /*
     * It is a world of its own, in one thread: CALLs and ops routed to OFFLOAD are staged to it
     * like any other, with the offload gate's credit, and never NOT_HERE; the event of a CALL says
     * that its function is to be run now. Its fds are not the kernel's. Other threads may not wake
     * it.
     */
    bool carries_calls;

    /*
     * Makes a backend for options->depth ops, or fewer, and writes the facts it knows. 0 or -errno,
     * then nothing is left behind.
     */
    int (*open)(const struct weir_options *options, struct weir_facts *facts,
                struct weir_backend **ret_backend);

    /* Binds it to the calling thread and proves that it works by a round trip. Once. 0 or
     * -errno. */
    int (*adopt)(struct weir_backend *backend, struct weir_facts *facts);

    /* Frees all; no op is with it. In a forked child (`forked`) only the child's fds are closed. */
    void (*close)(struct weir_backend *backend, bool forked);

    /* Takes an op that holds a credit; with TAKEN, op->held is the backend's. It leaves with a
     * turn. */
    enum weir_staged (*stage)(struct weir_backend *backend, struct weir_op *op);

    /* Does an op on the spot, for its route: op->result as of weir_op_perform() with
     * WEIR_HOW_TRY, -EAGAIN: it is to be staged. */
    int64_t (*attempt)(struct weir_backend *backend, const struct weir_op *op);

    /* Asks for an op back that it has TAKEN and not given an event for. At most once per op
     * staged. */
    enum weir_cancelled (*cancel)(struct weir_backend *backend, struct weir_op *op);

    /*
     * Sends what was staged, sleeps until an event, a wake or until_ns (CLOCK_MONOTONIC; or one of
     * the two above), and fills events, finishing the plain ones (weir_op_finish_plain). With max 0
     * it only sends. The number of events; -EDEADLK: nothing would ever have ended the sleep, else
     * all is well; other -errno: it cannot go on, now or later.
     */
    int (*turn)(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                uint32_t max);

    /* Whether a turn would find an event, or has something to send, as far as memory tells. NULL:
     * it does not. */
    bool (*has_events)(const struct weir_backend *backend);

    /* Ends a sleep, now or the next. Any thread, signal handlers too. */
    void (*wake)(struct weir_backend *backend);

    /* ns. WEIR_NOW_DEADLINE: any thread. */
    uint64_t (*now)(struct weir_backend *backend, enum weir_now which);

    /* The number is about to be closed or given anew: what is kept about it goes. No op on it is
     * kept by number. */
    void (*forget)(struct weir_backend *backend, int fd);

    /* Closes an fd that an op has made and that nobody is left to own. */
    void (*discard)(struct weir_backend *backend, int fd);

    /* An fd that is readable from when a turn would find an event until that turn. Made at the
     * first call, the backend's to close. The fd, or -errno. */
    int (*fd)(struct weir_backend *backend);
};

/* What every backend begins with. The loop fills slots, counters, died and context between open and
 * adopt. */
struct weir_backend {
    const struct weir_backend_table *table;
    struct weir_slots *slots;
    struct weir_counters *counters;
    uint32_t write_flags; /* RWF_NOSIGNAL where the kernel has it; set by open */
    uint64_t bursts;      /* kinds (1ULL << kind) whose ops may have several completions; stage()
                            * never answers FINISHED to one */
    /* Kinds (1ULL << kind) of which stage() answers TAKEN to any op, and writes memory and no more:
     * submit may call it. Set by open. */
    uint64_t in_memory;
    /* Set by each turn that does not fail: a stamp from after its sleep, and after what it has done
     * itself. What the kernel finished while it was read may be a little younger. */
    uint64_t stamp_ns;
    bool unsettled; /* the last turn gave events that weir_op_finish_plain() did not finish */
    /* 0, or the errno of one that is gone, with all that it carried: nothing is handed back any
     * more. Set between turns too, and then told by died(). */
    int dead;
    void (*died)(void *context, int error);
    void *context;
    const void *thread; /* the only one that may reach it, as weir_thread_self(); NULL: any */
    /* For tests; NULL: none. Called just before the loop says that it sleeps (0), and between that
     * and its last look at the inboxes (1). */
    void (*window)(struct weir_backend *backend, int asleep);
};

#endif
