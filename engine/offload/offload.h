/* SPDX-License-Identifier: MIT */
/*
 * offload.h: the offload ring: ops go to worker threads and come back finished. One producer, the
 * loop's thread; any number of workers. Knows no gate, no states and no backend: a worker fills
 * op->result and pushes the op back.
 *
 * Two lanes, so that long work does not stand before short work: a worker takes from the short lane
 * first, from the long one at least every 8th time; of two or more workers one never takes long
 * work.
 */
#ifndef WEIR_ENGINE_OFFLOAD_H
#define WEIR_ENGINE_OFFLOAD_H

#include <engine/op/slots.h>

struct weir_offload;

enum weir_lane {
    WEIR_LANE_SHORT, /* I/O that a backend sends, and CALLs flagged WEIR_SHORT */
    WEIR_LANE_LONG,  /* other CALLs */
};

struct weir_offload_options {
    uint32_t workers;     /* at least 1 */
    uint32_t ops_max;     /* queued, running and finished but not taken: never more than this */
    uint32_t stack;       /* a worker's stack, bytes; the process's thread-local storage on top */
    size_t stack_size;    /* with that, in whole pages: written by weir_offload_size() */
    uint32_t write_flags; /* for weir_op_perform() */
    const struct weir_slots *slots; /* where the times of workers are noted; NULL: nowhere */
    uint64_t spin_ns; /* a worker that finds nothing watches this long before it sleeps */
    /* Called by a worker after it has put an op among the finished, once per op: it rings the
     * loop's bell and wakes the loop if that sleeps. True: it had to. */
    bool (*finished)(void *context);
    void *context;
};

/* Bytes of memory that weir_offload_open() wants with these options: ring and stacks. */
size_t weir_offload_size(struct weir_offload_options *options);
/* Starts the workers. memory: zeroed, of that size, page aligned. 0 or -errno (-EAGAIN: no more
 * threads; -ENOMEM: no more mappings, a guard page costs two), then nothing is left behind. */
int weir_offload_open(const struct weir_offload_options *options, void *memory,
                      struct weir_offload **ret_offload);
/* Ends and joins the workers; nothing may be queued or running. The memory is the caller's
 * again. */
void weir_offload_close(struct weir_offload *offload);
/* Gives the workers up: they end when what they are at is done; the memory must stay for ever. */
void weir_offload_abandon(struct weir_offload *offload);

/* All below: the loop's thread. */

/*
 * Queues an op; there is always room. Workers need not see it before weir_offload_flush(), but may:
 * who is awake is not kept waiting. Until the op is taken back, op->held is the ring's, and of a
 * CALL mode_or_offset2, moved, and arg.call behind its function and argument. A worker runs it,
 * unless it is past op->deadline_ns (then the result is -ETIME) or it is I/O with op->asked_back
 * set (-ECANCELED).
 */
void weir_offload_push(struct weir_offload *offload, struct weir_op *op, enum weir_lane lane);
/* Shows workers what was pushed, and wakes as many as that needs, but none that is awake. Cheap if
 * nothing was pushed. Before the loop sleeps. */
void weir_offload_flush(struct weir_offload *offload);
/* True: the op was still queued, has not run, will not, and is the loop's again. False: it runs or
 * is finished. */
bool weir_offload_withdraw(struct weir_offload *offload, struct weir_op *op);
/* All that is finished, oldest first, linked by held.link.next; NULL: nothing. */
struct weir_op *weir_offload_take(struct weir_offload *offload);
/* Whether weir_offload_take() would give something. Seq_cst: pairs with a worker's push and its
 * look at the bell. */
bool weir_offload_has_finished(const struct weir_offload *offload);
/* Before the loop sleeps, while something is out: watches for seen(context), which looks for that
 * and for whatever else would end the sleep, for a moment, but for most_ns and until until_ns
 * (CLOCK_MONOTONIC) at most. True: it was seen. */
bool weir_offload_watch(struct weir_offload *offload, uint64_t most_ns, uint64_t until_ns,
                        bool (*seen)(const void *context), const void *context);

/* Of the process: CPUs it may use, at least 1, by affinity and cgroup (v2 cpu.max, v1 cfs quota),
 * and why, for people. root: "" (or a fixture's folder, for tests). */
uint32_t weir_cpus_allowed(const char *root, char *ret_reason, size_t reason_size);
/* Those that the calling thread, and any it makes, may run on by affinity; 0: it cannot be told. */
uint32_t weir_cpus_of_thread(void);

#endif
