/* SPDX-License-Identifier: MIT */
/*
 * gate_world.h: a gate with tasks and ops, and no loop: an op is in flight until the test says that
 * it is back.
 */
#ifndef TESTS_UNIT_GATE_WORLD_H
#define TESTS_UNIT_GATE_WORLD_H

#include "unit.h"

#include <engine/loop/gate.h>
#include <string.h>

#define TASKS_MAX 8

struct gate_world {
    struct weir_tasks tasks;
    void *memory;
    struct weir_gate gate;
};

static inline void gate_world_open(struct gate_world *world, uint32_t depth, uint32_t waiting_max)
{
    size_t size = sizeof(struct weir_task) * (WEIR_KIND_COUNT + TASKS_MAX);
    world->memory = calloc(1, size);
    assert_non_null(world->memory);
    weir_tasks_init(&world->tasks, NULL, world->memory, size);
    weir_gate_init(&world->gate, WEIR_GATE_MAIN, depth, waiting_max);
}

static inline void gate_world_close(struct gate_world *world)
{
    free(world->memory);
}

static inline struct weir_task *gate_world_task(struct gate_world *world, struct weir_flow limits)
{
    struct weir_task *task = NULL;
    assert_int_equal(weir_tasks_open(&world->tasks, "task", &task), 0);
    assert_int_equal(weir_gate_set_limits(&world->gate, task, &limits), 0);
    return task;
}

static inline void gate_world_end_task(struct gate_world *world, struct weir_task *task)
{
    weir_gate_clear_limits(&world->gate, task);
    assert_int_equal(weir_tasks_close(task), 0);
}

static inline struct weir_flow *gate_world_flow(struct gate_world *world, const struct weir_op *op)
{
    struct weir_task *task = op->task ? op->task : world->tasks.of_kind[op->kind];
    return weir_gate_flow(&world->gate, task);
}

/* A place, as the loop gives it. */
static inline void gate_world_enter(struct gate_world *world, struct weir_op *op)
{
    struct weir_flow *flow = gate_world_flow(world, op);
    assert_true(weir_gate_has_place(&world->gate, flow));
    op->governed = world->gate.bytes_max != 0 || flow->governed || op->burst > 1;
    weir_op_move(op, WEIR_AT_GATE);
    weir_gate_enter(&world->gate, flow, op);
}

/* Lets the next one through; NULL: nobody may. */
static inline struct weir_op *gate_world_admit(struct gate_world *world)
{
    struct weir_flow *flow = weir_gate_next(&world->gate);
    if (!flow) {
        return NULL;
    }
    struct weir_op *op = weir_gate_admit(&world->gate, flow);
    weir_op_move(op, WEIR_IN_FLIGHT);
    op->with = WEIR_CARRIER_BACKEND;
    return op;
}

/* While it waits: it is done, and not back yet. */
static inline void gate_world_cancel(struct gate_world *world, struct weir_op *op)
{
    weir_gate_step_out(&world->gate, gate_world_flow(world, op), WEIR_LINE_WAITING, op);
    weir_op_move(op, WEIR_DONE);
}

static inline void gate_world_hand_back(struct gate_world *world, struct weir_op *op)
{
    weir_gate_release(&world->gate, gate_world_flow(world, op), op);
    weir_op_set_stand(op, 0);
}

#endif
