/* SPDX-License-Identifier: MIT */
/*
 * close.c: ending a loop: stop intake, cancel all, drain until the deadline, then tear down, or say
 * what is still out. Invariant: nothing is torn down while an op is live.
 */
#include <engine/loop/loop.h>
#include <time.h>

#define POINT_MAX UINT64_MAX

static uint64_t deadline_of(const struct weir_loop *loop, int64_t wait_ns)
{
    return wait_ns < 0 ? POINT_MAX : weir_loop_exact(loop) + (uint64_t)wait_ns;
}

/* Stops intake and asks for everything that is live. Again harmless. */
static void begin(struct weir_loop *loop)
{
    loop->closing = true;
    if (loop->failed == 0) {
        weir_loop_refuse(loop, -ESHUTDOWN);
    }
    weir_loop_take_posts(loop); /* closing: they are asked back */
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        struct weir_op *op = weir_slots_op(&loop->slots, i);
        if (op) {
            weir_loop_ask(loop, op, WEIR_ASKED_CLOSE);
        }
    }
    while (loop->heap.count > 0) {
        struct weir_op *op = loop->heap.entries[loop->heap.count].op;
        if (weir_op_is_timer(op)) {
            weir_loop_ask(loop, op, WEIR_ASKED_CLOSE);
        } else {
            weir_heap_remove(&loop->heap, op); /* a deadline: no longer of use */
        }
    }
}

/* Oldest first. Shell's sort: in place, for a list that is short when it matters. */
static void sort_report(struct weir_live *ops, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < count; i++) {
            struct weir_live moving = ops[i];
            size_t at = i;
            for (; at >= gap && ops[at - gap].age_ns < moving.age_ns; at -= gap) {
                ops[at] = ops[at - gap];
            }
            ops[at] = moving;
        }
    }
}

/* Names what is live. Only ops with slots can be: timers come back when asked. */
static void fill_report(struct weir_loop *loop, struct weir_report *ret_report)
{
    static const char *const states[] = {
        [WEIR_WITH_CALLER] = "with caller",
        [WEIR_AT_GATE] = "at gate",
        [WEIR_IN_FLIGHT] = "in flight",
        [WEIR_DONE] = "done",
    };
    if (!ret_report) {
        return;
    }
    uint64_t now_ns = weir_loop_exact(loop);
    size_t count = 0;
    for (uint32_t i = 0; i < loop->slots.count; i++) {
        const struct weir_slot *slot = &loop->slots.slots[i];
        if (weir_slots_is_free(&loop->slots, slot)) {
            continue;
        }
        bool bytes = weir_kind_traits(slot->op->kind) & WEIR_KIND_BYTES;
        loop->report[count++] = (struct weir_live){
            .op = slot->op,
            .task = slot->task->name,
            .kind = weir_kind_name(slot->op->kind),
            .state = states[slot->op->state],
            .site = slot->site,
            .fd = loop->slots.fds[i],
            .offset = bytes ? slot->op->arg.io.offset : 0,
            .length = bytes ? slot->op->arg.io.length : 0,
            .age_ns = now_ns > slot->op->born_ns ? now_ns - slot->op->born_ns : 0,
        };
    }
    sort_report(loop->report, count);
    ret_report->ops = loop->report;
    ret_report->count = count;
}

/* A failed loop has no turns to sleep in: its running calls are awaited by looking. True: look
 * again. */
static bool awaits_calls(struct weir_loop *loop, uint64_t until_ns)
{
    bool running = false;
    for (uint32_t i = 0; i < loop->slots.count && !running && loop->offload; i++) {
        const struct weir_op *op = weir_slots_op(&loop->slots, i);
        running = op && op->with == WEIR_CARRIER_OFFLOAD;
    }
    if (!running || weir_loop_exact(loop) >= until_ns) {
        return false;
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

static int drain(struct weir_loop *loop, uint64_t until_ns)
{
    while (weir_loop_count_live(loop) > 0 || weir_loop_has_rooms(loop)) {
        int r = weir_loop_turn_once(loop, until_ns);
        if (r < 0) {
            return r;
        }
        bool over = loop->failed ? !loop->early.head && !awaits_calls(loop, until_ns)
                                 : r == 0 && weir_loop_exact(loop) >= until_ns;
        if (over && weir_loop_count_live(loop) > 0) {
            return loop->failed ? loop->failed : -ETIMEDOUT;
        }
    }
    return loop->failed;
}

static void tear_down(struct weir_loop *loop)
{
    weir_loop_forget_marks(loop);
    weir_loop_close_foreign(loop);
    if (loop->offload) {
        weir_offload_close(loop->offload); /* first: a worker may be about to wake the loop */
    }
    loop->backend->table->close(loop->backend, false);
    weir_loop_free(loop);
}

/* In a child the loop is the parent's: only the child's copies of the fds go. The arena stays
 * mapped, so that further calls still answer. */
static int close_forked(struct weir_loop *loop)
{
    if (!loop->closing) {
        loop->closing = true;
        weir_loop_close_foreign(loop);
        loop->backend->table->close(loop->backend, true);
    }
    return -ECHILD;
}

static bool is_owner(const struct weir_loop *loop)
{
    return loop->unowned || weir_guard_owner(loop->guard) == weir_thread_self();
}

int weir_loop_close(struct weir_loop *loop, int64_t wait_ns, struct weir_report *ret_report)
{
    if (ret_report) {
        *ret_report = (struct weir_report){0};
    }
    if (!loop) {
        return 0;
    }
    if (weir_guard_forked(loop->guard)) {
        return close_forked(loop);
    }
    if (!is_owner(loop)) {
        return -EPERM;
    }
    if (loop->in_turn) {
        return -EBUSY;
    }
    if (loop->unowned) { /* never adopted: nothing was ever submitted */
        tear_down(loop);
        return 0;
    }
    loop->closed = NULL; /* this call takes over from weir_loop_close_begin() */
    begin(loop);
    uint64_t until_ns = deadline_of(loop, wait_ns);
    int r = drain(loop, until_ns);
    if (loop->failed) {
        begin(loop); /* it failed while draining: withdraw what never left */
        r = drain(loop, until_ns);
    }
    if (r < 0) {
        fill_report(loop, ret_report);
        return r;
    }
    tear_down(loop);
    return 0;
}

int weir_loop_close_begin(struct weir_loop *loop, int64_t wait_ns, weir_closed_callback *callback)
{
    int r = weir_loop_check(loop);
    if (r < 0) {
        return r;
    }
    if (!callback) {
        return -EINVAL;
    }
    if (loop->failed) {
        return loop->failed;
    }
    if (loop->closing) {
        return -EALREADY;
    }
    loop->closed = callback;
    loop->close_ns = deadline_of(loop, wait_ns);
    begin(loop);
    if (loop->epoll_fd >= 0 && !loop->in_turn) {
        weir_loop_arm_foreign(loop);
    }
    return 0;
}

void weir_loop_step_closing(struct weir_loop *loop)
{
    weir_closed_callback *callback = loop->closed;
    if (!callback || loop->backend->dead != 0) { /* a machine that has stopped calls nobody */
        return;
    }
    bool late = loop->close_ns != POINT_MAX && weir_loop_exact(loop) >= loop->close_ns;
    if (weir_loop_count_live(loop) > 0 && !late) {
        return;
    }
    int result = weir_loop_count_live(loop) > 0 ? -ETIMEDOUT : 0;
    loop->closed = NULL;
    loop->in_turn = true; /* a callback like any other: no turn, run or close inside */
    callback(loop, result);
    loop->in_turn = false;
}

/* Nothing of it is with a kernel or a worker. After a crash all goes; else the loop itself stays,
 * as it does elsewhere, to answer -EPERM. */
static int leave_world(struct weir_loop *loop)
{
    bool dead = loop->backend->dead != 0;
    loop->backend->table->close(loop->backend, false);
    loop->backend = NULL;
    weir_guard_set(loop->guard, &weir_thread_nobody);
    if (dead) {
        weir_loop_free(loop);
    }
    return 0;
}

int weir_loop_abandon(struct weir_loop *loop)
{
    if (!loop) {
        return 0;
    }
    if (weir_guard_forked(loop->guard)) {
        return -ECHILD;
    }
    if (!is_owner(loop)) {
        return -EPERM;
    }
    if (loop->in_turn) {
        return -EBUSY;
    }
    weir_loop_forget_marks(loop);
    if (loop->backend->table->carries_calls) {
        return leave_world(loop);
    }
    /* Leaked on purpose: the kernel may write to ring and buffers, and a worker to the wake fd, at
     * any time. */
    if (loop->offload) {
        weir_offload_abandon(loop->offload);
    }
    loop->unowned = false;
    weir_guard_set(loop->guard, &weir_thread_nobody); /* every call answers -EPERM */
    return 0;
}
