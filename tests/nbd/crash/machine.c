/* SPDX-License-Identifier: MIT */
#include "machine.h"
#include "../sim_pipe.h"
#include "connection.h"
#include "crash.h"
#include "order.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { SEATS = 10, TRIES = 30 };

#define DISK "disk"
#define WAIT_NS (100 * WEIR_US) /* of a turn; others have theirs then */
#define PATIENCE_NS WEIR_S      /* with what nobody asks back */

struct shard shards[MACHINE_SHARDS];
static struct export export = {.name = "", .path = DISK};
static struct seat {
    struct connection connection;
    bool is_taken;
} seats[MACHINE_SHARDS][SEATS];

/* --- the disk --------------------------------------------------------------------------------- */

static void on_back(struct weir_op *op)
{
    *(bool *)op->user = true;
}

/* Its result; -ETIME: it does not come back; -EOWNERDEAD: the machine has stopped. */
static int64_t carry_out(struct weir_op *op)
{
    bool is_back = false;
    uint64_t end_ns = weir_now(world.loop) + 2 * PATIENCE_NS;
    op->callback = on_back;
    op->user = &is_back;
    op->deadline_ns = weir_now(world.loop) + PATIENCE_NS;
    int result = weir_submit(world.loop, op);
    while (result >= 0 && !is_back && weir_now(world.loop) < end_ns) {
        result = weir_loop_turn(world.loop, WEIR_MS);
    }
    if (result >= 0 && !is_back) { /* nothing brings it back: its memory is no longer ours */
        weir_sim_crash(world.sim);
    }
    return weir_sim_has_crashed(world.sim) ? -EOWNERDEAD : result < 0 ? result : op->result;
}

static void close_disk(int fd)
{
    struct weir_op op = {0};
    weir_op_close(&op, fd);
    carry_out(&op);
}

/* The fd, or negative. */
static int open_disk(int flags)
{
    for (int i = 0; i < TRIES && !weir_sim_has_crashed(world.sim); i++) {
        struct weir_op op = {0};
        weir_op_openat(&op, AT_FDCWD, DISK, flags, 0600);
        int fd = (int)carry_out(&op);
        if (fd >= 0) {
            return fd;
        }
        if (fd == -ENOENT) {
            complain("the disk's file is not there");
        }
    }
    return -1;
}

static bool sync_fd(int fd)
{
    struct weir_op op = {0};
    weir_op_fsync(&op, fd);
    return carry_out(&op) == 0;
}

static bool make(int fd, int directory)
{
    for (int i = 0; i < TRIES && !weir_sim_has_crashed(world.sim); i++) {
        struct weir_op op = {0};
        weir_op_ftruncate(&op, fd, world.size);
        if (carry_out(&op) == 0 && sync_fd(fd) && sync_fd(directory)) {
            return true;
        }
    }
    return false;
}

bool machine_make_disk(void)
{
    struct weir_op op = {0};
    weir_op_openat(&op, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
    int directory = (int)carry_out(&op);
    int fd = directory >= 0 ? open_disk(O_RDWR | O_CREAT) : -1;
    bool is_made = fd >= 0 && make(fd, directory);
    if (is_made) {
        close_disk(fd);
        close_disk(directory);
    }
    return is_made && !weir_sim_has_crashed(world.sim);
}

bool machine_read_disk(unsigned char *ret_bytes)
{
    int64_t result = -1;
    int fd = open_disk(O_RDONLY);
    for (int i = 0; fd >= 0 && result < 0 && i < TRIES && !weir_sim_has_crashed(world.sim); i++) {
        struct weir_op op = {.flags = WEIR_WHOLE};
        weir_op_read(&op, fd, ret_bytes, world.size, 0);
        result = carry_out(&op);
    }
    if (result >= 0 && (uint64_t)result != world.size) {
        complain("the disk's file is shorter than it was");
    } else if (result >= 0) {
        close_disk(fd);
    }
    return result >= 0 && !weir_sim_has_crashed(world.sim);
}

/* --- the server ------------------------------------------------------------------------------- */

static void on_gone(struct connection *connection)
{
    WEIR_CONTAINER(connection, struct seat, connection)->is_taken = false;
}

static struct seat *free_seat(uint32_t shard)
{
    for (int i = 0; i < SEATS; i++) {
        if (!seats[shard][i].is_taken) {
            return &seats[shard][i];
        }
    }
    return NULL;
}

bool machine_has_seat(uint32_t shard)
{
    return free_seat(shard) != NULL;
}

void machine_connect(uint32_t shard, int fd)
{
    struct seat *seat = free_seat(shard);
    *seat = (struct seat){.is_taken = true, .connection = {.fd = fd, .is_unix = true}};
    connection_begin(&seat->connection, &shards[shard], fd);
}

static bool start(uint32_t index)
{
    struct shard_options options = {
        .loop = {.policy = WEIR_SIM, .sim.world = world.sim, .observer = order_observer(index)},
        .depth = 1 + (uint32_t)draw(12),
        .connections = SEATS,
        .exports = &export,
        .export_count = 1,
        .handshake_ns = 10 * WEIR_S,
        .open_pipe = sim_pipe_open,
        .gone = on_gone,
    };
    int fd = open_disk(O_RDWR);
    if (fd < 0 || weir_sim_has_crashed(world.sim)) {
        return false;
    }
    if (shard_open(&shards[index], &options) < 0) {
        complain("a shard does not open");
        return false;
    }
    shard_serve(&shards[index], 0,
                &(struct opened){
                    .fd = fd, .size = world.size, .block_min = world.block, .is_memory = draw(2)});
    return true;
}

bool machine_start(void)
{
    export.sync_error = 0;
    export.failures = export.told = 0;
    for (uint32_t i = 0; i < world.shard_count; i++) {
        if (!start(i)) {
            return false;
        }
    }
    return true;
}

int machine_turn(void)
{
    int result = 0;
    for (uint32_t i = 0; i < world.shard_count && result >= 0; i++) {
        result = shard_turn(&shards[i], WAIT_NS);
    }
    return result < 0 ? result : weir_loop_turn(world.loop, WAIT_NS);
}

void machine_abandon(void)
{
    for (uint32_t i = 0; i < MACHINE_SHARDS; i++) {
        weir_loop_abandon(shards[i].loop);
        buffers_close(&shards[i].buffers);
        shards[i] = (struct shard){0};
    }
    memset(seats, 0, sizeof seats);
    weir_loop_abandon(world.loop);
    world.loop = NULL;
}
