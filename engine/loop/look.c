/* SPDX-License-Identifier: MIT */
/*
 * look.c: what one may see of a loop while it runs: its live ops, its numbers for other threads,
 * its pulse; and who is attached to it. Changes nothing of what the loop does.
 */
#include <engine/loop/loop.h>
#include <engine/observe/look.h>

#define RECORDS_LINE 64ULL

static uint64_t aligned(uint64_t size)
{
    return (size + RECORDS_LINE - 1) & ~(RECORDS_LINE - 1);
}

/* --- who is told ------------------------------------------------------------------------------ */

static uint64_t views_size(const struct weir_options *options, uint32_t slots)
{
    return options->flags & WEIR_INSPECTABLE ? aligned(slots * sizeof(struct weir_view)) : 0;
}

uint64_t weir_loop_observe_size(const struct weir_options *options, uint32_t slots)
{
    return views_size(options, slots) + aligned(weir_recorder_size(options->recorder_events));
}

void weir_loop_observe(struct weir_loop *loop, const struct weir_options *options, void *memory)
{
    struct weir_tell *tell = &loop->tell;
    loop->inspectable = options->flags & WEIR_INSPECTABLE;
    tell->slots = &loop->slots;
    tell->observer = options->observer;
    tell->backtrace_every = options->backtrace_every;
    if (loop->inspectable) {
        tell->views = memory;
        weir_tell_prepare_backtraces();
    }
    if (options->recorder_events != 0) {
        weir_recorder_init(&tell->recorder, options->recorder_events,
                           (char *)memory + views_size(options, loop->slots.count));
    }
    tell->any = loop->inspectable || tell->observer || tell->recorder.records;
    loop->governs |= tell->any ? WEIR_OBSERVED : 0;
    weir_loop_show_left(loop); /* before the first turn: nothing, and the gates as opened */
}

/* --- live ops --------------------------------------------------------------------------------- */

struct weir_list {
    struct weir_live *ops;
    size_t max;
    size_t count;
};

static void add(struct weir_list *list, const struct weir_live *live)
{
    weir_live_add(list->ops, list->max, list->count, live);
    list->count++;
}

static size_t finish(struct weir_list *list)
{
    weir_live_sort(list->ops, list->count < list->max ? list->count : list->max);
    return list->count;
}

/* Those that have no place yet. */
static void list_posted(const struct weir_loop *loop, const struct weir_gate *gate, uint64_t now_ns,
                        struct weir_list *list)
{
    for (const struct weir_flow *flow = gate->lines[WEIR_LINE_POSTED].head; flow;
         flow = flow->links[WEIR_LINE_POSTED].next) {
        for (const struct weir_op *op = flow->lines[WEIR_LINE_POSTED].head; op;
             op = op->held.link.next) {
            struct weir_live live;
            const struct weir_task *task = op->task ? op->task : loop->tasks.of_kind[op->kind];
            weir_live_describe(op, task, op->site, now_ns, &live);
            add(list, &live);
        }
    }
}

size_t weir_loop_list(const struct weir_loop *loop, struct weir_live *ret_ops, size_t max)
{
    struct weir_list list = {.ops = ret_ops, .max = max};
    uint64_t now_ns = weir_loop_exact(loop);
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        const struct weir_slot *slot = &loop->slots.slots[i];
        struct weir_live live;
        struct weir_live viewed;
        if (weir_slots_is_free(&loop->slots, slot)) {
            continue;
        }
        weir_live_describe(slot->op, slot->task, slot->site, now_ns, &live);
        if (loop->tell.views && weir_view_read(&loop->tell.views[i], now_ns, &viewed, NULL)) {
            live.frame_count = viewed.frame_count;
            memcpy(live.frames, viewed.frames, sizeof live.frames);
        }
        add(&list, &live);
    }
    list_posted(loop, &loop->gate, now_ns, &list);
    list_posted(loop, &loop->offload_gate, now_ns, &list);
    return finish(&list);
}

/* The same by the views alone. */
static size_t list_views(const struct weir_loop *loop, struct weir_live *ret_ops, size_t max)
{
    struct weir_list list = {.ops = ret_ops, .max = max};
    uint64_t now_ns = weir_loop_exact(loop);
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        struct weir_live live;
        if (weir_view_read(&loop->tell.views[i], now_ns, &live, NULL)) {
            add(&list, &live);
        }
    }
    return finish(&list);
}

/* 0: the loop's thread; 1: another one; or why not. */
static int from_where(const struct weir_loop *loop)
{
    int r = weir_loop_check(loop);
    if (r != -EPERM || weir_loop_is_abandoned(loop)) {
        return r;
    }
    r = weir_loop_check_thread(loop);
    return r < 0 ? r : 1;
}

int64_t weir_loop_inspect(const struct weir_loop *loop, struct weir_live *ret_ops, size_t max)
{
    int r = from_where(loop);
    if (r < 0) {
        return r;
    }
    if (!ret_ops && max > 0) {
        return -EINVAL;
    }
    if (r == 1 && !loop->inspectable) {
        return -EPERM;
    }
    return (int64_t)(r == 1 ? list_views(loop, ret_ops, max) : weir_loop_list(loop, ret_ops, max));
}

bool weir_loop_see(const struct weir_loop *loop, uint32_t index, struct weir_live *ret_live,
                   struct weir_seen *ret_seen)
{
    return loop->inspectable &&
           weir_view_read(&loop->tell.views[index], weir_loop_exact(loop), ret_live, ret_seen);
}

uint32_t weir_loop_places(const struct weir_loop *loop)
{
    return loop->inspectable ? loop->slots.count : 0;
}

int weir_loop_trace(const struct weir_loop *loop, weir_writer *writer, void *context)
{
    int r = from_where(loop);
    if (r < 0) {
        return r;
    }
    if (!writer) {
        return -EINVAL;
    }
    if (!loop->tell.recorder.records) {
        return -ENODATA;
    }
    return weir_recorder_dump(&loop->tell.recorder, &loop->tasks, weir_loop_exact(loop), writer,
                              context);
}

/* --- numbers ---------------------------------------------------------------------------------- */

struct weir_gate_state weir_loop_describe_gate(const struct weir_gate *gate)
{
    const struct weir_steer *steer = &gate->steer;
    return (struct weir_gate_state){
        .depth = gate->depth,
        .depth_max = gate->depth_max,
        .reason = steer->reason,
        .task = steer->task,
        .in_flight = weir_gate_in_flight(gate),
        .waiting = gate->unadmitted,
        .places = gate->places,
        .reserved = gate->reserved,
        .bytes_in_flight = gate->bytes_in_flight,
        .bytes_max = gate->bytes_max,
        .lowered = steer->lowered,
        .raised = steer->raised,
        .throttled_ns = steer->throttled_ns,
    };
}

#define PUBLISHED_WORDS                                                                            \
    ((sizeof(struct weir_published) - offsetof(struct weir_published, counters)) / sizeof(uint64_t))
_Static_assert(sizeof(struct weir_counters) % sizeof(uint64_t) == 0 &&
                   sizeof(struct weir_gate_state) % sizeof(uint64_t) == 0,
               "what is published is copied word by word");

static void copy_published(struct weir_published *into, const struct weir_published *from)
{
    uint64_t *to = (uint64_t *)(void *)&into->counters;
    const uint64_t *word = (const uint64_t *)(const void *)&from->counters;
    for (size_t i = 0; i < PUBLISHED_WORDS; i++) {
        weir_relaxed_store(&to[i], weir_relaxed_load(&word[i]));
    }
}

static void count(const struct weir_loop *loop, struct weir_published *ret_now)
{
    ret_now->gates[WEIR_GATE_MAIN] = weir_loop_describe_gate(&loop->gate);
    ret_now->gates[WEIR_GATE_OFFLOAD] = weir_loop_describe_gate(&loop->offload_gate);
    ret_now->counters = loop->counters;
    struct weir_counters *counters = &ret_now->counters;
    counters->finished = weir_tasks_finished(&loop->tasks);
    counters->submitted = counters->finished + weir_loop_count_live(loop);
    counters->in_flight = ret_now->gates[WEIR_GATE_MAIN].in_flight;
    counters->waiting = ret_now->gates[WEIR_GATE_MAIN].waiting;
    counters->offload_in_flight = ret_now->gates[WEIR_GATE_OFFLOAD].in_flight;
    counters->offload_waiting = ret_now->gates[WEIR_GATE_OFFLOAD].waiting;
    counters->timers = loop->timers;
    counters->posts = __atomic_load_n(&loop->posts_accepted, __ATOMIC_RELAXED);
    counters->posts_refused = __atomic_load_n(&loop->posts_refused, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < WEIR_GATE_COUNT; i++) {
        ret_now->gates[i].task = NULL; /* it may be closed by the time somebody reads this */
    }
}

static void publish(struct weir_loop *loop)
{
    struct weir_published *published = &loop->published;
    struct weir_published now;
    count(loop, &now);
    weir_relaxed_store(&published->sequence, published->sequence + 1);
    /* A reader that sees any word of the change sees that the sequence has moved. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    copy_published(published, &now);
    __atomic_store_n(&published->sequence, published->sequence + 1, __ATOMIC_RELEASE);
}

static void read_published(const struct weir_published *published, struct weir_published *ret_now)
{
    uint64_t before;
    do {
        before = __atomic_load_n(&published->sequence, __ATOMIC_ACQUIRE);
        copy_published(ret_now, published);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (before % 2 != 0 || before != weir_relaxed_load(&published->sequence));
}

int weir_loop_look(const struct weir_loop *loop, struct weir_look *ret_look)
{
    int r = from_where(loop);
    if (r < 0) {
        return r;
    }
    if (!ret_look) {
        return -EINVAL;
    }
    struct weir_published now;
    bool own = r == 0;
    if (own) {
        count(loop, &now);
    } else if (loop->inspectable) {
        read_published(&loop->published, &now);
    } else {
        memset(&now, 0, sizeof now);
    }
    *ret_look = (struct weir_look){
        .facts = &loop->facts,
        .tasks = &loop->tasks,
        .turns = &loop->pulse.turns,
        .callbacks = &loop->pulse.callbacks,
        .has_state = own || loop->inspectable,
        .counters = now.counters,
        .gates = {now.gates[WEIR_GATE_MAIN], now.gates[WEIR_GATE_OFFLOAD]},
    };
    weir_pulse_copy_seen(&loop->pulse, &ret_look->seen);
    return 0;
}

/* --- pulse ------------------------------------------------------------------------------------ */

struct weir_pulse *weir_loop_pulse(struct weir_loop *loop)
{
    return &loop->pulse;
}

void weir_loop_beat(struct weir_loop *loop, enum weir_phase phase, uint64_t since_ns,
                    const struct weir_op *op)
{
    struct weir_beat beat = {.phase = phase, .since_ns = since_ns};
    if (op) {
        beat.callback = (uint64_t)(uintptr_t)op->callback;
        beat.kind_and_fd = (uint64_t)op->kind << 32 | (uint32_t)op->fd;
        beat.task =
            op->slot && !weir_op_is_timer(op) ? op->slot->task : weir_loop_task_of(loop, op);
        beat.site = op->slot && !weir_op_is_timer(op) ? op->slot->site : NULL;
    }
    weir_pulse_beat(&loop->pulse, &beat);
}

void weir_loop_show_turn(struct weir_loop *loop)
{
    if (loop->pulse.kept) {
        weir_loop_stamp(loop);
        loop->pulse.begun_ns = loop->stamp_ns;
        loop->pulse.asleep_ns = 0;
        weir_loop_beat(loop, WEIR_PHASE_TURN, loop->stamp_ns, NULL);
    }
}

/* What callbacks have submitted is in flight now, and what waits now waits for others: that is what
 * is to be seen while the loop sleeps, or is stuck in one of this turn's callbacks. */
void weir_loop_show_left(struct weir_loop *loop)
{
    if (loop->inspectable) {
        publish(loop);
    }
}

void weir_loop_show_sleep(struct weir_loop *loop)
{
    if (loop->pulse.kept) {
        weir_loop_stamp(loop);
        loop->pulse.asleep_ns = loop->stamp_ns;
        weir_loop_beat(loop, WEIR_PHASE_ASLEEP, loop->stamp_ns, NULL);
    }
}

void weir_loop_show_awake(struct weir_loop *loop)
{
    struct weir_pulse *pulse = &loop->pulse;
    if (pulse->asleep_ns != 0) {
        pulse->begun_ns += loop->stamp_ns - pulse->asleep_ns;
        pulse->asleep_ns = 0;
        weir_loop_beat(loop, WEIR_PHASE_TURN, loop->stamp_ns, NULL);
    }
}

void weir_loop_show_end(struct weir_loop *loop)
{
    struct weir_pulse *pulse = &loop->pulse;
    if (loop->inspectable) {
        publish(loop);
    }
    if (!pulse->kept) {
        return;
    }
    weir_loop_stamp(loop);
    weir_loop_show_awake(loop); /* a turn that failed has not been there */
    /* A loop that was watched in the middle of this turn has not seen its beginning. */
    if (pulse->begun_ns != 0) {
        weir_histogram_add(&pulse->turns, loop->stamp_ns - pulse->begun_ns, 1);
        pulse->begun_ns = 0;
    }
    weir_loop_beat(loop, WEIR_PHASE_OUTSIDE, loop->stamp_ns, NULL);
}

/* --- who is attached -------------------------------------------------------------------------- */

int weir_loop_attach(struct weir_loop *loop, struct weir_attachment *attachment)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (loop->backend->table->carries_calls) {
        return -EOPNOTSUPP;
    }
    attachment->next = loop->attachments;
    loop->attachments = attachment;
    return 0;
}

int weir_loop_detach(struct weir_loop *loop, struct weir_attachment *attachment)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    struct weir_attachment **at = &loop->attachments;
    while (*at && *at != attachment) {
        at = &(*at)->next;
    }
    if (!*at) {
        return -ENOENT;
    }
    *at = attachment->next;
    return 0;
}

void weir_loop_detach_all(struct weir_loop *loop)
{
    while (loop->attachments) {
        struct weir_attachment *attachment = loop->attachments;
        loop->attachments = attachment->next;
        attachment->detached(attachment);
    }
}
