/* SPDX-License-Identifier: MIT */
#include "lone.h"
#include "sim_pipe.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

struct lone lone = {.disk = {.name = ""}};

void lone_run(uint64_t ns)
{
    uint64_t end_ns = weir_sim_now(lone.world) + ns;
    while (weir_sim_now(lone.world) < end_ns) {
        assert_true(lone.is_gone || shard_turn(&lone.shard, 50 * WEIR_US) >= 0);
        assert_true(weir_loop_turn(lone.loop, 50 * WEIR_US) >= 0);
    }
}

static void on_gone(struct connection *gone)
{
    (void)gone;
    lone.is_gone = true;
}

static void on_received(struct weir_op *op);

static void receive(void)
{
    weir_op_recv(&lone.receiving, lone.fd, lone.bytes, sizeof lone.bytes, 0);
    lone.receiving.callback = on_received;
    assert_int_equal(weir_submit(lone.loop, &lone.receiving), 0);
}

static void on_received(struct weir_op *op)
{
    if (op->result > 0) {
        assert_true(op->result <= (int64_t)sizeof lone.in - lone.in_end);
        memcpy(lone.in + lone.in_end, lone.bytes, (size_t)op->result);
        lone.in_end += (uint32_t)op->result;
        receive();
    }
}

void lone_forget_answers(void)
{
    lone.in_end = 0;
}

static void on_back(struct weir_op *op)
{
    op->user = NULL;
}

static int64_t carry_out(struct weir_op *op)
{
    op->callback = on_back;
    op->user = op;
    assert_int_equal(weir_submit(lone.loop, op), 0);
    while (op->user) {
        lone_run(50 * WEIR_US);
    }
    return op->result;
}

void lone_say(const void *bytes, uint32_t length)
{
    weir_op_send(&lone.sending, lone.fd, bytes, length, 0);
    lone.sending.flags = WEIR_WHOLE;
    assert_int_equal(carry_out(&lone.sending), length);
}

void lone_say_at_once(const void *bytes, uint32_t length)
{
    struct weir_op *op = &lone.sending;
    weir_op_send(op, lone.fd, bytes, length, 0);
    op->callback = on_back;
    op->user = op;
    assert_int_equal(weir_submit(lone.loop, op), 0);
    while (op->user) {
        assert_true(weir_loop_turn(lone.loop, 50 * WEIR_US) >= 0);
    }
    assert_int_equal(op->result, length);
    for (int i = 0; i < 20; i++) { /* and is there */
        assert_true(weir_loop_turn(lone.loop, 50 * WEIR_US) >= 0);
    }
}

static int make_disk(void)
{
    struct weir_op open = {0}, grow = {0};
    weir_op_openat(&open, AT_FDCWD, "disk", O_RDWR | O_CREAT, 0600);
    int fd = (int)carry_out(&open);
    weir_op_ftruncate(&grow, fd, LONE_DISK_BYTES);
    assert_int_equal(carry_out(&grow), 0);
    return fd;
}

static void shake_hands(void)
{
    unsigned char hello[64], *to = nbd_put32(hello, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    to = nbd_put64(to, NBD_OPTION_MAGIC);
    to = nbd_put32(to, NBD_OPT_GO);
    to = nbd_put32(to, 6);
    to = nbd_put32(to, 0); /* the name's length */
    to = nbd_put16(to, 0);
    lone_say(hello, (uint32_t)(to - hello));
    lone_run(WEIR_MS);
    assert_int_equal(lone.connection.phase, CONNECTION_TRANSMISSION);
    lone_forget_answers();
}

void lone_open(const struct weir_sim_fault *faults, uint32_t fault_count, bool is_memory)
{
    const struct weir_sim_plan plan = {.memory_bytes = 64 << 20,
                                       .pipe_bytes = 256 << 10,
                                       .sync = {50 * WEIR_MS, 50 * WEIR_MS},
                                       .faults = faults,
                                       .fault_count = fault_count};
    lone = (struct lone){.disk = lone.disk};
    assert_int_equal(weir_sim_open(2, &plan, &lone.world), 0);
    const struct weir_options loop = {.policy = WEIR_SIM, .sim.world = lone.world};
    const struct shard_options options = {
        .loop = loop,
        .depth = 64,
        .connections = 1,
        .exports = &lone.disk,
        .export_count = 1,
        .handshake_ns = WEIR_S,
        .open_pipe = sim_pipe_open,
        .gone = on_gone,
    };
    assert_int_equal(weir_loop_open(&loop, &lone.loop), 0);
    lone.is_gone = true; /* nobody is there yet */
    int fd = make_disk(), fds[2];
    assert_int_equal(shard_open(&lone.shard, &options), 0);
    const struct opened opened = {
        .fd = fd, .size = LONE_DISK_BYTES, .block_min = 1, .is_memory = is_memory};
    shard_serve(&lone.shard, 0, &opened);
    assert_int_equal(weir_sim_socketpair(lone.world, SOCK_STREAM, fds), 0);
    lone.fd = fds[0];
    lone.connection = (struct connection){.fd = fds[1], .is_unix = true};
    lone.is_gone = false;
    connection_begin(&lone.connection, &lone.shard, fds[1]);
    receive();
    shake_hands();
}

void lone_leave(void)
{
    struct weir_op close = {0};
    weir_op_close(&close, lone.fd);
    carry_out(&close);
    lone.fd = -1;
    lone_run(WEIR_S);
    assert_true(lone.is_gone);
}

void lone_close(void)
{
    if (lone.fd >= 0) {
        lone_leave();
    }
    assert_int_equal(lone.connection.pace.writes, 0);
    assert_int_equal(lone.shard.files[0].changes, 0);
    lone.shard.files[0].opened.fd = -1; /* the world's, and gone with it */
    sim_pipes_forget(&lone.shard);
    assert_int_equal(shard_close(&lone.shard, WEIR_S, NULL), 0);
    assert_int_equal(weir_loop_close(lone.loop, WEIR_S, NULL), 0);
    assert_int_equal(weir_sim_close(lone.world), 0);
    lone.disk = (struct export){.name = ""};
}

uint32_t lone_put(unsigned char *to, uint16_t flags, uint16_t type, uint64_t cookie,
                  uint64_t offset, uint32_t length)
{
    to = nbd_put32(to, NBD_REQUEST_MAGIC);
    to = nbd_put16(to, flags);
    to = nbd_put16(to, type);
    to = nbd_put64(to, cookie);
    to = nbd_put64(to, offset);
    nbd_put32(to, length);
    return NBD_REQUEST_BYTES + (type == NBD_CMD_WRITE ? length : 0);
}
