/* SPDX-License-Identifier: MIT */
/* offload.c: the loop's side of the offload ring: opening, pushing, withdrawing, taking back. */
#include "worker.h"

#include <engine/base/clock.h>
#include <engine/base/rest.h>
#include <engine/base/signals.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

/* Places that workers who are awake are not kept waiting for. To show each would take the cache
 * line away from them as often. */
#define SHOW_EVERY 8

_Static_assert(offsetof(struct weir_op, held.link.prev) >=
                   offsetof(struct weir_op, held.carrier.position) +
                       sizeof(((struct weir_op *)NULL)->held.carrier.position),
               "a worker's link leaves the position alone");

/* --- memory ----------------------------------------------------------------------------------- */

static size_t round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

/* Offsets from the memory's start, bytes. */
struct layout {
    size_t workers;
    size_t idle;
    size_t cells;
    size_t stacks;
    size_t end;
};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static struct layout layout_of(const struct weir_offload_options *options)
{
    struct layout layout;
    size_t page = page_size();
    layout.workers = round_up(sizeof(struct weir_offload), WEIR_CACHE_LINE);
    layout.idle = layout.workers + options->workers * sizeof(struct weir_worker);
    layout.cells = round_up(layout.idle + weir_idle_words(options->workers) * sizeof(uint64_t),
                            WEIR_CACHE_LINE);
    size_t cells = (size_t)WEIR_LANES * weir_ring_cells(options->ops_max);
    layout.stacks = round_up(layout.cells + cells * sizeof(struct weir_op *), page);
    layout.end = layout.stacks + options->workers * (page + options->stack_size);
    return layout;
}

static int add_thread_storage(struct dl_phdr_info *object, size_t size, void *sum)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_TLS) {
            *(size_t *)sum += part->p_memsz + part->p_align;
        }
    }
    return 0;
}

size_t weir_offload_size(struct weir_offload_options *options)
{
    size_t stack = options->stack;
    long stack_min = sysconf(_SC_THREAD_STACK_MIN);
    if (stack_min > 0 && stack < (size_t)stack_min) {
        stack = (size_t)stack_min;
    }
    /* The C library takes it from the stack: some kilobytes, or a megabyte with some sanitizers. Of
     * objects loaded later it is elsewhere. */
    dl_iterate_phdr(add_thread_storage, &stack);
    /* Only here: open must not find another sum, should another thread load an object meanwhile. */
    options->stack_size = round_up(stack, page_size());
    return layout_of(options).end;
}

/* --- starting and ending ---------------------------------------------------------------------- */

static unsigned char *guard_of(const struct weir_offload *offload, uint32_t worker)
{
    return offload->stacks + worker * (offload->page + offload->options.stack_size);
}

/* 0 or -errno. */
static int start_worker(struct weir_offload *offload, uint32_t index)
{
    struct weir_worker *worker = &offload->workers[index];
    *worker = (struct weir_worker){.offload = offload, .index = index};
    unsigned char *guard = guard_of(offload, index);
    if (mprotect(guard, offload->page, PROT_NONE) != 0) {
        return -errno;
    }
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
        error =
            pthread_attr_setstack(&attributes, guard + offload->page, offload->options.stack_size);
        if (error == 0) {
            error = pthread_create(&worker->thread, &attributes, weir_worker_main, worker);
        }
        pthread_attr_destroy(&attributes);
    }
    if (error != 0) {
        mprotect(guard, offload->page, PROT_READ | PROT_WRITE);
    }
    return -error;
}

int weir_offload_open(const struct weir_offload_options *options, void *memory,
                      struct weir_offload **ret_offload)
{
    struct layout layout = layout_of(options);
    unsigned char *bytes = memory;
    struct weir_offload *offload = memory;
    *offload = (struct weir_offload){
        .options = *options,
        .cells = (void *)(bytes + layout.cells),
        .workers = (void *)(bytes + layout.workers),
        .idle = (void *)(bytes + layout.idle),
        .stacks = bytes + layout.stacks,
        .page = page_size(),
        .on_one_cpu = weir_cpus_of_thread() == 1,
    };
    uint32_t cells = weir_ring_cells(options->ops_max);
    for (uint32_t lane = 0; lane < WEIR_LANES; lane++) {
        weir_ring_init(&offload->lanes[lane], offload->cells + lane * cells, cells, lane * cells);
    }
    /* A new thread has its maker's mask from the first instruction on. */
    sigset_t old;
    weir_signals_block(&old);
    int r = 0;
    while (r == 0 && offload->started < options->workers) {
        r = start_worker(offload, offload->started);
        offload->started += r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r < 0) {
        weir_offload_close(offload);
        return r;
    }
    *ret_offload = offload;
    return 0;
}

static void end_workers(struct weir_offload *offload)
{
    /* Seq_cst: before the look at the idle bits, see worker.c. */
    __atomic_store_n(&offload->ending, 1, __ATOMIC_SEQ_CST);
    weir_workers_wake(offload, UINT64_MAX, WEIR_LANE_SHORT);
}

void weir_offload_close(struct weir_offload *offload)
{
    end_workers(offload);
    for (uint32_t i = 0; i < offload->started; i++) {
        pthread_join(offload->workers[i].thread, NULL);
        mprotect(guard_of(offload, i), offload->page, PROT_READ | PROT_WRITE);
    }
}

void weir_offload_abandon(struct weir_offload *offload)
{
    end_workers(offload);
    for (uint32_t i = 0; i < offload->started; i++) {
        pthread_detach(offload->workers[i].thread);
    }
}

/* --- there and back --------------------------------------------------------------------------- */

void weir_offload_push(struct weir_offload *offload, struct weir_op *op, enum weir_lane lane)
{
    struct weir_ring *ring = &offload->lanes[lane];
    if (op->kind == WEIR_KIND_CALL) {
        op->mode_or_offset2 = op->deadline_ns; /* where its worker looks */
    }
    weir_ring_push(ring, op);
    offload->out++;
    if (ring->tail - ring->shown < SHOW_EVERY) {
        return;
    }
    if (offload->roused) {
        weir_ring_show(ring);
    } else {
        offload->roused = true;
        uint64_t places = weir_ring_publish(ring);
        weir_workers_wake(offload, places, lane);
    }
}

void weir_offload_flush(struct weir_offload *offload)
{
    uint64_t shorts = weir_ring_publish(&offload->lanes[WEIR_LANE_SHORT]);
    uint64_t longs = weir_ring_publish(&offload->lanes[WEIR_LANE_LONG]);
    offload->roused = false;
    /* Long work first: who takes it is fewer. */
    if (longs > 0) {
        weir_workers_wake(offload, longs, WEIR_LANE_LONG);
    }
    if (shorts > 0) {
        weir_workers_wake(offload, shorts, WEIR_LANE_SHORT);
    }
}

bool weir_offload_withdraw(struct weir_offload *offload, struct weir_op *op)
{
    /* Relaxed: what the op holds, this thread wrote. The cell of an op that was taken holds another
     * one, or nothing. */
    struct weir_op *expected = op;
    bool withdrawn =
        __atomic_compare_exchange_n(&offload->cells[op->held.carrier.position], &expected, NULL,
                                    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    offload->out -= withdrawn;
    return withdrawn;
}

/* What the worker of a CALL has left in its last cache line. The op before it. */
static struct weir_op *unpack_call(const struct weir_offload *offload, struct weir_op *op)
{
    uint64_t begun_ns = op->mode_or_offset2;
    op->result = op->arg.call.result;
    if (begun_ns != 0 && offload->options.slots) {
        /* The end of the one before may lie before this one was queued. */
        begun_ns = begun_ns > op->left_ns || op->left_ns > op->moved ? begun_ns : op->left_ns;
        weir_slots_note_work(offload->options.slots, op->slot, begun_ns, op->moved);
    }
    return op->arg.call.older;
}

struct weir_op *weir_offload_take(struct weir_offload *offload)
{
    /* An exchange takes the cache line away from the workers, a look does not. */
    if (!__atomic_load_n(&offload->finished, __ATOMIC_RELAXED)) {
        return NULL;
    }
    /* Acquire: pairs with the push of every op on the list (worker.c, finish), for the results. */
    struct weir_op *op = __atomic_exchange_n(&offload->finished, NULL, __ATOMIC_ACQUIRE);
    struct weir_op *younger = NULL;
    while (op) {
        struct weir_op *older =
            op->kind == WEIR_KIND_CALL ? unpack_call(offload, op) : op->held.link.prev;
        op->held.link.next = younger;
        younger = op;
        op = older;
        offload->out--;
    }
    return younger;
}

bool weir_offload_has_finished(const struct weir_offload *offload)
{
    return __atomic_load_n(&offload->finished, __ATOMIC_SEQ_CST) != NULL;
}

bool weir_offload_watch(struct weir_offload *offload, uint64_t most_ns, uint64_t until_ns,
                        bool (*seen)(const void *context), const void *context)
{
    if (offload->out == 0 || offload->on_one_cpu || !weir_look_now(&offload->look)) {
        return false;
    }
    uint64_t end_ns = weir_clock_monotonic() + (most_ns < WEIR_LOOK_NS ? most_ns : WEIR_LOOK_NS);
    bool paid = weir_watch(seen, context, end_ns < until_ns ? end_ns : until_ns);
    weir_look_learn(&offload->look, weir_offload_has_finished(offload));
    return paid;
}
