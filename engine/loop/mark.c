/* SPDX-License-Identifier: MIT */
/*
 * mark.c: watermarks: who wants to know when a gate has filled to one level and emptied to another.
 * Each is called at most once a turn, at its end.
 */
#include <engine/loop/loop.h>

static bool is_crossed(const struct weir_watermark *mark)
{
    uint32_t level = mark->gate->live;
    return mark->is_above ? level <= mark->low : level >= mark->high;
}

static struct weir_watermark *find(const struct weir_gate *gate, uint64_t but_turn)
{
    struct weir_watermark *mark = gate->marks;
    while (mark && (!is_crossed(mark) || mark->turn == but_turn)) {
        mark = mark->next;
    }
    return mark;
}

bool weir_loop_mark_to_tell(const struct weir_loop *loop)
{
    return find(&loop->gate, UINT64_MAX) || find(&loop->offload_gate, UINT64_MAX);
}

static void tell(struct weir_loop *loop, const struct weir_gate *gate)
{
    struct weir_watermark *mark;
    while (loop->backend->dead == 0 && (mark = find(gate, loop->counters.turns)) != NULL) {
        mark->is_above = !mark->is_above;
        mark->turn = loop->counters.turns;
        mark->callback(mark, (int)mark->is_above);
    }
}

void weir_loop_tell_marks(struct weir_loop *loop)
{
    tell(loop, &loop->gate);
    tell(loop, &loop->offload_gate);
}

static void forget(struct weir_gate *gate)
{
    while (gate->marks) {
        struct weir_watermark *mark = gate->marks;
        gate->marks = mark->next;
        mark->loop = NULL;
    }
}

void weir_loop_forget_marks(struct weir_loop *loop)
{
    forget(&loop->gate);
    forget(&loop->offload_gate);
}

int weir_watch_gate(struct weir_loop *loop, struct weir_watermark *mark, const struct weir_op *op)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->refuse != 0) {
        return loop->refuse;
    }
    r = mark && mark->callback ? weir_loop_judge_example(loop, op) : -EINVAL;
    if (r < 0) {
        return r;
    }
    if (mark->loop) {
        return -EBUSY;
    }
    struct weir_gate *gate = op ? weir_loop_gate_of(loop, op) : &loop->gate;
    if (mark->low >= mark->high || mark->high > gate->places) {
        return -EINVAL;
    }
    loop->onlookers++;
    mark->loop = loop;
    mark->gate = gate;
    mark->is_above = 0;
    mark->turn = loop->counters.turns; /* inside one: the next tells it */
    mark->prev = NULL;
    mark->next = gate->marks;
    if (mark->next) {
        mark->next->prev = mark;
    }
    gate->marks = mark;
    return 0;
}

int weir_unwatch_gate(struct weir_loop *loop, struct weir_watermark *mark)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!mark) {
        return -EINVAL;
    }
    if (mark->loop != loop) {
        return -ENOENT;
    }
    *(mark->prev ? &mark->prev->next : &mark->gate->marks) = mark->next;
    if (mark->next) {
        mark->next->prev = mark->prev;
    }
    mark->loop->onlookers--;
    mark->loop = NULL;
    return 0;
}
