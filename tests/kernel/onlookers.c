/* SPDX-License-Identifier: MIT */
/*
 * onlookers.c BACKEND [SECONDS [SOCKET]]: two busy loops, and all who may look at loops from other
 * threads, at once: a thread that takes snapshots, inspects and dumps traces, a watchdog, and a
 * client of their endpoint. Under ThreadSanitizer that nobody races; and that what is seen adds up.
 * With SOCKET the endpoint stands there, for weir-top to look on as well.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LOOPS = 2, OPS = 24, KINDS = 5 };

struct busy {
    const char *name;
    enum weir_policy policy;
    struct weir_loop *loop;
    struct weir_task *tasks[2];
    struct item {
        struct weir_op op;
        char byte;
        unsigned step;
    } items[OPS];
    struct post {
        struct weir_op op;
        uint32_t out; /* atomic: the op is the engine's */
    } posts[4];       /* by the other loop's thread */
    struct busy *other;
    int pipe_fds[2];
    unsigned changes;
    pthread_t thread;
};

static struct busy busies[LOOPS] = {{.name = "one"}, {.name = "two"}};
static struct weir_endpoint *endpoint;
static struct weir_watchdog *watchdog;
static pthread_barrier_t begin; /* everybody */
static pthread_barrier_t end;   /* the loops, and main when nobody looks any more */
static uint32_t over;           /* atomic */
static char socket_path[100];

static bool is_over(void)
{
    return __atomic_load_n(&over, __ATOMIC_ACQUIRE) != 0;
}

/* --- the loops -------------------------------------------------------------------------------- */

static void go_on(struct weir_op *op);

static int64_t call(void *argument)
{
    return (int64_t)(uintptr_t)argument % 7;
}

/* A task that comes and goes, and one that is reset: places that readers look at meanwhile. */
static void change_tasks(struct busy *busy)
{
    struct weir_task_options options = {.name = busy->changes % 2 ? "now this" : "now that",
                                        .backtrace_every = 3};
    CHECK_EQUAL(weir_task_reset(busy->tasks[0]), 0);
    if (weir_task_close(busy->tasks[1]) == 0) {
        CHECK_EQUAL(weir_task_open(busy->loop, &options, &busy->tasks[1]), 0);
    }
    busy->changes++;
}

static void on_post(struct weir_op *op)
{
    struct post *post = WEIR_CONTAINER(op, struct post, op);
    __atomic_store_n(&post->out, 0, __ATOMIC_RELEASE);
}

static void post_to_other(struct busy *busy)
{
    struct busy *other = busy->other;
    for (size_t i = 0; i < sizeof other->posts / sizeof *other->posts; i++) {
        struct post *post = &other->posts[i];
        if (!__atomic_load_n(&post->out, __ATOMIC_ACQUIRE)) {
            __atomic_store_n(&post->out, 1, __ATOMIC_RELAXED);
            post->op.callback = on_post;
            weir_op_nop(&post->op);
            CHECK_EQUAL(weir_loop_post(other->loop, &post->op), 0);
            return;
        }
    }
}

static void submit_next(struct busy *busy, struct item *item)
{
    struct weir_op *op = &item->op;
    op->callback = go_on;
    op->task = item->step % 3 == 0 ? busy->tasks[0] : item->step % 3 == 1 ? busy->tasks[1] : NULL;
    switch (item->step++ % KINDS) {
    case 0:
        weir_op_nop(op);
        break;
    case 1:
        weir_op_timeout_in(op, busy->loop, 1000);
        break;
    case 2:
        weir_op_call(op, call, item);
        break;
    case 3:
        weir_op_write(op, busy->pipe_fds[1], "x", 1, WEIR_CURRENT);
        break;
    default:
        weir_op_read(op, busy->pipe_fds[0], &item->byte, 1, WEIR_CURRENT);
        break;
    }
    CHECK_EQUAL(weir_submit(busy->loop, op), 0);
}

static void go_on(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct busy *busy = weir_loop_user(op->loop);
    if (is_over()) { /* the other loop may be closed by now, if this one is being closed */
        return;
    }
    if (item == &busy->items[0] && item->step % 64 == 0) {
        change_tasks(busy);
        post_to_other(busy);
    }
    submit_next(busy, item);
}

static void *run(void *argument)
{
    struct busy *busy = argument;
    struct weir_options options = {
        .policy = busy->policy,
        .flags = WEIR_INSPECTABLE,
        .depth = OPS * 2,
        .timers_max = OPS,
        .offload_workers = 2,
        .recorder_events = 4096,
        .user = busy,
    };
    CHECK_EQUAL(pipe2(busy->pipe_fds, O_CLOEXEC), 0);
    CHECK_EQUAL(weir_loop_open(&options, &busy->loop), 0);
    for (int i = 0; i < 2; i++) {
        struct weir_task_options task = {.name = i == 0 ? "reset" : "reopened"};
        CHECK_EQUAL(weir_task_open(busy->loop, &task, &busy->tasks[i]), 0);
    }
    CHECK_EQUAL(weir_watchdog_watch(watchdog, busy->loop, busy->name), 0);
    CHECK_EQUAL(weir_endpoint_add(endpoint, busy->loop, busy->name), 0);
    pthread_barrier_wait(&begin);
    for (unsigned i = 0; i < OPS; i++) {
        busy->items[i].step = i; /* as many write as read */
        submit_next(busy, &busy->items[i]);
    }
    while (!is_over()) {
        CHECK(weir_loop_turn(busy->loop, 1000000) >= 0);
    }
    pthread_barrier_wait(&end);
    CHECK_EQUAL(weir_loop_close(busy->loop, 20 * WEIR_S, NULL), 0);
    return NULL;
}

/* --- who looks -------------------------------------------------------------------------------- */

static int count_bytes(void *context, const char *text, size_t size)
{
    (void)text;
    *(uint64_t *)context += size;
    return 0;
}

static void check_row(const struct weir_snapshot_task *row)
{
    const struct weir_task_counters *counters = &row->counters;
    CHECK(counters->live <= OPS * 4);
    CHECK(row->task[0] != '\0');
    CHECK(counters->failed + counters->cancelled + counters->expired <= counters->finished);
}

static void look_at(struct weir_snapshot *snapshot, uint64_t *written)
{
    static struct weir_live list[OPS * 4];
    const struct weir_snapshot_task *row;
    weir_snapshot_clear(snapshot);
    for (int i = 0; i < LOOPS; i++) {
        CHECK_EQUAL(weir_snapshot_add(snapshot, busies[i].loop, busies[i].name), 0);
        int64_t live = weir_loop_inspect(busies[i].loop, list, sizeof list / sizeof *list);
        CHECK(live >= 0 && live <= OPS * 3);
        for (int64_t j = 0; j < live; j++) {
            CHECK(list[j].kind != NULL && list[j].flight_ns <= list[j].age_ns);
        }
        CHECK_EQUAL(weir_loop_trace(busies[i].loop, count_bytes, written), 0);
    }
    for (uint32_t i = 0; (row = weir_snapshot_task_at(snapshot, i)) != NULL; i++) {
        check_row(row);
    }
    for (int format = WEIR_FORMAT_PROMETHEUS; format <= WEIR_FORMAT_JSON; format++) {
        CHECK_EQUAL(weir_snapshot_write(snapshot, (enum weir_format)format, count_bytes, written),
                    0);
    }
}

static void *look(void *argument)
{
    struct weir_snapshot *snapshot = NULL;
    uint64_t written = 0;
    unsigned looks = 0;
    (void)argument;
    CHECK_EQUAL(weir_snapshot_open(0, 0, &snapshot), 0);
    pthread_barrier_wait(&begin);
    do {
        look_at(snapshot, &written);
        looks++;
    } while (!is_over());
    weir_snapshot_close(snapshot);
    printf("%u looks, %llu bytes of metrics, JSON and traces\n", looks,
           (unsigned long long)written);
    return NULL;
}

/* One request; the bytes of the answer. */
static size_t ask(const char *what)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[4096];
    size_t size = 0;
    ssize_t got;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK(dprintf(fd, "GET %s HTTP/1.0\r\n\r\n", what) > 0);
    while ((got = read(fd, answer, sizeof answer)) > 0) {
        CHECK(size > 0 || (got > 12 && memcmp(answer, "HTTP/1.0 200", 12) == 0));
        size += (size_t)got;
    }
    CHECK_EQUAL(got, 0);
    close(fd);
    return size;
}

static void *ask_endpoint(void *argument)
{
    static const char *const pages[] = {"/metrics", "/json", "/trace?loop=one"};
    size_t largest[3] = {0};
    unsigned asked = 0;
    (void)argument;
    pthread_barrier_wait(&begin);
    do {
        size_t size = ask(pages[asked % 3]);
        CHECK(size > 200); /* a head and a frame: of a trace all may be overwritten meanwhile */
        largest[asked % 3] = size > largest[asked % 3] ? size : largest[asked % 3];
        asked++;
    } while (!is_over());
    for (int i = 0; i < 3; i++) {
        printf("%s: %zu bytes at most\n", pages[i], largest[i]);
        CHECK(asked < 3 || largest[i] > 500);
    }
    printf("%u pages\n", asked);
    return NULL;
}

static void ignore_stall(void *context, const struct weir_stall *stall)
{
    (void)context;
    CHECK(stall->loop != NULL);
}

int main(int argc, char **argv)
{
    bool is_long = getenv("WEIR_LONG") != NULL;
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : is_long ? 30 : 3;
    const struct weir_watchdog_options watch = {
        .callback = ignore_stall, .threshold_ns = WEIR_MS, .slow_op_ns = WEIR_MS};
    CHECK(argc > 1 && (strcmp(argv[1], "io_uring") == 0 || strcmp(argv[1], "epoll") == 0));
    check_guard(seconds + 200);
    if (argc > 3) {
        snprintf(socket_path, sizeof socket_path, "%s", argv[3]);
    } else {
        snprintf(socket_path, sizeof socket_path, "onlookers.%s.sock", argv[1]);
    }
    struct weir_endpoint_options show = {.path = socket_path};
    CHECK_EQUAL(weir_endpoint_open(&show, &endpoint), 0);
    CHECK_EQUAL(weir_watchdog_open(&watch, &watchdog), 0);
    CHECK_EQUAL(pthread_barrier_init(&begin, NULL, LOOPS + 3), 0);
    CHECK_EQUAL(pthread_barrier_init(&end, NULL, LOOPS + 1), 0);
    for (int i = 0; i < LOOPS; i++) {
        busies[i].policy = strcmp(argv[1], "epoll") == 0 ? WEIR_EPOLL : WEIR_IO_URING;
        busies[i].other = &busies[(i + 1) % LOOPS];
        CHECK_EQUAL(pthread_create(&busies[i].thread, NULL, run, &busies[i]), 0);
    }
    pthread_t lookers[2];
    CHECK_EQUAL(pthread_create(&lookers[0], NULL, look, NULL), 0);
    CHECK_EQUAL(pthread_create(&lookers[1], NULL, ask_endpoint, NULL), 0);
    pthread_barrier_wait(&begin);
    sleep(seconds);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        pthread_join(lookers[i], NULL);
    }
    pthread_barrier_wait(&end);
    for (int i = 0; i < LOOPS; i++) {
        pthread_join(busies[i].thread, NULL);
    }
    CHECK_EQUAL(weir_endpoint_close(endpoint), 0);
    CHECK_EQUAL(weir_watchdog_close(watchdog), 0);
    return 0;
}
