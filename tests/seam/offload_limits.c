/* SPDX-License-Identifier: MIT */
/* offload_limits.c: the limits of workers, posts and spins: each at its value and one past it. */
#include "seam.h"

#define KIB 1024u

/* The value a test sets, and what becomes of it. */
static void expect_open(struct weir_options options, int want)
{
    struct weir_loop *loop = NULL;
    int answer = seam_open(options, &loop);
    expect_equal(answer, want);
    expect((loop != NULL) == (want == 0));
    if (loop != NULL) {
        struct seam_work work;
        struct tracked posted = {0};
        seam_work_fill(&work, 5);
        work.call.op.callback = seam_called;
        if (options.offload_workers == WEIR_NO_OFFLOAD) {
            seam_refused(loop, &work.call, -EOPNOTSUPP);
        } else {
            expect_equal(seam_carry_out(loop, &work.call), 5);
        }
        weir_op_nop(&posted.op);
        seam_posted(loop, &posted);
        seam_await_count(loop, &posted.calls, 1);
        seam_end(loop);
    }
}

SEAM_TEST(workers_are_taken_up_to_their_limit_and_not_past_it)
{
    struct weir_options options = {.offload_workers = WEIR_WORKERS_MAX, .offload_stack = 16 * KIB};
    struct weir_loop *loop = NULL;
    int threads = seam_threads();
    int answer = seam_open(options, &loop);
    expect(answer == 0 || answer == -EAGAIN); /* so many threads may be more than one may have */
    if (answer == 0) {
        struct weir_facts facts;
        expect_equal(seam_threads(), threads + seam_threads_of(WEIR_WORKERS_MAX));
        expect_equal(weir_loop_facts(loop, &facts), 0);
        expect_equal(facts.workers, WEIR_WORKERS_MAX);
        seam_end(loop);
    }
    seam_await_threads(threads);
    options.offload_workers = WEIR_WORKERS_MAX + 1;
    expect_open(options, -EINVAL);
    options.offload_workers = WEIR_NO_OFFLOAD - 1;
    expect_open(options, -EINVAL);
    options.offload_workers = WEIR_NO_OFFLOAD;
    expect_open(options, 0);
    options.offload_workers = 1;
    expect_open(options, 0);
}

SEAM_TEST(stacks_are_taken_between_their_limits_and_not_past_them)
{
    struct weir_options options = {.offload_workers = 1};
    static const struct {
        uint32_t stack;
        int want;
    } cases[] = {
        {16 * KIB, 0}, {16 * KIB - 1, -EINVAL},   {1, -EINVAL},          {16 * KIB + 123, 0},
        {1u << 30, 0}, {(1u << 30) + 1, -EINVAL}, {UINT32_MAX, -EINVAL},
    };
    for (size_t i = 0; i < SEAM_COUNT(cases); i++) {
        options.offload_stack = cases[i].stack;
        expect_open(options, cases[i].want);
    }
}

SEAM_TEST(the_offload_gate_is_taken_up_to_its_limits_and_not_past_them)
{
    struct weir_options options = {.offload_workers = 1};
    options.offload_depth = WEIR_OFFLOAD_DEPTH_MAX;
    expect_open(options, 0);
    options.offload_depth = WEIR_OFFLOAD_DEPTH_MAX + 1;
    expect_open(options, -EINVAL);
    options.offload_depth = UINT32_MAX;
    expect_open(options, -EINVAL);
    options.offload_depth = 1;
    options.offload_waiting_max = WEIR_WAITING_MAX;
    expect_open(options, 0);
    options.offload_waiting_max = WEIR_WAITING_MAX + 1;
    expect_open(options, -EINVAL);
}

SEAM_TEST(the_offload_gate_has_as_many_places_as_were_asked_for)
{
    enum { DEPTH = 3000, WAITING = 2000 };
    static struct seam_work works[DEPTH + WAITING];
    struct seam_work more;
    struct weir_loop *loop = seam_loop_with((struct weir_options){
        .offload_workers = 2, .offload_depth = DEPTH, .offload_waiting_max = WAITING});
    struct seam_work *first = &works[0];
    seam_block(loop, first);
    for (int i = 1; i < DEPTH + WAITING; i++) {
        seam_work_fill(&works[i], i);
        seam_submit(loop, &works[i].call);
    }
    seam_work_fill(&more, 0);
    more.call.op.callback = seam_called;
    seam_refused(loop, &more.call, -EAGAIN);
    seam_turns(loop, 20);
    struct weir_counters counters = seam_counters(loop);
    expect_equal(counters.offload_in_flight, DEPTH);
    expect_equal(counters.offload_waiting, WAITING);
    seam_unblock(first);
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < DEPTH + WAITING; i++) {
        expect_equal(works[i].call.result, i);
        expect_equal(works[i].begun, 1);
    }
    seam_end(loop);
}

SEAM_TEST(posts_max_is_taken_up_to_its_limit_and_not_past_it)
{
    struct weir_options options = {.offload_workers = 1, .posts_max = WEIR_POSTS_MAX};
    expect_open(options, 0);
    options.posts_max = WEIR_POSTS_MAX + 1;
    expect_open(options, -EINVAL);
    options.posts_max = UINT32_MAX;
    expect_open(options, -EINVAL);
    options.posts_max = 1;
    expect_open(options, 0);
}

SEAM_TEST(a_spin_is_taken_up_to_a_second_and_not_past_it)
{
    struct weir_options options = {.offload_workers = 1, .spin_ns_max = WEIR_S};
    expect_open(options, 0);
    options.spin_ns_max = WEIR_S + 1;
    expect_open(options, -EINVAL);
    options.spin_ns_max = UINT64_MAX;
    expect_open(options, -EINVAL);
    options.spin_ns_max = 1;
    expect_open(options, 0);
}

SEAM_TEST(flags_are_those_that_the_header_names)
{
    expect_open((struct weir_options){.flags = WEIR_CALLER_RUNS}, 0);
    expect_open((struct weir_options){.flags = WEIR_INSPECTABLE << 1}, -EINVAL);
    struct weir_loop *loop = NULL;
    expect_equal(
        seam_open((struct weir_options){.flags = WEIR_CALLER_RUNS | WEIR_FOR_ADOPTION}, &loop), 0);
    expect_equal(weir_loop_adopt(loop), 0);
    seam_end(loop);
}

SEAM_TEST(zeroed_options_are_the_stated_defaults_of_offload)
{
    static struct weir_probe probe;
    struct weir_facts facts;
    struct weir_loop *loop = seam_loop();
    expect_equal(weir_probe(&probe), 0);
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect(probe.cpus >= 1);
    expect_equal(facts.workers, seam_simulates() ? 4 : probe.cpus); /* the same on every machine */
    expect(strlen(facts.workers_reason) > 0);
    expect_equal(facts.offload_depth, 256);
    expect_equal(facts.offload_waiting_max, 0);
    expect_equal(facts.posts_max, 1024);
    expect(strcmp(facts.wakes_by, "eventfd") == 0 || strcmp(facts.wakes_by, "message") == 0 ||
           (seam_simulates() && strcmp(facts.wakes_by, "nobody") == 0));
    expect_equal(facts.memory_offload >= (uint64_t)facts.workers * 256 * KIB, !seam_simulates());
    seam_end(loop);
    loop = seam_loop_with((struct weir_options){
        .offload_workers = 3, .offload_depth = 7, .offload_waiting_max = 9, .posts_max = 11});
    expect_equal(weir_loop_facts(loop, &facts), 0);
    expect_equal(facts.workers, 3);
    expect_equal(facts.offload_depth, 7);
    expect_equal(facts.offload_waiting_max, 9);
    expect_equal(facts.posts_max, 11);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(workers_are_taken_up_to_their_limit_and_not_past_it),
    cmocka_unit_test(stacks_are_taken_between_their_limits_and_not_past_them),
    cmocka_unit_test(the_offload_gate_is_taken_up_to_its_limits_and_not_past_them),
    cmocka_unit_test(the_offload_gate_has_as_many_places_as_were_asked_for),
    cmocka_unit_test(posts_max_is_taken_up_to_its_limit_and_not_past_it),
    cmocka_unit_test(a_spin_is_taken_up_to_a_second_and_not_past_it),
    cmocka_unit_test(flags_are_those_that_the_header_names),
    cmocka_unit_test(zeroed_options_are_the_stated_defaults_of_offload),
};

const struct seam_group offload_limits_group = SEAM_GROUP("offload_limits", tests);
