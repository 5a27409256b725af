/* SPDX-License-Identifier: MIT */
/* test_sim_goal.c: the depth that a goal steers, on a disk whose latency is known to the ns. */
#include "sim_world.h"

#define DEPTH 64
#define OPS 96
#define SLOW_NS (100 * WEIR_US)
#define FAST_NS (10 * WEIR_US)
#define GOAL_NS (99 * WEIR_US)

static struct weir_sim *sim;
static struct weir_loop *loop;
static struct weir_op ops[OPS];
static char byte;
static int file;
static bool ends;

static void read_again(struct weir_op *op)
{
    assert_int_equal(op->result, 1);
    if (!ends) {
        weir_op_read(op, file, &byte, 1, 0);
        assert_int_equal(weir_submit(loop, op), 0);
    }
}

static void begin(uint64_t goal_ns, uint64_t task_goal_ns)
{
    const struct weir_sim_plan plan = {.storage = {SLOW_NS, SLOW_NS},
                                       .storage_bytes_per_s = UINT64_MAX};
    struct weir_task *task = NULL;
    sim = open_world(3, &plan);
    loop = open_loop_with((struct weir_options){
        .sim.world = sim, .depth = DEPTH, .waiting_max = OPS, .goal_ns = goal_ns});
    file = open_file(loop, "/file", O_RDWR | O_CREAT);
    assert_int_equal(write_text(loop, file, "x", 0), 1);
    if (task_goal_ns != 0) {
        struct weir_task_options options = {.name = "task", .goal_ns = task_goal_ns};
        assert_int_equal(weir_task_open(loop, &options, &task), 0);
    }
    ends = false;
    memset(ops, 0, sizeof ops);
    for (size_t i = 0; i < OPS; i++) {
        ops[i].callback = read_again;
        ops[i].task = task;
        weir_op_read(&ops[i], file, &byte, 1, 0);
        assert_int_equal(weir_submit(loop, &ops[i]), 0);
    }
}

static void end(void)
{
    ends = true;
    assert_int_equal(weir_loop_run(loop), 0);
    assert_int_equal(close_file(loop, file), 0);
    close_world(sim, loop);
}

static struct weir_gate_state gate(void)
{
    struct weir_gate_state state;
    assert_int_equal(weir_loop_gate(loop, NULL, &state), 0);
    assert_true(state.in_flight <= DEPTH);
    return state;
}

static void turn_for(uint64_t time_ns)
{
    uint64_t end_ns = weir_now(loop) + time_ns;
    while (weir_now(loop) < end_ns) {
        assert_true(weir_loop_turn(loop, -1) >= 0);
    }
}

static void a_disk_too_slow_halves_the_depth_each_10_ms_and_a_fast_one_raises_it_again(void **state)
{
    (void)state;
    begin(GOAL_NS, 0);
    uint32_t depth = DEPTH;
    turn_for(WEIR_MS);
    for (unsigned lowered = 1; depth > 2; lowered++) {
        turn_for(10 * WEIR_MS +
                 500 * WEIR_US); /* a change is not seen by what had left before it */
        depth /= 2;
        assert_int_equal(gate().depth, depth);
        assert_int_equal(gate().lowered, lowered);
        assert_int_equal(gate().reason, WEIR_DEPTH_LOOP_GOAL);
    }
    turn_for(100 * WEIR_MS);
    assert_int_equal(gate().depth, 1);
    assert_int_equal(gate().lowered, 6);
    assert_int_equal(gate().raised, 0);
    assert_in_range(gate().throttled_ns, 100 * WEIR_MS, 200 * WEIR_MS);
    sim->plan.storage = (struct weir_sim_span){FAST_NS, FAST_NS};
    turn_for(600 * WEIR_MS);
    assert_int_equal(gate().depth, DEPTH);
    assert_int_equal(gate().reason, WEIR_DEPTH_AS_OPENED);
    assert_int_equal(gate().raised, 31 + 8 + 6); /* by 1, by 2 from 32, by 3 from 48 */
    assert_int_equal(gate().lowered, 6);
    end();
}

static void between_seven_eighths_and_the_goal_it_stays(void **state)
{
    (void)state;
    begin(SLOW_NS + 5 * WEIR_US, 0); /* a flight ends some turns of 1 us later */
    sim->plan.storage = (struct weir_sim_span){2 * SLOW_NS, 2 * SLOW_NS};
    turn_for(11 * WEIR_MS);
    assert_int_equal(gate().depth, DEPTH / 2);
    sim->plan.storage = (struct weir_sim_span){SLOW_NS, SLOW_NS};
    turn_for(50 * WEIR_MS); /* what had left is back, and judged */
    struct weir_gate_state before = gate();
    assert_true(before.depth < DEPTH);
    turn_for(200 * WEIR_MS);
    assert_int_equal(gate().depth, before.depth);
    assert_int_equal(gate().raised, 0);
    assert_int_equal(gate().lowered, before.lowered);
    end();
}

static void of_several_goals_the_one_that_is_missed_decides(void **state)
{
    (void)state;
    begin(10 * SLOW_NS, GOAL_NS);
    turn_for(11 * WEIR_MS + 500 * WEIR_US);
    assert_int_equal(gate().depth, DEPTH / 2);
    assert_int_equal(gate().reason, WEIR_DEPTH_TASK_GOAL);
    assert_ptr_equal(gate().task, ops[0].task);
    struct weir_task *task = ops[0].task;
    ends = true;
    assert_int_equal(weir_loop_run(loop), 0);
    assert_int_equal(weir_task_close(task), 0);
    assert_int_equal(gate().depth, DEPTH / 2); /* the loop's goal steers on */
    assert_int_equal(gate().reason, WEIR_DEPTH_LOOP_GOAL);
    assert_null(gate().task);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_disk_too_slow_halves_the_depth_each_10_ms_and_a_fast_one_raises_it_again),
        cmocka_unit_test(between_seven_eighths_and_the_goal_it_stays),
        cmocka_unit_test(of_several_goals_the_one_that_is_missed_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
