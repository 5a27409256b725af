/* SPDX-License-Identifier: MIT */
/* ends.c: verbs that end loops and worlds: closes, crashes, failures. */
#include "fuzz.h"

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

void fuzz_close(struct fuzz_loop *loop, int64_t wait_ns)
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
        fuzz_expect(loop->live == 0 && !fuzz_waits_for_room(loop), "closed with live ops",
                    loop->live);
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

void fuzz_verb_close(struct fuzz_loop *loop)
{
    fuzz_close(loop, fuzz_below(8) ? fuzz_take_wait() : -1);
}

void fuzz_verb_close_begin(struct fuzz_loop *loop)
{
    int64_t wait_ns = fuzz_below(8) ? fuzz_take_wait() : -1;
    int r = weir_loop_close_begin(loop->loop, wait_ns, fuzz_on_closed);
    fuzz_say("begin to close loop %u: %d", fuzz_number_of(loop), r);
    if (fuzz_is_refused(loop, r)) {
        return;
    }
    fuzz_expect(r == (loop->closing ? -EALREADY : 0) || (loop->fails && r == -EIO),
                "the beginning of a close", r);
    loop->closed_pending |= r == 0;
    loop->closing |= r == 0;
}

void fuzz_verb_open(struct fuzz_loop *loop)
{
    (void)loop;
    fuzz_open_loop();
}

void fuzz_verb_crash(struct fuzz_loop *loop)
{
    (void)loop;
    if (fuzz_below(4) == 0) { /* or too few inputs would come far */
        fuzz_say("crash");
        fuzz_expect(weir_sim_crash(fuzz.sim) == 0, "a crash", 0);
    }
}

void fuzz_verb_abandon(struct fuzz_loop *loop)
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
void fuzz_verb_fail(struct fuzz_loop *loop)
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
