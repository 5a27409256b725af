/* SPDX-License-Identifier: MIT */
/* sim_world.h: loops in simulated worlds, driven through the public calls, for their tests. */
#ifndef WEIR_TESTS_SIM_WORLD_H
#define WEIR_TESTS_SIM_WORLD_H

#include "unit.h"

#include <engine/backend/sim.h>
#include <engine/loop/loop.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <weir/weir.h>

static inline void on_done(struct weir_op *op)
{
    *(int *)op->user += 1;
}

static inline struct weir_loop *open_loop_with(struct weir_options options)
{
    struct weir_loop *loop = NULL;
    options.policy = WEIR_SIM;
    assert_int_equal(weir_loop_open(&options, &loop), 0);
    return loop;
}

static inline struct weir_loop *open_loop(struct weir_sim *sim)
{
    return open_loop_with((struct weir_options){.sim.world = sim});
}

static inline struct weir_sim *open_world(uint64_t seed, const struct weir_sim_plan *plan)
{
    struct weir_sim *sim = NULL;
    assert_int_equal(weir_sim_open(seed, plan, &sim), 0);
    return sim;
}

static inline void close_world(struct weir_sim *sim, struct weir_loop *loop)
{
    assert_int_equal(weir_loop_close(loop, WEIR_S, NULL), 0);
    assert_int_equal(weir_sim_close(sim), 0);
}

/* Submits a filled op; *calls counts its callbacks. */
static inline void start(struct weir_loop *loop, struct weir_op *op, int *calls)
{
    *calls = 0;
    op->callback = on_done;
    op->user = calls;
    assert_int_equal(weir_submit(loop, op), 0);
}

static inline int64_t await(struct weir_loop *loop, const struct weir_op *op, const int *calls)
{
    while (*calls == 0) {
        assert_true(weir_loop_turn(loop, -1) >= 0);
    }
    assert_int_equal(*calls, 1);
    return op->result;
}

/* Submits a filled op, waits for it, and answers its result. */
static inline int64_t carry_out(struct weir_loop *loop, struct weir_op *op)
{
    int calls;
    start(loop, op, &calls);
    return await(loop, op, &calls);
}

static inline int open_file(struct weir_loop *loop, const char *path, int flags)
{
    struct weir_op op = {0};
    weir_op_openat(&op, AT_FDCWD, path, flags, 0644);
    return (int)carry_out(loop, &op);
}

static inline int64_t close_file(struct weir_loop *loop, int fd)
{
    struct weir_op op = {0};
    weir_op_close(&op, fd);
    return carry_out(loop, &op);
}

static inline int64_t write_text(struct weir_loop *loop, int fd, const char *text, uint64_t offset)
{
    struct weir_op op = {0};
    weir_op_write(&op, fd, text, strlen(text), offset);
    return carry_out(loop, &op);
}

static inline int64_t read_text(struct weir_loop *loop, int fd, char *text, size_t size,
                                uint64_t offset)
{
    struct weir_op op = {0};
    weir_op_read(&op, fd, text, size - 1, offset);
    int64_t r = carry_out(loop, &op);
    text[r > 0 ? r : 0] = 0;
    return r;
}

static inline int64_t sync_file(struct weir_loop *loop, int fd)
{
    struct weir_op op = {0};
    weir_op_fsync(&op, fd);
    return carry_out(loop, &op);
}

#endif
