/* SPDX-License-Identifier: MIT */
/*
 * engine/loop/gate.h: its books, against sums made anew from the ops after every step of a random
 * walk: narrow and wide ops, caps, reserves, byte budgets, a depth that moves, cancels; and a
 * completion queue as a kernel would fill it.
 */
#include "gate_world.h"

#include <stdio.h>

#define DEPTH 24u
#define WAITING 40u
#define OPS 80u
#define TASKS 5u
#define STEPS 60000
#define CQ_ENTRIES (2 * DEPTH + 4)

static struct gate_world world;
static struct random seeded;
static struct weir_task *tasks[TASKS];

static struct item {
    struct weir_op op;
    uint64_t order;     /* its place among all that entered */
    uint32_t posted;    /* completions of it that the queue holds */
    bool ends;          /* the last of them ends it */
    bool cancel_posted; /* and one of its cancel is there too */
    bool was_reserved;  /* it came through on a reserve */
} items[OPS];

static uint64_t entered;
static uint32_t queued; /* completions in the queue */
static uint64_t last_admitted[TASKS + 1];

static uint32_t below(uint32_t limit)
{
    return (uint32_t)random_below(&seeded, limit);
}

/* --- the sums, anew --------------------------------------------------------------------------- */

struct sums {
    uint32_t live;
    uint32_t waiting;
    uint32_t wide;
    uint32_t credits;
    uint32_t flying;     /* ops */
    uint32_t with_bytes; /* of these that have a budget's */
    uint64_t bytes;
    uint64_t bytes_in_flight;
};

static void add(struct sums *sums, const struct weir_op *op, bool governed_only)
{
    if (op->state == WEIR_WITH_CALLER || (governed_only && !op->governed)) {
        return;
    }
    uint64_t bytes = op->governed ? op->bytes : 0;
    sums->live++;
    sums->bytes += bytes;
    sums->waiting += op->state == WEIR_AT_GATE;
    if (op->with != WEIR_CARRIER_NOBODY) {
        sums->flying++;
        sums->with_bytes += bytes > 0;
        sums->credits += op->governed ? op->credits : 1;
        sums->bytes_in_flight += bytes;
    }
}

static void check_flow(struct weir_task *task, uint32_t *unused_places, uint32_t *unused_credits)
{
    const struct weir_flow *flow = weir_gate_flow(&world.gate, task);
    struct sums sums = {0};
    for (size_t i = 0; i < OPS; i++) {
        if (items[i].op.task == task) {
            add(&sums, &items[i].op, true);
        }
    }
    assert_int_equal(flow->live, sums.live);
    assert_int_equal(flow->in_flight, sums.credits);
    assert_true(flow->bytes == sums.bytes);
    assert_true(flow->bytes_in_flight == sums.bytes_in_flight);
    assert_true(flow->depth == 0 || sums.credits <= flow->depth || sums.flying == 1);
    assert_true(flow->bytes_max == 0 || sums.bytes_in_flight <= flow->bytes_max ||
                sums.with_bytes == 1);
    *unused_places += sums.live < flow->reserve ? flow->reserve - sums.live : 0;
    *unused_credits += sums.credits < flow->reserve ? flow->reserve - sums.credits : 0;
}

static void check_books(void)
{
    const struct weir_gate *gate = &world.gate;
    struct sums sums = {0};
    for (size_t i = 0; i < OPS; i++) {
        add(&sums, &items[i].op, false);
    }
    assert_int_equal(gate->live, sums.live);
    assert_int_equal(gate->unadmitted, sums.live - sums.flying);
    assert_int_equal(weir_gate_in_flight(gate), sums.credits);
    assert_true(gate->bytes == sums.bytes);
    assert_true(gate->bytes_in_flight == sums.bytes_in_flight);
    assert_true(sums.credits <= DEPTH);
    assert_true(sums.live <= gate->places);
    assert_true(gate->bytes_max == 0 || sums.bytes_in_flight <= gate->bytes_max ||
                sums.with_bytes == 1);
    assert_true(queued <= CQ_ENTRIES);
    uint32_t unused_places = 0;
    uint32_t unused_credits = 0;
    uint32_t reserved = 0;
    for (unsigned i = 0; i < TASKS; i++) {
        if (tasks[i]) {
            check_flow(tasks[i], &unused_places, &unused_credits);
            reserved += weir_gate_flow(&world.gate, tasks[i])->reserve;
        }
    }
    assert_int_equal(gate->unused_places, unused_places);
    assert_int_equal(gate->unused_credits, unused_credits);
    assert_int_equal(gate->reserved, reserved);
    assert_true(reserved < DEPTH);
}

/* --- steps ------------------------------------------------------------------------------------ */

static struct item *pick(enum weir_state state)
{
    size_t first = below(OPS);
    for (size_t i = 0; i < OPS; i++) {
        struct item *item = &items[(first + i) % OPS];
        if (item->op.state == state) {
            return item;
        }
    }
    return NULL;
}

static void fill(struct weir_op *op)
{
    static char block[1];
    static const uint64_t lengths[] = {0, 1, 4096, 65536, 1 << 20, UINT64_MAX};
    uint64_t length = lengths[below(COUNT_OF(lengths))];
    switch (below(4)) {
    case 0:
        weir_op_nop(op);
        break;
    case 1:
        weir_op_recv(op, 0, block, length, 0);
        break;
    default:
        weir_op_write(op, 0, block, length, 0);
        break;
    }
    op->burst = (uint16_t)(below(3) ? below(3) : below(2 * DEPTH));
    op->task = tasks[below(TASKS)];
}

static void step_enter(void)
{
    struct item *item = pick(WEIR_WITH_CALLER);
    if (!item) {
        return;
    }
    fill(&item->op);
    const struct weir_flow *flow = gate_world_flow(&world, &item->op);
    bool has_place = weir_gate_has_place(&world.gate, flow);
    if (flow->live < flow->reserve && world.gate.live < world.gate.places) {
        assert_true(has_place);
    }
    if (has_place) {
        item->order = ++entered;
        gate_world_enter(&world, &item->op);
    }
}

static bool fits_its_reserve(const struct weir_flow *flow)
{
    const struct weir_op *first = flow->lines[WEIR_LINE_WAITING].head;
    uint32_t credits = weir_gate_want(&world.gate, first).credits;
    return flow->in_flight + credits <= flow->reserve &&
           weir_gate_in_flight(&world.gate) + credits <= DEPTH;
}

/* Whoever has its reserve free may go; else, with nothing in flight, somebody may. */
static void check_somebody_may_go(const struct weir_flow *next)
{
    const struct weir_flow *flow = world.gate.lines[WEIR_LINE_WAITING].head;
    if (flow && weir_gate_in_flight(&world.gate) == 0) {
        assert_non_null(next);
    }
    for (; flow; flow = flow->links[WEIR_LINE_WAITING].next) {
        assert_true(!fits_its_reserve(flow) || (next && fits_its_reserve(next)));
    }
}

static bool step_admit(void)
{
    struct weir_flow *flow = weir_gate_next(&world.gate);
    check_somebody_may_go(flow);
    if (!flow) {
        return false;
    }
    uint32_t kept_before = world.gate.unused_credits;
    uint32_t in_flight_before = weir_gate_in_flight(&world.gate);
    uint32_t steered_before = world.gate.steered;
    bool reserved = fits_its_reserve(flow);
    struct item *item = WEIR_CONTAINER(gate_world_admit(&world), struct item, op);
    item->was_reserved = reserved;
    unsigned of = 0;
    while (of < TASKS && (!tasks[of] || tasks[of] != item->op.task)) {
        of++;
    }
    assert_true(item->order > last_admitted[of]); /* in order within its task */
    last_admitted[of] = item->order;
    if (!reserved) { /* it took nothing that is kept for others, and keeps the depth */
        uint32_t taken = in_flight_before + kept_before;
        assert_true(weir_gate_in_flight(&world.gate) + world.gate.unused_credits <= DEPTH);
        assert_true(taken < DEPTH || taken <= world.gate.reserved);
        uint32_t steered = steered_before + kept_before;
        bool bound = item->op.governed && item->op.kind != WEIR_KIND_RECV;
        assert_true(!bound || steered < world.gate.depth || steered <= world.gate.reserved);
    }
    return true;
}

static void step_cancel_at_gate(void)
{
    struct item *item = pick(WEIR_AT_GATE);
    if (item) {
        gate_world_cancel(&world, &item->op);
    }
}

/* What was cancelled while it waited is handed back. */
static void step_hand_back(void)
{
    struct item *item = pick(WEIR_DONE);
    if (item) {
        gate_world_hand_back(&world, &item->op);
    }
}

/* The kernel: a completion of an op, or of its cancel. */
static void post(struct item *item)
{
    uint32_t credits = item->op.governed ? item->op.credits : 1;
    if (!item->cancel_posted && below(4) == 0) {
        item->cancel_posted = true;
        queued++;
    } else if (!item->ends && item->posted < credits) {
        item->posted++;
        item->ends = item->op.burst < 2 || below(3) == 0;
        queued++;
    }
}

/* The loop takes all that is in the queue. */
static void reap(void)
{
    for (size_t i = 0; i < OPS; i++) {
        struct item *item = &items[i];
        if (item->op.state != WEIR_IN_FLIGHT) {
            continue;
        }
        item->posted = 0;
        if (item->ends) {
            weir_op_move(&item->op, WEIR_DONE);
            gate_world_hand_back(&world, &item->op);
            item->ends = false;
            item->cancel_posted = false;
        }
    }
    queued = 0;
}

/* The kernel posts all that may ever come between two turns. */
static void post_all(void)
{
    for (size_t i = 0; i < OPS; i++) {
        struct item *item = &items[i];
        if (item->op.state == WEIR_IN_FLIGHT) {
            uint32_t credits = item->op.governed ? item->op.credits : 1;
            queued += credits - item->posted + !item->cancel_posted;
            item->posted = credits;
            item->cancel_posted = true;
            item->ends = true;
        }
    }
}

static bool is_used(const struct weir_task *task)
{
    bool used = false;
    for (size_t i = 0; i < OPS; i++) {
        used |= items[i].op.task == task && items[i].op.state != WEIR_WITH_CALLER;
    }
    return used;
}

/* Ends a task that has nothing live, or opens one. */
static void step_task(void)
{
    unsigned i = below(TASKS);
    if (tasks[i]) {
        if (!is_used(tasks[i])) {
            gate_world_end_task(&world, tasks[i]);
            tasks[i] = NULL;
        }
        return;
    }
    uint32_t reserve = below(2) ? below(DEPTH / TASKS + 1) : 0;
    struct weir_flow limits = {
        .share = 1 + below(8),
        .reserve = reserve,
        .depth = below(2) ? reserve + 1 + below(6) : 0,
        .bytes_max = below(3) ? 0 : 1 + below(1 << 18),
    };
    tasks[i] = gate_world_task(&world, limits);
    last_admitted[i] = 0;
}

static void step(void)
{
    switch (below(16)) {
    case 0:
        step_cancel_at_gate();
        break;
    case 1:
        step_hand_back();
        break;
    case 2:
        reap();
        break;
    case 3:
        world.gate.depth = 1 + below(DEPTH);
        break;
    case 4:
        step_task();
        break;
    case 5:
    case 6:
    case 7:
        step_admit();
        break;
    case 8:
    case 9:
    case 10:;
        struct item *item = pick(WEIR_IN_FLIGHT);
        if (item) {
            post(item);
        }
        break;
    default:
        step_enter();
        break;
    }
}

/* Everything that waits gets through if what is in flight comes back, whatever the depth. */
static void drain(void)
{
    for (unsigned i = 0; world.gate.live > 0; i++) {
        assert_true(i < 4 * OPS);
        while (step_admit()) {
        }
        post_all();
        check_books();
        reap();
        step_hand_back();
        check_books();
    }
}

static int walk(uint64_t bytes_max)
{
    gate_world_open(&world, DEPTH, WAITING);
    world.gate.bytes_max = bytes_max;
    memset(items, 0, sizeof items);
    memset(tasks, 0, sizeof tasks);
    memset(last_admitted, 0, sizeof last_admitted);
    queued = 0;
    for (int i = 0; i < STEPS; i++) {
        step();
        check_books();
        if (i % 1000 == 999) {
            drain();
        }
    }
    for (unsigned i = 0; i < TASKS; i++) {
        if (tasks[i]) {
            gate_world_end_task(&world, tasks[i]);
        }
    }
    assert_int_equal(world.gate.reserved + world.gate.unused_credits + world.gate.unused_places, 0);
    gate_world_close(&world);
    return 0;
}

static void a_random_walk_keeps_the_books_and_lets_everything_through(void **state)
{
    (void)state;
    seeded = random_open();
    walk(0);
}

static void so_does_one_with_a_budget_of_bytes(void **state)
{
    (void)state;
    seeded = random_open();
    walk(1 << 17);
}

/* --- nothing starves -------------------------------------------------------------------------- */

/* Beside floods of every sort, each op is let through before so many others. */
static void whatever_the_mix_each_op_gets_through_after_a_bounded_number_of_others(void **state)
{
    (void)state;
    seeded = random_open();
    gate_world_open(&world, DEPTH, WAITING);
    memset(items, 0, sizeof items);
    world.gate.bytes_max = 1 << 18;
    static const struct weir_flow limits[TASKS] = {
        {.share = 1, .depth = 3},
        {.share = 8, .reserve = 4},
        {.share = 1024},
        {.share = 1, .bytes_max = 1 << 16},
        {.share = 2, .depth = 2, .reserve = 2},
    };
    for (unsigned i = 0; i < TASKS; i++) {
        tasks[i] = gate_world_task(&world, limits[i]);
    }
    memset(last_admitted, 0, sizeof last_admitted);
    static uint64_t since[OPS]; /* turns that an op has waited */
    memset(since, 0, sizeof since);
    for (int turn = 0; turn < 20000; turn++) {
        if (turn % 64 == 0) {
            world.gate.depth = 1 + below(DEPTH);
        }
        for (unsigned i = 0; i < OPS; i++) {
            step_enter();
        }
        while (step_admit()) {
        }
        for (size_t i = 0; i < OPS; i++) {
            since[i] = items[i].op.state == WEIR_AT_GATE ? since[i] + 1 : 0;
            /* A flow of share 1 beside one of 1024 whose ops cost 1 or more. */
            assert_true(since[i] < 20000 / 4);
        }
        for (unsigned i = 0; i < 6; i++) {
            struct item *item = pick(WEIR_IN_FLIGHT);
            if (item) {
                item->ends = true;
                weir_op_move(&item->op, WEIR_DONE);
                gate_world_hand_back(&world, &item->op);
                item->ends = false;
            }
        }
    }
    drain();
    gate_world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_walk_keeps_the_books_and_lets_everything_through),
        cmocka_unit_test(so_does_one_with_a_budget_of_bytes),
        cmocka_unit_test(whatever_the_mix_each_op_gets_through_after_a_bounded_number_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
