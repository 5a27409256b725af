/* SPDX-License-Identifier: MIT */
/*
 * observe.c: what weir/observe.h promises: the list of live ops, from the loop's thread and from
 * another one, at a close that cannot wait; and the stacks that submitted.
 */
#include "seam.h"

#define LIVE 7

static struct weir_task *task_open(struct weir_loop *loop, const char *name)
{
    struct weir_task *task = NULL;
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = name}, &task), 0);
    return task;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* --- the list --------------------------------------------------------------------------------- */

/* Reads of a pipe that nobody writes to, of three tasks, each submitted in a line of its own. */
struct scene {
    struct weir_loop *loop;
    struct seam_pair pipe;
    struct tracked ops[LIVE];
    const char *sites[LIVE];
    const char *tasks[LIVE];
};

#define SCENE_READ(scene, i, of_task)                                                              \
    do {                                                                                           \
        struct tracked *read_ = &(scene)->ops[i];                                                  \
        weir_op_read(&read_->op, (scene)->pipe.in, read_->data, (i) + 1, WEIR_CURRENT);            \
        read_->op.callback = seam_called;                                                          \
        read_->op.task = (of_task);                                                                \
        (scene)->tasks[i] = weir_task_name(of_task);                                               \
        (scene)->sites[i] = ":" WEIR_SITE_LINE(__LINE__);                                          \
        expect_equal(weir_submit((scene)->loop, &read_->op), 0);                                   \
        seam_turns((scene)->loop, 1);                                                              \
    } while (0)

static void scene_begin(struct scene *scene, struct weir_options options)
{
    *scene = (struct scene){.loop = seam_loop_with(options), .pipe = seam_pipe(0)};
    struct weir_task *wal = task_open(scene->loop, "wal append");
    struct weir_task *compaction = task_open(scene->loop, "compaction");
    struct weir_task *scrub = task_open(scene->loop, "scrub");
    SCENE_READ(scene, 0, wal);
    SCENE_READ(scene, 1, compaction);
    SCENE_READ(scene, 2, scrub);
    SCENE_READ(scene, 3, wal);
    SCENE_READ(scene, 4, compaction);
    SCENE_READ(scene, 5, scrub);
    SCENE_READ(scene, 6, wal);
}

static void scene_end(struct scene *scene)
{
    for (int i = 0; i < LIVE; i++) {
        seam_cancel(scene->loop, &scene->ops[i]);
    }
    expect_equal(seam_run(scene->loop), 0);
    seam_end(scene->loop);
    seam_pair_close(&scene->pipe);
}

/* The list names all of them, whatever order equal ages come in. */
static bool names_all(const struct scene *scene, const struct weir_live *list, int64_t count)
{
    unsigned seen = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct weir_live *live = &list[i];
        for (unsigned j = 0; j < LIVE; j++) {
            bool same = live->op == &scene->ops[j].op && live->length == j + 1 &&
                        strcmp(live->task, scene->tasks[j]) == 0 &&
                        ends_with(live->site, scene->sites[j]) && strstr(live->site, "observe.c");
            seen |= (unsigned)same << j;
        }
        if (strcmp(live->kind, "read") != 0 || live->fd != scene->pipe.in ||
            live->offset != WEIR_CURRENT || strcmp(live->state, "in flight") != 0 ||
            live->flight_ns > live->age_ns || (i > 0 && live->age_ns > list[i - 1].age_ns)) {
            return false;
        }
    }
    return count == LIVE && seen == (1u << LIVE) - 1;
}

SEAM_TEST(live_ops_are_listed_oldest_first_with_task_fd_extent_and_the_line_that_submitted)
{
    struct scene scene;
    struct weir_live list[LIVE + 1];
    scene_begin(&scene, (struct weir_options){0});
    expect(names_all(&scene, list, weir_loop_inspect(scene.loop, list, LIVE + 1)));
    expect(names_all(&scene, list, weir_loop_inspect(scene.loop, list, LIVE)));
    /* Of more than there is room for, the oldest. */
    memset(list, 0, sizeof list);
    expect_equal(weir_loop_inspect(scene.loop, list, 2), LIVE);
    expect(list[0].age_ns >= list[1].age_ns && list[1].op != NULL && list[2].op == NULL);
    struct weir_live all[LIVE];
    weir_loop_inspect(scene.loop, all, LIVE);
    expect_equal(list[0].age_ns - list[1].age_ns, all[0].age_ns - all[1].age_ns);
    expect_equal(weir_loop_inspect(scene.loop, NULL, 0), LIVE);
    expect_equal(weir_loop_inspect(scene.loop, NULL, 1), -EINVAL);
    expect_equal(weir_loop_inspect(NULL, list, 1), -EINVAL);
    scene_end(&scene);
    struct weir_loop *loop = seam_loop();
    expect_equal(weir_loop_inspect(loop, list, LIVE), 0);
    seam_end(loop);
}

SEAM_TEST(what_waits_at_the_gate_is_listed_as_such_and_a_post_as_posted)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.depth = 1, .waiting_max = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[3] = {0};
    struct weir_live list[4];
    seam_read_byte(loop, &ops[0], pipe.in);
    seam_turns(loop, 1);
    seam_read_byte(loop, &ops[1], pipe.in);
    weir_op_read(&ops[2].op, pipe.in, ops[2].data, 1, WEIR_CURRENT);
    ops[2].op.callback = seam_called;
    seam_posted(loop, &ops[2]);
    seam_turns(loop, 1);
    expect_equal(weir_loop_inspect(loop, list, 4), 3);
    for (int i = 0; i < 3; i++) {
        const char *want = list[i].op == &ops[0].op   ? "in flight"
                           : list[i].op == &ops[1].op ? "at gate"
                                                      : "posted";
        expect(strcmp(list[i].state, want) == 0);
        expect((list[i].flight_ns > 0) <= (list[i].op == &ops[0].op));
        expect(strstr(list[i].site, ".c:") != NULL);
    }
    for (int i = 0; i < 3; i++) {
        seam_cancel(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_end(loop);
    seam_pair_close(&pipe);
}

/* Another thread's looks; main compares. */
struct look {
    struct scene *scene;
    int64_t counts[2];
    struct weir_live list[LIVE];
};

static void *look(void *context)
{
    struct look *look = context;
    look->counts[0] = weir_loop_inspect(look->scene->loop, look->list, LIVE);
    look->counts[1] = weir_loop_inspect(look->scene->loop, NULL, 0);
    return NULL;
}

/* The loop is stuck in this callback until another thread has looked. */
static void stuck_then_looked_at(struct tracked *tracked)
{
    seam_in_thread(look, tracked->context);
}

static void look_while_stuck(struct weir_options options, struct look *look)
{
    static struct scene scene;
    struct tracked nop = {.then = stuck_then_looked_at, .context = look};
    scene_begin(&scene, options);
    look->scene = &scene;
    weir_op_nop(&nop.op);
    seam_submit(scene.loop, &nop);
    seam_await(scene.loop, &nop);
}

SEAM_TEST(another_thread_sees_what_is_live_while_the_loop_is_stuck_in_a_callback)
{
    static struct look look;
    look_while_stuck((struct weir_options){.flags = WEIR_INSPECTABLE}, &look);
    if (seam_simulates()) {
        expect_equal(look.counts[0], -EOPNOTSUPP);
    } else {
        expect_equal(look.counts[1], LIVE); /* the one whose callback runs is its caller's again */
        expect(names_all(look.scene, look.list, look.counts[0]));
    }
    scene_end(look.scene);
}

SEAM_TEST(another_thread_is_refused_a_look_at_a_loop_that_was_not_opened_for_it)
{
    static struct look look;
    look_while_stuck((struct weir_options){0}, &look);
    bool plain = seam_plain(); /* else it was opened so all the same */
    if (plain && !seam_simulates()) {
        expect_equal(look.counts[0], -EPERM);
    }
    scene_end(look.scene);
}

static int child_looks(void *context)
{
    struct weir_live list[1];
    child_expect(weir_loop_inspect(context, list, 1) == -ECHILD);
    return 0;
}

SEAM_TEST(a_forked_child_is_refused_a_look)
{
    struct weir_loop *loop = seam_loop_with((struct weir_options){.flags = WEIR_INSPECTABLE});
    if (!seam_simulates()) {
        expect_equal(seam_child(child_looks, loop), 0);
    }
    seam_end(loop);
}

/* --- closing ---------------------------------------------------------------------------------- */

SEAM_TEST(a_close_that_cannot_wait_names_all_seven_ops_of_three_tasks_and_their_lines)
{
    struct weir_options options = {.offload_workers = LIVE + 1};
    struct weir_loop *loop = seam_loop_with(options);
    static struct seam_work calls[LIVE];
    static const char *const names[] = {"wal append", "compaction", "scrub"};
    struct weir_task *tasks[3];
    struct weir_report report;
    const char *sites[LIVE];
    for (int i = 0; i < 3; i++) {
        tasks[i] = task_open(loop, names[i]);
    }
    for (int i = 0; i < LIVE; i++) {
        seam_work_fill(&calls[i], i);
        calls[i].blocks = true;
        calls[i].call.op.task = tasks[i % 3];
        calls[i].call.op.callback = seam_called;
        sites[i] = ":" WEIR_SITE_LINE(__LINE__);
        expect_equal(weir_submit(loop, &calls[i].call.op), 0); /* two lines on */
        seam_await_begun(loop, &calls[i]);
    }
    expect_equal(seam_close(loop, 0, &report), -ETIMEDOUT);
    expect_equal(report.count, LIVE);
    unsigned seen = 0;
    for (size_t i = 0; i < report.count; i++) {
        const struct weir_live *live = &report.ops[i];
        for (unsigned j = 0; j < LIVE; j++) {
            bool same = live->op == &calls[j].call.op && strcmp(live->task, names[j % 3]) == 0;
            seen |= (unsigned)same << j;
        }
        expect(strcmp(live->kind, "call") == 0);
        expect(strstr(live->site, "observe.c:") != NULL);
        expect_equal(atoi(strrchr(live->site, ':') + 1), atoi(sites[0] + 1) + 1);
        expect(i == 0 || live->age_ns <= report.ops[i - 1].age_ns);
    }
    expect_equal(seen, (1u << LIVE) - 1);
    for (int i = 0; i < LIVE; i++) {
        seam_unblock(&calls[i]);
    }
    seam_end(loop);
}

/* --- stacks ----------------------------------------------------------------------------------- */

static uint32_t frames_of(struct weir_loop *loop, const struct tracked *tracked)
{
    struct weir_live list[8];
    int64_t count = weir_loop_inspect(loop, list, 8);
    for (int64_t i = 0; i < count; i++) {
        if (list[i].op == &tracked->op) {
            for (uint32_t j = 0; j < list[i].frame_count; j++) {
                expect(list[i].frames[j] != NULL);
            }
            return list[i].frame_count;
        }
    }
    expect(false);
    return 0;
}

/* Which of four ops of the task have a stack, a bit each. */
static unsigned stacks_of_four(struct weir_loop *loop, struct weir_task *task)
{
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};
    unsigned kept = 0;
    for (int i = 0; i < 4; i++) {
        ops[i].op.task = task;
        seam_read_byte(loop, &ops[i], pipe.in);
    }
    for (int i = 0; i < 4; i++) {
        kept |= (unsigned)(frames_of(loop, &ops[i]) > 1) << i;
        seam_cancel(loop, &ops[i]);
    }
    expect_equal(seam_run(loop), 0);
    seam_pair_close(&pipe);
    return kept;
}

SEAM_TEST(the_stack_that_submitted_is_kept_of_every_nth_op_of_the_loop_or_of_a_task)
{
    struct weir_options options = {.flags = WEIR_INSPECTABLE, .backtrace_every = 2};
    struct weir_loop *loop = seam_loop_with(options);
    expect_equal(stacks_of_four(loop, NULL), 1 | 4);
    seam_end(loop);
    options.backtrace_every = 0;
    const struct weir_observer none = {0};
    options.observer = &none; /* --observed asks for stacks of its own where there is none */
    loop = seam_loop_with(options);
    struct weir_task *task = NULL;
    struct weir_task_options each = {.name = "each", .backtrace_every = 1};
    expect_equal(weir_task_open(loop, &each, &task), 0);
    expect_equal(stacks_of_four(loop, task), 15);
    expect_equal(stacks_of_four(loop, NULL), 0);
    seam_end(loop);
}

SEAM_TEST(what_watching_needs_is_taken_up_to_its_limits_and_not_past_them)
{
    struct weir_loop *loop = NULL;
    const struct weir_observer none = {0};
    struct weir_task *task = NULL;
    struct weir_task_options each = {.name = "each", .backtrace_every = 1};
    struct weir_options options = {.recorder_events = WEIR_RECORDER_MAX + 1};
    expect_equal(seam_open(options, &loop), -EINVAL);
    options = (struct weir_options){.recorder_events = WEIR_RECORDER_MAX};
    expect_equal(seam_open(options, &loop), 0);
    seam_end(loop);
    options = (struct weir_options){.backtrace_every = 1, .observer = &none};
    expect_equal(seam_open(options, &loop), -EINVAL);
    loop = seam_loop_with((struct weir_options){.observer = &none});
    expect_equal(weir_task_open(loop, &each, &task), -EINVAL);
    seam_end(loop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(
        live_ops_are_listed_oldest_first_with_task_fd_extent_and_the_line_that_submitted),
    cmocka_unit_test(what_waits_at_the_gate_is_listed_as_such_and_a_post_as_posted),
    cmocka_unit_test(another_thread_sees_what_is_live_while_the_loop_is_stuck_in_a_callback),
    cmocka_unit_test(another_thread_is_refused_a_look_at_a_loop_that_was_not_opened_for_it),
    cmocka_unit_test(a_forked_child_is_refused_a_look),
    cmocka_unit_test(a_close_that_cannot_wait_names_all_seven_ops_of_three_tasks_and_their_lines),
    cmocka_unit_test(the_stack_that_submitted_is_kept_of_every_nth_op_of_the_loop_or_of_a_task),
    cmocka_unit_test(what_watching_needs_is_taken_up_to_its_limits_and_not_past_them),
};

const struct seam_group observe_group = SEAM_GROUP("observe", tests);
