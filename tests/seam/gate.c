/* SPDX-License-Identifier: MIT */
/* gate.c: the gate and the limits of weir/loop.h: each at its value and one past it. */
#include "seam.h"

#include <sys/resource.h>

SEAM_TEST(a_full_gate_refuses_and_leaves_the_op_untouched)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 4, .waiting_max = 3});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[7] = {0};
    struct tracked more = {.op.callback = seam_called};
    for (int i = 0; i < 7; i++) {
        seam_read_byte(loop, &ops[i], pipe.in);
    }
    weir_op_read(&more.op, pipe.in, more.data, 1, WEIR_CURRENT);
    more.op.deadline_ns = weir_now(loop) + 3600 * WEIR_S;
    more.op.intended_ns = weir_now(loop);
    seam_refused(loop, &more, -EAGAIN);
    seam_turns(loop, 3);
    seam_refused(loop, &more, -EAGAIN);
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.refused, 2);
    expect_equal(counters.in_flight, 4);
    expect_equal(counters.waiting, 3);
    seam_write(pipe.out, "a", 1);
    while (weir_loop_live(loop) == 7) {
        expect(seam_turn(loop, -1) >= 0);
    }
    seam_submit(loop, &more); /* one came back: one place */
    struct tracked last = {.op.callback = seam_called};
    weir_op_nop(&last.op);
    seam_refused(loop, &last, -EAGAIN);
    seam_write(pipe.out, "bcdefgh", 7);
    expect_equal(seam_run(loop), 0);
    expect_equal(more.result, 1);
    expect_equal(last.calls, 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

SEAM_TEST(the_gate_lets_ops_through_in_the_order_they_came)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 200});
    struct tracked ops[200] = {0};
    for (int i = 0; i < 200; i++) {
        weir_op_nop(&ops[i].op);
        seam_submit(loop, &ops[i]);
        if (i == 100) {
            seam_turns(loop, 5);
        }
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 1; i < 200; i++) {
        expect(ops[i].calls == 1 && ops[i - 1].order < ops[i].order);
    }
    struct weir_counters counters;
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect(counters.waited >= 190);
    seam_end(loop);
}

SEAM_TEST(depth_1_without_waiting_holds_one_op)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1});
    struct tracked op = {0};
    struct tracked more = {.op.callback = seam_called};
    for (int i = 0; i < 100; i++) {
        weir_op_nop(&op.op);
        seam_submit(loop, &op);
        weir_op_nop(&more.op);
        seam_refused(loop, &more, -EAGAIN);
        seam_await(loop, &op);
        expect_equal(op.result, 0);
    }
    seam_end(loop);
}

/* Takes exactly that many, and closes the loop over them. */
static void expect_full_at(struct weir_loop *loop, unsigned places)
{
    struct tracked *ops = calloc((size_t)places + 1, sizeof *ops);
    expect(ops != NULL);
    for (unsigned i = 0; i < places; i++) {
        weir_op_nop(&ops[i].op);
        seam_submit(loop, &ops[i]);
    }
    weir_op_nop(&ops[places].op);
    ops[places].op.callback = seam_called;
    seam_refused(loop, &ops[places], -EAGAIN);
    struct weir_counters counters;
    expect(seam_turn(loop, -1) > 0);
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.cq_overflow, 0);
    seam_end(loop);
    for (unsigned i = 0; i < places; i++) {
        expect_equal(ops[i].calls, 1);
        expect(ops[i].result == 0 || ops[i].result == -ECANCELED);
    }
    free(ops);
}

SEAM_TEST(depth_is_taken_up_to_WEIR_DEPTH_MAX_and_not_past_it)
{
    struct weir_loop *loop = NULL;
    struct weir_options options = {.depth = WEIR_DEPTH_MAX, .admit_ops_max = WEIR_DEPTH_MAX};
    expect_equal(seam_open(options, &loop), 0);
    struct weir_facts facts;
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect_equal(facts.depth_asked, WEIR_DEPTH_MAX);
    /* Less only where ring memory was refused, and then it says so. */
    expect((facts.depth == WEIR_DEPTH_MAX) == (facts.depth_reason[0] == '\0'));
    expect_full_at(loop, facts.depth);
    struct weir_loop *untouched = (struct weir_loop *)&facts;
    loop = untouched;
    options.depth = WEIR_DEPTH_MAX + 1;
    expect_equal(seam_open(options, &loop), -EINVAL);
    options.depth = 1u << 20;
    expect_equal(seam_open(options, &loop), -EINVAL);
    options.depth = UINT32_MAX;
    expect_equal(seam_open(options, &loop), -EINVAL);
    expect(loop == untouched);
}

SEAM_TEST(waiting_max_is_taken_up_to_its_limit_and_not_past_it)
{
    struct weir_loop *loop = NULL;
    struct weir_options options = {.depth = 8, .waiting_max = WEIR_WAITING_MAX};
    expect_equal(seam_open(options, &loop), 0);
    struct tracked op = {0};
    weir_op_nop(&op.op);
    expect_equal(seam_carry_out(loop, &op), 0);
    seam_end(loop);
    options.waiting_max = 5000;
    expect_equal(seam_open(options, &loop), 0);
    expect_full_at(loop, 8 + 5000);
    options.waiting_max = WEIR_WAITING_MAX + 1;
    expect_equal(seam_open(options, &loop), -EINVAL);
}

SEAM_TEST(timers_max_is_taken_up_to_its_limit_and_not_past_it)
{
    struct weir_loop *loop = NULL;
    struct weir_options options = {.timers_max = WEIR_TIMERS_MAX};
    expect_equal(seam_open(options, &loop), 0);
    struct tracked timer = {0};
    weir_op_timeout_in(&timer.op, loop, 1000);
    expect_equal(seam_carry_out(loop, &timer), 0);
    seam_end(loop);
    options.timers_max = WEIR_TIMERS_MAX + 1;
    expect_equal(seam_open(options, &loop), -EINVAL);
}

SEAM_TEST(zeroed_options_are_the_stated_defaults)
{
    struct weir_loop *loop = seam_loop();
    struct weir_facts facts;
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect_equal(facts.depth_asked, 256);
    expect_equal(facts.waiting_max, 0);
    expect_equal(facts.timers_max, 1024);
    expect(strcmp(facts.backend, seam_backend.name) == 0);
    expect(facts.memory_tasks <= 4u << 20);
    expect_equal(facts.memory_total, facts.memory_ring + facts.memory_slots + facts.memory_timers +
                                         facts.memory_events + facts.memory_observe +
                                         facts.memory_tasks + facts.memory_offload +
                                         facts.memory_loop);
    expect_equal(weir_loop_facts(loop, NULL), -EINVAL);
    expect_equal(weir_loop_facts(NULL, &facts), -EINVAL);
    seam_end(loop);
}

SEAM_TEST(open_refuses_what_it_does_not_know)
{
    struct weir_loop *loop = NULL;
    struct weir_decision decision;
    expect_equal(weir_loop_open(&(struct weir_options){.policy = (enum weir_policy)99}, &loop),
                 -EINVAL);
    expect_equal(seam_open((struct weir_options){.flags = 1u << 31}, &loop), -EINVAL);
    expect_equal(seam_open((struct weir_options){.memory_max = 1000}, &loop), -EINVAL);
    expect_equal(seam_open((struct weir_options){0}, NULL), -EINVAL);
    expect(loop == NULL);
    expect_equal(seam_open((struct weir_options){.decision = &decision}, &loop), 0);
    expect(strcmp(decision.chosen, seam_backend.name) == 0);
    int some = 0;
    seam_end(loop);
    expect_equal(seam_open((struct weir_options){.user = &some}, &loop), 0);
    expect(weir_loop_user(loop) == &some);
    expect(weir_loop_user(NULL) == NULL);
    seam_end(loop);
}

SEAM_TEST(memory_max_is_taken_up_to_its_limit_and_not_past_it)
{
    static const uint64_t past[] = {
        WEIR_MEMORY_MAX + 1,    1ULL << 50, 1ULL << 63, UINT64_MAX - (3ULL << 20),
        UINT64_MAX - (1 << 20), UINT64_MAX,
    };
    struct weir_loop *loop = NULL;
    for (size_t i = 0; i < SEAM_COUNT(past); i++) {
        expect_equal(seam_open((struct weir_options){.memory_max = past[i]}, &loop), -EINVAL);
        expect(loop == NULL);
    }
    /* So many addresses may be more than the machine gives out. */
    int r = seam_open((struct weir_options){.memory_max = WEIR_MEMORY_MAX}, &loop);
    expect(r == 0 || r == -ENOMEM);
    if (r == 0) {
        seam_end(loop);
    }
}

/* A GiB of addresses is enough for any backend, and not for so much memory. */
static int open_in_want(void *context)
{
    (void)context;
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    child_expect(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    fclose(statm);
    rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)1 << 30);
    child_expect(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0);
    struct weir_loop *loop = NULL;
    struct weir_decision decision;
    memset(&decision, 0x5a, sizeof decision);
    struct weir_options options = {.memory_max = WEIR_MEMORY_MAX, .decision = &decision};
    int fds = seam_fds_open();
    child_expect(seam_open(options, &loop) == -ENOMEM);
    child_expect(decision.chosen == NULL);
    child_expect(loop == NULL);
    child_expect(seam_fds_open() == fds);
    options.memory_max = 0;
    child_expect(seam_open(options, &loop) == 0);
    child_expect(strcmp(decision.chosen, seam_backend.name) == 0);
    return seam_close(loop, 0, NULL);
}

SEAM_TEST(an_open_that_fails_for_want_of_memory_has_chosen_no_backend)
{
    expect_equal(seam_child(open_in_want, NULL), 0);
}

/* Ops that are submitted all at once, between turns or in a callback. */
struct volley {
    struct tracked *ops;
    size_t count;
};

static void submit_volley(struct tracked *tracked)
{
    const struct volley *volley = tracked->context;
    for (size_t i = 0; i < volley->count; i++) {
        seam_submit(tracked->op.loop, &volley->ops[i]);
    }
}

/* The turn of a callback has had its own. */
static void submit_all(struct weir_loop *loop, struct tracked *ops, size_t count, bool in_callback)
{
    struct volley volley = {ops, count};
    struct tracked nop = {.context = &volley};
    weir_op_nop(&nop.op);
    nop.then = in_callback ? submit_volley : NULL;
    expect_equal(seam_carry_out(loop, &nop), 0);
    if (!in_callback) {
        submit_volley(&nop);
    }
}

static void ops_keep_to_the_budget(bool in_callback)
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 16, .waiting_max = 16, .admit_ops_max = 3});
    struct tracked ops[10] = {0};
    for (size_t i = 0; i < SEAM_COUNT(ops); i++) {
        weir_op_nop(&ops[i].op);
    }
    submit_all(loop, ops, SEAM_COUNT(ops), in_callback);
    /* None of these sleeps: what is over the budget keeps the turn awake. */
    expect_equal(seam_turn(loop, -1), 3);
    expect_equal(seam_turn(loop, -1), 3);
    expect_equal(seam_turn(loop, -1), 3);
    expect_equal(seam_turn(loop, -1), 1);
    seam_end(loop);
}

SEAM_TEST(a_turn_lets_no_more_ops_through_than_its_budget)
{
    ops_keep_to_the_budget(false);
    ops_keep_to_the_budget(true);
}

static void bytes_keep_to_the_budget(bool in_callback, uint16_t flags)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.admit_bytes_max = 4096});
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    static char block[65536];
    static const unsigned lengths[] = {2048, 2048, 1, 65536, 1};
    struct tracked ops[SEAM_COUNT(lengths)] = {0};
    for (size_t i = 0; i < SEAM_COUNT(lengths); i++) {
        weir_op_write(&ops[i].op, null, block, lengths[i], WEIR_CURRENT);
        ops[i].op.flags = flags;
    }
    submit_all(loop, ops, SEAM_COUNT(ops), in_callback);
    static const unsigned waiting[] = {3, 2, 1, 0}; /* the larger one passes alone */
    for (size_t i = 0; i < SEAM_COUNT(waiting); i++) {
        expect(seam_turn(loop, 0) >= 0);
        expect_equal(seam_counters(loop).waiting, waiting[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (size_t i = 0; i < SEAM_COUNT(lengths); i++) {
        expect_equal(ops[i].result, lengths[i]);
    }
    seam_end(loop);
    close(null);
}

SEAM_TEST(a_turn_lets_no_more_bytes_through_than_its_budget)
{
    bytes_keep_to_the_budget(false, 0);
    bytes_keep_to_the_budget(true, 0);
    bytes_keep_to_the_budget(false, WEIR_WHOLE);
    bytes_keep_to_the_budget(true, WEIR_WHOLE);
}

/* Every refusal by submit that weir/loop.h names and no other test provokes. */
static void expect_invalid(struct weir_loop *loop, struct weir_task *foreign)
{
    struct tracked op = {.op.callback = seam_called};
    seam_refused(loop, &op, -EINVAL); /* a zeroed op's kind */
    op.op.kind = WEIR_KIND_COUNT;
    seam_refused(loop, &op, -EINVAL);
    op.op.kind = 255;
    seam_refused(loop, &op, -EINVAL);
    weir_op_nop(&op.op);
    op.op.flags = 1u << 15;
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_WHOLE; /* NOP does not know it */
    seam_refused(loop, &op, -EINVAL);
    weir_op_fsync(&op.op, 0);
    seam_refused(loop, &op, -EINVAL);
    weir_op_timeout_in(&op.op, loop, 0);
    seam_refused(loop, &op, -EINVAL);
    weir_op_call(&op.op, seam_work_do, NULL);
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = WEIR_SHORT; /* CALL's alone */
    weir_op_nop(&op.op);
    seam_refused(loop, &op, -EINVAL);
    weir_op_timeout_in(&op.op, loop, 0);
    seam_refused(loop, &op, -EINVAL);
    weir_op_read(&op.op, 0, op.data, 1, 0);
    seam_refused(loop, &op, -EINVAL);
    op.op.flags = 0;
    weir_op_call(&op.op, NULL, NULL);
    seam_refused(loop, &op, -EINVAL);
    weir_op_nop(&op.op);
    op.op.route = WEIR_ROUTE_OFFLOAD + 1;
    seam_refused(loop, &op, -EINVAL);
    op.op.route = 255;
    seam_refused(loop, &op, -EINVAL);
    op.op.route = WEIR_ROUTE_AUTO;
    op.op.task = foreign;
    seam_refused(loop, &op, -EINVAL);
    op.op.task = NULL;
    op.op.callback = NULL;
    seam_refused(loop, &op, -EINVAL);
    expect_equal(weir_submit(loop, NULL), -EINVAL);
    expect_equal(weir_submit(NULL, &op.op), -EINVAL);
}

SEAM_TEST(submit_refuses_what_it_does_not_know_and_leaves_it_untouched)
{
    struct weir_loop *loop = seam_loop();
    struct weir_loop *other = seam_loop();
    struct weir_task *foreign = NULL;
    expect_equal(weir_task_open(other, &(struct weir_task_options){.name = "theirs"}, &foreign), 0);
    expect_invalid(loop, foreign);
    expect_equal(seam_turns(loop, 3), 0);
    expect_equal(weir_loop_live(loop), 0);
    seam_end(other);
    seam_end(loop);
}

SEAM_TEST(lengths_are_taken_up_to_their_stated_limit_and_not_past_it)
{
    struct weir_loop *loop = seam_loop();
    int file = seam_file(100);
    struct tracked op = {.op.callback = seam_called};
    weir_op_sync_file_range(&op.op, file, 0, UINT32_MAX, SYNC_FILE_RANGE_WRITE);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_sync_file_range(&op.op, file, 0, (uint64_t)UINT32_MAX + 1, SYNC_FILE_RANGE_WRITE);
    seam_refused(loop, &op, -EINVAL);
    weir_op_fadvise(&op.op, file, 0, UINT32_MAX, POSIX_FADV_WILLNEED);
    expect_equal(seam_carry_out(loop, &op), 0);
    weir_op_fadvise(&op.op, file, 0, (uint64_t)UINT32_MAX + 1, POSIX_FADV_WILLNEED);
    seam_refused(loop, &op, -EINVAL);
    seam_end(loop);
    close(file);
}

SEAM_TEST(time_at_the_gate_is_counted_as_waiting)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked first = {0};
    struct tracked behind = {0};
    struct weir_task *task = NULL;
    struct weir_counters counters;
    static struct weir_histogram wait;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "behind"}, &task), 0);
    seam_read_byte(loop, &first, pipe.in);
    weir_op_nop(&behind.op);
    behind.op.task = task;
    seam_submit(loop, &behind);
    seam_turns(loop, 2);
    usleep(5000); /* what the op behind has to wait at least */
    seam_write(pipe.out, "x", 1);
    while (behind.calls == 0) {
        expect(seam_turn(loop, -1) >= 0);
    }
    expect_equal(weir_task_read(task, WEIR_STAGE_WAIT, &wait), 0);
    expect_equal(wait.count, 1);
    expect(wait.max >= 5000 * WEIR_US);
    expect_equal(weir_loop_counters(loop, &counters), 0);
    expect_equal(counters.waited, 1);
    seam_end(loop);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_full_gate_refuses_and_leaves_the_op_untouched),
    cmocka_unit_test(the_gate_lets_ops_through_in_the_order_they_came),
    cmocka_unit_test(depth_1_without_waiting_holds_one_op),
    cmocka_unit_test(depth_is_taken_up_to_WEIR_DEPTH_MAX_and_not_past_it),
    cmocka_unit_test(waiting_max_is_taken_up_to_its_limit_and_not_past_it),
    cmocka_unit_test(timers_max_is_taken_up_to_its_limit_and_not_past_it),
    cmocka_unit_test(zeroed_options_are_the_stated_defaults),
    cmocka_unit_test(open_refuses_what_it_does_not_know),
    cmocka_unit_test(memory_max_is_taken_up_to_its_limit_and_not_past_it),
    cmocka_unit_test(an_open_that_fails_for_want_of_memory_has_chosen_no_backend),
    cmocka_unit_test(a_turn_lets_no_more_ops_through_than_its_budget),
    cmocka_unit_test(a_turn_lets_no_more_bytes_through_than_its_budget),
    cmocka_unit_test(submit_refuses_what_it_does_not_know_and_leaves_it_untouched),
    cmocka_unit_test(time_at_the_gate_is_counted_as_waiting),
    cmocka_unit_test(lengths_are_taken_up_to_their_stated_limit_and_not_past_it),
};

const struct seam_group gate_group = SEAM_GROUP("gate", tests);
