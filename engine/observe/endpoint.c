/* SPDX-License-Identifier: MIT */
#include <engine/base/signals.h>
#include <engine/observe/endpoint.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOOPS_DEFAULT 16 /* as of weir_snapshot_open(), and its most */
#define LOOPS_MAX 65536
#define MODE_DEFAULT 0600
#define STACK_SIZE (512 * 1024)

/* --- looking ---------------------------------------------------------------------------------- */

const struct weir_shown *weir_endpoint_look(struct weir_endpoint *endpoint, uint32_t index)
{
    const struct weir_shown *shown = &endpoint->shown[index];
    pthread_mutex_lock(&endpoint->mutex);
    endpoint->looking = shown->loop ? shown : NULL;
    shown = endpoint->looking;
    pthread_mutex_unlock(&endpoint->mutex);
    return shown;
}

void weir_endpoint_look_away(struct weir_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->mutex);
    endpoint->looking = NULL;
    pthread_cond_broadcast(&endpoint->looked);
    pthread_mutex_unlock(&endpoint->mutex);
}

/* With the mutex, which is given away while it waits: so a loop waits for nobody who looks at
 * another one. */
static void take_out(struct weir_endpoint *endpoint, struct weir_shown *shown)
{
    while (endpoint->looking == shown) {
        pthread_cond_wait(&endpoint->looked, &endpoint->mutex);
    }
    shown->loop = NULL;
}

static void on_detached(struct weir_attachment *attachment)
{
    struct weir_shown *shown = WEIR_CONTAINER(attachment, struct weir_shown, attachment);
    struct weir_endpoint *endpoint = shown->endpoint;
    if (weir_guard_forked(endpoint->guard)) {
        return; /* who held the mutex is not here to give it back */
    }
    pthread_mutex_lock(&endpoint->mutex);
    take_out(endpoint, shown);
    pthread_mutex_unlock(&endpoint->mutex);
}

/* --- the table -------------------------------------------------------------------------------- */

/* With the mutex. NULL: it is not there. */
static struct weir_shown *find(struct weir_endpoint *endpoint, const struct weir_loop *loop)
{
    for (uint32_t i = 0; i < endpoint->shown_max; i++) {
        if (endpoint->shown[i].loop == loop) {
            return &endpoint->shown[i];
        }
    }
    return NULL;
}

static bool is_taken(const struct weir_endpoint *endpoint, const char *label)
{
    for (uint32_t i = 0; i < endpoint->shown_max; i++) {
        if (endpoint->shown[i].loop && strcmp(endpoint->shown[i].label, label) == 0) {
            return true;
        }
    }
    return false;
}

/* With the mutex. */
static int put_in(struct weir_endpoint *endpoint, struct weir_loop *loop, const char *label)
{
    int64_t live = weir_loop_live(loop); /* a wrong thread is told that first */
    if (live < 0) {
        return (int)live;
    }
    if (find(endpoint, loop) || is_taken(endpoint, label)) {
        return -EEXIST;
    }
    struct weir_shown *free_place = find(endpoint, NULL);
    if (!free_place) {
        return -ENOSPC;
    }
    free_place->attachment = (struct weir_attachment){.detached = on_detached};
    free_place->endpoint = endpoint;
    int r = weir_loop_attach(loop, &free_place->attachment);
    if (r == 0) {
        memcpy(free_place->label, label, strlen(label) + 1);
        free_place->loop = loop;
    }
    return r;
}

int weir_endpoint_add(struct weir_endpoint *endpoint, struct weir_loop *loop, const char *label)
{
    if (!endpoint || !loop || !label || !label[0]) {
        return -EINVAL;
    }
    if (strlen(label) > WEIR_LABEL_MAX) {
        return -ENAMETOOLONG;
    }
    if (weir_guard_forked(endpoint->guard)) {
        return -ECHILD;
    }
    pthread_mutex_lock(&endpoint->mutex);
    int r = put_in(endpoint, loop, label);
    pthread_mutex_unlock(&endpoint->mutex);
    return r;
}

int weir_endpoint_remove(struct weir_endpoint *endpoint, struct weir_loop *loop)
{
    if (!endpoint || !loop) {
        return -EINVAL;
    }
    if (weir_guard_forked(endpoint->guard)) {
        return -ECHILD;
    }
    pthread_mutex_lock(&endpoint->mutex);
    struct weir_shown *shown = find(endpoint, loop);
    int r = shown ? weir_loop_detach(loop, &shown->attachment) : -ENOENT;
    if (r == 0) {
        take_out(endpoint, shown);
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return r;
}

/* --- open and close --------------------------------------------------------------------------- */

static void *serve(void *argument)
{
    struct weir_endpoint *endpoint = argument;
    pthread_setname_np(pthread_self(), "weir-endpoint");
    weir_http_serve(&endpoint->http, endpoint->end);
    return NULL;
}

/* Signals are for the program's own threads: the new one inherits that all are blocked. */
static int start_thread(struct weir_endpoint *endpoint)
{
    pthread_attr_t attributes;
    sigset_t old;
    int r = -pthread_attr_init(&attributes);
    if (r < 0) {
        return r;
    }
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    weir_signals_block(&old);
    r = -pthread_create(&endpoint->thread, &attributes, serve, endpoint);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    endpoint->runs = r == 0;
    return r;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* A page of its own, zero in children. NULL: no memory. */
static struct weir_guard *map_guard(void)
{
    void *page =
        mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    if (madvise(page, page_size(), MADV_WIPEONFORK) < 0) {
        munmap(page, page_size());
        return NULL;
    }
    weir_guard_set(page, &weir_thread_nobody);
    return page;
}

/* All that answers need, so that they can be had also when memory is short; touched as it is
 * used. */
static int take_memory(struct weir_endpoint *endpoint, const struct weir_endpoint_options *options)
{
    uint32_t tasks_max = options->tasks_max;
    endpoint->guard = map_guard();
    endpoint->shown_max = options->loops_max ? options->loops_max : LOOPS_DEFAULT;
    endpoint->shown = calloc(endpoint->shown_max, sizeof *endpoint->shown);
    endpoint->found = calloc(WEIR_ENDPOINT_OPS_MAX, sizeof *endpoint->found);
    endpoint->ops = calloc(2 * WEIR_ENDPOINT_OPS_MAX, sizeof *endpoint->ops);
    if (!endpoint->guard || !endpoint->shown || !endpoint->found || !endpoint->ops) {
        return -ENOMEM;
    }
    int r = weir_snapshot_open(tasks_max, endpoint->shown_max, &endpoint->now);
    r = r < 0 ? r : weir_snapshot_open(tasks_max, endpoint->shown_max, &endpoint->earlier);
    return r < 0 ? r : weir_snapshot_open(tasks_max, endpoint->shown_max, &endpoint->interval);
}

/* Whatever of it is there. */
static void discard(struct weir_endpoint *endpoint)
{
    weir_address_close(&endpoint->address);
    if (endpoint->end >= 0) {
        close(endpoint->end);
    }
    weir_snapshot_close(endpoint->now);
    weir_snapshot_close(endpoint->earlier);
    weir_snapshot_close(endpoint->interval);
    pthread_cond_destroy(&endpoint->looked);
    pthread_mutex_destroy(&endpoint->mutex);
    if (endpoint->guard) {
        munmap(endpoint->guard, page_size());
    }
    free(endpoint->shown);
    free(endpoint->found);
    free(endpoint->ops);
    free(endpoint);
}

static int build(struct weir_endpoint *endpoint, const struct weir_endpoint_options *options)
{
    int r = take_memory(endpoint, options);
    if (r < 0) {
        return r;
    }
    endpoint->end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (endpoint->end < 0) {
        return -errno;
    }
    mode_t mode = options->mode ? options->mode : MODE_DEFAULT;
    r = weir_address_open(options->path, mode, &endpoint->address);
    if (r < 0) {
        return r;
    }
    weir_http_init(&endpoint->http, endpoint->address.listener, weir_endpoint_answer, endpoint);
    return start_thread(endpoint);
}

int weir_endpoint_open(const struct weir_endpoint_options *options,
                       struct weir_endpoint **ret_endpoint)
{
    if (!options || !ret_endpoint || !options->path || !options->path[0] ||
        (options->mode & ~0777U) || options->loops_max > LOOPS_MAX) {
        return -EINVAL;
    }
    struct weir_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint) {
        return -ENOMEM;
    }
    endpoint->end = -1;
    endpoint->address = (struct weir_address){.listener = -1, .folder = -1};
    pthread_mutex_init(&endpoint->mutex, NULL);
    pthread_cond_init(&endpoint->looked, NULL);
    int r = build(endpoint, options);
    if (r < 0) {
        discard(endpoint);
        return r;
    }
    *ret_endpoint = endpoint;
    return 0;
}

static bool shows_any(struct weir_endpoint *endpoint)
{
    bool any = false;
    pthread_mutex_lock(&endpoint->mutex);
    for (uint32_t i = 0; i < endpoint->shown_max; i++) {
        any = any || endpoint->shown[i].loop;
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return any;
}

/* The listener above all: while a child has a copy, the socket looks alive when the parent is gone.
 * Memory stays: a lock in it may be held by a thread that is not here. */
static int close_forked(struct weir_endpoint *endpoint)
{
    weir_address_leave(&endpoint->address);
    if (endpoint->end >= 0) {
        close(endpoint->end);
    }
    endpoint->end = -1;
    return -ECHILD;
}

int weir_endpoint_close(struct weir_endpoint *endpoint)
{
    if (!endpoint) {
        return 0;
    }
    if (weir_guard_forked(endpoint->guard)) {
        return close_forked(endpoint);
    }
    if (shows_any(endpoint)) {
        return -EBUSY;
    }
    eventfd_write(endpoint->end, 1);
    pthread_join(endpoint->thread, NULL);
    discard(endpoint);
    return 0;
}
