/* SPDX-License-Identifier: MIT */
/*
 * sim_run.c: the life of an op in a world: it departs, happens at its time, may wait for a stream,
 * is finished; or is asked back.
 *
 * Invariant: a run is on one list, or planned, or stopped, or free.
 */
#include "sim.h"

#define NS_PER_S 1000000000u
#define ASK_AGAIN_NS 1000000u

/* --- lists ------------------------------------------------------------------------------------ */

void weir_sim_list(struct weir_sim_runs *list, struct weir_sim_run *run,
                   enum weir_sim_run_state state)
{
    run->state = state;
    run->list = list;
    run->after = NULL;
    run->before = list->tail;
    *(list->tail ? &list->tail->after : &list->head) = run;
    list->tail = run;
}

void weir_sim_unlist(struct weir_sim_run *run)
{
    struct weir_sim_runs *list = run->list;
    if (!list) {
        return;
    }
    *(run->before ? &run->before->after : &list->head) = run->after;
    *(run->after ? &run->after->before : &list->tail) = run->before;
    run->list = NULL;
}

/* Off everything but its files. */
static void take_off(struct weir_sim_run *run)
{
    weir_sim_unplan(run->loop->sim, &run->next);
    weir_sim_unlist(run);
    weir_sim_free_worker(run);
}

void weir_sim_drop(struct weir_sim_run *run)
{
    struct weir_sim_loop *loop = run->loop;
    take_off(run);
    weir_sim_try_end(loop->sim, &run->attempt);
    *run = (struct weir_sim_run){.loop = loop, .after = loop->free};
    loop->free = run;
}

void weir_sim_drop_all(struct weir_sim_loop *loop)
{
    for (int i = 0; i < 2; i++) { /* first who waits for a worker: nobody is next */
        while (loop->lanes[i].head) {
            weir_sim_drop(loop->lanes[i].head);
        }
    }
    for (uint32_t i = 0; i < loop->run_count; i++) {
        if (loop->runs[i].state != WEIR_SIM_FREE) {
            weir_sim_drop(&loop->runs[i]);
        }
    }
}

void weir_sim_finish(struct weir_sim_run *run, int64_t result)
{
    struct weir_sim *sim = run->loop->sim;
    weir_sim_trace(sim, "is", run, result);
    run->result = result;
    if (run->worker != 0) {
        weir_slots_note_work(run->loop->base.slots, run->op->slot, run->begun_ns, sim->now_ns);
    }
    take_off(run);
    weir_sim_try_end(sim, &run->attempt);
    weir_sim_list(&run->loop->finished, run, WEIR_SIM_FINISHED);
    sim->counters.ops++;
    sim->finished++;
}

/* --- happening -------------------------------------------------------------------------------- */

/* Asked back, it does not wait any longer. */
static void give_up(struct weir_sim_run *run)
{
    weir_sim_finish(run, run->attempt.moved ? (int64_t)run->attempt.moved : -ECANCELED);
}

/* A worker's call, and what is late by plan, does not mind. */
static bool minds_being_asked(const struct weir_sim_run *run)
{
    return run->worker == 0 && run->fault != WEIR_SIM_LATE;
}

static void try_it(struct weir_sim *sim, struct weir_sim_run *run)
{
    int64_t result = weir_sim_perform(sim, run->op, &run->attempt);
    struct weir_sim_file *waits = weir_op_caller_polls(run->op) ? NULL : run->attempt.waits;
    if (result != -EAGAIN || !waits) {
        weir_sim_finish(run, result);
        return;
    }
    if (run->op->asked && minds_being_asked(run)) {
        give_up(run); /* the cancel came while it could not be interrupted */
        return;
    }
    if (run->list != &waits->waiting) {
        weir_sim_unlist(run);
        weir_sim_list(&waits->waiting, run, WEIR_SIM_WAITING);
        weir_sim_trace(sim, "waits", run, 0);
    }
    weir_sim_file_expect(sim, waits);
}

void weir_sim_try_waiting(struct weir_sim *sim, struct weir_sim_file *file)
{
    struct weir_sim_run *after;
    weir_sim_file_hold(file);
    for (struct weir_sim_run *run = file->waiting.head; run; run = after) {
        after = run->after;
        try_it(sim, run);
    }
    weir_sim_file_expect(sim, file);
    weir_sim_file_release(sim, file);
}

/* The file goes, and who waits on it does not hold it: a listener. */
void weir_sim_send_away(struct weir_sim *sim, struct weir_sim_file *file)
{
    while (file->waiting.head) {
        struct weir_sim_run *run = file->waiting.head;
        weir_sim_unlist(run);
        run->state = WEIR_SIM_UNDERWAY;
        weir_sim_plan(sim, &run->next, sim->now_ns);
    }
}

/* What a fault does when the op would happen. True: that is the end of it. */
static bool suffer(struct weir_sim *sim, struct weir_sim_run *run)
{
    switch (run->fault) {
    case WEIR_SIM_CRASH:
        weir_sim_crash(sim);
        return true;
    case WEIR_SIM_JUMP:
        sim->now_ns += run->delay_ns;
        weir_disk_set_now(sim->disk, sim->now_ns);
        return false;
    case WEIR_SIM_ERROR:
        if (run->op->kind == WEIR_KIND_CLOSE && weir_sim_file_close(sim, run->op->fd) < 0) {
            return false; /* it has nothing to fail at: -EBADF */
        }
        if (run->op->kind == WEIR_KIND_FSYNC && run->attempt.file->inode && run->error != EAGAIN &&
            run->error != EINTR) { /* these have not begun */
            weir_disk_miss_sync(run->attempt.file->inode);
        }
        weir_sim_finish(run, -run->error); /* close(2) closes all the same */
        return true;
    case WEIR_SIM_RESET:
        weir_stream_reset(run->attempt.file->stream);
        weir_stream_take_error(run->attempt.file->stream);
        weir_sim_finish(run, -ECONNRESET);
        return true;
    default:
        return false;
    }
}

static void happen(struct weir_sim *sim, struct weir_happening *happening)
{
    struct weir_sim_run *run = (struct weir_sim_run *)(void *)happening;
    enum weir_sim_fault_what fault = run->fault;
    if (fault != 0 && suffer(sim, run)) {
        return;
    }
    if (fault == WEIR_SIM_JUMP) {
        run->fault = 0; /* once */
    }
    if (run->op->kind != WEIR_KIND_CALL) {
        try_it(sim, run);
    } else if (sim->may_end_call && !sim->may_end_call(run->op)) {
        weir_sim_plan(sim, &run->next, sim->now_ns + ASK_AGAIN_NS);
    } else {
        weir_sim_finish(run, 0); /* its function is the loop's to run */
    }
}

/* --- how long things take --------------------------------------------------------------------- */

static bool is_on_disk(const struct weir_sim_run *run)
{
    switch (run->op->kind) {
    case WEIR_KIND_OPENAT:
    case WEIR_KIND_STATX:
    case WEIR_KIND_UNLINKAT:
    case WEIR_KIND_RENAMEAT:
    case WEIR_KIND_LINKAT:
    case WEIR_KIND_SYMLINKAT:
    case WEIR_KIND_MKDIRAT:
        return true;
    default:
        return (run->attempt.file && run->attempt.file->inode) ||
               (run->attempt.file2 && run->attempt.file2->inode);
    }
}

static bool is_sync(const struct weir_sim_run *run)
{
    const struct weir_op *op = run->op;
    uint32_t traits = weir_kind_traits(op->kind);
    bool writes = traits & WEIR_KIND_MAY_WHOLE && !(traits & WEIR_KIND_READS);
    bool file_syncs = run->attempt.file && run->attempt.file->flags & (O_SYNC | O_DSYNC);
    return op->kind == WEIR_KIND_FSYNC || op->kind == WEIR_KIND_SYNC_FILE_RANGE ||
           (writes && (file_syncs || op->rw_flags & (RWF_SYNC | RWF_DSYNC)));
}

static uint64_t bytes_of(const struct weir_sim_run *run)
{
    const struct weir_op *op = run->op;
    if (!(weir_kind_traits(op->kind) & WEIR_KIND_MAY_WHOLE)) {
        return 0;
    }
    uint64_t bytes = weir_op_bytes(op);
    bytes = op->flags & WEIR_WHOLE && op->moved < bytes ? bytes - op->moved : bytes;
    bytes = bytes < WEIR_TRANSFER_MAX ? bytes : WEIR_TRANSFER_MAX;
    const struct weir_inode *inode = run->attempt.file ? run->attempt.file->inode : NULL;
    if (inode && weir_kind_traits(op->kind) & WEIR_KIND_READS && op->kind != WEIR_KIND_SPLICE) {
        uint64_t size = weir_disk_size(inode);
        bytes = bytes < size ? bytes : size;
    }
    return bytes;
}

static uint64_t duration_of(struct weir_sim *sim, const struct weir_sim_run *run)
{
    const struct weir_sim_plan *plan = &sim->plan;
    uint64_t ns = 0;
    if (run->op->kind == WEIR_KIND_CALL) {
        return weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &plan->call);
    }
    if (run->op->kind == WEIR_KIND_CONNECT) {
        return weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &plan->network);
    }
    if (!is_on_disk(run) || run->op->retry == WEIR_RETRY_POLL || run->op->kind == WEIR_KIND_POLL) {
        return 0;
    }
    if (is_sync(run)) {
        ns += weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &plan->sync);
    }
    if (run->op->kind != WEIR_KIND_FSYNC && run->op->kind != WEIR_KIND_SYNC_FILE_RANGE) {
        ns += weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &plan->storage);
    }
    return ns + bytes_of(run) * NS_PER_S / plan->storage_bytes_per_s;
}

/* --- departure -------------------------------------------------------------------------------- */

static bool sends(const struct weir_sim_run *run)
{
    const struct weir_sim_file *file = run->attempt.file;
    bool reads = weir_kind_traits(run->op->kind) & WEIR_KIND_READS;
    return file && file->stream && (!reads || run->op->kind == WEIR_KIND_SPLICE);
}

void weir_sim_begin(struct weir_sim_run *run)
{
    struct weir_sim *sim = run->loop->sim;
    uint64_t ns = duration_of(sim, run);
    run->begun_ns = sim->now_ns;
    if (sends(run)) {
        run->attempt.way_ns = weir_sim_draw(sim, WEIR_SIM_DIE_TIME, &sim->plan.network);
    }
    if (run->fault == WEIR_SIM_STUCK || run->fault == WEIR_SIM_DEAF) {
        run->state = WEIR_SIM_STOPPED;
        return;
    }
    ns += run->fault == WEIR_SIM_DELAY ? run->delay_ns : 0;
    run->state = WEIR_SIM_UNDERWAY;
    weir_sim_plan(sim, &run->next, sim->now_ns + ns);
}

void weir_sim_depart(struct weir_sim_loop *loop)
{
    struct weir_sim *sim = loop->sim;
    while (loop->staged.head) {
        struct weir_sim_run *run = loop->staged.head;
        weir_sim_unlist(run);
        run->serial = ++loop->serials;
        run->next.happen = happen;
        int r = weir_sim_try_begin(sim, run->op, &run->attempt);
        weir_sim_trace(sim, "departs", run, r);
        if (r < 0) {
            weir_sim_finish(run, r);
            continue;
        }
        if (run->op->retry != WEIR_RETRY_POLL) {
            weir_sim_strike(sim, run);
        }
        if (weir_op_is_offloaded(run->op)) {
            weir_sim_queue(run);
        } else {
            weir_sim_begin(run);
        }
    }
}

/* --- being asked back ------------------------------------------------------------------------- */

/* It has been told; the machine does as it likes. */
static void ask_begun(struct weir_sim_run *run)
{
    struct weir_sim *sim = run->loop->sim;
    if (run->state == WEIR_SIM_STOPPED && run->fault == WEIR_SIM_STUCK) {
        if (run->op->kind == WEIR_KIND_CALL) {
            run->state = WEIR_SIM_UNDERWAY; /* told, it ends */
            weir_sim_plan(sim, &run->next, sim->now_ns);
        } else {
            weir_sim_finish(run, -ECANCELED);
        }
    } else if (run->state == WEIR_SIM_STOPPED || !minds_being_asked(run)) {
        return;
    } else if (run->state == WEIR_SIM_WAITING) {
        give_up(run);
    } else if (!is_on_disk(run) || weir_sim_roll(sim, WEIR_SIM_DIE_CANCEL) & 1) {
        weir_sim_finish(run, -ECANCELED);
    }
}

enum weir_cancelled weir_sim_ask(struct weir_sim_run *run)
{
    struct weir_sim *sim = run->loop->sim;
    if (sim->crashed) {
        return WEIR_CANCEL_LOST;
    }
    switch (run->state) {
    case WEIR_SIM_STAGED:
    case WEIR_SIM_QUEUED:
        weir_sim_drop(run);
        return WEIR_CANCEL_WITHDRAWN;
    case WEIR_SIM_FINISHED:
        return WEIR_CANCEL_ASKED;
    default:
        weir_sim_trace(sim, "asked", run, run->op->asked);
        ask_begun(run);
        return WEIR_CANCEL_ASKED;
    }
}
