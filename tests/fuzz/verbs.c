/* SPDX-License-Identifier: MIT */
/* verbs.c: what an input can do, between turns and within callbacks. */
#include "fuzz.h"

#define PICK(array) (array)[fuzz_below(sizeof(array) / sizeof *(array))]

static const int64_t waits[] = {0, 1, 1000, 60000, 5 * WEIR_MS, WEIR_S};

/* A refusal of the loop's thread, as a worker's function meets it. */
static bool is_refused(const struct fuzz_loop *loop, int64_t r)
{
    fuzz_note(r);
    if (loop->in_call) {
        fuzz_expect(r == -EPERM, "a call from a worker", r);
    }
    return loop->in_call;
}

static unsigned take_op(void)
{
    return fuzz_below(FUZZ_OPS);
}

/* --- in and out ------------------------------------------------------------------------------- */

static void verb_submit(struct fuzz_loop *loop)
{
    unsigned op = take_op();
    if (!fuzz.tracks[op].live) {
        fuzz_show(op);
        fuzz_fill(op, loop);
    }
    fuzz_submit(loop, op);
}

static void verb_post(struct fuzz_loop *loop)
{
    unsigned op = take_op();
    if (!fuzz.tracks[op].live) {
        fuzz_show(op);
        fuzz_fill(op, loop);
    }
    fuzz_post(loop, op);
}

static void verb_submit_badly(struct fuzz_loop *loop)
{
    fuzz_submit_badly(loop, take_op());
}

static void verb_cancel(struct fuzz_loop *loop)
{
    unsigned op = take_op();
    struct fuzz_track *track = &fuzz.tracks[op];
    bool ours = track->live && track->loop == fuzz_number_of(loop);
    fuzz_show(op);
    int r = weir_cancel(loop->loop, &fuzz_items[op].op);
    if (!track->live) {
        fuzz_hide(op);
    }
    fuzz_say("cancel loop %u op %u: %d", fuzz_number_of(loop), op, r);
    if (is_refused(loop, r)) {
        return;
    }
    bool fits = ours ? r == 0 || r == -EALREADY : r == -ENOENT;
    fuzz_expect(fits, "a cancel", r);
    if (!ours) {
        return;
    }
    if (r == -EALREADY && !track->offloaded && track->due == 0) {
        track->due = loop->busy > 0 ? 2 : 1;
    } else {
        track->asked = true;
    }
}

static void verb_cancel_fd(struct fuzz_loop *loop)
{
    int fd = fuzz_take_fd();
    uint32_t live = loop->live;
    int r = weir_cancel_fd(loop->loop, fd);
    fuzz_say("cancel loop %u fd %d: %d", fuzz_number_of(loop), fd, r);
    if (!is_refused(loop, r)) {
        bool fits = fd < 0 ? r == -EBADF : r >= 0 && (uint32_t)r <= live;
        fuzz_expect(fits, "a cancel by fd", r);
        fuzz_ask_fd(loop, fd);
    }
}

static void verb_cancel_task(struct fuzz_loop *loop)
{
    uint8_t task = fuzz_below(FUZZ_TASKS);
    int r = weir_cancel_task(loop->loop, loop->tasks[task]);
    fuzz_say("cancel loop %u task %u: %d", fuzz_number_of(loop), task, r);
    if (is_refused(loop, r)) {
        return;
    }
    for (unsigned i = 0; i <= FUZZ_OPS; i++) {
        struct fuzz_track *track = &fuzz.tracks[i];
        bool ours = track->live && track->loop == fuzz_number_of(loop);
        track->asked |= ours && track->task == task + 1;
    }
    fuzz_expect(loop->tasks[task] ? r >= 0 && (uint32_t)r <= loop->live : r == -EINVAL,
                "a cancel by task", r);
}

static void verb_forget(struct fuzz_loop *loop)
{
    int fd = fuzz_take_fd();
    bool closes = fuzz_below(2);
    int r = weir_forget(loop->loop, fd);
    fuzz_say("forget loop %u fd %d: %d", fuzz_number_of(loop), fd, r);
    if (is_refused(loop, r)) {
        return;
    }
    fuzz_expect(fd < 0 ? r == -EBADF : r == 0 || r == -EBUSY, "a forget", r);
    fuzz_ask_fd(loop, fd);
    if (r == 0 && closes && weir_sim_file_close(fuzz.sim, fd) == 0) {
        fuzz_say("close(2) of %d", fd);
        fuzz_closed(fd);
    }
}

/* --- turns ------------------------------------------------------------------------------------ */

static void turn(struct fuzz_loop *loop, int64_t wait_ns)
{
    uint64_t called = loop->called;
    fuzz_say("turn loop %u for %lld", fuzz_number_of(loop), (long long)wait_ns);
    bool is_inside = loop->busy > 0;
    loop->busy += !is_inside && !loop->in_call;
    int r = weir_loop_turn(loop->loop, wait_ns);
    loop->busy -= !is_inside && !loop->in_call;
    fuzz_say("turn loop %u: %d", fuzz_number_of(loop), r);
    fuzz_judge_turn(loop, wait_ns, r, called);
}

static void verb_turn(struct fuzz_loop *loop)
{
    turn(loop, 0);
}

static void verb_turn_wait(struct fuzz_loop *loop)
{
    turn(loop, PICK(waits));
}

static void verb_turn_forever(struct fuzz_loop *loop)
{
    turn(loop, -1);
}

/* A timer ends it, since ops may be tried again for ever. False: there is no place for it. */
static bool set_guard(struct fuzz_loop *loop)
{
    struct fuzz_track *track = &fuzz.tracks[FUZZ_GUARD];
    struct weir_op *op = &fuzz_items[FUZZ_GUARD].op;
    if (!track->live && !loop->fails && !loop->closing) {
        *track = (struct fuzz_track){.kind = WEIR_KIND_TIMEOUT, .timer = true, .fd = -1, .fd2 = -1};
        track->at_ns = weir_sim_now(fuzz.sim) + WEIR_S;
        fuzz_show(FUZZ_GUARD);
        weir_op_timeout(op, track->at_ns);
        op->callback = fuzz_on_done;
        fuzz_submit(loop, FUZZ_GUARD);
    }
    return track->live && track->loop == fuzz_number_of(loop);
}

static bool waits_for_room(const struct fuzz_loop *loop)
{
    bool waits_there = false;
    for (const struct fuzz_room *room = fuzz.rooms; room < fuzz.rooms + FUZZ_ROOMS; room++) {
        waits_there |= room->waits && room->loop == fuzz_number_of(loop);
    }
    return waits_there;
}

static void verb_run(struct fuzz_loop *loop)
{
    uint64_t called = loop->called;
    bool is_inside = loop->busy > 0 || loop->in_call;
    if (!is_inside && !set_guard(loop)) {
        turn(loop, 0);
        return;
    }
    fuzz_say("run loop %u", fuzz_number_of(loop));
    loop->busy += !is_inside;
    int r = weir_loop_run(loop->loop);
    loop->busy -= !is_inside;
    fuzz_say("run loop %u: %d", fuzz_number_of(loop), r);
    if (is_inside || r < 0) {
        fuzz_judge_turn(loop, -1, r, called);
        return;
    }
    fuzz_note(r);
    bool over = loop->live == 0 && loop->holds == 0 && !waits_for_room(loop);
    fuzz_expect(r == 0 && (over || loop->stopped), "a run that is not over", loop->live);
    loop->stopped = false;
}

static void verb_wake(struct fuzz_loop *loop)
{
    int r = weir_loop_wake(loop->loop);
    fuzz_say("wake loop %u: %d", fuzz_number_of(loop), r);
    fuzz_expect(r == 0, "a wake", r);
}

static void verb_stop(struct fuzz_loop *loop)
{
    int r = weir_loop_stop(loop->loop);
    fuzz_say("stop loop %u: %d", fuzz_number_of(loop), r);
    fuzz_expect(r == 0, "a stop", r);
    loop->stopped = true;
}

static void verb_hold(struct fuzz_loop *loop)
{
    int r = weir_loop_hold(loop->loop);
    fuzz_say("hold loop %u: %d", fuzz_number_of(loop), r);
    if (!is_refused(loop, r)) {
        fuzz_expect(r == 0, "a hold", r);
        loop->holds++;
    }
}

static void verb_release(struct fuzz_loop *loop)
{
    int r = weir_loop_release(loop->loop);
    fuzz_say("release loop %u: %d", fuzz_number_of(loop), r);
    if (!is_refused(loop, r)) {
        fuzz_expect(r == (loop->holds > 0 ? 0 : -EINVAL), "a release", r);
        loop->holds -= r == 0;
    }
}

static void verb_window(struct fuzz_loop *loop)
{
    uint8_t what = fuzz_take();
    loop->windows[what & 1] = what / 2;
    fuzz_say("a window of loop %u", fuzz_number_of(loop));
}

/* --- room ------------------------------------------------------------------------------------- */

static void verb_wait_room(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    struct fuzz_room *room = &fuzz.rooms[byte % FUZZ_ROOMS];
    struct weir_op op = {0};
    bool for_call = byte & 64;
    if (for_call) {
        weir_op_call(&op, fuzz_function, NULL);
    } else {
        weir_op_nop(&op);
    }
    if (!room->waits) {
        room->node = (struct weir_room){.callback = fuzz_on_room};
        room->loop = (uint8_t)fuzz_number_of(loop);
        room->acts = byte >> 4 & 3;
    }
    int r = weir_wait_room(loop->loop, &room->node, &op);
    fuzz_say("wait for room loop %u waiter %d: %d", fuzz_number_of(loop), byte % FUZZ_ROOMS, r);
    if (is_refused(loop, r)) {
        return;
    }
    bool no_gate = for_call && loop->options.offload_workers == WEIR_NO_OFFLOAD;
    int wanted = loop->closing ? -ESHUTDOWN : no_gate ? -EOPNOTSUPP : room->waits ? -EBUSY : 0;
    fuzz_expect(r == wanted || (loop->fails && r == -EIO), "a wait for room", r);
    room->waits |= r == 0;
}

static void verb_withdraw(struct fuzz_loop *loop)
{
    struct fuzz_room *room = &fuzz.rooms[fuzz_below(FUZZ_ROOMS)];
    int r = weir_withdraw_room(loop->loop, &room->node);
    fuzz_say("withdraw loop %u waiter %d: %d", fuzz_number_of(loop), (int)(room - fuzz.rooms), r);
    if (!is_refused(loop, r)) {
        bool ours = room->waits && room->loop == fuzz_number_of(loop);
        fuzz_expect(r == (ours ? 0 : -ENOENT), "a withdrawal", r);
        room->waits &= r != 0;
    }
}

/* --- ends ------------------------------------------------------------------------------------- */

static void judge_report(const struct fuzz_loop *loop, const struct weir_report *report, int r)
{
    bool all = r != -EIO;
    bool seen[FUZZ_OPS + 1] = {0};
    fuzz_expect(all ? report->count == loop->live : report->count <= loop->live, "a report",
                (int64_t)report->count);
    for (size_t i = 0; i < report->count; i++) {
        int64_t op = (struct fuzz_item *)(void *)report->ops[i].op - fuzz_items;
        fuzz_expect(op >= 0 && op <= FUZZ_OPS && !seen[op], "a report's op", op);
        fuzz_expect(fuzz.tracks[op].live, "a report's op is not live", op);
        fuzz_expect(fuzz.tracks[op].loop == fuzz_number_of(loop), "another loop's op", op);
        fuzz_expect(i == 0 || report->ops[i - 1].age_ns >= report->ops[i].age_ns, "the order", op);
        seen[op] = true;
    }
}

void fuzz_verb_close(struct fuzz_loop *loop, int64_t wait_ns)
{
    struct weir_report report;
    bool is_inside = loop->busy > 0 || loop->in_call;
    fuzz_say("close loop %u for %lld", fuzz_number_of(loop), (long long)wait_ns);
    if (!is_inside) {
        loop->closing = true;
        loop->closed_pending = false;
        loop->busy++;
    }
    int r = weir_loop_close(loop->loop, wait_ns, &report);
    loop->busy -= !is_inside;
    fuzz_say("close loop %u: %d, %u live", fuzz_number_of(loop), r, loop->live);
    fuzz_note(r);
    if (is_inside) {
        fuzz_expect(r == (loop->in_call ? -EPERM : -EBUSY), "a close inside", r);
        return;
    }
    if (r == 0) {
        fuzz_expect(loop->live == 0 && !waits_for_room(loop), "closed with live ops", loop->live);
        *loop = (struct fuzz_loop){0};
        return;
    }
    if (fuzz_crashed()) {
        fuzz_expect(r == -EOWNERDEAD, "a close of a crashed world", r);
        return;
    }
    if (loop->fails) {
        fuzz_expect(r == -EIO, "a close of a failed loop", r);
    } else if (wait_ns < 0) {
        fuzz_expect(r == -EDEADLK && fuzz_may_hang(loop), "a close that never ends", r);
    } else {
        fuzz_expect(r == -ETIMEDOUT, "a close", r);
    }
    judge_report(loop, &report, r);
}

static void verb_close(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    fuzz_verb_close(loop, byte % 7 == 6 ? -1 : waits[byte % 7]);
}

static void verb_close_begin(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    int64_t wait_ns = byte % 7 == 6 ? -1 : waits[byte % 7];
    int r = weir_loop_close_begin(loop->loop, wait_ns, fuzz_on_closed);
    fuzz_say("begin to close loop %u: %d", fuzz_number_of(loop), r);
    if (is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == (loop->closing ? -EALREADY : 0) || (loop->fails && r == -EIO),
                "the beginning of a close", r);
    loop->closed_pending |= r == 0;
    loop->closing |= r == 0;
}

static void verb_open(struct fuzz_loop *loop)
{
    (void)loop;
    fuzz_open_loop();
}

static void verb_crash(struct fuzz_loop *loop)
{
    (void)loop;
    if (fuzz_below(4) == 0) { /* or too few inputs would come far */
        fuzz_say("crash");
        fuzz_expect(weir_sim_crash(fuzz.sim) == 0, "a crash", 0);
    }
}

static void verb_abandon(struct fuzz_loop *loop)
{
    bool is_inside = loop->busy > 0 || loop->in_call;
    if (is_inside) {
        int r = weir_loop_abandon(loop->loop);
        fuzz_expect(r == (loop->in_call ? -EPERM : -EBUSY), "an abandonment inside", r);
    } else if (fuzz_below(4) == 0) {
        fuzz_abandon(loop);
    }
}

static int turn_fails(struct weir_backend *backend, uint64_t until_ns, struct weir_event *events,
                      uint32_t max)
{
    (void)backend;
    (void)until_ns;
    (void)events;
    (void)max;
    return -EIO;
}

/* What no world does by itself: the backend cannot go on. */
static void verb_fail(struct fuzz_loop *loop)
{
    static struct weir_backend_table failing;
    struct weir_backend *backend = weir_loop_backend(loop->loop);
    if (loop->busy == 0 && fuzz_below(4) == 0) {
        fuzz_say("loop %u fails from here on", fuzz_number_of(loop));
        failing = *backend->table;
        failing.turn = turn_fails;
        backend->table = &failing;
        loop->fails = true;
    }
}

/* --- the rest --------------------------------------------------------------------------------- */

static void verb_task(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    struct weir_task **task = &loop->tasks[byte % FUZZ_TASKS];
    const struct weir_task_options options = {.name = byte & 64 ? "one" : "other"};
    struct weir_task_counters counters;
    if (!*task) {
        int r = weir_task_open(loop->loop, &options, task);
        fuzz_say("open loop %u task %d: %d", fuzz_number_of(loop), byte % FUZZ_TASKS, r);
        if (!is_refused(loop, r)) {
            fuzz_expect(r == (loop->closing ? -ESHUTDOWN : 0) || (loop->fails && r == -EIO),
                        "a task", r);
        }
        return;
    }
    if (byte & 128) {
        int r = weir_task_reset(*task);
        fuzz_expect(is_refused(loop, r) || r == 0, "a reset of a task", r);
        return;
    }
    int r = weir_task_close(*task);
    fuzz_say("close loop %u task %d: %d", fuzz_number_of(loop), byte % FUZZ_TASKS, r);
    if (is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == 0 || r == -EBUSY, "a close of a task", r);
    bool is_live = r < 0 && weir_task_counters(*task, &counters) == 0 && counters.live > 0;
    fuzz_expect(r == 0 || is_live, "a close of a task without ops", r);
    for (unsigned i = 0; i <= FUZZ_OPS && r == 0; i++) {
        const struct fuzz_track *track = &fuzz.tracks[i];
        bool its = track->live && track->loop == fuzz_number_of(loop) &&
                   track->task == byte % FUZZ_TASKS + 1;
        fuzz_expect(!its, "a task closed with live ops", i);
    }
    *task = r == 0 ? NULL : *task;
}

static void verb_ask(struct fuzz_loop *loop)
{
    struct weir_facts facts;
    int r = weir_loop_facts(loop->loop, &facts);
    if (is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == 0 && facts.depth == loop->options.depth, "facts", r);
    fuzz_expect(weir_now(loop->loop) == weir_sim_now(fuzz.sim), "now", 0);
    fuzz_expect(weir_loop_user(loop->loop) == NULL, "a loop's user", 0);
    uint64_t live = 0;
    for (struct weir_task *task = weir_task_next(loop->loop, NULL); task;
         task = weir_task_next(loop->loop, task)) {
        struct weir_task_counters counters;
        fuzz_expect(weir_task_counters(task, &counters) == 0, "a task's counters", 0);
        live += counters.live;
    }
    fuzz_expect(live <= loop->live, "live ops of all tasks", (int64_t)live);
    r = weir_loop_fd(loop->loop);
    fuzz_expect(r == -EOPNOTSUPP || (loop->fails && r == -EIO), "a loop's fd", r);
}

/* As another process would: no loop knows of it. */
static void verb_outside(struct fuzz_loop *loop)
{
    unsigned op = take_op();
    struct fuzz_track *track = &fuzz.tracks[op];
    (void)loop;
    if (track->live) {
        return;
    }
    fuzz_show(op);
    fuzz_fill(op, NULL);
    fuzz_items[op].op.moved = 0; /* as a loop would */
    bool none = track->kind == WEIR_KIND_TIMEOUT || track->kind == WEIR_KIND_CALL;
    int64_t r = none ? 0 : weir_sim_do(fuzz.sim, &fuzz_items[op].op);
    fuzz_hide(op);
    fuzz_say("outside %s fd %d: %lld", weir_kind_name(track->kind), track->fd, (long long)r);
    fuzz_note(r);
    if (r >= 0 && fuzz_makes_fd(track->kind)) {
        fuzz_opened(r);
    } else if (r == 0 && track->kind == WEIR_KIND_CLOSE) {
        fuzz_closed(track->fd);
    }
}

static void verb_sleep(struct fuzz_loop *loop)
{
    int64_t wait_ns = PICK(waits);
    if (loop->busy == 0) {
        fuzz_say("time passes: %lld", (long long)wait_ns);
        weir_sim_sleep(fuzz.sim, (uint64_t)wait_ns);
    }
}

static void verb_pipe(struct fuzz_loop *loop)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    int fds[2] = {-1, -1};
    uint8_t byte = fuzz_take();
    (void)loop;
    int r = byte & 1 ? weir_sim_pipe(fuzz.sim, fds, byte & 2 ? O_NONBLOCK : 0)
                     : weir_sim_socketpair(fuzz.sim, types[byte / 4 % 3], fds);
    fuzz_say("%s %d %d: %d", byte & 1 ? "pipe" : "pair", fds[0], fds[1], r);
    fuzz_expect(r == 0 || r == -EMFILE || r == -ENOMEM, "a pipe", r);
    for (int i = 0; i < 2 && r == 0; i++) {
        fuzz_opened(fds[i]);
    }
}

/* A listener, and a socket that may connect to it. */
static void verb_listen(struct fuzz_loop *loop)
{
    struct weir_op op = {0};
    struct fuzz_item address = {0};
    int fds[2];
    uint8_t byte = fuzz_take();
    fuzz_address(&address, byte);
    for (int i = 0; i < 2; i++) {
        int type = SOCK_STREAM | (byte & 4 << i ? SOCK_NONBLOCK : 0);
        weir_op_socket(&op, address.address.ss_family, type, 0);
        fds[i] = (int)weir_sim_do(fuzz.sim, &op);
        if (fds[i] >= 0) {
            fuzz_opened(fds[i]);
        }
    }
    weir_op_bind(&op, fds[0], (const struct sockaddr *)&address.address, address.address_length);
    int64_t bound = weir_sim_do(fuzz.sim, &op);
    weir_op_listen(&op, fds[0], byte >> 4 & 1);
    int64_t listens = weir_sim_do(fuzz.sim, &op);
    fuzz_say("listener %d: %lld %lld, and %d", fds[0], (long long)bound, (long long)listens,
             fds[1]);
    if (listens == 0 && fds[1] >= 0 && byte & 128 && !fuzz.tracks[0].live) {
        fuzz.tracks[0] = (struct fuzz_track){.kind = WEIR_KIND_CONNECT, .fd = fds[1], .fd2 = -1};
        fuzz_show(0);
        fuzz_items[0] = address;
        weir_op_connect(&fuzz_items[0].op, fds[1], (const struct sockaddr *)&fuzz_items[0].address,
                        address.address_length);
        fuzz_items[0].op.callback = fuzz_on_done;
        fuzz_submit(loop, 0);
    }
}

/* --- which ------------------------------------------------------------------------------------ */

typedef void verb(struct fuzz_loop *loop);

static verb *const verbs[] = {
    verb_submit,    verb_submit,    verb_submit,    verb_submit,       verb_submit,
    verb_submit,    verb_submit,    verb_post,      verb_post,         verb_turn,
    verb_turn,      verb_turn_wait, verb_turn_wait, verb_turn_forever, verb_run,
    verb_cancel,    verb_cancel,    verb_cancel_fd, verb_cancel_task,  verb_forget,
    verb_wait_room, verb_withdraw,  verb_wake,      verb_stop,         verb_hold,
    verb_release,   verb_window,    verb_close,     verb_close_begin,  verb_open,
    verb_crash,     verb_abandon,   verb_fail,      verb_task,         verb_ask,
    verb_outside,   verb_sleep,     verb_pipe,      verb_submit_badly, verb_listen,
};

#define VERBS (sizeof verbs / sizeof *verbs)

void fuzz_act(void)
{
    uint8_t byte = fuzz_take();
    struct fuzz_loop *loop = &fuzz.loops[byte / VERBS % FUZZ_LOOPS];
    if (!loop->loop) {
        loop = &fuzz.loops[1 - fuzz_number_of(loop)];
    }
    if (!loop->loop) {
        fuzz_open_loop();
        return;
    }
    verbs[byte % VERBS](loop);
}

void fuzz_act_times(unsigned most)
{
    fuzz.depth++;
    for (unsigned i = 0; i < most && fuzz.depth <= FUZZ_DEPTH_MAX; i++) {
        if (fuzz.left > 0 && !fuzz_crashed()) {
            fuzz_act();
        }
    }
    fuzz.depth--;
}
