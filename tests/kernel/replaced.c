/* SPDX-License-Identifier: MIT */
/*
 * replaced.c: what a kernel may answer and this one does not on demand: a function stands in for
 * io_uring_enter.
 */
#include "check.h"

#include <engine/backend/uring.h>
#include <engine/loop/loop.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void replace(struct weir_loop *loop, weir_enter_call *call, void *context)
{
    weir_uring_replace_enter(weir_loop_backend(loop), call, context);
}

/* Takes nothing and answers *context. */
static int refuse(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
                  unsigned flags)
{
    (void)ring, (void)to_submit, (void)wait_nr, (void)flags;
    return *(int *)context;
}

static int enter(struct io_uring *ring, unsigned to_submit, unsigned wait_nr, unsigned flags)
{
    return io_uring_enter2((unsigned)ring->enter_ring_fd, to_submit, wait_nr, flags, NULL,
                           _NSIG / 8);
}

static void submit_nop(struct weir_loop *loop, struct weir_op *op)
{
    op->callback = check_on_done;
    weir_op_nop(op);
    CHECK_EQUAL(weir_submit(loop, op), 0);
}

/* --- the queue -------------------------------------------------------------------------------- */

static void the_wake_takes_no_ops_place_while_the_kernel_refuses(void)
{
    for (uint32_t depth = 1; depth <= 8; depth *= 2) {
        struct weir_loop *loop = check_open(&(struct weir_options){.depth = depth});
        struct weir_op ops[8] = {0};
        int answer = -EAGAIN;
        replace(loop, refuse, &answer);
        CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
        for (uint32_t i = 0; i < depth; i++) {
            submit_nop(loop, &ops[i]);
        }
        for (int i = 0; i < 3; i++) {
            CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
        }
        replace(loop, NULL, NULL);
        check_drain(loop);
        CHECK_EQUAL(check_handed, depth);
        /* The wake is armed in the end: else this sleeps for good. */
        CHECK_EQUAL(weir_loop_wake(loop), 0);
        CHECK_EQUAL(weir_loop_turn(loop, -1), 0);
        check_close(loop);
    }
}

/* As a kernel without IORING_SETUP_SUBMIT_ALL: after a bad entry the rest stays in the queue. */
static int take_one(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
                    unsigned flags)
{
    bool *cut = context;
    bool now = to_submit > 1 && !*cut;
    *cut |= now;
    return enter(ring, now ? 1 : to_submit, now ? 0 : wait_nr, flags);
}

static struct weir_loop *short_loop;
static struct weir_op followers[2];

static void submit_followers(struct weir_op *op)
{
    check_on_done(op);
    for (int i = 0; i < 2; i++) {
        submit_nop(short_loop, &followers[i]);
    }
}

static void the_wake_takes_no_ops_place_when_the_kernel_takes_one_entry(void)
{
    struct weir_op ops[3] = {{.callback = submit_followers}};
    char byte;
    bool cut = false;
    short_loop = check_open(&(struct weir_options){.depth = 4});
    replace(short_loop, take_one, &cut);
    weir_op_read(&ops[0], 999, &byte, 1, 0);
    CHECK_EQUAL(weir_submit(short_loop, &ops[0]), 0);
    submit_nop(short_loop, &ops[1]);
    submit_nop(short_loop, &ops[2]);
    CHECK_EQUAL(weir_loop_turn(short_loop, 0), 1);
    CHECK(cut);
    CHECK_EQUAL(ops[0].result, -EBADF);
    replace(short_loop, NULL, NULL);
    check_drain(short_loop);
    CHECK_EQUAL(check_handed, 5);
    check_close(short_loop);
}

/* As a kernel that has run its share of deferred completions and holds the rest: it says so in the
 * flags, and nowhere else. */
static int hold_back(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
                     unsigned flags)
{
    int answer = enter(ring, to_submit, wait_nr, flags);
    unsigned rest = *(bool *)context ? IORING_SQ_TASKRUN : 0;
    __atomic_store_n(ring->sq.kflags, rest, __ATOMIC_RELAXED);
    return answer;
}

static bool is_readable(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, 0) == 1;
}

static void the_loops_fd_is_readable_while_the_kernel_holds_completions_back(void)
{
    struct weir_loop *loop = check_open(NULL);
    bool holds = true;
    int fd = weir_loop_fd(loop);
    CHECK(fd >= 0);
    replace(loop, hold_back, &holds);
    struct weir_op op = {0};
    submit_nop(loop, &op);
    while (check_handed == 0) {
        CHECK(weir_loop_turn(loop, 0) >= 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(is_readable(fd));
        CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    }
    holds = false;
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    }
    CHECK(!is_readable(fd));
    replace(loop, NULL, NULL);
    check_close(loop);
}

static bool has_events(struct weir_loop *loop)
{
    const struct weir_backend *backend = weir_loop_backend(loop);
    return backend->table->has_events(backend);
}

/* Where completions are run by an enter alone too: the kernel says that there are some. */
static void memory_tells_of_what_a_turn_would_find(void)
{
    struct weir_loop *loop = check_open(NULL);
    struct weir_op op = {.callback = check_on_done};
    struct weir_op unsent = {.callback = check_on_done};
    int fds[2];
    char byte;
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    weir_op_poll(&unsent, fds[0], POLLPRI);
    CHECK_EQUAL(weir_submit(loop, &unsent), 0);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    CHECK(!has_events(loop));
    CHECK_EQUAL(weir_cancel(loop, &unsent), 0);
    CHECK(has_events(loop)); /* a request that is to be sent */
    check_drain(loop);
    weir_op_read(&op, fds[0], &byte, 1, WEIR_CURRENT);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    CHECK(!has_events(loop));
    CHECK_EQUAL(write(fds[1], "x", 1), 1);
    CHECK(has_events(loop));
    check_drain(loop);
    CHECK_EQUAL(check_handed, 2);
    CHECK(!has_events(loop));
    check_close(loop);
    close(fds[0]);
    close(fds[1]);
}

static void the_kernels_workers_are_capped_as_the_facts_say(void)
{
    struct weir_loop *loop =
        check_open(&(struct weir_options){.workers_bounded = 3, .workers_unbounded = 5});
    struct weir_facts facts;
    unsigned caps[2] = {0, 0}; /* zeros ask for what is set */
    struct weir_uring *uring = weir_uring_of(weir_loop_backend(loop));
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    CHECK_EQUAL(facts.workers_bounded, 3);
    CHECK_EQUAL(facts.workers_unbounded, 5);
    CHECK_EQUAL(
        io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, caps, 2),
        0);
    CHECK_EQUAL(caps[0], 3);
    CHECK_EQUAL(caps[1], 5);
    check_close(loop);
}

/* --- a loop that fails with ops staged -------------------------------------------------------- */

/* A loop with one op staged, which the kernel has refused to take for now. */
static struct weir_loop *open_staged(struct weir_op *op, int *answer)
{
    struct weir_loop *loop = check_open(NULL);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    submit_nop(loop, op);
    *answer = -EAGAIN;
    replace(loop, refuse, answer);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    CHECK_EQUAL(check_handed, 0);
    return loop;
}

static void check_handed_back(struct weir_loop *loop, const struct weir_op *op)
{
    for (int i = 0; i < 2; i++) {
        struct weir_report left = {.count = 7};
        CHECK_EQUAL(weir_loop_close(loop, 0, &left), -EPERM);
        CHECK_EQUAL(left.count, 0);
        CHECK_EQUAL(check_handed, 1);
        CHECK_EQUAL(op->result, -ECANCELED);
    }
    CHECK_EQUAL(weir_loop_abandon(loop), 0);
}

static void a_close_that_meets_the_failure_hands_back_what_never_left(void)
{
    static struct weir_op op;
    int answer;
    struct weir_loop *loop = open_staged(&op, &answer);
    answer = -EPERM;
    check_handed_back(loop, &op);
}

static void an_op_cancelled_before_the_failure_is_handed_back_if_it_never_left(void)
{
    static struct weir_op op;
    int answer;
    struct weir_loop *loop = open_staged(&op, &answer);
    CHECK_EQUAL(weir_cancel(loop, &op), 0);
    answer = -EPERM;
    CHECK_EQUAL(weir_loop_turn(loop, 0), -EPERM);
    check_handed_back(loop, &op);
}

struct pair {
    struct weir_op first;
    struct weir_op receive; /* done on the spot */
    struct weir_op nop;     /* never leaves */
    int fds[2];
    char byte;
    int answer;
};

static void on_first(struct weir_op *op)
{
    struct pair *pair = WEIR_CONTAINER(op, struct pair, first);
    pair->receive.callback = check_on_done;
    weir_op_recv(&pair->receive, pair->fds[0], &pair->byte, 1, 0);
    pair->receive.route = WEIR_ROUTE_INLINE;
    CHECK_EQUAL(weir_submit(op->loop, &pair->receive), 0);
    submit_nop(op->loop, &pair->nop);
    replace(op->loop, refuse, &pair->answer);
}

static void what_was_done_on_the_spot_in_the_turn_that_fails_is_handed_back(void)
{
    struct pair pair = {.first.callback = on_first, .answer = -EPERM};
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.fds), 0);
    CHECK_EQUAL(write(pair.fds[1], "x", 1), 1);
    struct weir_loop *loop = check_open(NULL);
    weir_op_nop(&pair.first);
    CHECK_EQUAL(weir_submit(loop, &pair.first), 0);
    CHECK_EQUAL(weir_loop_turn(loop, -1), 1);
    CHECK_EQUAL(weir_loop_turn(loop, 0), -EPERM);
    CHECK_EQUAL(check_handed, 0);
    struct weir_counters counters;
    CHECK_EQUAL(weir_loop_counters(loop, &counters), 0);
    CHECK_EQUAL(counters.inline_done, 1);
    struct weir_report left = {.count = 7};
    CHECK_EQUAL(weir_loop_close(loop, 0, &left), -EPERM);
    CHECK_EQUAL(left.count, 0);
    CHECK_EQUAL(check_handed, 2);
    CHECK_EQUAL(pair.receive.result, 1);
    CHECK_EQUAL(pair.byte, 'x');
    CHECK_EQUAL(pair.nop.result, -ECANCELED);
    CHECK_EQUAL(weir_loop_abandon(loop), 0);
    close(pair.fds[0]);
    close(pair.fds[1]);
}

/* --- a close that fails ----------------------------------------------------------------------- */

struct injection {
    const struct weir_op *op;
    bool done;
};

/* Makes EAGAIN of the op's result, as a file system's flush may answer. */
static int answer_again(void *context, struct io_uring *ring, unsigned to_submit, unsigned wait_nr,
                        unsigned flags)
{
    struct injection *injection = context;
    int r = enter(ring, to_submit, wait_nr, flags);
    unsigned tail = io_uring_smp_load_acquire(ring->cq.ktail);
    for (unsigned at = *ring->cq.khead; !injection->done && at != tail; at++) {
        struct io_uring_cqe *cqe = &ring->cq.cqes[at & ring->cq.ring_mask];
        if (cqe->user_data == weir_uring_tag(injection->op)) {
            CHECK_EQUAL(cqe->res, 0);
            cqe->res = -EAGAIN;
            injection->done = true;
        }
    }
    return r;
}

static void a_close_that_answers_again_is_not_tried_again(void)
{
    struct weir_loop *loop = check_open(NULL);
    CHECK_EQUAL(weir_loop_turn(loop, 0), 0);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    struct weir_op op = {.callback = check_on_done};
    struct injection injection = {.op = &op};
    weir_op_close(&op, fd);
    CHECK_EQUAL(weir_submit(loop, &op), 0);
    replace(loop, answer_again, &injection);
    while (!injection.done) {
        CHECK(weir_loop_turn(loop, 0) >= 0);
    }
    replace(loop, NULL, NULL);
    int stranger = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(stranger, fd);
    check_drain(loop);
    CHECK_EQUAL(check_handed, 1);
    CHECK_EQUAL(op.result, -EAGAIN);
    CHECK(fcntl(stranger, F_GETFD) >= 0);
    CHECK_EQUAL(close(stranger), 0);
    check_close(loop);
}

/* --- adoption --------------------------------------------------------------------------------- */

static void a_loop_whose_adoption_failed_can_be_closed(void)
{
    check_close(check_open(NULL));
    size_t fds = check_fd_count();
    for (int i = 0; i < 3; i++) {
        struct weir_loop *loop = check_open(&(struct weir_options){.flags = WEIR_FOR_ADOPTION});
        int answer = -EPERM;
        replace(loop, refuse, &answer);
        CHECK_EQUAL(weir_loop_adopt(loop), -EPERM);
        CHECK_EQUAL(weir_loop_close(loop, 0, NULL), 0);
        CHECK_EQUAL(check_fd_count(), fds);
    }
    check_close(check_open(NULL));
}

#define FAILED 20 /* a thread has 16 places for registered rings */

static unsigned is_registered(void)
{
    struct weir_facts facts;
    struct weir_loop *loop = check_open(NULL);
    CHECK_EQUAL(weir_loop_facts(loop, &facts), 0);
    check_close(loop);
    return facts.ring_fd_registered;
}

/* They are the thread's, and the loop may be closed by another one, which cannot give them back. */
static void failed_adoptions_keep_no_place_for_a_registered_ring(void)
{
    struct weir_loop *loops[FAILED];
    int answer = -EPERM;
    unsigned before = is_registered();
    for (int i = 0; i < FAILED; i++) {
        loops[i] = check_open(&(struct weir_options){.depth = 1, .flags = WEIR_FOR_ADOPTION});
        replace(loops[i], refuse, &answer);
        CHECK_EQUAL(weir_loop_adopt(loops[i]), -EPERM);
    }
    CHECK_EQUAL(is_registered(), before);
    for (int i = 0; i < FAILED; i++) {
        CHECK_EQUAL(weir_loop_close(loops[i], 0, NULL), 0);
    }
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(the_wake_takes_no_ops_place_while_the_kernel_refuses),
        CHECK_TEST(the_wake_takes_no_ops_place_when_the_kernel_takes_one_entry),
        CHECK_TEST(the_loops_fd_is_readable_while_the_kernel_holds_completions_back),
        CHECK_TEST(memory_tells_of_what_a_turn_would_find),
        CHECK_TEST(the_kernels_workers_are_capped_as_the_facts_say),
        CHECK_TEST(a_close_that_meets_the_failure_hands_back_what_never_left),
        CHECK_TEST(an_op_cancelled_before_the_failure_is_handed_back_if_it_never_left),
        CHECK_TEST(what_was_done_on_the_spot_in_the_turn_that_fails_is_handed_back),
        CHECK_TEST(a_close_that_answers_again_is_not_tried_again),
        CHECK_TEST(a_loop_whose_adoption_failed_can_be_closed),
        CHECK_TEST(failed_adoptions_keep_no_place_for_a_registered_ring),
    };
    check_guard(60);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
