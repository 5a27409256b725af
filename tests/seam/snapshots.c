/* SPDX-License-Identifier: MIT */
/* snapshots.c: weir/snapshot.h while the loop lives: a thread that looks on, a child, a world. */
#include "seam.h"

#define ROWS 64 /* more than there are tasks at a time */
#define TASKS 6
#define TIGHT 6 /* as many as there are while one is being opened anew */

/* One a task, so that a row is one task's and its epoch tells all; and the built-in one's. */
static const char *const names[TASKS + 1] = {"alpha",   "beta", "gamma", "delta",
                                             "epsilon", "zeta", "nop"};

/* A thread may not use the expectations: they leave by longjmp. */
struct looker {
    struct weir_loop *loop;
    bool stop;      /* atomic */
    unsigned looks; /* atomic */
    const char *wrong;
    struct weir_snapshot *now;
    struct weir_snapshot *before;
    struct weir_snapshot *tight;
};

static bool is_known(const char *name)
{
    for (size_t i = 0; i < SEAM_COUNT(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const struct weir_snapshot_task *find(const struct weir_snapshot *snapshot, const char *task)
{
    const struct weir_snapshot_task *row;
    for (uint32_t i = 0; (row = weir_snapshot_task_at(snapshot, i)) != NULL; i++) {
        if (strcmp(row->task, task) == 0) {
            return row;
        }
    }
    return NULL;
}

/* What is wrong with a row by itself. */
static const char *judge_row(const struct weir_snapshot_task *row)
{
    if (!is_known(row->task) || strcmp(row->label, "l") != 0) {
        return "a name that nobody gave";
    }
    if (row->counters.finished > row->counters.submitted) {
        return "more finished than submitted";
    }
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        const struct weir_histogram *histogram = &row->stages[stage];
        uint64_t count = histogram->clipped;
        for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
            count += histogram->buckets[i];
        }
        if (count != histogram->count) {
            return "a histogram that does not count its samples";
        }
    }
    return NULL;
}

/* What only grows has not shrunk since, but for a reset or another task in its place. */
static const char *judge_growth(const struct weir_snapshot_task *row,
                                const struct weir_snapshot_task *before)
{
    if (before == NULL || before->epoch != row->epoch) {
        return NULL;
    }
    bool shrank = row->counters.finished < before->counters.finished ||
                  row->counters.submitted < before->counters.submitted;
    for (unsigned stage = 0; stage < WEIR_STAGE_COUNT; stage++) {
        shrank |= row->stages[stage].count < before->stages[stage].count;
    }
    return shrank ? "numbers of one epoch that shrank" : NULL;
}

static const char *look_once(struct looker *looker)
{
    weir_snapshot_clear(looker->now);
    if (weir_snapshot_add(looker->now, looker->loop, "l") != 0) {
        return "an answer that is not 0";
    }
    const struct weir_snapshot_loop *loop = weir_snapshot_loop_at(looker->now, 0);
    if (!loop->has_state || loop->counters.finished > loop->counters.submitted) {
        return "a loop's state that makes no sense";
    }
    const char *wrong = NULL;
    const struct weir_snapshot_task *row;
    for (uint32_t i = 0; wrong == NULL && (row = weir_snapshot_task_at(looker->now, i)); i++) {
        wrong = judge_row(row);
        wrong = wrong ? wrong : judge_growth(row, find(looker->before, row->task));
    }
    weir_snapshot_copy(looker->before, looker->now);

    weir_snapshot_clear(looker->tight);
    int r = weir_snapshot_add(looker->tight, looker->loop, "l");
    bool empty = weir_snapshot_task_at(looker->tight, 0) == NULL &&
                 weir_snapshot_loop_at(looker->tight, 0) == NULL;
    if (r != 0 && (r != -ENOSPC || !empty)) {
        return "a snapshot without room that took something";
    }
    return wrong;
}

static void *look_on(void *context)
{
    struct looker *looker = context;
    while (!__atomic_load_n(&looker->stop, __ATOMIC_ACQUIRE) && looker->wrong == NULL) {
        looker->wrong = look_once(looker);
        __atomic_add_fetch(&looker->looks, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static struct weir_task *task_named(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    return task;
}

/* Work, then a change to one of the tasks. */
static void work_once(struct weir_loop *loop, struct weir_task *tasks[TASKS])
{
    static struct tracked ops[64];
    memset(ops, 0, sizeof ops);
    unsigned count = (unsigned)(seam_random() % SEAM_COUNT(ops));
    for (unsigned i = 0; i < count; i++) {
        uint64_t which = seam_random() % (TASKS + 1);
        weir_op_nop(&ops[i].op);
        ops[i].op.task = which < TASKS ? tasks[which] : NULL;
        seam_submit(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    uint64_t which = seam_random() % TASKS;
    if (seam_random() % 2) {
        expect_equal(weir_task_reset(tasks[which]), 0);
    } else if (seam_random() % 2) {
        expect_equal(weir_task_close(tasks[which]), 0);
        tasks[which] = task_named(loop, names[which]);
    }
}

SEAM_TEST(a_thread_takes_snapshots_while_tasks_work_come_and_go)
{
    struct weir_loop *loop = seam_loop_with(
        (struct weir_options){.depth = 16, .waiting_max = 64, .flags = WEIR_INSPECTABLE});
    struct weir_task *tasks[TASKS];
    struct looker looker = {.loop = loop};
    for (unsigned i = 0; i < TASKS; i++) {
        tasks[i] = task_named(loop, names[i]);
    }
    expect_equal(weir_snapshot_open(ROWS, 1, &looker.now), 0);
    expect_equal(weir_snapshot_open(ROWS, 1, &looker.before), 0);
    expect_equal(weir_snapshot_open(TIGHT, 1, &looker.tight), 0);
    pthread_t thread;
    expect_equal((pthread_create)(&thread, NULL, look_on, &looker), 0);
    /* Until there were enough of both; a looker that has ended looks no more. */
    unsigned rounds = 0;
    unsigned looks = seam_long() ? 20000 : 300;
    while (rounds < 300 ||
           (__atomic_load_n(&looker.looks, __ATOMIC_ACQUIRE) < looks && rounds < 1000000)) {
        work_once(loop, tasks);
        rounds++;
    }
    __atomic_store_n(&looker.stop, true, __ATOMIC_RELEASE);
    expect_equal((pthread_join)(thread, NULL), 0);
    if (looker.wrong != NULL) {
        fprintf(stderr, "after %u looks: %s\n", looker.looks, looker.wrong);
    }
    expect(looker.wrong == NULL);
    expect(looker.looks > 0);
    weir_snapshot_close(looker.now);
    weir_snapshot_close(looker.before);
    weir_snapshot_close(looker.tight);
    seam_end(loop);
}

SEAM_TEST(a_snapshot_by_the_owner_misses_nothing)
{
    struct weir_loop *loop = seam_loop();
    struct weir_task *task = task_named(loop, "alpha");
    struct weir_snapshot *snapshot = NULL;
    struct tracked op = {.op.task = task};
    expect_equal(weir_snapshot_open(0, 0, &snapshot), 0);
    for (unsigned i = 1; i <= 3; i++) {
        weir_op_nop(&op.op);
        expect_equal(seam_carry_out(loop, &op), 0);
        weir_snapshot_clear(snapshot);
        expect_equal(weir_snapshot_add(snapshot, loop, "l"), 0);
        expect_equal(find(snapshot, "alpha")->stages[WEIR_STAGE_TOTAL].count, i);
        expect_equal(find(snapshot, "alpha")->counters.finished, i);
        expect_equal(weir_snapshot_loop_at(snapshot, 0)->counters.finished, i);
    }
    weir_snapshot_close(snapshot);
    seam_end(loop);
}

struct asker {
    struct weir_loop *loop;
    struct weir_snapshot *snapshot;
    int answer;
};

static void *ask(void *context)
{
    struct asker *asker = context;
    asker->answer = weir_snapshot_add(asker->snapshot, asker->loop, "l");
    return NULL;
}

SEAM_TEST(another_thread_is_answered_as_the_header_says)
{
    struct weir_loop *loop = seam_loop();
    struct asker asker = {.loop = loop};
    expect_equal(weir_snapshot_open(0, 0, &asker.snapshot), 0);
    seam_in_thread(ask, &asker);
    expect_equal(asker.answer, seam_simulates() ? -EOPNOTSUPP : 0);
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(asker.snapshot, 0);
    expect(seam_simulates() == (row == NULL));
    expect(row == NULL || !row->has_state || !seam_plain());
    weir_snapshot_close(asker.snapshot);
    seam_end(loop);
}

/* Also of a turn that only waits: the op was sent by one before it. */
SEAM_TEST(another_thread_sees_an_inspectable_loop_as_its_last_turn_left_it)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.flags = WEIR_INSPECTABLE});
    struct asker asker = {.loop = loop};
    struct seam_pair pipe = seam_pipe(O_NONBLOCK);
    struct tracked op = {0};
    expect_equal(weir_snapshot_open(0, 0, &asker.snapshot), 0);
    seam_read_byte(loop, &op, pipe.in);
    seam_turns(loop, 2);
    expect_equal(write(pipe.out, "x", 1), 1);
    seam_await(loop, &op);
    seam_in_thread(ask, &asker);
    expect_equal(asker.answer, 0);
    const struct weir_snapshot_loop *row = weir_snapshot_loop_at(asker.snapshot, 0);
    expect_equal(row->counters.turns, seam_counters(loop).turns);
    expect_equal(row->gates[0].in_flight, 0);
    weir_snapshot_close(asker.snapshot);
    seam_pair_close(&pipe);
    seam_end(loop);
}

static int add_in_child(void *context)
{
    struct asker *asker = context;
    child_expect(weir_snapshot_add(asker->snapshot, asker->loop, "l") == -ECHILD);
    child_expect(weir_snapshot_loop_at(asker->snapshot, 0) == NULL);
    return 0;
}

SEAM_TEST(a_child_is_refused)
{
    struct weir_loop *loop = seam_loop();
    struct asker asker = {.loop = loop};
    expect_equal(weir_snapshot_open(0, 0, &asker.snapshot), 0);
    expect_equal(seam_child(add_in_child, &asker), 0);
    weir_snapshot_close(asker.snapshot);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_thread_takes_snapshots_while_tasks_work_come_and_go),
    cmocka_unit_test(a_snapshot_by_the_owner_misses_nothing),
    cmocka_unit_test(another_thread_is_answered_as_the_header_says),
    cmocka_unit_test(another_thread_sees_an_inspectable_loop_as_its_last_turn_left_it),
    cmocka_unit_test(a_child_is_refused),
};
static const struct CMUnitTest simulated_tests[] = {
    cmocka_unit_test(a_snapshot_by_the_owner_misses_nothing),
    cmocka_unit_test(another_thread_is_answered_as_the_header_says),
    cmocka_unit_test(a_child_is_refused),
};
const struct seam_group snapshots_group = SEAM_GROUP_OR("snapshots", tests, simulated_tests);
