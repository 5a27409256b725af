/* SPDX-License-Identifier: MIT */
/*
 * settle.c: whether a completion is the end of an op. Most are; a short transfer of a WHOLE op goes
 * on, and what the kernel answers instead of waiting (EAGAIN, EINTR, its internal restart codes) is
 * tried again without the caller seeing it. An op that was asked back is never staged again.
 *
 * Invariant: an op that goes on keeps state, slot and credit.
 */
#include <engine/loop/loop.h>
#include <engine/op/perform.h>
#include <sys/stat.h>
#include <unistd.h>

/* ERESTARTSYS and its kin, which must never leave the kernel (errno.h there) */
#define RESTART_FIRST 512
#define RESTART_LAST 516
#define POLLS_MAX 16        /* polls in a row that said ready and were not: then by timer */
#define LATER_NS 1000000ULL /* first pause before trying again, doubled up to */
#define LATER_DOUBLINGS 6   /* 64 ms */

/* In a world of the backend's own a file is as good to poll as any other. */
static bool on_file(const struct weir_loop *loop, const struct weir_op *op)
{
    struct stat file;
    return !loop->backend->table->carries_calls && fstat(op->fd, &file) == 0 &&
           (S_ISREG(file.st_mode) || S_ISBLK(file.st_mode));
}

/* How to wait for what would have blocked. */
static enum weir_retry choose_retry(const struct weir_loop *loop, const struct weir_op *op)
{
    if (weir_op_is_offloaded(op)) {
        return WEIR_RETRY_LATER; /* it has no credit for the backend, which would have to poll */
    }
    bool transfer = weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE;
    if (transfer && op->kind != WEIR_KIND_SPLICE && on_file(loop, op)) {
        return op->attempts == 0 ? WEIR_RETRY_ASYNC : WEIR_RETRY_LATER;
    }
    if ((transfer || op->kind == WEIR_KIND_ACCEPT) && op->attempts < POLLS_MAX) {
        return WEIR_RETRY_POLL;
    }
    return WEIR_RETRY_LATER; /* also CONNECT to a full backlog, which polls as ready */
}

static void try_later(struct weir_loop *loop, struct weir_op *op)
{
    unsigned doublings = op->attempts < LATER_DOUBLINGS ? op->attempts : LATER_DOUBLINGS;
    op->with = WEIR_CARRIER_TIMER;
    if (op->heap_index) {
        weir_heap_remove(&loop->heap, op);
    }
    weir_loop_arm(loop, op, weir_loop_exact(loop) + (LATER_NS << doublings));
}

static enum weir_settled try_again(struct weir_loop *loop, struct weir_op *op,
                                   enum weir_retry retry)
{
    loop->counters.retried++;
    op->retry = (uint8_t)retry;
    op->attempts += op->attempts < UINT8_MAX;
    if (retry == WEIR_RETRY_LATER) {
        try_later(loop, op);
        return WEIR_IS_LATER;
    }
    return WEIR_GOES_ON;
}

/* What was polled for is ready. */
static enum weir_settled settle_poll(struct weir_loop *loop, struct weir_op *op, int64_t *result)
{
    if (op->asked) {
        *result = weir_op_asked_result(op);
        return WEIR_ENDS;
    }
    if (!(weir_kind_traits(op->kind) & WEIR_KIND_OWN_FD)) {
        op->retry = WEIR_RETRY_NONE;
        return WEIR_GOES_ON;
    }
    *result = weir_op_perform(op, WEIR_HOW_TRY, loop->backend->write_flags);
    if (*result != -EAGAIN) {
        return WEIR_ENDS;
    }
    /* Somebody was faster; or it is a child that another process traces: ready, not to be had. */
    return try_again(loop, op, op->attempts < POLLS_MAX ? WEIR_RETRY_POLL : WEIR_RETRY_LATER);
}

/* A success that may not be the end. */
static enum weir_settled settle_success(struct weir_loop *loop, struct weir_op *op, int64_t *result)
{
    if (op->retry == WEIR_RETRY_POLL) {
        return settle_poll(loop, op, result);
    }
    if (op->flags & WEIR_WHOLE) {
        op->moved += (uint64_t)*result;
        bool ended = *result == 0 || op->moved >= weir_op_bytes(op);
        if (ended || op->asked) {
            *result = ended ? (int64_t)op->moved : weir_op_asked_result(op);
            return WEIR_ENDS;
        }
        op->retry = WEIR_RETRY_NONE;
        op->attempts = 0;
        loop->counters.continued++;
        weir_relaxed_add(&op->slot->task->counters.continued, 1);
        return WEIR_GOES_ON;
    }
    if (op->asked == WEIR_ASKED_CLOSE && weir_kind_traits(op->kind) & WEIR_KIND_MAKES_FD) {
        loop->backend->table->discard(loop->backend, (int)*result);
        *result = -ECANCELED;
    }
    return WEIR_ENDS;
}

/* The same for an error. */
static enum weir_settled settle_error(struct weir_loop *loop, struct weir_op *op, int64_t *result)
{
    int64_t error = -*result;
    bool interrupted = error == EINTR || (error >= RESTART_FIRST && error <= RESTART_LAST);
    bool again = (error == EAGAIN && !weir_op_caller_polls(op) && op->kind != WEIR_KIND_CLOSE) ||
                 (error == EALREADY && op->kind == WEIR_KIND_CONNECT);

    if (interrupted && op->kind == WEIR_KIND_CLOSE) {
        *result = 0; /* close(2): Linux has closed it all the same, and a second try might hit a
                * stranger */
        return WEIR_ENDS;
    }
    if (error == EISCONN && op->kind == WEIR_KIND_CONNECT && op->attempts > 0) {
        *result = 0; /* an earlier try of this op got it */
        return WEIR_ENDS;
    }
    if (op->asked && (interrupted || again || error == ECANCELED)) {
        *result = weir_op_asked_result(op);
        return WEIR_ENDS;
    }
    if (interrupted) {
        return try_again(loop, op, WEIR_RETRY_NONE);
    }
    return again ? try_again(loop, op, choose_retry(loop, op)) : WEIR_ENDS;
}

/* A call whose simulated worker is done with it. The function is refused what a worker's thread
 * would be: nobody owns the loop meanwhile. */
static int64_t run_call(struct weir_loop *loop, const struct weir_op *op)
{
    loop->in_call = true;
    weir_guard_set(loop->guard, &weir_thread_nobody);
    int64_t result = op->arg.call.function(op->arg.call.argument);
    weir_guard_set(loop->guard, weir_thread_self());
    loop->in_call = false;
    return result;
}

/* A multishot op that ended with a success, and not at the end of what it reads, found the
 * completion queue full: it is started again. */
static enum weir_settled settle_burst(struct weir_loop *loop, const struct weir_op *op,
                                      struct weir_event *event)
{
    bool overflowed = event->more == WEIR_LAST && event->result > 0 && !op->asked;
    if (overflowed) {
        loop->counters.rearmed++;
        event->more = WEIR_REARMED;
        return WEIR_GOES_ON;
    }
    return WEIR_ENDS;
}

enum weir_settled weir_loop_settle(struct weir_loop *loop, struct weir_op *op,
                                   struct weir_event *event)
{
    int64_t *result = &event->result;
    if (weir_unlikely(event->more == WEIR_MORE)) {
        return WEIR_STAYS;
    }
    if (op->kind == WEIR_KIND_CALL) {
        if (loop->backend->table->carries_calls) {
            *result = run_call(loop, op);
        }
        return WEIR_ENDS; /* whatever its function returned: any int64_t */
    }
    if (*result < 0) {
        return settle_error(loop, op, result);
    }
    return op->burst > 1 ? settle_burst(loop, op, event) : settle_success(loop, op, result);
}
