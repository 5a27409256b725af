/* SPDX-License-Identifier: MIT */
/* threads.c: rules 6 and 22: who may call what, adoption, many loops, and wakes that are not
 * lost. */
#include "seam.h"

/* A thread may not use the expectations: they leave by longjmp. It fills this in, and main
 * looks. */
struct answers {
    struct weir_loop *loop;
    struct weir_task *task;
    struct tracked *live;
    struct weir_room *waiting;
    int64_t values[48];
    const char *names[48];
    int count;
};

#define ASK(answers, call)                                                                         \
    do {                                                                                           \
        (answers)->names[(answers)->count] = #call;                                                \
        (answers)->values[(answers)->count++] = (call);                                            \
    } while (0)

static void expect_all(const struct answers *answers, int64_t want)
{
    expect(answers->count > 0);
    for (int i = 0; i < answers->count; i++) {
        if (answers->values[i] != want) {
            fprintf(stderr, "%s:\n", answers->names[i]);
        }
        expect_equal(answers->values[i], want);
    }
}

static void unwanted_room(struct weir_room *room, int result)
{
    (void)room;
    (void)result;
}

static void unwanted_mark(struct weir_watermark *mark, int is_above)
{
    (void)mark;
    (void)is_above;
}

static void unwanted_close(struct weir_loop *loop, int result)
{
    (void)loop;
    (void)result;
}

static void ask_what_the_owner_alone_may(struct answers *a)
{
    struct tracked op = {.op.callback = seam_called};
    struct weir_room room = {.callback = unwanted_room};
    struct weir_watermark mark = {.callback = unwanted_mark, .high = 1};
    struct weir_gate_state gate;
    struct weir_task *task = NULL;
    struct weir_counters counters;
    struct weir_facts facts;
    weir_op_nop(&op.op);
    ASK(a, weir_submit(a->loop, &op.op));
    ASK(a, weir_cancel(a->loop, &a->live->op));
    ASK(a, weir_cancel_fd(a->loop, 0));
    ASK(a, weir_cancel_task(a->loop, a->task));
    ASK(a, weir_forget(a->loop, 0));
    ASK(a, weir_loop_turn(a->loop, 0));
    ASK(a, weir_loop_run(a->loop));
    ASK(a, weir_loop_hold(a->loop));
    ASK(a, weir_loop_release(a->loop));
    ASK(a, weir_loop_fd(a->loop));
    ASK(a, weir_loop_live(a->loop));
    ASK(a, weir_wait_room(a->loop, &room, &op.op));
    ASK(a, weir_withdraw_room(a->loop, a->waiting));
    ASK(a, weir_watch_gate(a->loop, &mark, &op.op));
    ASK(a, weir_unwatch_gate(a->loop, &mark));
    ASK(a, weir_loop_gate(a->loop, NULL, &gate));
    ASK(a, weir_loop_close_begin(a->loop, 0, unwanted_close));
    ASK(a, weir_loop_counters(a->loop, &counters));
    ASK(a, weir_loop_facts(a->loop, &facts));
    ASK(a, weir_task_open(a->loop, &(struct weir_task_options){.name = "x"}, &task));
    ASK(a, weir_task_next(a->loop, NULL) == NULL ? -EPERM : 0);
}

static void *ask_from_another_thread(void *context)
{
    struct answers *a = context;
    ask_what_the_owner_alone_may(a);
    ASK(a, weir_loop_close(a->loop, 0, NULL));
    ASK(a, weir_loop_abandon(a->loop));
    ASK(a, weir_task_close(a->task));
    ASK(a, weir_task_reset(a->task));
    return NULL;
}

SEAM_TEST(every_call_but_the_stated_ones_answers_EPERM_from_another_thread)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked live = {0};
    struct weir_room waiting = {.callback = unwanted_room};
    struct answers answers = {.loop = loop, .live = &live, .waiting = &waiting};
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &answers.task), 0);
    seam_read_byte(loop, &live, pipe.in);
    seam_turns(loop, 1);
    expect_equal(weir_wait_room(loop, &waiting, &live.op), 0);
    seam_in_thread(ask_from_another_thread, &answers);
    expect_all(&answers, -EPERM);
    /* Nothing of it had an effect. */
    expect_equal(weir_loop_live(loop), 1);
    expect_equal(weir_withdraw_room(loop, &waiting), 0);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &live);
    expect_equal(live.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static int64_t ask_in_a_function(void *context)
{
    struct answers *a = context;
    ask_from_another_thread(a);
    return weir_loop_wake(a->loop);
}

SEAM_TEST(the_function_of_a_call_may_do_what_another_thread_may_and_no_more)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked live = {0};
    struct tracked call = {0};
    struct weir_room waiting = {.callback = unwanted_room};
    struct answers answers = {.loop = loop, .live = &live, .waiting = &waiting};
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &answers.task), 0);
    seam_read_byte(loop, &live, pipe.in);
    seam_turns(loop, 1);
    expect_equal(weir_wait_room(loop, &waiting, &live.op), 0);
    weir_op_call(&call.op, ask_in_a_function, &answers);
    seam_submit(loop, &call);
    while (call.calls == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(call.result, 0);
    expect_all(&answers, -EPERM);
    expect_equal(live.calls, 0);
    seam_write(pipe.out, "a", 1);
    seam_await(loop, &live);
    expect_equal(live.result, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void *wake_and_stop(void *context)
{
    struct answers *a = context;
    ASK(a, weir_loop_wake(a->loop));
    ASK(a, weir_loop_stop(a->loop));
    return NULL;
}

static void *ask_what_any_thread_may(void *context)
{
    struct answers *a = context;
    struct weir_histogram histogram;
    struct weir_task_counters counters;
    ASK(a, weir_now(a->loop) > 0 ? 0 : -1);
    ASK(a, weir_loop_user(a->loop) == a ? 0 : -1);
    ASK(a, weir_task_read(a->task, WEIR_STAGE_TOTAL, &histogram));
    ASK(a, weir_task_read_counters(a->task, &counters));
    ASK(a, strcmp(weir_task_name(a->task), "t"));
    return NULL;
}

SEAM_TEST(wake_stop_and_the_reading_calls_may_come_from_any_thread)
{
    struct answers answers = {0};
    struct weir_loop *loop = seam_loop_with((struct weir_options){.user = &answers});
    answers.loop = loop;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &answers.task), 0);
    seam_in_thread(ask_what_any_thread_may, &answers);
    expect_all(&answers, 0);
    answers.count = 0;
    seam_in_thread(wake_and_stop, &answers);
    expect_all(&answers, seam_across_threads());
    expect_equal(weir_loop_hold(loop), 0);
    if (seam_simulates()) { /* which had no effect */
        expect_equal(seam_run(loop), -EDEADLK);
        expect_equal(weir_loop_stop(loop), 0);
    }
    expect_equal(seam_run(loop), 0); /* the stop was kept for it */
    expect_equal(weir_loop_release(loop), 0);
    seam_end(loop);
}

/* --- adoption -------------------------------------------------------------------------------- */

struct adoption {
    struct answers before; /* what the owner alone may, asked while there is none */
    struct weir_loop *loop;
    int first;
    int second;
    unsigned calls;
    int closed;
};

static void *adopt_and_use(void *context)
{
    struct adoption *adoption = context;
    struct weir_loop *loop = adoption->loop;
    struct tracked op = {.op.callback = seam_called};
    ask_what_the_owner_alone_may(&adoption->before);
    adoption->first = weir_loop_adopt(loop);
    if (adoption->first == -EOPNOTSUPP) {
        return NULL;
    }
    adoption->second = weir_loop_adopt(loop);
    for (unsigned i = 0; i < 3; i++) {
        weir_op_nop(&op.op);
        int live = weir_submit(loop, &op.op) == 0;
        while (live && op.calls == i && seam_turn(loop, -1) >= 0) {
        }
    }
    adoption->calls = op.calls;
    adoption->closed = seam_close(loop, WEIR_S, NULL);
    return NULL;
}

SEAM_TEST(a_loop_opened_for_another_thread_is_adopted_there)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.flags = WEIR_FOR_ADOPTION});
    struct weir_loop *owned = seam_loop();
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(owned, &(struct weir_task_options){.name = "t"}, &task), 0);
    struct tracked none = {0};
    struct weir_room room = {.callback = unwanted_room};
    struct tracked post = {.op.callback = seam_called};
    struct answers here = {.loop = loop, .task = task, .live = &none, .waiting = &room};
    struct adoption adoption = {.before = here, .loop = loop};
    ask_what_the_owner_alone_may(&here);
    expect_all(&here, -EPERM);
    weir_op_nop(&post.op);
    expect_equal(weir_loop_post(loop, &post.op), -EPERM);
    expect_equal(weir_loop_wake(loop), 0);
    seam_in_thread(adopt_and_use, &adoption);
    expect_all(&adoption.before, -EPERM);
    expect_equal(adoption.first, seam_across_threads());
    if (seam_simulates()) { /* only its world's thread can have it */
        adopt_and_use(&adoption);
    }
    expect_equal(adoption.first, 0);
    expect_equal(adoption.second, -EBUSY);
    expect_equal(adoption.calls, 3);
    expect_equal(adoption.closed, 0);
    expect_equal(weir_loop_adopt(owned), -EBUSY);
    expect_equal(weir_loop_adopt(NULL), -EINVAL);
    seam_end(owned);
}

SEAM_TEST(a_loop_that_nobody_adopted_can_be_closed)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.flags = WEIR_FOR_ADOPTION});
    int fds = seam_fds_open();
    seam_end(loop);
    expect(seam_simulates() ? seam_fds_open() == fds : seam_fds_open() < fds);
}

SEAM_TEST(twenty_loops_live_in_one_thread)
{
    struct weir_loop *loops[20];
    struct tracked ops[20] = {0};
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < 20; i++) {
        loops[i] = seam_loop_with((struct weir_options){.depth = 8});
    }
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 20; i++) {
            seam_read_byte(loops[i], &ops[i], pipe.in);
            seam_turns(loops[i], 1);
        }
        seam_write(pipe.out, "abcdefghijklmnopqrst", 20);
        for (int i = 0; i < 20; i++) {
            seam_await(loops[i], &ops[i]);
            expect_equal(ops[i].result, 1);
        }
    }
    for (int i = 0; i < 20; i++) {
        seam_end(loops[(i * 7) % 20]);
    }
    seam_pair_close(&pipe);
}

static void turn_the_other(struct tracked *op)
{
    struct weir_loop *other = op->context;
    struct tracked nop = {0};
    weir_op_nop(&nop.op);
    expect_equal(seam_carry_out(other, &nop), 0);
}

SEAM_TEST(another_loop_may_be_turned_inside_a_callback)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct tracked op = {.then = turn_the_other, .context = other};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(other);
    seam_end(loop);
}

/* --- wakes ----------------------------------------------------------------------------------- */

SEAM_TEST(a_wake_before_the_sleep_returns_at_once)
{
    struct weir_loop *loop = seam_loop();
    for (int i = 0; i < 100; i++) {
        expect_equal(weir_loop_wake(loop), 0);
        expect_equal(weir_loop_wake(loop), 0);
        expect_equal(seam_turn(loop, -1), 0);
    }
    expect_equal(weir_loop_wake(NULL), -EINVAL);
    expect_equal(weir_loop_stop(NULL), -EINVAL);
    seam_end(loop);
}

SEAM_TEST(a_wake_before_the_adoption_is_not_slept_through)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.flags = WEIR_FOR_ADOPTION});
    expect_equal(weir_loop_wake(loop), 0);
    expect_equal(weir_loop_adopt(loop), 0);
    expect_equal(seam_turn(loop, -1), 0);
    seam_end(loop);
}

static void wake_own(struct tracked *op)
{
    expect_equal(weir_loop_wake(op->op.loop), 0);
}

/* A bell that nobody had rung costs its first ring a call: see struct weir_bell. */
SEAM_TEST(to_ring_a_running_loop_costs_no_call_but_the_first_time)
{
    struct weir_loop *loop = seam_loop();
    for (int i = 0; i < 5; i++) {
        struct tracked op = {.then = wake_own};
        weir_op_timeout_in(&op.op, loop, WEIR_MS); /* it sleeps first, and takes what woke it */
        expect_equal(seam_carry_out(loop, &op), 0);
        expect_equal(seam_turn(loop, -1), 0);
    }
    expect(seam_counters(loop).wakes <= 1);
    seam_end(loop);
}

struct player {
    struct weir_loop *loop;
    struct player *other;
    uint64_t rounds;
    uint64_t ball; /* the other side's last round, written by it before it wakes us */
    uint64_t seed;
    pthread_barrier_t *through;
    int failed;
};

static void random_delay(struct player *player)
{
    player->seed = player->seed * 6364136223846793005u + 1442695040888963407u;
    for (unsigned spins = (unsigned)(player->seed >> 33) % 512; spins > 0; spins--) {
        __asm__ volatile("" ::: "memory");
    }
}

static void *play(void *context)
{
    struct player *player = context;
    player->failed |= weir_loop_adopt(player->loop) != 0;
    for (uint64_t round = 1; round <= player->rounds && !player->failed; round++) {
        __atomic_store_n(&player->other->ball, round, __ATOMIC_RELEASE);
        random_delay(player);
        player->failed |= weir_loop_wake(player->other->loop) != 0;
        while (__atomic_load_n(&player->ball, __ATOMIC_ACQUIRE) < round) {
            random_delay(player); /* between the check and the sleep */
            player->failed |= weir_loop_turn(player->loop, -1) < 0;
        }
    }
    pthread_barrier_wait(player->through); /* nobody may wake a closed loop */
    player->failed |= weir_loop_close(player->loop, 0, NULL) != 0;
    return NULL;
}

SEAM_TEST(wakes_are_never_lost)
{
    struct player players[2] = {0};
    pthread_t threads[2];
    pthread_barrier_t through;
    expect_equal(pthread_barrier_init(&through, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        players[i].loop = seam_loop_with((struct weir_options){.flags = WEIR_FOR_ADOPTION});
        players[i].other = &players[1 - i];
        players[i].rounds = seam_long() ? 10000000 : 100000;
        players[i].seed = seam_random();
        players[i].through = &through;
    }
    for (int i = 0; i < 2; i++) {
        expect_equal(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        expect_equal(pthread_join(threads[i], NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        expect_equal(players[i].failed, 0);
        expect_equal(players[i].ball, players[i].rounds);
    }
    pthread_barrier_destroy(&through);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_call_but_the_stated_ones_answers_EPERM_from_another_thread),
    cmocka_unit_test(the_function_of_a_call_may_do_what_another_thread_may_and_no_more),
    cmocka_unit_test(wake_stop_and_the_reading_calls_may_come_from_any_thread),
    cmocka_unit_test(a_loop_opened_for_another_thread_is_adopted_there),
    cmocka_unit_test(a_loop_that_nobody_adopted_can_be_closed),
    cmocka_unit_test(twenty_loops_live_in_one_thread),
    cmocka_unit_test(another_loop_may_be_turned_inside_a_callback),
    cmocka_unit_test(a_wake_before_the_sleep_returns_at_once),
    cmocka_unit_test(a_wake_before_the_adoption_is_not_slept_through),
    cmocka_unit_test(to_ring_a_running_loop_costs_no_call_but_the_first_time),
    cmocka_unit_test(wakes_are_never_lost),
};

const struct seam_group threads_group = SEAM_GROUP("threads", tests);
