/* SPDX-License-Identifier: MIT */
/*
 * offload_validate [ROUNDS]: the offload ring under seeded random pushes, withdrawals, flushes and
 * takes, with 1 to 8 workers and tiny rings. Each op comes back exactly once, or was withdrawn and
 * never runs; worker 0 of several runs no long work; nobody who runs seems asleep, nobody sleeps
 * for ever. Then single ops, each pushed about when the worker goes to sleep. WEIR_LONG=1: many
 * more of both.
 */
#include "unit.h"

#include <engine/backend/backend.h>
#include <engine/offload/worker.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPS_MAX 48
#define WORKERS_MAX 8
#define STEPS 20000
#define ROUNDS_SHORT 60
#define ROUNDS_LONG 3000
#define RACE_SHORT 100000
#define RACE_LONG 10000000
#define ROUND_SECONDS_MAX 60 /* a round takes milliseconds: it hangs */

/* What a job stands for; atomic. */
enum { IDLE, READY, RAN };

struct job {
    struct weir_op op; /* first: an op is its job */
    uint32_t stands;
    uint32_t work;    /* turns of nothing, in the function */
    uint32_t ordinal; /* its value */
    bool is_long;
    bool live;  /* the ring has it */
    int excuse; /* -ETIME, -ECANCELED: it is not run, and this is its result */
};

static struct job jobs[OPS_MAX];
static struct weir_offload_options options;
static struct weir_offload *offload;
static struct weir_bell bell;
static struct random dice;
static uint32_t live;
static uint64_t round_seed;
static uint64_t counts[4]; /* pushed, withdrawn, run, sleeps */
enum { PUSHED, WITHDRAWN, RUN, SLEEPS };

static char where[128]; /* what repeats the round */

static void wrong(const char *what)
{
    fprintf(stderr, "offload_validate: %s; %s", what, where);
    _exit(1);
}

static void on_alarm(int signal)
{
    static const char what[] = "offload_validate: hangs; ";
    bool told = write(STDERR_FILENO, what, sizeof what - 1) > 0 &&
                write(STDERR_FILENO, where, strlen(where)) > 0;
    _exit(told ? 1 : signal);
}

/* --- the workers' side ------------------------------------------------------------------------ */

static void idle_about(uint32_t turns)
{
    for (uint32_t i = 0; i < turns; i++) {
        __asm__ volatile("" ::: "memory");
    }
}

static uint32_t my_worker(void)
{
    static __thread uint32_t known; /* and 1 */
    char name[16] = "";
    if (known == 0) {
        pthread_getname_np(pthread_self(), name, sizeof name);
        if (sscanf(name, "weir-work-%u", &known) != 1) {
            wrong("a job runs on no worker");
        }
        known++;
    }
    return known - 1;
}

static int64_t work(void *argument)
{
    struct job *job = argument;
    uint32_t ready = READY;
    if (!__atomic_compare_exchange_n(&job->stands, &ready, RAN, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED)) {
        wrong(ready == RAN ? "a job runs twice" : "a withdrawn job runs");
    }
    if (job->is_long && options.workers > 1 && my_worker() == 0) {
        wrong("worker 0 runs long work");
    }
    uint64_t idle = __atomic_load_n(&offload->idle[0], __ATOMIC_RELAXED);
    if (idle >> my_worker() & 1) {
        wrong("a worker that runs shows that it sleeps");
    }
    idle_about(job->work);
    if (job->work % 16 == 1) {
        sched_yield();
    }
    return job->ordinal;
}

static bool ring_bell(void *context)
{
    struct weir_bell *rung = context;
    bool asleep = weir_bell_ring(rung);
    if (asleep) {
        syscall(SYS_futex, &rung->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return asleep;
}

/* --- the loop's side -------------------------------------------------------------------------- */

static void push_one(uint32_t longs_in_8)
{
    struct job *job = &jobs[random_below(&dice, options.ops_max)];
    static uint32_t ordinal;
    if (job->live) {
        return;
    }
    weir_op_call(&job->op, work, job);
    job->work = (uint32_t)random_below(&dice, 1u << random_below(&dice, 12));
    job->ordinal = ordinal++ & INT32_MAX;
    job->is_long = random_below(&dice, 8) < longs_in_8;
    uint64_t chance = random_below(&dice, 64);
    job->op.deadline_ns = chance == 0 ? 1 : chance < 4 ? UINT64_MAX : 0;
    job->excuse = chance == 0 ? -ETIME : 0;
    job->live = true;
    __atomic_store_n(&job->stands, READY, __ATOMIC_RELAXED);
    weir_offload_push(offload, &job->op, job->is_long ? WEIR_LANE_LONG : WEIR_LANE_SHORT);
    live++;
    counts[PUSHED]++;
}

static void withdraw_one(void)
{
    struct job *job = &jobs[random_below(&dice, options.ops_max)];
    if (!job->live || !weir_offload_withdraw(offload, &job->op)) {
        return;
    }
    if (__atomic_exchange_n(&job->stands, IDLE, __ATOMIC_RELAXED) != READY) {
        wrong("a job that ran is withdrawn");
    }
    job->live = false;
    live--;
    counts[WITHDRAWN]++;
}

static void take_all(void)
{
    struct weir_op *next;
    for (struct weir_op *op = weir_offload_take(offload); op; op = next) {
        next = op->held.link.next;
        struct job *job = (struct job *)op;
        if (!job->live) {
            wrong("an op comes back twice, or after it was withdrawn");
        }
        uint32_t stands = __atomic_exchange_n(&job->stands, IDLE, __ATOMIC_RELAXED);
        if (stands != (job->excuse ? READY : RAN)) {
            wrong(job->excuse ? "a job runs that must not" : "an op comes back that did not run");
        }
        if (op->result != (job->excuse ? job->excuse : (int64_t)job->ordinal)) {
            wrong("a wrong result");
        }
        job->live = false;
        live--;
        counts[RUN]++;
    }
}

/* As the loop sleeps: until something has finished. */
static void sleep_and_take(void)
{
    weir_offload_flush(offload);
    idle_about((uint32_t)random_below(&dice, 1u << random_below(&dice, 12)));
    __atomic_store_n(&bell.word, WEIR_BELL_ASLEEP, __ATOMIC_SEQ_CST);
    while (!weir_offload_has_finished(offload)) {
        syscall(SYS_futex, &bell.word, FUTEX_WAIT_PRIVATE, WEIR_BELL_ASLEEP, NULL, NULL, 0);
    }
    __atomic_store_n(&bell.word, WEIR_BELL_AWAKE, __ATOMIC_RELAXED);
    counts[SLEEPS]++;
    take_all();
}

static void step(uint32_t longs_in_8, uint32_t sleeps_in_64)
{
    uint64_t chance = random_below(&dice, 64);
    if (chance < sleeps_in_64) {
        if (live > 0) {
            sleep_and_take();
        }
    } else if (chance < 40) {
        for (uint64_t n = random_below(&dice, options.ops_max) + 1; n > 0; n--) {
            push_one(longs_in_8);
        }
        if (chance % 4) {
            weir_offload_flush(offload);
        }
    } else if (chance < 56) {
        for (uint64_t n = random_below(&dice, options.ops_max) + 1; n > 0; n--) {
            withdraw_one();
        }
    } else {
        take_all();
    }
}

static void *open_ring(void)
{
    snprintf(where, sizeof where, "round's seed: WEIR_SEED=%llu, %u workers, %u ops\n",
             (unsigned long long)round_seed, options.workers, options.ops_max);
    void *memory = mmap(NULL, weir_offload_size(&options), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || weir_offload_open(&options, memory, &offload) != 0) {
        wrong("cannot be opened");
    }
    alarm(ROUND_SECONDS_MAX);
    return memory;
}

static void close_ring(void *memory)
{
    if (live > 0 || weir_offload_has_finished(offload)) {
        wrong("more came back than was pushed, or less");
    }
    weir_offload_close(offload);
    alarm(0);
    munmap(memory, weir_offload_size(&options));
}

static void run_round(void)
{
    options = (struct weir_offload_options){
        .workers = (uint32_t)random_below(&dice, WORKERS_MAX) + 1,
        .ops_max = (uint32_t)random_below(&dice, 1ULL << random_below(&dice, 6)) + 1,
        .stack = 256u << 10,
        .spin_ns = random_below(&dice, 2) ? 0 : 1ULL << random_below(&dice, 16),
        .finished = ring_bell,
        .context = &bell,
    };
    uint32_t longs_in_8 = (uint32_t)random_below(&dice, 9);
    uint32_t sleeps_in_64 = 2u << random_below(&dice, 5);
    void *memory = open_ring();
    for (uint32_t i = 0; i < STEPS; i++) {
        step(longs_in_8, sleeps_in_64);
    }
    while (live > 0) {
        sleep_and_take();
    }
    close_ring(memory);
}

/* A push that comes between a worker's look and its sleep must not be slept over. */
static void race(uint32_t turns)
{
    options = (struct weir_offload_options){
        .workers = 1,
        .ops_max = 1,
        .stack = 256u << 10,
        .finished = ring_bell,
        .context = &bell,
    };
    void *memory = open_ring();
    for (uint32_t i = 0; i < turns; i++) {
        push_one(4);
        weir_offload_flush(offload);
        while (!weir_offload_has_finished(offload)) {
        }
        take_all();
        idle_about((uint32_t)random_below(&dice, 64));
        if (i % 1024 == 0) {
            alarm(ROUND_SECONDS_MAX);
        }
    }
    close_ring(memory);
}

int main(int argc, char **argv)
{
    const char *wish = getenv("WEIR_LONG");
    bool is_long = wish && wish[0] == '1';
    unsigned long rounds = is_long ? ROUNDS_LONG : ROUNDS_SHORT;
    if (argc > 1) {
        rounds = strtoul(argv[1], NULL, 10);
    }
    const char *given = getenv("WEIR_SEED");
    round_seed = given ? strtoull(given, NULL, 0) : 0x0ff10adULL;
    signal(SIGALRM, on_alarm);
    for (unsigned long i = 0; i < rounds; i++, round_seed++) {
        dice = (struct random){round_seed * 0x9e3779b97f4a7c15ULL | 1};
        run_round();
    }
    race(is_long ? RACE_LONG : RACE_SHORT);
    printf("%lu rounds: %llu ops pushed, %llu withdrawn, %llu came back, %llu sleeps\n", rounds,
           (unsigned long long)counts[PUSHED], (unsigned long long)counts[WITHDRAWN],
           (unsigned long long)counts[RUN], (unsigned long long)counts[SLEEPS]);
    return counts[RUN] + counts[WITHDRAWN] == counts[PUSHED] && rounds > 0 ? 0 : 1;
}
