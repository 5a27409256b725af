/* SPDX-License-Identifier: MIT */
/*
 * watchdog.c: opens and closes a watchdog, and has loops watched.
 */
#include <engine/base/clock.h>
#include <engine/base/signals.h>
#include <engine/observe/watchdog.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THRESHOLD_NS 100000000ULL
#define THRESHOLD_LEAST_NS 1000000ULL
#define THRESHOLD_MOST_NS 3600000000000ULL
#define INTERVAL_LEAST_NS 1000000ULL
#define INTERVAL_SLOW_NS 100000000ULL /* at most, where slow ops are looked for */
#define LOOKS 4                       /* a threshold */
#define SLOW_FACTOR 10
#define REPORTS_A_MINUTE 60

/* By number and not by a wiped page, as loops do it: these calls are rare enough for a system
 * call. */
static bool forked(const struct weir_watchdog *watchdog)
{
    return watchdog->process != getpid();
}

/* --- its thread ------------------------------------------------------------------------------- */

static struct timespec time_at(uint64_t at_ns)
{
    return (struct timespec){(time_t)(at_ns / 1000000000ULL), (long)(at_ns % 1000000000ULL)};
}

/* Nothing is told with the mutex held: a callback may take its time. */
static void tell(struct weir_watchdog *watchdog)
{
    pthread_mutex_unlock(&watchdog->mutex);
    weir_watchdog_tell(watchdog);
    pthread_mutex_lock(&watchdog->mutex);
}

static void *watch_over(void *context)
{
    struct weir_watchdog *watchdog = context;
    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->ending) {
        if (!watchdog->watches) {
            pthread_cond_wait(&watchdog->changed, &watchdog->mutex);
            continue;
        }
        struct timespec next = time_at(weir_clock_monotonic() + watchdog->interval_ns);
        weir_watchdog_look(watchdog);
        if (weir_watchdog_is_full(watchdog)) { /* there may be more to tell */
            tell(watchdog);
            continue;
        }
        if (watchdog->report_count > 0) {
            tell(watchdog);
        }
        if (!watchdog->ending) {
            pthread_cond_timedwait(&watchdog->changed, &watchdog->mutex, &next);
        }
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return NULL;
}

/* --- open and close --------------------------------------------------------------------------- */

static uint64_t interval_of(const struct weir_watchdog_options *options)
{
    uint64_t interval_ns = options->threshold_ns / LOOKS;
    if (options->slow_op_ns != 0 && interval_ns > INTERVAL_SLOW_NS) {
        interval_ns = INTERVAL_SLOW_NS;
    }
    return interval_ns > INTERVAL_LEAST_NS ? interval_ns : INTERVAL_LEAST_NS;
}

/* False: a threshold out of its range. */
static bool set_options(struct weir_watchdog *watchdog, const struct weir_watchdog_options *from)
{
    struct weir_watchdog_options *options = &watchdog->options;
    *options = *from;
    options->threshold_ns = from->threshold_ns ? from->threshold_ns : THRESHOLD_NS;
    options->slow_factor = from->slow_factor ? from->slow_factor : SLOW_FACTOR;
    options->reports_a_minute = from->reports_a_minute ? from->reports_a_minute : REPORTS_A_MINUTE;
    options->signal = from->signal ? from->signal : SIGURG;
    watchdog->interval_ns = interval_of(options);
    return options->threshold_ns >= THRESHOLD_LEAST_NS &&
           options->threshold_ns <= THRESHOLD_MOST_NS;
}

/* Signals are for the other threads. */
static int start(struct weir_watchdog *watchdog)
{
    sigset_t former;
    weir_signals_block(&former);
    int error = pthread_create(&watchdog->thread, NULL, watch_over, watchdog);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (error == 0) {
        pthread_setname_np(watchdog->thread, "weir-watchdog");
    }
    return -error;
}

static void init_locks(struct weir_watchdog *watchdog)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watchdog->mutex, NULL);
}

static int install(struct weir_watchdog *watchdog)
{
    const struct weir_watchdog_options *options = &watchdog->options;
    return options->no_stacks ? 0 : weir_stack_install(options->signal, &watchdog->former);
}

static void free_watchdog(struct weir_watchdog *watchdog, bool installed)
{
    if (installed && !watchdog->options.no_stacks) {
        weir_stack_remove(watchdog->options.signal, &watchdog->former);
    }
    pthread_cond_destroy(&watchdog->changed);
    pthread_mutex_destroy(&watchdog->mutex);
    free(watchdog);
}

int weir_watchdog_open(const struct weir_watchdog_options *options,
                       struct weir_watchdog **ret_watchdog)
{
    if (!options || !options->callback || !ret_watchdog) {
        return -EINVAL;
    }
    struct weir_watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (!watchdog) {
        return -ENOMEM;
    }
    watchdog->process = getpid();
    init_locks(watchdog);
    int r = set_options(watchdog, options) ? install(watchdog) : -EINVAL;
    if (r < 0) {
        free_watchdog(watchdog, false);
        return r;
    }
    r = start(watchdog);
    if (r < 0) {
        free_watchdog(watchdog, true);
        return r;
    }
    *ret_watchdog = watchdog;
    return 0;
}

/* The child's thread is not there, but its signal is: the child may open a watchdog of its own. */
static int leave_child(struct weir_watchdog *watchdog)
{
    if (!watchdog->options.no_stacks) {
        weir_stack_remove(watchdog->options.signal, &watchdog->former);
        watchdog->options.no_stacks = 1; /* once: a later handler is another watchdog's */
    }
    return -ECHILD;
}

int weir_watchdog_close(struct weir_watchdog *watchdog)
{
    if (!watchdog) {
        return 0;
    }
    if (forked(watchdog)) {
        return leave_child(watchdog);
    }
    if (pthread_equal(pthread_self(), watchdog->thread)) {
        return -EDEADLK;
    }
    pthread_mutex_lock(&watchdog->mutex);
    bool busy = watchdog->watches != NULL;
    watchdog->ending = !busy;
    pthread_cond_signal(&watchdog->changed);
    pthread_mutex_unlock(&watchdog->mutex);
    if (busy) {
        return -EBUSY;
    }
    pthread_join(watchdog->thread, NULL);
    free_watchdog(watchdog, true);
    return 0;
}

/* --- watching --------------------------------------------------------------------------------- */

static void free_watch(struct weir_watch *watch)
{
    weir_stack_close(watch->stack);
    free(watch->marks);
    free(watch);
}

/* From then on it is not looked at. The loop's thread. */
static void leave(struct weir_watch *watch)
{
    struct weir_watchdog *watchdog = watch->watchdog;
    pthread_mutex_lock(&watchdog->mutex);
    struct weir_watch **at = &watchdog->watches;
    while (*at != watch) {
        at = &(*at)->next;
    }
    *at = watch->next;
    pthread_mutex_unlock(&watchdog->mutex);
    __atomic_store_n(&watch->pulse->kept, false, __ATOMIC_RELAXED);
    free_watch(watch);
}

static void detached(struct weir_attachment *attachment)
{
    struct weir_watch *watch = WEIR_CONTAINER(attachment, struct weir_watch, attachment);
    leave(watch);
}

/* Not attached yet, nor looked at. NULL: no memory. */
static struct weir_watch *make_watch(struct weir_watchdog *watchdog, struct weir_loop *loop,
                                     const char *name)
{
    struct weir_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        return NULL;
    }
    watch->attachment.detached = detached;
    watch->watchdog = watchdog;
    watch->loop = loop;
    watch->pulse = weir_loop_pulse(loop);
    watch->credit_ns = 60000000000ULL;
    weir_stalling_init(&watch->stalling, watchdog->options.threshold_ns, watchdog->interval_ns);
    memcpy(watch->name, name, strlen(name)); /* of zeroes */
    watch->stack = weir_stack_open();
    watch->mark_count = watchdog->options.slow_op_ns != 0 ? weir_loop_places(loop) : 0;
    if (watch->mark_count > 0) {
        watch->marks = calloc(watch->mark_count, sizeof watch->marks[0]);
    }
    if (!watch->stack || (watch->mark_count > 0 && !watch->marks)) {
        free_watch(watch);
        return NULL;
    }
    return watch;
}

/* What an earlier watch has left there is not of now. */
static void begin_pulse(struct weir_pulse *pulse)
{
    pulse->thread = gettid();
    pulse->begun_ns = 0;
    pulse->asleep_ns = 0;
    __atomic_store_n(&pulse->kept, true, __ATOMIC_RELAXED);
    weir_pulse_beat(pulse, &(struct weir_beat){.phase = WEIR_PHASE_OUTSIDE,
                                               .since_ns = weir_clock_monotonic()});
}

int weir_watchdog_watch(struct weir_watchdog *watchdog, struct weir_loop *loop, const char *name)
{
    if (!watchdog || !loop || !name || !name[0]) {
        return -EINVAL;
    }
    if (strlen(name) > WEIR_TASK_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (forked(watchdog)) {
        return -ECHILD;
    }
    struct weir_watch *watch = make_watch(watchdog, loop, name);
    if (!watch) {
        return -ENOMEM;
    }
    int r = weir_loop_attach(loop, &watch->attachment);
    if (r == 0 && watch->pulse->kept) { /* of this thread's, so not to be asked before */
        weir_loop_detach(loop, &watch->attachment);
        r = -EBUSY;
    }
    if (r < 0) {
        free_watch(watch);
        return r;
    }
    begin_pulse(watch->pulse);
    pthread_mutex_lock(&watchdog->mutex);
    watch->earned_ns = weir_clock_monotonic();
    watch->next = watchdog->watches;
    watchdog->watches = watch;
    pthread_cond_signal(&watchdog->changed);
    pthread_mutex_unlock(&watchdog->mutex);
    return 0;
}

/* Watches come and go in many threads; this loop's only in this one. */
static struct weir_watch *watch_of(struct weir_watchdog *watchdog, const struct weir_loop *loop)
{
    pthread_mutex_lock(&watchdog->mutex);
    struct weir_watch *watch = watchdog->watches;
    while (watch && watch->loop != loop) {
        watch = watch->next;
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return watch;
}

int weir_watchdog_unwatch(struct weir_watchdog *watchdog, struct weir_loop *loop)
{
    if (!watchdog || !loop) {
        return -EINVAL;
    }
    if (forked(watchdog)) {
        return -ECHILD;
    }
    struct weir_watch *watch = watch_of(watchdog, loop);
    struct weir_attachment none = {0};
    int r = weir_loop_detach(loop, watch ? &watch->attachment : &none);
    if (r == 0 && watch) {
        leave(watch);
    }
    return r;
}

/* --- numbers ---------------------------------------------------------------------------------- */

int weir_watchdog_read_counters(const struct weir_watchdog *watchdog,
                                struct weir_watchdog_counters *ret_counters)
{
    if (!watchdog || !ret_counters) {
        return -EINVAL;
    }
    if (forked(watchdog)) {
        return -ECHILD;
    }
    const struct weir_watchdog_counters *from = &watchdog->counters;
    for (unsigned i = 0; i < WEIR_STALL_CAUSE_COUNT; i++) {
        ret_counters->stalls[i] = weir_relaxed_load(&from->stalls[i]);
        ret_counters->longest_ns[i] = weir_relaxed_load(&from->longest_ns[i]);
    }
    ret_counters->slow_ops = weir_relaxed_load(&from->slow_ops);
    ret_counters->reports = weir_relaxed_load(&from->reports);
    ret_counters->left_out = weir_relaxed_load(&from->left_out);
    return 0;
}

int weir_loop_times(const struct weir_loop *loop, struct weir_histogram *ret_turns,
                    struct weir_histogram *ret_callbacks)
{
    struct weir_look look;
    int r = weir_loop_look(loop, &look);
    if (r < 0) {
        return r;
    }
    if (ret_turns) {
        weir_histogram_copy(ret_turns, look.turns);
    }
    if (ret_callbacks) {
        weir_histogram_copy(ret_callbacks, look.callbacks);
    }
    return 0;
}
