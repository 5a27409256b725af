/* SPDX-License-Identifier: MIT */
/*
 * tight.c: a storm on a small gate: depth 4, 8 may wait, and a ring of 16 completions: two for each
 * op in flight, its own and its cancel's, and the loop's own. Tasks with a share, a cap and a
 * reserve; ops that say what is to be done when the gate is full. No op is lost, the kernel has
 * nothing to keep aside, and every refusal seen is counted once.
 */
#include "check.h"

#include <engine/backend/sim.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 4
#define WAITING 8
#define CQ_ENTRIES 16
#define ITEMS 64
#define OPS 300000
#define STEPS 16 /* at most, in a row: enough to fill a gate */

enum { TASK_SHARED, TASK_CAPPED, TASK_RESERVED, TASKS };

struct tight;

struct item {
    struct weir_op op;
    struct tight *tight;
    bool live;
    bool offloaded;
    int task; /* TASKS: none */
    unsigned char byte;
};

struct tight {
    struct weir_loop *loop;
    struct weir_sim *world; /* NULL: the real one */
    struct weir_task *tasks[TASKS];
    struct item items[ITEMS];
    uint64_t random;
    uint64_t ops_left;
    int fds[2];
    uint64_t accepted;
    uint64_t handed;
    uint64_t refused;
    uint64_t refused_of[TASKS];
    unsigned reserved_live;
};

static uint64_t draw(struct tight *tight, uint64_t below)
{
    tight->random += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = tight->random;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return (mixed ^ (mixed >> 31)) % below;
}

/* --- ops -------------------------------------------------------------------------------------- */

static void submit_one(struct tight *tight);

static bool is_reserved(const struct item *item)
{
    return item->task == TASK_RESERVED && !item->offloaded;
}

static void on_item(struct weir_op *op)
{
    struct item *item = WEIR_CONTAINER(op, struct item, op);
    struct tight *tight = item->tight;
    CHECK(item->live);
    CHECK(op->result >= 0 || op->result == -ECANCELED || op->result == -ETIME);
    item->live = false;
    tight->handed++;
    tight->reserved_live -= is_reserved(item);
    if (draw(tight, 2) == 0) {
        submit_one(tight);
    }
}

static int64_t work(void *argument)
{
    (void)argument;
    return 1;
}

static void fill(struct tight *tight, struct item *item)
{
    static const uint16_t answers[] = {0, WEIR_OR_WAIT, WEIR_OR_REFUSE, WEIR_OR_REFUSE,
                                       WEIR_OR_RUN};
    uint64_t kind = draw(tight, 8);
    item->op = (struct weir_op){.callback = on_item};
    switch (kind) {
    case 0:
        weir_op_call(&item->op, work, NULL);
        break;
    case 1:
        weir_op_poll(&item->op, tight->fds[0], 1); /* POLLIN */
        break;
    case 2:
    case 3:
        weir_op_read(&item->op, tight->fds[0], &item->byte, 1, 0); /* waits for a write */
        break;
    case 4:
        weir_op_write(&item->op, tight->fds[1], &item->byte, 1, 0);
        break;
    default:
        weir_op_nop(&item->op);
        break;
    }
    item->offloaded = item->op.kind == WEIR_KIND_CALL;
    item->op.flags = answers[draw(tight, item->offloaded ? 5 : 4)];
    item->task = (int)draw(tight, TASKS + 1);
    item->op.task = item->task < TASKS ? tight->tasks[item->task] : NULL;
    if (draw(tight, 8) == 0) {
        item->op.deadline_ns = weir_now(tight->loop) + draw(tight, 300 * WEIR_US);
    }
}

static void submit_one(struct tight *tight)
{
    struct item *item = &tight->items[draw(tight, ITEMS)];
    if (item->live || tight->ops_left == 0) {
        return;
    }
    tight->ops_left--;
    fill(tight, item);
    bool has_reserve = is_reserved(item) && tight->reserved_live == 0;
    int answer = weir_submit(tight->loop, &item->op);
    if (answer == 0) {
        item->live = true;
        tight->accepted++;
        tight->reserved_live += is_reserved(item);
        return;
    }
    CHECK_EQUAL(answer, -EAGAIN);
    CHECK_EQUAL(item->op.state, WEIR_WITH_CALLER);
    CHECK(!has_reserve); /* a task within its reserve is never refused */
    CHECK(!(item->op.flags & WEIR_OR_RUN));
    tight->refused++;
    if (item->task < TASKS) {
        tight->refused_of[item->task]++;
    }
}

static void cancel_one(struct tight *tight)
{
    struct item *item = &tight->items[draw(tight, ITEMS)];
    if (item->live) {
        int answer = weir_cancel(tight->loop, &item->op);
        CHECK(answer == 0 || answer == -EALREADY);
    }
}

/* --- what is counted -------------------------------------------------------------------------- */

static void compare(const struct tight *tight)
{
    struct weir_counters counters;
    uint64_t refused = 0;
    CHECK_EQUAL(weir_loop_counters(tight->loop, &counters), 0);
    CHECK_EQUAL(counters.cq_overflow, 0);
    CHECK_EQUAL(counters.refused, tight->refused);
    CHECK_EQUAL(counters.submitted, tight->accepted);
    CHECK_EQUAL(counters.finished, tight->handed);
    CHECK(counters.in_flight <= DEPTH && counters.offload_in_flight <= DEPTH);
    CHECK(counters.waiting <= DEPTH + WAITING);
    for (struct weir_task *task = NULL; (task = weir_task_next(tight->loop, task)) != NULL;) {
        struct weir_task_counters of_task;
        CHECK_EQUAL(weir_task_read_counters(task, &of_task), 0);
        refused += of_task.refused;
    }
    CHECK_EQUAL(refused, tight->refused);
    for (unsigned i = 0; i < TASKS; i++) {
        struct weir_task_counters of_task;
        CHECK_EQUAL(weir_task_read_counters(tight->tasks[i], &of_task), 0);
        CHECK_EQUAL(of_task.refused, tight->refused_of[i]);
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

static void prepare(struct tight *tight, enum weir_policy policy)
{
    const struct weir_task_options tasks[TASKS] = {
        [TASK_SHARED] = {.name = "shared", .share = 4},
        [TASK_CAPPED] = {.name = "capped", .depth = 1, .offload_depth = 1},
        [TASK_RESERVED] = {.name = "reserved", .share = 2, .reserve = 1, .offload_reserve = 1},
    };
    struct weir_options options = {
        .policy = policy,
        .depth = DEPTH,
        .waiting_max = WAITING,
        .offload_depth = DEPTH,
        .offload_waiting_max = WAITING,
        .offload_workers = 2,
        .sim.world = tight->world,
    };
    struct weir_facts facts;
    tight->loop = check_open(&options);
    CHECK_EQUAL(weir_loop_facts(tight->loop, &facts), 0);
    CHECK_EQUAL(facts.depth, DEPTH);
    CHECK_EQUAL(facts.waiting_max, WAITING);
    if (policy == WEIR_IO_URING) {
        CHECK_EQUAL(facts.cq_entries, CQ_ENTRIES);
    }
    for (unsigned i = 0; i < TASKS; i++) {
        CHECK_EQUAL(weir_task_open(tight->loop, &tasks[i], &tight->tasks[i]), 0);
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        tight->items[i].tight = tight;
    }
}

static void storm(struct tight *tight)
{
    tight->ops_left = OPS;
    while (tight->ops_left > 0) {
        for (uint64_t steps = draw(tight, STEPS); steps > 0; steps--) {
            submit_one(tight);
        }
        for (uint64_t steps = draw(tight, DEPTH + WAITING); steps > 0; steps--) {
            cancel_one(tight);
        }
        CHECK(weir_loop_turn(tight->loop, draw(tight, 4) == 0 ? 10 * (int64_t)WEIR_US : 0) >= 0);
        for (uint64_t steps = draw(tight, 3); steps > 0; steps--) {
            cancel_one(tight); /* in flight by now: one more completion each */
        }
        compare(tight);
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        if (tight->items[i].live) {
            weir_cancel(tight->loop, &tight->items[i].op);
        }
    }
    check_drain(tight->loop);
    compare(tight);
    CHECK_EQUAL(tight->handed, tight->accepted);
    CHECK_EQUAL(tight->accepted + tight->refused, OPS);
    printf("%llu accepted, %llu refused\n", (unsigned long long)tight->accepted,
           (unsigned long long)tight->refused);
    CHECK(tight->refused > OPS / 100 && tight->accepted > OPS / 100); /* else it was no storm */
    check_close(tight->loop);
}

static void run_real(enum weir_policy policy)
{
    static struct tight tight = {.random = 1};
    check_guard(150);
    CHECK_EQUAL(pipe2(tight.fds, O_CLOEXEC), 0);
    prepare(&tight, policy);
    storm(&tight);
    close(tight.fds[0]);
    close(tight.fds[1]);
}

static void a_storm_at_depth_4_on_io_uring_overflows_nothing_and_counts_every_refusal(void)
{
    run_real(WEIR_IO_URING);
}

static void a_storm_at_depth_4_on_epoll_overflows_nothing_and_counts_every_refusal(void)
{
    run_real(WEIR_EPOLL);
}

static void a_storm_at_depth_4_in_a_simulated_world_counts_every_refusal(void)
{
    static struct tight tight = {.random = 1};
    check_guard(150);
    CHECK_EQUAL(weir_sim_open(1, NULL, &tight.world), 0);
    CHECK_EQUAL(weir_sim_pipe(tight.world, tight.fds, 0), 0);
    prepare(&tight, WEIR_SIM);
    storm(&tight);
    for (int i = 0; i < 2; i++) {
        struct weir_op op = {0};
        weir_op_close(&op, tight.fds[i]);
        CHECK_EQUAL(weir_sim_do(tight.world, &op), 0);
    }
    CHECK_EQUAL(weir_sim_close(tight.world), 0);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_storm_at_depth_4_on_io_uring_overflows_nothing_and_counts_every_refusal),
        CHECK_TEST(a_storm_at_depth_4_on_epoll_overflows_nothing_and_counts_every_refusal),
        CHECK_TEST(a_storm_at_depth_4_in_a_simulated_world_counts_every_refusal),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
