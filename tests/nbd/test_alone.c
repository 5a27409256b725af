/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd: a client is left alone while its small writes are with another thread, and not
 * for long. In a simulated world, where a write takes what the test says. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "connection.h"

#define SIZE (1u << 20) /* of the disk, bytes */
#define SMALL 4096u
#define SMALL_MAX (16u << 10)
#define FEW 3
#define WRITES_MAX 8
#define LAST 99 /* the cookie of what can be answered at once */

static struct weir_sim *world;
static struct shard shard;
static struct connection connection;
static struct export disk = {.name = ""};
static struct {
    struct weir_loop *loop;
    int fd;
    struct weir_op sending, receiving;
    unsigned char bytes[1024], in[4096];
    uint32_t in_end; /* what of it has been received */
} client;
static bool is_gone;
static uint16_t flags; /* of its writes */
static bool is_broken; /* the disk: the first writes fail */

/* --- the world -------------------------------------------------------------------------------- */

static void run(uint64_t ns)
{
    uint64_t end_ns = weir_sim_now(world) + ns;
    while (weir_sim_now(world) < end_ns) {
        assert_true(is_gone || shard_turn(&shard, 50 * WEIR_US) >= 0);
        assert_true(weir_loop_turn(client.loop, 50 * WEIR_US) >= 0);
    }
}

static void on_gone(struct connection *gone)
{
    (void)gone;
    is_gone = true;
}

static void on_received(struct weir_op *op);

static void receive(void)
{
    weir_op_recv(&client.receiving, client.fd, client.bytes, sizeof client.bytes, 0);
    client.receiving.callback = on_received;
    assert_int_equal(weir_submit(client.loop, &client.receiving), 0);
}

static void on_received(struct weir_op *op)
{
    if (op->result > 0) {
        assert_true(op->result <= (int64_t)sizeof client.in - client.in_end);
        memcpy(client.in + client.in_end, client.bytes, (size_t)op->result);
        client.in_end += (uint32_t)op->result;
        receive();
    }
}

static void forget_answers(void)
{
    client.in_end = 0;
}

static void on_back(struct weir_op *op)
{
    op->user = NULL;
}

static int64_t carry_out(struct weir_op *op)
{
    op->callback = on_back;
    op->user = op;
    assert_int_equal(weir_submit(client.loop, op), 0);
    while (op->user) {
        run(50 * WEIR_US);
    }
    return op->result;
}

static void say(const void *bytes, uint32_t length)
{
    weir_op_send(&client.sending, client.fd, bytes, length, 0);
    client.sending.flags = WEIR_WHOLE;
    assert_int_equal(carry_out(&client.sending), length);
}

static int make_disk(void)
{
    struct weir_op open = {0}, grow = {0};
    weir_op_openat(&open, AT_FDCWD, "disk", O_RDWR | O_CREAT, 0600);
    int fd = (int)carry_out(&open);
    weir_op_ftruncate(&grow, fd, SIZE);
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
    say(hello, (uint32_t)(to - hello));
    run(WEIR_MS);
    assert_int_equal(connection.phase, CONNECTION_TRANSMISSION);
    forget_answers();
}

/* A client of a disk of which each of the first WRITES_MAX writes takes as long as said first, and
 * each further one as then. */
static void open_disk(uint64_t first_ns, uint64_t then_ns, bool is_memory)
{
    const struct weir_sim_fault slow[] = {{.what = is_broken ? WEIR_SIM_ERROR : WEIR_SIM_DELAY,
                                           .error = EIO,
                                           .kinds = 1ULL << WEIR_KIND_WRITE,
                                           .nth = 1,
                                           .count = WRITES_MAX,
                                           .delay = {first_ns, first_ns}},
                                          {.what = WEIR_SIM_DELAY,
                                           .kinds = 1ULL << WEIR_KIND_WRITE,
                                           .nth = WRITES_MAX + 1,
                                           .count = WEIR_SIM_ALWAYS,
                                           .delay = {then_ns, then_ns}}};
    const struct weir_sim_plan plan = {.memory_bytes = 64 << 20,
                                       .pipe_bytes = 256 << 10,
                                       .sync = {50 * WEIR_MS, 50 * WEIR_MS},
                                       .faults = slow,
                                       .fault_count = COUNT_OF(slow)};
    memset(&client, 0, sizeof client);
    assert_int_equal(weir_sim_open(2, &plan, &world), 0);
    const struct weir_options loop = {.policy = WEIR_SIM, .sim.world = world};
    const struct shard_options options = {
        .loop = loop,
        .depth = 64,
        .connections = 1,
        .exports = &disk,
        .export_count = 1,
        .handshake_ns = WEIR_S,
        .gone = on_gone,
    };
    assert_int_equal(weir_loop_open(&loop, &client.loop), 0);
    is_gone = true; /* nobody is there yet */
    int fd = make_disk(), fds[2];
    assert_int_equal(shard_open(&shard, &options), 0);
    const struct opened opened = {.fd = fd, .size = SIZE, .block_min = 1, .is_memory = is_memory};
    shard_serve(&shard, 0, &opened);
    assert_int_equal(weir_sim_socketpair(world, SOCK_STREAM, fds), 0);
    client.fd = fds[0];
    connection = (struct connection){.fd = fds[1]};
    is_gone = false;
    connection_begin(&connection, &shard, fds[1]);
    receive();
    shake_hands();
}

static void open_world(uint64_t write_ns, bool is_memory)
{
    open_disk(write_ns, write_ns, is_memory);
}

static void close_world(void)
{
    struct weir_op close = {0};
    weir_op_close(&close, client.fd);
    carry_out(&close);
    run(WEIR_S);
    assert_true(is_gone);
    assert_int_equal(connection.pace.writes, 0);
    shard.files[0].opened.fd = -1; /* the world's, and gone with it */
    assert_int_equal(shard_close(&shard, WEIR_S, NULL), 0);
    assert_int_equal(weir_loop_close(client.loop, WEIR_S, NULL), 0);
    assert_int_equal(weir_sim_close(world), 0);
    disk = (struct export){.name = ""};
    flags = 0;
    is_broken = false;
}

/* --- requests --------------------------------------------------------------------------------- */

static uint32_t put(unsigned char *to, uint16_t type, uint64_t cookie, uint64_t offset,
                    uint32_t length)
{
    to = nbd_put32(to, NBD_REQUEST_MAGIC);
    to = nbd_put16(to, type == NBD_CMD_WRITE ? flags : 0);
    to = nbd_put16(to, type);
    to = nbd_put64(to, cookie);
    to = nbd_put64(to, offset);
    nbd_put32(to, length);
    return NBD_REQUEST_BYTES + (type == NBD_CMD_WRITE ? length : 0);
}

/* Writes in one go, and when they are with the disk what needs none to be refused. */
static void ask_all(uint32_t writes, uint32_t length)
{
    static unsigned char bytes[WRITES_MAX * (NBD_REQUEST_BYTES + SMALL_MAX + 1)];
    uint32_t end = 0;
    for (uint32_t i = 0; i < writes; i++) {
        end += put(bytes + end, NBD_CMD_WRITE, i, i * SMALL, length);
    }
    say(bytes, end);
    run(500 * WEIR_US);
    say(bytes, put(bytes, NBD_CMD_READ, LAST, SIZE, SMALL));
}

static uint32_t answers(void)
{
    return client.in_end / NBD_SIMPLE_REPLY_BYTES;
}

static uint64_t answered(uint32_t index) /* the cookie */
{
    assert_true(index < answers());
    return nbd_get64(client.in + index * NBD_SIMPLE_REPLY_BYTES + 8);
}

static void all_is_answered(uint32_t writes)
{
    run(200 * WEIR_MS);
    assert_int_equal(answers(), writes + 1);
    for (uint32_t i = 0; i <= writes; i++) {
        uint32_t error = nbd_get32(client.in + i * NBD_SIMPLE_REPLY_BYTES + 4);
        uint32_t wanted = is_broken ? NBD_EIO : 0;
        assert_int_equal(error, answered(i) == LAST ? NBD_EINVAL : wanted);
    }
    close_world();
}

/* --- who is left alone ------------------------------------------------------------------------ */

static void what_comes_after_many_small_writes_is_taken_when_they_are_back(void **state)
{
    (void)state;
    open_world(5 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL_MAX);
    run(8 * WEIR_MS);
    assert_int_equal(answers(), WRITES_MAX + 1);
    for (uint32_t i = 0; i < WRITES_MAX - FEW; i++) {
        assert_int_not_equal(answered(i), LAST);
    }
    all_is_answered(WRITES_MAX);
}

static void but_not_later_than_10_ms(void **state)
{
    (void)state;
    open_world(100 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    uint64_t until_ns = connection.pace.until_ns;
    run(8 * WEIR_MS);
    assert_int_equal(answers(), 0);
    while (weir_sim_now(world) < until_ns) {
        assert_true(shard_turn(&shard, WEIR_S) >= 0); /* sleeps no longer than that */
    }
    assert_true(weir_sim_now(world) < until_ns + WEIR_MS);
    run(WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(WRITES_MAX);
}

static void nor_if_there_were_writes_before_that_were_back_earlier(void **state)
{
    (void)state;
    open_disk(2 * WEIR_MS, 100 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    run(3 * WEIR_MS);
    assert_int_equal(answers(), WRITES_MAX + 1);
    forget_answers();
    ask_all(WRITES_MAX, SMALL);
    run(8 * WEIR_MS);
    assert_int_equal(answers(), 0);
    run(3 * WEIR_MS);
    assert_int_equal(answers(), 1);
    all_is_answered(WRITES_MAX);
}

static void not_for_writes_that_wait_for_a_disk_until_it_is_quick_again(void **state)
{
    (void)state;
    open_disk(12 * WEIR_MS, 5 * WEIR_MS, false);
    const uint32_t wanted[] = {0, 1, 0}; /* answered at once */
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        forget_answers();
        ask_all(WRITES_MAX, SMALL);
        run(WEIR_MS);
        assert_int_equal(answers(), wanted[i]);
        run(20 * WEIR_MS);
        assert_int_equal(answers(), WRITES_MAX + 1);
    }
    all_is_answered(WRITES_MAX);
}

static void a_sync_is_no_write(void **state)
{
    (void)state;
    flags = NBD_CMD_FLAG_FUA;
    open_world(5 * WEIR_MS, false);
    ask_all(WRITES_MAX, SMALL);
    run(8 * WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(WRITES_MAX);
}

static void writes_that_fail_are_back_too(void **state)
{
    (void)state;
    is_broken = true;
    open_world(0, false);
    ask_all(WRITES_MAX, SMALL);
    all_is_answered(WRITES_MAX);
}

static void four_writes_are_many(void **state)
{
    (void)state;
    open_world(5 * WEIR_MS, false);
    ask_all(FEW + 1, SMALL);
    run(WEIR_MS);
    assert_int_equal(answers(), 0);
    all_is_answered(FEW + 1);
}

static void is_taken_at_once(uint32_t writes, uint32_t length, bool is_memory)
{
    open_world(5 * WEIR_MS, is_memory);
    ask_all(writes, length);
    run(WEIR_MS);
    assert_int_equal(answers(), 1);
    assert_int_equal(answered(0), LAST);
    all_is_answered(writes);
}

static void three_are_few(void **state)
{
    (void)state;
    is_taken_at_once(FEW, SMALL, false);
}

static void nor_for_large_ones(void **state)
{
    (void)state;
    is_taken_at_once(WRITES_MAX, SMALL_MAX + 1, false);
}

static void nor_for_those_that_the_loop_makes_itself(void **state)
{
    (void)state;
    is_taken_at_once(WRITES_MAX, SMALL, true);
    disk.inline_writes = true;
    is_taken_at_once(WRITES_MAX, SMALL, false);
}

static void nor_for_those_past_the_page_cache_where_each_has_its_way(void **state)
{
    (void)state;
    disk.direct = true;
    is_taken_at_once(WRITES_MAX, SMALL, false);
}

/* --- who has others beside it ----------------------------------------------------------------- */

static void who_takes_turns_with_another_has_others(void **state)
{
    (void)state;
    struct shard of_two = {.turns = 1000};
    const struct connection *one = &(struct connection){.fd = 1};
    const struct connection *other = &(struct connection){.fd = 2};
    shard_note_waiting(&of_two, one);
    of_two.turns += 100;
    shard_note_waiting(&of_two, one);
    assert_false(shard_has_others(&of_two, one));
    assert_true(shard_has_others(&of_two, other));
    shard_note_waiting(&of_two, other);
    assert_true(shard_has_others(&of_two, one));
    of_two.turns += 63;
    assert_true(shard_has_others(&of_two, other));
    of_two.turns++; /* by then it would have come back */
    assert_false(shard_has_others(&of_two, other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_after_many_small_writes_is_taken_when_they_are_back),
        cmocka_unit_test(but_not_later_than_10_ms),
        cmocka_unit_test(nor_if_there_were_writes_before_that_were_back_earlier),
        cmocka_unit_test(not_for_writes_that_wait_for_a_disk_until_it_is_quick_again),
        cmocka_unit_test(a_sync_is_no_write),
        cmocka_unit_test(writes_that_fail_are_back_too),
        cmocka_unit_test(four_writes_are_many),
        cmocka_unit_test(three_are_few),
        cmocka_unit_test(nor_for_large_ones),
        cmocka_unit_test(nor_for_those_that_the_loop_makes_itself),
        cmocka_unit_test(nor_for_those_past_the_page_cache_where_each_has_its_way),
        cmocka_unit_test(who_takes_turns_with_another_has_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
