/* SPDX-License-Identifier: MIT */
/*
 * engine/observe/recorder.h: a thread notes as fast as it can, another reads. Every word of an
 * event follows from the event's number, so that one that is torn, or stands at the wrong number,
 * shows.
 */
#include "told.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define EVENTS 1024u
#define OPS 61u /* prime to the ring: a place sees every op */
#define READS 2000
#define DUMPS 200

struct race {
    struct weir_recorder recorder;
    struct weir_guard guard;
    struct weir_tasks tasks;
    struct weir_op ops[OPS];
    int stop;
};

static uint64_t stamp_of(uint64_t number)
{
    return 1000 + number;
}

static int64_t value_of(uint64_t number)
{
    return (int64_t)(number * 0x9e3779b97f4a7c15ULL);
}

static uint32_t op_of(uint64_t number)
{
    return (uint32_t)(number / 4 % OPS);
}

static int32_t fd_of(uint64_t number)
{
    return (int32_t)(number * 7 & 0x7fffffff);
}

static enum weir_recorded what_of(uint64_t number)
{
    return (enum weir_recorded)(WEIR_RECORDED_SUBMITTED + number % 4);
}

static uint32_t task_of(uint64_t number)
{
    return (uint32_t)(number / 4 % (WEIR_KIND_COUNT - 1));
}

static void write_events(struct race *race, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t number = race->recorder.written;
        struct weir_op *op = &race->ops[op_of(number)];
        op->fd = fd_of(number);
        weir_recorder_note(&race->recorder, what_of(number), op, task_of(number), value_of(number),
                           stamp_of(number));
    }
}

static void *write_on(void *argument)
{
    struct race *race = argument;
    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        write_events(race, 64);
    }
    return NULL;
}

static void check_event(const struct race *race, const struct weir_record *record, uint64_t number)
{
    assert_true(record->at_ns == stamp_of(number));
    assert_true(record->op == (uint64_t)(uintptr_t)&race->ops[op_of(number)]);
    assert_true(record->value == (uint64_t)value_of(number));
    assert_true(weir_record_what(record) == what_of(number));
    assert_true(weir_record_kind(record) == WEIR_KIND_READ);
    assert_true(weir_record_task(record) == task_of(number));
    assert_true(weir_record_fd(record) == fd_of(number));
}

static uint64_t check_copy(const struct race *race, struct weir_record *records)
{
    uint64_t first;
    uint64_t count = weir_recorder_copy(&race->recorder, records, &first);
    assert_true(count < EVENTS);
    for (uint64_t i = 0; i < count; i++) {
        check_event(race, &records[i], first + i);
    }
    return count;
}

/* Begins to write; comes back when the ring is full. */
static pthread_t start_writer(struct race *race)
{
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_on, race), 0);
    while (__atomic_load_n(&race->recorder.written, __ATOMIC_RELAXED) < EVENTS) {
        sched_yield();
    }
    return writer;
}

static void *open_race(struct race *race, void **ret_ring)
{
    size_t size = WEIR_KIND_COUNT * sizeof(struct weir_task);
    void *memory = calloc(1, size);
    *ret_ring = calloc(1, weir_recorder_size(EVENTS));
    assert_true(memory && *ret_ring);
    memset(race, 0, sizeof *race);
    weir_tasks_init(&race->tasks, &race->guard, memory, size);
    weir_recorder_init(&race->recorder, EVENTS, *ret_ring);
    for (uint32_t i = 0; i < OPS; i++) {
        weir_op_read(&race->ops[i], 0, NULL, 0, 0);
    }
    return memory;
}

static void what_is_read_beside_a_writer_was_written_whole(void **state)
{
    (void)state;
    static struct race race;
    void *ring;
    void *memory = open_race(&race, &ring);
    struct weir_record *records = calloc(EVENTS, sizeof *records);
    assert_non_null(records);
    pthread_t writer = start_writer(&race);
    uint64_t read = 0;
    for (int i = 0; i < READS; i++) {
        read += check_copy(&race, records);
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    uint64_t written = race.recorder.written;
    print_message("%llu written, %llu read beside it\n", (unsigned long long)written,
                  (unsigned long long)read);
    assert_int_equal(check_copy(&race, records), EVENTS - 1);
    free(records);
    free(ring);
    free(memory);
}

/* A writer that writes on whenever the reader meets a page that it has not touched. */
static struct {
    struct race race;
    char *pages;
    size_t size;
    unsigned times;
    unsigned events; /* that it writes then */
} around;

static void go_around(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    char *at = info->si_addr;
    if (at < around.pages || at >= around.pages + around.size ||
        mprotect(around.pages, around.size, PROT_READ | PROT_WRITE) != 0) {
        abort();
    }
    around.times++;
    write_events(&around.race, around.events);
}

static void read_while_it_writes(unsigned events)
{
    void *ring;
    void *memory = open_race(&around.race, &ring);
    around.times = 0;
    around.events = events;
    around.size = EVENTS * sizeof(struct weir_record);
    around.pages = mmap(NULL, around.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(around.pages != MAP_FAILED);
    write_events(&around.race, 3 * EVENTS);
    uint64_t count = check_copy(&around.race, (struct weir_record *)(void *)around.pages);
    assert_int_equal(around.times, 1);
    /* If most are left it is content. */
    assert_int_equal(count, events < EVENTS / 2 ? EVENTS - 1 - events : EVENTS - 1);
    assert_int_equal(munmap(around.pages, around.size), 0);
    free(ring);
    free(memory);
}

static void a_reader_that_was_overtaken_reads_again(void **state)
{
    (void)state;
    struct sigaction go = {.sa_sigaction = go_around, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    assert_int_equal(sigaction(SIGSEGV, &go, &before), 0);
    read_while_it_writes(EVENTS);
    read_while_it_writes(EVENTS / 4 * 3);
    read_while_it_writes(EVENTS / 4);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
}

/* The stages of a life follow from its number too. */
static void check_dump(const struct told *told)
{
    for (size_t i = 0; i < told->count; i++) {
        const struct told_event *event = &told->events[i];
        if (event->phase != 'b' || strcmp(event->name, "read") != 0) {
            continue;
        }
        assert_int_equal(event->fd, fd_of(event->id));
        assert_int_equal(event->tid, task_of(event->id) + 1);
        uint64_t number = event->earlier ? told->lost : event->id;
        assert_true(told->begin_ns + event->ts_ns == stamp_of(number));
        assert_true(event->earlier == (event->id % 4 != 0));
    }
}

static void every_dump_beside_a_writer_is_whole(void **state)
{
    (void)state;
    static struct race race;
    void *ring;
    void *memory = open_race(&race, &ring);
    pthread_t writer = start_writer(&race);
    uint64_t told_events = 0;
    for (int i = 0; i < DUMPS; i++) {
        struct told told;
        told_dump(&told, &race.recorder, &race.tasks, 0);
        check_dump(&told);
        told_events += told.kept;
        told_free(&told);
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    print_message("%llu written, %llu dumped beside it\n",
                  (unsigned long long)race.recorder.written, (unsigned long long)told_events);
    free(ring);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_beside_a_writer_was_written_whole),
        cmocka_unit_test(every_dump_beside_a_writer_is_whole),
        cmocka_unit_test(a_reader_that_was_overtaken_reads_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
