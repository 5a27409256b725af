/* SPDX-License-Identifier: MIT */
/*
 * handback.c: the end of an op: recorded under its task, slot and credits freed, WITH_CALLER, and
 * then its callback as the last touch. Most ops are plain and take the short way.
 */
#include <engine/loop/loop.h>
#include <unistd.h>

#define CALLBACKS_A_STAMP 16

static inline uint64_t since(struct weir_loop *loop, uint64_t from_ns, uint64_t to_ns)
{
    if (weir_likely(from_ns <= to_ns)) {
        return to_ns - from_ns;
    }
    loop->counters.clock_clamped++;
    return 0;
}

/* A timer has not waited; it is late by what passed since it was due. */
static void record_timer(struct weir_loop *loop, const struct weir_op *op, struct weir_task *task)
{
    uint64_t due_ns = op->arg.timeout.at_ns;
    struct weir_sample sample = {
        .stages =
            {
                [WEIR_STAGE_FLIGHT] = loop->done_ns > due_ns ? loop->done_ns - due_ns : 0,
                [WEIR_STAGE_DELIVERY] = loop->stamp_ns - loop->done_ns,
                [WEIR_STAGE_TOTAL] = loop->stamp_ns > due_ns ? loop->stamp_ns - due_ns : 0,
            },
    };
    weir_task_record_timer(task, &sample);
}

static void record_transit(struct weir_loop *loop, const struct weir_op *op, struct weir_task *task,
                           uint64_t from_ns, int64_t result)
{
    uint64_t left_ns = op->left_ns;
    if (!weir_task_run_on(task, from_ns, left_ns)) {
        uint64_t *stages = weir_task_begin_run(task, from_ns, left_ns)->stages;
        stages[WEIR_STAGE_WAIT] = since(loop, from_ns, left_ns);
        stages[WEIR_STAGE_FLIGHT] = since(loop, left_ns, loop->done_ns);
        stages[WEIR_STAGE_DELIVERY] = loop->stamp_ns - loop->done_ns;
        stages[WEIR_STAGE_TOTAL] = since(loop, from_ns, loop->stamp_ns);
    }
    if (weir_op_is_transfer(op) && result > 0) {
        task->run_bytes += (uint64_t)result;
    }
}

static __attribute__((noinline)) void count_error(struct weir_task *task, const struct weir_op *op,
                                                  int64_t result)
{
    if (result == -ECANCELED) {
        weir_relaxed_add(&task->counters.cancelled, 1);
    } else if (result == -ETIME) {
        weir_relaxed_add(&task->counters.expired, 1);
    } else {
        weir_relaxed_add(&task->counters.failed, 1);
        weir_task_count_error(task, result);
    }
    if (op->flags & WEIR_WHOLE) {
        weir_relaxed_add(&task->counters.bytes, op->moved);
    }
}

/* What was cancelled, or never left, is counted and not sampled. True: that is all. */
static inline bool count_only(const struct weir_op *op, struct weir_task *task, int64_t result)
{
    if (weir_likely(result >= 0)) {
        return false;
    }
    count_error(task, op, result);
    if (result != -ECANCELED && op->with != WEIR_CARRIER_NOBODY) {
        return false;
    }
    weir_relaxed_add(&task->counters.finished, 1);
    return true;
}

static inline void record(struct weir_loop *loop, const struct weir_op *op, struct weir_task *task,
                          int64_t result)
{
    if (weir_likely(!count_only(op, task, result))) {
        uint64_t from_ns = op->intended_ns != 0 ? op->intended_ns : op->born_ns;
        record_transit(loop, op, task, from_ns, result);
    }
}

/* The two parts of a flight that a worker has noted. */
static void record_work(struct weir_loop *loop, const struct weir_op *op, struct weir_task *task,
                        int64_t result)
{
    struct weir_work work = {.begun_ns = op->left_ns, .run_ns = op->bytes};
    if (op->slot) {
        struct weir_work *noted = &loop->slots.work[weir_slots_index(&loop->slots, op->slot)];
        work = *noted;
        *noted = (struct weir_work){0};
    } else if (op->with != WEIR_CARRIER_CALLER) {
        return;
    }
    if (work.begun_ns != 0 && result != -ECANCELED &&
        result != -ETIME) { /* else it may not have run */
        uint64_t queue_ns = work.begun_ns > op->left_ns ? work.begun_ns - op->left_ns : 0;
        weir_histogram_add(&task->stages[WEIR_STAGE_QUEUE], queue_ns, 1);
        weir_histogram_add(&task->stages[WEIR_STAGE_RUN], work.run_ns, 1);
    }
}

/* What a goal hears: nothing of what was cancelled, nor of kinds that wait for others, as CLOSE may
 * for the ops on its fd. */
static void tell_goals(struct weir_loop *loop, struct weir_gate *gate, struct weir_flow *flow,
                       const struct weir_op *op, int64_t result)
{
    bool sampled = weir_op_has_credit(op) && result != -ECANCELED && op->kind != WEIR_KIND_CLOSE;
    if (sampled && !(weir_kind_traits(op->kind) & WEIR_KIND_WAITS)) {
        gate->steer.moved_ns = loop->done_ns;
        uint64_t flight_ns = loop->done_ns > op->left_ns ? loop->done_ns - op->left_ns : 0;
        weir_steer_add(&gate->steer, &gate->steer.of_loop, op->left_ns, flight_ns);
        weir_steer_add(&gate->steer, &flow->goal, op->left_ns, flight_ns);
    }
}

/* An op that failed, was asked for or tried again, has a deadline, has no credit or was a worker's;
 * or a timer. */
static void leave_odd(struct weir_loop *loop, const struct weir_event *event)
{
    struct weir_op *op = event->op;
    WEIR_CHECK(op->state == WEIR_DONE);
    if (weir_op_is_timer(op) && op->with == WEIR_CARRIER_TIMER) {
        struct weir_task *task = weir_loop_task_of(loop, op);
        if (!count_only(op, task, event->result)) {
            record_timer(loop, op, task);
        }
        loop->timers--;
        return;
    }
    if (!op->slot) {
        struct weir_task *task = weir_loop_task_of(loop, op);
        record(loop, op, task, event->result);
        record_work(loop, op, task, event->result);
        loop->slotless--;
        return;
    }
    struct weir_task *task = op->slot->task;
    struct weir_gate *gate = weir_loop_gate_of(loop, op);
    struct weir_flow *flow = weir_gate_flow(gate, task);
    record(loop, op, task, event->result);
    record_work(loop, op, task, event->result);
    if (gate->steer.goals) {
        tell_goals(loop, gate, flow, op, event->result);
    }
    bool governed = op->governed;
    weir_gate_release(gate, flow, op);
    if (governed) {
        weir_loop_set_plain(loop);
    }
    weir_slots_free(&loop->slots, op->slot);
    if (op->heap_index != 0) {
        weir_heap_remove(&loop->heap, op);
    }
    if (weir_kind_traits(op->kind) & WEIR_KIND_OWN_FD && op->fd >= 0) {
        loop->backend->table->forget(loop->backend, op->fd);
        close(op->fd);
        op->fd = -1;
    }
    op->asked_back = 0;
}

/* The task that an op was submitted with. */
static struct weir_task *task_of_event(struct weir_loop *loop, const struct weir_op *op)
{
    bool has_slot = op->slot && !weir_op_is_timer(op);
    return has_slot ? op->slot->task : weir_loop_task_of(loop, op);
}

/* True: it was the last of its op. */
static __attribute__((noinline)) bool hand_back_odd(struct weir_loop *loop,
                                                    struct weir_event *event)
{
    struct weir_op *op = event->op;
    op->more = (uint8_t)event->more;
    op->result = event->result; /* not what stands there: an earlier event may have had its own */
    if (event->more != WEIR_LAST) {
        event->more = WEIR_LAST;
        return false;
    }
    if (weir_unlikely(loop->tell.any)) {
        weir_tell_handed_back(&loop->tell, op, task_of_event(loop, op), loop->stamp_ns);
    }
    leave_odd(loop, event);
    op->deadline_ns = 0;
    op->intended_ns = 0;
    return true;
}

static inline void hand_back(struct weir_loop *loop, struct weir_event *event)
{
    struct weir_op *op = event->op;
    if (weir_likely(weir_op_stand(op) == weir_op_plain_stand(WEIR_DONE))) {
        struct weir_slot *slot = op->slot;
        record_transit(loop, op, slot->task, op->born_ns, op->result);
        loop->gate.live--;
        weir_slots_free(&loop->slots, slot);
    } else if (!hand_back_odd(loop, event)) {
        op->callback(op);
        return;
    }
    weir_op_set_stand(op, 0); /* WITH_CALLER */
    WEIR_PROBE_HAND_BACK(op, op->result);
    op->callback(op);
}

static inline __attribute__((always_inline)) void hand_back_all(struct weir_loop *loop,
                                                                uint32_t count)
{
    struct weir_event *event = loop->events;
    struct weir_event *end = event + count;
    while (event != end && loop->backend->dead == 0) {
        loop->call_until = end - event > CALLBACKS_A_STAMP ? event + CALLBACKS_A_STAMP : end;
        do {
            hand_back(loop, event++);
        } while (weir_likely(event < loop->call_until));
        if (event != end) {
            weir_loop_stamp(loop);
        }
        weir_tasks_flush(&loop->tasks); /* a run's durations are of one reading */
    }
}

/* The same, showing whose callback runs, and how long each took. */
static void hand_back_watched(struct weir_loop *loop, uint32_t count)
{
    for (uint32_t i = 0; i < count && loop->backend->dead == 0; i++) {
        uint64_t begun_ns = loop->stamp_ns;
        weir_loop_beat(loop, WEIR_PHASE_CALLBACK, begun_ns, loop->events[i].op);
        hand_back(loop, &loop->events[i]);
        weir_tasks_flush(&loop->tasks);
        weir_loop_stamp(loop);
        weir_histogram_add(&loop->pulse.callbacks, loop->stamp_ns - begun_ns, 1);
    }
    weir_loop_beat(loop, WEIR_PHASE_TURN, loop->stamp_ns, NULL);
}

static void tell_done(struct weir_loop *loop, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct weir_event *event = &loop->events[i];
        if (event->more == WEIR_LAST) {
            weir_tell_done(&loop->tell, event->op, task_of_event(loop, event->op), event->result,
                           loop->done_ns);
        }
    }
}

/* A turn's events, one batch of them. */
static inline void hand_back_batch(struct weir_loop *loop, uint32_t count)
{
    if (weir_unlikely(loop->tell.any)) {
        tell_done(loop, count);
    }
    if (weir_unlikely(loop->pulse.kept)) {
        hand_back_watched(loop, count);
    } else {
        hand_back_all(loop, count);
    }
}

/* What stands on the early list up to `last`, by the same array. The number called. */
static __attribute__((noinline)) uint32_t hand_back_early(struct weir_loop *loop,
                                                          const struct weir_op *last)
{
    uint32_t called = 0;
    while (last && loop->backend->dead == 0) {
        uint32_t count = 0;
        weir_loop_stamp(loop);
        for (; last && count < loop->events_max; count++) {
            struct weir_op *op = weir_queue_pop(&loop->early);
            loop->events[count] = (struct weir_event){.op = op, .result = op->result};
            last = op == last ? NULL : last;
        }
        hand_back_batch(loop, count);
        called += count;
    }
    return called;
}

uint32_t weir_loop_hand_back(struct weir_loop *loop, uint32_t count)
{
    const struct weir_op *last = loop->early.tail; /* callbacks push behind it */
    hand_back_batch(loop, count);
    return weir_likely(!last) ? count : count + hand_back_early(loop, last);
}
