/* SPDX-License-Identifier: MIT */
/* The fill helpers: each kind's arguments, and what they must leave alone. */
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <weir/weir.h>

static char bytes[16];
static struct iovec vectors[2];
static struct msghdr message;
static struct sockaddr address;
static socklen_t address_length;
static uint64_t statx_memory[32]; /* a struct statx, which is not looked at */
#define STATX ((struct statx *)(void *)statx_memory)

/* An op full of leftovers, as if it had been used for something else before. */
static struct weir_op used_op(void)
{
    struct weir_op op;
    memset(&op, 0xa5, sizeof op);
    op.state = 0;
    return op;
}

/* All but kind and arguments is as it was; the optional arguments are reset. */
static void check_left_alone(const struct weir_op *op, int kind, int fd)
{
    struct weir_op expected = used_op();
    expected.kind = (uint8_t)kind;
    expected.fd = fd;
    expected.rw_flags = 0;
    expected.ioprio = 0;
    expected.buffer_index = 0;
    expected.buffer_group = 0;
    expected.arg = op->arg;
    expected.mode_or_offset2 = op->mode_or_offset2;
    assert_int_equal(op->kind, kind);
    assert_int_equal(op->fd, fd);
    assert_memory_equal(op, &expected, sizeof expected);
}

static void check_io(const struct weir_op *op, int kind, const void *buffer, uint64_t length,
                     uint64_t offset, unsigned flags)
{
    check_left_alone(op, kind, 7);
    assert_ptr_equal(op->arg.io.buffer, buffer);
    assert_int_equal(op->arg.io.length, length);
    assert_int_equal(op->arg.io.offset, offset);
    assert_int_equal(op->arg.io.flags, flags);
}

static void check_path(const struct weir_op *op, int kind, const char *path, unsigned flags)
{
    check_left_alone(op, kind, 7);
    assert_string_equal(op->arg.path.path, path);
    assert_int_equal(op->arg.path.flags, flags);
}

static void reads_and_writes_carry_buffer_length_and_offset(void **state)
{
    (void)state;
    const uint64_t length = (1ULL << 32) + 1; /* more than 32 bits everywhere */
    const uint64_t offset = 1ULL << 40;
    struct weir_op op = used_op();
    weir_op_read(&op, 7, bytes, length, offset);
    check_io(&op, WEIR_KIND_READ, bytes, length, offset, 0);
    op = used_op();
    weir_op_write(&op, 7, bytes, length, WEIR_CURRENT);
    check_io(&op, WEIR_KIND_WRITE, bytes, length, WEIR_CURRENT, 0);
    op = used_op();
    weir_op_readv(&op, 7, vectors, 2, offset);
    check_io(&op, WEIR_KIND_READV, vectors, 2, offset, 0);
    op = used_op();
    weir_op_writev(&op, 7, vectors, length, offset);
    check_io(&op, WEIR_KIND_WRITEV, vectors, length, offset, 0);
}

static void file_kinds_carry_range_and_flags(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_sync_file_range(&op, 7, 4096, 8192, SYNC_FILE_RANGE_WRITE);
    check_io(&op, WEIR_KIND_SYNC_FILE_RANGE, NULL, 8192, 4096, SYNC_FILE_RANGE_WRITE);
    op = used_op();
    weir_op_fallocate(&op, 7, 3, 4096, 1ULL << 33);
    check_io(&op, WEIR_KIND_FALLOCATE, NULL, 1ULL << 33, 4096, 3);
    op = used_op();
    weir_op_fadvise(&op, 7, 4096, 8192, POSIX_FADV_DONTNEED);
    check_io(&op, WEIR_KIND_FADVISE, NULL, 8192, 4096, POSIX_FADV_DONTNEED);

    op = used_op();
    weir_op_close(&op, 7);
    check_left_alone(&op, WEIR_KIND_CLOSE, 7);
    op = used_op();
    weir_op_nop(&op);
    check_left_alone(&op, WEIR_KIND_NOP, -1);
}

static void fdatasync_is_an_fsync_that_differs(void **state)
{
    (void)state;
    struct weir_op all = used_op();
    struct weir_op data = used_op();
    weir_op_fsync(&all, 7);
    weir_op_fdatasync(&data, 7);
    check_left_alone(&all, WEIR_KIND_FSYNC, 7);
    check_left_alone(&data, WEIR_KIND_FSYNC, 7);
    assert_int_not_equal(all.arg.io.flags, data.arg.io.flags);
}

static void path_kinds_carry_directories_paths_and_modes(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_openat(&op, 7, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    check_path(&op, WEIR_KIND_OPENAT, "a", O_RDWR | O_CREAT | O_CLOEXEC);
    assert_int_equal(op.mode_or_offset2, 0640);
    op = used_op();
    weir_op_mkdirat(&op, 7, "d", 0750);
    check_path(&op, WEIR_KIND_MKDIRAT, "d", 0);
    assert_int_equal(op.mode_or_offset2, 0750);
    op = used_op();
    weir_op_statx(&op, 7, "s", AT_SYMLINK_NOFOLLOW, 0x7ff, STATX);
    check_path(&op, WEIR_KIND_STATX, "s", AT_SYMLINK_NOFOLLOW);
    assert_int_equal(op.mode_or_offset2, 0x7ff);
    assert_ptr_equal(op.arg.path.statx, STATX);
    op = used_op();
    weir_op_unlinkat(&op, 7, "u", AT_REMOVEDIR);
    check_path(&op, WEIR_KIND_UNLINKAT, "u", AT_REMOVEDIR);
}

static void kinds_of_two_paths_keep_them_apart(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_renameat(&op, 7, "old", 9, "new", 1);
    check_path(&op, WEIR_KIND_RENAMEAT, "old", 1);
    assert_int_equal(op.arg.path.fd2, 9);
    assert_string_equal(op.arg.path.path2, "new");
    op = used_op();
    weir_op_linkat(&op, 7, "old", AT_FDCWD, "new", AT_SYMLINK_FOLLOW);
    check_path(&op, WEIR_KIND_LINKAT, "old", AT_SYMLINK_FOLLOW);
    assert_int_equal(op.arg.path.fd2, AT_FDCWD);
    assert_string_equal(op.arg.path.path2, "new");
    op = used_op();
    weir_op_symlinkat(&op, "target", 7, "link");
    check_path(&op, WEIR_KIND_SYMLINKAT, "target", 0);
    assert_string_equal(op.arg.path.path2, "link");
}

static void socket_kinds_carry_their_arguments(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_socket(&op, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 5);
    check_left_alone(&op, WEIR_KIND_SOCKET, -1);
    assert_int_equal(op.arg.socket.level, AF_UNIX);
    assert_int_equal(op.arg.socket.name, SOCK_STREAM | SOCK_CLOEXEC);
    assert_int_equal(op.arg.socket.flags, 5);
    op = used_op();
    weir_op_bind(&op, 7, &address, sizeof address);
    check_left_alone(&op, WEIR_KIND_BIND, 7);
    assert_ptr_equal(op.arg.socket.address, &address);
    assert_int_equal(op.arg.socket.length, sizeof address);
    op = used_op();
    weir_op_listen(&op, 7, 128);
    check_left_alone(&op, WEIR_KIND_LISTEN, 7);
    assert_int_equal(op.arg.socket.level, 128);
    op = used_op();
    weir_op_setsockopt(&op, 7, SOL_SOCKET, SO_REUSEADDR, bytes, sizeof(int));
    check_left_alone(&op, WEIR_KIND_SETSOCKOPT, 7);
    assert_int_equal(op.arg.socket.level, SOL_SOCKET);
    assert_int_equal(op.arg.socket.name, SO_REUSEADDR);
    assert_ptr_equal(op.arg.socket.address, bytes);
    assert_int_equal(op.arg.socket.length, sizeof(int));
    op = used_op();
    weir_op_shutdown(&op, 7, SHUT_WR);
    check_left_alone(&op, WEIR_KIND_SHUTDOWN, 7);
    assert_int_equal(op.arg.socket.level, SHUT_WR);
}

static void connections_carry_addresses(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_accept(&op, 7, &address, &address_length, SOCK_CLOEXEC);
    check_left_alone(&op, WEIR_KIND_ACCEPT, 7);
    assert_ptr_equal(op.arg.socket.address, &address);
    assert_ptr_equal(op.arg.socket.length_ret, &address_length);
    assert_int_equal(op.arg.socket.flags, SOCK_CLOEXEC);
    op = used_op();
    weir_op_accept(&op, 7, NULL, NULL, 0);
    assert_null(op.arg.socket.address);
    assert_null(op.arg.socket.length_ret);
    op = used_op();
    weir_op_connect(&op, 7, &address, sizeof address);
    check_left_alone(&op, WEIR_KIND_CONNECT, 7);
    assert_ptr_equal(op.arg.socket.address, &address);
    assert_int_equal(op.arg.socket.length, sizeof address);
}

static void messages_polls_and_splices_carry_their_arguments(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_recv(&op, 7, bytes, sizeof bytes, MSG_PEEK);
    check_io(&op, WEIR_KIND_RECV, bytes, sizeof bytes, 0, MSG_PEEK);
    op = used_op();
    weir_op_send(&op, 7, bytes, sizeof bytes, MSG_MORE);
    check_io(&op, WEIR_KIND_SEND, bytes, sizeof bytes, 0, MSG_MORE);
    op = used_op();
    weir_op_recvmsg(&op, 7, &message, MSG_PEEK);
    check_io(&op, WEIR_KIND_RECVMSG, &message, 1, 0, MSG_PEEK);
    op = used_op();
    weir_op_sendmsg(&op, 7, &message, MSG_MORE);
    check_io(&op, WEIR_KIND_SENDMSG, &message, 1, 0, MSG_MORE);
    op = used_op();
    weir_op_poll(&op, 7, 0x2001);
    check_io(&op, WEIR_KIND_POLL, NULL, 0, 0, 0x2001);
    op = used_op();
    weir_op_splice(&op, 5, WEIR_CURRENT, 7, 4096, 65536, SPLICE_F_MOVE);
    check_io(&op, WEIR_KIND_SPLICE, NULL, 65536, 4096, SPLICE_F_MOVE);
    assert_int_equal(op.arg.io.fd2, 5);
    assert_true(op.mode_or_offset2 == WEIR_CURRENT);
}

static void a_timeout_carries_its_time_and_never_wraps(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_timeout(&op, 12345);
    check_left_alone(&op, WEIR_KIND_TIMEOUT, -1);
    assert_int_equal(op.arg.timeout.at_ns, 12345);
    op = used_op();
    weir_op_timeout_in(&op, NULL, 77); /* no loop: its time is 0 */
    check_left_alone(&op, WEIR_KIND_TIMEOUT, -1);
    assert_int_equal(op.arg.timeout.at_ns, 77);
    op = used_op();
    weir_op_timeout_in(&op, NULL, UINT64_MAX);
    assert_true(op.arg.timeout.at_ns == UINT64_MAX);
}

static int64_t function(void *argument)
{
    return argument != NULL;
}

static void a_truncation_carries_its_length(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_ftruncate(&op, 7, 1ULL << 33);
    check_io(&op, WEIR_KIND_FTRUNCATE, NULL, 1ULL << 33, 0, 0);
}

static void kinds_that_watch_carry_what_they_wait_for_and_no_fd(void **state)
{
    (void)state;
    static uint64_t signal_memory[16]; /* a struct signalfd_siginfo, which is not looked at */
    struct signalfd_siginfo *info = (void *)signal_memory;
    struct weir_exit end;
    struct weir_op op = used_op();
    weir_op_signal(&op, WEIR_SIGNAL(1) | WEIR_SIGNAL(64), info);
    check_left_alone(&op, WEIR_KIND_SIGNAL, -1);
    assert_true(op.arg.watch.signals == 0x8000000000000001ULL);
    assert_ptr_equal(op.arg.watch.ret_info, info);
    op = used_op();
    weir_op_signal(&op, WEIR_SIGNAL(15), NULL);
    assert_null(op.arg.watch.ret_info);
    op = used_op();
    weir_op_child(&op, 12345, &end);
    check_left_alone(&op, WEIR_KIND_CHILD, -1);
    assert_int_equal(op.arg.watch.pid, 12345);
    assert_ptr_equal(op.arg.watch.ret_info, &end);
}

static void a_call_carries_its_function_and_argument(void **state)
{
    (void)state;
    struct weir_op op = used_op();
    weir_op_call(&op, function, bytes);
    check_left_alone(&op, WEIR_KIND_CALL, -1);
    assert_ptr_equal(op.arg.call.function, function);
    assert_ptr_equal(op.arg.call.argument, bytes);
    assert_int_equal(weir_op_asked(NULL), 0);
    op.asked_back = 0;
    assert_int_equal(weir_op_asked(&op), 0);
    op.asked_back = 1;
    assert_int_not_equal(weir_op_asked(&op), 0);
}

static void the_kind_written_last_wins(void **state)
{
    (void)state;
    struct weir_op op = {0};
    weir_op_read(&op, 3, bytes, 5, 9);
    op.rw_flags = 1;
    op.ioprio = 2;
    weir_op_send(&op, 4, bytes, 6, 0);
    assert_int_equal(op.kind, WEIR_KIND_SEND);
    assert_int_equal(op.fd, 4);
    assert_int_equal(op.arg.io.length, 6);
    assert_int_equal(op.arg.io.offset, 0);
    assert_int_equal(op.rw_flags, 0);
    assert_int_equal(op.ioprio, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_carry_buffer_length_and_offset),
        cmocka_unit_test(file_kinds_carry_range_and_flags),
        cmocka_unit_test(fdatasync_is_an_fsync_that_differs),
        cmocka_unit_test(path_kinds_carry_directories_paths_and_modes),
        cmocka_unit_test(kinds_of_two_paths_keep_them_apart),
        cmocka_unit_test(socket_kinds_carry_their_arguments),
        cmocka_unit_test(connections_carry_addresses),
        cmocka_unit_test(messages_polls_and_splices_carry_their_arguments),
        cmocka_unit_test(a_timeout_carries_its_time_and_never_wraps),
        cmocka_unit_test(a_truncation_carries_its_length),
        cmocka_unit_test(kinds_that_watch_carry_what_they_wait_for_and_no_fd),
        cmocka_unit_test(a_call_carries_its_function_and_argument),
        cmocka_unit_test(the_kind_written_last_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
