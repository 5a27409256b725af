/* SPDX-License-Identifier: MIT */
/*
 * watchdog_slow.c: single ops that are far longer in flight than the others of their task.
 */
#include "watching.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLOW_NS (50 * (uint64_t)WEIR_MS)

struct reader {
    struct weir_op op;
    int fds[2];
    char byte;
};

static void submit_read(struct weir_loop *loop, struct reader *reader, struct weir_task *task)
{
    CHECK_EQUAL(pipe2(reader->fds, O_CLOEXEC), 0);
    reader->op.callback = check_on_done;
    reader->op.task = task;
    weir_op_read(&reader->op, reader->fds[0], &reader->byte, 1, WEIR_CURRENT);
    CHECK_EQUAL(weir_submit(loop, &reader->op), 0);
}

static void answer_read(struct reader *reader)
{
    CHECK_EQUAL(write(reader->fds[1], "x", 1), 1);
}

static void end_read(struct reader *reader)
{
    CHECK_EQUAL(reader->op.result, 1);
    close(reader->fds[0]);
    close(reader->fds[1]);
}

static struct weir_task *open_task(struct weir_loop *loop, const char *name)
{
    struct weir_task *task;
    CHECK_EQUAL(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    return task;
}

static void turn_until(struct weir_loop *loop, const struct watching *watching, unsigned count)
{
    while (watching_count(watching) < count) {
        CHECK(weir_loop_turn(loop, 10 * WEIR_MS) >= 0);
    }
}

/* Beside it a RECV waits for its peer as long. */
/* One has been slow. */
static void check_snapshot(const struct weir_loop *loop)
{
    struct weir_snapshot *snapshot;
    CHECK_EQUAL(weir_snapshot_open(0, 1, &snapshot), 0);
    CHECK_EQUAL(weir_snapshot_add(snapshot, loop, "l"), 0);
    CHECK_EQUAL(weir_snapshot_loop_at(snapshot, 0)->slow_ops, 1);
    weir_snapshot_close(snapshot);
}

static void slow_on(enum weir_policy policy)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.slow_op_ns = SLOW_NS});
    struct weir_loop *loop = watching_loop(&watching, policy, "one");
    struct reader reader = {0};
    struct weir_op receive = {.callback = check_on_done};
    int sockets[2];
    char byte;
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    weir_op_recv(&receive, sockets[0], &byte, 1, 0);
    CHECK_EQUAL(weir_submit(loop, &receive), 0);
    submit_read(loop, &reader, open_task(loop, "slow reads"));
    turn_until(loop, &watching, 3);
    answer_read(&reader);
    CHECK_EQUAL(write(sockets[1], "x", 1), 1);
    check_drain(loop);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    check_snapshot(loop);
    watching_end(loop);
    watching_close(&watching);
    CHECK_EQUAL(counters.slow_ops, 1);
    for (unsigned i = 0; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        CHECK_EQUAL(stall->place, WEIR_STALL_OP);
        CHECK_EQUAL(stall->cause, WEIR_STALL_UNKNOWN);
        CHECK(strcmp(stall->loop, "one") == 0);
        CHECK(strcmp(stall->task, "slow reads") == 0);
        CHECK(strcmp(stall->kind, "read") == 0);
        CHECK(strstr(stall->site, "watchdog_slow.c:") != NULL);
        CHECK_EQUAL(stall->fd, reader.fds[0]);
        CHECK(!stall->callback && !stall->callback_symbol);
        CHECK_EQUAL(stall->threshold_ns, SLOW_NS);
        CHECK_EQUAL(stall->nth, i + 1);
        CHECK(stall->lasted_ns > SLOW_NS);
        CHECK(i == 0 || stall->lasted_ns > 2 * watching.reports[0].stall.threshold_ns);
        if (i > 0) { /* not before it had lasted twice as long: doublings of the threshold lie
                      * between any two reports */
            uint64_t former_ns = watching.reports[i - 1].stall.lasted_ns;
            uint64_t step_ns = SLOW_NS;
            while (step_ns < former_ns) {
                step_ns *= 2;
            }
            CHECK(stall->lasted_ns > step_ns);
        }
    }
    end_read(&reader);
    close(sockets[0]);
    close(sockets[1]);
}

static void an_op_that_is_slow_is_reported_once_and_again_at_each_doubling(void)
{
    watching_on_both(slow_on);
}

/* Two tasks: the reads of one have always taken so long. */
static void what_is_usual_for_its_task_is_not_slow(void)
{
    struct watching watching = {0};
    watching_open(&watching,
                  (struct weir_watchdog_options){.slow_op_ns = SLOW_NS, .slow_factor = 100});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct weir_task *usual = open_task(loop, "usual");
    struct weir_task *other = open_task(loop, "other");
    struct reader first = {0};
    submit_read(loop, &first, usual);
    CHECK_EQUAL(weir_loop_turn(loop, 30 * WEIR_MS), 0);
    answer_read(&first);
    check_drain(loop);
    end_read(&first);
    struct weir_histogram flight;
    CHECK_EQUAL(weir_task_read(usual, WEIR_STAGE_FLIGHT, &flight), 0);
    uint64_t least_ns = 100 * weir_histogram_percentile(&flight, 99);

    unsigned before = watching_count(&watching);
    struct reader second = {0};
    struct reader control = {0};
    submit_read(loop, &second, usual);
    submit_read(loop, &control, other);
    turn_until(loop, &watching, before + 2);
    answer_read(&second);
    answer_read(&control);
    check_drain(loop);
    watching_end(loop);
    watching_close(&watching);
    end_read(&second);
    end_read(&control);
    for (unsigned i = before; i < watching.count; i++) {
        const struct weir_stall *stall = &watching.reports[i].stall;
        bool is_usual = strcmp(stall->task, "usual") == 0;
        CHECK_EQUAL(stall->threshold_ns, is_usual ? least_ns : SLOW_NS);
        CHECK(stall->lasted_ns > stall->threshold_ns);
    }
}

/* --- what came back while the loop stood still ------------------------------------------------ */

struct standing {
    struct watching_op own;
    struct reader *reader;
};

static void on_stand(struct weir_op *op)
{
    struct standing *standing = WEIR_CONTAINER(op, struct standing, own.op);
    answer_read(standing->reader);
    watching_spin(standing->own.watching, standing->own.until);
}

static void an_op_that_waits_for_a_loop_which_stands_still_is_not_slow(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.threshold_ns = 500 * WEIR_MS,
                                                            .slow_op_ns = 500 * WEIR_MS,
                                                            .report_descheduled = 1});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct reader reader = {0};
    submit_read(loop, &reader, NULL);
    struct standing standing = {.own = {.watching = &watching, .until = 2}, .reader = &reader};
    watching_call(loop, &standing.own, on_stand); /* for a second at least */
    end_read(&reader);
    struct weir_watchdog_counters counters = watching_counters(&watching);
    watching_end(loop);
    watching_close(&watching);
    CHECK_EQUAL(counters.slow_ops, 0);
}

static void without_inspection_no_op_is_looked_at(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.slow_op_ns = 1});
    struct weir_loop *seen = watching_loop(&watching, WEIR_AUTO, "seen");
    struct weir_loop *unseen = check_open(NULL);
    CHECK_EQUAL(weir_watchdog_watch(watching.watchdog, unseen, "unseen"), 0);
    struct reader readers[2] = {0};
    submit_read(unseen, &readers[0], NULL);
    CHECK(weir_loop_turn(unseen, 0) >= 0);
    submit_read(seen, &readers[1], NULL);
    turn_until(seen, &watching, 2);
    for (int i = 0; i < 2; i++) {
        answer_read(&readers[i]);
        check_drain(i == 0 ? unseen : seen);
        end_read(&readers[i]);
    }
    watching_end(seen);
    watching_end(unseen);
    watching_close(&watching);
    for (unsigned i = 0; i < watching.count && i < WATCHING_MAX; i++) {
        CHECK(strcmp(watching.reports[i].loop, "seen") == 0);
    }
}

#define MANY 40

static void more_slow_ops_than_one_look_has_places_for_are_all_reported(void)
{
    struct watching watching = {0};
    watching_open(&watching, (struct weir_watchdog_options){.slow_op_ns = SLOW_NS});
    struct weir_loop *loop = watching_loop(&watching, WEIR_AUTO, "one");
    struct reader readers[MANY] = {0};
    for (int i = 0; i < MANY; i++) {
        submit_read(loop, &readers[i], NULL);
    }
    turn_until(loop, &watching, MANY);
    for (int i = 0; i < MANY; i++) {
        answer_read(&readers[i]);
    }
    check_drain(loop);
    CHECK_EQUAL(watching_counters(&watching).slow_ops, MANY);
    watching_end(loop);
    watching_close(&watching);
    for (int i = 0; i < MANY; i++) {
        int found = 0;
        for (unsigned k = 0; k < watching.count && k < WATCHING_MAX; k++) {
            found += watching.reports[k].stall.fd == readers[i].fds[0];
        }
        CHECK(found > 0);
        end_read(&readers[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(an_op_that_is_slow_is_reported_once_and_again_at_each_doubling),
        CHECK_TEST(what_is_usual_for_its_task_is_not_slow),
        CHECK_TEST(an_op_that_waits_for_a_loop_which_stands_still_is_not_slow),
        CHECK_TEST(without_inspection_no_op_is_looked_at),
        CHECK_TEST(more_slow_ops_than_one_look_has_places_for_are_all_reported),
    };
    check_guard(120);
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
