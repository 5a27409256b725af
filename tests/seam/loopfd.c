/* SPDX-License-Identifier: MIT */
/*
 * loopfd.c: rule 24: the loop inside somebody else's. The foreign loop here is an epoll set that
 * turns the loop when the fd is readable, never otherwise but after a submit.
 */
#include "seam.h"

#define THOUSAND 1000

struct foreign {
    struct weir_loop *loop;
    int epoll;
};

static struct foreign foreign_open(struct weir_options options)
{
    struct foreign foreign = {.loop = seam_loop_with(options)};
    foreign.epoll = seam_foreign(foreign.loop);
    return foreign;
}

static void foreign_turn(struct foreign *foreign)
{
    seam_foreign_turn(foreign->loop, foreign->epoll);
}

/* Nothing to do: after some turns the fd is quiet. */
static void expect_quiet(struct foreign *foreign)
{
    int turns = 0;
    while (seam_foreign_asks(foreign->epoll)) {
        expect(++turns < 10);
        expect(seam_turn(foreign->loop, 0) >= 0);
    }
}

static void foreign_close(struct foreign *foreign)
{
    expect_equal(weir_loop_live(foreign->loop), 0);
    expect_quiet(foreign);
    int fd = weir_loop_fd(foreign->loop);
    seam_end(foreign->loop);
    expect(fcntl(fd, F_GETFD) < 0);
    seam_foreign_close(foreign->epoll);
}

static void foreign_drain(struct foreign *foreign)
{
    while (weir_loop_live(foreign->loop) > 0) {
        foreign_turn(foreign);
    }
}

static struct tracked ops[THOUSAND];

SEAM_TEST(a_thousand_timers_fire)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < THOUSAND; i++) {
        weir_op_timeout_in(&ops[i].op, foreign.loop, seam_random() % (50 * WEIR_MS));
        seam_submit(foreign.loop, &ops[i]);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    foreign_drain(&foreign);
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(ops[i].result, 0);
        expect_equal(ops[i].calls, 1);
    }
    foreign_close(&foreign);
}

SEAM_TEST(timers_one_after_another_move_the_earliest_deadline)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    struct tracked far = {0};
    weir_op_timeout_in(&far.op, foreign.loop, 3600 * WEIR_S);
    seam_submit(foreign.loop, &far);
    expect(seam_turn(foreign.loop, 0) >= 0);
    for (int i = 0; i < 100; i++) {
        struct tracked near = {0};
        weir_op_timeout_in(&near.op, foreign.loop, 100 * WEIR_US);
        seam_submit(foreign.loop, &near);
        expect(seam_turn(foreign.loop, 0) >= 0);
        while (near.calls == 0) {
            foreign_turn(&foreign);
        }
    }
    expect_quiet(&foreign);
    expect_equal(far.calls, 0);
    expect_equal(seam_cancel(foreign.loop, &far), 0);
    expect(seam_turn(foreign.loop, 0) >= 0);
    foreign_drain(&foreign);
    foreign_close(&foreign);
}

SEAM_TEST(a_thousand_deadlines_expire)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = THOUSAND});
    struct seam_pair pipe = seam_pipe(0);
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < THOUSAND; i++) {
        weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.deadline_ns = weir_now(foreign.loop) + seam_random() % (50 * WEIR_MS);
        seam_submit(foreign.loop, &ops[i]);
        if (i % 200 == 199) {
            expect(seam_turn(foreign.loop, 0) >= 0);
        }
    }
    foreign_drain(&foreign);
    for (int i = 0; i < THOUSAND; i++) {
        expect_equal(ops[i].result, -ETIME);
        expect_equal(ops[i].calls, 1);
    }
    foreign_close(&foreign);
    seam_pair_close(&pipe);
}

/* Two ops that hand one byte to and fro over a socket pair, submitted in callbacks alone. */
struct echo {
    struct tracked receive;
    struct tracked send;
    struct weir_loop *loop;
    int fd;
    unsigned rounds;
};

static void echo_received(struct tracked *op)
{
    struct echo *echo = op->context;
    expect_equal(op->result, 1);
    weir_op_send(&echo->send.op, echo->fd, op->data, 1, 0);
    seam_submit(echo->loop, &echo->send);
}

static void echo_sent(struct tracked *op)
{
    struct echo *echo = op->context;
    expect_equal(op->result, 1);
    echo->rounds++;
    if (echo->rounds < THOUSAND) {
        weir_op_recv(&echo->receive.op, echo->fd, echo->receive.data, 1, 0);
        seam_submit(echo->loop, &echo->receive);
    }
}

SEAM_TEST(a_thousand_socket_round_trips_complete)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    struct seam_pair sockets = seam_socketpair(SOCK_STREAM);
    struct echo echo = {.loop = foreign.loop, .fd = sockets.in};
    echo.receive.then = echo_received;
    echo.receive.context = &echo;
    echo.send.then = echo_sent;
    echo.send.context = &echo;
    weir_op_recv(&echo.receive.op, sockets.in, echo.receive.data, 1, 0);
    seam_submit(foreign.loop, &echo.receive);
    expect(seam_turn(foreign.loop, 0) >= 0);
    for (unsigned i = 1; i <= THOUSAND; i++) {
        char byte = (char)i;
        seam_write(sockets.out, &byte, 1);
        while (echo.rounds < i) {
            foreign_turn(&foreign);
        }
        seam_read(sockets.out, &byte, 1);
        expect_equal(byte, (char)i);
    }
    foreign_close(&foreign);
    seam_pair_close(&sockets);
}

SEAM_TEST(a_thousand_pipes_full_of_waiting_reads_complete)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = THOUSAND});
    struct seam_pair pipe = seam_pipe(0);
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < THOUSAND; i++) {
        seam_read_byte(foreign.loop, &ops[i], pipe.in);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    for (int left = THOUSAND; left > 0; left--) {
        while (weir_loop_live(foreign.loop) > left) {
            foreign_turn(&foreign);
        }
        seam_write(pipe.out, "a", 1);
    }
    foreign_drain(&foreign);
    foreign_close(&foreign);
    seam_pair_close(&pipe);
}

static int files_left;
static int file_fd;

static void read_next_block(struct tracked *op)
{
    expect_equal(op->result, sizeof op->data);
    if (files_left > 0) {
        files_left--;
        weir_op_read(&op->op, file_fd, op->data, sizeof op->data, 0);
        seam_submit(op->context, op);
    }
}

SEAM_TEST(a_thousand_file_reads_submitted_in_callbacks_complete)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    file_fd = seam_file(64);
    files_left = THOUSAND;
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 4; i++) {
        ops[i].then = read_next_block;
        ops[i].context = foreign.loop;
        weir_op_read(&ops[i].op, file_fd, ops[i].data, sizeof ops[i].data, 0);
        seam_submit(foreign.loop, &ops[i]);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    foreign_drain(&foreign);
    expect_equal(files_left, 0);
    foreign_close(&foreign);
    close(file_fd);
}

struct waker {
    struct weir_loop *loop;
    sem_t seen;
    unsigned sent;
    int failed;
};

static void *wake_a_thousand_times(void *context)
{
    struct waker *waker = context;
    for (unsigned i = 1; i <= THOUSAND; i++) {
        __atomic_store_n(&waker->sent, i, __ATOMIC_RELEASE);
        waker->failed |= weir_loop_wake(waker->loop);
        while (sem_wait(&waker->seen) != 0) {
        }
    }
    return NULL;
}

SEAM_TEST(a_thousand_wakes_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){0});
    struct waker waker = {.loop = foreign.loop};
    expect_equal(sem_init(&waker.seen, 0, 0), 0);
    expect_quiet(&foreign);
    pthread_t thread;
    expect_equal(pthread_create(&thread, NULL, wake_a_thousand_times, &waker), 0);
    for (unsigned i = 1; i <= THOUSAND; i++) {
        while (__atomic_load_n(&waker.sent, __ATOMIC_ACQUIRE) < i) {
            foreign_turn(&foreign);
        }
        sem_post(&waker.seen);
    }
    pthread_join(thread, NULL);
    expect_equal(waker.failed, 0);
    sem_destroy(&waker.seen);
    foreign_close(&foreign);
}

SEAM_TEST(what_is_over_the_budget_makes_it_readable)
{
    struct foreign foreign = foreign_open(
        (struct weir_options){.depth = 64, .waiting_max = THOUSAND, .admit_ops_max = 8});
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < THOUSAND; i++) {
        weir_op_nop(&ops[i].op);
        seam_submit(foreign.loop, &ops[i]);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    foreign_drain(&foreign);
    foreign_close(&foreign);
}

SEAM_TEST(what_is_over_the_budget_makes_it_readable_though_nothing_completes)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = 64, .admit_ops_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle[40] = {0};
    struct tracked last = {0};
    for (int i = 0; i < 40; i++) {
        seam_read_byte(foreign.loop, &idle[i], pipe.in);
    }
    weir_op_nop(&last.op);
    seam_submit(foreign.loop, &last);
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (last.calls == 0) {
        foreign_turn(&foreign);
    }
    expect_equal(weir_cancel_fd(foreign.loop, pipe.in), 40);
    expect(seam_turn(foreign.loop, 0) >= 0);
    foreign_drain(&foreign);
    foreign_close(&foreign);
    seam_pair_close(&pipe);
}

static void cancel_in_callback(struct tracked *op)
{
    struct tracked *idle = op->context;
    expect_equal(seam_cancel(op->op.user, idle), 0);
}

SEAM_TEST(cancels_made_in_callbacks_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = 2, .waiting_max = 8});
    struct seam_pair pipe = seam_pipe(0);
    for (int i = 0; i < 100; i++) {
        struct tracked idle[3] = {0}; /* two in flight, one at the gate */
        struct tracked timers[3] = {0};
        for (int j = 0; j < 3; j++) {
            seam_read_byte(foreign.loop, &idle[j], pipe.in);
            timers[j].then = cancel_in_callback;
            timers[j].context = &idle[j];
            timers[j].op.user = foreign.loop;
            weir_op_timeout_in(&timers[j].op, foreign.loop, 50 * WEIR_US);
            seam_submit(foreign.loop, &timers[j]);
        }
        expect(seam_turn(foreign.loop, 0) >= 0);
        foreign_drain(&foreign);
        for (int j = 0; j < 3; j++) {
            expect_equal(idle[j].result, -ECANCELED);
        }
    }
    foreign_close(&foreign);
    seam_pair_close(&pipe);
}

static unsigned rooms_called;

static void count_room(struct weir_room *room, int result)
{
    (void)room;
    expect_equal(result, 0);
    rooms_called++;
}

SEAM_TEST(room_waiters_make_it_readable)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = 64});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle[64] = {0};
    struct weir_room room = {.callback = count_room};
    for (int i = 0; i < 64; i++) {
        seam_read_byte(foreign.loop, &idle[i], pipe.in);
    }
    expect(seam_turn(foreign.loop, 0) >= 0);
    rooms_called = 0;
    for (unsigned i = 1; i <= 50; i++) {
        expect_equal(weir_wait_room(foreign.loop, &room, &idle[0].op), 0);
        expect(seam_turn(foreign.loop, 0) >= 0);
        seam_write(pipe.out, "a",
                   1); /* far from the low mark: a place that stood free for a turn */
        while (rooms_called < i) {
            foreign_turn(&foreign);
        }
    }
    seam_write(pipe.out, "bcdefghijklmno", 14);
    foreign_drain(&foreign);
    foreign_close(&foreign);
    seam_pair_close(&pipe);
}

static int closing_result;

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    closing_result = result;
}

SEAM_TEST(closing_makes_it_readable_until_it_is_done)
{
    struct foreign foreign = foreign_open((struct weir_options){.depth = 2, .waiting_max = 8});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked idle[10] = {0};
    struct tracked timer = {0};
    for (int i = 0; i < 10; i++) {
        seam_read_byte(foreign.loop, &idle[i], pipe.in);
    }
    weir_op_timeout_in(&timer.op, foreign.loop, 3600 * WEIR_S);
    seam_submit(foreign.loop, &timer);
    expect(seam_turn(foreign.loop, 0) >= 0);
    closing_result = 1;
    expect_equal(weir_loop_close_begin(foreign.loop, 20 * WEIR_S, closed), 0);
    expect(seam_turn(foreign.loop, 0) >= 0);
    while (closing_result > 0) {
        foreign_turn(&foreign);
    }
    expect_equal(closing_result, 0);
    for (int i = 0; i < 10; i++) {
        expect_equal(idle[i].result, -ECANCELED);
    }
    expect_equal(timer.result, -ECANCELED);
    expect_equal(seam_close(foreign.loop, 0, NULL), 0);
    seam_foreign_close(foreign.epoll);
    seam_pair_close(&pipe);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_thousand_timers_fire),
    cmocka_unit_test(timers_one_after_another_move_the_earliest_deadline),
    cmocka_unit_test(a_thousand_deadlines_expire),
    cmocka_unit_test(a_thousand_socket_round_trips_complete),
    cmocka_unit_test(a_thousand_pipes_full_of_waiting_reads_complete),
    cmocka_unit_test(a_thousand_file_reads_submitted_in_callbacks_complete),
    cmocka_unit_test(a_thousand_wakes_make_it_readable),
    cmocka_unit_test(what_is_over_the_budget_makes_it_readable),
    cmocka_unit_test(what_is_over_the_budget_makes_it_readable_though_nothing_completes),
    cmocka_unit_test(cancels_made_in_callbacks_make_it_readable),
    cmocka_unit_test(room_waiters_make_it_readable),
    cmocka_unit_test(closing_makes_it_readable_until_it_is_done),
};

const struct seam_group loopfd_group = SEAM_GROUP("loopfd", tests);
