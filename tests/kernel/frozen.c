/* SPDX-License-Identifier: MIT */
/*
 * frozen.c: an op that cannot be cancelled: a write to a frozen file system, whose worker has
 * started. Close must say so within its deadline, and end cleanly once the file system thaws.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define GUARD_MS 20000
#define CLOSE_WAIT (200 * WEIR_MS)

static char image[64];
static char folder[64];

static int run(const char *format, const char *first, const char *second)
{
    char command[256];
    snprintf(command, sizeof command, format, first, second);
    fflush(stdout);
    return system(command);
}

static void mount_image(void)
{
    if (geteuid() != 0) {
        check_skip("mounting and freezing need root");
    }
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        check_skip("no private mounts here: %s", strerror(errno));
    }
    if (run("PATH=$PATH:/usr/sbin:/sbin; command -v mkfs.ext4 >/dev/null", "", "") != 0) {
        check_skip("mkfs.ext4 is not installed");
    }
    snprintf(image, sizeof image, "weir-image-XXXXXX");
    snprintf(folder, sizeof folder, "weir-frozen-XXXXXX");
    int fd = mkostemp(image, O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(ftruncate(fd, 32 << 20), 0);
    close(fd);
    CHECK(mkdtemp(folder) != NULL);
    CHECK_EQUAL(run("PATH=$PATH:/usr/sbin:/sbin; mkfs.ext4 -q -F %s%s", image, ""), 0);
    if (run("mount -o loop %s %s", image, folder) != 0) {
        unlink(image);
        rmdir(folder);
        check_skip("no loop device can be mounted here");
    }
}

static void unmount_image(void)
{
    CHECK_EQUAL(umount2(folder, MNT_DETACH), 0);
    CHECK_EQUAL(rmdir(folder), 0);
    CHECK_EQUAL(unlink(image), 0);
}

/*
 * A child that thaws and cleans up when this process ends, however it ends, and after 20 s anyway:
 * a frozen file system would keep the process that writes to it for ever.
 */
static void guard_thaw(int mounted)
{
    int life[2];
    CHECK_EQUAL(pipe2(life, O_CLOEXEC), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(life[1]);
        struct pollfd end = {.fd = life[0], .events = POLLIN};
        poll(&end, 1, GUARD_MS);
        ioctl(mounted, FITHAW, 0);
        umount2(folder, MNT_DETACH);
        rmdir(folder);
        unlink(image);
        _exit(0);
    }
    close(life[0]);
}

static int64_t result = 1;
static unsigned handed;

static void on_written(struct weir_op *op)
{
    result = op->result;
    handed++;
}

static void check_report(const struct weir_report *left, const struct weir_op *op, int fd)
{
    CHECK_EQUAL(left->count, 1);
    const struct weir_live *live = &left->ops[0];
    printf("still out: %s of task %s on fd %d, %s, submitted at %s %.0f ms ago\n", live->kind,
           live->task, live->fd, live->state, live->site, (double)live->age_ns / WEIR_MS);
    CHECK(live->op == op);
    CHECK(strcmp(live->kind, "write") == 0);
    CHECK(strcmp(live->task, "frozen writer") == 0);
    CHECK(strcmp(live->state, "in flight") == 0);
    CHECK(strstr(live->site, "frozen.c:") != NULL);
    CHECK_EQUAL(live->fd, fd);
    CHECK_EQUAL(live->offset, 4096);
    CHECK_EQUAL(live->length, 512);
}

static void write_and_close(int fd, int mounted)
{
    static char block[512];
    static struct weir_op op;
    static struct weir_op late;
    struct weir_loop *loop;
    struct weir_task *task;
    struct weir_report left = {0};
    struct weir_task_options options = {.name = "frozen writer"};
    CHECK_EQUAL(weir_loop_open(NULL, &loop), 0);
    CHECK_EQUAL(weir_task_open(loop, &options, &task), 0);
    weir_op_write(&op, fd, block, sizeof block, 4096);
    op.callback = on_written;
    op.task = task;
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    /* So that the kernel's worker has begun and stands at the frozen file system's door. */
    nanosleep(&(struct timespec){.tv_nsec = 100 * WEIR_MS}, NULL);
    uint64_t began = check_now();
    CHECK_EQUAL(weir_loop_close(loop, CLOSE_WAIT, &left), -ETIMEDOUT);
    printf("close answered -ETIMEDOUT after %.1f ms of 200\n",
           (double)(check_now() - began) / WEIR_MS);
    CHECK_EQUAL(handed, 0);
    check_report(&left, &op, fd);
    weir_op_nop(&late);
    late.callback = on_written;
    CHECK_EQUAL(weir_submit(loop, &late), -ESHUTDOWN);
    CHECK_EQUAL(ioctl(mounted, FITHAW, 0), 0);
    CHECK_EQUAL(weir_loop_close(loop, 10 * WEIR_S, NULL), 0);
    CHECK_EQUAL(handed, 1);
    CHECK_EQUAL(result, sizeof block);
}

static void a_write_that_cannot_be_cancelled_is_reported_and_close_ends_after_the_thaw(void)
{
    mount_image();
    char path[128];
    snprintf(path, sizeof path, "%s/file", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int mounted = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && mounted >= 0);
    guard_thaw(mounted);
    if (ioctl(mounted, FIFREEZE, 0) < 0) {
        int error = errno;
        unmount_image();
        check_skip("this file system cannot be frozen: %s", strerror(error));
    }
    write_and_close(fd, mounted);
    close(fd);
    close(mounted);
    unmount_image();
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_write_that_cannot_be_cancelled_is_reported_and_close_ends_after_the_thaw),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
