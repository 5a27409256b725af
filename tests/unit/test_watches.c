/* SPDX-License-Identifier: MIT */
/* engine/backend/epoll_watch.h, on a real epoll set: found by fd, evicted when idle, asked once. */
#include "unit.h"

#include <engine/backend/epoll_watch.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT 8u
#define STEPS 20000

static struct weir_watches watches;
static struct weir_slots slots; /* none: a test that wants some makes them */
static void *memory;
static int set;

static int open_watches(void **state)
{
    (void)state;
    size_t size = (weir_watches_size(COUNT) + 63) / 64 * 64;
    memory = aligned_alloc(64, size);
    assert_non_null(memory);
    memset(memory, 0, size);
    set = epoll_create1(EPOLL_CLOEXEC);
    assert_true(set >= 0);
    weir_watches_init(&watches, COUNT, memory, set);
    return 0;
}

static int close_watches(void **state)
{
    (void)state;
    free(memory);
    close(set);
    return 0;
}

static int counter_fd(unsigned value)
{
    int fd = eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(fd >= 0);
    return fd;
}

/* The watch of the one event there is now, NULL: there is none. */
static struct weir_watch *next_event(uint32_t *ret_events)
{
    struct epoll_event event;
    if (epoll_wait(set, &event, 1, 0) != 1) {
        return NULL;
    }
    *ret_events = event.events;
    return weir_watches_of(&watches, event.data.u64);
}

static void a_watch_is_found_by_its_fd_until_it_is_dropped(void **state)
{
    (void)state;
    assert_null(weir_watches_find(&watches, 3));
    struct weir_watch *watch = weir_watches_take(&watches, &slots, 3);
    struct weir_watch *other = weir_watches_take(&watches, &slots, 3 + 16); /* of the same bucket */
    assert_ptr_equal(weir_watches_find(&watches, 3), watch);
    assert_ptr_equal(weir_watches_take(&watches, &slots, 3), watch);
    assert_ptr_equal(weir_watches_find(&watches, 3 + 16), other);
    weir_watches_drop(&watches, watch);
    assert_null(weir_watches_find(&watches, 3));
    assert_ptr_equal(weir_watches_find(&watches, 3 + 16), other);
}

static void a_full_table_evicts_what_nobody_waits_on(void **state)
{
    (void)state;
    struct weir_op ops[COUNT - 1];
    memset(ops, 0, sizeof ops);
    for (uint32_t fd = 0; fd < COUNT; fd++) {
        struct weir_watch *watch = weir_watches_take(&watches, &slots, (int)fd);
        if (fd != 5) {
            weir_queue_push(&watch->sides[fd % WEIR_SIDES], &ops[fd < 5 ? fd : fd - 1]);
        }
    }
    for (int fd = 100; fd < 120; fd++) {
        assert_int_equal(weir_watches_take(&watches, &slots, fd)->fd, fd);
    }
    for (int fd = 0; fd < (int)COUNT; fd++) {
        assert_true((weir_watches_find(&watches, fd) != NULL) == (fd != 5));
    }
}

static void a_full_table_keeps_what_an_op_with_a_worker_claims(void **state)
{
    (void)state;
    struct weir_op op = {.fd = -1};
    char task; /* never looked at */
    size_t size = (weir_slots_size(2) + 63) / 64 * 64;
    void *slot_memory = aligned_alloc(64, size);
    assert_non_null(slot_memory);
    memset(slot_memory, 0, size);
    weir_slots_init(&slots, 2, slot_memory);
    weir_slots_take(&slots, &op, (struct weir_task *)(void *)&task, WEIR_SITE);
    for (uint32_t side = WEIR_SIDE_IN; side <= WEIR_SIDE_OUT; side++) {
        struct weir_watch *watch = weir_watches_take(&watches, &slots, (int)side);
        watch->claims[side] = op.slot->tag;
    }
    for (int fd = 100; fd < 120; fd++) {
        weir_watches_take(&watches, &slots, fd);
    }
    assert_non_null(weir_watches_find(&watches, WEIR_SIDE_IN));
    assert_non_null(weir_watches_find(&watches, WEIR_SIDE_OUT));
    weir_slots_free(&slots, op.slot); /* the claims have ended */
    for (int fd = 100; fd < 120; fd++) {
        weir_watches_take(&watches, &slots, fd);
    }
    assert_null(weir_watches_find(&watches, WEIR_SIDE_IN));
    assert_null(weir_watches_find(&watches, WEIR_SIDE_OUT));
    memset(&slots, 0, sizeof slots);
    free(slot_memory);
}

static void the_event_of_one_that_has_gone_finds_nothing(void **state)
{
    (void)state;
    int fd = counter_fd(1);
    struct weir_watch *watch = weir_watches_take(&watches, &slots, fd);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    struct epoll_event event;
    assert_int_equal(epoll_wait(set, &event, 1, 0), 1);
    assert_ptr_equal(weir_watches_of(&watches, event.data.u64), watch);
    weir_watches_drop(&watches, watch);
    assert_null(weir_watches_of(&watches, event.data.u64));
    assert_ptr_equal(weir_watches_take(&watches, &slots, fd),
                     watch); /* the same place, a new life */
    assert_null(weir_watches_of(&watches, event.data.u64));
    assert_null(weir_watches_of(&watches, UINT64_MAX));
    assert_int_equal(watches.registered, 0);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 0);
    close(fd);
}

static void a_file_is_refused_and_marked(void **state)
{
    (void)state;
    int fd = memfd_create("file", MFD_CLOEXEC);
    struct weir_watch *watch = weir_watches_take(&watches, &slots, fd);
    assert_int_equal(weir_watches_arm(&watches, watch, 0), -EPERM);
    assert_true(watch->flags & WEIR_WATCH_FILE);
    assert_int_equal(watch->armed, 0);
    /* Until the number is another's. */
    int other = counter_fd(0);
    assert_int_equal(dup2(other, fd), fd);
    assert_int_equal(weir_watches_arm(&watches, watch, 0), 0);
    assert_false(watch->flags & WEIR_WATCH_FILE);
    close(other);
    close(fd);
}

static void what_is_asked_for_is_asked_once(void **state)
{
    (void)state;
    uint32_t events;
    int fd = counter_fd(1);
    struct weir_watch *watch = weir_watches_take(&watches, &slots, fd);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    assert_int_equal(watches.trusted, 0);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    assert_int_equal(watches.trusted, 1);
    assert_ptr_equal(next_event(&events), watch);
    assert_ptr_equal(next_event(&events), watch); /* level-triggered */
    weir_watches_prove(&watches, watch);
    assert_int_equal(watches.trusted, 0);
    weir_watches_rearm(&watches, watch, watch->armed | EPOLLET);
    assert_ptr_equal(next_event(&events), watch);
    assert_null(next_event(&events));
    /* Somebody who wants room is told of room, and of nothing else again. */
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLOUT), 0);
    assert_ptr_equal(next_event(&events), watch);
    assert_int_equal(events, EPOLLIN | EPOLLOUT);
    assert_null(next_event(&events));
    /* Somebody who wants to read makes it level-triggered again. */
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    assert_ptr_equal(next_event(&events), watch);
    assert_ptr_equal(next_event(&events), watch);
    weir_watches_drop(&watches, watch);
    close(fd);
}

static void verifying_finds_an_fd_that_was_closed_without_a_word(void **state)
{
    (void)state;
    uint32_t events;
    int fd = counter_fd(0);
    struct weir_watch *watch = weir_watches_take(&watches, &slots, fd);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    watch->flags |= WEIR_WATCH_NO_TRY_IN;
    close(fd);
    int other = counter_fd(1);
    assert_int_equal(dup2(other, fd), fd);
    assert_int_equal(weir_watches_arm(&watches, watch, EPOLLIN), 0);
    assert_null(next_event(&events)); /* the set knows nothing of it */
    weir_watches_verify(&watches, UINT32_MAX);
    assert_int_equal(watches.trusted, 0);
    assert_int_equal(watches.registered, 1);
    assert_false(watch->flags & WEIR_WATCH_NO_TRY_IN); /* that was the other file */
    assert_ptr_equal(next_event(&events), watch);
    weir_watches_drop(&watches, watch);
    close(other);
    close(fd);
}

/* Against a model: which fds are known, with two that somebody waits on. */
static void any_sequence_keeps_those_that_are_waited_on(void **state)
{
    (void)state;
    struct random random = random_open();
    struct weir_op ops[2];
    memset(ops, 0, sizeof ops);
    weir_queue_push(&weir_watches_take(&watches, &slots, 7)->sides[WEIR_SIDE_IN], &ops[0]);
    weir_queue_push(&weir_watches_take(&watches, &slots, 23)->sides[WEIR_SIDE_POLL], &ops[1]);
    for (int step = 0; step < STEPS; step++) {
        int fd = (int)random_below(&random, 64);
        struct weir_watch *watch = weir_watches_find(&watches, fd);
        assert_true(!watch || watch->fd == fd);
        if (watch && fd != 7 && fd != 23 && random_below(&random, 2) == 0) {
            weir_watches_drop(&watches, watch);
            assert_null(weir_watches_find(&watches, fd));
        } else {
            watch = weir_watches_take(&watches, &slots, fd);
            assert_int_equal(watch->fd, fd);
            assert_ptr_equal(weir_watches_find(&watches, fd), watch);
        }
        assert_ptr_equal(weir_watches_find(&watches, 7)->sides[WEIR_SIDE_IN].head, &ops[0]);
        assert_ptr_equal(weir_watches_find(&watches, 23)->sides[WEIR_SIDE_POLL].head, &ops[1]);
    }
}

#define WATCH_TEST(test) cmocka_unit_test_setup_teardown(test, open_watches, close_watches)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(a_watch_is_found_by_its_fd_until_it_is_dropped),
        WATCH_TEST(a_full_table_evicts_what_nobody_waits_on),
        WATCH_TEST(a_full_table_keeps_what_an_op_with_a_worker_claims),
        WATCH_TEST(the_event_of_one_that_has_gone_finds_nothing),
        WATCH_TEST(a_file_is_refused_and_marked),
        WATCH_TEST(what_is_asked_for_is_asked_once),
        WATCH_TEST(verifying_finds_an_fd_that_was_closed_without_a_word),
        WATCH_TEST(any_sequence_keeps_those_that_are_waited_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
