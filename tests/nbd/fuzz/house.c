/* SPDX-License-Identifier: MIT */
#include "house.h"
#include "../sim_pipe.h"
#include "connection.h"
#include "fuzz.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

enum {
    OTHERS = 7,        /* who may hold buffers too */
    OTHERS_HOLD = 300, /* more than there are */
    FILE_BYTES_MAX = 200 << 10,
    TURNS_MAX = 100 * 1000, /* more than any end takes */
    TRIES = 40,
};

struct house house;

static struct shard shard;
static struct connection connection;
static struct export exports[HOUSE_EXPORTS];
static uint32_t export_count;
static struct other {
    struct share share;
    struct buffer *buffers[OTHERS_HOLD];
    uint32_t count;
} others[OTHERS];
static unsigned char at_first[HOUSE_EXPORTS][FILE_BYTES_MAX]; /* what is in the files */
static unsigned char bytes[FILE_BYTES_MAX];
static uint8_t marks[FILE_BYTES_MAX];

/* --- turning ---------------------------------------------------------------------------------- */

static void turn(int64_t wait_ns)
{
    int result = house.is_gone ? 0 : shard_turn(&shard, wait_ns);
    result = result < 0 ? result : weir_loop_turn(house.loop, wait_ns);
    if (result < 0) {
        fuzz_fail("a turn answers %s", strerror(-result));
    }
}

void house_turn(uint32_t times)
{
    while (times-- > 0) {
        turn(20 * WEIR_US);
    }
}

static void on_back(struct weir_op *op)
{
    *(bool *)op->user = true;
}

/* On a file: until it works. */
static int64_t carry_out(struct weir_op *op)
{
    struct weir_op fresh = *op;
    int64_t result = -1;
    for (int i = 0; i < TRIES && result < 0; i++) {
        bool is_back = false;
        *op = fresh;
        op->callback = on_back;
        op->user = &is_back;
        if (weir_submit(house.loop, op) < 0) {
            fuzz_fail("an op is refused");
        }
        while (!is_back && weir_loop_turn(house.loop, WEIR_S) >= 0) {
        }
        result = op->result;
    }
    if (result < 0) {
        fuzz_fail("an op on a file fails again and again");
    }
    return result;
}

/* --- files ------------------------------------------------------------------------------------ */

static void draw_files(void)
{
    static bool is_drawn;
    for (uint32_t i = 0; i < HOUSE_EXPORTS * FILE_BYTES_MAX && !is_drawn; i++) {
        uint32_t at = i % FILE_BYTES_MAX;
        at_first[i / FILE_BYTES_MAX][at] = (unsigned char)(at * 7 + at / 251 + i / FILE_BYTES_MAX);
    }
    is_drawn = true;
}

static int make_file(uint32_t index)
{
    struct weir_op open = {0}, write = {.flags = WEIR_WHOLE};
    const struct judge_export *export = &house.exports[index];
    weir_op_openat(&open, AT_FDCWD, exports[index].path, O_RDWR | O_CREAT, 0600);
    int fd = (int)carry_out(&open);
    weir_op_write(&write, fd, at_first[index], export->size, 0);
    carry_out(&write);
    if (export->read_only) {
        struct weir_op close = {0}, again = {0};
        weir_op_close(&close, fd);
        close.callback = on_back;
        close.user = &(bool){false};
        weir_submit(house.loop, &close); /* its answer says nothing */
        while (weir_loop_live(house.loop) > 0 && weir_loop_turn(house.loop, WEIR_S) >= 0) {
        }
        weir_op_openat(&again, AT_FDCWD, exports[index].path, O_RDONLY, 0);
        fd = (int)carry_out(&again);
    }
    return fd;
}

static void check_file(uint32_t index)
{
    const struct judge_export *export = &house.exports[index];
    struct weir_op read = {.flags = WEIR_WHOLE};
    bool is_served = house_export() == export;
    if (is_served && !export->read_only && !judge_knows_requests()) {
        return; /* the client has not read that it may begin, and yet may have done so */
    }
    memset(marks, 0, sizeof marks);
    if (is_served && !export->read_only) {
        judge_mark_changes(marks, export->size);
    }
    weir_op_read(&read, shard.files[index].opened.fd, bytes, sizeof bytes, 0);
    if ((uint64_t)carry_out(&read) != export->size) {
        fuzz_fail("file %" PRIu32 " has another size", index);
    }
    bool is_same = memcmp(bytes, at_first[index], export->size) == 0;
    for (uint64_t i = 0; !is_same && i < export->size; i++) {
        if (!marks[i] && bytes[i] != at_first[index][i]) {
            fuzz_fail("file %" PRIu32 " has changed at %" PRIu64 ", and nobody asked for it", index,
                      i);
        }
    }
}

const struct judge_export *house_export(void)
{
    return connection.file ? &house.exports[connection.file - shard.files] : NULL;
}

/* --- buffers that others hold ----------------------------------------------------------------- */

static void take_buffers(void)
{
    for (int i = 0; i < OTHERS; i++) {
        struct other *other = &others[i];
        struct buffer *buffer;
        while ((buffer = buffer_take(&shard.buffers, &other->share))) {
            other->buffers[other->count++] = buffer;
        }
    }
}

static void give_buffers(void)
{
    for (int i = 0; i < OTHERS; i++) {
        struct other *other = &others[i];
        while (other->count > 0) {
            buffer_drop(&shard.buffers, other->buffers[--other->count]);
        }
    }
}

/* --- the world -------------------------------------------------------------------------------- */

#define KIND(kind) (1ULL << WEIR_KIND_##kind)
#define OF_FILES                                                                                   \
    (KIND(READ) | KIND(WRITE) | KIND(WRITEV) | KIND(FSYNC) | KIND(FALLOCATE) | KIND(FADVISE))

static const struct weir_sim_fault misfortunes[] = {
    {.what = WEIR_SIM_SHORT, .per_million = 250000},
    {.what = WEIR_SIM_DELAY, .per_million = 100000, .delay = {0, 5 * WEIR_MS}},
    {.what = WEIR_SIM_ERROR,
     .kinds =
         KIND(READ) | KIND(WRITE) | KIND(WRITEV) | KIND(FSYNC) | KIND(FALLOCATE) | KIND(FADVISE),
     .per_million = 80000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(FALLOCATE), .per_million = 600000, .error = 95},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(SENDMSG), .per_million = 20000},
    {.what = WEIR_SIM_RESET, .per_million = 5000},
    {.what = WEIR_SIM_LATE, .kinds = OF_FILES, .per_million = 200000},
    {.what = WEIR_SIM_ERROR, .kinds = KIND(SHUTDOWN) | KIND(CLOSE), .per_million = 200000},
};

enum { MISFORTUNES = sizeof misfortunes / sizeof *misfortunes };

/* Small: what audits itself in each turn has less to look at. */
static struct weir_options loop_options(void)
{
    return (struct weir_options){
        .policy = WEIR_SIM,
        .sim.world = house.sim,
        .timers_max = 8,
        .offload_depth = 4,
        .posts_max = 1,
    };
}

static void open_world(const uint8_t options[3])
{
    struct weir_sim_fault faults[MISFORTUNES];
    struct weir_sim_plan plan = {.faults = faults, .memory_bytes = 64 << 20};
    plan.pipe_bytes = options[1] & 0x10 ? 4096 : 0;
    for (int i = 0; i < MISFORTUNES; i++) {
        if (options[2] >> i & 1) {
            faults[plan.fault_count++] = misfortunes[i];
        }
    }
    house.is_calm = plan.fault_count == 0;
    if (weir_sim_open(1 + (options[1] >> 5), &plan, &house.sim) < 0) {
        fuzz_fail("no world");
    }
    struct weir_options client = loop_options();
    client.depth = 8;
    if (weir_loop_open(&client, &house.loop) < 0) {
        fuzz_fail("no loop");
    }
}

static void on_gone(struct connection *gone)
{
    if (gone->share.held != 0 || gone->live != 0) {
        fuzz_fail("a connection goes with %" PRIu32 " buffers and %" PRIu32 " requests",
                  gone->share.held, gone->live);
    }
    house.is_gone = true;
}

static void on_told(const struct connection *from, const char *what)
{
    (void)from;
    fuzz_tell("server: %s", what);
}

static void set_exports(const uint8_t options[3])
{
    static const char *const names[] = {"", "b", "the third"}, *const paths[] = {"a", "b", "c"};
    static const uint64_t sizes[] = {(160 << 10) + 512, 5000, 64 << 10};
    export_count = 1 + options[0] % 3;
    for (uint32_t i = 0; i < export_count; i++) {
        bool read_only = i == 0 && options[0] & 4;
        exports[i] = (struct export){.name = names[i], .path = paths[i], .read_only = read_only};
        house.exports[i] = (struct judge_export){sizes[i], 1, read_only};
    }
    house.exports[0].block = options[0] & 8 ? 512 : 1;
    if (export_count == 1) {
        exports[0].name = "the only one";
    }
}

void house_open(const uint8_t options[3])
{
    int fds[2];
    draw_files();
    house = (struct house){0};
    memset(&connection, 0, sizeof connection);
    memset(others, 0, sizeof others);
    set_exports(options);
    open_world(options);
    struct shard_options shard_options = {
        .loop = loop_options(),
        .depth = 1 + (options[1] & 7),
        .connections = 1 + OTHERS,
        .exports = exports,
        .export_count = export_count,
        .handshake_ns = 10 * WEIR_S,
        .open_pipe = sim_pipe_open,
        .gone = on_gone,
        .told = on_told,
    };
    if (shard_open(&shard, &shard_options) < 0) {
        fuzz_fail("no shard");
    }
    for (uint32_t i = 0; i < export_count; i++) {
        const struct judge_export *export = &house.exports[i];
        struct opened opened = {.fd = make_file(i),
                                .size = export->size,
                                .block_min = export->block,
                                .is_memory = i == 1 || (i == 0 && export->block == 1)};
        shard_serve(&shard, i, &opened);
    }
    if (options[1] & 8) {
        take_buffers();
    }
    if (weir_sim_socketpair(house.sim, SOCK_STREAM, fds) < 0) {
        fuzz_fail("no sockets");
    }
    house.fd = fds[0];
    connection.fd = fds[1];
    connection.is_unix = true;
    connection_begin(&connection, &shard, fds[1]);
}

/* --- the end ---------------------------------------------------------------------------------- */

void house_drain(void)
{
    if (!house.is_gone) {
        shard_drain(&shard);
    }
}

void house_hang_up(void)
{
    if (!house.is_gone) {
        shard_hang_up(&shard);
    }
}

static void check_all_is_back(void)
{
    give_buffers();
    if (shard.buffers.free_count != shard.buffers.count ||
        shard.buffers.sure != (1 + OTHERS) * BUFFERS_SURE) {
        fuzz_fail("%" PRIu32 " of %" PRIu32 " buffers are not back, %" PRIu32 " are kept",
                  shard.buffers.count - shard.buffers.free_count, shard.buffers.count,
                  shard.buffers.sure);
    }
    if (shard.connections || shard.connection_count != 0 || shard.ready || shard.starved) {
        fuzz_fail("the shard has not forgotten its connection");
    }
    if (weir_loop_live(shard.loop) != 0) {
        fuzz_fail("the shard's loop has work left");
    }
    for (uint32_t i = 0; i < export_count; i++) {
        if (shard.files[i].users != 0) {
            fuzz_fail("somebody uses file %" PRIu32 " still", i);
        }
    }
}

uint64_t house_close(void)
{
    uint32_t turns = 0;
    while (!house.is_gone || weir_loop_live(house.loop) > 0) {
        if (turns++ == TURNS_MAX) {
            fuzz_fail("the connection does not go: phase %d, %" PRIu32 " requests live",
                      (int)connection.phase, connection.live);
        }
        turn(WEIR_MS);
    }
    for (int i = 0; weir_loop_live(shard.loop) > 0 && i < TURNS_MAX; i++) {
        weir_loop_turn(shard.loop, WEIR_MS); /* a sync that nobody waits for */
    }
    check_all_is_back();
    for (uint32_t i = 0; i < export_count; i++) {
        check_file(i);
    }
    uint64_t hash = weir_sim_hash(house.sim);
    for (uint32_t i = 0; i < export_count; i++) {
        shard.files[i].opened.fd = -1; /* the world's, and gone with it */
    }
    sim_pipes_forget(&shard);
    if (shard_close(&shard, WEIR_S, NULL) < 0 || weir_loop_close(house.loop, WEIR_S, NULL) < 0 ||
        weir_sim_close(house.sim) < 0) {
        fuzz_fail("the world does not end");
    }
    return hash;
}
