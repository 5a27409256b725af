/* SPDX-License-Identifier: MIT */
#include <engine/observe/tell.h>
#include <execinfo.h>

#define OWN_FRAMES 2 /* take_frames() and weir_tell_submitted() */

static struct weir_view *view_of(const struct weir_tell *tell, const struct weir_op *op)
{
    bool has_slot = op->slot && !weir_op_is_timer(op); /* a timer's is of an earlier life */
    return tell->views && has_slot ? &tell->views[weir_slots_index(tell->slots, op->slot)] : NULL;
}

static void note(struct weir_tell *tell, enum weir_recorded what, const struct weir_op *op,
                 const struct weir_task *task, int64_t value, uint64_t at_ns)
{
    if (tell->recorder.records) {
        weir_recorder_note(&tell->recorder, what, op, weir_task_index(task), value, at_ns);
    }
}

/* Counts down to the next op of which the stack is kept. */
static bool is_next(uint32_t every, uint32_t *left)
{
    if (every == 0) {
        return false;
    }
    bool next = *left == 0;
    *left = next ? every - 1 : *left - 1;
    return next;
}

static __attribute__((noinline)) uint32_t take_frames(void **ret_frames)
{
    void *frames[WEIR_FRAMES_MAX + OWN_FRAMES];
    int count = backtrace(frames, WEIR_FRAMES_MAX + OWN_FRAMES) - OWN_FRAMES;
    for (int i = 0; i < count; i++) {
        ret_frames[i] = frames[i + OWN_FRAMES];
    }
    return count > 0 ? (uint32_t)count : 0;
}

void weir_tell_prepare_backtraces(void)
{
    void *frame;
    backtrace(&frame, 1);
}

static void show(struct weir_tell *tell, struct weir_view *view, const struct weir_op *op,
                 struct weir_task *task, const char *site)
{
    void *frames[WEIR_FRAMES_MAX];
    bool loop_wants = is_next(tell->backtrace_every, &tell->backtrace_left);
    bool task_wants = is_next(task->backtrace_every, &task->backtrace_left);
    uint32_t count = loop_wants || task_wants ? take_frames(frames) : 0;
    weir_view_set(view, op, task, site, frames, count);
}

void weir_tell_submitted(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                         const char *site, uint64_t at_ns)
{
    struct weir_view *view = view_of(tell, op);
    if (view) {
        show(tell, view, op, task, site);
    }
    note(tell, WEIR_RECORDED_SUBMITTED, op, task, 0, at_ns);
    if (tell->observer && tell->observer->submitted) {
        tell->observer->submitted(tell->observer->context, op, at_ns);
    }
}

void weir_tell_left(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                    uint64_t at_ns)
{
    struct weir_view *view = view_of(tell, op);
    if (view) {
        weir_view_move(view, WEIR_IN_FLIGHT, at_ns);
    }
    note(tell, WEIR_RECORDED_LEFT, op, task, 0, at_ns);
    if (tell->observer && tell->observer->left) {
        tell->observer->left(tell->observer->context, op, at_ns);
    }
}

void weir_tell_done(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                    int64_t result, uint64_t at_ns)
{
    struct weir_view *view = view_of(tell, op);
    if (view) {
        weir_view_move(view, WEIR_DONE, view->words.left_ns);
    }
    note(tell, WEIR_RECORDED_DONE, op, task, result, at_ns);
    if (tell->observer && tell->observer->done) {
        tell->observer->done(tell->observer->context, op, result, at_ns);
    }
}

void weir_tell_handed_back(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                           uint64_t at_ns)
{
    struct weir_view *view = view_of(tell, op);
    if (view) {
        weir_view_clear(view);
    }
    note(tell, WEIR_RECORDED_HANDED_BACK, op, task, op->result, at_ns);
    if (tell->observer && tell->observer->handed_back) {
        tell->observer->handed_back(tell->observer->context, op, at_ns);
    }
}

void weir_tell_refused(struct weir_tell *tell, const struct weir_op *op, struct weir_task *task,
                       int error, uint64_t at_ns)
{
    note(tell, WEIR_RECORDED_REFUSED, op, task, error, at_ns);
    if (tell->observer && tell->observer->refused) {
        tell->observer->refused(tell->observer->context, op, error);
    }
}
