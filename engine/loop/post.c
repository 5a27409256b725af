/* SPDX-License-Identifier: MIT */
/*
 * post.c: ops from other threads. A poster pushes onto the inbox, a list that the loop takes whole
 * and turns round; from there a post stands in line for a place at its gate, behind those of its
 * task, or among the timers.
 *
 * Invariant: `posts` counts from before the push until the post has a place or is asked back, so
 * what was accepted is always counted somewhere.
 */
#include <engine/loop/loop.h>

/* Only what is accepted is counted, ever: a loop that sees a count waits for its post. 0, or why
 * not. */
static int count_up(struct weir_loop *loop)
{
    uint32_t posts = __atomic_load_n(&loop->posts, __ATOMIC_ACQUIRE);
    do {
        if (posts & WEIR_POSTS_REFUSED) {
            return __atomic_load_n(&loop->refuse, __ATOMIC_RELAXED);
        }
        if (posts >= loop->posts_max) {
            __atomic_fetch_add(&loop->posts_refused, 1, __ATOMIC_RELAXED);
            return -EAGAIN;
        }
        /* Acquire: pairs with weir_loop_refuse() for the reason. Acq_rel: and with uncount(). */
    } while (!__atomic_compare_exchange_n(&loop->posts, &posts, posts + 1, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    return 0;
}

int weir_loop_post_at(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    if (!loop || !op) {
        return -EINVAL;
    }
    const void *owner = weir_guard_owner(loop->guard);
    int r = owner ? weir_loop_check_thread(loop) : -ECHILD;
    if (r < 0) {
        return r;
    }
    if (owner == &weir_thread_nobody && !loop->in_call) {
        return -EPERM;
    }
    if (op->state != WEIR_WITH_CALLER) {
        return -EBUSY;
    }
    r = weir_loop_judge(loop, op);
    if (r < 0) {
        return r;
    }
    r = count_up(loop);
    if (r < 0) {
        return r;
    }
    __atomic_fetch_add(&loop->posts_accepted, 1, __ATOMIC_RELAXED);
    op->loop = loop;
    op->attempts = 0;
    op->moved = 0;
    op->slot = NULL;
    op->born_ns = weir_loop_exact(loop);
    op->site = site;
    weir_op_move(op, WEIR_POSTED);
    struct weir_op *head = __atomic_load_n(&loop->inbox, __ATOMIC_RELAXED);
    do {
        op->held.link.next = head;
        /* Release: the op is seen as it is. Seq_cst: before the look at the bell. */
    } while (!__atomic_compare_exchange_n(&loop->inbox, &head, op, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    if (weir_bell_ring(&loop->bell)) {
        loop->backend->table->wake(loop->backend);
    }
    return 0;
}

/* At the end of the line of its task at its gate, or of the timers. */
static void stand(struct weir_loop *loop, struct weir_op *op)
{
    if (weir_op_is_timer(op)) {
        weir_queue_push(&loop->posted_timers, op);
    } else {
        weir_gate_stand(weir_loop_gate_of(loop, op), weir_loop_flow_of(loop, op), WEIR_LINE_POSTED,
                        op);
    }
}

static void step_out(struct weir_loop *loop, struct weir_op *op)
{
    if (weir_op_is_timer(op)) {
        weir_queue_remove(&loop->posted_timers, op);
    } else {
        weir_gate_step_out(weir_loop_gate_of(loop, op), weir_loop_flow_of(loop, op),
                           WEIR_LINE_POSTED, op);
    }
}

/* Oldest first. */
void weir_loop_empty_inbox(struct weir_loop *loop)
{
    /* Acquire: pairs with the push. */
    struct weir_op *op = __atomic_exchange_n(&loop->inbox, NULL, __ATOMIC_ACQUIRE);
    struct weir_op *oldest = NULL;
    while (op) {
        struct weir_op *next = op->held.link.next;
        op->held.link.next = oldest;
        oldest = op;
        op = next;
    }
    while (oldest) {
        struct weir_op *next = oldest->held.link.next;
        weir_relaxed_add(&weir_loop_task_of(loop, oldest)->counters.submitted, 1);
        stand(loop, oldest);
        if (oldest->deadline_ns != 0) {
            weir_heap_insert(&loop->heap, oldest, oldest->deadline_ns);
        }
        if (oldest->kind == WEIR_KIND_CLOSE) {
            /* Now: what it cancels may hold the place that it waits for. */
            weir_loop_ask_fd(loop, oldest->fd, oldest, NULL);
        }
        oldest = next;
    }
}

/* What comes of a post: a place, or that it is asked back before it has one. */
static void tell_submitted(struct weir_loop *loop, struct weir_op *op, const char *site)
{
    WEIR_PROBE_SUBMIT(op);
    if (weir_unlikely(loop->tell.any)) {
        weir_tell_submitted(&loop->tell, op, weir_loop_task_of(loop, op), site, loop->stamp_ns);
    }
}

static void uncount(struct weir_loop *loop)
{
    /* Release: what the post left behind is seen by who posts into its room. */
    __atomic_fetch_sub(&loop->posts, 1, __ATOMIC_RELEASE);
}

/* One of each task in turn, as long as there are places. */
static void take_from(struct weir_loop *loop, struct weir_gate *gate)
{
    struct weir_op *op;
    while ((op = weir_gate_take_post(gate)) != NULL) {
        const char *site = op->site; /* enter_gate() writes over it */
        weir_loop_enter_gate(loop, op, site);
        tell_submitted(loop, op, site);
        uncount(loop);
    }
}

void weir_loop_move_posts(struct weir_loop *loop)
{
    if (loop->closing) {
        weir_loop_ask_posts(loop, &(struct weir_posts){.fd = -1}, WEIR_ASKED_CLOSE);
        return;
    }
    weir_loop_empty_inbox(loop);
    weir_loop_stamp(loop); /* the latest reading may be older than the posts */
    take_from(loop, &loop->gate);
    take_from(loop, &loop->offload_gate);
    while (loop->posted_timers.head && loop->timers < loop->timers_max) {
        struct weir_op *op = weir_queue_pop(&loop->posted_timers);
        weir_loop_start_timer(loop, op);
        tell_submitted(loop, op, op->site);
        uncount(loop);
    }
}

void weir_loop_withdraw_post(struct weir_loop *loop, struct weir_op *op)
{
    step_out(loop, op);
    if (op->heap_index != 0) {
        weir_heap_remove(&loop->heap, op);
    }
    loop->slotless++;
    uncount(loop);
    tell_submitted(loop, op, op->site);
    weir_loop_finish_early(loop, op, weir_op_asked_result(op));
}

static bool is_on(const struct weir_op *op, int fd)
{
    bool two = weir_kind_traits(op->kind) & WEIR_KIND_HAS_FD2;
    return op->fd == fd || (two && weir_op_fd2(op) == fd);
}

/* Only what was asked back without ever having had a slot: others are found by theirs. */
uint32_t weir_loop_count_slotless(const struct weir_loop *loop, int fd)
{
    uint32_t count = 0;
    if (weir_unlikely(loop->slotless > 0)) {
        for (const struct weir_op *op = loop->early.head; op; op = op->held.link.next) {
            count += !op->slot && is_on(op, fd);
        }
    }
    return count;
}

static int ask_line(struct weir_loop *loop, const struct weir_queue *line,
                    const struct weir_posts *which, enum weir_asked asked)
{
    int count = 0;
    struct weir_op *next;
    for (struct weir_op *op = line->head; op; op = next) {
        next = op->held.link.next;
        bool on_fd = which->fd < 0 || is_on(op, which->fd);
        bool of_task = !which->task || weir_loop_task_of(loop, op) == which->task;
        if (op != which->but && on_fd && of_task) {
            weir_loop_ask(loop, op, asked);
            count++;
        }
    }
    return count;
}

static int ask_at_gate(struct weir_loop *loop, const struct weir_gate *gate,
                       const struct weir_posts *which, enum weir_asked asked)
{
    int count = 0;
    struct weir_flow *next;
    for (struct weir_flow *flow = gate->lines[WEIR_LINE_POSTED].head; flow; flow = next) {
        next = flow->links[WEIR_LINE_POSTED].next;
        count += ask_line(loop, &flow->lines[WEIR_LINE_POSTED], which, asked);
    }
    return count;
}

int weir_loop_ask_posts(struct weir_loop *loop, const struct weir_posts *which,
                        enum weir_asked asked)
{
    if (weir_likely(weir_loop_count_posts(loop) == 0)) {
        return 0;
    }
    weir_loop_empty_inbox(loop);
    return ask_at_gate(loop, &loop->gate, which, asked) +
           ask_at_gate(loop, &loop->offload_gate, which, asked) +
           ask_line(loop, &loop->posted_timers, which, asked);
}
