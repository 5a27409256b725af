/* SPDX-License-Identifier: MIT */
/*
 * uring_open.c: making the ring: the ladder of flags and sizes, what the kernel must have, the
 * proof that it works, and taking it down. Every step is tried for real; nothing is concluded from
 * a version.
 */
#include <engine/backend/uring.h>
#include <engine/base/sigpipe.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH_MIN 4       /* below it a ring takes no less memory */
#define INTERNAL_CQES 4   /* places beside the ops': the wake poll, and slack */
#define PROBE_TRIES 1000  /* enters the probe's NOP may cost */
#define WORKERS_PER_CPU 4 /* bounded workers, as the kernel's own default */

/* Without these weir's promises cannot be kept; all are in Linux 5.11. */
#define FEATURES_NEEDED                                                                            \
    (IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS |                     \
     IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG)

/* Best first; the kernel answers EINVAL to flags it does not know. */
static const unsigned ladder[] = {
    /* 6.6: entries are taken as they lie, without an array of indices */
    WEIR_SETUP_NO_SQARRAY | WEIR_SETUP_SINGLE_ISSUER | WEIR_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    /* 6.1: completions are posted only when this thread asks for them */
    WEIR_SETUP_SINGLE_ISSUER | WEIR_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    /* 6.0 */
    WEIR_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    /* 5.19: no interrupts to run completions */
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    /* 5.18: a bad entry does not stop the batch */
    IORING_SETUP_SUBMIT_ALL,
    0,
};

#define LADDER_STEPS (sizeof ladder / sizeof *ladder)

/* The step that a probe has reached, or the first. */
static size_t first_step(const struct weir_probe *probe)
{
    size_t step = 0;
    if (probe && probe->io_uring.ring_flags != 0) {
        while ((ladder[step] & probe->io_uring.ring_flags) != ladder[step]) {
            step++; /* the last has no flags */
        }
    }
    return step;
}

/* As io_uring_queue_init_params(), but for the array of indices: liburing 2.3 writes one also where
 * there is none, and so over the ring's own heads and tails. */
static int init_ring(struct io_uring *ring, uint32_t depth, struct io_uring_params *params)
{
    int fd = io_uring_setup(depth, params);
    if (fd < 0) {
        return fd;
    }
    int r = io_uring_queue_mmap(fd, params, ring);
    if (r < 0) {
        close(fd);
        return r;
    }
    ring->features = params->features;
    if (params->flags & WEIR_SETUP_NO_SQARRAY) {
        ring->sq.array = NULL; /* as newer ones have it */
    }
    return 0;
}

static int try_ring(struct weir_uring *uring, uint32_t depth, const struct weir_options *options)
{
    bool disabled = options->flags & WEIR_FOR_ADOPTION;
    int r = -EINVAL;
    for (size_t i = first_step(options->probe); i < LADDER_STEPS && r == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = ladder[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
                     (disabled ? IORING_SETUP_R_DISABLED : 0),
            .cq_entries = 2 * depth + INTERNAL_CQES,
        };
        r = init_ring(&uring->ring, depth, &params);
    }
    return r == -EINVAL ? -ENOTSUP : r; /* not even without flags */
}

/* The ring, for as much of the depth as there is memory. */
static int make_ring(struct weir_uring *uring, const struct weir_options *options,
                     struct weir_facts *facts)
{
    uint32_t depth = facts->depth_asked;
    uint32_t got = depth;
    int r = try_ring(uring, got, options);
    while (r == -ENOMEM && got > DEPTH_MIN) {
        got = got / 2 > DEPTH_MIN ? got / 2 : DEPTH_MIN;
        r = try_ring(uring, got, options);
    }
    if (r < 0) {
        return r;
    }
    /* CLAMP: read back what the kernel made of it. */
    uint32_t room = uring->ring.sq.ring_entries;
    uint32_t cq_room = (uring->ring.cq.ring_entries - INTERNAL_CQES) / 2;
    room = room < cq_room ? room : cq_room;
    facts->depth = got < room ? got : room;
    if (got < depth) {
        snprintf(facts->depth_reason, sizeof facts->depth_reason,
                 "no memory for more: ring memory is limited by RLIMIT_MEMLOCK (ulimit -l)");
    }
    return 0;
}

/* The kernel reads entries by way of this array; ours are always in order, so it is written
 * once. */
static void straighten(struct io_uring *ring)
{
    if (!ring->sq.array) {
        return;
    }
    for (unsigned i = 0; i < ring->sq.ring_entries; i++) {
        ring->sq.array[i] = i;
    }
}

static int probe_opcodes(struct weir_uring *uring)
{
    union {
        struct io_uring_probe probe;
        char space[sizeof(struct io_uring_probe) +
                   WEIR_URING_OPS * sizeof(struct io_uring_probe_op)];
    } all;
    memset(&all, 0, sizeof all);
    int r = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_PROBE, &all.probe,
                              WEIR_URING_OPS);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < WEIR_URING_OPS && i <= all.probe.last_op; i++) {
        if (all.probe.ops[i].flags & IO_URING_OP_SUPPORTED) {
            uring->native |= 1ULL << i;
        }
    }
    uring->base.in_memory = weir_uring_kinds(uring->native);
    return 0;
}

/* Whether the ring may be entered at all: a filter may deny that alone, and open is when another
 * backend can still be chosen. Other errors are adoption's to judge. */
static int probe_enter(struct weir_uring *uring)
{
    int r = io_uring_enter2((unsigned)uring->ring.ring_fd, 0, 0, 0, NULL, _NSIG / 8);
    return r == -EPERM || r == -EACCES || r == -ENOSYS ? r : 0;
}

static void tell_facts(const struct weir_uring *uring, const struct weir_options *options,
                       struct weir_facts *facts)
{
    const struct io_uring *ring = &uring->ring;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t bounded = WORKERS_PER_CPU * (uint32_t)(cpus > 0 ? cpus : 1);
    bounded = bounded < facts->depth ? bounded : facts->depth;
    facts->sq_entries = ring->sq.ring_entries;
    facts->cq_entries = ring->cq.ring_entries;
    facts->ring_flags = ring->flags;
    facts->ring_features = ring->features;
    facts->no_iowait = uring->enter_wait != 0;
    facts->clock = uring->clock.ticking ? "tsc" : "monotonic";
    facts->wakes_by = "eventfd";
    facts->workers_bounded = options->workers_bounded ? options->workers_bounded : bounded;
    facts->workers_unbounded =
        options->workers_unbounded ? options->workers_unbounded : facts->depth;
    facts->memory_ring = ring->sq.ring_ptr == ring->cq.ring_ptr
                             ? ring->sq.ring_sz
                             : ring->sq.ring_sz + ring->cq.ring_sz;
    facts->memory_ring += (uint64_t)ring->sq.ring_entries * sizeof(struct io_uring_sqe);
    facts->memory_loop += sizeof *uring;
}

static int finish_open(struct weir_uring *uring, const struct weir_options *options,
                       struct weir_facts *facts)
{
    uring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->wake_fd < 0) {
        return -errno;
    }
    int r = make_ring(uring, options, facts);
    if (r < 0) {
        uring->ring.ring_fd = -1;
        return r;
    }
    if ((uring->ring.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
        return -ENOTSUP;
    }
    r = probe_opcodes(uring);
    r = r < 0 ? r : probe_enter(uring);
    r = r < 0 ? r : weir_sigpipe_probe(&uring->base.write_flags);
    r = r < 0 ? r : io_uring_ring_dontfork(&uring->ring);
    if (r < 0) {
        return r;
    }
    straighten(&uring->ring);
    uring->ring.enter_ring_fd = uring->ring.ring_fd;
    uring->enter_wait = uring->ring.features & WEIR_FEAT_NO_IOWAIT ? WEIR_ENTER_NO_IOWAIT : 0;
    tell_facts(uring, options, facts);
    return 0;
}

int weir_uring_open(const struct weir_options *options, struct weir_facts *facts,
                    struct weir_backend **ret_backend)
{
    struct weir_uring *uring =
        mmap(NULL, sizeof *uring, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (uring == MAP_FAILED) {
        return -ENOMEM; /* also of EAGAIN: what may be locked is used up (mlockall(2)) */
    }
    uring->base.table = &weir_uring_table;
    uring->ring.ring_fd = -1;
    uring->wake_fd = -1;
    uring->ready_fd = -1;
    uring->enter_flags = IORING_ENTER_GETEVENTS;
    weir_clock_init(&uring->clock);
    int r = finish_open(uring, options, facts);
    if (r < 0) {
        weir_uring_close(&uring->base, false);
        return r;
    }
    *ret_backend = &uring->base;
    return 0;
}

/* Enters until a completion is there, and takes it. Its result, or -errno. */
static int take_one(struct weir_uring *uring)
{
    for (int tries = 0; tries < PROBE_TRIES; tries++) {
        int r = weir_uring_enter(uring, 1, WEIR_SLEEP_FOREVER);
        if (r < 0) {
            return r;
        }
        if (io_uring_cq_ready(&uring->ring) > 0) {
            const struct io_uring_cq *cq = &uring->ring.cq;
            r = cq->cqes[*cq->khead & cq->ring_mask].res;
            io_uring_cq_advance(&uring->ring, 1);
            return r;
        }
    }
    return -EAGAIN;
}

/* A NOP there and back under the process's real limits and filters; then a message, where the
 * kernel has them. */
static int round_trip(struct weir_uring *uring, struct weir_facts *facts)
{
    struct io_uring_sqe *sqe =
        &uring->ring.sq.sqes[uring->ring.sq.sqe_tail++ & uring->ring.sq.ring_mask];
    io_uring_prep_nop(sqe);
    sqe->user_data = WEIR_URING_PROBE;
    int r = take_one(uring);
    if (r == 0 && weir_uring_message(uring)) {
        r = take_one(uring);
        uring->wakes_by_message = r == 0;
    }
    facts->wakes_by = uring->wakes_by_message ? "message" : "eventfd";
    return r;
}

/* Where writes cannot be asked to keep quiet, SIGPIPE is blocked in the owner's thread. */
static void block_sigpipe(struct weir_uring *uring, struct weir_facts *facts)
{
    if (uring->base.write_flags != 0) {
        return;
    }
    weir_sigpipe_block();
    uring->blocks_sigpipe = true;
    facts->sigpipe_blocked = 1;
}

static void unblock_sigpipe(struct weir_uring *uring)
{
    if (uring->blocks_sigpipe) {
        uring->blocks_sigpipe = false;
        weir_sigpipe_unblock(true);
    }
}

int weir_uring_adopt(struct weir_backend *backend, struct weir_facts *facts)
{
    struct weir_uring *uring = weir_uring_of(backend);
    unsigned ring_fd = (unsigned)uring->ring.ring_fd;
    if (facts->ring_flags & IORING_SETUP_R_DISABLED) {
        /* By number: liburing 2.3 declares io_uring_enable_rings() but does not export it. */
        int r = io_uring_register(ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        if (r < 0) {
            return r;
        }
    }
    /* Fails past 16 in a thread, and before 5.18: then the plain fd is used. */
    if (io_uring_register_ring_fd(&uring->ring) == 1) {
        uring->enter_flags |= IORING_ENTER_REGISTERED_RING;
        facts->ring_fd_registered = 1;
    } else {
        uring->ring.enter_ring_fd = uring->ring.ring_fd;
    }
    unsigned workers[2] = {facts->workers_bounded, facts->workers_unbounded};
    if (io_uring_register(ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2) < 0) {
        facts->workers_bounded = 0;
        facts->workers_unbounded = 0;
    }
    block_sigpipe(uring, facts);
    int r = round_trip(uring, facts);
    if (r < 0) { /* undone here: both belong to this thread, and another one may close the loop */
        unblock_sigpipe(uring);
        if (uring->enter_flags & IORING_ENTER_REGISTERED_RING) {
            io_uring_unregister_ring_fd(&uring->ring);
        }
    }
    return r;
}

/*
 * Not the ring's own fd: with DEFER_TASKRUN the kernel does not wake its pollers before the owner
 * has run the deferred work (tried on 6.18), but it does signal a registered eventfd when there is
 * some.
 */
int weir_uring_fd(struct weir_backend *backend)
{
    struct weir_uring *uring = weir_uring_of(backend);
    if (uring->ready_fd >= 0) {
        return uring->ready_fd;
    }
    /* Readable at first: what completed before is for the first turn to find. */
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    int r = io_uring_register_eventfd(&uring->ring, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    __atomic_store_n(&uring->ready_fd, fd, __ATOMIC_RELAXED);
    return fd;
}

void weir_uring_close(struct weir_backend *backend, bool forked)
{
    struct weir_uring *uring = weir_uring_of(backend);
    if (forked) {
        /* The ring's memory is not mapped here (DONTFORK); the registration is the parent's
         * thread's. */
        close(uring->ring.ring_fd);
        close(uring->wake_fd);
        if (uring->ready_fd >= 0) {
            close(uring->ready_fd);
        }
        return;
    }
    if (uring->ring.ring_fd >= 0) {
        io_uring_queue_exit(&uring->ring);
    }
    if (uring->wake_fd >= 0) {
        close(uring->wake_fd);
    }
    if (uring->ready_fd >= 0) {
        close(uring->ready_fd);
    }
    unblock_sigpipe(uring);
    munmap(uring, sizeof *uring);
}
