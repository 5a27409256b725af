/* SPDX-License-Identifier: MIT */
#include <engine/base/clock.h>
#include <engine/observe/stack.h>
#include <engine/observe/thread.h>
#include <errno.h>
#include <execinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PATIENCE_NS 100000000ULL
#define LITTLE_PATIENCE_NS 2000000ULL
#define POLL_LONGEST_NS 1000000L
/* A code of si_code's that nobody else gives: sigqueue(3) gives SI_QUEUE. Negative, as the kernel
 * wants it from who is not the kernel; not SI_TKILL, which it takes from no other thread. */
#define OUR_CODE (-0x77656972)
#define FRAMES_MAX 64 /* the handler's own ones, which are left out, included */

enum state {
    IDLE,
    WANTED,  /* asked for by the thread that takes; the handler may begin */
    WRITING, /* the handler writes */
    DONE,    /* the frames are valid */
};

struct weir_stack {
    uint32_t state; /* atomic, enum state: acquire and release, for the fields below */
    uint32_t count;
    uint32_t first;                /* frames before it are the handler's */
    struct weir_stack_place place; /* written by who takes, while nothing is wanted */
    void *frames[FRAMES_MAX];
    uint64_t sent;    /* signals */
    uint64_t arrived; /* atomic: those of them that the handler is done with; one that the kernel
                       * has merged with somebody else's never arrives */
};

/* --- in the thread whose stack is taken ------------------------------------------------------- */

/* Where it was interrupted; NULL: not known here. */
#if defined(__x86_64__)
static void *counter_of(const ucontext_t *context)
{
    return (void *)context->uc_mcontext.gregs[REG_RIP];
}
#elif defined(__aarch64__)
static void *counter_of(const ucontext_t *context)
{
    return (void *)context->uc_mcontext.pc;
}
#elif defined(__riscv)
static void *counter_of(const ucontext_t *context)
{
    return (void *)context->uc_mcontext.__gregs[REG_PC];
}
#else
static void *counter_of(const ucontext_t *context)
{
    (void)context;
    return NULL;
}
#endif

static bool is_there(const struct weir_stack_place *place)
{
    return !place->word || __atomic_load_n(place->word, __ATOMIC_RELAXED) == place->value;
}

static void walk(struct weir_stack *stack, void *counter)
{
    int count = backtrace(stack->frames, FRAMES_MAX);
    stack->count = count > 0 ? (uint32_t)count : 0;
    for (stack->first = 0; stack->first < stack->count; stack->first++) {
        if (stack->frames[stack->first] == counter) {
            return;
        }
    }
    /* The walk did not get past the signal's own frame: one frame is known at least. */
    stack->frames[0] = counter;
    stack->first = 0;
    stack->count = counter ? 1 : 0;
}

static void answer(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    if (info->si_code != OUR_CODE || info->si_pid != getpid()) {
        return;
    }
    struct weir_stack *stack = info->si_value.sival_ptr;
    int error = errno;
    uint32_t wanted = WANTED;
    if (__atomic_compare_exchange_n(&stack->state, &wanted, WRITING, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED)) {
        stack->count = 0;
        stack->first = 0;
        if (is_there(&stack->place)) {
            walk(stack, counter_of(context));
        }
        __atomic_store_n(&stack->state, DONE, __ATOMIC_RELEASE);
    }
    /* The last touch; pairs with the acquire in weir_stack_close(). */
    __atomic_add_fetch(&stack->arrived, 1, __ATOMIC_RELEASE);
    errno = error;
}

/* --- the handler ------------------------------------------------------------------------------ */

static bool is_handled(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO ||
           (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

/* Those the kernel raises for what a thread did: a handler that just returns would raise them
 * again. */
static bool is_fault(int signal)
{
    static const int faults[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (signal == faults[i]) {
            return true;
        }
    }
    return false;
}

int weir_stack_install(int signal, struct sigaction *ret_former)
{
    struct sigaction former;
    if (is_fault(signal) || sigaction(signal, NULL, &former) < 0) {
        return -EINVAL;
    }
    if (is_handled(&former)) {
        return -EBUSY;
    }
    /* The first walk loads libgcc, which is nothing for a signal handler. */
    void *frame;
    backtrace(&frame, 1);
    struct sigaction action = {
        .sa_sigaction = answer,
        .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK,
    };
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, &former) < 0) {
        return -EINVAL;
    }
    if (is_handled(&former)) { /* somebody was faster */
        sigaction(signal, &former, NULL);
        return -EBUSY;
    }
    *ret_former = former;
    return 0;
}

void weir_stack_remove(int signal, const struct sigaction *former)
{
    struct sigaction now;
    if (sigaction(signal, NULL, &now) < 0 || !(now.sa_flags & SA_SIGINFO) ||
        now.sa_sigaction != answer) {
        return;
    }
    /* By being ignored for a moment: one of ours that is still pending might end the process. */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    sigaction(signal, &ignore, NULL);
    sigaction(signal, former, NULL);
}

/* --- in the thread that takes it -------------------------------------------------------------- */

struct weir_stack *weir_stack_open(void)
{
    return calloc(1, sizeof(struct weir_stack));
}

void weir_stack_close(struct weir_stack *stack)
{
    if (stack && __atomic_load_n(&stack->arrived, __ATOMIC_ACQUIRE) == stack->sent) {
        free(stack);
    }
}

static int send(struct weir_stack *stack, pid_t thread, int signal)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = OUR_CODE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = stack;
    return (int)syscall(SYS_rt_tgsigqueueinfo, info.si_pid, thread, signal, &info);
}

static enum state state_of(const struct weir_stack *stack)
{
    return __atomic_load_n(&stack->state, __ATOMIC_ACQUIRE);
}

/* False: it did not answer, and will not. */
static bool await(struct weir_stack *stack, uint64_t patience_ns)
{
    uint64_t until_ns = weir_clock_monotonic() + patience_ns;
    struct timespec pause = {.tv_nsec = POLL_LONGEST_NS / 32};
    while (state_of(stack) != DONE && weir_clock_monotonic() < until_ns) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        pause.tv_nsec = pause.tv_nsec < POLL_LONGEST_NS ? pause.tv_nsec * 2 : POLL_LONGEST_NS;
    }
    uint32_t wanted = WANTED;
    return !__atomic_compare_exchange_n(&stack->state, &wanted, IDLE, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_ACQUIRE) &&
           wanted == DONE;
}

uint32_t weir_stack_take(struct weir_stack *stack, pid_t thread, int signal,
                         const struct weir_stack_place *place, void **ret_frames, uint32_t max)
{
    if (state_of(stack) == WRITING) { /* since last time: it does not get on */
        return 0;
    }
    bool pends = __atomic_load_n(&stack->arrived, __ATOMIC_RELAXED) != stack->sent &&
                 weir_thread_is_pending(thread, signal);
    stack->place = place ? *place : (struct weir_stack_place){NULL, 0};
    __atomic_store_n(&stack->state, WANTED, __ATOMIC_RELEASE);
    uint64_t patience_ns = LITTLE_PATIENCE_NS;
    if (!pends) {
        bool is_sent = send(stack, thread, signal) == 0;
        stack->sent += is_sent;
        patience_ns = is_sent ? PATIENCE_NS : 0;
    }
    if (!await(stack, patience_ns)) {
        return 0;
    }
    uint32_t count = stack->count - stack->first;
    count = count < max ? count : max;
    memcpy(ret_frames, &stack->frames[stack->first], count * sizeof ret_frames[0]);
    __atomic_store_n(&stack->state, IDLE, __ATOMIC_RELAXED);
    return count;
}
