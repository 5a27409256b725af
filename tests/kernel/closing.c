/* SPDX-License-Identifier: MIT */
/*
 * closing.c: after a clean close nothing is left in the kernel: a port rebinds, a file system
 * unmounts.
 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define TIMES 20
#define UMOUNTS 10
#define ARMED 3

static int64_t results[64];
static unsigned handed;

static void on_done(struct weir_op *op)
{
    results[handed++ % 64] = op->result;
}

static struct weir_loop *open_loop(void)
{
    struct weir_loop *loop;
    CHECK_EQUAL(weir_loop_open(NULL, &loop), 0);
    handed = 0;
    return loop;
}

static void send_off(struct weir_loop *loop, struct weir_op *op)
{
    op->callback = on_done;
    CHECK_EQUAL(weir_submit(loop, op), 0);
}

/* --- a port ----------------------------------------------------------------------------------- */

/* Without SO_REUSEADDR; *port 0: any, and filled in. 0 or -errno. */
static int bind_port(in_port_t *port, int *ret_fd)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = *port,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 16) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = address.sin_port;
    *ret_fd = fd;
    return 0;
}

static struct weir_loop *armed_loop(int listener, struct weir_op *accepts)
{
    struct weir_loop *loop = open_loop();
    for (int i = 0; i < ARMED; i++) {
        memset(&accepts[i], 0, sizeof accepts[i]);
        weir_op_accept(&accepts[i], listener, NULL, NULL, SOCK_CLOEXEC);
        send_off(loop, &accepts[i]);
    }
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    return loop;
}

static void check_rebinds(void (*end)(struct weir_loop *loop, int listener))
{
    in_port_t port = 0;
    int listener = -1;
    int failed = 0;
    CHECK_EQUAL(bind_port(&port, &listener), 0);
    for (int i = 0; i < TIMES; i++) {
        struct weir_op accepts[ARMED];
        struct weir_loop *loop = armed_loop(listener, accepts);
        end(loop, listener);
        for (int armed = 0; armed < ARMED; armed++) {
            CHECK_EQUAL(accepts[armed].result, -ECANCELED);
        }
        int answer = bind_port(&port, &listener);
        if (answer < 0) {
            printf("time %d: %s\n", i, strerror(-answer));
            failed++;
            port = 0;
            CHECK_EQUAL(bind_port(&port, &listener), 0);
        }
    }
    printf("rebound at once %d of %d times\n", TIMES - failed, TIMES);
    CHECK_EQUAL(failed, 0);
}

static void close_by_op(struct weir_loop *loop, int listener)
{
    struct weir_op closer = {0};
    weir_op_close(&closer, listener);
    send_off(loop, &closer);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK_EQUAL(handed, ARMED + 1);
    CHECK_EQUAL(results[ARMED], 0);
    CHECK_EQUAL(weir_loop_close(loop, WEIR_S, NULL), 0);
}

static void forget_and_close(struct weir_loop *loop, int listener)
{
    CHECK_EQUAL(weir_forget(loop, listener), 0);
    CHECK_EQUAL(close(listener), 0);
    CHECK_EQUAL(weir_loop_close(loop, WEIR_S, NULL), 0);
    CHECK_EQUAL(handed, ARMED);
}

static void close_loop_first(struct weir_loop *loop, int listener)
{
    CHECK_EQUAL(weir_loop_close(loop, WEIR_S, NULL), 0);
    CHECK_EQUAL(handed, ARMED);
    CHECK_EQUAL(close(listener), 0);
}

static void a_port_with_armed_accepts_rebinds_at_once(void)
{
    check_rebinds(close_by_op);
    check_rebinds(forget_and_close);
    check_rebinds(close_loop_first);
}

/* --- a file system ---------------------------------------------------------------------------- */

#define BLOCK (1u << 20)
#define WRITES 8

static void private_mounts(void)
{
    if (geteuid() != 0) {
        check_skip("mounting needs root");
    }
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        check_skip("no private mounts here: %s", strerror(errno));
    }
}

/* File I/O through a loop that is closed with ops in flight. */
static void use_files(const char *folder)
{
    static char block[BLOCK];
    static struct weir_op ops[WRITES];
    char path[128];
    char byte;
    int pipe[2];
    struct weir_loop *loop = open_loop();
    struct weir_op op = {0};
    snprintf(path, sizeof path, "%s/file", folder);
    weir_op_openat(&op, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    send_off(loop, &op);
    CHECK_EQUAL(weir_loop_run(loop), 0);
    CHECK(op.result >= 0);
    int fd = (int)op.result;
    CHECK_EQUAL(pipe2(pipe, O_CLOEXEC), 0);
    weir_op_read(&op, pipe[0], &byte, 1, 0);
    send_off(loop, &op);
    for (unsigned i = 0; i < WRITES; i++) {
        memset(&ops[i], 0, sizeof ops[i]);
        weir_op_write(&ops[i], fd, block, BLOCK, (uint64_t)i * BLOCK);
        send_off(loop, &ops[i]);
    }
    CHECK(weir_loop_turn(loop, 0) >= 0);
    CHECK(weir_loop_live(loop) > 0);
    CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
    CHECK_EQUAL(handed, 1 + 1 + WRITES);
    CHECK_EQUAL(op.result, -ECANCELED);
    for (unsigned i = 0; i < WRITES; i++) {
        CHECK(ops[i].result == BLOCK || ops[i].result == -ECANCELED);
    }
    close(fd);
    close(pipe[0]);
    close(pipe[1]);
}

static void a_file_system_unmounts_at_once(void)
{
    private_mounts();
    char folder[] = "weir-mount-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    int failed = 0;
    for (int i = 0; i < UMOUNTS; i++) {
        if (mount("weir-test", folder, "tmpfs", 0, "size=64m") < 0) {
            int error = errno;
            rmdir(folder);
            check_skip("a tmpfs cannot be mounted here: %s", strerror(error));
        }
        use_files(folder);
        if (umount2(folder, 0) < 0) {
            printf("time %d: %s\n", i, strerror(errno));
            failed++;
            CHECK_EQUAL(umount2(folder, MNT_DETACH), 0);
        }
    }
    CHECK_EQUAL(rmdir(folder), 0);
    printf("unmounted at once %d of %d times\n", UMOUNTS - failed, UMOUNTS);
    CHECK_EQUAL(failed, 0);
}

/* --- a pipe ----------------------------------------------------------------------------------- */

static void a_pending_read_comes_back_cancelled_and_close_answers_0(void)
{
    int pipe[2];
    char byte;
    CHECK_EQUAL(pipe2(pipe, O_CLOEXEC), 0);
    size_t fds = check_fd_count();
    struct weir_loop *loop = open_loop();
    struct weir_op op = {0};
    weir_op_read(&op, pipe[0], &byte, 1, 0);
    send_off(loop, &op);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    uint64_t began = check_now();
    CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
    printf("closed in %.2f ms\n", (double)(check_now() - began) / WEIR_MS);
    CHECK_EQUAL(handed, 1);
    CHECK_EQUAL(op.result, -ECANCELED);
    CHECK_EQUAL(check_fd_count(), fds);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_port_with_armed_accepts_rebinds_at_once),
        CHECK_TEST(a_file_system_unmounts_at_once),
        CHECK_TEST(a_pending_read_comes_back_cancelled_and_close_answers_0),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
