/* SPDX-License-Identifier: MIT */
/*
 * room.c: those who wait for the gate to have a place. First in, first out; as many are called as
 * there are places; with hysteresis, so that a full gate does not wake a waiter per completion, but
 * never waiting for a mark that idle ops may keep it from.
 */
#include <engine/loop/loop.h>

#define LOW_SHARE 8 /* the low mark: this part of the places free, */
#define LOW_MOST 8  /* at most this many */

static uint32_t places(const struct weir_loop *loop)
{
    return loop->slots.count - loop->slots.used;
}

bool weir_loop_has_room(const struct weir_loop *loop)
{
    return places(loop) > 0 || loop->closing;
}

static void unlink_room(struct weir_loop *loop, struct weir_room *room)
{
    *(room->prev ? &room->prev->next : &loop->rooms) = room->next;
    *(room->next ? &room->next->prev : &loop->rooms_tail) = room->prev;
    room->loop = NULL;
}

static void call_first(struct weir_loop *loop, int result)
{
    struct weir_room *room = loop->rooms;
    unlink_room(loop, room);
    room->callback(room, result);
}

void weir_loop_announce_room(struct weir_loop *loop)
{
    uint32_t low = loop->slots.count / LOW_SHARE;
    low = low < 1 ? 1 : low > LOW_MOST ? LOW_MOST : low;
    uint32_t room = places(loop);
    if (room >= low || loop->room_stood) {
        /* Those who have come in this turn, maybe from their own callback, are the next one's. */
        for (; room > 0 && loop->rooms && loop->rooms->turn != loop->counters.turns; room--) {
            if (places(loop) == 0 || loop->closing) {
                break;
            }
            call_first(loop, 0);
        }
    }
    while (loop->closing && loop->rooms) {
        call_first(loop, -ESHUTDOWN);
    }
    loop->room_stood = loop->rooms && places(loop) > 0;
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
    if (room->loop) {
        return -EBUSY;
    }
    loop->room_stood = loop->room_stood && loop->rooms;
    room->loop = loop;
    room->site = site;
    room->turn = loop->counters.turns;
    room->next = NULL;
    room->prev = loop->rooms_tail;
    *(room->prev ? &room->prev->next : &loop->rooms) = room;
    loop->rooms_tail = room;
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
    unlink_room(loop, room);
    return 0;
}
