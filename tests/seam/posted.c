/* SPDX-License-Identifier: MIT */
/* posted.c: rule 23: posts on their way to their gate: deadlines, cancels, forgotten fds, close. */
#include "seam.h"

#include <sched.h>

/* A loop whose main gate is full with a read that waits. */
struct full {
    struct weir_loop *loop;
    struct seam_pair pipe;
    struct tracked idle;
};

static void full_make(struct full *full)
{
    memset(full, 0, sizeof *full);
    full->loop = seam_loop_with((struct weir_options){.depth = 1});
    full->pipe = seam_pipe(0);
    seam_read_byte(full->loop, &full->idle, full->pipe.in);
    seam_turns(full->loop, 2);
}

static void full_end(struct full *full)
{
    seam_write(full->pipe.out, "x", 1);
    seam_await(full->loop, &full->idle);
    expect_equal(full->idle.result, 1);
    expect_equal(seam_run(full->loop), 0);
    seam_end(full->loop);
    seam_pair_close(&full->pipe);
}

static void expect_expired(struct tracked *op)
{
    uint64_t *due = op->op.user;
    expect_equal(op->result, -ETIME);
    expect(weir_now(op->context) >= *due);
}

SEAM_TEST(deadlines_expire_before_a_full_gate_and_in_the_inbox)
{
    struct full full;
    struct seam_pair other = seam_pipe(0);
    static uint64_t due[40];
    struct tracked ops[40] = {0};
    full_make(&full);
    seam_write(other.out, "a", 1);
    for (int i = 0; i < 40; i++) {
        due[i] = i == 0 ? 1 : weir_now(full.loop) + (uint64_t)i * 100 * WEIR_US;
        weir_op_read(&ops[i].op, other.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.deadline_ns = due[i];
        ops[i].op.user = &due[i];
        ops[i].then = expect_expired;
        ops[i].context = full.loop;
        seam_posted(full.loop, &ops[i]);
        if (i == 20) {
            seam_turns(full.loop, 1);
        }
    }
    for (int i = 0; i < 40; i++) {
        seam_await_count(full.loop, &ops[i].calls, 1);
    }
    char left;
    seam_read(other.in, &left, 1); /* none of them left */
    full_end(&full);
    seam_pair_close(&other);
}

SEAM_TEST(a_post_with_a_deadline_keeps_it_behind_the_gate_and_in_flight)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 2});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[3] = {0};
    for (int i = 0; i < 3; i++) { /* one leaves, two stand at the gate */
        weir_op_read(&ops[i].op, pipe.in, ops[i].data, 1, WEIR_CURRENT);
        ops[i].op.deadline_ns = weir_now(loop) + (uint64_t)(3 - i) * 3 * WEIR_MS;
        seam_posted(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    for (int i = 0; i < 3; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, -ETIME);
    }
    seam_end(loop);
    seam_pair_close(&pipe);
}

static void expect_post_cancelled(int turns)
{
    struct full full;
    struct seam_pair other = seam_pipe(0);
    struct tracked reads[5] = {0};
    struct tracked timer = {0};
    struct seam_work busy;
    struct seam_work call;
    full_make(&full);
    seam_write(other.out, "a", 1);
    for (int i = 0; i < 5; i++) {
        weir_op_read(&reads[i].op, other.in, reads[i].data, 1, WEIR_CURRENT);
        reads[i].op.deadline_ns = i % 2 == 0 ? weir_now(full.loop) + 3600 * WEIR_S : 0;
        seam_posted(full.loop, &reads[i]);
    }
    seam_block(full.loop, &busy);
    weir_op_timeout_in(&timer.op, full.loop, 3600 * WEIR_S);
    seam_posted(full.loop, &timer);
    seam_work_fill(&call, 0);
    call.blocks = true;
    seam_posted(full.loop, &call.call);
    seam_turns(full.loop, turns);
    for (int repeat = 0; repeat < 3; repeat++) {
        for (int i = 4; i >= 0; i--) { /* from the back, the middle, the front */
            expect_equal(seam_cancel(full.loop, &reads[i]), 0);
        }
        expect_equal(seam_cancel(full.loop, &timer), 0);
        if (turns == 0) {
            expect_equal(seam_cancel(full.loop, &call.call), 0);
        }
    }
    for (int i = 0; i < 5; i++) {
        seam_await_count(full.loop, &reads[i].calls, 1);
        expect_equal(reads[i].result, -ECANCELED);
        expect_equal(seam_cancel(full.loop, &reads[i]), -ENOENT);
    }
    seam_await_count(full.loop, &timer.calls, 1);
    expect_equal(timer.result, -ECANCELED);
    seam_unblock(&busy);
    seam_unblock(&call);
    seam_await(full.loop, &busy.call);
    seam_await(full.loop, &call.call);
    expect_equal(call.call.result, turns == 0 ? -ECANCELED : 0);
    expect_equal(seam_begun(&call), turns != 0);
    char left;
    seam_read(other.in, &left, 1);
    full_end(&full);
    seam_pair_close(&other);
}

SEAM_TEST(a_post_is_cancelled_in_the_inbox)
{
    expect_post_cancelled(0);
}

SEAM_TEST(a_post_is_cancelled_before_a_full_gate)
{
    expect_post_cancelled(3);
}

SEAM_TEST(posts_are_asked_back_by_fd_and_by_task)
{
    for (int turns = 0; turns < 3; turns++) {
        struct full full;
        struct seam_pair other = seam_pipe(0);
        struct weir_task *task = NULL;
        struct tracked reads[6] = {0};
        struct tracked timers[2] = {0};
        full_make(&full);
        expect_equal(weir_task_open(full.loop, &(struct weir_task_options){.name = "t"}, &task), 0);
        for (int i = 0; i < 6; i++) {
            weir_op_read(&reads[i].op, i < 3 ? other.in : other.out, reads[i].data, 1, 0);
            reads[i].op.task = i % 3 == 0 ? NULL : task;
            seam_posted(full.loop, &reads[i]);
        }
        for (int i = 0; i < 2; i++) {
            weir_op_timeout_in(&timers[i].op, full.loop, 3600 * WEIR_S);
            timers[i].op.task = i == 0 ? task : NULL;
            seam_posted(full.loop, &timers[i]);
        }
        seam_turns(full.loop, turns);
        expect_equal(weir_cancel_fd(full.loop, other.in), 3);
        expect_equal(weir_cancel_fd(full.loop, other.in), 0);
        expect_equal(weir_cancel_task(full.loop, task), 3);
        expect_equal(weir_cancel_task(full.loop, task), 0);
        for (int i = 0; i < 6; i++) {
            if (i != 3) {
                seam_await_count(full.loop, &reads[i].calls, 1);
                expect_equal(reads[i].result, -ECANCELED);
            }
        }
        seam_await_count(full.loop, &timers[0].calls, 1);
        expect_equal(timers[1].calls + reads[3].calls, 0);
        expect_equal(seam_cancel(full.loop, &timers[1]), 0);
        expect_equal(seam_cancel(full.loop, &reads[3]), 0);
        seam_turns(full.loop, 2);
        expect_equal(timers[1].calls + reads[3].calls, 2);
        expect_equal(weir_task_close(task), 0);
        full_end(&full);
        seam_pair_close(&other);
    }
}

SEAM_TEST(a_task_is_busy_while_a_post_of_it_is_on_its_way)
{
    struct full full;
    struct weir_task *task = NULL;
    struct weir_task_counters counters;
    struct tracked nop = {0};
    full_make(&full);
    expect_equal(weir_task_open(full.loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    weir_op_nop(&nop.op);
    nop.op.task = task;
    seam_posted(full.loop, &nop);
    expect_equal(weir_task_close(task), -EBUSY);
    seam_turns(full.loop, 2);
    expect_equal(weir_task_close(task), -EBUSY);
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.submitted, 1);
    expect_equal(counters.live, 1);
    expect_equal(seam_cancel(full.loop, &nop), 0);
    seam_await_count(full.loop, &nop.calls, 1);
    expect_equal(weir_task_read_counters(task, &counters), 0);
    expect_equal(counters.finished, 1);
    expect_equal(counters.cancelled, 1);
    expect_equal(weir_task_close(task), 0);
    full_end(&full);
}

SEAM_TEST(a_post_on_a_forgotten_number_never_hits_the_file_that_took_it)
{
    for (int turns = 0; turns < 3; turns++) {
        struct full full;
        struct seam_pair old = seam_pipe(0);
        struct seam_pair new = seam_pipe(0);
        struct tracked op = {0};
        full_make(&full);
        seam_write(new.out, "n", 1);
        weir_op_read(&op.op, old.in, op.data, 1, WEIR_CURRENT);
        seam_posted(full.loop, &op);
        seam_turns(full.loop, turns);
        expect_equal(weir_forget(full.loop, old.in), 0);
        expect_equal(dup3(new.in, old.in, O_CLOEXEC), old.in);
        full_end(&full);
        expect_equal(op.calls, 1);
        expect_equal(op.result, -ECANCELED);
        char left;
        seam_read(new.in, &left, 1);
        seam_pair_close(&old);
        seam_pair_close(&new);
    }
}

SEAM_TEST(a_posted_CLOSE_cancels_what_is_live_and_comes_last)
{
    for (int turns = 0; turns < 3; turns++) {
        struct weir_loop *loop = seam_loop();
        struct seam_pair pipe = seam_pipe(0);
        struct tracked idle = {0};
        struct tracked close_op = {0};
        seam_read_byte(loop, &idle, pipe.in);
        seam_turns(loop, turns);
        weir_op_close(&close_op.op, pipe.in);
        seam_posted(loop, &close_op);
        seam_await_count(loop, &close_op.calls, 1);
        expect_equal(close_op.result, 0);
        expect_equal(idle.calls, 1);
        expect_equal(idle.result, -ECANCELED);
        expect(idle.order < close_op.order);
        expect(fcntl(pipe.in, F_GETFD) < 0);
        seam_end(loop);
        close(pipe.out);
    }
}

static void submit_close(struct tracked *op)
{
    struct tracked *close_op = op->context;
    expect_equal(op->result, 1);
    seam_submit(op->op.user, close_op); /* it takes the place before the posts do */
}

SEAM_TEST(a_CLOSE_comes_after_the_posts_before_its_gate)
{
    struct full full;
    struct seam_pair pipe = seam_pipe(0);
    struct tracked reads[3] = {0};
    struct tracked close_op = {0};
    full_make(&full);
    full.idle.then = submit_close;
    full.idle.context = &close_op;
    full.idle.op.user = full.loop;
    weir_op_close(&close_op.op, pipe.in);
    for (int i = 0; i < 3; i++) {
        weir_op_read(&reads[i].op, pipe.in, reads[i].data, 1, WEIR_CURRENT);
        seam_posted(full.loop, &reads[i]);
    }
    seam_turns(full.loop, 2);
    full_end(&full);
    expect_equal(close_op.result, 0);
    for (int i = 0; i < 3; i++) {
        expect_equal(reads[i].calls, 1);
        expect_equal(reads[i].result, -ECANCELED);
        expect(reads[i].order < close_op.order);
    }
    close(pipe.out);
}

SEAM_TEST(a_CLOSE_comes_after_the_posts_in_the_inbox)
{
    struct weir_loop *loop = seam_loop();
    struct seam_pair pipe = seam_pipe(0);
    struct tracked read_op = {0};
    struct tracked close_op = {0};
    weir_op_read(&read_op.op, pipe.in, read_op.data, 1, WEIR_CURRENT);
    seam_posted(loop, &read_op);
    weir_op_close(&close_op.op, pipe.in);
    seam_submit(loop, &close_op);
    expect_equal(seam_run(loop), 0);
    expect_equal(read_op.result, -ECANCELED);
    expect_equal(close_op.result, 0);
    expect(read_op.order < close_op.order);
    seam_end(loop);
    close(pipe.out);
}

SEAM_TEST(latency_counts_from_the_post)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = NULL;
    struct tracked nop = {0};
    static struct weir_histogram total;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &task), 0);
    weir_op_nop(&nop.op);
    nop.op.task = task;
    seam_turns(loop, 1);
    seam_posted(loop, &nop);
    usleep(5000); /* what it has to wait at least */
    seam_await_count(loop, &nop.calls, 1);
    expect_equal(weir_task_read(task, WEIR_STAGE_TOTAL, &total), 0);
    expect_equal(total.count, 1);
    expect(total.max >= 5000 * WEIR_US);
    expect_equal(seam_counters(loop).clock_clamped, 0); /* no stage is negative */
    seam_end(loop);
}

/* --- close ------------------------------------------------------------------------------------ */

static void closed(struct weir_loop *loop, int result)
{
    (void)loop;
    expect_equal(result, 0);
}

struct late {
    struct weir_loop *loop;
    struct tracked nop;
    int answer;
};

static void *post_late(void *context)
{
    struct late *late = context;
    weir_op_nop(&late->nop.op);
    late->answer = seam_post(late->loop, &late->nop, WEIR_SITE);
    return NULL;
}

SEAM_TEST(a_post_after_close_began_answers_ESHUTDOWN)
{
    struct weir_loop *loop = seam_loop();
    struct late late = {.loop = loop};
    struct tracked here = {0};
    struct seam_work work;
    seam_work_fill(&work, 3);
    work.until_asked = true;
    seam_submit(loop, &work.call);
    seam_await_begun(loop, &work);
    expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), 0);
    seam_in_thread(post_late, &late);
    expect_equal(late.answer, seam_simulates() ? -EOPNOTSUPP : -ESHUTDOWN);
    weir_op_nop(&here.op);
    expect_equal(seam_post(loop, &here, WEIR_SITE), -ESHUTDOWN);
    seam_end(loop);
    expect_equal(late.nop.calls + here.calls, 0);
    expect_equal(work.call.result, 3);
}

SEAM_TEST(close_hands_back_posts_wherever_they_are)
{
    for (int turns = 0; turns < 3; turns++) {
        struct full full;
        struct tracked nops[50] = {0};
        struct tracked timers[5] = {0};
        struct seam_work works[5];
        full_make(&full);
        for (int i = 0; i < 50; i++) {
            weir_op_nop(&nops[i].op);
            seam_posted(full.loop, &nops[i]);
        }
        for (int i = 0; i < 5; i++) {
            weir_op_timeout_in(&timers[i].op, full.loop, 3600 * WEIR_S);
            seam_posted(full.loop, &timers[i]);
            seam_work_fill(&works[i], 0);
            works[i].until_asked = true;
            seam_posted(full.loop, &works[i].call);
        }
        seam_turns(full.loop, turns);
        expect_equal(seam_cancel(full.loop, &nops[7]), 0);
        seam_end(full.loop);
        for (int i = 0; i < 50; i++) {
            expect_equal(nops[i].calls, 1);
            expect_equal(nops[i].result, -ECANCELED);
        }
        for (int i = 0; i < 5; i++) {
            expect_equal(timers[i].calls, 1);
            expect_equal(timers[i].result, -ECANCELED);
            expect_equal(works[i].call.calls, 1);
            expect(works[i].call.result == -ECANCELED || seam_begun(&works[i]) == 1);
        }
        expect_equal(full.idle.result, -ECANCELED);
        seam_pair_close(&full.pipe);
    }
}

struct racer {
    struct weir_loop *loop;
    struct tracked ops[2000];
    unsigned accepted;
    int last;
    unsigned ready;
};

static void *post_until_shut(void *context)
{
    struct racer *racer = context;
    for (unsigned i = 0; i < SEAM_COUNT(racer->ops); i++) {
        weir_op_nop(&racer->ops[i].op);
        int answer = seam_post(racer->loop, &racer->ops[i], WEIR_SITE);
        __atomic_store_n(&racer->ready, 1, __ATOMIC_RELEASE);
        racer->last = answer;
        if (answer != 0) {
            break;
        }
        racer->accepted++;
    }
    return NULL;
}

SEAM_TEST(every_post_that_raced_with_close_is_refused_or_handed_back)
{
    static struct racer racers[2];
    for (int round = 0; round < 50; round++) {
        struct weir_loop *loop = seam_loop_with((struct weir_options){.posts_max = 4096});
        struct tracked idle = {0};
        struct seam_pair pipe = seam_pipe(0);
        pthread_t threads[2];
        memset(racers, 0, sizeof racers);
        seam_read_byte(loop, &idle, pipe.in);
        for (int i = 0; i < 2; i++) {
            racers[i].loop = loop;
            expect_equal(pthread_create(&threads[i], NULL, post_until_shut, &racers[i]), 0);
        }
        while (__atomic_load_n(&racers[round % 2].ready, __ATOMIC_ACQUIRE) == 0) {
            sched_yield();
        }
        expect_equal(weir_loop_close_begin(loop, 20 * WEIR_S, closed), 0);
        seam_turns(loop, 3);
        for (int i = 0; i < 2; i++) { /* the loop must stay open while they are in the call */
            expect_equal(pthread_join(threads[i], NULL), 0);
        }
        seam_end(loop);
        for (int i = 0; i < 2; i++) {
            expect(racers[i].last == 0 || racers[i].last == -ESHUTDOWN);
            for (unsigned j = 0; j < SEAM_COUNT(racers[i].ops); j++) {
                expect_equal(racers[i].ops[j].calls, j < racers[i].accepted ? 1 : 0);
            }
        }
        seam_pair_close(&pipe);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(deadlines_expire_before_a_full_gate_and_in_the_inbox),
    cmocka_unit_test(a_post_with_a_deadline_keeps_it_behind_the_gate_and_in_flight),
    cmocka_unit_test(a_post_is_cancelled_in_the_inbox),
    cmocka_unit_test(a_post_is_cancelled_before_a_full_gate),
    cmocka_unit_test(posts_are_asked_back_by_fd_and_by_task),
    cmocka_unit_test(a_task_is_busy_while_a_post_of_it_is_on_its_way),
    cmocka_unit_test(a_post_on_a_forgotten_number_never_hits_the_file_that_took_it),
    cmocka_unit_test(a_posted_CLOSE_cancels_what_is_live_and_comes_last),
    cmocka_unit_test(a_CLOSE_comes_after_the_posts_before_its_gate),
    cmocka_unit_test(a_CLOSE_comes_after_the_posts_in_the_inbox),
    cmocka_unit_test(latency_counts_from_the_post),
    cmocka_unit_test(a_post_after_close_began_answers_ESHUTDOWN),
    cmocka_unit_test(close_hands_back_posts_wherever_they_are),
    cmocka_unit_test(every_post_that_raced_with_close_is_refused_or_handed_back),
};

const struct seam_group posted_group = SEAM_GROUP("posted", tests);
