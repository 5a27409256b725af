/* SPDX-License-Identifier: MIT */
/* around.c: verbs for what stands around ops: tasks, facts, and what others do in the world. */
#include "fuzz.h"

#define PICK(array) (array)[fuzz_below(sizeof(array) / sizeof *(array))]

void fuzz_verb_task(struct fuzz_loop *loop)
{
    uint8_t byte = fuzz_take();
    struct weir_task **task = &loop->tasks[byte % FUZZ_TASKS];
    const struct weir_task_options options = {.name = byte & 64 ? "one" : "other"};
    struct weir_task_counters counters;
    if (!*task) {
        int r = weir_task_open(loop->loop, &options, task);
        fuzz_say("open loop %u task %d: %d", fuzz_number_of(loop), byte % FUZZ_TASKS, r);
        if (!fuzz_is_refused(loop, r)) {
            fuzz_expect(r == (loop->closing ? -ESHUTDOWN : 0) || (loop->fails && r == -EIO),
                        "a task", r);
        }
        return;
    }
    if (byte & 128) {
        int r = weir_task_reset(*task);
        fuzz_expect(fuzz_is_refused(loop, r) || r == 0, "a reset of a task", r);
        return;
    }
    int r = weir_task_close(*task);
    fuzz_say("close loop %u task %d: %d", fuzz_number_of(loop), byte % FUZZ_TASKS, r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == 0 || r == -EBUSY, "a close of a task", r);
    bool is_live = r < 0 && weir_task_read_counters(*task, &counters) == 0 && counters.live > 0;
    fuzz_expect(r == 0 || is_live, "a close of a task without ops", r);
    for (unsigned i = 0; i <= FUZZ_OPS && r == 0; i++) {
        const struct fuzz_track *track = &fuzz.tracks[i];
        bool its = track->live && track->loop == fuzz_number_of(loop) &&
                   track->task == byte % FUZZ_TASKS + 1;
        fuzz_expect(!its, "a task closed with live ops", i);
    }
    *task = r == 0 ? NULL : *task;
}

void fuzz_verb_ask(struct fuzz_loop *loop)
{
    struct weir_facts facts;
    int r = weir_loop_facts(loop->loop, &facts);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == 0 && facts.depth == loop->options.depth, "facts", r);
    fuzz_expect(weir_now(loop->loop) == weir_sim_now(fuzz.sim), "now", 0);
    fuzz_expect(weir_loop_user(loop->loop) == NULL, "a loop's user", 0);
    uint64_t live = 0;
    for (struct weir_task *task = weir_task_next(loop->loop, NULL); task;
         task = weir_task_next(loop->loop, task)) {
        struct weir_task_counters counters;
        fuzz_expect(weir_task_read_counters(task, &counters) == 0, "a task's counters", 0);
        live += counters.live;
    }
    fuzz_expect(live <= loop->live, "live ops of all tasks", (int64_t)live);
    r = weir_loop_fd(loop->loop);
    fuzz_expect(r == -EOPNOTSUPP || (loop->fails && r == -EIO), "a loop's fd", r);
}

/* As another process would: no loop knows of it. */
void fuzz_verb_outside(struct fuzz_loop *loop)
{
    unsigned op = fuzz_below(FUZZ_OPS);
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

void fuzz_verb_sleep(struct fuzz_loop *loop)
{
    int64_t wait_ns = fuzz_take_wait();
    if (loop->busy == 0) {
        fuzz_say("time passes: %lld", (long long)wait_ns);
        weir_sim_sleep(fuzz.sim, (uint64_t)wait_ns);
    }
}

void fuzz_verb_pipe(struct fuzz_loop *loop)
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
void fuzz_verb_listen(struct fuzz_loop *loop)
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
