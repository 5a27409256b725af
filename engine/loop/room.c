/* SPDX-License-Identifier: MIT */
/*
 * room.c: those who wait for the gate to have a place. First in, first out for each task, the tasks
 * in turns; as many are called as there are places; with hysteresis, so that a full gate does not
 * wake a waiter per completion, but never waiting for a mark that idle ops may keep it from.
 */
#include <engine/loop/loop.h>

#define LOW_SHARE 8 /* the low mark: this part of the places free, */
#define LOW_MOST 8  /* at most this many */

/* After a machine has stopped nobody is called any more. */
static bool is_dead(const struct weir_loop *loop)
{
    return weir_unlikely(loop->backend->dead != 0);
}

/* Whether an op like the one that it named would be accepted. */
static bool has_room(const struct weir_room *room)
{
    struct weir_want want = {.credits = room->credits, .bytes = room->bytes};
    return weir_gate_has_place(room->gate, room->flow) &&
           !(room->refuses && weir_gate_would_wait(room->gate, room->flow, want));
}

static bool has_reserve(const struct weir_flow *flow)
{
    return flow->live < flow->reserve;
}

static bool can_tell(const struct weir_loop *loop, const struct weir_gate *gate)
{
    struct weir_flow *flow = gate->lines[WEIR_LINE_ROOM].head;
    while (flow && !loop->closing && !has_room(flow->rooms)) {
        flow = flow->links[WEIR_LINE_ROOM].next;
    }
    return flow != NULL;
}

bool weir_loop_room_to_tell(const struct weir_loop *loop)
{
    return can_tell(loop, &loop->gate) || can_tell(loop, &loop->offload_gate);
}

static void unlink_room(struct weir_room *room)
{
    struct weir_flow *flow = room->flow;
    *(room->prev ? &room->prev->next : &flow->rooms) = room->next;
    *(room->next ? &room->next->prev : &flow->rooms_tail) = room->prev;
    if (!flow->rooms) {
        weir_gate_remove(room->gate, flow, WEIR_LINE_ROOM);
    }
    room->loop->onlookers--;
    room->loop = NULL;
}

static void call(struct weir_room *room, int result)
{
    struct weir_gate *gate = room->gate;
    struct weir_flow *flow = room->flow;
    unlink_room(room);
    if (flow->rooms) { /* the next is another task's */
        weir_gate_remove(gate, flow, WEIR_LINE_ROOM);
        weir_gate_append(gate, flow, WEIR_LINE_ROOM);
    }
    room->callback(room, result);
}

/* The next who is to be called; those who have come in this turn, maybe from their own callback,
 * are the next one's. */
static struct weir_room *find(const struct weir_loop *loop, const struct weir_gate *gate,
                              bool only_reserved)
{
    for (struct weir_flow *flow = gate->lines[WEIR_LINE_ROOM].head; flow;
         flow = flow->links[WEIR_LINE_ROOM].next) {
        struct weir_room *room = flow->rooms;
        if (room->turn != loop->counters.turns && (!only_reserved || has_reserve(flow)) &&
            has_room(room)) {
            return room;
        }
    }
    return NULL;
}

static void announce(struct weir_loop *loop, struct weir_gate *gate)
{
    uint32_t low = gate->places / LOW_SHARE;
    low = low < 1 ? 1 : low > LOW_MOST ? LOW_MOST : low;
    uint32_t places = gate->places - gate->live;
    uint32_t common = places > gate->unused_places ? places - gate->unused_places : 0;
    if (common < low && !gate->room_stood) {
        common = 0; /* only who has a reserve */
    }
    for (; places > 0 && !loop->closing && !is_dead(loop); places--) {
        struct weir_room *room = find(loop, gate, common == 0);
        if (!room) {
            break;
        }
        common -= !has_reserve(room->flow);
        call(room, 0);
    }
    while (loop->closing && gate->lines[WEIR_LINE_ROOM].head && !is_dead(loop)) {
        call(gate->lines[WEIR_LINE_ROOM].head->rooms, -ESHUTDOWN);
    }
    gate->room_stood = can_tell(loop, gate);
}

void weir_loop_announce_room(struct weir_loop *loop)
{
    announce(loop, &loop->gate);
    announce(loop, &loop->offload_gate);
}

static void take_wish(struct weir_loop *loop, struct weir_room *room, const struct weir_op *op)
{
    struct weir_want want = {.credits = 1};
    room->gate = &loop->gate;
    room->flow = &loop->gate.common;
    room->refuses = loop->refuses;
    if (op) {
        room->gate = weir_loop_gate_of(loop, op);
        room->flow = weir_loop_flow_of(loop, op);
        room->refuses = weir_loop_refuses_to_wait(loop, op);
        want = weir_gate_want(room->gate, op);
    }
    room->credits = want.credits;
    room->bytes = want.bytes;
}

int weir_loop_judge_example(struct weir_loop *loop, const struct weir_op *op)
{
    int r = weir_loop_check(loop);
    if (r < 0 || !op) {
        return r;
    }
    if (op->kind == WEIR_KIND_NONE || op->kind >= WEIR_KIND_COUNT || weir_op_is_timer(op) ||
        (op->task && (op->task->tasks != &loop->tasks || !op->task->open))) {
        return -EINVAL;
    }
    return weir_loop_gate_of(loop, op)->places == 0 ? -EOPNOTSUPP : 0;
}

int weir_wait_room_at(struct weir_loop *loop, struct weir_room *room, const struct weir_op *op,
                      const char *site)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->refuse != 0) {
        return loop->refuse;
    }
    r = room && room->callback ? weir_loop_judge_example(loop, op) : -EINVAL;
    if (r < 0) {
        return r;
    }
    if (room->loop) {
        return -EBUSY;
    }
    take_wish(loop, room, op);
    struct weir_gate *gate = room->gate;
    struct weir_flow *flow = room->flow;
    if (!gate->lines[WEIR_LINE_ROOM].head) {
        gate->room_stood = false;
    }
    if (!flow->rooms) {
        weir_gate_append(gate, flow, WEIR_LINE_ROOM);
    }
    loop->onlookers++;
    room->loop = loop;
    room->site = site;
    room->turn = loop->counters.turns;
    room->next = NULL;
    room->prev = flow->rooms_tail;
    *(room->prev ? &room->prev->next : &flow->rooms) = room;
    flow->rooms_tail = room;
    return 0;
}

int weir_withdraw_room(struct weir_loop *loop, struct weir_room *room)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!room) {
        return -EINVAL;
    }
    if (room->loop != loop) {
        return -ENOENT;
    }
    unlink_room(room);
    return 0;
}
