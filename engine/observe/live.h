/* SPDX-License-Identifier: MIT */
/*
 * live.h: lists of live ops, oldest first, and the views that other threads read them from.
 *
 * A view is a copy of what is to be shown of the op in a slot, under a sequence lock: the loop's
 * thread writes it as the op moves, and whoever reads it never touches the op, which is the
 * caller's memory. Must not know the loop.
 */
#ifndef WEIR_ENGINE_LIVE_H
#define WEIR_ENGINE_LIVE_H

#include <engine/observe/task.h>
#include <engine/op/slots.h>
#include <weir/loop.h>

struct weir_view_words {
    uint64_t op; /* 0: nobody's */
    uint64_t born_ns;
    uint64_t left_ns; /* 0: at the gate */
    uint64_t offset;
    uint64_t length;
    const struct weir_task *task;
    const char *site;
    uint64_t kind_and_fd; /* kind in the upper half, fd in the lower */
    uint64_t state;       /* enum weir_state */
    uint64_t frame_count;
    uint64_t frames[WEIR_FRAMES_MAX];
};

struct weir_view {
    uint64_t sequence; /* odd while the words are written */
    struct weir_view_words words;
};

/* --- the loop's thread ------------------------------------------------------------------------ */

/* The op has got its slot. frames: NULL if frame_count is 0. */
void weir_view_set(struct weir_view *view, const struct weir_op *op, const struct weir_task *task,
                   const char *site, void *const *frames, uint32_t frame_count);
/* It has moved; left_ns as in the view. */
void weir_view_move(struct weir_view *view, enum weir_state state, uint64_t left_ns);
void weir_view_clear(struct weir_view *view);

/* --- any thread ------------------------------------------------------------------------------- */

/* The task and what else a list has no place for. */
struct weir_seen {
    const struct weir_task *task;
    uint64_t left_ns; /* 0: at the gate */
    uint8_t kind;
};

/* False: it is nobody's. ret_seen may be NULL. */
bool weir_view_read(const struct weir_view *view, uint64_t now_ns, struct weir_live *ret_live,
                    struct weir_seen *ret_seen);

/* What a list says of an op that is the engine's: the loop's thread. */
void weir_live_describe(const struct weir_op *op, const struct weir_task *task, const char *site,
                        uint64_t now_ns, struct weir_live *ret_live);

/* Adds to a list of at most `max`; of more the oldest are kept. `count`: added before. */
void weir_live_add(struct weir_live *list, size_t max, size_t count, const struct weir_live *live);
/* Then, oldest first. */
void weir_live_sort(struct weir_live *list, size_t count);

#endif
