/* SPDX-License-Identifier: MIT */
/*
 * test_stall.c: the judge of stalls, told times that no test would wait for; what the kernel says
 * of a thread; and a pulse whose writer is stopped.
 */
#include "unit.h"

#include <engine/observe/stall.h>
#include <engine/observe/symbol.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ULL
#define THRESHOLD (100 * MS)
#define INTERVAL (25 * MS)

/* A thread that is looked at, and the clock of who looks. */
struct world {
    struct weir_stalling stalling;
    struct weir_beat beat;
    struct weir_thread_sight sight;
    uint64_t sequence;
    uint64_t now_ns;
};

static void begin(struct world *world, enum weir_phase phase)
{
    world->sequence += 2;
    world->beat = (struct weir_beat){.phase = phase, .since_ns = world->now_ns};
}

static struct world *open_world(struct world *world, enum weir_phase phase)
{
    *world = (struct world){.now_ns = 1000 * MS, .sight.state = 'R'};
    weir_stalling_init(&world->stalling, THRESHOLD, INTERVAL);
    begin(world, phase);
    return world;
}

/* A look after `later_ns`. True: it is due. */
static bool look(struct world *world, uint64_t later_ns)
{
    world->now_ns += later_ns;
    if (weir_stalling_look(&world->stalling, &world->beat, world->sequence, world->now_ns)) {
        weir_stalling_add(&world->stalling, &world->sight);
    }
    return weir_stalling_is_due(&world->stalling);
}

/* The same, and in this time the thread computed and waited so long. */
static bool look_at(struct world *world, uint64_t cpu_ns, uint64_t wait_ns, char state)
{
    world->sight.cpu_ns += cpu_ns;
    world->sight.wait_ns += wait_ns;
    world->sight.state = state;
    return look(world, INTERVAL);
}

static enum weir_stall_cause cause_of(const struct world *world)
{
    return weir_stalling_judge(&world->stalling, &world->sight);
}

static void what_lasts_longer_than_the_threshold_is_due(void **state)
{
    (void)state;
    const enum weir_phase phases[] = {WEIR_PHASE_TURN, WEIR_PHASE_CALLBACK};
    for (unsigned i = 0; i < COUNT_OF(phases); i++) {
        struct world world;
        open_world(&world, phases[i]);
        for (int n = 0; n <= 4; n++) {
            assert_false(look(&world, n == 0 ? 0 : INTERVAL)); /* up to the threshold itself */
        }
        assert_true(look(&world, 1));
        assert_int_equal(world.stalling.lasted_ns, THRESHOLD + 1);
    }
}

static void time_before_the_first_look_counts_as_far_as_it_was_seen(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, WEIR_PHASE_TURN);
    look(&world, INTERVAL); /* nothing was seen before: it may be as old as it says, or not */
    assert_int_equal(world.stalling.lasted_ns, 0);
    begin(&world, WEIR_PHASE_CALLBACK);
    world.beat.since_ns += 5 * MS;
    look(&world, INTERVAL);
    assert_int_equal(world.stalling.lasted_ns, 20 * MS);
    begin(&world, WEIR_PHASE_TURN);
    world.beat.since_ns -= 1000 * MS; /* the turn is older than what it does now */
    look(&world, INTERVAL);
    assert_int_equal(world.stalling.lasted_ns, INTERVAL);
    begin(&world, WEIR_PHASE_TURN);
    world.beat.since_ns += 1000 * MS; /* a clock that is ahead */
    look(&world, INTERVAL);
    assert_int_equal(world.stalling.lasted_ns, 0);
}

static void to_be_outside_or_asleep_is_no_stall(void **state)
{
    (void)state;
    const enum weir_phase phases[] = {WEIR_PHASE_OUTSIDE, WEIR_PHASE_ASLEEP};
    for (unsigned i = 0; i < COUNT_OF(phases); i++) {
        struct world world;
        open_world(&world, phases[i]);
        for (int n = 0; n < 100; n++) {
            assert_false(look(&world, INTERVAL));
        }
        assert_int_equal(world.stalling.looks, 0);
    }
}

static void what_goes_on_is_no_stall_however_long_it_goes_on(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, WEIR_PHASE_CALLBACK);
    for (int n = 0; n < 100; n++) {
        assert_false(look(&world, INTERVAL));
        assert_false(look(&world, INTERVAL));
        begin(&world, n % 2 == 0 ? WEIR_PHASE_TURN : WEIR_PHASE_CALLBACK);
    }
}

static void time_in_which_nobody_looked_counts_as_one_interval(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, WEIR_PHASE_CALLBACK);
    look(&world, 0);
    for (uint64_t n = 1; n <= 4; n++) {
        assert_false(look(&world, 3600000 * MS)); /* an hour: the machine stood still */
        assert_int_equal(world.stalling.lasted_ns, n * INTERVAL);
    }
    assert_false(look(&world, 0));
    assert_true(look(&world, 2 * INTERVAL)); /* a little late is nothing */
    assert_int_equal(world.stalling.lasted_ns, 6 * INTERVAL);
    begin(&world, WEIR_PHASE_CALLBACK);
    look(&world, 3600000 * MS);
    assert_int_equal(world.stalling.lasted_ns, INTERVAL);
}

static void a_stall_is_due_again_each_time_it_has_lasted_twice_as_long(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, WEIR_PHASE_CALLBACK);
    uint64_t reported_ns[8] = {0};
    while (world.stalling.nth < COUNT_OF(reported_ns)) {
        if (look(&world, INTERVAL)) {
            reported_ns[world.stalling.nth] = world.stalling.lasted_ns;
            weir_stalling_reported(&world.stalling);
            assert_false(weir_stalling_is_due(&world.stalling));
        }
    }
    for (unsigned n = 0; n < COUNT_OF(reported_ns); n++) {
        assert_int_equal(reported_ns[n], (THRESHOLD << n) + INTERVAL);
    }
    begin(&world, WEIR_PHASE_CALLBACK); /* another one */
    while (!look(&world, INTERVAL)) {
    }
    assert_int_equal(world.stalling.nth, 0);
    assert_in_range(world.stalling.lasted_ns, THRESHOLD + 1, THRESHOLD + INTERVAL);
}

/* A class is judged of four parts of time from the second look on. */
static enum weir_stall_cause judge(const uint64_t cpu_ms[4], const uint64_t wait_ms[4],
                                   const char states[5])
{
    struct world world;
    open_world(&world, WEIR_PHASE_CALLBACK);
    look_at(&world, 7 * MS, 7 * MS, states[0]); /* what was before says nothing */
    look_at(&world, 777 * MS, 777 * MS, states[0]);
    for (unsigned i = 0; i < 4; i++) {
        look_at(&world, cpu_ms[i] * MS, wait_ms[i] * MS, states[i + 1]);
    }
    assert_true(weir_stalling_is_due(&world.stalling));
    return cause_of(&world);
}

static void the_cause_is_what_took_most_of_the_time(void **state)
{
    (void)state;
    const uint64_t none[4] = {0};
    const uint64_t all[4] = {25, 25, 25, 25};
    const uint64_t half[4] = {25, 25, 0, 0};
    const uint64_t less[4] = {12, 12, 12, 12};
    const uint64_t more[4] = {13, 13, 13, 13};
    assert_int_equal(judge(all, none, "RRRRR"), WEIR_STALL_RUNNING);
    assert_int_equal(judge(half, none, "RRRRR"), WEIR_STALL_RUNNING);
    assert_int_equal(judge(half, none, "RRSSS"), WEIR_STALL_RUNNING);
    assert_int_equal(judge(none, none, "SSSSS"), WEIR_STALL_BLOCKED);
    assert_int_equal(judge(none, none, "DDDDD"), WEIR_STALL_BLOCKED);
    assert_int_equal(judge(less, none, "SSDDR"), WEIR_STALL_BLOCKED);
    assert_int_equal(judge(none, all, "RRRRR"), WEIR_STALL_DESCHEDULED);
    assert_int_equal(judge(less, more, "SSSSS"), WEIR_STALL_DESCHEDULED);
    /* A wait that has not ended is not in the kernel's sum yet; nor what a hypervisor took. */
    assert_int_equal(judge(none, none, "RRRRR"), WEIR_STALL_DESCHEDULED);
    assert_int_equal(judge(less, none, "RRRSR"), WEIR_STALL_DESCHEDULED);
    /* Stopped by a debugger. */
    assert_int_equal(judge(none, none, "tttTT"), WEIR_STALL_DESCHEDULED);
    /* No /proc. */
    assert_int_equal(judge(none, none, "\0\0\0\0"), WEIR_STALL_BLOCKED);
    assert_int_equal(judge(all, none, "\0\0\0\0"), WEIR_STALL_RUNNING);
}

static void
what_computes_for_longer_than_the_threshold_is_a_stall_however_little_it_is_let(void **s)
{
    (void)s;
    struct world world;
    open_world(&world, WEIR_PHASE_CALLBACK);
    for (int n = 0; n < 6; n++) {
        look_at(&world, 5 * MS, 20 * MS, 'R');
    }
    assert_true(weir_stalling_is_due(&world.stalling));
    assert_int_equal(cause_of(&world), WEIR_STALL_DESCHEDULED);
    for (int n = 6; n < 22; n++) {
        look_at(&world, 5 * MS, 20 * MS, 'R');
        assert_int_equal(cause_of(&world), WEIR_STALL_DESCHEDULED); /* 100 ms of its own at last */
    }
    look_at(&world, 5 * MS, 20 * MS, 'R');
    assert_int_equal(cause_of(&world), WEIR_STALL_RUNNING);
}

/* --- what the kernel says --------------------------------------------------------------------- */

struct sleeper {
    pthread_t thread;
    pid_t id;
    sem_t begun;
    sem_t end;
};

static void *sleep_on(void *context)
{
    struct sleeper *sleeper = context;
    prctl(PR_SET_NAME, "a) R (b) R");
    sleeper->id = gettid();
    sem_post(&sleeper->begun);
    sem_wait(&sleeper->end);
    return NULL;
}

static void a_thread_that_sleeps_is_seen_asleep_whatever_its_name(void **state)
{
    (void)state;
    struct sleeper sleeper;
    sem_init(&sleeper.begun, 0, 0);
    sem_init(&sleeper.end, 0, 0);
    assert_int_equal(pthread_create(&sleeper.thread, NULL, sleep_on, &sleeper), 0);
    sem_wait(&sleeper.begun);
    struct weir_thread_sight sight;
    do { /* until it has gone to sleep; a guard ends a test that does not */
        weir_thread_see(sleeper.id, &sight);
    } while (sight.state == 'R');
    assert_int_equal(sight.state, 'S');
    sem_post(&sleeper.end);
    pthread_join(sleeper.thread, NULL);
    do { /* until it is gone, a moment after pthread_join() says so; the same guard */
        weir_thread_see(sleeper.id, &sight);
    } while (sight.state != 0 || sight.cpu_ns != 0);
}

static void a_threads_clock_is_its_own_and_moves_as_it_computes(void **state)
{
    (void)state;
    struct timespec before;
    struct timespec after;
    struct weir_thread_sight sight;
    for (int i = 0; i < 3; i++) {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        weir_thread_see(gettid(), &sight);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        assert_in_range(sight.cpu_ns,
                        (uint64_t)before.tv_sec * 1000 * MS + (uint64_t)before.tv_nsec,
                        (uint64_t)after.tv_sec * 1000 * MS + (uint64_t)after.tv_nsec);
        assert_int_equal(sight.state, 'R');
    }
}

/* --- pulse and symbol ------------------------------------------------------------------------- */

static void a_pulse_whose_writer_stopped_in_its_middle_keeps_nobody(void **state)
{
    (void)state;
    static struct weir_pulse pulse;
    struct weir_beat beat;
    weir_pulse_beat(&pulse, &(struct weir_beat){.phase = WEIR_PHASE_TURN, .since_ns = 5});
    assert_int_equal(weir_pulse_read(&pulse, &beat), 2);
    assert_int_equal(beat.since_ns, 5);
    pulse.sequence = 3;
    assert_true(weir_pulse_read(&pulse, &beat) % 2 == 1);
}

static void a_place_in_code_is_said_by_module_and_one_that_is_none_by_its_address(void **state)
{
    (void)state;
    char text[WEIR_SYMBOL_MAX];
    weir_symbol_write((const void *)(uintptr_t)judge, text, sizeof text);
    assert_non_null(strstr(text, "test_stall+0x"));
    assert_null(strchr(text, '/'));
    weir_symbol_write((const void *)(uintptr_t)memcpy, text, sizeof text);
    assert_null(strstr(text, "test_stall+"));
    weir_symbol_write(text, text, sizeof text);
    assert_int_equal(strncmp(text, "0x", 2), 0);
    char whole[WEIR_SYMBOL_MAX];
    weir_symbol_write((const void *)(uintptr_t)judge, whole, sizeof whole);
    weir_symbol_write((const void *)(uintptr_t)judge, text, strlen(whole) - 2);
    assert_int_equal(strlen(text),
                     strlen(whole) - 3); /* a name that is cut, an offset that is not */
    assert_string_equal(strchr(text, '+'), strchr(whole, '+'));
}

static void causes_and_places_have_names_and_what_is_none_has_not(void **state)
{
    (void)state;
    assert_string_equal(weir_stall_cause_name(WEIR_STALL_RUNNING), "running");
    assert_string_equal(weir_stall_cause_name(WEIR_STALL_BLOCKED), "blocked");
    assert_string_equal(weir_stall_cause_name(WEIR_STALL_DESCHEDULED), "descheduled");
    assert_string_equal(weir_stall_cause_name(WEIR_STALL_UNKNOWN), "unknown");
    assert_null(weir_stall_cause_name(WEIR_STALL_UNKNOWN + 1));
    assert_null(weir_stall_cause_name((enum weir_stall_cause) - 1));
    assert_int_equal(WEIR_STALL_UNKNOWN, WEIR_STALL_CAUSE_COUNT);
    assert_string_equal(weir_stall_place_name(WEIR_STALL_CALLBACK), "callback");
    assert_string_equal(weir_stall_place_name(WEIR_STALL_TURN), "turn");
    assert_string_equal(weir_stall_place_name(WEIR_STALL_OP), "op");
    assert_null(weir_stall_place_name(WEIR_STALL_OP + 1));
    assert_null(weir_stall_place_name((enum weir_stall_place) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lasts_longer_than_the_threshold_is_due),
        cmocka_unit_test(time_before_the_first_look_counts_as_far_as_it_was_seen),
        cmocka_unit_test(to_be_outside_or_asleep_is_no_stall),
        cmocka_unit_test(what_goes_on_is_no_stall_however_long_it_goes_on),
        cmocka_unit_test(time_in_which_nobody_looked_counts_as_one_interval),
        cmocka_unit_test(a_stall_is_due_again_each_time_it_has_lasted_twice_as_long),
        cmocka_unit_test(the_cause_is_what_took_most_of_the_time),
        cmocka_unit_test(
            what_computes_for_longer_than_the_threshold_is_a_stall_however_little_it_is_let),
        cmocka_unit_test(a_thread_that_sleeps_is_seen_asleep_whatever_its_name),
        cmocka_unit_test(a_threads_clock_is_its_own_and_moves_as_it_computes),
        cmocka_unit_test(a_pulse_whose_writer_stopped_in_its_middle_keeps_nobody),
        cmocka_unit_test(a_place_in_code_is_said_by_module_and_one_that_is_none_by_its_address),
        cmocka_unit_test(causes_and_places_have_names_and_what_is_none_has_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
