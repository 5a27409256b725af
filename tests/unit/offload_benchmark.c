/* SPDX-License-Identifier: MIT */
/*
 * offload_benchmark [DEPTH [WORKERS [SPIN_NS]]]: ns per job, there and back, through the offload
 * ring and through two queues with a mutex and a condition variable. Both carry the same jobs that
 * do nothing, and both have the same loop around them, that sleeps in an eventfd which is written
 * only while it sleeps. Rounds are interleaved, ring queue queue ring; the ratio is the median of
 * the pairs'. Not a test: it fails on nothing.
 */
#include <engine/backend/backend.h>
#include <engine/base/clock.h>
#include <engine/offload/offload.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH_MAX 1024
#define WORKERS_MAX 64
#define PAIRS 24
#define ROUND_NS 40000000ULL

static uint32_t depth = 64;
static uint32_t workers = 1;
static uint64_t spin_ns;
static struct weir_op ops[DEPTH_MAX];
static struct weir_bell bell;
static int wake_fd;

static int64_t nothing(void *argument)
{
    (void)argument;
    return 0;
}

static bool wake_loop(void *context)
{
    (void)context;
    bool asleep = weir_bell_ring(&bell);
    if (asleep) {
        eventfd_write(wake_fd, 1);
    }
    return asleep;
}

/* --- the queue that is compared with ---------------------------------------------------------- */

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct weir_queue ops;
};

static struct queue there = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};
static struct queue back = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};
static bool ending;

static void *serve(void *argument)
{
    pthread_mutex_lock(&there.lock);
    for (;;) {
        while (!there.ops.head && !ending) {
            pthread_cond_wait(&there.filled, &there.lock);
        }
        if (!there.ops.head) {
            break;
        }
        struct weir_op *op = weir_queue_pop(&there.ops);
        pthread_mutex_unlock(&there.lock);
        op->result = op->arg.call.function(op->arg.call.argument);
        pthread_mutex_lock(&back.lock);
        weir_queue_push(&back.ops, op);
        pthread_mutex_unlock(&back.lock);
        wake_loop(NULL);
        pthread_mutex_lock(&there.lock);
    }
    pthread_mutex_unlock(&there.lock);
    return argument;
}

static void queue_push(struct weir_op *op)
{
    pthread_mutex_lock(&there.lock);
    weir_queue_push(&there.ops, op);
    pthread_mutex_unlock(&there.lock);
    pthread_cond_signal(&there.filled); /* no system call where nobody waits */
}

static void queue_flush(void)
{
}

static struct weir_op *queue_take(void)
{
    pthread_mutex_lock(&back.lock);
    struct weir_op *first = back.ops.head;
    back.ops = (struct weir_queue){0};
    pthread_mutex_unlock(&back.lock);
    return first;
}

/* --- the ring --------------------------------------------------------------------------------- */

static struct weir_offload *offload;

static void ring_push(struct weir_op *op)
{
    weir_offload_push(offload, op, WEIR_LANE_LONG);
}

static void ring_flush(void)
{
    weir_offload_flush(offload);
}

static struct weir_op *ring_take(void)
{
    return weir_offload_take(offload);
}

/* --- the loop around both --------------------------------------------------------------------- */

struct engine {
    void (*push)(struct weir_op *op);
    void (*flush)(void);
    struct weir_op *(*take)(void);
};

static const struct engine ring = {ring_push, ring_flush, ring_take};
static const struct engine queue = {queue_push, queue_flush, queue_take};

/* What has finished; sleeps until something has. */
static struct weir_op *await(const struct engine *engine, uint64_t awake_until_ns)
{
    struct weir_op *op = engine->take();
    while (!op && spin_ns > 0 && weir_clock_monotonic() < awake_until_ns) {
        op = engine->take();
    }
    while (!op) {
        __atomic_store_n(&bell.word, WEIR_BELL_ASLEEP, __ATOMIC_SEQ_CST);
        op = engine->take();
        if (!op) {
            eventfd_t count;
            eventfd_read(wake_fd, &count);
            op = engine->take();
        }
        __atomic_store_n(&bell.word, WEIR_BELL_AWAKE, __ATOMIC_RELAXED);
    }
    return op;
}

static double ns_per_job(const struct engine *engine)
{
    uint64_t begin_ns = weir_clock_monotonic();
    uint64_t now_ns = begin_ns;
    uint64_t done = 0;
    uint32_t out = depth;
    for (uint32_t i = 0; i < depth; i++) {
        engine->push(&ops[i]);
    }
    engine->flush();
    while (out > 0) {
        struct weir_op *next;
        uint64_t awake_until_ns = now_ns + spin_ns;
        bool more = now_ns - begin_ns < ROUND_NS;
        for (struct weir_op *op = await(engine, awake_until_ns); op; op = next) {
            next = op->held.link.next;
            done++;
            if (more) {
                engine->push(op);
            } else {
                out--;
            }
        }
        engine->flush();
        now_ns = weir_clock_monotonic();
    }
    return (double)(now_ns - begin_ns) / (double)done;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, PAIRS, sizeof values[0], compare);
    return (values[PAIRS / 2 - 1] + values[PAIRS / 2]) / 2;
}

static void measure(void)
{
    double by_ring[PAIRS];
    double by_queue[PAIRS];
    double ratios[PAIRS];
    for (uint32_t i = 0; i < PAIRS; i++) {
        if (i % 2 == 0) {
            by_ring[i] = ns_per_job(&ring);
        }
        by_queue[i] = ns_per_job(&queue);
        if (i % 2 == 1) {
            by_ring[i] = ns_per_job(&ring);
        }
        ratios[i] = by_queue[i] / by_ring[i];
    }
    double worst = ratios[0];
    for (uint32_t i = 1; i < PAIRS; i++) {
        worst = ratios[i] < worst ? ratios[i] : worst;
    }
    printf("depth %u, %u workers, spin %llu ns: ring %.0f ns, mutex and condition %.0f ns, "
           "throughput %.2f times (worst pair %.2f)\n",
           depth, workers, (unsigned long long)spin_ns, median(by_ring), median(by_queue),
           median(ratios), worst);
}

int main(int argc, char **argv)
{
    depth = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : depth;
    workers = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : workers;
    spin_ns = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (depth < 1 || depth > DEPTH_MAX || workers < 1 || workers > WORKERS_MAX) {
        fprintf(stderr, "usage: offload_benchmark [DEPTH [WORKERS [SPIN_NS]]]\n");
        return 2;
    }
    struct weir_offload_options options = {
        .workers = workers,
        .ops_max = depth,
        .stack = 256u << 10,
        .spin_ns = spin_ns,
        .finished = wake_loop,
    };
    size_t size = weir_offload_size(&options);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_t threads[WORKERS_MAX];
    wake_fd = eventfd(0, EFD_CLOEXEC);
    if (memory == MAP_FAILED || wake_fd < 0 || weir_offload_open(&options, memory, &offload) != 0) {
        fprintf(stderr, "offload_benchmark: cannot open the ring\n");
        return 1;
    }
    for (uint32_t i = 0; i < workers; i++) {
        if (pthread_create(&threads[i], NULL, serve, NULL) != 0) {
            return 1;
        }
    }
    for (uint32_t i = 0; i < depth; i++) {
        weir_op_call(&ops[i], nothing, NULL);
    }
    measure();
    pthread_mutex_lock(&there.lock);
    ending = true;
    pthread_cond_broadcast(&there.filled);
    pthread_mutex_unlock(&there.lock);
    for (uint32_t i = 0; i < workers; i++) {
        pthread_join(threads[i], NULL);
    }
    weir_offload_close(offload);
    return 0;
}
