/* SPDX-License-Identifier: MIT */
/*
 * room.c: those who wait for the gate to have a place. First in, first out; as many are called as
 * there are places; with hysteresis, so that a full gate does not wake a waiter per completion, but
 * never waiting for a mark that idle ops may keep it from.
 */
#include <engine/loop/loop.h>

#define LOW_SHARE 8 /* the low mark: this part of the places free, */
#define LOW_MOST 8  /* at most this many */

static uint32_t places(const struct weir_gate *gate)
{
    return gate->places - gate->live;
}

/* After a machine has stopped nobody is called any more. */
static bool is_dead(const struct weir_loop *loop)
{
    return weir_unlikely(loop->backend->dead != 0);
}

static bool can_tell(const struct weir_loop *loop, const struct weir_gate *gate)
{
    return gate->rooms && (places(gate) > 0 || loop->closing);
}

bool weir_loop_room_to_tell(const struct weir_loop *loop)
{
    return can_tell(loop, &loop->gate) || can_tell(loop, &loop->offload_gate);
}

static void unlink_room(struct weir_room *room)
{
    struct weir_gate *gate = room->gate;
    *(room->prev ? &room->prev->next : &gate->rooms) = room->next;
    *(room->next ? &room->next->prev : &gate->rooms_tail) = room->prev;
    room->loop = NULL;
}

static void call_first(struct weir_gate *gate, int result)
{
    struct weir_room *room = gate->rooms;
    unlink_room(room);
    room->callback(room, result);
}

static void announce(struct weir_loop *loop, struct weir_gate *gate)
{
    uint32_t low = gate->places / LOW_SHARE;
    low = low < 1 ? 1 : low > LOW_MOST ? LOW_MOST : low;
    uint32_t room = places(gate);
    if (room >= low || gate->room_stood) {
        /* Those who have come in this turn, maybe from their own callback, are the next one's. */
        for (; room > 0 && gate->rooms && gate->rooms->turn != loop->counters.turns; room--) {
            if (places(gate) == 0 || loop->closing || is_dead(loop)) {
                break;
            }
            call_first(gate, 0);
        }
    }
    while (loop->closing && gate->rooms && !is_dead(loop)) {
        call_first(gate, -ESHUTDOWN);
    }
    gate->room_stood = gate->rooms && places(gate) > 0;
}

void weir_loop_announce_room(struct weir_loop *loop)
{
    announce(loop, &loop->gate);
    announce(loop, &loop->offload_gate);
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
    if (!room || !room->callback || !op || op->kind == WEIR_KIND_NONE ||
        op->kind >= WEIR_KIND_COUNT || weir_op_is_timer(op)) {
        return -EINVAL;
    }
    struct weir_gate *gate = weir_loop_gate_of(loop, op);
    if (gate->places == 0) {
        return -EOPNOTSUPP;
    }
    if (room->loop) {
        return -EBUSY;
    }
    gate->room_stood = gate->room_stood && gate->rooms;
    room->loop = loop;
    room->gate = gate;
    room->site = site;
    room->turn = loop->counters.turns;
    room->next = NULL;
    room->prev = gate->rooms_tail;
    *(room->prev ? &room->prev->next : &gate->rooms) = room;
    gate->rooms_tail = room;
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
