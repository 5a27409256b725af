/* SPDX-License-Identifier: MIT */
/*
 * threads_sim.c: the calls of sim_calls.h on the clock and on threads. A world has one thread, so
 * the tests' others are coroutines of it: they go on when the first one yields, waits, or is in the
 * window between its look at the inboxes and its sleep.
 */
#include "sim.h"

#include <ucontext.h>

#define STACK ((size_t)256 << 10)
#define OTHERS 16

struct other {
    ucontext_t context;
    ucontext_t resumed_from;
    void *(*body)(void *context);
    void *argument;
    void *value;
    char *stack;
    bool live;
    bool over;
};

static struct other others[OTHERS];
static struct other *current; /* NULL: the first thread */

/* --- coroutines ------------------------------------------------------------------------------ */

static void run_body(void)
{
    struct other *self = current;
    self->value = self->body(self->argument);
    self->over = true;
    swapcontext(&self->context, &self->resumed_from);
}

static void resume(struct other *other)
{
    current = other;
    swapcontext(&other->resumed_from, &other->context);
    current = NULL;
}

bool sim_let_others(void)
{
    if (current != NULL) {
        swapcontext(&current->context, &current->resumed_from);
        return true;
    }
    bool any = false;
    for (size_t i = 0; i < OTHERS; i++) {
        if (others[i].live && !others[i].over) {
            any = true;
            resume(&others[i]);
        }
    }
    return any;
}

static struct other *free_place(void)
{
    for (size_t i = 0; i < OTHERS; i++) {
        if (!others[i].live) {
            return &others[i];
        }
    }
    return NULL;
}

int sim_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                       void *(*body)(void *context), void *context)
{
    struct other *other = free_place();
    char *stack = malloc(STACK);
    (void)attributes;
    if (other == NULL || stack == NULL) {
        free(stack);
        return EAGAIN;
    }
    *other = (struct other){.body = body, .argument = context, .stack = stack, .live = true};
    getcontext(&other->context);
    other->context.uc_stack.ss_sp = stack;
    other->context.uc_stack.ss_size = STACK;
    makecontext(&other->context, run_body, 0);
    *ret_thread = (pthread_t)(other - others + 1);
    return 0;
}

int sim_pthread_join(pthread_t thread, void **ret_value)
{
    struct other *other = &others[(size_t)thread - 1];
    while (!other->over) {
        sim_let_others();
    }
    if (ret_value != NULL) {
        *ret_value = other->value;
    }
    free(other->stack);
    other->live = false;
    return 0;
}

int sim_sched_yield(void)
{
    sim_let_others();
    return 0;
}

int sim_sem_wait(sem_t *semaphore)
{
    while (sem_trywait(semaphore) != 0) {
        if (!sim_let_others()) {
            errno = EDEADLK;
            return -1;
        }
    }
    return 0;
}

/* One barrier of two at a time is all that the tests have. */
int sim_pthread_barrier_wait(pthread_barrier_t *barrier)
{
    static pthread_barrier_t *awaited;
    if (awaited == barrier) {
        awaited = NULL;
        return PTHREAD_BARRIER_SERIAL_THREAD;
    }
    awaited = barrier;
    while (awaited == barrier) {
        sim_let_others();
    }
    return 0;
}

void sim_pause(void)
{
    if (current != NULL && seam_random() % 4 == 0) {
        sim_let_others();
    }
}

/* --- the clock ------------------------------------------------------------------------------- */

int sim_usleep(useconds_t wait_us)
{
    weir_sim_sleep(sim_world(), (uint64_t)wait_us * WEIR_US);
    sim_let_others();
    return 0;
}

int sim_nanosleep(const struct timespec *wait, struct timespec *left)
{
    (void)left;
    weir_sim_sleep(sim_world(), (uint64_t)wait->tv_sec * WEIR_S + (uint64_t)wait->tv_nsec);
    sim_let_others();
    return 0;
}

int sim_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    if (clock != CLOCK_MONOTONIC) {
        return clock_gettime(clock, ret_now);
    }
    uint64_t now_ns = weir_sim_now(sim_world());
    ret_now->tv_sec = (time_t)(now_ns / WEIR_S);
    ret_now->tv_nsec = (long)(now_ns % WEIR_S);
    return 0;
}
