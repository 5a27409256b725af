/* SPDX-License-Identifier: MIT */
/* perf/pool.c: two lists, two mutexes, two condition variables. */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "meter.h"

struct list {
    struct pool_job *first;
    struct pool_job **end;
    uint32_t count; /* written under the mutex, watched without it by who spins */
};

struct pool {
    struct pool_options options;
    pthread_mutex_t queue_mutex;
    pthread_cond_t queue_filled;
    struct list queue;
    uint32_t idle; /* threads that wait for the queue */
    bool stopping;
    pthread_mutex_t finished_mutex;
    pthread_cond_t finished_filled;
    struct list finished;
    bool asleep; /* who takes the finished wants to be woken */
    uint32_t started;
    pthread_t threads[];
};

static void append(struct list *list, struct pool_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
    __atomic_store_n(&list->count, list->count + 1, __ATOMIC_RELAXED);
}

static bool is_empty(const struct list *list)
{
    return __atomic_load_n(&list->count, __ATOMIC_RELAXED) == 0;
}

/* Watches a list. A hint: what is in it is looked at under the mutex. */
static bool spin(const struct list *list, uint64_t spin_ns)
{
    uint64_t end_ns = spin_ns != 0 ? meter_clock() + spin_ns : 0;
    while (is_empty(list) && end_ns != 0 && meter_clock() < end_ns) {
    }
    return !is_empty(list);
}

/* The next job, waiting for it; NULL: the end. Called and left with the mutex held. */
static struct pool_job *next_job(struct pool *pool)
{
    if (is_empty(&pool->queue) && pool->options.spin_ns != 0) {
        pthread_mutex_unlock(&pool->queue_mutex);
        spin(&pool->queue, pool->options.spin_ns);
        pthread_mutex_lock(&pool->queue_mutex);
    }
    while (pool->queue.first == NULL && !pool->stopping) {
        pool->idle++;
        pthread_cond_wait(&pool->queue_filled, &pool->queue_mutex);
        pool->idle--;
    }
    struct pool_job *job = pool->queue.first;
    if (job != NULL) {
        pool->queue.first = job->next;
        if (job->next == NULL) {
            pool->queue.end = &pool->queue.first;
        }
        __atomic_store_n(&pool->queue.count, pool->queue.count - 1, __ATOMIC_RELAXED);
    }
    return job;
}

static void rouse(struct pool *pool)
{
    if (pool->options.wake_fd < 0) {
        pthread_cond_signal(&pool->finished_filled);
        return;
    }
    uint64_t one = 1;
    while (write(pool->options.wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void finish(struct pool *pool, struct pool_job *job)
{
    pthread_mutex_lock(&pool->finished_mutex);
    append(&pool->finished, job);
    bool asleep = pool->asleep;
    pool->asleep = false;
    pthread_mutex_unlock(&pool->finished_mutex);
    if (asleep) {
        rouse(pool);
    }
}

static void *work(void *argument)
{
    struct pool *pool = argument;
    pthread_mutex_lock(&pool->queue_mutex);
    for (struct pool_job *job = next_job(pool); job != NULL; job = next_job(pool)) {
        pthread_mutex_unlock(&pool->queue_mutex);
        pool->options.work(job, pool->options.context);
        finish(pool, job);
        pthread_mutex_lock(&pool->queue_mutex);
    }
    pthread_mutex_unlock(&pool->queue_mutex);
    return NULL;
}

int pool_open(const struct pool_options *options, struct pool **ret_pool)
{
    struct pool *pool = calloc(1, sizeof *pool + options->workers * sizeof pool->threads[0]);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->options = *options;
    pool->queue.end = &pool->queue.first;
    pool->finished.end = &pool->finished.first;
    pthread_mutex_init(&pool->queue_mutex, NULL);
    pthread_mutex_init(&pool->finished_mutex, NULL);
    pthread_cond_init(&pool->queue_filled, NULL);
    pthread_cond_init(&pool->finished_filled, NULL);
    /* The interval's signal is for the thread that measures. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = 0;
    while (pool->started < options->workers && r == 0) {
        r = pthread_create(&pool->threads[pool->started], NULL, work, pool);
        pool->started += r == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0) {
        pool_close(pool);
        return -r;
    }
    *ret_pool = pool;
    return 0;
}

void pool_close(struct pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->queue_mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->queue_filled);
    pthread_mutex_unlock(&pool->queue_mutex);
    for (uint32_t i = 0; i < pool->started; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    pthread_mutex_destroy(&pool->queue_mutex);
    pthread_mutex_destroy(&pool->finished_mutex);
    pthread_cond_destroy(&pool->queue_filled);
    pthread_cond_destroy(&pool->finished_filled);
    free(pool);
}

void pool_push(struct pool *pool, struct pool_job *job)
{
    pthread_mutex_lock(&pool->queue_mutex);
    append(&pool->queue, job);
    bool wanted = pool->idle > 0;
    pthread_mutex_unlock(&pool->queue_mutex);
    if (wanted) {
        pthread_cond_signal(&pool->queue_filled);
    }
}

/* With the mutex held. */
static struct pool_job *take_all(struct pool *pool)
{
    struct pool_job *first = pool->finished.first;
    pool->finished.first = NULL;
    pool->finished.end = &pool->finished.first;
    __atomic_store_n(&pool->finished.count, 0, __ATOMIC_RELAXED);
    return first;
}

struct pool_job *pool_take(struct pool *pool)
{
    pthread_mutex_lock(&pool->finished_mutex);
    struct pool_job *first = take_all(pool);
    pthread_mutex_unlock(&pool->finished_mutex);
    return first;
}

bool pool_spin(struct pool *pool)
{
    return spin(&pool->finished, pool->options.spin_ns);
}

struct pool_job *pool_wait(struct pool *pool)
{
    pool_spin(pool);
    pthread_mutex_lock(&pool->finished_mutex);
    while (pool->finished.first == NULL) {
        pool->asleep = true;
        pthread_cond_wait(&pool->finished_filled, &pool->finished_mutex);
    }
    pool->asleep = false;
    struct pool_job *first = take_all(pool);
    pthread_mutex_unlock(&pool->finished_mutex);
    return first;
}

bool pool_may_sleep(struct pool *pool)
{
    pthread_mutex_lock(&pool->finished_mutex);
    pool->asleep = pool->finished.first == NULL;
    bool asleep = pool->asleep;
    pthread_mutex_unlock(&pool->finished_mutex);
    return asleep;
}
