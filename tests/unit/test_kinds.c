/* SPDX-License-Identifier: MIT */
/* engine/op/kinds.c: the names of kinds, and how transfers are cut into parts and continued. */
#include "unit.h"

#include <ctype.h>
#include <engine/op/op.h>
#include <string.h>

#define VECTORS_MOST 12u
#define BYTES_MOST 64u

#define KIND(name) [WEIR_KIND_##name] = #name
static const char *const enumerators[] = {
    KIND(NONE),      KIND(NOP),      KIND(READ),       KIND(WRITE),           KIND(READV),
    KIND(WRITEV),    KIND(FSYNC),    KIND(OPENAT),     KIND(SYNC_FILE_RANGE), KIND(CLOSE),
    KIND(STATX),     KIND(UNLINKAT), KIND(RENAMEAT),   KIND(LINKAT),          KIND(MKDIRAT),
    KIND(SYMLINKAT), KIND(FADVISE),  KIND(FALLOCATE),  KIND(SOCKET),          KIND(BIND),
    KIND(LISTEN),    KIND(ACCEPT),   KIND(SETSOCKOPT), KIND(CONNECT),         KIND(RECV),
    KIND(SEND),      KIND(RECVMSG),  KIND(SENDMSG),    KIND(SHUTDOWN),        KIND(POLL),
    KIND(SPLICE),    KIND(TIMEOUT),  KIND(FTRUNCATE),  KIND(SIGNAL),          KIND(CHILD),
    KIND(CALL),
};

static void every_kind_is_named_after_its_enumerator(void **state)
{
    (void)state;
    assert_int_equal(COUNT_OF(enumerators), WEIR_KIND_COUNT);
    for (unsigned kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        char lower[32] = "";
        for (size_t i = 0; enumerators[kind][i] && i < sizeof lower - 1; i++) {
            lower[i] = (char)tolower((unsigned char)enumerators[kind][i]);
        }
        assert_non_null(weir_kind_name(kind));
        assert_string_equal(weir_kind_name(kind), lower);
    }
}

static void an_unknown_kind_has_no_name(void **state)
{
    (void)state;
    assert_null(weir_kind_name(WEIR_KIND_COUNT));
    assert_null(weir_kind_name(255));
    assert_null(weir_kind_name(UINT32_MAX));
}

static void what_may_wait_for_others_for_ever_is_known_of_every_kind(void **state)
{
    (void)state;
    static const uint64_t waits = 1ULL << WEIR_KIND_ACCEPT | 1ULL << WEIR_KIND_CONNECT |
                                  1ULL << WEIR_KIND_POLL | 1ULL << WEIR_KIND_RECV |
                                  1ULL << WEIR_KIND_RECVMSG | 1ULL << WEIR_KIND_SIGNAL |
                                  1ULL << WEIR_KIND_CHILD;
    static const uint64_t own = 1ULL << WEIR_KIND_SIGNAL | 1ULL << WEIR_KIND_CHILD;
    for (unsigned kind = 0; kind < WEIR_KIND_COUNT; kind++) {
        assert_int_equal(!!(weir_kind_traits(kind) & WEIR_KIND_WAITS), waits >> kind & 1);
        assert_int_equal(!!(weir_kind_traits(kind) & WEIR_KIND_OWN_FD), own >> kind & 1);
    }
    assert_int_equal(weir_kind_traits(WEIR_KIND_CALL), 0); /* no bytes, no fd */
}

static void a_part_is_clamped_and_never_wraps(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {
        0, 1, WEIR_TRANSFER_MAX, WEIR_TRANSFER_MAX + 1, 1ULL << 32, (1ULL << 32) + 1, UINT64_MAX};
    char byte = 0;
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        struct weir_op op = {0};
        struct weir_part part;
        weir_op_read(&op, 3, &byte, lengths[i], 10);
        weir_op_part(&op, &part);
        assert_true(part.length == (lengths[i] < WEIR_TRANSFER_MAX ? lengths[i] : 0x7ffff000ULL));
        assert_int_equal(part.offset, 10);
        assert_true(weir_op_bytes(&op) == lengths[i]);
    }
    struct weir_op op = {0};
    struct weir_part part;
    struct iovec vector = {&byte, 1};
    weir_op_writev(&op, 3, &vector, 1ULL << 32, 0);
    weir_op_part(&op, &part);
    assert_int_equal(part.length, 1024);
}

static void the_current_position_is_not_moved_by_the_engine(void **state)
{
    (void)state;
    char buffer[10] = {0};
    struct weir_op op = {0};
    struct weir_part part;
    weir_op_write(&op, 3, buffer, sizeof buffer, WEIR_CURRENT);
    op.flags = WEIR_WHOLE;
    op.moved = 4;
    weir_op_part(&op, &part);
    assert_true(part.offset == WEIR_CURRENT);
    assert_ptr_equal(part.buffer, buffer + 4);
    assert_int_equal(part.length, 6);
}

/* --- continued vectors, against a model ------------------------------------------------------- */

static char memory[VECTORS_MOST * BYTES_MOST];

/* What a system call with this part would move, address by address, at most `budget` bytes. */
static uint64_t carry_out(const struct weir_part *part, char **ret_addresses, uint64_t budget)
{
    struct iovec plain = {part->buffer, part->length};
    const struct iovec *iov = &plain;
    uint64_t count = 1;
    if (part->kind == WEIR_KIND_READV || part->kind == WEIR_KIND_WRITEV) {
        iov = part->buffer;
        count = part->length;
    } else if (part->kind == WEIR_KIND_RECVMSG || part->kind == WEIR_KIND_SENDMSG) {
        const struct msghdr *header = part->buffer;
        iov = header->msg_iov;
        count = header->msg_iovlen;
    }
    uint64_t moved = 0;
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t at = 0; at < iov[i].iov_len && moved < budget; at++) {
            ret_addresses[moved++] = (char *)iov[i].iov_base + at;
        }
    }
    return moved;
}

static void check_all_moves_once(struct weir_op *op, const struct iovec *iov, uint64_t count,
                                 struct random *random)
{
    char *addresses[sizeof memory] = {0};
    uint64_t total = weir_op_bytes(op);
    uint64_t moved = 0;
    op->flags = WEIR_WHOLE;
    while (moved < total) {
        struct weir_part part;
        op->moved = moved;
        weir_op_part(op, &part);
        if (op->kind == WEIR_KIND_READV || op->kind == WEIR_KIND_WRITEV) {
            assert_int_equal(part.offset, 1000 + moved);
        }
        uint64_t more = carry_out(&part, addresses + moved, 1 + random_below(random, 50));
        assert_true(more > 0);
        moved += more;
        assert_true(moved <= total);
    }
    uint64_t seen = 0;
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t at = 0; at < iov[i].iov_len; at++) {
            assert_ptr_equal(addresses[seen++], (char *)iov[i].iov_base + at);
        }
    }
    assert_int_equal(seen, total);
}

static void continued_vectors_move_every_byte_once_and_stay_unmodified(void **state)
{
    (void)state;
    struct random random = random_open();
    for (int round = 0; round < 2000; round++) {
        struct iovec iov[VECTORS_MOST];
        uint64_t count = 1 + random_below(&random, VECTORS_MOST);
        for (uint64_t i = 0; i < count; i++) {
            iov[i].iov_base = memory + i * BYTES_MOST;
            iov[i].iov_len = random_below(&random, 4) ? random_below(&random, BYTES_MOST) : 0;
        }
        struct iovec before[VECTORS_MOST];
        memcpy(before, iov, sizeof iov[0] * count);
        struct msghdr header = {.msg_iov = iov, .msg_iovlen = count};

        struct weir_op op = {0};
        weir_op_readv(&op, 3, iov, count, 1000);
        check_all_moves_once(&op, iov, count, &random);
        weir_op_writev(&op, 3, iov, count, 1000);
        check_all_moves_once(&op, iov, count, &random);
        weir_op_sendmsg(&op, 3, &header, 0);
        check_all_moves_once(&op, iov, count, &random);
        weir_op_recvmsg(&op, 3, &header, 0);
        check_all_moves_once(&op, iov, count, &random);
        assert_memory_equal(before, iov, sizeof iov[0] * count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_named_after_its_enumerator),
        cmocka_unit_test(an_unknown_kind_has_no_name),
        cmocka_unit_test(what_may_wait_for_others_for_ever_is_known_of_every_kind),
        cmocka_unit_test(a_part_is_clamped_and_never_wraps),
        cmocka_unit_test(the_current_position_is_not_moved_by_the_engine),
        cmocka_unit_test(continued_vectors_move_every_byte_once_and_stay_unmodified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
