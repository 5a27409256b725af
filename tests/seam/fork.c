/* SPDX-License-Identifier: MIT */
/* fork.c: rule 7: in a child every call answers -ECHILD, and the parent goes on undisturbed. */
#include "seam.h"

#include <sys/mman.h>

struct parent {
    struct weir_loop *loop;
    struct weir_task *task;
    struct tracked *live;
    struct weir_room *waiting;
    int loop_fd;
};

static void unwanted_room(struct weir_room *room, int result)
{
    (void)room;
    (void)result;
}

static void unwanted_mark(struct weir_watermark *mark, int is_above)
{
    (void)mark;
    (void)is_above;
}

static void unwanted_close(struct weir_loop *loop, int result)
{
    (void)loop;
    (void)result;
}

static int ask_for_ops(struct parent *p)
{
    struct tracked op = {.op.callback = seam_called};
    struct weir_room room = {.callback = unwanted_room};
    struct weir_watermark mark = {.callback = unwanted_mark, .high = 1};
    struct weir_gate_state gate;
    weir_op_nop(&op.op);
    child_expect(weir_submit(p->loop, &op.op) == -ECHILD);
    child_expect(weir_loop_post(p->loop, &op.op) == -ECHILD);
    child_expect(op.op.state == 0);
    child_expect(weir_cancel(p->loop, &p->live->op) == -ECHILD);
    child_expect(weir_cancel_fd(p->loop, 0) == -ECHILD);
    child_expect(weir_cancel_task(p->loop, p->task) == -ECHILD);
    child_expect(weir_forget(p->loop, 0) == -ECHILD);
    child_expect(weir_wait_room(p->loop, &room, &op.op) == -ECHILD);
    child_expect(weir_withdraw_room(p->loop, p->waiting) == -ECHILD);
    child_expect(weir_watch_gate(p->loop, &mark, NULL) == -ECHILD);
    child_expect(weir_unwatch_gate(p->loop, &mark) == -ECHILD);
    child_expect(weir_loop_gate(p->loop, NULL, &gate) == -ECHILD);
    return 0;
}

static int ask_for_the_loop(struct parent *p)
{
    struct weir_counters counters;
    struct weir_facts facts;
    child_expect(weir_loop_turn(p->loop, 0) == -ECHILD);
    child_expect(weir_loop_run(p->loop) == -ECHILD);
    child_expect(weir_loop_wake(p->loop) == -ECHILD);
    child_expect(weir_loop_stop(p->loop) == -ECHILD);
    child_expect(weir_loop_hold(p->loop) == -ECHILD);
    child_expect(weir_loop_release(p->loop) == -ECHILD);
    child_expect(weir_loop_fd(p->loop) == -ECHILD);
    child_expect(weir_loop_live(p->loop) == -ECHILD);
    child_expect(weir_loop_adopt(p->loop) == -ECHILD);
    child_expect(weir_loop_close_begin(p->loop, 0, unwanted_close) == -ECHILD);
    child_expect(weir_loop_counters(p->loop, &counters) == -ECHILD);
    child_expect(weir_loop_facts(p->loop, &facts) == -ECHILD);
    return 0;
}

static int ask_for_tasks(struct parent *p)
{
    struct weir_task *task = NULL;
    struct weir_task_counters counters;
    static struct weir_histogram histogram;
    child_expect(weir_task_open(p->loop, &(struct weir_task_options){.name = "x"}, &task) ==
                 -ECHILD);
    child_expect(weir_task_close(p->task) == -ECHILD);
    child_expect(weir_task_reset(p->task) == -ECHILD);
    child_expect(weir_task_read(p->task, WEIR_STAGE_TOTAL, &histogram) == -ECHILD);
    child_expect(weir_task_read_counters(p->task, &counters) == -ECHILD);
    child_expect(weir_task_next(p->loop, NULL) == NULL);
    return 0;
}

static int ask_everything(void *context)
{
    struct parent *p = context;
    return ask_for_ops(p) || ask_for_the_loop(p) || ask_for_tasks(p);
}

/* What was not inherited is free for the child's own maps: they may not vanish with close. */
static int map_then_close(void *context)
{
    struct parent *p = context;
    enum { MAPS = 4096, LENGTH = 4096 }; /* small and many: they fill every hole there is */
    static unsigned char *maps[MAPS];
    for (int i = 0; i < MAPS; i++) {
        maps[i] = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        child_expect(maps[i] != MAP_FAILED);
        maps[i][0] = (unsigned char)i;
    }
    child_expect(weir_loop_close(p->loop, -1, NULL) == -ECHILD);
    for (int i = 0; i < MAPS; i++) {
        child_expect(maps[i][0] == (unsigned char)i);
    }
    child_expect(fcntl(p->loop_fd, F_GETFD) < 0); /* the child's copy of it was closed */
    return 0;
}

/* A ring in a child's memory would let it, or its heap's bugs, into the parent's. */
static int look_for_rings(void *context)
{
    (void)context;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    child_expect(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        child_expect(strstr(line, "[io_uring]") == NULL);
    }
    fclose(maps);
    return 0;
}

static int abandon_it(void *context)
{
    struct parent *p = context;
    child_expect(weir_loop_abandon(p->loop) == -ECHILD);
    return 0;
}

static int open_its_own(void *context)
{
    (void)context;
    struct weir_loop *loop = NULL;
    struct tracked op = {.op.callback = seam_called};
    struct seam_work work;
    child_expect(seam_open((struct weir_options){0}, &loop) == 0);
    weir_op_nop(&op.op);
    child_expect(weir_submit(loop, &op.op) == 0);
    seam_work_fill(&work, 3);
    child_expect(seam_try_submit(loop, &work.call, WEIR_SITE) == 0);
    child_expect(seam_run(loop) == 0);
    child_expect(op.calls == 1);
    child_expect(work.call.result == 3);
    child_expect(seam_close(loop, 0, NULL) == 0);
    return 0;
}

/* The parent with ops in every state, driven through its loop fd by an epoll set of its own. */
static void with_child(int (*body)(void *context))
{
    struct weir_loop *loop =
        seam_loop_with((struct weir_options){.depth = 2, .waiting_max = 4, .offload_workers = 1});
    struct seam_pair pipe = seam_pipe(0);
    struct tracked ops[4] = {0};    /* two in flight, one at the gate, a timer */
    struct seam_work works[2];      /* one running, one queued */
    struct tracked posted[4] = {0}; /* three find a place, one does not */
    struct weir_room waiting = {.callback = unwanted_room};
    struct parent parent = {.loop = loop, .live = &ops[0], .waiting = &waiting};
    expect_equal(weir_task_open(loop, &(struct weir_task_options){.name = "t"}, &parent.task), 0);
    parent.loop_fd = weir_loop_fd(loop);
    int epoll = seam_foreign(loop);
    for (int i = 0; i < 3; i++) {
        seam_read_byte(loop, &ops[i], pipe.in);
    }
    weir_op_timeout_in(&ops[3].op, loop, 10 * WEIR_MS);
    seam_submit(loop, &ops[3]);
    seam_block(loop, &works[0]);
    seam_work_fill(&works[1], 5);
    seam_submit(loop, &works[1].call);
    for (int i = 0; i < 4; i++) {
        weir_op_nop(&posted[i].op);
        seam_posted(loop, &posted[i]);
    }
    seam_turns(loop, 2);
    expect_equal(seam_child(body, &parent), 0);
    expect_equal(weir_loop_live(loop), ops[3].calls == 0 ? 10 : 9);
    expect_equal(works[0].call.calls, 0);
    seam_unblock(&works[0]);
    seam_write(pipe.out, "abc", 3);
    while (weir_loop_live(loop) > 0) {
        seam_foreign_turn(loop, epoll);
    }
    for (int i = 0; i < 4; i++) {
        expect_equal(ops[i].calls, 1);
        expect_equal(ops[i].result, i < 3 ? 1 : 0);
    }
    expect_equal(ops[0].data[0] + ops[1].data[0] + ops[2].data[0], 'a' + 'b' + 'c');
    expect_equal(works[0].call.calls, 1);
    expect_equal(works[1].call.result, 5);
    for (int i = 0; i < 4; i++) {
        expect(posted[i].calls == 1 && posted[i].result == 0);
    }
    expect_equal(weir_task_close(parent.task), 0);
    seam_end(loop);
    seam_foreign_close(epoll);
    seam_pair_close(&pipe);
}

SEAM_TEST(every_call_answers_ECHILD_in_a_child_and_the_parent_goes_on)
{
    with_child(ask_everything);
}

SEAM_TEST(close_in_a_child_unmaps_nothing_of_the_childs)
{
    with_child(map_then_close);
}

SEAM_TEST(a_child_inherits_no_ring_memory)
{
    with_child(look_for_rings);
}

SEAM_TEST(abandon_in_a_child_answers_ECHILD_too)
{
    with_child(abandon_it);
}

SEAM_TEST(a_child_may_open_a_loop_of_its_own)
{
    with_child(open_its_own);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_call_answers_ECHILD_in_a_child_and_the_parent_goes_on),
    cmocka_unit_test(close_in_a_child_unmaps_nothing_of_the_childs),
    cmocka_unit_test(a_child_inherits_no_ring_memory),
    cmocka_unit_test(abandon_in_a_child_answers_ECHILD_too),
    cmocka_unit_test(a_child_may_open_a_loop_of_its_own),
};

const struct seam_group fork_group = SEAM_GROUP("fork", tests);
