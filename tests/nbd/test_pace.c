/* SPDX-License-Identifier: MIT */
/* docs/examples/nbd/pace.h: which client is left alone, and until when. */
#include "unit.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pace.h"

#define REPLY (4096 + 28) /* bytes: of a READ of 4 KiB, in a structured reply */

static int ours, theirs;
static struct pace pace;

static int open_pair(void **state)
{
    (void)state;
    int fds[2];
    pace = (struct pace){0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        return -1;
    }
    ours = fds[0];
    theirs = fds[1];
    pace_begin(&pace, ours);
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    close(ours);
    close(theirs);
    return 0;
}

/* What the kernel grants and counts differs; what is tested is what follows from the usual. */
static void need_room(void)
{
    if (pace.room < 400 << 10 || sysconf(_SC_PAGESIZE) > 4096) {
        print_message("net.core.wmem_max is small, or pages are large\n");
        skip();
    }
}

/* Messages of as many replies as a server would put into one. */
static void answer(int replies, size_t bytes)
{
    static char reply[64 << 10];
    struct iovec iov[8];
    for (; replies > 0; replies -= 8) {
        size_t count = replies < 8 ? (size_t)replies : 8;
        for (size_t i = 0; i < count; i++) {
            iov[i] = (struct iovec){reply, bytes};
        }
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
        pace_see(&pace, &message);
        assert_int_equal(sendmsg(ours, &message, MSG_DONTWAIT), count * bytes);
        pace.has_sent = true;
    }
}

static void take(int replies, size_t bytes)
{
    static char into[64 << 10];
    for (int i = 0; i < replies; i++) {
        assert_int_equal(recv(theirs, into, bytes, MSG_WAITALL), bytes);
    }
}

static int room_of(int fd)
{
    int bytes;
    socklen_t length = sizeof bytes;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length), 0);
    return bytes;
}

static bool is_time(void)
{
    struct pollfd poller = {.fd = ours, .events = POLLOUT};
    return poll(&poller, 1, 0) > 0;
}

/* How many of 64 replies are unread when the time has come. */
static int left_of(bool has_others)
{
    int taken = 0;
    answer(64, REPLY);
    assert_true(pace_waits(&pace, ours, has_others));
    for (; !is_time(); taken++) {
        assert_true(taken < 64);
        take(1, REPLY);
    }
    return 64 - taken;
}

static void who_has_a_long_line_to_read_is_waited_for_until_it_is_short(void **state)
{
    (void)state;
    need_room();
    int room = room_of(ours);
    /* The kernel counts whole messages, and more than their bytes. */
    assert_in_range(left_of(false), 16, 28);
    pace_end(&pace, ours, true);
    assert_false(pace_waits(&pace, ours, false));
    assert_int_equal(room_of(ours), room);
}

static void until_it_is_shorter_where_there_are_others(void **state)
{
    (void)state;
    need_room();
    assert_in_range(left_of(true), 0, 8);
}

static void who_has_a_short_one_is_not(void **state)
{
    (void)state;
    need_room();
    assert_false(pace_waits(&pace, ours, false));
    answer(8, REPLY);
    assert_false(pace_waits(&pace, ours, false));
    answer(28, REPLY); /* by now it is long, */
    take(30, REPLY);   /* and was */
    assert_false(pace_waits(&pace, ours, false));
}

static void nobody_is_waited_for_twice_for_the_same_replies(void **state)
{
    (void)state;
    need_room();
    answer(40, REPLY);
    assert_true(pace_waits(&pace, ours, false));
    pace_end(&pace, ours, true);
    assert_false(pace_waits(&pace, ours, false));
    answer(1, REPLY);
    assert_true(pace_waits(&pace, ours, false));
}

static void who_does_not_read_is_not_waited_for_until_he_does(void **state)
{
    (void)state;
    need_room();
    answer(40, REPLY);
    assert_true(pace_waits(&pace, ours, false));
    pace_end(&pace, ours, false);
    answer(1, REPLY);
    assert_false(pace_waits(&pace, ours, false));
    take(33, REPLY);
    answer(1, REPLY);
    assert_false(pace_waits(&pace, ours, false)); /* the line is short */
    answer(32, REPLY);
    assert_true(pace_waits(&pace, ours, false));
}

static void who_waits_for_a_disk_is_not_made_to_wait_for_us(void **state)
{
    (void)state;
    need_room();
    answer(40, REPLY);
    pace.is_slow = true;
    assert_false(pace_waits(&pace, ours, false));
    answer(1, REPLY);
    assert_true(pace_waits(&pace, ours, false));
}

static void replies_that_are_small_or_large_do_not_hold_anybody_up(void **state)
{
    (void)state;
    need_room();
    answer(200, 16);
    assert_false(pace_waits(&pace, ours, false));
    take(200, 16);
    answer(25, 10 << 10);
    assert_false(pace_waits(&pace, ours, false));
}

static void nor_does_a_socket_that_cannot_tell_or_has_not_the_room(void **state)
{
    (void)state;
    need_room();
    pace.room = 386 << 10; /* less than four times 24 of them */
    answer(28, REPLY);
    assert_false(pace_waits(&pace, ours, false));
    pace = (struct pace){0};
    answer(1, REPLY);
    assert_false(pace_waits(&pace, ours, false));
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (tcp < 0) {
        skip(); /* no network */
    }
    int room = room_of(tcp);
    pace_begin(&pace, tcp);
    assert_int_equal(pace.room, 0);
    assert_int_equal(room_of(tcp), room);
    close(tcp);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_has_a_long_line_to_read_is_waited_for_until_it_is_short),
        TEST(until_it_is_shorter_where_there_are_others),
        TEST(who_has_a_short_one_is_not),
        TEST(nobody_is_waited_for_twice_for_the_same_replies),
        TEST(who_does_not_read_is_not_waited_for_until_he_does),
        TEST(who_waits_for_a_disk_is_not_made_to_wait_for_us),
        TEST(replies_that_are_small_or_large_do_not_hold_anybody_up),
        TEST(nor_does_a_socket_that_cannot_tell_or_has_not_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
