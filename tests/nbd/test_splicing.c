/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd: large writes to a file that is memory, by way of a pipe. In a simulated world,
 * where it can be said what comes when, and what fails. */
#include "lone.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#define MUCH SPLICED_MIN
#define LARGE (200u << 10)

static unsigned char bytes[NBD_REQUEST_BYTES + LARGE];

static void set_bytes(uint32_t seed)
{
    for (uint32_t i = 0; i < LARGE; i++) {
        bytes[NBD_REQUEST_BYTES + i] = (unsigned char)((i * 31 + i / 251 + seed) % 253);
    }
}

/* The error of the only reply that has come. */
static uint32_t answer(uint64_t cookie)
{
    assert_int_equal(lone.in_end, NBD_SIMPLE_REPLY_BYTES);
    assert_int_equal(nbd_get64(lone.in + 8), cookie);
    uint32_t error = nbd_get32(lone.in + 4);
    lone_forget_answers();
    return error;
}

/* In parts of so many bytes each, with time between them. */
static void say_in_parts(uint32_t from, uint32_t to, uint32_t part)
{
    for (uint32_t at = from; at < to; at += part) {
        lone_say(bytes + at, to - at < part ? to - at : part);
        lone_run(WEIR_MS);
    }
}

static void begin_write(uint64_t cookie, uint64_t offset, uint32_t length)
{
    lone_put(bytes, 0, NBD_CMD_WRITE, cookie, offset, length);
    lone_say(bytes, NBD_REQUEST_BYTES);
    lone_run(WEIR_MS);
}

/* Its header alone at first; the error of its answer. */
static uint32_t write_in_parts(uint64_t cookie, uint64_t offset, uint32_t length, uint32_t part)
{
    begin_write(cookie, offset, length);
    say_in_parts(NBD_REQUEST_BYTES, NBD_REQUEST_BYTES + length, part);
    lone_run(50 * WEIR_MS);
    return answer(cookie);
}

static void expect_written(uint64_t offset, uint32_t length)
{
    enum { PART = 32 << 10 };
    unsigned char header[NBD_REQUEST_BYTES];
    for (uint32_t at = 0; at < length; at += PART) {
        uint32_t part = length - at < PART ? length - at : PART;
        lone_say(header, lone_put(header, 0, NBD_CMD_READ, 7, offset + at, part));
        lone_run(50 * WEIR_MS);
        assert_int_equal(lone.in_end, NBD_SIMPLE_REPLY_BYTES + part);
        assert_memory_equal(lone.in + NBD_SIMPLE_REPLY_BYTES, bytes + NBD_REQUEST_BYTES + at, part);
        lone_forget_answers();
    }
}

static uint32_t free_pipes(void)
{
    uint32_t count = 0;
    for (const struct pipe *pipe = lone.shard.free_pipes; pipe; pipe = pipe->next) {
        count++;
    }
    return count;
}

static uint64_t done_at_once(void)
{
    struct weir_counters counters;
    assert_int_equal(weir_loop_counters(lone.shard.loop, &counters), 0);
    return counters.inline_done;
}

static void close_all(void)
{
    assert_int_equal(free_pipes(), PIPES);
    lone_close();
}

/* --- what arrives ----------------------------------------------------------------------------- */

static bool nothing_is_received;
static uint64_t made_at_once;

/* Says the bytes of a WRITE whose header alone has come: whether they came by the buffer. */
static void say_and_look(uint32_t length)
{
    unsigned char *in = lone.connection.in->bytes;
    uint64_t before = done_at_once();
    memset(in, 0xee, BUFFER_BYTES); /* no byte of a WRITE */
    say_in_parts(NBD_REQUEST_BYTES, NBD_REQUEST_BYTES + length, 30000);
    assert_int_equal(answer(3), 0);
    made_at_once = done_at_once() - before;
    nothing_is_received = true;
    for (uint32_t i = 0; i < BUFFER_BYTES; i++) {
        nothing_is_received &= in[i] == 0xee;
    }
    expect_written(5, length);
}

static void it_is_moved_and_not_received(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    set_bytes(1);
    begin_write(3, 5, MUCH);
    say_and_look(MUCH);
    assert_true(nothing_is_received);
    assert_true(made_at_once >= 2 * 3); /* in and out, of three parts */
    close_all();
}

static void what_is_not_large_is_received(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    set_bytes(2);
    begin_write(3, 5, MUCH - 1);
    say_and_look(MUCH - 1);
    assert_false(nothing_is_received);
    close_all();
}

static void nor_is_what_another_client_may_overtake(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    set_bytes(2);
    lone.shard.files[0].changes++; /* another's */
    begin_write(3, 5, MUCH);
    say_and_look(MUCH);
    assert_false(nothing_is_received);
    assert_int_equal(made_at_once, 0);
    lone.shard.files[0].changes--;
    close_all();
}

static void nor_what_is_for_a_file_on_a_disk(void **state)
{
    (void)state;
    lone_open(NULL, 0, false);
    set_bytes(2);
    begin_write(3, 5, MUCH);
    say_and_look(MUCH);
    assert_false(nothing_is_received);
    close_all();
}

/* None of these: then the next header is not awaited alone either. */
static void nor_where_a_splice_is_not_to_be_had(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        lone_open(NULL, 0, true);
        set_bytes(4);
        int pipe = lone.shard.pipes[0].fds[0];
        lone.connection.is_unix = i != 0;
        lone.shard.files[0].opened.block_min = i == 1 ? 512 : 1;
        lone.shard.pipes[0].fds[0] = i == 2 ? -1 : pipe;
        uint32_t length = i == 3 ? MUCH : LARGE / 512 * 512; /* the last is as it should be */
        assert_int_equal(write_in_parts(3, 512, length, 70000), 0);
        assert_int_equal(lone.connection.intake.is_bulk, i == 3);
        lone.shard.files[0].opened.block_min = 1;
        lone.shard.pipes[0].fds[0] = pipe;
        expect_written(512, length);
        close_all();
    }
}

/* Of the next one the header alone is received. */
static void one_after_the_other_in_parts_of_any_size(void **state)
{
    static const uint32_t parts[] = {1021, 4096, 50000, LARGE};
    (void)state;
    lone_open(NULL, 0, true);
    for (uint32_t i = 0; i < COUNT_OF(parts); i++) {
        set_bytes(i);
        lone_put(bytes, 0, NBD_CMD_WRITE, i, i * 1000, LARGE);
        say_in_parts(0, NBD_REQUEST_BYTES + LARGE, parts[i]);
        lone_run(50 * WEIR_MS);
        assert_int_equal(answer(i), 0);
        expect_written(i * 1000, LARGE);
    }
    close_all();
}

static void behind_one_that_is_large_come_small_ones(void **state)
{
    (void)state;
    unsigned char small[NBD_REQUEST_BYTES + 3];
    lone_open(NULL, 0, true);
    set_bytes(3);
    lone_put(bytes, 0, NBD_CMD_WRITE, 1, 0, LARGE);
    say_in_parts(0, NBD_REQUEST_BYTES + LARGE, NBD_REQUEST_BYTES + LARGE);
    assert_int_equal(answer(1), 0);
    for (uint32_t i = 0; i < 3; i++) {
        lone_put(small, 0, NBD_CMD_WRITE, i, i, 3);
        memcpy(small + NBD_REQUEST_BYTES, bytes + NBD_REQUEST_BYTES + i, 3);
        lone_say(small, sizeof small);
        lone_run(50 * WEIR_MS);
        assert_int_equal(answer(i), 0);
    }
    expect_written(0, LARGE);
    close_all();
}

static void with_no_pipe_to_be_had_it_is_received(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    struct pipe *free = lone.shard.free_pipes;
    lone.shard.free_pipes = NULL;
    set_bytes(4);
    assert_int_equal(write_in_parts(3, 0, LARGE, 70000), 0);
    lone.shard.free_pipes = free;
    expect_written(0, LARGE);
    close_all();
}

/* --- what goes wrong -------------------------------------------------------------------------- */

/* The first splice finds nothing, the second goes into the pipe, the third out of it. */
static void open_with_error(uint32_t nth, int error)
{
    const struct weir_sim_fault fault = {.what = WEIR_SIM_ERROR,
                                         .error = error,
                                         .kinds = 1ULL << WEIR_KIND_SPLICE,
                                         .nth = nth,
                                         .count = 1};
    lone_open(&fault, 1, true);
}

static void an_error_is_the_answer_and_the_rest_is_gone_from_the_pipe(void **state)
{
    (void)state;
    open_with_error(3, ENOSPC);
    set_bytes(5);
    assert_int_equal(write_in_parts(3, 0, LARGE, LARGE), NBD_ENOSPC);
    assert_int_equal(free_pipes(), PIPES);
    for (uint32_t i = 0; i < 2 * PIPES; i++) { /* each of them is as it was */
        set_bytes(i);
        assert_int_equal(write_in_parts(i, 9, LARGE, 66000), 0);
        expect_written(9, LARGE);
    }
    close_all();
}

static void where_splice_does_not_work_it_is_received(void **state)
{
    (void)state;
    open_with_error(1, EIO);
    set_bytes(6);
    assert_int_equal(write_in_parts(3, 0, LARGE, LARGE), 0);
    expect_written(0, LARGE);
    close_all();
}

static void a_client_that_leaves_in_the_middle_leaves_no_bytes_in_a_pipe(void **state)
{
    (void)state;
    static const uint32_t parts[] = {0, 1, 70000, BUFFER_PIECE, LARGE - 1};
    for (uint32_t i = 0; i < COUNT_OF(parts); i++) {
        lone_open(NULL, 0, true);
        begin_write(3, 0, LARGE);
        lone_say(bytes, parts[i]);
        if (i % 2) {
            lone_run(WEIR_MS);
        }
        lone_leave();
        assert_int_equal(free_pipes(), PIPES);
        lone_close();
    }
}

static void a_server_that_hangs_up_in_the_middle_leaves_none_either(void **state)
{
    (void)state;
    for (uint32_t turns = 0; turns < 8; turns++) {
        lone_open(NULL, 0, true);
        begin_write(3, 0, LARGE);
        lone_say_at_once(bytes, BUFFER_PIECE);
        for (uint32_t i = 0; i < turns; i++) {
            assert_true(shard_turn(&lone.shard, 0) >= 0);
        }
        shard_hang_up(&lone.shard);
        lone_run(50 * WEIR_MS);
        assert_true(lone.is_gone);
        for (uint32_t i = 0; i < 100; i++) { /* the shard goes on without it */
            assert_true(shard_turn(&lone.shard, 0) >= 0);
        }
        assert_int_equal(free_pipes(), PIPES);
        lone_close();
    }
}

/* After a large write headers alone are received; what nobody looks at is again received as one. */
static void what_comes_after_the_end_is_received_in_large_parts(void **state)
{
    (void)state;
    lone_open(NULL, 0, true);
    assert_int_equal(write_in_parts(3, 0, MUCH, MUCH), 0);
    assert_int_equal(lone.connection.receiving.arg.io.length, NBD_REQUEST_BYTES);
    shard_drain(&lone.shard);
    lone_run(10 * WEIR_MS);
    assert_int_equal(lone.connection.phase, CONNECTION_LINGERING);
    lone_say(bytes, 1000);
    lone_run(WEIR_MS);
    assert_int_equal(lone.connection.phase, CONNECTION_LINGERING);
    assert_int_equal(lone.connection.receiving.arg.io.length, BUFFER_BYTES);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_moved_and_not_received),
        cmocka_unit_test(what_is_not_large_is_received),
        cmocka_unit_test(nor_is_what_another_client_may_overtake),
        cmocka_unit_test(nor_what_is_for_a_file_on_a_disk),
        cmocka_unit_test(nor_where_a_splice_is_not_to_be_had),
        cmocka_unit_test(one_after_the_other_in_parts_of_any_size),
        cmocka_unit_test(behind_one_that_is_large_come_small_ones),
        cmocka_unit_test(with_no_pipe_to_be_had_it_is_received),
        cmocka_unit_test(an_error_is_the_answer_and_the_rest_is_gone_from_the_pipe),
        cmocka_unit_test(where_splice_does_not_work_it_is_received),
        cmocka_unit_test(a_client_that_leaves_in_the_middle_leaves_no_bytes_in_a_pipe),
        cmocka_unit_test(a_server_that_hangs_up_in_the_middle_leaves_none_either),
        cmocka_unit_test(what_comes_after_the_end_is_received_in_large_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
