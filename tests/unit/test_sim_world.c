/* SPDX-License-Identifier: MIT */
/* test_sim_world.c: simulated worlds: how they are chosen and repeat, their clock, their loops. */
#include "sim_world.h"

#include <pthread.h>

/* Changes with whatever changes what a world does: then say so, and write the new one. */
#define HASH_OF_SEED_12345 0xc0715c259b4347a8ULL

/* --- choosing --------------------------------------------------------------------------------- */

static void a_loop_without_a_world_has_one_of_its_own(void **state)
{
    (void)state;
    struct weir_decision decision;
    struct weir_facts facts;
    struct weir_loop *loop = open_loop_with((struct weir_options){.decision = &decision});
    assert_int_equal(decision.policy, WEIR_SIM);
    assert_string_equal(decision.chosen, "sim");
    assert_int_equal(decision.rejected_count, 0);
    assert_int_equal(weir_loop_facts(loop, &facts), 0);
    assert_string_equal(facts.backend, "sim");
    assert_string_equal(facts.clock, "virtual");
    assert_int_equal(facts.workers, 4);
    struct weir_sim *sim = weir_loop_sim(loop);
    assert_non_null(sim);
    assert_int_equal(weir_sim_close(sim), -EBUSY);
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
    assert_null(weir_loop_sim(NULL));
}

static void the_environment_has_no_say(void **state)
{
    (void)state;
    struct weir_decision decision;
    struct weir_loop *loop = NULL;
    setenv("WEIR_POLICY", "sim", 1);
    struct weir_options options = {.decision = &decision};
    assert_int_equal(weir_loop_open(&options, &loop), -EINVAL);
    setenv("WEIR_POLICY", "epoll", 1);
    loop = open_loop_with(options);
    assert_string_equal(decision.chosen, "sim");
    assert_int_equal(decision.from_environment, 0);
    struct weir_facts facts;
    assert_int_equal(weir_loop_facts(loop, &facts), 0);
    assert_string_equal(facts.reason, "asked for by options.policy");
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
    unsetenv("WEIR_POLICY");
    loop = NULL;
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    assert_null(weir_loop_sim(loop));
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
}

static void kinds_it_does_not_have_are_a_missing_feature(void **state)
{
    (void)state;
    struct weir_decision decision;
    struct weir_loop *loop = NULL;
    struct weir_options options = {
        .policy = WEIR_SIM,
        .decision = &decision,
        .native_kinds = 1ULL << WEIR_KIND_CHILD,
    };
    assert_int_equal(weir_loop_open(&options, &loop), -EOPNOTSUPP);
    assert_null(decision.chosen);
    assert_int_equal(decision.rejected[0].cause, WEIR_CAUSE_FEATURE);
    options.native_kinds = 1ULL << WEIR_KIND_CALL | 1ULL << WEIR_KIND_FSYNC;
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    assert_int_equal(weir_loop_close(loop, 0, NULL), 0);
}

/* --- repeating -------------------------------------------------------------------------------- */

/* Reads and writes of a pipe and a file, with whatever the seed brings. */
struct chatter {
    struct weir_op op;
    struct weir_sim *sim;
    int fds[3];
    int left;
    char bytes[512];
};

static int64_t work(void *argument)
{
    (void)argument;
    return 1;
}

static void go_on(struct weir_op *op)
{
    struct chatter *chatter = op->user;
    struct weir_loop *loop = op->loop;
    if (chatter->left-- == 0) {
        return;
    }
    uint64_t roll = weir_sim_random(chatter->sim);
    uint64_t length = 1 + roll % sizeof chatter->bytes;
    switch (roll >> 32 & 7) {
    case 0:
        weir_op_fsync(op, chatter->fds[0]);
        break;
    case 1:
        weir_op_read(op, chatter->fds[0], chatter->bytes, length, roll >> 40 & 0xfff);
        break;
    case 2:
        weir_op_read(op, chatter->fds[1], chatter->bytes, length, 0);
        op->deadline_ns = weir_now(loop) + WEIR_MS;
        break;
    case 3:
        weir_op_write(op, chatter->fds[2], chatter->bytes, length, 0);
        op->deadline_ns = weir_now(loop) + WEIR_MS;
        break;
    case 4:
        weir_op_call(op, work, NULL);
        break;
    default:
        weir_op_write(op, chatter->fds[0], chatter->bytes, length, roll >> 40 & 0xfff);
        break;
    }
    assert_int_equal(weir_submit(loop, op), 0);
}

static uint64_t lines;

static void count_line(void *context, const char *line)
{
    (void)context;
    assert_true(strlen(line) < 160);
    assert_null(strchr(line, '\n'));
    lines++;
}

static uint64_t hash_of_run(uint64_t seed, bool traced)
{
    enum { CHATTERS = 5 };
    static struct chatter chatters[CHATTERS];
    const struct weir_sim_fault faults[] = {
        {.what = WEIR_SIM_ERROR, .per_million = 20000},
        {.what = WEIR_SIM_SHORT, .per_million = 50000},
        {.what = WEIR_SIM_LATE, .per_million = 20000},
        {.what = WEIR_SIM_DELAY, .per_million = 20000, .delay = {0, WEIR_MS}},
    };
    const struct weir_sim_plan plan = {
        .faults = faults,
        .fault_count = COUNT_OF(faults),
        .trace = traced ? count_line : NULL,
    };
    struct weir_sim *sim = open_world(seed, &plan);
    struct weir_loop *loop = open_loop(sim);
    int fds[2];
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    int file;
    do {
        file = open_file(loop, "/file", O_RDWR | O_CREAT);
    } while (file < 0);
    memset(chatters, 0, sizeof chatters);
    for (int i = 0; i < CHATTERS; i++) {
        chatters[i].sim = sim;
        chatters[i].fds[0] = file;
        memcpy(&chatters[i].fds[1], fds, sizeof fds);
        chatters[i].left = 300;
        weir_op_nop(&chatters[i].op);
        chatters[i].op.callback = go_on;
        chatters[i].op.user = &chatters[i];
        assert_int_equal(weir_submit(loop, &chatters[i].op), 0);
    }
    assert_int_equal(weir_loop_run(loop), 0);
    struct weir_sim_counters counters;
    assert_int_equal(weir_sim_counters(sim, &counters), 0);
    assert_true(counters.ops > 1000 && counters.faults > 20 && counters.steps > counters.ops);
    uint64_t hash = weir_sim_hash(sim);
    close_world(sim, loop);
    return hash;
}

static void the_same_seed_is_the_same_run_and_another_is_another(void **state)
{
    (void)state;
    uint64_t first = hash_of_run(1, false);
    assert_int_equal(hash_of_run(1, false), first);
    assert_int_equal(hash_of_run(1, true), first); /* to look changes nothing */
    assert_true(lines > 1000);
    assert_int_not_equal(hash_of_run(2, false), first);
}

static void a_run_hashes_the_same_on_every_machine_and_build(void **state)
{
    (void)state;
    uint64_t hash = hash_of_run(12345, false);
    print_message("hash of seed 12345: 0x%016llx\n", (unsigned long long)hash);
    assert_true(hash == HASH_OF_SEED_12345);
}

static void worlds_draw_for_their_users_what_the_seed_says(void **state)
{
    (void)state;
    struct weir_sim *one = open_world(3, NULL);
    struct weir_sim *two = open_world(3, NULL);
    struct weir_loop *loop = open_loop(one);
    open_file(loop, "/file", O_RDWR | O_CREAT); /* what the world draws is another matter */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(weir_sim_random(one), weir_sim_random(two));
    }
    close_world(one, loop);
    assert_int_equal(weir_sim_close(two), 0);
}

/* --- sleeping --------------------------------------------------------------------------------- */

static void a_sleep_that_nothing_would_end_is_EDEADLK_and_the_loop_goes_on(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op op = {0};
    char byte;
    int calls;
    int fds[2];
    assert_int_equal(weir_sim_pipe(sim, fds, 0), 0);
    weir_op_read(&op, fds[0], &byte, 1, 0);
    start(loop, &op, &calls);
    assert_int_equal(weir_loop_turn(loop, -1), -EDEADLK);
    assert_int_equal(weir_loop_run(loop), -EDEADLK);
    uint64_t before_ns = weir_now(loop);
    assert_int_equal(weir_loop_turn(loop, WEIR_S), 0);
    assert_int_equal(weir_now(loop), before_ns + WEIR_S);
    assert_int_equal(write_text(loop, fds[1], "x", 0), 1);
    assert_int_equal(await(loop, &op, &calls), 1);
    close_world(sim, loop);
}

static void a_wake_and_a_post_end_the_next_sleep(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op op = {0};
    int calls = 0;
    assert_int_equal(weir_loop_wake(loop), 0);
    assert_int_equal(weir_loop_turn(loop, -1), 0);
    weir_op_nop(&op);
    op.callback = on_done;
    op.user = &calls;
    assert_int_equal(weir_loop_post(loop, &op), 0);
    assert_int_equal(weir_loop_run(loop), 0);
    assert_int_equal(calls, 1);
    close_world(sim, loop);
}

static struct weir_loop *window_loop;
static struct weir_op window_op;
static int window_at;

static void post_once(struct weir_backend *backend, int asleep)
{
    (void)backend;
    if (asleep == window_at) {
        window_at = -1;
        assert_int_equal(weir_loop_post(window_loop, &window_op), 0);
    }
}

static void a_post_just_before_the_sleep_is_not_slept_through(void **state)
{
    (void)state;
    for (int asleep = 0; asleep < 2; asleep++) {
        struct weir_sim *sim = open_world(1, NULL);
        struct weir_loop *loop = open_loop(sim);
        int calls = 0;
        window_loop = loop;
        window_op = (struct weir_op){.callback = on_done, .user = &calls};
        window_at = asleep;
        weir_op_nop(&window_op);
        weir_loop_backend(loop)->window = post_once;
        assert_int_equal(weir_loop_hold(loop), 0);
        while (calls == 0) {
            assert_true(weir_loop_turn(loop, -1) >= 0);
        }
        assert_int_equal(weir_loop_release(loop), 0);
        close_world(sim, loop);
    }
}

static void who_is_always_busy_does_not_stop_the_clock(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    struct weir_op timer = {0};
    int calls;
    int turns = 0;
    weir_op_timeout_in(&timer, loop, WEIR_MS);
    start(loop, &timer, &calls);
    while (calls == 0) {
        turns++;
        struct weir_op nop = {0};
        weir_op_nop(&nop);
        carry_out(loop, &nop);
        assert_true(turns < 2000);
    }
    for (turns = 0; turns < 10; turns++) {
        assert_int_equal(weir_loop_turn(loop, 0), 0);
    }
    close_world(sim, loop);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void *try_from_another_thread(void *argument)
{
    struct weir_loop *loop = argument;
    struct weir_loop *other = NULL;
    struct weir_op op = {.callback = on_done};
    struct weir_options options = {.policy = WEIR_SIM, .sim.world = weir_loop_sim(loop)};
    weir_op_nop(&op);
    assert_int_equal(weir_loop_wake(loop), -EOPNOTSUPP);
    assert_int_equal(weir_loop_stop(loop), -EOPNOTSUPP);
    assert_int_equal(weir_loop_post(loop, &op), -EOPNOTSUPP);
    assert_int_equal(weir_submit(loop, &op), -EPERM);
    assert_int_equal(weir_loop_open(&options, &other), -EOPNOTSUPP);
    return NULL;
}

static void other_threads_cannot_reach_it(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *loop = open_loop(sim);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, try_from_another_thread, loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(weir_loop_fd(loop), -EOPNOTSUPP);
    close_world(sim, loop);
}

/* --- several loops ---------------------------------------------------------------------------- */

static void two_loops_of_a_world_talk(void **state)
{
    (void)state;
    struct weir_sim *sim = open_world(1, NULL);
    struct weir_loop *one = open_loop(sim);
    struct weir_loop *two = open_loop(sim);
    struct weir_op read = {0};
    struct weir_op write = {0};
    char text[8];
    int was_read;
    int wrote;
    int ends[2];
    assert_ptr_equal(weir_loop_sim(one), weir_loop_sim(two));
    assert_int_equal(weir_sim_socketpair(sim, SOCK_STREAM, ends), 0);
    weir_op_recv(&read, ends[0], text, sizeof text, 0);
    weir_op_send(&write, ends[1], "hi", 2, 0);
    start(one, &read, &was_read);
    start(two, &write, &wrote);
    while (!was_read || !wrote) {
        assert_true(weir_loop_turn(one, WEIR_MS) >= 0);
        assert_true(weir_loop_turn(two, WEIR_MS) >= 0);
    }
    assert_int_equal(read.result, 2);
    assert_int_equal(weir_loop_close(one, 0, NULL), 0);
    close_world(sim, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_without_a_world_has_one_of_its_own),
        cmocka_unit_test(the_environment_has_no_say),
        cmocka_unit_test(kinds_it_does_not_have_are_a_missing_feature),
        cmocka_unit_test(the_same_seed_is_the_same_run_and_another_is_another),
        cmocka_unit_test(a_run_hashes_the_same_on_every_machine_and_build),
        cmocka_unit_test(worlds_draw_for_their_users_what_the_seed_says),
        cmocka_unit_test(a_sleep_that_nothing_would_end_is_EDEADLK_and_the_loop_goes_on),
        cmocka_unit_test(a_wake_and_a_post_end_the_next_sleep),
        cmocka_unit_test(a_post_just_before_the_sleep_is_not_slept_through),
        cmocka_unit_test(who_is_always_busy_does_not_stop_the_clock),
        cmocka_unit_test(other_threads_cannot_reach_it),
        cmocka_unit_test(two_loops_of_a_world_talk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
