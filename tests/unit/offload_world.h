/* SPDX-License-Identifier: MIT */
/* offload_world.h: jobs that tell where and when they ran, and an offload ring for them. */
#ifndef WEIR_TESTS_OFFLOAD_WORLD_H
#define WEIR_TESTS_OFFLOAD_WORLD_H

#include "unit.h"

#include <dirent.h>
#include <engine/offload/worker.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define JOBS 256u
#define STACK (256u << 10)
#define GUARD_SECONDS 100 /* a test that hangs is ended */

struct job {
    struct weir_op op; /* first: a finished op is its job */
    uint32_t runs;
    uint32_t ran_at;    /* of all jobs of the test */
    uint32_t ran_on;    /* the worker */
    sem_t *let_go;      /* waited for, if there is one */
    sem_t *announce;    /* posted before that */
    uintptr_t stack_at; /* an address on the worker's stack */
    sigset_t blocked;
};

static struct job jobs[JOBS];
static uint32_t sequence;
static sem_t finished; /* posted per finished op */
static sem_t let_go;
static sem_t running;

static struct weir_offload *offload;
static unsigned char *memory;
static size_t memory_size;
static size_t page;

/* --- the world -------------------------------------------------------------------------------- */

static inline uint32_t my_worker(void)
{
    char name[16] = "";
    uint32_t index = UINT32_MAX;
    pthread_getname_np(pthread_self(), name, sizeof name);
    return sscanf(name, "weir-work-%u", &index) == 1 ? index : UINT32_MAX;
}

static inline int64_t work(void *argument)
{
    struct job *job = argument;
    int64_t value = job - jobs;
    job->runs++;
    job->ran_at = __atomic_fetch_add(&sequence, 1, __ATOMIC_SEQ_CST);
    job->ran_on = my_worker();
    job->stack_at = (uintptr_t)__builtin_frame_address(0);
    pthread_sigmask(SIG_BLOCK, NULL, &job->blocked);
    if (job->announce) {
        sem_post(job->announce);
    }
    if (job->let_go) {
        sem_wait(job->let_go);
    }
    return value;
}

static inline bool note_finished(void *context)
{
    sem_post(context);
    return false;
}

static inline int prepare(void **state)
{
    (void)state;
    memset(jobs, 0, sizeof jobs);
    sequence = 0;
    offload = NULL;
    page = (size_t)sysconf(_SC_PAGESIZE);
    sem_init(&finished, 0, 0);
    sem_init(&let_go, 0, 0);
    sem_init(&running, 0, 0);
    for (uint32_t i = 0; i < JOBS; i++) {
        weir_op_call(&jobs[i].op, work, &jobs[i]);
    }
    alarm(GUARD_SECONDS);
    return 0;
}

/* What is set at open belongs to the workers too from then on: a test does not write it. */
static inline int open_world(uint32_t workers, uint32_t ops_max, uint64_t spin_ns)
{
    struct weir_offload_options options = {
        .workers = workers,
        .ops_max = ops_max,
        .stack = STACK,
        .spin_ns = spin_ns,
        .finished = note_finished,
        .context = &finished,
    };
    memory_size = weir_offload_size(&options);
    if (!memory) {
        memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_ptr_not_equal(memory, MAP_FAILED);
    }
    return weir_offload_open(&options, memory, &offload);
}

static inline int tear_down(void **state)
{
    (void)state;
    if (offload) {
        weir_offload_close(offload);
    }
    if (memory) {
        munmap(memory, memory_size);
    }
    memory = NULL;
    return 0;
}

static inline void wait_finished(uint32_t count)
{
    while (count-- > 0) {
        while (sem_wait(&finished) != 0) {
        }
    }
}

static inline void push(uint32_t first, uint32_t count, enum weir_lane lane)
{
    for (uint32_t i = 0; i < count; i++) {
        weir_offload_push(offload, &jobs[first + i].op, lane);
    }
    weir_offload_flush(offload);
}

/* Waits for so many, takes them: they must be all. */
static inline void run_out(uint32_t count)
{
    wait_finished(count);
    struct weir_op *op = weir_offload_take(offload);
    for (; count > 0; count--, op = op->held.link.next) {
        assert_non_null(op);
    }
    assert_null(op);
    assert_false(weir_offload_has_finished(offload));
}

/* The worker of that job, or the only one that may take it, waits in it. */
static inline void occupy(uint32_t index, enum weir_lane lane)
{
    jobs[index].let_go = &let_go;
    jobs[index].announce = &running;
    push(index, 1, lane);
    while (sem_wait(&running) != 0) {
    }
}

static inline void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* By what the kernel says of the thread. */
static inline bool is_waking_worker(const char *thread)
{
    char path[64];
    char name[32] = "";
    char state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%.12s/stat", thread);
    FILE *stat = fopen(path, "re");
    if (!stat) {
        return false;
    }
    bool is_read = fscanf(stat, "%*d (%31[^)]) %c", name, &state) == 2;
    fclose(stat);
    return is_read && strncmp(name, "weir-work-", 10) == 0 && state != 'S';
}

static inline bool all_workers_sleep(void)
{
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    bool all = true;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        all = all && (entry->d_name[0] == '.' || !is_waking_worker(entry->d_name));
    }
    closedir(tasks);
    return all;
}

/* Until these workers are idle, and no longer on the way there, where they would still take work
 * that another was woken for; and the others wait in a job. */
static inline void wait_idle(uint64_t bits)
{
    while (__atomic_load_n(&offload->idle[0], __ATOMIC_SEQ_CST) != bits || !all_workers_sleep()) {
        nap();
    }
}

#define OFFLOAD_TEST(name) cmocka_unit_test_setup_teardown(name, prepare, tear_down)

#endif
