/* SPDX-License-Identifier: MIT */
/* work.c: posts, calls and threads of the contract's tests. See seam.h. */
#include "seam.h"

#include <dirent.h>

static uint64_t begun_in_all; /* by workers */

int seam_post(struct weir_loop *loop, struct tracked *tracked, const char *site)
{
    tracked->op.callback = seam_called;
    int result = weir_loop_post_at(loop, &tracked->op, site);
    if (seam_simulates()) {
        seam_backend.simulated->pause();
    }
    return result;
}

struct weir_counters seam_counters(struct weir_loop *loop)
{
    struct weir_counters counters = {0};
    expect_equal(weir_loop_counters(loop, &counters), 0);
    return counters;
}

void seam_work_reset(void)
{
    __atomic_store_n(&begun_in_all, 0, __ATOMIC_RELAXED);
}

static void begin(struct seam_work *work)
{
    work->order = __atomic_add_fetch(&begun_in_all, 1, __ATOMIC_RELAXED);
    work->thread = pthread_self();
    /* Release: pairs with seam_begun(). */
    __atomic_add_fetch(&work->begun, 1, __ATOMIC_RELEASE);
}

bool seam_work_may_end(struct seam_work *work)
{
    if (!work->inside) {
        work->inside = true;
        begin(work);
    }
    return !(work->blocks && sem_trywait(&work->leave) != 0) &&
           !(work->until_asked && !weir_op_asked(&work->call.op));
}

int64_t seam_work_do(void *context)
{
    struct seam_work *work = context;
    if (work->inside) { /* and may end */
        work->inside = false;
    } else {
        begin(work);
        while (work->blocks && sem_wait(&work->leave) != 0) {
        }
        while (work->until_asked && !weir_op_asked(&work->call.op)) {
            usleep(100);
        }
    }
    if (work->linger_us > 0) {
        usleep(work->linger_us);
    }
    __atomic_add_fetch(&work->ended, 1, __ATOMIC_RELEASE);
    return work->value;
}

void seam_work_fill(struct seam_work *work, int64_t value)
{
    memset(work, 0, sizeof *work);
    work->value = value;
    expect_equal(sem_init(&work->leave, 0, 0), 0);
    weir_op_call(&work->call.op, seam_work_do, work);
}

void seam_block(struct weir_loop *loop, struct seam_work *work)
{
    seam_work_fill(work, 0);
    work->blocks = true;
    seam_submit(loop, &work->call);
    seam_await_begun(loop, work);
}

void seam_await_begun(struct weir_loop *loop, const struct seam_work *work)
{
    while (seam_begun(work) == 0) {
        expect(seam_turn(loop, 100 * WEIR_US) >= 0);
    }
}

void seam_unblock(struct seam_work *work)
{
    expect_equal(sem_post(&work->leave), 0);
}

unsigned seam_begun(const struct seam_work *work)
{
    return __atomic_load_n(&work->begun, __ATOMIC_ACQUIRE);
}

bool seam_by_worker(const struct seam_work *work)
{
    return seam_simulates() || !pthread_equal(work->thread, pthread_self());
}

void seam_in_thread(void *(*body)(void *context), void *context)
{
    pthread_t thread;
    expect_equal((pthread_create)(&thread, NULL, body, context), 0);
    expect_equal((pthread_join)(thread, NULL), 0);
}

/* The kernel's own, io_uring's workers, are not meant. */
static bool is_ours(const char *id)
{
    char path[64];
    char name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", id);
    FILE *comm = fopen(path, "re");
    if (comm == NULL) {
        return false; /* just ended */
    }
    bool named = fgets(name, sizeof name, comm) != NULL;
    fclose(comm);
    return named && strncmp(name, "iou-", 4) != 0;
}

static void *note_id(void *context)
{
    *(pid_t *)context = gettid();
    return NULL;
}

/* A sanitizer starts a thread of its own beside the first; and one that was joined is seen for a
 * moment longer. */
static void make_the_first_thread(void)
{
    pid_t id = 0;
    char path[64];
    seam_in_thread(note_id, &id);
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)id);
    while (access(path, F_OK) == 0) {
        (usleep)(200);
    }
}

int seam_threads(void)
{
    static bool began;
    if (!began) {
        began = true;
        make_the_first_thread();
    }
    DIR *dir = opendir("/proc/self/task");
    expect(dir != NULL);
    int count = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.' && is_ours(entry->d_name);
    }
    closedir(dir);
    return count;
}

int seam_threads_of(int workers)
{
    return seam_simulates() ? 0 : workers;
}

/* Seen twice: while threads end, a look may pass over one that is there. */
void seam_await_threads(int want)
{
    for (int seen = 0; seen < 2; (usleep)(200)) {
        seen = seam_threads() == want ? seen + 1 : 0;
    }
}

/* --- blocking or not ------------------------------------------------------------------------- */

void seam_expect_turning(struct weir_loop *loop)
{
    struct tracked timer = {0};
    weir_op_timeout_in(&timer.op, loop, WEIR_MS);
    expect_equal(seam_carry_out(loop, &timer), 0);
}

void seam_with_both(void (*body)(struct weir_loop *loop, bool blocking))
{
    for (int blocking = 0; blocking < 2; blocking++) {
        struct weir_loop *loop = seam_loop();
        body(loop, blocking == 1);
        seam_end(loop);
    }
}

int seam_pipe_flags(bool blocking)
{
    return blocking ? 0 : O_NONBLOCK;
}

int seam_socket_flags(bool blocking)
{
    return blocking ? 0 : SOCK_NONBLOCK;
}

void seam_forget_pair(struct weir_loop *loop, struct seam_pair *pair)
{
    expect_equal(weir_forget(loop, pair->in), 0);
    expect_equal(weir_forget(loop, pair->out), 0);
    seam_pair_close(pair);
}
